"""The guards: what an edit must not do to a running program, looked up in the debug information of old and new.

    statements only were edited ─▶ prototypes of what is replaced, tables, constructors       (cheap: always)
    declarations were edited    ─▶ also types: what changed, and what is alive of it

Everything that is wrong is found at once, in all units. What a person may know better is a finding that can be
allowed; what merely has to be known is a note.
"""

from __future__ import annotations

import os
from typing import Collection, Iterable, Iterator, Mapping, NamedTuple

from hotreload.build import store
from hotreload.diff.graph import CONTENT, FUNCTION, TO_ENTRY, TO_EXTERNAL, TO_VARIABLE, VARIABLE, ObjectGraph
from hotreload.diff.layouts import examine_types, examine_variables, home_of
from hotreload.diff.prototypes import Anew, Change, Linked, examine_prototypes, referrers
from hotreload.diff.tables import NewTable, TableChange, changed_table, is_same_copy, table_kind
from hotreload.diff.types import Comparison
from hotreload.elf.file import SHN_UNDEF, STB_LOCAL, STB_WEAK
from hotreload.errors import Finding

__all__ = ["Change", "Examined", "examine", "examine_compiler"]

MADE_UP = ("_GLOBAL__", "_Z41__static_initialization_and_destruction_", "__cxx_global_var_init")
RESTART = "restart the server to take this edit"
#: Why a table of Python cannot be shown, and what to do, by slug.
WHY_NO_TABLE = {
    "method-flags": (
        "how Python passes the arguments was chosen when the function object was made",
        "restart to change it, or add the function under another name",
    ),
    "method-special": (
        "classes that exist have asked for the name already",
        "restart to change it, or use another name until then",
    ),
    "": (
        "Python has read the live one and does not look again",
        "restart to change it; the functions that it names can be edited freely",
    ),
}


class Examined(NamedTuple):
    """What the guards found; ``anew`` and ``besides`` as in :class:`~hotreload.diff.prototypes.Prototypes`.

    ``tables`` are, by unit, tables of Python that changed and can be shown.
    """

    findings: list[Finding]
    notes: list[str]
    anew: dict[int, Anew]
    besides: dict[int, tuple[str, ...]]
    tables: dict[int, list[NewTable]]


def examine(base: Linked, changes: Mapping[int, Change]) -> Examined:
    """Judge the edit that made ``changes``; nothing but the files of the store and of the objects is read."""
    with base.elf.refusing("debug information"):
        prototypes = examine_prototypes(base, changes)
        swapped = {unit: {*change.replaced, *prototypes.besides.get(unit, ())} for unit, change in changes.items()}
        findings, notes = list(prototypes.findings), list(prototypes.notes)
        layouts = examine_types(base, changes, swapped, prototypes.anew)
        findings += layouts
        tables: dict[int, list[NewTable]] = {}
        moved = {name for change in changes.values() for name in change.diff.added}
        for change in changes.values():
            findings += _parted_names(change)
            findings += examine_variables(base, change)
            changed = _changed_tables(change)
            findings += _tables(change, changed, any(f.slug == "python-object-layout" for f in layouts))
            tables[change.unit] = [found.new for found in changed.values() if found.new]
            findings += _lengths(change, tables[change.unit])
            findings += _copies(base, change, tables[change.unit])
            findings += _constructors(change)
            notes += _notes(change, changed, moved)
            notes += _values_of_arrivals(base, change)
            notes += _begins_anew(base, change) if change.replaced else ()
            findings += _still_in_tables(base, changes, change, moved)
        findings += _no_longer_defined(base, changes)
        notes += _elsewhere(base, changes) if any(swapped.values()) else ()
    return Examined(
        list(dict.fromkeys(findings)), list(dict.fromkeys(notes)), prototypes.anew, prototypes.besides, tables
    )


def examine_compiler(source: str, base: ObjectGraph, new: ObjectGraph) -> list[Finding]:
    """Whether the compiler, and its options, are those that made the base."""
    old, fresh = base.elf.compiler, new.elf.compiler
    if old != fresh:
        reason = f"the base was compiled by {old}, and now by {fresh}"
        return [Finding("compiler-changed", reason, "build again with `hotreload build` and restart", source, 1)]
    before, after = base.debug.producer.split(), new.debug.producer.split()
    gone, added = [w for w in before if w not in after], [w for w in after if w not in before]
    if not before or not after or not (gone or added):  # an empty file has no debug information
        return []
    told = [f"`{' '.join(words)}` {what}" for words, what in ((added, "is new"), (gone, "is gone")) if words]
    reason = f"the options are not those that the base was compiled with: {', '.join(told)}"
    return [Finding("flags-changed", reason, "build again with `hotreload build` and restart", source, 1)]


