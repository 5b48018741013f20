"""What a push writes down: the patch, the decision, what is current, and what was current before.

::

    keep          patches/BUILD-ID/NAME       the artefact, where processes that start later look for it
                  pushes/PUSH                 from what to what, by whom: written before the decision, never changed
    decide        decisions/PUSH              the point of no return
    make current  patches/BUILD-ID/current    a process that starts from here on has it

A command that was killed between the last two leaves a decision that every process carries out and a `current` that is
behind it. :func:`catch_up` finds that by the note in ``pushes`` and finishes it; the next command calls it first.
"""

from __future__ import annotations

import json
import os
import pwd
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any, NamedTuple

from hotreload.artefact import Artefact
from hotreload.errors import HotReloadError
from hotreload.push.records import BASE
from hotreload.state import Decisions, PatchStore, Quarantine, StateDirectory

__all__ = ["Note", "StateBooks", "catch_up", "name_of_operator", "notes", "what_was_before"]

_ROOM = "pushes"
_LIMIT = 64 << 10
_KEEP = 500


class Note(NamedTuple):
    """One push as it was written down before its decision; ``was`` and ``becomes`` are names in the patch store.

    ``is_partial`` means that it was for some of the processes only, so what is current was not to follow it.
    """

    push: str
    kind: str
    module: str
    build_id: str
    was: str
    becomes: str
    sha256: str
    user: str
    uid: int
    at: float
    is_partial: bool = False


class StateBooks:
    """The books of one push.

    Args:
        directory: the application's state directory.
        artefact: what is pushed, or gone back to; None is the base.
        module, build_id: whose.
        kind: "push" or "rollback".
        is_partial: whether it is for some of the processes only.
        releases: whether the patch leaves the quarantine when it becomes current: somebody has said that it may run,
            and a process that starts later must not be the only one without it.
    """

    def __init__(
        self,
        directory: StateDirectory,
        artefact: Artefact | None,
        *,
        module: str,
        build_id: str,
        kind: str,
        is_partial: bool = False,
        releases: bool = False,
    ) -> None:
        self._directory = directory
        self._releases = releases
        self._store = PatchStore(directory)
        self._decisions = Decisions(directory)
        self._artefact = artefact
        self._module, self._build_id, self._kind, self._is_partial = module, build_id, kind, is_partial
        self._name = BASE

    def keep(self, push: str) -> None:
        """Puts the patch into the store and writes the note. Raises StateError or ArtefactError; nothing is decided."""
        was = self._store.current_name(self._build_id)
        if self._artefact is not None:
            self._name = self._store.put(self._artefact)
        note = Note(
            push=push,
            kind=self._kind,
            module=self._module,
            build_id=self._build_id,
            was=was,
            becomes=self._name,
            sha256=self._artefact.sha256 if self._artefact else "",
            user=name_of_operator(),
            uid=os.getuid(),
            at=time.time(),
            is_partial=self._is_partial,
        )
        self._directory.write(_ROOM, push, content=json.dumps(note._asdict(), sort_keys=True).encode("ascii"))
        _forget_old(self._directory)

    def decide(self, push: str, word: str) -> str:
        """The decision that holds."""
        return self._decisions.decide(push, word)

    def make_current(self) -> None:
        """From here on, a process that starts has it."""
        if self._releases and self._artefact is not None:
            quarantine = Quarantine(self._directory)
            quarantine.release(self._artefact.sha256)
            quarantine.release(self._artefact.manifest.body_sha256)
        if not self._is_partial:
            self._store.set_current(self._build_id, self._name)

    def is_current(self) -> bool:
        """Whether a process that starts has it already."""
        if self._is_partial:
            return True
        with suppress(HotReloadError):
            current = self._store.current(self._build_id)
            wanted = self._artefact.sha256 if self._artefact else ""
            return (current.sha256 if current else "") == wanted
        return False


def notes(directory: StateDirectory) -> Iterator[Note]:
    """Every note, newest first; one that cannot be read is passed over."""
    found = []
    for name in directory.names(_ROOM):
        content = directory.read(_ROOM, name, limit=_LIMIT)
        with suppress(ValueError, TypeError):
            found.append(Note(**_object(content)))
    yield from sorted(found, key=lambda note: note.at, reverse=True)  # a push's name is exact to the second only


def what_was_before(directory: StateDirectory, build_id: str) -> str:
    """The name of what was current before the last push that has not been rolled back; in the end the base.

    Pushes are a stack on the base, whatever they pushed, the base included; a rollback takes off what lies above the
    one it went back to. So going back again and again ends at the base and stays there.
    """
    decisions = Decisions(directory)
    stack = [BASE]
    for note in reversed(list(notes(directory))):
        if note.build_id != build_id or note.is_partial or decisions.look(note.push) == "abort":
            continue
        if note.kind == "rollback" and note.becomes in stack:
            while stack[-1] != note.becomes:
                stack.pop()
        elif note.becomes != stack[-1]:
            stack.append(note.becomes)
    return stack[-2] if len(stack) > 1 else BASE


def catch_up(directory: StateDirectory) -> list[Note]:
    """Finishes pushes whose command was killed between the decision and making it current; returns their notes."""
    store, decisions = PatchStore(directory), Decisions(directory)
    done: list[Note] = []
    seen: set[str] = set()
    for note in notes(directory):
        if note.is_partial or note.build_id in seen or decisions.look(note.push) != "commit":
            continue
        seen.add(note.build_id)
        if store.current_name(note.build_id) == note.was != note.becomes:
            store.set_current(note.build_id, note.becomes)
            done.append(note)
    return done


def name_of_operator() -> str:
    """Who is typing: behind sudo the one who typed sudo."""
    sudo = os.environ.get("SUDO_USER", "")
    try:
        own = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        own = f"uid {os.getuid()}"
    return f"{sudo} as {own}" if sudo and sudo != own else own


def _object(content: bytes | None) -> Mapping[str, Any]:
    document = json.loads(content or b"")
    if not isinstance(document, dict):
        raise TypeError
    return document


def _forget_old(directory: StateDirectory) -> None:
    for name in sorted(directory.names(_ROOM))[:-_KEEP]:
        directory.remove(_ROOM, name)
