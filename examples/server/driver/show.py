"""How a run is shown: a table that fills on a terminal, lines in a pipe, lines on standard error beside ``--json``."""

from __future__ import annotations

import sys
import time
from typing import Any, Mapping, Optional, Protocol, Sequence, TextIO

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from driver.answers import Load
from driver.checks import Row

__all__ = ["Show", "make_show"]

_LINES = 6


class Show(Protocol):
    """What the demo tells while it runs."""

    def open(self) -> None: ...
    def close(self) -> None: ...
    def say(self, line: str) -> None: ...
    def watch(self, load: Load) -> None: ...
    def begin(self, row: Row) -> None: ...
    def end(self, row: Row) -> None: ...
    def conclude(self, rows: Sequence[Row], outcome: Mapping[str, Any]) -> None: ...


def make_show(*, as_json: bool) -> Show:
    """The way of showing that suits where the output goes."""
    if as_json:
        return _Lines(sys.stderr)
    return _OnTerminal() if sys.stdout.isatty() else _Lines(sys.stdout)


class _Lines:
    """A line for each thing that happens, and the table at the end."""

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self._began = time.monotonic()

    def open(self) -> None:
        pass

    def close(self) -> None:
        pass

    def say(self, line: str) -> None:
        print(f"{time.monotonic() - self._began:6.1f} s  {line}", file=self._file, flush=True)

    def watch(self, load: Load) -> None:
        pass

    def begin(self, row: Row) -> None:
        self.say(f"saving {row.edit}: {row.title}")

    def end(self, row: Row) -> None:
        self.say(f"{'':7}{_tell(row)}")
        for line in row.diagnostics.splitlines():
            print(f"{'':18}{line}", file=self._file)

    def conclude(self, rows: Sequence[Row], outcome: Mapping[str, Any]) -> None:
        console = Console(file=self._file, width=118, color_system=None)
        console.print()
        _print_conclusion(console, rows, outcome)


class _OnTerminal:
    """The table, filling, with the newest lines under it."""

    def __init__(self) -> None:
        self._console = Console()
        self._lines: list[Text] = []
        self._rows: list[Row] = []
        self._current: Optional[Row] = None
        self._load: Optional[Load] = None
        self._live = Live(get_renderable=self._render, console=self._console, refresh_per_second=8, transient=True)

    def open(self) -> None:
        self._live.start()

    def close(self) -> None:
        self._live.stop()

    def say(self, line: str) -> None:
        self._lines.append(Text(line, style="dim"))

    def watch(self, load: Load) -> None:
        self._load = load

    def begin(self, row: Row) -> None:
        self._rows.append(row)
        self._current = row
        self.say(f"{row.edit}: {row.title}")

    def end(self, row: Row) -> None:
        self._current = None
        self._lines += [Text(line, style="red") for line in row.diagnostics.splitlines()[:_LINES]]

    def conclude(self, rows: Sequence[Row], outcome: Mapping[str, Any]) -> None:
        for row in rows:
            if row.diagnostics:
                self._console.print(f"{row.edit}: the compiler said, and the old code served on:", style="bold")
                self._console.print(row.diagnostics.rstrip(), markup=False, highlight=False, style="red")
                self._console.print()
        _print_conclusion(self._console, rows, outcome)

    def _render(self) -> Group:
        load = Text("")
        if self._load is not None:
            answers, failed = len(self._load.answers), self._load.failed
            load = Text.assemble(
                f"{answers:,} requests answered, ", (f"{failed} failed", "bold red" if failed else "green")
            )
        return Group(_table(self._rows, self._current), load, *self._lines[-_LINES:])


def _tell(row: Row) -> str:
    """One finished row as a sentence."""
    if row.problems:
        return "; ".join(row.problems)
    counts = f"{row.before} answers before, {row.by_old} by old, {row.by_new} by new code, {row.failed} failed"
    if row.outcome == "build_failed":
        return f"does not compile, the old code serves on: {counts}"
    functions = ", ".join(row.functions)
    return (
        f"live after {row.save_to_live_ms:.0f} ms (compiler {row.compiler_ms:.0f}), "
        f"generation {row.generation} ({functions}): {counts}"
    )


def _table(rows: Sequence[Row], current: Optional[Row] = None) -> Table:
    table = Table(title="C code edited inside a server that is answering requests", title_style="bold", expand=False)
    table.add_column("edit")
    for heading in ("save to live", "compiler", "generation"):
        table.add_column(heading, justify="right")
    for heading in ("before", "by old", "by new", "failed"):
        table.add_column(heading, justify="right")
    table.add_column("state kept")
    for row in rows:
        if row is current:
            table.add_row(row.edit, Text("…", style="yellow"))
        else:
            table.add_row(*_cells(row))
    return table


def _cells(row: Row) -> list[Text]:
    refused = row.outcome == "build_failed"
    live = "refused" if refused else f"{row.save_to_live_ms:.0f} ms" if row.save_to_live_ms else "-"
    share = f"{row.compiler_ms:.0f} ms" + ("" if refused else f" ({row.compiler_share:.0%})")
    counts = [Text(f"{count:,}") for count in (row.before, row.by_old, row.by_new)]
    return [
        Text(row.edit, style="bold red" if row.problems else ""),
        Text(live, style="yellow" if refused else "bold"),
        Text(share),
        Text(str(row.generation)),
        *counts,
        Text(str(row.failed), style="bold red" if row.failed else "green"),
        Text("yes", style="green") if row.state_kept else Text("no", style="bold red"),
    ]


def _print_conclusion(console: Console, rows: Sequence[Row], outcome: Mapping[str, Any]) -> None:
    console.print(_table(rows))
    console.print(
        "before, by old, by new: requests answered before the save, and after it by the old and the new code."
    )
    console.print(
        f"{outcome['requests']:,} requests, {outcome['requests_per_second']:.0f} each second over "
        f"{outcome['connections']} connections; {outcome['failed']} failed; {outcome['seconds']} s in all."
    )
    between = sum(row.between for row in rows)
    torn = sum(row.torn for row in rows)
    if between or torn:
        console.print(
            f"During the swaps, tiles begun by old code and finished by new: {torn}; "
            f"answers that met only some of an edit's functions new: {between}."
        )
    if outcome["ok"]:
        console.print("Every edit went live, no request failed, no state was lost.", style="bold green")
        return
    for problem in outcome["problems"]:
        console.print(f"FAILED: {problem}", style="bold red", markup=False)
    if outcome["server_log"]:
        console.print("The end of the server's log:", style="bold")
        console.print(outcome["server_log"], markup=False, highlight=False, soft_wrap=True)
