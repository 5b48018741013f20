"""Which Python functions are marked, and the text that they were loaded from.

Marking is cheap and happens while modules are imported: it follows wrappers to the plain function, remembers it, and
reads the file once, at its first function, so that what a later edit is compared with is what this process runs.

::

    function ──__wrapped__──▶ plain function ──co_filename──▶ SourceFile: text, build-id, marks, functions (weak)
"""

from __future__ import annotations

import gc
import os
import sys
import weakref
from collections.abc import Callable, Iterator
from types import CodeType, FunctionType, ModuleType
from typing import Any

from hotreload.errors import MarkError

__all__ = ["MarkError", "SourceFile", "files", "forget_all", "plain_functions", "register", "serve", "watch_files"]


class SourceFile:
    """One ``.py`` with marked functions.

    ``marks`` are qualified names, those of nested functions among them; of ``classes`` every method is marked;
    ``is_whole``: everything in the file is. ``is_suspect``: what was read may not be what was loaded. ``has_run`` is
    set by who knows that the text has run to its end, although the import has not returned yet.
    """

    def __init__(self, path: str, name: str, text: bytes, namespace: dict[str, Any]) -> None:
        from hotreload.python.payload import build_id_of

        self.path, self.name, self.text = path, name, text
        self.build_id = build_id_of(text)
        self.namespace = namespace
        self.marks: dict[str, None] = {}
        self.classes: dict[str, None] = {}
        self.is_whole = False
        self.is_suspect = False
        self.has_run = False
        self._functions: dict[int, weakref.ref[FunctionType]] = {}

    def remember(self, function: FunctionType) -> None:
        """Marks a function; a nested one by its name only, since each call of the outer one makes another."""
        self.marks[function.__qualname__] = None
        if "<locals>" not in function.__qualname__:
            self._keep(function)

    def find_hidden(self) -> None:
        """Remembers the functions that nothing in the module leads to: a decorator has put them into a table."""
        for each in gc.get_objects():
            if (
                isinstance(each, FunctionType)
                and "<locals>" not in each.__qualname__
                and each.__code__.co_name != "<lambda>"
                and _registry.by_filename.get(each.__code__.co_filename) is self
            ):
                self._keep(each)

    def _keep(self, function: FunctionType) -> None:
        key, known = id(function), self._functions
        if key not in known:
            known[key] = weakref.ref(function, lambda _gone: known.pop(key, None))

    def namespaces(self) -> list[dict[str, Any]]:
        """Those of the modules that the file was loaded as: ``__main__`` and its name, for one that others import."""
        found = {id(function.__globals__): function.__globals__ for function in self.functions()}
        return [self.namespace, *(each for ident, each in found.items() if ident != id(self.namespace))]

    def functions(self) -> list[FunctionType]:
        """The marked functions that live, without nested ones; those of marked classes and of the whole module too."""
        found = {id(function): function for function in (ref() for ref in list(self._functions.values())) if function}
        if self.is_whole:
            found.update((id(function), function) for function in functions_in(self.namespace, self.path))
        return [function for function in found.values() if function is not None]

    def is_marked(self, qualname: str) -> bool:
        """Whether a function of that name is meant to be swapped: itself, its class, its outer function, or all."""
        if self.is_whole:
            return True
        parts = qualname.split(".")
        names = {".".join(parts[:count]) for count in range(1, len(parts) + 1)}
        return not names.isdisjoint(self.marks) or not names.isdisjoint(self.classes)


class _Registry:
    """All of them, of this process; there is one."""

    def __init__(self) -> None:
        self.by_path: dict[str, SourceFile] = {}
        self.by_filename: dict[str, SourceFile] = {}
        self.watchers: dict[object, Callable[[str], None]] = {}
        self.managers: list[Any] = []
        self.served: list[Any] = []


_registry = _Registry()


def files() -> dict[str, SourceFile]:
    """Every file with marked functions, by its real path."""
    return _registry.by_path


def forget_all() -> None:
    """For tests: as if nothing had been marked."""
    _registry.__init__()  # type: ignore[misc]


def watch_files(watcher: Callable[[str], None]) -> Callable[[], None]:
    """Has ``watcher`` called with the path when the first function of a file is marked.

    Returns:
        what ends it; calling it twice does nothing.
    """
    key = object()
    _registry.watchers[key] = watcher

    def remove() -> None:
        _registry.watchers.pop(key, None)

    return remove


