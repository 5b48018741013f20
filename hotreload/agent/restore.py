"""A process that starts after a push has the patch before its first request.

::

    import shop.kernels ─▶ loader ─▶ module init ─▶ restore ─▶ import returns
                                                       │
                        current patch for its build-id ┴─▶ policy, quarantine ─▶ stage ─▶ commit

What was loaded before the agent came is looked at when it comes. A forked child has its parent's generations with
the memory. A module of Python is looked at when the import during which its functions were marked returns: its own, or
that of the module that marks them. A script that is started is no import: it has the patch when the agent looks next,
which it does with every request. Whatever refuses here is told, and the base serves: a server must come up.

Nobody is in an extension that is just being imported, so its functions are redirected one by one. While the threads of
another extension are on their way, the import waits for them a while; then it goes on with the base, and the patch
follows as soon as they have come over.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Mapping
from types import CodeType, FrameType
from typing import Any

from hotreload.agent.books import Books
from hotreload.agent.change import Live, Probation, live_generation, stage
from hotreload.agent.policy import PolicySource
from hotreload.artefact import Artefact
from hotreload.errors import HotReloadError, StageError
from hotreload.events import AGENT_FAILED, PATCH_RESTORED, PATCH_WITHHELD
from hotreload.live.arrivals import is_hot
from hotreload.python.registry import files

__all__ = ["Restorer"]

#: How long an import waits for a transition of another extension.
_PATIENCE = 2.0


class Restorer:
    """Gives extensions, and Python modules with marked functions, the patch that is current for their build.

    Args:
        live: the manager.
        books: the state directory.
        policy: what is allowed.
        probation: is told of what becomes live.
        collect: is called before a patch is taken: who has died of it since?
    """

    def __init__(
        self, live: Live, books: Books, policy: PolicySource, probation: Probation, collect: Callable[[], None]
    ) -> None:
        self._live = live
        self._books = books
        self._policy = policy
        self._probation = probation
        self._collect = collect
        self._seen: set[tuple[str, str]] = set()
        self._waiting: set[str] = set()
        self._unseen: dict[str, None] = {}  # Python modules, in the order in which they were met
        self._unfit: dict[str, str] = {}
        # An import and a request may both have just found the same extension.
        self._lock = threading.RLock()

    def renew_lock(self) -> None:
        """In a forked child: the thread that held the lock is not there."""
        self._lock = threading.RLock()

    def look_around(self) -> None:
        """Sees to everything hot that is loaded and was not seen yet."""
        self.look_at_texts()
        for path, build_id in self._live.loaded_libraries():
            if (path, build_id) not in self._seen and path not in files():
                self._seen.add((path, build_id))
                if is_hot(path):
                    self.restore(path)

    def marked(self, path: str) -> None:
        """The first function of a Python module was marked: there are more to come, so it is looked at later."""
        self._unseen[path] = None

    def look_at_texts(self, imported: str = "") -> None:
        """Sees to every Python module with marked functions that was not seen yet and whose text has run.

        ``imported`` is the file of one whose text has, although its import has not returned yet.
        """
        if not self._unseen:
            return
        done = os.path.realpath(imported) if imported else ""
        for path in list(self._unseen):
            file = files()[path]
            file.has_run = file.has_run or path == done
            if file.has_run or not is_running(file.namespace):
                self._unseen.pop(path, None)
                self._seen.add((path, file.build_id))
                self._keep_text(file.name, file.text)
                self.restore(path)

    def arrived(self, path: str) -> None:
        """An extension module was imported."""
        real = os.path.realpath(path)
        if not is_hot(real):
            return
        if self._live.transition() is not None:
            self._live.wait(_PATIENCE)
        self.restore(real)

    def unfit(self) -> list[dict[str, Any]]:
        """Python modules that nothing can be pushed to, since nobody knows what text they were loaded from.

        For ``status``, as modules of a build that no push is for: a push of the module must not pass over this process.
        """
        known = files()
        return [
            {
                "name": known[path].name,
                "path": path,
                "build_id": "unknown",
                "kind": "python",
                "generation": 0,
                "generations": [],
                "functions": sorted(known[path].marks),
                "poisoned": why,
            }
            for path, why in self._unfit.items()
            if path in known
        ]

    def take_up(self) -> None:
        """Restores what had to wait for a transition that has ended since."""
        if self._waiting and self._live.transition() is None:
            with self._lock:
                paths, self._waiting = sorted(self._waiting), set()
                for path in paths:
                    self._restore(path)

    def restore(self, path: str) -> None:
        """Takes one extension under management and makes the current patch for it live, where there is one."""
        with self._lock:
            self._restore(path)

    def _keep_text(self, module: str, text: bytes) -> None:
        """Where it cannot be kept, a push must bring the base text along; nothing else needs it."""
        try:
            self._books.bases.keep(text)
        except HotReloadError as error:
            self._write(AGENT_FAILED, during="base text", module=module, error=error.as_dict())

    def _restore(self, path: str) -> None:
        try:
            module = self._live.attach(path)
        except HotReloadError as error:
            self._unfit[path] = error.message
            self._withhold(error, path=path)
            return
        self._seen.add((module.path, module.build_id))
        if module.generation:
            return
        try:
            artefact = self._books.patches.current(module.build_id)
        except HotReloadError as error:
            self._withhold(error, module=module.name, build_id=module.build_id)
            return
        if artefact is not None:
            self._take(module, artefact)

    def _take(self, module: Any, artefact: Artefact) -> None:
        about = {
            "module": module.name,
            "code": artefact.manifest.kind,
            "build_id": module.build_id,
            "sequence": artefact.manifest.sequence,
            "sha256": artefact.sha256,
            "body_sha256": artefact.manifest.body_sha256,
            "author": artefact.manifest.author,
            "created": artefact.manifest.created,
        }
        push = f"restore-{os.getpid()}-{artefact.manifest.sequence}"
        try:
            self._live.check_unlocked()
            signer = self._check(module, artefact)
            staged = stage(self._live, module, artefact)
            try:
                info = {"push": push, "at": time.time(), "restored": True, "signer": signer, **about}
                with self._probation.trying(module, staged.draft(info), artefact, push):
                    generation = self._live.commit(staged, info=info, level="function")
            except BaseException:
                self._live.unstage(staged)
                raise
        except HotReloadError as error:
            if isinstance(error, StageError) and error.status == "BUSY":
                self._put_off(module)
            self._withhold(error, **about)
            return
        self._probation.begin(module, generation, artefact, push)
        self._write(PATCH_RESTORED, **about, generation=generation.number, functions=list(generation.functions))

    def _put_off(self, module: Any) -> None:
        """It is taken up again when the transition that is in its way has ended."""
        self._waiting.add(module.path)

    def _check(self, module: Any, artefact: Artefact) -> str:
        """What is in the store is checked as if it had just been sent: the policy may have changed since."""
        from hotreload.agent.refusal import refuse

        self._collect()
        policy = self._policy.read()
        signer = policy.check_signature(artefact.raw, was_committed=True)
        policy.check_module(module.name)
        policy.check_functions((*artefact.functions, *artefact.carried, *artefact.tables))
        why = self._books.quarantine.find(artefact.sha256, artefact.manifest.body_sha256)
        if why is not None:
            raise refuse("QUARANTINED", f"the current patch is in quarantine, the base serves: {why}")
        return signer

    def _withhold(self, error: HotReloadError, **about: Any) -> None:
        self._write(PATCH_WITHHELD, **about, error=error.as_dict())

    def _write(self, event: str, **fields: Any) -> None:
        try:
            self._books.audit(event, **fields)
        except HotReloadError:  # it was told to the log of the host at least
            return


def is_running(namespace: Mapping[str, Any]) -> bool:
    """Whether the text of a module is still being run, so that functions of it may not be there, or not marked.

    A script runs as long as the process does: it counts as done when its last ``def`` and ``class`` are behind it.
    """
    for thread in list(sys._current_frames().values()):  # noqa: SLF001 - documented, and there is no other way
        frame: FrameType | None = thread
        while frame is not None:
            if frame.f_globals is namespace and frame.f_code.co_name == "<module>":
                return namespace.get("__name__") != "__main__" or frame.f_lineno <= _last_definition(frame.f_code)
            frame = frame.f_back
    return False


def _last_definition(code: CodeType) -> int:
    inner = [const for const in code.co_consts if isinstance(const, CodeType) and not const.co_name.startswith("<")]
    return max((definition.co_firstlineno for definition in inner), default=0)


def live_patches(live: Live) -> list[tuple[Any, Any]]:
    """Every extension that has a patch live, with the generation."""
    pairs = [(module, live_generation(live, module)) for module in live.modules()]
    return [(module, generation) for module, generation in pairs if generation.number]
