"""From the linked library to the patch: what the linker left open becomes the link table.

.rela.dyn, .rela.plt   what the linker asks the loader for ─┐
hr.s.*                 where the sections ended up,         ├─▶ LinkTable ─▶ section .hotreload.link
direct fields          and the fields in them that are ours ┘
"""

from __future__ import annotations

import struct
from typing import NamedTuple, Union

from hotreload.build.flags import PADDING, PROLOGUE
from hotreload.build.prologue import HOOK, finish_bytes
from hotreload.build.slots import SLOT, encode_entry
from hotreload.diff.tables import NewTable
from hotreload.elf.edit import Editor
from hotreload.elf.file import (
    PT_GNU_RELRO,
    PT_LOAD,
    SHN_UNDEF,
    STB_WEAK,
    ElfFile,
    R,
    Symbol,
)
from hotreload.errors import Finding, IncompatibleError
from hotreload.patch import linktable
from hotreload.patch.base import Base, Place
from hotreload.patch.bind import CarriedSymbol, ToBase, ToCarried, UnitPlan
from hotreload.patch.debug import DebugField
from hotreload.patch.extent import code_extents, data_escapes
from hotreload.patch.genfile import SECTION, to_debug_part
from hotreload.patch.link import SLOTS
from hotreload.patch.linktable import PAGE, Fixup, FixupKind, LinkTable, Protection
from hotreload.patch.reduce import DirectField, NameTable

__all__ = ["HookRoot", "PatchInput", "Replacement", "TableRoot", "to_patch"]


class Replacement(NamedTuple):
    """A function to be replaced: its ``hr.f.N`` symbol, its name, its entry in the base, its unit."""

    symbol: str
    name: str
    place: Place
    unit: int


class HookRoot(NamedTuple):
    """A migration hook: its ``hr.h.N`` symbol, its kind, its name."""

    symbol: str
    kind: linktable.HookKind
    name: str


class TableRoot(NamedTuple):
    """One of Python's tables: its ``hr.m.U.N`` symbol, what it says, and where the live one is."""

    symbol: str
    table: NewTable
    place: Place


class PatchInput(NamedTuple):
    """All that the table is made from, besides what the linker says."""

    base: Base
    replacements: list[Replacement]
    carried: list[CarriedSymbol]
    fields: list[DirectField]
    names: NameTable
    plans: list[UnitPlan]
    hooks: list[HookRoot]
    tables: list[TableRoot]
    debug: list[DebugField]


def to_patch(content: bytes, given: PatchInput) -> bytes:
    """Make a patch of the linked library: prologues finished, link table added.

    Raises:
        IncompatibleError: the linker left something that the server could not bind.
    """
    elf = ElfFile(content, "patch")
    symbols = {symbol.name: symbol for symbol in elf.symbols if symbol.section != SHN_UNDEF}
    editor = Editor(elf)
    editor.cut({section.number for section in elf.sections if section.name.startswith(".debug_")})
    fixups = _TableMaker(elf, given, symbols, editor)
    fixups.add_direct_fields()
    fixups.add_dynamic_relocations()
    fixups.fixups += _finish_prologues(elf, editor, symbols, given)
    frames = elf.section(".eh_frame")
    table = LinkTable(
        build_id=given.base.elf.build_id,
        image_len=_image_len(elf),
        segments=tuple(_segments(elf)),
        fixups=tuple(fixups.fixups),
        imports=tuple(fixups.imports),
        libraries=tuple(name for name in elf.needed() if name not in given.base.elf.needed()),
        carried=tuple(
            linktable.Carried(c.key, symbols[f"hr.c.{i}"].value, c.size, c.is_function)
            for i, c in enumerate(given.carried)
        ),
        functions=tuple(_functions(given, symbols)),
        ranges=tuple(_ranges(given)),
        hooks=tuple(linktable.Hook(h.kind, h.name, symbols[h.symbol].value) for h in given.hooks),
        tables=tuple(_tables(given, symbols)),
        data_escapes=data_escapes(given.plans, symbols),
        eh_frame=frames.addr if frames else 0,
        eh_frame_len=frames.size if frames else 0,
    )
    editor.add(linktable.SECTION, table.to_bytes())
    debug = to_debug_part(elf, table.image_len, given.debug)
    if debug:
        editor.add(SECTION, debug)
    return editor.to_bytes()


def _functions(given: PatchInput, symbols: dict[str, Symbol]) -> list[linktable.Function]:
    base = [
        linktable.Function(r.name, r.place.offset, symbols[r.symbol].value, is_carried=False)
        for r in given.replacements
    ]
    new = [
        linktable.Function(c.name, i, symbols[f"hr.c.{i}"].value, is_carried=True)
        for i, c in enumerate(given.carried)
        if c.is_function
    ]
    return [*base, *new]


