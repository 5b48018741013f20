"""The log of swaps: what hotreload tells this process, kept for the page and streamed to it.

::

    hotreload, any thread ──▶ SwapLog.publish() ──▶ the last 100 events ──▶ SwapLog.stream(), one per open page
                                                                      └──▶ SwapLog.recent(), part of /state

A stream holds one of the server's threads for as long as it is open. So only a few may be open at once, each ends
after a minute (a browser reconnects by itself and says which event it saw last), and a page that finds no room reads
the same events from /state.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections import deque
from typing import Any, Callable, Iterator, Mapping

__all__ = ["StreamsError", "SwapLog"]

Event = dict[str, Any]

_KEPT = 100
_STREAM_SECONDS = 60.0
_BREATH_SECONDS = 1.0  # how often an idle stream looks whether the server is stopping
_SILENCE_SECONDS = 5.0  # after so much of it a comment is sent, which is how a closed page is noticed


class StreamsError(Exception):
    """As many streams are open as the server has threads to spare for them."""


class SwapLog:
    """Events in the order they came, numbered; any number of threads may publish, read and stream.

    Args:
        streams_max: how many streams may be open at once.
    """

    def __init__(self, streams_max: int) -> None:
        self.streams_max = streams_max
        self.is_serving: Callable[[], bool] = lambda: True
        self._events: deque[Event] = deque(maxlen=_KEPT)
        self._count = 0
        self._streams = 0
        self._changed = threading.Condition()

    def publish(self, event: Mapping[str, Any]) -> None:
        """Add an event; gives it an ``id`` that names the process too, since each worker has a log of its own."""
        with self._changed:
            self._count += 1
            self._events.append({**event, "id": f"{os.getpid()}-{self._count}", "number": self._count})
            self._changed.notify_all()

    def recent(self) -> list[Event]:
        """The events that are still kept, oldest first."""
        with self._changed:
            return list(self._events)

    @property
    def streams(self) -> int:
        """How many streams are open now."""
        with self._changed:
            return self._streams

    def stream(self, last_id: str = "") -> Iterator[bytes]:
        """Server-sent events: those after `last_id`, then each as it comes.

        The stream counts as open from this call until its iterator is closed.

        Raises:
            StreamsError: no thread can be spared for one more.
        """
        with self._changed:
            if self._streams >= self.streams_max:
                raise StreamsError
            self._streams += 1
        return _Stream(self, last_id)

    def release(self) -> None:
        """One stream fewer; the streams themselves call it."""
        with self._changed:
            self._streams -= 1

    def after(self, number: int, timeout: float) -> list[Event]:
        """The events after `number`; waits up to `timeout` seconds for the first."""
        with self._changed:
            self._changed.wait_for(lambda: self._count > number, timeout)
            return [event for event in self._events if event["number"] > number]


class _Stream(Iterator[bytes]):
    """One open stream. A class, not a generator: ``close()`` counts even if nothing was ever read."""

    def __init__(self, log: SwapLog, last_id: str) -> None:
        self._log = log
        self._ends = time.monotonic() + _STREAM_SECONDS
        pid, _, number = last_id.partition("-")
        self._seen = int(number) if pid == str(os.getpid()) and number.isdigit() else 0
        self._greeted = False
        self._is_open = True

    def __next__(self) -> bytes:
        if not self._greeted:
            self._greeted = True
            return b"retry: 500\n\n"
        silent_since = time.monotonic()
        while self._is_open and self._log.is_serving():
            events = self._log.after(self._seen, _BREATH_SECONDS)
            now = time.monotonic()
            if events:
                self._seen = events[-1]["number"]
                return b"".join(_encode(event) for event in events)
            if now > self._ends:
                break
            if now - silent_since > _SILENCE_SECONDS:
                return b": still here\n\n"
        raise StopIteration

    def close(self) -> None:
        """Give the thread back; called by the server, whether the stream ended or the page went away."""
        if self._is_open:
            self._is_open = False
            self._log.release()


def _encode(event: Event) -> bytes:
    return f"id: {event['id']}\ndata: {json.dumps(event, default=str)}\n\n".encode()