def serve(manager: Any) -> None:
    """Has a patch manager take care of marked functions, from the first one on; serving it twice is serving it once."""
    if not any(manager is known for known in _registry.managers):
        _registry.managers.append(manager)
    if _registry.by_path:
        _plug_in()


def _plug_in() -> None:
    if len(_registry.managers) == len(_registry.served):
        return
    from hotreload.python.engine import Engine

    for manager in _registry.managers:
        if not any(manager is known for known in _registry.served):
            _registry.served.append(manager)
            manager.add_work(lambda guard, around: Engine(guard, around, _registry.by_path))


def register(thing: object) -> tuple[str, str]:
    """Marks a function, what wraps one, all functions of a class, or all of a module.

    Args:
        thing: a plain function; a static or class method, a property, or whatever leads to a function by
            ``__wrapped__``; a class: all functions of its own; a module: everything that is defined in it.

    Returns:
        the real path of the file and the qualified name (of a module: empty).

    Raises:
        MarkError: it leads to no Python function that was loaded from a file; nothing was remembered.
    """
    if isinstance(thing, ModuleType):
        return _register_module(thing)
    if isinstance(thing, type):
        return _register_class(thing)
    found = plain_functions(thing)
    if not found:
        raise _no_function(thing)
    for function in found:
        if function.__name__ == "<lambda>":
            raise MarkError(
                "a lambda cannot be marked: an edit could not tell which one of the line it is",
                hint="give it a name with def",
                **_place(function.__code__),
            )
    for function in found:
        file = _file_of(function)
        file.remember(function)
    return file.path, found[0].__qualname__


def _register_class(cls: type) -> tuple[str, str]:
    module = sys.modules.get(cls.__module__)
    own = [function for function in methods_of(cls) if _is_of(function, cls)]
    if not own:
        file_name = getattr(module, "__file__", None)
        raise MarkError(
            f"class {cls.__qualname__} has no Python function of its own to mark",
            hint="mark the class that defines the methods, in the file that defines it"
            + (f" ({file_name})" if file_name else ""),
        )
    for function in own:
        file = _file_of(function)
        file.remember(function)
    file.classes[cls.__qualname__] = None
    return file.path, cls.__qualname__


def _register_module(module: ModuleType) -> tuple[str, str]:
    filename = getattr(module, "__file__", None)
    if not isinstance(filename, str) or not filename.endswith(".py"):
        raise MarkError(
            f"module {module.__name__} was not loaded from a .py file" + (f": {filename}" if filename else ""),
            hint="mark a module that is written in Python",
        )
    file = _open(filename, module.__name__, module.__dict__)
    file.is_whole = True
    return file.path, ""


def plain_functions(thing: object) -> list[FunctionType]:
    """The Python functions that an object leads to: itself, behind ``__wrapped__``, of a method or a property."""
    seen: set[int] = set()
    while id(thing) not in seen:
        seen.add(id(thing))
        if isinstance(thing, property):
            return [function for part in (thing.fget, thing.fset, thing.fdel) for function in plain_functions(part)]
        inner = _inside(thing)
        if inner is None:
            break
        thing = inner
    return [thing] if isinstance(thing, FunctionType) else []


def _inside(thing: object) -> object:
    if isinstance(thing, (staticmethod, classmethod)):
        return thing.__func__
    wrapped = getattr(thing, "__wrapped__", None)
    if wrapped is not None:
        return wrapped
    if isinstance(thing, FunctionType):
        return None
    kind = type(thing)
    if kind.__module__ == "functools" and kind.__name__ in ("cached_property", "partial", "partialmethod"):
        return getattr(thing, "func", None)
    return getattr(thing, "__func__", None)


def methods_of(cls: type) -> list[FunctionType]:
    """The functions in a class's own dict, with those behind static and class methods, properties and wrappers."""
    return [function for value in list(vars(cls).values()) for function in _functions_behind(value)]


def _functions_behind(value: object) -> list[FunctionType]:
    try:
        return [] if isinstance(value, type) else plain_functions(value)
    except Exception:  # noqa: BLE001 - a descriptor or proxy of the program's may raise what it likes when looked at
        return []


def _is_of(function: FunctionType, cls: type) -> bool:
    return function.__qualname__.startswith(cls.__qualname__ + ".") and os.path.isfile(function.__code__.co_filename)


