"""Two versions of some files as hunks of lines, each with the function that it is in; plain data for the page."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

__all__ = ["compare"]

# More lines than this nobody reads; what is left out is said.
_LINES = 1500
_LENGTH = 400
_CONTEXT = 3
# A line at the left edge that begins something, as `diff -p` takes it; of Python, a def or class at any depth.
_C_HEADING = re.compile(r"[A-Za-z_$][^;]*\(|(?:struct|union|enum|typedef)\b")
_PYTHON_HEADING = re.compile(r"\s*(?:async\s+def|def|class)\s")

Files = Mapping[str, "str | None"]


def compare(before: Files, after: Files) -> dict[str, Any]:
    """The files that differ, in the order of their paths.

    A file of which a version is not kept any more has a ``note`` instead of hunks. ``left_out`` counts the lines that
    were too many.
    """
    files: list[dict[str, Any]] = []
    room = _LINES
    left_out = 0
    for path in sorted({*before, *after}):
        old, new = before.get(path, ""), after.get(path, "")
        if old == new and path in before and path in after:
            continue
        shown: dict[str, Any] = {"path": path, "name": os.path.basename(path), "hunks": []}
        if old is None or new is None:
            shown["note"] = "this text is not kept any more"
        else:
            for hunk in _hunks(old.splitlines(), new.splitlines(), is_python=path.endswith(".py")):
                taken = hunk["lines"][: max(0, room)]
                left_out += len(hunk["lines"]) - len(taken)
                room -= len(taken)
                if taken:
                    shown["hunks"].append({**hunk, "lines": taken})
        files.append(shown)
    return {"files": files, "left_out": left_out}


def _hunks(old: Sequence[str], new: Sequence[str], *, is_python: bool) -> list[dict[str, Any]]:
    hunks = []
    for group in _groups(old, new):
        lines: list[tuple[str, str]] = []
        changed = None
        for tag, old_start, old_end, new_start, new_end in group:
            if tag == "equal":
                lines += [(" ", line[:_LENGTH]) for line in new[new_start:new_end]]
                continue
            if changed is None:
                changed = new_start
            lines += [("-", line[:_LENGTH]) for line in old[old_start:old_end]]
            lines += [("+", line[:_LENGTH]) for line in new[new_start:new_end]]
        hunks.append(
            {
                "old": group[0][1] + 1,
                "new": group[0][3] + 1,
                "heading": _heading(new, changed or 0, is_python=is_python),
                "lines": lines,
            }
        )
    return hunks


def _groups(old: Sequence[str], new: Sequence[str]) -> Iterator[list[tuple[str, int, int, int, int]]]:
    """The parts that differ, with their context. Only what is between is compared: most edits are small."""
    least = min(len(old), len(new))
    start = next((at for at in range(least) if old[at] != new[at]), least)
    end = next((at for at in range(least - start) if old[-1 - at] != new[-1 - at]), least - start)
    start, end = max(0, start - _CONTEXT), max(0, end - _CONTEXT)
    matcher = difflib.SequenceMatcher(None, old[start : len(old) - end], new[start : len(new) - end])
    for group in matcher.get_grouped_opcodes(_CONTEXT):
        yield [(tag, *(at + start for at in places)) for tag, *places in group]  # type: ignore[misc]


def _heading(lines: Sequence[str], index: int, *, is_python: bool) -> str:
    """The function that a line is in, by its looks."""
    pattern = _PYTHON_HEADING if is_python else _C_HEADING
    for line in reversed(lines[: index + 1]):
        if pattern.match(line):
            return line.strip().rstrip("{").strip()[:_LENGTH]
    return ""
