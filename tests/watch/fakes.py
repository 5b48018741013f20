"""Stand-ins for the loop's neighbours: no compiler, no socket, no clock but the test's."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hotreload import events
from hotreload.config import Config
from hotreload.watch.loop import ReloadLoop

BUILD_ID = "ab" * 20


@dataclass(frozen=True)
class FakeResult:
    """A finished build."""

    digest: str
    kind: str = "patch"
    path: Path | None = None
    inputs: dict[Path, str] = field(default_factory=dict)
    edited: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    compiler_changed: tuple[str, ...] = ()
    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    warnings: str = ""
    seconds: dict[str, float] = field(default_factory=lambda: {"build": 0.1, "diff": 0.01, "link": 0.002})


class FakeWorkshop:
    """Builds by reading the sources: their text is the code, and ``base`` the text of the base."""

    module = "fake.speedups"
    build_id = BUILD_ID

    def __init__(self, directory: Path, *names: str) -> None:
        self.directory = directory
        self.files = [directory / name for name in names]
        self.base = self.text()
        self.made: list[str] = []
        self.error: Exception | None = None
        self.closed = 0
        self.during: Callable[[], None] = lambda: None

    def close(self) -> None:
        self.closed += 1

    def text(self) -> str:
        return "".join(path.read_text() for path in self.files)

    def watched_files(self) -> list[Path]:
        return list(self.files)

    def base_texts(self) -> dict[Path, str]:
        return {path: path.read_text() for path in self.files}

    def make(self) -> FakeResult:
        text = self.text()
        self.made.append(text)
        inputs = {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in self.directory.glob("*.[ch]")}
        self.during()
        if self.error is not None:
            raise self.error
        if text == self.base:
            return FakeResult("base", kind="base", inputs=inputs)
        patch = self.directory / f"{len(self.made)}.hotpatch"
        patch.write_text(text)
        return FakeResult(text, path=patch, changed=("shade",), inputs=inputs)


class FakeOpener:
    def __init__(self, workshop: FakeWorkshop) -> None:
        self.workshop = workshop
        self.asked: list[str] = []
        self.error: Exception | None = None
        self.place = "/the/store"
        self.built_hot: set[str] = set()

    def was_built_hot(self, path: str) -> bool:
        return path in self.built_hot

    def knows(self, build_id: str, path: str) -> bool:  # noqa: ARG002
        self.asked.append(build_id)
        return build_id == BUILD_ID

    def open(self, build_id: str, path: str) -> FakeWorkshop:  # noqa: ARG002
        if self.error is not None:
            raise self.error
        return self.workshop


@dataclass(eq=False)
class FakePeer:
    """A process that answers when it is told to."""

    pid: int = 1
    sent: list[tuple[dict[str, Any], int | None]] = field(default_factory=list)

    def send(self, message: dict[str, Any], fd: int | None = None) -> None:
        self.sent.append((message, fd))

    def commands(self, *kinds: str) -> list[dict[str, Any]]:
        return [message for message, _fd in self.sent if message["cmd"] in kinds]


class FakeWatcher:
    def __init__(self) -> None:
        self.files: set[Path] = set()

    def watch(self, files: Iterable[Path]) -> None:
        self.files = set(files)


class FakeWorker:
    """Does each job when the test says so."""

    def __init__(self) -> None:
        self.jobs: list[tuple[Callable[[], Any], Callable[[Any], None]]] = []

    def submit(self, job: Callable[[], Any], done: Callable[[Any], None]) -> None:
        self.jobs.append((job, done))

    def work(self) -> int:
        jobs, self.jobs = self.jobs, []
        for job, done in jobs:
            done(job())
        return len(jobs)


class FakeLog:
    def __init__(self) -> None:
        self.lines: list[dict[str, Any]] = []

    def _write(self, event: str, **fields: Any) -> None:
        self.lines.append({"event": event, **fields})

    debug = info = warning = error = _write

    def of(self, event: str) -> list[dict[str, Any]]:
        return [line for line in self.lines if line["event"] == event]


class Bed:
    """A reload loop among fakes, with a clock that the test moves."""

    def __init__(self, directory: Path, *names: str, audience: Any = None, tells_slow_builds: bool = False) -> None:
        for name in names or ("render.c",):
            (directory / name).write_text(f"// {name}\n")
        self.workshop = FakeWorkshop(directory, *(names or ("render.c",)))
        self.opener = FakeOpener(self.workshop)
        self.watcher = FakeWatcher()
        self.worker = FakeWorker()
        self.log = FakeLog()
        self.now = 100.0
        self.loop = ReloadLoop(
            opener=self.opener,
            watcher=self.watcher,
            worker=self.worker,
            log=self.log,
            config=Config(),
            clock=lambda: self.now,
            program="app.py",
            audience=audience,
            tells_slow_builds=tells_slow_builds,
        )

    def join(self, pid: int = 1) -> FakePeer:
        """A process with the hot extension connects, and everything that follows from it is done."""
        peer = FakePeer(pid)
        self.loop.process_joined(peer, [("/lib/fake.so", BUILD_ID), ("/lib/libc.so.6", "cd" * 20)])
        self.settle()
        return peer

    def save(self, name: str, text: str, *, whole: bool = True) -> None:
        path = self.workshop.directory / name
        path.write_text(text)
        self.loop.file_saved(str(path), self.now, whole=whole)

    def pass_time(self, seconds: float) -> float | None:
        self.now += seconds
        return self.loop.tick()

    def settle(self) -> None:
        """Time passes and the worker works until neither has anything to do."""
        for _ in range(10):
            self.pass_time(0.011)
            if not self.worker.work() and not self.worker.jobs:
                break

    def answer(self, peer: FakePeer, **reply: Any) -> None:
        """The process answers the last patch or rollback that it was sent."""
        last = peer.commands("stage+commit", "rollback")[-1]
        self.loop.replied(peer, {"msg": "reply", "id": last["id"], "path": last["path"], "ok": True, **reply})

    def refuse_as_busy(self, peer: FakePeer) -> None:
        """The process says that threads of it are still on their way."""
        error = {"error": "StageError", "message": "T1 is inside shade", "hint": "wait", "status": "BUSY"}
        self.answer(peer, ok=False, error=error)

    def end_transition(self, peer: FakePeer, event: str = events.TRANSITION_COMPLETED, **fields: Any) -> None:
        """The process says that they have come over."""
        self.loop.transition_ended(peer, {"msg": "transition", "event": {"event": event, **fields}})

    @property
    def finished(self) -> list[dict[str, Any]]:
        return self.log.of(events.RELOAD_FINISHED)
