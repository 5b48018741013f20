"""More threads than there is room for, kernels that do not answer, and what must be left behind: nothing."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

import pytest
import tiny
from kit import HERE, Span, Threads, answers_pair, make_pair
from tiny import child

SLOTS = 1 << 14

SCRIPT = f"""
import os, sys, threading
sys.path[:0] = [{str(HERE)!r}]
import kit
from test_reasons import NAMES, NEW, OLD, OURS, Held, Once
pair, workers = kit.make_pair(OLD, NEW, NAMES, ours=OURS), kit.load_workers()
b = pair.base.function("b")
"""


def test_threads_without_a_slot_stay_and_it_can_be_reversed() -> None:
    child(
        SCRIPT
        + f"""
held = Held(pair, workers, "reads")
transition = pair.begin()
moved = workers.churn(pair.base.address("b"), {SLOTS + 100}, 2)
assert {SLOTS - 10} < moved < {SLOTS}, moved
assert workers.churn(pair.base.address("b"), 100, 1) == 100
assert held.let_go() == 11
assert not pair.core.wait(transition, 0.5)
assert [s.reason for s in pair.core.progress(transition).stragglers] == ["CROWDED"]
pair.core.reverse(transition)
pair.settle(transition)
assert b() == 1
pair.end(transition, is_reversed=True)
pair.move()
""",
        timeout=120,
    )


def test_threads_that_ended_give_their_slots_back() -> None:
    child(
        SCRIPT
        + f"""
