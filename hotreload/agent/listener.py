"""The agent's thread and its socket: waits for one client at a time, and for what the session has to do alone.

::

    thread:  poll(listening socket or client, wake pipe; until the next deadline)
                 │ client ──▶ request whole? ──▶ desk.answer ──▶ reply
                 │ nobody ──▶ settle what has no pusher any more; every few seconds: is the name still ours?
                 └ wake   ──▶ the thread ends: a fork, or the end

    STATE/sockets/.PID.new ── fchmod 0600, bind, listen ── rename ──▶ STATE/sockets/PID.sock

A name that ends in ``.sock`` therefore always had a listener: where nobody answers, the process is dead. The path is
reached through a descriptor of the checked directory, so no link is followed and no path is too long. A process
without its name would be passed over by every push, so a name that is lost, or was not to be had, is tried for again.

Before a fork the thread is ended and afterwards started again, in the parent with the same socket and in the child
with one of its own. It is started below ``threading`` and takes no signal: the program's stay the program's.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import signal
import socket
import stat
import time
from _thread import allocate_lock, get_ident, start_new_thread
from collections.abc import Callable
from typing import Protocol

from hotreload.agent.conversation import Conversation
from hotreload.agent.peer import Peer, peer_of
from hotreload.errors import HotReloadError
from hotreload.state import StateDirectory, StateError
from hotreload.wire import Message, WireError

__all__ = ["Clerk", "Listener", "is_answered", "socket_name", "sweep"]

_FORK_PATIENCE = 1.0
_BACKLOG = 8
_CRASHES = {signal.SIGSEGV, signal.SIGBUS, signal.SIGILL, signal.SIGFPE, signal.SIGABRT, signal.SIGTRAP, signal.SIGSYS}
#: With no descriptor left a waiting client cannot be taken; asking again at once would only burn time.
_PAUSE = 0.1
#: A cleaner may take the socket's name away, and a state directory may come later than the process.
_LOOK_SECONDS = 3.0

_poll = select.poll


class Clerk(Protocol):
    """Who answers, and who has things to do alone."""

    def answer(self, message: Message, fd: int | None, peer: Peer) -> Message: ...
    def refuse_garbage(self, error: WireError, peer: Peer) -> Message: ...
    def note_gone(self) -> None: ...
    def tick(self) -> None: ...
    @property
    def seconds_to_next(self) -> float | None: ...


def socket_name(pid: int) -> str:
    """The name of a process's socket in ``sockets/``."""
    return f"{pid}.sock"


