"""What the demo claims, checked against every single answer: nothing here trusts the server's own word for it."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import asdict, dataclass, field
from typing import Any, Mapping, Sequence

from driver.answers import Answer
from driver.edits import Edit

__all__ = ["Moment", "Row", "check_found_again", "check_state", "check_tickets", "count_answers"]


@dataclass(frozen=True)
class Moment:
    """The server between two edits: its state, how many answers had come by then, when the last swap was complete."""

    state: Mapping[str, Any]
    answers: int = 0
    swapped_ns: int = 0

    @property
    def stamp(self) -> str:
        return str(self.state["stamp"])


@dataclass
class Row:
    """One edit: what it took, and who answered meanwhile.

    ``by_old`` and ``by_new`` are the answers after the save; ``between`` those that met some functions of the edit
    new and some old. ``stale`` are requests that were sent after the swap was complete and yet answered by other than
    the new code; it must be 0. ``problems`` says in words what is not as it should be.
    """

    edit: str
    title: str
    outcome: str = ""
    generation: int = 0
    functions: Sequence[str] = ()
    save_to_live_ms: float = 0.0
    compiler_ms: float = 0.0
    before: int = 0
    by_old: int = 0
    by_new: int = 0
    between: int = 0
    torn: int = 0
    stale: int = 0
    failed: int = 0
    state_kept: bool = False
    diagnostics: str = ""
    problems: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, edit: Edit) -> Row:
        return cls(edit.name, edit.title)

    @property
    def compiler_share(self) -> float:
        """How much of the time from save to live was the compiler's."""
        return self.compiler_ms / self.save_to_live_ms if self.save_to_live_ms else 0.0

    def as_dict(self) -> dict[str, Any]:
        """Plain data for ``--json``."""
        return {**asdict(self), "functions": list(self.functions), "compiler_share": round(self.compiler_share, 3)}


def count_answers(
    row: Row, answers: Sequence[Answer], before: Moment, saved_ns: int, swapped_ns: int, new_stamp: str
) -> None:
    """Sorts the answers of one edit by the code that gave them, and notes what must not be.

    Args:
        row: where the figures go.
        answers: all that came between the edit before and this one's end.
        before: the server before this edit.
        saved_ns: when the source was saved.
        swapped_ns: when the swap was complete, as noted in the server just after it.
        new_stamp: the signature of the code after; the same as before for an edit that must not go live.
    """
    old_stamp = before.stamp
    live_ns = 0
    for answer in answers:
        if answer.failed:
            row.failed += 1
            continue
        row.torn += not answer.whole
        if answer.ended_ns < saved_ns:
            row.before += 1
            row.stale += answer.started_ns > before.swapped_ns and answer.stamp != old_stamp
        elif answer.stamp == new_stamp != old_stamp:
            row.by_new += 1
            live_ns = min(live_ns or answer.ended_ns, answer.ended_ns)
        elif answer.stamp == old_stamp:
            row.by_old += 1
        else:
            row.between += 1
        if answer.started_ns > swapped_ns and answer.stamp != new_stamp:
            row.stale += 1
    if live_ns:
        row.save_to_live_ms = round((live_ns - saved_ns) / 1e6, 1)
    if row.failed:
        first = next(answer for answer in answers if answer.failed)
        row.problems.append(f"{row.failed} failed requests, the first: {first.error or f'status {first.status}'}")
    if row.stale:
        row.problems.append(f"{row.stale} requests that were sent after the swap were not answered by the new code")
    if new_stamp == old_stamp and row.between:
        row.problems.append(f"{row.between} requests were answered by other than the old code")


def check_state(before: Moment, after: Moment, answers: Sequence[Answer], swapped_ns: int) -> list[str]:
    """What was lost by a swap, in words; nothing if all is well.

    The process, the module's initialisation, all counters and the cache are read from ``/state`` before and after.
    The function-local static and the thread-locals are read from the answers' own numbers.
    """
    lost = [
        f"{name} was {before.state[name]} and is {after.state[name]}"
        for name in ("pid", "started_at", "loaded_at")
        if before.state[name] != after.state[name]
    ]
    lost += [
        f"counter {name} went back from {count} to {after.state['counters'][name]}"
        for name, count in before.state["counters"].items()
        if after.state["counters"].get(name, count) < count
    ]
    served = [answer for answer in answers if not answer.failed]
    earlier = [answer for answer in served if answer.ended_ns < swapped_ns]
    later = [answer for answer in served if answer.started_ns > swapped_ns]
    if not earlier or not later:
        return [*lost, "too few answers to judge by"]
    if max(answer.ticket for answer in earlier) >= min(answer.ticket for answer in later):
        lost.append("the tickets, a function-local static, began again")
    last: dict[int, int] = defaultdict(int)
    for answer in earlier:
        last[answer.thread] = max(last[answer.thread], answer.by_thread)
    for answer in later:
        if answer.by_thread <= last[answer.thread]:
            lost.append(f"the count of thread {answer.thread}, a thread-local, went back to {answer.by_thread}")
            break
    return lost


def check_found_again(answers: Sequence[Answer], swapped_ns: int) -> list[str]:
    """Whether the code that is back finds every tile in the cache that it had drawn when it was live before."""
    asked = [answer.cache for answer in answers if answer.started_ns > swapped_ns and answer.cache != "unused"]
    missed = sum(cache != "hit" for cache in asked)
    return [f"{missed} of {len(asked)} tiles of the original code were lost from the cache"] if missed else []


def check_tickets(answers: Sequence[Answer]) -> list[str]:
    """Whether the tickets of all answers of the whole run are 1, 2, 3 and so on: none lost, none given twice."""
    tickets = sorted(answer.ticket for answer in answers if not answer.failed)
    if tickets != list(range(1, len(tickets) + 1)):
        return [f"{len(tickets)} answers, {len(set(tickets))} different tickets, the last is {tickets[-1:]}"]
    return []
