"""Types that are laid out differently, and whether something that is alive has them.

A type that only replaced functions use may change at will. What cannot: a type of which there are objects that
the old code made and the new code will read. They are looked for from four kinds of roots:

    live variables ──────────────────────────┐
    structs that begin with PyObject ────────┤ through members, arrays and pointers, over all units
    parameters and results of functions that │
      are not replaced ──────────────────────┤─────▶ a type that changed: refused, naming root and fields
    what functions take from the interpreter │
      (module state, capsules), and from     │
      live variables as void * ──────────────┘
"""

from __future__ import annotations

import re
from functools import cached_property
from typing import Collection, Iterator, Mapping, NamedTuple, Optional

from hotreload.diff.graph import CONTENT, TO_EXTERNAL, TO_VARIABLE, ObjectGraph
from hotreload.diff.prototypes import Anew, Change, Linked
from hotreload.diff.tables import table_kind
from hotreload.diff.types import ARRAY, ENUM, NOTHING, POINTER, RECORD, Comparison, Node, Types
from hotreload.elf.dwarf import AT_TYPE, TAG_PARAMETER, TAG_VARIABLE
from hotreload.elf.file import SHF_TLS, SHN_COMMON, SHN_UNDEF, STB_LOCAL
from hotreload.errors import Finding

__all__ = ["examine_types", "examine_variables", "home_of"]

PYTHON_OBJECTS = {"struct _object", "struct PyVarObject", "PyVarObject", "PyObject"}
OWNER = re.compile(r"::|\.")  # ends the name of the function that owns a static variable; the dot is clang's
TOLD = 4  # of the fields that moved
PAGE = 4096  # a library begins at one, wherever it is loaded
LOCKS = {"PyThread_type_lock"}  # a void * that nobody looks behind
# Where an extension gets back, as void *, what it once gave to the interpreter.
KEEPERS = {
    *("PyModule_GetState", "PyType_GetModuleState", "PyCapsule_GetPointer", "PyCapsule_GetContext"),
    *("PyState_FindModule", "PyThread_tss_get", "pthread_getspecific", "PyObject_GetTypeData"),
}


class _Changed(NamedTuple):
    """A type that two versions of one unit lay out differently."""

    change: Change
    old: Node
    new: Node
    what: str


class _Root(NamedTuple):
    """Something alive: how it is told, and its type in its unit of the base."""

    what: str
    unit: int
    type: int


def examine_types(base: Linked, changes: Mapping[int, Change], swapped: Mapping[int, Collection[str]],
                  anew: Mapping[int, Anew]) -> list[Finding]:  # fmt: skip
    """A finding for each type that changed and that something alive has, if there is code to meet it."""
    if not anew and not any(swapped.values()):
        return []
    changed = _changed_types(changes)
    if not changed:
        return []
    findings = []
    witnesses = _Search(base, changes, swapped, anew).witnesses(set(changed))
    for key, (change, old, new, what) in sorted(changed.items()):
        file, line = change.path(change.new.types.file_of(new)), new.line
        name = key if " " in key or "::" in key else f"typedef {key}"
        if _is_python_object(change.base.types, old):
            reason = f"`{name}` is laid out differently: {what}; objects that are alive keep the old layout"
            hint = "restart to change it, or keep new fields in shadow data (hotreload_shadow_get)"
            findings.append(Finding("python-object-layout", reason, hint, file, line))
        elif key in witnesses:
            reason = f"`{name}` is laid out differently: {what}; {witnesses[key]}"
            hint = "restart to change it, or give the new type another name"
            findings.append(Finding("type-layout", reason, hint, file, line))
    return findings


def examine_variables(base: Linked, change: Change) -> list[Finding]:
    """Variables that are alive and that the new code would misread, or look for where they are not."""
    findings = _examine_own(change)
    for key in change.new.variables:
        own = change.base.variables.get(key)
        if own is not None:
            findings += _examine_place(base, change, key, change.base, own)
            continue
        findings += _examine_neighbours(change, key)
        home = home_of(base, change.new, key)
        if home is not None:
            findings += _examine_place(base, change, key, *home)
            findings += _examine_arrival(change, key, *home)
    return findings


def home_of(base: Linked, new: ObjectGraph, key: str) -> Optional[tuple[ObjectGraph, int]]:
    """Where the base has a global variable that is new in its unit: the other unit that defined it."""
    if all(s.bind == STB_LOCAL for s in new.symbols_in.get(new.variables[key], ())):
        return None
    for graph in base.graphs:
        section = graph.variables.get(key) or graph.constants.get(key)
        if section is not None and any(s.bind != STB_LOCAL for s in graph.symbols_in.get(section, ())):
            return graph, section
    return None


