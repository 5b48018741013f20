"""Callbacks of the program around a swap: what ``@hotpatchable(before_swap=..., after_swap=...)`` asked for.

::

    commit     before, in the order in which they were added ─▶ swap ─▶ after, in the same order
                 └─ one raises: VETO, nothing was changed, and those that were called are told that it was refused
    rollback   the same, with ``entered`` the earlier generation; so is a transition that turns round
    refused    by this process at any step, by a guard or by the compiler: those whom it concerns

Both kinds of code come through here: C functions are told by the addresses of their entries, Python functions by
their qualified names. The callbacks run on the thread that commits, with the manager's lock held: they may ask
anything and must not commit.
"""

from __future__ import annotations

import sys
import traceback
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from hotreload.errors import BuildError, HotReloadError, IncompatibleError, StageError
from hotreload.events import RELOAD_FINISHED

__all__ = ["Around", "Listener", "Swap", "show_error", "shown"]


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


def show_error() -> None:
    """Shows what a callback has raised as the program shows its errors, by a hook that may be its own and may fail."""
    try:
        sys.excepthook(*sys.exc_info())
    except BaseException:  # noqa: BLE001 - it is live, or refused, all the same
        traceback.print_exc()


@contextmanager
def shown() -> Iterator[None]:
    """What a callback raises in here is shown and goes no further, but for the user's own interrupt."""
    try:
        yield
    except KeyboardInterrupt:
        raise
    except BaseException:  # noqa: BLE001 - it changes nothing, and the others are to hear of it
        show_error()


class Around:
    """All listeners of a process."""

    def __init__(self) -> None:
        self._listeners: dict[object, Listener] = {}
        self._told: Callable[[], HotReloadError | None] = lambda: None
        self._asked: dict[str, Swap] = {}

    def add(self, listener: Listener) -> Callable[[], None]:
        """Has ``listener`` called from now on. Returns what ends it; calling that twice does nothing."""
        key = object()
        self._listeners[key] = listener

        def remove() -> None:
            self._listeners.pop(key, None)

        return remove

    def before(self, swap: Swap, *, may_veto: bool = True) -> None:
        """Asks everybody.

        Args:
            swap: what is about to happen.
            may_veto: without it a refusal is shown and does not hold, as where others rely on what was promised.

        Raises:
            StageError: VETO, with what the callback raised as its cause; nothing was redirected.
        """
        asked: list[Listener] = []
        for listener in list(self._listeners.values()):
            asked.append(listener)
            try:
                listener.before(swap)
            except KeyboardInterrupt:
                raise
            except BaseException as error:  # whatever a callback raises is its "no"; sys.exit() ends no thread of ours
                if not may_veto:
                    show_error()
                    continue
                refusal = StageError(
                    f"{swap.module}: before_swap refuses the change: {type(error).__name__}: {error}",
                    hint="nothing was redirected; the change can be tried again",
                    status="VETO",
                    detail=str(error),
                )
                self.refused(swap, refusal, asked)
                raise refusal from error
        self._asked[swap.path] = swap

    def after(self, swap: Swap) -> None:
        """Tells everybody; what a callback raises is shown and undoes nothing."""
        self._asked.pop(swap.path, None)
        for listener in list(self._listeners.values()):
            with shown():
                listener.after(swap)

    def refused(self, swap: Swap, error: HotReloadError, whom: list[Listener] | None = None) -> None:
        """Tells everybody, or those that were asked, that it did not happen; of one error once, whoever passes it.

        Who was asked before hears of the refusal, too, although his function was only to go back with the others.
        """
        if self._told() is error:
            return
        self._told = weakref.ref(error)
        asked = self._asked.get(swap.path)
        if asked is not None and asked.entered == swap.entered:
            swap = self._asked.pop(swap.path)
        for listener in list(self._listeners.values()) if whom is None else whom:
            with shown():
                listener.refused(swap, error)

    def hear(self, event: Mapping[str, Any], modules: Iterable[Any]) -> None:
        """Tells of what was refused before it came here: a save that does not compile, or that the guards refuse.

        ``event`` is what the helper process says of each save, ``modules`` are the manager's. What a process has
        refused it has told its own listeners already.
        """
        kind = {"build_failed": BuildError, "refused": IncompatibleError}.get(str(event.get("outcome")))
        if event.get("event") != RELOAD_FINISHED or kind is None or "details" in event:
            return
        error = kind(
            str(event.get("reason", "")), hint=str(event.get("hint", "")), diagnostics=str(event.get("diagnostics", ""))
        )
        for module in modules:
            if module.build_id == event.get("build_id"):
                functions = tuple(map(str, event.get("functions") or ()))
                self.refused(Swap(module.name, module.path, module.generation, module.generation, functions), error)

    def level_of(self, swap: Swap) -> str:
        """The least level that somebody insists on, as for a group; empty where nobody does."""
        levels = [listener.level_of(swap) for listener in list(self._listeners.values())]
        return next((level for level in ("request", "call", "function") if level in levels), "")