def _tables(given: PatchInput, symbols: dict[str, Symbol]) -> list[linktable.Table]:
    return [
        linktable.Table(
            linktable.TableKind(root.table.kind),
            root.table.key,
            root.place.offset,
            symbols[root.symbol].value,
            root.table.base_length,
            root.table.length,
            root.table.changes,
        )
        for root in given.tables
    ]


def _ranges(given: PatchInput) -> list[linktable.Range]:
    return [
        linktable.Range(index, offset, length)
        for index, replaced in enumerate(given.replacements)
        for offset, length in code_extents(given.base, replaced.unit, replaced.name)
    ]


class _TableMaker:
    """Gathers fixups and imports of one patch."""

    def __init__(self, elf: ElfFile, given: PatchInput, symbols: dict[str, Symbol], editor: Editor) -> None:
        self._elf, self._given, self._symbols, self._editor = elf, given, symbols, editor
        self.fixups: list[Fixup] = []
        self.imports: list[linktable.Import] = []
        self._import_index: dict[str, int] = {}
        self._versions = _symbol_versions(elf)

    def add_direct_fields(self) -> None:
        """The fields that were taken away from the linker; those in dropped sections are gone with them."""
        for field in self._given.fields:
            marker = self._symbols.get(field.marker)
            if marker is not None:
                self._add_direct(marker.value + field.offset, field.type, field.target)

    def _add_direct(self, where: int, kind: int, target: Union[ToBase, ToCarried]) -> None:
        if isinstance(target, ToCarried):
            fixup = {R.ABS64: FixupKind.CARRIED64, R.PC64: FixupKind.CARRIED_PC64}
            self.fixups.append(Fixup(where, fixup.get(kind, FixupKind.CARRIED_PC32), target.addend, target.number))
            return
        place = target.place
        if kind == R.DTPOFF32:
            self._editor.write(self._elf.file_offset(where), struct.pack("<i", place.offset + target.addend))
        elif place.is_ifunc:
            resolved = Fixup(where, FixupKind.BASE_IFUNC64, place.offset)
            called = Fixup(where, FixupKind.BASE_IFUNC_PC32, target.addend, place.offset)
            self.fixups.append(resolved if kind == R.ABS64 else called)
        else:
            chosen = {R.ABS64: FixupKind.BASE64, R.PC64: FixupKind.BASE_PC64}.get(kind, FixupKind.BASE_PC32)
            self.fixups.append(Fixup(where, chosen, place.offset + target.addend))

    def add_dynamic_relocations(self) -> None:
        """What the linker asks the loader for."""
        for name in (".rela.dyn", ".rela.plt"):
            section = self._elf.section(name)
            for relocation in self._elf.relocations_in(section) if section else []:
                symbol = self._elf.dynamic_symbols[relocation.symbol]
                self._add_dynamic(relocation.offset, relocation.type, symbol, relocation.addend)

    def _add_dynamic(self, where: int, kind: int, symbol: Symbol, addend: int) -> None:
        place = self._given.names.places.get(symbol.name)
        add = self.fixups.append
        if kind == R.RELATIVE:
            add(Fixup(where, FixupKind.IMAGE64, addend))
        elif kind == R.IRELATIVE:
            add(Fixup(where, FixupKind.IRELATIVE, addend))  # addend: the resolver's image offset
        elif kind == R.DTPMOD64 and (not symbol.name or place is not None):
            add(Fixup(where, FixupKind.BASE_DTPMOD))
        elif kind == R.DTPOFF64 and place is not None:
            self._editor.write(self._elf.file_offset(where), struct.pack("<q", place.offset + addend))
        elif kind == R.TPOFF64 and place is not None:
            self._require_static_tls(symbol)
            add(Fixup(where, FixupKind.BASE_TPOFF, place.offset + addend))
        elif kind in (R.GLOB_DAT, R.JUMP_SLOT, R.ABS64):
            self._add_address(where, symbol, addend if kind == R.ABS64 else 0, place)
        elif kind in (R.DTPMOD64, R.DTPOFF64, R.TPOFF64) and symbol.section == SHN_UNDEF:
            chosen = {R.DTPMOD64: FixupKind.IMPORT_DTPMOD, R.DTPOFF64: FixupKind.IMPORT_DTPOFF}
            add(Fixup(where, chosen.get(kind, FixupKind.IMPORT_TPOFF), addend, self._import(symbol)))
        else:
            raise _cannot_bind(f"relocation type {kind} for `{symbol.name}`")

    def _add_address(self, where: int, symbol: Symbol, addend: int, place: Union[Place, None]) -> None:
        if place is not None and place.is_ifunc:
            fixup = Fixup(where, FixupKind.BASE_IFUNC64, place.offset)
        elif place is not None:
            fixup = Fixup(where, FixupKind.BASE64, place.offset + addend)
        elif symbol.name.startswith("hr.c."):
            fixup = Fixup(where, FixupKind.CARRIED64, addend, int(symbol.name[5:]))
        elif symbol.section != SHN_UNDEF:
            fixup = Fixup(where, FixupKind.IMAGE64, symbol.value + addend)
        else:
            fixup = Fixup(where, FixupKind.IMPORT64, addend, self._import(symbol))
        self.fixups.append(fixup)

    def _import(self, symbol: Symbol) -> int:
        if symbol.name not in self._import_index:
            self._import_index[symbol.name] = len(self.imports)
            version = self._versions.get(symbol.number, "")
            self.imports.append(linktable.Import(symbol.name, version, symbol.bind == STB_WEAK))
        return self._import_index[symbol.name]

    def _require_static_tls(self, symbol: Symbol) -> None:
        if not self._given.base.has_static_tls:
            name = self._given.names.places[symbol.name].name
            raise _cannot_bind(f"initial-exec access to thread-local `{name}`, which the base keeps in dynamic TLS")


