"""The messages between a server process and the helper process beside it.

::

    ┌──────────────┬──────────────────────────┐
    │ length, 4 B  │ JSON object, UTF-8       │   big-endian length of the JSON, at most 1 MiB, or less
    └──────────────┴──────────────────────────┘
      ▲
      └ a patch's file descriptor travels with this first byte (SCM_RIGHTS)

A process says ``hello``, ``loaded``, ``reply``, ``transition`` and ``stragglers``; the helper says ``attach``,
``stage+commit``, ``rollback``, ``event``, ``stragglers`` (who is left?), and ``answer`` to a ``hello`` or ``loaded``
that asks. Both sides are one user:
:func:`peer_is_us` is asked before the first byte is read. An agent speaks in the same frames and takes in less
at once.
"""

from __future__ import annotations

import json
import os
import socket
import struct
from typing import Any

__all__ = ["LIMIT", "Message", "WireError", "decode", "encode", "peer_is_us", "receive", "split"]

Message = dict[str, Any]

LIMIT = 1 << 20
_LENGTH = struct.Struct(">I")
_FD = struct.Struct("i")
_RIGHTS = (socket.SOL_SOCKET, socket.SCM_RIGHTS)
_CREDENTIALS = struct.Struct("3i")


class WireError(Exception):
    """The peer sent something that is no message; the connection is of no more use."""


def encode(message: Message) -> bytes:
    """The bytes of one message. Raises WireError when it is longer than a message may be."""
    body = json.dumps(message, separators=(",", ":"), default=str).encode()
    if len(body) > LIMIT:
        raise WireError(f"a message of {len(body)} bytes is over the limit of {LIMIT}")
    return _LENGTH.pack(len(body)) + body


def decode(body: bytes) -> Message:
    """The message in ``body``, which must be a JSON object."""
    try:
        message = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise WireError(f"not JSON: {error}") from None
    if not isinstance(message, dict):
        raise WireError("a message is a JSON object")
    return message


def split(buffer: bytearray, *, limit: int = LIMIT) -> list[Message]:
    """Takes every whole message from the front of ``buffer`` and leaves the rest in it."""
    messages = []
    while len(buffer) >= _LENGTH.size:
        length = _length_of(bytes(buffer[: _LENGTH.size]), limit)
        end = _LENGTH.size + length
        if len(buffer) < end:
            break
        messages.append(decode(bytes(buffer[_LENGTH.size : end])))
        del buffer[:end]
    return messages


def receive(sock: socket.socket) -> tuple[Message, int | None] | None:
    """The next message and the file descriptor that came with it; blocks until it is whole.

    Returns:
        ``None`` when the peer is gone. The descriptor, if any, is the caller's to close.
    """
    # Not socket.recv_fds: it drops its flags, and a program that forks and execs would inherit the patch.
    room = socket.CMSG_LEN(_FD.size)
    head, ancillary, _flags, _address = sock.recvmsg(_LENGTH.size, room, socket.MSG_CMSG_CLOEXEC)
    fds = [_FD.unpack(data[: _FD.size])[0] for level, kind, data in ancillary if (level, kind) == _RIGHTS]
    fd: int | None = fds[0] if fds else None
    try:
        rest = _receive_exactly(sock, _LENGTH.size - len(head)) if head else None
        if rest is None:
            message = None
        else:
            body = _receive_exactly(sock, _length_of(head + rest))
            message = None if body is None else decode(body)
    except BaseException:
        if fd is not None:
            os.close(fd)
        raise
    if message is None:
        if fd is not None:
            os.close(fd)
        return None
    return message, fd


def peer_is_us(sock: socket.socket) -> bool:
    """Whether the other end was connected by this user (or by root, who may do anything anyway)."""
    raw = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    _pid, uid, _gid = _CREDENTIALS.unpack(raw)
    return uid in (os.getuid(), os.geteuid(), 0)


def _length_of(head: bytes, limit: int = LIMIT) -> int:
    (length,) = _LENGTH.unpack(head)
    if length > limit:
        raise WireError(f"a message of {length} bytes is over the limit of {limit}")
    return int(length)


def _receive_exactly(sock: socket.socket, count: int) -> bytes | None:
    """``count`` bytes, or ``None`` when the peer closes before they came."""
    chunks = []
    while count:
        chunk = sock.recv(min(count, 1 << 16))
        if not chunk:
            return None
        chunks.append(chunk)
        count -= len(chunk)
    return b"".join(chunks)
