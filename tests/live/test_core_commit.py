"""The commit: all or nothing, verified, synchronised once, and the pages as they were found."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
import threading

import pytest
import tiny
from tiny import NOPL, child, map_text, returning, status_of

from hotreload.live.core import NativeCore


def hooks(count: int, *, apart: int = 16) -> int:
    """A row of hooked functions in text of their own; each returns its index."""
    code = bytearray(count * apart)
    for i in range(count):
        one = NOPL + returning(i)
        code[i * apart : i * apart + len(one)] = one
    return map_text(bytes(code))


def share(entry: int) -> None:
    """The same text at the same place, but others would see what is written there."""
    tiny.libc.munmap(entry, 4096)
    map_text(NOPL + returning(0), address=entry, flags=tiny.MAP_SHARED | tiny.MAP_ANONYMOUS)


def test_a_commit_redirects_and_target_zero_puts_the_original_bytes_back(core: NativeCore) -> None:
    entry, target = hooks(1), map_text(returning(7))
    for original in (tiny.NOPL, tiny.LEA):
        tiny.overwrite_text(entry, original)
        (site,) = core.open_sites([entry])
        core.commit([(site, target)])
        assert tiny.call(entry) == 7
        assert ctypes.string_at(entry, 1) == b"\xe9"
        assert ctypes.string_at(entry + 5, 3) == b"\xcc\xcc\xcc"
        core.commit([(site, 0)])
        assert ctypes.string_at(entry, 8) == original
        assert tiny.call(entry) == 0


def test_the_jump_of_the_next_commit_overwrites_that_of_the_last(core: NativeCore) -> None:
    entry = hooks(1)
    (site,) = core.open_sites([entry])
    for number in range(10, 20):
        core.commit([(site, map_text(returning(number)))])
        assert tiny.call(entry) == number


def test_an_empty_batch_is_no_commit(core: NativeCore) -> None:
    before = core.barrier_count()
    core.commit([])
    assert core.barrier_count() == before


def test_a_batch_with_a_bad_last_site_changes_nothing(core: NativeCore) -> None:
    first = hooks(300, apart=64)
    entries = [first + 64 * i for i in range(300)]
    sites = core.open_sites(entries)
    target = map_text(returning(1000))
    tiny.overwrite_text(entries[-1], b"\xcc")
    text, before = ctypes.string_at(first, 64 * 300), tiny.maps_at(first)
    assert status_of(core.commit, [(site, target) for site in sites]) == "BREAKPOINT"
    assert (ctypes.string_at(first, 64 * 300), tiny.maps_at(first)) == (text, before)
    tiny.overwrite_text(entries[-1], NOPL[:1])
    core.commit([(site, target) for site in sites])
    assert [tiny.call(entry) for entry in entries] == [1000] * 300


@pytest.mark.parametrize(
    ("spoil", "status"),
    [
        (lambda entry: tiny.overwrite_text(entry, b"\xcc"), "BREAKPOINT"),
        (lambda entry: tiny.overwrite_text(entry, b"\x90"), "TEXT_CHANGED"),
        (lambda entry: tiny.libc.munmap(entry, 4096), "NOT_TEXT"),
        (lambda entry: tiny.libc.mprotect(entry, 4096, tiny.R | tiny.W), "NOT_TEXT"),
        (lambda entry: share(entry), "NOT_TEXT"),
    ],
    ids=["breakpoint", "changed", "unmapped", "not executable", "shared by now"],
)
@pytest.mark.parametrize("place", [0, 1, 2])
def test_wherever_the_bad_site_is_the_others_are_left_alone(core: NativeCore, spoil, status: str, place: int) -> None:
    entries = [hooks(1) for _ in range(3)]
    sites = core.open_sites(entries)
    target = map_text(returning(9))
    spoil(entries[place])
    others = [entry for i, entry in enumerate(entries) if i != place]
    assert status_of(core.commit, [(site, target) for site in sites]) == status
    assert [tiny.call(entry) for entry in others] == [0, 0]


def test_a_bad_target_among_good_ones_is_named_and_nothing_is_stored(core: NativeCore) -> None:
    entries = [hooks(1) for _ in range(3)]
    sites = core.open_sites(entries)
    good, bad = map_text(returning(9)), tiny.map_memory(4096, tiny.R | tiny.W)
    with pytest.raises(Exception, match=f"{bad:#x}") as refused:
        core.commit([(sites[0], good), (sites[1], bad), (sites[2], good)])
    assert refused.value.fields["status"] == "TARGET"
    assert refused.value.fields["address"] == entries[1]
    assert [tiny.call(entry) for entry in entries] == [0, 0, 0]


def test_a_function_cannot_be_redirected_to_itself(core: NativeCore) -> None:
    entry = hooks(1)
    (site,) = core.open_sites([entry])
    assert status_of(core.commit, [(site, entry)]) == "TARGET"


def test_a_breakpoint_is_refused_and_named_also_on_a_redirected_entry(core: NativeCore) -> None:
    entry = hooks(1)
    (site,) = core.open_sites([entry])
    core.commit([(site, map_text(returning(2)))])
    tiny.overwrite_text(entry, b"\xcc")
    assert status_of(core.commit, [(site, 0)]) == "BREAKPOINT"
    tiny.overwrite_text(entry, b"\xe9")
    core.commit([(site, 0)])
    assert tiny.call(entry) == 0


def test_entries_that_are_good_and_bad_are_refused_together(core: NativeCore) -> None:
    good, data = hooks(1), tiny.map_memory(4096, tiny.R)
    assert status_of(core.open_sites, [good, data]) == "NOT_TEXT"
    assert status_of(core.open_sites, [good, 0x1000]) == "NOT_TEXT"
    shared = map_text(NOPL, flags=tiny.MAP_SHARED | tiny.MAP_ANONYMOUS)
    assert status_of(core.open_sites, [good, shared]) == "NOT_TEXT"


# Pages -----------------------------------------------------------------------------------------------------------


def test_the_memory_map_after_a_commit_is_the_one_before(core: NativeCore, base: tiny.TinyBase) -> None:
    site, other = core.open_sites([base.address("step"), base.address("other")])
    target = map_text(returning(5))
    core.commit([(site, target)])  # the first store gives the page its own copy
    core.commit([(site, 0)])

    def there_and_back() -> None:
        core.commit([(site, target), (other, target)])
        core.commit([(site, 0), (other, 0)])

    there_and_back()  # the other page's own copy
    assert tiny.leaves_no_mapping(there_and_back)
    assert tiny.maps_at(base.address("step")) == "r-xp"


def test_text_that_was_found_writable_is_left_writable(core: NativeCore) -> None:
    entry = map_text(NOPL + returning(1), tiny.R | tiny.W | tiny.X)
    (site,) = core.open_sites([entry])
    core.commit([(site, map_text(returning(2)))])
    assert (tiny.call(entry), tiny.maps_at(entry)) == (2, "rwxp")


def test_sites_on_pages_of_different_protection_each_get_theirs_back(core: NativeCore) -> None:
    protections = [tiny.R | tiny.X, tiny.R | tiny.W | tiny.X, tiny.R | tiny.X]
    entries = [map_text(NOPL + returning(1), prot) for prot in protections]
    target = map_text(returning(2))
    core.commit([(site, target) for site in core.open_sites(entries)])
    assert [tiny.maps_at(entry) for entry in entries] == ["r-xp", "rwxp", "r-xp"]


def test_one_page_is_opened_once_however_many_sites_it_has(core: NativeCore) -> None:
    first = hooks(1000, apart=16)  # four pages
    sites = core.open_sites([first + 16 * i for i in range(1000)])
    target = map_text(returning(1))
    assert core.commit([(site, target) for site in reversed(sites)]).pages == 4


def test_when_a_later_page_cannot_be_opened_the_earlier_ones_are_closed_again() -> None:
    child(
        """
