"""The demo: a C extension is edited five times inside a server that is answering requests, and nothing is lost.

::

    python demo.py                  a table that fills while it runs, on a terminal; plain lines elsewhere
    python demo.py --json           one JSON document on standard output

It copies this example to a temporary directory, builds it with ``hotreload build``, starts it under ``hotreload run``,
puts it under load from eight connections, and saves the edits of ``edits/`` into the copy, one after another; one of
them does not compile. Every request is counted and every answer says which code gave it.

The exit code is 0 only if each edit went live, no request failed, no request that was sent after a swap was answered
by the code before it, all state was kept, and the edit that does not compile changed nothing.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Mapping, Optional, Sequence

from driver.answers import Load, LoadError
from driver.checks import Moment, Row, check_found_again, check_state, check_tickets, count_answers
from driver.edits import Edit, EditError, read_plan, save
from driver.load import CACHED_FRAMES
from driver.server import Server, ServerError, build, copy_project
from driver.show import Show, make_show

__all__ = ["Demo", "main"]

DEADLINE = 110.0
HERE = Path(__file__).parent


class DemoError(Exception):
    """The demo cannot go on; the message says why."""


class Demo:
    """One run: the server, its load, and what was seen of each edit."""

    def __init__(self, project: Path, options: argparse.Namespace, show: Show) -> None:
        self.rows: list[Row] = []
        self.problems: list[str] = []
        self.left_behind = False
        self.build_seconds = 0.0
        self.log_tail = ""
        self.requests = 0
        self.failed = 0
        self.requests_per_second = 0.0
        self._project = project
        self._source = project / "render.c"
        self._options = options
        self._show = show
        self._ends = time.monotonic() + DEADLINE

    def run(self) -> None:
        """The whole story; what went wrong is in ``problems`` and in the rows' own."""
        self._show.say("building the extension with `hotreload build`")
        self.build_seconds = build(self._project)
        self._show.say(f"built in {self.build_seconds:.1f} s; starting gunicorn under `hotreload run`")
        server = Server(self._project, self._options.threads)
        try:
            server.wait_until_ready(min(30, self._left()))
            host, port = server.address
            self._show.say(f"serving on http://{host}:{port}/ ; {self._options.connections} connections ask for tiles")
            load = Load(server.address, self._options.connections, self._options.rate)
            try:
                self._edit_all(server, load)
            finally:
                load.stop()
                self._count_requests(load)
            self.problems += check_tickets(load.answers)
        finally:
            self.left_behind = not server.stop()
            self.log_tail = server.log_tail()
        if self.left_behind:
            self.problems.append("a process was left behind")

    def _edit_all(self, server: Server, load: Load) -> None:
        original = text = self._source.read_text(encoding="utf-8")
        self._show.watch(load)
        self._warm_up(server, load)
        before = Moment(server.state())
        first = before
        for edit in read_plan(HERE / "edits"):
            row = Row.of(edit)
            self.rows.append(row)
            edited = original if edit.original else edit.apply(text)
            self._show.begin(row)
            self._more_answers(load, self._options.answers // 2)
            if edit.compiles:
                text = edited
                before = self._go_live(edit, edited, row, before, server, load)
            else:
                before = self._stay(edited, row, before, server, load)
            self._show.end(row)
        if before.stamp != first.stamp:
            self.rows[-1].problems.append("the original text does not draw what it drew at first")

    def _warm_up(self, server: Server, load: Load) -> None:
        """Until every tile that the cache may have is in it."""
        self._more_answers(load, 8 * CACHED_FRAMES)
        if server.state()["counters"]["cached_tiles"] < CACHED_FRAMES:
            raise DemoError("the cache holds less than it was asked for")

    def _go_live(self, edit: Edit, text: str, row: Row, before: Moment, server: Server, load: Load) -> Moment:
        """Saves an edit and watches it go live, from outside."""
        seen = len(server.events)
        saved_ns = time.monotonic_ns()
        save(self._source, text)
        finished = server.wait_for_event(_is_finished, seen, min(30, self._left()))
        row.outcome = str(finished.get("outcome"))
        row.generation = int(finished.get("generation") or 0)
        row.compiler_ms = float(finished.get("build_ms") or 0)
        if row.outcome not in ("live", "base"):
            row.diagnostics = _why(finished)
            raise DemoError(f"{edit.name}: {row.outcome}: {row.diagnostics}")
        swap = server.wait_for_event(_is_swap, seen, min(10, self._left()))
        row.functions = list(swap.get("functions") or finished.get("functions") or ())
        new_stamp, swapped_ns = str(swap["stamp"]), int(swap["at_ns"])
        self._more_answers(load, self._options.answers)
        after = Moment(server.state(), len(load.answers), swapped_ns)
        answers = load.answers[before.answers : after.answers]
        count_answers(row, answers, before, saved_ns, swapped_ns, new_stamp)
        if new_stamp == before.stamp:
            row.problems.append("the code that is live draws what the code before it drew")
        lost = check_state(before, after, answers, swapped_ns)
        if edit.original:
            lost += check_found_again(answers, swapped_ns)
        row.state_kept = not lost
        row.problems += lost
        return after

    def _stay(self, text: str, row: Row, before: Moment, server: Server, load: Load) -> Moment:
        """Saves an edit that does not compile, and watches nothing happen except that the compiler is heard."""
        seen = len(server.events)
        saved_ns = time.monotonic_ns()
        save(self._source, text)
        finished = server.wait_for_event(_is_finished, seen, min(30, self._left()))
        row.outcome = str(finished.get("outcome"))
        row.compiler_ms = float(finished.get("build_ms") or 0)
        row.diagnostics = _why(finished)
        finished_ns = time.monotonic_ns()
        self._more_answers(load, self._options.answers)
        after = Moment(server.state(), len(load.answers), before.swapped_ns)
        row.generation = int(after.state["hotreload"]["generation"])
        answers = load.answers[before.answers : after.answers]
        count_answers(row, answers, before, saved_ns, finished_ns, before.stamp)
        if row.outcome != "build_failed" or "error:" not in row.diagnostics:
            row.problems.append(f"the compiler's error was not shown: outcome {row.outcome}: {row.diagnostics}")
        if any(map(_is_swap, server.events[seen:])):
            row.problems.append("code was swapped")
        lost = check_state(before, after, answers, finished_ns)
        row.state_kept = not lost
        row.problems += lost
        return after

    def _count_requests(self, load: Load) -> None:
        self.requests, self.failed = len(load.answers), load.failed
        if self.requests > 1:
            seconds = (load.answers[-1].ended_ns - load.answers[0].started_ns) / 1e9
            self.requests_per_second = round(self.requests / seconds, 1)

    def _more_answers(self, load: Load, count: int) -> None:
        if not load.wait_for_more(count, min(60, self._left())):
            raise DemoError(f"the server gave fewer than {count} answers in a minute")

    def _left(self) -> float:
        left = self._ends - time.monotonic()
        if left <= 0:
            raise DemoError(f"not finished within {DEADLINE:.0f} s")
        return left


def main(arguments: Optional[Sequence[str]] = None) -> int:
    """The command line; returns the exit code."""
    options = _parse(arguments)
    show = make_show(as_json=options.json)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="hotreload-demo-") as directory:
        demo = Demo(copy_project(Path(directory) / "server"), options, show)
        show.open()
        try:
            demo.run()
        except (DemoError, EditError, LoadError, ServerError) as error:
            demo.problems.append(str(error))
        except KeyboardInterrupt:
            demo.problems.append("interrupted")
        finally:
            show.close()
    outcome = _summarise(demo, options, time.monotonic() - began)
    if options.json:
        json.dump(outcome, sys.stdout, indent=2)
        print()
    else:
        show.conclude(demo.rows, outcome)
    return 0 if outcome["ok"] else 1


