"""Real gunicorn under load from another process: pushes, rollbacks, deaths and births, and no request fails."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.push.kit import BASE_ANSWER, EDITS, Load, Server, wait_until

Serve = Callable[..., Server]
PUSHES, ROLLBACKS = 50, 25


def judge(load: Load, moments: list[tuple[int, int, int]]) -> list[str]:
    """What went wrong. A moment is (when it was asked for, when it was done, the answer from then on)."""
    assert len(load.answers) > len(moments) * 5, "too little load to judge by"
    wrong = [f"failed: {answer}" for answer in load.failed]
    ends = [*(asked for asked, _done, _value in moments[1:]), 1 << 63]
    for (_asked, done, value), end in zip(moments, ends):
        wrong += [f"{answer} instead of {value}" for answer in load.between(done, end) if answer.value != value]
    return wrong


def now(value: int, *, asked: int) -> tuple[int, int, int]:
    return (asked, time.monotonic_ns(), value)


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [pytest.param((), id="each loads it", marks=pytest.mark.soak), pytest.param(("--preload",), id="preload_app")],
)
def test_fifty_pushes_and_twenty_five_rollbacks_and_no_request_fails(serve: Serve, options: tuple[str, ...]) -> None:
    server = serve(options=options)
    moments = []
    with Load(server) as load:
        value = before = BASE_ANSWER
        for number in range(PUSHES):
            before, value = value, EDITS[number % len(EDITS)]
            asked = time.monotonic_ns()
            assert server.here("push", server.project.patch(value)) == 0
            moments.append(now(value, asked=asked))
            time.sleep(0.05)
            if number % (PUSHES // ROLLBACKS):
                value = before
                asked = time.monotonic_ns()
                assert server.here("rollback") == 0
                moments.append(now(value, asked=asked))
                time.sleep(0.05)
    assert len(moments) == PUSHES + ROLLBACKS

    assert judge(load, moments) == []
    assert len(set(server.live().values())) == 1
    assert {answer.pid for answer in load.answers} == set(server.worker_pids())


@pytest.mark.slow
def test_fault_e82_a_killed_worker_comes_back_with_the_patch(serve: Serve) -> None:
    server = serve()
    assert server.push(EDITS[0]).code == 0
    victim = server.worker_pids()[0]
    os.kill(victim, signal.SIGKILL)
    wait_until(lambda: len(server.worker_pids()) == 4 and victim not in server.worker_pids())
    wait_until(lambda: set(server.worker_pids()) <= set(server.answering()))

    assert server.answers(60) == {EDITS[0]}
    assert len(set(server.live().values())) == 1


@pytest.mark.slow
def test_workers_that_are_recycled_all_the_time_leave_nobody_on_old_code(serve: Serve) -> None:
    server = serve(options=("--max-requests", "50", "--max-requests-jitter", "20"))
    moments = []
    with Load(server) as load:
        for number in range(12):
            value = EDITS[number % len(EDITS)]
            asked = time.monotonic_ns()
            assert server.here("push", server.project.patch(value)) == 0
            moments.append(now(value, asked=asked))
            time.sleep(0.4)

    assert judge(load, moments) == []
    assert len({answer.pid for answer in load.answers}) > 8, "no worker was recycled"


@pytest.mark.slow
def test_every_worker_counts_on_from_where_it_was(serve: Serve) -> None:
    """A push keeps the process: its pid stays, and so does everything in it."""
    server = serve()
    before = set(server.worker_pids())
    for value in EDITS:
        assert server.push(value).code == 0

    assert set(server.worker_pids()) == before


@pytest.mark.slow
def test_fault_e76_a_process_that_forks_in_the_middle_of_pushes_has_children_with_the_new_code(serve: Serve) -> None:
    server = serve(options=("--preload",), workers=2)
    for number in range(6):
        value = EDITS[number % len(EDITS)]
        os.kill(server.pid, signal.SIGTTIN)  # one worker more, while the push goes on
        assert server.push(value).code == 0
        live: Any = wait_until(lambda number=number: len(server.answering()) >= 3 + number and server.live())
        assert len(set(live.values())) == 1, live
        assert server.answers() == {value}
