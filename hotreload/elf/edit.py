"""Changing an ELF file without moving what is in it: bytes in place, new content at the end.

    before   | header | sections ...                        | section headers |
    after    | header | sections ... (old headers: unused)  | new content ... | section headers |

Nothing that has an address moves, so a linked library stays valid; only the section headers, which no
loader reads, are written anew behind everything else.
"""

from __future__ import annotations

import struct

from hotreload.elf.file import (
    HEADER,
    SECTION_HEADER,
    SHN_LORESERVE,
    SHT_NOBITS,
    SHT_NULL,
    SHT_PROGBITS,
    ElfFile,
    Section,
)
from hotreload.errors import BuildError

__all__ = ["Editor"]


class Editor:
    """A copy of ``elf`` to be changed; :meth:`to_bytes` gives the result.

    Raises:
        BuildError: from :meth:`to_bytes`, when the file has more sections than the plain format can number.
    """

    def __init__(self, elf: ElfFile) -> None:
        self._elf = elf
        self._data = bytearray(elf.data)
        self._sections = list(elf.sections)

    def write(self, offset: int, content: bytes) -> None:
        """Overwrite the bytes at ``offset`` of the file."""
        self._data[offset : offset + len(content)] = content

    def set_align(self, index: int, align: int) -> None:
        """Give section ``index`` another alignment."""
        self._sections[index] = self._sections[index]._replace(align=align)

    def add_flags(self, index: int, flags: int) -> None:
        """Set more flags on section ``index``."""
        self._sections[index] = self._sections[index]._replace(flags=self._sections[index].flags | flags)

    def replace(self, index: int, content: bytes, *, name: str = "") -> None:
        """Give section ``index`` other content, and another name where one is given."""
        old = self._sections[index]
        offset = self._append(content, max(old.align, 1))
        self._sections[index] = old._replace(name=name or old.name, offset=offset, size=len(content))

    def extend(self, index: int, content: bytes) -> int:
        """Put more behind what section ``index`` holds by now; the offset in the section is returned."""
        old = self._sections[index]
        self.replace(index, bytes(self._data[old.offset : old.offset + old.size]) + content)
        return old.size

    def add(self, name: str, content: bytes) -> int:
        """Add a section that is not loaded; its index is returned."""
        offset = self._append(content, 8)
        index = len(self._sections)
        self._sections.append(Section(index, name, SHT_PROGBITS, 0, 0, offset, len(content), 0, 0, 1, 0))
        return index

    def cut(self, indices: set[int]) -> None:
        """Leave out what these sections hold, and what no section holds behind the first of them.

        They keep their numbers. Nothing that is loaded may lie behind them: what a linker makes is so.
        """
        start = min((self._sections[index].offset for index in indices), default=len(self._data))
        behind = [s for s in self._sections if s.offset >= start and s.size and s.type not in (SHT_NULL, SHT_NOBITS)]
        contents = {s.number: bytes(self._data[s.offset : s.offset + s.size]) for s in behind}
        del self._data[start:]
        for section in behind:
            if section.number in indices:
                self._sections[section.number] = section._replace(offset=0, size=0)
            else:
                offset = self._append(contents[section.number], max(section.align, 1))
                self._sections[section.number] = section._replace(offset=offset)

    def to_bytes(self) -> bytes:
        """The changed file."""
        if len(self._sections) >= SHN_LORESERVE:
            raise BuildError(
                f"{self._elf.path}: {len(self._sections)} sections, more than this format holds",
                hint="split the source file",
            )
        names_index = HEADER.unpack_from(self._elf.data)[13]
        old = self._sections[names_index]
        names = self._data[old.offset : old.offset + old.size]  # kept: clang has the names of symbols there too
        offsets: dict[str, int] = {}
        for section in self._sections:
            if section.name not in offsets:
                offsets[section.name] = len(names)
                names += section.name.encode(errors="surrogateescape") + b"\0"
        self.replace(names_index, bytes(names))
        table = b"".join(
            SECTION_HEADER.pack(
                offsets[s.name], s.type, s.flags, s.addr, s.offset, s.size, s.link, s.info, s.align, s.entsize
            )
            for s in self._sections
        )
        shoff = self._append(table, 8)
        struct.pack_into("<Q", self._data, 40, shoff)  # e_shoff
        struct.pack_into("<H", self._data, 60, len(self._sections))  # e_shnum
        return bytes(self._data)

    def _append(self, content: bytes, align: int) -> int:
        self._data += bytes(-len(self._data) % align)
        offset = len(self._data)
        self._data += content
        return offset
