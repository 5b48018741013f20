"""Exchanges, and the one crossing that may be open: who drives it, what its deadline brings, how it ends.

::

    exchange ─▶ nobody inside: done          somebody is: a crossing is open
                                               a driver looks again ─▶ complete
                                               deadline ─▶ stalled, then as the policy says: reversed or forced
"""

from __future__ import annotations

import logging
import time
from _thread import start_new_thread
from typing import Any

from hotreload.errors import HotReloadError, PoisonedError, StageError, TransitionError
from hotreload.events import (
    PATCH_REFUSED,
    TRANSITION_COMPLETED,
    TRANSITION_FORCED,
    TRANSITION_REVERSED,
    TRANSITION_STALLED,
    TRANSITION_STARTED,
)
from hotreload.live.around import Around, Swap
from hotreload.live.records import Generation, Taint, Terms, check_reason
from hotreload.live.report import Guard
from hotreload.live.stragglers import brief
from hotreload.live.work import settled
from hotreload.python.additions import take_back
from hotreload.python.book import Book
from hotreload.python.crossing import PAUSE_FIRST, PAUSE_LAST, Crossing, exchange
from hotreload.python.plan import Plan

__all__ = ["Crossings"]

_NAMED = 4


class Crossings:
    """The part of the engine that swaps, at once or later. There is one crossing at a time in a process."""

    def __init__(self, guard: Guard, around: Around) -> None:
        self._guard = guard
        self._around = around
        self.open: Crossing | None = None

    def _exchange(self, book: Book, plan: Plan, level: str) -> bool:
        """Does it; whether somebody is inside instead."""
        try:
            return bool(exchange(book, plan, level=level))
        except SystemError as error:
            book.poison = PoisonedError(str(error), hint="restart the process")
            raise book.poison from error
        except Exception as error:
            raise TransitionError(
                f"{book.name}: a function did not take its new code, and all have their old one: {error}",
                hint="the earlier generation serves; see what hooks the process has on functions or classes",
                status="EXCHANGE",
            ) from error

    def _go_on(self, book: Book, plan: Plan, terms: Terms, swap: Swap, *, is_open: bool) -> None:
        if not is_open:
            self._around.after(swap)
            return
        self.open = Crossing(book, plan, terms, swap)
        self._tell(TRANSITION_STARTED, self.open, entries=len(swap.functions))

    def _is_way_back(self, book: Book, number: int) -> bool:
        return self.open is not None and self.open.book is book and self.open.source == number

    # While a crossing is open --------------------------------------------------------------------------------------

    def check_free(self) -> None:
        """Insists that none is.

        Raises:
            StageError: BUSY; it names who is inside.
        """
        if self.open is not None:
            self._advance(self.open)
        if self.open is None:
            return
        about = self.open.describe(with_stacks=False)
        who = "; ".join(brief(entry) for entry in about["stragglers"][:_NAMED])
        raise StageError(
            f"{about['module']} still waits for the moment to go from generation {self.open.source} "
            f"to {self.open.target}" + (f": {who}" if who else ""),
            hint=f"wait, or go back to generation {self.open.source}, or force it with a reason",
            status="BUSY",
            transition=about,
        )

    def settle(self, book: Book, transition: Any, number: int, wait: float) -> Generation:
        """Waits a moment for it; returns the generation as it is then. The manager's lock must be free."""
        if transition is not None:
            try:
                self._drive(transition, time.monotonic() + max(0.0, wait))
            finally:
                self.start_driver()
        return settled(self._guard, book, transition, number, "the log names the threads that were inside")

    def wait(self, seconds: float) -> bool:
        """Whether none is open any more within so many seconds."""
        crossing = self.open
        return crossing is None or crossing.over.wait(seconds)

    def start_driver(self) -> None:
        """Has a thread drive it on."""
        crossing = self.open
        if crossing is None or crossing.has_driver:
            return
        crossing.has_driver = True
        try:
            start_new_thread(self._run_driver, (crossing,))
        except RuntimeError:
            crossing.has_driver = False

    def _run_driver(self, crossing: Crossing) -> None:
        try:
            self._drive(crossing, None)
        except Exception:
            logging.getLogger("hotreload").exception("the driver of a transition failed: it goes on when asked for")
        finally:
            crossing.has_driver = False

    def _drive(self, crossing: Crossing, until: float | None) -> None:
        pause = PAUSE_FIRST
        while True:
            with self._guard:
                if self.open is crossing:
                    self._advance(crossing)
                if self.open is not crossing:
                    return
            if until is not None and time.monotonic() >= until:
                return
            time.sleep(pause)
            pause = min(PAUSE_LAST, pause * 1.5)

    def _advance(self, crossing: Crossing) -> None:
        """One look; what follows from it, and from the clock."""
        try:
            if not self._exchange(crossing.book, crossing.plan, crossing.terms.level):
                self._complete(crossing, "complete")
                self._tell(TRANSITION_COMPLETED, crossing, generation=crossing.target)
            elif crossing.is_due:
                self._pass_deadline(crossing)
        except PoisonedError as error:
            self._end(crossing)
            self._tell(PATCH_REFUSED, crossing, during="transition", error=error.as_dict())
        except HotReloadError as error:  # it stays open, and says why
            crossing.trouble = str(error)
            if crossing.is_due:
                self.reverse(crossing, str(error))

    def _pass_deadline(self, crossing: Crossing) -> None:
        crossing.is_stalled = True
        about = crossing.describe()
        self._tell(TRANSITION_STALLED, crossing, stragglers=about["stragglers"], threads=about["threads"])
        if crossing.terms.policy == "force":
            self.force(crossing, crossing.terms.reason, crossing.terms.by or "deadline")
        elif crossing.terms.policy == "revert":
            self.reverse(crossing, "its deadline passed")

    def reverse(self, crossing: Crossing, reason: str = "") -> None:
        """Cancels it: nothing was exchanged; the names that the edit added are gone again."""
        book = crossing.book
        version = book.version(crossing.target)
        if crossing.target > crossing.source:
            take_back(version)
        self._end(crossing)
        book.mark(crossing.target, transition="reversed")
        book.make_live(book.generations[crossing.source])
        error = TransitionError(f"{book.name}: {reason or 'it was cancelled'}", hint="the earlier generation serves")
        self._around.refused(crossing.swap, error)
        self._tell(TRANSITION_REVERSED, crossing, reason=reason)
        self._tell(TRANSITION_COMPLETED, crossing, generation=crossing.source)

    def force(self, crossing: Crossing, reason: str, by: str) -> None:
        """Exchanges although threads are inside.

        Raises:
            StageError: no reason; it is still open.
            TransitionError: the exchange failed and is undone; it is still open.
        """
        check_reason(reason)
        about = crossing.describe()
        self._exchange(crossing.book, crossing.plan, "function")
        self._complete(crossing, "forced")
        crossing.book.taints.append(Taint("forced", reason, time.time(), by))
        fields = {name: about[name] for name in ("threads", "settled", "stragglers")}
        self._tell(TRANSITION_FORCED, crossing, reason=reason, by=by, **fields)

    def _complete(self, crossing: Crossing, how: str) -> None:
        self._end(crossing)
        crossing.book.mark(crossing.target, transition=how)
        self._around.after(crossing.swap)

    def _end(self, crossing: Crossing) -> None:
        self.open = None
        crossing.over.set()

    def _tell(self, event: str, crossing: Crossing, **fields: Any) -> None:
        about = {name: value for name, value in crossing.summary().items() if name != "module"}
        duration = time.monotonic() - crossing.started
        self._guard.tell(event, crossing.book.snapshot(), **about, duration=duration, **fields)

    # Around a fork -------------------------------------------------------------------------------------------------

    def hold(self) -> None:
        """Nothing of it runs without the manager's lock."""

    def let_go(self) -> None:
        """Nothing was held."""

    def renew(self) -> None:
        """In a forked child: what is open goes on here too, with a driver of its own."""
        if self.open is not None:
            self.open.renew()
            self.start_driver()
