"""How long a saved edit takes to be live, stage by stage, beside the compiler alone.

    python benchmarks/edit_to_live.py [--edits N] [--json]

For a C extension of about 100, 1,000 and 10,000 lines: built hot, loaded, watched; then one constant in one
function is edited N times, and between two edits the compiler alone is timed on the same text: ``gcc -c`` with the
same (hot) flags. The stages are those of the ``reload.finished`` event; *total* is from the save to the moment the
swap is committed, *seen* until the running process returns the new value. The ratio is total by compiler, pairwise,
in one run: the machine's own speed cancels out.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import queue
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
from pathlib import Path
from types import ModuleType

STAGES = ("build_ms", "diff_ms", "link_ms", "stage_ms", "commit_ms", "total_ms")
BODY = """
static long verb_{n}(const unsigned char *text, long len, long seed) {{
    static long calls;
    long words = 0, state = seed + {n}, longest = 0, run = 0;
    char small[64];
    calls++;
    for (long i = 0; i < len; i++) {{
        unsigned char c = text[i];
        if (c == ' ' || c == '\\t' || c == '\\n') {{
            words++;
            if (run > longest)
                longest = run;
            run = 0;
        }} else if (c >= 'a' && c <= 'z') {{
            state = state * 31 + (c - 'a') + {n};
            run++;
        }} else if (c >= 'A' && c <= 'Z') {{
            state = state * 37 + (c - 'A');
            run++;
        }} else {{
            switch (c & 7) {{
            case 0: state ^= words; break;
            case 1: state += longest; break;
            case 2: state -= run * 3; break;
            case 3: state = (state << 5) | (state >> 59 & 31); break;
            case 4: state ^= c << 3; break;
            default: state++;
            }}
        }}
    }}
    for (int i = 0; i < 8; i++)
        small[i] = (char)(state >> (8 * i));
    if (state == 0)
        PyErr_Format(PyExc_ValueError, "verb {n} found nothing in %ld bytes", len);
    return state + words + longest + small[words & 7] + (calls > 0);
}}
"""
FRAME = """#include <Python.h>
{functions}
__attribute__((noinline)) static long marker(void) {{ return 1000; }}

static PyObject *answer(PyObject *self, PyObject *arg) {{ return PyLong_FromLong(marker()); }}

static PyObject *all(PyObject *self, PyObject *arg) {{
    const unsigned char *text = (const unsigned char *)"Some Words, and 1 more";
    long sum = 0;
{calls}    return PyLong_FromLong(sum);
}}

static PyMethodDef methods[] = {{{{"answer", answer, METH_NOARGS, ""}}, {{"all", all, METH_NOARGS, ""}}, {{0}}}};
static struct PyModuleDef module = {{PyModuleDef_HEAD_INIT, "{name}", 0, -1, methods}};
PyMODINIT_FUNC PyInit_{name}(void) {{ return PyModule_Create(&module); }}
"""


def write_source(path: Path, name: str, lines: int) -> int:
    """Write an extension of about ``lines`` lines; the real number is returned."""
    count = max(1, round((lines - 20) / (BODY.count("\n") + 1)))
    functions = "".join(BODY.format(n=n) for n in range(count))
    calls = "".join(f"    sum += verb_{n}(text, 22, sum);\n" for n in range(count))
    text = FRAME.format(functions=functions, calls=calls, name=name)
    path.write_text(text)
    return text.count("\n")


def compile_flags() -> list[str]:
    """The flags of an ordinary release build."""
    return ["-O2", "-DNDEBUG", "-fPIC", f"-I{sysconfig.get_path('include')}"]


def load_extension(directory: Path, name: str) -> ModuleType:
    """Build ``name.c`` hot and import it."""
    library = directory / f"{name}.so"
    wrapper = [sys.executable, "-m", "hotreload", "cc", "gcc", *compile_flags()]
    subprocess.run([*wrapper, "-shared", str(directory / f"{name}.c"), "-o", str(library)], check=True)
    specification = importlib.util.spec_from_file_location(name, library)
    assert specification
    assert specification.loader
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def measure(directory: Path, name: str, lines: int, edits: int) -> dict[str, object]:
    """One extension: build it, load it, edit it, and time the compiler between the edits."""
    import hotreload

    source = directory / f"{name}.c"
    real_lines = write_source(source, name, lines)
    module = load_extension(directory, name)
    module.all()
    from hotreload.build.flags import hot_compile_args

    hot, _ = hot_compile_args(["gcc"], compile_flags())
    plain = ["gcc", *hot, "-c", str(source), "-o", str(directory / "plain.o")]
    finished: queue.Queue[dict[str, object]] = queue.Queue()
    unsubscribe = hotreload.subscribe(lambda event: finished.put(event))
    rows: list[dict[str, float]] = []
    text = source.read_text()
    for number in range(edits + 1):
        value = 2000 + number
        begin = time.perf_counter()
        subprocess.run(plain, check=True)
        compiler = (time.perf_counter() - begin) * 1000
        fresh = text.replace("return 1000;", f"return {value};")
        beside = source.with_suffix(".saving")
        beside.write_text(fresh)
        saved = time.perf_counter()
        os.replace(beside, source)
        while module.answer() != value:
            time.sleep(0.0005)
        seen = (time.perf_counter() - saved) * 1000
        event = wait_for(finished, "reload.finished")
        assert event["outcome"] == "live", event
        row = {stage: float(event[stage]) for stage in STAGES}  # type: ignore[arg-type]
        rows.append({**row, "seen_ms": seen, "compiler_ms": compiler, "ratio": row["total_ms"] / compiler})
    unsubscribe()
    rows = rows[1:]  # the first edit reads the base's objects
    medians = {key: statistics.median(row[key] for row in rows) for key in rows[0]}
    return {"lines": real_lines, "edits": len(rows), **medians, "ratio_max": max(row["ratio"] for row in rows)}


def wait_for(events: queue.Queue[dict[str, object]], name: str) -> dict[str, object]:
    while True:
        event = events.get(timeout=60)
        if event.get("event") == name:
            return event


def main() -> None:
    parser = argparse.ArgumentParser(description="How long a saved edit takes to be live.")
    parser.add_argument("--edits", type=int, default=9, help="measured edits per file (default 9)")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="hotreload-bench-") as name:
        directory = Path(name)
        os.environ["HOTRELOAD_STORE"] = str(directory / "store")
        os.environ.setdefault("HOTRELOAD_LOG_FORMAT", "json")
        os.chdir(directory)
        import hotreload

        hotreload.enable()
        sizes = {"small": 100, "middle": 1000, "large": 10000}
        results = [measure(directory, name, lines, options.edits) for name, lines in sizes.items()]
        hotreload.disable()
    if options.json:
        print(json.dumps({"results": results}))
        return
    columns = {"lines": "7d", "build_ms": "8.1f", "diff_ms": "7.1f", "link_ms": "7.1f", "stage_ms": "7.2f"}
    columns |= {"commit_ms": "8.3f", "total_ms": "8.1f", "seen_ms": "8.1f", "compiler_ms": "9.1f"}
    columns |= {"ratio": "6.2f", "ratio_max": "6.2f"}
    heads = ["lines", "build", "diff", "link", "stage", "commit", "total", "seen", "gcc -c", "ratio", "worst"]
    widths = [int(form.split(".")[0].rstrip("d")) for form in columns.values()]
    print(*(f"{head:>{width}}" for head, width in zip(heads, widths)), f"  (ms, median of {options.edits} edits)")
    for row in results:
        print(*(f"{row[name]:{form}}" for name, form in columns.items()))


if __name__ == "__main__":
    main()
