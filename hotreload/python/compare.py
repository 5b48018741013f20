"""Base text and new text, compared: what is swapped, what is run, what is kept, and what cannot be.

::

    function of both      its code does something else ─▶ swapped      stands elsewhere ─▶ moved
                          its parameters say something else ─▶ defaults and annotations are evaluated anew
    only in the new       function, class, import, assignment to a new name ─▶ run once, before the swap
                          another statement, or one that gives a known name a value ─▶ told, not run
    only in the base      told; what is live is kept

Whether a function does something else is asked of its code, not of its text: comments and spacing are not in there,
and what a name means in it (a global, a variable of the function around it) is.
"""

from __future__ import annotations
import __future__

import ast
import marshal
import sys
import traceback
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from types import CodeType
from typing import Any

from hotreload.errors import BuildError, Finding
from hotreload.python.codes import fingerprint, lines_of, own_fingerprint, walk, without_number
from hotreload.python.outline import Class, Function, Outline, Statement, bound_names, outline, said
from hotreload.python.pairing import pair

__all__ = ["CLASS_HOOK", "Difference", "Text", "compare"]

#: What the classes around added methods name as their metaclass: it hands the body the live class.
CLASS_HOOK = "__hotreload_class__"
_FUTURE = 0
for _name in __future__.all_feature_names:
    _FUTURE |= getattr(__future__, _name).compiler_flag
_SHOWN = 60
_RUNNABLE = (ast.Import, ast.ImportFrom, ast.Assign, ast.AnnAssign, ast.AugAssign, ast.Try, ast.If)


class Text:
    """One text of a file, parsed and compiled.

    Raises:
        BuildError: it is no Python; ``diagnostics`` is what Python says, with file and line.
    """

    def __init__(self, text: bytes, path: str, optimize: int = -1) -> None:
        self.text, self.path = text, path
        self.optimize = sys.flags.optimize if optimize < 0 else optimize
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                tree = compile(text, path, "exec", ast.PyCF_ONLY_AST, dont_inherit=True)
                self.code = compile(text, path, "exec", dont_inherit=True, optimize=self.optimize)
                assert isinstance(tree, ast.Module)
                self.outline: Outline = outline(tree, lines_of(self.code))
            except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
                raise _no_python(path, error) from None
        self.warnings = "\n".join(f"{path}:{each.lineno}: {each.category.__name__}: {each.message}" for each in caught)
        self.codes: dict[str, CodeType] = {found.key: found.code for found in walk(self.code)}

    def name_as(self, base: Text) -> None:
        """Has functions that are the base's called by the base's keys."""
        keys = pair(base.outline, outline(self.outline.tree, self.outline.lines))
        self.outline = outline(self.outline.tree, self.outline.lines, keys)
        self.codes = {found.key: found.code for found in walk(self.code, keys=keys)}

    def compile(self, nodes: Iterable[ast.stmt]) -> CodeType:
        """Some of its statements by themselves, on their own lines."""
        tree = ast.fix_missing_locations(ast.Module(body=list(nodes), type_ignores=[]))
        flags = self.code.co_flags & _FUTURE
        code: CodeType = compile(tree, self.path, "exec", flags, dont_inherit=True, optimize=self.optimize)
        return code


@dataclass
class Difference:
    """What a text differs in from the base.

    Functions are keys of ``codes.py``. ``edited`` are those whose own text differs, ``swapped`` those that do something
    else, be it only because of a function inside them. ``signatures`` evaluates parameters anew: key to class, name,
    code, and the parameters whose default is as it was. ``additions`` are run: class, names, line, text, code.
    ``members`` are what is in classes that are new: an earlier edit may have brought the class without them.
    ``rigid`` are inner functions whose defaults differ: those of live closures cannot be evaluated.
    """

    edited: list[str] = field(default_factory=list)
    swapped: list[str] = field(default_factory=list)
    moved: list[str] = field(default_factory=list)
    added: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    rigid: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    signatures: dict[str, tuple[str, str, CodeType, tuple[str, ...]]] = field(default_factory=dict)
    additions: list[tuple[str, tuple[str, ...], int, str, CodeType]] = field(default_factory=list)
    members: list[tuple[str, tuple[str, ...], int, str, CodeType]] = field(default_factory=list)

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to do in a process."""
        return not (self.swapped or self.moved or self.additions)

    def to_code(self, base: Text, new: Text) -> bytes:
        """For the process: a payload's code, which ``engine.py`` reads."""
        return marshal.dumps(self.as_dict(base, new))

    def as_dict(self, base: Text, new: Text) -> dict[str, Any]:
        """The same before it is marshalled."""
        return {
            "base": base.code,
            "new": new.code,
            "keys": dict(new.outline.keys),
            "edited": tuple(self.edited),
            "swapped": tuple(self.swapped),
            "moved": tuple(self.moved),
            "rigid": tuple(self.rigid),
            "signatures": self.signatures,
            "additions": tuple(self.additions),
            "members": tuple(self.members),
        }


