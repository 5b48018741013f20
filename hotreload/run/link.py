"""The server's side of the socket: one thread that waits for the helper process and does what it says.

::

    thread:  poll(socket, wake pipe) ──▶ attach | stage+commit | rollback | event ──▶ reply ──┐
                 ▲                                                                              │
                 └──────────────────────────────────────────────────────────────────────────────┘

It sleeps in ``poll`` and costs nothing until a message comes. Before a fork it is ended and afterwards started
again, in the parent on the same connection and in the child on one of its own, so that no thread of ours is in the
middle of anything while a process is copied.

Only this thread touches the socket; others write one byte into the wake pipe. It is started below ``threading``:
the program's list of threads stays the program's.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import time
from _thread import allocate_lock, get_ident, start_new_thread
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

from hotreload.errors import HotReloadError
from hotreload.wire import Message, WireError, encode, peer_is_us, receive

__all__ = ["Link", "Patcher"]

# A callback of the program's that does not return must not make a fork wait for ever.
_FORK_PATIENCE = 1.0

_poll = select.poll


class Patcher(Protocol):
    """What a link needs of ``hotreload.live``'s manager."""

    def attach(self, path: str) -> Any: ...
    def modules(self) -> Iterable[Any]: ...
    def history(self, module: Any) -> Sequence[Any]: ...
    def loaded_libraries(self) -> Iterable[tuple[str, str]]: ...
    def stage(self, module: Any, patch: int) -> Any: ...
    def unstage(self, staged: Any) -> None: ...
    def commit(self, staged: Any, *, info: Mapping[str, Any] | None = None) -> Any: ...
    def rollback(self, module: Any, to: int = 0) -> Any: ...


