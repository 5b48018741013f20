"""Two functions that change together, under threads that call them all the time."""

from __future__ import annotations

import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator

import pytest

from hotreload.errors import StageError, TransitionError
from hotreload.live import manager
from tests.python.conftest import Make

PAIR = """
def outer(spin=range(8)):
    mine = GENERATION
    for _ in spin:
        pass
    return mine, inner()

def inner():
    return GENERATION
"""
GATE = """
def f(entered, gate):
    entered.set()
    gate.wait(20)
    return 1, g()

def g():
    return 1
"""
GATE_NEW = GATE.replace("return 1", "return 2")


@pytest.fixture
def quick_switches() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


class Callers:
    """Threads that call a function until the block ends, and count what it answers."""

    def __init__(self, function, count: int = 4) -> None:
        self._function = function
        self._stop = False
        self.answers: list[Counter] = [Counter() for _ in range(count)]
        self._threads = [threading.Thread(target=self._run, args=(answers,)) for answers in self.answers]

    def _run(self, answers: Counter) -> None:
        function = self._function
        while not self._stop:
            answers[function()] += 1
            for _ in range(20):
                pass

    def __enter__(self) -> Callers:  # noqa: PYI034
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._stop = True
        for thread in self._threads:
            thread.join()

    @property
    def total(self) -> Counter:
        return sum(self.answers, Counter())


def swap_often(edited: Make, swaps: int, level: str) -> Counter:
    """So many swaps between two generations of a pair under four threads; what the callers were answered."""
    live = edited(PAIR.replace("GENERATION", "0"))
    for number in (1, 2):
        live.save(PAIR.replace("GENERATION", str(number)), level=level)
    with Callers(live.module.outer) as callers:
        for number in range(swaps):
            live.back(1 + number % 2, level=level, deadline=60.0, wait=60.0)
    return callers.total


@pytest.mark.usefixtures("quick_switches")
def test_a_thousand_swaps_of_two_functions_show_no_mixed_pair_at_level_call(edited: Make) -> None:
    answers = swap_often(edited, 1000, "call")

    assert set(answers) == {(1, 1), (2, 2)}
    assert min(answers.values()) > 100


@pytest.mark.usefixtures("quick_switches")
def test_at_level_function_callers_do_see_mixtures(edited: Make) -> None:
    """The control: this is what level call is for."""
    answers = swap_often(edited, 300, "function")

    assert set(answers) & {(1, 2), (2, 1)}


@pytest.fixture
def inside(edited: Make) -> Iterator[tuple]:
    """A module, and a thread that stands in ``f`` until the gate is opened."""
    live = edited(GATE)
    entered, gate, answers = threading.Event(), threading.Event(), []
    thread = threading.Thread(
        target=lambda: answers.append(live.module.f(entered, gate)), name="stands-in-f", daemon=True
    )
    thread.start()
    entered.wait(20)
    yield live, gate, answers
    gate.set()
    thread.join(20)


def wait_until_over() -> None:
    assert manager().wait(20)


def test_a_thread_inside_is_named_and_the_swap_waits_for_it(inside: tuple) -> None:
    live, gate, answers = inside
    generation = live.save(GATE_NEW, wait=0.01)

    assert generation.transition == "open"
    assert live.module.g() == 1  # nothing was swapped
    about = manager().transition()
    assert about is not None
    (straggler,) = about["stragglers"]
    assert straggler["name"] == "stands-in-f"
    assert straggler["where"].startswith("f (")
    assert any(line.endswith(" in f") for line in straggler["python"])
    assert manager().status()["transition"]["to"] == 1
    with pytest.raises(StageError, match="stands-in-f") as busy:
        live.save(GATE_NEW.replace("2", "3"))
    assert busy.value.status == "BUSY"

    gate.set()
    wait_until_over()

    assert live.module.g() == 2
    assert manager().history(live.loaded)[1].transition == "complete"
    deadline = time.monotonic() + 20
    while not answers and time.monotonic() < deadline:
        time.sleep(0.001)
    assert answers == [(1, 1)]  # the call that was open ended in the old code


def test_a_rollback_while_it_waits_cancels_it(inside: tuple) -> None:
    live, gate, _answers = inside
    live.save("NEW = 5\n" + GATE_NEW, wait=0.01)
    assert live.module.NEW == 5

    live.back(0)

    assert manager().transition() is None
    assert manager().history(live.loaded)[1].transition == "reversed"
    assert not hasattr(live.module, "NEW")
    gate.set()
    assert live.module.g() == 1


def test_at_the_deadline_it_is_cancelled_or_forced(inside: tuple) -> None:
    live, _gate, _answers = inside
    with pytest.raises(TransitionError, match="reversed"):
        live.save(GATE_NEW, deadline=0.05, policy="revert", wait=10)
    assert live.module.g() == 1

    live.save(GATE_NEW, deadline=0.05, policy="force", reason="a test", wait=10)

    assert live.module.g() == 2
    assert manager().history(live.loaded)[2].transition == "forced"
    book = next(each for each in manager().status()["modules"] if each["path"] == live.loaded.path)
    assert [taint["reason"] for taint in book["taints"]] == ["a test"]


def test_it_can_be_reversed_and_forced_by_hand(inside: tuple) -> None:
    live, _gate, _answers = inside
    live.save(GATE_NEW, wait=0.01)
    assert manager().reverse().number == 0
    assert manager().transition() is None

    live.save(GATE_NEW, wait=0.01)
    assert manager().force("a test").number == 2
    assert live.module.g() == 2


def test_one_function_is_swapped_at_once_whoever_is_inside(inside: tuple) -> None:
    live, _gate, _answers = inside
    generation = live.save(GATE.replace("def g():\n    return 1", "def g():\n    return 7"))

    assert (generation.level, generation.transition, live.module.g()) == ("function", "none", 7)


def test_level_request_is_refused_by_name(edited: Make) -> None:
    live = edited("def f():\n    return 1")
    with pytest.raises(StageError, match="python-request-level"):
        live.save("def f():\n    return 2", level="request")
    assert live.module.f() == 1


def test_while_greenlets_are_in_use_two_functions_are_not_swapped_together(
    edited: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    live = edited(GATE)
    monkeypatch.setitem(sys.modules, "greenlet", None)
    monkeypatch.delitem(sys.modules, "greenlet._greenlet", raising=False)  # whatever other tests have loaded
    with pytest.raises(StageError) as refused:
        live.save(GATE_NEW)
    assert refused.value.status == "GREENLETS"
