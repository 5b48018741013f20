"""An artefact as a person reads it before it goes anywhere: who, for which base, which functions, which lines.

On a terminal the functions are a table and the diff is coloured; in a pipe it is plain lines. What comes from the
artefact is escaped in both: a name cannot move the cursor or begin a line of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TextIO

from rich.console import Console
from rich.table import Table
from rich.text import Text

from hotreload.artefact import ELF, PYTHON, Artefact, Manifest, printable
from hotreload.errors import HotReloadError
from hotreload.python.payload import decode

__all__ = ["as_data", "show", "text_of"]

_KINDS = {ELF: "functions in C", PYTHON: "functions in Python"}
_SAME_TEXT = {ELF: "the compiler made other code of the same text", PYTHON: "the same, on other lines"}
_DIFF_MARKS = " +-@\\"
_STYLES = {"@": "cyan", "+": "green", "-": "red"}


def show(artefact: Artefact, stream: TextIO) -> None:
    """Prints an artefact for a reader."""
    console = Console(file=stream, highlight=False, markup=False, emoji=False, soft_wrap=True)
    manifest = artefact.manifest
    for name, value in _facts(artefact):
        console.print(Text.assemble((f"{name:<10}", "bold"), printable(value)))
    console.print()
    if console.is_terminal:
        console.print(_table(manifest))
    else:
        for row in _rows(manifest):
            console.print("  ".join(row))
    for note in manifest.notes:
        console.print(Text(f"note: {printable(note)}", style="yellow"))
    console.print()
    for line in manifest.source_diff.removesuffix("\n").split("\n"):
        console.print(_diff_line(line))


def as_data(artefact: Artefact) -> dict[str, Any]:
    """An artefact for a program."""
    return {
        "manifest": artefact.manifest._asdict(),
        "sha256": artefact.sha256,
        "bytes": len(artefact.raw),
        "signed": bool(artefact.signature),
        "redirects": list(artefact.functions),
        "brings": list(artefact.carried),
        "hooks": [{"name": name, "runs": when} for name, when in artefact.hooks],
        "tables": list(artefact.tables),
    }


def text_of(artefact: Artefact) -> bytes:
    """The new text of the module, whole, as it would be compiled.

    Raises:
        HotReloadError: it is a patch of C code, which is made of several files.
    """
    if artefact.manifest.kind != PYTHON:
        raise HotReloadError("a patch of C code carries no source", hint="its source diff is what `hotreload show` has")
    return decode(artefact.body).text


def _facts(artefact: Artefact) -> Iterator[tuple[str, str]]:
    manifest = artefact.manifest
    yield "module", manifest.module
    yield "changes", _KINDS[manifest.kind]
    yield "base", manifest.build_id
    yield "author", manifest.author
    yield "created", manifest.created + (f", until {manifest.expires}" if manifest.expires else "")
    yield "sequence", str(manifest.sequence)
    yield "compiler", manifest.compiler
    yield "files", ", ".join(manifest.sources)
    yield "signed", f"by {manifest.signer}, not verified here" if artefact.signature else "no"
    if artefact.hooks:
        yield "hooks", ", ".join(f"{name} ({when})" for name, when in artefact.hooks)
    if artefact.tables:
        yield "tables", f"{', '.join(map(printable, artefact.tables))} (what Python finds in modules and types)"
    yield "sha256", f"{artefact.sha256} ({len(artefact.raw):,} bytes)"


def _table(manifest: Manifest) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("function", "what", "why"):
        table.add_column(column, overflow="fold")
    for row in _rows(manifest):
        table.add_row(*(Text(cell) for cell in row))
    return table


def _rows(manifest: Manifest) -> Iterator[tuple[str, str, str]]:
    edited = set(manifest.edited)
    kinds = (
        ("changed", manifest.changed, "it uses what was edited"),
        ("changed", manifest.compiler_changed, _SAME_TEXT[manifest.kind]),
        ("added", manifest.added, ""),
        ("removed", manifest.removed, "the old one stays callable"),
    )
    for what, names, otherwise in kinds:
        for name in names:
            yield printable(name), what, "edited" if name in edited and what == "changed" else otherwise


def _diff_line(line: str) -> Text:
    """One line of the diff; a line that belongs to no diff is marked, so that it passes for nothing else."""
    is_header = line.startswith(("+++ ", "--- "))
    style = "bold" if is_header else _STYLES.get(line[:1], "")
    mark = "" if line[:1] in _DIFF_MARKS else "? "
    return Text(mark + "\t".join(printable(part) for part in line.split("\t")).expandtabs(4), style=style)
