"""The audit trail: one event is one line, whatever is in it; where it must be written and cannot, nothing is done."""

from __future__ import annotations

import json
import multiprocessing
import os
import resource
import signal
from pathlib import Path

import pytest

from hotreload.errors import StageError
from hotreload.state import Audit, AuditError, StateDirectory, StateError

FORK = multiprocessing.get_context("fork")
HOSTILE = [
    'f\n{"event":"push.committed","uid":0}',
    "\x1b[2J\x1b]0;owned\x07",
    "a\r\nb\x00\x7f\x9b31m",
    "\u202e\u2028\u2029\ufeff",
    "\udc80\ud800",
    '"},{"',
    "%s%n${jndi:x}",
]


@pytest.fixture
def directory(tmp_path: Path) -> StateDirectory:
    return StateDirectory(tmp_path / "state")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "state" / "audit.jsonl"


def test_an_event_is_a_line_with_time_and_who(directory: StateDirectory, file: Path) -> None:
    assert Audit(directory).write({"event": "push.committed", "hash": "ab"})
    (event,) = map(json.loads, file.read_text().splitlines())

    assert event.items() >= {"event": "push.committed", "hash": "ab", "pid": os.getpid(), "uid": os.geteuid()}.items()
    assert event["time"].endswith("Z")
    assert oct(file.stat().st_mode & 0o777) == "0o600"


def test_what_the_event_says_itself_holds(directory: StateDirectory) -> None:
    audit = Audit(directory)
    audit.write({"event": "x", "uid": 4711, "pid": 1})

    assert [(event["uid"], event["pid"]) for event in audit.read()] == [(4711, 1)]


@pytest.mark.parametrize("name", HOSTILE)
def test_a_name_cannot_forge_a_line_or_move_the_cursor(directory: StateDirectory, file: Path, name: str) -> None:
    audit = Audit(directory)
    audit.write({"event": "patch.refused", "functions": [name], "why": name, name: 1})
    text = file.read_bytes()

    assert text.count(b"\n") == 1 and text.endswith(b"\n")
    assert all(0x20 <= byte < 0x7F for byte in text[:-1])
    (event,) = audit.read()
    assert (event["why"], event["functions"], event[name]) == (name, [name], 1)


def test_an_event_that_is_too_long_is_cut_and_still_a_line(directory: StateDirectory, file: Path) -> None:
    audit = Audit(directory)
    audit.write({"event": "x", "diff": "\u202e" * 100_000, "hash": "ab"})
    (event,) = audit.read()

    assert (event["event"], event["hash"], event["cut"]) == ("x", "ab", True)
    assert file.stat().st_size < 64 << 10
    audit.write({"event": "y", **{f"{number}": "\udc80" * 1000 for number in range(1000)}})
    assert file.read_bytes().count(b"\n") == 2 and [event["event"] for event in audit.read()] == ["x", "y"]
    assert file.stat().st_size < 128 << 10


def test_what_json_cannot_say_is_written_as_text(directory: StateDirectory) -> None:
    audit = Audit(directory)
    audit.write({"event": "x", "path": Path("/x"), "raw": b"\n"})

    assert [(event["path"], event["raw"]) for event in audit.read()] == [("/x", "b'\\n'")]


def write_many(path: Path, name: str) -> None:
    audit = Audit(StateDirectory(path), required=True)
    for number in range(60):
        audit.write({"event": "x", "name": name, "number": number, "filler": "y" * 3000})


def test_many_processes_write_without_tearing_a_line(tmp_path: Path, directory: StateDirectory) -> None:
    writers = [FORK.Process(target=write_many, args=(tmp_path / "state", str(i))) for i in range(8)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
    events = list(Audit(directory).read())

    assert [writer.exitcode for writer in writers] == [0] * 8
    assert sorted((e["name"], e["number"]) for e in events) == sorted((str(i), n) for i in range(8) for n in range(60))


def in_the_way(file: Path) -> None:
    file.mkdir()


def a_link(file: Path) -> None:
    (file.parent / "elsewhere").write_text("")
    file.symlink_to(file.parent / "elsewhere")


def another_name(file: Path) -> None:
    file.write_text("")
    os.link(file, file.parent / "other")


def a_pipe(file: Path) -> None:
    os.mkfifo(file, 0o600)


def a_device(file: Path) -> None:
    file.symlink_to("/dev/full")


def writable_by_others(file: Path) -> None:
    file.write_text("")
    file.chmod(0o666)


def directory_open_to_others(file: Path) -> None:
    file.parent.chmod(0o755)


@pytest.mark.parametrize(
    "spoil",
    [in_the_way, a_link, another_name, a_pipe, a_device, writable_by_others, directory_open_to_others],
    ids=lambda spoil: spoil.__name__,
)
def test_where_it_is_required_and_cannot_be_written_the_event_is_refused(
    directory: StateDirectory, file: Path, spoil
) -> None:
    spoil(file)
    with pytest.raises(AuditError, match="the audit trail cannot be written: ") as caught:
        Audit(directory, required=True).write({"event": "push.committed"})
    assert isinstance(caught.value, StageError) and caught.value.status == "AUDIT" and caught.value.hint
    assert Audit(directory, required=False).write({"event": "push.committed"}) is False


def with_a_full_disk(path: Path, answers) -> None:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    size = (path / "audit.jsonl").stat().st_size
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 20, size + 20))
    audit = Audit(StateDirectory(path), required=True)
    for _ in range(2):
        try:
            answers.put(audit.write({"event": "lost"}))
        except AuditError as error:
            answers.put(error)


def test_a_full_disk_refuses_and_the_next_line_begins_on_its_own(tmp_path: Path, directory: StateDirectory) -> None:
    audit = Audit(directory)
    audit.write({"event": "before"})
    answers = FORK.Queue()
    child = FORK.Process(target=with_a_full_disk, args=(tmp_path / "state", answers))
    child.start()
    first, second = answers.get(timeout=30), answers.get(timeout=30)
    child.join(30)

    assert "the disk is full" in str(first) and "File too large" in str(second)
    audit.write({"event": "after"})
    assert [event["event"] for event in audit.read()] == ["before", "after"]


def test_who_listens_is_told_whether_or_not_it_was_written(directory: StateDirectory, file: Path) -> None:
    told: list = []
    audit = Audit(directory, required=True, tell=told.append)
    audit.write({"event": "a"})
    file.unlink()
    file.mkdir()
    with pytest.raises(AuditError):
        audit.write({"event": "b"})

    assert [event["event"] for event in told] == ["a", "b"]


def test_a_trail_that_is_not_there_is_empty_and_stays_so(directory: StateDirectory, file: Path) -> None:
    assert list(Audit(directory).read()) == []
    assert not file.exists()


def test_a_trail_that_may_not_be_trusted_is_not_read(directory: StateDirectory, file: Path) -> None:
    Audit(directory).write({"event": "x"})
    file.chmod(0o666)
    with pytest.raises(StateError, match="written by other users"):
        list(Audit(directory).read())