def compare(base: Text, new: Text) -> Difference:
    """What ``new`` differs in from ``base``.

    Raises:
        BuildError: an expression is nested too deeply to be compared.
    """
    try:
        return _compare(base, new)
    except RecursionError as error:
        raise _no_python(new.path, error) from None


def _compare(base: Text, new: Text) -> Difference:
    found = Difference()
    new.name_as(base)
    _compare_functions(found, base, new)
    _compare_classes(found, base.outline, new.outline)
    for owner in ["", *(key for key in new.outline.classes if key in base.outline.classes)]:
        _compare_scope(found, base, new, owner)
    _list_members(found, base.outline, new)
    found.additions.sort(key=lambda addition: (bool(addition[0]), addition[2]))
    found.removed = [without_number(key) for key in base.outline.functions if key not in new.outline.functions]
    if found.removed:
        names = ", ".join(f"{name}()" for name in found.removed)
        found.notes.append(f"{names} is gone from the text: who still has it can go on calling it")
    return found


# Functions ---------------------------------------------------------------------------------------------------------


def _compare_functions(found: Difference, base: Text, new: Text) -> None:
    old, now = base.outline, new.outline
    for key, code in new.codes.items():
        before = base.codes.get(key)
        if before is None or _is_of_statement(key):
            continue
        was, is_ = old.functions.get(key) or old.inner.get(key), now.functions.get(key) or now.inner.get(key)
        has_signature = was is not None and is_ is not None and was.parameters != is_.parameters
        if has_signature and key in now.inner:
            _compare_inner_defaults(found, key, was, is_)
        elif has_signature and is_ is not None and was is not None:
            found.signatures[key] = _signature(new, is_, was)
        if has_signature or own_fingerprint(before) != own_fingerprint(code):
            found.edited.append(key)
        if has_signature or fingerprint(before, with_lines=False) != fingerprint(code, with_lines=False):
            found.swapped.append(key)
        elif fingerprint(before) != fingerprint(code):
            found.moved.append(key)
    for key, function in now.functions.items():
        if key not in old.functions:  # the next edit may find it alive
            found.signatures[key] = _signature(new, function, None)
        if key in old.functions and old.functions[key].decorators != function.decorators:
            _tell_decorators(found, new.path, old.functions[key], function)


def _is_of_statement(key: str) -> bool:
    """A lambda outside functions belongs to the statement that made it."""
    return "<lambda>" in key.rpartition("<locals>.")[2] and "<locals>" not in key


def _tell_decorators(found: Difference, path: str, was: Function, is_: Function) -> None:
    if was.kinds != is_.kinds:
        found.findings.append(
            Finding(
                "python-method-kind",
                f"`{without_number(is_.key)}` is another kind of method: {_kinds(was)} -> {_kinds(is_)}",
                "give the new one another name, or restart",
                path,
                is_.line,
            )
        )
        return
    found.notes.append(
        f"{path}:{is_.line}: the decorators of {without_number(is_.key)}() are not applied again: "
        "the live ones are kept until the restart"
    )


def _kinds(function: Function) -> str:
    return ", ".join(sorted(function.kinds)) or "plain"


def _compare_inner_defaults(found: Difference, key: str, was: Function | None, is_: Function | None) -> None:
    """Defaults of a function inside another belong to each closure; nobody can evaluate them again."""
    before = _defaults_by_name(was) if was is not None else {}
    after = _defaults_by_name(is_) if is_ is not None else {}
    if list(before) != list(after):
        found.rigid.append(key)
    elif before != after:
        found.notes.append(f"live closures of {without_number(key)}() keep the defaults that they were made with")


