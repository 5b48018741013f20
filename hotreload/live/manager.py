"""The patch manager: one per process, behind one lock.

::

    attach ──▶ stage ──▶ commit ──▶ live ──▶ rollback
                 │          │
              unstage       └─ refused: nothing changed, the patch is still staged

What is done on an extension is in ``swaps.py``; other kinds of code bring a ``Work`` of their own (``work.py``).
One entry is redirected at once; several are a *transition*, in which each thread moves when it is in the middle of
nothing (``transitions.py``). ``swaps.py`` has the order of the steps. Generations that were live once stay mapped until
it is proven that nobody needs them (``retire.py``). Callbacks are called after the lock is released, so they may ask
the manager anything.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from hotreload.errors import StageError
from hotreload.events import GENERATION_STAGED, SWAP_COMMITTED, SWAP_ROLLED_BACK
from hotreload.live import shadow
from hotreload.live.around import Around
from hotreload.live.core import Core, NativeCore, PatchSource
from hotreload.live.files import Files
from hotreload.live.ledger import Ledger
from hotreload.live.records import Generation, History, LoadedModule, StagedPatch, Terms
from hotreload.live.report import Guard, Report, Subscribers, swap_fields
from hotreload.live.retire import Limits, Retirement
from hotreload.live.swaps import Swaps
from hotreload.live.transitions import Transitions
from hotreload.live.work import Work

__all__ = ["Manager"]

#: Address space kept near each extension for its generations. It costs nothing until it is used; without it the
#: process's own growth fills the neighbourhood.
RESERVE_BYTES = 32 << 20


class Manager:
    """Owns the generations of every hot extension of this process.

    Args:
        core: what does the work below; the native one unless a test says otherwise.
        reserve_bytes: address space to keep near each extension.
        allow_unsynchronised: commit even where the kernel has no core sync; generations then say so.
        terms: how threads move where a commit does not say it.
        limits: what an extension may hold on to, and whether old generations are unmapped.
    """

    def __init__(
        self,
        core: Core | None = None,
        *,
        reserve_bytes: int = RESERVE_BYTES,
        allow_unsynchronised: bool = False,
        terms: Terms | None = None,
        limits: Limits | None = None,
    ) -> None:
        self._core: Core = core or NativeCore()
        self._reserve_bytes = reserve_bytes
        self._terms = terms or Terms()
        #: Whom the program has asked to be called around each swap, and what it has marked, for ``status``.
        self.around = Around()
        self.describe_marks: Callable[[], list[dict[str, Any]]] = list
        self._ledgers: dict[str, Any] = {}
        self._subscribers = Subscribers()
        self._guard = Guard(self._subscribers)
        self._retirement = Retirement(self._core, self._guard, limits or Limits())
        self._transitions = Transitions(
            self._core, self._guard, self._retirement, self.around, allow_unsynchronised=allow_unsynchronised
        )
        self._files = Files(self._core)
        self._swaps = Swaps(
            self._core,
            self._guard,
            self._transitions,
            self._retirement,
            files=self._files,
            around=self.around,
            allow_unsynchronised=allow_unsynchronised,
        )
        self._is_locked = False
        #: Who does the work on a ledger, by its kind: C extensions here, others by :meth:`add_work`.
        self._works: dict[type, Work] = {Ledger: self._swaps}

    def add_work(self, make: Callable[[Guard, Around], Work]) -> None:
        """Takes another kind of code under management; a kind that is there already is left as it is."""
        with self._guard:
            work = make(self._guard, self.around)
            self._works.setdefault(work.ledger_type, work)

    def configure(
        self,
        *,
        level: str | None = None,
        deadline: float | None = None,
        policy: str | None = None,
        reason: str | None = None,
        retire: bool | None = None,
        keep: int | None = None,
        max_generations: int | None = None,
        max_bytes: int | None = None,
        files: str | None = None,
    ) -> None:
        """Changes what holds where a commit says nothing, from the next one on; None leaves it as it is.

        ``files`` is a directory in which each generation gets a file that tools can open, or "off". One that cannot be
        used is no error: generations are then in memory only, and :meth:`status` says why.

        Raises:
            ValueError: no such level or policy; nothing was changed.
            StageError: the policy is force and there is no reason; nothing was changed.
        """
        with self._guard:
            self._terms = self._terms.but(level=level, deadline=deadline, policy=policy, reason=reason)
            self._retirement.limits = self._retirement.limits.but(
                retire=retire, keep=keep, max_generations=max_generations, max_bytes=max_bytes
            )
            if files is not None:
                self._files.use(files)

    # What there is -------------------------------------------------------------------------------------------------

    def attach(self, path: str) -> LoadedModule:
        """Takes an extension of this process under management; attaching it again gives the same.

        The extension is pinned, so it cannot be unloaded, and address space near it is reserved.

        Raises:
            StageError: no such library is loaded, or it has no build-id; nothing was changed.
        """
        real = os.path.realpath(path)
        with self._guard:
            if real not in self._ledgers:
                work = next((work for work in self._works.values() if work.knows(real)), None)
                self._ledgers[real] = self._open(real) if work is None else work.open_ledger(real)
            module: LoadedModule = self._ledgers[real].snapshot()
            return module

    def _open(self, real: str) -> Ledger:
        base = self._core.open_base(real)
        with suppress(StageError):  # a patch may still find room on its own, and says so if not
            self._core.reserve(base, self._reserve_bytes)
        with suppress(StageError):  # takes milliseconds the first time; a commit refuses without it
            self._core.probe_barrier()
        return Ledger.open(_module_name(real), real, base)

    def modules(self) -> tuple[LoadedModule, ...]:
        """The attached extensions, as they are now."""
        with self._guard:
            return tuple(ledger.snapshot() for ledger in self._ledgers.values())

    def loaded_libraries(self) -> list[tuple[str, str]]:
        """Path and build-id (hex) of everything in this process that has a build-id."""
        libraries = [
            (found.path or os.path.realpath("/proc/self/exe"), found.build_id.hex())
            for found in self._core.objects()
            if found.build_id
        ]
        return libraries + [each for work in self._works.values() for each in work.loaded()]

    def history(self, module: LoadedModule) -> History:
        """Every generation of an extension, the base first."""
        with self._guard:
            history: History = self._ledger(module).history()
            return history

    def status(self) -> dict[str, Any]:
        """Everything that is live here, as plain data for JSON."""
        with self._guard:
            transition = self.transition()
            modules = [self._work(ledger).describe(ledger) for ledger in self._ledgers.values()]
            return {
                "pid": os.getpid(),
                "modules": modules,
                "transition": transition,
                "shadow": shadow.describe(),
                "files": self._files.describe(),
                "marked": self.describe_marks(),
            }

    def subscribe(self, callback: Callable[[dict[str, Any]], None]) -> Callable[[], None]:
        """Has ``callback`` called with a dict after each stage, commit, rollback and refusal.

        Returns:
            what ends the subscription; calling it twice does nothing.
        """
        return self._subscribers.add(callback)

    # Refusing for ever ---------------------------------------------------------------------------------------------

    def lock(self) -> None:
        """From now on nothing is staged and nothing is rolled back here, nor in children: there is no unlock.

        A patch that was staged before may still be committed, since others may have committed it already.
        """
        self._is_locked = True

    @property
    def is_locked(self) -> bool:
        """Whether :meth:`lock` was called."""
        return self._is_locked

    def check_unlocked(self) -> None:
        """Insists that this process takes patches.

        Raises:
            StageError: it was locked; nothing was changed.
        """
        if self._is_locked:
            raise StageError(
                "this process was locked: it takes no patch and no rollback",
                hint="restart it to change its code",
                status="LOCKED",
            )

    # What changes --------------------------------------------------------------------------------------------------

    def stage(self, module: LoadedModule, patch: PatchSource) -> StagedPatch:
        """Maps a patch near the extension and binds it to the live state. Nothing is redirected.

        Args:
            module: from :meth:`attach`.
            patch: an open descriptor, the bytes, or a path.

        Raises:
            StageError: the patch cannot go into this process; what was mapped is unmapped.
            PoisonedError: an earlier undo has failed here.
        """
        started = time.perf_counter()
        with Report(self._subscribers, self.around, module, "stage") as report:
            self.check_unlocked()
            with self._guard:
                ledger = self._healthy(module)
                staged = self._work(ledger).stage(ledger, patch)
            report.succeed(
                GENERATION_STAGED,
                generation=staged.number,
                functions=list(staged.functions),
                distance=staged.distance,
                bytes_mapped=staged.bytes_mapped,
                duration=time.perf_counter() - started,
            )
        return staged

    def unstage(self, staged: StagedPatch) -> None:
        """Unmaps a staged patch that was not committed.

        After a swap that was undone the memory stays: a thread may have entered it in between.

        Raises:
            StageError: it is not staged, or it is live already; nothing was changed.
        """
        with self._guard:
            ledger = self._ledger(staged.module)
            if not any(staged is known for known in ledger.staged):
                raise StageError("the patch is not staged", hint="a live generation stays mapped", status="NOT_STAGED")
            self._work(ledger).unstage(ledger, staged)

    def check(self, module: LoadedModule, to: StagedPatch | int, *, level: str | None = None) -> str:
        """Insists that a staged patch, or an earlier generation, could be made live now at a level; returns the level.

        For whoever promises it to others before it is done. The commit may still be refused for what changes meanwhile.

        Raises:
            ValueError: no such level.
            StageError: threads cannot be looked at here, or there is no room for stubs; nothing was changed.
        """
        terms = self._terms.but(level=level)
        with self._guard:
            ledger = self._healthy(module)
            return self._work(ledger).check(ledger, to, terms)

    def commit(
        self,
        staged: StagedPatch,
        *,
        info: Mapping[str, Any] | None = None,
        level: str | None = None,
        deadline: float | None = None,
        policy: str | None = None,
        reason: str | None = None,
        by: str | None = None,
        wait: float = 0.5,
    ) -> Generation:
        """Makes a staged patch live.

        At level ``function``, when this returns, no call that starts afterwards enters the old code. At ``call`` and
        ``request`` that holds for each thread from the moment it moves; ``transition`` of the result says whether all
        have, and if not, a thread of ours goes on with it.

        Args:
            staged: from :meth:`stage`.
            info: remembered with the generation.
            level: ``function``, ``call`` or ``request``; without, ``call`` where two entries or more change.
            deadline: after so many seconds a thread that has not moved is dealt with by the policy.
            policy: ``wait`` tells once and stays open, ``revert`` goes back, ``force`` ends it all the same.
            reason: why it may be forced; remembered as a taint.
            by: who may be asked about that.
            wait: how long to wait here for the threads.

        Raises:
            ValueError: no such level or policy; nothing was changed.
            StageError: refused; nothing was stored and the patch is still staged.
            TransitionError: the stores were undone, or threads are on their way back; the earlier generation serves.
            PoisonedError: an undo failed; restart the process.
        """
        terms = self._terms.but(level=level, deadline=deadline, policy=policy, reason=reason, by=by)
        with Report(self._subscribers, self.around, staged.module, "commit", staged) as report:
            with self._guard:
                ledger = self._healthy(staged.module)
                work = self._work(ledger)
                work.check_free()
                ledger.check_staged(staged)
                generation = work.commit(ledger, staged, dict(info or {}), terms)
                transition = work.open
            generation = work.settle(ledger, transition, generation.number, wait)
            report.succeed(SWAP_COMMITTED, **swap_fields(generation))
        return generation

    def rollback(
        self,
        module: LoadedModule,
        to: int = 0,
        *,
        is_promised: bool = False,
        level: str | None = None,
        deadline: float | None = None,
        policy: str | None = None,
        reason: str | None = None,
        by: str | None = None,
        wait: float = 0.5,
    ) -> Generation:
        """Makes an earlier generation live again; functions that it lacks go back to their original code.

        While threads are on their way from that generation to another, they turn round.

        Args:
            module: from :meth:`attach`.
            to: the number of the generation.
            is_promised: it was agreed with others before this process was locked, so it is done all the same.
            level, deadline, policy, reason, by, wait: as for :meth:`commit`.

        Raises:
            ValueError: no such level or policy; nothing was changed.
            StageError: there is no such generation, or the swap was refused; nothing was stored.
            TransitionError: the stores were undone; the generation from before serves.
            PoisonedError: an undo failed; restart the process.
        """
        terms = self._terms.but(level=level, deadline=deadline, policy=policy, reason=reason, by=by)
        with Report(self._subscribers, self.around, module, "rollback") as report:
            if not is_promised:
                self.check_unlocked()
            with self._guard:
                ledger = self._healthy(module)
                work = self._work(ledger)
                left = ledger.live.number
                seconds = work.go_back(ledger, ledger.generation(to), terms, may_veto=not is_promised)
                transition = work.open
            generation = work.settle(ledger, transition, to, wait)
            report.succeed(SWAP_ROLLED_BACK, **{**swap_fields(generation), "duration": seconds, "left": left})
        return generation

    # What is open --------------------------------------------------------------------------------------------------

    def transition(self) -> dict[str, Any] | None:
        """The transition that is open, with every thread that has not moved; plain data for JSON, or None."""
        with self._guard:
            work = self._with_open()
            return None if work is None else work.open.describe()

    def wait(self, seconds: float) -> bool:
        """Whether no transition is open any more within so many seconds."""
        until = time.monotonic() + seconds
        return all(work.wait(max(0.0, until - time.monotonic())) for work in list(self._works.values()))

    def reverse(self, *, wait: float = 0.5) -> Generation:
        """Turns the open transition round: threads that have moved go back, the others stay.

        Returns:
            the generation that they go to.

        Raises:
            StageError: nothing is open, or a hook refuses; nothing was changed.
        """
        self.check_unlocked()
        with self._guard:
            work = self._with_open_or_refuse()
            transition = work.open
            work.reverse(transition)
            goal, ledger = transition.origin if work.open is None else transition.goal, transition.ledger
            transition = work.open
        return work.settle(ledger, transition, goal, wait)

    def force(self, reason: str, *, by: str = "") -> Generation:
        """Ends the open transition although threads have not moved: what these see may be mixed.

        It is remembered as a taint, and no generation of the extension is unmapped from now on.

        Raises:
            StageError: nothing is open, there is no reason, or the swap was refused; nothing was changed.
            TransitionError: the stores were undone; the transition is still open.
            PoisonedError: an undo failed; restart the process.
        """
        with self._guard:
            work = self._with_open_or_refuse()
            transition = work.open
            work.force(transition, reason, by or f"uid {os.geteuid()}")
            live: Generation = transition.ledger.live
            return live

    def _with_open(self) -> Work | None:
        return next((work for work in self._works.values() if work.open is not None), None)

    def _with_open_or_refuse(self) -> Work:
        work = self._with_open()
        if work is None:
            raise StageError("no transition is open", hint="all threads are there already", status="NO_TRANSITION")
        return work

    # Around a fork -------------------------------------------------------------------------------------------------

    def hold(self) -> None:
        """Waits until nothing is under way and keeps it so, until :meth:`let_go`."""
        self._guard.__enter__()
        for work in self._works.values():
            work.hold()

    def let_go(self) -> None:
        """Ends :meth:`hold`."""
        for work in self._works.values():
            work.let_go()
        self._guard.__exit__()

    def renew_lock(self) -> None:
        """In a forked child: the threads that held locks or drove a transition are not there, so there are new ones."""
        self._guard.renew()
        for work in self._works.values():
            work.renew()

    def _work(self, ledger: Any) -> Work:
        return self._works[type(ledger)]

    def _ledger(self, module: LoadedModule) -> Any:
        try:
            return self._ledgers[module.path]
        except KeyError:
            raise StageError(
                f"{module.path} is not attached", hint="call attach() first", status="NOT_ATTACHED"
            ) from None

    def _healthy(self, module: LoadedModule) -> Any:
        ledger = self._ledger(module)
        if ledger.poison is not None:
            raise ledger.poison
        return ledger


def _module_name(path: str) -> str:
    """The dotted name under which an extension was imported, else the stem of its file."""
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if isinstance(file, str) and file.endswith(".so") and os.path.realpath(file) == path:
            return name
    return os.path.basename(path).split(".", 1)[0]
