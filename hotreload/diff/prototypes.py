"""Functions whose prototype changed: each is a new function, and the old one stays for whoever still needs it.

base                       patch
f(long)        ◀─ old      f(long, int)   carried, like any new function: its key tells the prototype
  entry as it was            ▲
g ── replaced ──────────▶ g ─┘            all who refer to the old f must be replaced, or gone
h ── unchanged, same code, but compiled with the new declaration: replaced too
methods[] = {f}, another unit, another library: still need the old one, so the edit is refused
"""

from __future__ import annotations

from typing import Collection, Iterator, Mapping, NamedTuple, Protocol, Sequence, Union

from hotreload.build.prologue import PIECE_NAME
from hotreload.build.record import Record
from hotreload.diff.compare import UnitDiff
from hotreload.diff.graph import CONTENT, FUNCTION, TO_CONTENT, TO_ENTRY, TO_EXTERNAL, VARIABLE, ObjectGraph
from hotreload.diff.types import Comparison
from hotreload.elf.file import (
    SHF_EXECINSTR,
    SHN_UNDEF,
    STB_LOCAL,
    STT_FUNC,
    STV_DEFAULT,
    STV_PROTECTED,
    ElfFile,
)
from hotreload.errors import Finding

__all__ = ["Anew", "Change", "Linked", "Prototypes", "Spot", "examine_prototypes", "referrers"]

TOLD = 3  # of those who still need an old function


class Spot(Protocol):
    """Where something of the base is."""

    @property
    def name(self) -> str: ...
    @property
    def offset(self) -> int: ...
    @property
    def type(self) -> int: ...


class Linked(Protocol):
    """The base, as the guards see it."""

    record: Record
    elf: ElfFile
    graphs: list[ObjectGraph]

    def find(self, unit: int, name: str) -> Union[Spot, None]:
        """Where ``name``, as unit ``unit`` sees it, is in the base."""
        ...


class Change(NamedTuple):
    """One unit that was compiled again: its old and its new object, how they differ, and the files it was made from.

    ``edited_files`` are those whose text is not the one that the base was made from.
    """

    unit: int
    source: str
    base: ObjectGraph
    new: ObjectGraph
    diff: UnitDiff
    files: Collection[str]
    edited_files: Collection[str]

    @property
    def replaced(self) -> tuple[str, ...]:
        return (*self.diff.changed, *self.diff.compiler_changed)

    def place(self, graph: ObjectGraph, function: str) -> tuple[str, int]:
        """File and line where ``function`` begins."""
        heading = graph.debug.headings.get(function)
        return (self.path(heading.file), heading.line) if heading else (self.source, 0)

    def path(self, name: str) -> str:
        """The file of that base name that the unit was made from."""
        return next((path for path in self.files if path.rpartition("/")[2] == name), self.source)


class Anew(NamedTuple):
    """A function that is new although the base has one of its name; ``identity`` tells its prototype."""

    unit: int
    name: str
    identity: str


class Prototypes(NamedTuple):
    """What is to become of the functions with another prototype.

    ``anew`` has them by the base offset of the old function; ``besides`` are, by unit, functions with the same
    code as before that are replaced only because they refer to one of them.
    """

    anew: dict[int, Anew]
    besides: dict[int, tuple[str, ...]]
    findings: list[Finding]
    notes: list[str]


class Referrer(NamedTuple):
    """Who refers to a function: another function, or data."""

    unit: int
    name: str
    is_data: bool


def examine_prototypes(base: Linked, changes: Mapping[int, Change]) -> Prototypes:
    """Find the functions with another prototype, and who still needs the old ones."""
    found = Prototypes({}, {}, [], [])
    told: list[tuple[Change, str, int, str]] = []
    for change in changes.values():
        comparison = Comparison(change.base.types, change.new.types)
        for name in change.replaced:
            old, new = change.base.types.functions.get(name), change.new.types.functions.get(name)
            spot = base.find(change.unit, name)
            if not (old and new and spot) or spot.type != STT_FUNC:
                continue
            before, after = change.base.types.signature(old), change.new.types.signature(new)
            if comparison.is_same_signature(before, after):
                continue
            found.anew[spot.offset] = Anew(change.unit, name, change.new.types.identity(after))
            texts = [change.base.types.spell_function(before, name), change.new.types.spell_function(after, name)]
            if texts[0] == texts[1]:
                texts = [change.base.types.spell_function(before, name, is_stripped=True),
                         change.new.types.spell_function(after, name, is_stripped=True)]  # fmt: skip
            told.append((change, name, spot.offset, f"`{texts[0]}` became `{texts[1]}`"))
    besides: dict[int, list[str]] = {}
    for change, name, offset, what in told:
        needs = _needs(base, changes, found.anew, offset, besides)
        file, line = change.place(change.new, name)
        if needs:
            rest = f" and {len(needs) - TOLD} more" if len(needs) > TOLD else ""
            reason = f"{what}, and the old one is still needed by {', '.join(needs[:TOLD])}{rest}"
            hint = "give the new function another name, or change those too"
            found.findings.append(Finding("prototype-changed", reason, hint, file, line))
        else:
            found.notes.append(f"{what}: it is a new function, and the old one is left alone")
    found.besides.update({unit: tuple(names) for unit, names in besides.items()})
    return found


