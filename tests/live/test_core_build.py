"""The C: clean under two compilers, formatted, one declaration of everything, quiet at the point of no return."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import sysconfig
from pathlib import Path

import pytest
import tiny

from hotreload import get_include

CSRC = tiny.ROOT / "csrc"
STRICT = [
    "-std=gnu11",
    "-O2",
    "-fPIC",
    "-fvisibility=hidden",
    "-Wall",
    "-Wextra",
    "-Wconversion",
    "-Wshadow",
    "-Werror",
]


@pytest.mark.parametrize("compiler", ["gcc", "clang"])
def test_the_core_compiles_without_a_warning(compiler: str, tmp_path: Path) -> None:
    if not shutil.which(compiler):
        pytest.skip(f"needs {compiler}")
    for source in sorted(CSRC.glob("*.c")):
        tiny.run(compiler, *STRICT, "-c", source, "-o", tmp_path / "core.o")


@pytest.mark.parametrize("compiler", ["gcc", "clang"])
def test_the_part_against_the_python_api_compiles_without_a_warning(compiler: str, tmp_path: Path) -> None:
    if not shutil.which(compiler):
        pytest.skip(f"needs {compiler}")
    places = ["-I", CSRC / "python", "-I", get_include(), "-isystem", sysconfig.get_paths()["include"]]
    for source in sorted((CSRC / "python").glob("*.c")):
        tiny.run(compiler, *STRICT, *places, "-c", source, "-o", tmp_path / "state.o")


def test_the_binding_is_made_from_the_header() -> None:
    spec = importlib.util.spec_from_file_location("build_core", CSRC / "build_core.py")
    build_core = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(build_core)
    cdef = build_core.read_cdef((CSRC / "core.h").read_text())
    for name in ("hr_commit", "hr_image_stage", "struct hr_error"):
        assert name in cdef
    with pytest.raises(ValueError, match="no region"):
        build_core.read_cdef("int f(void);")


def test_every_function_of_the_header_is_bound() -> None:
    from hotreload.live._core import lib

    header = re.sub(r"/\*.*?\*/", "", (CSRC / "core.h").read_text(), flags=re.DOTALL)
    functions = set(re.findall(r"\b(hr_\w+)\(", header))
    assert functions
    assert functions <= set(dir(lib))


def test_what_runs_at_the_point_of_no_return_can_neither_allocate_nor_print() -> None:
    for name in ("poke.c", "barrier.c", "marker.c"):
        poisoned = re.search(r"#pragma GCC poison (.*)", (CSRC / name).read_text()).group(1).split()
        assert {"malloc", "free", "printf", "abort", "dlsym"} <= set(poisoned)


#: What POSIX lists as safe in a signal handler, three system calls that are not on its list, and plain memory.
SAFE_IN_A_HANDLER = set(
    "clock_gettime close getpid open poll sigaction sigemptyset strlen memcpy memset write "
    "process_vm_readv syscall __errno_location _GLOBAL_OFFSET_TABLE_ hr_refuse_call".split()
)


@pytest.mark.parametrize("compiler", ["gcc", "clang"])
def test_the_crash_marker_calls_what_a_signal_handler_may_call(compiler: str, tmp_path: Path) -> None:
    if not shutil.which(compiler):
        pytest.skip(f"needs {compiler}")
    tiny.run(compiler, *STRICT, "-c", CSRC / "marker.c", "-o", tmp_path / "marker.o")
    called = {line.split()[-1] for line in tiny.run("nm", "-u", tmp_path / "marker.o").splitlines()}
    assert called - SAFE_IN_A_HANDLER == set()


def test_nothing_of_the_core_ends_the_host_or_writes_to_its_terminal() -> None:
    for source in CSRC.glob("*.c"):
        code = re.sub(r"/\*.*?\*/|#pragma.*", "", source.read_text(), flags=re.DOTALL)
        assert not re.search(r"\b(abort|exit|_exit|assert|printf|fprintf|perror|raise|kill)\s*\(", code), source


@pytest.mark.parametrize("compiler", ["gcc", "clang"])
@pytest.mark.parametrize("level", ["-O0", "-O2", "-O3"])
def test_a_store_is_one_instruction_of_eight_bytes(compiler: str, level: str, tmp_path: Path) -> None:
    """The promise of an aligned 8-byte store, read from the machine code and not from the C."""
    if not shutil.which(compiler):
        pytest.skip(f"needs {compiler}")
    tiny.run(compiler, *STRICT, level, "-c", CSRC / "poke.c", "-o", tmp_path / "poke.o")
    code = tiny.run("objdump", "-d", "--no-show-raw-insn", tmp_path / "poke.o")
    body = re.search(r"<store[.\w]*>:\n(.*?)(\n\n|\Z)", code, flags=re.DOTALL).group(1)
    stores = re.findall(r"^.*\bmov\w*\s+[%$]\w+,0?x?0?\(%(?!rsp|rbp)\w+\)$", body, flags=re.MULTILINE)
    assert len(stores) == 1, body
    assert re.search(r"\bmovq?\s+%r(\d+|[a-z]+),\(", stores[0])
    assert not re.search(r"\bj\w+\s|\brep\b|\bcall", body), "no loop, no copy routine"


def test_only_the_module_s_init_is_visible() -> None:
    from hotreload.live import _core

    symbols = subprocess.run(
        ["nm", "-D", "--defined-only", _core.__file__], capture_output=True, text=True, check=True
    ).stdout.split("\n")
    names = {line.split()[-1] for line in symbols if line}
    assert {name for name in names if name.startswith("hr_")} == set()
