"""What the loop needs of its neighbours, as protocols: a test stands in for any of them with ten lines."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol, TypeVar

from hotreload.wire import Message

__all__ = ["Opener", "PatchResult", "Peer", "Watcher", "Worker", "Workshop"]

T = TypeVar("T")


class PatchResult(Protocol):
    """What one build of a module's sources would make live; ``hotreload.patch.workshop`` says more."""

    @property
    def kind(self) -> str: ...
    @property
    def digest(self) -> str: ...
    @property
    def path(self) -> Path | None: ...
    @property
    def inputs(self) -> Mapping[Path, str]: ...
    @property
    def edited(self) -> tuple[str, ...]: ...
    @property
    def changed(self) -> tuple[str, ...]: ...
    @property
    def compiler_changed(self) -> tuple[str, ...]: ...
    @property
    def added(self) -> tuple[str, ...]: ...
    @property
    def removed(self) -> tuple[str, ...]: ...
    @property
    def notes(self) -> tuple[str, ...]: ...
    @property
    def warnings(self) -> str: ...
    @property
    def seconds(self) -> Mapping[str, float]: ...


class Workshop(Protocol):
    """Everything that is known about one base, and how to make a patch for it."""

    @property
    def module(self) -> str: ...
    @property
    def build_id(self) -> str: ...
    def watched_files(self) -> Iterable[Path]: ...
    def make(self) -> PatchResult: ...
    def close(self) -> None: ...


class Opener(Protocol):
    """Which loaded files can be reloaded, extensions and ``.py``, and their workshops; ``place`` is where it looks."""

    @property
    def place(self) -> str: ...
    def knows(self, build_id: str, path: str) -> bool: ...
    def open(self, build_id: str, path: str) -> Workshop: ...
    def was_built_hot(self, path: str) -> bool: ...


class Peer(Protocol):
    """One connected process."""

    @property
    def pid(self) -> int: ...
    def send(self, message: Message, fd: int | None = None) -> None: ...


class Worker(Protocol):
    """Somewhere else to wait for a compiler; ``done`` is called back on the loop's own thread."""

    def submit(self, job: Callable[[], Any], done: Callable[[Any], None]) -> None: ...


class Watcher(Protocol):
    """Where saves are seen."""

    def watch(self, files: Iterable[Path]) -> None: ...
