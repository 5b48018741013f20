"""Servers for the tests of the push; each ends with its test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Optional

import pytest

from tests.push.kit import PairProject, Program, Project, Server


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory, store: Path) -> Project:
    """The extension, built hot, and its edits, packed."""
    return Project(tmp_path_factory.mktemp("project"))


@pytest.fixture(scope="session")
def pair(tmp_path_factory: pytest.TempPathFactory, store: Path) -> PairProject:
    """The extension of two functions that change together."""
    return PairProject(tmp_path_factory.mktemp("pair"))


@pytest.fixture
def serve(project: Project) -> Iterator[Callable[..., Server]]:
    """Starts servers; what they wrote is shown when the test fails."""
    servers: list[Server] = []

    def start(other: Optional[Project] = None, **options: Any) -> Server:
        servers.append(Server(other or project, **options))
        return servers[-1].wait_until_ready()

    yield start
    for server in servers:
        server.close()
        print("".join(server.log[-60:]))


@pytest.fixture
def program(project: Project) -> Iterator[Program]:
    """A plain program that forks when it is told to."""
    running = Program(project)
    yield running
    running.close()
