"""Debug information of a fresh object, made fit for a patch before it is linked.

    .debug_info    name of a function of the patch ──▶ a longer one, with room for the number of its generation
                   address of a variable ──▶ where the base has it, taken away from the linker
                   thread-local of the base ──▶ nowhere: a debugger would look in the wrong block
    .debug_*       any other address ──▶ the linker's, remembered: the server adds that of the image

What the link leaves out gets address 0, which every reader of DWARF knows as "not there". ``genfile.py`` makes of the
linked sections what the server needs.
"""

from __future__ import annotations

from typing import Iterator, NamedTuple, Union

from hotreload.elf.debug import DebugInfo
from hotreload.elf.dwarf import AT_LINKAGE_NAME, AT_NAME, FORM_STRING, FORM_STRP, OP_ADDR, Die
from hotreload.elf.edit import Editor
from hotreload.elf.file import RELA, SHF_EXECINSTR, STT_SECTION, ElfFile, R, Relocation, Section
from hotreload.patch.base import Base, Place
from hotreload.patch.bind import UnitPlan
from hotreload.patch.respell import Tables

__all__ = [
    "MANGLED_MARK", "MARK", "NUMBER_ROOM", "ROOM", "DebugField", "debug_fields", "debug_sections", "mark_names",
    "with_room",
]  # fmt: skip

NUMBER_ROOM = 10
ROOM = "#" * NUMBER_ROOM
# gdb would take a number alone for a suffix of Ada and leave it out.
MARK, MANGLED_MARK = "@hotreload.g", ".hotreload."

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
        self._text += with_room(self._debug.text(die, attribute)).encode() + b"\0"
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


def with_room(name: str) -> str:
    """A function's name, and where the number goes. A mangled one stays one: score(long) [clone .hotreload.3]."""
    return f"{name}{MANGLED_MARK if name.startswith('_Z') else MARK}{ROOM}"
