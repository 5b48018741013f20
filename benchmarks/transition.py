"""What a request feels of a transition: its tail latency while ten functions change under it, again and again.

::

    python benchmarks/transition.py                    a table
    python benchmarks/transition.py --pause-us 0       threads that never rest
    python benchmarks/transition.py --json             one JSON document

Four threads make requests of about 20 us; each is one function of a hot extension that calls nine others. Three things
take turns in one run, so that what else the machine does falls on all of them:

    nothing      no patching
    transition   hotreload at level ``call``: each thread moves by itself
    stop         the usual way: a signal parks every thread, the entries are stored, all go on; it looks at no stack
                 and keeps no call tree whole, so it does less than the other

A change is one of them between two generations of all ten functions; there are ``--changes`` of each kind, evenly
spread over the time. A request that saw two generations is counted: none may at level ``call``; the other has some.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.hot import hot_cc

FUNCTIONS = 10

EXTENSION = """
#define STEP(n) __attribute__((noinline)) static int step##n(int x) {{ \\
    volatile int sum = x; for (int i = 0; i < WORK; i++) sum += i; return {generation} + 0 * sum; }}
{steps}
/* Every function adds its generation: the sum tells whether they were all of one. */
int request(int x) {{ int sum = {generation}; {calls} return sum; }}
"""

HARNESS = """
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>
#include <linux/futex.h>
#include <sys/syscall.h>

enum { ROOM = 1 << 21, KINDS = 3 };
static int (*request)(int);
static int threads, pause_us, whole[2];
static volatile int is_over, kind, is_stopped;
static int parked;
static pthread_t ids[64];
struct samples { uint32_t *times[KINDS]; uint32_t count[KINDS]; uint64_t mixed[KINDS]; };
static struct samples samples[64];

static uint64_t now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void park(int number) {
    (void)number;
    __atomic_add_fetch(&parked, 1, __ATOMIC_SEQ_CST);
    while (__atomic_load_n(&is_stopped, __ATOMIC_SEQ_CST))
        syscall(SYS_futex, &is_stopped, FUTEX_WAIT_PRIVATE, 1, NULL, NULL, 0);
    __atomic_sub_fetch(&parked, 1, __ATOMIC_SEQ_CST);
}

static void *work(void *argument) {
    struct samples *mine = argument;
    while (!is_over) {
        int now_kind = kind;
        uint64_t start = now();
        int result = request(1);
        uint64_t end = now();
        if (now_kind == kind && now_kind >= 0 && mine->count[now_kind] < ROOM) {
            mine->times[now_kind][mine->count[now_kind]++] = (uint32_t)(end - start);
            mine->mixed[now_kind] += result != whole[0] && result != whole[1];
        }
        if (pause_us)
            usleep((unsigned)pause_us);
    }
    return NULL;
}

void start(int (*function)(int), int count, int pause, int first, int second) {
    request = function; threads = count; pause_us = pause; whole[0] = first; whole[1] = second; kind = -1;
    struct sigaction action = {.sa_handler = park, .sa_flags = SA_RESTART};
    sigaction(SIGRTMIN + 3, &action, NULL);
    for (int i = 0; i < threads; i++) {
        for (int k = 0; k < KINDS; k++)
            samples[i].times[k] = malloc(ROOM * sizeof(uint32_t));
        pthread_create(&ids[i], NULL, work, &samples[i]);
    }
}

void set_kind(int value) { kind = value; }

void stop_all(void) {
    is_stopped = 1;
    for (int i = 0; i < threads; i++)
        pthread_kill(ids[i], SIGRTMIN + 3);
    while (__atomic_load_n(&parked, __ATOMIC_SEQ_CST) < threads)
        sched_yield();
}

void resume_all(void) {
    is_stopped = 0;
    syscall(SYS_futex, &is_stopped, FUTEX_WAKE_PRIVATE, 1 << 20, NULL, NULL, 0);
    while (__atomic_load_n(&parked, __ATOMIC_SEQ_CST))
        sched_yield();
}

void end(void) {
    is_over = 1;
    for (int i = 0; i < threads; i++)
        pthread_join(ids[i], NULL);
}

