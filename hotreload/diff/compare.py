"""One unit compared with its base: which functions differ, who changed them, and what cannot go live."""

from __future__ import annotations

import re
import struct
from typing import Iterable, NamedTuple

from hotreload.diff.graph import ObjectGraph, Piece
from hotreload.diff.source import SourceChange
from hotreload.diff.tables import table_kind
from hotreload.elf.file import SHF_TLS
from hotreload.errors import Finding

__all__ = ["UnitDiff", "compare"]

NUMBERED = re.compile(r"[#.]\d+$")  # the number by which variables of one name are told apart
LAMBDA = re.compile(r"(Ul\w*?E)\d*_")  # in a mangled C++ name: counted in the order of the text
PART_OF_VARIABLE = re.compile(r"\.(?:\d+|b)$")


class UnitDiff(NamedTuple):
    """What an edit did to one object.

    ``edited`` are the functions whose text the person changed; ``changed`` those whose code differs because of
    that, inlining callers among them; ``compiler_changed`` those whose code differs although neither they nor
    anything inlined into them was touched. ``changed`` and ``compiler_changed`` together are what is swapped.
    ``initial_values`` are variables, and ``initialisers`` functions, whose change only a new load would show.
    ``may_change_types`` is False where nothing but statements was edited.
    """

    edited: tuple[str, ...]
    changed: tuple[str, ...]
    compiler_changed: tuple[str, ...]
    added: tuple[str, ...]
    removed: tuple[str, ...]
    initial_values: tuple[str, ...]
    initialisers: tuple[str, ...]
    findings: tuple[Finding, ...]
    may_change_types: bool = True

    @property
    def is_same_code(self) -> bool:
        """Whether nothing differs but the text, and the line numbers in the code."""
        return not any(
            (self.changed, self.compiler_changed, self.added, self.removed, self.initial_values, self.findings)
        )


def compare(base: ObjectGraph, new: ObjectGraph, source: SourceChange, path: str) -> UnitDiff:
    """Compare the fresh object of the source at ``path`` with the base's object of it."""
    changed: list[str] = []
    compiler_changed: list[str] = []
    for name in sorted(base.functions.keys() & new.functions.keys()):
        if base.fingerprint(name) == new.fingerprint(name):
            continue
        bodies = base.bodies(name) | new.bodies(name)
        is_concerned = any(source.mentions_change(body) for body in bodies)
        if not source.edited.isdisjoint(bodies):
            changed.append(name)
        elif source.leaves_the_rest_alone and _differ_in_lines_only(base.pieces(name), new.pieces(name), source):
            if is_concerned:  # a number that an edited function returned may look like a line as well
                compiler_changed.append(name)
        elif is_concerned:
            changed.append(name)
        else:
            compiler_changed.append(name)
    known = new.debug.lines
    added = sorted(new.functions.keys() - base.functions.keys())
    return UnitDiff(
        edited=tuple(sorted(source.edited)),
        changed=tuple(changed),
        compiler_changed=tuple(compiler_changed),
        added=tuple(added),
        removed=tuple(sorted(name for name in base.functions.keys() - new.functions.keys() if name not in known)),
        initial_values=tuple(_changed_initial_values(base, new)),
        initialisers=tuple(name for name in (*changed, *compiler_changed, *added) if name in new.initialisers),
        findings=(*_findings(base, new, path), *_ambiguous(base, new, source, path)),
        may_change_types=source.may_change_types,
    )


def _changed_initial_values(base: ObjectGraph, new: ObjectGraph) -> list[str]:
    return [
        key
        for key, section in new.variables.items()
        if key in base.variables and base.content_fingerprint(base.variables[key]) != new.content_fingerprint(section)
    ]