def _needs(
    base: Linked, changes: Mapping[int, Change], anew: Mapping[int, Anew], offset: int, besides: dict[int, list[str]]
) -> list[str]:
    """Who goes on needing the function at ``offset``; those whom a replacement helps are added to ``besides``."""
    needs = []
    name = anew[offset].name
    exported = {s.name for s in base.elf.dynamic_symbols
                if s.value == offset and s.section != SHN_UNDEF and s.bind != STB_LOCAL
                and s.visibility in (STV_DEFAULT, STV_PROTECTED)}  # fmt: skip
    for referrer in referrers(base, offset):
        spot = base.find(referrer.unit, referrer.name)
        change = changes.get(referrer.unit)
        if referrer.is_data:
            needs.append(_told(base, changes, referrer))
        elif spot is None or spot.offset in anew:
            continue  # dropped by the linker; or itself, or another that is left alone
        elif change is None:
            needs.append(_told(base, changes, referrer))
        elif referrer.name in change.new.functions and referrer.name not in change.replaced:
            names = besides.setdefault(referrer.unit, [])
            if referrer.name not in names:
                names.append(referrer.name)
    if exported:
        needs.append(f"whoever else uses `{name}`, which is exported")
    return needs


def _told(base: Linked, changes: Mapping[int, Change], referrer: Referrer) -> str:
    graph = base.graphs[referrer.unit]
    source = base.record.units[referrer.unit].source
    heading = graph.debug.headings.get(referrer.name)
    line = heading.line if heading else graph.debug.variable_lines.get(referrer.name, 0)
    file = heading.file if heading and heading.file else source.rpartition("/")[2]
    change = changes.get(referrer.unit)
    if referrer.is_data and change is not None:
        line = change.new.debug.variable_lines.get(referrer.name, line)
    return f"`{referrer.name}` ({file}:{line})" if line else f"`{referrer.name}` ({file})"


def referrers(base: Linked, offset: int) -> list[Referrer]:
    """The functions and the data of the base that call the function at ``offset``, or hold its address."""
    found: dict[Referrer, None] = {}
    for unit, graph in enumerate(base.graphs):
        for section in _sections_with_reference(base, unit, graph, offset):
            header = graph.elf.sections[section]
            symbols = graph.symbols_in.get(section, [])
            if not header.flags & SHF_EXECINSTR:
                name = graph.variable_key(section) if symbols else header.name
                found[Referrer(unit, name, is_data=True)] = None
            for owner in _owners(graph, section) if header.flags & SHF_EXECINSTR else ():
                found[Referrer(unit, owner, is_data=False)] = None
    return list(found)


def _sections_with_reference(base: Linked, unit: int, graph: ObjectGraph, offset: int) -> Iterator[int]:
    names: dict[str, bool] = {}
    for section, kind in graph.kinds.items():
        if kind not in (FUNCTION, VARIABLE, CONTENT):
            continue
        for reference in graph.references(section):
            if reference.kind in (TO_ENTRY, TO_EXTERNAL):
                if reference.name not in names:
                    spot = base.find(unit, reference.name)
                    names[reference.name] = spot is not None and spot.offset == offset
                if names[reference.name]:
                    yield section
                    break


def _owners(graph: ObjectGraph, section: int) -> Sequence[str]:
    """The functions that the code in ``section`` belongs to: itself, or those that a piece was split off from."""
    names = [s.name for s in graph.symbols_in.get(section, ()) if s.name in graph.functions]
    if names:
        return names
    pieces = {PIECE_NAME.split(s.name, 1)[0] for s in graph.symbols_in.get(section, ())}
    owners = sorted(pieces & graph.functions.keys())
    if owners:
        return owners
    reaching = []
    for name, symbol in graph.functions.items():
        if any(r.kind == TO_CONTENT and r.section == section for r in graph.references(symbol.section)):
            reaching.append(name)
    return reaching
