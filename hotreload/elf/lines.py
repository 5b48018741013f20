"""The file table of a line program: what the numbers in DW_AT_decl_file stand for (DWARF 5, section 6.2.4).

Only the header of the program is read; the lines themselves are nobody's business here.
"""

from __future__ import annotations

import os
from typing import Iterator

from hotreload.elf.file import ElfFile

__all__ = ["LineTable"]

CONTENT_PATH = 1
FORM_BLOCK, FORM_STRING, FORM_STRP, FORM_UDATA, FORM_LINE_STRP = 0x09, 0x08, 0x0E, 0x0F, 0x1F
FIXED = {0x0B: 1, 0x05: 2, 0x06: 4, 0x07: 8, 0x1E: 16}  # data1, data2, data4, data8, data16


class LineTable:
    """``.debug_line`` of one relocatable object."""

    def __init__(self, elf: ElfFile) -> None:
        section = elf.section(".debug_line")
        self._data = elf.content(section) if section else b""
        found = elf.relocations(section.number) if section else []
        self._relocations = {r.offset: elf.symbols[r.symbol].value + r.addend for r in found}
        tables = {FORM_STRP: elf.section(".debug_str"), FORM_LINE_STRP: elf.section(".debug_line_str")}
        self._strings = {form: elf.content(table) if table else b"" for form, table in tables.items()}
        self._position = 0

    def file_names(self, offset: int) -> list[str]:
        """The file names, without directories, of the program at ``offset``, by their numbers."""
        self._position = offset + 4
        version = self._number(2)
        self._position += 2 + 4 if version >= 5 else 4  # sizes of addresses and segments; length of the header
        self._position += 5 if version >= 4 else 4  # how the program is encoded
        opcodes = self._number(1)
        self._position += opcodes - 1
        names = self._entries() if version >= 5 else ["", *self._old_entries()]
        return [os.path.basename(name) for name in names]

    def _entries(self) -> list[str]:
        """DWARF 5: directories and files are described, then listed, in the same way."""
        self._listed()
        return self._listed()

    def _listed(self) -> list[str]:
        columns = [(self._uleb(), self._uleb()) for _ in range(self._number(1))]
        names = []
        for _ in range(self._uleb()):
            for content, form in columns:
                text = self._value(form)
                if content == CONTENT_PATH:
                    names.append(text)
        return names

    def _old_entries(self) -> Iterator[str]:
        while self._text():
            pass  # directories
        name = self._text()
        while name:
            yield name
            for _ in range(3):  # directory, time, size
                self._uleb()
            name = self._text()

    def _value(self, form: int) -> str:
        """The text at the position, which moves on; empty where there is something else."""
        if form == FORM_STRING:
            return self._text()
        if form in self._strings:
            at = self._relocations.get(self._position)
            number = self._number(4)
            return _text_at(self._strings[form], number if at is None else at)
        if form == FORM_UDATA:
            self._uleb()
        elif form == FORM_BLOCK:
            size = self._uleb()
            self._position += size
        else:
            self._position += FIXED[form]
        return ""

    def _number(self, size: int) -> int:
        self._position += size
        return int.from_bytes(self._data[self._position - size : self._position], "little")

    def _uleb(self) -> int:
        value = shift = 0
        while True:
            byte = self._data[self._position]
            self._position += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    def _text(self) -> str:
        text = _text_at(self._data, self._position)
        self._position = self._data.index(b"\0", self._position) + 1
        return text


def _text_at(table: bytes, offset: int) -> str:
    return table[offset : table.index(b"\0", offset)].decode(errors="surrogateescape")
