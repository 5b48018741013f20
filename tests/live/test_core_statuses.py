"""Every status that the core can return is provoked here, and the list and this file cannot drift apart."""

from __future__ import annotations

import functools
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import tiny
from tiny import child, status_of

from hotreload.errors import PoisonedError, StageError, TransitionError
from hotreload.live._core import ffi, lib
from hotreload.live.core import NativeCore
from hotreload.patch.linktable import Fixup, FixupKind, Protection

STATUSES = [ffi.string(lib.hr_status_name(i)).decode() for i in range(lib.hr_status_count())]
PROVOKED: set[str] = set()

#: What the scripts of the child processes have in common: a base, a hook in plain memory, a redirect of it.
CHILD = """
import ctypes, errno, sys, tiny, seccomp
from pathlib import Path
from tiny import status_of
from hotreload.live.core import NativeCore
core = NativeCore()
entry = tiny.map_text(tiny.NOPL + tiny.returning(1))
target = tiny.map_text(tiny.returning(2))
(site,) = core.open_sites([entry])
"""


def provokes(name: str) -> Callable:
    """Marks the test of one status; the test returns the status that it saw."""
    PROVOKED.add(name)

    def mark(test: Callable) -> Callable:
        @functools.wraps(test)
        def checked(*arguments: object, **named: object) -> None:
            assert test(*arguments, **named) == name

        return checked

    return mark


def test_every_status_is_provoked_and_none_is_invented() -> None:
    assert set(STATUSES) - {"OK"} == PROVOKED


def test_every_status_has_a_text_a_hint_and_a_family() -> None:
    for i, name in enumerate(STATUSES[1:], 1):
        assert ffi.string(lib.hr_status_text(i)), name
        assert ffi.string(lib.hr_status_hint(i)), name
        assert ffi.string(lib.hr_status_family(i)) in (b"STAGE", b"TRANSITION", b"POISONED"), name


def test_a_status_outside_the_list_has_texts_too() -> None:
    for status in (-1, lib.hr_status_count()):
        assert ffi.string(lib.hr_status_name(status)) == b"UNKNOWN"


def test_the_family_decides_the_exception() -> None:
    from hotreload.live.refusal import Refusal, make_error

    kinds = {"STAGE": StageError, "TRANSITION": TransitionError, "POISONED": PoisonedError}
    for family, kind in kinds.items():
        error = make_error(Refusal("X", family, "text", "hint", call="mmap", errno=12, address=4096))
        assert type(error) is kind
        assert error.fields == {"status": "X", "call": "mmap", "errno": 12, "address": 4096}
        assert "mmap: Cannot allocate memory" in error.message


# The patch file ----------------------------------------------------------------------------------------------------


@provokes("FILE_READ")
def test_an_unreadable_descriptor(core: NativeCore, tmp_path: Path) -> str:
    fd = os.open(tmp_path / "file", os.O_CREAT | os.O_WRONLY)
    os.write(fd, b"x")
    try:
        return status_of(core.open_patch, fd)
    finally:
        os.close(fd)


@provokes("FILE_KIND")
def test_a_pipe(core: NativeCore) -> str:
    ends = os.pipe()
    try:
        return status_of(core.open_patch, ends[0])
    finally:
        [os.close(end) for end in ends]


@provokes("FILE_SIZE")
@pytest.mark.parametrize("length", [0, 300 << 20])
def test_an_empty_and_a_huge_file(core: NativeCore, length: int) -> str:
    fd = os.memfd_create("huge")
    os.ftruncate(fd, length)
    try:
        return status_of(core.open_patch, fd)
    finally:
        os.close(fd)


@provokes("NOT_ELF")
@pytest.mark.parametrize("raw", [b"#!/bin/sh\n", b"x" * 4096, Path("/proc/self/exe").read_bytes()[:64][:4] + bytes(60)])
def test_something_else_than_a_library(core: NativeCore, raw: bytes) -> str:
    return status_of(core.open_patch, raw)


@provokes("NO_TABLE")
def test_a_library_without_a_table(core: NativeCore, patch: tiny.TinyPatch) -> str:
    return status_of(core.open_patch, patch.elf.read_bytes())


