"""``hotreload.live_script()``: the one file of this room that a server imports."""

from __future__ import annotations

import os

__all__ = ["LIVE_VARIABLE", "live_script"]

#: Where ``hotreload run --ui`` leaves the read-only address of its events.
LIVE_VARIABLE = "HOTRELOAD_LIVE"
_ESCAPES = str.maketrans({"&": "&amp;", '"': "&quot;", "'": "&#39;", "<": "&lt;", ">": "&gt;"})


class _Markup(str):
    """A text that is HTML already: Jinja and Django do not escape it again."""

    __slots__ = ()

    def __html__(self) -> str:
        return self


def live_script(*, nonce: str = "") -> str:
    """A ``<script>`` tag that reloads the browser's page when an edit has gone live; an empty text without a page.

    It may stay in templates: unless the program was started with ``hotreload run --ui`` or ``enable(ui=True)``, and
    in production always, there is nothing. The script listens, and reloads after an edit went live, or was taken
    back; not after one that was refused. A page that does not want that listens for the event ``hotreload`` on
    ``window`` and calls ``preventDefault()`` on it.

    Args:
        nonce: the nonce of the page's Content-Security-Policy, if it has one. The policy must also let the page
            connect to the address: ``connect-src``.
    """
    address = os.environ.get(LIVE_VARIABLE, "")
    if not address or os.environ.get("HOTRELOAD_DISABLE", "") not in ("", "0"):
        return _Markup()
    attribute = f' nonce="{nonce.translate(_ESCAPES)}"' if nonce else ""
    return _Markup(f'<script src="{address.translate(_ESCAPES)}live.js" defer{attribute}></script>')
