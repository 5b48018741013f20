"""The workshop: everything known about one base, and the way from its current sources to a patch.

    files changed? ─▶ compile those units ─▶ compare with the base ─▶ guards ─▶ bind ─▶ reduce ─▶ ld ─▶ patch
         │ no: the object at hand                 │ same: nothing, or back to the base
         └────────────────────────────────────────┘

A patch is cumulative: base to current source, never on top of an earlier patch. So a fresh process needs only
the newest one, and saving the original text again is a rollback.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import tempfile
import time
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Callable, Collection, Iterable, Mapping, NamedTuple, Union

from hotreload.build import store
from hotreload.build.command import parse
from hotreload.build.record import Record, Unit
from hotreload.build.replay import Replayed, possible_headers, replay
from hotreload.diff.closures import examine_closures
from hotreload.diff.compare import UnitDiff, compare
from hotreload.diff.cython import examine_constants, is_from_cython
from hotreload.diff.graph import ObjectGraph
from hotreload.diff.guards import Change, Examined, examine, examine_compiler
from hotreload.diff.prototypes import Anew
from hotreload.diff.source import SourceChange
from hotreload.diff.spelling import spelled, spelled_findings
from hotreload.diff.tables import NewTable
from hotreload.diff.verdicts import check_allowed, judged
from hotreload.elf.file import STB_LOCAL, STT_FUNC, STT_GNU_IFUNC, ElfFile
from hotreload.errors import BuildError, Finding, IncompatibleError
from hotreload.patch.base import Base, Place
from hotreload.patch.bind import Binder
from hotreload.patch.debug import DebugField
from hotreload.patch.hooks import HookFunction, find_hooks, notes_about, without_hooks
from hotreload.patch.link import link_patch, make_slots
from hotreload.patch.reduce import DirectField, NameTable, reduce_object, table_symbol
from hotreload.patch.table import HookRoot, PatchInput, Replacement, TableRoot, to_patch

__all__ = ["PatchResult", "Progress", "Workshop"]

#: Is told of a unit before it is compiled: its source, its number from 1, and how many there are.
Progress = Callable[[str, int, int], None]


class PatchResult(NamedTuple):
    """What :meth:`Workshop.make` found and made.

    ``kind`` is "patch", or "base" when the sources mean what the base means; then ``path`` is None. ``digest``
    is equal for equal code. ``inputs`` maps each file that was read to the SHA-256 of what was read.
    ``edited`` are the functions whose text changed; ``changed`` and ``compiler_changed`` are those that are
    swapped, the latter because the compiler made other code of the same text. ``seconds`` has build, diff and
    link. ``reason`` says why there is nothing to do, where that is so.
    """

    kind: str
    digest: str
    path: Union[Path, None]
    edited: tuple[str, ...]
    changed: tuple[str, ...]
    compiler_changed: tuple[str, ...]
    added: tuple[str, ...]
    removed: tuple[str, ...]
    notes: tuple[str, ...]
    warnings: str
    inputs: Mapping[Path, str]
    seconds: Mapping[str, float]
    reason: str = ""


class _Fresh:
    """A replayed unit with its graph, which is kept until the unit's files change.

    ``meaning`` is the graph that its digest is made from: an earlier one where nothing but line numbers moved. Then
    ``diff``, its difference from the base, is the earlier one's too.
    """

    def __init__(self, replayed: Replayed, source: str, earlier: Union[_Fresh, None]) -> None:
        self.graph = self.meaning = ObjectGraph(replayed.elf)
        self.files, self.texts, self.warnings = replayed.files, replayed.texts, replayed.warnings
        self.diff: Union[UnitDiff, None] = None
        self.told: list[str] = []
        if earlier is not None:
            old, new = earlier.graph, self.graph
            change = SourceChange(earlier.texts, self.texts, old.debug.headings, new.debug.headings)
            if compare(old, new, change, source).is_same_code:
                self.meaning, self.diff, self.told = earlier.meaning, earlier.diff, earlier.told


class _Draft(NamedTuple):
    """A patch before it is linked: its inputs, what the link table gets, and why it cannot be made."""

    replacements: list[Replacement]
    binder: Binder
    inputs: dict[int, bytes]
    fields: list[DirectField]
    stand_ins: NameTable
    hooks: list[HookRoot]
    tables: list[TableRoot]
    findings: list[Finding]
    debug: list[DebugField]


class Workshop:
    """Makes patches for one base. Not for use from several threads at once.

    ``allow`` has slugs of refusals that the caller takes upon himself: they become notes.

    Raises:
        BuildError: from :meth:`open`: the base is not in the store. From :meth:`make`: the compiler or the
            linker said no; ``diagnostics`` is what it printed. Nothing else changed; the next call starts anew.
        IncompatibleError: from :meth:`make`: the edit compiles and cannot go live; ``findings`` says why.
        HotReloadError: from :meth:`open`, and when ``allow`` is set: a slug that can never be allowed, or is none.
    """

    def __init__(self, record: Record, library: bytes, *, allow: Collection[str] = ()) -> None:
        self.allow = check_allowed(allow)
        self.colours = False  # whether the compiler is asked for coloured diagnostics
        self.progress: Union[Progress, None] = None
        self.compiling = ""  # what was compiled last, or is now; read from another thread
        self._record = record
        self._library = library
        self._current: dict[int, _Fresh] = {}
        self._awaited: set[str] = set()
        self._directory = tempfile.mkdtemp(prefix="hotreload-")
        self._made = 0

    @classmethod
    def open(cls, build_id: str, *, allow: Collection[str] = ()) -> Workshop:
        """The workshop of the base with that build-id (hexadecimal)."""
        return cls(*store.load_base(build_id), allow=allow)

    @property
    def allow(self) -> frozenset[str]:
        return self._allow

    @allow.setter
    def allow(self, slugs: Collection[str]) -> None:
        self._allow = check_allowed(slugs)

    @property
    def module(self) -> str:
        return self._record.module

    @property
    def build_id(self) -> str:
        return self._record.build_id

    @property
    def record(self) -> Record:
        """What the base remembers about its making."""
        return self._record

    def close(self) -> None:
        """Remove the patches that were made and are still in the workshop."""
        shutil.rmtree(self._directory, ignore_errors=True)

    def watched_files(self) -> frozenset[Path]:
        """The sources and project headers that the units read, when they were last compiled.

        While a header is missing, also the places where it could appear; no file is there yet.
        """
        names = {path for unit in self._record.units for path in unit.files} | self._awaited
        names |= {path for replayed in self._current.values() for path in replayed.files}
        return frozenset(Path(name) for name in names)

    def base_texts(self) -> dict[Path, str]:
        """What the project's files said when the base was built, to show an edit beside it. Raises BuildError."""
        files = {path: name for unit in self._record.units for path, name in unit.files.items()}
        return {Path(path): store.load_text(name).decode("utf-8", "replace") for path, name in files.items()}

    @cached_property
    def base(self) -> Base:
        """The base with the graphs of its objects."""
        graphs = [ObjectGraph(ElfFile(store.load_object(unit.object), unit.source)) for unit in self._record.units]
        return Base(self._record, ElfFile(self._library, self._record.module), graphs)

    def make(self) -> PatchResult:
        """Bring the patch up to what the sources say now."""
        start = time.monotonic()
        fresh = self._compile_changed()
        built = time.monotonic()
        diffs = {unit: self._compare(unit, replayed) for unit, replayed in fresh.items()}
        changes = {unit: self._change(unit, replayed, diffs[unit]) for unit, replayed in fresh.items()}
        examined = examine(self.base, changes)
        graphs = {unit: replayed.graph for unit, replayed in fresh.items()}
        swapped = {unit: self._swapped(change, examined) for unit, change in changes.items()}
        hooks = {unit: find_hooks(self.base.graphs[unit], graph) for unit, graph in graphs.items()}
        meanings = {unit: replayed.meaning for unit, replayed in fresh.items()}
        tables = self._tables(examined, changes)
        digest = self._digest(meanings, swapped, hooks, examined.anew, tables)
        compared = time.monotonic()
        draft = self._draft(graphs, swapped, hooks, examined.anew, tables)
        has_changes = any(swapped.values()) or any(tables.values())
        notes = [*examined.notes, *self._judge(changes, examined, draft, fresh)]
        notes += chain.from_iterable(replayed.told for replayed in fresh.values())
        notes += notes_about(chain(*hooks.values()), has_changes=has_changes)
        path = self._link(draft) if has_changes else None
        linked = time.monotonic()
        files = {path: text for unit in self._record.units for path, text in unit.files.items()}
        for replayed in fresh.values():
            files.update(replayed.files)
        return PatchResult(
            kind="patch" if path else "base",
            digest=digest,
            path=path,
            edited=_gather(diff.edited for diff in diffs.values()),
            changed=_gather([n for n in names if n not in diffs[u].compiler_changed] for u, names in swapped.items()),
            compiler_changed=_gather(diff.compiler_changed for diff in diffs.values()),
            added=_gather([*(diff.added for diff in diffs.values()), [new.name for new in examined.anew.values()]]),
            removed=_gather(diff.removed for diff in diffs.values()),
            notes=tuple(spelled(notes)),
            warnings="".join(replayed.warnings for replayed in fresh.values()),
            inputs={Path(path): text for path, text in files.items()},
            seconds={"build": built - start, "diff": compared - built, "link": linked - compared},
            reason="" if path else _why_nothing(bool(fresh), notes),
        )

    def _compile_changed(self) -> dict[int, _Fresh]:
        """The units whose files differ from the base's, compiled where what is at hand is not up to date."""
        fresh = {}
        changed = {index: unit for index, unit in enumerate(self._record.units) if not _is_current(unit.files)}
        for index in self._current.keys() - changed.keys():
            del self._current[index]
        for number, (index, unit) in enumerate(changed.items(), 1):
            at_hand = self._current.get(index)
            if at_hand is None or not _is_current(at_hand.files):
                self.compiling = os.path.basename(unit.source)
                if self.progress is not None:
                    self.progress(unit.source, number, len(changed))
                replayed = self._replay(unit)
                at_hand = _Fresh(replayed, unit.source, at_hand)
                if replayed.is_settled:
                    self._current[index] = at_hand
                else:
                    self._current.pop(index, None)
            fresh[index] = at_hand
        return fresh

    def _replay(self, unit: Unit) -> Replayed:
        self._awaited = set()
        try:
            return replay(unit, self._directory, colours=self.colours)
        except BuildError as error:
            self._awaited = possible_headers(unit, error.diagnostics)
            raise

    def _compare(self, index: int, replayed: _Fresh) -> UnitDiff:
        if replayed.diff is None or replayed.diff.findings:
            replayed.diff = self._compare_with_base(index, replayed)
        return replayed.diff

    def _compare_with_base(self, index: int, replayed: _Fresh) -> UnitDiff:
        unit, graph = self._record.units[index], self.base.graphs[index]
        old = {path: _decode(store.load_text(name)) for path, name in unit.files.items()}
        change = SourceChange(old, replayed.texts, graph.debug.headings, replayed.graph.debug.headings)
        diff = compare(graph, replayed.graph, change, unit.source)
        constants: list[Finding] = []
        if is_from_cython(replayed.texts.get(unit.source, "")):
            constants, replayed.told = examine_constants(old.get(unit.source, ""), replayed.texts[unit.source])
        swapped = (*diff.changed, *diff.compiler_changed)
        closures = examine_closures(graph, replayed.graph, swapped, unit.source)
        return diff._replace(
            findings=(*constants, *closures, *diff.findings),
            changed=without_hooks(diff.changed),
            compiler_changed=without_hooks(diff.compiler_changed),
            added=without_hooks(diff.added),
            removed=without_hooks(diff.removed),
        )

    def _change(self, index: int, replayed: _Fresh, diff: UnitDiff) -> Change:
        unit = self._record.units[index]
        files = {**unit.files, **replayed.files}
        edited = [path for path, text in unit.files.items() if replayed.files.get(path, text) != text]
        return Change(index, unit.source, self.base.graphs[index], replayed.graph, diff, files, edited)

    def _swapped(self, change: Change, examined: Examined) -> tuple[str, ...]:
        """The functions of a unit that are replaced; also those that came from another unit and are others now."""
        names = []
        for name in (*change.replaced, *examined.besides.get(change.unit, ())):
            place = self.base.find(change.unit, name)
            if place is None or place.offset not in examined.anew:
                names.append(name)
        for name in change.diff.added:
            place = self.base.globals.get(name)
            if place is not None and place.type == STT_FUNC and change.new.functions[name].bind != STB_LOCAL:
                old = next((graph for graph in self.base.graphs if name in graph.functions), None)
                if old is None or old.fingerprint(name) != change.new.fingerprint(name):
                    names.append(name)
        return tuple(names)

    def _judge(
        self, changes: Mapping[int, Change], examined: Examined, draft: _Draft, fresh: Mapping[int, _Fresh]
    ) -> list[str]:
        """Refuse the edit for all that is wrong with it, or say what was allowed."""
        findings = [finding for change in changes.values()
                    for finding in examine_compiler(change.source, change.base, change.new)]  # fmt: skip
        findings += [finding for change in changes.values() for finding in change.diff.findings]
        findings += examined.findings
        told = " ".join(finding.reason for finding in findings)
        findings += [finding for finding in draft.findings if not _is_told(finding, told)]
        refused = [judged(finding) for finding in findings if finding.slug not in self.allow]
        if refused:
            raise _incompatible(spelled_findings(refused), [replayed.texts for replayed in fresh.values()])
        return [f"allowed: {finding._replace(hint='')}".replace(" refused:", "") for finding in findings]

    def _digest(
        self,
        graphs: dict[int, ObjectGraph],
        swapped: dict[int, tuple[str, ...]],
        hooks: dict[int, list[HookFunction]],
        anew: Mapping[int, Anew],
        tables: Mapping[int, list[NewTable]],
    ) -> str:
        digest = hashlib.sha256(self.build_id.encode())
        for unit, names in sorted(swapped.items()):
            for name in (*names, *(hook.function for hook in hooks[unit])):
                digest.update(f"{unit}:{name}:".encode() + graphs[unit].fingerprint(name))
            for name in sorted(graphs[unit].functions.keys() - self.base.graphs[unit].functions.keys()):
                digest.update(f"{unit}:{name}:".encode() + graphs[unit].fingerprint(name))
        for unit, found in sorted(tables.items()):
            for table in found:
                section = graphs[unit].variables[table.key]
                digest.update(f"{unit}:{table.key}:".encode() + graphs[unit].content_fingerprint(section))
        for new in anew.values():
            digest.update(f"{new.unit}:{new.name} as {new.identity}:".encode() + graphs[new.unit].fingerprint(new.name))
        return digest.hexdigest()

    def _tables(self, examined: Examined, changes: Mapping[int, Change]) -> dict[int, list[NewTable]]:
        """The tables that are shown; what the linker has dropped from the base is nobody's."""
        return {
            unit: [table for table in found if self._live_table(changes[unit].base, unit, table) is not None]
            for unit, found in examined.tables.items()
        }

    def _live_table(self, graph: ObjectGraph, unit: int, table: NewTable) -> Union[Place, None]:
        return self.base.find(unit, graph.symbols_in[table.old_section][0].name)

    def _draft(
        self,
        graphs: dict[int, ObjectGraph],
        swapped: dict[int, tuple[str, ...]],
        hooks: dict[int, list[HookFunction]],
        anew: Mapping[int, Anew],
        tables: dict[int, list[NewTable]],
    ) -> _Draft:
        """All of the patch that can be thought out before it is linked."""
        binder = Binder(self.base, graphs, anew, tables)
        replacements, roots, findings = self._replacements(graphs, swapped)
        for unit, names in swapped.items():
            for name in (*names, *(hook.function for hook in hooks[unit])):
                binder.add(unit, name)
        binder.add_tables()
        hook_roots = _hook_roots(hooks, roots)
        findings += binder.findings
        stand_ins = NameTable()
        inputs: dict[int, bytes] = {}
        fields: list[DirectField] = []
        debug: list[DebugField] = []
        for unit, plan in binder.plans.items() if any(swapped.values()) or any(tables.values()) else ():
            reduced = reduce_object(plan, roots[unit], binder.carried, stand_ins, self.base)
            findings += reduced.findings
            fields += reduced.fields
            debug += reduced.debug
            inputs[unit] = reduced.content
        table_roots = [
            TableRoot(table_symbol(unit, table), table, place)
            for unit, found in tables.items()
            for table in found
            for place in [self._live_table(self.base.graphs[unit], unit, table)]
            if place is not None
        ]
        return _Draft(replacements, binder, inputs, fields, stand_ins, hook_roots, table_roots, findings, debug)

    def _link(self, draft: _Draft) -> Path:
        self._made += 1
        stem = os.path.join(self._directory, str(self._made))
        inputs = []
        for unit, content in draft.inputs.items():
            inputs.append(f"{stem}.{unit}.o")
            Path(inputs[-1]).write_bytes(content)
        new_functions = sum(item.is_function for item in draft.binder.carried)
        if self._record.prologue == "slot" and new_functions:
            inputs.append(f"{stem}.slots.o")
            Path(inputs[-1]).write_bytes(make_slots(new_functions))
        try:
            compiler = tuple(parse(self._record.units[0].argv).compiler)
            link_patch(inputs, f"{stem}.so", self._record, compiler, f"{stem}.map")
            given = PatchInput(
                self.base,
                draft.replacements,
                draft.binder.carried,
                draft.fields,
                draft.stand_ins,
                list(draft.binder.plans.values()),
                draft.hooks,
                draft.tables,
                draft.debug,
            )
            patch = to_patch(Path(f"{stem}.so").read_bytes(), given)
            path = Path(f"{stem}.hotpatch")
            path.write_bytes(patch)
        finally:
            for name in (*inputs, f"{stem}.so", f"{stem}.map"):
                if os.path.exists(name):
                    os.unlink(name)
        return path

    def _replacements(
        self, graphs: dict[int, ObjectGraph], swapped: dict[int, tuple[str, ...]]
    ) -> tuple[list[Replacement], dict[int, dict[str, str]], list[Finding]]:
        """The functions to be redirected; a finding for each whose entry in the base has no hook."""
        replacements: list[Replacement] = []
        roots: dict[int, dict[str, str]] = {unit: {} for unit in swapped}
        findings: list[Finding] = []
        reasons = {entry.name: entry.reason for entry in self._record.unpatchable}
        entries: set[int] = set()
        for unit, names in swapped.items():
            source = self._record.units[unit].source
            for name in names:
                place = self.base.find(unit, name)
                line = _line_of(graphs[unit], name)
                if place is None or place.type not in (STT_FUNC, STT_GNU_IFUNC):
                    continue  # the linker dropped it from the base: nobody can call it
                if place.is_ifunc or graphs[unit].functions[name].type == STT_GNU_IFUNC:
                    reason = f"which `{name}` is called was chosen when the library was loaded"
                    hint = "edit the functions that it is chosen from, or restart"
                    findings.append(Finding("ifunc", reason, hint, source, line))
                    continue
                if not self.base.is_patchable(place):
                    why = reasons.get(name, "its entry is no hook prologue")
                    reason = f"`{name}` cannot be patched: {why}"
                    findings.append(Finding("no-hook", reason, "restart the server to take this edit", source, line))
                    continue
                if place.offset in entries:
                    continue  # another name of one function, or another unit's copy of an inline function
                entries.add(place.offset)
                symbol = f"hr.f.{len(replacements)}"
                roots[unit][name] = symbol
                replacements.append(Replacement(symbol, name, place, unit))
        return replacements, roots, findings


