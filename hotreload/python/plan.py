"""What going to a version would do to the live functions: the orders for one exchange.

An order is a function and six fields: code, defaults, keyword defaults, annotations, docstring, closure; what stays
as it is is ``...``. Nothing is run or changed here.
"""

from __future__ import annotations

import gc
import sys
from dataclasses import dataclass, field
from types import CellType, CodeType, FunctionType
from typing import Any

from hotreload.errors import Finding, IncompatibleError
from hotreload.python.book import Book, Original, Version
from hotreload.python.codes import is_same, own_fingerprint, without_number

__all__ = ["Plan", "class_of", "docstring", "make_plan"]

_HAS_DOCSTRING = 0x4000000  # CO_HAS_DOCSTRING, from 3.14 on


@dataclass
class Plan:
    """One exchange.

    ``inside`` is the code that no thread may be in at level call, ``swapped`` the keys of what gets another definition
    of its own: a function that changes only because of one inside it is not among them.
    """

    orders: list[tuple[Any, ...]] = field(default_factory=list)
    nested: list[tuple[CodeType, CodeType, Any, Any]] = field(default_factory=list)
    inside: set[CodeType] = field(default_factory=set)
    names: list[tuple[Any, ...]] = field(default_factory=list)
    undo_names: list[tuple[Any, ...]] = field(default_factory=list)
    replaced: list[tuple[Original, bool]] = field(default_factory=list)
    swapped: dict[str, None] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def functions(self) -> tuple[str, ...]:
        """The names of what gets another definition."""
        return tuple(dict.fromkeys(without_number(key) for key in self.swapped))

    def add_name(self, target: Any, name: str, *value: Any) -> None:
        """Has a name given a value, or removed; and what was there put back if the exchange fails."""
        space = target if isinstance(target, dict) else vars(target)
        self.names.append((target, name, *value))
        self.undo_names.append((target, name, space[name]) if name in space else (target, name))


def make_plan(book: Book, goal: int, version: Version) -> Plan:
    """The orders that bring every marked live function to a version.

    Raises:
        IncompatibleError: a live function cannot take its new code; nothing was changed.
    """
    plan = Plan()
    findings: list[Finding] = []
    for found in book.functions()[0]:
        _plan_function(plan, findings, book, version, found, is_base=goal == 0)
    _plan_nested(plan, findings, book, version)
    if findings:
        raise IncompatibleError(
            f"{book.name}: {findings[0].reason}",
            hint=findings[0].hint,
            findings=tuple(findings),
            status="INCOMPATIBLE",
        )
    _plan_names(plan, book, version)
    return plan


# Functions that are known ------------------------------------------------------------------------------------------


def _plan_function(
    plan: Plan,
    findings: list[Finding],
    book: Book,
    version: Version,
    found: tuple[str, FunctionType],
    *,
    is_base: bool,
) -> None:
    key, function = found
    original = book.originals[id(function)]
    goal = _goal_code(book, version, original, is_base=is_base)
    if goal is None:  # it is gone from the text
        return
    evaluated = version.evaluated.get(key)
    has_fields = evaluated is not None or original.is_replaced
    now = function.__code__
    if not has_fields and is_same(now, goal):
        return
    closure: Any = ...
    if now.co_freevars != goal.co_freevars:
        closure = _closure_for(book, key, function, goal, findings)
    doc: Any = ...
    if now is not goal:
        before, after = docstring(now), original.doc if goal is original.code else docstring(goal)
        doc = after if function.__doc__ == before and before != after else ...
    defaults: Any = ...
    kwdefaults: Any = ...
    annotations: Any = ...
    if evaluated is not None:
        defaults, kwdefaults, annotations = evaluated.of(original)
        if original.annotations is ...:
            original.annotations = function.__annotations__
    elif original.is_replaced:
        defaults, kwdefaults, annotations = original.defaults, original.kwdefaults, original.annotations
    plan.orders.append((function, goal, defaults, kwdefaults, annotations, doc, closure))
    plan.replaced.append((original, evaluated is not None))
    is_anew = key in version.signatures and key in book.version(0).codes
    if has_fields or is_anew or book.index.meaning_of(now) != book.index.meaning_of(goal):
        if has_fields or is_anew or own_fingerprint(now) != own_fingerprint(goal):
            plan.swapped[key] = None
        plan.inside.update(code for code in book.index.codes_of(key) if code is not goal)


def _goal_code(book: Book, version: Version, original: Original, *, is_base: bool) -> CodeType | None:
    key = original.key
    is_base_code = key in book.version(0).codes and key not in version.swapped and key not in version.moved
    if is_base or (is_base_code and key in version.codes):
        return original.code
    return version.codes.get(key)


def _closure_for(book: Book, key: str, function: FunctionType, code: CodeType, findings: list[Finding]) -> Any:
    """Cells for the new code: those that the function has, and the class where it asks for that."""
    cells = dict(zip(function.__code__.co_freevars, function.__closure__ or ()))
    original = book.originals[id(function)]
    cells.update(zip(original.code.co_freevars, original.closure or ()))
    for name in code.co_freevars:
        if name in cells:
            continue
        cls = class_of(book, key.rpartition(".")[0], function.__globals__) if name == "__class__" else None
        if cls is None:
            findings.append(_no_cell(book, key, code, name))
            return ...
        cells[name] = CellType(cls)
    return tuple(cells[name] for name in code.co_freevars) or None


