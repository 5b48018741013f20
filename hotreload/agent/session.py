"""The two phases in one process.

::

                  prepare                commit
        IDLE ───────────────▶ PREPARED ──────────────▶ COMMITTED
         ▲                     │    │ commit with hold     ▲
         │                     │    └──────▶ TRYING ───────┘ commit
         │                     │               │
         └─── ABORTED ◀────────┴───────────────┘ abort          FAILED: the swap itself was refused after the decision

    alone, while PREPARED or TRYING: every quarter of a second, is there a decision? then it is carried out
                                     at the deadline, decide("abort"), and what then holds is carried out

"commit" and "abort" from the pusher are decided in the same file before they are done, so a pusher, a second pusher
and a deadline cannot lead two processes of one push to two ends. Only a trial is live without a decision, and only
until its deadline.

Ended pushes are remembered, so that a request that is sent twice gets the same answer. All of it belongs to the
agent's thread. A child that is forked between the phases inherits the push with the memory it is staged in, and
settles like everybody else.
"""

from __future__ import annotations

import enum
import math
import time
from collections import OrderedDict
from typing import Any

from hotreload.agent.books import Books
from hotreload.agent.change import Change, Probation, tables_told
from hotreload.agent.refusal import refuse
from hotreload.agent.transitions import Transitions
from hotreload.errors import HotReloadError
from hotreload.events import (
    AGENT_ABORTED,
    AGENT_COMMITTED,
    AGENT_FAILED,
    AGENT_PREPARED,
    AGENT_TRIED,
)
from hotreload.state.decisions import ABORT, COMMIT

__all__ = ["DEADLINE_LIMIT", "Session", "Step"]

#: A push that needs longer than this from "prepared" to "decided" is no push.
DEADLINE_LIMIT = 3600.0

_LOOK_SECONDS = 0.25
_REMEMBERED = 64


class Step(enum.Enum):
    """Where a push is in this process; the picture is above."""

    IDLE = "idle"
    PREPARED = "prepared"
    TRYING = "trying"
    COMMITTED = "committed"
    ABORTED = "aborted"
    FAILED = "failed"


_OPEN = frozenset({Step.PREPARED, Step.TRYING})


class _Push:
    """One push, from prepare on."""

    def __init__(self, push: str, change: Change, deadline: float, about: dict[str, Any], *, is_audited: bool) -> None:
        self.push, self.change, self.about, self.is_audited = push, change, about, is_audited
        self.step = Step.PREPARED
        self.ends = deadline
        self.looks = time.monotonic() + _LOOK_SECONDS
        self.answer: dict[str, Any] = {}
        self.error: HotReloadError | None = None
        self.doubt = ""