static int compare(const void *a, const void *b) {
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

/* count, p50, p99, p99.9 and the maximum in nanoseconds, mixed results */
void tell(int of, uint64_t *out) {
    uint64_t count = 0, mixed = 0;
    for (int i = 0; i < threads; i++) { count += samples[i].count[of]; mixed += samples[i].mixed[of]; }
    uint32_t *all = malloc((count + 1) * sizeof *all);
    uint64_t at = 0;
    for (int i = 0; i < threads; i++)
        for (uint32_t j = 0; j < samples[i].count[of]; j++)
            all[at++] = samples[i].times[of][j];
    qsort(all, count, sizeof *all, compare);
    out[0] = count; out[5] = mixed;
    out[1] = count ? all[count / 2] : 0;
    out[2] = count ? all[count * 99 / 100] : 0;
    out[3] = count ? all[count * 999 / 1000] : 0;
    out[4] = count ? all[count - 1] : 0;
    free(all);
}
"""

KINDS = ("nothing", "transition", "stop")


def write_extension(path: Path, generation: int) -> None:
    """Ten functions, of which one calls the nine others, that answer with ``generation``."""
    steps = " ".join(f"STEP({n})" for n in range(1, FUNCTIONS))
    calls = " ".join(f"sum += step{n}(x);" for n in range(1, FUNCTIONS))
    path.write_text(EXTENSION.format(generation=generation, steps=steps, calls=calls))


def build_harness(folder: Path) -> Any:
    """The threads that make the requests; it is no hot code."""
    (folder / "harness.c").write_text(HARNESS)
    command = ["gcc", "-O2", "-shared", "-fPIC", "-pthread", "-o", folder / "harness.so", folder / "harness.c"]
    subprocess.run(command, check=True)
    return ctypes.CDLL(str(folder / "harness.so"))


def find_work(folder: Path, microseconds: float) -> int:
    """How many turns of its loop a function needs so that a request takes so long."""
    write_extension(folder / "ext.c", 1)
    best = []
    for turns in (100, 1100):
        plain = folder / f"plain{turns}.so"
        command = ["gcc", "-O2", "-shared", "-fPIC", f"-DWORK={turns}", "-o", plain, folder / "ext.c"]
        subprocess.run(command, check=True)
        function = ctypes.CDLL(str(plain)).request
        best.append(min(_timed(function) for _ in range(300)))
    return max(1, int(1000 * microseconds / (best[1] - best[0])))


def _timed(function: Any) -> float:
    started = time.perf_counter_ns()
    function(1)
    return (time.perf_counter_ns() - started) / 1000


def measure(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """All three kinds in turns, in one process."""
    from hotreload.live import manager as live_manager
    from hotreload.patch.workshop import Workshop

    flags = ["-O2", "-g", "-fPIC", f"-DWORK={find_work(folder, options.request_us)}"]
    write_extension(folder / "ext.c", 1)
    hot_cc("gcc", *flags, "-c", "ext.c", "-o", "ext.o", cwd=folder)
    hot_cc("gcc", "-shared", "ext.o", "-o", "ext.so", cwd=folder)
    library = ctypes.CDLL(str(folder / "ext.so"))
    manager = live_manager()
    module = manager.attach(str(folder / "ext.so"))
    workshop = Workshop.open(module.build_id)
    write_extension(folder / "ext.c", 2)
    made = workshop.make()
    patch = Path(str(made.path)).read_bytes()
    if len(made.changed) != FUNCTIONS:
        raise SystemExit(f"expected {FUNCTIONS} changed functions, got {made.changed}")
    manager.commit(manager.stage(module, patch), level="function")
    manager.rollback(module, 0, level="function")
    harness = build_harness(folder)
    harness.start(library.request, options.threads, options.pause_us, FUNCTIONS, 2 * FUNCTIONS)

    def transition(to: int) -> None:
        manager.rollback(module, to, level="call", wait=10.0)

    def stop(to: int) -> None:
        harness.stop_all()
        try:
            manager.rollback(module, to, level="function")
        finally:
            harness.resume_all()

    spent: dict[str, list[float]] = {kind: [] for kind in KINDS}
    actions = {"nothing": lambda _to: None, "transition": transition, "stop": stop}
    each = options.changes // options.turns
    for _ in range(options.turns):
        for number, kind in enumerate(KINDS):
            harness.set_kind(number)
            for change in range(each):
                began = time.perf_counter()
                actions[kind]((change + 1) % 2)
                spent[kind].append(time.perf_counter() - began)
                time.sleep(max(0.0, options.every_ms / 1000 - (time.perf_counter() - began)))
            harness.set_kind(-1)
    harness.end()
    workshop.close()
    result: dict[str, Any] = {"threads": options.threads, "pause_us": options.pause_us}
    for number, kind in enumerate(KINDS):
        out = (ctypes.c_uint64 * 6)()
        harness.tell(number, out)
        took = sorted(spent[kind])
        result[kind] = {
            "requests": out[0],
            **{name: out[i] / 1000 for i, name in enumerate(("p50", "p99", "p99.9", "max"), 1)},
            "mixed": out[5],
            "changes": 0 if kind == "nothing" else len(took),
            "change_ms": took[len(took) // 2] * 1000,
        }
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description="What a request feels of a transition.")
    parser.add_argument("--threads", type=int, default=4)
    parser.add_argument("--changes", type=int, default=200, help="of each kind (200)")
    parser.add_argument("--turns", type=int, default=10, help="how often the kinds take turns (10)")
    parser.add_argument("--every-ms", type=float, default=20.0, help="from one change to the next (20)")
    parser.add_argument("--request-us", type=float, default=20.0)
    parser.add_argument("--pause-us", type=int, default=100, help="between two requests of a thread (100)")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="hotreload-bench-") as name:
        os.environ["HOTRELOAD_STORE"] = os.path.join(name, "store")
        result = measure(Path(name), options)
    if options.json:
        print(json.dumps(result))
        return
    print(f"{options.threads} threads, requests of {options.request_us:g} us, {options.pause_us} us between them")
    print(
        f"{'':12} {'requests':>10} {'p50':>8} {'p99':>8} {'p99.9':>8} {'max':>9}   (us)   mixed   changes   each (ms)"
    )
    for kind in KINDS:
        row = result[kind]
        times = f"{row['p50']:8.1f} {row['p99']:8.1f} {row['p99.9']:8.1f} {row['max']:9.1f}"
        changes = f"{row['mixed']:5}   {row['changes']:7}   {row['change_ms']:9.2f}"
        print(f"{kind:12} {row['requests']:10,} {times}          {changes}")


if __name__ == "__main__":
    main()
