"""Slots: the 8 bytes of data through which an entry jumps where its text is never to be written.

The hot link gets one more object, made here, with a slot for each hot function::

    .hotreload.slots     page-aligned, whole pages   slot 0 │ slot 1 │ ... │ zeros to the end of the page
    .rela                each slot gets its own address: in a library that is one R_X86_64_RELATIVE for each

and after the link each slot that is taken gets another addend, "entry + 8", and its entry becomes a jump through it.
A slot that nobody takes goes on holding its own address, and nothing reads it.

The section is whole pages, so that it can be made read-only, and an ordinary section of data, so that no linker takes
it into RELRO. What keeps it from ``--gc-sections``, in every linker, is that the link asks for its symbol by ``-u``;
the symbol is hidden, so version scripts and other libraries have no part in it.
"""

from __future__ import annotations

import struct

from hotreload.elf.file import (
    EM_X86_64,
    ET_REL,
    HEADER,
    RELA,
    SECTION_HEADER,
    SHF_ALLOC,
    SHF_WRITE,
    SHT_PROGBITS,
    SHT_RELA,
    SHT_STRTAB,
    SHT_SYMTAB,
    STB_GLOBAL,
    STB_LOCAL,
    STT_OBJECT,
    STT_SECTION,
    STV_HIDDEN,
    SYMBOL,
    ElfFile,
    R,
)

__all__ = ["KEPT_BY", "SECTION", "SLOT", "Slots", "encode_entry", "make_object", "slot_of"]

SECTION = ".hotreload.slots"
SYMBOL_NAME = "hotreload.slots"  # no C identifier has a dot
KEPT_BY = ["-Wl,-u,hotreload.slots"]
SLOT, PAGE = 8, 4096
SECTIONS = ["", SECTION, f".rela{SECTION}", ".symtab", ".strtab", ".shstrtab", ".note.GNU-stack"]
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


def make_object(count: int, *, symbol: str = SYMBOL_NAME, visibility: int = STV_HIDDEN, bound: bool = True) -> bytes:
    """A relocatable object with at least ``count`` slots.

    ``bound``: each slot has a relocation that makes it hold its own address; otherwise they are zeros.
    """
    size = max(1, -(-count * SLOT // PAGE)) * PAGE
    names, name_offsets = _strings(SECTIONS)
    symbol_names, (_, name) = _strings(["", symbol])
    symbols = [
        SYMBOL.pack(0, 0, 0, 0, 0, 0),
        SYMBOL.pack(0, STB_LOCAL << 4 | STT_SECTION, 0, 1, 0, 0),
        SYMBOL.pack(name, STB_GLOBAL << 4 | STT_OBJECT, visibility, 1, 0, size),
    ]
    relocations = [RELA.pack(i * SLOT, 1 << 32 | R.ABS64, i * SLOT) for i in range(count if bound else 0)]
    contents = [b"", bytes(size), b"".join(relocations), b"".join(symbols), symbol_names, names, b""]
    #         type          flags                  link info align entsize
    headers = [
        (0, 0, 0, 0, 0, 0),
        (SHT_PROGBITS, SHF_ALLOC | SHF_WRITE, 0, 0, PAGE, 0),
        (SHT_RELA, SHF_INFO_LINK, 3, 1, 8, RELA.size),
        (SHT_SYMTAB, 0, 4, 2, 8, SYMBOL.size),
        (SHT_STRTAB, 0, 0, 0, 1, 0),
        (SHT_STRTAB, 0, 0, 0, 1, 0),
        (SHT_PROGBITS, 0, 0, 0, 1, 0),  # no executable stack is asked for
    ]
    data = bytearray(HEADER.size)
    table = b""
    for content, offset, (kind, flags, link, info, align, entsize) in zip(contents, name_offsets, headers):
        data += bytes(-len(data) % max(align, 1)) if kind else b""
        at = len(data) if kind else 0
        table += SECTION_HEADER.pack(offset, kind, flags, 0, at, len(content), link, info, align, entsize)
        data += content
    data += bytes(-len(data) % 8)
    ident = b"\x7fELF\x02\x01\x01" + bytes(9)
    shape = (HEADER.size, 0, 0, SECTION_HEADER.size, len(SECTIONS), 5)
    HEADER.pack_into(data, 0, ident, ET_REL, EM_X86_64, 1, 0, 0, len(data), 0, *shape)
    return bytes(data) + table


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
