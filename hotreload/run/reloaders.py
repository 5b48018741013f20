"""Other reloaders in this process: where one restarts the program for a saved ``.py``, that file is theirs."""

from __future__ import annotations

__all__ = ["name_of_reloader"]


def name_of_reloader() -> str:
    """What restarts this process when a ``.py`` is saved ("Django's runserver"), or an empty text."""
    return ""
