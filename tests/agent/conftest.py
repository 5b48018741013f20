from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.agent.kit import Application, Hot, build_hot


@pytest.fixture(scope="module")
def hot(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hot]:
    """One built extension for a whole module of tests."""
    directory = tmp_path_factory.mktemp("hot")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOTRELOAD_STORE", str(directory / "store"))
        yield build_hot(directory)


@pytest.fixture
def app(tmp_path: Path, hot: Hot) -> Iterator[Application]:
    """An application with a state directory of its own; its processes end with the test."""
    application = Application(tmp_path, hot)
    yield application
    application.close()


@pytest.fixture
def serving(app: Application) -> int:
    """The pid of a server with an agent."""
    return app.start().process.pid
