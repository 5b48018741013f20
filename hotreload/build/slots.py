"""Slots: the 8 bytes of data through which an entry jumps where its text is never to be written.

The hot link gets one more object, made here, with a slot for each hot function::

    .hotreload.slots     page-aligned, whole pages   slot 0 │ slot 1 │ ... │ zeros to the end of the page
    .rela                each slot gets its own address: in a library that is one R_X86_64_RELATIVE for each
    .note.hotreload      how far it is from here to the slots, and their bytes: the server finds them in memory

and after the link each slot that is taken gets another addend, "entry + 8", and its entry becomes a jump through it.
A slot that nobody takes goes on holding its own address, and nothing reads it.

The section is whole pages, so that it can be made read-only; it is an ordinary section of data, so that no linker takes
it into RELRO. What keeps both from ``--gc-sections``, in every linker, is that the link asks by ``-u`` for
the symbol of the note; it is hidden, so version scripts and other libraries have no part in it.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from hotreload.elf.file import (
    EM_X86_64,
    ET_REL,
    HEADER,
    RELA,
    SECTION_HEADER,
    SHF_ALLOC,
    SHF_WRITE,
    SHT_NOTE,
    SHT_PROGBITS,
    SHT_RELA,
    SHT_STRTAB,
    SHT_SYMTAB,
    STB_GLOBAL,
    STB_LOCAL,
    STT_OBJECT,
    STT_SECTION,
    STV_DEFAULT,
    STV_HIDDEN,
    SYMBOL,
    ElfFile,
    R,
)

__all__ = ["KEPT_BY", "SECTION", "SLOT", "Slots", "encode_entry", "make_empty_object", "make_object", "slot_of"]

SECTION = ".hotreload.slots"
SYMBOL_NAME = "hotreload.slots"  # no C identifier has a dot
KEPT_BY = ["-Wl,-u,hotreload.slots"]
SLOT, PAGE = 8, 4096
NOTE_HEADER = struct.pack("<III12s", 10, 16, 1, b"hotreload")  # bytes of its name and content, type, name
SHF_INFO_LINK = 0x40


class Slots:
    """The slots of a linked library, taken one after the other."""

    def __init__(self, elf: ElfFile) -> None:
        section = elf.section(SECTION)
        self._addresses = range(section.addr, section.addr + section.size, SLOT) if section else range(0)
        self._fields = _relative_addends(elf, self._addresses)
        self._taken = 0

    def take(self) -> tuple[int, int] | None:
        """The address of the next slot and where in the file its addend stands; None when there is none left."""
        while self._taken < len(self._addresses):
            address = self._addresses[self._taken]
            self._taken += 1
            if address in self._fields:
                return address, self._fields[address]
        return None

    def __contains__(self, address: object) -> bool:
        return address in self._addresses


def _relative_addends(elf: ElfFile, addresses: range) -> dict[int, int]:
    table = elf.section(".rela.dyn")
    relocations = elf.relocations_in(table) if table and addresses else []
    return {
        relocation.offset: table.offset + i * RELA.size + 16
        for i, relocation in enumerate(relocations)
        if table and relocation.type == R.RELATIVE and relocation.offset in addresses
    }


def make_object(count: int) -> bytes:
    """A relocatable object with at least ``count`` slots, of which ``count`` hold their own address, and their note."""
    size = _whole_pages(count)
    note = NOTE_HEADER + struct.pack("<qQ", 0, size)
    own_addresses = b"".join(RELA.pack(i * SLOT, 1 << 32 | R.ABS64, i * SLOT) for i in range(count))
    to_slots = RELA.pack(len(NOTE_HEADER), 1 << 32 | R.PC64, 0)
    parts = [
        _Part(SECTION, SHT_PROGBITS, SHF_ALLOC | SHF_WRITE, PAGE, bytes(size), own_addresses),
        _Part(".note.hotreload", SHT_NOTE, SHF_ALLOC, 4, note, to_slots),
    ]
    return _object(parts, _Exported(SYMBOL_NAME, STV_HIDDEN, 2, len(note)))


def make_empty_object(count: int, symbol: str) -> bytes:
    """A relocatable object with at least ``count`` slots of zeros, which are exported as ``symbol``."""
    size = _whole_pages(count)
    parts = [_Part(SECTION, SHT_PROGBITS, SHF_ALLOC | SHF_WRITE, PAGE, bytes(size), b"")]
    return _object(parts, _Exported(symbol, STV_DEFAULT, 1, size))


def _whole_pages(count: int) -> int:
    return max(1, -(-count * SLOT // PAGE)) * PAGE


class _Part(NamedTuple):
    """A section and the relocations that apply to it."""

    name: str
    type: int
    flags: int
    align: int
    content: bytes
    relocations: bytes


class _Exported(NamedTuple):
    """The global symbol of an object, at the begin of a section."""

    name: str
    visibility: int
    section: int
    size: int


def _object(parts: list[_Part], exported: _Exported) -> bytes:
    """A relocatable object; in it symbol 1 is the first section."""
    symbol_names, (_, name) = _strings(["", exported.name])
    symbols = [
        SYMBOL.pack(0, 0, 0, 0, 0, 0),
        SYMBOL.pack(0, STB_LOCAL << 4 | STT_SECTION, 0, 1, 0, 0),
        SYMBOL.pack(name, STB_GLOBAL << 4 | STT_OBJECT, exported.visibility, exported.section, 0, exported.size),
    ]
    relocated = [(i, part) for i, part in enumerate(parts, 1) if part.relocations]
    table = len(parts) + len(relocated) + 1
    sections: list[tuple[str, int, int, int, int, int, int, bytes]] = [  # link, info, align, entsize before the content
        *((part.name, part.type, part.flags, 0, 0, part.align, 0, part.content) for part in parts),
        *(
            (f".rela{part.name}", SHT_RELA, SHF_INFO_LINK, table, i, 8, RELA.size, part.relocations)
            for i, part in relocated
        ),
        (".symtab", SHT_SYMTAB, 0, table + 1, 2, 8, SYMBOL.size, b"".join(symbols)),
        (".strtab", SHT_STRTAB, 0, 0, 0, 1, 0, symbol_names),
        (".note.GNU-stack", SHT_PROGBITS, 0, 0, 0, 1, 0, b""),  # no executable stack is asked for
    ]
    names, offsets = _strings(["", *(section[0] for section in sections), ".shstrtab"])
    sections.append((".shstrtab", SHT_STRTAB, 0, 0, 0, 1, 0, names))
    data = bytearray(HEADER.size)
    headers = [SECTION_HEADER.pack(*bytes(10))]
    for offset, (_, kind, flags, link, info, align, entsize, content) in zip(offsets[1:], sections):
        data += bytes(-len(data) % align)
        headers.append(SECTION_HEADER.pack(offset, kind, flags, 0, len(data), len(content), link, info, align, entsize))
        data += content
    data += bytes(-len(data) % 8)
    ident = b"\x7fELF\x02\x01\x01" + bytes(9)
    shape = (HEADER.size, 0, 0, SECTION_HEADER.size, len(headers), len(headers) - 1)
    HEADER.pack_into(data, 0, ident, ET_REL, EM_X86_64, 1, 0, 0, len(data), 0, *shape)
    return bytes(data) + b"".join(headers)


def _strings(names: list[str]) -> tuple[bytes, list[int]]:
    """A string table, and where each name begins in it."""
    text, offsets = b"", []
    for name in names:
        offsets.append(len(text))
        text += name.encode() + b"\0"
    return text, offsets


def encode_entry(entry: int, slot: int) -> bytes:
    """``jmp *slot(%rip)`` and two int3 that nobody reaches."""
    return b"\xff\x25" + struct.pack("<i", slot - entry - 6) + b"\xcc\xcc"


def slot_of(entry: int, code: bytes) -> int | None:
    """The address that the 8 bytes at ``entry`` jump through; None when they do not have that form."""
    if code[:2] != b"\xff\x25" or code[6:8] != b"\xcc\xcc":
        return None
    return int(entry + 6 + struct.unpack_from("<i", code, 2)[0])