def _defaults_by_name(function: Function) -> Mapping[str, str]:
    arguments = function.node.args
    positional = [*arguments.posonlyargs, *arguments.args]
    pairs: list[tuple[ast.arg, ast.expr | None]] = []
    if arguments.defaults:
        pairs += zip(positional[-len(arguments.defaults) :], arguments.defaults)
    pairs += zip(arguments.kwonlyargs, arguments.kw_defaults)
    return {argument.arg: said(default) for argument, default in pairs if default is not None}


def _signature(new: Text, is_: Function, was: Function | None) -> tuple[str, str, CodeType, tuple[str, ...]]:
    """Code that makes a function with the new parameters and no body, in the class that it belongs to."""
    node = is_.node
    kind = type(node)
    fields: dict[str, Any] = {name: getattr(node, name, None) for name in kind._fields}
    bare = ast.copy_location(kind(**{**fields, "body": [ast.Pass()], "decorator_list": []}), node)
    before, after = _defaults_by_name(was) if was is not None else {}, _defaults_by_name(is_)
    kept = tuple(name for name, default in after.items() if before.get(name) == default)
    cls = is_.owner.rpartition(".")[2]
    name = (
        f"_{cls.lstrip('_')}{node.name}" if cls and node.name.startswith("__") and node.name[-2:] != "__" else node.name
    )
    return is_.owner, name, new.compile(_in_class(new, is_.owner, [bare])), kept


def _in_class(new: Text, owner: str, nodes: list[Any]) -> list[Any]:
    """Statements in a class statement like their own, whose body is given the live class."""
    if not owner:
        return nodes
    node = new.outline.classes[owner].node
    keyword = ast.keyword(arg="metaclass", value=ast.Name(id=CLASS_HOOK, ctx=ast.Load()))
    fields: dict[str, Any] = {
        "name": node.name,
        "bases": [],
        "keywords": [keyword],
        "body": nodes,
        "decorator_list": [],
    }
    if "type_params" in ast.ClassDef._fields:
        fields["type_params"] = []  # the body finds the live class's
    return [ast.copy_location(ast.ClassDef(**fields), node)]


# Classes and statements --------------------------------------------------------------------------------------------


def _compare_classes(found: Difference, old: Outline, now: Outline) -> None:
    for key, is_ in now.classes.items():
        was = old.classes.get(key)
        if was is not None and was.head != is_.head:
            found.notes.append(
                f"class {key}: `{was.head}` -> `{is_.head}`: "
                "the live class keeps its bases and decorators until the restart"
            )
        elif was is not None and ast.get_docstring(was.node) != ast.get_docstring(is_.node):
            found.notes.append(f"the docstring of class {key} is kept until the restart")
    for key in old.classes:
        if key not in now.classes:
            found.notes.append(f"class {key} is gone from the text: the live one is kept")


def _compare_scope(found: Difference, base: Text, new: Text, owner: str) -> None:
    """What a module or a class has that the base's has not, and the other way round."""
    old, now = base.outline, new.outline
    known = old.names_of(owner)
    cls = now.classes.get(owner)
    before = Counter(statement.text for statement in old.statements if statement.owner == owner)
    carried: set[int] = set()
    for statement in now.statements:
        if statement.owner == owner:
            if before[statement.text]:
                before[statement.text] -= 1
            elif _new_statement(found, new, statement, known, cls):
                carried.update(map(id, ast.walk(statement.node)))
    for function in now.functions.values():
        if function.owner == owner and function.key not in old.functions:
            if function.node.name in known and not function.kinds:
                found.notes.append(
                    f"{new.path}:{function.line}: {without_number(function.key)}() is defined once more: "
                    "what has that name already is kept"
                )
                continue
            if id(function.node) in carried:  # the statement around it says whether it is defined
                continue
            _add(found, new, owner, function.node, without_number(function.key) + "()")
    for each in now.classes.values():
        is_new = each.owner == owner and each.key not in old.classes and each.node.name not in known
        if is_new and id(each.node) not in carried:
            _add(found, new, owner, each.node, f"class {each.key}")
    after = now.names_of(owner)
    for statement in old.statements:
        if statement.owner == owner and before[statement.text]:
            before[statement.text] -= 1
            _gone_statement(found, statement, after)


