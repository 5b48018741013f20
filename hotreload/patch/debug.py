"""What tools are told of a patch: its lines, types and names, kept apart from what the server binds.

    fresh object    .debug_* of the whole unit ──▶ names of new functions marked, variables of the base taken from ld
          │ ld      what the link leaves out gets address 0, which every reader of DWARF knows as "not there"
          ▼
    .hotreload.debug (drawn in csrc/genfile.h)

        head    ELF header and program headers of the generation's file: a byte of the image is where its address says
        tail    .debug_*, .symtab, section headers: what follows the image in that file
        places  where the server adds an address: of the image, or of the base for a variable that lives there
        names   where it writes the number of the generation: `blur@hotreload.g3`

The number is known when the patch is staged, so the names that are linked have room for it. ``.symtab`` has both
names of a function: with `blur` alone `break blur` of a debugger finds the new code as well.
"""

from __future__ import annotations

import struct
from typing import Iterator, NamedTuple, Union

from hotreload.elf.debug import DebugInfo
from hotreload.elf.dwarf import AT_LINKAGE_NAME, AT_NAME, FORM_STRING, FORM_STRP, OP_ADDR, Die
from hotreload.elf.edit import Editor
from hotreload.elf.file import (
    HEADER,
    PROGRAM_HEADER,
    PT_DYNAMIC,
    PT_LOAD,
    RELA,
    SECTION_HEADER,
    SHF_ALLOC,
    SHF_EXECINSTR,
    SHN_UNDEF,
    SHT_NOBITS,
    SHT_NOTE,
    SHT_PROGBITS,
    SHT_STRTAB,
    SHT_SYMTAB,
    STB_GLOBAL,
    STT_FUNC,
    STT_SECTION,
    SYMBOL,
    ElfFile,
    R,
    Relocation,
    Section,
)
from hotreload.patch.base import Base, Place
from hotreload.patch.bind import UnitPlan
from hotreload.patch.respell import Tables

__all__ = ["SECTION", "DebugField", "debug_fields", "debug_sections", "mark_names", "to_debug_part"]

SECTION = ".hotreload.debug"
MAGIC = b"HRDEBUG1"
NUMBER_ROOM = 10
# gdb would take a number alone for a suffix of Ada and leave it out.
MARK, MANGLED_MARK = "@hotreload.g", ".hotreload."
_ROOM = "#" * NUMBER_ROOM
_BUILD_ID_LEN = 20
# The header's note, and the name in it: "GNU".
_NOTE_LEN = 16

_HEADER = struct.Struct("<8sQQIIIIQ")
_PLACE = struct.Struct("<QII")
_NAME = struct.Struct("<Q")
_IN_IMAGE, _IN_BASE = 1, 2
_PT_NULL = 0

# Where a thread-local is, as an offset in its library's block: of a library that the loader knows, which a generation
# is not. gdb would look in the block of the program, so it is told of a piece that is nowhere: <optimized out>.
_OP_CONST8U, _OPS_TLS = 0x0E, (0x9B, 0xE0)
_NOT_THERE = bytes([0x96] * 8 + [0x93, 0x01])


class DebugField(NamedTuple):
    """8 bytes of a debug section that hold an address: at ``offset`` of the part that ``marker`` names.

    ``place`` is what of the base it is the address of; None: the linker's answer counts, if it has one.
    """

    marker: str
    offset: int
    place: Union[Place, None]


def debug_sections(elf: ElfFile) -> Iterator[int]:
    """The debug sections of an object that hold addresses."""
    for section in elf.sections:
        if section.name.startswith(".debug_") and elf.relocation_section(section.number) is not None:
            yield section.number


