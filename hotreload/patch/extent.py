"""How far old and new code reach: what a transition watches for, and what keeps a generation from being unmapped.

extents of a replaced function in the base        f          [entry ── end of body)
                                                  f.cold     [── section ──)      .part .isra .constprop alike
what stays in the image besides code              .rodata.cst8, jump tables       nobody keeps a pointer to these
                                                  "text", const tables, &&label   somebody may
"""

from __future__ import annotations

import re
import struct
from typing import Iterable, Union

from hotreload.diff.graph import CONTENT, HANDLERS, INDIRECT, TO_CONTENT, TO_INSIDE, ObjectGraph, Reference
from hotreload.diff.tables import ENTRY_LEN, TEXT_FIELDS
from hotreload.elf.file import PT_LOAD, SHF_EXECINSTR, SHF_MERGE, SHF_STRINGS, SHF_WRITE, STT_OBJECT, R
from hotreload.patch.base import Base
from hotreload.patch.bind import UnitPlan

__all__ = ["code_extents", "data_escapes"]

Extent = tuple[int, int]  # base offset, length

PF_X = 1
FIXED_SIZES = (4, 8, 16, 32)  # of the constants in .rodata.cst4 and so on
JUMP_TABLE_ENTRY = 4
LEA_RIP = re.compile(rb"\x8d(?=[\x05\x0d\x15\x1d\x25\x2d\x35\x3d]....)", re.DOTALL)
BRANCHES = (R.PLT32, R.PC32)


def code_extents(base: Base, unit: int, name: str) -> list[Extent]:
    """All code of the base that belongs to function ``name`` of ``unit``, its entry's first.

    An inline function of C++ is in several units and once in the base, so the pieces of every unit's copy count. Where
    the body or a piece of each copy cannot be found, all text of the base: better to think that a thread is inside.
    """
    place = base.find(unit, name)
    copies = _copies(base, unit, name)
    found = [_extents(base, copy, name) for copy in copies]
    sizes = {base.graphs[copy].functions[name].size for copy in copies}
    if place is None or not place.size or place.size not in sizes or not any(whole for whole, _ in found):
        return _all_text(base)
    pieces = sorted({extent for _, extents in found for extent in extents})
    return [(place.offset, place.size), *pieces]


def _copies(base: Base, unit: int, name: str) -> list[int]:
    """The units that have this very function: several where it is inline, another where it has moved to ``unit``."""
    if name in base.graphs[unit].functions and base.graphs[unit].is_local(name):
        return [unit]
    return [i for i, graph in enumerate(base.graphs) if name in graph.functions and not graph.is_local(name)]


def _extents(base: Base, unit: int, name: str) -> tuple[bool, list[Extent]]:
    """The pieces of one unit's copy that are in the base, and whether these are all."""
    graph = base.graphs[unit]
    sections = [n for n in graph.reach(graph.functions[name].section)[1:] if _is_code(graph, n)]
    found = [_piece(base, unit, graph, section) for section in sections]
    return None not in found, [extent for extent in found if extent is not None]


def _piece(base: Base, unit: int, graph: ObjectGraph, section: int) -> Union[Extent, None]:
    """Where a section of split-off code is, told by a symbol in it that the library has with the same size."""
    for symbol in graph.symbols_in.get(section, ()):
        place = base.units[unit].get(symbol.name)
        if place is not None and place.size == symbol.size:
            return place.offset - symbol.value, graph.elf.sections[section].size
    return None


def _all_text(base: Base) -> list[Extent]:
    return [(s.vaddr, s.mem_len) for s in base.elf.segments if s.type == PT_LOAD and s.flags & PF_X]


def data_escapes(plans: Iterable[UnitPlan], kept: Iterable[str]) -> bool:
    """Whether the program may keep a pointer into the image after it has left the image's code.

    ``kept`` has the ``hr.s.U.N`` names of the sections that the linker kept. What is writable is either bound to its
    owner, and then not of this image, or carried, which is asked elsewhere.
    """
    names = set(kept)
    return any(
        _section_escapes(plan.graph, section)
        for plan in plans
        for section in plan.bindings.keys() - _texts_of_tables(plan)
        if f"hr.s.{plan.unit}.{section}" in names
    )


def _texts_of_tables(plan: UnitPlan) -> set[int]:
    """The sections that hold nothing but names and documentation of Python's tables: the server copies these."""
    graph, tables = plan.graph, {table.section: table.kind for table in plan.tables}
    texts: set[int] = set()
    others: set[int] = set()
    for section in plan.bindings:
        kind = tables.get(section, 0)
        first = graph.symbols_in[section][0].value if kind else 0
        size = ENTRY_LEN.get(kind, 1)
        for reference in graph.references(section):
            if reference.kind == TO_CONTENT:
                is_text = kind and (reference.offset - first) % size in TEXT_FIELDS[kind]
                (texts if is_text else others).add(reference.section)
    return {section for section in texts - others if not graph.references(section)}


def _section_escapes(graph: ObjectGraph, number: int) -> bool:
    section = graph.elf.sections[number]
    if section.flags & SHF_EXECINSTR:
        taken = any(_takes_address(graph, number, reference) for reference in graph.references(number))
        return taken or _has_own_label(graph, number)
    if section.name.startswith((HANDLERS, *INDIRECT)) or graph.kinds[number] != CONTENT:
        return False
    if section.flags & SHF_WRITE:
        return True  # labels of a computed goto, which the code may have kept elsewhere
    if any(symbol.type == STT_OBJECT for symbol in graph.symbols_in.get(number, ())):
        return True
    if section.flags & SHF_MERGE and not section.flags & SHF_STRINGS and section.entsize in FIXED_SIZES:
        return False
    return not _is_jump_table(graph, number)


def _takes_address(graph: ObjectGraph, code: int, reference: Reference) -> bool:
    """Whether code computes an address of code or of a nameless constant, instead of using what is there."""
    if reference.kind not in (TO_CONTENT, TO_INSIDE):
        return False
    target = graph.elf.sections[reference.section]
    is_used_in_place = reference.type in BRANCHES and not graph.is_lea(code, reference.offset)
    if target.flags & SHF_EXECINSTR or target.flags & SHF_MERGE:
        return not is_used_in_place
    return False  # a jump table is entered through its address; other data escapes by being there


def _has_own_label(graph: ObjectGraph, number: int) -> bool:
    """Whether code computes an address in its own section (``&&label``), for which the assembler leaves no relocation.

    Bytes that only look like such an instruction may be taken for one.
    """
    code = graph.elf.content(graph.elf.sections[number])
    known = {relocation.offset for relocation in graph.elf.relocations(number)}
    for match in LEA_RIP.finditer(code):
        field = match.start() + 2
        target = field + 4 + int(struct.unpack_from("<i", code, field)[0])
        if field not in known and 0 <= target <= len(code):
            return True
    return False


def _is_jump_table(graph: ObjectGraph, number: int) -> bool:
    """Whether a section is nothing but distances to code."""
    references = graph.references(number)
    is_full = len(references) * JUMP_TABLE_ENTRY == graph.elf.sections[number].size
    return is_full and all(r.type == R.PC32 and _is_code(graph, r.section) for r in references)


def _is_code(graph: ObjectGraph, section: int) -> bool:
    return bool(graph.elf.sections[section].flags & SHF_EXECINSTR)
