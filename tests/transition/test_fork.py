"""A child of fork has the transition to itself: it can end it, go back, and neither of the two disturbs the other."""

from __future__ import annotations

import pytest
from kit import HERE
from tiny import child

SCRIPT = f"""
import os, signal, sys, threading
sys.path[:0] = [{str(HERE)!r}]
import kit
from test_reasons import NAMES, NEW, OLD, OURS, Held, Once
pair, workers = kit.make_pair(OLD, NEW, NAMES, ours=OURS), kit.load_workers()
b = pair.base.function("b")
before = pair.entry_bytes()

def forked(run):
    pid = os.fork()
    if not pid:
        run_and_exit(run)
    return pid

def ended(pid):
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0

def run_and_exit(run):
    signal.alarm(20)
    try:
        run()
    except BaseException:
        import traceback
        traceback.print_exc()
        os._exit(1)
    os._exit(0)
"""

FINISH = """
def finish():
    progress = pair.core.progress(transition)
    assert progress.threads == 1, progress
    pair.settle(transition, 10)
    pair.end(transition)
    assert b() == 2
    pair.move()
    assert b() == 1 and pair.entry_bytes() == before
"""


def test_the_child_ends_it_by_itself_and_so_does_the_parent() -> None:
    child(
        SCRIPT
        + FINISH
        + """
held = Held(pair, workers, "reads")
transition = pair.begin()
assert not pair.core.wait(transition, 0)
ended(forked(finish))
assert not pair.core.wait(transition, 0)
assert held.let_go() == 11
pair.settle(transition)
pair.end(transition)
assert b() == 2
"""
    )


def test_a_child_of_a_thread_that_has_not_moved_ends_it_too() -> None:
    """The main thread of the child has the stack of another thread of the parent."""
    child(
        SCRIPT
        + FINISH
        + """
import ctypes
held = Held(pair, workers, "reads")  # keeps it open in the parent
pids, reasons = [], []

@ctypes.CFUNCTYPE(None)
def fork_inside():
    global transition
    transition = pair.begin()
    pids.append(os.fork())
    if not pids[0]:
        reasons.extend(s.reason for s in pair.core.progress(transition).stragglers)

def call():
    answer = pair.base.function("calls")()
    assert answer == 11, answer
    if not pids[0]:
        assert reasons == ["INSIDE"], reasons
        run_and_exit(finish)

pair.base.variable("callback", ctypes.c_size_t).value = ctypes.cast(fork_inside, ctypes.c_void_p).value
thread = threading.Thread(target=call)
thread.start()
thread.join()
ended(pids[0])
assert held.let_go() == 11
pair.settle(transition)
pair.end(transition)
"""
    )


def test_a_child_goes_back_while_the_parent_goes_on() -> None:
    child(
        SCRIPT
        + """
def back():
    pair.core.reverse(transition)
    pair.settle(transition, 10)
    pair.end(transition, is_reversed=True)
    assert b() == 1 and pair.entry_bytes() == before

transition = pair.begin()
pair.settle(transition)
assert b() == 2
ended(forked(back))
assert b() == 2
pair.end(transition)
assert b() == 2
"""
    )


def test_requests_of_other_threads_do_not_exist_in_the_child() -> None:
    child(
        SCRIPT
        + FINISH
        + """
mine, theirs, inside, leave = None, [], threading.Event(), threading.Event()
def serve():
    theirs.append(pair.core.enter_request())
    inside.set()
    leave.wait()
    pair.core.leave_request(theirs[0])
thread = threading.Thread(target=serve)
thread.start()
inside.wait()
mine = pair.core.enter_request()
transition = pair.begin(per_request=True)
def serve_on():
    assert pair.core.request_count() == 1
    assert not pair.core.wait(transition, 0)
    assert b() == 1
    pair.core.leave_request(theirs[0])
    assert pair.core.request_count() == 1
    pair.core.leave_request(mine)
    finish()
ended(forked(serve_on))
assert pair.core.request_count() == 2
pair.core.leave_request(mine)
leave.set()
thread.join()
pair.settle(transition)
pair.end(transition)
"""
    )


