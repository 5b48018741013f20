"""Deciding, for each reference in new code, what it is bound to.

    reference to                              bound to
    ────────────────────────────────────────  ──────────────────────────────────────────────────────────────
    state or a function that the base has     the base's address: state stays, function pointers stay the same
    state or a function that is new           carried: the first generation that brought it
    a function whose prototype changed        carried too: it is a new one, and its key tells the prototype
    content (strings, const tables, pieces)   its own copy; a named const object that is unchanged, the base's
    the inside of the same function           its own copy
    anything undefined                        an import, which the server resolves

A table of Python's that is shown is in the patch as its own copy, which the server reads and nobody refers to; whoever
names its variable means the live one.

Starting from the functions to be replaced, everything that is its own copy or carried is followed, so that the
result is the closed set of sections that the patch consists of.
"""

from __future__ import annotations

import os
from typing import Mapping, NamedTuple, Union

from hotreload.diff.graph import (
    CONTENT,
    PC_BIAS,
    PC_RELATIVE,
    TO_ABSOLUTE,
    TO_CONTENT,
    TO_ENTRY,
    TO_EXTERNAL,
    TO_INSIDE,
    ObjectGraph,
    Reference,
)
from hotreload.diff.prototypes import Anew
from hotreload.diff.tables import NewTable
from hotreload.elf.file import SHF_EXECINSTR, SHF_MERGE, STB_LOCAL, STT_FUNC, STT_OBJECT, STT_TLS
from hotreload.errors import Finding
from hotreload.patch.base import Base, Place

__all__ = ["Binder", "CarriedSymbol", "ToBase", "ToCarried", "UnitPlan"]

ANY_UNIT = -1
LINKER_OWN = {"_GLOBAL_OFFSET_TABLE_", "_DYNAMIC", "__tls_get_addr"}


class ToBase(NamedTuple):
    """Bound to the base: ``addend`` is what is added to the address of ``place``, PC bias included."""

    place: Place
    addend: int


class ToCarried(NamedTuple):
    """Bound to carried symbol number ``number``, wherever it is owned."""

    number: int
    addend: int


class CarriedSymbol(NamedTuple):
    """Something new: section and offset in the object of ``unit``; ``common`` for a symbol without a section."""

    key: str
    unit: int
    section: int
    value: int
    size: int
    is_function: bool
    common_align: int = 0

    @property
    def name(self) -> str:
        """Its name in the source, without unit and prototype."""
        return self.key.partition(" as ")[0].rsplit(":", 1)[-1]


class UnitPlan(NamedTuple):
    """What becomes of one fresh object: its sections that are part of the patch, and their bound references.

    ``tables`` are Python's that it brings, in sections that nothing in the patch refers to.
    """

    unit: int
    graph: ObjectGraph
    bindings: dict[int, list[tuple[Reference, Union[ToBase, ToCarried]]]]
    tables: list[NewTable]