def _hook_roots(hooks: dict[int, list[HookFunction]], roots: dict[int, dict[str, str]]) -> list[HookRoot]:
    """Names the hooks ``hr.h.N`` and makes them roots of the link."""
    found: list[HookRoot] = []
    for unit, functions in hooks.items():
        for hook in functions:
            found.append(HookRoot(f"hr.h.{len(found)}", hook.kind, hook.name))
            roots[unit][hook.function] = found[-1].symbol
    return found


def _why_nothing(has_other_text: bool, notes: list[str]) -> str:
    if not has_other_text:
        return "the sources are those that the base was made from"
    if notes:
        return "no function's code differs; the notes say what else has changed"
    return "only names, comments, white space or line numbers differ, which no code shows"


def _is_current(files: Mapping[str, str]) -> bool:
    """Whether every file still has the text that ``files`` says."""
    try:
        return all(hashlib.sha256(Path(path).read_bytes()).hexdigest() == text for path, text in files.items())
    except OSError:
        return False


def _decode(text: bytes) -> str:
    return text.decode("utf-8", errors="surrogateescape")


def _gather(groups: Iterable[Iterable[str]]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for group in groups for name in group))


def _line_of(graph: ObjectGraph, name: str) -> int:
    """The line of a function; of one without a body, that of the function which has its code."""
    section = graph.functions[name].section
    names = (name, *(symbol.name for symbol in graph.symbols_in.get(section, ())))
    return next((graph.debug.lines[other] for other in names if other in graph.debug.lines), 0)


def _is_told(finding: Finding, told: str) -> bool:
    """Whether what a finding is about has a better one already."""
    subject = re.search(r"`[^`]+`", finding.reason)
    return finding.slug == "relocation" and subject is not None and subject[0] in told


def _incompatible(findings: list[Finding], texts: Iterable[Mapping[str, str]]) -> IncompatibleError:
    """The error, with the lines that it is about as the compiler read them."""
    lines = {path: text.split("\n") for read in texts for path, text in read.items()}
    sources = {
        f"{finding.file}:{finding.line}": lines[finding.file][finding.line - 1]
        for finding in findings
        if 0 < finding.line <= len(lines.get(finding.file, ()))
    }
    return IncompatibleError(str(findings[0]), findings=tuple(findings), sources=sources)
