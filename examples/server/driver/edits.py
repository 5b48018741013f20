"""The prepared edits: unified diffs under ``edits/``, applied by their text and not by their line numbers.

Each part of a diff stands for one exact replacement: its old lines must be found in the source exactly once. So an
edit applies to what it was written for or not at all, and ``patch -p1 < edits/1-constant.patch`` does the same by hand.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Edit", "EditError", "read_edit", "read_plan", "save"]

_BROKEN = "broken"


class EditError(Exception):
    """An edit does not fit the source; the source is as it was."""


@dataclass(frozen=True)
class Edit:
    """One change to the source.

    ``original`` goes back to the text that the server was built from. An edit that does not ``compile`` must leave
    everything as it is; the next edit is applied to the text before it.
    """

    name: str
    title: str
    replacements: tuple[tuple[str, str], ...] = ()
    compiles: bool = True
    original: bool = False

    def apply(self, text: str) -> str:
        """`text` with this edit in it. Raises EditError when it does not fit exactly once."""
        for old, new in self.replacements:
            found = text.count(old)
            if found != 1:
                raise EditError(f"{self.name}: its old text is found {found} times, not once:\n{old}")
            text = text.replace(old, new)
        return text


def read_plan(directory: Path) -> tuple[Edit, ...]:
    """All edits in the order of their file names, and at the end the way back to the original."""
    return (
        *(read_edit(path) for path in sorted(directory.glob("*.patch"))),
        Edit("5-original", "Back to the original text", original=True),
    )


def read_edit(path: Path) -> Edit:
    """The edit in one file: its first line is the title, the rest a unified diff."""
    title, *lines = path.read_text(encoding="utf-8").splitlines()
    return Edit(path.stem, title, tuple(_replacements(lines)), compiles=_BROKEN not in path.stem)


def save(path: Path, text: str) -> None:
    """Writes the file as editors do: beside it, then renamed over it, so that nobody reads half of it."""
    beside = path.with_name(f".{path.name}.saving")
    beside.write_text(text, encoding="utf-8")
    os.replace(beside, path)


def _replacements(lines: list[str]) -> list[tuple[str, str]]:
    parts: list[tuple[list[str], list[str]]] = []
    for line in lines:
        if line.startswith("@@"):
            parts.append(([], []))
        elif parts:
            old, new = parts[-1]
            if not line.startswith("+"):
                old.append(line[1:])
            if not line.startswith("-"):
                new.append(line[1:])
    return [("\n".join(old), "\n".join(new)) for old, new in parts]
