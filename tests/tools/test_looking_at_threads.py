"""Tools that look at a process from outside see old and new code, with names, files and lines."""

from __future__ import annotations

import re
from pathlib import Path

from toolkit import EDITED, SOURCE, Program, line_of, need, py_spy, run

OLD_HOLD, NEW_HOLD = line_of(SOURCE, "return read"), line_of(EDITED, "return read")
QUIET = ("-q", "-batch", "-iex", "set debuginfod enabled off", "-iex", "set auto-load off")


def test_gdb_shows_threads_in_old_and_new_code_with_lines_and_the_generation(both: Program) -> None:
    need("gdb")
    done = run("gdb", *QUIET, "-p", both.pid, "-ex", "thread apply all backtrace 6", check=False)
    if "ptrace: " in done.stderr:
        need("gdb", "-q", "-batch", "-p", both.pid)
    assert re.search(rf"hold \(fd=[^)]+\) at kernels.c:{OLD_HOLD}\b", done.stdout), done.stdout + done.stderr
    assert re.search(rf"hold@hotreload\.g1 \(fd=[^)]+\) at kernels.c:{NEW_HOLD}\b", done.stdout)
    assert re.search(r"spin \(stop=0x[0-9a-f]+\) at kernels.c:\d+", done.stdout)
    assert re.search(r"spin@hotreload\.g1 \(stop=0x[0-9a-f]+\) at kernels.c:\d+", done.stdout)


def test_perf_tells_old_code_from_new(both: Program, tmp_path: Path) -> None:
    data = tmp_path / "perf.data"
    need("perf", "record", "-q", "-e", "cpu-clock", "-o", data, "-p", both.pid, "--", "sleep", "0.4")
    report = run("perf", "report", "-i", data, "--stdio", "--sort", "dso,symbol").stdout
    assert re.search(r"ext\.so +\[\.\] spin\b", report), report
    assert re.search(r"ext\.g1\.\d+\.so +\[\.\] spin@hotreload\.g1", report), report
    annotated = run("perf", "annotate", "-i", data, "--stdio", "-s", "spin@hotreload.g1").stdout
    # objdump is asked for the lines; the code is the generation's own
    assert re.search(r"\badd +\$0x5,", annotated), annotated


def test_eu_stack_names_old_and_new_code(both: Program) -> None:
    need("eu-stack")
    done = run("eu-stack", "-p", both.pid, "-s", check=False)
    if "Operation not permitted" in done.stderr:
        need("eu-stack", "-p", both.pid)
    text = done.stdout
    assert re.search(r" hold@hotreload\.g1$", text, re.MULTILINE), text + done.stderr
    assert re.search(r" hold$", text, re.MULTILINE)
    held = text.split("hold@hotreload.g1")[1]
    assert re.search(r"clone|start_thread", held.split("TID")[0]), "all its callers are found"


def test_py_spy_shows_new_code_between_python_and_the_kernel(both: Program) -> None:
    done = run(py_spy(), "dump", "--native", "--pid", both.pid, check=False)
    if done.returncode:
        need(py_spy(), "dump", "--pid", both.pid)
    assert re.search(r"hold(@hotreload\.g1)? \((kernels\.c:\d+|ext\.g1\.\d+\.so)\)", done.stdout), (
        done.stdout + done.stderr
    )
    assert f"kernels.c:{NEW_HOLD}" in done.stdout
    assert f"kernels.c:{OLD_HOLD}" in done.stdout


def test_python_tracebacks_say_what_they_say_without(both: Program) -> None:
    both.process.stdin.write("traceback\n")  # type: ignore[union-attr]
    both.process.stdin.flush()  # type: ignore[union-attr]
    lines = []
    while not lines or lines[-1] != "None\n":
        lines.append(both.process.stdout.readline())  # type: ignore[union-attr]
    text = "".join(lines)
    assert text.count("in run\n") == 4, "Python's frames of the four threads, and nothing of ours between them"
    assert "hotreload" not in re.sub(r'File "[^"]*"', "", text)
