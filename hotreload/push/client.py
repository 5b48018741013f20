"""One process's agent, asked over its socket: one connection for each request, one deadline for each answer.

::

    connect ─▶ who listens? ─▶ request (+ sealed copy of the patch) ─▶ reply ─▶ close
       │ refused: ended         │ another pid or user: refused            │ late: silent    │ closed: ended

The connection goes through the open state directory, so nobody can put another path in between, and a long path is no
obstacle.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import struct
import time
from array import array
from collections.abc import Mapping
from typing import Any

from hotreload.push.coordinator import EndedError, Found, RefusedError, SilentError
from hotreload.push.processes import Process, children_of, family_of, look, pids_of_sockets, program_of
from hotreload.push.records import Identity, ProcessStatus
from hotreload.wire import LIMIT, WireError, decode, encode

__all__ = ["AgentClient", "Finder", "SealedPatch"]

VERSION = 1
_LENGTH = struct.Struct(">I")
_CREDENTIALS = struct.Struct("3i")
_SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
_YOUNG = 2.0
_STOPPED_PATIENCE = 1.0
_STOPPED = "stopped by a signal: it does not answer"


class SealedPatch:
    """The bytes of an artefact in memory that nobody can change any more: what is checked is what is mapped."""

    def __init__(self, raw: bytes) -> None:
        self._fd = os.memfd_create("hotreload-push", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            view = memoryview(raw)
            while view:
                view = view[os.write(self._fd, view) :]
            fcntl.fcntl(self._fd, fcntl.F_ADD_SEALS, _SEALS)
        except BaseException:
            os.close(self._fd)
            raise

    def open(self) -> int:
        """A descriptor of its own, at the beginning, for reading; the caller closes it."""
        return os.open(f"/proc/self/fd/{self._fd}", os.O_RDONLY | os.O_CLOEXEC)

    def close(self) -> None:
        os.close(self._fd)


class AgentClient:
    """The agent of one process.

    Args:
        directory_fd: the open directory of the sockets; stays the caller's.
        process: whose agent it must be.
        timeout: seconds that a reply may take.
        users: who may own that process.
    """

    def __init__(self, directory_fd: int, process: Process, *, timeout: float, users: frozenset[int]) -> None:
        self._directory_fd = directory_fd
        self._process = process
        self._timeout = timeout
        self._users = users
        self.seen = ProcessStatus()  # what it said last

    @property
    def identity(self) -> Identity:
        return self._process.identity

    @property
    def command(self) -> str:
        return self._process.command

    @property
    def parent(self) -> int:
        return self._process.parent

    def is_alive(self) -> bool:
        return self._process.is_alive()

    # The requests --------------------------------------------------------------------------------------------------

    def status(self) -> ProcessStatus:
        """What is live there."""
        self.seen = ProcessStatus.of_reply(self.ask({"cmd": "status"}))
        return self.seen

    def doctor(self) -> dict[str, Any]:
        """What the process allows."""
        return self.ask({"cmd": "doctor"})

    def prepare(self, push: str, patch: SealedPatch, deadline: float, *, flags: Mapping[str, Any]) -> dict[str, Any]:
        """Has the process check and stage a patch; it stays so until ``deadline`` seconds are over."""
        fd = patch.open()
        try:
            return self.ask({"cmd": "prepare", "push": push, "deadline": deadline, **flags}, fd)
        finally:
            os.close(fd)

    def prepare_rollback(
        self, push: str, build_id: str, to: int, deadline: float, *, flags: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Has the process make ready to go back to a generation of its own."""
        message = {"cmd": "prepare-rollback", "push": push, "build_id": build_id, "to": to, "deadline": deadline}
        return self.ask({**message, **flags})

    def commit(self, push: str, *, hold: float | None = None) -> dict[str, Any]:
        """Makes what is prepared live; with ``hold`` on trial, until it is committed again or the time is over."""
        message: dict[str, Any] = {"cmd": "commit", "push": push}
        return self.ask(message if hold is None else {**message, "hold": hold})

    def abort(self, push: str) -> Mapping[str, Any] | None:
        """Drops what is prepared, takes back what is on trial; the transition that is then open, if any."""
        transition = self.ask({"cmd": "abort", "push": push}).get("transition")
        return transition if isinstance(transition, Mapping) else None

    def force(self, reason: str) -> dict[str, Any]:
        """Ends the open transition although threads are where they should have left."""
        return self.ask({"cmd": "force", "reason": reason})

    # How -----------------------------------------------------------------------------------------------------------

    def ask(self, message: Mapping[str, Any], fd: int | None = None) -> dict[str, Any]:
        """One request and its reply.

        Raises:
            RefusedError: the reply is a refusal.
            SilentError: the process is there and no reply came in time.
            EndedError: the process is gone.
        """
        self._wait_while_stopped()
        was_asked = False
        deadline = time.monotonic() + self._timeout
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as sock:
            try:
                sock.settimeout(self._timeout)
                self._connect(sock, deadline)
                self._check_peer(sock)
                body = encode({"v": VERSION, **message})
                was_asked = True
                _send(sock, body, fd, deadline)
                reply = decode(_receive(sock, deadline))
            except (TimeoutError, socket.timeout):
                raise self._silence() from None
            except (OSError, EOFError) as error:
                raise self._end(error, was_asked) from None
            except WireError as error:
                raise RefusedError(f"its answer is no message: {error}") from None
        if not reply.get("ok"):
            raise _refusal(reply.get("error"))
        return reply

    def _wait_while_stopped(self) -> None:
        """A stopped process answers nothing, so there is no point in waiting as long as for one that is busy."""
        ends = time.monotonic() + min(_STOPPED_PATIENCE, self._timeout)
        while True:
            now = look(self.identity.pid)
            if now is None or now.identity != self.identity:
                raise EndedError("ended")
            if not now.is_stopped:
                return
            if time.monotonic() > ends:
                raise SilentError(_STOPPED)
            time.sleep(0.02)

    def _connect(self, sock: socket.socket, deadline: float) -> None:
        path = f"/proc/self/fd/{self._directory_fd}/{self.identity.pid}.sock"
        while True:
            failure = sock.connect_ex(path)
            if failure not in (errno.EAGAIN, errno.ETIMEDOUT):  # its queue is full
                break
            if time.monotonic() > deadline:
                raise TimeoutError
            time.sleep(0.01)
        if failure:
            raise OSError(failure, os.strerror(failure))

    def _check_peer(self, sock: socket.socket) -> None:
        raw = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        pid, uid, _gid = _CREDENTIALS.unpack(raw)
        if pid != self.identity.pid or not self._process.is_alive():
            raise EndedError(f"its socket belongs to process {pid}")
        if uid not in self._users:
            raise RefusedError(f"its socket belongs to user {uid}", "ask as that user or as root")

    def _silence(self) -> Exception:
        now = look(self.identity.pid)
        if now is None or now.identity != self.identity:
            return EndedError("ended", was_asked=True)
        if now.is_stopped:
            return SilentError(_STOPPED)
        return SilentError(f"no answer within {self._timeout:g} s")

    def _end(self, error: Exception, was_asked: bool) -> Exception:
        """What a broken connection means: a process that is ending closes it a moment before it is gone."""
        if isinstance(error, (ConnectionRefusedError, FileNotFoundError)):
            return EndedError("nobody listens at its socket")
        for _look in range(20):
            if not self._process.is_alive():
                return EndedError("ended", was_asked=was_asked)
            time.sleep(0.005)
        if isinstance(error, PermissionError):
            return RefusedError("this user may not talk to it", "ask as its user or as root")
        return SilentError(f"it closed the connection: {error or 'no answer'}")


