"""Why a thread has not moved: each reason is provoked, and the others move meanwhile."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from kit import FLAGS, HERE, Function, Pair, Threads, answers_pair, make_pair, straggler
from tiny import child

OURS = """
#include <pthread.h>
#include <unistd.h>
int gate = -1;
pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
void (*callback)(void);
volatile int is_spinning, may_end;
void take(void) { pthread_mutex_lock(&lock); }
void give(void) { pthread_mutex_unlock(&lock); }
"""

#: Each waits for something in its own way, then says its generation, and b's.
OLD = """
HOOK long b(void) { return 1; }
HOOK long reads(void) { char c; long n = read(gate, &c, 1); return 10 * n + b(); }
HOOK long locks(void) { pthread_mutex_lock(&lock); pthread_mutex_unlock(&lock); return 10 + b(); }
HOOK long calls(void) { callback(); return 10 + b(); }
HOOK long spins(void) { is_spinning = 1; while (!may_end) ; return 10 + b(); }
HOOK long dives(long n) { volatile long local = n; long below = n ? dives(n - 1) : reads(); return below + local - n; }
HOOK long dive(void) { long answer = dives(10000); return answer; }
"""

NEW = """
HOOK long b(void) { return 2; }
HOOK long reads(void) { return 20 + b(); }
HOOK long locks(void) { return 20 + b(); }
HOOK long calls(void) { return 20 + b(); }
HOOK long spins(void) { return 20 + b(); }
HOOK long dives(long n) { return 20 + b() + n * 0; }
HOOK long dive(void) { return 20 + b(); }
"""

NAMES = ("b", "reads", "locks", "calls", "spins", "dives", "dive")


@pytest.fixture(scope="module")
def waiting() -> Pair:
    return make_pair(OLD, NEW, NAMES, ours=OURS)


@pytest.fixture
def pair(waiting: Pair) -> Iterator[Pair]:
    yield waiting
    if waiting.is_new:
        waiting.move()


class Once:
    """One call on a thread of its own."""

    def __init__(self, workers: ctypes.CDLL, address: int) -> None:
        self.workers, self.raw = workers, workers.once_start(address)
        self.tid = workers.once_tid(self.raw)

    def go(self) -> Once:
        self.workers.once_go(self.raw)
        return self

    def answer(self) -> int:
        while not self.workers.once_is_done(self.raw):
            os.sched_yield()
        return int(self.workers.once_answer(self.raw))

    def wait_until_blocked(self, call: int) -> None:
        """Until it is in this system call."""
        while not Path(f"/proc/self/task/{self.tid}/syscall").read_text().startswith(f"{call} "):
            os.sched_yield()


READ, FUTEX = 0, 202


class Held:
    """A thread that sits in an old function, and how to let it go."""

    def __init__(self, pair: Pair, workers: ctypes.CDLL, name: str) -> None:
        self.pair, self.name = pair, name
        self.ends = os.pipe()
        pair.base.variable("gate", ctypes.c_int).value = self.ends[0]
        self.event, self.is_in = threading.Event(), threading.Event()
        self.called = ctypes.CFUNCTYPE(None)(self.call_back)
        pair.base.variable("callback", ctypes.c_size_t).value = ctypes.cast(self.called, ctypes.c_void_p).value
        pair.base.variable("may_end", ctypes.c_int).value = 0
        pair.base.variable("is_spinning", ctypes.c_int).value = 0
        if name == "locks":
            pair.base.function("take", result=None)()
        self.once = Once(workers, pair.base.address(name)).go()
        if name in ("reads", "dive"):
            self.once.wait_until_blocked(READ)
        elif name == "locks":
            self.once.wait_until_blocked(FUTEX)
        elif name == "calls":
            self.is_in.wait()
        else:
            while not pair.base.variable("is_spinning", ctypes.c_int).value:
                os.sched_yield()

    def call_back(self) -> None:
        self.is_in.set()
        self.event.wait()

    def let_go(self) -> int:
        os.write(self.ends[1], b"x")
        self.event.set()
        self.pair.base.variable("may_end", ctypes.c_int).value = 1
        if self.name == "locks":
            self.pair.base.function("give", result=None)()
        answer = self.once.answer()
        [os.close(end) for end in self.ends]
        return answer


@pytest.mark.parametrize("name", ["reads", "locks", "calls", "dive"])
def test_a_thread_that_sits_in_an_old_function_is_named_and_all_others_move(
    pair: Pair, workers: ctypes.CDLL, name: str
) -> None:
    held = Held(pair, workers, name)
    with Threads(workers, pair.base.address("b"), 3) as threads:
        transition = pair.begin()
        assert not pair.core.wait(transition, 0.2)
        progress = pair.core.progress(transition)
        assert [s.tid for s in progress.stragglers] == [held.once.tid]
        assert progress.settled == progress.threads - 1
        (found,) = progress.stragglers
        assert found.reason == "INSIDE"
        inside = [pair.old[n] for n in NAMES]
        assert any(span.start <= found.where <= span.end for span in inside)
        assert any(span.start <= frame <= span.end for span in inside for frame in found.frames)
        assert pair.base.function("b")() == 2
        assert held.let_go() == 11, "the call ends where it began, and its callees are of the same generation"
        pair.settle(transition)
        pair.end(transition)
    assert threads.count(2) > 0


def test_a_thread_that_computes_is_running_and_settles_when_it_calls_or_rests(pair: Pair, workers: ctypes.CDLL) -> None:
    held = Held(pair, workers, "spins")
    transition = pair.begin()
    assert not pair.core.wait(transition, 0.1)
    assert straggler(pair.core.progress(transition), held.once.tid).reason == "RUNNING"
    assert held.let_go() == 11
    pair.settle(transition)
    pair.end(transition)


def test_a_reversal_under_a_straggler_leaves_no_trace(pair: Pair, workers: ctypes.CDLL) -> None:
    before = pair.entry_bytes()
    held = Held(pair, workers, "reads")
    transition = pair.begin()
    assert not pair.core.wait(transition, 0.05)
    pair.core.reverse(transition)
    pair.settle(transition)
    pair.end(transition, is_reversed=True)
    assert pair.entry_bytes() == before
    assert pair.base.function("b")() == 1
    assert held.let_go() == 11


def test_forced_it_ends_all_the_same(pair: Pair, workers: ctypes.CDLL) -> None:
    held = Held(pair, workers, "reads")
    transition = pair.begin()
    assert not pair.core.wait(transition, 0)
    pair.core.finish(transition)
    pair.core.close_transition(transition)
    pair.is_new = True
    assert pair.base.function("b")() == 2
    assert held.let_go() == 12, "which is the mixture that was asked for"


def test_idle_threads_settle_from_outside(pair: Pair, workers: ctypes.CDLL) -> None:
    idle = [Once(workers, pair.base.address("b")) for _ in range(20)]
    for one in idle:
        one.wait_until_blocked(FUTEX)
    transition = pair.begin()
    pair.settle(transition)
    assert [one.go().answer() for one in idle] == [2] * 20
    pair.end(transition)


def test_a_thread_that_was_settled_from_outside_goes_over_whatever_lies_on_its_stack(
    pair: Pair, workers: ctypes.CDLL
) -> None:
    """It has been in the old code, and dead words of that are where its next frames will be."""
    idle = [Once(workers, pair.base.address("dive")) for _ in range(4)]
    ends = os.pipe()
    pair.base.variable("gate", ctypes.c_int).value = ends[0]
    os.write(ends[1], b"x" * 8)
    assert [one.go().answer() for one in idle] == [11] * 4
    for one in idle:
        one.wait_until_blocked(FUTEX)
    transition = pair.begin()
    pair.settle(transition)
    assert [one.go().answer() for one in idle] == [22] * 4
    pair.end(transition)
    [os.close(end) for end in ends]


# Requests ----------------------------------------------------------------------------------------------------------


def test_a_thread_inside_a_request_stays_until_it_leaves(pair: Pair) -> None:
    inside, leave, end = threading.Event(), threading.Event(), threading.Event()
    seen: list[int] = []

    def serve() -> None:
        request = pair.core.enter_request()
        inner = pair.core.enter_request()
        seen.append(pair.base.function("b")())
        pair.core.leave_request(inner)
        inside.set()
        leave.wait()
        seen.append(pair.base.function("b")())
        pair.core.leave_request(request)
        seen.append(pair.base.function("b")())
        end.set()

    thread = threading.Thread(target=serve)
    thread.start()
    inside.wait()
    assert pair.core.request_count() == 1
    transition = pair.begin(per_request=True)
    assert not pair.core.wait(transition, 0.1)
    (found,) = pair.core.progress(transition).stragglers
    assert (found.tid, found.reason) == (thread.native_id, "REQUEST")
    assert pair.base.function("b")() == 2
    leave.set()
    end.wait()
    assert seen == [1, 1, 2]
    pair.settle(transition)
    thread.join()
    pair.end(transition)
    assert pair.core.request_count() == 0


def test_another_thread_may_leave_a_request(pair: Pair) -> None:
    request, is_over = [], threading.Event()

    def serve() -> None:
        request.append(pair.core.enter_request())
        is_over.wait()

    thread = threading.Thread(target=serve)
    thread.start()
    while not request:
        os.sched_yield()
    transition = pair.begin(per_request=True)
    assert not pair.core.wait(transition, 0)
    pair.core.leave_request(request[0])
    pair.settle(transition)
    is_over.set()
    thread.join()
    pair.end(transition)


def test_a_thread_that_ends_inside_a_request_holds_nothing_up(pair: Pair) -> None:
    request = []
    thread = threading.Thread(target=lambda: request.append(pair.core.enter_request()))
    thread.start()
    thread.join()
    assert pair.core.request_count() == 1
    pair.move(per_request=True)
    pair.core.leave_request(request[0])
    assert pair.core.request_count() == 0


@pytest.mark.parametrize("per_request", [True, False], ids=["requests", "control"])
def test_a_request_that_calls_two_functions_sees_one_generation(per_request: bool) -> None:
    """The control is at level call: there each call is whole and the request is not."""
    source = "HOOK long a(void) { return %(g)d; } HOOK long b(void) { return %(g)d; }"
    pair = make_pair(source % {"g": 1}, source % {"g": 2}, ("a", "b"))
    a, b = pair.base.function("a"), pair.base.function("b")
    is_over, mixed, served = threading.Event(), [], [0]

    def serve() -> None:
        while not is_over.is_set():
            request = pair.core.enter_request()
            first = a()
            for _ in range(20):
                os.sched_yield()
            if b() != first:
                mixed.append(first)
            pair.core.leave_request(request)
            served[0] += 1

    threads = [threading.Thread(target=serve) for _ in range(4)]
    [thread.start() for thread in threads]
    for _ in range(60 if per_request else 2000):
        pair.move(per_request=per_request)
        if mixed:
            break
    is_over.set()
    [thread.join() for thread in threads]
    assert served[0] > (60 if per_request else 0)
    assert bool(mixed) != per_request


# Other stacks --------------------------------------------------------------------------------------------------------


COROUTINES = f"""
import ctypes, os, sys
sys.path[:0] = [{str(HERE)!r}]
import kit
from test_reasons import NAMES, NEW, OLD, OURS
pair, workers = kit.make_pair(OLD, NEW, NAMES, ours=OURS), kit.load_workers()
b, calls = pair.base.function("b"), pair.base.address("calls")
pair.base.variable("callback", ctypes.c_size_t).value = ctypes.cast(workers.coroutine_pause, ctypes.c_void_p).value
workers.coroutine_start(calls, 1)
transition = pair.begin()
workers.coroutine_go(pair.base.address("b"))
"""


def test_a_call_that_is_open_in_a_coroutine_ends_in_the_generation_it_began_in() -> None:
    """It was seen when it called; between that and its next call it is on no stack that anybody finds."""
    child(
        COROUTINES
        + """
