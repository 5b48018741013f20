"""README.md and docs/tutorial.md as a new user takes them: each block as it stands there, in an empty directory."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import Queue
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 60.0


class Session:
    """A shell's block that ends in a program which goes on: what it prints, and what hot reload says."""

    def __init__(self, block: str, directory: Path) -> None:
        self._count = 0  # of the lines that were printed
        self._said: Queue[str] = Queue()
        self._printed: Queue[str] = Queue()
        environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
        environment["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        self._process = subprocess.Popen(
            ["bash", "-ec", block],
            cwd=directory,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        for stream, queue in ((self._process.stdout, self._printed), (self._process.stderr, self._said)):
            threading.Thread(target=self._read, args=(stream, queue), daemon=True).start()

    @staticmethod
    def _read(stream: Any, queue: Queue[str]) -> None:
        with stream:
            for line in stream:
                queue.put(line.rstrip("\n"))

    def next_line(self) -> str:
        self._count += 1
        return self._printed.get(timeout=PATIENCE)

    def mean_until(self, factor: float) -> float:
        """The first number that is ``factor`` times the mean of 0, 1, 2, ...."""
        for _ in range(20):
            value = float(self.next_line())
            if self._count > 1 and value == factor * (self._count - 1) / 2:
                return value
        raise AssertionError(f"the program never printed {factor} times the mean; now it prints {value}")

    def watched(self) -> None:
        self._event("extension.found")

    def finished(self) -> dict[str, Any]:
        """What was said about the save."""
        return self._event("reload.finished")

    def _event(self, name: str) -> dict[str, Any]:
        while True:
            line = self._said.get(timeout=PATIENCE)
            event: dict[str, Any] = json.loads(line) if line.startswith("{") else {}
            if event.get("event") == name:
                return event

    def close(self) -> None:
        os.killpg(self._process.pid, signal.SIGTERM)
        self._process.wait(PATIENCE)


@contextmanager
def started(block: str, directory: Path) -> Iterator[Session]:
    session = Session(block, directory)
    try:
        yield session
    finally:
        session.close()


@pytest.fixture
def empty(tmp_path: Path) -> Path:
    directory = tmp_path / "empty"
    directory.mkdir()
    return directory


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert text.count(old) == 1, (old, text)
    path.write_text(text.replace(old, new))


def section(page: str, heading: str) -> str:
    text = (ROOT / page).read_text()
    return text.split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]


def blocks(text: str) -> list[str]:
    """What is indented by four: the commands."""
    return [
        textwrap.dedent(block).strip() for block in re.findall(r"(?:^    .*\n(?:\n(?=    ))?)+", text, re.MULTILINE)
    ]


def test_the_readme_as_it_stands(empty: Path) -> None:
    text = section("README.md", "Try it")
    (block,) = blocks(text)
    (written,) = re.findall(r"write `(.+?)` and save", text)
    with started(block, empty) as session:
        assert [session.next_line() for _ in range(2)] == ["0.0", "0.5"]
        session.watched()
        edit(empty / "kernels.c", "sum / ++count", written)
        assert session.finished()["outcome"] == "live"
        assert session.mean_until(100) > 0


def test_the_tutorial_as_it_stands(empty: Path) -> None:
    text = section("docs/tutorial.md", "A C function behind a stub")
    for name, language in (("kernels.c", "c"), ("app.py", "python")):
        (content,) = re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)
        (empty / name).write_text(content)
    run, change, _sample = blocks(re.sub(r"```.*?```", "", text, flags=re.DOTALL))
    source = empty / "kernels.c"
    original = source.read_text()
    with started(run, empty) as session:
        session.watched()
        subprocess.run(change, shell=True, cwd=empty, check=True)
        told = session.finished()
        assert (told["outcome"], told["functions"], told["generation"]) == ("live", ["smooth"], 1)
        assert session.mean_until(100) > 0

        # "What else a save can be", in its order.
        edit(source, "++count;", "++count")
        assert session.finished()["outcome"] == "build_failed"
        edit(source, "++count", "++count;")
        assert session.finished()["outcome"] == "nothing"
        edit(source, "static long count", "static double count")
        told = session.finished()
        assert told["outcome"] == "refused"
        assert "variable-type" in json.dumps(told)
        source.write_text(original)
        assert session.finished()["outcome"] == "base"
        assert session.mean_until(1) > 0
