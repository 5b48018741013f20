"""The base: where each function and each variable of each unit ended up in the linked extension.

``.symtab`` of the library names what is global once, and what is local under the FILE symbol of its object, in
an order that is the linker's own:

    FILE b.c │ helper │ table │ FILE a.c │ helper │ calls.0 │ FILE "" │ hidden globals │ globals ...
    └── unit 1 ──────────────┘ └── unit 0 ────────────────┘

Two files may have one name and two units one static name: a unit is matched with the group that has its file
name and none but its symbols, and where two do, with the one that has its code.
"""

from __future__ import annotations

from functools import cached_property
from typing import NamedTuple, Union

from hotreload.build.flags import PROLOGUE
from hotreload.build.prologue import ENTRY_ALIGN, HOOK, MS_HOOK
from hotreload.build.record import Record
from hotreload.build.slots import SECTION, Slots, slot_of
from hotreload.diff.graph import ObjectGraph
from hotreload.elf.file import (
    DF_STATIC_TLS,
    DT_FLAGS,
    SHF_ALLOC,
    SHN_UNDEF,
    STB_LOCAL,
    STT_FILE,
    STT_FUNC,
    STT_GNU_IFUNC,
    STT_NOTYPE,
    STT_OBJECT,
    STT_TLS,
    STV_HIDDEN,
    ElfFile,
    R,
    Symbol,
)
from hotreload.errors import BuildError

__all__ = ["Base", "Place"]

NAMED = (STT_NOTYPE, STT_OBJECT, STT_FUNC, STT_TLS, STT_GNU_IFUNC)


class Place(NamedTuple):
    """Where something of the base is: its base offset, or for a thread-local its offset in the TLS block."""

    name: str
    offset: int
    size: int
    type: int

    @property
    def is_thread_local(self) -> bool:
        return self.type == STT_TLS

    @property
    def is_ifunc(self) -> bool:
        return self.type == STT_GNU_IFUNC


