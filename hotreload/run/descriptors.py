"""Descriptors that may be taken away: a daemon closes all it does not know, and opens its own under their numbers.

So each is remembered with what it was, and is looked at before it is written to or closed. One that is another file
now belongs to the program: it is forgotten, and left alone.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator

__all__ = ["Identity", "OwnFiles", "behind_streams", "close_if_ours", "identity_of"]

Identity = tuple[int, int]


def identity_of(fd: int) -> Identity:
    """What tells one open file from another that has its number; (0, 0) when it is closed."""
    try:
        found = os.fstat(fd)
    except OSError:
        return (0, 0)
    return (found.st_dev, found.st_ino)


def close_if_ours(fd: int, identity: Identity) -> None:
    """Closes ``fd`` if it is still the file that it was."""
    if identity_of(fd) == identity:
        with contextlib.suppress(OSError):
            os.close(fd)


@contextlib.contextmanager
def behind_streams() -> Iterator[None]:
    """What is opened in here gets none of the numbers 0, 1 and 2.

    Where a daemon has closed them they are the program's all the same: what C code prints would go into our socket.
    """
    held = []
    with contextlib.suppress(OSError):  # no /dev/null, or no more descriptors: then it is tried without
        while (fd := os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)) < 3:
            held.append(fd)
        os.close(fd)
    try:
        yield
    finally:
        for fd in held:
            os.close(fd)


class OwnFiles:
    """The socket of one connection, and the pipe that wakes the thread that waits for it."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_write, False)
        self._identities = {fd: identity_of(fd) for fd in (sock.fileno(), self.wake_read, self._wake_write)}

    @property
    def are_ours(self) -> bool:
        """Whether none of them was closed, by us or under us."""
        return bool(self._identities) and all(identity_of(fd) == was for fd, was in self._identities.items())

    def send(self, data: bytes) -> None:
        """Sends all of it. Raises OSError."""
        if not self.are_ours:
            raise OSError("the program has closed the connection")
        self.sock.sendall(data)

    def wake(self) -> None:
        """Wakes the thread; does nothing when the pipe is gone."""
        if self.are_ours:
            with contextlib.suppress(OSError):
                os.write(self._wake_write, b"!")

    def close(self) -> None:
        """Closes those that are still ours and forgets them all."""
        identities, self._identities = self._identities, {}
        with contextlib.suppress(OSError):
            self.sock.detach()
        for fd, identity in identities.items():
            close_if_ours(fd, identity)
