"""Python functions behind the manager: the same steps as for an extension, on code objects.

::

    stage      payload read ─▶ its code ─▶ does the base fit? are the functions marked, alive, able to take it?
    commit     callbacks before ─▶ added statements run ─▶ exchange, or a crossing is open ─▶ callbacks after
    go_back    the same without the statements; while a crossing is open, it is cancelled

Stage runs nothing of the edit. The manager calls all of it with its lock held, :meth:`Engine.settle` without.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

from hotreload.errors import Finding, HotReloadError, IncompatibleError, StageError
from hotreload.live.around import Around, Swap
from hotreload.live.core import PatchSource
from hotreload.live.records import LEVELS, Generation, StagedPatch, Terms
from hotreload.live.report import Guard
from hotreload.live.stragglers import are_greenlets_in_use
from hotreload.python.additions import run_added, take_back
from hotreload.python.book import NO_IMAGE, Book, PythonGeneration, StagedPython, Version
from hotreload.python.crossings import Crossings
from hotreload.python.intake import check_interpreter, is_another, version_of, wait_for_import
from hotreload.python.marked import check_marks, functions_in
from hotreload.python.payload import read
from hotreload.python.plan import Plan, make_plan
from hotreload.python.registry import SourceFile

__all__ = ["Engine"]


class Engine(Crossings):
    """All marked ``.py`` files of the process.

    Args:
        guard: the manager's lock and its events.
        around: the callbacks of the program.
        files: the registry's, by path.
    """

    ledger_type = Book

    def __init__(self, guard: Guard, around: Around, files: dict[str, SourceFile]) -> None:
        super().__init__(guard, around)
        self._files = files

    # What there is -------------------------------------------------------------------------------------------------

    def knows(self, path: str) -> bool:
        """Whether that file has marked functions."""
        return path in self._files

    def open_ledger(self, path: str) -> Book:
        """A book for it.

        Raises:
            IncompatibleError: it was saved between its import and the mark, so nobody knows what is loaded.
        """
        file = self._files[path]
        book = Book(file)
        if file.is_suspect and is_another(book):
            reason = f"{path} was saved while it was being imported: what is live is not what the text says"
            raise IncompatibleError(
                reason,
                hint="restart the program",
                findings=(Finding("python-base-changed", reason, "restart the program", path),),
            )
        return book

    def loaded(self) -> list[tuple[str, str]]:
        """Path and build-id of every file."""
        return [(path, file.build_id) for path, file in list(self._files.items())]

    def describe(self, book: Book) -> dict[str, Any]:
        """Plain data for ``status``."""
        return book.describe()

    # Staging -------------------------------------------------------------------------------------------------------

    def stage(self, book: Book, source: PatchSource) -> StagedPatch:
        """Reads a payload and looks whether this process can take it.

        Raises:
            StageError: it is damaged, for another base, or there is nothing in it for a marked function.
            IncompatibleError: a live function cannot take its new code. Nothing was changed.
        """
        check_interpreter()
        payload = read(source)
        if payload.build_id != book.source.build_id:
            raise StageError(
                f"the patch is for another text of {book.path}: {payload.build_id[:12]}, "
                f"loaded is {book.source.build_id[:12]}",
                hint="make the patch against the text that this process has loaded, or restart it",
                status="BUILD_ID",
            )
        wait_for_import(book)
        version = version_of(book, payload)
        notes = list(payload.notes)
        check_marks(book, version, payload, notes)
        notes += make_plan(book, book.newest + 1, version).notes  # made again at the commit: closures come and go
        staged = StagedPython(
            module=book.snapshot(),
            functions=functions_in(book, version),
            bytes_mapped=0,
            distance=0,
            number=book.newest + 1,
            carried=(),
            image=NO_IMAGE,
            redirects=(),
            data_escapes=False,
            version=version,
            notes=tuple(notes),
        )
        book.staged.append(staged)
        return staged

    def unstage(self, book: Book, staged: StagedPatch) -> None:
        """Forgets it."""
        book.drop_staged(staged)

    # Committing ----------------------------------------------------------------------------------------------------

    def check(self, book: Book, to: StagedPatch | int, terms: Terms) -> str:
        """The level at which it would be made live now.

        Raises:
            StageError: it would be refused; nothing was changed.
        """
        if isinstance(to, int):
            generation = book.generation(to)
            if self._is_way_back(book, to):
                return terms.level_for(len(generation.functions))
            plan = make_plan(book, to, book.version(to))
            swap = self._swap(book, to, plan)
        else:
            assert isinstance(to, StagedPython)
            swap = self._swap(book, to.number, make_plan(book, to.number, to.version))
        self.check_free()
        return self._level(swap, terms)

    def commit(self, book: Book, staged: StagedPatch, info: dict[str, Any], terms: Terms) -> Generation:
        """Makes it live, or begins to wait for the moment; returns the generation."""
        assert isinstance(staged, StagedPython)
        version: Version = staged.version
        swap = self._swap(book, staged.number, make_plan(book, staged.number, version))
        level = self._level(swap, terms)
        self._around.before(swap)
        notes = list(staged.notes)
        try:
            book.check_staged(staged)  # callbacks may have asked the manager for anything
            self.check_free()
            run_added(book, version, notes)
            try:
                plan = make_plan(book, staged.number, version)
                is_open = self._exchange(book, plan, level)
            except BaseException:
                take_back(version)
                raise
        except HotReloadError as error:
            self._around.refused(swap, error)
            raise
        book.drop_staged(staged)
        book.add_version(staged.number, version)
        generation = PythonGeneration(
            module=book.name,
            build_id=book.source.build_id,
            number=staged.number,
            functions=staged.functions,
            committed_at=time.time(),
            info=info,
            level=level,
            transition="open" if is_open else "none",
            notes=tuple(dict.fromkeys(notes)),
        )
        book.make_live(generation)
        self._go_on(book, plan, terms.but(level=level), swap, is_open=is_open)
        return generation

    def go_back(self, book: Book, generation: Generation, terms: Terms, *, may_veto: bool) -> float:
        """Makes an earlier generation live; cancels what is open, where it is the one that was left."""
        if self._is_way_back(book, generation.number):
            assert self.open is not None
            self.reverse(self.open, terms.reason)
            return 0.0
        self.check_free()
        if generation.number == book.live.number:
            return 0.0
        version = book.version(generation.number)
        swap = self._swap(book, generation.number, make_plan(book, generation.number, version))
        level = self._level(swap, terms)
        self._around.before(swap, may_veto=may_veto)
        started = time.perf_counter()
        try:
            plan = make_plan(book, generation.number, version)
            is_open = self._exchange(book, plan, level)
        except HotReloadError as error:
            self._around.refused(swap, error)
            raise
        seconds = time.perf_counter() - started
        changes: dict[str, Any] = {"notes": tuple(plan.notes)} if version.is_base else {}
        book.make_live(replace(generation, level=level, transition="open" if is_open else "none", **changes))
        self._go_on(book, plan, terms.but(level=level), swap, is_open=is_open)
        return seconds

    @staticmethod
    def _swap(book: Book, entered: int, plan: Plan) -> Swap:
        return Swap(book.name, book.path, book.live.number, entered, plan.functions)

    def _level(self, swap: Swap, terms: Terms) -> str:
        wanted = [terms.level_for(len(swap.functions)), self._around.level_of(swap)]
        level = max(wanted, key=lambda each: LEVELS.index(each) if each else -1)
        if level == "request":
            raise StageError(
                f"{swap.module}: Python functions are not swapped at level request [python-request-level]",
                hint="level call swaps them in a moment in which no thread is inside any of them",
                status="LEVEL",
                slug="python-request-level",
            )
        if level != "function" and are_greenlets_in_use():
            raise StageError(
                "greenlets are in use: a suspended one keeps its frames where nobody sees what it is in the middle of",
                hint="--level function swaps all of them at once, without that promise",
                status="GREENLETS",
            )
        return level
