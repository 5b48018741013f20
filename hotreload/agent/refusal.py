"""Every way in which an agent says no, in one list: the status is for programs, the hint for people.

A refusal of the artefact itself (``ARTEFACT``, ``SIGNATURE_*``, ``SEQUENCE_*``), of the core (``csrc/status.h``), of
the state directory or of the audit trail passes through as it is.
"""

from __future__ import annotations

from typing import Any

from hotreload.errors import StageError

__all__ = ["HINTS", "refuse"]

HINTS = {
    # The request.
    "BAD_REQUEST": "see docs/production.md for the messages",
    "VERSION": "use the command line of the version of hotreload that the server has",
    "USER": "name the user under `users` in [tool.hotreload.policy]",
    "READER": "this user may look and not push: name it under `users` in [tool.hotreload.policy]",
    "PEER_GONE": "the process that asked has ended",
    # The artefact.
    "NO_ARTEFACT": "send it as a sealed memfd with the request",
    "NOT_SEALED": "send a memfd with the seals WRITE, SHRINK, GROW and SEAL",
    "TOO_BIG": "build the patch again",
    "UNNAMED": "pack it again: whoever reads it must see what it changes",
    # What may be pushed here.
    "POLICY": "correct the policy file",
    "MODULE": "see `modules` in [tool.hotreload.policy]",
    "FUNCTION": "see `functions` in [tool.hotreload.policy]",
    "UNMARKED": "mark them with hotreload.hotpatchable, or their whole module; or make helpers static inline",
    "QUARANTINED": "a process died soon after it took this patch: correct it, or push with --allow-quarantined",
    # What this process is.
    "NOT_LOADED": "the module is loaded by its first import",
    "OTHER_BUILD": "pack the patch for the build that runs, or restart the process",
    "TWICE": "load one copy of it",
    "GENERATION": "another push was quicker; look at `hotreload status`",
    "OLDER": "to go back, use `hotreload rollback`",
    "BUSY": "one push at a time; it settles by its deadline",
    # Threads on their way.
    "NO_TRANSITION": "every thread has come over; look at `hotreload status`",
    "NO_REASON": "say why, with --reason TEXT: it is written down and shown ever after",
    # The two phases.
    "UNKNOWN_PUSH": "prepare first",
    "NOT_PREPARED": "this push has ended here",
    "DECIDED": "the first decision about a push holds",
}


def refuse(status: str, message: str, *, hint: str = "", **fields: Any) -> StageError:
    """The error for one of the list; nothing was changed. ``hint`` is for a case that needs another than the usual."""
    return StageError(message, hint=hint or HINTS[status], status=status, **fields)
