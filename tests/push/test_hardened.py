"""A service as it should be run: another user, no capability, no way to gain any; and what cannot be had."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.hot import ROOT
from tests.push.kit import BASE_ANSWER, EDITS, Program, Project

NOBODY = 65534
SETPRIV = ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--no-new-privs")
NO_CAPABILITIES = ("--bounding-set=-all", "--inh-caps=-all")
PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN = 65, 1
DENY_WRITE_EXECUTE = f"import ctypes; assert ctypes.CDLL(None).prctl({PR_SET_MDWE}, 1, 0, 0, 0) == 0\n"


@pytest.fixture
def public(project: Project) -> Iterator[Path]:
    """The project where every user can read it."""
    if os.geteuid() or not shutil.which("setpriv"):
        pytest.skip("needs root and setpriv to become another user")
    directory = Path(tempfile.mkdtemp(prefix="hr-public-"))
    directory.chmod(0o755)
    shutil.copy2(project.directory / "kernel.so", directory / "kernel.so")
    reads = subprocess.run([*SETPRIV, "test", "-r", f"{ROOT}/hotreload/__init__.py"], check=False)
    if reads.returncode:
        pytest.skip("this checkout cannot be read by other users")
    yield directory
    shutil.rmtree(directory)


def test_a_service_without_any_privilege_takes_pushes_from_root(project: Project, public: Path) -> None:
    program = Program(project, before=(*SETPRIV, *NO_CAPABILITIES), owner=NOBODY, directory=public)
    try:
        assert program.push(EDITS[0]).code == 0
        assert int(program.tell("answer")) == EDITS[0]
        kept = list((program.state / "patches").rglob("*.hotpatch"))
        assert kept
        assert all(path.stat().st_uid == NOBODY for path in kept)
        assert program.cli("rollback").code == 0
        assert int(program.tell("answer")) == BASE_ANSWER
    finally:
        program.close()


def test_fault_g91_another_user_cannot_push(project: Project, public: Path) -> None:
    program = Program(project, directory=public)
    try:
        patch = shutil.copy2(project.patch(EDITS[0]), public)
        done = subprocess.run(
            [*SETPRIV, sys.executable, "-c", f"import os; os.listdir({str(program.state)!r})"],
            capture_output=True,
            text=True,
            check=False,
        )
        assert "PermissionError" in done.stderr
        refused = subprocess.run(
            [*SETPRIV, sys.executable, "-m", "hotreload", "push", patch],
            env=program.environment,
            cwd=public,
            capture_output=True,
            text=True,
            check=False,
        )
        assert refused.returncode == 4, refused
        assert int(program.tell("answer")) == BASE_ANSWER
    finally:
        program.close()


@pytest.fixture
def built_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Project]:
    """The project built with one prologue or the other."""
    if ctypes.CDLL(None).prctl(66, 0, 0, 0, 0) < 0:
        pytest.skip("this kernel has no PR_SET_MDWE")

    def build(prologue: str) -> Project:
        monkeypatch.setenv("HOTRELOAD_PROLOGUE", prologue)
        return Project(tmp_path)

    return build


def test_memory_deny_write_execute_takes_pushes_where_the_extension_has_slots(
    built_in: Callable[[str], Project],
) -> None:
    program = Program(built_in("slot"), first=DENY_WRITE_EXECUTE)
    try:
        assert program.push(EDITS[0]).code == 0
        assert int(program.tell("answer")) == EDITS[0]
        assert program.cli("doctor").code == 0
        assert program.cli("rollback").code == 0
        assert int(program.tell("answer")) == BASE_ANSWER
    finally:
        program.close()


def test_memory_deny_write_execute_refuses_and_says_why(built_in: Callable[[str], Project]) -> None:
    program = Program(built_in("jump"), first=DENY_WRITE_EXECUTE)
    try:
        outcome = program.push(EDITS[0])
        assert outcome.code == 4
        assert outcome.json["reason"]
        assert int(program.tell("answer")) == BASE_ANSWER
        doctor = program.cli("doctor")
        assert doctor.code == 4
        assert 'prologue = "slot"' in " ".join(program.cli("doctor", "--json").out.replace("\\", "").split())
    finally:
        program.close()
