"""A module inside a package: its init function says ``kernel``, a process says ``shop.kernel``, and both mean one."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hotreload.push.records import Live, ProcessStatus
from tests.push.kit import BASE_ANSWER, EDITS, Program, Project, wait_until

CODE = "import hotreload; hotreload.enable(agent=True); import shop.kernel, signal; signal.pause()"


def start_shop(project: Project, directory: Path, program: Program) -> subprocess.Popen[bytes]:
    """A process beside ``program`` that has the build of ``project`` as ``shop.kernel``."""
    (directory / "shop").mkdir()
    (directory / "shop" / "__init__.py").touch()
    shutil.copy(project.directory / "kernel.so", directory / "shop")
    shop = subprocess.Popen([sys.executable, "-c", CODE], cwd=directory, env=program.environment)
    wait_until(lambda: shop.pid in program.answering())
    return shop


@pytest.fixture
def other_shop(
    program: Program, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[subprocess.Popen[bytes]]:
    """Has another build of the module than ``program``, inside a package."""
    shop = start_shop(Project(tmp_path_factory.mktemp("other")), tmp_path, program)
    yield shop
    shop.kill()
    shop.wait()


@pytest.fixture
def shop(program: Program, tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Has the same build as ``program``, inside a package."""
    shop = start_shop(program.project, tmp_path, program)
    yield shop
    shop.kill()
    shop.wait()


def test_a_process_with_another_build_in_a_package_refuses_for_all(
    program: Program, other_shop: subprocess.Popen[bytes]
) -> None:
    outcome = program.push(EDITS[0])

    assert outcome.code == 4, outcome
    assert outcome.states()[other_shop.pid] == "refused"
    assert f"{other_shop.pid}: has another build of kernel" in outcome.json["reason"]
    assert set(program.live().values()) == {""}
    assert int(program.tell("answer")) == BASE_ANSWER
    assert program.status()["current"] == {}


def test_the_short_name_of_a_module_in_a_package_is_rolled_back(
    program: Program, shop: subprocess.Popen[bytes]
) -> None:
    assert program.push(EDITS[0]).code == 0
    program.kill()
    assert program.cli("rollback", "other.kernel").code == 4
    outcome = program.cli("rollback", "kernel", "--json")

    assert outcome.code == 0, outcome
    assert outcome.json["module"] == "shop.kernel"
    assert program.live() == {shop.pid: ""}


@pytest.mark.parametrize(
    ("loaded", "is_other"), [("kernel", True), ("shop.kernel", True), ("shop.kernels", False), ("kernel.shop", False)]
)
def test_another_build_is_known_by_the_last_part_of_its_name(loaded: str, is_other: bool) -> None:
    status = ProcessStatus((Live(loaded, "cd" * 20),))

    assert (status.other_build("kernel", "ab" * 20) is not None) == is_other
    assert status.other_build("kernel", "cd" * 20) is None
