"""Entries that jump through slots: a commit is a store to data, and no text is touched."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import sys
import threading

import pytest
import tiny
from tiny import child, map_slotted, map_text, returning, status_of

from hotreload.live.core import NativeCore

R, W, X = tiny.R, tiny.W, tiny.X


def test_a_commit_changes_the_slot_and_not_one_byte_of_text(core: NativeCore) -> None:
    ((entry, slot),) = map_slotted()
    (site,) = core.open_sites([entry])
    text = ctypes.string_at(entry, 4096)
    assert site.kind == "slot"
    for number in (7, 8):
        target = map_text(returning(number))
        assert core.commit([(site, target)]).is_synchronised
        assert (tiny.call(entry), tiny.read_word(slot)) == (number, target)
    core.commit([(site, 0)])
    assert (tiny.call(entry), tiny.read_word(slot)) == (0, entry + 8)
    assert ctypes.string_at(entry, 4096) == text


def test_slots_are_read_only_from_the_moment_they_are_met_and_between_commits(core: NativeCore) -> None:
    ((entry, slot),) = map_slotted()
    assert tiny.maps_at(slot) == "rw-p"
    (site,) = core.open_sites([entry])
    before = tiny.maps()
    assert (tiny.maps_at(slot), tiny.maps_at(entry)) == ("r--p", "r-xp")
    target = map_text(returning(7))
    before = tiny.maps()
    for to in (target, 0, target):
        core.commit([(site, to)])
        assert tiny.maps() == before


def test_the_slots_may_stand_before_the_text(core: NativeCore) -> None:
    data, text = tiny.map_parts((bytes(8), R | W), (tiny.slot_jump(0, -4096) + returning(3), R | X))
    tiny.write_word(data, text + 8)
    (site,) = core.open_sites([text])
    core.commit([(site, map_text(returning(4)))])
    assert tiny.call(text) == 4


def test_a_slot_reaches_any_distance(core: NativeCore) -> None:
    ((entry, _),) = map_slotted()
    (site,) = core.open_sites([entry])
    far = map_text(returning(9), address=0x100000000000)
    assert abs(far - entry) > 2**32
    core.commit([(site, far)])
    assert tiny.call(entry) == 9
    core.commit([(site, 0)])
    tiny.libc.munmap(far, 4096)


def test_no_core_sync_is_made_for_slots_and_one_for_a_mixed_batch(core: NativeCore) -> None:
    core.probe_barrier()
    pairs = map_slotted(3)
    sites = core.open_sites([entry for entry, _ in pairs])
    jump = map_text(tiny.NOPL + returning(1))
    (other,) = core.open_sites([jump])
    target = map_text(returning(5))
    before = core.barrier_count()
    core.commit([(site, target) for site in sites])
    assert core.barrier_count() == before
    core.commit([(site, 0) for site in sites] + [(other, target)])
    assert core.barrier_count() == before + 1
    assert [tiny.call(entry) for entry, _ in pairs] + [tiny.call(jump)] == [0, 1, 2, 5]


def test_a_page_of_slots_is_opened_once_however_many_of_its_slots_change(core: NativeCore) -> None:
    pairs = map_slotted(600)
    sites = core.open_sites([entry for entry, _ in pairs])
    target = map_text(returning(5))
    assert core.commit([(site, target) for site in reversed(sites)]).pages == 2
    assert {tiny.call(entry) for entry, _ in pairs} == {5}


# What is no slot ---------------------------------------------------------------------------------------------------


def test_two_entries_with_one_slot_are_refused(core: NativeCore) -> None:
    pairs = map_slotted(2)
    (first, slot), (second, _) = pairs
    tiny.overwrite_text(second, tiny.slot_jump(second, slot))
    assert status_of(core.open_sites, [first, second]) == "REDIRECTED"
    assert status_of(core.open_sites, [second]) == "REDIRECTED"
    core.open_sites([first])


def test_a_slot_that_holds_something_else_is_somebody_elses(core: NativeCore) -> None:
    ((entry, slot),) = map_slotted()
    tiny.write_word(slot, map_text(returning(3)))
    with pytest.raises(Exception, match=f"{entry:#x} holds .* expected") as refused:
        core.open_sites([entry])
    assert refused.value.fields["status"] == "REDIRECTED"
    assert tiny.maps_at(slot) == "rw-p"


@pytest.mark.parametrize("kind", ["another file", "no file", "shared", "executable", "not readable"])
def test_memory_that_cannot_be_a_slot_of_this_library_is_refused_and_left_alone(core: NativeCore, kind: str) -> None:
    ((entry, slot),) = map_slotted()
    page = slot // 4096 * 4096
    if kind == "another file":
        (other,) = tiny.map_parts((bytes(8), R | W))
        moved = tiny.libc.mremap
        moved.restype, moved.argtypes = (
            ctypes.c_void_p,
            [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_size_t, ctypes.c_int, ctypes.c_void_p],
        )
        assert moved(other, 4096, 4096, 3, page) == page
    elif kind in ("no file", "shared"):
        sharing = tiny.MAP_SHARED if kind == "shared" else tiny.MAP_PRIVATE
        assert tiny.libc.mmap(page, 4096, R | W, sharing | tiny.MAP_ANONYMOUS | tiny.MAP_FIXED, -1, 0) == page
    if kind in ("another file", "no file", "shared"):
        tiny.write_word(slot, entry + 8)
    else:
        tiny.libc.mprotect(page, 4096, R | X if kind == "executable" else 0)
    before = tiny.maps()
    assert status_of(core.open_sites, [entry]) == "NOT_A_SLOT"
    assert tiny.maps() == before


def test_what_was_changed_behind_our_back_is_refused(core: NativeCore) -> None:
    (entry, slot), (other, _) = map_slotted(2)
    site, second = core.open_sites([entry, other])
    target = map_text(returning(4))
    tiny.overwrite_data(slot, (target + 1).to_bytes(8, "little"))
    assert status_of(core.commit, [(second, target), (site, target)]) == "TEXT_CHANGED"
    tiny.overwrite_data(slot, (entry + 8).to_bytes(8, "little"))
    tiny.overwrite_text(entry, tiny.NOPL)
    assert status_of(core.commit, [(second, target), (site, target)]) == "TEXT_CHANGED"
    assert tiny.call(other) == 1
    tiny.libc.munmap(entry // 4096 * 4096, 4096)
    assert status_of(core.commit, [(second, target), (site, target)]) == "NOT_TEXT"
    tiny.libc.munmap(slot // 4096 * 4096, 4096)
    assert status_of(core.commit, [(second, target), (site, target)]) == "NOT_A_SLOT"


def test_a_breakpoint_on_the_entry_stays_and_does_no_harm(core: NativeCore) -> None:
    ((entry, _),) = map_slotted()
    (site,) = core.open_sites([entry])
    tiny.overwrite_text(entry, b"\xcc")
    core.commit([(site, map_text(returning(2)))])
    assert ctypes.string_at(entry, 1) == b"\xcc"
    tiny.overwrite_text(entry, b"\xff")
    assert tiny.call(entry) == 2


def test_a_target_that_is_no_code_is_refused(core: NativeCore) -> None:
    ((entry, _),) = map_slotted()
    (site,) = core.open_sites([entry])
    assert status_of(core.commit, [(site, tiny.map_memory(4096, R | W))]) == "TARGET"
    assert status_of(core.commit, [(site, entry)]) == "TARGET"
    assert tiny.call(entry) == 0


# All or nothing ----------------------------------------------------------------------------------------------------

CHILD = """
import ctypes, errno, tiny, seccomp
from tiny import status_of
from hotreload.live.core import NativeCore
core = NativeCore()
(entry, slot), (second, _) = tiny.map_slotted(2)
jump = tiny.map_text(tiny.NOPL + tiny.returning(7))
sites = core.open_sites([entry, second, jump])
target = tiny.map_text(tiny.returning(9))
page = slot // 4096 * 4096
batch = [(site, target) for site in sites]
core.probe_text(); core.probe_barrier()
def state(): return [tiny.call(at) for at in (entry, second, jump)] + [tiny.maps_at(at) for at in (page, jump)]
before = state()
assert before == [0, 1, 7, "r--p", "r-xp"], before
"""


def test_a_page_of_slots_that_cannot_be_opened_refuses_the_whole_batch() -> None:
    child(
        CHILD
        + """
