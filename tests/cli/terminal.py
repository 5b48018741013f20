"""Commands on a pseudo-terminal of a chosen size, and what they wrote on it."""

from __future__ import annotations

import fcntl
import os
import re
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.run.harness import environment

PATIENCE = 60.0
ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
HOTRELOAD = (sys.executable, "-m", "hotreload")


def plain(text: str) -> str:
    """What a person reads of it."""
    return ESCAPE.sub("", text).replace("\r", "")


def on_terminal(
    command: Sequence[str],
    *,
    directory: Path,
    columns: int = 100,
    when: tuple[str, Callable[[], None]] | None = None,
    **variables: str,
) -> tuple[int, str]:
    """Runs a command with all of its streams on a terminal; the exit code, and all that it wrote.

    ``when`` is a text to wait for, and what to do then.
    """
    outer, inner = os.openpty()
    fcntl.ioctl(inner, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    variables = {"TERM": "xterm-256color", "HOTRELOAD_LOG_FORMAT": "auto", **variables}
    own = {name: value for name, value in environment(directory, **variables).items() if name != "COLUMNS"}
    process = subprocess.Popen(
        list(command), cwd=directory, env=own, stdin=inner, stdout=inner, stderr=inner, start_new_session=True
    )
    os.close(inner)
    read, deadline = b"", time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if select.select([outer], [], [], 0.2)[0]:
            try:
                read += os.read(outer, 1 << 16)
            except OSError:  # nobody has the other end any more
                break
            if when is not None and when[0].encode() in read:
                when[1]()
                when = None
    os.close(outer)
    return process.wait(PATIENCE), read.decode(errors="replace")


def in_pipe(
    command: Sequence[str], *, directory: Path, cwd: Path | None = None, **variables: str
) -> subprocess.CompletedProcess[str]:
    """The same with pipes."""
    return subprocess.run(
        list(command),
        cwd=cwd or directory,
        env=environment(directory, **variables),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
