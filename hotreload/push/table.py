"""How a push is shown: a table that fills on a terminal, a line for each thing that happens in a pipe, or JSON."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, TextIO

from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from hotreload.artefact import printable
from hotreload.push.records import Exit, Outcome, Row, State
from hotreload.push.threads import count_stragglers, name_threads, tell_transition

__all__ = ["Show", "make_show", "outcome_sentence", "partial_sentence", "stop_telling", "write_line"]

_STYLES = {
    State.PREPARED: "cyan",
    State.TRYING: "yellow",
    State.COMMITTED: "green",
    State.CURRENT: "green",
    State.ABSENT: "dim",
    State.REFUSED: "bold red",
    State.SILENT: "bold red",
    State.FAILED: "bold red",
    State.SETTLING: "yellow",
    State.ENDED: "yellow",
    State.ABORTED: "dim",
}
_PASSING = {State.FOUND, State.PREPARING, State.COMMITTING}
_COMMAND_LEN = 36


class Show(Protocol):
    """What a command tells while it runs."""

    def open(self) -> None: ...
    def say(self, line: str) -> None: ...
    def observe(self, rows: Sequence[Row]) -> None: ...
    def conclude(self, outcome: Outcome, about: Mapping[str, Any]) -> None: ...
    def close(self) -> None: ...


def make_show(*, as_json: bool) -> Show:
    """The way of showing that suits where the output goes."""
    if as_json:
        return _Json()
    return _OnTerminal() if sys.stdout.isatty() else _Lines(sys.stdout)


def outcome_sentence(outcome: Outcome) -> str:
    """How it ended, in one sentence."""
    counts: dict[State, int] = {}
    for row in outcome.rows:
        counts[row.state] = counts.get(row.state, 0) + 1
    live = counts.get(State.COMMITTED, 0)
    if outcome.exit is Exit.DONE:
        if outcome.decision == "abort":
            return f"dry run: {_processes(counts.get(State.ABORTED, 0))} would take it; nothing was changed"
        if not live:
            return outcome.reason
        return f"live in {_processes(live)} after {outcome.live_seconds * 1000:.0f} ms{_rest_of(outcome)}"
    if outcome.exit is Exit.NOTHING:
        return f"nothing to do: {outcome.reason}"
    if outcome.exit is Exit.REFUSED:
        return f"refused, no process was changed: {printable(outcome.reason)}"
    if outcome.exit is Exit.REVERTED:
        text = f"reverted: it is live in no process any more: {printable(outcome.reason)}"
        return f"{text}; {_threads(outcome)} finishing in the new code" if outcome.open_rows else text
    return f"partly: decided {outcome.decision}, live in {_processes(live)}; {printable(outcome.reason)}"


def _rest_of(outcome: Outcome) -> str:
    """What is not over yet although it is live everywhere, as the end of a sentence."""
    forced = sum(bool(row.forced) for row in outcome.rows)
    text = f"; forced in {_processes(forced)}, see `hotreload status`" if forced else ""
    if outcome.open_rows:
        text += f"; {_threads(outcome)} finishing in old code, see `hotreload transition`"
    return text


def _threads(outcome: Outcome) -> str:
    count = sum(count_stragglers(row.transition or {}) for row in outcome.open_rows)
    return "1 thread is still" if count == 1 else f"{count} threads are still"


def partial_sentence(outcome: Outcome, about: Mapping[str, Any]) -> str:
    """What a push with --pid that left processes out did not do; empty for every other."""
    if not about.get("partial") or outcome.decision != "commit":
        return ""
    return "processes that start later do not get it: --pid left out others of this application"


def write_line(file: TextIO, line: str) -> None:
    """One line in one piece. Whether anybody reads it decides nothing about the push."""
    try:
        file.write(f"{line}\n")
        file.flush()
    except BrokenPipeError:
        stop_telling(file)


def stop_telling(file: TextIO) -> None:
    """Nobody reads that file any more: what is written to it from here on, and what it still holds, goes nowhere."""
    nowhere = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
    os.dup2(nowhere, file.fileno())
    os.close(nowhere)


class _Json:
    """One document at the end, and nothing else on standard output."""

    def open(self) -> None: ...

    def close(self) -> None: ...

    def say(self, line: str) -> None:
        write_line(sys.stderr, line)

    def observe(self, rows: Sequence[Row]) -> None: ...

    def conclude(self, outcome: Outcome, about: Mapping[str, Any]) -> None:
        write_line(sys.stdout, json.dumps({**about, **outcome.as_dict()}, indent=2, default=str))
        if partial := partial_sentence(outcome, about):
            self.say(partial)


class _Lines:
    """A line when a process has come to a state that says something; it is told by the threads that ask."""

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self._lock = threading.RLock()
        self._told: dict[int, tuple[State, bool]] = {}

    def open(self) -> None: ...

    def close(self) -> None: ...

    def say(self, line: str) -> None:
        with self._lock:
            write_line(self._file, printable(line))

    def observe(self, rows: Sequence[Row]) -> None:
        with self._lock:
            for row in rows:
                told = (row.state, row.is_open)
                if row.state not in _PASSING and self._told.get(row.pid, (None, False)) != told:
                    self._told[row.pid] = told
                    self.say(f"{row.pid:>8}  {row.state.value:<10} {_change(row)}{_detail(row)}".rstrip())

    def conclude(self, outcome: Outcome, about: Mapping[str, Any]) -> None:
        for line in _lines_of(outcome):
            self.say(line)
        if partial := partial_sentence(outcome, about):
            self.say(partial)
        self.say(outcome_sentence(outcome))


class _OnTerminal:
    """The table, filling."""

    def __init__(self) -> None:
        self._console = Console()
        self._rows: list[Row] = []
        self._lines: list[str] = []
        self._began = time.monotonic()
        self._live = Live(get_renderable=self._render, console=self._console, refresh_per_second=12, transient=True)

    def open(self) -> None:
        self._live.start()

    def close(self) -> None:
        self._live.stop()

    def say(self, line: str) -> None:
        self._lines = [*self._lines, printable(line)][-3:]

    def observe(self, rows: Sequence[Row]) -> None:
        self._rows = list(rows)

    def conclude(self, outcome: Outcome, about: Mapping[str, Any]) -> None:
        self._live.stop()
        self._console.print(_table(outcome.rows, ""))
        for line in _lines_of(outcome):
            self._console.print(Text(line, style="yellow"))
        if partial := partial_sentence(outcome, about):
            self._console.print(Text(partial, style="yellow"))
        good = outcome.exit in (Exit.DONE, Exit.NOTHING)
        style = "bold green" if good else "bold yellow" if outcome.exit is Exit.PARTLY else "bold red"
        self._console.print(Text(outcome_sentence(outcome), style=style))

    def _render(self) -> Group:
        lines = [Text(line, style="dim") for line in self._lines]
        return Group(_table(self._rows, f"{time.monotonic() - self._began:.1f} s"), *lines)


def _table(rows: Sequence[Row], title: str) -> Table:
    table = Table(title=title or None, title_style="dim", expand=False)
    table.add_column("pid", justify="right")
    table.add_column("process", style="dim", max_width=_COMMAND_LEN, no_wrap=True)
    table.add_column("state")
    table.add_column("before")
    table.add_column("after")
    table.add_column("commit", justify="right")
    table.add_column("why", overflow="fold")
    for row in rows:
        took = f"{row.milliseconds:.2f} ms" if row.milliseconds else ""
        cells = (printable(row.command), row.before, row.after, took, printable(_detail(row)))
        command, before, after, took, detail = (escape(cell) for cell in cells)
        state = Text(row.state.value, style=_STYLES.get(row.state, ""))
        table.add_row(str(row.pid), command, state, before, after, took, detail)
    return table


def _lines_of(outcome: Outcome) -> list[str]:
    """What of the change is not live and where only some processes say so, in which; and who has not come over."""
    asked = sum(bool(row.level) for row in outcome.rows)
    lines = []
    for note, pids in outcome.notes.items():
        where = "" if len(pids) == asked else f" (in {', '.join(map(str, pids))})"
        lines.append(printable(f"note: {note}{where}"))
    return lines + [line for row in outcome.open_rows for line in tell_transition(row.pid, row.transition or {})]


def _detail(row: Row) -> str:
    """Why it is as it is, and who has not come over."""
    level = row.level and f"level {row.level}"
    parts = [row.detail, level, row.forced and "forced", row.transition and name_threads(row.transition)]
    return "; ".join(str(part) for part in parts if part)


def _change(row: Row) -> str:
    return f"{row.before} -> {row.after}  " if row.after else f"{row.before}  " if row.before else ""


def _processes(count: int) -> str:
    return f"{count} process" if count == 1 else f"{count} processes"
