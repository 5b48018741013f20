"""What the first processes are put through: they hold the new code for a while, and a health command may speak.

::

    on trial ─▶ hold, looking after them ─▶ health command ─▶ "" (go on)
                   │ one is gone                │ not 0, or too slow
                   └────────────────────────────┴─▶ why not

A canary that is not there any more counts as one that the new code has ended, whatever it ended of.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from hotreload.errors import HotReloadError
from hotreload.push.coordinator import Worker

__all__ = ["Canary"]

_LOOK_EVERY = 0.1
_SAID = 300


@dataclass(frozen=True)
class Canary:
    """``count`` processes for ``hold`` seconds, then ``health``, an argument list that must exit with 0 in time."""

    count: int
    hold: float = 30.0
    health: tuple[str, ...] = ()
    health_seconds: float = 30.0
    tell: Callable[[str], None] = print

    @classmethod
    def of_command(cls, count: int, hold: float, health: str, tell: Callable[[str], None]) -> Canary:
        """With the health command as a person types it; it is split like a shell would, and no shell runs it.

        Raises:
            HotReloadError: the command cannot be split. Nothing was started.
        """
        try:
            words = tuple(shlex.split(health))
        except ValueError as error:
            raise HotReloadError(
                f"the health command {health!r} cannot be read: {error}", hint="check its quotes"
            ) from None
        return cls(count, hold, words, tell=tell)

    @property
    def seconds(self) -> float:
        """The longest that a trial can take."""
        return self.hold + (self.health_seconds if self.health else 0.0)

    def judge(self, push: str, canaries: Sequence[Worker]) -> str:
        """Why they must go back, empty when they may go on."""
        pids = ", ".join(str(worker.identity.pid) for worker in canaries)
        self.tell(f"on trial for {self.hold:g} s: {pids}")
        ends = time.monotonic() + self.hold
        while True:
            gone = [worker.identity.pid for worker in canaries if not worker.is_alive()]
            if gone:
                return f"the canary ended while it was on trial: {', '.join(map(str, gone))}"
            left = ends - time.monotonic()
            if left <= 0:
                break
            time.sleep(min(_LOOK_EVERY, left))
        return self._ask_health(push, canaries) if self.health else ""

    def _ask_health(self, push: str, canaries: Sequence[Worker]) -> str:
        environment = {
            **os.environ,
            "HOTRELOAD_PUSH": push,
            "HOTRELOAD_CANARIES": " ".join(str(worker.identity.pid) for worker in canaries),
        }
        name = shlex.join(self.health)
        self.tell(f"asking {name}")
        try:
            done = subprocess.run(
                self.health,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env=environment,
                timeout=self.health_seconds,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return f"the health command {name} did not end within {self.health_seconds:g} s"
        except OSError as error:
            return f"the health command {name} cannot be run: {error.strerror}"
        if done.returncode:
            said = done.stdout.decode("utf-8", "replace").strip()[-_SAID:]
            return f"the health command {name} exited with {done.returncode}" + (f": {said}" if said else "")
        return ""
