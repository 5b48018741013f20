"""Turning a fresh object into the input of a patch link, without moving a byte of it.

Each reference that is bound to the base or carried is taken away from the linker in one of two ways:

    direct   PC32, PLT32, 64: the relocation becomes NONE, and the field goes into the link table
    via GOT  GOTPCREL, TLSGD, ...: it is pointed at a symbol of ours, so that the linker makes the GOT slot and
             a dynamic relocation with our name on it, which becomes an entry of the link table

Symbols that are added (they cannot clash: no C identifier has a dot):

    hr.f.N    a function to be replaced, exported: the roots of --gc-sections
    hr.h.N    a migration hook, exported: a root too
    hr.m.U.N  one of Python's tables in section N of unit U, exported: a root too
    hr.c.N    carried symbol N, exported: a root too
    hr.b.N    something of the base, undefined
    hr.t.N    a thread-local of the base, undefined
    hr.s.U.N  where section N of unit U ends up, hidden: gone if the section is

What no root reaches is then dropped by the linker, with its unwind entries. Debug information is kept (``debug.py``).
"""

from __future__ import annotations

from typing import NamedTuple, Union

from hotreload.build.prologue import ENTRIES_SECTION, prepare_object
from hotreload.diff.graph import PC_BIAS
from hotreload.diff.tables import NewTable
from hotreload.elf.edit import Editor
from hotreload.elf.file import (
    RELA,
    SHF_EXCLUDE,
    SHN_COMMON,
    SHN_UNDEF,
    SHT_GROUP,
    STB_GLOBAL,
    STT_FUNC,
    STT_NOTYPE,
    STT_OBJECT,
    STT_TLS,
    STV_DEFAULT,
    STV_HIDDEN,
    SYMBOL,
    ElfFile,
    R,
)
from hotreload.errors import Finding
from hotreload.patch.base import Base, Place
from hotreload.patch.bind import CarriedSymbol, ToBase, ToCarried, UnitPlan
from hotreload.patch.debug import DebugField, debug_fields, debug_sections, mark_names

__all__ = ["DirectField", "NameTable", "reduce_object", "table_symbol"]

DIRECT = {R.PC32, R.PLT32, R.ABS64, R.PC64}
DIRECT_TLS = {R.DTPOFF32}
VIA_GOT = {R.GOTPCREL, R.GOTPCRELX, R.REX_GOTPCRELX}
TLS_VIA_GOT = {R.TLSGD, R.TLSLD, R.GOTTPOFF}
LOADER_TABLES = (".init_array", ".fini_array", ".preinit_array", ".ctors", ".dtors")


class DirectField(NamedTuple):
    """A field that the link table fills: at ``offset`` of the section that ``marker`` names."""

    marker: str
    offset: int
    type: int
    target: Union[ToBase, ToCarried]


class NameTable:
    """The names that stand for things of the base in one patch link."""

    def __init__(self) -> None:
        self._names: dict[Place, str] = {}
        self.places: dict[str, Place] = {}

    def name(self, place: Place) -> str:
        """The symbol that stands for ``place``."""
        if place not in self._names:
            name = f"hr.{'t' if place.is_thread_local else 'b'}.{len(self._names)}"
            self._names[place] = name
            self.places[name] = place
        return self._names[place]


def table_symbol(unit: int, table: NewTable) -> str:
    """The name of one of Python's tables in a patch link."""
    return f"hr.m.{unit}.{table.section}"


class Reduced(NamedTuple):
    """An input of the patch link, the fields that it leaves to the link table, and what cannot be bound."""

    content: bytes
    fields: list[DirectField]
    findings: list[Finding]
    debug: list[DebugField]


