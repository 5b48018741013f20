"""Python functions behind the manager: the same steps as for an extension, on code objects.

::

    stage      payload read ─▶ its code ─▶ does the base fit? are the functions marked, alive, able to take it?
    commit     callbacks before ─▶ added statements run ─▶ exchange, or a crossing is open ─▶ callbacks after
    go_back    the same without the statements; while a crossing is open, it is cancelled

Stage runs nothing of the edit. The manager calls all of it with its lock held, :meth:`Engine.settle` without.
"""

from __future__ import annotations

import logging
import marshal
import os
import sys
import time
from _thread import start_new_thread
from collections.abc import Iterable
from dataclasses import replace
from types import FunctionType
from typing import Any

from hotreload.errors import Finding, HotReloadError, IncompatibleError, PoisonedError, StageError, TransitionError
from hotreload.events import (
    PATCH_REFUSED,
    TRANSITION_COMPLETED,
    TRANSITION_FORCED,
    TRANSITION_REVERSED,
    TRANSITION_STALLED,
    TRANSITION_STARTED,
)
from hotreload.live.around import Around, Swap
from hotreload.live.core import PatchSource
from hotreload.live.records import LEVELS, Generation, StagedPatch, Taint, Terms, check_reason
from hotreload.live.report import Guard
from hotreload.live.stragglers import are_greenlets_in_use, brief
from hotreload.python.additions import run_added, take_back
from hotreload.python.book import NO_IMAGE, Addition, Book, PythonGeneration, StagedPython, Version
from hotreload.python.codes import walk, without_number
from hotreload.python.crossing import PAUSE_FIRST, PAUSE_LAST, Crossing, exchange
from hotreload.python.payload import Payload, python_of, read
from hotreload.python.plan import Plan, make_plan
from hotreload.python.registry import SourceFile

__all__ = ["Engine"]

_IMPORT_PATIENCE = 5.0
_NAMED = 4


