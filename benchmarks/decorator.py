"""What ``@hotpatchable`` costs per call: nanoseconds of CPU, all variants in one run, which take turns.

Form 1, a stub over a C function, beside the same C file built by cffi alone in API mode:

    numbers     add(1, 2): two integers
    pointer     first(p, 1): a pointer that cffi made
    buffer      first(b, 1): a bytearray; cffi alone is handed ffi.from_buffer(b), which is what one writes there

Form 2, a function of an extension, which ``hotpatchable`` returns as it is: the same extension built plainly, built by
hotreload, and that one after ``hotpatchable(_ext.add)``. What a hook prologue costs inside is ``call_cost.py``'s.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

KERNELS = """
#include <stdint.h>
int add(int a, int b) { return a + b; }
int first(const uint8_t *p, int n) { return p[0] + n; }
"""
CDEF = "int add(int a, int b); int first(const uint8_t *p, int n);"
STUBS = """
from hotreload import hotpatchable

@hotpatchable(source="kernels.c")
def add(a: int, b: int) -> int: ...

@hotpatchable(source="kernels.c")
def first(p: "uint8_t *", n: int) -> int: ...
"""
EXTENSION = """
#define PY_SSIZE_T_CLEAN
#include <Python.h>
static PyObject *add(PyObject *self, PyObject *const *args, Py_ssize_t n)
{
    return PyLong_FromLong(PyLong_AsLong(args[0]) + PyLong_AsLong(args[1]));
}
static PyMethodDef methods[] = {{"add", (PyCFunction)(void (*)(void))add, METH_FASTCALL, 0}, {0}};
static struct PyModuleDef def = {PyModuleDef_HEAD_INIT, "_ext", 0, -1, methods};
PyMODINIT_FUNC PyInit__ext(void) { return PyModule_Create(&def); }
"""

Loop = Callable[[int], float]


def load(name: str, path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def build_by_cffi(folder: Path) -> ModuleType:
    """The C file in an API-mode module, with cffi and nothing else."""
    import cffi

    ffi = cffi.FFI()
    ffi.cdef(CDEF)
    ffi.set_source("bare_kernels", KERNELS, extra_compile_args=["-O2"])
    return load("bare_kernels", Path(ffi.compile(tmpdir=str(folder))))


def build_extension(folder: Path, *wrapper: str) -> ModuleType:
    folder.mkdir()
    (folder / "_ext.c").write_text(EXTENSION)
    flags = ["-O2", "-g", "-fPIC", "-shared", f"-I{sysconfig.get_paths()['include']}"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([*wrapper, "gcc", *flags, "_ext.c", "-o", "_ext.so"], cwd=folder, env=environment, check=True)
    return load("_ext", folder / "_ext.so")


def loop_over(call: str, **names: Any) -> Loop:
    """Runs one call so often, written out ten times; returns the seconds of CPU: others may be on this machine."""
    text = "def loop(count, _clock):\n start = _clock()\n for _ in range(count // 10):\n  " + "; ".join([call] * 10)
    scope: dict[str, Any] = dict(names)
    exec(f"{text}\n return _clock() - start", scope)
    return lambda count: scope["loop"](count, time.thread_time)


def make_loops(folder: Path) -> dict[str, dict[str, Loop]]:
    os.environ["HOTRELOAD_STORE"] = str(folder / "store")
    from hotreload import hotpatchable

    (folder / "kernels.c").write_text(KERNELS)
    (folder / "stubs.py").write_text(STUBS)
    stubs, bare = load("stubs", folder / "stubs.py"), build_by_cffi(folder)
    plain = build_extension(folder / "plain")
    hot = build_extension(folder / "hot", sys.executable, "-m", "hotreload", "cc")
    marked = build_extension(folder / "marked", sys.executable, "-m", "hotreload", "cc")
    buffer, theirs, ours = bytearray(8), bare.ffi.new("uint8_t[8]"), stubs.first.hotreload.ffi.new("uint8_t[8]")
    return {
        "numbers": {
            "cffi": loop_over("add(1, 2)", add=bare.lib.add),
            "stub": loop_over("add(1, 2)", add=stubs.add),
        },
        "pointer": {
            "cffi": loop_over("first(p, 1)", first=bare.lib.first, p=theirs),
            "stub": loop_over("first(p, 1)", first=stubs.first, p=ours),
        },
        "buffer": {
            "cffi": loop_over("first(lend(b), 1)", first=bare.lib.first, b=buffer, lend=bare.ffi.from_buffer),
            "stub": loop_over("first(b, 1)", first=stubs.first, b=buffer),
        },
        "extension": {
            "plain": loop_over("add(1, 2)", add=plain.add),
            "hot": loop_over("add(1, 2)", add=hot.add),
            "marked": loop_over("add(1, 2)", add=hotpatchable(marked.add)),
        },
    }


def measure(rounds: int, calls: int) -> dict[str, dict[str, float]]:
    """Medians of ns per call, and of the ratios to the first variant in the same round."""
    with tempfile.TemporaryDirectory() as folder:
        loops = make_loops(Path(folder))
        samples: dict[str, dict[str, list[float]]] = {
            what: {kind: [] for kind in kinds} for what, kinds in loops.items()
        }
        for number in range(rounds + 1):
            for what, kinds in loops.items():
                for kind, loop in kinds.items():
                    nanoseconds = loop(calls) / calls * 1e9
                    if number:  # the first round warms up
                        samples[what][kind].append(nanoseconds)
    rows: dict[str, dict[str, float]] = {}
    for what, by_kind in samples.items():
        first = next(iter(by_kind))
        rows[what] = {kind: round(statistics.median(values), 1) for kind, values in by_kind.items()}
        for kind, to in [*((kind, first) for kind in list(by_kind)[1:]), *([("marked", "hot")] * ("hot" in by_kind))]:
            ratios = [mine / theirs for mine, theirs in zip(by_kind[kind], by_kind[to])]
            rows[what][f"{kind}/{to}"] = round(statistics.median(ratios), 3)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--rounds", type=int, default=101)
    parser.add_argument("--calls", type=int, default=50_000, help="per variant and round")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    rows = measure(options.rounds, options.calls)
    if options.json:
        print(json.dumps({"ns_per_call": rows, "rounds": options.rounds, "calls": options.calls}))
        return
    for what, row in rows.items():
        told = "  ".join(
            f"{kind} {value:.3f}" if "/" in kind else f"{kind} {value:.1f} ns" for kind, value in row.items()
        )
        print(f"{what:<10} {told}")


if __name__ == "__main__":
    main()