def test_forks_at_any_moment_of_transitions() -> None:
    """Each child finds the entries of one generation, or the stubs, and can go on with what it finds."""
    child(
        SCRIPT
        + """
import kit
pair = kit.answers_pair()
a = pair.base.function("a")
from hotreload.errors import StageError
current = []
is_over = threading.Event()

def go_on():
    assert all(a() in (1, 2) for _ in range(50))
    open_one = current[-1] if current else None
    try:
        pair.core.progress(open_one)
    except StageError:
        return  # between two of them
    pair.core.reverse(open_one)
    assert pair.core.wait(open_one, 10), pair.core.progress(open_one)
    pair.core.finish(open_one)
    pair.core.close_transition(open_one)
    assert len({a() for _ in range(50)}) == 1

def drive():
    while not is_over.is_set():
        current.append(pair.open())
        pair.core.begin(current[-1])
        pair.settle(current[-1])
        pair.end(current[-1])

with kit.Threads(workers, pair.base.address("a"), 2) as threads:
    driver = threading.Thread(target=drive)
    driver.start()
    while not current:
        pass
    for _ in range(60):
        ended(forked(go_on))
    is_over.set()
    driver.join()
assert threads.count(99) == 0
""",
        timeout=120,
    )


def test_a_fork_does_not_wait_for_a_pass_over_all_threads() -> None:
    """One thread is looked at, and the pass goes on after the fork."""
    child(
        SCRIPT
        + FINISH
        + """
import time
held = Held(pair, workers, "reads")
idle = [Once(workers, pair.base.address("b")) for _ in range(100)]
transition = pair.begin()
waited = []
waiting = threading.Thread(target=lambda: waited.append(pair.core.wait(transition, 3600)))
waiting.start()
ended(forked(finish))
pair.core.hurry()
waiting.join()
assert waited == [False]
for _ in range(200):  # each looks at one
    assert not pair.core.wait(transition, 3600)
pair.core.relax()
progress = pair.core.progress(transition)
assert progress.settled == progress.threads - 1, progress
assert held.let_go() == 11
pair.settle(transition)
pair.end(transition)
"""
    )


FORK = "os._exit(0) if (pid := os.fork()) == 0 else os.waitpid(pid, 0)"


@pytest.mark.parametrize("handler", [FORK, "hotreload.status()"], ids=["fork", "ask"])
def test_a_handler_of_a_signal_may_come_in_the_middle_of_a_commit(handler: str) -> None:
    """The commit waits for threads on the main thread, where Python runs the handler."""
    child(
        f"""
import sys
sys.path[:0] = [{str(HERE)!r}]
import os, signal, tempfile, threading
from pathlib import Path
import hotreload, kit
from hotreload.live import manager
from levels_kit import Desk

signal.alarm(50)
desk = Desk(Path(tempfile.mkdtemp()), kit.NativeCore())
desk.manager = manager()
desk.module = desk.manager.attach(str(desk.base.path))
handled, is_over = [], threading.Event()

def handle(*_):
    {handler}
    handled.append(1)

signal.signal(signal.SIGUSR1, handle)

def kill():
    asked = 0
    while not is_over.wait(0.001):
        if len(handled) == asked:  # one after the other
            asked += 1
            os.kill(os.getpid(), signal.SIGUSR1)

threading.Thread(target=kill).start()
for value in range(2, 12):
    generation = desk.push({{"alpha": value, "beta": 10 * value}}, wait=0.05)
    assert desk.manager.wait(30)
    assert desk.values == (value, 10 * value, 100)
is_over.set()
assert len(handled) > 20
"""
    )


def test_a_child_that_a_handler_forks_ends_what_its_thread_was_doing() -> None:
    child(
        """
from hotreload.live.report import Guard, Subscribers
guard = Guard(Subscribers())
with guard:
    guard.__enter__()  # for the fork
    guard.renew()
    assert guard._depth == 1
assert guard._depth == 0
"""
    )
