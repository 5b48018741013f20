"""What was decided about each push: the first word is the one that holds.

::

    pusher: all prepared ── decide(push, "commit") ──┐
                                                     ├─ link(2) to decisions/PUSH: one succeeds, all read that one
    worker: deadline over ─ decide(push, "abort") ───┘

This is the one point that a push's outcome hangs on. It needs nobody to be alive: a worker that hears no more from its
pusher asks here, and every worker gets the same answer.
"""

from __future__ import annotations

from hotreload.state.directory import StateDirectory, StateError, is_plain_name

__all__ = ["ABORT", "COMMIT", "Decisions"]

COMMIT, ABORT = "commit", "abort"

_ROOM = "decisions"
_LIMIT = 64
#: After this long nobody can be waiting for a decision: a prepared push has a deadline of minutes.
KEEP_SECONDS = 24 * 3600.0


class Decisions:
    """The decisions of one application."""

    def __init__(self, directory: StateDirectory) -> None:
        self._directory = directory

    def decide(self, push: str, word: str) -> str:
        """Decides ``push``, unless it is decided; the decision that holds is returned.

        Raises:
            StateError: it could not be written or read; then nothing is decided by this call, and :meth:`look` tells
                whether another was quicker.
        """
        if word not in (COMMIT, ABORT):
            raise ValueError(f"a push is decided with {COMMIT!r} or {ABORT!r}, not with {word!r}")
        self._check(push)
        held = self.look(push)
        if held is None and self._directory.create(_ROOM, push, content=word.encode()):
            return word
        held = self.look(push)
        if held is None:
            raise StateError(
                f"the decision about push {push} was removed while it was made",
                hint="leave the state directory alone while a push is under way",
                path=self._directory.path_of(_ROOM, push),
            )
        return held

    def look(self, push: str) -> str | None:
        """The decision about ``push``, or None while there is none."""
        self._check(push)
        content = self._directory.read(_ROOM, push, limit=_LIMIT)
        if content is None:
            return None
        word = content.decode("ascii", "replace")
        if word not in (COMMIT, ABORT):
            path = self._directory.path_of(_ROOM, push)
            raise StateError(f"{path} holds no decision", hint="it was edited; see what did that", path=path)
        return word

    def forget_old(self) -> int:
        """Removes the decisions that nobody can be waiting for; returns how many."""
        self._directory.sweep(_ROOM)
        removed = 0
        for push in filter(is_plain_name, self._directory.names(_ROOM)):
            age = self._directory.age_of(_ROOM, push)
            if age is not None and age > KEEP_SECONDS:
                removed += self._directory.remove(_ROOM, push)
        return removed

    @staticmethod
    def _check(push: str) -> None:
        if not is_plain_name(push):
            raise StateError(f"{push!r} cannot be the name of a push", hint="letters, digits, '-', '_' and '.'")
