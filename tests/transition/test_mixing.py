"""Two functions that must not meet each other's other generation, under threads that never stop calling them."""

from __future__ import annotations

import ctypes
import random

import pytest
from kit import Pair, Threads, answers_pair


@pytest.fixture
def pair() -> Pair:
    return answers_pair()


def go_back_and_forth(pair: Pair, workers: ctypes.CDLL, transitions: int) -> None:
    before = pair.entry_bytes()
    with Threads(workers, pair.base.address("a"), 8) as threads:
        for _ in range(transitions):
            pair.move()
        while not (threads.count(1) and threads.count(2)):
            pair.move()
    assert threads.count(99) == 0
    assert threads.count(1) + threads.count(2) == threads.calls
    if pair.is_new:
        pair.move()
    assert pair.entry_bytes() == before


def test_eight_threads_never_mix_two_generations(pair: Pair, workers: ctypes.CDLL) -> None:
    go_back_and_forth(pair, workers, 150)


@pytest.mark.soak
def test_nor_in_a_thousand_transitions(pair: Pair, workers: ctypes.CDLL) -> None:
    go_back_and_forth(pair, workers, 1000)


def test_control_one_entry_after_the_other_does_mix_them(workers: ctypes.CDLL) -> None:
    pair = answers_pair(spins=100)
    with Threads(workers, pair.base.address("a"), 8) as threads:
        for _ in range(1_000_000):
            pair.commit()
            if threads.count(99):
                break
    assert threads.count(99) > 0


def test_the_side_of_a_transition_is_seen_by_all_calls_after_it_settled(pair: Pair, workers: ctypes.CDLL) -> None:
    """Settled, and not finished yet: whoever calls now, also for the first time, is on the new side."""
    with Threads(workers, pair.base.address("a"), 4):
        transition = pair.begin()
        pair.settle(transition)
        assert pair.base.function("a")() == 2
        with Threads(workers, pair.base.address("a"), 4) as late:
            while late.calls < 1000:
                pass
            assert late.count(1) == 0
        pair.end(transition)
    assert late.count(1) == late.count(99) == 0


def test_threads_that_come_and_go_do_not_hold_it_up(pair: Pair, workers: ctypes.CDLL) -> None:
    for _ in range(20):
        with Threads(workers, pair.base.address("a"), 4) as early:
            transition = pair.begin()
            with Threads(workers, pair.base.address("a"), 2) as late:
                pair.settle(transition)
            pair.end(transition)
        assert early.count(99) == late.count(99) == 0


@pytest.mark.parametrize("seed", range(3))
def test_a_reversal_at_any_moment_is_as_consistent(pair: Pair, workers: ctypes.CDLL, seed: int) -> None:
    """Before anyone has moved, in the middle, when all have; several times in one transition."""
    rng = random.Random(seed)
    before = pair.entry_bytes()
    with Threads(workers, pair.base.address("a"), 8) as threads:
        for _ in range(25):
            transition, reversals = pair.begin(), rng.choice([1, 1, 2, 3, 4])
            for _ in range(reversals):
                pair.core.wait(transition, rng.choice([0, 0.0005, 0.002, 0.005, 10]))
                pair.core.reverse(transition)
            pair.settle(transition)
            pair.end(transition, is_reversed=reversals % 2 == 1)
            if pair.is_new:
                pair.move()
            assert pair.entry_bytes() == before
    assert threads.count(99) == 0
    assert threads.count(1) > 0


def test_a_reversal_without_any_other_thread_settles_at_once(pair: Pair) -> None:
    transition = pair.begin()
    pair.core.reverse(transition)
    assert pair.core.wait(transition, 0)
    assert pair.base.function("a")() == 1
    pair.end(transition, is_reversed=True)


def test_a_storm_of_signals_whose_handler_calls_them_too(pair: Pair, workers: ctypes.CDLL) -> None:
    """The handler runs in the middle of stubs and of the relay."""
    workers.storm_start(pair.base.address("a"), 100)
    try:
        with Threads(workers, pair.base.address("a"), 4) as threads:
            for i in range(60):
                transition = pair.begin()
                if i % 3 == 0:
                    pair.core.reverse(transition)
                pair.settle(transition)
                pair.end(transition, is_reversed=i % 3 == 0)
            while workers.storm_answers(1) < 20 or workers.storm_answers(2) < 20:
                pair.move()
    finally:
        workers.storm_stop()
    assert threads.count(99) == 0
    assert workers.storm_answers(99) == 0
