"""A process with threads in old and in new code, for tools to look at; and what a tool needs, or the reason to skip."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.hot import ROOT, HotExtension

HERE = Path(__file__).resolve().parent
SOURCE = (HERE / "kernels.c").read_text()
#: Two lines more at the top, so that no line of a function has the number that it had.
EDITED = "/* more to\n   say */\n" + SOURCE.replace("base * weight;", "base * weight + 1000;").replace(
    "turns += 3", "turns += 5"
).replace("held += 1;", "held += 10;").replace("a + b;", "a + b + 3;").replace("* 2;", "* 5;")
PATIENCE = 60


def line_of(text: str, words: str) -> int:
    """The number of the line that has these words."""
    return next(number for number, line in enumerate(text.splitlines(), 1) if words in line)


def run(*argv: object, check: bool = True, timeout: int = PATIENCE) -> subprocess.CompletedProcess[str]:
    """Runs a tool; what it printed is in the failure."""
    words = [str(word) for word in argv]
    environment = {**os.environ, "LC_ALL": "C", "DEBUGINFOD_URLS": "", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False, timeout=timeout)
    assert not check or done.returncode == 0, f"{words}\n{done.stdout}\n{done.stderr}"
    return done


def need(program: str, *trial: object) -> None:
    """Skips where a program is not there or this host does not let it do what it is for."""
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed")
    if trial:
        done = run(program, *trial, check=False)
        if done.returncode:
            pytest.skip(f"{program} is not allowed to work here: {(done.stderr or done.stdout).strip()[-300:]}")


def py_spy() -> str:
    found = shutil.which("py-spy") or os.path.join(os.path.dirname(sys.executable), "py-spy")
    if not os.path.exists(found):
        pytest.skip("py-spy is not installed")
    return found


class Project(NamedTuple):
    """An extension, and the patch for the edit of it."""

    hot: HotExtension
    patch: Path

    def argv(self, files: object) -> list[str]:
        return [sys.executable, str(HERE / "tools_program.py"), str(self.hot.path), str(files)]


def make_project(directory: Path, prologue: str = "", flag: str = "-O2") -> Project:
    hot = HotExtension(directory, {"kernels.c": SOURCE}, flags=[flag], compiler="gcc", prologue=prologue)
    hot.save(SOURCE, EDITED)
    path = hot.make().path
    assert path is not None
    return Project(hot, path)


class Program:
    """The running program: ``program("score", 2, 3)`` is its answer."""

    def __init__(self, project: Project, files: object, **options: object) -> None:
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        self.process = subprocess.Popen(
            project.argv(files),
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            **options,  # type: ignore[call-overload]
        )
        self.pid = self.process.pid

    def __call__(self, *words: object) -> str:
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write(" ".join(str(word) for word in words) + "\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().strip()

    def threads(self) -> set[str]:
        return set(os.listdir(f"/proc/{self.pid}/task"))

    def start(self, word: str, state: str) -> None:
        """Has a thread inside ``word`` of C: in the kernel, or running."""
        before = self.threads()
        self(word)
        new = (self.threads() - before).pop()
        end = time.monotonic() + PATIENCE
        used = 0
        while time.monotonic() < end:
            fields = Path(f"/proc/{self.pid}/task/{new}/stat").read_text().rpartition(") ")[2].split()
            used = int(fields[11])
            if state == "S" and "pipe" in Path(f"/proc/{self.pid}/task/{new}/wchan").read_text():
                return
            if state == "S" and Path(f"/proc/{self.pid}/task/{new}/syscall").read_text().startswith("0 "):
                return
            if state == "R" and used > 2:
                return
            time.sleep(0.005)
        raise AssertionError(f"the thread does not get into {word}")

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()