def _examine_arrival(change: Change, key: str, home: ObjectGraph, section: int) -> Iterator[Finding]:
    """A global variable that came from another unit: its size and its type."""
    new, hint = change.new, "restart to change it, or give the new variable another name"
    old, fresh = home.elf.sections[section], new.elf.sections[new.variables[key]]
    if home.kinds[section] == CONTENT:
        yield _other_section(change, key, "const", "is writable now", new.variable_line(key))
        return
    types = home.variable_type(section), new.variable_type(new.variables[key])
    comparison = Comparison(home.types, new.types)
    if old.size != fresh.size:
        reason = f"variable `{key}` was {old.size} bytes and is now {fresh.size}; the live one keeps its size"
        yield Finding("variable-size", reason, hint, change.source, new.variable_line(key))
    elif all(types) and not comparison.is_same(*types):
        was, now = comparison.spell(*types)
        reason = f"variable `{key}` was `{was}` and is now `{now}`; the live one holds the old"
        yield Finding("variable-type", reason, hint, change.source, new.variable_line(key))


def _examine_place(base: Linked, change: Change, key: str, home: ObjectGraph, section: int) -> Iterator[Finding]:
    """Whether the address of a live variable is as round as the new code may rely on."""
    new = change.new
    old, fresh = home.elf.sections[section], new.elf.sections[new.variables[key]]
    symbols = home.symbols_in.get(section, ())
    if fresh.align <= old.align or old.size != fresh.size or not symbols:
        return
    spot = base.find(base.graphs.index(home), symbols[0].name)
    if spot is None or (spot.offset % fresh.align == 0 and fresh.align <= PAGE and not fresh.flags & SHF_TLS):
        return
    reason = f"variable `{key}` is now aligned to {fresh.align} bytes, and the live one is not"
    hint = "restart to change it, or give the new variable another name"
    yield Finding("variable-layout", reason, hint, change.source, new.variable_line(key))


def _examine_neighbours(change: Change, key: str) -> Iterator[Finding]:
    """Variables that share a section and are known by their places in it."""
    base, new = change.base, change.new
    names = _shared_names(new, key)
    for other in base.variables if names else ():
        before = _shared_names(base, other)
        if not set(before).isdisjoint(names):
            reason = f"the variables of one section were `{', '.join(before)}` and are now `{', '.join(names)}`"
            hint = "restart to take this edit, or give each a section of its own"
            yield Finding("variable-layout", reason, hint, change.source, new.variable_line(key))
            return


def _shared_names(graph: ObjectGraph, key: str) -> list[str]:
    """What is in the section of a variable, in order; nothing if that is a function's own."""
    symbols = sorted((s.value, s.name) for s in graph.symbols_in.get(graph.variables[key], ()))
    return [] if OWNER.search(key) else [name for _, name in symbols]


def _examine_own(change: Change) -> list[Finding]:
    """Variables that the base and the new object have, of types that do not mean the same bits."""
    base, new, diff = change.base, change.new, change.diff
    comparison = Comparison(base.types, new.types)
    findings = []
    for key, section in new.variables.items():
        if not diff.may_change_types and OWNER.split(key, 1)[0] not in diff.edited:
            continue
        if key not in base.variables:
            if key in base.constants and not table_kind(new, section):
                findings.append(_other_section(change, key, "const", "is writable now", new.variable_line(key)))
            continue
        old = base.variables[key]
        headers = base.elf.sections[old], new.elf.sections[section]
        types = base.variable_type(old), new.variable_type(section)
        is_other = headers[0].size != headers[1].size or (headers[0].flags ^ headers[1].flags) & SHF_TLS
        if is_other or not all(types) or comparison.is_same(*types):
            continue
        was, now = comparison.spell(*types)
        reason = f"variable `{key}` was `{was}` and is now `{now}`"
        hint = "restart to change it, or give the new variable another name"
        line = new.variable_line(key)
        findings.append(Finding("variable-type", f"{reason}; the live one holds the old", hint, change.source, line))
    if diff.may_change_types:
        findings += _made_const(change)
    return findings