def _findings(base: ObjectGraph, new: ObjectGraph, path: str) -> list[Finding]:
    findings = []
    for key, section in new.variables.items():
        line = new.variable_line(key) if _is_other(base, new, key) else 0
        fresh = new.elf.sections[section]
        if key not in base.variables:
            form = _other_form(base, new, section)
            if form:
                findings.append(
                    Finding(
                        "variable-form",
                        f"the compiler keeps variable `{form}` in another form than it does in the base",
                        "restart to take this edit",
                        path,
                        line or new.variable_line(form),
                    )
                )
            if fresh.flags & SHF_TLS:
                findings.append(
                    Finding(
                        "thread-local-added",
                        f"thread-local variable `{key}` is new, and running threads have no storage for it",
                        "restart to add it, or keep the state in a variable of another kind",
                        path,
                        line,
                    )
                )
            continue
        old = base.elf.sections[base.variables[key]]
        if (old.flags ^ fresh.flags) & SHF_TLS:
            kinds = ("one per thread", "one for all threads")
            was, now = kinds if old.flags & SHF_TLS else kinds[::-1]
            findings.append(
                Finding(
                    "thread-local-changed",
                    f"variable `{key}` was {was} and is now {now}",
                    "restart to change it, or give the new variable another name",
                    path,
                    line,
                )
            )
        elif old.size != fresh.size and not table_kind(new, section):
            findings.append(
                Finding(
                    "variable-size",
                    f"variable `{key}` was {old.size} bytes and is now {fresh.size}; the live one keeps its size",
                    "restart to change it, or give the new variable another name",
                    path,
                    line,
                )
            )
    return findings


def _is_other(base: ObjectGraph, new: ObjectGraph, key: str) -> bool:
    if key not in base.variables:
        return True
    old, fresh = base.elf.sections[base.variables[key]], new.elf.sections[new.variables[key]]
    return old.size != fresh.size or bool((old.flags ^ fresh.flags) & SHF_TLS)


def _ambiguous(base: ObjectGraph, new: ObjectGraph, source: SourceChange, path: str) -> list[Finding]:
    """Static variables that are told apart by a number only, where that number may have become another's.

    In a function that was edited they may have traded places, and nothing in either object shows it.
    """
    findings = []
    before, after = _by_name(base.variables), _by_name(new.variables)
    for name in sorted(before.keys() & after.keys()):
        owner, _, word = name.rpartition("::")
        traded = len(after[name]) > 1 and not source.keeps_statics_apart(owner, word)
        if before[name] != after[name] or traded:
            where = f" in `{owner}`" if owner else ""
            reason = f"which of the static variables `{word}`{where} is which of the live ones cannot be told any more"
            hint = "give them different names, or restart to take this edit"
            line = new.debug.lines.get(owner) or new.variable_line(min(after[name]))
            findings.append(Finding("static-ambiguous", reason, hint, path, line))
    return findings


def _by_name(keys: Iterable[str]) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for key in keys:
        found.setdefault(NUMBERED.sub("", LAMBDA.sub(r"\1_", key)), set()).add(key)
    return found


def _other_form(base: ObjectGraph, new: ObjectGraph, section: int) -> str:
    """The variable that ``section`` holds in full or in part, where the base has it in another form.

    clang splits a static struct ``pair`` into ``pair.0`` and ``pair.1``, and makes one bit ``mode.b`` of a number.
    """
    if "clang" not in base.elf.compiler:
        return ""
    known = {_whole(s.name) for index in base.variables.values() for s in base.symbols_in.get(index, ())}
    return next((_whole(s.name) for s in new.symbols_in.get(section, ()) if _whole(s.name) in known), "")


def _whole(name: str) -> str:
    return PART_OF_VARIABLE.sub("", name)


def _differ_in_lines_only(old: list[Piece], new: list[Piece], source: SourceChange) -> bool:
    """Whether all differences are 4-byte numbers that are line numbers of unchanged text, moved along."""
    if len(old) != len(new):
        return False
    return all(
        a.references == b.references
        and len(a.content) == len(b.content)
        and _numbers_are_moved_lines(a.content, b.content, source)
        for a, b in zip(old, new)
    )


def _numbers_are_moved_lines(old: bytes, new: bytes, source: SourceChange) -> bool:
    position = 0
    while position < len(old):
        if old[position] == new[position]:
            position += 1
            continue
        for start in range(max(0, position - 3), position + 1):
            if start + 4 > len(old):
                continue
            before, after = struct.unpack_from("<I", old, start)[0], struct.unpack_from("<I", new, start)[0]
            if source.is_moved_line(before, after):
                position = start + 4
                break
        else:
            return False
    return True