class Listener:
    """One process's socket, and the thread that serves it."""

    def __init__(self, directory: StateDirectory, clerk: Clerk, tell: Callable[[str], None]) -> None:
        self._directory = directory
        self._clerk = clerk
        self._tell = tell
        self._running = allocate_lock()
        self._thread = 0
        self._stopping = False
        self._pid = 0
        self._sock: socket.socket | None = None
        self._name = (0, 0)
        self._next_look = 0.0
        self._complaint = ""
        self._client: Conversation | None = None
        self._identities: dict[int, tuple[int, int]] = {}
        self._make_pipe()

    # From other threads --------------------------------------------------------------------------------------------

    def open(self) -> None:
        """Makes the socket.

        Raises:
            StateError: the directory is not as it must be, or the name is taken by something else.
            OSError: there is no socket to be had.
        """
        pid = os.getpid()
        name = socket_name(pid)
        with self._directory.open("sockets", create=True) as directory:
            _clear(directory, name, self._directory.path_of("sockets", name))
            sock, self._name = _listen(directory, name, pid)
        self._drop_socket()
        self._sock = sock
        self._pid = pid
        self._remember(sock.fileno())

    def start(self) -> None:
        """Starts the thread."""
        self._stopping = False
        if not self._running.acquire(blocking=False):
            return
        try:
            start_new_thread(self._run, ())
        except RuntimeError:
            self._running.release()

    def stop(self, patience: float = _FORK_PATIENCE) -> None:
        """Ends the thread once it has done what it is doing. No-op from within the thread."""
        self._stopping = True
        if self._thread == get_ident():
            return
        self.wake()
        if self._running.acquire(timeout=patience):
            self._running.release()

    def close(self) -> None:
        """Ends the thread and takes the socket away."""
        self.stop()
        self._unlink()
        self._close_files()

    def leave_to_parent(self) -> None:
        """In a forked child: what is open here is the parent's; the socket's name stays."""
        self._running = allocate_lock()
        self._thread = 0
        self._pid = 0
        self._complaint = ""
        self._close_files()
        self._make_pipe()

    def wake(self) -> None:
        """Has the thread look around."""
        with contextlib.suppress(OSError):
            os.write(self._wake_write, b"!")

    @property
    def is_listening(self) -> bool:
        """Whether this process can be asked."""
        return self._sock is not None and self._pid == os.getpid()

    # Files ---------------------------------------------------------------------------------------------------------

    def _make_pipe(self) -> None:
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_read, False)
        os.set_blocking(self._wake_write, False)
        self._remember(self._wake_read)
        self._remember(self._wake_write)

    def _remember(self, fd: int) -> None:
        self._identities[fd] = _identity(fd)

    def _is_ours(self, fd: int) -> bool:
        return _identity(fd) == self._identities.get(fd)

    def _close_files(self) -> None:
        """Closes what is still ours: a program that closed everything may have these numbers for its own by now."""
        if self._client is not None:
            self._drop_client()
        self._drop_socket()
        for fd in (self._wake_read, self._wake_write):
            if self._is_ours(fd):
                os.close(fd)
        self._identities.clear()

    def _drop_socket(self) -> None:
        if self._sock is None:
            return
        fd = self._sock.fileno()
        if self._is_ours(fd):
            self._sock.close()
        else:
            self._sock.detach()
        self._identities.pop(fd, None)
        self._sock = None

    def _unlink(self) -> None:
        if self._pid != os.getpid():
            return
        with contextlib.suppress(HotReloadError, OSError):
            self._directory.remove("sockets", socket_name(self._pid))

    def _reopen(self) -> None:
        """The program closed all descriptors it did not know, as a daemon does: a new socket takes the name."""
        self._close_files()
        self._make_pipe()
        self._try_to_open()

    def _try_to_open(self) -> None:
        """Makes the socket, or says once why not; there is another look later."""
        self._next_look = time.monotonic() + _LOOK_SECONDS
        try:
            self.open()
        except (HotReloadError, OSError) as error:
            if self._complaint != str(error):
                self._complaint = str(error)
                self._tell(f"this process takes no pushes: {error}")
        else:
            self._complaint = ""

    def _look_after_name(self) -> None:
        """Whoever finds the processes finds them by the names of their sockets: one that is lost is taken anew."""
        if self._stopping or time.monotonic() < self._next_look:
            return
        self._next_look = time.monotonic() + _LOOK_SECONDS
        if self._sock is None or not self._has_name():
            self._try_to_open()

    def _has_name(self) -> bool:
        try:
            found = os.lstat(self._directory.path_of("sockets", socket_name(self._pid)))
        except OSError:
            return False
        return (found.st_dev, found.st_ino) == self._name

    # The thread ----------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        self._thread = get_ident()
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals() - _CRASHES)
        try:
            self._serve()
        except Exception as error:  # noqa: BLE001 - the host is not to see a traceback of ours on its terminal
            self._tell(f"the agent has ended: {type(error).__name__}: {error}")
        finally:
            self._thread = 0
            self._running.release()

    def _serve(self) -> None:
        if self._sock is None:
            self._try_to_open()
        while not self._stopping:
            self._wait()
            if not all(self._is_ours(fd) for fd in self._identities):
                self._reopen()
                continue
            with contextlib.suppress(BlockingIOError):
                os.read(self._wake_read, 4096)
            if self._client is not None:
                self._attend(self._client)
            else:
                self._accept()
            if self._client is None:  # and nobody waits at the socket that may be given up
                self._look_after_name()
            self._tick()

    def _tick(self) -> None:
        """A fault of ours in one look must not keep the next one from being taken: others wait for what is decided."""
        try:
            self._clerk.tick()
        except Exception as error:  # noqa: BLE001 - as above
            self._tell(f"{type(error).__name__}: {error}")
            time.sleep(_PAUSE)

    def _wait(self) -> None:
        poll = _poll()
        poll.register(self._wake_read, select.POLLIN)
        times = [self._clerk.seconds_to_next]
        if self._client is not None:
            poll.register(self._client.sock, select.POLLIN)
            times.append(self._client.seconds_left)
        else:
            times.append(self._next_look - time.monotonic())
            if self._sock is not None:
                poll.register(self._sock, select.POLLIN)
        known = [max(0.0, seconds) for seconds in times if seconds is not None]
        poll.poll(min(known) * 1000 + 1 if known else None)

    def _accept(self) -> None:
        if self._sock is None:
            return
        try:
            sock, _ = self._sock.accept()
        except BlockingIOError:
            return
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS):
                time.sleep(_PAUSE)
                return
            raise
        sock.setblocking(False)
        peer = peer_of(sock)
        if peer is None:
            sock.close()
            self._clerk.note_gone()
            return
        self._client = Conversation(sock, peer)
        self._remember(sock.fileno())
        self._attend(self._client)

    def _attend(self, client: Conversation) -> None:
        """Reads on in what the client sends; answers it when it is a request."""
        try:
            received = client.receive()
            if received is None:
                client.check_time()
                return
            message, fd = received
            try:
                reply = self._clerk.answer(message, fd, client.peer)
            finally:
                if fd is not None:
                    os.close(fd)
            client.reply(reply)
        except WireError as error:
            with contextlib.suppress(OSError, WireError):
                client.reply(self._clerk.refuse_garbage(error, client.peer))
            self._drop_client()
        except OSError:
            self._drop_client()

    def _drop_client(self) -> None:
        if self._client is None:
            return
        fd = self._client.sock.fileno()
        if not self._is_ours(fd):
            self._client.sock.detach()
        self._client.close()
        self._identities.pop(fd, None)
        self._client = None