class Session:
    """The pushes of one process.

    Args:
        books: where decisions are made and events are written down.
        probation: is told of what becomes live.
        transitions: is told on whose behalf.
    """

    def __init__(self, books: Books, probation: Probation, transitions: Transitions) -> None:
        self._books = books
        self._probation = probation
        self._transitions = transitions
        self._open: _Push | None = None
        self._ended: OrderedDict[str, _Push] = OrderedDict()

    # Requests ------------------------------------------------------------------------------------------------------

    def find(self, push: str) -> dict[str, Any] | None:
        """The answer that ``prepare`` got for this push; None when it was not prepared here.

        Raises:
            StageError: NOT_PREPARED: it has ended here, and not with a commit. DECIDED: it was aborted elsewhere.
        """
        self.settle()
        known = self._known(push)
        if known is None:
            if self._books.decisions.look(push) == ABORT:
                raise refuse("DECIDED", f"push {push} was decided: {ABORT}")
            return None
        if known.step in (Step.ABORTED, Step.FAILED):
            raise refuse("NOT_PREPARED", f"push {push} was {known.step.value} here")
        return known.about

    def sha256_of(self, push: str) -> str:
        """The artefact of a push that is known here; empty when it has none."""
        known = self._known(push)
        return known.change.artefact.sha256 if known is not None and known.change.artefact is not None else ""

    def check_free(self) -> None:
        """Insists that no other push is under way here. Raises StageError: BUSY."""
        self.settle(at_once=True)
        if self._open is not None:
            rest = max(0.0, self._open.ends - time.monotonic())
            raise refuse(
                "BUSY", f"push {self._open.push} is {self._open.step.value} here for another {rest:.1f} s",
                push=self._open.push,
            )  # fmt: skip

    def open(
        self, push: str, change: Change, seconds: float, about: dict[str, Any], *, is_audit_required: bool
    ) -> dict[str, Any]:
        """Takes a change that can be applied; from here on this process does as is decided.

        Raises:
            AuditError: it could not be written down; the change was dropped.
        """
        answer = {
            **change.describe(),
            "module": change.module.name,
            "path": change.module.path,
            "build_id": change.module.build_id,
        }
        try:
            fields = {**about, "functions": answer["functions"], "deadline": seconds}
            self._books.audit(AGENT_PREPARED, is_required=is_audit_required, push=push, **fields)
        except BaseException:
            change.drop()
            raise
        self._open = _Push(push, change, time.monotonic() + seconds, {**answer}, is_audited=is_audit_required)
        self._open.answer = dict(about)
        return answer

    def commit(self, push: str, *, hold: float | None = None) -> dict[str, Any]:
        """Does what was prepared; repeating it says the same.

        Args:
            push: which one.
            hold: on trial, for so many seconds: without a decision, and taken back when none comes.

        Raises:
            StageError: DECIDED, NOT_PREPARED or UNKNOWN_PUSH; nothing was changed.
            HotReloadError: the swap was refused; the push has ended here.
        """
        known = self._get(push)
        if known.step is Step.ABORTED:
            raise refuse("NOT_PREPARED", f"push {push} was aborted here")
        if known.step in _OPEN:
            if hold is None:
                if self._decide(known, COMMIT) != COMMIT:
                    self._abort(known)
                    raise refuse("DECIDED", f"push {push} was decided: {ABORT}")
                self._commit(known)
            elif known.step is Step.PREPARED:
                self._try(known, hold)
        if known.error is not None:
            raise known.error
        return known.about

    def abort(self, push: str) -> None:
        """Drops what was prepared, or takes a trial back; an unknown push has nothing to drop.

        Raises:
            StageError: DECIDED: it was decided to commit, and that holds.
            HotReloadError: a trial could not be taken back: the new code serves. The push has ended here.
        """
        known = self._known(push)
        if known is None:
            return
        if known.step in (Step.ABORTED, Step.FAILED):
            self._raise_if_stuck(known)
            return
        if known.step is Step.COMMITTED or self._decide(known, ABORT) != ABORT:
            self.settle(at_once=True)
            raise refuse("DECIDED", f"push {push} was decided: {COMMIT}")
        self._abort(known)
        self._raise_if_stuck(known)

    # Alone ---------------------------------------------------------------------------------------------------------

    @property
    def seconds_to_next(self) -> float | None:
        """When :meth:`settle` has something to do; None when it has nothing."""
        if self._open is None:
            return None
        return max(0.0, min(self._open.looks, self._open.ends) - time.monotonic())

    def settle(self, *, at_once: bool = False) -> None:
        """Carries out a decision that was made meanwhile; at the deadline, sees to it that there is one."""
        known = self._open
        now = time.monotonic()
        if known is None or (now < min(known.looks, known.ends) and not at_once):
            return
        known.looks = now + _LOOK_SECONDS
        try:
            if now < known.ends:
                decision = self._books.decisions.look(known.push)
            else:
                decision = self._books.decisions.decide(known.push, ABORT)
                known.ends = math.inf  # decided; should carrying it out fail, that is no reason to ask again
        except HotReloadError as error:
            # Whoever cannot ask must not guess: the others may have committed. It is asked again and again.
            known.doubt = error.message
            known.ends = max(known.ends, now + _LOOK_SECONDS)
            return
        if decision == COMMIT:
            self._commit(known, is_alone=True)
        elif decision == ABORT:
            self._abort(known)

    def describe(self) -> dict[str, Any] | None:
        """The push that is under way, for ``status``."""
        known = self._open
        if known is None:
            return None
        return {
            "push": known.push,
            "step": known.step.value,
            "module": known.about["module"],
            "build_id": known.about["build_id"],
            "seconds_left": 0.0 if math.isinf(known.ends) else round(max(0.0, known.ends - time.monotonic()), 3),
            "in_doubt": known.doubt,
        }

    # How -----------------------------------------------------------------------------------------------------------

    def _known(self, push: str) -> _Push | None:
        if self._open is not None and self._open.push == push:
            return self._open
        return self._ended.get(push)

    def _get(self, push: str) -> _Push:
        known = self._known(push)
        if known is None:
            raise refuse("UNKNOWN_PUSH", f"push {push} was not prepared here")
        return known

    def _decide(self, known: _Push, word: str) -> str:
        """Has the push decided, unless it is; a state directory that is full must not keep us from reading it."""
        try:
            return self._books.decisions.decide(known.push, word)
        except HotReloadError as error:
            known.doubt = error.message
            raise

    def _try(self, known: _Push, hold: float) -> None:
        if self._books.decisions.look(known.push) == ABORT:
            self._abort(known)
            raise refuse("DECIDED", f"push {known.push} was decided: {ABORT}")
        self._apply(known, Step.TRYING)
        if known.step is Step.TRYING:
            known.ends = time.monotonic() + hold
            self._write(known, AGENT_TRIED, seconds=hold)

    def _commit(self, known: _Push, *, is_alone: bool = False) -> None:
        if known.step is Step.PREPARED:
            self._apply(known, Step.COMMITTED)
        else:
            known.step = Step.COMMITTED
        if known.step is Step.COMMITTED:
            self._write(known, AGENT_COMMITTED, generation=known.about["generation"], is_alone=is_alone)
            if is_alone:
                self._make_current(known)
        self._end(known)

    def _apply(self, known: _Push, step: Step) -> None:
        started = time.perf_counter()
        change = known.change
        self._transitions.began(known.push, known.answer)
        try:
            generation = change.apply(self._probation, known.push)
        except HotReloadError as error:
            change.drop()
            known.step, known.error = Step.FAILED, error
            self._write(known, AGENT_FAILED, error=error.as_dict())
            self._end(known)
            return
        milliseconds = round((time.perf_counter() - started) * 1000, 3)
        known.about = {**known.about, "generation": generation.number, "commit_ms": milliseconds}
        known.about["level"] = getattr(generation, "level", "function")
        known.about["notes"] = [*known.about.get("notes", ()), *tables_told(generation)]
        known.step = step
        change.watch(self._probation, generation, known.push)

    def _abort(self, known: _Push) -> None:
        was_trying = known.step is Step.TRYING
        known.step = Step.ABORTED
        try:
            if was_trying:
                self._transitions.began(known.push, known.answer)
                known.change.take_back()
                self._probation.end(known.change.module)
            else:
                known.change.drop()
        except HotReloadError as error:
            known.step, known.error = Step.FAILED, error
            self._write(known, AGENT_FAILED, error=error.as_dict())
        else:
            self._write(known, AGENT_ABORTED, was_trying=was_trying)
        self._end(known)

    @staticmethod
    def _raise_if_stuck(known: _Push) -> None:
        """A failure after it was live: it still is."""
        if known.error is not None and "generation" in known.about:
            raise known.error

    def _make_current(self, known: _Push) -> None:
        """Processes that start later must find what this one was left alone with."""
        change = known.change
        try:
            if change.artefact is not None:
                self._books.patches.put(change.artefact)
            self._books.make_current(change.module.build_id, change.sequence, known.push)
        except HotReloadError as error:
            self._write(known, AGENT_FAILED, error=error.as_dict())

    def _write(self, known: _Push, event: str, **fields: Any) -> None:
        """Writes down what was done; that it was done stands, whether or not it can be written."""
        try:
            self._books.audit(event, push=known.push, **{**known.answer, **fields})
        except HotReloadError as error:
            known.doubt = error.message

    def _end(self, known: _Push) -> None:
        if self._open is known:
            self._open = None
        self._ended[known.push] = known
        while len(self._ended) > _REMEMBERED:
            self._ended.popitem(last=False)
