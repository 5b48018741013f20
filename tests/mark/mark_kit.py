"""Programs with marked functions, run for real; each prints what it saw as one JSON line per fact."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

from tests.run.harness import ROOT, environment

KERNELS = """\
#include <stddef.h>
#include <stdint.h>
#include "shade.h"

typedef struct image { int w, h; uint8_t *px; } image;
typedef struct { double x, y; } point;
struct bits { unsigned low : 3; };
enum colour { RED = -1, GREEN = 4 };
typedef int (*visit)(int, void *);

static long calls;

static int clamp(int v) { return v > 255 ? 255 : v; }

void blur(uint8_t *px, int w, int h, float r)
{
    calls++;
    for (int i = 0; i < w * h; i++)
        px[i] = (uint8_t)clamp((int)(px[i] * r));
}

long value(long n) { __atomic_add_fetch(&calls, 1, __ATOMIC_RELAXED); return n + SHADE; }
long other(long n) { return n + SHADE * 100; }
long count(void) { return calls; }
double total(const double *v, size_t n) { double s = 0; for (size_t i = 0; i < n; i++) s += v[i]; return s; }
size_t length(const char *text) { size_t n = 0; while (text[n]) n++; return n; }
image *widen(image *im, enum colour by) { im->w += by; return im; }
point mirror(point p) { point q = {p.y, p.x}; return q; }
int apply(visit f, int n, void *data) { return f(n, data); }
_Bool flip(_Bool b) { return !b; }
void nothing(void) { }
int variadic(int n, ...) { return n; }
int by_bits(struct bits b) { return b.low; }
double _Complex complicated(double _Complex z) { return z; }
"""
SHADE = "#define SHADE 1\n"


def write_kernels(directory: Path, shade: int = 1) -> Path:
    """``kernels.c`` and its header."""
    (directory / "shade.h").write_text(SHADE.replace("1", str(shade)))
    (directory / "kernels.c").write_text(KERNELS)
    return directory / "kernels.c"


def surroundings(directory: Path, **more: str) -> dict[str, str]:
    """What programs and builds run in: the checkout, a store of the test's own, and the prologue that is tested."""
    prologue = {"HOTRELOAD_PROLOGUE": os.environ[name] for name in ("HOTRELOAD_PROLOGUE",) if name in os.environ}
    return {**environment(directory), "PYTHONPATH": str(ROOT), **prologue, **more}


def start(directory: Path, code: str, name: str = "program.py", **more: str) -> subprocess.Popen[str]:
    """Starts a program that is a file, so that paths are relative to it."""
    (directory / name).write_text(PRELUDE + textwrap.dedent(code))
    return subprocess.Popen(
        [sys.executable, name],
        cwd=directory,
        env=surroundings(directory, **more),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(program: subprocess.Popen[str]) -> dict[str, Any]:
    """What the program told, and what it wrote to stderr."""
    out, err = program.communicate(timeout=120)
    assert program.returncode == 0, f"it ended with {program.returncode}\n{out}\n{err}"
    told: dict[str, Any] = {"stderr": err}
    for line in out.splitlines():
        if line.startswith("{"):
            told.update(json.loads(line))
    return told


def run(directory: Path, code: str, **more: str) -> dict[str, Any]:
    """Runs a program to its end."""
    return finish(start(directory, code, **more))


PRELUDE = '''\
import json, os, sys, threading, time
import hotreload
from hotreload import about, hotpatchable

def tell(**facts):
    print(json.dumps(facts, default=str), flush=True)

def error_of(call):
    try:
        call()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "nothing was raised"

def hammer(call, check, swap, times, threads=4, burst=200):
    """Calls on four threads while ``swap`` is done so often; what was seen and how many calls there were."""
    sys.setswitchinterval(1e-4)  # who swaps asks for the GIL many times, and each time waits for so long
    seen, calls, wrong, go = set(), [0] * threads, [], True
    def work(number):
        while go:
            for _ in range(burst):
                got = call()
                calls[number] += 1
                if not check(got):
                    wrong.append(got)
                    return
                seen.add(got)
            time.sleep(0.0005)  # whoever swaps needs the GIL as well
    workers = [threading.Thread(target=work, args=(n,)) for n in range(threads)]
    for worker in workers:
        worker.start()
    try:
        for number in range(times):
            swap(number)
    finally:
        go = False
        for worker in workers:
            worker.join()
    return sorted(map(str, seen)), sum(calls), wrong

def patches(build_id, path, *edits):
    """A patch for each text of a file."""
    from hotreload.patch.workshop import Workshop
    workshop, made = Workshop.open(build_id), []
    for text in edits:
        with open(path, "w") as file:
            file.write(text)
        result = workshop.make()
        with open(result.path, "rb") as file:
            made.append(file.read())
    workshop.close()
    return made

'''
