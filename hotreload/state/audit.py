r"""The audit trail: one JSON line for each event, appended and never changed.

    {"event":"push.committed","hash":"...","pid":71,"push":"...","time":"2026-01-31T12:00:00.000Z","uid":33, ...}\n

A line is ASCII whatever was in the names of functions and files: control characters, new lines and escapes of a
terminal arrive as ``\uXXXX``, so one event is one line and looks like what it is. Each line is one ``write`` to a file
opened for appending, then synced: many processes write here without a lock, and a process that is stopped holds up
none of them. After a line that a full disk cut short, the next one begins on a line of its own.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from hotreload.errors import StageError
from hotreload.state.directory import StateDirectory, StateError

__all__ = ["Audit", "AuditError"]

_FILE = "audit.jsonl"
_MAX_LINE = 64 << 10
_MAX_FIELD = 8 << 10


class AuditError(StageError):
    """The event could not be written down, and the policy asks for that; what it was about must not be done."""


class Audit:
    """The audit trail of one application.

    Args:
        directory: where it is kept.
        required: whether what cannot be written down must not be done.
        tell: is handed each event besides, whether or not it could be written.
    """

    def __init__(
        self,
        directory: StateDirectory,
        required: bool = False,
        tell: Callable[[Mapping[str, Any]], None] | None = None,
    ) -> None:
        self.required = required
        self._directory = directory
        self._tell = tell

    def write(self, event: Mapping[str, Any]) -> bool:
        """Writes one event down, with time, pid and uid where it does not say them; whether that was possible.

        Raises:
            AuditError: it was not, and it is required.
        """
        full = {"time": _now(), "pid": os.getpid(), "uid": os.geteuid(), **event}
        failure = self._append(_line(full))
        if self._tell is not None:
            self._tell(full)
        if failure is not None and self.required:
            raise AuditError(
                f"the audit trail cannot be written: {failure}",
                hint='make room and see that the service\'s user may write there; or set audit = "optional"',
                status="AUDIT",
            )
        return failure is None

    def read(self) -> Iterator[dict[str, Any]]:
        """The events, oldest first; what is no event, because it was cut short, is passed over.

        Raises:
            StateError: the file is not one that may be trusted.
        """
        try:
            with self._directory.append(_FILE, create=False) as fd:
                file = open(os.dup(fd), "rb")  # noqa: SIM115 - closed below, when the last event was read
        except FileNotFoundError:
            return
        with file:
            file.seek(0)
            while line := file.readline(_MAX_LINE):
                try:
                    event = json.loads(line)
                except (ValueError, RecursionError):
                    continue
                if isinstance(event, dict):
                    yield event

    def _append(self, line: bytes) -> str | None:
        """What went wrong, or None."""
        try:
            with self._directory.append(_FILE) as fd:
                length = os.fstat(fd).st_size
                if length and os.pread(fd, 1, length - 1) != b"\n":
                    line = b"\n" + line
                if os.write(fd, line) != len(line):
                    return "the disk is full"
                os.fsync(fd)
        except StateError as error:
            return str(error)
        except OSError as error:
            return os.strerror(error.errno) if error.errno else str(error)
        return None


def _line(event: Mapping[str, Any]) -> bytes:
    text = _spell(event)
    if len(text) >= _MAX_LINE:
        short: dict[str, Any] = {"cut": True}
        room = _MAX_LINE - len(_spell(short)) - 1
        for key, value in event.items():
            kept = value if len(_spell({key: value})) < _MAX_FIELD else str(value)[: _MAX_FIELD // 16]
            room -= len(_spell({key: kept}))
            if room <= 0:
                break
            short[key] = kept
        text = _spell(short)
    return text.encode("ascii") + b"\n"


def _spell(event: Mapping[str, Any]) -> str:
    text = json.dumps(event, sort_keys=True, separators=(",", ":"), default=str)
    return text.replace("\x7f", "\\u007f")


def _now() -> str:
    moment = time.time()
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(moment)) + f".{int(moment % 1 * 1000):03}Z"
