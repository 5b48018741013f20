"""A process with threads in old and in new code, for tools to look at."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from toolkit import Program, Project, make_project


@pytest.fixture(scope="package")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    made = make_project(tmp_path_factory.mktemp("tools"))
    yield made
    made.hot.close()


@pytest.fixture(scope="package")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("generations")
    directory.chmod(0o700)
    return directory


@pytest.fixture(scope="package")
def both(project: Project, files: Path) -> Iterator[Program]:
    """One thread holds and one spins in old code, one each in new code."""
    program = Program(project, files)
    program.start("hold", "S")
    program.start("spin", "R")
    assert program("commit", project.patch) == "1"
    program.start("hold", "S")
    program.start("spin", "R")
    yield program
    program.close()
