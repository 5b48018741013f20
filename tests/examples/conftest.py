"""The example server, built plainly and served for real: what it does without hot reloading."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from example_kit import Served, build

# isort: split
from driver.server import copy_project


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the example, built as any setuptools project is."""
    directory = copy_project(tmp_path_factory.mktemp("example") / "server")
    build(directory)
    return directory


@pytest.fixture(scope="session")
def served(project: Path) -> Iterator[Served]:
    """The example under gunicorn on a free port."""
    process = subprocess.Popen(
        [sys.executable, "-m", "gunicorn", "-c", "gunicorn.conf.py", "--bind", "127.0.0.1:0", "app:app"],
        cwd=project,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    log = []
    try:
        for line in process.stderr:
            log.append(line)
            listening = re.search(r"Listening at: http://127\.0\.0\.1:(\d+)", line)
            if listening:
                yield Served(int(listening[1]))
                break
        else:
            pytest.fail("the server does not start:\n" + "".join(log))
    finally:
        process.terminate()
        process.wait(20)
        process.stderr.close()
