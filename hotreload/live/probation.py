"""Who is to blame when the process dies soon after a commit: for a time, a fatal signal leaves one line.

::

    begin ──▶ commit ──── 60 s ────▶ over          the crash marker is armed only in between
                 │                                 (csrc/marker.c writes the line, in a signal handler)
                 └── fatal signal ──▶ DIRECTORY/crash-PID, and the same on stderr:

    hotreload: crash signal=11 pid=71 tid=73 pc=0x7f.. blame=new-code function=render+0x12 module=shop generation=3 ...

Several extensions may be on probation at once. A forked child inherits the marker with the memory; the file is named
after the process that dies.

What cannot be marked: a stack that overflows in a thread without an alternate signal stack, which no handler
survives, and SIGKILL.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from hotreload.live.core import Marker, MarkerRegion
from hotreload.live.records import Generation

__all__ = ["Entry", "MarkerCore", "Probation", "read_crash"]

_START = "hotreload: crash "
_NAME_LIMIT = 160


class MarkerCore(Protocol):
    """What is needed of the core."""

    def arm_marker(self, marker: Marker) -> None: ...
    def disarm_marker(self) -> None: ...


@dataclass(frozen=True)
class Entry:
    """One generation on probation."""

    ends: float
    region: MarkerRegion
    about: Mapping[str, Any]


class Probation:
    """The generations of this process that are new. One thread at a time uses it.

    Args:
        core: arms the marker.
        directory: where a crash leaves its file; it must exist by the time of the crash.
        seconds: how long a generation is new; 0 for no probation at all.
    """

    def __init__(self, core: MarkerCore, directory: str, seconds: float) -> None:
        self._core = core
        self._directory = directory
        self.seconds = seconds
        self._entries: dict[str, Entry] = {}

    def begin(self, generation: Generation, **about: Any) -> None:
        """A generation has become live, or is about to; the one that it replaces is not watched any more.

        Args:
            generation: what is live.
            about: what the line is to say besides module and generation; texts without white space.

        Raises:
            StageError: the marker cannot be armed; the generation is live without.
        """
        if not self.seconds:
            return
        fields = {"module": generation.module, "generation": generation.number, **about}
        self._entries.pop(generation.build_id, None)
        self._entries[generation.build_id] = Entry(time.monotonic() + self.seconds, _region(generation, fields), fields)
        self._arm()

    def end(self, build_id: str) -> None:
        """An extension has gone back; nothing of it is new any more."""
        if self._entries.pop(build_id, None) is not None:
            self._arm()

    def of(self, build_id: str) -> Entry | None:
        """What of an extension is new, for :meth:`put_back`."""
        return self._entries.get(build_id)

    def put_back(self, build_id: str, entry: Entry | None) -> None:
        """What was begun last has not become live: what was there before it counts again.

        Raises:
            StageError: the marker cannot be armed.
        """
        self._entries.pop(build_id, None)
        if entry is not None:
            self._entries[build_id] = entry
        self._arm()

    def expire(self) -> list[Mapping[str, Any]]:
        """Ends what has lasted long enough; returns what that was."""
        now = time.monotonic()
        over = {build_id: entry for build_id, entry in self._entries.items() if entry.ends <= now}
        for build_id in over:
            del self._entries[build_id]
        if over:
            self._arm()
        return [entry.about for entry in over.values()]

    def close(self) -> None:
        """Ends all of it."""
        self._entries.clear()
        self._core.disarm_marker()

    @property
    def seconds_to_next(self) -> float | None:
        """When :meth:`expire` has something to do; None when nothing is on probation."""
        if not self._entries:
            return None
        return max(0.0, min(entry.ends for entry in self._entries.values()) - time.monotonic())

    def describe(self) -> list[dict[str, Any]]:
        """What is on probation, and for how long."""
        now = time.monotonic()
        return [{**entry.about, "seconds_left": round(entry.ends - now, 3)} for entry in self._entries.values()]

    def _arm(self) -> None:
        if not self._entries:
            self._core.disarm_marker()
            return
        newest_first = list(reversed(self._entries.values()))
        until = max(entry.ends for entry in newest_first)
        self._core.arm_marker(Marker(self._directory, int(until * 1e9), tuple(entry.region for entry in newest_first)))


def read_crash(text: str) -> dict[str, str] | None:
    """The fields of a marker's line; None when it is none, or not a whole one."""
    if not text.startswith(_START) or not text.endswith("\n"):
        return None
    pairs = (word.partition("=") for word in text[len(_START) :].split())
    return {name: value for name, sign, value in pairs if sign}


def _region(generation: Generation, fields: Mapping[str, Any]) -> MarkerRegion:
    functions = [(redirect.target, redirect.name) for redirect in generation.redirects]
    functions += [
        (generation.address + carried.image_off, carried.key) for carried in generation.carried if carried.is_function
    ]
    return MarkerRegion(
        start=generation.address,
        end=generation.address + generation.length,
        label=" ".join(f"{name}={_word(value)}" for name, value in fields.items()),
        functions=tuple((start, _word(name)) for start, name in sorted(functions)),
    )


def _word(value: object) -> str:
    """A value as one word of printable ASCII."""
    text = str(value).encode("ascii", "backslashreplace").decode("ascii")[:_NAME_LIMIT]
    return "".join(c if c.isprintable() and c != " " else "_" for c in text)
