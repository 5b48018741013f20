"""Takes one patch to some processes and waits for their answers, without holding anybody up.

::

    deliver ──▶ process 1 ──▶ ok, generation 3 ──┐
            ──▶ process 2 ──▶ refused: ... ──────┼──▶ all answered, gone, or given up ──▶ arrived(delivery)
            ──▶ process 3 ──▶ (ended) ───────────┘
            ──▶ process 4 ──▶ (given up) ........... ok after all ──▶ awoke(delivery, process 4, its answer)
            ──▶ process 5 ──▶ busy: threads are on their way ── they have come over ──▶ sent again
                                                             └─ later than given up ──▶ freed(delivery, process 5)
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hotreload.config import Config
from hotreload.watch.bench import Attempt, Bench, Holder, Made, Newest
from hotreload.watch.seams import Peer
from hotreload.wire import Message

__all__ = ["Courier", "Delivery"]

# How long a process may take to answer before the line is written without it.
_PATIENCE = 10.0
# A patch of more functions than this is not listed by name in the process that takes it.
_NAMES_LIMIT = 1000
#: What holds in development unless something else was set: nobody waits for a thread that sleeps in old code.
_SETTLE = 2.0
_POLICY = "force"
_REASON = "development server"


@dataclass
class Delivery:
    """One patch, or the order to go back to the base, on its way.

    ``is_late`` is a delivery to a process that came after the save; ``previous`` is what to go back to when nobody
    takes the patch; ``waiting`` holds whoever has not answered, and after the deadline whoever was given up; ``held``
    those of them that were busy, with what they said.
    """

    bench: Bench
    attempt: Attempt
    made: Made
    waiting: dict[Holder, str | None]
    deadline: float
    digest: str
    is_late: bool = False
    previous: Newest | None = None
    replies: list[Mapping[str, Any]] = field(default_factory=list)
    held: dict[Holder, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def silent(self) -> int:
        """How many processes were given up."""
        return len({holder.peer for holder in self.waiting if holder not in self.held})

    @property
    def accepted(self) -> list[Mapping[str, Any]]:
        """The answers of the processes in which it is live."""
        return [reply for reply in self.replies if reply.get("ok")]

    @property
    def refused(self) -> list[Mapping[str, Any]]:
        """The answers of those that said no."""
        return [reply for reply in self.replies if not reply.get("ok")]


class Courier:
    """All deliveries that are under way.

    Args:
        clock: monotonic seconds.
        arrived: is called once for each delivery, when nobody is waited for any more.
        awoke: is called for each answer that comes after its delivery was given up.
        freed: is called for each process that was busy until its delivery was given up, and is not any more.
        config: how threads are to come over.
    """

    def __init__(
        self,
        clock: Callable[[], float],
        arrived: Callable[[Delivery], None],
        awoke: Callable[[Delivery, Holder, Message], None],
        freed: Callable[[Delivery, Holder], None],
        config: Config,
    ) -> None:
        self._clock = clock
        self._arrived = arrived
        self._awoke = awoke
        self._freed = freed
        self._terms = _terms_of(config)
        self._numbers = itertools.count(1)
        self._under_way: dict[int, Delivery] = {}
        self._given_up: dict[int, Delivery] = {}

    def deliver(
        self,
        bench: Bench,
        attempt: Attempt,
        made: Made,
        holders: Sequence[Holder],
        *,
        is_late: bool = False,
        previous: Newest | None = None,
    ) -> None:
        """Sends the bench's newest patch, or a rollback when that is the base, to ``holders``."""
        number = next(self._numbers)
        deadline = self._clock() + _PATIENCE
        waiting = {holder: bench.holders[holder] for holder in holders}
        delivery = Delivery(bench, attempt, made, waiting, deadline, bench.wanted, is_late, previous)
        self._under_way[number] = delivery
        for holder in holders:
            self._send(number, bench, holder)
        self._end_if_done(number)

    def _send(self, number: int, bench: Bench, holder: Holder) -> None:
        peer, path = holder
        bench.holders[holder] = None
        message: Message = {"id": number, "path": path, "build_id": bench.workshop.build_id, "terms": self._terms}
        if bench.newest is None:
            peer.send({"cmd": "rollback", "to": 0, **message})
        else:
            peer.send({"cmd": "stage+commit", "info": _info(bench.newest), **message}, bench.newest.fd)

    def replied(self, peer: Peer, reply: Message) -> bool:
        """Notes an answer; false when it belongs to no delivery."""
        number = reply.get("id")
        if not isinstance(number, int):
            return False
        is_late = number in self._given_up
        delivery = self._given_up.get(number) or self._under_way.get(number)
        holder = Holder(peer, str(reply.get("path")))
        if delivery is None or holder not in delivery.waiting:
            return True
        if _is_busy(reply):
            self._hold(delivery, holder, reply)
            return True
        delivery.held.pop(holder, None)
        before = delivery.waiting.pop(holder)
        if holder in delivery.bench.holders and not self._has_later_order(delivery.bench, holder, number):
            delivery.bench.holders[holder] = delivery.digest if reply.get("ok") else before
        if is_late:
            self._forget_if_done(number)
            self._awoke(delivery, holder, reply)
        else:
            delivery.replies.append({**reply, "peer": peer})
            self._end_if_done(number)
        return True

    def _hold(self, delivery: Delivery, holder: Holder, reply: Message) -> None:
        """A process that is busy keeps what it has until it is not."""
        delivery.held[holder] = reply
        if holder in delivery.bench.holders:
            delivery.bench.holders[holder] = delivery.waiting[holder]

    def transition_ended(self, peer: Peer) -> None:
        """The threads of a process have come over: what it was too busy for is sent again."""
        for number, delivery in list(self._under_way.items()):
            for holder in [holder for holder in delivery.held if holder.peer is peer]:
                del delivery.held[holder]
                self._send(number, delivery.bench, holder)
        for number, delivery in list(self._given_up.items()):
            for holder in [holder for holder in delivery.held if holder.peer is peer]:
                del delivery.held[holder], delivery.waiting[holder]
                self._forget_if_done(number)
                self._freed(delivery, holder)

    def process_left(self, peer: Peer) -> None:
        """Nobody waits for this process any more."""
        for delivery in (*self._under_way.values(), *self._given_up.values()):
            for holder in [holder for holder in delivery.waiting if holder.peer is peer]:
                del delivery.waiting[holder]
                delivery.held.pop(holder, None)
        for number in list(self._under_way):
            self._end_if_done(number)
        for number in list(self._given_up):
            self._forget_if_done(number)

    def give_up_waiting(self) -> list[float]:
        """Ends the deliveries that have waited long enough, and says when the others will have."""
        now = self._clock()
        for number, delivery in list(self._under_way.items()):
            if delivery.deadline <= now:
                self._given_up[number] = self._under_way.pop(number)
                self._arrived(delivery)
        return [delivery.deadline for delivery in self._under_way.values()]

    def _has_later_order(self, bench: Bench, holder: Holder, number: int) -> bool:
        """Whether a later order to this copy is unanswered: then that answer is the one that counts."""
        deliveries = {**self._given_up, **self._under_way}
        return any(
            later > number and delivery.bench is bench and holder in delivery.waiting
            for later, delivery in deliveries.items()
        )

    def _end_if_done(self, number: int) -> None:
        if not self._under_way[number].waiting:
            self._arrived(self._under_way.pop(number))

    def _forget_if_done(self, number: int) -> None:
        if not self._given_up[number].waiting:
            del self._given_up[number]


def _terms_of(config: Config) -> dict[str, Any]:
    """How a process commits: arguments of the manager's."""
    return {
        "level": None if config.level == "auto" else config.level,
        "deadline": config.settle or _SETTLE,
        "policy": config.settle_policy or _POLICY,
        "reason": _REASON,
    }


def _is_busy(reply: Mapping[str, Any]) -> bool:
    """Whether a process could not take it because threads of it are still on their way."""
    return not reply.get("ok") and (reply.get("error") or {}).get("status") == "BUSY"


def _info(newest: Newest) -> dict[str, Any]:
    """What a process remembers of a generation, and says when it is asked what is live."""
    result = newest.result
    names = {"changed": result.changed, "compiler_changed": result.compiler_changed, "added": result.added}
    return {"digest": result.digest, **{kind: list(some[:_NAMES_LIMIT]) for kind, some in names.items()}}
