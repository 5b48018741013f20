"""The store: base objects, source texts and base libraries, by content, kept beside no project.

    $HOTRELOAD_STORE, else $XDG_CACHE_HOME/hotreload, else ~/.cache/hotreload
    ├── objects/SHA256      objects as the compiler made them
    ├── texts/SHA256        sources and headers as it read them
    └── builds/BUILD-ID/    record.json  base.so

A running server's base may be gone from disk, or be another build by now; what is kept here is the one that
is mapped. Every file is written under another name and renamed, so that readers see it whole or not at all.
A build that nobody has used for KEPT_DAYS is removed when the next one is made.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterator

from hotreload.build.record import Record
from hotreload.errors import BuildError

__all__ = [
    "find",
    "load_base",
    "load_object",
    "load_text",
    "prune",
    "records",
    "root",
    "save_base",
    "save_object",
    "save_text",
]

KEPT_DAYS = 30
DAY = 86400.0


def root() -> str:
    """The directory of the store; it need not exist yet."""
    configured = os.environ.get("HOTRELOAD_STORE")
    if configured:
        return configured
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return os.path.join(cache, "hotreload")


def find(build_id: str) -> str | None:
    """The directory of a base, or None when it was not built here."""
    directory = _directory(build_id)
    return directory if os.path.exists(os.path.join(directory, "record.json")) else None


def save_object(content: bytes) -> str:
    """Keep an object; its SHA-256 is its name."""
    return _save_by_content("objects", content)


def save_text(content: bytes) -> str:
    """Keep the text of a source or a header; its SHA-256 is its name."""
    return _save_by_content("texts", content)


def load_object(name: str) -> bytes:
    """An object that was kept. Raises BuildError when it is gone."""
    return _load("objects", name)


def load_text(name: str) -> bytes:
    """A text that was kept. Raises BuildError when it is gone."""
    return _load("texts", name)


def save_base(record: Record, library: bytes) -> None:
    """Keep a finished hot extension with its record."""
    directory = _directory(record.build_id)
    _write(os.path.join(directory, "base.so"), library)
    _write(os.path.join(directory, "record.json"), record.to_json())  # last: it is what makes the base known


def load_base(build_id: str) -> tuple[Record, bytes]:
    """The record and the library of a base.

    Raises:
        BuildError: it was not built here, or by another version of hotreload; nothing was changed.
    """
    directory = find(build_id)
    if directory is None:
        raise BuildError(
            f"no hot build with build-id {build_id} in {root()}",
            hint="build the extension with `hotreload build` on this machine and restart the server",
        )
    try:
        os.utime(directory)  # in use: not to be pruned
        record = Record.from_json(_read(os.path.join(directory, "record.json")))
        return record, _read(os.path.join(directory, "base.so"))
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise BuildError(
            f"the stored build {build_id} cannot be read: {error}", hint="run `hotreload build` again"
        ) from error


def records() -> Iterator[Record]:
    """The record of every base, the newest build first; those of other versions of hotreload are passed over."""
    found = []
    for directory in _entries("builds"):
        path = os.path.join(directory, "record.json")
        try:
            found.append((os.stat(path).st_mtime_ns, path))
        except OSError:
            continue
    for _, path in sorted(found, reverse=True):
        try:
            yield Record.from_json(_read(path))
        except (OSError, ValueError, TypeError, KeyError):
            continue


def prune(now: float | None = None) -> int:
    """Remove builds that were not used for KEPT_DAYS, and what only they needed; how many builds went.

    What is younger than a day always stays: a build in progress keeps its objects before it is a build.
    """
    now = time.time() if now is None else now
    removed = 0
    needed: set[str] = set()
    for directory in _entries("builds"):
        if now - os.stat(directory).st_mtime > KEPT_DAYS * DAY:
            for name in ("record.json", "base.so"):  # in this order: without its record it is not found any more
                os.unlink(os.path.join(directory, name))
            os.rmdir(directory)
            removed += 1
            continue
        try:
            units = json.loads(_read(os.path.join(directory, "record.json")))["units"]
        except (OSError, ValueError, KeyError):
            continue  # another version's, or half removed by another build
        needed |= {name for unit in units for name in (unit["object"], *unit["files"].values())}
    if removed:
        for path in [*_entries("objects"), *_entries("texts")]:
            if os.path.basename(path) not in needed and now - os.stat(path).st_mtime > DAY:
                os.unlink(path)
    return removed


def _entries(kind: str) -> list[str]:
    directory = os.path.join(root(), kind)
    return [entry.path for entry in os.scandir(directory)] if os.path.isdir(directory) else []


def _save_by_content(kind: str, content: bytes) -> str:
    name = hashlib.sha256(content).hexdigest()
    path = os.path.join(root(), kind, name)
    if not os.path.exists(path):
        _write(path, content)
    return name


def _load(kind: str, name: str) -> bytes:
    path = os.path.join(root(), kind, name)
    try:
        return _read(path)
    except OSError as error:
        raise BuildError(
            f"{path} is gone from the store", hint="run `hotreload build` again and restart the server"
        ) from error


def _directory(build_id: str) -> str:
    return os.path.join(root(), "builds", build_id)


def _read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def _write(path: str, content: bytes) -> None:
    os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    temporary = f"{path}.{os.getpid()}"
    try:
        with open(temporary, "wb") as file:
            file.write(content)
        os.replace(temporary, path)
    except BaseException:
        if os.path.exists(temporary):
            os.unlink(temporary)
        raise
