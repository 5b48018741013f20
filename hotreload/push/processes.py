"""Which processes there are: one socket for each in the state directory, and what /proc says of each.

A pid alone names nobody, it is given again; a pid with its start time does. A socket whose process is gone is passed
over: its owner's successor clears it away. One whose process is there belongs in the table, even if it never answers.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass

from hotreload.push.records import Identity

__all__ = ["Process", "children_of", "family_of", "look", "pids_of_sockets", "program_of"]

_TICKS = os.sysconf("SC_CLK_TCK")
_SUFFIX = ".sock"
# Fields of /proc/PID/stat behind the name, which is in brackets and may hold anything.
_STATE, _PARENT, _STARTED = 0, 1, 19


@dataclass(frozen=True)
class Process:
    """One process as /proc shows it; ``is_stopped`` means by a signal or a debugger."""

    identity: Identity
    parent: int
    is_stopped: bool
    command: str

    @property
    def age(self) -> float:
        """Seconds since it started; time that the machine slept is counted by both sides of the difference."""
        return max(0.0, time.clock_gettime(time.CLOCK_BOOTTIME) - self.identity.started / _TICKS)

    def is_alive(self) -> bool:
        """Whether it, and not a later one with its pid, is still there and not a zombie."""
        now = look(self.identity.pid)
        return now is not None and now.identity == self.identity


def look(pid: int) -> Process | None:
    """The process with that pid, None when there is none, or only what is left of one."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            words = file.read(4096).split(b"\0")
    except (OSError, ValueError):
        return None
    if len(fields) <= _STARTED or fields[_STATE] in (b"Z", b"X", b"x"):
        return None
    return Process(
        Identity(pid, int(fields[_STARTED])),
        int(fields[_PARENT]),
        fields[_STATE] in (b"T", b"t"),
        b" ".join(filter(None, words)).decode("utf-8", "backslashreplace"),
    )


def program_of(pid: int) -> str:
    """The program file that a process runs; empty where that may not be known."""
    try:
        return os.readlink(f"/proc/{pid}/exe")
    except OSError:
        return ""


def pids_of_sockets(directory_fd: int) -> list[int]:
    """The pids that have a socket in an open directory, in order."""
    names = os.listdir(directory_fd)
    pids = (name[: -len(_SUFFIX)] for name in names if name.endswith(_SUFFIX))
    return sorted(int(pid) for pid in pids if pid.isascii() and pid.isdigit())


def children_of(pid: int) -> list[int]:
    """The children of every thread of a process, where the kernel tells."""
    found: list[int] = []
    with suppress(OSError):
        for thread in os.listdir(f"/proc/{pid}/task"):
            with suppress(OSError), open(f"/proc/{pid}/task/{thread}/children", encoding="ascii") as file:
                found += [int(word) for word in file.read().split()]
    return found


def family_of(pids: Iterable[int]) -> set[int]:
    """These processes and all their descendants."""
    family: set[int] = set()
    todo = list(pids)
    while todo:
        pid = todo.pop()
        if pid not in family:
            family.add(pid)
            todo += children_of(pid)
    return family
