"""What a hook prologue costs: nanoseconds per call, all variants in one run.

Each variant calls a one-addition function in a loop; what is reported is the median over rounds in which the
variants take turns, so that a change of clock frequency or a busy neighbour meets all of them alike.

    plain       a function without a prologue
    untouched   with the 8-byte NOP, as built for hot reload
    patched     its entry redirected to another function by one ``jmp``
    slot        with an entry that jumps through a slot, as built with ``prologue = "slot"``
    slot_moved  its slot redirected to another function

each called directly, through a function pointer, and through the PLT.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from hotreload.build import slots
from hotreload.build.prologue import finish_entries
from hotreload.elf.edit import Editor
from hotreload.elf.file import ElfFile
from hotreload.live import redirect

KINDS = ("plain", "untouched", "patched", "slot", "slot_moved")
WAYS = ("direct", "pointer", "plt")

SOURCE = """
#include <time.h>
#define BODY __attribute__((noipa, aligned(64)))
#define HOOK __attribute__((patchable_function_entry(24, 16)))

BODY long plain(long n) { return n + 1; }
BODY HOOK long untouched(long n) { return n + 1; }
BODY HOOK long patched(long n) { return n + 1; }
BODY HOOK long slot(long n) { return n + 1; }
BODY HOOK long slot_moved(long n) { return n + 1; }
BODY long replacement(long n) { return n + 1; }

/* Hidden aliases are called directly, the names themselves through the PLT. */
#define HIDDEN(name) extern long name##_here(long) __attribute__((alias(#name), visibility("hidden"), noipa));
HIDDEN(plain) HIDDEN(untouched) HIDDEN(patched) HIDDEN(slot) HIDDEN(slot_moved)

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec * 1e9 + (double)time.tv_nsec;
}

/* One loop for each way, all of the same form; the four calls depend on each other, as calls in real code do. */
#define LOOP(name, call)                                                                   \
    __attribute__((aligned(64))) double name(long count) {                                 \
        long n = 0;                                                                        \
        double start = now();                                                              \
        for (long i = 0; i < count; i += 4) { n = call(n); n = call(n); n = call(n); n = call(n); } \
        __asm__ volatile("" : : "r"(n));                                                   \
        return (now() - start) / (double)count;                                            \
    }
#define POINTED(kind) static long (*volatile kind##_pointer)(long) = kind;
POINTED(plain) POINTED(untouched) POINTED(patched) POINTED(slot) POINTED(slot_moved)
#define LOOPS(kind)                      \
    LOOP(kind##_direct, kind##_here)     \
    LOOP(kind##_pointer_loop, (kind##_pointer)) \
    LOOP(kind##_plt, kind)
LOOPS(plain) LOOPS(untouched) LOOPS(patched) LOOPS(slot) LOOPS(slot_moved)
"""


def build(folder: Path) -> Path:
    """Compiles the functions and finishes their entries, as the compiler wrapper does."""
    source, library = folder / "cost.c", folder / "cost.so"
    source.write_text(SOURCE)
    (folder / "slots.o").write_bytes(slots.make_object(2))
    command = ["gcc", "-shared", "-fPIC", "-O2", "-fplt", "-fcf-protection=none", source, folder / "slots.o"]
    subprocess.run([*command, *slots.KEPT_BY, "-o", library], check=True)
    elf = ElfFile.read(library)
    editor = Editor(elf)
    left = finish_entries(elf, editor, {"untouched", "patched"}).unpatchable
    left += finish_entries(elf, editor, {"slot", "slot_moved"}, slots.Slots(elf)).unpatchable
    if left:
        raise SystemExit(f"no hook: {left}")
    library.write_bytes(editor.to_bytes())
    return library


Samples = dict[str, dict[str, list[float]]]


def measure(rounds: int, calls: int) -> Samples:
    """Samples of ns per call for each way and kind, one for each round."""
    with tempfile.TemporaryDirectory() as folder:
        library = ctypes.CDLL(str(build(Path(folder))))
    loops = {}
    for way in WAYS:
        for kind in KINDS:
            loop = getattr(library, f"{kind}_pointer_loop" if way == "pointer" else f"{kind}_{way}")
            loop.restype, loop.argtypes = ctypes.c_double, [ctypes.c_long]
            loops[way, kind] = loop
    samples: Samples = {way: {kind: [] for kind in KINDS} for way in WAYS}
    with redirect(library.patched, library.replacement), redirect(library.slot_moved, library.replacement):
        for loop in loops.values():
            loop(calls // 4)  # warm up, and bind the PLT
        for _ in range(rounds):
            for (way, kind), loop in loops.items():
                samples[way][kind].append(loop(calls))
    return samples


def summarise(samples: Samples) -> dict[str, dict[str, float]]:
    """Medians; what a kind adds is the median of the differences to the plain call of the same round."""
    rows = {}
    for way, by_kind in samples.items():
        rows[way] = {kind: statistics.median(values) for kind, values in by_kind.items()}
        for kind in KINDS[1:]:
            differences = [value - plain for value, plain in zip(by_kind[kind], by_kind["plain"])]
            rows[way][f"{kind}_adds"] = statistics.median(differences)
    return rows


def print_table(rows: dict[str, dict[str, float]]) -> None:
    print(
        "ns per call"
        + "".join(f"{kind:>11}" for kind in KINDS)
        + ""
        + "".join(f"{kind:>11} adds" for kind in KINDS[1:])
    )
    for way, row in rows.items():
        numbers = "".join(f"{row[kind]:11.3f}" for kind in KINDS)
        print(f"{way:<11}{numbers}" + "".join(f"{row[f'{kind}_adds']:+16.3f}" for kind in KINDS[1:]))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--rounds", type=int, default=41)
    parser.add_argument("--calls", type=int, default=4_000_000, help="per variant and round")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    rows = summarise(measure(options.rounds, options.calls))
    if options.json:
        about = {"rounds": options.rounds, "calls": options.calls, "cpus": os.cpu_count()}
        print(json.dumps({"ns_per_call": rows, **about}))
    else:
        print_table(rows)


if __name__ == "__main__":
    main()
