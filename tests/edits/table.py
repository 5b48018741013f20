"""The table of the catalogue in README.md, drawn from the cases: ``python -m tests.edits.table`` writes it."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby
from pathlib import Path

from hotreload.diff.verdicts import ALLOWABLE
from tests.edits.case import Case, read_all

README = Path(__file__).resolve().parent / "README.md"
NEVER = "!"  # behind a slug that nobody can allow
START, END = "<!-- table -->\n", "<!-- end of table -->\n"
ROOMS = {
    "build": "The build",
    "code": "Code",
    "data": "Variables",
    "functions": "Functions: prototypes, tables of functions, removal",
    "link": "What the linker and the loader do",
    "python": "Python's own tables",
    "types": "Types",
}


def drawn(cases: Iterable[Case]) -> str:
    """The table as the cases have it."""
    rows = list(cases)
    refused = sum(case.is_refused for case in rows)
    late = sum(bool(case.today) for case in rows)
    rest = f" For {late} the verdict is not reached today." if late else ""
    lines = [f"{len(rows)} edits, {refused} of them to be refused.{rest}\n"]
    for room, group in groupby(rows, key=lambda case: case.name.split("/")[0]):
        lines += [f"\n### {ROOMS[room]}\n", "\n| edit | verdict | why |\n", "|---|---|---|\n"]
        lines += [
            f"| [{case.edit}](cases/{case.name}{_suffix(case)}) | {_verdict(case)} | {case.why} |\n" for case in group
        ]
    return "".join(lines)


def held() -> str:
    """The table as the file has it."""
    return README.read_text().split(START)[1].split(END)[0]


def _suffix(case: Case) -> str:
    return ".cpp" if "ext.cpp" in case.before else ".c"


def _verdict(case: Case) -> str:
    slugs = ", ".join(f"`{slug}`{'' if slug in ALLOWABLE else NEVER}" for slug in case.slugs)
    verdict = f"**refused**: {slugs}" if case.is_refused else case.verdict
    return f"{verdict}; today: {case.today}" if case.today else verdict


def main() -> None:
    head, rest = README.read_text().split(START)
    tail = rest.split(END)[1]
    README.write_text(f"{head}{START}{drawn(read_all().values())}{END}{tail}")


if __name__ == "__main__":
    main()
