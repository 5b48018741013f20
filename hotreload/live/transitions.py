"""Threads on their way from one generation to another: what is open, and the thread that drives it on.

::

    begin ──▶ looked at inline, for a moment ──▶ settled ──▶ finish ──▶ complete
                    │                               ▲
                    └─ not yet ──▶ driver thread ───┘
                                      │    ▲              at the deadline
                             reverse  ▼    │ reverse        wait     told once, stays open
                                   the way back             revert   turns round
                                                            force    finish, although not settled: a taint

At most one is open in a process. The generation that threads go to counts as live from the first moment, since some are
there already; after a reversal that is the one they came from.

Two locks. The manager's guards all that is written here. The transition's own lies around every call of the core that
takes it, so that nobody closes it while another waits in C; whoever wants both takes the manager's first, and the
driver never wants the manager's while it holds the other.
"""

from __future__ import annotations

import logging
import threading
import time
from _thread import start_new_thread
from collections.abc import Sequence
from typing import Any

from hotreload.errors import HotReloadError, PoisonedError, StageError
from hotreload.events import (
    PATCH_REFUSED,
    TRANSITION_COMPLETED,
    TRANSITION_FORCED,
    TRANSITION_REVERSED,
    TRANSITION_STALLED,
    TRANSITION_STARTED,
)
from hotreload.live import hooks
from hotreload.live.around import Around
from hotreload.live.core import CommitReport, Core, Image, Progress, Switch, Transition
from hotreload.live.ledger import Arena, Ledger, MappedImage
from hotreload.live.records import Taint, Terms, check_reason
from hotreload.live.report import Guard
from hotreload.live.retire import Retirement
from hotreload.live.stragglers import Since, are_greenlets_in_use, brief, describe, greenlets_entry
from hotreload.live.tables import show

__all__ = ["OpenTransition", "Transitions"]

#: How long the driver is away in C at most, where nobody wants anything of it.
SLICE_FIRST = 0.01
SLICE_LAST = 0.08

NAMED_IN_A_MESSAGE = 4


class _Calling:
    """The lock around calls of the core. The driver holds it while it waits there: whoever else wants it is in a hurry.

    A handler of a signal may fork, or ask, in the middle of a call that its own thread makes: it can be taken again.
    """

    def __init__(self, core: Core) -> None:
        self._core = core
        self.patiently = threading.RLock()

    def __enter__(self) -> None:
        self._core.hurry()
        try:
            self.patiently.acquire()
        finally:
            self._core.relax()

    def __exit__(self, *_error: object) -> None:
        self.patiently.release()


