"""The server's side of the socket against a helper that the test plays."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from hotreload.errors import StageError
from hotreload.run import questions
from hotreload.run.descriptors import identity_of
from hotreload.run.link import Link
from hotreload.run.spawn import Started
from hotreload.wire import encode, receive

BUILD_ID = "ab" * 20


@dataclass
class Module:
    path: str
    build_id: str = BUILD_ID
    generation: int = 0


@dataclass
class Generation:
    number: int
    distance: int = 4096
    level: str = "call"
    info: dict[str, Any] = field(default_factory=dict)


class FakePatcher:
    """A manager that remembers what it was asked."""

    def __init__(self) -> None:
        self.calls: list[Any] = []
        self.libraries = [("/lib/fake.so", BUILD_ID), ("/lib/plain.so", "")]
        self.refusal: Exception | None = None
        self.attached: dict[str, Module] = {}
        self.open: Any = None
        self.subscribers: list[Any] = []
        self.terms: dict[str, Any] = {}

    def attach(self, path: str) -> Module:
        return self.attached.setdefault(path, Module(path))

    def modules(self) -> list[Module]:
        return list(self.attached.values())

    def history(self, module: Module) -> list[Generation]:
        return [Generation(number, info={"digest": f"d{number}"}) for number in range(module.generation + 1)]

    def loaded_libraries(self) -> list[tuple[str, str]]:
        return list(self.libraries)

    def stage(self, module: Module, patch: int) -> str:
        self.calls.append(("stage", os.read(patch, 100)))
        return "staged"

    def unstage(self, staged: str) -> None:
        self.calls.append(("unstage", staged))

    def commit(self, staged: str, *, info: Any = None, **terms: Any) -> Generation:
        if self.refusal is not None:
            raise self.refusal
        self.calls.append(("commit", info))
        self.terms = terms
        return Generation(1)

    def rollback(self, module: Module, to: int = 0, **terms: Any) -> Generation:
        self.calls.append(("rollback", to))
        self.terms = terms
        return Generation(to)

    def transition(self) -> Any:
        return self.open

    def configure(self, **limits: Any) -> None:
        self.limits = limits

    def subscribe(self, callback: Any) -> Any:
        self.subscribers.append(callback)
        return lambda: self.subscribers.remove(callback) if callback in self.subscribers else None


class Bench:
    """A link, and the other end of it."""

    def __init__(self, directory: Path) -> None:
        self.listening = socket.socket(socket.AF_UNIX)
        self.listening.bind(str(directory / "socket"))
        self.listening.listen()
        self.listening.settimeout(10)
        self.patcher = FakePatcher()
        self.events: list[dict[str, Any]] = []
        self.link = Link(str(directory / "socket"), self.patcher, self.events.append)
        self.helper = self.accept()
        self.link.start()

    def accept(self) -> socket.socket:
        helper, _ = self.listening.accept()
        helper.settimeout(10)
        return helper

    def next(self) -> dict[str, Any]:
        received = receive(self.helper)
        assert received is not None
        return received[0]

    def send(self, fd: int | None = None, **message: Any) -> None:
        data = encode({"id": 1, "path": "/lib/fake.so", "build_id": BUILD_ID, **message})
        if fd is None:
            self.helper.sendall(data)
        else:
            socket.send_fds(self.helper, [data], [fd])


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path)
    yield bench
    bench.link.close()
    bench.helper.close()
    bench.listening.close()


def test_it_says_hello_with_what_has_a_build_id(bench: Bench) -> None:
    hello = bench.next()

    assert (hello["msg"], hello["pid"]) == ("hello", os.getpid())
    assert hello["libraries"] == [["/lib/fake.so", BUILD_ID]]
    assert hello["live"] == {}


def test_later_it_says_only_what_is_new(bench: Bench) -> None:
    bench.next()
    bench.link.announce()
    bench.patcher.libraries.append(("/lib/new.so", "cd" * 20))
    bench.link.announce()

    assert bench.next() == {"msg": "loaded", "libraries": [["/lib/new.so", "cd" * 20]]}


def test_a_patch_is_staged_and_committed_from_its_descriptor(bench: Bench, tmp_path: Path) -> None:
    bench.next()
    (tmp_path / "patch").write_bytes(b"the patch")
    with (tmp_path / "patch").open("rb") as file:
        bench.send(file.fileno(), cmd="stage+commit", info={"digest": "d1"})
    reply = bench.next()

    assert bench.patcher.calls == [("stage", b"the patch"), ("commit", {"digest": "d1"})]
    assert (reply["ok"], reply["id"], reply["generation"], reply["distance_bytes"]) == (True, 1, 1, 4096)
    assert reply["stage_ms"] >= 0
    assert reply["commit_ms"] >= 0


def test_a_refusal_is_the_reply_and_the_patch_is_unstaged(bench: Bench, tmp_path: Path) -> None:
    bench.next()
    bench.patcher.refusal = StageError("a breakpoint is set", hint="remove it", status="SITE_TAKEN")
    (tmp_path / "patch").write_bytes(b"the patch")
    with (tmp_path / "patch").open("rb") as file:
        bench.send(file.fileno(), cmd="stage+commit")
    reply = bench.next()

    assert reply["ok"] is False
    assert reply["error"] == {
        "error": "StageError",
        "message": "a breakpoint is set",
        "hint": "remove it",
        "status": "SITE_TAKEN",
    }
    assert bench.patcher.calls[-1] == ("unstage", "staged")


def test_a_fault_of_ours_is_a_reply_too_and_the_link_goes_on(bench: Bench) -> None:
    bench.next()
    bench.patcher.attach = lambda path: 1 / 0
    bench.send(cmd="attach")
    assert bench.next()["error"]["error"] == "ZeroDivisionError"
    del bench.patcher.attach
    bench.send(cmd="rollback", to=0)

    assert bench.next()["ok"] is True
    assert bench.patcher.calls == [("rollback", 0)]


def test_a_commit_has_the_terms_of_the_helper_and_says_who_has_not_come_over(bench: Bench) -> None:
    bench.next()
    bench.patcher.open = {"stragglers": [{"name": "T1", "reason": "INSIDE", "where": "shade+0x4"}]}
    bench.send(cmd="rollback", to=0, terms={"level": "call", "deadline": 2.0, "policy": "force", "reason": "dev"})
    reply = bench.next()

    assert (reply["level"], reply["stragglers"]) == ("call", ["T1 (INSIDE shade+0x4)"])
    assert {**bench.patcher.terms, "wait": 0} == {
        "level": "call",
        "deadline": 2.0,
        "policy": "force",
        "reason": "dev",
        "wait": 0,
    }
    assert bench.patcher.terms["wait"] < 1


def test_the_helper_may_ask_who_has_not_come_over_yet(bench: Bench) -> None:
    bench.next()
    bench.patcher.open = {"stragglers": [{"name": "T1", "reason": "INSIDE", "where": "shade+0x4"}]}
    bench.send(cmd="stragglers")
    assert bench.next() == {"msg": "stragglers", "stragglers": ["T1 (INSIDE shade+0x4)"]}
    bench.patcher.open = None
    bench.send(cmd="stragglers")

    assert bench.next()["stragglers"] == []


def test_the_helper_hears_of_each_transition_that_ends_but_not_of_its_stacks(bench: Bench) -> None:
    bench.next()
    for event in ("transition.started", "transition.forced"):
        bench.patcher.subscribers[0]({"event": event, "reason": "dev", "stragglers": [{"name": "T1", "native": []}]})

    told = bench.next()
    assert told == {
        "msg": "transition",
        "event": {"event": "transition.forced", "reason": "dev", "stragglers": ["T1"]},
    }


def test_what_an_extension_may_hold_on_to_comes_with_its_attachment(bench: Bench) -> None:
    bench.next()
    bench.send(cmd="attach", limits={"retire": True, "keep": 2, "max_generations": 9, "max_bytes": 0})
    bench.next()

    assert bench.patcher.limits == {"retire": True, "keep": 2, "max_generations": 9, "max_bytes": 0}


def test_another_build_under_the_same_path_is_refused(bench: Bench) -> None:
    bench.next()
    bench.send(cmd="rollback", build_id="ef" * 20)

    assert "another build" in bench.next()["error"]["message"]
    assert bench.patcher.calls == []


def test_an_unknown_command_is_refused(bench: Bench) -> None:
    bench.next()
    bench.send(cmd="explode")

    assert "unknown command 'explode'" in bench.next()["error"]["message"]


def test_forwarded_events_are_published(bench: Bench) -> None:
    bench.next()
    bench.send(cmd="event", event={"event": "reload.finished", "outcome": "live"})
    bench.send(cmd="attach")
    bench.next()

    assert bench.events == [{"event": "reload.finished", "outcome": "live"}]


def test_it_stops_and_starts_on_the_same_connection(bench: Bench) -> None:
    bench.next()
    before = threading.active_count()
    for _ in range(5):
        bench.link.stop()
        bench.link.start()
    bench.send(cmd="attach")

    assert bench.next()["ok"] is True
    assert threading.active_count() == before


def test_a_second_connection_says_what_is_live(bench: Bench) -> None:
    bench.next()
    bench.patcher.attach("/lib/fake.so").generation = 2
    bench.link.stop()
    bench.link.reopen_in_child()
    bench.helper.close()
    bench.helper = bench.accept()

    assert bench.next()["live"] == {"/lib/fake.so": "d2"}


def test_when_the_helper_is_gone_one_line_says_so_and_cleans_up(
    bench: Bench, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    bench.next()
    bench.helper.close()
    bench.link._running.acquire(timeout=10)
    bench.link._running.release()

    assert capfd.readouterr().err.count("\n") == 1
    assert not bench.link.is_alive
    assert not (tmp_path / "socket").exists()


def test_nonsense_from_the_helper_ends_the_link_and_not_the_process(
    bench: Bench, capfd: pytest.CaptureFixture[str]
) -> None:
    bench.next()
    bench.helper.sendall(b"\xff" * 100)
    bench.link._running.acquire(timeout=10)
    bench.link._running.release()

    assert "helper process is gone" in capfd.readouterr().err


def test_descriptors_that_were_closed_under_it_are_not_touched(bench: Bench) -> None:
    bench.next()
    sock = bench.link._files.sock.fileno()
    other = os.open(os.devnull, os.O_RDONLY)
    kept = os.dup(sock)
    os.dup2(other, sock)
    bench.link.announce()
    bench.link._running.acquire(timeout=10)
    bench.link._running.release()

    assert os.fstat(sock).st_ino == os.fstat(other).st_ino
    for fd in (other, kept, sock):
        os.close(fd)


def take_over(bench: Bench, path: Path) -> list[int]:
    """What a daemon does: it closes every descriptor of the link's and opens its own under their numbers."""
    numbers = list(bench.link._files._identities)
    with path.open("wb") as file:
        for number in numbers:
            os.dup2(file.fileno(), number)
    return numbers