def _changed_tables(change: Change) -> dict[str, TableChange]:
    """The tables of Python that say something else now, by their variables."""
    diff, base, new = change.diff, change.base, change.new
    pairs = [(key, base.variables[key], new.variables[key]) for key in diff.initial_values]
    if diff.may_change_types:
        pairs += [(key, base.constants[key], new.constants[key]) for key in _changed_constants(base, new)]
    found: dict[str, TableChange] = {}
    for key, old, fresh in pairs:
        table = changed_table(base, old, new, fresh) if table_kind(new, fresh) else None
        if table is not None:
            found[key] = table
    return found


def _tables(change: Change, tables: Mapping[str, TableChange], is_told: bool) -> Iterator[Finding]:
    """Those that cannot be shown; ``is_told``: that objects have another size is a finding already."""
    for key, found in tables.items():
        if found.new or found.is_text or (found.is_size and is_told):
            continue
        why, hint = WHY_NO_TABLE.get(found.kind, WHY_NO_TABLE[""])
        reason = f"`{key}`: {', '.join(found.entries)}; {why}"
        yield Finding(found.kind, reason, hint, change.source, change.new.variable_line(key))


def _copies(base: Linked, change: Change, tables: Iterable[NewTable]) -> Iterator[Finding]:
    """Tables of members of which types have copies that cannot be told from those of another table."""
    for table in tables:
        for graph in base.graphs:
            others = (
                key for key, section in graph.variables.items() if is_same_copy(change.base, table, graph, section)
            )
            other = next(others, None)
            if other is not None:
                reason = f"`{table.key}` says what `{other}` does, and which type has a copy of which cannot be told"
                hint = "restart to change it; the functions that it names can be edited freely"
                yield Finding("method-table", reason, hint, change.source, change.new.variable_line(table.key))
                break


def _lengths(change: Change, tables: Iterable[NewTable]) -> Iterator[Finding]:
    """Tables of another length that the new code goes over by itself: it would go over the live one."""
    base, new = change.base, change.new
    for table in tables:
        sizes = [graph.elf.sections[i].size for graph, i in ((base, table.old_section), (new, table.section))]
        for name in (*change.replaced, *change.diff.added) if sizes[0] != sizes[1] else ():
            if name not in new.initialisers and name not in new.run_once and table.key in _variables_of(new, name):
                reason = f"`{name}` refers to `{table.key}`, and the live one keeps its length"
                hint = "restart to change it, or leave the table to Python"
                yield Finding("method-table", reason, hint, change.source, new.variable_line(table.key))
                break


def _changed_constants(base: ObjectGraph, new: ObjectGraph) -> Iterator[str]:
    for key in base.constants.keys() & new.constants.keys():
        if base.content_fingerprint(base.constants[key]) != new.content_fingerprint(new.constants[key]):
            yield key


def _parted_names(change: Change) -> Iterator[Finding]:
    """Names of one function that are names of two now, although there is one entry."""
    base, new = change.base, change.new
    told: set[str] = set()
    for name in change.replaced:
        old, fresh = base.functions[name], new.functions[name]
        for other in sorted(s.name for s in base.symbols_in[old.section] if s.value == old.value and s.name != name):
            symbol = new.functions.get(other)
            if symbol is None or other in told or (symbol.section, symbol.value) == (fresh.section, fresh.value):
                continue
            told |= {name, other}
            reason = f"`{name}` and `{other}` were names of one function, with one entry, and are two functions now"
            hint = "give the new function a name of its own, or restart"
            yield Finding("alias-moved", reason, hint, change.source, new.line_of(fresh.section))


def _still_in_tables(
    base: Linked, changes: Mapping[int, Change], change: Change, moved: Collection[str]
) -> Iterator[Finding]:
    """Functions that are gone from the text, and to which a live variable of the same name as before points."""
    for name in change.diff.removed:
        spot = base.find(change.unit, name) if name not in moved else None
        for referrer in referrers(base, spot.offset) if spot is not None else ():
            graph = base.graphs[referrer.unit]
            section = graph.variables.get(referrer.name) if referrer.is_data else None
            now = changes[referrer.unit].new if referrer.unit in changes else graph
            if section is None or referrer.name not in now.variables or table_kind(graph, section):
                continue
            reason = f"`{name}` was removed, but the live `{referrer.name}` may still point to it"
            hint = "keep it, or restart: what the initialiser says now is not stored in the live variable"
            source = base.record.units[referrer.unit].source
            yield Finding("removed-referenced", reason, hint, source, now.variable_line(referrer.name))


