"""Who has not moved, told so that a person finds the code."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import threading
import time
from _thread import start_new_thread
from pathlib import Path

import pytest
from levels_kit import ROOT, Desk

from hotreload.live.core import Straggler
from hotreload.live.stragglers import Since, Symbols, brief, describe, greenlets_entry, python_stacks, thread_names

TWO = {"alpha": 2, "beta": 20}


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    desk = Desk(tmp_path)
    desk.core.settled.set()
    return desk


def ledger_of(desk: Desk):
    return desk.manager._ledgers[desk.module.path]


def test_functions_of_generations_are_named_with_their_side(desk: Desk) -> None:
    one, two = desk.push(TWO), desk.push({**TWO, "gamma": 7})
    symbols = Symbols(ledger_of(desk))
    target = {redirect.name: redirect.target for redirect in one.redirects}
    assert symbols.known(target["alpha"] + 3) == "alpha+0x3 [generation 1]"
    assert symbols.known(two.redirects[-1].target) == f"{two.redirects[-1].name}+0x0 [generation 2]"
    assert symbols.known(desk.base.address("gamma") + 8) == "gamma+0x8 [original]"
    assert symbols.known(0x10) == symbols.known(2**47) == ""


def test_what_the_extension_has_nothing_to_do_with_is_named_by_the_loader(desk: Desk) -> None:
    symbols = Symbols(ledger_of(desk))
    getpid = ctypes.cast(ctypes.CDLL(None).getpid, ctypes.c_void_p).value
    assert symbols.name(getpid + 2).startswith(("getpid+0x2 [libc", "__getpid+0x2 [libc"))
    assert symbols.name(0x10) == "0x10"


def test_a_thread_is_where_it_is_since_the_beginning_or_since_it_was_seen_elsewhere() -> None:
    since, began = Since(), time.time()
    time.sleep(0.01)
    here, there = Straggler(7, "INSIDE", 0x1000, ()), Straggler(7, "INSIDE", 0x2000, ())
    assert since.update([here])[7] <= began
    assert since.update([here])[7] <= began
    moved = since.update([there])[7]
    assert moved >= began + 0.01
    assert since.update([there]) == {7: moved}
    assert since.update([]) == {}


def test_threads_have_the_program_s_names_and_else_the_kernel_s() -> None:
    gate = threading.Event()
    tids: list[int] = []

    def bare() -> None:
        ctypes.CDLL(None).prctl(15, b"from C", 0, 0, 0)  # PR_SET_NAME
        tids.append(threading.get_native_id())
        gate.wait(10)

    thread = threading.Thread(target=gate.wait, args=(10,), name="worker 7")
    thread.start()
    start_new_thread(bare, ())
    while not tids:
        time.sleep(0.001)
    names = thread_names([thread.native_id, tids[0], 1 << 22])
    assert names == {thread.native_id: "worker 7", tids[0]: "from C", 1 << 22: "ended"}
    stacks = python_stacks()
    assert tids[0] not in stacks
    assert any(frame.endswith(" in wait") for frame in stacks[thread.native_id])
    gate.set()
    thread.join()


def test_a_straggler_is_told_in_one_phrase(desk: Desk) -> None:
    straggler = Straggler(os.getpid(), "REQUEST", 0, (0x10,))
    (entry,) = describe([straggler], ledger_of(desk), {os.getpid(): time.time() - 3}, with_stacks=False)
    assert brief(entry) == f"MainThread (thread {os.getpid()}) is inside a request, for 3.0 s"
    assert entry["native"] == entry["python"] == []
    inside = {**entry, "reason": "INSIDE", "where": "alpha+0x3 [original]"}
    assert "is inside alpha+0x3 [original], for" in brief(inside)
    assert "suspended greenlets" in brief(greenlets_entry(time.time()))


def test_a_server_loads_nothing_for_it_before_somebody_asks() -> None:
    code = "import sys, hotreload.live, hotreload.live.stragglers; print('ctypes' in sys.modules, 'traceback' in sys.modules and 0)"
    done = subprocess.run(
        [sys.executable, "-S", "-c", code],
        capture_output=True,
        text=True,
        check=False,
        env={"PYTHONPATH": f"{ROOT}:{os.pathsep.join(p for p in sys.path if 'site-packages' in p)}"},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[0] == "False"


def test_of_very_many_threads_only_the_first_have_their_stacks_told(desk: Desk) -> None:
    many = [Straggler(1 << 22 | i, "RUNNING", 0, (0x10,) * 8) for i in range(100)]
    told = describe(many, ledger_of(desk), {straggler.tid: time.time() for straggler in many})
    assert len(told) == 100
    assert [len(entry["native"]) for entry in told] == [8] * 32 + [0] * 68
