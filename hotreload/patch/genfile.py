"""The section ``.hotreload.debug``: what the file of a generation has besides its image (``csrc/genfile.h``).

    head    ELF header and program headers: a byte of the image is at the offset that its address says
    tail    .debug_*, .symtab, section headers: what follows the image
    places  where the server adds an address: of the image, or of the base for a variable that lives there
    names   where it writes the number of the generation: `blur@hotreload.g3`

The number is known when the patch is staged, so the names that are linked have room for it. ``.symtab`` has both
names of a function: with `blur` alone `break blur` of a debugger finds the new code as well.
"""

from __future__ import annotations

import struct
from typing import Iterator

from hotreload.elf.file import (
    HEADER,
    PROGRAM_HEADER,
    PT_DYNAMIC,
    PT_LOAD,
    SECTION_HEADER,
    SHF_ALLOC,
    SHN_UNDEF,
    SHT_NOBITS,
    SHT_NOTE,
    SHT_PROGBITS,
    SHT_STRTAB,
    SHT_SYMTAB,
    STB_GLOBAL,
    STT_FUNC,
    SYMBOL,
    ElfFile,
)
from hotreload.patch.debug import MANGLED_MARK, MARK, NUMBER_ROOM, ROOM, DebugField, with_room

__all__ = ["PART", "PLACE", "SECTION", "to_debug_part"]

SECTION = ".hotreload.debug"
MAGIC = b"HRDEBUG1"
PART = struct.Struct("<8sQQIIIIQ")
PLACE = struct.Struct("<QII")
_NAME = struct.Struct("<Q")
_IN_IMAGE, _IN_BASE = 1, 2
_BUILD_ID_LEN = 20
_NOTE_LEN = 16  # the note's header, and the name in it: "GNU"
_PT_NULL = 0


def to_debug_part(elf: ElfFile, image_len: int, fields: list[DebugField]) -> bytes:
    """The content of ``.hotreload.debug`` for a linked patch; empty when that has nothing to tell."""
    note = next((s for s in elf.sections if s.type == SHT_NOTE and s.name == ".note.gnu.build-id"), None)
    if note is None or note.size != _NOTE_LEN + _BUILD_ID_LEN:
        return b""
    maker = _FileMaker(elf, image_len)
    maker.add_debug(fields)
    maker.add_symbols()
    maker.finish()
    names = [*_find_all(bytes(maker.tail), f"{MARK}{ROOM}"), *_find_all(bytes(maker.tail), f"{MANGLED_MARK}{ROOM}")]
    places = b"".join(PLACE.pack(where, kind, 0) for where, kind in maker.places)
    numbers = b"".join(_NAME.pack(image_len + at) for at in names)
    tail = bytes(maker.tail) + bytes(-len(maker.tail) % 8)
    header = PART.pack(
        *(MAGIC, PART.size + len(maker.head) + len(places) + len(numbers) + len(tail), len(tail)),
        *(len(maker.head), len(maker.places), len(names), 0, note.addr + _NOTE_LEN),
    )
    return header + bytes(maker.head) + places + numbers + tail