@provokes("TRUNCATED")
def test_a_patch_without_its_last_byte(core: NativeCore, patch: tiny.TinyPatch) -> str:
    return status_of(core.open_patch, patch.to_bytes()[:-1])


@provokes("BAD_TABLE")
def test_a_table_with_another_magic(core: NativeCore, patch: tiny.TinyPatch) -> str:
    return status_of(core.open_patch, patch.to_bytes(b"HRLINKxx" + patch.table.to_bytes()[8:]))


@provokes("FORMAT")
@pytest.mark.parametrize("version", [b"01", b"99"])
def test_a_table_of_another_version(core: NativeCore, patch: tiny.TinyPatch, version: bytes) -> str:
    return status_of(core.open_patch, patch.to_bytes(b"HRLINK" + version + patch.table.to_bytes()[8:]))


@provokes("WRITABLE_CODE")
def test_a_segment_that_is_writable_and_executable(core: NativeCore, patch: tiny.TinyPatch) -> str:
    segments = tuple(
        replace(s, prot=Protection.R | Protection.W | Protection.X) if s.prot & Protection.X else s
        for s in patch.table.segments
    )
    return status_of(core.open_patch, patch.but(segments=segments).to_bytes())


@provokes("NEW_TLS")
def test_a_patch_with_a_thread_local_of_its_own(core: NativeCore, base: tiny.TinyBase, tmp_path: Path) -> str:
    source = "__thread long fresh = 3; HOOK long step(long n) { return n; }"
    return status_of(core.open_patch, tiny.make_patch(tmp_path, base, source, replaces=("step",)).to_bytes())


# The base ------------------------------------------------------------------------------------------------------------


@provokes("NOT_LOADED")
def test_a_library_that_is_not_loaded(core: NativeCore, tmp_path: Path) -> str:
    return status_of(core.open_base, str(tmp_path / "nothing.so"))


@provokes("NO_BUILD_ID")
def test_a_library_without_a_build_id(core: NativeCore, tmp_path: Path) -> str:
    path = tiny.compile_base(tmp_path, "HOOK long f(void) { return 1; }", "-Wl,--build-id=none")
    import ctypes

    ctypes.CDLL(str(path))
    return status_of(core.open_base, str(path))


def stage(core: NativeCore, base: tiny.TinyBase, patch: tiny.TinyPatch) -> None:
    """Stages and unstages; what is refused comes out as it is."""
    opened = core.open_base(str(base.path))
    try:
        image = core.stage(core.open_patch(patch.to_bytes()), opened, [0] * len(patch.table.carried), "test")
        core.unstage(image)
    finally:
        core.close_base(opened)


@provokes("BUILD_ID")
def test_a_patch_for_another_build(core: NativeCore, base: tiny.TinyBase, patch: tiny.TinyPatch) -> str:
    return status_of(stage, core, base, patch.but(build_id=bytes(20)))


@provokes("SYMBOL")
def test_a_symbol_that_nobody_has(core: NativeCore, base: tiny.TinyBase, tmp_path: Path) -> str:
    source = "long nobody_has_this(long); HOOK long step(long n) { return nobody_has_this(n); }"
    patch = tiny.make_patch(tmp_path, base, source, replaces=("step",))
    with pytest.raises(StageError, match="nobody_has_this"):
        stage(core, base, patch)
    return status_of(stage, core, base, patch)


@provokes("LIBRARY")
def test_a_library_that_is_not_there(core: NativeCore, base: tiny.TinyBase, patch: tiny.TinyPatch) -> str:
    missing = patch.but(libraries=("libnosuch.so.9",))
    with pytest.raises(StageError, match=r"libnosuch\.so\.9"):
        stage(core, base, missing)
    return status_of(stage, core, base, missing)


@provokes("TLS")
def test_static_tls_that_the_base_does_not_have(core: NativeCore, base: tiny.TinyBase, patch: tiny.TinyPatch) -> str:
    slot = patch.table.fixups[0].where
    return status_of(stage, core, base, patch.but(fixups=(Fixup(slot, FixupKind.BASE_TPOFF),)))


