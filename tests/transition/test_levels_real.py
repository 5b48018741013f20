"""What each level promises, shown by threads that run compiled code while its functions change."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.hot import ROOT, HotExtension, run

HERE = Path(__file__).resolve().parent
TRANSITIONS = 1000

SOURCE = """
#include <pthread.h>
#include <unistd.h>

#define GENERATION 1

int is_inside, may_leave;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

void take_lock(void) { pthread_mutex_lock(&lock); }
void give_lock(void) { pthread_mutex_unlock(&lock); }

long b(void) { return GENERATION; }
long a(void) {
    for (volatile int i = 0; i < 50; i++)
        continue;
    return 10 * GENERATION + b();
}

long who_a(void) { return GENERATION; }
long who_b(void) { return GENERATION; }

long quick(void) { return GENERATION; }
long descend(int depth, int fd) {
    char byte;
    if (depth)
        return descend(depth - 1, fd) + 0 * GENERATION;
    is_inside = 1;
    return read(fd, &byte, 1) + GENERATION;
}
long sit(int how, int fd, void (*callback)(void)) {
    char byte;
    switch (how) {
    case 0:
        is_inside = 1;
        if (read(fd, &byte, 1) != 1)
            return -1;
        break;
    case 1:
        is_inside = 1;
        pthread_mutex_lock(&lock);
        pthread_mutex_unlock(&lock);
        break;
    case 2:
        callback();
        break;
    case 3:
        is_inside = 1;
        while (!*(volatile int *)&may_leave)
            continue;
        break;
    case 4:
        descend(10000, fd);
        break;
    }
    return 1000 * GENERATION + quick();
}
"""


class Bench:
    """The extension, the patch that makes it generation 2, and the program that runs it."""

    def __init__(self, hot: HotExtension, folder: Path) -> None:
        self.path = hot.path
        hot.save("#define GENERATION 1", "#define GENERATION 2")
        result = hot.make()
        assert result.path, result
        self.patch = shutil.copy(result.path, folder / "two.hotpatch")
        hot.save("i < 50", "i < 40")
        self.other = shutil.copy(hot.make().path, folder / "other.hotpatch")
        self.hammer = folder / "hammer.so"
        run("gcc", "-shared", "-fPIC", "-O2", "-pthread", HERE / "levels_hammer.c", "-o", self.hammer, cwd=folder)

    def command(self, scenario: str, **options: Any) -> list[str]:
        options = {"path": str(self.path), "patch": str(self.patch), **options}
        return [sys.executable, str(HERE / "levels_program.py"), scenario, json.dumps(options)]

    def __call__(self, scenario: str, *, before: tuple[str, ...] = (), timeout: float = 300, **options: Any) -> Any:
        done = subprocess.run(
            [*before, *self.command(scenario, **options)],
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout,
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]),
            },
        )
        assert done.returncode == 0, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        return json.loads(done.stdout)


@pytest.fixture(scope="module")
def bench(shared_hot_extension: Callable[..., HotExtension], tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench(shared_hot_extension(SOURCE, link=("-pthread",)), tmp_path_factory.mktemp("levels"))


# Two functions that belong together ----------------------------------------------------------------------------------


@pytest.mark.slow
def test_at_level_call_no_caller_meets_a_callee_of_another_generation(bench: Bench) -> None:
    seen = bench("calls", hammer=str(bench.hammer), transitions=TRANSITIONS, level="call")
    assert "stuck" not in seen, seen
    assert seen["states"] == {"complete": TRANSITIONS}
    assert seen["mixed"] == 0
    assert seen["old"] > 1000 and seen["new"] > 1000
    print(f"\n{seen}")


def test_the_same_threads_at_level_function_do_see_mixtures(bench: Bench) -> None:
    """The control: without it, that nothing was mixed would say nothing."""
    seen = bench("calls", hammer=str(bench.hammer), transitions=TRANSITIONS, level="function", pause=0.0005)
    assert seen["states"] == {"none": TRANSITIONS}
    assert seen["mixed"] > 0
    print(f"\n{seen}")


def test_at_level_request_a_request_that_sleeps_sees_one_generation(bench: Bench) -> None:
    seen = bench("requests", transitions=TRANSITIONS, level="request", with_request=True)
    assert seen["stuck"] is None
    assert seen["mixed"] == 0
    assert seen["generations"] == [1, 2] and seen["same"] > 100
    print(f"\n{seen}")


def test_without_a_request_it_sees_two(bench: Bench) -> None:
    seen = bench("requests", transitions=200, level="request", with_request=False)
    assert seen["mixed"] > 0
    print(f"\n{seen}")


@pytest.mark.parametrize("with_request", [True, False])
def test_the_pieces_of_a_response_are_of_one_generation_under_the_middleware(bench: Bench, with_request: bool) -> None:
    seen = bench("served", transitions=200, with_request=with_request)
    assert seen["settled"] and seen["generations"] == 2
    assert (seen["mixed"] == 0) == with_request, "without it they are not: the control"
    print(f"\n{seen}")


@pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace")
def test_no_thread_is_signalled_or_traced_on_the_way(bench: Bench, tmp_path: Path) -> None:
    log = tmp_path / "strace"
    calls = "kill,tkill,tgkill,rt_sigqueueinfo,rt_tgsigqueueinfo,pidfd_send_signal,ptrace,mprotect"
    before = ("strace", "-f", "--seccomp-bpf", "-o", str(log), "-e", f"trace={calls}", "-e", "signal=all")
    probe = subprocess.run([*before, "true"], capture_output=True, text=True, check=False)
    if probe.returncode:
        pytest.skip(f"strace cannot trace here: {probe.stderr.strip()}")
    seen = bench("calls", before=before, hammer=str(bench.hammer), transitions=100, level="call")
    assert seen["states"] == {"complete": 100} and seen["mixed"] == 0
    lines = log.read_text().splitlines()
    assert sum("mprotect(" in line for line in lines) >= 200, "strace saw what was done"
    assert not [line for line in lines if "mprotect(" not in line and not re.search(r"\+\+\+ exited with 0", line)]


# Greenlets -----------------------------------------------------------------------------------------------------------

has_greenlet = pytest.mark.skipif(importlib.util.find_spec("greenlet") is None, reason="needs greenlet")


@has_greenlet
def test_a_greenlet_that_is_suspended_in_old_code_refuses_what_could_not_be_kept(bench: Bench) -> None:
    seen = bench("suspended")
    assert seen["imported"] == "complete", "to have imported it is not to use it"
    for level in ("call", "request"):
        status, hint, quick = seen[level]
        assert (status, "--level function" in hint, quick) == ("GREENLETS", True, 1)
    assert seen["function"] == ["none", 2]
    assert seen["mixed"] == 1002, "the control: old code has met new code"


@has_greenlet
def test_greenlets_that_come_into_use_hold_a_transition_open_until_they_are_gone(bench: Bench) -> None:
    seen = bench("greenlets_meanwhile")
    assert (seen["state"], seen["settled"], seen["told"]) == ("open", False, ["GREENLETS"])
    assert (seen["back"], seen["forth"]) == ("open", "open")
    assert (seen["completed"], seen["quick"]) == (True, 2)


# Stragglers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["read", "lock", "callback", "computation", "recursion"])
def test_a_thread_that_sits_in_old_code_is_named_and_nobody_else_waits_for_it(bench: Bench, how: str) -> None:
    seen = bench("sitting", how=how)
    assert seen["first"] == "open"
    told = seen["told"]
    (straggler,) = told["stragglers"]
    assert (straggler["tid"], straggler["name"]) == (seen["tid"], "the sitter")
    assert (told["from"], told["to"], told["direction"], told["level"]) == (0, 1, "forward", "call")
    assert told["settled"] == told["threads"] - 1
    if how == "computation":
        assert straggler["reason"] == "RUNNING"
    else:
        assert straggler["reason"] == "INSIDE"
        wanted = "descend" if how == "recursion" else "sit"
        assert re.match(rf"{wanted}\+0x[0-9a-f]+ \[original\]", straggler["where"])
        assert any(frame.startswith(wanted) for frame in straggler["native"])
    assert any("in sitter" in frame for frame in straggler["python"]), straggler["python"]
    if how == "callback":
        assert any("in wait_in_python" in frame for frame in straggler["python"])

    assert seen["quick"] == [2, 2], "everybody else is there"
    assert "the sitter (thread" in seen["busy"]
    assert seen["back"] == "complete"
    assert seen["trace"] == [False, 1, 1], "a reversal leaves no trace"
    assert seen["second"] == "open"
    assert seen["completed"] and seen["state"] == "complete", "by itself, when it returned"
    assert seen["results"] == [1001], "an old caller with an old callee to the end"
    assert seen["after"] == [2002, 2]
    assert seen["events"] == [
        "transition.started",
        "transition.reversed",
        "transition.completed",
        "transition.started",
        "transition.completed",
    ]


def test_a_child_ends_what_was_open_without_the_threads_that_it_does_not_have(bench: Bench) -> None:
    seen = bench("forking")
    assert seen["children"] == [0] * 5
    assert seen["told"] == ["the sitter"], "in the parent nothing has changed"
    assert seen["completed"] and seen["quick"] == 2


@pytest.mark.parametrize("with_force", [False, True])
def test_whatever_is_asked_for_at_once_it_stays_consistent_and_nobody_hangs(bench: Bench, with_force: bool) -> None:
    seen = bench("chaos", hammer=str(bench.hammer), seconds=5, seed=4, with_force=with_force)
    print(f"\n{seen}")
    assert seen["errors"] == seen["hung"] == []
    assert seen["settled"] and seen["end"] == 11
    assert set(seen["children"]) <= {0}
    assert seen["counts"].keys() <= {"done", "BUSY", "STALE", "NO_TRANSITION", "REVERSED"}
    if not with_force:
        assert seen["mixed"] == 0


# asyncio -------------------------------------------------------------------------------------------------------------


def test_requests_that_share_a_thread_are_all_of_one_generation_while_any_is_open(bench: Bench) -> None:
    seen = bench("event_loop", overlap=False, deadline=60)
    assert seen["completed"] and seen["end"]
    assert all(a == b for a, b in seen["seen"])
    assert {a for a, _ in seen["seen"]} == {1, 2}, "it moved in a gap"
    assert seen["inside"] == [1, 1], "a request of this thread's ends as it began"
    assert set(seen["outside"]) == {1, 2}, "while a thread of an executor went on by itself"


def test_requests_that_overlap_without_a_gap_hold_the_transition_until_its_deadline(bench: Bench) -> None:
    seen = bench("event_loop", overlap=True, deadline=0.2)
    during = seen["during"]
    (straggler,) = during["stragglers"]
    assert (straggler["reason"], straggler["name"]) == ("REQUEST", "MainThread")
    assert all(pair == [1, 1] for pair in seen["seen"])
    assert seen["events"][:2] == ["transition.started", "transition.stalled"]
    assert seen["completed"]


# Many swaps ----------------------------------------------------------------------------------------------------------


def check_flat(seen: dict[str, Any]) -> None:
    """Nothing grows over the last nine tenths."""
    assert "stuck" not in seen, seen
    early, late = seen["samples"][10], seen["samples"][-1]
    middle = seen["samples"][len(seen["samples"]) // 2]
    print(f"\n{seen['seconds']:.1f} s, {seen['calls']:,} calls\nearly {early}\nmiddle {middle}\nlate {late}")
    assert seen["mixed"] == 0
    assert late["descriptors"] == early["descriptors"]
    assert late["tasks"] <= early["tasks"] + 1
    assert abs(late["mappings"] - early["mappings"]) <= 4
    assert late["resident"] <= early["resident"] + (512 << 10)


def test_two_thousand_swaps_leave_memory_mappings_and_descriptors_as_they_were(bench: Bench) -> None:
    patches = [str(bench.patch), str(bench.other)]
    seen = bench("soak", hammer=str(bench.hammer), swaps=2000, patches=patches)
    assert seen["generation"] == 2000
    check_flat(seen)


@pytest.mark.soak
def test_a_hundred_thousand_swaps_leave_memory_mappings_and_descriptors_as_they_were(bench: Bench) -> None:
    patches = [str(bench.patch), str(bench.other)]
    seen = bench("soak", hammer=str(bench.hammer), swaps=100_000, patches=patches, timeout=7200)
    assert seen["generation"] == 100_000
    check_flat(seen)
