"""The server's side of the socket: one thread that waits for the helper process and does what it says.

::

    thread:  poll(socket, wake pipe) ──▶ attach | stage+commit | rollback | event | answer | stragglers ──▶ reply ──┐
                 ▲                                                                                                   │
                 └───────────────────────────────────────────────────────────────────────────────────────────────────┘

    manager: a transition has ended ──▶ noted, wake ──▶ thread tells the helper, which has what it was busy for

It sleeps in ``poll`` and costs nothing until a message comes. Before a fork it is ended and afterwards started
again, in the parent on the same connection and in the child on one of its own, so that no thread of ours is in the
middle of anything while a process is copied.

Only this thread touches the socket; others write one byte into the wake pipe. It is started below ``threading``:
the program's list of threads stays the program's. A thread that imports may be waiting for it, with locks of the
import system: it imports nothing itself while somebody waits.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import sys
import time
from _thread import allocate_lock, get_ident, start_new_thread
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

from hotreload.errors import HotReloadError
from hotreload.events import TRANSITION_COMPLETED, TRANSITION_FORCED
from hotreload.python.registry import files
from hotreload.run.descriptors import OwnFiles, behind_streams, close_if_ours, identity_of
from hotreload.run.questions import Questions
from hotreload.run.reloaders import name_of_reloader
from hotreload.wire import Message, WireError, encode, peer_is_us, receive

__all__ = ["Link", "Patcher"]

# A callback of the program's that does not return must not make a fork wait for ever.
_FORK_PATIENCE = 1.0
# How long a save waits for threads before it is told that some are still on their way.
_WAIT = 0.25
_STRAGGLERS_TOLD = 8
_ENDS = frozenset({TRANSITION_COMPLETED, TRANSITION_FORCED})

_poll = select.poll


class Patcher(Protocol):
    """What a link needs of ``hotreload.live``'s manager."""

    def attach(self, path: str) -> Any: ...
    def modules(self) -> Iterable[Any]: ...
    def history(self, module: Any) -> Sequence[Any]: ...
    def loaded_libraries(self) -> Iterable[tuple[str, str]]: ...
    def stage(self, module: Any, patch: int) -> Any: ...
    def unstage(self, staged: Any) -> None: ...
    def commit(
        self,
        staged: Any,
        *,
        info: Mapping[str, Any] | None = None,
        level: str | None = None,
        deadline: float | None = None,
        policy: str | None = None,
        reason: str | None = None,
        by: str | None = None,
        wait: float = 0.5,
    ) -> Any: ...
    def rollback(
        self,
        module: Any,
        to: int = 0,
        *,
        level: str | None = None,
        deadline: float | None = None,
        policy: str | None = None,
        reason: str | None = None,
        by: str | None = None,
        wait: float = 0.5,
    ) -> Any: ...
    def configure(
        self,
        *,
        retire: bool | None = None,
        keep: int | None = None,
        max_generations: int | None = None,
        max_bytes: int | None = None,
        files: str | None = None,
    ) -> None: ...
    def transition(self) -> dict[str, Any] | None: ...
    def subscribe(self, callback: Callable[[dict[str, Any]], None]) -> Callable[[], None]: ...


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
        self._user = os.geteuid()
        self._announced: set[tuple[str, str]] = set()
        self._running = allocate_lock()
        self._thread = 0
        self._is_asleep = False
        self._stopping = False
        self._gone = False
        self._ended: deque[dict[str, Any]] = deque(maxlen=32)
        self._left_to_others = False
        self._open()
        self._unsubscribe = patcher.subscribe(self._note)

    # Opening and closing -------------------------------------------------------------------------------------------

    def _open(self) -> None:
        with behind_streams():
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                sock.connect(self.socket_path)
                _refuse_strangers(sock)
            except BaseException:
                sock.close()
                raise
            self._files = OwnFiles(sock)
        self._questions = Questions()
        self._asked = 0
        self._announced.clear()
        self._greeted = False
        self._gone = False

    def start(self) -> None:
        """Starts the thread; it begins by saying what this process has loaded."""
        self._stopping = False
        if self._gone or not self._running.acquire(blocking=False):
            return
        try:
            start_new_thread(self._run, ())
        except RuntimeError:
            self._running.release()
            self._questions.give_up()

    def stop(self, patience: float = _FORK_PATIENCE) -> None:
        """Ends the thread once it has done what it is doing; the connection stays. No-op from within the thread."""
        self._stopping = True
        if self._thread == get_ident():
            return
        if not self._has_files():
            self._let_it_finish(patience)
            return
        self._files.wake()
        if self._running.acquire(timeout=patience):
            self._running.release()

    def _let_it_finish(self, patience: float) -> None:
        """Waits until the thread is in the middle of nothing: without its pipe it cannot be woken from its sleep."""
        end = time.monotonic() + patience
        while not self._is_asleep and time.monotonic() < end:
            if self._running.acquire(timeout=0.001):
                self._running.release()
                return

    def close(self) -> None:
        """Ends the thread and the connection. The code that is live stays live."""
        self.stop()
        self._unsubscribe()
        self._gone = True
        self._files.close()
        self._questions.give_up()

    def reopen_in_child(self) -> None:
        """After a fork: the parent's connection is left to the parent and one of our own is made.

        Raises:
            OSError: nobody listens any more.
        """
        self._files.close()
        self._questions.give_up()
        self._running = allocate_lock()
        self._thread = 0
        self._is_asleep = False
        self._ended.clear()
        self._open()
        self.start()

    def announce(self) -> None:
        """Has the thread tell the helper what was loaded since; returns at once."""
        if self._has_files():
            self._files.wake()

    def announce_and_wait(self) -> None:
        """The same, and waits until the newest patches of what was loaded are live; not for long, and not in vain."""
        if self._thread == get_ident() or sys.is_finalizing() or not self._has_files():
            self.announce()
            return
        questions = self._questions
        number = questions.ask()
        self._files.wake()
        if self._gone:
            questions.give_up()
        questions.wait(number)

    def _note(self, event: dict[str, Any]) -> None:
        """A transition has ended, on whatever thread: this one's is woken to tell."""
        if event.get("event") in _ENDS:
            left = [str(one.get("name")) for one in event.get("stragglers") or ()][:_STRAGGLERS_TOLD]
            short = {name: value for name, value in event.items() if _is_short(value)}
            shown = [name for run in event.get("tables") or () for name in run["added"]]
            self._ended.append({**short, "stragglers": left, **({"appeared": shown} if shown else {})})
            self.announce()

    @property
    def is_alive(self) -> bool:
        """Whether the helper was there when it was last heard of."""
        return not self._gone

    @property
    def is_out_of_reach(self) -> bool:
        """Whether this process has become a user who cannot connect to the helper again."""
        directory = os.path.dirname(self.socket_path)
        return os.geteuid() != self._user and self.is_alive and not os.access(directory, os.X_OK, effective_ids=True)

    def _has_files(self) -> bool:
        """Whether there is a connection.

        A daemon may have closed all descriptors that it did not know: what has their numbers now is the program's.
        """
        if not self._gone and not self._files.are_ours:
            self._gone = True
            self._files.close()
            self._questions.give_up()
        return not self._gone

    # The thread ----------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        running = self._running
        self._thread = get_ident()
        self._is_asleep = False
        try:
            self._serve()
        except (OSError, WireError, ValueError):
            self._lose()
        finally:
            self._thread = 0
            if not self._stopping:
                self._questions.give_up()
            running.release()

    def _serve(self) -> None:
        files = self._files
        poll = _poll()
        poll.register(files.sock, select.POLLIN)
        poll.register(files.wake_read, select.POLLIN)
        self._tell_loaded()
        self._tell_ended()
        while not self._stopping:
            self._is_asleep = True
            awake = poll.poll()
            self._is_asleep = False
            for fd, _event in awake:
                if not self._has_files():
                    return
                if fd == files.wake_read:
                    os.read(fd, 4096)
                    if not self._stopping:
                        self._tell_loaded()
                        self._tell_ended()
                elif not self._handle_one():
                    return

    def _handle_one(self) -> bool:
        """Receives one message and does what it says; False when the helper is gone."""
        received = receive(self._files.sock)
        if received is None:
            self._lose()
            return False
        message, fd = received
        identity = (0, 0) if fd is None else identity_of(fd)
        try:
            if message["cmd"] == "event":
                self._publish(message["event"])
            elif message["cmd"] == "answer":
                self._questions.answered(message["ask"])
            elif message["cmd"] == "stragglers":
                self._send({"msg": "stragglers", "stragglers": self._stragglers()})
            else:
                self._send(self._obey(message, fd))
        finally:
            if fd is not None:
                close_if_ours(fd, identity)
        return True

    def _send(self, message: Message) -> None:
        if self._has_files():
            self._files.send(encode(message))

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
            self._patcher.configure(**message.get("limits", {}))
            return {}
        started = time.perf_counter()
        terms = {**message.get("terms", {}), "wait": _WAIT}
        if command == "rollback":
            generation = self._patcher.rollback(module, int(message.get("to", 0)), **terms)
            staged_at = started
        elif command == "stage+commit" and fd is not None:
            staged = self._patcher.stage(module, fd)
            staged_at = time.perf_counter()
            try:
                generation = self._patcher.commit(staged, info=message.get("info"), **terms)
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
            "level": getattr(generation, "level", None),
            "stragglers": self._stragglers(),
            **_names(getattr(generation, "table_runs", ())),
            **_of_python(generation),
        }

    def _stragglers(self) -> list[str]:
        """Who has not come over yet, in a few words each."""
        found = self._patcher.transition() or {}
        return [
            f"{one.get('name')} ({' '.join(filter(None, (one.get('reason'), one.get('where'))))})"
            for one in list(found.get("stragglers") or ())[:_STRAGGLERS_TOLD]
        ]

    def _tell_ended(self) -> None:
        """Says which transitions have ended; behind the answers that were given while they were open."""
        while self._ended:
            self._send({"msg": "transition", "event": self._ended.popleft()})

    def _tell_loaded(self) -> None:
        """Says hello with everything that is loaded, later only what is new; and asks for whoever waits."""
        newest = self._questions.newest  # before looking: what was loaded before the question is seen
        asked, self._asked = self._asked, max(self._asked, newest)
        libraries = [(path, build_id) for path, build_id in self._patcher.loaded_libraries() if build_id]
        new = [library for library in libraries if library not in self._announced]
        self._announced.update(new)
        told = [library for library in new if self._can_be_told(*library)]
        left = [path for path, build_id in new if (path, build_id) not in told]
        new = told
        message: Message = {"msg": "loaded", "libraries": new, **({"left": left} if left else {})}
        if newest > asked:
            message["ask"] = newest
        if not self._greeted:
            self._greeted = True
            self._send({**message, "msg": "hello", "pid": os.getpid(), "live": self._live_digests(new)})
        elif new or left or newest > asked:
            self._send(message)

    def _can_be_told(self, path: str, build_id: str) -> bool:
        """Whether a file is ours to reload; the text of a ``.py`` is put beside the socket, as it was loaded."""
        source = files().get(path)
        if source is None:
            return True
        reloader = name_of_reloader()
        if reloader:
            if not self._left_to_others:
                self._left_to_others = True
                _say(f"saved .py files are left to {reloader}, which restarts the program; C sources are reloaded")
            return False
        target = os.path.join(os.path.dirname(self.socket_path), f"{build_id}.py")
        with contextlib.suppress(OSError):  # the helper then takes the file as it is, if it is still the same
            if not os.path.exists(target):
                fd = os.open(f"{target}.{os.getpid()}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
                with open(fd, "wb") as file:
                    file.write(source.text)
                os.rename(f"{target}.{os.getpid()}", target)
        return True

    def _live_digests(self, libraries: Iterable[tuple[str, str]]) -> dict[str, str]:
        """Path → digest of what is live here already: in a forked child that is what its parent had."""
        digests = {}
        for module in self._patcher.modules():
            if module.generation:
                info = self._patcher.history(module)[module.generation].info
                digests[os.path.realpath(module.path)] = str(info.get("digest", "unknown"))
        paths = [path for path, _build_id in libraries] if digests else []
        return {path: digests[os.path.realpath(path)] for path in paths if os.path.realpath(path) in digests}

    def _lose(self) -> None:
        """The helper is gone: one line says so, written by whichever process notices first."""
        if self._stopping or not self._has_files():
            return
        self._gone = True
        self._questions.give_up()
        with contextlib.suppress(OSError):
            # A helper that leaves in good order has removed its socket; whoever removes it now has the word.
            os.unlink(self.socket_path)
            import shutil

            shutil.rmtree(os.path.dirname(self.socket_path), ignore_errors=True)
            _say(
                "the helper process is gone; the program serves on with the code it has, "
                "and takes no more edits until it is started again"
            )


def _say(text: str) -> None:
    with contextlib.suppress(OSError):
        os.write(2, f"hotreload: {text}\n".encode())


def _of_python(generation: Any) -> dict[str, Any]:
    """What only the process knows of a ``.py``: which of the edited functions are marked, and what that leaves out."""
    notes = getattr(generation, "notes", None)
    if notes is None:
        return {}
    return {"notes": list(notes), "functions": list(generation.functions)}


def _is_short(value: object) -> bool:
    """Whether that is worth a line: a straggler's stacks are in ``status``."""
    return value is None or isinstance(value, (str, int, float))


def _refuse_strangers(sock: socket.socket) -> None:
    if not peer_is_us(sock):
        raise WireError("the helper process belongs to another user")


def _names(runs: Iterable[Any]) -> dict[str, list[str]]:
    """What appeared on the modules and types of this process, what is gone from them, and what others have."""
    told = {"appeared": "added", "withdrawn": "removed", "left_alone": "kept"}
    found = {field: [name for run in runs for name in getattr(run, of)] for field, of in told.items()}
    return {field: names for field, names in found.items() if names}
