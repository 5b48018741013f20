"""How a canary is judged: it must live, and the health command must succeed in time."""

from __future__ import annotations

import sys
import time
from argparse import ArgumentTypeError
from typing import Any

import pytest

from hotreload.cli.arguments import seconds as seconds_of
from hotreload.errors import HotReloadError
from hotreload.push.canary import Canary
from tests.push.fakes import FakeBooks, FakeWorker


def judge(code: str = "", *, alive: bool = True, **options: Any) -> str:
    worker = FakeWorker(7, FakeBooks())
    worker.alive = alive
    health = (sys.executable, "-c", code) if code else ()
    return Canary(1, **{"hold": 0.0, "health": health, "tell": str, **options}).judge("P", [worker])


def test_without_a_health_command_it_must_only_live() -> None:
    assert judge() == ""
    assert judge(alive=False) == "the canary ended while it was on trial: 7"


def test_it_is_held_as_long_as_was_asked() -> None:
    began = time.monotonic()

    assert judge(hold=0.3) == ""
    assert time.monotonic() - began >= 0.3


def test_the_health_command_must_succeed() -> None:
    assert judge("pass") == ""
    assert judge("import sys; sys.exit('too slow')").endswith("exited with 1: too slow")


def test_the_health_command_must_end() -> None:
    assert "did not end within 0.2 s" in judge("import time; time.sleep(9)", health_seconds=0.2)


def test_a_health_command_that_is_not_there_is_a_reason() -> None:
    assert "cannot be run: No such file" in judge(health=("/no/such/command",))


def test_the_health_command_is_told_which_they_are() -> None:
    code = "import os; assert os.environ['HOTRELOAD_CANARIES'] == '7'; assert os.environ['HOTRELOAD_PUSH'] == 'P'"

    assert judge(code) == ""


def test_no_shell_reads_the_health_command() -> None:
    assert Canary.of_command(1, 0, "check --name 'a b' ; rm x", str).health == (
        "check",
        "--name",
        "a b",
        ";",
        "rm",
        "x",
    )
    with pytest.raises(HotReloadError, match="cannot be read"):
        Canary.of_command(1, 0, "check 'a", str)


def test_a_trial_may_take_as_long_as_both_together() -> None:
    assert Canary(1, hold=5).seconds == 5
    assert Canary(1, hold=5, health=("check",), health_seconds=7).seconds == 12


@pytest.mark.parametrize(("text", "seconds"), [("30s", 30), ("500ms", 0.5), ("2m", 120), ("1h", 3600), ("1.5", 1.5)])
def test_lengths_of_time(text: str, seconds: float) -> None:
    assert seconds_of(text) == seconds


@pytest.mark.parametrize("text", ["", "s", "-1s", "inf", "nan", "1d", "x"])
def test_what_is_no_length_of_time(text: str) -> None:
    with pytest.raises(ArgumentTypeError, match="no length of time"):
        seconds_of(text)
