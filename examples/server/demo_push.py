"""The push demo: C code goes into four workers that are answering requests, all or none, and out of them again.

::

    python demo_push.py             lines while it runs, and a table at the end
    python demo_push.py --json      one JSON document on standard output

It copies this example to a temporary directory, builds it with ``hotreload build``, starts gunicorn with an agent in
each worker, puts it under load, and does what an operator does:

    an edit that does not compile         refused
    a patch file with a changed byte      refused
    a patch that its canary fails with    taken back; the other workers never had it
    the same patch, and a canary is well  live in all
    a worker is killed                    its successor has the patch before its first request
    rollback                              the code from before, in all

The exit code is 0 only if each step ended as it should, all workers had the same code after it, no request failed but
those that the killed worker had open, and no request that was sent after a step was answered by other code.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Callable, Optional, Sequence

from driver.answers import Load, LoadError
from driver.edits import EditError, read_edit, save
from driver.server import ServerError, build, copy_project
from driver.steps import Step, Teller, conclude
from driver.workers import Command, Workers

__all__ = ["Demo", "main"]

DEADLINE = 110.0
HERE = Path(__file__).parent
DONE, REFUSED = 0, 4


class DemoError(Exception):
    """The demo cannot go on; the message says why."""


class Demo:
    """One run: the workers, their load, and what was seen of each step."""

    def __init__(self, project: Path, options: argparse.Namespace, teller: Teller) -> None:
        self.steps: list[Step] = []
        self.problems: list[str] = []
        self.requests = self.failed = self.lost = 0
        self.requests_per_second = 0.0
        self.log_tail = ""
        self._project = project
        self._source = project / "render.c"
        self._options = options
        self._teller = teller
        self._ends = time.monotonic() + DEADLINE

    def run(self) -> None:
        """The whole story; what went wrong is in ``problems`` and in the steps' own."""
        self._teller.say(f"built with `hotreload build` in {build(self._project):.1f} s")
        workers = Workers(self._project, self._options.workers, self._options.threads)
        try:
            workers.wait_until_ready(min(30, self._left()))
            self._teller.say(f"gunicorn serves with {workers.count} workers, each with an agent")
            load = Load(workers.address, self._options.connections, self._options.rate)
            try:
                self._more_answers(load)
                self._tell_story(workers, load)
            finally:
                load.stop()
                self._count_requests(load)
        finally:
            is_clean = workers.stop()
            self.log_tail = workers.log_tail()
        if not is_clean:
            self.problems.append("a process was left behind")

    def _tell_story(self, workers: Workers, load: Load) -> None:
        original = self._source.read_text(encoding="utf-8")
        base = workers.stamp()
        good = read_edit(HERE / "edits" / "1-constant.patch").apply(original)
        push = ("push", "render.c", "--json")

        save(self._source, good.replace("double shift = -0.13;", "double shift = -0.13"))
        self._step(workers, load, "broken", "an edit that does not compile", REFUSED, push, base)
        self._expect("error: expected" in self.steps[-1].said, "the compiler's error was not shown")

        save(self._source, good)
        self._tampered(workers, load, base)

        trial = ("--canary", "1", "--hold", "500ms")
        failing = ("--health", f"{sys.executable} -c 'raise SystemExit(\"tiles are wrong\")'")
        self._step(
            workers, load, "canary", "a patch that its canary fails with", REFUSED, (*push, *trial, *failing), base
        )
        self._expect("tiles are wrong" in self.steps[-1].said, "the reason of the health command was not told")

        passing = ("--health", f"{sys.executable} -c 'print(\"tiles are fine\")'")
        self._step(workers, load, "push", "the same patch, its canary is well", DONE, (*push, *trial, *passing), None)
        stamp = workers.stamp()
        self._expect(stamp != base, "the new code draws what the old code drew")

        self._kill_one(workers, load, stamp)
        self._step(workers, load, "rollback", "rollback", DONE, ("rollback", "--json"), base)

    def _tampered(self, workers: Workers, load: Load, base: str) -> None:
        packed = workers.hotreload("pack", "render.c", "-o", "render.hotpatch")
        if packed.code != DONE:
            raise DemoError(f"{packed.words}: {packed.out}{packed.err}")
        path = self._project / "render.hotpatch"
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
        push = ("push", "render.hotpatch", "--json")
        self._step(workers, load, "tampered", "a patch file with a changed byte", REFUSED, push, base)

    def _kill_one(self, workers: Workers, load: Load, stamp: str) -> None:
        before = set(workers.live())
        victim = min(before)

        def kill() -> Command:
            began = time.monotonic()
            os.kill(victim, signal.SIGKILL)
            workers.wait_for(
                lambda: self._is_whole_without(workers, victim), min(20, self._left()), "no successor came"
            )
            return Command(f"kill -9 {victim}", -1, "", "", time.monotonic() - began)

        self._around(workers, load, Step("killed", "a worker is killed"), kill, stamp, victim=victim)
        (successor,) = set(workers.live()) - before
        self._expect(workers.stamp_of(successor) == stamp, f"its successor {successor} does not draw with the patch")

    @staticmethod
    def _is_whole_without(workers: Workers, victim: int) -> bool:
        live = workers.live()
        return victim not in live and len(live) == workers.count

    def _step(
        self,
        workers: Workers,
        load: Load,
        name: str,
        title: str,
        code: int,
        arguments: Sequence[str],
        stamp: Optional[str],
    ) -> None:
        step = Step(name, title)
        self._around(workers, load, step, lambda: workers.hotreload(*arguments), stamp)
        if step.code != code:
            step.problems.append(f"`{step.command}` exited with {step.code}, not {code}: {step.said}")

    def _around(
        self,
        workers: Workers,
        load: Load,
        step: Step,
        act: Callable[[], Command],
        stamp: Optional[str],
        victim: int = 0,
    ) -> None:
        """Does one thing between answers, and judges those."""
        self.steps.append(step)
        first = len(load.answers)
        self._more_answers(load)
        began_ns = time.monotonic_ns()
        done = act()
        ended_ns = time.monotonic_ns()
        step.command, step.code, step.seconds = done.words, done.code, done.seconds
        step.said = _sentence(done)
        self._more_answers(load, lambda answer: answer.started_ns > ended_ns)
        step.count(load.answers[first:], began_ns, ended_ns, stamp or workers.stamp(), victim)
        live = workers.live()
        if len(live) != workers.count or len(set(live.values())) != 1:
            step.problems.append(f"the workers are not all the same: {live}")
        said = step.said.splitlines()[0] if step.said else "another one serves in its place"
        self._teller.say(f"{step.title}: {f'exit code {step.code}: ' if step.code >= 0 else ''}{said}")

    def _expect(self, holds: bool, otherwise: str) -> None:
        if not holds:
            self.steps[-1].problems.append(otherwise)

    def _more_answers(self, load: Load, matching: Optional[Callable[[Any], bool]] = None) -> None:
        if not load.wait_for_more(self._options.answers, min(30, self._left()), matching):
            raise DemoError(f"the server gave fewer than {self._options.answers} answers in half a minute")

    def _count_requests(self, load: Load) -> None:
        self.requests = len(load.answers)
        self.lost = sum(step.lost for step in self.steps)
        self.failed = load.failed - self.lost
        if self.requests > 1:
            seconds = (load.answers[-1].ended_ns - load.answers[0].started_ns) / 1e9
            self.requests_per_second = round(self.requests / seconds, 1)
        if self.failed:
            self.problems.append(f"{self.failed} requests failed")
        if self.lost > self._options.connections:
            self.problems.append(f"{self.lost} requests were lost with one worker")

    def _left(self) -> float:
        left = self._ends - time.monotonic()
        if left <= 0:
            raise DemoError(f"not finished within {DEADLINE:.0f} s")
        return left