class Binder:
    """Binds the new code of any number of units to one base.

    ``findings`` collects what cannot be bound; the patch must not be made when there are any. ``anew`` has, by the
    base offset of the old one, functions that are new although the base has one of their name.
    """

    def __init__(
        self,
        base: Base,
        graphs: dict[int, ObjectGraph],
        anew: Union[Mapping[int, Anew], None] = None,
        tables: Union[Mapping[int, list[NewTable]], None] = None,
    ) -> None:
        self._base = base
        self._anew = anew or {}
        self._graphs = graphs
        tables = tables or {}
        self.plans = {unit: UnitPlan(unit, graph, {}, list(tables.get(unit, ()))) for unit, graph in graphs.items()}
        # Python keeps objects that call a function in one way: the same with another way is another function.
        self._conventions = {
            (of, name): convention
            for unit, found in tables.items()
            for table in found
            for name, convention in table.conventions.items()
            for of in (unit, ANY_UNIT)
        }
        self.carried: list[CarriedSymbol] = []
        self.findings: list[Finding] = []
        self._carried_index: dict[tuple[int, int, int], int] = {}
        self._queue: list[tuple[int, int]] = []

    def add(self, unit: int, function: str) -> None:
        """Make ``function`` of ``unit``, and all that it brings along, part of the patch."""
        self._take(unit, self._graphs[unit].functions[function].section)
        while self._queue:
            self._bind_section(*self._queue.pop())

    def add_tables(self) -> None:
        """Make the tables, and the functions that only they name, part of the patch."""
        for unit, plan in self.plans.items():
            for table in plan.tables:
                self._take(unit, table.section)
        while self._queue:
            self._bind_section(*self._queue.pop())

    def _take(self, unit: int, section: int) -> None:
        if section not in self.plans[unit].bindings:
            self.plans[unit].bindings[section] = []
            self._queue.append((unit, section))

    def _bind_section(self, unit: int, section: int) -> None:
        for reference in self._graphs[unit].references(section):
            target = self._bind(unit, section, reference)
            if target is not None:
                self.plans[unit].bindings[section].append((reference, target))
        for handlers, _ in self._graphs[unit].handlers.get(section, ()):
            self._take(unit, handlers)

    def _bind(self, unit: int, section: int, reference: Reference) -> Union[ToBase, ToCarried, None]:
        """What a reference is bound to; None leaves it to the linker."""
        bias = -PC_BIAS if reference.type in PC_RELATIVE else 0
        if reference.kind == TO_ABSOLUTE or reference.name in LINKER_OWN:
            return None
        if reference.kind == TO_EXTERNAL:
            return self._bind_external(unit, reference)
        if reference.kind == TO_ENTRY:
            place = self._base.find(unit, reference.name)
            is_private = reference.name in self._base.graphs[unit].private
            if place is not None and place.offset in self._anew:
                return ToCarried(self._carry_anew(unit, reference.name, self._anew[place.offset]), bias)
            if place is not None and place.type != STT_OBJECT and not is_private:
                return ToBase(place, bias)
            symbol = self._graphs[unit].functions[reference.name]
            return ToCarried(self._carry(unit, symbol.section, symbol.value, reference.name), bias)
        if reference.kind == TO_INSIDE:
            if reference.section not in self.plans[unit].bindings:
                self._refuse(unit, "code-address", f"code in {self._name(unit, section)} leads into the middle of "
                             f"`{reference.name or self._name(unit, reference.section)}`", section)  # fmt: skip
            return None
        if reference.kind == TO_CONTENT:
            place = self._unchanged_constant(unit, reference)
            if place is not None:
                return ToBase(place, reference.delta)
            self._take(unit, reference.section)
            return None
        return self._bind_variable(unit, reference)

    def _bind_external(self, unit: int, reference: Reference) -> Union[ToBase, ToCarried, None]:
        place = self._base.find(unit, reference.name)
        if place is not None and place.offset in self._anew:
            new = self._anew[place.offset]
            return ToCarried(self._carry_anew(new.unit, new.name, new), reference.delta)
        if place is not None:
            return ToBase(place, reference.delta)
        for other, graph in self._graphs.items():
            for symbol in graph.elf.symbols:
                if symbol.name == reference.name and symbol.section and symbol.bind != STB_LOCAL:
                    offset = symbol.value if symbol.type == STT_FUNC else 0
                    index = self._carry(other, symbol.section, offset, symbol.name)
                    return ToCarried(index, reference.delta + symbol.value - offset)
        return None

    def _bind_variable(self, unit: int, reference: Reference) -> Union[ToBase, ToCarried, None]:
        graph, base_graph = self._graphs[unit], self._base.graphs[unit]
        if not reference.section:  # a common symbol: it has a name and a size, and no section
            place = self._base.find(unit, reference.name)
            if place is not None:
                return ToBase(place, reference.delta)
            symbol = graph.elf.symbols[reference.symbol]
            return ToCarried(self._carry_common(unit, reference.name, symbol.size, symbol.value), reference.delta)
        old = base_graph.variables.get(reference.name)
        if old is not None:
            start = self._section_start(unit, old)
            if start is not None:
                sizes = base_graph.elf.sections[old].size, graph.elf.sections[reference.section].size
                if sizes[0] == sizes[1] and _layout(base_graph, old) != _layout(graph, reference.section):
                    reason = f"the variables in section {reference.name} moved"
                    self._refuse(unit, "variable-layout", reason, reference.section)
                return ToBase(start, reference.delta)
        start = self._moved_variable(unit, reference)
        if start is not None:
            return ToBase(start, reference.delta)
        return ToCarried(self._carry(unit, reference.section, 0, reference.name), reference.delta)

    def _moved_variable(self, unit: int, reference: Reference) -> Union[Place, None]:
        """Where a global variable that is new in this unit begins in the base: another unit defined it there."""
        for symbol in self._graphs[unit].symbols_in.get(reference.section, ()):
            place = self._base.globals.get(symbol.name) if symbol.bind != STB_LOCAL else None
            if place is not None and place.type in (STT_OBJECT, STT_TLS):
                return place._replace(offset=place.offset - symbol.value)
        return None

    def _section_start(self, unit: int, section: int) -> Union[Place, None]:
        """Where a section of the base's object begins in the base; None where the linker dropped it."""
        for symbol in self._base.graphs[unit].symbols_in.get(section, ()):
            place = self._base.find(unit, symbol.name)
            if place is not None:
                return place._replace(offset=place.offset - symbol.value)
        return None

    def _unchanged_constant(self, unit: int, reference: Reference) -> Union[Place, None]:
        """The base's copy of a named const object whose content is what it was: pointers to it stay equal."""
        graph, base_graph = self._graphs[unit], self._base.graphs[unit]
        section = graph.elf.sections[reference.section]
        if section.flags & (SHF_EXECINSTR | SHF_MERGE):
            return None
        names = [s.name for s in graph.symbols_in.get(section.number, ()) if s.type == STT_OBJECT]
        for name in names:
            if "." in name:
                continue
            for old, symbols in base_graph.symbols_in.items():
                if base_graph.kinds.get(old) == CONTENT and any(s.name == name for s in symbols):
                    same = base_graph.content_fingerprint(old) == graph.content_fingerprint(section.number)
                    return self._section_start(unit, old) if same else None
        return None

    def _carry_anew(self, unit: int, name: str, new: Anew) -> int:
        symbol = self._graphs[unit].functions[name]
        return self._carry(unit, symbol.section, symbol.value, name, f" as {new.identity}")

    def _carry(self, unit: int, section: int, value: int, name: str, identity: str = "") -> int:
        place = (unit, section, value)
        if place not in self._carried_index:
            graph = self._graphs[unit]
            header = graph.elf.sections[section]
            symbols = graph.symbols_in.get(section, [])
            is_function = bool(header.flags & SHF_EXECINSTR)
            body = max((s.size for s in symbols if s.value == value), default=0)
            is_global = any(s.bind != STB_LOCAL for s in symbols)
            of = ANY_UNIT if is_global else unit
            convention = "" if identity else self._conventions.get((of, name), "")
            identity = f" as {convention}" if convention else identity
            key = (name if is_global else f"{self._unit_name(unit)}:{name}") + identity
            for index, carried in enumerate(self.carried):
                if carried.key == key:  # another unit's copy of one inline function or variable
                    self._carried_index[place] = index
                    return index
            self._carried_index[place] = len(self.carried)
            self.carried.append(
                CarriedSymbol(
                    key=key,
                    unit=unit,
                    section=section,
                    value=value,
                    size=body if is_function else header.size,
                    is_function=is_function,
                )
            )
            self._take(unit, section)
        return self._carried_index[place]

    def _carry_common(self, unit: int, name: str, size: int, align: int) -> int:
        for index, carried in enumerate(self.carried):
            if carried.key == name and carried.common_align:
                return index
        self.carried.append(CarriedSymbol(name, unit, 0, 0, size, False, align))
        return len(self.carried) - 1

    def _name(self, unit: int, section: int) -> str:
        return self._graphs[unit].elf.sections[section].name

    def _unit_name(self, unit: int) -> str:
        record = self._base.record
        return os.path.relpath(record.units[unit].source, record.directory)

    def _refuse(self, unit: int, slug: str, reason: str, section: int) -> None:
        source, line = self._base.record.units[unit].source, self._graphs[unit].line_of(section)
        finding = Finding(slug, reason, "restart the server to take this edit", source, line)
        if finding not in self.findings:
            self.findings.append(finding)


def _layout(graph: ObjectGraph, section: int) -> list[tuple[int, int]]:
    return sorted((s.value, s.size) for s in graph.symbols_in.get(section, ()))