def _made_const(change: Change) -> Iterator[Finding]:
    for key in change.base.variables.keys() - change.new.variables.keys():
        if table_kind(change.base, change.base.variables[key]):
            continue
        offset = change.new.debug.types_by_name.get(key, 0)
        if key in change.new.constants or (offset and change.new.types.is_const(offset)):
            yield _other_section(change, key, "writable", "is const now", change.new.variable_line(key))


def _other_section(change: Change, key: str, was: str, now: str, line: int) -> Finding:
    reason = f"variable `{key}` was {was} and {now}: the new code would use a copy with the value of its initialiser"
    return Finding("variable-section", reason, "restart, or give the new one another name", change.source, line)


def _changed_types(changes: Mapping[int, Change]) -> dict[str, _Changed]:
    found: dict[str, _Changed] = {}
    for change in changes.values():
        if not change.diff.may_change_types:
            continue
        files = {path.rpartition("/")[2] for path in change.files}
        before, after = change.base.types.defined(files), change.new.types.defined(files)
        comparison = Comparison(change.base.types, change.new.types)
        for key in before.keys() & after.keys() - found.keys():
            what = _difference(comparison, before[key], after[key])
            if what:
                found[key] = _Changed(change, before[key], after[key], what)
    return found


def _difference(comparison: Comparison, old: Node, new: Node) -> str:
    if old.kind != new.kind or old.kind not in (RECORD, ENUM):
        return ""
    if old.kind == ENUM:
        values = dict(new.values)
        told = [
            f"`{name}` ({value} -> {values[name]})" for name, value in old.values if values.get(name, value) != value
        ]
    else:
        told = comparison.moved(old, new)
    if old.size != new.size:
        told.append(f"size {old.size} -> {new.size}")
    elif old.kind == RECORD and not told:
        return ""
    more = [f"and {len(told) - TOLD} more"] if len(told) > TOLD + 1 else []
    return ", ".join([*told[:TOLD], *more, *(told[-1:] if more and "size" in told[-1] else ())] if more else told)


def _is_python_object(types: Types, node: Node) -> bool:
    """Whether a record begins with PyObject_HEAD, itself or in what it begins with."""
    while node.kind == RECORD:
        if node.key in PYTHON_OBJECTS:
            return True
        first = node.members[0] if node.members else None
        if first is None or first.bit:
            return False
        if first.name == "ob_refcnt":  # PyObject_HEAD_INIT of a debug build, or a flattened anonymous struct
            return True
        node = types.node(first.type)
    return False


