"""One base that is being worked on: who has it loaded, what was saved, and what should be live.

::

                 saved, quiet            made                all answered
        IDLE ───────────────▶ MAKING ───────────▶ DELIVERING ───────────▶ IDLE
         ▲                      │ nothing, refused, failed,
         └──────────────────────┘ or read while it was being saved (made again)
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import NamedTuple

from hotreload.build.looks import look_at
from hotreload.errors import HotReloadError
from hotreload.watch.burst import Burst
from hotreload.watch.seams import PatchResult, Peer, Workshop

__all__ = ["KEPT", "Attempt", "Bench", "Holder", "Made", "Newest", "State", "drop_file", "make"]

#: So many patches of one base stay open, for going back to them.
KEPT = 20
# What is larger is no text that anybody reads as a diff.
_LARGEST_TEXT = 16 << 20


class State(Enum):
    """What a bench is doing."""

    IDLE = "idle"
    MAKING = "making"
    DELIVERING = "delivering"


class Holder(NamedTuple):
    """One copy of a base in one process: a file that was copied is mapped once for each path."""

    peer: Peer
    path: str


@dataclass(frozen=True)
class Newest:
    """The patch that every process should run, held open for processes that come later; its name is gone."""

    result: PatchResult
    fd: int

    @classmethod
    def open(cls, result: PatchResult) -> Newest:
        """Opens the patch file. Raises OSError."""
        if result.path is None:
            raise FileNotFoundError("the patch has no file")
        fd = os.open(result.path, os.O_RDONLY | os.O_CLOEXEC)
        drop_file(result)
        return cls(result, fd)

    def close(self) -> None:
        """Lets go of the file."""
        with contextlib.suppress(OSError):
            os.close(self.fd)


@dataclass(frozen=True)
class Attempt:
    """One try to make the sources live; times are of ``time.monotonic``."""

    trigger: str
    saved: float
    discarded: int = 0


@dataclass(frozen=True)
class Made:
    """What a build came to: a result or an error, and the files that changed while it ran or were away.

    ``texts`` is what the files said, where somebody is shown it.
    """

    result: PatchResult | None
    error: Exception | None
    looked: Mapping[Path, tuple[int, ...]]
    changed: tuple[Path, ...]
    missing: tuple[Path, ...]
    seconds: float
    texts: Mapping[Path, str] = field(default_factory=dict)

    @property
    def disturbed(self) -> tuple[Path, ...]:
        """The files that spoilt this build: saved while it ran, or away for the moment in which an editor renames."""
        return (*self.changed, *(self.missing if self.error is not None else ()))


@dataclass
class Bench:
    """One base, keyed by its build-id.

    ``holders`` maps each copy that is loaded to the digest of what is live in it: empty is the base, ``None`` is not
    known, while an answer is waited for. ``is_settled`` means that a first build has said what should be. ``kept``
    has the last patches that a process took, by digest and oldest first: what can be gone back to.
    """

    workshop: Workshop
    burst: Burst
    #: What the loop and its audience know it by: the build-id, unless two files have one text.
    key: str = ""
    holders: dict[Holder, str | None] = field(default_factory=dict)
    state: State = State.IDLE
    newest: Newest | None = None
    discarded: int = 0
    trigger: str = "start"
    looked: Mapping[Path, tuple[int, ...]] = field(default_factory=dict)
    files: frozenset[Path] = frozenset()
    is_settled: bool = False
    kept: dict[str, Newest] = field(default_factory=dict)
    #: When a build that is under way has taken long enough to be told.
    slow_at: float | None = None

    @property
    def wanted(self) -> str:
        """The digest of what should be live in every process; empty for the base."""
        return "" if self.newest is None else self.newest.result.digest

    def begin(self) -> Attempt:
        """The pending saves become one attempt."""
        attempt = Attempt(self.trigger, self.burst.last, self.discarded)
        self.burst.take()
        self.state = State.MAKING
        return attempt

    def discard(self, made: Made, now: float) -> None:
        """Throws a build away; its files are built again when they have come to rest."""
        self.discarded += 1
        if made.result is not None:
            drop_file(made.result)
        self.state = State.IDLE
        self.burst.back_off()
        for path in made.disturbed:
            if str(path) not in self.burst.paths:
                self.burst.add(str(path), now, whole=bool(made.looked[path]))

    def accept(self, made: Made) -> bool:
        """Keeps a build, and forgets the saves that it has read already; says whether there were any."""
        self.discarded = 0
        self.trigger = "save"
        self.burst.relax()
        self.looked = made.looked
        return self.forget_read_saves()

    def forget_read_saves(self) -> bool:
        """Forgets pending saves whose files are as the last good build has read them: one save, told twice.

        A file that is missing was not read.
        """
        looks = {path: look_at(path) for path in self.burst.paths}
        if not looks or any(not look or look != self.looked.get(Path(path)) for path, look in looks.items()):
            return False
        self.burst.take()
        return True

    def replace_newest(self, newest: Newest | None) -> None:
        """Another patch, or none (the base), is what should be live."""
        left, self.newest = self.newest, newest
        self.let_go_of(left)

    def let_go_of(self, newest: Newest | None) -> None:
        """Closes a patch that is no longer the newest, unless it is one of those that are kept."""
        if newest is not None and newest is not self.newest and self.kept.get(newest.result.digest) is not newest:
            newest.close()

    def take_in(self, result: PatchResult) -> Newest:
        """The patch of a build, open: an earlier one that is kept, if it is the same. Raises OSError."""
        earlier = self.kept.get(result.digest)
        if earlier is None:
            return Newest.open(result)
        drop_file(result)
        return earlier

    def keep(self) -> None:
        """The newest patch was taken: it stays open; the oldest beyond :data:`KEPT` is closed."""
        if self.newest is None:
            return
        self.kept.pop(self.newest.result.digest, None)
        self.kept[self.newest.result.digest] = self.newest
        for digest in list(self.kept)[:-KEPT]:
            self.let_go_of(self.kept.pop(digest))

    def target(self, digest: str) -> Newest | None:
        """The patch with that digest; ``None`` for the base, whose digest is empty.

        Raises:
            HotReloadError: it cannot be gone to now. Nothing was sent to any process.
        """
        module = self.workshop.module
        if self.state is not State.IDLE:
            doing = "built" if self.state is State.MAKING else "delivered"
            raise HotReloadError(f"a save of {module} is being {doing}", hint="try again when its row is there")
        if not self.holders:
            raise HotReloadError(f"no process has {module} loaded any more", hint="start the program again")
        if not digest:
            return None
        if digest not in self.kept:
            raise HotReloadError(
                f"this patch of {module} is not kept any more: only the last {KEPT} are",
                hint="undo the edit in the editor and save",
            )
        return self.kept[digest]


def drop_file(result: PatchResult) -> None:
    """Removes the file of a patch: it is open by now, or will not be wanted."""
    if result.path is not None:
        with contextlib.suppress(OSError):
            os.unlink(result.path)


def make(
    workshop: Workshop, files: Iterable[Path], earlier: Mapping[Path, tuple[int, ...]], *, with_texts: bool = False
) -> Made:
    """Builds, and looks at the files before and after; never raises. Runs in the worker's thread.

    A header that this build is the first to read was not looked at before: there the text that was read counts. A
    file that was missing in the ``earlier`` look too is not away for a moment.
    """
    before = {path: look_at(path) for path in files}
    started = time.perf_counter()
    result: PatchResult | None = None
    error: Exception | None = None
    try:
        result = workshop.make()
    except Exception as caught:  # noqa: BLE001 - whatever a build raises is the answer to the save that caused it
        error = caught
    seconds = time.perf_counter() - started
    after = {path: look_at(path) for path in {*before, *workshop.watched_files()}}
    changed = {path for path, look in before.items() if after[path] != look}
    if result is not None:
        changed |= {path for path in after.keys() - before.keys() if _digest(path) != result.inputs.get(path)}
    missing = [path for path in before if not after[path] and path not in changed and earlier.get(path) != ()]
    texts = {path: _text_of(path) for path, look in after.items() if look} if with_texts else {}
    return Made(result, error, after, tuple(sorted(changed)), tuple(missing), seconds, texts)


def _text_of(path: Path) -> str:
    """What a file says, for a person; empty when it cannot be read or is no text of a person's."""
    try:
        if path.stat().st_size > _LARGEST_TEXT:
            return ""
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _digest(path: Path) -> str | None:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return None
