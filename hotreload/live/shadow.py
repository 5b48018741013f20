"""Shadow data of this process, counted: fields that C code has attached to live objects.

The storage is in ``csrc/python/shadow.c``, behind ``hotreload._state``, which C code reaches through ``hotreload.h``.
It belongs to the process: commits, rollbacks and unmapped generations leave it as it is.
"""

from __future__ import annotations

import sys

__all__ = ["describe"]


def describe() -> dict[str, int]:
    """Plain data for ``status``: objects that have shadow data or had some, fields, their bytes, hooked types."""
    state = sys.modules.get("hotreload._state")  # nobody has attached anything before it is loaded
    counts = state.shadow_stats() if state is not None else (0, 0, 0, 0)
    return dict(zip(("objects", "fields", "bytes", "hooked_types"), counts))
