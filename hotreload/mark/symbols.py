"""The name of the C function at an address: the library's whole symbol table is on disk, static functions and all.

``dladdr`` knows exported ones only, which the functions of an extension are not.
"""

from __future__ import annotations

import struct
from functools import lru_cache

__all__ = ["symbol_at", "symbol_of"]

_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_SECTION = struct.Struct("<IIQQQQIIQQ")
_SYMBOL = struct.Struct("<IBBHQQ")
_SYMTAB, _FUNCTION = 2, 2


def symbol_of(address: int) -> str:
    """The symbol of the function that begins at an address of this process; empty when that is not known."""
    from hotreload._state import locate

    path, base, name, start, _ = locate(address)
    return symbol_at(path, address - base) or (name if start == address else "")


def symbol_at(path: str, offset: int) -> str:
    """The symbol of the function that begins ``offset`` bytes into the library; empty when that is not known."""
    return _functions(path).get(offset, "")


@lru_cache(maxsize=16)
def _functions(path: str) -> dict[int, str]:
    found: dict[int, str] = {}
    try:
        with open(path, "rb") as file:
            data = file.read()
        header = _HEADER.unpack_from(data)
        sections = [_SECTION.unpack_from(data, header[6] + i * _SECTION.size) for i in range(header[12])]
        for section in sections:
            if section[1] != _SYMTAB:
                continue
            names = sections[section[6]][4]
            for name, info, _, defined, value, _ in _SYMBOL.iter_unpack(data[section[4] : section[4] + section[5]]):
                if info & 15 == _FUNCTION and defined:
                    start = names + name
                    found.setdefault(value, data[start : data.index(b"\0", start)].decode("utf-8", "backslashreplace"))
    except (OSError, struct.error, IndexError, ValueError):
        return {}
    return found