def _no_cell(book: Book, key: str, code: CodeType, name: str) -> Finding:
    return Finding(
        "python-free-variables",
        f"`{without_number(key)}` uses `{name}` of the function around it now, which live closures have no cell for",
        "pass it as an argument, or restart; closures that are made after a restart have it",
        book.path,
        code.co_firstlineno,
    )


def class_of(book: Book, owner: str, namespace: dict[str, Any]) -> type | None:
    """The live class of a qualified name, found from the module's names."""
    found: Any = None
    for part in without_number(owner).split("."):
        found = namespace.get(part) if found is None else vars(found).get(part)
        if not isinstance(found, type):
            return None
    return found if found is None or found.__module__ == namespace.get("__name__", book.name) else None


def docstring(code: CodeType) -> str | None:
    """What ``__doc__`` of a function begins as."""
    first = code.co_consts[0] if code.co_consts else None
    if not isinstance(first, str):
        return None
    return first if sys.version_info < (3, 14) or code.co_flags & _HAS_DOCSTRING else None


# Live closures -----------------------------------------------------------------------------------------------------


def _plan_nested(plan: Plan, findings: list[Finding], book: Book, version: Version) -> None:
    """Which code of inner functions becomes which.

    Their closures are found by one pass over the heap at the exchange; those that may not fit, by one pass now.
    """
    doubtful: dict[int, tuple[CodeType, CodeType, str]] = {}
    for key, code in version.codes.items():
        if "<locals>" not in key or not book.source.is_marked(without_number(key)):
            continue
        meaning = book.index.meaning_of(code)
        goal = next(
            (old for old in book.index.codes_of(key) if old is not code and book.index.meaning_of(old) == meaning), code
        )
        for old in book.index.codes_of(key):
            if old is goal or book.index.meaning_of(old) == meaning:
                continue
            if not book.is_countable(old, key, version):
                plan.notes.append(
                    f"closures of {without_number(key)}() keep their code: which of several it is now is open"
                )
            elif key in version.rigid or not set(goal.co_freevars) <= set(old.co_freevars):
                doubtful[id(old)] = old, goal, key
            else:
                _plan_closures(plan, old, goal, key)
    _look_at_closures(plan, findings, book, version, doubtful)


def _plan_closures(plan: Plan, old: CodeType, new: CodeType, key: str) -> None:
    """All closures of one code take another: they have the cells, and maybe more."""
    kept = None
    if new.co_freevars != old.co_freevars:
        kept = tuple(old.co_freevars.index(name) for name in new.co_freevars)
    doc: Any = docstring(new) if docstring(new) != docstring(old) else ...
    if own_fingerprint(old) != own_fingerprint(new):
        plan.swapped[key] = None
    plan.nested.append((old, new, kept, doc))  # several may be equal: what an edit has run was compiled by itself
    plan.inside.add(old)


def _look_at_closures(
    plan: Plan,
    findings: list[Finding],
    book: Book,
    version: Version,
    doubtful: dict[int, tuple[CodeType, CodeType, str]],
) -> None:
    """Those that lack a cell, or have other defaults; where none is alive there is nothing to mind."""
    said: set[str] = set()
    olds = [old for old, _goal, _key in doubtful.values()]
    for function in gc.get_referrers(*olds) if olds else ():
        found = doubtful.get(id(function.__code__)) if isinstance(function, FunctionType) else None
        if found is None:
            continue
        _old, code, key = found
        if key not in version.rigid and _complete(plan, book, function, code):
            plan.swapped[key] = None
        elif key not in said:
            said.add(key)
            if version.is_base:  # nobody is kept in an edit because it made a closure
                plan.notes.append(f"closures of {without_number(key)}() that the edit has made keep its code")
            elif key in version.rigid:
                findings.append(_no_defaults(book, key, code))
            else:
                missing = [name for name in code.co_freevars if name not in function.__code__.co_freevars]
                findings.append(_no_cell(book, key, code, missing[0]))


def _no_defaults(book: Book, key: str, code: CodeType) -> Finding:
    return Finding(
        "python-closure-defaults",
        f"the defaults of `{without_number(key)}` differ, and closures of it are alive, whose defaults were evaluated "
        "where they were made",
        "compute the value in the body, or restart",
        book.path,
        code.co_firstlineno,
    )


def _complete(plan: Plan, book: Book, function: FunctionType, code: CodeType) -> bool:
    """Gives a closure back the cells that an earlier edit did not need, where it had them."""
    cells = dict(zip(function.__code__.co_freevars, function.__closure__ or ()))
    cells = {**book.cells.get(function, {}), **cells}
    if any(name not in cells for name in code.co_freevars):
        return False
    closure = tuple(cells[name] for name in code.co_freevars)
    plan.orders.append((function, code, ..., ..., ..., ..., closure))
    plan.inside.add(function.__code__)
    return True


# Names -------------------------------------------------------------------------------------------------------------


def _plan_names(plan: Plan, book: Book, version: Version) -> None:
    """A name that another generation has added goes, where nobody has given it another value; this one's comes."""
    wanted = {(id(name.target), name.name): name for name in version.names}
    gone: set[tuple[int, str]] = set()  # several generations may have it
    for name in book.names():
        place = (id(name.target), name.name)
        if place in wanted or place in gone or not name.is_live:
            continue
        gone.add(place)
        if name.had:
            plan.add_name(name.target, name.name, name.before)
        else:
            plan.add_name(name.target, name.name)
    for name in version.names:
        space = name.target if isinstance(name.target, dict) else vars(name.target)
        if name.name not in space or (name.had and space[name.name] is name.before):
            plan.add_name(name.target, name.name, name.value)
