from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.run.harness import Extension, Program, Start, build

SERVER = """\
import sys, time
sys.path.insert(0, {ext!r})
import tiny

print("ready", tiny.value(), flush=True)
last = tiny.value()
while True:
    value = tiny.value()
    if value != last:
        print("value", value, "count", tiny.count(), flush=True)
        last = value
    time.sleep(0.002)
"""


@pytest.fixture
def extension(tmp_path: Path) -> Extension:
    return build(tmp_path)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts ``python -m hotreload run ARGUMENTS``; whatever is still running is ended with the test."""
    with ExitStack() as stack:

        def run(*arguments: str, **environment: str) -> Program:
            return stack.enter_context(
                Program(["-m", "hotreload", "run", *arguments], directory=tmp_path, **environment)
            )

        yield run


@pytest.fixture
def server(tmp_path: Path, extension: Extension) -> Path:
    """A program that prints every new value of the extension's function."""
    path = tmp_path / "server.py"
    path.write_text(SERVER.format(ext=str(extension.directory)))
    return path


@pytest.fixture
def serving(start: Start, server: Path) -> Program:
    """The server under ``hotreload run``, once its extension is watched."""
    program = start(str(server))
    program.wait_line("ready 2")
    program.wait_event("extension.found")
    return program
