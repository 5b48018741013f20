"""The part of an edit that is run in the process: added statements, and parameters that are evaluated anew.

Both happen before anything is exchanged; when one raises, the names that were added are gone again.
"""

from __future__ import annotations

import functools
import traceback
from collections.abc import Callable
from types import FunctionType
from typing import Any

from hotreload.errors import StageError
from hotreload.python.book import Addition, Book, Name, Parameters, Version
from hotreload.python.codes import fingerprint, without_number
from hotreload.python.plan import class_of
from hotreload.python.registry import plain_functions

__all__ = ["run_added", "take_back"]

_HOOK = "__hotreload_class__"
#: What every body of a class sets.
_OF_BODIES = frozenset(
    {"__module__", "__qualname__", "__doc__", "__annotations__", "__firstlineno__", "__static_attributes__"}
    | {"__type_params__", "__orig_bases__", "__classdictcell__"}
)

_IMPLICIT: dict[str, Any] = {
    "__new__": staticmethod,
    "__init_subclass__": classmethod,
    "__class_getitem__": classmethod,
}


class _ClassBody:
    """The metaclass of a class statement whose body is to see a live class, and to be looked through afterwards."""

    def __init__(self, cls: type, added: dict[str, Any]) -> None:
        self._cls, self._added = cls, added
        self._before: dict[str, Any] = {}
        self.made: dict[str, Any] = {}

    def __prepare__(self, _name: str, _bases: Any, **_more: Any) -> dict[str, Any]:
        parameters = getattr(self._cls, "__type_params__", ())
        self._before = {**{parameter.__name__: parameter for parameter in parameters}, **vars(self._cls), **self._added}
        self._before["__annotations__"] = dict(self._before.get("__annotations__") or {})
        return dict(self._before)

    def __call__(self, _name: str, _bases: Any, space: dict[str, Any], **_more: Any) -> type:
        cell = space.pop("__classcell__", None)
        if cell is not None:
            cell.cell_contents = self._cls
        self.made = {
            name: value
            for name, value in space.items()
            if name not in _OF_BODIES and (name not in self._before or self._before[name] is not value)
        }
        return self._cls


def run_added(book: Book, version: Version, notes: list[str]) -> None:
    """Runs what the version adds, and evaluates its parameters; what came of it is in the version.

    Raises:
        StageError: something raised, and it says what and where; the names are gone again.
    """
    version.names, version.evaluated, version.made, version.bound = [], {}, set(), set()
    before = [(namespace, set(namespace)) for namespace in book.source.namespaces()]
    try:
        for namespace, _names in before:
            version.bound = set()
            for addition in version.additions:
                run = functools.partial(_run, book, version, namespace, addition, notes)
                _with_traceback(book, addition.line, addition.text, run)
            for member in version.members:
                _complete_class(book, version, namespace, member, notes)
        for key, signature in version.signatures.items():
            _evaluate(book, version, key, signature)
    except BaseException:
        take_back(version)
        for namespace, names in before:
            _forget_new(namespace, names, version)
        version.names, version.evaluated = [], {}
        raise


def take_back(version: Version) -> None:
    """Takes the names away again that running it has added."""
    for name in reversed(version.names):
        space = name.target if isinstance(name.target, dict) else vars(name.target)
        if space.get(name.name, ...) is not name.value:
            continue
        if isinstance(name.target, dict):
            if name.had:
                name.target[name.name] = name.before
            else:
                del name.target[name.name]


def _forget_new(namespace: dict[str, Any], before: set[str], version: Version) -> None:
    """The statement that raised may have bound some of its names."""
    for addition in version.additions:
        if not addition.owner:
            for name in addition.names:
                if name not in before:
                    namespace.pop(name, None)


# Added statements --------------------------------------------------------------------------------------------------


def _run(book: Book, version: Version, namespace: dict[str, Any], addition: Addition, notes: list[str]) -> None:
    if addition.owner:
        _run_in_class(book, version, namespace, addition, notes)
        return
    names = [name for name in addition.names if name not in namespace or name in version.bound]
    if not names:
        _keep_ours(book, version, namespace, addition, notes)
        return
    before = {name: namespace[name] for name in addition.names if name in namespace and name not in names}
    version.bound.update(names)
    exec(addition.code, namespace)  # noqa: S102 - that is what was asked for
    namespace.update(before)  # what the program has under such a name is its own
    for name in names:
        if name in namespace:
            version.names.append(Name(namespace, name, namespace[name], False, None, _said(addition)))
            book.introduce(namespace[name], version)
    version.names += _find_ours(book, namespace, tuple(before))


def _keep_ours(book: Book, version: Version, target: Any, addition: Addition, notes: list[str]) -> bool:
    """Names that an earlier generation has added stay as they are; whether they all are such."""
    ours = _find_ours(book, target, addition.names)
    version.names += ours
    kept = [name.name for name in ours if name.said and name.said != _said(addition)]
    if kept:
        what = f"{book.path}:{addition.line}: `{addition.text}`"
        notes.append(f"{what} is not run again: the live value of {', '.join(kept)} is kept")
    return len(ours) == len(addition.names)


def _said(addition: Addition) -> str:
    """What a statement does, so that another for the same names is noticed; nothing of definitions."""
    first = addition.text.partition(" ")[0]
    is_definition = first in ("def", "async", "class", "import", "from") or first.startswith("@")
    return "" if is_definition else fingerprint(addition.code, with_lines=False)


