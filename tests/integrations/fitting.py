"""One hot extension for all frameworks of a run, and a server that each of them serves the same answer from."""

from __future__ import annotations

import contextlib
import json
import os
import urllib.request
from collections.abc import Callable
from http.client import HTTPException
from pathlib import Path
from typing import Any

from tests.run.harness import Extension, Program

#: What every framework serves: the answer of the C function, how often it was called, and who answers.
ANSWER = """\
import json, os, sys
sys.path.insert(0, {ext!r})
import tiny
from hotreload.run.reloaders import name_of_reloader

VERSION = 1
FIRST = tiny.value()
with open("imported.txt", "a") as file:
    file.write(name_of_reloader() + "\\n")

def answer():
    return json.dumps({{
        "value": tiny.value(), "count": tiny.count(), "first": FIRST, "version": VERSION,
        "pid": os.getpid(), "reloader": name_of_reloader(),
    }})
"""


class Server:
    """A program that answers on a port; waits are for what it answers."""

    def __init__(self, program: Program, port: int) -> None:
        self.program, self.port = program, port

    def ask(self) -> dict[str, Any] | None:
        """Its answer; None while nobody listens."""
        with contextlib.suppress(OSError, HTTPException, ValueError):
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/", timeout=10) as response:
                answer: dict[str, Any] = json.loads(response.read())
                return answer
        return None

    def wait(self, condition: Callable[[dict[str, Any]], bool], what: str) -> dict[str, Any]:
        """The first answer of which ``condition`` holds."""

        def matching() -> dict[str, Any] | None:
            answer = self.ask()
            return answer if answer is not None and condition(answer) else None

        found: dict[str, Any] = self.program.wait_for(matching, what)
        return found


def write_answer(directory: Path, extension: Extension, name: str = "answers.py") -> Path:
    """The module that every framework's program imports."""
    path = directory / name
    path.write_text(ANSWER.format(ext=str(extension.directory)))
    return path


def save(path: Path, old: str, new: str) -> None:
    """Saves a file as an editor does; some reloaders compare whole seconds, so its time moves on by at least one."""
    text, before = path.read_text(), path.stat().st_mtime
    assert old in text
    path.write_text(text.replace(old, new))
    os.utime(path, (max(before + 1, path.stat().st_mtime),) * 2)
