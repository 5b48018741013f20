"""One connected client: what it has sent so far, whether that is a request yet, and how long it may take.

Nothing in here waits. A client that sends a byte a second costs a buffer of at most one message and holds up neither
a fork nor a deadline; its time is over all the same.
"""

from __future__ import annotations

import os
import socket
import struct
import time

from hotreload.agent.peer import Peer
from hotreload.wire import Message, WireError, encode, split

__all__ = ["MESSAGE_LIMIT", "MESSAGE_SECONDS", "Conversation"]

#: How long a request may be, and how long it may take from its first byte, or without one, to its last.
MESSAGE_LIMIT = 64 << 10
MESSAGE_SECONDS = 5.0

_HEAD = 4
_FD = struct.Struct("i")


class Conversation:
    """One client, from ``accept`` to the end."""

    def __init__(self, sock: socket.socket, peer: Peer) -> None:
        self.sock = sock
        self.peer = peer
        self._buffer = bytearray()
        self._fd: int | None = None
        self._give_time()

    @property
    def seconds_left(self) -> float:
        """How long the client still has."""
        return self._ends - time.monotonic()

    def check_time(self) -> None:
        """Raises WireError when the client's time is over."""
        if self.seconds_left <= 0:
            raise WireError("the request did not come in time")

    def receive(self) -> tuple[Message, int | None] | None:
        """Takes in what is there.

        Returns:
            the request with its descriptor, which is then the caller's to close, or None: it is not whole yet.

        Raises:
            WireError: what was sent is no request; the conversation is over.
            ConnectionError: the client has gone.
        """
        room = _HEAD + MESSAGE_LIMIT - len(self._buffer)
        try:
            chunk, ancillary, flags, _ = self.sock.recvmsg(
                max(room, 1), socket.CMSG_LEN(_FD.size), socket.MSG_CMSG_CLOEXEC
            )
        except BlockingIOError:
            return None
        self._keep_descriptor(ancillary)
        if flags & socket.MSG_CTRUNC:
            raise WireError("more than one descriptor came with one request")
        if not chunk:
            raise ConnectionResetError("the client has gone")
        self._buffer += chunk
        messages = split(self._buffer, limit=MESSAGE_LIMIT)
        if not messages:
            return None
        if len(messages) > 1 or self._buffer:
            raise WireError("a request came before the last one was answered")
        fd, self._fd = self._fd, None
        return messages[0], fd

    def reply(self, message: Message) -> None:
        """Sends one reply; the client has its time again.

        Raises:
            OSError: the client does not take it.
            WireError: it is too long.
        """
        data = encode(message)
        self.sock.settimeout(MESSAGE_SECONDS)
        try:
            self.sock.sendall(data)
        finally:
            self.sock.setblocking(False)
        self._give_time()

    def close(self) -> None:
        """Ends it."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None
        self.sock.close()

    def _keep_descriptor(self, ancillary: list[tuple[int, int, bytes]]) -> None:
        for level, kind, data in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS) and len(data) >= _FD.size:
                (fd,) = _FD.unpack(data[: _FD.size])
                if self._fd is not None:
                    os.close(fd)
                    raise WireError("more than one descriptor came with one request")
                self._fd = fd

    def _give_time(self) -> None:
        self._ends = time.monotonic() + MESSAGE_SECONDS
