"""The socket of the page, made before the helper process: a port that is taken is told where the person types.

The tokens travel in the helper's environment, which is readable by this user only; a command line is readable by all.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys
from dataclasses import dataclass

from hotreload.errors import HotReloadError
from hotreload.run.descriptors import behind_streams

__all__ = ["LIVE_VARIABLE", "TOKENS_VARIABLE", "Doorway", "open_doorway"]

#: How a server knows where `live_script()` points; the read-only address, since whatever is in a page can read it.
LIVE_VARIABLE = "HOTRELOAD_LIVE"
#: How the helper process gets the tokens.
TOKENS_VARIABLE = "HOTRELOAD_PAGE_TOKENS"

_HOST = "127.0.0.1"
_LAST_PORT = 65535


@dataclass(frozen=True)
class Doorway:
    """A listening socket on the loopback, and the two tokens without which it answers nothing."""

    listening: socket.socket
    port: int
    token: str
    live_token: str

    @property
    def url(self) -> str:
        """The page."""
        return f"{self._origin}/{self.token}/"

    @property
    def live_url(self) -> str:
        """What a page of the user's may listen to."""
        return f"{self._origin}/{self.live_token}/"

    @property
    def tokens(self) -> str:
        """Both, for the helper process."""
        return f"{self.token}:{self.live_token}"

    @property
    def _origin(self) -> str:
        return f"http://{_HOST}:{self.port}"

    def tell(self) -> None:
        """Says on stderr where the page is; a terminal that can makes it a link."""
        shown = f"\x1b]8;;{self.url}\x1b\\{self.url}\x1b]8;;\x1b\\" if sys.stderr and sys.stderr.isatty() else self.url
        with contextlib.suppress(OSError):
            os.write(2, f"hotreload: what is live is shown at {shown}\n".encode())

    def close(self) -> None:
        """Leaves the socket to the helper, or to nobody."""
        self.listening.close()


def open_doorway(port: int) -> Doorway:
    """Listens on that port of the loopback, or on any that is free for 0.

    Raises:
        HotReloadError: the port is taken, or is none. Nothing was started.
    """
    import secrets

    if port > _LAST_PORT:
        raise HotReloadError(f"there is no port {port}", hint=f"--ui-port is 0 (any that is free) to {_LAST_PORT}")
    with behind_streams():
        listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        # The connections of the run before may linger; a socket that still listens there keeps the port all the same.
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((_HOST, port))
        listening.listen(32)
    except OSError as error:
        listening.close()
        raise HotReloadError(
            f"the page cannot have port {port} of {_HOST}: {error.strerror}",
            hint="give another --ui-port, or none to get one that is free",
        ) from None
    return Doorway(listening, listening.getsockname()[1], secrets.token_urlsafe(24), secrets.token_urlsafe(24))
