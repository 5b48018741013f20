"""Events on their way to browsers: numbered, kept for a while, and never waited for.

::

    publish ──▶ ring of the last events ──▶ queue of reader 1 ──▶ socket
                        │               └─▶ queue of reader 2 ──▶ (full: the reader is dropped and comes again)
                        └── Last-Event-ID: what a reader that comes again has missed

Whoever publishes is the reload loop, so publishing only appends. A reader that is dropped or comes too late for the
ring starts over with a snapshot, which is somebody else's to make.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import NamedTuple

__all__ = ["Event", "Feed", "Reader"]

_KEPT = 256
_QUEUE = 256
_READERS = 32


class Event(NamedTuple):
    """One event; ``data`` is JSON on one line, ``when`` of the feed's clock."""

    number: int
    kind: str
    data: str
    when: float

    def encode(self) -> bytes:
        """The event as a browser's EventSource reads it."""
        return f"id: {self.number}\nevent: {self.kind}\ndata: {self.data}\n\n".encode()


class Reader:
    """One browser's queue."""

    def __init__(self, feed: Feed, backlog: Iterable[Event]) -> None:
        self._feed = feed
        self._queue = deque(backlog)
        self._arrived = threading.Condition()
        self.is_open = True

    def put(self, event: Event) -> None:
        """Queues an event; a reader that does not keep up is dropped."""
        with self._arrived:
            if len(self._queue) >= _QUEUE:
                self.is_open = False
            else:
                self._queue.append(event)
            self._arrived.notify()

    def take(self, patience: float) -> Event | None:
        """The next event; ``None`` when none has come in time, or when the reader was dropped."""
        with self._arrived:
            if not self._queue and self.is_open:
                self._arrived.wait(patience)
            return self._queue.popleft() if self._queue and self.is_open else None

    def close(self) -> None:
        """Takes the reader off the feed."""
        with self._arrived:
            self.is_open = False
            self._arrived.notify()
        self._feed.leave(self)


class Feed:
    """The events of one kind of audience."""

    def __init__(self, *, kept: int = _KEPT, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._ring: deque[Event] = deque(maxlen=kept)
        self._number = 0
        self._readers: set[Reader] = set()

    @property
    def newest(self) -> int:
        """The number of the last event; 0 when there was none."""
        return self._number

    @property
    def readers(self) -> int:
        """How many browsers listen."""
        return len(self._readers)

    def publish(self, kind: str, data: str) -> None:
        """Hands an event to every reader, and waits for none."""
        with self._lock:
            self._number += 1
            event = Event(self._number, kind, data, self._clock())
            self._ring.append(event)
            for reader in list(self._readers):
                reader.put(event)
                if not reader.is_open:
                    self._readers.discard(reader)

    def missed_since(self, number: int) -> list[Event] | None:
        """The events behind that number; ``None`` when some of them are gone, or the number is none of ours."""
        with self._lock:
            if not 0 <= number <= self._number:
                return None
            missed = [event for event in self._ring if event.number > number]
            return missed if len(missed) == self._number - number else None

    def younger_than(self, seconds: float) -> list[Event]:
        """The events of the last seconds, as far as they are kept."""
        with self._lock:
            return [event for event in self._ring if event.when > self._clock() - seconds]

    def join(self, backlog: Iterable[Event] = ()) -> Reader | None:
        """A new reader, who gets the backlog first; ``None`` when there are too many."""
        with self._lock:
            if len(self._readers) >= _READERS:
                return None
            reader = Reader(self, backlog)
            self._readers.add(reader)
            return reader

    def leave(self, reader: Reader) -> None:
        """Forgets a reader."""
        with self._lock:
            self._readers.discard(reader)
