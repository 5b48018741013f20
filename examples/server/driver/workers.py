"""The servers that are pushed to: gunicorn with several workers and their agents, and `hotreload` beside them."""

from __future__ import annotations

import http.client
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from pathlib import Path
from typing import Any, Callable, NamedTuple

from driver.server import ServerError

__all__ = ["Command", "Workers"]

_HERE = Path(__file__).parent.parent
_CONFIG = "gunicorn.push.conf.py"
_LISTENING = re.compile(r"Listening at: http://([\d.]+):(\d+)")
_LOG_LINES = 400
_ATTEMPTS = 200


class Command(NamedTuple):
    """One `hotreload` command that has ended."""

    words: str
    code: int
    out: str
    err: str
    seconds: float

    @property
    def said(self) -> dict[str, Any]:
        """What it said with ``--json``; nothing when it said none."""
        try:
            return dict(json.loads(self.out))
        except ValueError:
            return {}


class Workers:
    """gunicorn in `directory` on a free port of the loopback interface, with a state directory of its own."""

    def __init__(self, directory: Path, workers: int, threads: int) -> None:
        self.address = ("", 0)
        self.count = workers
        self._directory = directory
        self._state = tempfile.mkdtemp(prefix="hotreload-state-")
        self._log: deque[str] = deque(maxlen=_LOG_LINES)
        self._environment = {**os.environ, "HOTRELOAD_STATE": self._state, "HOTRELOAD_APP": "example"}
        shutil.copy2(_HERE / _CONFIG, directory / _CONFIG)
        command = [sys.executable, "-m", "gunicorn", "--config", _CONFIG, "--bind", "127.0.0.1:0"]
        command += ["--workers", str(workers), "--threads", str(threads), "app:app"]
        self._process = subprocess.Popen(
            command,
            cwd=directory,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._reader = threading.Thread(target=self._read_log, name="log", daemon=True)
        self._reader.start()

    def wait_until_ready(self, timeout: float) -> None:
        """Waits until every worker serves and has its agent."""
        self.wait_for(lambda: bool(self.address[1]), timeout, "the server does not listen")
        self.wait_for(lambda: len(self.live()) == self.count, timeout, "not every worker has an agent")

    def wait_for(self, condition: Callable[[], bool], timeout: float, otherwise: str) -> None:
        """Waits until `condition` holds. Raises ServerError when it does not in time, or the server ends."""
        ends = time.monotonic() + timeout
        while not condition():
            if self._process.poll() is not None:
                raise ServerError(f"the server ended with {self._process.returncode}")
            if time.monotonic() > ends:
                raise ServerError(otherwise)
            time.sleep(0.05)

    def hotreload(self, *arguments: object) -> Command:
        """A `hotreload` command as an operator types it, beside the server."""
        words = [str(argument) for argument in arguments]
        began = time.monotonic()
        done = subprocess.run(
            [sys.executable, "-m", "hotreload", *words],
            cwd=self._directory,
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=60,
        )
        shown = " ".join(word for word in words if word != "--json")
        return Command(f"hotreload {shown}", done.returncode, done.stdout, done.stderr, time.monotonic() - began)

    def live(self) -> dict[int, str]:
        """For each worker the patch that `hotreload status` says is live: its hash, or nothing for the base."""
        live = {}
        for process in self.hotreload("status", "--json").said.get("processes", ()):
            for module in process.get("modules", ()):
                if module["name"] == "render":
                    made = (one for one in module["generations"] if one["number"] == module["generation"])
                    live[int(process["pid"])] = str(next(made)["info"].get("sha256", ""))
        return live

    def stamp(self) -> str:
        """The signature of the code that one of the workers draws with now."""
        return str(self._state_of_one()["stamp"])

    def stamp_of(self, pid: int) -> str:
        """The same of one worker: asked until it is the one that answers. Empty when it never is."""
        for _attempt in range(_ATTEMPTS):
            state = self._state_of_one()
            if state["pid"] == pid:
                return str(state["stamp"])
        return ""

    def _state_of_one(self) -> dict[str, Any]:
        connection = http.client.HTTPConnection(*self.address, timeout=10)
        try:
            connection.request("GET", "/state")
            return dict(json.loads(connection.getresponse().read()))
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise ServerError(f"/state: {error}") from error
        finally:
            connection.close()

    def stop(self) -> bool:
        """Ends the server as its supervisor would; whether everything that it had started left with it."""
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(15)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._reader.join(10)
        shutil.rmtree(self._state, ignore_errors=True)
        return not self._reader.is_alive()

    def log_tail(self, lines: int = 40) -> str:
        """The end of what the server has written."""
        return "\n".join(list(self._log)[-lines:])

    def _read_log(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._log.append(line.rstrip("\n"))
            listening = _LISTENING.search(line)
            if listening:
                self.address = (listening[1], int(listening[2]))