assert b() == 1, "who has something open on another stack does not go over, from wherever it calls"
assert not pair.core.wait(transition, 0.1)
(found,) = pair.core.progress(transition).stragglers
assert (found.tid, found.reason) == (os.getpid(), "FOREIGN_STACK"), found
workers.coroutine_go(None)
assert workers.coroutine_end(1) == 11, workers.coroutine_end(1)
pair.core.reverse(transition)
pair.settle(transition)
pair.end(transition, is_reversed=True)
pair.move()
assert b() == 2
"""
    )


def test_the_stack_of_a_coroutine_that_has_ended_is_not_read_again() -> None:
    child(
        COROUTINES
        + """
workers.coroutine_go(None)
assert workers.coroutine_end(1) == 11
workers.coroutine_start(pair.base.address("b"), 0)  # on a stack below the one that is gone
assert workers.coroutine_end(0) == 1
"""
    )


@pytest.mark.parametrize("how", ["call_on_signal_stack", "call_in_coroutine"])
def test_a_call_on_a_stack_that_nobody_knows_keeps_it_open_until_it_is_reversed(
    pair: Pair, workers: ctypes.CDLL, how: str
) -> None:
    """A thread that was born later stays too, on a stack of which nothing is known."""
    held = Held(pair, workers, "reads")  # or all would be settled before the call comes
    transition = pair.begin()
    assert not pair.core.wait(transition, 0)
    answers: list[int] = []
    thread = threading.Thread(target=lambda: answers.append(getattr(workers, how)(pair.base.address("b"))))
    thread.start()
    thread.join()
    assert answers == [1]
    assert held.let_go() == 11
    assert not pair.core.wait(transition, 0.1)
    assert [s.reason for s in pair.core.progress(transition).stragglers] == ["FOREIGN_STACK"]
    pair.core.reverse(transition)
    pair.settle(transition)
    pair.end(transition, is_reversed=True)


def test_on_such_a_stack_the_new_side_is_entered_when_all_is_settled(pair: Pair, workers: ctypes.CDLL) -> None:
    transition = pair.begin()
    pair.settle(transition)
    answers: list[int] = []
    thread = threading.Thread(target=lambda: answers.append(workers.call_on_signal_stack(pair.base.address("b"))))
    thread.start()
    thread.join()
    assert answers == [2]
    assert pair.core.wait(transition, 0)
    pair.end(transition)


def test_a_thread_blocked_on_another_stack_is_not_settled(pair: Pair, workers: ctypes.CDLL) -> None:
    ends = os.pipe()
    inside = threading.Event()

    @Function
    def block() -> int:
        inside.set()
        os.read(ends[0], 1)
        return 0

    address = ctypes.cast(block, ctypes.c_void_p).value
    thread = threading.Thread(target=lambda: workers.call_on_signal_stack(address))
    thread.start()
    inside.wait()
    transition = pair.begin()
    assert not pair.core.wait(transition, 0.1)
    (found,) = pair.core.progress(transition).stragglers
    assert (found.tid, found.reason) == (thread.native_id, "FOREIGN_STACK")
    os.write(ends[1], b"x")
    thread.join()
    pair.settle(transition)
    pair.end(transition)
    [os.close(end) for end in ends]


# What it does not do ---------------------------------------------------------------------------------------------------

SCRIPT = """
import sys
sys.path[:0] = [{here!r}]
import kit
pair, workers = kit.answers_pair(), kit.load_workers()
with kit.Threads(workers, pair.base.address("a"), 4) as threads:
    for _ in range(10):
        pair.move()
        transition = pair.begin()
        pair.core.reverse(transition)
        pair.settle(transition)
        pair.end(transition, is_reversed=True)