def _constructors(change: Change) -> Iterator[Finding]:
    """Code that only a load would run, where something new depends on it."""
    base, new = change.base, change.new
    run = _run_once(change) if change.diff.initialisers or _has_new_state(change) else {}
    added = {name for name in new.constructors - base.constructors if new.debug.lines.get(name)}
    for name in sorted(added):
        file, line = change.place(new, name)
        reason = f"`{name}` runs when the library is loaded, and it is not loaded again"
        yield Finding("constructor-added", reason, "restart, or call it from a function that runs", file, line)
    for name in sorted(new.destructors - base.destructors):
        file, line = change.place(new, name)
        reason = f"`{name}` is to run at the end, and the list of what will was read when the library was loaded"
        yield Finding("constructor-added", reason, "restart, or register it with `atexit`", file, line)
    users_of: dict[str, list[str]] = {}
    for name in sorted(run.keys() & new.functions.keys() - added):
        if name in base.functions and base.fingerprint(name) == new.fingerprint(name):
            continue
        for key in sorted(_variables_of(new, name) - base.variables.keys() - base.constants.keys()):
            for other in sorted(new.functions.keys() - run.keys()) if not users_of else ():
                for used in _variables_of(new, other):
                    users_of.setdefault(used, []).append(other)
            users = users_of.get(key)
            if not users:
                continue
            slug = run[name]
            line = new.variable_line(key)
            reason = f"`{key}` is new and is set up by {_setter(name)}, which is not run again"
            reason = f"{reason}, but `{users[0]}` uses it"
            hint = "restart, or set it up where it is first used"
            yield Finding(slug, reason, hint, change.source, line or change.place(new, users[0])[1])


def _setter(name: str) -> str:
    """A function that sets something up; those that g++ and clang++ make up for the objects of a file say nothing."""
    return "the initialisation of C++ objects" if name.startswith(MADE_UP) else f"`{name}`"


def _run_once(change: Change) -> dict[str, str]:
    """The functions that run when the library is loaded or the module made, and only then; what refuses their work.

    Such are those that the loader and Python run, and static ones that nobody but these call.
    """
    new = change.new
    run = dict.fromkeys(new.initialisers | new.run_once, "module-init")
    run.update(dict.fromkeys(new.constructors, "constructor-added"))
    state = new.variables.keys() - change.base.variables.keys()
    ours = (*change.replaced, *change.diff.added)
    if not any(name not in run and new.is_local(name) and _variables_of(new, name) & state for name in ours):
        return run
    users: dict[str, set[str]] = {}
    for section in new.kinds:
        names = {s.name for s in new.symbols_in.get(section, ()) if s.name in new.functions} or {""}
        for reference in new.references(section) if new.kinds[section] in (FUNCTION, VARIABLE, CONTENT) else ():
            if reference.kind == TO_ENTRY:
                users.setdefault(reference.name, set()).update(names)
    has_more = True
    while has_more:
        has_more = False
        for name in users.keys() & new.functions.keys() - run.keys():
            others = users[name] - {name}
            if others and others <= run.keys() and new.is_local(name):
                run[name] = max(run[user] for user in others)
                has_more = True
    return run


def _has_new_state(change: Change) -> bool:
    return bool(change.new.variables.keys() - change.base.variables.keys())


def _variables_of(graph: ObjectGraph, function: str) -> set[str]:
    sections = graph.reach(graph.functions[function].section)
    return {r.name for section in sections for r in graph.references(section) if r.kind == TO_VARIABLE}


def _notes(change: Change, tables: Mapping[str, TableChange], moved: Collection[str]) -> Iterator[str]:
    diff = change.diff
    for name in diff.initial_values:
        found = tables.get(name)
        if found is not None and found.new:
            yield from found.new.notes
            continue
        is_text = found is not None and found.is_text
        yield (
            f"documentation in `{name}` changed: Python shows the old text until a restart"
            if is_text
            else f"initial value of `{name}` changed: the live value is kept"
        )
    for name in diff.removed:
        if name not in moved:
            yield f"`{name}` was removed: the old one stays callable"
    run_once = change.base.run_once if change.replaced else set()
    for name in dict.fromkeys((*diff.initialisers, *sorted(run_once & set(change.replaced)))):
        yield f"`{name}` changed: module init is not run again"


