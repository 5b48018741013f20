"""What every manifest tells besides the code: who, when, until when, and the lines that differ."""

from __future__ import annotations

import difflib
import os
import pwd
import re
import subprocess
import time
from calendar import timegm
from pathlib import Path
from typing import Mapping, Sequence, Union

from hotreload.errors import HotReloadError

__all__ = ["author_of", "cut_diff", "expiry_of", "moment_of", "read_bytes", "stamp_of", "unified_diff"]

_DIFF_LIMIT = 1 << 20
_STAMP = "%Y-%m-%dT%H:%M:%SZ"
_SPAN = re.compile(r"(\d{1,6})([mhdw])")
_SECONDS = {"m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


def moment_of(paths: Sequence[Union[str, Path]], environ: Mapping[str, str]) -> int:
    """When a change was made, in nanoseconds since the epoch: SOURCE_DATE_EPOCH, or the time of the newest file.

    Raises:
        HotReloadError: SOURCE_DATE_EPOCH is no number.
    """
    given = environ.get("SOURCE_DATE_EPOCH", "")
    if given:
        if not given.isdecimal():
            raise HotReloadError(f"SOURCE_DATE_EPOCH={given} is no number of seconds", hint="`date +%s` prints one")
        return int(given) * 10**9
    return max((os.stat(path).st_mtime_ns for path in paths if os.path.exists(path)), default=0)


def stamp_of(moment: int) -> str:
    """A moment as manifests write it."""
    return time.strftime(_STAMP, time.gmtime(moment // 10**9))


def cut_diff(diff: str, notes: list[str]) -> str:
    """A diff that is not too long; where it was, a note says so."""
    if len(diff) > _DIFF_LIMIT:
        notes.append(f"the source diff is {len(diff):,} characters and is cut")
    return diff[:_DIFF_LIMIT]


def unified_diff(name: str, old: Union[bytes, None], new: Union[bytes, None]) -> str:
    """How one file differs, in a form that ``patch -p1`` takes; None is a file that is not there."""
    before = "/dev/null" if old is None else f"a/{name}"
    after = "/dev/null" if new is None else f"b/{name}"
    return "".join(_ended(line) for line in difflib.unified_diff(_lines(old), _lines(new), before, after))


def read_bytes(path: Path) -> Union[bytes, None]:
    """What is in a file; None when it cannot be read."""
    try:
        return path.read_bytes()
    except OSError:
        return None


def expiry_of(text: str, created: int) -> str:
    """The end that somebody gives as a time, or as a span from ``created``, in seconds. Raises HotReloadError."""
    span = _SPAN.fullmatch(text)
    try:
        end = created + int(span[1]) * _SECONDS[span[2]] if span else timegm(time.strptime(text, _STAMP))
    except ValueError:
        raise HotReloadError(f"{text!r} is no time", hint="write 2026-12-31T00:00:00Z, or 30m, 12h, 7d") from None
    return time.strftime(_STAMP, time.gmtime(end))


def author_of(directory: Path) -> str:
    """Who types: as git knows him in that directory, or the name of the user."""
    said = [_git_config(directory, key) for key in ("user.name", "user.email")]
    if said[0]:
        return f"{said[0]} <{said[1]}>" if said[1] else said[0]
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return f"uid {os.getuid()}"


def _git_config(directory: Path, key: str) -> str:
    try:
        done = subprocess.run(
            ["git", "config", key], cwd=directory, capture_output=True, text=True, check=False, timeout=5
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def _ended(line: str) -> str:
    return line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n"


def _lines(text: Union[bytes, None]) -> list[str]:
    decoded = (text or b"").decode("utf-8", errors="surrogateescape")
    lines = [f"{line}\n" for line in decoded.split("\n")]
    lines[-1] = lines[-1][:-1]
    return lines if lines[-1] else lines[:-1]