class Link:
    """One process's connection to the helper process.

    Args:
        socket_path: where the helper listens.
        patcher: does the work.
        publish: is handed every event that the helper forwards.

    Raises:
        OSError: nobody listens there.
        WireError: somebody else's process does.
    """

    def __init__(self, socket_path: str, patcher: Patcher, publish: Callable[[dict[str, Any]], None]) -> None:
        self.socket_path = socket_path
        self._patcher = patcher
        self._publish = publish
        self._announced: set[tuple[str, str]] = set()
        self._running = allocate_lock()
        self._thread = 0
        self._stopping = False
        self._gone = False
        self._open()

    # Opening and closing -------------------------------------------------------------------------------------------

    def _open(self) -> None:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.connect(self.socket_path)
            _refuse_strangers(sock)
        except BaseException:
            sock.close()
            raise
        self._sock = sock
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_write, False)
        self._identities = {fd: _identity(fd) for fd in (sock.fileno(), self._wake_read)}
        self._announced.clear()
        self._greeted = False

    def start(self) -> None:
        """Starts the thread; it begins by saying what this process has loaded."""
        self._stopping = False
        if self._gone or not self._running.acquire(blocking=False):
            return
        try:
            start_new_thread(self._run, ())
        except RuntimeError:
            self._running.release()

    def stop(self, patience: float = _FORK_PATIENCE) -> None:
        """Ends the thread once it has done what it is doing; the connection stays. No-op from within the thread."""
        self._stopping = True
        if self._thread == get_ident():
            return
        self._wake()
        if self._running.acquire(timeout=patience):
            self._running.release()

    def close(self) -> None:
        """Ends the thread and the connection. The code that is live stays live."""
        self.stop()
        self._gone = True
        self._close_files()

    def reopen_in_child(self) -> None:
        """After a fork: the parent's connection is left to the parent and one of our own is made.

        Raises:
            OSError: nobody listens any more.
        """
        self._close_files()
        self._running = allocate_lock()
        self._thread = 0
        self._open()
        self.start()

    def announce(self) -> None:
        """Has the thread tell the helper what was loaded since; returns at once."""
        self._wake()

    @property
    def is_alive(self) -> bool:
        """Whether the helper was there when it was last heard of."""
        return not self._gone

    def _wake(self) -> None:
        with contextlib.suppress(OSError):
            os.write(self._wake_write, b"!")

    def _close_files(self) -> None:
        self._sock.close()
        for fd in (self._wake_read, self._wake_write):
            with contextlib.suppress(OSError):
                os.close(fd)

    # The thread ----------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        self._thread = get_ident()
        try:
            self._serve()
        except (OSError, WireError, ValueError):
            self._lose()
        finally:
            self._thread = 0
            self._running.release()

    def _serve(self) -> None:
        poll = _poll()
        poll.register(self._sock, select.POLLIN)
        poll.register(self._wake_read, select.POLLIN)
        self._tell_loaded()
        while not self._stopping:
            ready = poll.poll()
            if not self._files_are_ours():
                # The program closed all descriptors it did not know, as a daemon does: it may have these numbers now.
                self._gone = True
                self._sock.detach()
                return
            for fd, _event in ready:
                if fd == self._wake_read:
                    os.read(fd, 4096)
                    if not self._stopping:
                        self._tell_loaded()
                elif not self._handle_one():
                    return

    def _handle_one(self) -> bool:
        """Receives one message and does what it says; False when the helper is gone."""
        received = receive(self._sock)
        if received is None:
            self._lose()
            return False
        message, fd = received
        try:
            if message["cmd"] == "event":
                self._publish(message["event"])
            else:
                self._sock.sendall(encode(self._obey(message, fd)))
        finally:
            if fd is not None:
                os.close(fd)
        return True

    def _obey(self, message: Message, fd: int | None) -> Message:
        """Does one command; what goes wrong is the answer, never an exception in the server."""
        reply: Message = {"msg": "reply", "id": message.get("id"), "path": message.get("path")}
        try:
            return {**reply, "ok": True, **self._do(message, fd)}
        except HotReloadError as error:
            return {**reply, "ok": False, "error": error.as_dict()}
        except Exception as error:  # noqa: BLE001 - a fault of ours must not end the link
            return {**reply, "ok": False, "error": {"error": type(error).__name__, "message": str(error), "hint": ""}}

    def _do(self, message: Message, fd: int | None) -> dict[str, Any]:
        command = message["cmd"]
        module = self._patcher.attach(message["path"])
        if module.build_id != message["build_id"]:
            raise HotReloadError(
                f"{message['path']} is another build here: {module.build_id}", hint="restart this process"
            )
        if command == "attach":
            return {}
        started = time.perf_counter()
        if command == "rollback":
            generation = self._patcher.rollback(module, int(message.get("to", 0)))
            staged_at = started
        elif command == "stage+commit" and fd is not None:
            staged = self._patcher.stage(module, fd)
            staged_at = time.perf_counter()
            try:
                generation = self._patcher.commit(staged, info=message.get("info"))
            except HotReloadError:
                with contextlib.suppress(HotReloadError):
                    self._patcher.unstage(staged)
                raise
        else:
            raise HotReloadError(f"unknown command {command!r}", hint="the helper is of another version")
        return {
            "generation": generation.number,
            "stage_ms": round((staged_at - started) * 1000, 3),
            "commit_ms": round((time.perf_counter() - staged_at) * 1000, 3),
            "distance_bytes": getattr(generation, "distance", None),
        }

    def _tell_loaded(self) -> None:
        """Says hello with everything that is loaded, later only what is new."""
        libraries = [(path, build_id) for path, build_id in self._patcher.loaded_libraries() if build_id]
        new = [library for library in libraries if library not in self._announced]
        self._announced.update(new)
        if not self._greeted:
            self._greeted = True
            hello = {"msg": "hello", "pid": os.getpid(), "libraries": new, "live": self._live_digests()}
            self._sock.sendall(encode(hello))
        elif new:
            self._sock.sendall(encode({"msg": "loaded", "libraries": new}))

    def _live_digests(self) -> dict[str, str]:
        """Build-id → digest of what is live here already: in a forked child that is what its parent had."""
        digests = {}
        for module in self._patcher.modules():
            if module.generation:
                info = self._patcher.history(module)[module.generation].info
                digests[module.build_id] = str(info.get("digest", "unknown"))
        return digests

    def _files_are_ours(self) -> bool:
        return all(_identity(fd) == identity for fd, identity in self._identities.items())

    def _lose(self) -> None:
        """The helper is gone: one line says so, written by whichever process notices first."""
        if self._gone or self._stopping:
            return
        self._gone = True
        with contextlib.suppress(OSError):
            # A helper that leaves in good order has removed its socket; whoever removes it now has the word.
            os.unlink(self.socket_path)
            import shutil

            shutil.rmtree(os.path.dirname(self.socket_path), ignore_errors=True)
            os.write(
                2,
                b"hotreload: the helper process is gone; the program serves on with the code it has, "
                b"and takes no more edits until it is started again\n",
            )


def _refuse_strangers(sock: socket.socket) -> None:
    if not peer_is_us(sock):
        raise WireError("the helper process belongs to another user")


def _identity(fd: int) -> tuple[int, int]:
    """What tells one open file from another that has its number; (0, 0) when it is closed."""
    try:
        found = os.fstat(fd)
    except OSError:
        return (0, 0)
    return (found.st_dev, found.st_ino)