print(threads.count(99))
"""


@pytest.mark.skipif(not shutil.which("strace"), reason="strace is not installed")
def test_no_thread_is_signalled_or_stopped(tmp_path: Path) -> None:
    log = tmp_path / "strace"
    calls = "kill,tkill,tgkill,rt_sigqueueinfo,rt_tgsigqueueinfo,pidfd_send_signal,ptrace,mprotect"
    done = subprocess.run(
        ["strace", "-f", "-qq", "-e", f"trace={calls}", "-o", log, sys.executable, "-c", SCRIPT.format(here=str(HERE))],
        capture_output=True, text=True, check=False, timeout=120,
        env={**os.environ, "PYTHONPATH": str(HERE.parents[1])},
    )  # fmt: skip
    if "PTRACE" in done.stderr or "ptrace" in done.stderr:
        pytest.skip("strace may not trace here")
    assert done.stdout.strip() == "0", done.stderr
    seen = {line.split()[1].split("(")[0] for line in log.read_text().splitlines() if "(" in line}
    assert seen == {"mprotect"}, "which shows that strace saw the process"


def test_flags_of_the_tests_are_those_of_hot_builds() -> None:
    from hotreload.build import flags

    assert FLAGS[0] in Path(flags.__file__).read_text()
    assert answers_pair().base.function("a")() == 1


def test_a_pointer_to_a_changed_function_on_the_stack_is_not_a_call_of_it(pair: Pair, workers: ctypes.CDLL) -> None:
    """Whoever calls through a pointer often has it in its frame: ctypes, method tables."""
    held = Held(pair, workers, "reads")
    transition = pair.begin()
    answers: list[int] = []
    thread = threading.Thread(target=lambda: answers.append(pair.base.function("b")()))
    thread.start()
    thread.join()
    assert answers == [2]
    once = Once(workers, pair.base.address("b")).go()
    assert once.answer() == 2, "a pointer to it is in the frame of the thread's start"
    assert held.let_go() == 11
    pair.settle(transition)
    pair.end(transition)


def test_who_says_that_it_is_outside_is_not_looked_at(pair: Pair) -> None:
    """The driver's stack may have been another thread's, whose words stand between its frames."""
    begun, seen = [], []

    @ctypes.CFUNCTYPE(None)
    def begin_inside() -> None:
        begun.append(pair.begin())
        seen.append(pair.core.wait(begun[0], 0.01))
        seen.append(pair.core.wait(begun[0], 10, is_outside=True))

    pair.base.variable("callback", ctypes.c_size_t).value = ctypes.cast(begin_inside, ctypes.c_void_p).value
    pair.base.function("calls")()
    assert seen == [False, True]
    pair.end(begun[0])
