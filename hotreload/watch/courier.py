"""Takes one patch to some processes and waits for their answers, without holding anybody up.

::

    deliver ──▶ process 1 ──▶ ok, generation 3 ──┐
            ──▶ process 2 ──▶ refused: ... ──────┼──▶ all answered, gone, or given up ──▶ arrived(delivery)
            ──▶ process 3 ──▶ (ended) ───────────┘
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hotreload.watch.bench import Attempt, Bench, Made, Newest
from hotreload.watch.seams import Peer
from hotreload.wire import Message

__all__ = ["Courier", "Delivery"]

# How long a process may take to answer before the line is written without it.
_PATIENCE = 10.0
# A patch of more functions than this is not listed by name in the process that takes it.
_NAMES_LIMIT = 1000


@dataclass
class Delivery:
    """One patch, or the order to go back to the base, on its way.

    ``is_late`` is a delivery to a process that came after the save; ``previous`` is what to go back to when nobody
    takes the patch; ``silent`` counts the processes that were given up.
    """

    bench: Bench
    attempt: Attempt
    made: Made
    waiting: set[Peer]
    deadline: float
    digest: str
    is_late: bool = False
    previous: Newest | None = None
    replies: list[Mapping[str, Any]] = field(default_factory=list)
    silent: int = 0

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
    """

    def __init__(self, clock: Callable[[], float], arrived: Callable[[Delivery], None]) -> None:
        self._clock = clock
        self._arrived = arrived
        self._numbers = itertools.count(1)
        self._under_way: dict[int, Delivery] = {}

    def deliver(
        self,
        bench: Bench,
        attempt: Attempt,
        made: Made,
        peers: Sequence[Peer],
        *,
        is_late: bool = False,
        previous: Newest | None = None,
    ) -> None:
        """Sends the bench's newest patch, or a rollback when that is the base, to ``peers``."""
        number = next(self._numbers)
        deadline = self._clock() + _PATIENCE
        delivery = Delivery(bench, attempt, made, set(peers), deadline, bench.wanted, is_late, previous)
        self._under_way[number] = delivery
        for peer in peers:
            message: Message = {"id": number, "path": bench.holders[peer], "build_id": bench.workshop.build_id}
            if bench.newest is None:
                peer.send({"cmd": "rollback", "to": 0, **message})
            else:
                peer.send({"cmd": "stage+commit", "info": _info(bench.newest), **message}, bench.newest.fd)
        self._end_if_done(number)

    def replied(self, peer: Peer, reply: Message) -> bool:
        """Notes an answer; false when it belongs to no delivery."""
        number = reply.get("id")
        if not isinstance(number, int):
            return False
        delivery = self._under_way.get(number)
        if reply.get("ok") and delivery is not None:
            delivery.bench.live[peer] = delivery.digest
        if delivery is not None and peer in delivery.waiting:
            delivery.waiting.discard(peer)
            delivery.replies.append(reply)
            self._end_if_done(number)
        return True

    def process_left(self, peer: Peer) -> None:
        """Nobody waits for this process any more."""
        for number, delivery in list(self._under_way.items()):
            delivery.waiting.discard(peer)
            self._end_if_done(number)

    def give_up_waiting(self) -> list[float]:
        """Ends the deliveries that have waited long enough, and says when the others will have."""
        now = self._clock()
        for number, delivery in list(self._under_way.items()):
            if delivery.deadline <= now:
                delivery.silent = len(delivery.waiting)
                delivery.waiting.clear()
                self._end_if_done(number)
        return [delivery.deadline for delivery in self._under_way.values()]

    def _end_if_done(self, number: int) -> None:
        if not self._under_way[number].waiting:
            self._arrived(self._under_way.pop(number))


def _info(newest: Newest) -> dict[str, Any]:
    """What a process remembers of a generation, and says when it is asked what is live."""
    result = newest.result
    names = {"changed": result.changed, "compiler_changed": result.compiler_changed, "added": result.added}
    return {"digest": result.digest, **{kind: list(some[:_NAMES_LIMIT]) for kind, some in names.items()}}
