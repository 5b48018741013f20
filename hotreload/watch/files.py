"""Watches the directories of a set of files, never trees, and says when one of the files was saved.

The directory is watched and not the file, since an editor that saves by renaming replaces the inode. Only three
kinds of event are asked for: *closed* after writing, *moved* (the atomic save), and *created* (moved in from another
directory). A directory that was removed and made anew, as a checkout does, is watched again and counts as a save of
all its files.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from watchdog.events import (
    FileClosedEvent,
    FileCreatedEvent,
    FileModifiedEvent,
    FileMovedEvent,
    FileSystemEvent,
    FileSystemEventHandler,
)
from watchdog.observers import Observer
from watchdog.observers.polling import PollingObserver

__all__ = ["SourceWatcher"]

Saved = Callable[[str, bool], None]
Degraded = Callable[[str], None]
if TYPE_CHECKING:
    Identity = tuple[int, int] | None


class SourceWatcher:
    """Calls ``saved(path, whole)`` from watchdog's thread for each save of a watched file.

    Args:
        saved: gets the path as it was given to :meth:`watch`, and whether its writer is done for certain.
        degraded: gets one sentence when the kernel's notifications cannot be had and polling takes over.
        polling: look at the files every ``interval`` seconds instead, for network file systems.
    """

    def __init__(self, saved: Saved, degraded: Degraded, *, polling: bool = False, interval: float = 0.5) -> None:
        self._saved = saved
        self._degraded = degraded
        self._interval = interval
        self._polling = polling
        self._observer: Any = None
        # Both are replaced, never changed in place: watchdog's thread reads them.
        self._paths: dict[str, frozenset[str]] = {}
        self._watches: dict[str, tuple[Any, Identity]] = {}
        self._handler = _Handler(self._seen)

    def watch(self, files: Iterable[Path]) -> None:
        """From now on exactly these files are watched."""
        self._paths = _with_real_paths(files)
        directories = {os.path.dirname(path) for path in self._paths}
        for directory in set(self._watches) - directories:
            self._forget(directory)
        for directory in sorted(directories - set(self._watches)):
            self._remember(directory)

    def check(self) -> None:
        """Watches anew every directory that was replaced since; cheap, to be called now and then."""
        for directory, (_watch, identity) in list(self._watches.items()):
            now = _identity(directory)
            if now == identity:
                continue
            self._forget(directory)
            self._remember(directory)
            if now is not None:
                for path in [path for path in self._paths if os.path.dirname(path) == directory]:
                    if os.path.exists(path):
                        self._seen(path, whole=False)

    def close(self) -> None:
        """Stops watching. What was seen before may still be on its way."""
        if self._observer is not None:
            self._observer.stop()

    def _seen(self, path: str, *, whole: bool) -> None:
        for watched in self._paths.get(path, ()):
            self._saved(watched, whole)

    def _remember(self, directory: str) -> None:
        """Watches one directory, whether or not its files are there; it may itself be left for :meth:`check`."""
        identity = _identity(directory)
        watch = None
        if identity is not None:
            try:
                watch = self._schedule(directory)
            except FileNotFoundError:
                identity = None
            except PermissionError:
                pass  # nothing in it can be read by a build either; it is watched again when it is another one
            except OSError as error:
                if self._polling:
                    raise
                self._fall_back_to_polling(f"no file notifications: {error}; looking every {self._interval:g} s")
                watch = self._schedule(directory)
        self._watches[directory] = (watch, identity)

    def _forget(self, directory: str) -> None:
        watch, _identity_then = self._watches.pop(directory)
        if watch is not None:
            with contextlib.suppress(KeyError, OSError):
                self._observer.unschedule(watch)

    def _schedule(self, directory: str) -> Any:
        if self._observer is None:
            self._observer = PollingObserver(timeout=self._interval) if self._polling else Observer()
            self._observer.daemon = True
            self._observer.start()
        kinds: list[type[FileSystemEvent]] = [FileMovedEvent, FileCreatedEvent]
        kinds.append(FileModifiedEvent if self._polling else FileClosedEvent)
        return self._observer.schedule(self._handler, directory, recursive=False, event_filter=kinds)

    def _fall_back_to_polling(self, reason: str) -> None:
        self._degraded(reason)
        self._polling = True
        directories = list(self._watches)
        if self._observer is not None:
            self._observer.stop()
            self._observer = None
        self._watches = {}
        for directory in directories:
            self._remember(directory)


class _Handler(FileSystemEventHandler):
    """Turns watchdog's events into (path, whole)."""

    def __init__(self, seen: Callable[..., None]) -> None:
        self._seen = seen

    def dispatch(self, event: FileSystemEvent) -> None:
        created = isinstance(event, FileCreatedEvent)
        path = event.dest_path if isinstance(event, FileMovedEvent) else event.src_path
        if path:
            self._seen(os.fsdecode(path), whole=not created)


def _with_real_paths(files: Iterable[Path]) -> dict[str, frozenset[str]]:
    """Path on disk → the watched paths that lead to it: itself, and those that are symbolic links to it."""
    paths: dict[str, set[str]] = {}
    for file in files:
        given = os.path.abspath(file)
        for path in {given, os.path.realpath(given)}:
            paths.setdefault(path, set()).add(given)
    return {path: frozenset(watched) for path, watched in paths.items()}


def _identity(directory: str) -> Identity:
    try:
        found = os.stat(directory)
    except OSError:
        return None
    return (found.st_dev, found.st_ino)
