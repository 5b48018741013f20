"""What a push would do in this process: a patch to commit, an earlier generation to go back to, or nothing any more.

prepare ──▶ change ──▶ apply() ──▶ take_back()     a trial that was not confirmed
              └──────▶ drop()                      never applied
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from hotreload.agent.refusal import refuse
from hotreload.agent.terms import Terms
from hotreload.artefact import PYTHON, Artefact, printable
from hotreload.errors import HotReloadError, StageError
from hotreload.live.hooks import check_automatic_rollback
from hotreload.live.records import PRE_COMMIT

__all__ = ["Change", "Live", "Nothing", "Patch", "Probation", "Rollback", "live_generation", "stage", "tables_told"]


#: A reply has a limit, and nobody reads more.
_NOTES, _NOTE_LEN = 20, 400


class Live(Protocol):
    """What an agent needs of ``hotreload.live``'s manager."""

    @property
    def is_locked(self) -> bool: ...
    def check_unlocked(self) -> None: ...
    def attach(self, path: str) -> Any: ...
    def modules(self) -> Sequence[Any]: ...
    def history(self, module: Any) -> Sequence[Any]: ...
    def loaded_libraries(self) -> list[tuple[str, str]]: ...
    def status(self) -> dict[str, Any]: ...
    def stage(self, module: Any, patch: bytes) -> Any: ...
    def unstage(self, staged: Any) -> None: ...
    def check(self, module: Any, to: Any, *, level: str | None = None) -> str: ...
    def subscribe(self, callback: Callable[[dict[str, Any]], None]) -> Callable[[], None]: ...
    def transition(self) -> dict[str, Any] | None: ...
    def force(self, reason: str, *, by: str = "") -> Any: ...
    def wait(self, seconds: float) -> bool: ...
    def commit(
        self,
        staged: Any,
        *,
        info: Mapping[str, Any] | None = None,
        level: str | None = None,
        deadline: float | None = None,
        policy: str | None = None,
        reason: str | None = None,
        by: str | None = None,
        wait: float = 0.5,
    ) -> Any: ...
    def rollback(
        self,
        module: Any,
        to: int = 0,
        *,
        is_promised: bool = False,
        level: str | None = None,
        deadline: float | None = None,
        policy: str | None = None,
        reason: str | None = None,
        by: str | None = None,
        wait: float = 0.5,
    ) -> Any: ...


class Probation(Protocol):
    """What is told of a generation that is about to become live, that has become it, and that went away."""

    def trying(
        self, module: Any, generation: Any, artefact: Artefact, push: str
    ) -> contextlib.AbstractContextManager[None]: ...
    def begin(self, module: Any, generation: Any, artefact: Artefact, push: str) -> None: ...
    def end(self, module: Any) -> None: ...


class Change(Protocol):
    """One prepared change; ``sequence`` is that of the patch that is live afterwards, 0 for the base."""

    @property
    def module(self) -> Any: ...
    @property
    def artefact(self) -> Artefact | None: ...
    @property
    def sequence(self) -> int: ...
    def describe(self) -> dict[str, Any]: ...
    def apply(self, probation: Probation, push: str) -> Any: ...
    def take_back(self) -> Any: ...
    def drop(self) -> None: ...
    def watch(self, probation: Probation, generation: Any, push: str) -> None: ...


def live_generation(live: Live, module: Any) -> Any:
    """The generation of an extension that is live now."""
    return live.history(module)[live.attach(module.path).generation]


def stage(live: Live, module: Any, artefact: Artefact) -> Any:
    """Stages an artefact, and insists that it does no more than it says.

    Raises:
        StageError: the manager refused it; or UNNAMED: a text would change functions that are not named in front of
            it. What was staged is dropped.
    """
    staged = live.stage(module, artefact.body)
    named = {*artefact.functions, *artefact.carried}  # what an earlier edit has added is carried, and changed here
    unnamed = sorted(set(staged.functions) - named) if artefact.manifest.kind == PYTHON else []
    if unnamed:
        live.unstage(staged)
        raise refuse("UNNAMED", f"the text changes {printable(unnamed[0])}, which the artefact does not name")
    return staged


def _level_of_turn(live: Live, module: Any, to: int) -> str:
    """The level of what is open, where going to that generation is to turn it round; empty where it is not.

    That begins nothing, so it is not refused for what would keep a swap from beginning.
    """
    found = live.transition()
    is_turn = found is not None and found["module"] == module.name and to in (found["from"], found["to"])
    return str(found["level"]) if found is not None and is_turn else ""


def _take_back(live: Live, module: Any, to: int, terms: Terms) -> Any:
    """Undoes what was on trial. Where greenlets came into use meanwhile, entry by entry: to go back is promised, and
    that nobody sees a mixture cannot be promised any more."""
    wanted = terms.for_manager()
    try:
        return live.rollback(module, to, is_promised=True, **wanted)
    except StageError as error:
        if error.status != "GREENLETS":
            raise
        return live.rollback(module, to, is_promised=True, **{**wanted, "level": "function"})


def _sequence_of(generation: Any) -> int:
    """The sequence number of the patch that a generation is; 0 for the base, -1 where it did not come by a push."""
    return int(generation.info.get("sequence", -1)) if generation.number else 0