class Engine:
    """All marked ``.py`` files of the process.

    Args:
        guard: the manager's lock and its events.
        around: the callbacks of the program.
        files: the registry's, by path.
    """

    ledger_type = Book

    def __init__(self, guard: Guard, around: Around, files: dict[str, SourceFile]) -> None:
        self._guard = guard
        self._around = around
        self._files = files
        self.open: Crossing | None = None

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
        if file.is_suspect and _is_another(book):
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
        _check_interpreter()
        payload = read(source)
        if payload.build_id != book.source.build_id:
            raise StageError(
                f"the patch is for another text of {book.path}: {payload.build_id[:12]}, "
                f"loaded is {book.source.build_id[:12]}",
                hint="make the patch against the text that this process has loaded, or restart it",
                status="BUILD_ID",
            )
        _wait_for_import(book)
        version = _version_of(book, payload)
        notes = list(payload.notes)
        _check_marks(book, version, payload, notes)
        notes += make_plan(book, book.newest + 1, version).notes  # made again at the commit: closures come and go
        staged = StagedPython(
            module=book.snapshot(),
            functions=_functions_in(book, version),
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
        try:
            self._around.before(swap)
        except StageError:  # what was promised to others is done all the same
            if may_veto:
                raise
            sys.excepthook(*sys.exc_info())
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

    def _exchange(self, book: Book, plan: Plan, level: str) -> bool:
        """Does it; whether somebody is inside instead."""
        try:
            return bool(exchange(book, plan, level=level))
        except SystemError as error:
            book.poison = PoisonedError(str(error), hint="restart the process")
            raise book.poison from error
        except Exception as error:
            raise TransitionError(
                f"{book.name}: a function did not take its new code, and all have their old one: {error}",
                hint="the earlier generation serves; see what hooks the process has on functions or classes",
                status="EXCHANGE",
            ) from error

    def _go_on(self, book: Book, plan: Plan, terms: Terms, swap: Swap, *, is_open: bool) -> None:
        if not is_open:
            self._around.after(swap)
            return
        self.open = Crossing(book, plan, terms, swap)
        self._tell(TRANSITION_STARTED, self.open, entries=len(swap.functions))

    # While a crossing is open --------------------------------------------------------------------------------------

    def check_free(self) -> None:
        """Insists that none is.

        Raises:
            StageError: BUSY; it names who is inside.
        """
        if self.open is not None:
            self._advance(self.open)
        if self.open is None:
            return
        about = self.open.describe(with_stacks=False)
        who = "; ".join(brief(entry) for entry in about["stragglers"][:_NAMED])
        raise StageError(
            f"{about['module']} still waits for the moment to go from generation {self.open.source} "
            f"to {self.open.target}" + (f": {who}" if who else ""),
            hint=f"wait, or go back to generation {self.open.source}, or force it with a reason",
            status="BUSY",
            transition=about,
        )

    def settle(self, book: Book, transition: Any, number: int, wait: float) -> Generation:
        """Waits a moment for it; returns the generation as it is then. The manager's lock must be free."""
        if transition is not None:
            try:
                self._drive(transition, time.monotonic() + max(0.0, wait))
            finally:
                self.start_driver()
        with self._guard:
            generation = book.generations[number]
            live = book.live.number
        if transition is not None and generation.transition == "reversed":
            raise TransitionError(
                f"generation {number} of {book.name} was reversed, generation {live} serves",
                hint="the log names the threads that were inside",
                status="REVERSED",
            )
        return generation

    def wait(self, seconds: float) -> bool:
        """Whether none is open any more within so many seconds."""
        crossing = self.open
        return crossing is None or crossing.over.wait(seconds)

    def start_driver(self) -> None:
        """Has a thread drive it on."""
        crossing = self.open
        if crossing is None or crossing.has_driver:
            return
        crossing.has_driver = True
        try:
            start_new_thread(self._run_driver, (crossing,))
        except RuntimeError:
            crossing.has_driver = False

    def _run_driver(self, crossing: Crossing) -> None:
        try:
            self._drive(crossing, None)
        except Exception:
            logging.getLogger("hotreload").exception("the driver of a transition failed: it goes on when asked for")
        finally:
            crossing.has_driver = False

    def _drive(self, crossing: Crossing, until: float | None) -> None:
        pause = PAUSE_FIRST
        while True:
            with self._guard:
                if self.open is crossing:
                    self._advance(crossing)
                if self.open is not crossing:
                    return
            if until is not None and time.monotonic() >= until:
                return
            time.sleep(pause)
            pause = min(PAUSE_LAST, pause * 1.5)

    def _advance(self, crossing: Crossing) -> None:
        """One look; what follows from it, and from the clock."""
        try:
            if not self._exchange(crossing.book, crossing.plan, crossing.terms.level):
                self._complete(crossing, "complete")
                self._tell(TRANSITION_COMPLETED, crossing, generation=crossing.target)
            elif crossing.is_due:
                self._pass_deadline(crossing)
        except PoisonedError as error:
            self._end(crossing)
            self._tell(PATCH_REFUSED, crossing, during="transition", error=error.as_dict())
        except HotReloadError as error:  # it stays open, and says why
            crossing.trouble = str(error)
            if crossing.is_due:
                self.reverse(crossing, str(error))

    def _pass_deadline(self, crossing: Crossing) -> None:
        crossing.is_stalled = True
        about = crossing.describe()
        self._tell(TRANSITION_STALLED, crossing, stragglers=about["stragglers"], threads=about["threads"])
        if crossing.terms.policy == "force":
            self.force(crossing, crossing.terms.reason, crossing.terms.by or "deadline")
        elif crossing.terms.policy == "revert":
            self.reverse(crossing, "its deadline passed")

    def reverse(self, crossing: Crossing, reason: str = "") -> None:
        """Cancels it: nothing was exchanged; the names that the edit added are gone again."""
        book = crossing.book
        version = book.version(crossing.target)
        if crossing.target > crossing.source:
            take_back(version)
        self._end(crossing)
        book.mark(crossing.target, transition="reversed")
        book.make_live(book.generations[crossing.source])
        error = TransitionError(f"{book.name}: {reason or 'it was cancelled'}", hint="the earlier generation serves")
        self._around.refused(crossing.swap, error)
        self._tell(TRANSITION_REVERSED, crossing, reason=reason)
        self._tell(TRANSITION_COMPLETED, crossing, generation=crossing.source)

    def force(self, crossing: Crossing, reason: str, by: str) -> None:
        """Exchanges although threads are inside.

        Raises:
            StageError: no reason; it is still open.
            TransitionError: the exchange failed and is undone; it is still open.
        """
        check_reason(reason)
        about = crossing.describe()
        self._exchange(crossing.book, crossing.plan, "function")
        self._complete(crossing, "forced")
        crossing.book.taints.append(Taint("forced", reason, time.time(), by))
        fields = {name: about[name] for name in ("threads", "settled", "stragglers")}
        self._tell(TRANSITION_FORCED, crossing, reason=reason, by=by, **fields)

    def _complete(self, crossing: Crossing, how: str) -> None:
        self._end(crossing)
        crossing.book.mark(crossing.target, transition=how)
        self._around.after(crossing.swap)

    def _end(self, crossing: Crossing) -> None:
        self.open = None
        crossing.over.set()

    def _is_way_back(self, book: Book, number: int) -> bool:
        return self.open is not None and self.open.book is book and self.open.source == number

    def _tell(self, event: str, crossing: Crossing, **fields: Any) -> None:
        about = {name: value for name, value in crossing.summary().items() if name != "module"}
        duration = time.monotonic() - crossing.started
        self._guard.tell(event, crossing.book.snapshot(), **about, duration=duration, **fields)

    # Around a fork -------------------------------------------------------------------------------------------------

    def hold(self) -> None:
        """Nothing of it runs without the manager's lock."""

    def let_go(self) -> None:
        """Nothing was held."""

    def renew(self) -> None:
        """In a forked child: what is open goes on here too, with a driver of its own."""
        if self.open is not None:
            self.open.renew()
            self.start_driver()


def _is_another(book: Book) -> bool:
    """Whether a live function was not compiled from the text that was read; only here it is compiled."""
    try:
        code = compile(book.source.text, _filename_of(book), "exec", dont_inherit=True)
    except (SyntaxError, ValueError):
        return True
    book.open_base({found.key: found.code for found in walk(code)})
    return bool(book.functions()[1])


def _check_interpreter() -> None:
    """Insists on the lock that keeps other threads out of an exchange."""
    if not getattr(sys, "_is_gil_enabled", lambda: True)():
        raise StageError(
            "this interpreter runs without its global lock: Python functions cannot be swapped together in it",
            hint="run it with PYTHON_GIL=1, or with a build of CPython that is not free-threaded",
            status="FREE_THREADED",
        )


# Reading a payload -------------------------------------------------------------------------------------------------


def _wait_for_import(book: Book) -> None:
    """Waits until the module is imported: before that there are functions that nobody has defined yet."""
    until = time.monotonic() + _IMPORT_PATIENCE
    while not book.source.has_run and time.monotonic() < until:
        module = sys.modules.get(book.name)
        if not getattr(getattr(module, "__spec__", None), "_initializing", False):
            return
        time.sleep(PAUSE_LAST)
    if book.source.has_run:
        return
    raise StageError(f"{book.name} is still being imported", hint="save it again afterwards", status="IMPORTING")


def _version_of(book: Book, payload: Payload) -> Version:
    """The payload's code, unmarshalled, or compiled here where it is for another Python."""
    made = _code_of(book, payload)
    filename = _filename_of(book)
    for code in (
        made["base"],
        made["new"],
        *(s[2] for s in made["signatures"].values()),
        *(addition[4] for kind in ("additions", "members") for addition in made[kind]),
    ):
        if code.co_filename != filename:
            _fix_filename(code, filename)
    book.open_base({found.key: found.code for found in walk(made["base"])})
    return Version(
        codes={found.key: found.code for found in walk(made["new"], keys=made["keys"])},
        swapped=frozenset(made["swapped"]),
        edited=tuple(made["edited"]),
        moved=frozenset(made["moved"]),
        rigid=frozenset(made["rigid"]),
        signatures=made["signatures"],
        additions=tuple(Addition(*fields) for fields in made["additions"]),
        members=tuple(Addition(*fields) for fields in made["members"]),
    )


def _code_of(book: Book, payload: Payload) -> dict[str, Any]:
    if payload.code and payload.python == python_of(sys.flags.optimize):
        try:
            made = marshal.loads(payload.code)  # noqa: S302 - who may hand us payloads may hand us code
        except (ValueError, EOFError, TypeError) as error:
            raise StageError(
                f"the payload's code is damaged: {error}", hint="make it again", status="PAYLOAD"
            ) from None
        if (
            isinstance(made, dict)
            and {"base", "new", "keys", "swapped", "moved", "signatures", "additions", "members"} <= made.keys()
        ):
            return made
        raise StageError("the payload's code is of another version", hint="make it again", status="PAYLOAD")
    from hotreload.python.workshop import difference

    return dict(difference(book.source.text, payload.text, book.path, sys.flags.optimize))


def _filename_of(book: Book) -> str:
    """What the live functions call their file, so that tracebacks and debuggers go on calling it that."""
    for function in book.source.functions():
        if os.path.realpath(function.__code__.co_filename) == book.path:
            return function.__code__.co_filename
    return book.path


def _fix_filename(code: Any, filename: str) -> None:
    import _imp

    _imp._fix_co_filename(code, filename)  # type: ignore[attr-defined]  # noqa: SLF001 - what the import system does


# Marks -------------------------------------------------------------------------------------------------------------


def _functions_in(book: Book, version: Version) -> tuple[str, ...]:
    """The names that the generation changes here: edited, and marked or added by an earlier edit."""
    return tuple(dict.fromkeys(_marked(book, _edited(book, version))))


def _edited(book: Book, version: Version) -> list[str]:
    """Keys that differ from the base, and of what edits have added from what is live."""
    keys = list(version.edited)
    for function in book.introduced.values():
        key = book.key_of(function)
        if (
            key in version.codes
            and key not in keys
            and book.index.meaning_of(function.__code__) != book.index.meaning_of(version.codes[key])
        ):
            keys.append(key)
    return keys


def _marked(book: Book, keys: Iterable[str]) -> list[str]:
    ours = {book.key_of(function) for function in book.introduced.values()}
    return [without_number(key) for key in keys if key in ours or book.source.is_marked(without_number(key))]


def _check_marks(book: Book, version: Version, payload: Payload, notes: list[str]) -> None:
    """Insists that there is something to do; what is edited and stays as it is becomes a note.

    Raises:
        IncompatibleError: the code of an edited function is not what the base text says.
        StageError: no edited function is marked.
    """
    if not book.has_looked:
        book.look_for_hidden()
    live, strangers = book.functions()
    edited = _edited(book, version)
    wrong = sorted({*strangers} & {without_number(key) for key in edited})
    if wrong:
        raise IncompatibleError(
            f"{book.path}: the code of {', '.join(wrong)}() is not what the text says that was read when it was marked",
            hint="restart: the file was saved while it was being imported, or something rewrites code",
            findings=(
                Finding(
                    "python-base-changed",
                    f"{', '.join(wrong)}: the live code was not compiled from the text that was read",
                    "restart the program",
                    book.path,
                ),
            ),
        )
    if strangers:
        notes.append(
            f"the live code of {', '.join(sorted(set(strangers)))}() is not what the text says: the file was saved "
            "while it was being imported, or something rewrites code; it is left as it is until the restart"
        )
    marked = _marked(book, edited)
    unmarked = [name for key in edited if (name := without_number(key)) not in marked]
    lost = _lost(edited, live, marked)
    if lost and book.source.is_whole:  # a decorator of what an edit has added may have hidden it since
        book.look_for_hidden()
        lost = _lost(edited, book.functions()[0], marked)
    if lost:
        notes.append(f"no live function {', '.join(lost)}() was found: whoever decorated it has not kept it")
    if not unmarked:
        return
    names = ", ".join(f"{name}()" for name in dict.fromkeys(unmarked))
    if not marked and not version.additions:
        raise StageError(
            f"{book.path}: {names} changed and is not marked [python-not-marked]",
            hint="put @hotreload.hotpatchable above it, or above its class, and restart the program once",
            status="NOT_MARKED",
            slug="python-not-marked",
            functions=list(payload.functions),
        )
    notes.append(
        f"{names} changed and is not marked: the old code serves; put @hotreload.hotpatchable above it and restart"
    )


def _lost(edited: list[str], live: list[tuple[str, FunctionType]], marked: list[str]) -> list[str]:
    """The names of which no function was found that should be swapped; of several of one name not all need to live."""
    alive = {without_number(key) for key, _function in live}
    names = [without_number(key) for key in edited if "<locals>" not in key]
    return [name for name in names if name in marked and name not in alive]