def _listen(directory: int, name: str, pid: int) -> tuple[socket.socket, tuple[int, int]]:
    """A socket that listens under ``name`` in an open directory, and that file; only its owner may connect."""
    fresh = f".{pid}.new"
    place = f"/proc/self/fd/{directory}"
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        os.fchmod(sock.fileno(), 0o600)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(fresh, dir_fd=directory)
        sock.bind(f"{place}/{fresh}")
        sock.listen(_BACKLOG)
        sock.setblocking(False)
        made = os.stat(fresh, dir_fd=directory, follow_symlinks=False)
        os.rename(fresh, name, src_dir_fd=directory, dst_dir_fd=directory)
    except BaseException:
        sock.close()
        with contextlib.suppress(OSError):
            os.unlink(fresh, dir_fd=directory)
        raise
    return sock, (made.st_dev, made.st_ino)


def _clear(directory: int, name: str, path: str) -> None:
    """Insists that the name is free, or was a dead process's of this user.

    Raises:
        StateError: it is something else than a socket, somebody else's, or somebody answers there.
    """
    try:
        found = os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise StateError(f"{path} is in the way: it is no socket", hint="see what it is and remove it", path=path)
    if found.st_uid != os.geteuid():
        raise StateError(f"{path} belongs to user {found.st_uid}", hint="see who runs there and remove it", path=path)
    if is_answered(directory, name):
        raise StateError(
            f"{path} is answered by another process with this pid", hint="give each container its own state", path=path
        )


def is_answered(directory: int, name: str) -> bool:
    """Whether somebody listens at a socket in a directory that is open."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.setblocking(False)
        try:
            sock.connect(f"/proc/self/fd/{directory}/{name}")
        except BlockingIOError:
            return True
        except OSError:
            return False
        return True


def sweep(directory: StateDirectory) -> int:
    """Removes the sockets that nobody answers at any more; returns how many."""
    removed = 0
    with contextlib.suppress(HotReloadError, OSError), directory.open("sockets") as sockets:
        for name in os.listdir(sockets):
            if name.endswith(".sock") and not is_answered(sockets, name):
                with contextlib.suppress(OSError):
                    os.unlink(name, dir_fd=sockets)
                    removed += 1
    return removed


def _identity(fd: int) -> tuple[int, int]:
    """What tells one open file from another that has its number; (0, 0) when it is closed."""
    try:
        found = os.fstat(fd)
    except OSError:
        return (0, 0)
    return (found.st_dev, found.st_ino)
