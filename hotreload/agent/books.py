"""What this process shares with the pusher and with its siblings: the rooms of the state directory, in one hand."""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping
from typing import Any

from hotreload.state import Audit, BaseTexts, Decisions, PatchStore, Quarantine, StateDirectory
from hotreload.state.patches import BASE

__all__ = ["Books", "tell"]


class Books:
    """The state of one application, as an agent uses it."""

    def __init__(self, directory: StateDirectory) -> None:
        self.directory = directory
        self.bases = BaseTexts(directory)
        self.patches = PatchStore(directory)
        self.decisions = Decisions(directory)
        self.quarantine = Quarantine(directory)

    def audit(self, event: str, *, is_required: bool = False, **fields: Any) -> bool:
        """Writes one event down; whether that was possible.

        Raises:
            AuditError: it was not, and it is required.
        """
        return Audit(self.directory, is_required, tell).write({"event": event, **fields})

    def make_current(self, build_id: str, sequence: int, push: str) -> None:
        """Makes a patch that is kept current, or with 0 the base, unless somebody did so since ``push`` was decided.

        The pusher does this; a process that has to settle alone does it in the place of a pusher that died.
        """
        kept = {number_of(name): name for name in self.patches.names(build_id)}
        name = kept.get(sequence) if sequence else BASE
        if name is None:
            return
        changed = self.directory.age_of("patches", build_id, "current")
        decided = self.directory.age_of("decisions", push)
        if decided is not None and (changed is None or changed > decided):
            self.patches.set_current(build_id, name)


def number_of(name: str) -> int:
    """The sequence number in the name of a kept artefact."""
    digits = name.partition(".")[0]
    return int(digits) if digits.isdigit() else -1


def tell(event: Mapping[str, Any]) -> None:
    """Hands an event to the host's own log: structlog where the host has set that up, else ``logging``."""
    fields = dict(event)
    name = str(fields.pop("event", ""))
    is_bad = name.endswith((".refused", ".failed", ".withheld", ".quarantined", ".stalled", ".forced"))
    structlog = sys.modules.get("structlog")
    if structlog is not None and structlog.is_configured():
        log = structlog.get_logger("hotreload")
        (log.warning if is_bad else log.info)(name, **fields)
        return
    text = " ".join(f"{key}={value!r}" for key, value in fields.items())
    logging.getLogger("hotreload.agent").log(logging.WARNING if is_bad else logging.INFO, "%s %s", name, text)