def reduce_object(
    plan: UnitPlan,
    roots: dict[str, str],
    carried: list[CarriedSymbol],
    names: NameTable,
    base: Base,
) -> Reduced:
    """Make the link input of one unit.

    ``roots`` maps functions and hooks of this unit to their ``hr.f.N`` and ``hr.h.N`` names.
    """
    elf, path = plan.graph.elf, base.record.units[plan.unit].source
    editor = Editor(elf)
    prepare_object(elf, editor)
    for section in elf.sections:
        if section.name.startswith(LOADER_TABLES):
            editor.add_flags(section.number, SHF_EXCLUDE)
        if section.name == ENTRIES_SECTION:
            _forget_relocations(elf, editor, section.number)
        if section.type == SHT_GROUP:  # no longer COMDAT: a unit keeps its own copy, and our symbols in it
            editor.write(section.offset, bytes(4))
    symbols = _SymbolAppender(elf)
    for function, name in roots.items():
        found = plan.graph.functions[function]
        symbols.add(name, STT_FUNC, STV_DEFAULT, found.section, found.value, found.size)
    for index, item in enumerate(carried):
        if item.unit == plan.unit:
            home, value = (SHN_COMMON, item.common_align) if item.common_align else (item.section, item.value)
            kind = STT_FUNC if item.is_function else STT_OBJECT
            symbols.add(f"hr.c.{index}", kind, STV_DEFAULT, home, value, item.size)
    for table in plan.tables:
        found = plan.graph.symbols_in[table.section][0]
        symbols.add(table_symbol(plan.unit, table), STT_OBJECT, STV_DEFAULT, found.section, found.value, found.size)
    fields: list[DirectField] = []
    findings: list[Finding] = []
    for section_index, bindings in plan.bindings.items():
        marker = f"hr.s.{plan.unit}.{section_index}"
        symbols.add(marker, STT_NOTYPE, STV_HIDDEN, section_index, 0, 0)
        rewritten: dict[int, tuple[int, int]] = {}  # offset: type, symbol
        for reference, target in bindings:
            place = target.place if isinstance(target, ToBase) else None
            is_tls = place is not None and place.is_thread_local
            if reference.type in (DIRECT_TLS if is_tls else DIRECT):
                rewritten[reference.offset] = (R.NONE, 0)
                fields.append(DirectField(marker, reference.offset, reference.type, target))
            elif reference.type in (TLS_VIA_GOT if is_tls else VIA_GOT):
                name = _got_name(target, names)
                kind = STT_TLS if is_tls else STT_NOTYPE
                rewritten[reference.offset] = (reference.type, symbols.refer(name, kind))
            else:
                findings.append(
                    Finding(
                        "relocation",
                        f"code refers to `{reference.name}` in a way that cannot be bound to live state "
                        f"(relocation type {reference.type})",
                        "compile with -fPIC and the default code and TLS models",
                        path,
                        plan.graph.line_of(section_index),
                    )
                )
        _rewrite(elf, editor, section_index, rewritten)
    debug: list[DebugField] = []
    for section_index in debug_sections(elf):
        marker = f"hr.s.{plan.unit}.{section_index}"
        symbols.add(marker, STT_NOTYPE, STV_HIDDEN, section_index, 0, 0)
        debug += debug_fields(plan, base, editor, section_index, marker)
    mark_names(plan, editor)
    symbols.store(editor)
    return Reduced(editor.to_bytes(), fields, findings, debug)


def _forget_relocations(elf: ElfFile, editor: Editor, section: int) -> None:
    """The list of entries is linked to the first function: where that one stays, it would keep all the others."""
    table = elf.relocation_section(section)
    if table is not None:
        editor.write(table.offset, bytes(table.size))


def _got_name(target: Union[ToBase, ToCarried], names: NameTable) -> str:
    """The symbol for a GOT slot, which holds an address without the PC bias of the instruction."""
    if isinstance(target, ToCarried):
        return f"hr.c.{target.number}"
    return names.name(target.place._replace(offset=target.place.offset + target.addend + PC_BIAS))


def _rewrite(elf: ElfFile, editor: Editor, section: int, rewritten: dict[int, tuple[int, int]]) -> None:
    """Give the relocations at these offsets of ``section`` another type and symbol."""
    table = elf.relocation_section(section)
    if table is None:
        return
    for i, relocation in enumerate(elf.relocations(section)):
        if relocation.offset in rewritten:
            kind, symbol = rewritten[relocation.offset]
            addend = 0 if kind == R.NONE else relocation.addend
            entry = RELA.pack(relocation.offset, symbol << 32 | kind, addend)
            editor.write(table.offset + i * RELA.size, entry)


class _SymbolAppender:
    """Adds global symbols behind those of the object, whose numbers stay as they are."""

    def __init__(self, elf: ElfFile) -> None:
        table = elf.section(".symtab")
        if table is None:
            raise ValueError("an object without a symbol table")
        self._table = table
        self._names = bytearray(elf.content(elf.sections[table.link]))
        self._entries = bytearray(elf.content(table))
        self._indices: dict[str, int] = {}

    def add(self, name: str, kind: int, visibility: int, section: int, value: int, size: int) -> int:  # noqa: PLR0917
        index = len(self._entries) // SYMBOL.size
        offset = len(self._names)
        self._names += name.encode() + b"\0"
        self._entries += SYMBOL.pack(offset, STB_GLOBAL << 4 | kind, visibility, section, value, size)
        self._indices[name] = index
        return index

    def refer(self, name: str, kind: int) -> int:
        """The index of ``name``; an undefined symbol where this object does not define it."""
        if name not in self._indices:
            return self.add(name, kind, STV_DEFAULT, SHN_UNDEF, 0, 0)
        return self._indices[name]

    def store(self, editor: Editor) -> None:
        editor.replace(self._table.number, bytes(self._entries))
        editor.replace(self._table.link, bytes(self._names))