import errno, tiny, seccomp
from tiny import status_of
from hotreload.live.core import NativeCore
core = NativeCore()
entries = [tiny.map_text(tiny.NOPL + tiny.returning(i)) for i in range(3)]
sites = core.open_sites(entries)
target = tiny.map_text(tiny.returning(9))
core.probe_text()
seccomp.deny("mprotect", errno.ENOMEM, a0=sorted(entries)[2])
assert status_of(core.commit, [(site, target) for site in sites]) == "TEXT_LOCKED"
assert [tiny.maps_at(entry) for entry in entries] == ["r-xp"] * 3
assert [tiny.call(entry) for entry in entries] == [0, 1, 2]
"""
    )


def test_when_a_page_cannot_be_closed_every_store_is_undone() -> None:
    child(
        """
import errno, tiny, seccomp
from tiny import status_of
from hotreload.live.core import NativeCore
core = NativeCore()
entries = sorted(tiny.map_text(tiny.NOPL + tiny.returning(5)) for i in range(3))
sites = core.open_sites(entries)
target = tiny.map_text(tiny.returning(9))
core.probe_text()
seccomp.deny("mprotect", errno.EACCES, a0=entries[1], a2=5)
assert status_of(core.commit, [(site, target) for site in sites]) == "TEXT_LEFT_OPEN"
assert [tiny.maps_at(entry) for entry in entries] == ["r-xp", "rwxp", "r-xp"]
assert [tiny.call(entry) for entry in entries] == [5, 5, 5]
"""
    )


# Core sync ---------------------------------------------------------------------------------------------------------


def test_there_is_one_core_sync_for_a_batch(core: NativeCore) -> None:
    core.probe_barrier()
    first = hooks(40)
    sites = core.open_sites([first + 16 * i for i in range(40)])
    target = map_text(returning(1))
    for batch in (sites[:1], sites[:7], sites):
        before = core.barrier_count()
        core.commit([(site, target) for site in batch])
        assert core.barrier_count() - before == 1


def test_a_refused_commit_makes_no_core_sync(core: NativeCore) -> None:
    core.probe_barrier()
    (site,) = core.open_sites([hooks(1)])
    before = core.barrier_count()
    assert status_of(core.commit, [(site, 8)]) != "nothing was refused"
    assert core.barrier_count() == before


@pytest.mark.skipif(not shutil.which("strace"), reason="needs strace")
def test_strace_sees_the_core_sync_between_the_opening_and_the_closing_of_the_page() -> None:
    script = (
        "import tiny; from hotreload.live.core import NativeCore; core = NativeCore()\n"
        "entry = tiny.map_text(tiny.NOPL + tiny.returning(1)); target = tiny.map_text(tiny.returning(2))\n"
        "(site,) = core.open_sites([entry]); core.probe_text(); core.probe_barrier()\n"
        "core.commit([(site, target)]); print(hex(entry)); assert tiny.call(entry) == 2\n"
    )
    done = subprocess.run(
        ["strace", "-f", "-e", "trace=membarrier,mprotect", sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": f"{tiny.ROOT}:{tiny.ROOT}/tests/live"},
    )
    if "ptrace" in done.stderr and "Operation not permitted" in done.stderr:
        pytest.skip("ptrace is not permitted here")
    assert done.returncode == 0, done.stderr
    entry = done.stdout.strip()
    calls = [line.split("] ")[-1] for line in done.stderr.splitlines() if "membarrier(" in line or entry in line]
    last = [call for call in calls][-3:]
    assert last[0].startswith(f"mprotect({entry}, 4096, PROT_READ|PROT_WRITE|PROT_EXEC) = 0")
    assert last[1].startswith("membarrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED_SYNC_CORE, 0) = 0")
    assert last[2].startswith(f"mprotect({entry}, 4096, PROT_READ|PROT_EXEC) = 0")


# Threads and forks ---------------------------------------------------------------------------------------------------


def test_commits_from_many_threads_take_turns(core: NativeCore) -> None:
    entries = [hooks(1) for _ in range(4)]
    sites = core.open_sites(entries)
    targets = [map_text(returning(100 + i)) for i in range(4)]
    failures: list[BaseException] = []

    def flip(i: int) -> None:
        try:
            for _ in range(300):
                core.commit([(sites[i], targets[i])])
                assert tiny.call(entries[i]) == 100 + i
                core.commit([(sites[i], 0)])
                assert tiny.call(entries[i]) == 0
        except BaseException as failure:
            failures.append(failure)

    threads = [threading.Thread(target=flip, args=(i,)) for i in range(4)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert failures == []


def test_two_threads_that_commit_the_same_entry_take_turns(core: NativeCore) -> None:
    entry = hooks(1)
    (site,) = core.open_sites([entry])
    targets = [map_text(returning(100 + i)) for i in range(2)]
    failures: list[BaseException] = []

    def flip(i: int) -> None:
        try:
            for _ in range(300):
                core.commit([(site, targets[i])])
                assert tiny.call(entry) in (100, 101)
        except BaseException as failure:
            failures.append(failure)

    threads = [threading.Thread(target=flip, args=(i,)) for i in range(2)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert failures == []


def test_a_fork_during_commits_gets_a_whole_batch_and_closed_pages() -> None:
    child(
        """
