"""A case of the catalogue: two versions of a small extension in one file, and what is to become of the edit.

::

    //: edit: a constant                    what the edit is
    //: live: its function is swapped       the verdict, and why
    //: swapped: area                       (live) exactly these functions are redirected, or none
    //: note: of these words                something that must be said beside the verdict
    //: today: nothing to do                what becomes of it as long as it does not become what the verdict says
    //: no line: it is assembly             (refused) why the refusal has no line to name
    //: run: ext.area(2)                    done before the edit, so that there is state
    //: kept: ext.count(0)                  the same before and after the swap, and another in a fresh process
    //: ask: ext.area(3)                    compared: with a build of the new text, or with the base if refused
    //@ ext.c                               where another file begins; the first is ext.c if nothing says so
    static long area(long x)
    {
    //-    return x * 3;                    a line that only the old text has
    //+    return x * 4; //!                one that only the new text has; //! is where the refusal must point
    }

Verdicts: ``live``, ``nothing to do``, ``build error`` and ``refused SLUG[, SLUG...]``.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple, Optional

CASES = Path(__file__).resolve().parent / "cases"

FIELD = re.compile(r"//: ([^:]+):(?: (.*)|$)")
FILE = re.compile(r"//@ (\S+)")
POINT = re.compile(r"\s*//!$")
LIVE, NOTHING, BUILD_ERROR, REFUSED = "live", "nothing to do", "build error", "refused"
WRONG = "wrong answers"  # what an edit may come to today, in spite of a right verdict


class Case(NamedTuple):
    """One edit. ``verdict`` has the slugs too, ``points`` the places in the new text that a refusal must name.

    ``today`` is empty, or what becomes of it although ``verdict`` would be right.
    """

    name: str
    edit: str
    verdict: str
    why: str
    before: dict[str, str]
    after: dict[str, str]
    points: set[tuple[str, int]]
    today: str
    no_line: str
    swapped: Optional[set[str]]
    notes: list[str]
    run: list[str]
    kept: list[str]
    ask: list[str]
    flags: list[str]

    @property
    def is_refused(self) -> bool:
        return self.verdict.startswith(REFUSED)

    @property
    def slugs(self) -> list[str]:
        return self.verdict[len(REFUSED) + 1 :].split(", ") if self.is_refused else []


def read(path: Path) -> Case:
    """The case in that file.

    Raises:
        AssertionError: it is not one.
    """
    fields: dict[str, list[str]] = {}
    before: dict[str, list[str]] = {}
    after: dict[str, list[str]] = {}
    points: set[tuple[str, int]] = set()
    file = f"ext{path.suffix}"
    for line in path.read_text().splitlines():
        field, heading = FIELD.match(line), FILE.match(line)
        if field:
            fields.setdefault(field[1], []).append((field[2] or "").strip())
        elif heading:
            file = heading[1]
        else:
            is_old, is_new = not line.startswith("//+"), not line.startswith("//-")
            text = line if is_old and is_new else line[3:]
            if is_old:
                before.setdefault(file, []).append(POINT.sub("", text))
            if is_new:
                after.setdefault(file, []).append(POINT.sub("", text))
                if POINT.search(text):
                    points.add((file, len(after[file])))
    verdicts = [key for key in fields if key in (LIVE, NOTHING, BUILD_ERROR) or key.startswith(f"{REFUSED} ")]
    assert len(verdicts) == 1, f"{path}: one verdict, not {verdicts}"
    (why,) = fields.pop(verdicts[0])
    case = Case(
        name=str(path.relative_to(CASES).with_suffix("")),
        edit=fields.pop("edit")[0],
        verdict=_sorted(verdicts[0]),
        why=why,
        before=_texts(before),
        after=_texts(after),
        points=points,
        today=_sorted(fields.pop("today", [""])[0]),
        no_line=fields.pop("no line", [""])[0],
        swapped=set(fields.pop("swapped")[0].split()) if "swapped" in fields else None,
        notes=fields.pop("note", []),
        run=fields.pop("run", []),
        kept=fields.pop("kept", []),
        ask=fields.pop("ask"),
        flags=fields.pop("flags", ["-O2"])[0].split(),
    )
    assert not fields, f"{path}: what is {sorted(fields)}?"
    assert case.is_refused or not (case.no_line or case.points), f"{path}: only a refusal has a line"
    return case


def read_all() -> dict[str, Case]:
    """The catalogue, in the order of its table."""
    found = [read(path) for path in sorted(CASES.glob("*/*.c*"))]
    return {case.name: case for case in found}


def _sorted(verdict: str) -> str:
    """A verdict with its slugs in order."""
    if not verdict.startswith(f"{REFUSED} "):
        return verdict
    return f"{REFUSED} {', '.join(sorted(verdict[len(REFUSED) + 1 :].split(', ')))}"


def _texts(files: dict[str, list[str]]) -> dict[str, str]:
    return {name: "\n".join(lines) + "\n" for name, lines in files.items()}
