"""How the threads of a process are to come over to other code, as a request asks for it.

========== ============================ ======================================================================
field      is                           means
========== ============================ ======================================================================
level      auto, function, call,        when a thread moves; auto: ``call`` for two functions and more
           request
settle     seconds                      how long they may take before the policy counts
policy     wait, force                  then: stay open and say so, or end it although threads are in there
reason     text                         why it is forced; without it, it is not
may_revert true, false                  the pusher may take it back without asking anybody: on trial, or where one
                                        process of many has not settled
========== ============================ ======================================================================

``revert`` is no policy here: to take back what others have too is a decision about all of them, which is the pusher's.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from hotreload.agent.refusal import refuse
from hotreload.artefact import printable
from hotreload.config import LEVELS
from hotreload.wire import Message

__all__ = ["SETTLE_LIMIT", "Terms", "reason_of", "terms_of"]

#: Who waits longer than this waits for a restart.
SETTLE_LIMIT = 3600.0
SETTLE_DEFAULT = 30.0

_POLICIES = ("wait", "force")
_REASON_LIMIT = 500
#: The agent has other things to do than to wait: it says "open" and goes on answering.
_WAIT = 0.05


class Terms(NamedTuple):
    """What one request wants; the table is above."""

    level: str = "auto"
    settle: float = SETTLE_DEFAULT
    policy: str = "wait"
    reason: str = ""
    may_revert: bool = False
    by: str = ""

    def for_manager(self) -> dict[str, Any]:
        """The same as arguments of the manager's ``commit`` and ``rollback``."""
        return {
            "level": None if self.level == "auto" else self.level,
            "deadline": self.settle,
            "policy": self.policy,
            "reason": self.reason,
            "by": self.by,
            "wait": _WAIT,
        }


def terms_of(message: Message, uid: int) -> Terms:
    """The terms in a request of that user's.

    Raises:
        StageError: BAD_REQUEST: they mean nothing. NO_REASON: force without one. Nothing was changed.
    """
    level, policy = message.get("level", "auto"), message.get("policy", "wait")
    if level not in LEVELS:
        raise refuse("BAD_REQUEST", f"level is one of {', '.join(LEVELS)}")
    if policy not in _POLICIES:
        raise refuse("BAD_REQUEST", f"policy is one of {', '.join(_POLICIES)}")
    settle = message.get("settle", SETTLE_DEFAULT)
    if isinstance(settle, bool) or not isinstance(settle, (int, float)) or not math.isfinite(settle):
        raise refuse("BAD_REQUEST", "settle is a number of seconds")
    if not 0 < settle <= SETTLE_LIMIT:
        raise refuse("BAD_REQUEST", f"settle is more than 0 and at most {SETTLE_LIMIT:g} seconds")
    may_revert = message.get("may_revert", False)
    if not isinstance(may_revert, bool):
        raise refuse("BAD_REQUEST", "may_revert is true or false")
    reason = reason_of(message) if policy == "force" else ""
    return Terms(str(level), float(settle), str(policy), reason, may_revert, f"uid {uid}")


def reason_of(message: Message) -> str:
    """Why something is forced. Raises StageError: NO_REASON or BAD_REQUEST; nothing was changed."""
    reason = message.get("reason", "")
    if not isinstance(reason, str) or len(reason) > _REASON_LIMIT:
        raise refuse("BAD_REQUEST", f"a reason is a text of at most {_REASON_LIMIT} characters")
    if not reason.strip():
        raise refuse("NO_REASON", "nothing is forced without a reason")
    return printable(reason.strip())
