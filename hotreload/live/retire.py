"""Old generations: which are kept and why, which are proven unused and unmapped, and how many there may be.

::

    live ──▶ old ──▶ beyond the last `keep` ──▶ proven ──▶ retired
                 └── a transition that is over, or a survey, has seen every thread outside

Nothing leads into the code of a generation that is not live, so a thread that was once seen outside stays outside, for
as long as nobody goes back to it. A transition proves that of all that it led away from, one that was turned round
proves nothing. Proof is about threads only. What else may point into an image keeps it for good: it owns a variable or
function that it was the first to bring, or it handed out a pointer into its data. After a forced transition a thread
may be anywhere, and after an undo that failed an entry may lead anywhere: of that extension nothing is unmapped any
more.

A *survey* is a transition without entries. It is looked at when something is committed and when somebody asks, so it
costs nothing in between, and a thread that runs all the time delays it for as long as it likes.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from hotreload.errors import HotReloadError, StageError
from hotreload.events import GENERATION_RETIRED
from hotreload.live.core import Core, Transition
from hotreload.live.ledger import Arena, Ledger, MappedImage
from hotreload.live.report import Guard
from hotreload.live.stragglers import thread_names

__all__ = ["Limits", "Retirement"]


#: The next transition proves that nobody is in the stubs of this one. Where none comes to its end, so many wait.
ARENAS_WITHOUT_PROOF = 4

_UNPROVEN = "no thread was looked at since"


@dataclass(frozen=True)
class Limits:
    """What an extension may hold on to; 0 is no limit.

    ``keep``: so many old generations stay to go back to, whatever is proven of them.
    """

    retire: bool = False
    keep: int = 1
    max_generations: int = 0
    max_bytes: int = 0

    def but(self, **changes: Any) -> Limits:
        """These limits with what is not None put in."""
        return replace(self, **{name: value for name, value in changes.items() if value is not None})


@dataclass(frozen=True)
class _Survey:
    ledger: Ledger
    handle: Transition
    images: tuple[MappedImage, ...]
    arenas: tuple[Arena, ...]


class Retirement:
    """Decides and does it, for all extensions of the process. The manager's lock guards it."""

    def __init__(self, core: Core, guard: Guard, limits: Limits) -> None:
        self.limits = limits
        self._core = core
        self._guard = guard
        self._survey: _Survey | None = None

    # Proof ---------------------------------------------------------------------------------------------------------

    def look(self, ledger: Ledger) -> None:
        """Goes on with the survey, begins one where that could prove something, and retires what is proven."""
        if ledger.reason_to_keep_all:
            return
        self.sweep(ledger)
        with suppress(HotReloadError):  # no survey is no proof: what is old stays
            if self._survey is None:
                self._begin_survey(ledger)
            if self._survey is not None and self._core.wait(self._survey.handle, 0.0):
                self._end_survey(is_proven=True)
        self.sweep(ledger)

    def expect(self, ledger: Ledger, number: int) -> None:
        """Threads are about to enter that generation: what a survey has seen of it so far proves nothing any more."""
        image = ledger.mapped.get(number)
        if self._survey is not None and any(image is surveyed for surveyed in self._survey.images):
            self.end_survey()

    def end_survey(self) -> None:
        """Gives the survey up: a transition is to begin, or the process is to be forked."""
        if self._survey is not None:
            self._end_survey(is_proven=False)

    def sweep(self, ledger: Ledger) -> None:
        """Unmaps what is proven unused and is not kept for another reason."""
        if ledger.reason_to_keep_all:
            return
        for arena in [arena for arena in ledger.arenas if arena.is_proven]:
            self._core.discard_stubs(arena.handle)
            ledger.arenas.remove(arena)
        for number in self._beyond(ledger):
            if not self._reason_to_keep(ledger, number):
                self._retire(ledger, number)

    def _begin_survey(self, ledger: Ledger) -> None:
        numbers = [n for n in self._beyond(ledger) if self._reason_to_keep(ledger, n) == _UNPROVEN]
        if not numbers and len(ledger.arenas) <= ARENAS_WITHOUT_PROOF:
            return
        images = tuple(ledger.mapped[number] for number in numbers)
        arenas = tuple(ledger.arenas)
        spans = [image.text for image in images] + [arena.handle.stubs for arena in arenas]
        handle = self._core.open_transition(ledger.base, [], spans, [], per_request=False)
        try:
            self._core.begin(handle, allow_unsynchronised=True)
        except HotReloadError:
            self._core.close_transition(handle)
            self._core.discard_stubs(handle)
            raise
        self._survey = _Survey(ledger, handle, images, arenas)

    def _end_survey(self, *, is_proven: bool) -> None:
        survey, self._survey = self._survey, None
        assert survey is not None
        self._core.finish(survey.handle, allow_unsynchronised=True)
        self._core.close_transition(survey.handle)
        self._core.discard_stubs(survey.handle)
        for image in survey.images:
            image.is_proven = image.is_proven or is_proven
        for arena in survey.arenas:
            arena.is_proven = arena.is_proven or is_proven

    def _retire(self, ledger: Ledger, number: int) -> None:
        mapped = ledger.mapped[number]
        self._core.unstage(mapped.image, has_run=True)
        ledger.drop_retired(number)
        self._guard.tell(GENERATION_RETIRED, ledger.snapshot(), generation=number, bytes=mapped.image.mapped)

    # What stays, and why -------------------------------------------------------------------------------------------

    def kept(self, ledger: Ledger) -> list[dict[str, Any]]:
        """Every generation that is mapped and not live, with the reason."""
        beyond, unproven = self._beyond(ledger), self._who_was_not_seen(ledger)
        kept = []
        for number, mapped in sorted(ledger.mapped.items()):
            if number == ledger.live.number:
                continue
            if number not in beyond:
                reason = "it can be gone back to" if self.limits.retire else "retire is off"
            else:
                reason = self._reason_to_keep(ledger, number)
            reason = unproven if reason == _UNPROVEN else reason
            kept.append({"generation": number, "bytes": mapped.image.mapped, "reason": reason})
        return kept

    def _who_was_not_seen(self, ledger: Ledger) -> str:
        if self._survey is None or self._survey.ledger is not ledger:
            return _UNPROVEN
        tids = [straggler.tid for straggler in self._core.progress(self._survey.handle).stragglers]
        names = thread_names(tids)
        return "; ".join(f"thread {tid} ({names[tid]}) was never seen outside" for tid in tids) or _UNPROVEN

    def _beyond(self, ledger: Ledger) -> list[int]:
        """The generations that nobody may want to go back to."""
        if not self.limits.retire:
            return []
        old = sorted(number for number in ledger.mapped if number != ledger.live.number)
        return old[: max(0, len(old) - self.limits.keep)]

    def _reason_to_keep(self, ledger: Ledger, number: int) -> str:
        """Why a generation cannot be unmapped; empty when it can."""
        mapped = ledger.mapped[number]
        owned = ledger.owned_by(number)
        if owned:
            return f"owns {', '.join(owned)}"
        if mapped.data_escapes:
            return "its data may be pointed to"
        if ledger.reason_to_keep_all:
            return ledger.reason_to_keep_all
        return "" if mapped.is_proven else _UNPROVEN

    # Caps ----------------------------------------------------------------------------------------------------------

    def check_generations(self, ledger: Ledger) -> None:
        """Insists that there is room for one more generation.

        Raises:
            StageError: there is not; nothing was mapped.
        """
        limit, count = self.limits.max_generations, len(ledger.mapped) + len(ledger.retained)
        if limit and count >= limit:
            self.look(ledger)
            count = len(ledger.mapped) + len(ledger.retained)
        if limit and count >= limit:
            raise self._cap(ledger, f"{count} generations are mapped where {limit} may be", count, limit)

    def check_bytes(self, ledger: Ledger, more: int) -> None:
        """Insists that so many more bytes may be mapped.

        Raises:
            StageError: they may not; the caller unmaps them.
        """
        limit, held = self.limits.max_bytes, ledger.bytes_held
        if limit and held + more > limit:
            self.look(ledger)
            held = ledger.bytes_held
        if limit and held + more > limit:
            text = f"{held:,} bytes are mapped and the patch has {more:,}, where {limit:,} may be"
            raise self._cap(ledger, text, held + more, limit)

    def _cap(self, ledger: Ledger, text: str, value: int, limit: int) -> StageError:
        oldest = next((k for k in self.kept(ledger)), None)
        why = f"; generation {oldest['generation']} is kept: {oldest['reason']}" if oldest else ""
        return StageError(
            f"{ledger.name}: {text}{why}",
            hint=f"raise the limit, {'keep fewer' if self.limits.retire else 'turn retire on'}, or restart the process",
            status="CAP",
            value=value,
            limit=limit,
        )
