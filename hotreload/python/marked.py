"""What of an edit is for this process: functions that are edited, marked, alive, and what the text says they are."""

from __future__ import annotations

from collections.abc import Iterable
from types import FunctionType

from hotreload.errors import Finding, IncompatibleError, StageError
from hotreload.python.book import Book, Version
from hotreload.python.codes import without_number
from hotreload.python.payload import Payload

__all__ = ["check_marks", "functions_in"]


def functions_in(book: Book, version: Version) -> tuple[str, ...]:
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


def check_marks(book: Book, version: Version, payload: Payload, notes: list[str]) -> None:
    """Insists that there is something to do; what is edited and stays as it is becomes a note.

    Raises:
        IncompatibleError: the code of an edited function is not what the base text says.
        StageError: no edited function is marked.
    """
    if not book.has_looked:
        book.look_for_hidden()
    live, strangers = book.functions()
    if book.source.is_whole and _has_hidden(book, version, live):
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


def _has_hidden(book: Book, version: Version, live: list[tuple[str, FunctionType]]) -> bool:
    """Whether a decorator may have put away a function that an earlier edit has added."""
    alive = {key for key, _function in live}
    base = book.version(0).codes
    added = {key for each in book.versions.values() for key in each.codes if "<" not in key and key not in base}
    return any(key in version.codes and key not in alive for key in added)


def _lost(edited: list[str], live: list[tuple[str, FunctionType]], marked: list[str]) -> list[str]:
    """The names of which no function was found that should be swapped; of several of one name not all need to live."""
    alive = {without_number(key) for key, _function in live}
    names = [without_number(key) for key in edited if "<locals>" not in key]
    return [name for name in names if name in marked and name not in alive]
