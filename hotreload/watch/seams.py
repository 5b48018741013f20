"""What the loop needs of its neighbours, as protocols: a test stands in for any of them with ten lines."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol, TypeVar

from hotreload.wire import Message

__all__ = ["Audience", "Opener", "PatchResult", "Peer", "Watcher", "Worker", "Workshop"]

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
    def base_texts(self) -> Mapping[Path, str]: ...
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


class Audience(Protocol):
    """Whoever is shown what the loop sees and does; the page's book is one. None of these may wait.

    ``key`` is what the loop knows a base by, and what it goes by in :meth:`ReloadLoop.go_to`.
    """

    @property
    def is_watched(self) -> bool: ...
    def module_found(self, key: str, module: str, base_texts: Callable[[], Mapping[Path, str]]) -> None: ...
    def module_changed(
        self, key: str, *, state: str, wanted: str, kept: Iterable[str], files: Iterable[str],
        holders: Iterable[tuple[int, str, str | None]],
    ) -> None: ...  # fmt: skip
    def processes_changed(self, pids: Iterable[int]) -> None: ...
    def reload_finished(
        self, key: str, line: Mapping[str, Any], *, digest: str, texts: Mapping[Path, str], error: Exception | None,
        answers: Iterable[Mapping[str, Any]],
    ) -> None: ...  # fmt: skip
    def stragglers_seen(self, pid: int, stragglers: Iterable[str]) -> None: ...
