"""How a list is shown: a table on a terminal, one thing below the other where that is narrow, lines in a pipe."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from hotreload.artefact import printable

__all__ = ["status_table"]

# A longer word may be cut in a table; a column gets that much.
_WORD_LEN = 14


def status_table(rows: Sequence[Sequence[str]], headings: Sequence[str], title: str = "") -> None:
    """Prints a table of texts: drawn on a terminal, where it fits; in a pipe a line for each row, never wrapped."""
    cells = [[printable(cell) for cell in row] for row in rows]
    if sys.stdout.isatty():
        console = Console(highlight=False)
        if _fits([headings, *cells], console.width):
            table = Table(title=title or None, title_justify="left", expand=False)
            for heading in headings:
                table.add_column(heading, overflow="fold")
            for row in cells:
                table.add_row(*map(escape, row))
            console.print(table)
        else:
            _print_below_each_other(console, cells, headings, title)
        return
    widths = [max(map(len, column)) for column in zip(headings, *cells)]
    for line in ([title] if title else [], headings, *cells):
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip())


def _fits(rows: Sequence[Sequence[str]], width: int) -> bool:
    """Whether no column has to be so narrow that its words are cut into pieces nobody reads."""
    longest = [max(len(word) for cell in column for word in [*cell.split(), ""]) for column in zip(*rows)]
    return sum(min(length, _WORD_LEN) + 3 for length in longest) < width


def _print_below_each_other(
    console: Console, rows: Sequence[Sequence[str]], headings: Sequence[str], title: str
) -> None:
    """One line for each cell that says something; a row that goes on with the one above has no first cell."""
    indent = max(map(len, headings)) + 4
    if title:
        console.print(Text(title, style="italic"), overflow="fold")
    for first, *others in rows:
        if first:
            console.print(Text(first, style="bold"))
        for heading, cell in zip(headings[1:], others):
            if cell:
                name = Text(f"  {heading}".ljust(indent), style="dim")
                room = max(8, console.width - indent)
                lines = Text(cell).wrap(console, room, overflow="fold")
                console.print(name + Text(f"\n{' ' * indent}").join(lines))
