"""A payload taken in: may this process take it, is its module imported, and its code as a version.

::

    payload ─▶ code for this very Python ─▶ unmarshalled ┐
            └▶ none, or for another ─▶ base text and new text compiled and compared here ─┴▶ Version
"""

from __future__ import annotations

import marshal
import os
import sys
import time
from typing import Any

from hotreload.errors import StageError
from hotreload.python.book import Addition, Book, Version
from hotreload.python.codes import walk
from hotreload.python.crossing import PAUSE_LAST
from hotreload.python.payload import Payload, python_of

__all__ = ["check_interpreter", "is_another", "version_of", "wait_for_import"]

_IMPORT_PATIENCE = 5.0


def check_interpreter() -> None:
    """Insists on the lock that keeps other threads out of an exchange."""
    if not getattr(sys, "_is_gil_enabled", lambda: True)():
        raise StageError(
            "this interpreter runs without its global lock: Python functions cannot be swapped together in it",
            hint="run it with PYTHON_GIL=1, or with a build of CPython that is not free-threaded",
            status="FREE_THREADED",
        )


def wait_for_import(book: Book) -> None:
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


def version_of(book: Book, payload: Payload) -> Version:
    """The payload's code, unmarshalled, or compiled here where it is for another Python.

    Raises:
        StageError: what was unmarshalled is not what ``compare.py`` makes; status PAYLOAD. Nothing was changed.
    """
    made = _code_of(book, payload)
    try:
        return _read_version(book, made)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise StageError(f"the payload's code is damaged: {error}", hint="make it again", status="PAYLOAD") from error


def _read_version(book: Book, made: dict[str, Any]) -> Version:
    filename = _filename_of(book)
    for code in (
        made["base"],
        made["new"],
        *(s[2] for s in made["signatures"].values()),
        *(addition[4] for kind in ("additions", "members") for addition in made[kind]),
    ):
        if code.co_filename != filename:
            _fix_filename(code, filename)
    base = {found.key: found.code for found in walk(made["base"])}
    version = Version(
        codes={found.key: found.code for found in walk(made["new"], keys=made["keys"])},
        swapped=frozenset(made["swapped"]),
        edited=tuple(made["edited"]),
        moved=frozenset(made["moved"]),
        rigid=frozenset(made["rigid"]),
        signatures=made["signatures"],
        additions=tuple(Addition(*fields) for fields in made["additions"]),
        members=tuple(Addition(*fields) for fields in made["members"]),
    )
    book.open_base(base)
    return version


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


def is_another(book: Book) -> bool:
    """Whether a live function was not compiled from the text that was read; only here it is compiled."""
    try:
        code = compile(book.source.text, _filename_of(book), "exec", dont_inherit=True)
    except (SyntaxError, ValueError):
        return True
    book.open_base({found.key: found.code for found in walk(code)})
    return bool(book.functions()[1])