def debug_fields(plan: UnitPlan, base: Base, editor: Editor, section: int, marker: str) -> list[DebugField]:
    """The addresses in one debug section; those of variables of the base are taken away from the linker."""
    elf = plan.graph.elf
    is_info = elf.sections[section].name == ".debug_info"
    info = plan.graph.debug.info
    relocations = plan.graph.debug.relocations.values() if is_info else elf.relocations(section)
    homes = _Homes(plan, base)
    table = elf.relocation_section(section)
    assert table is not None
    fields = []
    for index, relocation in enumerate(relocations):
        at = relocation.offset
        is_offset = is_info and relocation.type in (R.DTPOFF32, R.DTPOFF64)
        is_thread_local = is_offset and info[at - 1] == _OP_CONST8U and info[at + 8] in _OPS_TLS
        if is_thread_local:
            editor.write(elf.sections[section].offset + at - 1, _NOT_THERE)
        elif relocation.type != R.ABS64:
            continue
        place = homes.find(relocation) if is_info and info[at - 1] == OP_ADDR else None
        if place is not None or is_thread_local:
            editor.write(table.offset + index * RELA.size, RELA.pack(at, R.NONE, 0))
        if not is_thread_local:
            fields.append(DebugField(marker, at, place))
    return fields


class _Homes:
    """Where variables that a unit's debug information speaks of live in the base."""

    def __init__(self, plan: UnitPlan, base: Base) -> None:
        self._unit, self._graph, self._base = plan.unit, plan.graph, base
        self._words = {section: name for name, section in plan.graph.variables.items()}

    def find(self, relocation: Relocation) -> Union[Place, None]:
        """The place in the base, or None: code, something new, or something that the base has not."""
        symbol = self._graph.elf.symbols[relocation.symbol]
        if 0 < symbol.section < len(self._graph.elf.sections):
            if self._graph.elf.sections[symbol.section].flags & SHF_EXECINSTR:
                return None
            start = self._start(symbol.section)
            return start._replace(offset=start.offset + symbol.value + relocation.addend) if start else None
        if symbol.type == STT_SECTION:
            return None
        place = self._base.find(self._unit, symbol.name)
        return place._replace(offset=place.offset + relocation.addend) if place else None

    def _start(self, section: int) -> Union[Place, None]:
        """Where the base keeps what is in a section of the fresh object, as :class:`Binder` finds it."""
        graph = self._base.graphs[self._unit]
        old = graph.variables.get(self._words.get(section, ""))
        symbols = graph.symbols_in.get(old, ()) if old is not None else ()
        for symbol in symbols:
            place = self._base.find(self._unit, symbol.name)
            if place is not None:
                return place._replace(offset=place.offset - symbol.value)
        return None


def mark_names(plan: UnitPlan, editor: Editor) -> None:
    """Give the functions of the patch a name in the debug information that has room for the generation."""
    graph, debug = plan.graph, plan.graph.debug
    functions = [
        subprogram
        for subprogram in debug.subprograms
        if subprogram.has_code and subprogram.name in graph.functions
        if graph.functions[subprogram.name].section in plan.bindings
    ]
    info, strings, abbreviations = (graph.elf.section(f".debug_{name}") for name in ("info", "str", "abbrev"))
    if not functions or info is None or strings is None or abbreviations is None:
        return
    marker = _Marker(debug, info, strings, abbreviations, editor)
    for offset in dict.fromkeys(debug.named(debug.die(function.start)).offset for function in functions):
        marker.mark(debug.die(offset))
    marker.store()


