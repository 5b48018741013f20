"""One push, many who would decide it: one decision, the same for all, whoever dies."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from pathlib import Path

import pytest

from hotreload.state import Decisions, StateDirectory, StateError
from hotreload.state.decisions import KEEP_SECONDS

FORK = multiprocessing.get_context("fork")
PROCESSES, PUSHES = 12, 25


@pytest.fixture
def decisions(tmp_path: Path) -> Decisions:
    return Decisions(StateDirectory(tmp_path / "state"))


def test_the_first_word_holds(decisions: Decisions) -> None:
    assert decisions.look("p1") is None
    assert decisions.decide("p1", "commit") == "commit"
    assert decisions.decide("p1", "abort") == "commit" == decisions.look("p1")
    assert decisions.decide("p2", "abort") == "abort" == decisions.decide("p2", "commit")


def race(path: Path, word: str, barrier, answers) -> None:
    decisions = Decisions(StateDirectory(path))
    held = []
    for number in range(PUSHES):
        barrier.wait()
        held.append(decisions.decide(f"push-{number}", word))
    answers.put(held)


def test_of_many_processes_that_race_one_wins_and_all_read_the_same(tmp_path: Path, decisions: Decisions) -> None:
    barrier, answers = FORK.Barrier(PROCESSES), FORK.Queue()
    words = ["commit" if i % 2 else "abort" for i in range(PROCESSES)]
    racers = [FORK.Process(target=race, args=(tmp_path / "state", word, barrier, answers)) for word in words]
    for racer in racers:
        racer.start()
    held = [answers.get(timeout=60) for _ in racers]
    for racer in racers:
        racer.join(60)

    for number in range(PUSHES):
        assert {answer[number] for answer in held} == {decisions.look(f"push-{number}")}
    assert sorted(os.listdir(tmp_path / "state" / "decisions")) == sorted(f"push-{n}" for n in range(PUSHES))


def test_threads_of_one_process_agree_too(decisions: Decisions) -> None:
    held: list[str] = []
    threads = [
        threading.Thread(target=lambda word=word: held.append(decisions.decide("p", word)))
        for word in ("commit", "abort") * 8
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(held) == 16 and set(held) == {decisions.look("p")}


def decide_for_ever(path: Path, started) -> None:
    decisions = Decisions(StateDirectory(path))
    started.set()
    number = 0
    while True:
        decisions.decide(f"k{os.getpid()}-{number}", "commit")
        number += 1


def test_one_that_is_killed_while_deciding_has_decided_or_not(tmp_path: Path, decisions: Decisions) -> None:
    for round_number in range(8):
        started = FORK.Event()
        victim = FORK.Process(target=decide_for_ever, args=(tmp_path / "state", started))
        victim.start()
        assert started.wait(30)
        time.sleep(0.004 * round_number)
        os.kill(victim.pid, signal.SIGKILL)
        victim.join(30)
        pushes = StateDirectory(tmp_path / "state").names("decisions")
        assert {decisions.look(push) for push in pushes if f"k{victim.pid}-" in push} <= {"commit"}
        following = f"k{victim.pid}-{sum(push.startswith(f'k{victim.pid}-') for push in pushes)}"
        assert decisions.decide(following, "abort") == "abort"


@pytest.mark.parametrize("word", ["", "Commit", "yes", "commit\n"])
def test_a_push_is_decided_with_one_of_two_words(decisions: Decisions, word: str) -> None:
    with pytest.raises(ValueError, match="decided with 'commit' or 'abort'"):
        decisions.decide("p", word)
    assert decisions.look("p") is None


@pytest.mark.parametrize("push", ["", "..", "a/b", "../patches/x", ".tmp.1", "a\nb", "-x", "x" * 65])
def test_a_push_whose_name_leads_elsewhere_is_refused(decisions: Decisions, push: str) -> None:
    for use in (lambda: decisions.decide(push, "commit"), lambda: decisions.look(push)):
        with pytest.raises(StateError, match="cannot be the name of a push"):
            use()


def test_a_decision_that_was_edited_is_no_decision(tmp_path: Path, decisions: Decisions) -> None:
    decisions.decide("p", "commit")
    for content in (b"", b"commi", b"commit\n", b"\xff" * 8, b"x" * 65):
        (tmp_path / "state" / "decisions" / "p").write_bytes(content)
        with pytest.raises(StateError, match=r"holds no decision|is longer than"):
            decisions.decide("p", "abort")


def test_where_nothing_can_be_written_nothing_is_decided(tmp_path: Path, decisions: Decisions) -> None:
    (tmp_path / "state" / "decisions").write_text("in the way")
    with pytest.raises(StateError, match="Not a directory"):
        decisions.decide("p", "commit")


def test_old_decisions_are_forgotten(tmp_path: Path, decisions: Decisions) -> None:
    for push in ("old", "new"):
        decisions.decide(push, "commit")
    then = time.time() - KEEP_SECONDS - 1
    os.utime(tmp_path / "state" / "decisions" / "old", (then, then))

    assert decisions.forget_old() == 1
    assert (decisions.look("old"), decisions.look("new")) == (None, "commit")