def _values_of_arrivals(base: Linked, change: Change) -> Iterator[str]:
    """Global variables that came from another unit with another initial value."""
    new = change.new
    for key in new.variables.keys() - change.base.variables.keys():
        home = home_of(base, new, key)
        if home and home[0].content_fingerprint(home[1]) != new.content_fingerprint(new.variables[key]):
            yield f"initial value of `{key}` changed: the live value is kept"


def _begins_anew(base: Linked, change: Change) -> Iterator[str]:
    """New variables that the program had, in a way: left out by the compiler, renamed, or in another function."""
    old, new = change.base, change.new
    gone = {key: section for key, section in old.variables.items() if key not in new.variables}
    comparison = Comparison(old.types, new.types)
    for key, section in new.variables.items():
        if key in old.variables or home_of(base, new, key) or table_kind(new, section):
            continue
        if key in old.debug.types_by_name and key not in old.constants:
            yield f"`{key}` begins with its initial value: the compiler had left it out of the base"
            continue
        alike = [
            other
            for other, index in gone.items()
            if old.elf.sections[index].size == new.elf.sections[section].size
            and comparison.is_same(old.variable_type(index), new.variable_type(section))
        ]
        moved = [other for other in alike if _word(other) == _word(key)]
        renamed = [other for other in alike if other.rpartition("::")[0] == key.rpartition("::")[0]]
        for other in moved or renamed if len(moved or renamed) == 1 else ():
            yield f"`{key}` is new and begins anew: the value of `{other}` stays where no new code reads it"


def _word(key: str) -> str:
    return key.rpartition("::")[2].partition("#")[0]


def _no_longer_defined(base: Linked, changes: Mapping[int, Change]) -> Iterator[Finding]:
    """What the sources refer to and no longer define: it works until the next start, which does not."""
    missing: set[str] = set()
    for change in changes.values():
        missing |= _defined(change.base) - _defined(change.new)
    if not missing:
        return
    current = [changes[unit].new if unit in changes else graph for unit, graph in enumerate(base.graphs)]
    missing = missing.difference(*map(_defined, current))
    for unit, graph in enumerate(current):
        wanted = {s.name for s in graph.elf.symbols if s.section == SHN_UNDEF and s.bind != STB_WEAK} & missing
        for name in sorted(wanted):
            user = next((f for f, symbol in graph.functions.items() if _refers(graph, symbol.section, name)), "")
            heading = graph.debug.headings.get(user)
            reason = f"`{name}` is no longer defined, but `{user or 'this file'}` refers to it"
            hint = "define it again, or change what refers to it: the next start could not load the module"
            source = base.record.units[unit].source
            file = changes[unit].path(heading.file) if heading and unit in changes else source
            yield Finding("removed-referenced", reason, hint, file, heading.line if heading else 1)


def _defined(graph: ObjectGraph) -> set[str]:
    return {s.name for s in graph.elf.symbols if s.section != SHN_UNDEF and s.bind != STB_LOCAL}


def _refers(graph: ObjectGraph, section: int, name: str) -> bool:
    reach = graph.reach(section)
    return any(r.name == name and r.kind in (TO_EXTERNAL, TO_ENTRY) for s in reach for r in graph.references(s))


def _elsewhere(base: Linked, changes: Mapping[int, Change]) -> Iterator[str]:
    """Other hot modules that were compiled with the old text of a file that this edit changed."""
    own = base.record
    sources = {os.path.realpath(os.path.join(unit.directory, unit.source)) for unit in own.units}
    edited: dict[str, str] = {}
    for unit, change in changes.items():
        recorded = own.units[unit]
        edited.update({path: recorded.files[path] for path in change.edited_files if path in recorded.files})
    edited = {path: text for path, text in edited.items() if os.path.realpath(path) not in sources}
    if not edited:
        return
    seen = {own.module}
    for record in store.records():
        if record.module in seen:
            continue
        seen.add(record.module)
        files = {path: text for unit in record.units for path, text in unit.files.items()}
        shared = sorted(os.path.basename(path) for path, text in edited.items() if files.get(path) == text)
        if shared:
            names = ", ".join(shared)
            yield f"`{record.module}` was compiled with the old {names} too and keeps it until it is patched"