seccomp.deny("mprotect", errno.EACCES, a0=page)
try:
    core.commit(batch)
except Exception as error:
    assert error.fields["status"] == "SLOT_LOCKED" and error.fields["address"] == page, error.fields
assert state() == before
"""
    )


def test_a_page_of_slots_that_cannot_be_closed_undoes_the_whole_batch() -> None:
    child(
        CHILD
        + """
seccomp.deny("mprotect", errno.EACCES, a0=page, a2=1)
assert status_of(core.commit, batch) == "TEXT_LEFT_OPEN"
assert state() == [0, 1, 7, "rw-p", "r-xp"]
"""
    )


def test_a_core_sync_that_fails_undoes_slots_and_jumps() -> None:
    child(
        CHILD
        + 'seccomp.deny("membarrier", errno.ENOMEM)\nassert status_of(core.commit, batch) == "SYNC_FAILED"\nassert state() == before'
    )


def test_slots_need_neither_text_nor_membarrier_of_the_host() -> None:
    child(
        """
import errno, tiny, seccomp
from hotreload.live.core import NativeCore
core = NativeCore()
pairs = tiny.map_slotted(3)
target = tiny.map_text(tiny.returning(9))
seccomp.deny("membarrier", errno.EPERM)
seccomp.deny("mprotect", errno.EPERM, a2=7)
seccomp.deny("mprotect", errno.EPERM, a2=5)
sites = core.open_sites([entry for entry, _ in pairs])
assert core.commit([(site, target) for site in sites]).is_synchronised
assert [tiny.call(entry) for entry, _ in pairs] == [9] * 3
"""
    )


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
def test_the_system_calls_of_a_commit_are_two_for_a_page() -> None:
    script = (
        "import tiny\nfrom hotreload.live.core import NativeCore\ncore = NativeCore()\n"
        "((entry, slot),) = tiny.map_slotted()\n(site,) = core.open_sites([entry])\n"
        "target = tiny.map_text(tiny.returning(2))\nprint(hex(slot), flush=True)\ncore.commit([(site, target)])\n"
        "assert tiny.call(entry) == 2"
    )
    done = subprocess.run(
        ["strace", "-f", "-e", "trace=membarrier,mprotect,pwrite64,memfd_create,write", sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=False,
        env={"PYTHONPATH": f"{tiny.ROOT}:{tiny.ROOT}/tests/live", "PATH": "/usr/bin:/bin"},
    )
    if "ptrace" in done.stderr and "Operation not permitted" in done.stderr:
        pytest.skip("ptrace is not permitted here")
    assert done.returncode == 0, done.stderr
    slot = done.stdout.strip()
    lines = [line for line in done.stderr.splitlines() if "(" in line]
    after = lines[next(i for i, line in enumerate(lines) if f'write(1, "{slot}' in line) + 1 :]
    assert [line.split(" = ")[0].split("] ")[-1].strip() for line in after][:2] == [
        f"mprotect({slot}, 4096, PROT_READ|PROT_WRITE)",
        f"mprotect({slot}, 4096, PROT_READ)",
    ]
    assert not any("membarrier" in line or "PROT_EXEC" in line for line in after)


# Threads and forks -------------------------------------------------------------------------------------------------


def test_callers_see_one_definition_or_the_next_and_never_an_older_one(tmp_path) -> None:
    library = tiny.compile_base(
        tmp_path,
        """