held = Held(pair, workers, "reads")
transition = pair.begin()
for _ in range(5):
    assert workers.churn(pair.base.address("b"), {SLOTS // 2 + 100}, 2) == {SLOTS // 2 + 100}
    assert not pair.core.wait(transition, 0)
assert held.let_go() == 11
pair.settle(transition)
pair.end(transition)
""",
        timeout=120,
    )


def test_when_all_is_settled_nobody_stays_for_want_of_a_slot() -> None:
    """And there is no way back that could be proven then, which is said."""
    child(
        SCRIPT
        + f"""
transition = pair.begin()
pair.settle(transition)
assert workers.churn(pair.base.address("b"), {SLOTS + 100}, 2) == {SLOTS + 100}
pair.core.reverse(transition)
assert not pair.core.wait(transition, 0.1)
assert [s.reason for s in pair.core.progress(transition).stragglers] == ["CROWDED"]
pair.core.reverse(transition)
pair.settle(transition)
pair.end(transition)
""",
        timeout=120,
    )


def test_without_descriptors_nobody_is_taken_for_gone() -> None:
    child(
        SCRIPT
        + """
import resource
held = Held(pair, workers, "reads")
taken = []
limit = resource.getrlimit(resource.RLIMIT_NOFILE)
transition = pair.begin()
resource.setrlimit(resource.RLIMIT_NOFILE, (3, limit[1]))
assert not pair.core.wait(transition, 0.1)
(found,) = pair.core.progress(transition).stragglers
assert found.reason == "UNREADABLE", found
resource.setrlimit(resource.RLIMIT_NOFILE, limit)
assert not pair.core.wait(transition, 0.1)
assert held.let_go() == 11
pair.settle(transition)
pair.end(transition)
"""
    )


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can drop root")
def test_a_process_that_dropped_root_sees_no_idle_thread_and_says_so() -> None:
    child(
        SCRIPT
        + """
idle = Once(workers, pair.base.address("b"))
os.setuid(65534)
transition = pair.begin()
assert not pair.core.wait(transition, 0.1)
(found,) = pair.core.progress(transition).stragglers
assert (found.tid, found.reason) == (idle.tid, "UNREADABLE"), found
assert idle.go().answer() == 2
pair.settle(transition)
pair.end(transition)
"""
    )


def test_threads_of_the_kernel_are_not_waited_for() -> None:
    """An io_uring poller is in /proc/self/task and never runs code of the program."""
    out = child(
        SCRIPT
        + """
import ctypes
params = (ctypes.c_uint32 * 30)()
params[2] = 2  # SQPOLL
before = set(os.listdir("/proc/self/task"))
if ctypes.CDLL(None).syscall(425, 4, params) < 0 or set(os.listdir("/proc/self/task")) == before:
    print("none")
    os._exit(0)
transition = pair.begin()
pair.settle(transition)
assert pair.core.progress(transition).threads == 1
pair.end(transition)
"""
    )
    if out == "none":
        pytest.skip("this kernel has no io_uring poller for us")


def test_a_survey_proves_that_nobody_is_in_a_piece_of_code(workers: ctypes.CDLL) -> None:
    """A transition without entries: it only looks."""
    pair = make_pair("HOOK long f(void) { return 1; }", "HOOK long f(void) { return 2; }", ("f",))
    pair.move()
    pair.move()
    survey = pair.core.open_transition(pair.opened, [], [pair.image], [], per_request=False)
    assert survey.stubs == Span(0, 0)
    pair.core.begin(survey)
    assert pair.core.wait(survey, 10)
    pair.core.finish(survey)
    pair.core.close_transition(survey)
    for closed in pair.closed:
        pair.core.discard_stubs(closed)
    pair.core.discard_stubs(survey)
    assert not [line for line in tiny.maps() if f"{pair.image.start:x}-" in line and "stubs" in line]


def test_a_survey_finds_who_is_still_in_it() -> None:
    """It knows no entries, so they are left out here: pointers to them are on the stack of whoever calls through one."""
    child(
        SCRIPT
        + """
held = Held(pair, workers, "reads")
bodies = [kit.Span(span.start + 8, span.end) for span in pair.old.values()]
survey = pair.core.open_transition(pair.opened, [], bodies, [], per_request=False)
pair.core.begin(survey)
assert not pair.core.wait(survey, 0.1)
(found,) = pair.core.progress(survey).stragglers
assert (found.tid, found.reason) == (held.once.tid, "INSIDE")
assert held.let_go() == 11
assert pair.core.wait(survey, 10)
pair.core.finish(survey)
pair.core.close_transition(survey)
pair.core.discard_stubs(survey)
"""
    )


def usage() -> tuple[int, int, int]:
    """Lines of the map, descriptors, resident pages."""
    resident = int(Path("/proc/self/statm").read_text().split()[1])
    return len(tiny.maps()), len(os.listdir("/proc/self/fd")), resident


def test_many_transitions_leave_nothing_behind(workers: ctypes.CDLL) -> None:
    pair = answers_pair()
    with Threads(workers, pair.base.address("a"), 2):
        for _ in range(20):
            pair.move()
        maps, files, resident = usage()
        for _ in range(150):
            pair.move()
        later = usage()
    assert later[1] == files
    assert abs(later[0] - maps) <= 2
    assert later[2] - resident < 200


def test_a_transition_that_never_began_leaves_nothing_behind() -> None:
    pair = answers_pair()
    before = [line for line in tiny.maps() if "stubs" in line]
    bytes_before = pair.entry_bytes()
    transition = pair.open()
    assert [line for line in tiny.maps() if "stubs" in line] != before
    pair.core.discard_stubs(transition)
    assert [line for line in tiny.maps() if "stubs" in line] == before
    assert pair.entry_bytes() == bytes_before


def test_a_commit_that_is_refused_leaves_the_transition_as_it_was() -> None:
    pair = answers_pair()
    transition = pair.open()
    entry = pair.base.address("b")
    was = ctypes.string_at(entry, 8)
    tiny.overwrite_text(entry, b"\xcc" if tiny.PROLOGUE == "jump" else b"\x90")  # a slot's may have a breakpoint
    assert tiny.status_of(pair.core.begin, transition) in ("BREAKPOINT", "TEXT_CHANGED")
    tiny.overwrite_text(entry, was)
    assert pair.base.function("a")() == 1
    pair.core.begin(transition)
    pair.settle(transition)
    pair.end(transition)
    assert pair.base.function("a")() == 2
