"""Code objects: a key for each function of a text, and whether two of them are the same.

The key is the qualified name; functions of one name in one place (a property's getter and setter, two branches of an
``if``, lambdas) are numbered by their lines: ``Order.total``, ``Order.total#2``. Where an edit would shift the numbers,
``pairing.py`` says which is which.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from types import CodeType, MappingProxyType
from typing import NamedTuple

__all__ = ["Found", "fingerprint", "is_same", "lines_of", "own_fingerprint", "walk", "without_number"]

_OPTIMIZED = 0x1
_NO_KEYS: Mapping[str, str] = MappingProxyType({})
_GENERIC = "<generic parameters of "
_ATTRIBUTES = (
    "co_name",
    "co_argcount",
    "co_posonlyargcount",
    "co_kwonlyargcount",
    "co_flags",
    "co_code",
    "co_names",
    "co_varnames",
    "co_freevars",
    "co_cellvars",
    "co_exceptiontable",
)
_LINES = "co_linetable" if hasattr(CodeType, "co_linetable") else "co_lnotab"


class Found(NamedTuple):
    """One function of a text: its code, its key, and the key of the function around it (empty where there is none)."""

    key: str
    code: CodeType
    outer: str


def without_number(key: str) -> str:
    """The qualified name in a key."""
    return ".".join(part.partition("#")[0] for part in key.split("."))


def walk(code: CodeType, prefix: str = "", outer: str = "", keys: Mapping[str, str] = _NO_KEYS) -> Iterator[Found]:
    """Every function in a module's code, the outer one before the inner; class bodies and comprehensions are none.

    With a function's code, ``prefix`` ``KEY.<locals>.`` and its key as ``outer``: those inside it. ``keys`` are of
    functions that are called otherwise than by their number (``pairing.py``).
    """
    seen: dict[str, int] = {}
    children = [const for const in _inner(code) if not _is_nameless(const)]
    for child in sorted(children, key=lambda child: child.co_firstlineno):
        seen[child.co_name] = number = seen.get(child.co_name, 0) + 1
        key = prefix + child.co_name + (f"#{number}" if number > 1 else "")
        if not child.co_flags & _OPTIMIZED:  # the body of a class
            yield from walk(child, key + ".", outer, keys)
        else:
            key = keys.get(key, key)
            yield Found(key, child, outer)
            yield from walk(child, key + ".<locals>.", key, keys)


def lines_of(code: CodeType) -> frozenset[tuple[str, int]]:
    """Names and first lines of what is in a module's code: the compiler leaves out what is under ``if 0``."""
    found = {(code.co_name, code.co_firstlineno)}
    for const in code.co_consts:
        if isinstance(const, CodeType):
            found |= lines_of(const)
    return frozenset(found)


def _inner(code: CodeType) -> Iterator[CodeType]:
    """The code that is directly in another, through what the compiler puts around type parameters."""
    for const in code.co_consts:
        if isinstance(const, CodeType):
            if const.co_name.startswith(_GENERIC):
                yield from _inner(const)
            else:
                yield const


def _is_nameless(code: CodeType) -> bool:
    """A comprehension or generator expression: called where it stands, and gone."""
    return code.co_name.startswith("<") and code.co_name != "<lambda>"


def is_same(one: CodeType, other: CodeType) -> bool:
    """Whether two code objects were compiled from the same text on the same lines; their file names may differ."""
    return one is other or fingerprint(one) == fingerprint(other)


def fingerprint(code: CodeType, *, with_lines: bool = True) -> str:
    """Equal for code that does the same, with what is inside it; without lines, wherever it stands."""
    return hashlib.sha256(repr(_describe(code, with_lines, True)).encode("utf-8", "backslashreplace")).hexdigest()


def own_fingerprint(code: CodeType) -> str:
    """The same without lines and without the functions inside it."""
    return hashlib.sha256(repr(_describe(code, False, False)).encode("utf-8", "backslashreplace")).hexdigest()


def _describe(code: CodeType, with_lines: bool, with_functions: bool) -> tuple[object, ...]:
    lines = (code.co_firstlineno, getattr(code, _LINES)) if with_lines else ()
    constants = tuple(_constant(const, with_lines, with_functions) for const in code.co_consts)
    return (*(getattr(code, name, None) for name in _ATTRIBUTES), constants, lines)


def _constant(value: object, with_lines: bool, with_functions: bool) -> object:
    """1, 1.0 and True are equal and not the same; a frozenset has no order."""
    if isinstance(value, CodeType):
        if not with_functions and not _is_nameless(value):
            return value.co_name
        return _describe(value, with_lines, with_functions)
    if isinstance(value, tuple):
        return tuple(_constant(item, with_lines, with_functions) for item in value)
    if isinstance(value, frozenset):
        return "frozenset", sorted(repr(_constant(item, with_lines, with_functions)) for item in value)
    return type(value).__name__, repr(value)
