"""An exchange that waits for the moment in which no thread is inside any of the functions.

::

    try ──▶ nobody inside ──▶ all exchanged in the same step ──▶ complete
     ▲            │
     └─ 1 ms .. 20 ms later, by a thread of ours               at the deadline
                                                                 wait    told once, stays open
                                                                 revert  cancelled: nothing has changed yet
                                                                 force   exchanged although somebody is: a taint

Unlike a transition of C functions, no thread moves before the others: until the exchange all of them call the old
definitions. So a rollback while it is open cancels it, and there is nothing to take back but added names.
"""

from __future__ import annotations

import gc
import sys
import threading
import time
import warnings
from contextlib import AbstractContextManager, nullcontext
from types import CodeType, FrameType
from typing import Any

from hotreload import _state
from hotreload.live.around import Swap
from hotreload.live.records import Terms
from hotreload.python.book import Book
from hotreload.python.plan import Plan

__all__ = ["Crossing", "exchange"]

PAUSE_FIRST, PAUSE_LAST = 0.001, 0.02
_SHOWN = 32
_KINDS = 0x20 | 0x80 | 0x200  # generator, coroutine, async generator


def exchange(book: Book, plan: Plan, *, level: str) -> list[int]:
    """Does it, or says which threads are inside; then nothing was changed.

    Raises:
        Exception: a store failed and all are undone; a SystemError: the undo failed too.
    """
    inside = plan.inside if level != "function" else set()
    with _quiet(plan):
        found, back = _state.exchange(plan.orders, plan.names, plan.undo_names, inside, plan.nested, gc.get_objects)
    if not found:
        for original, is_replaced in plan.replaced:
            original.is_replaced = is_replaced
        book.remember_cells(back or [])
    return found


def _quiet(plan: Plan) -> AbstractContextManager[object]:
    """From 3.13 on Python warns of a function that becomes a generator; a filter that shows it runs Python code."""
    if sys.version_info >= (3, 13):
        changes = [(order[0].__code__, order[1]) for order in plan.orders if order[1] is not ...]
        changes += [(old, new) for old, new, _kept, _doc in plan.nested]
        if any((old.co_flags ^ new.co_flags) & _KINDS for old, new in changes):
            return warnings.catch_warnings(action="ignore")
    return nullcontext()


class Crossing:
    """One that is open, from the first look to the exchange or its end."""

    def __init__(self, book: Book, plan: Plan, terms: Terms, swap: Swap) -> None:
        self.ledger = self.book = book
        self.plan, self.terms, self.swap = plan, terms, swap
        self.source, self.target = swap.left, swap.entered
        self.since = time.time()
        self.started = time.monotonic()
        self.is_stalled = False
        self.has_driver = False
        self.trouble = ""
        self.over = threading.Event()

    @property
    def goal(self) -> int:
        """The generation that is to serve."""
        return self.target

    @property
    def origin(self) -> int:
        """The one that serves until then."""
        return self.source

    @property
    def is_due(self) -> bool:
        """Whether its deadline has passed and nobody was told."""
        return not self.is_stalled and time.monotonic() - self.started >= self.terms.deadline

    def renew(self) -> None:
        """In a forked child: the driver and who waited are not there."""
        self.over = threading.Event()
        self.has_driver = False

    def describe(self, *, with_stacks: bool = True) -> dict[str, Any]:
        """Plain data for ``status``."""
        stragglers = self._stragglers(with_stacks=with_stacks)
        threads = len(sys._current_frames())  # noqa: SLF001 - there is no other way
        return {
            **self.summary(),
            "threads": threads,
            "settled": threads - len(stragglers),
            "stragglers": stragglers,
        }

    def summary(self) -> dict[str, Any]:
        """The same without the threads."""
        return {
            "module": self.book.name,
            "from": self.source,
            "to": self.target,
            "direction": "forward",
            "level": self.terms.level,
            "since": self.since,
            "deadline": self.terms.deadline,
            "policy": self.terms.policy,
            **({"trouble": self.trouble} if self.trouble else {}),
        }

    def _stragglers(self, *, with_stacks: bool) -> list[dict[str, Any]]:
        names = {thread.ident: (thread.name, thread.native_id or 0) for thread in threading.enumerate()}
        found = []
        for ident, frame in sys._current_frames().items():  # noqa: SLF001 - there is no other way
            where = _where(frame, self.plan.inside)
            if where:
                name, tid = names.get(ident, (f"thread {ident}", 0))
                about = {"tid": tid, "name": name, "reason": "INSIDE", "where": where, "since": self.since}
                found.append({**about, "native": [], "python": _stack(frame) if with_stacks else []})
        return found


def _where(frame: FrameType | None, codes: set[CodeType]) -> str:
    """The innermost of its frames that runs such code."""
    while frame is not None:
        if frame.f_code in codes:
            name = getattr(frame.f_code, "co_qualname", frame.f_code.co_name)
            return f"{name} ({frame.f_code.co_filename}:{frame.f_lineno})"
        frame = frame.f_back
    return ""


def _stack(frame: FrameType | None) -> list[str]:
    stack: list[str] = []
    while frame is not None and len(stack) < _SHOWN:
        stack.append(f"{frame.f_code.co_filename}:{frame.f_lineno} in {frame.f_code.co_name}")
        frame = frame.f_back
    return stack
