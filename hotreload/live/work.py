"""Who does the work on one kind of code: extensions (``swaps.py``), Python functions (``hotreload.python.engine``).

The manager has one of them for each kind of ledger and asks it by the ledger that a call is about; what they share
(the lock, the events, what is refused) is the manager's.
"""

from __future__ import annotations

from typing import Any, Protocol

from hotreload.errors import TransitionError
from hotreload.live.core import PatchSource
from hotreload.live.records import Generation, StagedPatch, Terms
from hotreload.live.report import Guard

__all__ = ["Work", "settled"]


def settled(guard: Guard, ledger: Any, transition: Any, number: int, hint: str) -> Generation:
    """The generation as it is after its threads were waited for.

    Raises:
        TransitionError: it was reversed; the earlier generation serves.
    """
    with guard:
        generation: Generation = ledger.generations[number]
        live = ledger.live.number
    if transition is not None and generation.transition == "reversed":
        raise TransitionError(
            f"generation {number} of {ledger.name} was reversed, generation {live} serves",
            hint=hint,
            status="REVERSED",
        )
    return generation


class Work(Protocol):
    """The steps, on ledgers of ``ledger_type``; called with the manager's lock held, but for ``settle`` and ``wait``.

    ``open`` is the transition that is open: it has ``ledger``, ``goal`` and ``origin``, and can ``describe()`` itself.
    """

    @property
    def ledger_type(self) -> type: ...
    @property
    def open(self) -> Any: ...

    def knows(self, path: str) -> bool: ...
    def open_ledger(self, path: str) -> Any: ...
    def loaded(self) -> list[tuple[str, str]]: ...
    def describe(self, ledger: Any) -> dict[str, Any]: ...

    def stage(self, ledger: Any, source: PatchSource) -> StagedPatch: ...
    def unstage(self, ledger: Any, staged: StagedPatch) -> None: ...
    def check(self, ledger: Any, to: StagedPatch | int, terms: Terms) -> str: ...
    def check_free(self) -> None: ...
    def commit(self, ledger: Any, staged: StagedPatch, info: dict[str, Any], terms: Terms) -> Generation: ...
    def go_back(self, ledger: Any, generation: Generation, terms: Terms, *, may_veto: bool) -> float: ...

    def settle(self, ledger: Any, transition: Any, number: int, wait: float) -> Generation: ...
    def wait(self, seconds: float) -> bool: ...
    def reverse(self, transition: Any) -> None: ...
    def force(self, transition: Any, reason: str, by: str) -> None: ...

    def hold(self) -> None: ...
    def let_go(self) -> None: ...
    def renew(self) -> None: ...
