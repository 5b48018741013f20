"""The artefact's way in: a memfd that nobody can change any more, so what is verified is what is mapped."""

from __future__ import annotations

import fcntl
import os
import stat

from hotreload.agent.refusal import refuse
from hotreload.artefact import MAX_LEN

__all__ = ["SEALS", "read_sealed"]

#: Nobody writes, shrinks or grows it, and nobody takes these seals off.
SEALS = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL


def read_sealed(fd: int | None) -> bytes:
    """The content of a sealed memfd.

    Raises:
        StageError: NO_ARTEFACT, NOT_SEALED or TOO_BIG; nothing was read.
    """
    if fd is None:
        raise refuse("NO_ARTEFACT", "no artefact came with the request")
    found = os.fstat(fd)
    if not stat.S_ISREG(found.st_mode):
        raise refuse("NOT_SEALED", "what came as an artefact is no file in memory")
    try:
        seals = fcntl.fcntl(fd, fcntl.F_GET_SEALS)
    except OSError:
        raise refuse("NOT_SEALED", "what came as an artefact is a file that others may change") from None
    if seals & SEALS != SEALS:
        raise refuse("NOT_SEALED", "the artefact's memfd is not sealed", seals=seals)
    if found.st_size > MAX_LEN:
        raise refuse("TOO_BIG", f"{found.st_size:,} bytes are over the limit of {MAX_LEN:,} for an artefact")
    return _read_all(fd, found.st_size)


def _read_all(fd: int, length: int) -> bytes:
    chunks = []
    offset = 0
    while offset < length:
        chunk = os.pread(fd, length - offset, offset)
        if not chunk:
            raise refuse("NOT_SEALED", "the artefact ended before its end")
        chunks.append(chunk)
        offset += len(chunk)
    return b"".join(chunks)