class _Search:
    """Looks for changed types from everything that is alive."""

    def __init__(self, base: Linked, changes: Mapping[int, Change], swapped: Mapping[int, Collection[str]],
                 anew: Mapping[int, Anew]) -> None:  # fmt: skip
        self._base, self._changes, self._swapped, self._anew = base, changes, swapped, anew
        self._everything: dict[str, tuple[int, Node]] = {}

    def witnesses(self, keys: set[str]) -> dict[str, str]:
        """For each of the changed types that something alive has: what that is."""
        found: dict[str, str] = {}
        seen: set[tuple[int, int]] = set()
        for root in self._roots():
            queue = [(root.unit, root.type)]
            for unit, offset in queue:
                node = self._base.graphs[unit].types.node(offset)
                if not node.offset or (unit, node.offset) in seen:
                    continue
                seen.add((unit, node.offset))
                if node.key in keys:
                    found.setdefault(node.key, root.what)
                if len(found) == len(keys):
                    return found
                if node.kind in (POINTER, ARRAY):
                    queue.append((unit, node.target))
                elif node.is_opaque and node.key in self._definitions():
                    other, definition = self._definitions()[node.key]
                    queue.append((other, definition.offset))
                queue += [(unit, member.type) for member in node.members if member.type]
        return found

    def _definitions(self) -> dict[str, tuple[int, Node]]:
        """Every type of the base's own files, from the first unit that defines it."""
        if not self._everything:
            for unit, graph in enumerate(self._base.graphs):
                for key, node in graph.types.defined(self._files(unit)).items():
                    self._everything.setdefault(key, (unit, node))
        return self._everything

    def _files(self, unit: int) -> set[str]:
        return {path.rpartition("/")[2] for path in self._base.record.units[unit].files}

    def _roots(self) -> Iterator[_Root]:
        for unit, graph in enumerate(self._base.graphs):
            for key, section in graph.variables.items():
                yield _Root(f"variable `{key}` is alive", unit, graph.variable_type(section))
            if "clang" in graph.elf.compiler:  # keeps some in pieces, under other names
                for name, offset in graph.debug.types_by_name.items():
                    if not graph.types.is_const(offset):
                        yield _Root(f"variable `{name}` is alive", unit, offset)
            for symbol in graph.elf.symbols:
                if symbol.section == SHN_COMMON and symbol.name in graph.debug.types_by_name:
                    yield _Root(f"variable `{symbol.name}` is alive", unit, graph.debug.types_by_name[symbol.name])
        for key, (unit, node) in self._definitions().items():
            if _is_python_object(self._base.graphs[unit].types, node):
                yield _Root(f"objects of `{key}` are alive", unit, node.offset)
        for unit, graph in enumerate(self._base.graphs):
            for name, start in graph.types.functions.items():
                if self._stays(unit, name):
                    signature = graph.types.signature(start)
                    for offset in (*signature.parameters, signature.returns):
                        yield _Root(f"`{name}` is not replaced and takes or returns it", unit, offset)
                keepers = self._keepers(graph, name) or self._keeping_variables(unit, name)
                if keepers:
                    for offset in self._pointers(graph, name):
                        yield _Root(f"`{name}` gets one that is alive from {keepers[0]}", unit, offset)

    def _stays(self, unit: int, name: str) -> bool:
        if name in self._swapped.get(unit, ()):
            return False
        change = self._changes.get(unit)
        if change is not None and name not in change.new.functions:
            return False
        spot = self._base.find(unit, name)
        return spot is not None and spot.offset not in self._anew

    @staticmethod
    def _keepers(graph: ObjectGraph, name: str) -> list[str]:
        if not any(s.section == SHN_UNDEF and s.name in KEEPERS for s in graph.elf.symbols):
            return []
        symbol = graph.functions.get(name)
        found = {r.name for r in graph.references(symbol.section)} if symbol else set()
        return sorted(found & KEEPERS)

    def _keeping_variables(self, unit: int, name: str) -> list[str]:
        """The live variables that function ``name`` uses and that have, or lead to, a ``void *``."""
        graph, known = self._base.graphs[unit], self._untyped[unit] | self._untyped[-1]
        symbol = graph.functions.get(name) if known else None
        used = {r.name for section in graph.reach(symbol.section) for r in graph.references(section)
                if r.kind in (TO_VARIABLE, TO_EXTERNAL)} if symbol else set()  # fmt: skip
        return sorted(f"`{key}`" for key in used & known)

    @cached_property
    def _untyped(self) -> dict[int, set[str]]:
        """By unit, the live variables that have, or lead to, a ``void *``; of all units, at -1, the global ones."""
        found: dict[int, set[str]] = {-1: set()}
        for unit, graph in enumerate(self._base.graphs):
            found[unit] = set()
            for key, section in graph.variables.items():
                offset = graph.variable_type(section)
                if offset and not table_kind(graph, section) and self._leads_to_void(unit, offset):
                    is_global = any(s.bind != STB_LOCAL for s in graph.symbols_in.get(section, ()))
                    found[-1 if is_global else unit].add(key)
            for symbol in graph.elf.symbols:
                offset = graph.debug.types_by_name.get(symbol.name, 0) if symbol.section == SHN_COMMON else 0
                if offset and self._leads_to_void(unit, offset):
                    found[-1].add(symbol.name)
        return found

    def _leads_to_void(self, unit: int, offset: int) -> bool:
        types = self._base.graphs[unit].types
        queue, seen = [offset], set()
        for start in queue:
            node = types.node(start)
            if node.offset in seen or not types.names(start).isdisjoint(LOCKS):
                continue
            seen.add(node.offset)
            if node.kind == POINTER:
                target = types.node(node.target)
                if target == NOTHING:
                    return True
                if target.kind != RECORD or target.key in self._definitions():
                    queue.append(node.target)
            elif node.kind == ARRAY:
                queue.append(node.target)
            queue += [member.type for member in node.members if member.type]
        return False

    @staticmethod
    def _pointers(graph: ObjectGraph, name: str) -> Iterator[int]:
        """What the variables of a function, and of those inlined into it, point to."""
        debug = graph.debug
        bounds = next((s.start, s.end) for s in debug.subprograms if s.name == name and s.has_code)
        for die in debug.subtree(*bounds):
            if die.tag in (TAG_VARIABLE, TAG_PARAMETER):
                node = graph.types.node(debug.reference(die, AT_TYPE))
                if node.kind == POINTER:
                    yield node.target
