"""A core dump is read afterwards, by another gdb, on another machine: with the files that were kept by build-id."""

from __future__ import annotations

import re
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from toolkit import EDITED, PATIENCE, Program, Project, line_of, need, run

LINE = line_of(EDITED, "return read")
FRAME = rf"hold@hotreload\.g1 \(fd=[^)]+\) at kernels.c:{LINE}\b"
GDB = ("gdb", "-q", "-batch", "-iex", "set debuginfod enabled off", "-iex", "set auto-load off")


def dump(project: Project, files: object, directory: Path) -> Path:
    """The core dump of a process that had a thread in new code, written by the kernel."""
    pattern = Path("/proc/sys/kernel/core_pattern").read_text().strip()
    if pattern.startswith("|") or "/" in pattern:
        pytest.skip(f"core dumps go elsewhere here: {pattern}")

    def allow() -> None:
        resource.setrlimit(resource.RLIMIT_CORE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))

    if resource.getrlimit(resource.RLIMIT_CORE)[1] == 0:
        pytest.skip("core dumps are limited to 0 bytes here")
    program = Program(project, files, cwd=directory, preexec_fn=allow)
    assert program("commit", project.patch) == "1"
    program.start("hold", "S")
    program.process.send_signal(6)
    program.process.wait(PATIENCE)
    program.close()
    found = list(directory.glob("core*"))
    if not found:
        pytest.skip("the kernel writes no core dump here")
    return found[0]


def read(core: Path, *commands: str) -> str:
    words = [word for command in (*commands, "thread apply all backtrace 4") for word in ("-ex", command)]
    done = run(*GDB, sys.executable, "-ex", f"core {core}", *words, check=False)
    return done.stdout + done.stderr


def test_with_files_a_dump_is_read_in_place_and_elsewhere(project: Project, tmp_path: Path) -> None:
    need("gdb")
    (tmp_path / "cwd").mkdir()
    (tmp_path / "files").mkdir(mode=0o700)
    core = dump(project, tmp_path / "files", tmp_path / "cwd")
    assert re.search(FRAME, read(core))
    # elsewhere: the directory has another name there
    (tmp_path / "files").rename(tmp_path / "kept")
    assert not re.search(FRAME, read(core))
    listed = run("eu-unstrip", "-n", f"--core={core}", check=False).stdout
    build_id = re.search(r"([0-9a-f]{40})@\S+ .*/ext\.g1\.\d+\.so", listed)
    assert build_id, listed
    file = tmp_path / "kept" / ".build-id" / build_id[1][:2] / build_id[1][2:]
    assert re.search(FRAME, read(core, f"add-symbol-file {file}"))
    done = subprocess.run(
        ["eu-stack", f"--core={core}", f"--executable={sys.executable}", f"--debuginfo-path={tmp_path / 'kept'}"],
        capture_output=True, text=True, check=False, timeout=PATIENCE,
    )  # fmt: skip
    assert "hold@hotreload.g1" in done.stdout


def test_without_files_a_dump_holds_what_gdb_needs(project: Project, tmp_path: Path) -> None:
    need("gdb")
    assert re.search(FRAME, read(dump(project, "off", tmp_path)))


def test_gcore_of_a_living_process(both: Program, tmp_path: Path) -> None:
    need("gdb")
    if shutil.which("gcore") is None:
        pytest.skip("gcore is not installed")
    done = run("gcore", "-o", tmp_path / "core", both.pid, check=False)
    if done.returncode:
        pytest.skip(f"gcore: {done.stderr.strip()[-200:]}")
    assert re.search(FRAME, read(next(tmp_path.glob("core.*"))))
