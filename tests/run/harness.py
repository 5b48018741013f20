"""A tiny hot extension, and real programs under ``hotreload run`` that tell all they know when a test fails."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import sysconfig
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

ROOT = Path(__file__).resolve().parent.parent.parent
PATIENCE = 20.0

SOURCE = """\
#include <Python.h>
#include "shade.h"

static long calls;

static long twice(long x) { return 2 * x; }

static PyObject *value(PyObject *self, PyObject *args)
{
    calls++;
    return PyLong_FromLong(shade(1));
}

static PyObject *count(PyObject *self, PyObject *args)
{
    return PyLong_FromLong(calls + 0 * twice(calls));
}

static PyMethodDef methods[] = {
    {"value", value, METH_NOARGS, 0},
    {"count", count, METH_NOARGS, 0},
    {0},
};
static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "NAME", 0, -1, methods};
PyMODINIT_FUNC PyInit_NAME(void) { return PyModule_Create(&module); }
"""
HEADER = "static inline long shade(long x) { return x + 1; }\n"


@dataclass(frozen=True)
class Extension:
    """One built hot extension: its directory holds ``NAME.c``, ``shade.h`` and the library."""

    name: str
    directory: Path

    @property
    def source(self) -> Path:
        return self.directory / f"{self.name}.c"

    @property
    def header(self) -> Path:
        return self.directory / "shade.h"

    def shade(self, expression: str) -> str:
        """The header's text with another body."""
        return HEADER.replace("x + 1", expression)


def environment(directory: Path, **more: str) -> dict[str, str]:
    """What programs of a test run in: the checkout, a store of the test's own, and JSON lines.

    Whole lines, too: with PYTHONUNBUFFERED a ``print`` of several words is as many writes, and processes that share a
    pipe write into each other's lines.
    """
    left_out = ("HOTRELOAD_", "PYTHONUNBUFFERED")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(left_out)}
    runtime = directory / "runtime"
    runtime.mkdir(exist_ok=True)
    return {
        **kept,
        "PYTHONPATH": str(ROOT),
        "HOTRELOAD_STORE": str(directory / "store"),
        "HOTRELOAD_LOG_FORMAT": "json",
        "XDG_RUNTIME_DIR": str(runtime),
        **more,
    }


def build(directory: Path, name: str = "tiny", source: str = "") -> Extension:
    """Builds the extension with ``hotreload cc``, from ``source`` if there is one."""
    sources = directory / "ext"
    sources.mkdir(exist_ok=True)
    extension = Extension(name, sources)
    extension.source.write_text((source or SOURCE).replace("NAME", name))
    extension.header.write_text(HEADER)
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    wrapper = [sys.executable, "-m", "hotreload", "cc", os.environ.get("CC", "gcc")]
    for arguments in (
        ["-O2", "-g", "-fPIC", f"-I{sysconfig.get_paths()['include']}", "-c", f"{name}.c", "-o", f"{name}.o"],
        ["-shared", f"{name}.o", "-o", f"{name}{suffix}"],
    ):
        subprocess.run([*wrapper, *arguments], cwd=sources, env=environment(directory), check=True)
    return extension