def _cannot_bind(what: str) -> IncompatibleError:
    finding = Finding("relocation", f"the new code needs {what}", "restart the server to take this edit")
    return IncompatibleError("the patch cannot be bound to the base", findings=(finding,))


def _finish_prologues(elf: ElfFile, editor: Editor, symbols: dict[str, Symbol], given: PatchInput) -> list[Fixup]:
    """New functions get hooks too: a later generation redirects them at their first entry.

    They are of the base's kind. The fixups make each slot that is taken hold the address of its function's body.
    """
    fixups: list[Fixup] = []
    slots = symbols.get(SLOTS)
    for replacement in given.replacements:
        _finish(elf, editor, symbols[replacement.symbol].value, HOOK)
    for i in (i for i, c in enumerate(given.carried) if c.is_function):
        entry = symbols[f"hr.c.{i}"].value
        slot = slots.value + SLOT * len(fixups) if slots else 0
        if _finish(elf, editor, entry, encode_entry(entry, slot) if slots else HOOK) and slots:
            fixups.append(Fixup(slot, FixupKind.IMAGE64, entry + PROLOGUE))
    return fixups


def _finish(elf: ElfFile, editor: Editor, entry: int, hook: bytes) -> bool:
    start = elf.file_offset(entry) - PADDING
    code = bytearray(elf.data[start : start + 2 * PADDING])
    has_hook = start >= 0 and finish_bytes(code, 0, hook)
    if has_hook:
        editor.write(start, bytes(code))
    return has_hook


def _image_len(elf: ElfFile) -> int:
    end = max(s.vaddr + s.mem_len for s in elf.segments if s.type == PT_LOAD)
    return -(-end // PAGE) * PAGE


def _segments(elf: ElfFile) -> list[linktable.Segment]:
    """The loaded segments in whole pages, RELRO split off as read-only."""
    relro_end = max((s.vaddr + s.mem_len for s in elf.segments if s.type == PT_GNU_RELRO), default=0)
    found: list[linktable.Segment] = []
    for segment in (s for s in elf.segments if s.type == PT_LOAD):
        lead = segment.vaddr % PAGE
        start, offset = segment.vaddr - lead, segment.offset - lead
        file_len, mem_len = segment.file_len + lead, segment.mem_len + lead
        prot = Protection(0)
        for bit, flag in ((4, Protection.R), (2, Protection.W), (1, Protection.X)):
            prot |= flag if segment.flags & bit else Protection(0)
        split = relro_end // PAGE * PAGE - start if prot & Protection.W else 0
        if split > 0:
            split = min(split, -(-mem_len // PAGE) * PAGE)
            found.append(linktable.Segment(start, min(split, mem_len), offset, min(split, file_len), Protection.R))
            start, offset = start + split, offset + split
            file_len, mem_len = max(0, file_len - split), max(0, mem_len - split)
        if mem_len > 0:
            found.append(linktable.Segment(start, mem_len, offset, file_len, prot))
    return found


def _symbol_versions(elf: ElfFile) -> dict[int, str]:
    """The version that each imported symbol was linked against, by its number in ``.dynsym``."""
    indices, needs = elf.section(".gnu.version"), elf.section(".gnu.version_r")
    strings = elf.section(".dynstr")
    if indices is None or needs is None or strings is None:
        return {}
    text, data = elf.content(strings), elf.content(needs)
    names: dict[int, str] = {}
    position = 0
    while True:
        _, count, _, first, step = struct.unpack_from("<HHIII", data, position)
        at = position + first
        for _ in range(count):
            _, _, index, name, following = struct.unpack_from("<IHHII", data, at)
            names[index & 0x7FFF] = text[name : text.find(b"\0", name)].decode()
            at += following
        if not step:
            break
        position += step
    versions = struct.iter_unpack("<H", elf.content(indices))
    return {i: names[version & 0x7FFF] for i, (version,) in enumerate(versions) if version & 0x7FFF in names}
