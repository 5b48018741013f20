"""One ELF64 x86-64 file, read with ``struct``: section headers, symbols, relocations.

This is the hot path of every edit: a general ELF library takes 25 to 50 times longer over the same object and
stops at the relocations of thread-local variables in debug sections. Tests hold it against pyelftools.

    bytes ──▶ ElfFile ──▶ sections   [Section]          by index and by name
                     ├──▶ symbols    [Symbol]           of .symtab
                     └──▶ relocations(i) [Relocation]   that apply to section i

Numbers are those of the System V ABI, AMD64 supplement.
"""

from __future__ import annotations

import os
import struct
from contextlib import contextmanager
from functools import cached_property
from typing import Iterator, NamedTuple, Union

from hotreload.errors import BuildError

__all__ = ["ElfFile", "Relocation", "Section", "Segment", "Symbol"]

HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
SECTION_HEADER = struct.Struct("<IIQQQQIIQQ")
PROGRAM_HEADER = struct.Struct("<IIQQQQQQ")
SYMBOL = struct.Struct("<IBBHQQ")
RELA = struct.Struct("<QQq")
DYNAMIC = struct.Struct("<qQ")

ET_REL, ET_DYN = 1, 3
EM_X86_64 = 62

SHT_NULL = 0
SHT_PROGBITS, SHT_SYMTAB, SHT_STRTAB, SHT_RELA, SHT_NOTE, SHT_NOBITS, SHT_DYNSYM = 1, 2, 3, 4, 7, 8, 11
SHT_GROUP, SHT_SYMTAB_SHNDX = 17, 18
SHF_WRITE, SHF_ALLOC, SHF_EXECINSTR, SHF_MERGE, SHF_STRINGS, SHF_TLS = 0x1, 0x2, 0x4, 0x10, 0x20, 0x400
SHF_EXCLUDE = 0x80000000
SHN_UNDEF, SHN_LORESERVE, SHN_ABS, SHN_COMMON, SHN_XINDEX = 0, 0xFF00, 0xFFF1, 0xFFF2, 0xFFFF

STB_LOCAL, STB_GLOBAL, STB_WEAK = 0, 1, 2
STT_NOTYPE, STT_OBJECT, STT_FUNC, STT_SECTION, STT_FILE, STT_TLS, STT_GNU_IFUNC = 0, 1, 2, 3, 4, 6, 10
STV_DEFAULT, STV_HIDDEN, STV_PROTECTED = 0, 2, 3

PT_LOAD, PT_DYNAMIC, PT_NOTE, PT_TLS, PT_GNU_RELRO = 1, 2, 4, 7, 0x6474E552
DT_NEEDED, DT_FLAGS = 1, 30
DF_STATIC_TLS = 0x10


class R:
    """The x86-64 relocation types that are met here."""

    NONE = 0
    ABS64 = 1
    PC32 = 2
    GOT32 = 3
    PLT32 = 4
    GLOB_DAT = 6
    JUMP_SLOT = 7
    RELATIVE = 8
    GOTPCREL = 9
    ABS32 = 10
    ABS32S = 11
    DTPMOD64 = 16
    DTPOFF64 = 17
    TPOFF64 = 18
    TLSGD = 19
    TLSLD = 20
    DTPOFF32 = 21
    GOTTPOFF = 22
    TPOFF32 = 23
    PC64 = 24
    GOTOFF64 = 25
    GOTPC32 = 26
    GOTPC32_TLSDESC = 34
    TLSDESC_CALL = 35
    TLSDESC = 36
    IRELATIVE = 37
    GOTPCRELX = 41
    REX_GOTPCRELX = 42


class Section(NamedTuple):
    """A section header, its name resolved."""

    number: int
    name: str
    type: int
    flags: int
    addr: int
    offset: int
    size: int
    link: int
    info: int
    align: int
    entsize: int


class Symbol(NamedTuple):
    """An entry of a symbol table, its name and its extended section index resolved."""

    number: int
    name: str
    value: int
    size: int
    type: int
    bind: int
    visibility: int
    section: int


