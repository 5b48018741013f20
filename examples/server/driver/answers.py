"""What the load was answered: one record for each request, collected while they come in."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Callable, NamedTuple, Optional

__all__ = ["Answer", "Load", "LoadError"]

_HERE = Path(__file__).parent.parent


class Answer(NamedTuple):
    """One request and its answer; times are of the monotonic clock, which all processes of a machine share."""

    connection: int
    started_ns: int
    ended_ns: int
    status: int
    stamp: str
    ticket: int
    thread: int
    by_thread: int
    cache: str
    whole: bool
    pid: int
    error: str

    @property
    def failed(self) -> bool:
        """Anything but a tile: another status, or a connection that broke."""
        return self.status != 200 or bool(self.error)


class LoadError(Exception):
    """The load's process ended although nobody told it to."""


class Load:
    """The load's process, and all answers so far."""

    def __init__(self, address: tuple[str, int], connections: int, rate: float) -> None:
        self.answers: list[Answer] = []
        self.failed = 0
        self._arrived = threading.Condition()
        self._ended = False
        command = [sys.executable, "-m", "driver.load", address[0], str(address[1]), str(connections), str(rate)]
        self._process = subprocess.Popen(command, cwd=_HERE, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self._reader = threading.Thread(target=self._read, name="load", daemon=True)
        self._reader.start()

    def wait_for(self, condition: Callable[[], bool], timeout: float) -> bool:
        """Waits until `condition` holds, asked again after each answer; whether it did in time.

        Raises:
            LoadError: no more answers will come.
        """
        deadline = time.monotonic() + timeout
        with self._arrived:
            while not condition():
                if self._ended:
                    raise LoadError(f"the load's process ended with {self._process.wait()}")
                if not self._arrived.wait(max(0.0, deadline - time.monotonic())):
                    return condition()
        return True

    def wait_for_more(self, count: int, timeout: float, matching: Optional[Callable[[Answer], bool]] = None) -> bool:
        """Waits for `count` further answers (that match); whether they came in time."""
        read = len(self.answers)
        found = 0

        def enough() -> bool:
            nonlocal read, found
            fresh = self.answers[read:]
            read += len(fresh)
            found += len(fresh) if matching is None else sum(map(matching, fresh))
            return found >= count

        return self.wait_for(enough, timeout)

    def stop(self) -> None:
        """Lets open requests be answered, then ends the process."""
        if self._process.stdin is not None and not self._process.stdin.closed:
            self._process.stdin.close()
        try:
            self._process.wait(15)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join(5)

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            answer = Answer(*json.loads(line))
            with self._arrived:
                self.answers.append(answer)
                self.failed += answer.failed
                self._arrived.notify_all()
        with self._arrived:
            self._ended = True
            self._arrived.notify_all()
