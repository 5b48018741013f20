"""What takes longer than half a second says what it does: one moving line on a terminal, nothing in a pipe."""

from __future__ import annotations

import os
import sys
import threading
from types import TracebackType
from typing import Any

from hotreload.panels import wants_panels

__all__ = ["PATIENCE", "Progress"]

#: What is over sooner needs no words.
PATIENCE = 0.5


class Progress:
    """``with Progress("asking 4 processes") as progress:``; the line is gone when the block ends.

    rich is imported by the timer's thread, so that what is quick does not wait for it.
    """

    def __init__(self, text: str = "") -> None:
        self._text = text
        self._lock = threading.Lock()
        self._is_over = False
        self._status: Any = None
        self._timer: threading.Timer | None = None

    def say(self, text: str) -> None:
        """What is being done now."""
        with self._lock:
            self._text = text
            if self._status is not None:
                self._status.update(_safe(text))

    def compiling(self, source: str, number: int, count: int) -> None:
        """A unit is compiled now; a ``Progress`` of the workshop."""
        self.say(f"compiling {os.path.basename(source)}" + (f", {number} of {count}" if count > 1 else ""))

    def __enter__(self) -> Progress:  # noqa: PYI034 - Self is not in typing before 3.11
        if wants_panels(sys.stderr):
            self._timer = threading.Timer(PATIENCE, self._show)
            self._timer.daemon = True
            self._timer.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._timer is not None:
            self._timer.cancel()
        with self._lock:
            self._is_over = True
            if self._status is not None:
                self._status.stop()

    def _show(self) -> None:
        from rich.console import Console

        with self._lock:
            if not self._is_over:
                self._status = Console(stderr=True).status(_safe(self._text))
                self._status.start()


def _safe(text: str) -> Any:
    from rich.text import Text

    from hotreload.artefact import printable

    return Text(printable(text))
