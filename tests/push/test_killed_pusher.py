"""The command is killed at each step: the workers settle by their deadline, all the same, and so does who starts later."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

import pytest

from tests.push.kit import BASE_ANSWER, EDITS, Server, wait_until

Serve = Callable[..., Server]

BEFORE_THE_DECISION = ["prepare 1", "prepare 3", "keep", "decide"]
AFTER_IT = ["make_current", "commit 1", "commit 3"]


@pytest.mark.parametrize("step", [*BEFORE_THE_DECISION, *AFTER_IT])
def test_workers_settle_by_their_deadline_all_the_same(serve: Serve, step: str) -> None:
    server = serve()
    killed = server.killed_at(step, EDITS[0])

    assert killed.returncode == -signal.SIGKILL, killed
    expected = EDITS[0] if step in AFTER_IT else BASE_ANSWER
    wait_until(lambda: all(not process["prepared"] for process in server.answering().values()), 10)
    assert len(set(server.live().values())) == 1, server.live()
    assert server.answers() == {expected}
    victim = server.worker_pids()[0]
    os.kill(victim, signal.SIGKILL)
    wait_until(lambda: len(server.live()) == 4 and victim not in server.live())
    assert server.answers(60) == {expected}
    assert server.push(EDITS[1]).code == 0
    assert server.answers() == {EDITS[1]}


@pytest.mark.parametrize("step", ["judge", "prepare 3", "decide", "make_current", "commit 3"])
def test_with_a_canary_too(serve: Serve, step: str) -> None:
    server = serve()
    killed = server.killed_at(step, EDITS[0], "--canary", "1", "--hold", "200ms")

    assert killed.returncode == -signal.SIGKILL, killed
    expected = EDITS[0] if step in AFTER_IT else BASE_ANSWER
    wait_until(lambda: all(not process["prepared"] for process in server.answering().values()), 10)
    assert len(set(server.live().values())) == 1, server.live()
    assert server.answers() == {expected}
