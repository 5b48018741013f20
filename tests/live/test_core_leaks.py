"""Doing and undoing a thousand times leaves descriptors, mappings and memory as they were."""

from __future__ import annotations

import gc
import os
from pathlib import Path

import tiny

from hotreload.errors import StageError
from hotreload.live.core import Marker, MarkerRegion, NativeCore

ROUNDS = 1000


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def usage() -> tuple[int, list[str]]:
    """Descriptors, and the memory map without the heaps of the host, which breathe."""
    gc.collect()
    lines = [line.split(" ", 2)[:2] for line in tiny.maps() if "[heap]" not in line]
    return len(os.listdir("/proc/self/fd")), [" ".join(line) for line in lines]


def settle(work, rounds: int) -> int:
    """Runs it often enough to fill caches, then counts; returns how much memory the rest of it cost."""
    for _ in range(50):
        work()
    before, memory = usage(), resident()
    for _ in range(rounds):
        work()
    descriptors, mappings = usage()
    assert descriptors == before[0]
    assert len(mappings) <= len(before[1]) + 1  # the allocator may have taken one more arena page range
    return resident() - memory


def test_stage_and_unstage(core: NativeCore, base: tiny.TinyBase, tmp_path: Path) -> None:
    needed = tiny.compile_base(tmp_path, "long needed(void) { return 1; }")
    source = "long needed(void); HOOK long step(long n) { return needed() + n; }"
    raw = tiny.make_patch(tmp_path, base, source, replaces=("step",)).but(libraries=(str(needed),)).to_bytes()
    opened = core.open_base(str(base.path))
    core.reserve(opened, 1 << 20)

    def work() -> None:
        patch = core.open_patch(raw)
        image = core.stage(patch, opened, [], "leak")
        core.close_patch(patch)
        core.unstage(image)

    assert settle(work, ROUNDS) < 2 << 20
    core.close_base(opened)


def test_stage_and_unstage_without_a_reserve(core: NativeCore, base: tiny.TinyBase, patch: tiny.TinyPatch) -> None:
    opened, parsed = core.open_base(str(base.path)), core.open_patch(patch.to_bytes())
    assert settle(lambda: core.unstage(core.stage(parsed, opened, [], "leak")), ROUNDS) < 2 << 20
    core.close_patch(parsed)
    core.close_base(opened)


def test_refused_patches(core: NativeCore, base: tiny.TinyBase, patch: tiny.TinyPatch) -> None:
    raws = [
        patch.to_bytes()[:-1],
        patch.but(build_id=bytes(20)).to_bytes(),
        patch.but(libraries=("libnosuch.so",)).to_bytes(),
        b"x" * 100,
    ]
    opened = core.open_base(str(base.path))

    def work() -> None:
        for raw in raws:
            try:
                parsed = core.open_patch(raw)
            except StageError:
                continue
            try:
                core.stage(parsed, opened, [], "leak")
            except StageError:
                pass
            finally:
                core.close_patch(parsed)

    assert settle(work, ROUNDS // 4) < 2 << 20
    core.close_base(opened)


def test_commit_and_roll_back(core: NativeCore) -> None:
    (site,) = core.open_sites([tiny.map_text(tiny.NOPL + tiny.returning(1))])
    target = tiny.map_text(tiny.returning(2))

    def work() -> None:
        core.commit([(site, target)])
        core.commit([(site, 0)])

    assert settle(work, ROUNDS) < 1 << 20


def test_finding_libraries_and_sites(core: NativeCore, base: tiny.TinyBase) -> None:
    def work() -> None:
        core.objects()
        opened = core.open_base(str(base.path))
        core.reserve(opened, 1 << 20)
        core.open_sites([base.address("step"), base.address("other")])
        core.close_base(opened)

    assert settle(work, ROUNDS // 2) < 1 << 20


def test_arming_and_disarming_the_crash_marker(core: NativeCore) -> None:
    functions = tuple((4096 + number, f"function_{number}") for number in range(200))
    marker = Marker("/tmp", 1 << 62, (MarkerRegion(4096, 8192, "label", functions),))

    def work() -> None:
        core.arm_marker(marker)
        core.disarm_marker()

    assert settle(work, ROUNDS) < 2 << 20
    assert not core.is_marker_armed()
