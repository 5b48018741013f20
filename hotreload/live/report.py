"""The manager's lock, and how each step went, told to the subscribers after the lock was released."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any

from hotreload.errors import HotReloadError
from hotreload.events import PATCH_REFUSED
from hotreload.live.around import Around, Swap
from hotreload.live.records import Generation, LoadedModule, StagedPatch

__all__ = ["Guard", "Report", "Subscribers", "swap_fields"]

Callback = Callable[[dict[str, Any]], None]


class Subscribers:
    """Callbacks that get an event each; what one of them raises goes to the log and to nobody else."""

    def __init__(self) -> None:
        self._callbacks: dict[object, Callback] = {}

    def add(self, callback: Callback) -> Callable[[], None]:
        """Returns what ends the subscription; calling it twice does nothing."""
        key = object()
        self._callbacks[key] = callback

        def remove() -> None:
            self._callbacks.pop(key, None)

        return remove

    def publish(self, event: dict[str, Any]) -> None:
        """Hands every callback a copy of its own."""
        for callback in tuple(self._callbacks.values()):
            try:
                callback(dict(event))
            except Exception:
                logging.getLogger("hotreload").exception("a subscriber failed on %s", event["event"])


class Guard:
    """The one lock of the books. What is told while it is held reaches the subscribers when it is free again."""

    def __init__(self, subscribers: Subscribers) -> None:
        self._subscribers = subscribers
        self._lock = threading.RLock()
        self._depth = 0
        self._told: list[dict[str, Any]] = []

    def __enter__(self) -> Guard:  # noqa: PYI034 - Self is not in typing before 3.11
        self._lock.acquire()
        self._depth += 1
        return self

    def tell(self, name: str, module: LoadedModule, **fields: Any) -> None:
        """Has an event published; the lock must be held."""
        self._told.append({"event": name, **_about(module), **fields})

    def __exit__(self, *_error: object) -> None:
        self._depth -= 1
        told: list[dict[str, Any]] = []
        if not self._depth:
            told, self._told = self._told, told
        self._lock.release()
        for event in told:
            self._subscribers.publish(event)

    def renew(self) -> None:
        """In a forked child, which has held it for the fork: a new one, held as often as this thread was in it before.

        That is where a handler of a signal forks in the middle of what its own thread does.
        """
        self._depth = max(0, self._depth - 1)
        self._lock = threading.RLock()
        for _ in range(self._depth):
            self._lock.acquire()
        if not self._depth:
            self._told = []


class Report:
    """One step, reported once: :meth:`succeed` says what came of it, and a refusal that passes is told as such, to the
    listeners around swaps too.

    It wraps the lock and not the other way round, so callbacks may ask the manager anything.
    """

    def __init__(
        self,
        subscribers: Subscribers,
        around: Around,
        module: LoadedModule,
        step: str,
        staged: StagedPatch | None = None,
    ) -> None:
        self._subscribers = subscribers
        self._around = around
        self._about = _about(module)
        self._step = step
        number = staged.number if staged is not None else module.generation
        redirects = staged.redirects if staged is not None else ()
        functions, entries = staged.functions if staged is not None else (), frozenset(r.entry for r in redirects)
        self._swap = Swap(module.name, module.path, module.generation, number, functions, entries)

    def __enter__(self) -> Report:  # noqa: PYI034 - Self is not in typing before 3.11
        return self

    def succeed(self, name: str, **fields: Any) -> None:
        """Tells that the step was done."""
        self._subscribers.publish({"event": name, **self._about, **fields})

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if isinstance(error, HotReloadError):
            told = {"event": PATCH_REFUSED, **self._about, "during": self._step, "error": error.as_dict()}
            self._subscribers.publish(told)
            self._around.refused(self._swap, error)


def swap_fields(generation: Generation) -> dict[str, Any]:
    """What is told of a generation that went live."""
    return {
        "generation": generation.number,
        "functions": list(generation.functions),
        "distance": generation.distance,
        "duration": generation.duration,
        "synchronised": generation.synchronised,
        "level": generation.level,
        "transition": generation.transition,
        "info": dict(generation.info),
        "hooks": [run.as_dict() for run in generation.hook_runs],
        "tables": [run.as_dict() for run in generation.table_runs],
    }


def _about(module: LoadedModule) -> dict[str, Any]:
    return {"module": module.name, "path": module.path, "build_id": module.build_id}
