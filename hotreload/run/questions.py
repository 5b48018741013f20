"""Threads that wait until the helper has answered for what they have loaded.

::

    import ─▶ ask ── wake ──▶ link ── loaded, ask 3 ──▶ helper ── attach, patch, answer 3 ──▶ link ─▶ import goes on

The helper answers behind whatever it has to send, and the link does one thing after the other: when the answer
comes, the newest patch is live. The wait is without the GIL and bounded, since the thread that waits may hold what the
link needs (an import's lock, for a callback of the program's that imports).
"""

from __future__ import annotations

import itertools
from _thread import LockType, allocate_lock

__all__ = ["Questions"]

_PATIENCE = 2.0


class Questions:
    """What was asked and is not answered yet, by number; used by any thread."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)
        self._waiting: dict[int, LockType] = {}
        self._is_silent = False

    def ask(self) -> int:
        """A new question; it is to be sent, then waited for."""
        number = next(self._numbers)
        lock = allocate_lock()
        lock.acquire()
        self._waiting[number] = lock
        return number

    @property
    def newest(self) -> int:
        """The last question that still waits; 0 when none does."""
        return max(list(self._waiting), default=0)

    def wait(self, number: int) -> None:
        """Waits for the answer. A helper that has once kept a thread waiting is not waited for until it answers."""
        lock = self._waiting.get(number)
        if lock is not None and not self._is_silent and not lock.acquire(timeout=_PATIENCE):
            self._is_silent = True
        self._waiting.pop(number, None)

    def answered(self, number: int) -> None:
        """Everything up to this question is answered."""
        self._is_silent = False
        self._release([each for each in list(self._waiting) if each <= number])

    def give_up(self) -> None:
        """No answer will come."""
        self._release(list(self._waiting))

    def _release(self, numbers: list[int]) -> None:
        for number in numbers:
            lock = self._waiting.pop(number, None)
            if lock is not None:
                lock.release()