def wake_sleeper(bench: Bench) -> None:
    """The thread sleeps on files that are its own in the kernel only; a child would not have it."""
    bench.helper.close()
    assert bench.link._running.acquire(timeout=10)
    bench.link._running.release()


def test_numbers_that_are_the_programs_by_now_are_neither_written_nor_closed(bench: Bench, tmp_path: Path) -> None:
    bench.next()
    numbers = take_over(bench, tmp_path / "data")
    bench.link.announce()
    bench.link.announce_and_wait()
    bench.link.stop()
    bench.link.start()
    wake_sleeper(bench)
    bench.link.reopen_in_child()
    bench.link.close()

    assert len(numbers) == 3
    for number in numbers:
        assert os.write(number, b"ours ") == 5
        os.close(number)
    assert (tmp_path / "data").read_bytes() == b"ours ours ours "


def test_a_fork_after_the_files_were_taken_waits_for_what_the_thread_is_in_the_middle_of(
    bench: Bench, tmp_path: Path
) -> None:
    bench.next()
    busy, may_go_on = threading.Event(), threading.Event()

    def look() -> list[tuple[str, str]]:
        busy.set()
        may_go_on.wait(10)
        return []

    bench.patcher.loaded_libraries = look  # type: ignore[method-assign]
    bench.link.announce()
    assert busy.wait(10)
    numbers = take_over(bench, tmp_path / "data")
    forking = threading.Thread(target=bench.link.stop, args=(10.0,))
    forking.start()
    forking.join(0.1)
    was_waiting = forking.is_alive()
    may_go_on.set()
    forking.join(10)

    assert was_waiting
    assert not bench.link._running.locked()
    assert (tmp_path / "data").read_bytes() == b""
    for number in numbers:
        os.close(number)