class OpenTransition:
    """One transition from begin to end."""

    def __init__(self, core: Core, handle: Transition, ledger: Ledger, target: int, terms: Terms) -> None:
        self.ledger, self.handle = ledger, handle
        self.source, self.target, self.terms = ledger.live.number, target, terms
        self.is_forward = True
        self.turns = 0
        self.since = time.time()
        self.started = self.turned = time.monotonic()
        self.is_stalled = False
        self.has_driver = False
        self.trouble = ""
        self.over = threading.Event()
        #: What this transition proves when it is complete: everything old that was on its lists.
        self.images: dict[int, MappedImage] = {}
        self.arenas = tuple(ledger.arenas)
        self._core = core
        self._calling = _Calling(core)
        self._seen = Since()

    @property
    def goal(self) -> int:
        """The generation that threads go to."""
        return self.target if self.is_forward else self.source

    @property
    def origin(self) -> int:
        """The generation that they leave."""
        return self.source if self.is_forward else self.target

    @property
    def is_due(self) -> bool:
        """Whether its deadline has passed and nobody was told."""
        return not self.is_stalled and time.monotonic() - self.turned >= self.terms.deadline

    # Calls of the core ---------------------------------------------------------------------------------------------

    def poll(self, seconds: float, *, is_driver: bool = False) -> tuple[bool, int]:
        """Waits for a while; whether all have moved, and on which turn that was."""
        with self._calling.patiently:
            if self.over.is_set():
                return False, self.turns
            return self._core.wait(self.handle, seconds, is_outside=is_driver), self.turns

    def turn(self) -> None:
        """Threads go the other way from now on."""
        with self._calling:
            self._core.reverse(self.handle)
        self.is_forward = not self.is_forward
        self.turns += 1
        self.turned = time.monotonic()
        self.is_stalled = False
        self._seen = Since()

    def finish(self, *, allow_unsynchronised: bool) -> CommitReport:
        """Redirects the entries to the goal, and gives the core its book-keeping back."""
        with self._calling:
            try:
                report = self._core.finish(self.handle, allow_unsynchronised=allow_unsynchronised)
            except PoisonedError:  # of one extension: the others go on
                self._end()
                raise
            self._end()
        return report

    def _end(self) -> None:
        self._core.close_transition(self.handle)
        self.over.set()

    def hold(self) -> None:
        """Waits until nobody is in the core for it and keeps it so."""
        self._calling.__enter__()

    def let_go(self) -> None:
        """Ends :meth:`hold`."""
        self._calling.__exit__()

    def renew(self) -> None:
        """In a forked child: locks of its own."""
        self._calling = _Calling(self._core)
        self.over = threading.Event()
        self.has_driver = False

    # What it says --------------------------------------------------------------------------------------------------

    def describe(self, *, with_stacks: bool = True) -> dict[str, Any]:
        """Plain data for ``status``."""
        try:
            with self._calling:
                progress = self._core.progress(self.handle)
        except HotReloadError as error:
            self.trouble = str(error)
            progress = Progress(0, 0, is_settled=False, stragglers=())
        seen = self._seen.update(progress.stragglers)
        entries = describe(progress.stragglers, self.ledger, seen, with_stacks=with_stacks)
        if are_greenlets_in_use():
            entries.append(greenlets_entry(self.since))
        return {
            **self.summary(),
            "threads": progress.threads,
            "settled": progress.settled,
            "stragglers": entries,
        }

    def summary(self) -> dict[str, Any]:
        """The same without the threads."""
        return {
            "module": self.ledger.name,
            "from": self.source,
            "to": self.target,
            "direction": "forward" if self.is_forward else "back",
            "level": self.terms.level,
            "since": self.since,
            "deadline": self.terms.deadline,
            "policy": self.terms.policy,
            **({"trouble": self.trouble} if self.trouble else {}),
        }


