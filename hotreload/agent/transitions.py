"""The transition that is open in this process: who wants it, who is in its way, and what is written down of it.

::

    commit, rollback ─▶ began ─▶ manager ─▶ started ─▶ completed             every thread has come over
                                               │  └──▶ stalled               the time is over and threads are in there
                                               ├─────▶ reversed ─▶ completed the other way round
                                               └─────▶ forced                with a reason; the taint stays

One at a time for the whole process. While it is open the agent answers as ever; whatever would change other code is
refused with the names of the threads that are waited for. The events come on whatever thread the manager is on.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from typing import Any

from hotreload.agent.books import Books
from hotreload.agent.change import Live
from hotreload.agent.refusal import refuse
from hotreload.errors import HotReloadError
from hotreload.events import (
    TRANSITION_COMPLETED,
    TRANSITION_FORCED,
    TRANSITION_REVERSED,
    TRANSITION_STALLED,
    TRANSITION_STARTED,
)
from hotreload.live.stragglers import brief

__all__ = ["Transitions", "name_stragglers"]

_EVENTS = frozenset(
    {TRANSITION_STARTED, TRANSITION_COMPLETED, TRANSITION_REVERSED, TRANSITION_FORCED, TRANSITION_STALLED}
)
_ENDS = frozenset({TRANSITION_COMPLETED, TRANSITION_FORCED})
#: A reply has a limit, and nobody reads more.
_SHOWN_THREADS, _SHOWN_FRAMES = 32, 24
_NAMED = 3


class Transitions:
    """The open transition of one process.

    Args:
        live: the manager.
        books: where its story is written down.
        ended: is called when a transition has ended, on any thread.
    """

    def __init__(self, live: Live, books: Books, ended: Callable[[], None] = lambda: None) -> None:
        self._live = live
        self._books = books
        self._ended = ended
        self._by: dict[str, Any] = {}
        self._unsubscribe = live.subscribe(self._note)

    def close(self) -> None:
        """Nothing is written down any more."""
        self._unsubscribe()

    def began(self, push: str, about: Mapping[str, Any]) -> None:
        """From here on what happens is on behalf of this push."""
        self._by = {"push": push, **{key: value for key, value in about.items() if key.startswith("peer_")}}

    def describe(self) -> dict[str, Any] | None:
        """What is open, cut to what a reply can hold; None when nothing is."""
        found = self._live.transition()
        if found is None:
            return None
        stragglers = list(found.get("stragglers") or ())
        return {
            **found,
            "stragglers": [_cut(straggler) for straggler in stragglers[:_SHOWN_THREADS]],
            "straggler_count": len(stragglers),
            "by": dict(self._by),
        }

    def from_of(self, module: Any) -> int | None:
        """The generation that the threads of ``module`` are leaving; None when nothing is open.

        Raises:
            StageError: BUSY: what is open is another module's.
        """
        found = self._live.transition()
        if found is None:
            return None
        if found["module"] != module.name:
            raise self.busy(found)
        return int(found["to"] if found["direction"] == "back" else found["from"])

    def busy(self, found: Mapping[str, Any] | None = None) -> HotReloadError:
        """The refusal of whatever cannot be done while this is open."""
        found = found or self._live.transition()
        if found is None:
            return refuse("BUSY", "a transition was open here a moment ago", hint="try again")
        stragglers = list(found.get("stragglers") or ())
        rest = int(found.get("threads", 0)) - int(found.get("settled", 0))
        return refuse(
            "BUSY",
            f"a transition of {found.get('module')} from generation {found.get('from')} to {found.get('to')} is open "
            f"here: {rest} of {found.get('threads')} threads have not come over"
            + (f": {name_stragglers(stragglers)}" if stragglers else ""),
            hint="wait for it, take it back with `hotreload transition revert`, or end it with "
            "`hotreload transition force --reason TEXT`",
            stragglers=[_cut(straggler) for straggler in stragglers[:_SHOWN_THREADS]],
        )

    def force(self, reason: str, peer: Mapping[str, Any], *, is_audit_required: bool) -> dict[str, Any]:
        """Ends what is open although threads are in the code that they should have left.

        Raises:
            StageError: NO_TRANSITION; nothing was changed.
            AuditError: it could not be written down, and must be; nothing was changed.
        """
        found = self._live.transition()
        if found is None:
            raise refuse("NO_TRANSITION", "no transition is open here")
        about = {key: found.get(key) for key in ("module", "from", "to", "level", "direction")}
        left = [brief(straggler) for straggler in found.get("stragglers") or ()]
        self._books.audit(
            "force.requested", is_required=is_audit_required, reason=reason, **about, **peer, stragglers=left
        )
        self._by = {**self._by, **peer}
        self._live.force(reason, by=f"uid {peer.get('peer_uid')}")
        return {**about, "left": left}

    def _note(self, event: dict[str, Any]) -> None:
        """Writes down what the manager tells; that it happened stands, whether or not it can be written."""
        name = event.get("event")
        if name not in _EVENTS:
            return
        fields = {key: value for key, value in event.items() if key not in ("event", "stragglers", "path", "info")}
        stragglers = event.get("stragglers")
        if stragglers and not isinstance(stragglers, int):
            fields["stragglers"] = [brief(straggler) for straggler in stragglers]
        with contextlib.suppress(HotReloadError):
            self._books.audit(str(name), **{**self._by, **fields})
        if name in _ENDS:
            self._ended()


def name_stragglers(stragglers: list[dict[str, Any]]) -> str:
    """A few threads by name, and why each is still there."""
    named = ", ".join(brief(straggler) for straggler in stragglers[:_NAMED])
    more = len(stragglers) - _NAMED
    return named + (f" and {more} more" if more > 0 else "")


def _cut(straggler: Mapping[str, Any]) -> dict[str, Any]:
    stacks = {key: list(straggler.get(key) or ())[:_SHOWN_FRAMES] for key in ("native", "python")}
    return {**straggler, **stacks}
