"""What becomes of a patch that a process died of: the same code is not given to anybody again.

::

    process dies ─▶ crashes/crash-PID ─▶ somebody of the same application starts, forks or answers
                                              └─▶ quarantine: the artefact and its code, by hash
                                                     ├─▶ import: the base serves            (restore.py)
                                                     ├─▶ prepare: refused, unless told so   (desk.py)
                                                     └─▶ live in a process that is to be copied by fork: taken back

A file of a process that lives on means nothing: some handler of the program's has dealt with the signal. Its owner
removes it when the probation is over.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any

from hotreload.agent.books import Books
from hotreload.agent.change import Live
from hotreload.agent.restore import live_patches
from hotreload.artefact import Artefact
from hotreload.errors import HotReloadError
from hotreload.events import AGENT_FAILED, PATCH_QUARANTINED, SWAP_COMMITTED, SWAP_ROLLED_BACK
from hotreload.live.core import NativeCore
from hotreload.live.probation import Probation, read_crash
from hotreload.state.directory import is_hex

__all__ = ["Watch"]

_ROOM = "crashes"
_LIMIT = 4096
_HISTORY = 50
#: How long a child waits for its one thread to come over, where it was forked in the middle of a transition.
_PATIENCE = 0.5
_SHA256_LEN = 64


class Watch:
    """The patches on probation in this process, and the crashes of others.

    Args:
        live: the manager.
        books: the state directory.
        seconds: how long a patch is on probation.
    """

    def __init__(self, live: Any, books: Books, seconds: float) -> None:
        self._live: Live = live
        self._books = books
        self._history: deque[dict[str, Any]] = deque(maxlen=_HISTORY)
        self._unsubscribe = live.subscribe(self._remember)
        # The agent's thread and a thread that imports both come here.
        self._lock = threading.RLock()
        with books.directory.open(_ROOM, create=True):
            self._probation = Probation(NativeCore(), books.directory.path_of(_ROOM), seconds)

    # Our own patches -----------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def trying(self, module: Any, generation: Any, artefact: Artefact, push: str) -> Iterator[None]:
        """A patch is made live in here: what its hooks do is on its account too. Refused, what was there before counts
        again."""
        with self._lock:
            before = self._probation.of(module.build_id)
            self.begin(module, generation, artefact, push)
        try:
            yield
        except BaseException:
            with self._lock, contextlib.suppress(HotReloadError):
                self._probation.put_back(module.build_id, before)
            raise

    def begin(self, module: Any, generation: Any, artefact: Artefact, push: str) -> None:
        """A patch has become live here."""
        manifest = artefact.manifest
        about = {"push": push, "sequence": manifest.sequence, "sha256": artefact.sha256}
        try:
            with self._lock:
                self._probation.begin(generation, **about, body_sha256=manifest.body_sha256, build_id=manifest.build_id)
        except HotReloadError as error:
            self._write(AGENT_FAILED, during="probation", module=module.name, push=push, error=error.as_dict())

    def end(self, module: Any) -> None:
        """A patch has been taken back here."""
        with self._lock:
            self._probation.end(module.build_id)

    def tick(self) -> None:
        """Ends what has lasted long enough; who has come so far has not died of it."""
        with self._lock:
            is_over = bool(self._probation.expire())
        if is_over:
            self._forget_own()

    def close(self) -> None:
        """The process ends in good order."""
        self._unsubscribe()
        with self._lock:
            self._probation.close()
        self._forget_own()

    @property
    def seconds_to_next(self) -> float | None:
        with self._lock:
            return self._probation.seconds_to_next

    def describe(self) -> list[dict[str, Any]]:
        """What is on probation here."""
        with self._lock:
            return self._probation.describe()

    def history(self) -> list[dict[str, Any]]:
        """The last swaps of this process, oldest first."""
        return list(self._history)

    # Crashes of others ---------------------------------------------------------------------------------------------

    def collect(self) -> None:
        """Puts into quarantine what processes died of. What cannot be read or written is told, and left."""
        try:
            for name in self._books.directory.names(_ROOM):
                self._collect(name)
        except HotReloadError as error:
            self._write(AGENT_FAILED, during="quarantine", error=error.as_dict())

    def take_back_quarantined(self) -> None:
        """Goes back to the base where a patch that is in quarantine is live, unless it was pushed in spite of that."""
        for module, generation in live_patches(self._live):
            info = generation.info
            hashes = [info[key] for key in ("sha256", "body_sha256") if is_sha256(info.get(key))]
            if info.get("allow_quarantined") or not hashes:
                continue
            try:
                why = self._books.quarantine.find(*hashes)
                if why is not None:
                    # At once: the one thread of a child is not in there, and whoever comes next must not be.
                    self._live.wait(_PATIENCE)
                    self._live.rollback(module, 0, is_promised=True, level="function")
                    self.end(module)
                    self._write(PATCH_QUARANTINED, module=module.name, sha256=hashes[0], why=why, taken_back=True)
            except HotReloadError as error:
                self._write(AGENT_FAILED, during="quarantine", module=module.name, error=error.as_dict())

    def after_fork(self) -> None:
        """In a forked child, before it goes on: a patch that a sibling has died of is not tried once more."""
        self._lock = threading.RLock()
        if live_patches(self._live):
            self.collect()
            self.take_back_quarantined()

    def quarantined_here(self) -> dict[str, str]:
        """What is in quarantine, and why."""
        try:
            return self._books.quarantine.entries()
        except HotReloadError as error:
            return {"": error.message}

    def _collect(self, name: str) -> None:
        pid = name.rpartition("-")[2]
        if not pid.isdigit() or _is_alive(int(pid)):
            return
        text = self._books.directory.read(_ROOM, name, limit=_LIMIT)
        crash = read_crash((text or b"").decode("ascii", "replace"))
        why = "" if crash is None else _why(crash)
        for key in ("sha256", "body_sha256"):
            if crash is not None and is_sha256(crash.get(key)):
                self._books.quarantine.add(crash[key], why, crash=crash)
        # Several processes may look at once; one of them tells.
        if self._books.directory.remove(_ROOM, name) and crash is not None:
            self._write(PATCH_QUARANTINED, why=why, **crash)

    def _forget_own(self) -> None:
        with contextlib.suppress(HotReloadError):
            self._books.directory.remove(_ROOM, f"crash-{os.getpid()}")

    def _remember(self, event: dict[str, Any]) -> None:
        if event["event"] in (SWAP_COMMITTED, SWAP_ROLLED_BACK):
            info = event.get("info") or {}
            self._history.append(
                {
                    "at": time.time(),
                    "event": event["event"],
                    "module": event["module"],
                    "build_id": event["build_id"],
                    "generation": event["generation"],
                    "push": info.get("push", ""),
                    "sha256": info.get("sha256", ""),
                }
            )

    def _write(self, event: str, **fields: Any) -> None:
        with contextlib.suppress(HotReloadError):
            self._books.audit(event, **{**fields, "pid": os.getpid(), "crashed_pid": fields.get("pid", "")})


def _why(crash: Mapping[str, str]) -> str:
    """What happened, in a sentence."""
    return (
        f"process {crash.get('pid')} died of signal {crash.get('signal')} on probation, in {crash.get('module')}, "
        f"generation {crash.get('generation')}, function {crash.get('function')} "
        f"(blame={crash.get('blame')}, push {crash.get('push')})"
    )


def is_sha256(value: object) -> bool:
    """Whether ``value`` is a SHA-256 in hexadecimal."""
    return isinstance(value, str) and len(value) == _SHA256_LEN and is_hex(value)


def _is_alive(pid: int) -> bool:
    """Whether that process runs; one that has died and is waited for does not."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            state = file.read().rsplit(b")", 1)[1].split()[0]
    except (OSError, IndexError):
        return False
    return state not in (b"Z", b"X", b"x")