@provokes("OUT_OF_RANGE")
def test_a_reference_that_does_not_reach(core: NativeCore, base: tiny.TinyBase, patch: tiny.TinyPatch) -> str:
    slot = patch.table.fixups[0].where
    return status_of(stage, core, base, patch.but(fixups=(Fixup(slot, FixupKind.BASE_PC32, 3 << 30),)))


# The host --------------------------------------------------------------------------------------------------------


@provokes("NO_MEMORY")
def test_memory_that_runs_out() -> str:
    return child(
        CHILD
        + """
import resource, tempfile
folder = Path(tempfile.mkdtemp())
base = tiny.make_base(folder, "HOOK long f(void) { return 1; }")
source = "static char big[600 << 20]; HOOK long f(void) { return (long)big; }"
patch = core.open_patch(tiny.make_patch(folder, base, source, replaces=("f",)).to_bytes())
opened = core.open_base(str(base.path))
used = int(Path("/proc/self/statm").read_text().split()[0]) * 4096
before = tiny.maps()
resource.setrlimit(resource.RLIMIT_AS, (used + (64 << 20),) * 2)
print(status_of(core.stage, patch, opened, [], "test"))
assert not [line for line in set(tiny.maps()) - set(before) if "hotreload" in line or "---p" in line]
"""
    )


@provokes("MAPS")
def test_a_memory_map_that_cannot_be_read() -> str:
    return child(CHILD + 'seccomp.deny("openat", errno.EACCES)\nprint(status_of(core.open_sites, [entry]))')


@provokes("MAP")
def test_a_kernel_that_refuses_the_mapping() -> str:
    return child(
        CHILD
        + """
import tempfile
folder = Path(tempfile.mkdtemp())
base = tiny.make_base(folder, "HOOK long f(void) { return 1; }")
patch = core.open_patch(tiny.make_patch(folder, base, "HOOK long f(void) { return 2; }", replaces=("f",)).to_bytes())
opened = core.open_base(str(base.path))
before = tiny.maps()
seccomp.deny("memfd_create", errno.EPERM)
print(status_of(core.stage, patch, opened, [], "test"))
assert tiny.maps() == before
"""
    )


@provokes("NO_ROOM")
def test_no_room_at_all() -> str:
    """What is left free, and how near the rest is, is the matter of test_core_near.py."""
    return child(
        CHILD
        + """
import tempfile, near
folder = Path(tempfile.mkdtemp())
base = tiny.make_base(folder, "HOOK long f(void) { return 1; }")
patch = core.open_patch(tiny.make_patch(folder, base, "HOOK long f(void) { return 2; }", replaces=("f",)).to_bytes())
opened = core.open_base(str(base.path))
near.fill(opened.object.start, opened.object.end)
print(status_of(core.stage, patch, opened, [], "test"))
"""
    )


# The entry -------------------------------------------------------------------------------------------------------


@provokes("UNALIGNED")
def test_an_entry_that_is_not_aligned(core: NativeCore) -> str:
    return status_of(core.open_sites, [tiny.map_text(bytes(4) + tiny.NOPL) + 4])


@provokes("NOT_TEXT")
def test_an_entry_in_data(core: NativeCore) -> str:
    return status_of(core.open_sites, [tiny.map_text(tiny.NOPL, tiny.R | tiny.W)])


@provokes("BREAKPOINT")
def test_an_entry_with_a_breakpoint(core: NativeCore) -> str:
    return status_of(core.open_sites, [tiny.map_text(b"\xcc" + tiny.NOPL[1:])])


@provokes("NOT_A_HOOK")
def test_an_entry_without_a_prologue(core: NativeCore) -> str:
    return status_of(core.open_sites, [tiny.map_text(tiny.returning(1) + bytes(2))])


@provokes("REDIRECTED")
def test_an_entry_that_somebody_else_redirects(core: NativeCore) -> str:
    return status_of(core.open_sites, [tiny.map_text(bytes.fromhex("e910000000cccccc"))])