def _add(found: Difference, new: Text, owner: str, node: ast.stmt, what: str) -> None:
    found.added.append(what)
    found.additions.append(_addition(new, owner, node))


def _addition(new: Text, owner: str, node: ast.stmt) -> tuple[str, tuple[str, ...], int, str, CodeType]:
    code = new.compile(_in_class(new, owner, [node]))
    return owner, bound_names(node), node.lineno, _first_line(said(node)), code


def _list_members(found: Difference, old: Outline, new: Text) -> None:
    now = new.outline
    of_new = {key for key, cls in now.classes.items() if key not in old.classes and not cls.has_decorators}
    nodes: list[tuple[str, ast.stmt]] = [(each.owner, each.node) for each in now.functions.values()]
    nodes += [(each.owner, each.node) for each in now.classes.values()]
    nodes += [(each.owner, each.node) for each in now.statements if each.names]
    members = [(owner, node) for owner, node in nodes if owner in of_new]
    found.members = [_addition(new, owner, node) for owner, node in sorted(members, key=lambda each: each[1].lineno)]


def _new_statement(found: Difference, new: Text, statement: Statement, known: set[str], cls: Class | None) -> bool:
    """Has a statement run that gives new names a value, else says that it is not; whether all of it is run."""
    node = statement.node
    place = f"{new.path}:{statement.line}: `{_first_line(statement.text)}`"
    fresh = [name for name in statement.names if name not in known]
    if isinstance(node, (ast.Import, ast.ImportFrom)) and fresh:
        if any(alias.name == "*" for alias in node.names):
            found.notes.append(f"{place} is not run: what it would bind cannot be told")
            return False
        for part in _imports_of(node, fresh):
            _add(found, new, statement.owner, part, _first_line(said(part)))
        return False
    if fresh and len(fresh) == len(statement.names) and _is_runnable(node, statement.text):
        if cls is not None and cls.has_decorators:
            found.notes.append(f"{place} is not run: the decorators of {cls.key} have seen the class without it")
            return False
        _add(found, new, statement.owner, node, _first_line(statement.text))
        return True
    if statement.names:
        found.notes.append(f"{place} is not run again: the live value of {', '.join(statement.names)} is kept")
    else:
        found.notes.append(f"{place} is not run: it is part of an import, which was done before")
    return False


def _gone_statement(found: Difference, statement: Statement, names: set[str]) -> None:
    gone = [name for name in statement.names if name not in names]
    if gone:
        found.notes.append(
            f"`{_first_line(statement.text)}` is gone from the text: the live value of {', '.join(gone)} is kept"
        )
    elif not statement.names:
        found.notes.append(f"`{_first_line(statement.text)}` is gone from the text: what it did is not undone")


def _imports_of(node: ast.Import | ast.ImportFrom, fresh: list[str]) -> Iterator[ast.stmt]:
    """The import of exactly those names."""
    names = [alias for alias in node.names if (alias.asname or alias.name.partition(".")[0]) in fresh]
    if isinstance(node, ast.Import):
        yield ast.copy_location(ast.Import(names=names), node)
    else:
        yield ast.copy_location(ast.ImportFrom(module=node.module, names=names, level=node.level), node)


def _is_runnable(node: ast.stmt, text: str) -> bool:
    """Whether a statement does no more than give names a value, as far as can be told."""
    return isinstance(node, _RUNNABLE) and not (isinstance(node, ast.If) and "__name__" in text)


def _first_line(text: str) -> str:
    line, _, more = text.partition("\n")
    return line if not more and len(line) <= _SHOWN else line[: _SHOWN - 3].rstrip() + "..."


def _no_python(path: str, error: BaseException) -> BuildError:
    line = getattr(error, "lineno", None) or 0
    shown = "".join(traceback.format_exception_only(type(error), error))
    message = getattr(error, "msg", None) or str(error)
    return BuildError(
        f"{path}:{line}: {type(error).__name__}: {message}",
        hint="the functions that are live serve on; save it again when it is right",
        diagnostics=shown,
        file=path,
        line=line,
    )
