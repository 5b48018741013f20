"""All or none: one change goes into every process, or into none of them.

::

    survey ─▶ prepare in all ─┬─ all said yes ─▶ keep the patch ─▶ decide "commit" ─▶ make current ─▶ commit in all
                              │                                          │                                  │
                              │                                a deadline was first:                who came meanwhile?
                              │                                the decision is "abort"               prepare, commit
                              │                                          │                           until none
                              └─ one no, one silence ─▶ decide "abort" ──┴─▶ abort in all

The decision is one file made by link(2): whoever is first has decided, and everybody reads the same word. A process
that has prepared and hears nothing more tries to decide "abort" when its deadline passes, and does what the file says.
So the command may be killed at any line below, and every process ends the same way.

With a canary some processes commit first and *on trial*: they hold the new code only until their deadline, then ask
for the decision like the others, and go back unless it is "commit". With the policy "revert" all of them do that, and
the decision waits for their threads: it is "commit" when every one has come over, "abort" when the time is over. A
patch whose pre-commit hook may say no is tried everywhere too, but waited for nowhere.

    all prepared ─▶ all on trial ─▶ look after their threads ─┬─ every one has come over ─▶ keep ─▶ decide "commit"
                                                              └─ the time is over ─▶ decide "abort" ─▶ they turn round

Nothing in here knows sockets, files or the screen: :class:`Worker`, :class:`Books` and ``observe`` stand for them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol

from hotreload.errors import HotReloadError
from hotreload.push.records import Exit, Identity, Live, Outcome, ProcessStatus, Row, State, new_push_id
from hotreload.push.threads import name_threads

__all__ = [
    "Books",
    "Change",
    "Coordinator",
    "EndedError",
    "Found",
    "RefusedError",
    "SilentError",
    "Terms",
    "Trial",
    "Worker",
]

_AT_ONCE = 32
_PAUSE = 0.02
_PAUSE_LIMIT = 0.5
#: Each process ends it by its own clock, which began a moment later than ours.
_FORCING = 5.0
_QUIET_LOOKS = 2
_AGAIN = 3
_COMMIT, _ABORT = "commit", "abort"


class RefusedError(Exception):
    """The process answered, and the answer is no; nothing in it was changed."""

    def __init__(self, message: str, hint: str = "", status: str = "") -> None:
        super().__init__(f"{message} ({hint})" if hint else message)
        self.status = status


class SilentError(Exception):
    """The process is there and did not answer in time: whether it heard is not known."""


class EndedError(Exception):
    """The process is not there any more; ``was_asked`` says whether it ended while it worked on the request."""

    def __init__(self, message: str, *, was_asked: bool = False) -> None:
        super().__init__(message)
        self.was_asked = was_asked


class Worker(Protocol):
    """One process. Each call raises RefusedError, SilentError or EndedError when it is not done."""

    @property
    def identity(self) -> Identity: ...
    @property
    def command(self) -> str: ...
    @property
    def parent(self) -> int: ...
    def is_alive(self) -> bool: ...
    def status(self) -> ProcessStatus: ...
    def commit(self, push: str, *, hold: float | None = None) -> dict[str, Any]: ...
    def abort(self, push: str) -> Mapping[str, Any] | None: ...


class Change(Protocol):
    """What is to become live: a patch, or the base again."""

    @property
    def module(self) -> str: ...
    @property
    def build_id(self) -> str: ...
    def is_live(self, live: Live) -> bool: ...
    def prepare(self, worker: Any, push: str, deadline: float) -> dict[str, Any]: ...


class Books(Protocol):
    """What outlives every process: the patch, the decision, and what is current."""

    def keep(self, push: str) -> None: ...
    def decide(self, push: str, word: str) -> str: ...
    def make_current(self) -> None: ...
    def is_current(self) -> bool: ...


class Trial(Protocol):
    """What a canary is put through."""

    @property
    def count(self) -> int: ...
    @property
    def seconds(self) -> float: ...
    def judge(self, push: str, canaries: Sequence[Worker]) -> str: ...


@dataclass(frozen=True)
class Found:
    """The processes there are, and how many children of theirs are too young to have a socket yet."""

    workers: tuple[Worker, ...]
    newborn: int = 0


@dataclass(frozen=True)
class Terms:
    """How long things may take, in seconds.

    ``deadline`` is how long a process stays prepared without a word; ``newcomers`` how long to wait for processes
    that were being born during the push. ``settle`` is how long the threads may take to come over, ``policy`` what is
    then: "wait" leaves them, "revert" takes the push back everywhere, "force" has each process end it for ``reason``.
    """

    deadline: float = 10.0
    newcomers: float = 2.0
    settle: float = 30.0
    policy: str = "wait"
    reason: str = ""

    @property
    def is_reverting(self) -> bool:
        """Whether no process keeps it unless all of its threads, in every process, come over."""
        return self.policy == "revert"


class Coordinator:
    """Carries one change through.

    Args:
        find: the processes there are, now.
        books: the patch store and the decisions.
        observe: is called with all rows after each step.
        terms: how long things may take.
    """

    def __init__(
        self,
        find: Callable[[], Found],
        books: Books,
        *,
        observe: Callable[[Sequence[Row]], None] | None = None,
        terms: Terms | None = None,
    ) -> None:
        self._find = find
        self._books = books
        self._observe = observe or _observe_nothing
        self._terms = terms or Terms()
        self._rows: dict[Identity, Row] = {}
        self._workers: dict[Identity, Worker] = {}
        self._live_at = 0.0
        self._may_be_vetoed = False

    def run(self, change: Change, *, trial: Trial | None = None, dry_run: bool = False, push: str = "") -> Outcome:
        """Makes the change live in every process, or in none.

        A process that ends while it prepares spoils the attempt. One that was merely due to be recycled must not
        cost the operator a push, so that alone is tried once more.

        Raises:
            HotReloadError: the books could not be written before the decision; every process was told to abort.
        """
        started = time.monotonic()
        self._live_at = 0.0
        outcome = self._attempt(change, push or new_push_id(), trial, dry_run=dry_run)
        spoilt = [row for row in outcome.rows if row.state is State.ENDED and row.detail == _ENDED_PREPARING]
        if outcome.exit is Exit.REFUSED and len(spoilt) == 1 and not self._rows_in(State.REFUSED, State.SILENT):
            outcome = self._attempt(change, new_push_id(), trial, dry_run=dry_run)
        outcome.seconds = time.monotonic() - started
        outcome.live_seconds = max(0.0, self._live_at - started)
        return outcome

    # One attempt ---------------------------------------------------------------------------------------------------

    def _attempt(self, change: Change, push: str, trial: Trial | None, *, dry_run: bool) -> Outcome:
        self._rows, self._workers = {}, {}
        self._survey(change, self._find().workers)
        if not self._voters() or not self._rows_in(State.FOUND):
            return self._without_work(push, dry_run=dry_run)
        if self._rows_in(State.REFUSED, State.SILENT):
            return self._outcome(push, Exit.REFUSED, self._why_not(), "")
        try:
            reason = self._try_first(change, push, trial) if trial and not dry_run else ""
            reason = reason or self._prepare(change, push, self._rows_in(State.FOUND))
            if not reason and not self._rows_in(State.PREPARED, State.TRYING):
                reason = "every process ended before it was asked"
            if not reason and not dry_run and (self._terms.is_reverting or self._may_be_vetoed):
                reason = self._try_all(push)
            if not reason and not dry_run and self._terms.is_reverting:
                reason = self._wait_for_all(change)
                if reason:
                    return self._revert(change, push, reason)
            if reason or dry_run:
                return self._abort(change, push, reason)
            self._books.keep(push)
            decision = self._books.decide(push, _COMMIT)
        except BaseException:
            with suppress(HotReloadError, OSError):
                self._abort(change, push, "interrupted")
            raise
        if decision != _COMMIT:
            return self._abort(change, push, "a process's deadline passed before all had prepared")
        return self._carry_out(change, push)

    def _survey(self, change: Change, workers: Iterable[Worker]) -> list[Row]:
        """Asks each process what it has; its row says whether it is to be changed."""
        new = [worker for worker in workers if worker.identity not in self._rows]
        for worker in new:
            self._workers[worker.identity] = worker
            self._rows[worker.identity] = Row(worker.identity, command=worker.command)

        def ask(row: Row) -> None:
            status = self._workers[row.identity].status()
            other = status.other_build(change.module, change.build_id)
            live = status.of(change.build_id)
            row.before = str(live) if live else ""
            if live is not None and change.is_live(live):
                row.become(State.CURRENT, "has it already")
                row.note(status.transition_of(change.build_id))
            elif live is not None:
                row.become(State.FOUND)
            elif other is not None:
                row.become(
                    State.REFUSED,
                    f"has another build of {change.module}: {other.build_id[:12]}, not {change.build_id[:12]}",
                )
            else:
                row.become(State.ABSENT, f"has not loaded {change.module}")

        rows = [self._rows[worker.identity] for worker in new]
        self._each(rows, ask, ended="ended before it was asked")
        return rows

    def _prepare(self, change: Change, push: str, rows: Sequence[Row]) -> str:
        """Prepares in these; the reason why not, empty when all have."""

        def ask(row: Row) -> None:
            row.become(State.PREPARING)
            reply = change.prepare(self._workers[row.identity], push, self._terms.deadline)
            self._may_be_vetoed = self._may_be_vetoed or bool(reply.get("may_veto"))
            row.level = str(reply.get("level") or "")
            row.notes = tuple(str(note) for note in reply.get("notes") or ())
            row.become(State.PREPARED, _describe(reply))

        self._each(rows, ask, ended=_ENDED_PREPARING)
        return self._why_not(rows)

    def _try_first(self, change: Change, push: str, trial: Trial) -> str:
        """A few processes take it on trial; the reason why not to go on, empty when they do well."""
        canaries = self._choose(trial.count)
        reason = self._prepare(change, push, canaries)
        canaries = [row for row in canaries if row.state is State.PREPARED]
        if reason or not canaries:
            return reason or "every canary ended before it was asked"

        def ask(row: Row) -> None:
            self._put_on_trial(row, push, trial.seconds)

        self._each(canaries, ask, ended="ended while it went on trial")
        reason = self._why_not(canaries) or trial.judge(push, [self._workers[row.identity] for row in canaries])
        # Who started meanwhile belongs to the rest.
        return reason or self._survey_again(change)

    def _put_on_trial(self, row: Row, push: str, seconds: float) -> None:
        """It holds the new code so long, and for the rest of the push."""
        hold = seconds + self._terms.deadline + (self._terms.settle if self._terms.is_reverting else 0.0)
        _take_down(row, self._workers[row.identity].commit(push, hold=hold))
        row.become(State.TRYING, "on trial")

    def _try_all(self, push: str) -> str:
        """Every process takes it on trial; the reason why not to go on, empty when all have."""
        rows = self._rows_in(State.PREPARED)
        self._each(rows, lambda row: self._put_on_trial(row, push, 0.0), ended="ended while it went on trial")
        return self._why_not(rows)

    def _wait_for_all(self, change: Change) -> str:
        """Looks after every process on trial until its threads have come over; who has not, empty when all have."""
        trying = self._rows_in(State.TRYING)
        self._follow(change, trying)
        late = [row for row in trying if row.is_open]
        if late:
            named = "; ".join(f"{row.pid}: {name_threads(row.transition or {})}" for row in late)
            return f"not settled after {self._terms.settle:g} s: {named}"
        gone = [row for row in trying if row.state is State.ENDED]
        return self._list(gone)

    def _revert(self, change: Change, push: str, reason: str) -> Outcome:
        """All of them go back: all or none holds, and the exit code says that it was live for a while."""
        outcome = self._abort(change, push, reason)
        if outcome.exit is Exit.REFUSED:
            outcome.exit = Exit.REVERTED
        return outcome

    def _choose(self, count: int) -> list[Row]:
        """Those that go first: who is another one's parent only where all are.

        A parent may serve nobody, so that its health says nothing, and what it forks meanwhile has code on trial.
        """
        found = self._rows_in(State.FOUND)
        parents = {worker.parent for worker in self._workers.values()}
        return ([row for row in found if row.pid not in parents] or found)[:count]

    def _survey_again(self, change: Change) -> str:
        self._survey(change, self._find().workers)
        return self._why_not(self._rows_in(State.REFUSED, State.SILENT))

    # After the decision --------------------------------------------------------------------------------------------

    def _carry_out(self, change: Change, push: str) -> Outcome:
        """The decision is "commit": nothing that happens from here on can change it, only be reported."""
        problem = ""
        try:
            self._books.make_current()
        except (HotReloadError, OSError) as error:
            problem = f"committed, but processes that start later will not have it: {error}"
        self._commit(push, self._rows_in(State.PREPARED, State.TRYING))
        self._live_at = time.monotonic()
        self._take_in_newcomers(change, push)
        with suppress(KeyboardInterrupt):  # it is decided: who does not want to look on any longer need not
            self._follow(change, self._rows_in(State.COMMITTED))
        bad = self._rows_in(State.SETTLING, State.FAILED, State.REFUSED, State.SILENT)
        if problem or bad:
            return self._outcome(push, Exit.PARTLY, problem or self._list(bad), _COMMIT)
        return self._outcome(push, Exit.DONE, "", _COMMIT)

    def _commit(self, push: str, rows: Sequence[Row]) -> None:
        def ask(row: Row) -> None:
            was_trying = row.state is State.TRYING
            row.become(State.COMMITTING)
            try:
                reply = self._workers[row.identity].commit(push)
            except SilentError as error:
                row.become(State.SETTLING, f"unreachable ({error}), will settle by its deadline: commit")
            except EndedError:
                row.become(State.ENDED, "ended after the decision; its successor starts with what is current")
            except RefusedError as error:
                row.become(State.FAILED, f"did not carry out the decision: {error}")
            else:
                if was_trying:
                    row.note(reply.get("transition"))
                else:
                    _take_down(row, reply)
                row.notes = tuple(dict.fromkeys([*row.notes, *map(str, reply.get("notes") or ())]))
                row.become(State.COMMITTED)

        self._each(rows, ask, ended="")

    # Threads -------------------------------------------------------------------------------------------------------

    def _follow(self, change: Change, rows: Sequence[Row]) -> None:
        """Looks after processes until all of their threads have come over, or the time for that is over.

        A process that ends meanwhile has no threads any more; one that does not answer is asked again.
        """
        ends = time.monotonic() + self._terms.settle + (_FORCING if self._terms.policy == "force" else 0.0)
        pause = _PAUSE
        while True:
            going = [row for row in rows if row.is_open]
            left = ends - time.monotonic()
            if not going or left <= 0:
                return
            time.sleep(min(pause, left))
            pause = min(pause * 1.5, _PAUSE_LIMIT)
            self._each(going, lambda row: self._look_at_threads(change, row), ended="")

    def _look_at_threads(self, change: Change, row: Row) -> None:
        try:
            status = self._workers[row.identity].status()
        except (SilentError, RefusedError):
            return
        except EndedError:
            row.note(None)
            if row.state is State.TRYING:
                row.become(State.ENDED, "ended while it was on trial")
            return
        row.note(status.transition_of(change.build_id))
        if not row.is_open and self._terms.policy == "force":
            ours = [one for one in status.taints_of(change.build_id) if one.get("reason") == self._terms.reason]
            row.forced = str(ours[-1].get("what")) if ours else ""

    def _take_in_newcomers(self, change: Change, push: str) -> None:
        """Rounds of survey, prepare and commit for processes that appeared meanwhile, until there are none.

        The decision of this push holds already, so one that prepares now and hears no more commits by its deadline.
        A process that has not loaded the module yet needs nothing: what it will find current is this. One that was
        restoring the older patch just then may have been quicker than its commit: it is asked anew, under a name of
        its own that is decided beforehand.
        """
        gives_up = time.monotonic() + self._terms.newcomers
        quiet = again = 0
        while time.monotonic() < gives_up:
            found = self._find()
            failed = self._rows_in(State.FAILED) if again < _AGAIN else []
            again += bool(failed)
            for row in (*self._rows_in(State.ABSENT), *failed):
                del self._rows[row.identity]
            arrived = [row for row in self._survey(change, found.workers) if row.state is State.FOUND]
            name = f"{push}.{again}" if again else push
            if arrived and again and self._books.decide(name, _COMMIT) != _COMMIT:
                return
            self._prepare(change, name, arrived)
            self._commit(name, [row for row in arrived if row.state is State.PREPARED])
            quiet = 0 if arrived or found.newborn else quiet + 1
            if quiet == _QUIET_LOOKS:
                return
            time.sleep(_PAUSE)

    def _abort(self, change: Change, push: str, reason: str) -> Outcome:
        """Decides "abort" and tells everybody who may have prepared; for a dry run that is the good end."""
        try:
            decision = self._books.decide(push, _ABORT)
        except (HotReloadError, OSError):
            self._take_back(change, push, reason)
            raise
        if decision == _COMMIT:  # the commit was decided, although the books did not say so when they were asked
            return self._carry_out(change, push)
        self._take_back(change, push, reason)
        if self._rows_in(State.SETTLING):
            return self._outcome(push, Exit.PARTLY, reason, decision)
        return self._outcome(push, Exit.REFUSED if reason else Exit.DONE, reason, decision)

    def _take_back(self, change: Change, push: str, reason: str) -> None:
        told = self._rows_in(State.PREPARED, State.TRYING, State.COMMITTING)
        changed = [row for row in told if row.state is not State.PREPARED]

        def ask(row: Row) -> None:
            was_trying = row.state is not State.PREPARED
            try:
                row.note(self._workers[row.identity].abort(push))
            except EndedError:
                row.note(None)
                row.become(State.ENDED, "ended; its successor starts with what is current")
            except (SilentError, RefusedError) as error:
                if was_trying:
                    row.become(State.SETTLING, f"has it on trial and goes back by its deadline: {error}")
                else:
                    row.become(State.ABORTED, f"drops it by its deadline: {error}")
            else:
                row.after = ""
                row.become(State.ABORTED, _TAKEN_BACK if was_trying else "" if reason else "would take it")

        self._each(told, ask, ended="")
        # They turn round like they went: threads that are in the new code finish there.
        self._follow(change, [row for row in changed if row.state is State.ABORTED])

    # The rows ------------------------------------------------------------------------------------------------------

    def _without_work(self, push: str, *, dry_run: bool) -> Outcome:
        """Nobody is to be changed: all have it, somebody cannot be asked, or nobody is there."""
        reason = self._why_not()
        if reason:
            return self._outcome(push, Exit.REFUSED, reason, "")
        if not self._rows_in(State.CURRENT):
            return self._outcome(push, Exit.REFUSED, "no process has this module loaded", "")
        if not dry_run and not self._books.is_current():
            self._books.keep(push)
            self._books.decide(push, _COMMIT)
            self._books.make_current()
            return self._outcome(push, Exit.DONE, "every process had it already; now those that start have it too", "")
        return self._outcome(push, Exit.NOTHING, "every process has it already", "")

    def _voters(self) -> list[Row]:
        return self._rows_in(State.FOUND, State.REFUSED, State.SILENT)

    def _rows_in(self, *states: State) -> list[Row]:
        return [row for row in self._rows.values() if row.state in states]

    def _why_not(self, rows: Iterable[Row] | None = None) -> str:
        """Who said no or nothing, with their reasons; empty when nobody did."""
        rows = list(self._rows.values() if rows is None else rows)
        bad = [row for row in rows if row.state in (State.REFUSED, State.SILENT)]
        bad += [row for row in rows if row.state is State.ENDED and row.detail != _ENDED_BEFORE]
        return self._list(bad)

    def _list(self, rows: Sequence[Row]) -> str:
        """Each reason once, behind the processes that gave it."""
        pids: dict[str, list[str]] = {}
        for row in rows:
            pids.setdefault(row.detail, []).append(str(row.pid))
        return "; ".join(f"{', '.join(who)}: {detail}" for detail, who in pids.items())

    def _each(self, rows: Sequence[Row], ask: Callable[[Row], None], *, ended: str) -> None:
        """Does one thing with each process, side by side; what goes wrong becomes the row's state."""

        def one(row: Row) -> None:
            try:
                ask(row)
            except RefusedError as error:
                row.become(State.REFUSED, str(error))
            except SilentError as error:
                row.become(State.SILENT, str(error))
            except EndedError as error:
                row.become(State.ENDED, ended if error.was_asked or ended != _ENDED_PREPARING else _ENDED_BEFORE)
            self._observe(list(self._rows.values()))

        if rows:
            with ThreadPoolExecutor(min(_AT_ONCE, len(rows))) as pool:
                list(pool.map(one, rows))

    def _outcome(self, push: str, code: Exit, reason: str, decision: str) -> Outcome:
        self._observe(list(self._rows.values()))
        return Outcome(push, code, reason, list(self._rows.values()), decision)


_ENDED_BEFORE = "ended before it was asked"
_ENDED_PREPARING = "ended while it prepared"
_TAKEN_BACK = "taken back"


def _observe_nothing(_rows: Sequence[Row]) -> None:
    """Nobody looks on."""


def _describe(reply: dict[str, Any]) -> str:
    functions = reply.get("functions") or ()
    return ", ".join(str(name) for name in functions)


def _take_down(row: Row, reply: Mapping[str, Any]) -> None:
    """What a process's answer to a commit says: generation, milliseconds, level, and the threads to come."""
    row.after, row.milliseconds = str(reply.get("generation", "")), float(reply.get("commit_ms", 0.0) or 0.0)
    row.level = str(reply.get("level", ""))
    row.note(reply.get("transition"))
