"""The patch manager: one per process, behind one lock.

::

    attach ──▶ stage ──▶ commit ──▶ live ──▶ rollback
                 │          │
              unstage       └─ refused: nothing changed, the patch is still staged

Generations that were live once stay mapped: a thread may be inside them, or hold a pointer into them. Callbacks are
called after the lock is released, so they may ask the manager anything.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from hotreload.errors import HotReloadError, PoisonedError, StageError, TransitionError
from hotreload.events import GENERATION_STAGED, SWAP_COMMITTED, SWAP_ROLLED_BACK
from hotreload.live.core import Core, NativeCore, PatchSource
from hotreload.live.ledger import Ledger
from hotreload.live.records import Generation, LoadedModule, Redirect, StagedPatch
from hotreload.live.report import Report, Subscribers, swap_fields

__all__ = ["Manager"]

#: Address space kept near each extension for its generations. It costs nothing until it is used; without it the
#: process's own growth fills the neighbourhood.
RESERVE_BYTES = 32 << 20


class Manager:
    """Owns the generations of every hot extension of this process.

    Args:
        core: what does the work below; the native one unless a test says otherwise.
        reserve_bytes: address space to keep near each extension.
        allow_unsynchronised: commit even where the kernel has no core sync; generations then say so.
    """

    def __init__(
        self,
        core: Core | None = None,
        *,
        reserve_bytes: int = RESERVE_BYTES,
        allow_unsynchronised: bool = False,
    ) -> None:
        self._core: Core = core or NativeCore()
        self._reserve_bytes = reserve_bytes
        self._allow_unsynchronised = allow_unsynchronised
        self._ledgers: dict[str, Ledger] = {}
        self._subscribers = Subscribers()
        self._lock = threading.RLock()
        self._is_locked = False

    # What there is -------------------------------------------------------------------------------------------------

    def attach(self, path: str) -> LoadedModule:
        """Takes an extension of this process under management; attaching it again gives the same.

        The extension is pinned, so it cannot be unloaded, and address space near it is reserved.

        Raises:
            StageError: no such library is loaded, or it has no build-id; nothing was changed.
        """
        real = os.path.realpath(path)
        with self._lock:
            if real not in self._ledgers:
                base = self._core.open_base(real)
                with suppress(StageError):  # a patch may still find room on its own, and says so if not
                    self._core.reserve(base, self._reserve_bytes)
                with suppress(StageError):  # takes milliseconds the first time; a commit refuses without it
                    self._core.probe_barrier()
                self._ledgers[real] = Ledger.open(_module_name(real), real, base)
            return self._ledgers[real].snapshot()

    def modules(self) -> tuple[LoadedModule, ...]:
        """The attached extensions, as they are now."""
        with self._lock:
            return tuple(ledger.snapshot() for ledger in self._ledgers.values())

    def loaded_libraries(self) -> list[tuple[str, str]]:
        """Path and build-id (hex) of everything in this process that has a build-id."""
        return [
            (found.path or os.path.realpath("/proc/self/exe"), found.build_id.hex())
            for found in self._core.objects()
            if found.build_id
        ]

    def history(self, module: LoadedModule) -> tuple[Generation, ...]:
        """Every generation of an extension, the base first."""
        with self._lock:
            return tuple(self._ledger(module).generations)

    def status(self) -> dict[str, Any]:
        """Everything that is live here, as plain data for JSON."""
        with self._lock:
            return {"pid": os.getpid(), "modules": [ledger.describe() for ledger in self._ledgers.values()]}

    def subscribe(self, callback: Callable[[dict[str, Any]], None]) -> Callable[[], None]:
        """Has ``callback`` called with a dict after each stage, commit, rollback and refusal.

        Returns:
            what ends the subscription; calling it twice does nothing.
        """
        return self._subscribers.add(callback)

    # Refusing for ever ---------------------------------------------------------------------------------------------

    def lock(self) -> None:
        """From now on nothing is staged and nothing is rolled back here, nor in children: there is no unlock.

        A patch that was staged before may still be committed, since others may have committed it already.
        """
        self._is_locked = True

    @property
    def is_locked(self) -> bool:
        """Whether :meth:`lock` was called."""
        return self._is_locked

    def check_unlocked(self) -> None:
        """Insists that this process takes patches.

        Raises:
            StageError: it was locked; nothing was changed.
        """
        if self._is_locked:
            raise StageError(
                "this process was locked: it takes no patch and no rollback",
                hint="restart it to change its code",
                status="LOCKED",
            )

    # What changes --------------------------------------------------------------------------------------------------

    def stage(self, module: LoadedModule, patch: PatchSource) -> StagedPatch:
        """Maps a patch near the extension and binds it to the live state. Nothing is redirected.

        Args:
            module: from :meth:`attach`.
            patch: an open descriptor, the bytes, or a path.

        Raises:
            StageError: the patch cannot go into this process; what was mapped is unmapped.
            PoisonedError: an earlier undo has failed here.
        """
        started = time.perf_counter()
        with Report(self._subscribers, module, "stage") as report:
            self.check_unlocked()
            with self._lock:
                staged = self._stage(self._healthy(module), patch)
            report.succeed(
                GENERATION_STAGED,
                generation=staged.number,
                functions=list(staged.functions),
                distance=staged.distance,
                bytes_mapped=staged.bytes_mapped,
                duration=time.perf_counter() - started,
            )
        return staged

    def unstage(self, staged: StagedPatch) -> None:
        """Unmaps a staged patch that was not committed.

        After a swap that was undone the memory stays: a thread may have entered it in between.

        Raises:
            StageError: it is not staged, or it is live already; nothing was changed.
        """
        with self._lock:
            ledger = self._ledger(staged.module)
            if not any(staged is known for known in ledger.staged):
                raise StageError("the patch is not staged", hint="a live generation stays mapped", status="NOT_STAGED")
            ledger.drop_staged(staged)
            if staged.image.handle not in [kept.handle for kept in ledger.retained]:
                self._core.unstage(staged.image)

    def commit(self, staged: StagedPatch, *, info: Mapping[str, Any] | None = None) -> Generation:
        """Makes a staged patch live: when this returns, no call that starts afterwards enters the old code.

        Args:
            staged: from :meth:`stage`.
            info: remembered with the generation.

        Raises:
            StageError: refused; nothing was stored and the patch is still staged.
            TransitionError: the stores were undone; the earlier generation serves.
            PoisonedError: an undo failed; restart the process.
        """
        with Report(self._subscribers, staged.module, "commit") as report:
            with self._lock:
                ledger = self._healthy(staged.module)
                ledger.check_staged(staged)
                generation = self._commit(ledger, staged, dict(info or {}))
            report.succeed(SWAP_COMMITTED, **swap_fields(generation))
        return generation

    def rollback(self, module: LoadedModule, to: int = 0, *, is_promised: bool = False) -> Generation:
        """Makes an earlier generation live again; functions that it lacks go back to their original code.

        Args:
            module: from :meth:`attach`.
            to: the number of the generation.
            is_promised: it was agreed with others before this process was locked, so it is done all the same.

        Raises:
            StageError: there is no such generation, or the swap was refused; nothing was stored.
            TransitionError: the stores were undone; the generation from before serves.
            PoisonedError: an undo failed; restart the process.
        """
        with Report(self._subscribers, module, "rollback") as report:
            if not is_promised:
                self.check_unlocked()
            with self._lock:
                ledger = self._healthy(module)
                left = ledger.live.number
                generation = ledger.generation(to)
                seconds, _ = self._swap(ledger, generation.redirects)
                ledger.live = generation
            report.succeed(SWAP_ROLLED_BACK, **{**swap_fields(generation), "duration": seconds, "left": left})
        return generation

    # Around a fork -------------------------------------------------------------------------------------------------

    def hold(self) -> None:
        """Waits until nothing is under way and keeps it so, until :meth:`let_go`."""
        self._lock.acquire()

    def let_go(self) -> None:
        """Ends :meth:`hold`."""
        self._lock.release()

    def renew_lock(self) -> None:
        """In a forked child: the thread that held the old lock is not there, so there is a new one."""
        self._lock = threading.RLock()

    # How -----------------------------------------------------------------------------------------------------------

    def _stage(self, ledger: Ledger, source: PatchSource) -> StagedPatch:
        patch = self._core.open_patch(source)
        try:
            number = len(ledger.generations)
            label = f"hotreload:{ledger.name}.{number}"[:200]
            image = self._core.stage(patch, ledger.base, ledger.owner_addresses(patch), label)
        finally:
            self._core.close_patch(patch)
        try:
            redirects = ledger.redirects_of(patch, image)
            self._open_sites(ledger, redirects)
        except BaseException:
            self._core.unstage(image)
            raise
        staged = StagedPatch(
            module=ledger.snapshot(),
            functions=tuple(function.name for function in patch.functions),
            bytes_mapped=image.mapped,
            distance=image.distance,
            number=number,
            carried=patch.carried,
            image=image,
            redirects=redirects,
        )
        ledger.staged.append(staged)
        return staged

    def _open_sites(self, ledger: Ledger, redirects: Sequence[Redirect]) -> None:
        entries = ledger.missing_entries(redirects)
        try:
            sites = self._core.open_sites(entries)
        except HotReloadError as error:
            raise _naming_function(error, ledger, redirects) from None
        ledger.sites.update(zip(entries, sites))
        if any(ledger.sites[redirect.entry].kind == "jump" for redirect in redirects):
            self._core.probe_text()

    def _commit(self, ledger: Ledger, staged: StagedPatch, info: dict[str, Any]) -> Generation:
        try:
            seconds, is_synchronised = self._swap(ledger, staged.redirects)
        except (TransitionError, PoisonedError):
            ledger.retained.append(staged.image)
            raise
        generation = Generation(
            module=ledger.name,
            build_id=staged.module.build_id,
            number=len(ledger.generations),
            functions=staged.functions,
            bytes_mapped=staged.bytes_mapped,
            distance=staged.distance,
            address=staged.image.address,
            length=staged.image.length,
            committed_at=time.time(),
            duration=seconds,
            synchronised=is_synchronised,
            info=info,
            redirects=staged.redirects,
            carried=staged.carried,
        )
        ledger.record(staged, generation)
        return generation

    def _swap(self, ledger: Ledger, redirects: Sequence[Redirect]) -> tuple[float, bool]:
        try:
            report = self._core.commit(ledger.batch(redirects), allow_unsynchronised=self._allow_unsynchronised)
        except HotReloadError as error:
            named = _naming_function(error, ledger, redirects)
            if isinstance(named, PoisonedError):
                ledger.poison = named
            raise named from None
        return report.seconds, report.is_synchronised

    def _ledger(self, module: LoadedModule) -> Ledger:
        try:
            return self._ledgers[module.path]
        except KeyError:
            raise StageError(
                f"{module.path} is not attached", hint="call attach() first", status="NOT_ATTACHED"
            ) from None

    def _healthy(self, module: LoadedModule) -> Ledger:
        ledger = self._ledger(module)
        if ledger.poison is not None:
            raise ledger.poison
        return ledger


def _naming_function(error: HotReloadError, ledger: Ledger, redirects: Sequence[Redirect]) -> HotReloadError:
    """The same refusal with the function's name in it: the core knows addresses only."""
    name = ledger.name_of(error.fields.get("address", 0), redirects)
    if not name:
        return error
    return type(error)(f"{name}: {error.message}", hint=error.hint, **{**error.fields, "function": name})


def _module_name(path: str) -> str:
    """The dotted name under which an extension was imported, else the stem of its file."""
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if isinstance(file, str) and file.endswith(".so") and os.path.realpath(file) == path:
            return name
    return os.path.basename(path).split(".", 1)[0]