import os, threading, tiny
from hotreload.live.core import NativeCore
core = NativeCore()
entries = [tiny.map_text(tiny.NOPL + tiny.returning(0)) for _ in range(20)]
sites = core.open_sites(entries)
target = tiny.map_text(tiny.returning(1))
stop = False
def flip():
    while not stop:
        core.commit([(site, target) for site in sites])
        core.commit([(site, 0) for site in sites])
thread = threading.Thread(target=flip)
thread.start()
for _ in range(60):
    pid = os.fork()
    if not pid:
        seen = {tiny.call(entry) for entry in entries}
        protections = {tiny.maps_at(entry) for entry in entries}
        good = len(seen) == 1 and protections == {"r-xp"}
        core.commit([(site, 0) for site in sites])  # the lock is free, and the child has a barrier of its own
        os._exit(not (good and {tiny.call(entry) for entry in entries} == {0}))
    assert os.waitpid(pid, 0)[1] == 0
stop = True
thread.join()
"""
    )


def test_a_commit_in_the_child_leaves_the_parent_alone_and_the_other_way_round() -> None:
    child(
        """
import os, tiny
from hotreload.live.core import NativeCore
core = NativeCore()
entry = tiny.map_text(tiny.NOPL + tiny.returning(1))
(site,) = core.open_sites([entry])
core.commit([(site, tiny.map_text(tiny.returning(2)))])
ask, answer = os.pipe(), os.pipe()
pid = os.fork()
if not pid:
    assert tiny.call(entry) == 2, "patched before the fork"
    core.commit([(site, 0)])
    os.write(answer[1], b"x"); os.read(ask[0], 1)
    os._exit(tiny.call(entry) != 1)
os.read(answer[0], 1)
assert tiny.call(entry) == 2
core.commit([(site, tiny.map_text(tiny.returning(3)))])
os.write(ask[1], b"x")
assert os.waitpid(pid, 0)[1] == 0
assert tiny.call(entry) == 3
"""
    )