class Relocation(NamedTuple):
    """An entry of a RELA table; ``symbol`` is an index into the symbol table."""

    offset: int
    type: int
    symbol: int
    addend: int


class Segment(NamedTuple):
    """A program header."""

    type: int
    flags: int
    offset: int
    vaddr: int
    file_len: int
    mem_len: int


class ElfFile:
    """A relocatable object or shared library in memory; nothing is parsed before it is asked for.

    Raises:
        BuildError: the bytes are not an ELF64 x86-64 file, or its headers point outside it.
    """

    def __init__(self, data: Union[bytes, bytearray], path: str = "<memory>") -> None:
        self.data = bytes(data)
        self.path = path
        if len(self.data) < HEADER.size or self.data[:6] != b"\x7fELF\x02\x01":
            raise BuildError(f"{path}: not a 64-bit little-endian ELF file")
        header = HEADER.unpack_from(self.data)
        self.type, machine = header[1], header[2]
        if machine != EM_X86_64:
            raise BuildError(f"{path}: made for machine {machine}, not x86-64")
        self._phoff, self._shoff = header[5], header[6]
        self._phnum, self._shnum, self._shstrndx = header[10], header[12], header[13]

    @classmethod
    def read(cls, path: Union[str, os.PathLike[str]]) -> ElfFile:
        """The file at ``path``."""
        with open(path, "rb") as file:
            return cls(file.read(), os.fspath(path))

    @cached_property
    def sections(self) -> list[Section]:
        if not self._shoff:
            return []
        try:
            first = SECTION_HEADER.unpack_from(self.data, self._shoff)
            count = self._shnum or first[5]  # a file of 65,280 sections and more says so in section 0
            names_index = first[6] if self._shstrndx == SHN_XINDEX else self._shstrndx
            raw = [SECTION_HEADER.unpack_from(self.data, self._shoff + i * SECTION_HEADER.size) for i in range(count)]
            names = self._slice(raw[names_index][4], raw[names_index][5])
        except (struct.error, IndexError) as error:
            raise BuildError(f"{self.path}: its section headers point outside the file") from error
        return [
            Section(i, _string(names, h[0]), h[1], h[2], h[3], h[4], h[5], h[6], h[7], h[8], h[9])
            for i, h in enumerate(raw)
        ]

    @cached_property
    def _by_name(self) -> dict[str, Section]:
        found: dict[str, Section] = {}
        for section in self.sections:
            found.setdefault(section.name, section)
        return found

    def section(self, name: str) -> Union[Section, None]:
        """The first section of that name."""
        return self._by_name.get(name)

    def content(self, section: Section) -> bytes:
        """The bytes of ``section`` in the file; none for ``.bss``."""
        return b"" if section.type == SHT_NOBITS else self._slice(section.offset, section.size)

    @cached_property
    def symbols(self) -> list[Symbol]:
        """``.symtab``; empty where the file was stripped."""
        table = next((s for s in self.sections if s.type == SHT_SYMTAB), None)
        return self._symbols(table) if table else []

    @cached_property
    def dynamic_symbols(self) -> list[Symbol]:
        """``.dynsym``."""
        table = next((s for s in self.sections if s.type == SHT_DYNSYM), None)
        return self._symbols(table) if table else []

    @contextmanager
    def refusing(self, what: str) -> Iterator[None]:
        """Makes one error of all that reading nonsense leads to: BuildError, naming ``what`` it was met in."""
        try:
            yield
        except (struct.error, IndexError, KeyError, ValueError, RecursionError) as error:
            raise BuildError(f"{self.path}: its {what} cannot be read", hint="compile it again") from error

    def _symbols(self, table: Section) -> list[Symbol]:
        with self.refusing("symbol table"):
            return self._read_symbols(table)

    def _read_symbols(self, table: Section) -> list[Symbol]:
        names = self.content(self.sections[table.link])
        count = len(self.sections)
        extended: tuple[int, ...] = ()
        for section in self.sections:
            if section.type == SHT_SYMTAB_SHNDX and section.link == table.number:
                extended = tuple(x[0] for x in struct.iter_unpack("<I", self.content(section)))
        symbols = []
        for i, (name, info, other, index, value, size) in enumerate(SYMBOL.iter_unpack(self.content(table))):
            if index == SHN_XINDEX and extended:
                index = extended[i]
            elif SHN_LORESERVE > index >= count:
                raise ValueError(index)
            symbols.append(Symbol(i, _string(names, name), value, size, info & 15, info >> 4, other & 3, index))
        return symbols

    @cached_property
    def _relocation_sections(self) -> dict[int, Section]:
        return {s.info: s for s in self.sections if s.type == SHT_RELA and s.info}

    def relocation_section(self, index: int) -> Union[Section, None]:
        """The RELA section that applies to section ``index``."""
        return self._relocation_sections.get(index)

    def relocations(self, index: int) -> list[Relocation]:
        """The relocations that apply to section ``index``, in the order of the file."""
        table = self._relocation_sections.get(index)
        return self.relocations_in(table) if table else []

    def relocations_in(self, table: Section) -> list[Relocation]:
        """The entries of a RELA section."""
        with self.refusing("relocations"):
            found = [
                Relocation(offset, info & 0xFFFFFFFF, info >> 32, addend)
                for offset, info, addend in RELA.iter_unpack(self.content(table))
            ]
            if found and max(r.symbol for r in found) * SYMBOL.size > self.sections[table.link].size - SYMBOL.size:
                raise ValueError("relocations for symbols that are not there")
            return found

    @cached_property
    def segments(self) -> list[Segment]:
        """The program headers."""
        found = []
        with self.refusing("program headers"):
            for i in range(self._phnum):
                kind, flags, offset, vaddr, _, file_len, mem_len, _ = PROGRAM_HEADER.unpack_from(
                    self.data, self._phoff + i * PROGRAM_HEADER.size
                )
                found.append(Segment(kind, flags, offset, vaddr, file_len, mem_len))
        return found

    @cached_property
    def dynamic(self) -> list[tuple[int, int]]:
        """The entries of ``.dynamic`` up to its end mark."""
        section = self.section(".dynamic")
        with self.refusing("dynamic section"):
            entries = list(DYNAMIC.iter_unpack(self.content(section))) if section else []
        return [(tag, value) for tag, value in entries if tag]

    def needed(self) -> list[str]:
        """The libraries that the file asks the loader for."""
        names = self.section(".dynstr")
        text = self.content(names) if names else b""
        return [_string(text, value) for tag, value in self.dynamic if tag == DT_NEEDED]

    @cached_property
    def build_id(self) -> bytes:
        """The GNU build-id; empty where there is none."""
        note = self.section(".note.gnu.build-id")
        if note is None:
            return b""
        content = self.content(note)
        with self.refusing("build-id"):
            name_len, id_len, _ = struct.unpack_from("<III", content)
        start = 12 + (name_len + 3) // 4 * 4
        return content[start : start + id_len]

    @cached_property
    def compiler(self) -> str:
        """What the compilers wrote into ``.comment``, each once."""
        comment = self.section(".comment")
        parts = self.content(comment).split(b"\0") if comment else []
        return "; ".join(dict.fromkeys(part.decode(errors="replace") for part in parts if part))

    def file_offset(self, address: int) -> int:
        """Where the byte that is mapped at ``address`` stands in the file."""
        for segment in self.segments:
            if segment.type == PT_LOAD and segment.vaddr <= address < segment.vaddr + segment.file_len:
                return address - segment.vaddr + segment.offset
        raise BuildError(f"{self.path}: address {address:#x} is in no loaded segment of the file")

    def _slice(self, offset: int, size: int) -> bytes:
        if offset + size > len(self.data):
            raise BuildError(f"{self.path}: truncated: {offset + size} bytes expected, {len(self.data)} there")
        return self.data[offset : offset + size]


def _string(table: bytes, offset: int) -> str:
    end = table.find(b"\0", offset)
    return table[offset:end].decode(errors="surrogateescape")