class _Marker:
    """Changes names in the debug information of one object."""

    def __init__(
        self, debug: DebugInfo, info: Section, strings: Section, abbreviations: Section, editor: Editor
    ) -> None:
        table = debug.elf.relocation_section(info.number)
        assert table is not None
        self._debug, self._info, self._strings, self._abbreviations = debug, info, strings, abbreviations
        self._editor, self._table, self._tables = editor, table, Tables(debug)
        self._indices = {offset: index for index, offset in enumerate(debug.relocations)}
        self._text = bytearray()
        self._more: list[Relocation] = []
        symbols = debug.elf.symbols
        self._symbol = next(
            (r.symbol for r in debug.relocations.values() if symbols[r.symbol].section == strings.number), 0
        )

    def mark(self, die: Die) -> None:
        """Change the name of one entry, if there is a way."""
        attribute = AT_LINKAGE_NAME if AT_LINKAGE_NAME in die.values else AT_NAME
        form, position = die.values.get(attribute, (0, 0))
        if not self._symbol:
            return
        if form == FORM_STRP and position in self._indices:
            self._rewrite(self._refer(die, attribute, position))
        elif form == FORM_STRING and attribute == AT_NAME:
            respelt = self._tables.respell(die)
            if respelt is not None:
                self._editor.write(self._info.offset + die.offset, respelt.content)
                self._more.append(self._refer(die, attribute, die.offset + respelt.reference))

    def _refer(self, die: Die, attribute: int, position: int) -> Relocation:
        """A reference from ``position`` to the longer name."""
        value = self._strings.size + len(self._text) - self._debug.elf.symbols[self._symbol].value
        self._text += _with_room(self._debug.text(die, attribute)).encode() + b"\0"
        return Relocation(position, R.ABS32, self._symbol, value)

    def _rewrite(self, relocation: Relocation) -> None:
        at = self._table.offset + self._indices[relocation.offset] * RELA.size
        self._editor.write(at, _pack(relocation))

    def store(self) -> None:
        """Put in what was added; last, since sections move."""
        for unit, table in self._tables.units().items():
            at = next(at for at in (unit + 8, unit + 6) if at in self._indices)
            old = self._debug.relocations[at]
            offset = self._editor.extend(self._abbreviations.number, table)
            value = offset - self._debug.elf.symbols[old.symbol].value
            self._rewrite(Relocation(at, old.type, old.symbol, value))
        self._editor.extend(self._strings.number, bytes(self._text))
        if self._more:
            self._editor.extend(self._table.number, b"".join(map(_pack, self._more)))


def _pack(relocation: Relocation) -> bytes:
    return RELA.pack(relocation.offset, relocation.symbol << 32 | relocation.type, relocation.addend)


def to_debug_part(elf: ElfFile, image_len: int, fields: list[DebugField]) -> bytes:
    """The content of ``.hotreload.debug`` for a linked patch; empty when that has nothing to tell."""
    note = next((s for s in elf.sections if s.type == SHT_NOTE and s.name == ".note.gnu.build-id"), None)
    if note is None or note.size != _NOTE_LEN + _BUILD_ID_LEN:
        return b""
    maker = _FileMaker(elf, image_len)
    maker.add_debug(fields)
    maker.add_symbols()
    maker.finish()
    names = [*_find_all(bytes(maker.tail), f"{MARK}{_ROOM}"), *_find_all(bytes(maker.tail), f"{MANGLED_MARK}{_ROOM}")]
    places = b"".join(_PLACE.pack(where, kind, 0) for where, kind in maker.places)
    numbers = b"".join(_NAME.pack(image_len + at) for at in names)
    tail = bytes(maker.tail) + bytes(-len(maker.tail) % 8)
    header = _HEADER.pack(
        *(MAGIC, _HEADER.size + len(maker.head) + len(places) + len(numbers) + len(tail), len(tail)),
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
            for name in (_with_room(symbol.name), symbol.name):
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


def _with_room(name: str) -> str:
    """A function's name, and where the number goes. A mangled one stays one: score(long) [clone .hotreload.3]."""
    return f"{name}{MANGLED_MARK if name.startswith('_Z') else MARK}{_ROOM}"


def _find_all(data: bytes, text: str) -> Iterator[int]:
    """Where the room for a number begins behind each of these marks."""
    word = text.encode()
    at = data.find(word)
    while at >= 0:
        yield at + len(word) - NUMBER_ROOM
        at = data.find(word, at + len(word))
