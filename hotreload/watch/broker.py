"""The helper's side of the socket: takes connections from processes of this user, and never waits for any of them.

What a process cannot take at once is queued for it: a server that was stopped in a debugger holds nobody up.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import socket
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

from hotreload import events
from hotreload.log import Log
from hotreload.wire import Message, WireError, encode, peer_is_us, split

__all__ = ["Broker", "Connection", "Listener"]


class Listener(Protocol):
    """Who is told what processes say; the reload loop is one."""

    def process_joined(self, peer: Connection, libraries: Iterable[Any], live: Mapping[str, str]) -> None: ...
    def libraries_loaded(self, peer: Connection, libraries: Iterable[Any]) -> None: ...
    def files_left(self, paths: Iterable[str]) -> None: ...
    def process_left(self, peer: Connection) -> None: ...
    def replied(self, peer: Connection, reply: Message) -> None: ...
    def transition_ended(self, peer: Connection, told: Message) -> None: ...
    def stragglers_told(self, peer: Connection, stragglers: Sequence[str]) -> None: ...


class Connection:
    """One process; a peer in the sense of ``seams``."""

    def __init__(self, sock: socket.socket, wants: Callable[[Connection], None]) -> None:
        self.sock = sock
        self.pid = 0
        self.joined = False
        self._wants = wants
        self._incoming = bytearray()
        self._outgoing: deque[tuple[bytes, int | None]] = deque()

    def fileno(self) -> int:
        return self.sock.fileno()

    def send(self, message: Message, fd: int | None = None) -> None:
        """Queues a message, with a copy of ``fd``; sends what can be sent now. Too long an event is dropped."""
        try:
            data = encode(message)
        except WireError:
            if message["cmd"] != "event":
                raise
            return
        self._outgoing.append((data, None if fd is None else os.dup(fd)))
        self.flush()
        self._wants(self)

    @property
    def has_outgoing(self) -> bool:
        return bool(self._outgoing)

    def flush(self) -> None:
        """Sends what the process takes now. A broken connection is noticed by the reader."""
        try:
            while self._outgoing:
                data, fd = self._outgoing[0]
                sent = self.sock.send(data) if fd is None else socket.send_fds(self.sock, [data], [fd])
                if fd is not None:
                    os.close(fd)
                if sent == len(data):
                    self._outgoing.popleft()
                else:
                    self._outgoing[0] = (data[sent:], None)
        except BlockingIOError:
            pass
        except OSError:
            self._drop_outgoing()

    def read(self) -> list[Message] | None:
        """The messages that have come; ``None`` when the process is gone. Raises WireError."""
        try:
            data = self.sock.recv(1 << 16)
        except (BlockingIOError, InterruptedError):
            return []
        except OSError:
            return None
        if not data:
            return None
        self._incoming += data
        return split(self._incoming)

    def close(self) -> None:
        self._drop_outgoing()
        self.sock.close()

    def _drop_outgoing(self) -> None:
        while self._outgoing:
            _data, fd = self._outgoing.popleft()
            if fd is not None:
                os.close(fd)


class Broker:
    """The listening socket and every connection, as keys of one selector."""

    def __init__(self, listening: socket.socket, selector: selectors.BaseSelector, log: Log) -> None:
        self._listening = listening
        self._selector = selector
        self._log = log
        self._listener: Listener | None = None
        self._connections: set[Connection] = set()
        listening.setblocking(False)
        selector.register(listening, selectors.EVENT_READ, self._accept)

    def begin(self, listener: Listener) -> None:
        """From now on ``listener`` is told what processes say."""
        self._listener = listener

    @property
    def connected(self) -> int:
        """How many processes are connected."""
        return len(self._connections)

    def close(self) -> None:
        """Closes the listening socket and every connection."""
        self._selector.unregister(self._listening)
        self._listening.close()
        for connection in list(self._connections):
            self._selector.unregister(connection)
            connection.close()
        self._connections.clear()

    def _accept(self, _mask: int) -> None:
        while True:
            try:
                sock, _address = self._listening.accept()
            except OSError:
                return
            if not peer_is_us(sock):
                self._log.warning(events.PROCESS_REFUSED, reason="it belongs to another user")
                sock.close()
                continue
            sock.setblocking(False)
            connection = Connection(sock, self._watch_for_room)
            self._connections.add(connection)
            self._selector.register(
                connection, selectors.EVENT_READ, lambda mask, connection=connection: self._ready(connection, mask)
            )

    def _watch_for_room(self, connection: Connection) -> None:
        """Asks to be woken for writing exactly while something is queued."""
        if connection not in self._connections:
            return
        key = self._selector.get_key(connection)
        mask = selectors.EVENT_READ | (selectors.EVENT_WRITE if connection.has_outgoing else 0)
        if key.events != mask:
            self._selector.modify(connection, mask, key.data)

    def _ready(self, connection: Connection, mask: int) -> None:
        if mask & selectors.EVENT_WRITE:
            connection.flush()
            self._watch_for_room(connection)
        if mask & selectors.EVENT_READ and connection in self._connections:
            self._read(connection)

    def _read(self, connection: Connection) -> None:
        try:
            messages = connection.read()
            for message in messages or ():
                self._handle(connection, message)
        except (WireError, KeyError, TypeError, ValueError) as error:
            self._log.warning(events.PROCESS_REFUSED, pid=connection.pid, reason=f"it sent no message: {error}")
            messages = None
        if messages is None:
            self._drop(connection)

    def _handle(self, connection: Connection, message: Message) -> None:
        assert self._listener is not None
        kind = message["msg"]
        if kind == "hello":
            connection.pid = int(message["pid"])
            connection.joined = True
            self._listener.process_joined(connection, _libraries(message), dict(message["live"]))
        elif kind == "loaded" and connection.joined:
            self._listener.libraries_loaded(connection, _libraries(message))
        elif kind == "reply" and connection.joined:
            self._listener.replied(connection, message)
        elif kind == "transition" and connection.joined:
            self._listener.transition_ended(connection, message)
        elif kind == "stragglers" and connection.joined:
            self._listener.stragglers_told(connection, [str(one) for one in message["stragglers"]])
        else:
            raise WireError(f"unexpected message {kind!r}")
        if "left" in message:
            self._listener.files_left([str(path) for path in message["left"]])
        if "ask" in message:
            # Behind whatever was sent just now: a process does one thing after the other.
            connection.send({"cmd": "answer", "ask": message["ask"]})

    def _drop(self, connection: Connection) -> None:
        self._connections.discard(connection)
        with contextlib.suppress(KeyError, ValueError):
            self._selector.unregister(connection)
        connection.close()
        if connection.joined and self._listener is not None:
            self._listener.process_left(connection)


def _libraries(message: Message) -> list[tuple[str, str]]:
    return [(str(path), str(build_id)) for path, build_id in message["libraries"]]