def test_a_fork_after_the_files_were_taken_does_not_wait_and_the_child_has_a_link(
    bench: Bench, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    bench.next()
    numbers = take_over(bench, tmp_path / "data")
    started = time.monotonic()
    bench.link.stop()
    assert time.monotonic() - started < 0.5
    assert not bench.link.is_alive
    wake_sleeper(bench)
    bench.link.reopen_in_child()
    bench.helper = bench.accept()
    assert bench.next()["msg"] == "hello"
    bench.link.close()

    assert capfd.readouterr().err == ""
    assert (tmp_path / "socket").exists()
    for number in numbers:
        os.close(number)


def test_letting_go_of_a_helper_does_not_close_what_has_its_number(tmp_path: Path) -> None:
    _read, life = os.pipe()
    started = Started("/socket", life, identity_of(life))
    other = os.open(os.devnull, os.O_RDONLY)
    os.dup2(other, life)
    started.close()

    assert os.fstat(life).st_ino == os.fstat(other).st_ino
    for fd in (_read, life, other):
        os.close(fd)


def test_who_imports_waits_until_the_patch_before_the_answer_is_live(bench: Bench, tmp_path: Path) -> None:
    bench.next()
    bench.patcher.libraries.append(("/lib/new.so", "cd" * 20))
    calls: list[Any] = []
    waiter = threading.Thread(target=lambda: (bench.link.announce_and_wait(), calls.extend(bench.patcher.calls)))
    waiter.start()
    loaded = bench.next()
    assert loaded["libraries"] == [["/lib/new.so", "cd" * 20]]
    (tmp_path / "patch").write_bytes(b"the patch")
    with (tmp_path / "patch").open("rb") as file:
        bench.send(file.fileno(), cmd="stage+commit")
    bench.next()
    assert waiter.is_alive()
    bench.send(cmd="answer", ask=loaded["ask"])
    waiter.join(10)

    assert [call[0] for call in calls] == ["stage", "commit"]


def test_a_helper_that_does_not_answer_is_waited_for_once(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(questions, "_PATIENCE", 0.3)
    bench.next()
    durations = []
    for _ in range(3):
        started = time.monotonic()
        bench.link.announce_and_wait()
        durations.append(time.monotonic() - started)

    assert durations[0] >= 0.3
    assert sum(durations[1:]) < 0.2


def test_nobody_waits_for_a_helper_that_is_gone_or_goes(bench: Bench, capfd: pytest.CaptureFixture[str]) -> None:
    bench.next()
    waiter = threading.Thread(target=bench.link.announce_and_wait)
    waiter.start()
    bench.next()
    started = time.monotonic()
    bench.helper.close()
    waiter.join(10)
    bench.link.announce_and_wait()

    assert time.monotonic() - started < 1.0
    assert bench.link._running.acquire(timeout=10)
    bench.link._running.release()
    assert "helper process is gone" in capfd.readouterr().err


def test_an_import_by_the_links_own_thread_does_not_wait(bench: Bench) -> None:
    bench.next()
    bench.link._publish = lambda event: bench.link.announce_and_wait()
    started = time.monotonic()
    bench.send(cmd="event", event={})
    bench.send(cmd="attach")

    assert bench.next()["ok"] is True
    assert time.monotonic() - started < 1.0
