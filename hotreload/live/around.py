"""Callbacks of the program around a swap: what ``@hotpatchable(before_swap=..., after_swap=...)`` asked for.

::

    commit     before, in the order in which they were added ─▶ swap ─▶ after, in the same order
                 └─ one raises: VETO, nothing was changed, and those that were called are told that it was refused
    rollback   the same, with ``entered`` the earlier generation

Both kinds of code come through here: C functions are told by the addresses of their entries, Python functions by
their qualified names. The callbacks run on the thread that commits, with the manager's lock held: they may ask
anything and must not commit.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from hotreload.errors import HotReloadError, StageError

__all__ = ["Around", "Listener", "Swap"]


@dataclass(frozen=True)
class Swap:
    """One change of what is live: of ``module`` at ``path``, from generation ``left`` to ``entered``.

    ``functions`` are the names that another definition gets: C symbols, or qualified names in Python. ``entries`` are
    the addresses of the C entries among them; empty for Python.
    """

    module: str
    path: str
    left: int
    entered: int
    functions: tuple[str, ...]
    entries: frozenset[int] = frozenset()


class Listener(Protocol):
    """Who is asked and told; each picks the swaps that concern it."""

    def before(self, swap: Swap) -> None: ...
    def after(self, swap: Swap) -> None: ...
    def refused(self, swap: Swap, error: HotReloadError) -> None: ...
    def level_of(self, swap: Swap) -> str: ...


class Around:
    """All listeners of a process."""

    def __init__(self) -> None:
        self._listeners: dict[object, Listener] = {}

    def add(self, listener: Listener) -> Callable[[], None]:
        """Has ``listener`` called from now on. Returns what ends it; calling that twice does nothing."""
        key = object()
        self._listeners[key] = listener

        def remove() -> None:
            self._listeners.pop(key, None)

        return remove

    def before(self, swap: Swap) -> None:
        """Asks everybody.

        Raises:
            StageError: VETO, with what the callback raised as its cause; nothing was redirected.
        """
        asked: list[Listener] = []
        for listener in list(self._listeners.values()):
            asked.append(listener)
            try:
                listener.before(swap)
            except Exception as error:  # whatever a callback raises is its "no"
                refusal = StageError(
                    f"{swap.module}: before_swap refuses the change: {type(error).__name__}: {error}",
                    hint="nothing was redirected; the change can be tried again",
                    status="VETO",
                    detail=str(error),
                )
                self.refused(swap, refusal, asked)
                raise refusal from error

    def after(self, swap: Swap) -> None:
        """Tells everybody; what a callback raises is shown and undoes nothing."""
        for listener in list(self._listeners.values()):
            try:
                listener.after(swap)
            except Exception:  # noqa: BLE001 - it is live all the same
                sys.excepthook(*sys.exc_info())

    def refused(self, swap: Swap, error: HotReloadError, whom: list[Listener] | None = None) -> None:
        """Tells everybody, or those that were asked, that it did not happen."""
        for listener in list(self._listeners.values()) if whom is None else whom:
            try:
                listener.refused(swap, error)
            except Exception:  # noqa: BLE001 - the refusal is what the caller needs to hear
                sys.excepthook(*sys.exc_info())

    def level_of(self, swap: Swap) -> str:
        """The least level that somebody insists on, as for a group; empty where nobody does."""
        levels = [listener.level_of(swap) for listener in list(self._listeners.values())]
        return next((level for level in ("request", "call", "function") if level in levels), "")