class Base:
    """One hot extension as it was loaded from disk, with the graphs of the objects it was linked from.

    Raises:
        BuildError: from :meth:`unit_symbols`, when a unit cannot be found in the library.
    """

    def __init__(self, record: Record, elf: ElfFile, graphs: list[ObjectGraph]) -> None:
        self.record = record
        self.elf = elf
        self.graphs = graphs

    @cached_property
    def globals(self) -> dict[str, Place]:
        """What is defined once for all units: exported, hidden, or the linker's own."""
        found = {}
        for group, symbols in self._groups:
            for symbol in symbols:
                if symbol.bind != STB_LOCAL or group == "":
                    found[symbol.name] = _place(symbol)
        for symbol in (symbol for _, symbols in self._hidden for symbol in symbols):
            if symbol.visibility == STV_HIDDEN or symbol.name in self._global_names:
                found.setdefault(symbol.name, _place(symbol))
        return found

    @cached_property
    def _global_names(self) -> set[str]:
        return {s.name for graph in self.graphs for s in graph.elf.symbols if s.bind != STB_LOCAL and s.section}

    @cached_property
    def units(self) -> list[dict[str, Place]]:
        """What is local to each unit."""
        return self._told_apart[0]

    @property
    def _hidden(self) -> list[tuple[str, list[Symbol]]]:
        """Groups with what is global among the units and local in the library: gold and lld do not set it apart."""
        return self._told_apart[1]

    @cached_property
    def _told_apart(self) -> tuple[list[dict[str, Place]], list[tuple[str, list[Symbol]]]]:
        free = [(name, [s for s in symbols if s.bind == STB_LOCAL]) for name, symbols in self._groups if name]
        found = []
        hidden = []
        for unit, graph in zip(self.record.units, self.graphs):
            fitting = [group for group in free if self._fits(graph, *group)]
            if len(fitting) > 1:
                fitting = [group for group in fitting if self._has_code_of(graph, group[1])]
            if len(fitting) > 1 or not (fitting or _has_no_locals(graph)):
                raise BuildError(
                    f"{unit.source}: its static symbols cannot be told apart in {self.record.module}"
                    if fitting
                    else f"{unit.source}: its static symbols are not in the linked extension {self.record.module}",
                    hint="link without -r and without stripping, and give files with equal code different names",
                )
            exported = {s.name for s in graph.elf.symbols if s.bind != STB_LOCAL}
            found.append({s.name: _place(s) for _, symbols in fitting for s in symbols if s.name not in exported})
            hidden += [(name, [s for s in symbols if s.name in exported]) for name, symbols in fitting]
            free = [group for group in free if group not in fitting]
        return found, [*hidden, *free]

    @staticmethod
    def _fits(graph: ObjectGraph, file_name: str, symbols: list[Symbol]) -> bool:
        """Whether a group of the library can be what is left of the object's local symbols."""
        if file_name != next((s.name for s in graph.elf.symbols if s.type == STT_FILE), ""):
            return False
        own = {(s.name, s.size) for s in graph.elf.symbols if s.type in NAMED}
        return all((s.name, s.size) in own for s in symbols)

    def _has_code_of(self, graph: ObjectGraph, symbols: list[Symbol]) -> bool:
        """Whether the static functions of a group have the object's code, relocated fields and hooks aside."""
        own = {s.name: s for s in graph.elf.symbols if s.type == STT_FUNC and s.section}
        for symbol in symbols:
            if symbol.type == STT_FUNC:
                start = self.elf.file_offset(symbol.value)
                linked = self.elf.data[start : start + symbol.size]
                if not _is_relocated_copy(graph, own[symbol.name], linked):
                    return False
        return True

    def find(self, unit: int, name: str) -> Union[Place, None]:
        """Where ``name``, as unit ``unit`` sees it, is in the base; None if the base has no such thing."""
        return self.units[unit].get(name) or self.globals.get(name)

    def is_patchable(self, place: Place) -> bool:
        """Whether the function at ``place`` begins with a hook prologue that one aligned store can change."""
        start = self.elf.file_offset(place.offset)
        code = self.elf.data[start : start + len(HOOK)]
        has_hook = code in (HOOK, MS_HOOK) or slot_of(place.offset, code) in self._slots
        return place.offset % ENTRY_ALIGN == 0 and has_hook

    @cached_property
    def _slots(self) -> Slots:
        return Slots(self.elf)

    @cached_property
    def has_static_tls(self) -> bool:
        """Whether the loader had to put the base's thread-locals at a fixed distance from the thread pointer."""
        return any(tag == DT_FLAGS and value & DF_STATIC_TLS for tag, value in self.elf.dynamic)

    @cached_property
    def _groups(self) -> list[tuple[str, list[Symbol]]]:
        groups: list[tuple[str, list[Symbol]]] = [("", [])]
        loaded = {s.number for s in self.elf.sections if s.flags & SHF_ALLOC and s.name != SECTION}
        in_locals = True
        for symbol in self.elf.symbols:
            if symbol.type == STT_FILE:
                groups.append((symbol.name, []))
            elif symbol.type in NAMED and symbol.section in loaded and symbol.section != SHN_UNDEF:
                if symbol.bind != STB_LOCAL and in_locals:
                    groups.append(("", []))
                    in_locals = False
                groups[-1][1].append(symbol)
        return groups


def _has_no_locals(graph: ObjectGraph) -> bool:
    return not any(s.type in (STT_FUNC, STT_OBJECT) and s.bind == STB_LOCAL for s in graph.elf.symbols)


def _is_relocated_copy(graph: ObjectGraph, symbol: Symbol, linked: bytes) -> bool:
    code = graph.elf.content(graph.elf.sections[symbol.section])[symbol.value : symbol.value + symbol.size]
    touched = set(range(PROLOGUE))
    for relocation in graph.elf.relocations(symbol.section):
        start = relocation.offset - symbol.value
        touched.update(range(start, start + (8 if relocation.type in (R.ABS64, R.PC64) else 4)))
    return all(a == b or i in touched for i, (a, b) in enumerate(zip(code, linked)))


def _place(symbol: Symbol) -> Place:
    return Place(symbol.name, symbol.value, symbol.size, symbol.type)
