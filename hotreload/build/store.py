"""The store: base objects, source texts and base libraries, by content, kept beside no project.

    $HOTRELOAD_STORE, else $XDG_CACHE_HOME/hotreload, else ~/.cache/hotreload
    ├── objects/SHA256      objects as the compiler made them
    ├── texts/SHA256        sources and headers as it read them
    └── builds/BUILD-ID/    record.json  base.so

A running server's base may be gone from disk, or be another build by now; what is kept here is the one that
is mapped. Every file is written under another name and renamed, so that readers see it whole or not at all.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path

from hotreload.build.record import Record
from hotreload.errors import BuildError

__all__ = ["find", "load_base", "load_object", "load_text", "root", "save_base", "save_object", "save_text"]


def root() -> Path:
    """The directory of the store; it need not exist yet."""
    configured = os.environ.get("HOTRELOAD_STORE")
    if configured:
        return Path(configured)
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return Path(cache) / "hotreload"


def find(build_id: str) -> Path | None:
    """The directory of a base, or None when it was not built here."""
    directory = root() / "builds" / build_id
    return directory if (directory / "record.json").exists() else None


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
    directory = root() / "builds" / record.build_id
    _write(directory / "base.so", library)
    _write(directory / "record.json", record.to_json())  # last: it is what makes the base known


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
        return Record.from_json((directory / "record.json").read_bytes()), (directory / "base.so").read_bytes()
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise BuildError(
            f"the stored build {build_id} cannot be read: {error}", hint="run `hotreload build` again"
        ) from error


def _save_by_content(kind: str, content: bytes) -> str:
    name = hashlib.sha256(content).hexdigest()
    path = root() / kind / name
    if not path.exists():
        _write(path, content)
    return name


def _load(kind: str, name: str) -> bytes:
    path = root() / kind / name
    try:
        return path.read_bytes()
    except OSError as error:
        raise BuildError(
            f"{path} is gone from the store", hint="run `hotreload build` again and restart the server"
        ) from error


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
