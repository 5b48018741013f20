"""Form 2: C functions that exist, found from the objects that Python has for them.

Nothing is wrapped: what is called is what was called before, at no cost. Whether it can be patched is not asked here,
since production code must come up with a plain build too; :attr:`Handle.reason` and ``hotreload doctor`` tell.
"""

from __future__ import annotations

import os
import sys
from types import ModuleType
from typing import Any

from hotreload._state import c_functions, locate
from hotreload.errors import MarkError
from hotreload.mark.callbacks import Mark

__all__ = ["entries_of", "find"]


def entries_of(thing: Any) -> list[int]:
    """Addresses of the C functions that a call of it runs; of a property, its getter and setter."""
    inner = thing.__func__ if isinstance(thing, (staticmethod, classmethod)) else thing
    return c_functions(inner)


def find(thing: Any, *, is_asked: bool = False) -> Mark | None:
    """The mark for a C function, or for all of a type or an extension module; None where it is Python's business.

    ``is_asked``: for a question about it, which is no misuse.

    Raises:
        MarkError: it is C and has no function of its own, or it belongs to the interpreter.
    """
    if isinstance(thing, ModuleType):
        return _of_module(thing)
    if isinstance(thing, type):
        return _of_type(thing)
    entries = entries_of(thing)
    if entries:
        path = _library(entries[0])
        name = _name_of(thing)
        if path == _library_of_python():
            raise MarkError(
                f"{name} is a function of the Python interpreter itself, which is not built by hotreload",
                hint="mark functions of an extension",
            )
        return Mark("extension", name, path, entries=dict.fromkeys(entries, name.rpartition(".")[2]))
    kind = type(thing).__name__
    if kind in _WITHOUT and not is_asked:
        raise MarkError(f"{_name_of(thing)} ({kind}) has no C function that could change", hint=_WITHOUT[kind])
    return None


_CYTHON = "cython_function_or_method"  # whose objects have a layout of their own
#: What is C and has no address, and what to do instead.
_WITHOUT = {
    "member_descriptor": "it is a field of a struct: mark the functions that use it",
    "method-wrapper": "mark it in its type, as type(x).__repr__",
    _CYTHON: "mark the whole module: hotpatchable(the_module)",
    "CDLL": "mark functions of an extension, or say source= over a stub",
    "_FuncPtr": "mark functions of an extension, or say source= over a stub",
}


def _of_module(module: ModuleType) -> Mark | None:
    """All of an extension: its functions, those of its types, and whatever else is compiled into it."""
    file = getattr(module, "__file__", None) or ""
    if not file.endswith(".so"):
        if not file:
            raise MarkError(
                f"module {module.__name__} is built into Python", hint="mark an extension or a module of your own"
            )
        return None
    path = os.path.realpath(file)
    entries: dict[int, str] = {}
    for value in list(vars(module).values()):
        found = _members(value, path) if isinstance(value, type) else _entries(value, path)
        entries.update(found)
    return Mark("extension", module.__name__, path, entries=entries, is_whole=True)


def _of_type(cls: type) -> Mark | None:
    """All functions that a type defines itself; None for a class that is written in Python."""
    entries: dict[int, str] = {}
    path = ""
    for name, value in list(vars(cls).items()):
        if type(value).__name__ == _CYTHON:
            raise MarkError(
                f"the methods of {cls.__module__}.{cls.__qualname__} are Cython's ({_CYTHON})", hint=_WITHOUT[_CYTHON]
            )
        for entry in entries_of(value):
            library = _library(entry)
            if library != _library_of_python() and path in ("", library):
                path = library
                entries[entry] = name
    if not entries:
        return None
    return Mark("extension", f"{cls.__module__}.{cls.__qualname__}", path, entries=entries)


def _members(cls: type, path: str) -> dict[int, str]:
    return {entry: name for value in list(vars(cls).values()) for entry, name in _entries(value, path).items()}


def _entries(value: Any, path: str) -> dict[int, str]:
    return {entry: _name_of(value).rpartition(".")[2] for entry in entries_of(value) if _library(entry) == path}


def _name_of(thing: Any) -> str:
    name = getattr(thing, "__qualname__", None) or getattr(thing, "__name__", None) or repr(thing)[:80]
    owner = getattr(thing, "__objclass__", None)
    module = getattr(thing, "__module__", None) or getattr(owner, "__module__", None)
    return f"{module}.{name}" if isinstance(module, str) and module else str(name)


def _library(entry: int) -> str:
    path = locate(entry)[0]
    return os.path.realpath(path) if path else ""


def _library_of_python() -> str:
    """The executable or libpython, where the functions of the built-in types are."""
    (entry,) = c_functions(sys.intern)
    return _library(entry)
