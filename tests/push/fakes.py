"""Processes and books that exist in memory: every interleaving of a push without a clock or a socket."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any, Optional

from hotreload.push.coordinator import EndedError, Found, RefusedError, SilentError
from hotreload.push.records import BASE, Identity, Live, ProcessStatus

MODULE, BUILD = "render", "ab" * 20


class FakeBooks:
    """Decisions by first come; what was written, in order."""

    def __init__(self) -> None:
        self.decisions: dict[str, str] = {}
        self.current = BASE
        self.kept = False
        self.log: list[str] = []
        self.before: dict[str, Callable[[], None]] = {}
        self._lock = threading.Lock()

    def _step(self, name: str) -> None:
        self.before.pop(name, lambda: None)()
        self.log.append(name)

    def keep(self, push: str) -> None:
        self._step("keep")
        self.kept = True

    def decide(self, push: str, word: str) -> str:
        self._step(f"decide {word}")
        return self.settle(push, word)

    def settle(self, push: str, word: str) -> str:
        with self._lock:
            return self.decisions.setdefault(push, word)

    def make_current(self) -> None:
        self._step("make current")
        self.current = "new"

    def is_current(self) -> bool:
        return self.current == "new"


class FakeWorker:
    """One process with an agent, as the agent's contract says it behaves.

    ``before`` maps the name of a request to what happens just before it: it may raise, or change any process.
    """

    def __init__(self, pid: int, books: FakeBooks, *, live: str = BASE, build: Optional[str] = BUILD) -> None:
        self.identity = Identity(pid, pid * 10)
        self.command = f"worker {pid}"
        self.parent = 0
        self.live = live
        self.build = build
        self.prepared: Optional[tuple[str, str]] = None
        self.trial: Optional[tuple[str, str]] = None
        self.ended: dict[str, str] = {}
        self.alive = True
        self.silent = False
        self.stragglers = 0
        self.patience = 10**6  # after so many looks the last straggler has come over
        self.policy = "wait"
        self.taints: list[dict[str, Any]] = []
        self.may_veto = False
        self.moving = False
        self.heard: list[str] = []
        self.before: dict[str, Callable[[], None]] = {}
        self._books = books

    def is_alive(self) -> bool:
        return self.alive

    def _hear(self, name: str) -> None:
        self.before.pop(name, lambda: None)()
        if not self.alive:
            raise EndedError("ended")
        if self.silent:
            raise SilentError("no answer within 3 s")
        self.heard.append(name)

    def status(self) -> ProcessStatus:
        self._hear("status")
        if self.build is None:
            return ProcessStatus()
        number = int(self.live != BASE)
        live = (Live(MODULE, self.build, number, self.live, self.live if number else ""),)
        modules = [{"build_id": self.build, "taints": self.taints}]
        self.patience -= self.moving
        return ProcessStatus(live, raw={"transition": self.transition, "modules": modules})

    @property
    def transition(self) -> Optional[dict[str, Any]]:
        """What the agent says of its threads."""
        if self.patience <= 0:
            self.moving = False
        if not self.moving:
            return None
        named = [{"tid": 7 + i, "name": f"T{i}", "reason": "INSIDE", "where": "colour"} for i in range(self.stragglers)]
        about = {"module": MODULE, "from": 0, "to": 1, "direction": "forward", "level": "call", "policy": "wait"}
        return {
            **about,
            "threads": 9,
            "settled": 9 - self.stragglers,
            "stragglers": named,
            "since": 1.0,
            "deadline": 30.0,
        }

    def _move(self, live: str) -> None:
        self.moving = bool(self.stragglers) and live != self.live
        self.live = live

    def prepare(self, push: str, target: str) -> dict[str, Any]:
        self._hear("prepare")
        if self.ended.get(push) == "abort" or (self.open != push and self._books.decisions.get(push) == "abort"):
            raise RefusedError(f"push {push} was decided: abort")
        if self.open not in ("", push):
            raise RefusedError(f"busy with push {self.open}")
        if not self.open and push not in self.ended:
            self.prepared = (push, target)
        return {"functions": ["colour"], "may_veto": self.may_veto}

    def commit(self, push: str, *, hold: Optional[float] = None) -> dict[str, Any]:
        self._hear("commit" if hold is None else "commit on trial")
        if self.ended.get(push) == "abort" or push not in (self.open, *self.ended):
            raise RefusedError(f"push {push} is not prepared here")
        if hold is not None and self.prepared:
            if self._books.decisions.get(push) == "abort":
                self._end(push, "abort")
                raise RefusedError(f"push {push} was decided: abort")
            self.trial = (push, self.live)
            self._move(self.prepared[1])
            self.prepared = None
        elif hold is None and self.open:
            self._end(push, self._books.settle(push, "commit"))
            if self.ended[push] == "abort":
                raise RefusedError(f"push {push} was decided: abort")
        return {"generation": 1, "commit_ms": 0.1, "level": "call", "transition": self.transition}

    def abort(self, push: str) -> Optional[dict[str, Any]]:
        self._hear("abort")
        if self.open == push:
            self._end(push, self._books.settle(push, "abort"))
        if self.ended.get(push) == "commit":
            raise RefusedError(f"push {push} was decided: commit")
        return self.transition

    def pass_deadline(self) -> None:
        """What the agent does when it has heard nothing in time."""
        if self.alive and self.open:
            self._end(self.open, self._books.settle(self.open, "abort"))

    @property
    def open(self) -> str:
        """The push that is under way here."""
        kept = self.prepared or self.trial
        return kept[0] if kept else ""

    def _end(self, push: str, decision: str) -> None:
        if decision == "commit" and self.prepared:
            self._move(self.prepared[1])
        if decision == "abort" and self.trial:
            self.live, self.moving = self.trial[1], False  # the straggler is where it is wanted again
        self.prepared = self.trial = None
        self.ended[push] = decision


class FakeChange:
    """A patch named "new"."""

    module, build_id = MODULE, BUILD

    def is_live(self, live: Live) -> bool:
        return live.name == "new"

    def prepare(self, worker: FakeWorker, push: str, deadline: float) -> dict[str, Any]:
        return worker.prepare(push, "new")


class FakeTrial:
    """A canary that is judged at once."""

    seconds = 1.0

    def __init__(self, count: int = 1, judge: Callable[[Sequence[Any]], str] = lambda workers: "") -> None:
        self.count = count
        self.judged: list[int] = []
        self._judge = judge

    def judge(self, push: str, canaries: Sequence[Any]) -> str:
        self.judged = [worker.identity.pid for worker in canaries]
        return self._judge(canaries)


class Farm:
    """Some workers and their books."""

    def __init__(self, count: int = 4) -> None:
        self.books = FakeBooks()
        self.workers = [FakeWorker(pid, self.books) for pid in range(1, count + 1)]
        self.newborn = 0
        self.looks = 0

    def find(self) -> Found:
        self.looks += 1
        return Found(tuple(worker for worker in self.workers if worker.alive), self.newborn)

    def start(self, pid: int, **options: Any) -> FakeWorker:
        """A process that starts now has what is current, like one that restores it."""
        worker = FakeWorker(pid, self.books, **{"live": self.books.current, **options})
        self.workers.append(worker)
        return worker

    @property
    def live(self) -> list[str]:
        return [worker.live for worker in self.workers if worker.alive]

    def pass_deadlines(self) -> None:
        for worker in self.workers:
            worker.silent = False
            worker.pass_deadline()