def functions_in(namespace: dict[str, Any], path: str) -> Iterator[FunctionType]:
    """Every function of a module that its names lead to and that comes from that file."""
    classes: list[type] = []
    seen: set[int] = set()
    for value in list(namespace.values()):
        if isinstance(value, type):
            classes.append(value)
        else:
            yield from (function for function in _functions_behind(value) if _comes_from(function, path))
    while classes:
        cls = classes.pop()
        if id(cls) in seen or cls.__module__ != namespace.get("__name__"):
            continue
        seen.add(id(cls))
        classes += [value for value in vars(cls).values() if isinstance(value, type)]
        yield from (function for function in methods_of(cls) if _comes_from(function, path))


def _comes_from(function: FunctionType, path: str) -> bool:
    filename = function.__code__.co_filename
    known = _registry.by_filename.get(filename)
    return (known.path if known else os.path.realpath(filename)) == path


def _file_of(function: FunctionType) -> SourceFile:
    file = _registry.by_filename.get(function.__code__.co_filename)
    if file is None:
        file = _open(function.__code__.co_filename, function.__module__ or "", function.__globals__, function.__code__)
    return file


def _open(filename: str, module: str, namespace: dict[str, Any], code: CodeType | None = None) -> SourceFile:
    """The file's entry; it is read when it is met first.

    Raises:
        MarkError: there is no such file, or it is no ``.py``.
    """
    path = os.path.realpath(filename)
    file = _registry.by_path.get(path)
    if file is None:
        try:
            with open(path, "rb") as source:
                text = source.read()
                is_suspect = _may_be_another(os.fstat(source.fileno()), namespace)
        except OSError as error:
            raise _no_file(filename, error, code) from None
        file = _registry.by_path[path] = SourceFile(path, module, text, namespace)
        file.is_suspect = is_suspect
        _registry.by_filename[filename] = file
        _plug_in()
        for watcher in list(_registry.watchers.values()):
            watcher(path)
    _registry.by_filename[filename] = file
    return file


def _may_be_another(found: os.stat_result, namespace: dict[str, Any]) -> bool:
    """Whether a file may have been saved since the import system read it.

    Its cache file has time and size of what was read, or of an earlier text where no cache is written: then the code
    decides. Without a cache file functions are compared when the first edit comes.
    """
    cached = getattr(namespace.get("__spec__"), "cached", None)
    try:
        with open(cached or os.devnull, "rb") as file:
            header = file.read(16)
    except OSError:
        return False
    if len(header) < 16 or header[4:8] != b"\0\0\0\0":  # a cache that goes by the text's hash says nothing of times
        return False
    return header[8:] != b"".join(
        (int(value) & 0xFFFFFFFF).to_bytes(4, "little") for value in (found.st_mtime, found.st_size)
    )


def _no_function(thing: object) -> MarkError:
    kind = type(thing).__name__
    if kind in ("builtin_function_or_method", "method_descriptor", "wrapper_descriptor", "cython_function_or_method"):
        name = getattr(thing, "__qualname__", repr(thing))
        return MarkError(
            f"{name} is no Python function but compiled code ({kind}): it has no .py file to edit",
            hint="what `hotreload build` has built is swapped when its C source is saved; it needs no mark here",
        )
    return MarkError(
        f"{thing!r:.80} is no function, method, property, class or module, and nothing leads from it to one",
        hint="put the mark directly above `def`, below other decorators; or have them use functools.wraps",
    )


def _no_file(filename: str, error: OSError, code: CodeType | None) -> MarkError:
    where = _place(code) if code is not None else {}
    name = f"{code.co_name}: " if code is not None else ""
    if filename.startswith("<") and filename.endswith(">"):
        kinds = {"<stdin>": "typed at a prompt", "<frozen": "frozen into the interpreter"}
        how = next((text for start, text in kinds.items() if filename.startswith(start)), "made by exec or eval")
        return MarkError(
            f"{name}its code was {how} ({filename}): there is no file that could be saved",
            hint="move it into a .py file and import it",
            **where,
        )
    if ".zip" + os.sep in filename or ".egg" + os.sep in filename or ".pyz" + os.sep in filename:
        return MarkError(
            f"{name}its source is inside an archive ({filename}), where nobody saves it",
            hint="unpack the archive, or install it in editable mode",
            **where,
        )
    if "ipykernel" in filename or "ipython-input" in filename:
        return MarkError(
            f"{name}it was defined in a notebook cell ({filename}): run the cell again to change it",
            hint="move it into a .py file and import it; then a save is enough",
            **where,
        )
    return MarkError(
        f"{name}its source {filename} cannot be read: {error.strerror}",
        hint="install the package with its sources",
        **where,
    )


def _place(code: CodeType) -> dict[str, Any]:
    return {"file": code.co_filename, "line": code.co_firstlineno, "function": code.co_name}