#include <stdatomic.h>
static _Atomic long committed; static atomic_int done;
void commit_is(long n) { committed = n; }
void stop(void) { done = 1; }
long watch(int (*f)(void), long *calls) {
    long bad = 0, count = 0;
    while (!done) { long before = committed; int got = f(); bad += got < before || got > committed + 1; count++; }
    *calls = count;
    return bad;
}
""",
    )
    core, flips, bad, calls = NativeCore(), 400, [], []
    ((entry, _),) = map_slotted()
    (site,) = core.open_sites([entry])
    targets = [map_text(returning(i)) for i in range(flips)]
    loaded = ctypes.CDLL(str(library))
    loaded.watch.argtypes, loaded.watch.restype = [ctypes.c_void_p, ctypes.POINTER(ctypes.c_long)], ctypes.c_long

    def watch() -> None:
        count = ctypes.c_long()
        bad.append(loaded.watch(entry, ctypes.byref(count)))
        calls.append(count.value)

    threads = [threading.Thread(target=watch) for _ in range(2)]
    [thread.start() for thread in threads]
    for i, target in enumerate(targets):
        core.commit([(site, target)])
        loaded.commit_is(ctypes.c_long(i))
    loaded.stop()
    [thread.join() for thread in threads]
    assert bad == [0, 0] and min(calls) > 0


def test_a_child_keeps_its_own_slots() -> None:
    child(
        """
import os, tiny
from hotreload.live.core import NativeCore
core = NativeCore()
((entry, slot),) = tiny.map_slotted()
(site,) = core.open_sites([entry])
two, three, four = (tiny.map_text(tiny.returning(n)) for n in (2, 3, 4))
core.commit([(site, two)])
ask, answer = os.pipe(), os.pipe()
pid = os.fork()
if not pid:
    assert tiny.call(entry) == 2 and tiny.maps_at(slot) == "r--p"
    core.commit([(site, three)])
    os.write(answer[1], b"x"); os.read(ask[0], 1)
    os._exit(tiny.call(entry) != 3)
os.read(answer[0], 1)
assert tiny.call(entry) == 2
core.commit([(site, four)])
os.write(ask[1], b"x")
assert os.waitpid(pid, 0)[1] == 0
assert tiny.call(entry) == 4
"""
    )
