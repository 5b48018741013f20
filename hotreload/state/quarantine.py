"""Artefacts that are not applied again: a process that took one of them died soon after.

    quarantine/SHA256    {"why": ..., "time": ..., "pid": ..., "uid": ...}

The name is the hash of the whole artefact, or of its code alone (``body_sha256``): then a second packing of the same
code is caught too. Only a person takes something out again.
"""

from __future__ import annotations

import json
import os
import time
from typing import Any

from hotreload.state.directory import StateDirectory, StateError, is_hex

__all__ = ["Quarantine"]

_ROOM = "quarantine"
_LIMIT = 64 << 10
_SHA256_LEN = 64


class Quarantine:
    """The quarantine of one application."""

    def __init__(self, directory: StateDirectory) -> None:
        self._directory = directory

    def add(self, sha256: str, why: str, **fields: Any) -> bool:
        """Puts an artefact into quarantine; False when it was there already, for the reason it was put there for."""
        note = {"why": why[:4096], "time": time.time(), "pid": os.getpid(), "uid": os.geteuid(), **fields}
        content = json.dumps(note, sort_keys=True, default=str).encode("ascii")
        return self._directory.create(_ROOM, _checked(sha256), content=content)

    def find(self, *sha256s: str) -> str | None:
        """Why one of these is in quarantine; None when none is.

        A note that cannot be read is a reason too: what it is about stays out.
        """
        for sha256 in sha256s:
            content = self._directory.read(_ROOM, _checked(sha256), limit=_LIMIT)
            if content is not None:
                return _why(content)
        return None

    def release(self, sha256: str) -> bool:
        """Takes an artefact out again; False when it was not there."""
        return self._directory.remove(_ROOM, _checked(sha256))

    def entries(self) -> dict[str, str]:
        """Everything that is in quarantine, and why."""
        found = {name: self.find(name) for name in self._directory.names(_ROOM) if is_hex(name)}
        return {name: why for name, why in found.items() if why is not None}


def _why(content: bytes) -> str:
    try:
        return str(json.loads(content)["why"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return "the note of why cannot be read"


def _checked(sha256: str) -> str:
    if len(sha256) != _SHA256_LEN or not is_hex(sha256):
        raise StateError(f"{sha256!r} is no SHA-256", hint="64 digits, lower-case hexadecimal")
    return sha256