@provokes("NOT_A_SLOT")
def test_an_entry_that_jumps_through_memory_of_something_else(core: NativeCore) -> str:
    ((entry, _),) = tiny.map_slotted()
    tiny.overwrite_text(entry, tiny.slot_jump(entry, tiny.map_memory(4096, tiny.R | tiny.W)))
    return status_of(core.open_sites, [entry])


# The commit ------------------------------------------------------------------------------------------------------


@provokes("TARGET")
def test_a_target_that_is_data(core: NativeCore) -> str:
    (site,) = core.open_sites([tiny.map_text(tiny.NOPL)])
    return status_of(core.commit, [(site, tiny.map_memory(4096, tiny.R))])


@provokes("DUPLICATE")
def test_one_entry_twice(core: NativeCore) -> str:
    sites = core.open_sites([tiny.map_text(tiny.NOPL)] * 2)
    return status_of(core.commit, [(site, tiny.map_text(tiny.returning(1))) for site in sites])


@provokes("TEXT_CHANGED")
def test_an_entry_that_was_changed_meanwhile(core: NativeCore) -> str:
    entry = tiny.map_text(tiny.NOPL + tiny.returning(1))
    (site,) = core.open_sites([entry])
    tiny.overwrite_text(entry, tiny.LEA)
    return status_of(core.commit, [(site, tiny.map_text(tiny.returning(2)))])


@provokes("TEXT_LOCKED")
@pytest.mark.parametrize(
    "lock",
    [
        "assert tiny.libc.prctl(65, 1, 0, 0, 0) == 0",  # PR_SET_MDWE
        'seccomp.deny("mprotect", errno.EACCES, a2=7)',  # as systemd's MemoryDenyWriteExecute
        'seccomp.deny("mprotect", errno.EACCES, a2=5)',  # opening is allowed, closing is not: found on a scratch page
        'core.probe_text(); seccomp.deny("mprotect", errno.EACCES, a0=entry)',  # this very page, after the probe
    ],
    ids=["mdwe", "no-rwx", "no-way-back", "this-page"],
)
def test_text_that_must_not_be_opened_stays_executable(lock: str) -> str:
    return child(
        CHILD
        + lock
        + """
print(status_of(core.commit, [(site, target)]))
assert tiny.call(entry) == 1
assert tiny.maps_at(entry) == "r-xp"
"""
    )


@provokes("TRANSLATED")
@pytest.mark.skipif(shutil.which("valgrind") is None, reason="valgrind is not installed")
def test_text_whose_change_is_not_seen() -> str:
    return child(CHILD + "print(status_of(core.commit, [(site, target)]))", under=("valgrind", "-q", "--tool=none"))


@provokes("SLOT_LOCKED")
@pytest.mark.parametrize("call", ["core.probe_slots", "core.open_sites, [slotted]"], ids=["probe", "open"])
def test_slots_on_a_host_that_closes_no_page(call: str) -> str:
    return child(
        CHILD
        + f"""
((slotted, _),) = tiny.map_slotted()
seccomp.deny("mprotect", errno.EACCES, a2=1)
print(status_of({call}))
assert tiny.call(slotted) == 0
"""
    )


@provokes("BUSY")
def test_a_second_transition(core: NativeCore, base: tiny.TinyBase) -> str:
    opened = core.open_base(str(base.path))
    first = core.open_transition(opened, [], [], [], per_request=False)
    status = status_of(core.open_transition, opened, [], [], [], per_request=False)
    core.discard_stubs(first)
    core.discard_stubs(core.open_transition(opened, [], [], [], per_request=False))
    core.close_base(opened)
    return status


@provokes("NO_SCAN")
@pytest.mark.parametrize(
    "why",
    ['seccomp.deny("process_vm_readv", errno.EPERM)', 'seccomp.deny("openat", errno.EACCES)'],
    ids=["no-memory", "no-tasks"],
)
def test_threads_that_cannot_be_looked_at(why: str) -> str:
    return child(
        CHILD
        + f"""
import tempfile
base = tiny.make_base(Path(tempfile.mkdtemp()), "HOOK long f(void) {{ return 1; }}")
opened = core.open_base(str(base.path))
before = tiny.maps()
{why}
print(status_of(core.open_transition, opened, [], [], [], per_request=False))
"""
    )


