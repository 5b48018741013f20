"""What was seen of each step of the push demo, and how that is shown."""

from __future__ import annotations

import sys
import time
from dataclasses import asdict, dataclass, field
from typing import Any, Mapping, Sequence, TextIO

from rich.console import Console
from rich.table import Table
from rich.text import Text

from driver.answers import Answer

__all__ = ["Step", "Teller", "conclude"]


@dataclass
class Step:
    """One thing that an operator, or fate, does to the servers; what is to be seen then, and what was.

    ``before`` and ``after`` count answers to requests that were sent before it began and after it had ended;
    ``workers`` are those that gave the latter. ``stale`` are answers after it by other code than should be live.
    """

    name: str
    title: str
    command: str = ""
    code: int = -1
    seconds: float = 0.0
    before: int = 0
    after: int = 0
    workers: int = 0
    stale: int = 0
    failed: int = 0
    lost: int = 0
    said: str = ""
    problems: list[str] = field(default_factory=list)

    @property
    def held(self) -> bool:
        return not self.problems

    def count(self, answers: Sequence[Answer], began_ns: int, ended_ns: int, stamp: str, victim: int = 0) -> None:
        """Judges the answers that came around the step; `victim` is a worker that was killed in it."""
        later = [answer for answer in answers if answer.started_ns > ended_ns and not answer.failed]
        bad = [answer for answer in answers if answer.failed]
        self.before = sum(answer.ended_ns < began_ns for answer in answers)
        self.after = len(later)
        self.workers = len({answer.pid for answer in later})
        self.stale = sum(answer.stamp != stamp for answer in later)
        self.lost = len(bad) if victim else 0
        self.failed = 0 if victim else len(bad)
        if self.failed:
            self.problems.append(f"{self.failed} requests failed, the first: {bad[0].error or bad[0].status}")
        if self.stale:
            self.problems.append(f"{self.stale} requests that were sent later were not answered by the code to be live")
        if not self.after:
            self.problems.append("no requests were answered afterwards")

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "held": self.held}


class Teller:
    """Says what happens, a line at a time; on standard error where standard output is for JSON."""

    def __init__(self, *, as_json: bool) -> None:
        self.file: TextIO = sys.stderr if as_json else sys.stdout
        self._began = time.monotonic()

    def say(self, line: str) -> None:
        print(f"{time.monotonic() - self._began:6.1f} s  {line}", file=self.file, flush=True)


def conclude(steps: Sequence[Step], outcome: Mapping[str, Any]) -> None:
    """The table and the verdict."""
    console = Console() if sys.stdout.isatty() else Console(width=126, color_system=None)
    table = Table(title="C code pushed into workers that are answering requests", title_style="bold", expand=False)
    table.add_column("step")
    for heading in ("exit", "took", "before", "after", "workers", "stale", "failed"):
        table.add_column(heading, justify="right")
    table.add_column("held")
    for step in steps:
        good = Text("yes", style="green") if step.held else Text("no", style="bold red")
        failed = f"{step.failed} + {step.lost} lost" if step.lost else str(step.failed)
        counts = (str(number) for number in (step.before, step.after, step.workers, step.stale))
        code = "" if step.code < 0 else str(step.code)
        table.add_row(step.title, code, f"{step.seconds:.2f} s", *counts, failed, good)
    console.print()
    console.print(table)
    console.print(
        "after: answers to requests sent when the step was over, by how many workers; lost: open in a killed worker."
    )
    console.print(
        f"{outcome['requests']:,} requests, {outcome['requests_per_second']:.0f} each second; {outcome['failed']} "
        f"failed; {outcome['seconds']} s in all."
    )
    if outcome["ok"]:
        console.print("Every step held: all workers or none, and no request failed.", style="bold green")
        return
    for problem in outcome["problems"]:
        console.print(f"FAILED: {problem}", style="bold red", markup=False)
    if outcome.get("server_log"):
        console.print(outcome["server_log"], markup=False, highlight=False, soft_wrap=True)