def _summarise(demo: Demo, options: argparse.Namespace, seconds: float) -> dict[str, Any]:
    """The outcome as plain data: what ``--json`` prints."""
    planned = len(read_plan(HERE / "edits"))
    problems = demo.problems + [f"{row.edit}: {problem}" for row in demo.rows for problem in row.problems]
    if len(demo.rows) < planned and not problems:
        problems.append(f"only {len(demo.rows)} of {planned} edits were made")
    outcome = {
        "ok": not problems,
        "problems": problems,
        "edits": [row.as_dict() for row in demo.rows],
        "requests": demo.requests,
        "failed": demo.failed,
        "requests_per_second": demo.requests_per_second,
        "connections": options.connections,
        "threads": options.threads,
        "build_seconds": round(demo.build_seconds, 2),
        "seconds": round(seconds, 1),
        "python": platform.python_version(),
        "machine": platform.machine(),
    }
    return outcome if outcome["ok"] else {**outcome, "server_log": demo.log_tail}


def _parse(arguments: Optional[Sequence[str]]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Edit a C extension inside a server that is answering requests.")
    parser.add_argument("--json", action="store_true", help="print one JSON document instead of a table")
    parser.add_argument("--connections", type=int, default=8, help="keep-alive connections of the load (8)")
    parser.add_argument(
        "--rate", type=float, default=400, help="requests per second in all; 0: as many as will go (400)"
    )
    parser.add_argument("--threads", type=int, default=12, help="threads of the server (12)")
    parser.add_argument(
        "--answers", type=int, default=600, help="answers to wait for after each edit, and half of it before (600)"
    )
    return parser.parse_args(arguments)


def _is_finished(event: Mapping[str, Any]) -> bool:
    return event.get("event") == "reload.finished" and event.get("outcome") != "nothing"


def _is_swap(event: Mapping[str, Any]) -> bool:
    return event.get("event") in ("swap.committed", "swap.rolled_back")


def _why(event: Mapping[str, Any]) -> str:
    return str(event.get("diagnostics") or event.get("reason") or "no reason was given")


if __name__ == "__main__":
    raise SystemExit(main())