class Transitions:
    """Begins, drives and ends them, one at a time. The manager's lock guards it."""

    def __init__(
        self, core: Core, guard: Guard, retirement: Retirement, around: Around, *, allow_unsynchronised: bool
    ) -> None:
        self._core = core
        self._guard = guard
        self._retirement = retirement
        self._around = around
        self._allow_unsynchronised = allow_unsynchronised
        self.open: OpenTransition | None = None

    # Beginning -----------------------------------------------------------------------------------------------------

    def check_free(self) -> None:
        """Insists that nothing is open.

        Raises:
            StageError: something is; the error names who has not moved. Nothing was changed.
        """
        if self.open is not None:
            self._advance(self.open, *self.open.poll(0.0))
        if self.open is None:
            return
        about = self.open.describe(with_stacks=False)
        said = [brief(entry) for entry in about["stragglers"]]
        more = len(said) - NAMED_IN_A_MESSAGE
        who = "; ".join(said[:NAMED_IN_A_MESSAGE]) + (f"; and {more} more" if more > 0 else "")
        raise StageError(
            f"{about['module']} is still on its way from generation {self.open.origin} to {self.open.goal}, "
            f"{about['settled']} of {about['threads']} threads are there" + (f": {who}" if who else ""),
            hint=f"wait, or go back to generation {self.open.origin}, or force it with a reason",
            status="BUSY",
            transition=about,
        )

    def begin(
        self, ledger: Ledger, switches: Sequence[Switch], target: int, terms: Terms, *, image: Image | None
    ) -> CommitReport:
        """Has threads move from what is live to another generation; ``image`` is its code where that is new.

        The terms name the level.

        Raises:
            StageError: refused; nothing was stored.
            TransitionError: the stores were undone; what was live serves.
            PoisonedError: an undo failed.
        """
        handle = self._open(ledger, switches, target, terms.level, image)
        try:
            report = self._core.begin(handle, allow_unsynchronised=self._allow_unsynchronised)
        except StageError:
            self._core.close_transition(handle)
            self._core.discard_stubs(handle)
            raise
        except HotReloadError:  # a thread may stand in a stub
            ledger.arenas.append(Arena(handle))
            self._core.close_transition(handle)
            raise
        self.open = OpenTransition(self._core, handle, ledger, target, terms)
        self._tell(TRANSITION_STARTED, self.open, entries=len(switches))
        return report

    def check(
        self, ledger: Ledger, switches: Sequence[Switch], target: int, level: str, *, image: Image | None
    ) -> None:
        """Insists that :meth:`begin` would find the threads, and room for its stubs.

        Raises:
            StageError: what it would raise. Either way nothing was stored, and nothing is open.
        """
        handle = self._open(ledger, switches, target, level, image)
        self._core.close_transition(handle)
        self._core.discard_stubs(handle)

    def _open(
        self, ledger: Ledger, switches: Sequence[Switch], target: int, level: str, image: Image | None
    ) -> Transition:
        if are_greenlets_in_use():
            raise StageError(
                "greenlets are in use: a suspended one keeps its stack where nobody sees what it is in the middle of",
                hint="--level function redirects entry by entry, without that promise",
                status="GREENLETS",
            )
        self._retirement.end_survey()
        before, after = ledger.sides(switches, target, image)
        return self._core.open_transition(ledger.base, switches, before, after, per_request=level == "request")

    def note_images(self) -> None:
        """The book has the new generation's code now: whatever is mapped is on the open one's lists."""
        if self.open is not None:
            self.open.images = dict(self.open.ledger.mapped)

    # Driving -------------------------------------------------------------------------------------------------------

    def settle(self, transition: OpenTransition, seconds: float) -> None:
        """Drives it on for so long; then a thread does. The manager's lock must be free."""
        try:
            self._drive(transition, time.monotonic() + max(0.0, seconds))
        finally:  # an interrupt from the keyboard leaves it open too
            if self.open is transition:
                self.start_driver(transition)

    def start_driver(self, transition: OpenTransition) -> None:
        """Has a thread drive it to its end; without one, whoever asks does."""
        if transition.has_driver:
            return
        transition.has_driver = True
        try:
            start_new_thread(self._run_driver, (transition,))
        except RuntimeError:
            transition.has_driver = False

    def wait(self, seconds: float) -> bool:
        """Whether nothing is open any more within so many seconds. The manager's lock must be free."""
        until = time.monotonic() + seconds
        while True:
            with self._guard:
                transition = self.open
            if transition is None:
                return True
            if not transition.has_driver:
                self._drive(transition, until)
            if not transition.over.wait(max(0.0, until - time.monotonic())):
                return False

    def _run_driver(self, transition: OpenTransition) -> None:
        try:
            self._drive(transition, None, is_driver=True)
        except Exception:
            logging.getLogger("hotreload").exception(
                "the driver of a transition failed: it goes on when it is asked for"
            )
        finally:
            transition.has_driver = False

    def _drive(self, transition: OpenTransition, until: float | None, *, is_driver: bool = False) -> None:
        """Drives it until it is over, or for a time; the driver's thread has nothing else to do."""
        seconds = SLICE_FIRST
        while True:
            left = seconds if until is None else min(seconds, max(0.0, until - time.monotonic()))
            try:
                settled, turn = transition.poll(left, is_driver=is_driver)
            except HotReloadError as error:
                settled, turn, transition.trouble = False, -1, str(error)
                time.sleep(left)
            with self._guard:
                if self.open is transition:
                    self._advance(transition, settled, turn)
                if self.open is not transition:
                    return
            if until is not None and time.monotonic() >= until:
                return
            seconds = min(SLICE_LAST, seconds * 2)
            if settled:  # and yet not over: no hurry
                time.sleep(seconds)

    def _advance(self, transition: OpenTransition, settled: bool, turn: int) -> None:
        """What follows from a look on that turn (-1: it failed): it is over, or its deadline has passed, or nothing."""
        if turn not in (transition.turns, -1):
            return
        if settled and not are_greenlets_in_use():
            try:
                self._complete(transition, "complete")
            except HotReloadError as error:  # the stubs lead everybody to the goal; it is tried again
                transition.trouble = str(error)
        elif transition.is_due:
            self._pass_deadline(transition)

    def _pass_deadline(self, transition: OpenTransition) -> None:
        transition.is_stalled = True
        self._tell(TRANSITION_STALLED, transition, **_numbers(transition.describe()))
        try:
            if transition.terms.policy == "force":
                self.force(transition, transition.terms.reason, transition.terms.by or "deadline")
            elif transition.terms.policy == "revert" and transition.is_forward:
                self.reverse(transition, "its deadline passed", may_veto=False)
        except HotReloadError as error:  # it stays open, and says why
            transition.trouble = str(error)

    # Ending --------------------------------------------------------------------------------------------------------

    def reverse(self, transition: OpenTransition, reason: str = "", *, may_veto: bool = True) -> None:
        """Turns it round: who has moved goes back, who has not stays.

        Raises:
            StageError: VETO, where a hook or a callback may: it goes on as before.
        """
        ledger = transition.ledger
        swap = ledger.swap_to(ledger.generations[transition.origin])
        self._around.before(swap, may_veto=may_veto)
        try:
            runs = hooks.run_pre(ledger.generations[transition.origin], transition.goal, may_veto=may_veto)
            transition.turn()
        except HotReloadError as error:
            self._around.refused(swap, error)
            raise
        goal = transition.goal
        left = ledger.mark(transition.origin, transition="reversed")
        ledger.make_live(ledger.generations[goal])
        runs += hooks.run_rollback(left, goal) + hooks.run_post(ledger.generations[goal], left.number)
        ledger.mark(goal, transition="open", hook_runs=runs)
        self._around.after(swap)
        self._tell(TRANSITION_REVERSED, transition, reason=reason)

    def force(self, transition: OpenTransition, reason: str, by: str) -> None:
        """Ends it although threads have not moved; what they see from now on may be mixed.

        Raises:
            StageError: no reason, or refused; it is still open.
            TransitionError: the stores were undone; it is still open.
            PoisonedError: an undo failed.
        """
        check_reason(reason)
        left = _numbers(transition.describe())
        self._complete(transition, "forced")
        ledger = transition.ledger
        ledger.taints.append(Taint("forced", reason, time.time(), by))
        ledger.is_forced = True
        self._tell(TRANSITION_FORCED, transition, reason=reason, by=by, **left)

    def _complete(self, transition: OpenTransition, how: str) -> None:
        ledger, goal = transition.ledger, transition.goal
        try:
            report = transition.finish(allow_unsynchronised=self._allow_unsynchronised)
        except PoisonedError as error:
            ledger.poison = error
            ledger.arenas.append(Arena(transition.handle))
            self.open = None
            self._tell(PATCH_REFUSED, transition, during="transition", error=error.as_dict())
            raise
        self.open = None
        ledger.mark(goal, transition=how, synchronised=report.is_synchronised)
        runs = show(ledger)
        ledger.arenas.append(Arena(transition.handle))
        if how == "complete":
            self._prove(transition)
            self._tell(TRANSITION_COMPLETED, transition, generation=goal, tables=[run.as_dict() for run in runs])

    def _prove(self, transition: OpenTransition) -> None:
        """All threads have left what was on the list: nobody is in it any more.

        On the way back that says nothing: threads that had not moved were where they should be, whatever they were in.
        """
        if transition.is_forward:
            for number, mapped in transition.images.items():
                if number != transition.goal:
                    mapped.is_proven = True
            for arena in transition.arenas:
                arena.is_proven = True
        self._retirement.look(transition.ledger)

    def _tell(self, event: str, transition: OpenTransition, **fields: Any) -> None:
        duration = time.monotonic() - transition.started
        about = {name: value for name, value in transition.summary().items() if name != "module"}
        self._guard.tell(event, transition.ledger.snapshot(), **about, duration=duration, **fields)

    # Around a fork -------------------------------------------------------------------------------------------------

    def hold(self) -> None:
        """Waits until nobody is in the core and keeps it so."""
        self._retirement.end_survey()
        if self.open is not None:
            self.open.hold()

    def let_go(self) -> None:
        """Ends :meth:`hold`."""
        if self.open is not None:
            self.open.let_go()

    def renew(self) -> None:
        """In a forked child: what is open goes on here too, with a driver of its own."""
        if self.open is not None:
            self.open.renew()
            self.start_driver(self.open)


def _numbers(described: dict[str, Any]) -> dict[str, Any]:
    """How far it is, and who is missing."""
    return {name: described[name] for name in ("threads", "settled", "stragglers")}
