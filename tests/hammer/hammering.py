"""Sets the hammer up and runs it; as a script, in a process of its own, since the controls may crash.

The text under the hammer::

    entry                 nopl, then: return 1000               (the original)
    entry + 5 + 0x10000   a grid of functions, 16 bytes each, each returns its index

The three targets differ in both low bytes of the displacement (index 0x00, 0x11, 0x22 of the grid), so a jump that
is put together from two of them lands on a function of the grid that belongs to no definition.
"""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "live")]

import tiny  # noqa: E402

from hotreload.live._core import ffi, lib  # noqa: E402
from hotreload.live.core import NativeCore  # noqa: E402

COMMIT, PLAIN_STORE, BYTE_STORES = range(3)
ORIGINAL = 1000
INDEXES = (0x00, 0x11, 0x22)


class Hammer(ctypes.Structure):
    _fields_ = [
        ("entry", ctypes.c_size_t),
        ("commit", ctypes.c_size_t),
        ("site", ctypes.c_size_t),
        ("targets", ctypes.c_size_t * 3),
        ("words", ctypes.c_uint64 * 3),
        ("values", ctypes.c_int32 * 3),
        ("how", ctypes.c_int32),
        ("threads", ctypes.c_int32),
        ("stops_at_first", ctypes.c_int32),
        ("flips", ctypes.c_uint64),
        ("pause", ctypes.c_uint64),
        ("done", ctypes.c_uint64),
        ("calls", ctypes.c_uint64),
        ("judged", ctypes.c_uint64),
        ("wrong", ctypes.c_uint64),
        ("stale", ctypes.c_uint64),
        ("seen", ctypes.c_uint64 * 3),
        ("status", ctypes.c_int32),
    ]


def build(folder: Path) -> ctypes.CDLL:
    library = folder / "hammer.so"
    tiny.run(
        "gcc", "-shared", "-fPIC", "-O2", "-pthread", "-Wall", "-I", ROOT / "csrc", HERE / "hammer.c", "-o", library
    )
    return ctypes.CDLL(str(library))


def text(entry_offset: int, prot: int) -> int:
    """Maps the text with its entry at this offset of a cache line; returns the entry."""
    code = bytearray(0x13000)
    at = 0x1000 + entry_offset
    entry_code = tiny.NOPL + tiny.returning(ORIGINAL)
    code[at : at + len(entry_code)] = entry_code
    for index in range(0x200):
        one = tiny.returning(index)
        start = at + 5 + 0x10000 + 16 * index
        code[start : start + len(one)] = one
    return tiny.map_text(bytes(code), prot) + at


SUM = "HOOK int f(void) { volatile int sum = 0; for (int i = 0; i < 4; i++) sum += %d; return sum; }"


def compiled(folder: Path) -> tuple[int, list[int], list[int]]:
    """A real base and two staged patches: entry, targets (0 is the base) and what each definition returns."""
    core, base = NativeCore(), tiny.make_base(folder, SUM % 250)
    opened, targets = core.open_base(str(base.path)), [0]
    for value in (1, 2):
        patch = tiny.make_patch(folder, base, SUM % value, replaces=("f",))
        image = core.stage(core.open_patch(patch.to_bytes()), opened, [], "hammer")
        targets.append(image.address + patch.symbols["f"])
    return base.address("f"), targets, [1000, 4, 8]


def run(
    how: int, *, offset: int | None, flips: int, pause: int, with_original: bool, stops_at_first: bool = False
) -> dict:
    """Runs the hammer on text with this entry offset, or, without one, on compiled functions."""
    folder = Path(tempfile.mkdtemp(prefix="hammer-"))
    library = build(folder)
    prot = tiny.R | tiny.X if how == COMMIT else tiny.R | tiny.W | tiny.X
    if offset is None:
        entry, targets, values = compiled(folder)
    else:
        entry = text(offset, prot)
        targets = [entry + 5 + 0x10000 + 16 * index for index in INDEXES]
        values = list(INDEXES)
        if with_original:
            targets[0], values[0] = 0, ORIGINAL
    hammer = Hammer(entry=entry, how=how, threads=4, flips=flips, pause=pause, stops_at_first=stops_at_first)
    hammer.targets[:], hammer.values[:] = targets, values
    hammer.words[:] = [lib.hr_encode_jump(0x10000 + 16 * index) for index in INDEXES]
    core = NativeCore()
    if how == COMMIT:
        (site,) = core.open_sites([entry])
        if not with_original:
            core.commit([(site, targets[0])])
        hammer.site = int(ffi.cast("uintptr_t", site.handle.pointer))
        hammer.commit = int(ffi.cast("uintptr_t", ffi.addressof(lib, "hr_commit")))
    else:
        ctypes.memmove(entry, int(hammer.words[0]).to_bytes(8, "little"), 8)
    core.probe_barrier()  # which makes one call of its own
    started, barriers = time.perf_counter(), core.barrier_count()
    library.run(ctypes.byref(hammer))
    return {
        "seconds": round(time.perf_counter() - started, 2),
        "barriers": core.barrier_count() - barriers,
        "seen": list(hammer.seen),
        "protection": tiny.maps_at(entry),
        **{name: getattr(hammer, name) for name in ("done", "calls", "judged", "wrong", "stale", "status")},
    }


def in_child(timeout: float = 300, **options: object) -> tuple[int, dict]:
    """Exit code and result of a run in a process of its own; the result is empty when it crashed."""
    done = subprocess.run(
        [sys.executable, __file__, json.dumps(options)],
        capture_output=True,
        text=True,
        check=False,
        timeout=timeout,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    if done.returncode > 0:
        raise AssertionError(done.stderr)
    return done.returncode, json.loads(done.stdout or "{}")


if __name__ == "__main__":
    print(json.dumps(run(**json.loads(sys.argv[1]))))
