"""Who is at the other end of a connection, as the kernel tells it.

The credentials are those of the moment of ``connect``, and the pid in them may belong to somebody else by now: so the
process is held by a pidfd, where the kernel hands one out (6.5 and later), before anything is read about it in /proc.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import struct
from typing import Any, NamedTuple

from hotreload.artefact import printable

__all__ = ["Peer", "peer_of"]

_CREDENTIALS = struct.Struct("3i")
_PIDFD = struct.Struct("i")
_SO_PEERPIDFD = 77
_EXE_LIMIT = 200


class Peer(NamedTuple):
    """One connected process.

    ``exe`` and ``sudo_uid`` were read while the pidfd said that it was still the same process; they are empty where
    that cannot be known. ``is_verified`` says whether there was a pidfd.
    """

    pid: int
    uid: int
    gid: int
    exe: str = ""
    sudo_uid: str = ""
    is_verified: bool = False

    def as_dict(self) -> dict[str, Any]:
        """For the audit trail; what is empty is left out."""
        return {f"peer_{name.replace('is_', '')}": value for name, value in self._asdict().items() if value != ""}


def peer_of(sock: socket.socket) -> Peer | None:
    """The process that connected ``sock``; None when it is gone already."""
    raw = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    pid, uid, gid = _CREDENTIALS.unpack(raw)
    plain = Peer(pid, uid, gid)
    pidfd = _pidfd_of(sock)
    if pidfd is None:
        return plain
    try:
        exe, sudo_uid = _exe_of(pid), _sudo_uid_of(pid)
        if _has_ended(pidfd):
            return None
        return plain._replace(exe=exe, sudo_uid=sudo_uid, is_verified=True)
    finally:
        os.close(pidfd)


def _pidfd_of(sock: socket.socket) -> int | None:
    """The descriptor that the kernel has of the peer; None where the kernel has none to give."""
    try:
        raw = sock.getsockopt(socket.SOL_SOCKET, _SO_PEERPIDFD, _PIDFD.size)
    except OSError:
        return None
    return int(_PIDFD.unpack(raw)[0])


def _has_ended(pidfd: int) -> bool:
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(0))


def _exe_of(pid: int) -> str:
    try:
        return printable(os.readlink(f"/proc/{pid}/exe"))[:_EXE_LIMIT]
    except OSError:
        return ""


def _sudo_uid_of(pid: int) -> str:
    """Who became this user by sudo, as far as the process's environment may be read and believed."""
    with contextlib.suppress(OSError), open(f"/proc/{pid}/environ", "rb") as file:
        for entry in file.read(1 << 20).split(b"\0"):
            if entry.startswith(b"SUDO_UID="):
                return printable(entry[len(b"SUDO_UID=") :].decode("ascii", "replace"))[:16]
    return ""
