"""Objects with the buffer protocol where C asks for a pointer: bytearray, memoryview, array, numpy and whoever else.

    cdata, list, int, None, str      go to cffi as they are, which takes them or says why not
    bytes                            to a pointer that is only read from
    anything with a buffer           its items must be those of the pointer; and in one piece
    bytearray, memoryview, mmap      of single bytes: memory that says nothing of what is in it fits any pointer

The memory is lent for the call: nothing is copied, and nobody can resize it meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

__all__ = ["acceptor", "plain_classes"]

_BYTES = frozenset("bBc")
_KINDS = {**dict.fromkeys("bhilqn", "integer"), **dict.fromkeys("BHILQN", "unsigned integer")}
_KINDS.update({**dict.fromkeys("efd", "float"), "?": "bool", "c": "character"})
#: Memory, where an array of bytes is numbers that somebody meant as such.
_RAW = ("bytes", "bytearray", "memoryview", "mmap")
_FLOATS = ("float", "double", "long double")


def plain_classes(ffi: Any) -> frozenset[type]:
    """The classes whose objects cffi takes without our help."""
    samples = (
        ffi.new("int *"),
        ffi.new("int[1]"),
        ffi.cast("void *", 0),
        ffi.from_buffer(b""),
        ffi.gc(ffi.new("int *"), id),
    )
    return frozenset([*map(type, samples), list, tuple, dict, str, int, float, type(None)])


def acceptor(ffi: Any, kind: Any, *, reads_only: bool, where: str) -> Callable[[Any], Any] | None:
    """What turns an argument for a parameter of that C type into what cffi takes; None where nothing is to be done."""
    if kind.kind != "pointer" or kind.item.kind not in ("primitive", "void"):
        return None
    item = kind.item
    size = 1 if item.kind == "void" else ffi.sizeof(item)
    array = ffi.typeof("char[]") if item.kind == "void" else ffi.typeof(ffi.getctype(item, "[]"))
    wanted = "any" if item.kind == "void" else _kind_of(ffi, item)
    plain, lend = plain_classes(ffi), ffi.from_buffer
    fitting: set[tuple[type, str, int]] = set()  # what was found to be right

    def accept(value: Any) -> Any:
        if type(value) is bytearray:  # single bytes in one piece, which may be written to
            return lend(array, value)
        if type(value) in plain:
            return value
        try:
            view = memoryview(value)
        except TypeError:
            return value  # cffi says what it thinks of it
        if not reads_only and view.readonly:
            raise TypeError(
                f"{where}: {type(value).__name__} is read-only, and `{kind.cname}` may be written through: "
                "pass a bytearray or another buffer that can be written to"
            )
        if (type(value), view.format, view.itemsize) not in fitting:
            check(view, value)
        if not view.c_contiguous:
            raise TypeError(f"{where}: {type(value).__name__} is not in one piece: copy it first")
        return lend(array, value)

    def check(view: memoryview, value: Any) -> None:
        code = view.format.lstrip("@=<")
        is_raw = code in _BYTES and (size == 1 or type(value).__name__ in _RAW)
        if not (wanted == "any" or is_raw or (view.itemsize == size and _KINDS.get(code) == wanted)):
            raise TypeError(
                f"{where}: the items of {type(value).__name__} are of format {view.format!r} ({view.itemsize} bytes), "
                f"those of `{kind.cname}` are {wanted}s of {size}"
            )
        fitting.add((type(value), view.format, view.itemsize))

    return accept


def _kind_of(ffi: Any, item: Any) -> str:
    if item.cname in _FLOATS:
        return "float"
    if item.cname == "_Bool":
        return "bool"
    if item.cname in ("char", "wchar_t", "char16_t", "char32_t"):
        return "character"
    return "integer" if int(ffi.cast(item, -1)) < 0 else "unsigned integer"
