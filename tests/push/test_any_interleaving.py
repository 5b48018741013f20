"""Random misfortunes at random moments, with and without a canary, with and without the command being killed.

However they fall: once deadlines have passed, every process that lives has the same code, and what the command said was
so.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

from hotreload.errors import HotReloadError
from hotreload.push import coordinator
from hotreload.push.coordinator import Coordinator, EndedError, RefusedError, Terms
from hotreload.push.records import Exit, Outcome
from tests.push.fakes import FakeChange, FakeTrial, FakeWorker, Farm

BOOKS = ["keep", "decide commit", "make current", "decide abort"]
REQUESTS = ["status", "prepare", "commit", "commit on trial", "abort"]
SEEDS = 400
NEWCOMERS = 100


class Killed(BaseException):
    """Stands for SIGKILL."""


def die(worker: FakeWorker) -> None:
    worker.alive = False


def die_while_asked(worker: FakeWorker) -> None:
    worker.alive = False
    raise EndedError("ended", was_asked=True)


def fall_silent(worker: FakeWorker) -> None:
    worker.silent = True


def refuse(worker: FakeWorker) -> None:
    raise RefusedError("no memory")


MISFORTUNES: list[Callable[[FakeWorker], None]] = [die, die_while_asked, fall_silent, refuse, FakeWorker.pass_deadline]


def arrange(farm: Farm, dice: random.Random) -> bool:
    """Sets the traps; whether one of them kills the command."""
    for worker in farm.workers:
        for _trap in range(dice.choice([0, 0, 0, 1, 1, 2])):
            step, misfortune = dice.choice(REQUESTS), dice.choice(MISFORTUNES)
            if misfortune is refuse and step not in ("status", "prepare"):
                continue  # an agent that has prepared does as is decided
            worker.before[step] = lambda w=worker, m=misfortune: m(w)  # type: ignore[misc]
    if dice.random() < 0.3:
        moment, victim = dice.choice(BOOKS), dice.choice(farm.workers)
        misfortune = dice.choice([die, fall_silent, FakeWorker.pass_deadline])
        farm.books.before[moment] = lambda: misfortune(victim)
    if dice.random() < 0.3:
        pid = NEWCOMERS + dice.randrange(100)
        farm.books.before[dice.choice(BOOKS)] = lambda: farm.start(pid, live=dice.choice([farm.books.current, "base"]))
    if dice.random() < 0.2:
        farm.books.before[dice.choice(BOOKS[:2])] = fail
    if dice.random() < 0.3:
        farm.books.before[dice.choice(BOOKS)] = kill
        return True
    return False


def fail() -> None:
    raise HotReloadError("the disk is full")


def kill() -> None:
    raise Killed


@pytest.mark.parametrize("with_canary", [False, True], ids=["all at once", "canary"])
def test_however_misfortunes_fall_all_processes_end_the_same(
    with_canary: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(coordinator, "_PAUSE", 0.0)
    ends: dict[str, int] = {}
    for seed in range(SEEDS):
        dice = random.Random(f"{seed} {with_canary}")
        farm = Farm(dice.choice([1, 2, 4]))
        arrange(farm, dice)
        outcome = run(farm, FakeTrial(1, lambda _: dice.choice(["", "", "unwell"])) if with_canary else None)
        name = outcome.exit.name if isinstance(outcome, Outcome) else type(outcome).__name__
        ends[name] = ends.get(name, 0) + 1
        farm.pass_deadlines()
        check(farm, outcome, f"seed {seed}: {outcome}")

    assert {"DONE", "REFUSED", "PARTLY", "Killed", "HotReloadError"} <= set(ends), ends


def run(farm: Farm, trial: Any) -> Any:
    """A push; a command that is killed does nothing more."""
    pushing = Coordinator(farm.find, farm.books, terms=Terms(deadline=5, newcomers=0.05))
    original = pushing._abort

    def abort(*args: Any) -> Any:
        if killed:
            raise Killed
        return original(*args)

    killed: list[bool] = []
    for moment, trap in list(farm.books.before.items()):
        if trap is kill:
            farm.books.before[moment] = lambda: (killed.append(True), kill())  # type: ignore[func-returns-value]
    pushing._abort = abort  # type: ignore[method-assign]
    try:
        return pushing.run(FakeChange(), trial=trial, push="P")
    except (Killed, HotReloadError) as error:
        return error


def check(farm: Farm, outcome: Any, story: str) -> None:
    # One that was born while the command was being killed is told apart by `status` and reached by the next push.
    first = [worker.live for worker in farm.workers if worker.alive and worker.identity.pid < NEWCOMERS]
    assert len(set(first)) <= 1, f"{story}: {first} {farm.books.decisions}"
    if not isinstance(outcome, Outcome):
        return
    assert len(set(farm.live)) <= 1, f"{story}: {farm.live} {farm.books.decisions}"
    assert all(worker.prepared is None and worker.trial is None for worker in farm.workers if worker.alive), story
    if outcome.exit is Exit.DONE:
        assert set(farm.live) <= {"new"}, story
        assert farm.books.current == "new", story
    if outcome.exit is Exit.REFUSED:
        assert set(farm.live) <= {"base"}, story
        assert farm.books.current == "base", story
        assert outcome.reason, story