class Finder:
    """Finds the processes of one application, again and again.

    Args:
        directory_fd: the open directory of the sockets; stays the caller's.
        pids: only these and their descendants, when given.
        timeout: seconds that a reply may take.
        users: who may own the processes.
    """

    def __init__(
        self,
        directory_fd: int,
        *,
        pids: tuple[int, ...] = (),
        timeout: float = 3.0,
        users: frozenset[int] | None = None,
    ) -> None:
        self._directory_fd = directory_fd
        self._pids = pids
        self._timeout = timeout
        self._users = users or frozenset({0, os.geteuid(), os.fstat(directory_fd).st_uid})

    def __call__(self) -> Found:
        """The processes there are, now."""
        clients = self.clients()
        return Found(tuple(clients), _count_newborn({client.identity.pid for client in clients}))

    def clients(self) -> list[AgentClient]:
        """The same, with what only a socket's other end can do."""
        wanted = family_of(self._pids) if self._pids else None
        processes = (look(pid) for pid in pids_of_sockets(self._directory_fd) if wanted is None or pid in wanted)
        return [
            AgentClient(self._directory_fd, process, timeout=self._timeout, users=self._users)
            for process in processes
            if process is not None
        ]


def _count_newborn(pids: set[int]) -> int:
    """Forked children of these that are so young that their own socket may not be there yet.

    A child that runs another program is none of ours, and one that runs the same and never gets a socket is waited
    for in vain, but not for long.
    """
    newborn = 0
    for pid in pids:
        for child in children_of(pid):
            process = look(child) if child not in pids else None
            newborn += process is not None and process.age < _YOUNG and program_of(child) == program_of(pid)
    return newborn


def _send(sock: socket.socket, body: bytes, fd: int | None, deadline: float) -> None:
    rest = memoryview(body)
    if fd is not None:
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", [fd]))]
        rest = rest[sock.sendmsg([rest], rights) :]
    while rest:
        _hurry(sock, deadline)
        rest = rest[sock.send(rest) :]


def _receive(sock: socket.socket, deadline: float) -> bytes:
    (length,) = _LENGTH.unpack(_receive_exactly(sock, _LENGTH.size, deadline))
    if length > LIMIT:
        raise WireError(f"a message of {length} bytes is over the limit of {LIMIT}")
    return _receive_exactly(sock, length, deadline)


def _receive_exactly(sock: socket.socket, count: int, deadline: float) -> bytes:
    chunks: list[bytes] = []
    while count:
        _hurry(sock, deadline)
        chunk = sock.recv(min(count, 1 << 16))
        if not chunk:
            raise EOFError
        chunks.append(chunk)
        count -= len(chunk)
    return b"".join(chunks)


def _hurry(sock: socket.socket, deadline: float) -> None:
    """What is left of the time is all that the next call may take, however slowly the bytes come."""
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    sock.settimeout(left)


def _refusal(error: Any) -> RefusedError:
    if not isinstance(error, dict):
        return RefusedError("it refused and did not say why")
    return RefusedError(
        str(error.get("message") or error.get("error") or "it refused and did not say why"),
        str(error.get("hint") or ""),
        str(error.get("status") or ""),
    )
