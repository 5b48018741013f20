"""Bringing a patch in and making generations live: the order in which everything is done, and undone when it fails.

::

    stage      room? ─▶ mapped ─▶ sites ─▶ what is known of the original code
    commit     callbacks, hooks before ─▶ swap ─▶ in the books ─▶ hooks, callbacks after ─▶ tables
    go_back    what is open turns round, or: the same

    swap       level function: stored          level call, request: a transition begins
    settle                                     it is driven on for a moment, then by a thread; tables when all are there

The manager calls all of it with its lock held, :meth:`Swaps.settle` without.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from hotreload.errors import HotReloadError, PoisonedError, TransitionError
from hotreload.live import hooks
from hotreload.live.around import Around
from hotreload.live.core import Core, Image, PatchSource
from hotreload.live.files import Files
from hotreload.live.ledger import Ledger
from hotreload.live.records import Generation, HookRun, Redirect, StagedPatch, Terms
from hotreload.live.report import Guard
from hotreload.live.retire import Retirement
from hotreload.live.tables import prepare, show
from hotreload.live.transitions import OpenTransition, Transitions
from hotreload.live.work import settled

__all__ = ["Swaps"]


class Swaps:
    """Does it, for all extensions of the process; a :class:`~hotreload.live.work.Work` of the manager."""

    ledger_type = Ledger

    def __init__(
        self,
        core: Core,
        guard: Guard,
        transitions: Transitions,
        retirement: Retirement,
        *,
        files: Files,
        around: Around,
        allow_unsynchronised: bool,
    ) -> None:
        self._core = core
        self._guard = guard
        self._transitions = transitions
        self._retirement = retirement
        self._files = files
        self._around = around
        self._allow_unsynchronised = allow_unsynchronised

    # As the manager sees it: what is open ---------------------------------------------------------------------------

    @property
    def open(self) -> OpenTransition | None:
        return self._transitions.open

    def knows(self, path: str) -> bool:  # noqa: ARG002 - any file may be an extension: the core says so when it is opened
        return False

    def open_ledger(self, path: str) -> Ledger:
        raise NotImplementedError(path)

    def loaded(self) -> list[tuple[str, str]]:
        """What the dynamic loader does not list; there is nothing."""
        return []

    def describe(self, ledger: Ledger) -> dict[str, Any]:
        """Plain data for ``status``; what nobody needs any more is unmapped before."""
        if self._transitions.open is None:
            self._retirement.look(ledger)
        return {**ledger.describe(), "kept": self._retirement.kept(ledger)}

    def check_free(self) -> None:
        self._transitions.check_free()

    def wait(self, seconds: float) -> bool:
        return self._transitions.wait(seconds)

    def reverse(self, transition: OpenTransition) -> None:
        self._transitions.reverse(transition)

    def force(self, transition: OpenTransition, reason: str, by: str) -> None:
        self._transitions.force(transition, reason, by)

    def hold(self) -> None:
        self._transitions.hold()

    def let_go(self) -> None:
        self._transitions.let_go()

    def renew(self) -> None:
        self._transitions.renew()

    # The steps -----------------------------------------------------------------------------------------------------

    def stage(self, ledger: Ledger, source: PatchSource) -> StagedPatch:
        """Maps a patch and opens the sites that it needs; what was mapped is unmapped when it is refused."""
        self._retirement.check_generations(ledger)
        patch = self._core.open_patch(source)
        try:
            prepare(patch.tables)
            number = ledger.newest + 1
            label = f"hotreload:{ledger.name}.{number}"[:200]
            image = self._files.stage(patch, ledger.base, ledger.owner_addresses(patch), label)
            try:
                self._retirement.check_bytes(ledger, image.mapped)
                redirects = ledger.redirects_of(patch, image)
                self._open_sites(ledger, redirects)
            except BaseException:
                self._core.unstage(image)
                self._files.forget(image)
                raise
            ledger.learn_ranges(patch)
        finally:
            self._core.close_patch(patch)
        staged = StagedPatch(
            module=ledger.snapshot(),
            functions=tuple(function.name for function in patch.functions),
            bytes_mapped=image.mapped,
            distance=image.distance,
            number=number,
            carried=patch.carried,
            image=image,
            redirects=redirects,
            data_escapes=patch.data_escapes,
            hooks=patch.hooks,
            tables=patch.tables,
        )
        ledger.staged.append(staged)
        return staged

    def unstage(self, ledger: Ledger, staged: StagedPatch) -> None:
        """Unmaps it, unless a thread may have entered it before a swap was undone."""
        ledger.drop_staged(staged)
        if staged.image.handle not in [kept.handle for kept in ledger.retained]:
            self._core.unstage(staged.image)
            self._files.forget(staged.image)

    def _open_sites(self, ledger: Ledger, redirects: Sequence[Redirect]) -> None:
        entries = ledger.missing_entries(redirects)
        try:
            sites = self._core.open_sites(entries)
        except HotReloadError as error:
            raise _naming_function(error, ledger, redirects) from None
        ledger.sites.update(zip(entries, sites))
        if any(ledger.sites[redirect.entry].kind == "jump" for redirect in redirects):
            self._core.probe_text()

    def commit(self, ledger: Ledger, staged: StagedPatch, info: dict[str, Any], terms: Terms) -> Generation:
        """Makes a staged patch live, or has threads begin to move to it; returns the generation."""
        draft = staged.draft(info)
        left = ledger.live.number
        swap = ledger.swap_to(draft)
        if not info.get("restored"):  # at an import nobody is in the middle of anything yet
            terms = terms.at_least(self._around.level_of(swap), len(ledger.switches(draft.redirects)))
        self._check_policy(ledger, staged, terms)
        self._around.before(swap)
        runs = hooks.run_pre(draft, left)
        # They are code of others, which may have asked the manager for anything.
        self._transitions.check_free()
        ledger.check_staged(staged)
        try:
            generation = self._swap(ledger, draft, staged.image, terms)
        except HotReloadError as error:
            if isinstance(error, (TransitionError, PoisonedError)):
                ledger.retained.append(staged.image)
            if runs and not isinstance(error, PoisonedError):
                hooks.run_rollback(draft, left)
            raise
        ledger.record(staged, generation)
        generation = ledger.mark(generation.number, hook_runs=(*runs, *hooks.run_post(generation, left)))
        self._around.after(swap)
        self._after_swap(ledger)
        return ledger.generations[generation.number]

    def check(self, ledger: Ledger, to: StagedPatch | int, terms: Terms) -> str:
        """Insists that threads could begin to move to a generation now; returns the level at which they would.

        Raises:
            StageError: what a swap would raise before its first store; nothing was changed.
        """
        goal = ledger.generation(to) if isinstance(to, int) else to.draft()
        image = None if isinstance(to, int) else to.image
        switches = ledger.switches(goal.redirects)
        terms = terms.at_least(self._around.level_of(ledger.swap_to(goal)), len(switches))
        level = terms.level_for(len(switches))
        transition = self._transitions.open
        is_way_back = transition is not None and transition.ledger is ledger and goal.number == transition.origin
        if level != "function" and switches and not is_way_back:
            self._free_for(ledger, goal.number if image is None else None)
            try:
                self._transitions.check(ledger, switches, goal.number, level, image=image)
            except HotReloadError as error:
                raise _naming_function(error, ledger, goal.redirects) from None
        return level

    @staticmethod
    def _check_policy(ledger: Ledger, staged: StagedPatch, terms: Terms) -> None:
        """Insists that a patch may be taken back at its deadline, where that is what would happen."""
        if terms.policy == "revert" and terms.level_for(len(ledger.switches(staged.redirects))) != "function":
            hooks.check_automatic_rollback(staged, "a transition whose deadline has passed")

    def _free_for(self, ledger: Ledger, number: int | None) -> None:
        """Insists that nothing is open and that a generation is there.

        In this order: what was open may be over now, and with it what nobody was to go back to is unmapped.

        Raises:
            StageError: BUSY, or NO_GENERATION; nothing was redirected.
        """
        self._transitions.check_free()
        if number is not None:
            ledger.generation(number)

    def go_back(self, ledger: Ledger, generation: Generation, terms: Terms, *, may_veto: bool) -> float:
        """Makes it live, or the goal of what is open; returns how long the stores took."""
        transition = self._transitions.open
        if transition and transition.ledger is ledger and generation.number in (transition.origin, transition.goal):
            if generation.number == transition.origin:
                self._transitions.reverse(transition, terms.reason, may_veto=may_veto)
            return 0.0
        self._free_for(ledger, generation.number)
        left = ledger.live
        is_same = left.number == generation.number
        swap = ledger.swap_to(generation)
        if may_veto:  # what was promised is kept, where threads cannot come over one by one too
            terms = terms.at_least(self._around.level_of(swap), len(ledger.switches(generation.redirects)))
        runs: tuple[HookRun, ...] = ()
        if not is_same:
            self._around.before(swap, may_veto=may_veto)
            runs = hooks.run_pre(generation, left.number, may_veto=may_veto)
            # They are code of others, which may have asked the manager for anything.
            self._free_for(ledger, generation.number)
        swapped = self._swap(ledger, generation, None, terms)
        # When it went live first, and how, stays in the record.
        ledger.make_live(replace(swapped, duration=generation.duration))
        if not is_same:
            runs += hooks.run_rollback(left, generation.number) + hooks.run_post(generation, left.number)
            ledger.mark(generation.number, hook_runs=runs)
            self._around.after(swap)
        self._after_swap(ledger)
        return swapped.duration

    def _swap(self, ledger: Ledger, goal: Generation, image: Image | None, terms: Terms) -> Generation:
        """Redirects to a generation; returns it with what came of it."""
        switches = ledger.switches(goal.redirects)
        level = terms.level_for(len(switches))
        is_transition = level != "function" and bool(switches)
        try:
            if is_transition:
                report = self._transitions.begin(ledger, switches, goal.number, terms.but(level=level), image=image)
            else:
                self._retirement.expect(ledger, goal.number)
                batch = ledger.batch(goal.redirects)
                report = self._core.commit(batch, allow_unsynchronised=self._allow_unsynchronised)
        except HotReloadError as error:
            named = _naming_function(error, ledger, goal.redirects)
            if isinstance(named, PoisonedError):
                ledger.poison = named
            raise named from None
        return replace(
            goal,
            level=level,
            transition="open" if is_transition else "none",
            duration=report.seconds,
            synchronised=report.is_synchronised,
        )

    def _after_swap(self, ledger: Ledger) -> None:
        self._transitions.note_images()
        if self._transitions.open is None:
            show(ledger)
            self._retirement.look(ledger)

    def settle(self, ledger: Ledger, transition: OpenTransition | None, number: int, wait: float) -> Generation:
        """Waits a moment for the threads; returns the generation as it is then."""
        if transition is not None:
            self._transitions.settle(transition, wait)
        return settled(self._guard, ledger, transition, number, "the log names the threads that did not move")


def _naming_function(error: HotReloadError, ledger: Ledger, redirects: Sequence[Redirect]) -> HotReloadError:
    """The same refusal with the function's name in it: the core knows addresses only."""
    name = ledger.name_of(error.fields.get("address", 0), redirects)
    if not name:
        return error
    return type(error)(f"{name}: {error.message}", hint=error.hint, **{**error.fields, "function": name})