class Program:
    """A child process whose stdout and stderr are read as they come; waits are for what it says, not for time."""

    def __init__(self, arguments: Sequence[str], *, directory: Path, python: str = sys.executable, **more: str) -> None:
        self.directory = directory
        self._changed = threading.Condition()
        self.stdout: list[str] = []
        self.stderr: list[str] = []
        self.process = subprocess.Popen(
            [python, *arguments],
            cwd=directory,
            env=environment(directory, **more),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self._readers = [
            threading.Thread(target=self._read, args=pair, daemon=True)
            for pair in ((self.process.stdout, self.stdout), (self.process.stderr, self.stderr))
        ]
        for reader in self._readers:
            reader.start()

    def _read(self, stream: Any, lines: list[str]) -> None:
        for line in stream:
            with self._changed:
                lines.append(line.rstrip("\n"))
                self._changed.notify_all()

    @property
    def events(self) -> list[dict[str, Any]]:
        """The helper's lines; another process may have begun the line, or written a second one behind it."""
        return [event for line in list(self.stderr) for event in events_in(line)]

    def reloads(self) -> list[dict[str, Any]]:
        return [event for event in self.events if event["event"] == "reload.finished"]

    def wait_for(self, condition: Callable[[], Any], what: str) -> Any:
        deadline = time.monotonic() + PATIENCE
        with self._changed:
            while not (found := condition()):
                rest = deadline - time.monotonic()
                if rest <= 0 or (self.process.poll() is not None and not self._changed.wait(1.0)):
                    raise AssertionError(f"{what}\n{self.describe()}")
                self._changed.wait(min(rest, 0.5))
        return found

    def wait_line(self, text: str, *, after: int = 0) -> str:
        """Waits until the program prints a line with ``text``, behind the first ``after`` lines."""
        found = self.wait_for(lambda: [line for line in self.stdout[after:] if text in line], f"no line {text!r}")
        return str(found[0])

    def wait_event(self, event: str, **fields: Any) -> dict[str, Any]:
        """Waits until the helper logs ``event`` with these fields."""

        def matching() -> list[dict[str, Any]]:
            return [
                line
                for line in self.events
                if line["event"] == event and all(line.get(name) == value for name, value in fields.items())
            ]

        found: dict[str, Any] = self.wait_for(matching, f"no event {event} {fields}")[0]
        return found

    def wait_reloads(self, count: int) -> dict[str, Any]:
        """Waits for the ``count``-th reload and returns it."""
        found: dict[str, Any] = self.wait_for(
            lambda: self.reloads()[count - 1] if len(self.reloads()) >= count else None, f"no reload number {count}"
        )
        return found

    def end(self, number: int = signal.SIGTERM) -> int:
        """Sends a signal and waits until the program and its helper are gone (both hold stderr)."""
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(number)
        return self.wait()

    def wait(self) -> int:
        """Waits for the program's own end, and for the helper's."""
        try:
            status = self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"it does not end\n{self.describe()}") from None
        for reader in self._readers:
            reader.join(PATIENCE)
            assert not reader.is_alive(), f"somebody holds its output open\n{self.describe()}"
        return status

    def describe(self) -> str:
        """All that is known, for a failure."""
        maps = ""
        with contextlib.suppress(OSError):
            maps = "".join(
                line
                for line in Path(f"/proc/{self.process.pid}/maps").read_text().splitlines(keepends=True)
                if "hotreload" in line or "tiny" in line
            )
        return "\n".join(
            [
                f"exit code: {self.process.poll()}",
                "stdout:",
                *self.stdout[-40:],
                "stderr:",
                *self.stderr[-40:],
                "maps:",
                maps,
            ]
        )

    def __enter__(self) -> Program:  # noqa: PYI034
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        for reader in self._readers:
            reader.join(PATIENCE)
        for stream in (self.process.stdout, self.process.stderr):
            if stream is not None:
                stream.close()


Start = Callable[..., Program]


def helper_pids(directory: Path) -> list[int]:
    """The helper processes that belong to a test's directory."""
    pids = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                command = (entry / "cmdline").read_bytes()
                if b"hotreload.watch.start" in command and str(directory).encode() in command:
                    pids.append(int(entry.name))
    return pids


def leftovers(directory: Path) -> list[Path]:
    """What is left in the runtime directory of a test; nothing, once the program is gone."""
    return list((directory / "runtime").iterdir())


def events_in(line: str) -> list[dict[str, Any]]:
    """The JSON objects in a line of stderr, which the helper shares with the program."""
    found, start = [], line.find('{"')
    while start >= 0:
        try:
            event, end = json.JSONDecoder().raw_decode(line, start)
        except ValueError:
            end = start + 1
        else:
            found += [event] if "event" in event else []
        start = line.find('{"', end)
    return found