def main(arguments: Optional[Sequence[str]] = None) -> int:
    """The command line; returns the exit code."""
    options = _parse(arguments)
    teller = Teller(as_json=options.json)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="hotreload-demo-") as directory:
        demo = Demo(copy_project(Path(directory) / "server"), options, teller)
        try:
            demo.run()
        except (DemoError, EditError, LoadError, ServerError) as error:
            demo.problems.append(str(error))
        except KeyboardInterrupt:
            demo.problems.append("interrupted")
    outcome = _summarise(demo, time.monotonic() - began)
    if options.json:
        json.dump(outcome, sys.stdout, indent=2)
        print()
    else:
        conclude(demo.steps, outcome)
    return 0 if outcome["ok"] else 1


def _summarise(demo: Demo, seconds: float) -> dict[str, Any]:
    """The outcome as plain data: what ``--json`` prints."""
    problems = demo.problems + [f"{step.title}: {problem}" for step in demo.steps for problem in step.problems]
    outcome = {
        "ok": not problems,
        "problems": problems,
        "steps": [step.as_dict() for step in demo.steps],
        "requests": demo.requests,
        "failed": demo.failed,
        "lost": demo.lost,
        "requests_per_second": demo.requests_per_second,
        "seconds": round(seconds, 1),
        "python": platform.python_version(),
        "machine": platform.machine(),
    }
    return outcome if outcome["ok"] else {**outcome, "server_log": demo.log_tail}


def _sentence(done: Command) -> str:
    """What a command said, as a person would have read it."""
    said = done.said
    parts = [said.get("reason"), said.get("message"), said.get("diagnostics")]
    if done.code == DONE:
        states = [process["state"] for process in said.get("processes", ())]
        parts = [f"{states.count('committed')} processes have it"]
    return "\n".join(str(part) for part in parts if part) or f"{done.out}{done.err}".strip()


def _parse(arguments: Optional[Sequence[str]]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Push C code into workers that are answering requests.")
    parser.add_argument("--json", action="store_true", help="print one JSON document instead of a table")
    parser.add_argument("--workers", type=int, default=4, help="workers of the server (4)")
    parser.add_argument("--threads", type=int, default=4, help="threads of each worker (4)")
    parser.add_argument("--connections", type=int, default=16, help="keep-alive connections of the load (16)")
    parser.add_argument("--rate", type=float, default=300, help="requests per second in all (300)")
    parser.add_argument("--answers", type=int, default=300, help="answers to wait for before and after each step (300)")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    raise SystemExit(main())
