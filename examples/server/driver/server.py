"""The server under test: a copy of the example, built hot, started under ``hotreload run``, and listened to."""

from __future__ import annotations

import http.client
import json
import re
import shutil
import subprocess
import sys
import threading
import time
from collections import deque
from pathlib import Path
from typing import Any, Callable, Mapping, Optional

__all__ = ["Server", "ServerError", "build", "copy_project"]

Event = Mapping[str, Any]

_HERE = Path(__file__).parent.parent
_PROJECT = ("app.py", "generations.py", "gunicorn.conf.py", "page.html", "png.py", "pyproject.toml", "render.c",
            "render.pyi", "setup.py", "swaplog.py")  # fmt: skip
_LISTENING = re.compile(r"Listening at: http://([\d.]+):(\d+)")
_LOG_LINES = 400


class ServerError(Exception):
    """The server could not be built or started, or it ended; the message says which, the log why."""


def copy_project(directory: Path) -> Path:
    """A copy of the example's own files in `directory`: the demo edits that one, never yours."""
    directory.mkdir(parents=True, exist_ok=True)
    for name in _PROJECT:
        shutil.copy2(_HERE / name, directory / name)
    return directory


def build(directory: Path) -> float:
    """``hotreload build`` in `directory`; how long it took, in seconds."""
    began = time.monotonic()
    command = [*_HOTRELOAD, "build"]
    done = subprocess.run(command, cwd=directory, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        raise ServerError(f"`hotreload build` failed with {done.returncode}:\n{done.stdout}")
    return time.monotonic() - began


class Server:
    """gunicorn under ``hotreload run``, in `directory`, on a free port of the loopback interface.

    What happens in it is told twice: the helper process writes JSON lines to the log, and the application streams
    what it is told itself to ``/events``. Both are read here as they come.
    """

    def __init__(self, directory: Path, threads: int) -> None:
        self.address = ("", 0)
        self.events: list[Event] = []
        self.logged: list[Event] = []
        self._log: deque[str] = deque(maxlen=_LOG_LINES)
        self._changed = threading.Condition()
        self._stopping = False
        gunicorn = Path(sys.executable).with_name("gunicorn")
        command = [*_HOTRELOAD, "run", "--log-format", "json", "--"]
        command += [str(gunicorn) if gunicorn.exists() else "gunicorn", "--config", "gunicorn.conf.py"]
        command += ["--bind", "127.0.0.1:0", "--threads", str(threads), "app:app"]
        self._process = subprocess.Popen(
            command,
            cwd=directory,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._log_reader = threading.Thread(target=self._read_log, name="log", daemon=True)
        self._log_reader.start()

    def wait_until_ready(self, timeout: float) -> None:
        """Waits until it listens, its extension is known to the helper process, and its events can be heard."""
        deadline = time.monotonic() + timeout
        self._wait(lambda: bool(self.address[1]), deadline, "the server does not listen")
        self.state(timeout)
        self._wait(lambda: self._has_logged("extension.found"), deadline, "hotreload has not found the extension")
        threading.Thread(target=self._read_events, name="events", daemon=True).start()

    def wait_for_event(self, matches: Callable[[Event], bool], since: int, timeout: float) -> Event:
        """The first event at or after position `since` that matches.

        Raises:
            ServerError: it did not come in time, or the server ended.
        """
        self._wait(
            lambda: any(map(matches, self.events[since:])),
            time.monotonic() + timeout,
            f"no such event within {timeout:.0f} s",
        )
        return next(filter(matches, self.events[since:]))

    def state(self, timeout: float = 10) -> dict[str, Any]:
        """What ``/state`` says."""
        connection = http.client.HTTPConnection(*self.address, timeout=timeout)
        try:
            connection.request("GET", "/state")
            answer = connection.getresponse()
            body = answer.read()
        except OSError as error:
            raise ServerError(f"/state: {error}") from error
        finally:
            connection.close()
        if answer.status != 200:
            raise ServerError(f"/state: {answer.status} {answer.reason}")
        return dict(json.loads(body))

    def stop(self) -> bool:
        """Ends the server as its supervisor would; whether everything that it had started left with it.

        The log is a pipe that all of them inherit: it ends when the last of them, the helper process too, is gone.
        """
        self._stopping = True
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(15)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._log_reader.join(10)
        return not self._log_reader.is_alive()

    def log_tail(self, lines: int = 40) -> str:
        """The end of what the server and the helper process have written."""
        with self._changed:
            return "\n".join(list(self._log)[-lines:])

    def _wait(self, condition: Callable[[], bool], deadline: float, otherwise: str) -> None:
        with self._changed:
            while not condition():
                if self._process.poll() is not None:
                    raise ServerError(f"the server ended with {self._process.returncode}")
                if not self._changed.wait(max(0.0, deadline - time.monotonic())) and not condition():
                    raise ServerError(otherwise)

    def _has_logged(self, name: str) -> bool:
        return any(event.get("event") == name for event in self.logged)

    def _read_log(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            listening = _LISTENING.search(line)
            event = _parse(line)
            with self._changed:
                self._log.append(line.rstrip("\n"))
                if listening:
                    self.address = (listening[1], int(listening[2]))
                if event is not None:
                    self.logged.append(event)
                self._changed.notify_all()
        self._process.wait()
        with self._changed:
            self._changed.notify_all()

    def _read_events(self) -> None:
        """Reads /events; a stream ends after a minute and is opened again from where it was."""
        last_id = ""
        while not self._stopping:
            connection = http.client.HTTPConnection(*self.address, timeout=30)
            try:
                connection.request("GET", "/events", headers={"Last-Event-ID": last_id})
                answer = connection.getresponse()
                while line := answer.readline():
                    if line.startswith(b"data: "):
                        event = json.loads(line[6:])
                        last_id = event["id"]
                        with self._changed:
                            self.events.append(event)
                            self._changed.notify_all()
            except (OSError, http.client.HTTPException):
                time.sleep(0.1)
            finally:
                connection.close()


def _parse(line: str) -> Optional[Event]:
    if not line.startswith("{"):
        return None
    try:
        event = json.loads(line)
    except ValueError:
        return None
    return event if isinstance(event, dict) else None


_HOTRELOAD = (sys.executable, "-m", "hotreload")