class Patch:
    """A patch that is staged.

    Raises:
        StageError: NO_ROLLBACK_HOOK: it may be taken back unasked, and could not be. GREENLETS, NO_SCAN, NO_ROOM:
            threads cannot come over here, which must be known before it is decided. It is still staged.
    """

    def __init__(
        self, live: Live, module: Any, artefact: Artefact, staged: Any, *, info: Mapping[str, Any], terms: Terms
    ) -> None:
        if terms.may_revert:
            check_automatic_rollback(staged, "a trial, or a push with policy revert,")
        self.module, self.artefact = module, artefact
        self._live, self._staged, self._info, self._terms = live, staged, info, terms
        now = live_generation(live, module)
        self._before = now.number
        self._level = live.check(module, staged, level=terms.for_manager()["level"])
        self.sequence = artefact.manifest.sequence

    def describe(self) -> dict[str, Any]:
        return {
            "staged": True,
            "functions": list(self._staged.functions),
            "distance": self._staged.distance,
            "generation_now": self._before,
            "level": self._level,
            "may_veto": self._may_veto,
            "notes": [str(note)[:_NOTE_LEN] for note in getattr(self._staged, "notes", ())[:_NOTES]],
        }

    @property
    def _may_veto(self) -> bool:
        """Whether the commit may be refused after all, and a trial of it can be taken back.

        Functions in Python are exchanged in a moment in which no thread is inside, and what is new in a text is run
        then: neither can be promised beforehand.
        """
        if self.artefact.manifest.kind == PYTHON:
            return True
        has_a_say = any(hook.kind == PRE_COMMIT for hook in self._staged.hooks)
        return has_a_say and bool(self._staged.can_roll_back)

    def apply(self, probation: Probation, push: str) -> Any:
        """Makes it live; where that was done already, as in the parent of a fork, the generation that did it."""
        now = live_generation(self._live, self.module)
        if now.number and now.info.get("push") == self._info.get("push"):
            return now
        self._before = now.number
        try:
            return self._commit(probation, push)
        except StageError as error:
            if error.status not in ("STALE", "OUTDATED"):
                raise
        # An import has restored the current patch since: it was promised all the same, so it is staged again.
        self.drop()
        self._staged = stage(self._live, self.module, self.artefact)
        return self._commit(probation, push)

    def _commit(self, probation: Probation, push: str) -> Any:
        """Its hooks run in here, and may be what the process dies of."""
        with probation.trying(self.module, self._staged.draft(self._info), self.artefact, push):
            return self._live.commit(self._staged, info=self._info, **self._terms.for_manager())

    def take_back(self) -> Any:
        """Back to what was before: while threads are still coming over, they turn round."""
        return _take_back(self._live, self.module, self._before, self._terms)

    def drop(self) -> None:
        with contextlib.suppress(HotReloadError):  # it is live, or was: then it stays mapped
            self._live.unstage(self._staged)

    def watch(self, probation: Probation, generation: Any, push: str) -> None:
        probation.begin(self.module, generation, self.artefact, push)


def tables_told(generation: Any) -> list[str]:
    """What became of the functions that Python sees, in a line for each thing: new ones, and those that are gone."""
    runs = getattr(generation, "table_runs", ())
    kinds = {"appeared": "added", "gone": "removed", "left alone, since something else has the name": "kept"}
    names = {text: [name for run in runs for name in getattr(run, kind)] for text, kind in kinds.items()}
    lines = [f"{text}: {', '.join(found)}" for text, found in names.items() if found]
    lines += [f"not shown: {run.name}: {run.error}" for run in runs if run.error]
    return [line[:_NOTE_LEN] for line in lines[:_NOTES]]


class Rollback:
    """Back to an earlier generation; there is nothing to stage. While threads are leaving it, they turn round.

    Raises:
        StageError: GENERATION: it is not mapped any more. GREENLETS and so on: as for a patch. Nothing was
            changed.
    """

    artefact = None

    def __init__(self, live: Live, module: Any, to: int, terms: Terms) -> None:
        self.module = module
        self._live, self._to, self._terms = live, to, terms
        now, target = live_generation(live, module), live.history(module)[to]
        if target.is_retired:
            raise refuse("GENERATION", f"generation {to} of {module.name} is not mapped here any more")
        self._before = now.number
        self._level = _level_of_turn(live, module, to) or live.check(module, to, level=terms.for_manager()["level"])
        self._functions = list(target.functions)
        self.sequence = _sequence_of(target)

    def describe(self) -> dict[str, Any]:
        return {
            "staged": True,
            "functions": self._functions,
            "distance": 0,
            "generation_now": self._before,
            "to": self._to,
            "level": self._level,
        }

    def apply(self, probation: Probation, push: str) -> Any:  # noqa: ARG002
        return self._live.rollback(self.module, self._to, is_promised=True, **self._terms.for_manager())

    def take_back(self) -> Any:
        return _take_back(self._live, self.module, self._before, self._terms)

    def drop(self) -> None:
        pass

    def watch(self, probation: Probation, generation: Any, push: str) -> None:  # noqa: ARG002
        probation.end(self.module)


class Nothing:
    """The process has it already."""

    def __init__(self, live: Live, module: Any, artefact: Artefact | None) -> None:
        self.module, self.artefact = module, artefact
        self._live = live
        self.sequence = _sequence_of(live_generation(live, module))

    def describe(self) -> dict[str, Any]:
        now = live_generation(self._live, self.module)
        return {
            "staged": False,
            "is_live": True,
            "functions": list(now.functions),
            "distance": now.distance,
            "generation_now": now.number,
        }

    def apply(self, probation: Probation, push: str) -> Any:  # noqa: ARG002
        return live_generation(self._live, self.module)

    def take_back(self) -> Any:
        return live_generation(self._live, self.module)

    def drop(self) -> None:
        pass

    def watch(self, probation: Probation, generation: Any, push: str) -> None:
        pass