@provokes("ORDER")
@pytest.mark.parametrize(
    "step", ["wait", "progress", "reverse", "finish", "begin", "discard_stubs", "close_transition"]
)
def test_a_step_of_a_transition_at_the_wrong_time(core: NativeCore, base: tiny.TinyBase, step: str) -> str:
    opened = core.open_base(str(base.path))
    survey = core.open_transition(opened, [], [], [], per_request=False)
    if step in ("begin", "discard_stubs", "close_transition"):
        core.begin(survey)
    status = status_of(getattr(core, step), survey, *([0] if step == "wait" else []))
    if step in ("begin", "discard_stubs", "close_transition"):
        core.finish(survey)
    core.close_transition(survey)
    core.discard_stubs(survey)
    assert status_of(core.discard_stubs, survey) == "ORDER", "and nothing can be done with it any more"
    core.close_base(opened)
    return status


@provokes("NO_SYNC")
def test_a_kernel_without_core_sync() -> str:
    return child(
        CHILD
        + """
seccomp.deny("membarrier", errno.ENOSYS)
print(status_of(core.commit, [(site, target)]))
assert tiny.call(entry) == 1
report = core.commit([(site, target)], allow_unsynchronised=True)
assert not report.is_synchronised
assert tiny.call(entry) == 2
"""
    )


@provokes("MARKER")
@pytest.mark.parametrize(
    "why",
    ['seccomp.deny("rt_sigaction", errno.EPERM)', 'folder = "/" + "deep/" * 200'],
    ids=["no-handler", "long-path"],
)
def test_a_crash_marker_that_cannot_be_armed(why: str) -> str:
    return child(
        CHILD
        + f"""
from hotreload.live.core import Marker, MarkerRegion
folder = "/tmp"
{why}
marker = Marker(folder, 1 << 62, (MarkerRegion(target, target + 16, "label", ((target, "f"),)),))
print(status_of(core.arm_marker, marker))
assert not core.is_marker_armed()
"""
    )


@provokes("SYNC_FAILED")
def test_core_sync_that_fails_after_the_stores() -> str:
    return child(
        CHILD
        + """
core.commit([(site, target)])
core.commit([(site, 0)])
seccomp.deny("membarrier", errno.ENOMEM)
print(status_of(core.commit, [(site, target)]))
assert tiny.call(entry) == 1
assert tiny.maps_at(entry) == "r-xp"
"""
    )


@provokes("TEXT_LEFT_OPEN")
def test_a_page_that_cannot_be_closed() -> str:
    return child(
        CHILD
        + """
core.probe_text()
seccomp.deny("mprotect", errno.EACCES, a0=entry, a2=5)
print(status_of(core.commit, [(site, target)]))
assert tiny.call(entry) == 1
"""
    )


TAMPER = """
#define _GNU_SOURCE
#include <signal.h>
#include <ucontext.h>
static volatile unsigned char *entry;
static void tamper(int number, siginfo_t *info, void *context) {
    entry[7] = 0x90; /* a byte that is never executed */
    ((ucontext_t *)context)->uc_mcontext.gregs[REG_RAX] = 0; /* the barrier "succeeded" */
}
void arm(unsigned char *where) {
    struct sigaction action = {.sa_sigaction = tamper, .sa_flags = SA_SIGINFO};
    entry = where;
    sigaction(SIGSYS, &action, 0);
}
"""


@provokes("POISONED")
def test_an_entry_that_is_overwritten_during_the_commit(tmp_path: Path) -> str:
    library = tiny.compile_base(tmp_path, TAMPER)
    return child(
        CHILD
        + """
core.probe_barrier()
other = tiny.map_text(tiny.NOPL + tiny.returning(3))
(second,) = core.open_sites([other])
ctypes.CDLL(sys.argv[1]).arm(ctypes.c_void_p(entry))
seccomp.trap("membarrier")
print(status_of(core.commit, [(site, target), (second, target)]))
assert ctypes.string_at(entry + 7, 1) == b"\\x90", "somebody else's byte is left alone"
assert tiny.call(other) == 3, "the other store is undone"
""",
        library,
    )