class _FileMaker:
    """Lays out the file of a generation around its image."""

    def __init__(self, elf: ElfFile, image_len: int) -> None:
        self._elf, self._image_len = elf, image_len
        self.tail = bytearray()
        self.places: list[tuple[int, int]] = []
        self._names = bytearray(b"\0")
        self._headers = [bytes(SECTION_HEADER.size)]
        self._indices: dict[int, int] = {}  # section of the linked library: section here
        self.head = self._make_head()
        for section in elf.sections:
            if section.flags & SHF_ALLOC and section.size:
                self._indices[section.number] = len(self._headers)
                # What only a loader reads is bytes here: a tool is not to follow it.
                kind = section.type if section.type in (SHT_NOTE, SHT_NOBITS) else SHT_PROGBITS
                self._add_header(section.name, kind, section.addr, section.size, flags=section.flags & 7,
                                 address=section.addr, align=section.align)  # fmt: skip

    def _make_head(self) -> bytearray:
        """Program headers by which a file offset is an address less that of the image."""
        head = bytearray(self._elf.data[: HEADER.size + PROGRAM_HEADER.size * len(self._elf.segments)])
        for index in range(len(self._elf.segments)):
            at = HEADER.size + PROGRAM_HEADER.size * index
            kind, flags, _, address, _, file_len, mem_len, align = PROGRAM_HEADER.unpack_from(head, at)
            if kind == PT_DYNAMIC:
                kind = _PT_NULL
            if kind == PT_LOAD:
                file_len = mem_len
            PROGRAM_HEADER.pack_into(head, at, kind, flags, address, address, address, file_len, mem_len, align)
            self.places += [(at + 16, _IN_IMAGE), (at + 24, _IN_IMAGE)]
        return head

    def _add_header(self, name: str, kind: int, offset: int, size: int, *, flags: int = 0, address: int = 0,
                    link: int = 0, info: int = 0, align: int = 1, entsize: int = 0) -> None:  # fmt: skip
        self._headers.append(
            SECTION_HEADER.pack(len(self._names), kind, flags, address, offset, size, link, info, align, entsize)
        )
        self._names += name.encode() + b"\0"

    def _append(self, content: bytes) -> int:
        """Add to the tail; returns the offset in the file."""
        self.tail += bytes(-len(self.tail) % 8)
        offset = self._image_len + len(self.tail)
        self.tail += content
        return offset

    def add_debug(self, fields: list[DebugField]) -> None:
        """The debug sections, and the places of the addresses that they hold."""
        starts: dict[int, int] = {}
        contents: dict[int, bytearray] = {}
        for section in self._elf.sections:
            if section.name.startswith(".debug_") and section.size:
                contents[section.number] = bytearray(self._elf.content(section))
        markers = {s.name: s for s in self._elf.symbols if s.section in contents}
        found = []
        for field in fields:
            marker = markers.get(field.marker)
            if marker is None:
                continue
            content, at = contents[marker.section], marker.value + field.offset
            if field.place is not None:
                if not field.place.is_thread_local:
                    struct.pack_into("<Q", content, at, field.place.offset)
                    found.append((marker.section, at, _IN_BASE))
            elif struct.unpack_from("<Q", content, at)[0] > 1:  # 0 or 1 is how ld says that it is left out
                found.append((marker.section, at, _IN_IMAGE))
        for section in self._elf.sections:
            if section.number in contents:
                starts[section.number] = offset = self._append(bytes(contents[section.number]))
                self._add_header(section.name, SHT_PROGBITS, offset, section.size, flags=section.flags & ~SHF_ALLOC,
                                 align=section.align, entsize=section.entsize)  # fmt: skip
        self.places += [(starts[section] + at, kind) for section, at, kind in found]

    def add_symbols(self) -> None:
        """A symbol table of the functions, each with its generation and without."""
        names = bytearray(b"\0")
        entries = bytearray(SYMBOL.size)
        homes: list[int] = []
        for symbol in self._elf.symbols:
            is_code = symbol.type == STT_FUNC and symbol.section != SHN_UNDEF and symbol.section in self._indices
            if not is_code or symbol.name.startswith("hr."):
                continue
            for name in (with_room(symbol.name), symbol.name):
                homes.append(len(entries) + 8)
                entries += SYMBOL.pack(len(names), STB_GLOBAL << 4 | STT_FUNC, 0, self._indices[symbol.section],
                                       symbol.value, symbol.size)  # fmt: skip
                names += name.encode() + b"\0"
        offset = self._append(bytes(entries))
        self.places += [(offset + home, _IN_IMAGE) for home in homes]
        number = len(self._headers)
        self._add_header(".symtab", SHT_SYMTAB, offset, len(entries), link=number + 1, info=1, align=8,
                         entsize=SYMBOL.size)  # fmt: skip
        self._add_header(".strtab", SHT_STRTAB, self._append(bytes(names)), len(names))

    def finish(self) -> None:
        """Section names and headers, and where the ELF header finds them."""
        number = len(self._headers)
        size = len(self._names) + len(".shstrtab") + 1
        names_at = self._append(bytes(size))
        self._add_header(".shstrtab", SHT_STRTAB, names_at, size)
        self.tail[names_at - self._image_len : names_at - self._image_len + size] = self._names
        start = self._append(b"".join(self._headers))
        self.places += [(start + i * SECTION_HEADER.size + 16, _IN_IMAGE) for i in sorted(self._indices.values())]
        struct.pack_into("<Q", self.head, 40, start)  # e_shoff
        struct.pack_into("<HH", self.head, 60, len(self._headers), number)  # e_shnum, e_shstrndx


def _find_all(data: bytes, text: str) -> Iterator[int]:
    """Where the room for a number begins behind each of these marks."""
    word = text.encode()
    at = data.find(word)
    while at >= 0:
        yield at + len(word) - NUMBER_ROOM
        at = data.find(word, at + len(word))
