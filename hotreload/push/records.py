"""What a push is told in: processes, what is live in each, one row for each, and how it ended.

The states of a row, in the order in which it meets them::

    found ─▶ preparing ─▶ prepared ─▶ (trying) ─▶ committing ─▶ committed    live; its threads may still come over
      │          │            │           │            │
      ├ current  ├ refused    └─ aborted ─┘            ├ settling   silent: it carries the decision out by its deadline
      ├ absent   ├ silent                              ├ ended      its successor starts with what is current
      └ ended    └ ended                               └ failed     it said no after the decision: look at it
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, IntEnum
from typing import Any

from hotreload.artefact import is_same_module

__all__ = ["BASE", "Exit", "Identity", "Live", "Outcome", "ProcessStatus", "Row", "State", "new_push_id"]

#: The name of what a process has loaded from disk, wherever a patch could be named.
BASE = "base"


class Exit(IntEnum):
    """The exit codes of every command that talks to processes; they are documented and do not change."""

    DONE = 0
    NOTHING = 3
    REFUSED = 4
    PARTLY = 5
    REVERTED = 6
    INTERNAL = 70


class State(str, Enum):
    """Where one process is in one push; the picture is above."""

    FOUND = "found"
    PREPARING = "preparing"
    PREPARED = "prepared"
    TRYING = "trying"
    COMMITTING = "committing"
    COMMITTED = "committed"
    CURRENT = "current"
    ABSENT = "absent"
    REFUSED = "refused"
    SILENT = "silent"
    ENDED = "ended"
    ABORTED = "aborted"
    SETTLING = "settling"
    FAILED = "failed"


@dataclass(frozen=True)
class Identity:
    """One process for as long as it lives: a pid is used again, a pid with its start time is not."""

    pid: int
    started: int


@dataclass(frozen=True)
class Live:
    """What of one base is live in a process; ``name`` and ``sha256`` are of the patch, or "base" and nothing."""

    module: str
    build_id: str
    generation: int = 0
    name: str = BASE
    sha256: str = ""

    def __str__(self) -> str:
        return f"{self.generation} ({self.name})"


@dataclass(frozen=True)
class ProcessStatus:
    """What a process says of itself; ``raw`` is all of it."""

    live: tuple[Live, ...] = ()
    locked: bool = False
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def transition_of(self, build_id: str) -> Mapping[str, Any] | None:
        """The transition of that base which is open there; None when every thread has come over."""
        found, live = self.raw.get("transition"), self.of(build_id)
        is_its = isinstance(found, Mapping) and live is not None and found.get("module") == live.module
        return found if is_its else None

    def taints_of(self, build_id: str) -> list[Mapping[str, Any]]:
        """What was forced there, oldest first."""
        modules = [module for module in self.raw.get("modules") or () if module.get("build_id") == build_id]
        return [taint for module in modules for taint in module.get("taints") or () if isinstance(taint, Mapping)]

    def of(self, build_id: str) -> Live | None:
        """What is live of one base; None when it is not loaded."""
        return next((live for live in self.live if live.build_id == build_id), None)

    def other_build(self, module: str, build_id: str) -> Live | None:
        """Another build of the same module, which a patch for this one does not fit."""
        others = (live for live in self.live if live.build_id != build_id)
        return next((live for live in others if is_same_module(live.module, module)), None)

    @classmethod
    def of_reply(cls, reply: Mapping[str, Any]) -> ProcessStatus:
        """The status in an agent's reply."""
        modules = reply.get("modules")
        rows = modules if isinstance(modules, list) else []
        return cls(
            live=tuple(_live_of(module) for module in rows if isinstance(module, dict)),
            locked=bool(reply.get("locked")),
            raw=reply,
        )


@dataclass
class Row:
    """One process in one push."""

    identity: Identity
    state: State = State.FOUND
    detail: str = ""
    before: str = ""
    after: str = ""
    milliseconds: float = 0.0
    command: str = ""
    level: str = ""
    transition: Mapping[str, Any] | None = None
    forced: str = ""
    notes: tuple[str, ...] = ()

    @property
    def pid(self) -> int:
        return self.identity.pid

    @property
    def is_open(self) -> bool:
        """Whether threads of it have still to come over."""
        return self.transition is not None

    def become(self, state: State, detail: str = "") -> None:
        """The next state and why."""
        self.state, self.detail = state, detail

    def note(self, transition: Any) -> None:
        """What the process says of its threads: a transition that is open, or nothing."""
        self.transition = transition if isinstance(transition, Mapping) else None

    def as_dict(self) -> dict[str, Any]:
        """Plain data for ``--json``."""
        return {
            "pid": self.pid,
            "state": self.state.value,
            "detail": self.detail,
            "before": self.before,
            "after": self.after,
            "commit_ms": round(self.milliseconds, 3),
            "command": self.command,
            "level": self.level,
            "transition": dict(self.transition) if self.transition is not None else None,
            "forced": self.forced,
            "notes": list(self.notes),
        }


@dataclass
class Outcome:
    """How a push ended: the exit code, one sentence why, and every process.

    ``live_seconds`` is when every process that had prepared had committed, ``seconds`` when it was certain that no
    other had come meanwhile; both are from the beginning.
    """

    push: str
    exit: Exit
    reason: str
    rows: list[Row]
    decision: str = ""
    seconds: float = 0.0
    live_seconds: float = 0.0

    @property
    def open_rows(self) -> list[Row]:
        """The processes in which threads have still to come over."""
        return [row for row in self.rows if row.is_open]

    @property
    def notes(self) -> dict[str, list[int]]:
        """What of the change is not live although the push is, and what it shows to Python, and in which processes."""
        found: dict[str, list[int]] = {}
        for row in self.rows:
            for note in row.notes:
                found.setdefault(note, []).append(row.pid)
        return found

    def as_dict(self) -> dict[str, Any]:
        """Plain data for ``--json``."""
        return {
            "push": self.push,
            "exit": int(self.exit),
            "outcome": self.exit.name.lower(),
            "decision": self.decision,
            "reason": self.reason,
            "seconds": round(self.seconds, 4),
            "live_seconds": round(self.live_seconds, 4),
            "processes": [row.as_dict() for row in self.rows],
        }


def new_push_id() -> str:
    """A name for one push: it sorts by time and is never given twice."""
    return time.strftime("%Y%m%dT%H%M%S", time.gmtime()) + f"-{os.getpid()}-{secrets.token_hex(4)}"


def _live_of(module: Mapping[str, Any]) -> Live:
    number = int(module.get("generation", 0))
    generations = module.get("generations") or ()
    info = next((dict(made.get("info") or {}) for made in generations if made.get("number") == number), {})
    return Live(
        module=str(module.get("name", "")),
        build_id=str(module.get("build_id", "")),
        generation=number,
        name=str(info.get("sequence", "unknown")) if number else BASE,
        sha256=str(info.get("sha256", "")) if number else "",
    )