def _find_ours(book: Book, target: Any, names: tuple[str, ...]) -> list[Name]:
    found: dict[str, Name] = {}
    for name in book.names():
        if name.target is target and name.name in names and name.is_live:
            found[name.name] = name
    return list(found.values())


def _complete_class(
    book: Book, version: Version, namespace: dict[str, Any], member: Addition, notes: list[str]
) -> None:
    """Gives a class that an earlier edit has brought what it lacks; the names of one that is new are written down."""
    cls = class_of(book, member.owner, namespace)
    if cls is None or _keep_ours(book, version, cls, member, notes):
        return
    space = vars(cls)
    if any(name not in space for name in member.names) or _lacks_accessor(space.get(member.names[0]), member.text):
        run = functools.partial(_run_in_class, book, version, namespace, member, notes)
        _with_traceback(book, member.line, member.text, run)
        return
    version.names += [Name(cls, name, space[name], False, None) for name in member.names]


def _lacks_accessor(found: Any, text: str) -> bool:
    """Whether ``@name.setter`` or ``@name.deleter`` would do something for a property."""
    accessors = {"setter": "fset", "deleter": "fdel"}
    _, _, accessor = text.partition("\n")[0].rstrip(".").rpartition(".")
    return isinstance(found, property) and accessor in accessors and getattr(found, accessors[accessor]) is None


def _run_in_class(
    book: Book, version: Version, namespace: dict[str, Any], addition: Addition, notes: list[str]
) -> None:
    cls = class_of(book, addition.owner, namespace)
    what = f"{book.path}:{addition.line}: `{addition.text}`"
    if cls is None:
        notes.append(f"{what} is not added: no class {addition.owner} was found in the module")
        return
    if type(cls).__setattr__ is not type.__setattr__ or type(cls).__module__ == "enum":
        notes.append(f"{what} is not added: the metaclass of {addition.owner} decides what becomes of it")
        return
    if _keep_ours(book, version, cls, addition, notes):
        return
    body = _ClassBody(cls, {name.name: name.value for name in version.names if name.target is cls})
    exec(addition.code, namespace, {_HOOK: body})  # noqa: S102 - that is what was asked for
    for name, value in _as_class_statements_do(cls, body.made).items():
        for function in _functions_of(value):
            function.__qualname__ = f"{without_number(addition.owner)}.{function.__name__}"
        had = name in vars(cls)
        version.names.append(Name(cls, name, value, had, vars(cls).get(name), _said(addition)))
        hook = getattr(type(value), "__set_name__", None)
        if hook is not None:
            hook(value, cls, name)
        book.introduce(value, version)


def _as_class_statements_do(cls: type, made: dict[str, Any]) -> dict[str, Any]:
    """What ``class`` makes of some names, and setting them on a class does not."""
    found = dict(made)
    for name, kind in _IMPLICIT.items():
        if isinstance(found.get(name), FunctionType):
            found[name] = kind(found[name])
    if "__eq__" in found and "__hash__" not in vars(cls):
        found.setdefault("__hash__", None)
    return found


def _functions_of(value: Any) -> list[FunctionType]:
    return [] if isinstance(value, type) else [f for f in plain_functions(value) if "<locals>" not in f.__qualname__]


# Parameters --------------------------------------------------------------------------------------------------------


def _evaluate(book: Book, version: Version, key: str, signature: tuple[str, str, Any, tuple[str, ...]]) -> None:
    """Defaults and annotations of a function that lives; a default whose text is as it was keeps its value."""
    owner, name, code, kept = signature
    lives = [original for ident, original in list(book.originals.items()) if ident not in version.made]
    lives = [original for original in lives if original.key == key and original.function()]
    if not lives:
        return
    original = lives[0]
    live = original.function()
    assert live is not None

    def evaluate() -> Any:
        space: dict[str, Any] = {}
        if not owner:
            exec(code, live.__globals__, space)  # noqa: S102 - that is what was asked for
            return space[name]
        cls = class_of(book, owner, live.__globals__)
        body = _ClassBody(cls if cls is not None else type("_", (), {}), {})
        exec(code, live.__globals__, {_HOOK: body})  # noqa: S102 - that is what was asked for
        return body.made[name]

    made = _with_traceback(book, code.co_firstlineno, f"the parameters of {without_number(key)}()", evaluate)
    positional = dict(zip(_with_defaults(made), made.__defaults__ or ()))
    version.evaluated[key] = Parameters(positional, made.__kwdefaults__ or {}, made.__annotations__, kept)


def _with_defaults(function: FunctionType) -> tuple[str, ...]:
    code = function.__code__
    count = len(function.__defaults__ or ())
    return code.co_varnames[code.co_argcount - count : code.co_argcount]


def _with_traceback(book: Book, line: int, what: str, call: Callable[[], Any]) -> Any:
    try:
        return call()
    except (Exception, SystemExit) as error:  # an edit does not end the process
        shown = "".join(traceback.format_exception(type(error), error, error.__traceback__))
        raise StageError(
            f"{book.path}:{line}: {what} raises {type(error).__name__}: {error} [python-addition-raises]",
            hint="nothing was changed, and what was added before it is gone again",
            status="ADDITION",
            slug="python-addition-raises",
            diagnostics=shown[-16384:],
        ) from error
