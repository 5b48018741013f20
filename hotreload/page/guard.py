"""Who may ask: what a URL must hold, and which names mean this machine."""

from __future__ import annotations

import ipaddress
import secrets
from typing import NamedTuple
from urllib.parse import urlsplit

__all__ = ["Tokens", "is_loopback", "is_loopback_origin"]


class Tokens(NamedTuple):
    """What a URL must hold: ``page`` may see and do all, ``live`` may hear that something went live."""

    page: str
    live: str

    @classmethod
    def parse(cls, text: str) -> Tokens:
        """Both, as the launcher hands them over. Raises ValueError."""
        page, live = text.split(":")
        if not page or not live:
            raise ValueError("an empty token")
        return cls(page, live)

    def role_of(self, given: str) -> str:
        """``page``, ``live`` or nothing. Both are compared, and each takes as long whatever was given."""
        text = given.encode("utf-8", "replace")
        is_page = secrets.compare_digest(text, self.page.encode())
        is_live = secrets.compare_digest(text, self.live.encode())
        return "page" if is_page else "live" if is_live else ""


def is_loopback(name: str) -> bool:
    """Whether a host's name can only mean this machine."""
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name.strip("[]")).is_loopback
    except ValueError:
        return False


def is_loopback_origin(origin: str) -> bool:
    """Whether a page of this machine sent the request."""
    try:
        url = urlsplit(origin)
        return url.scheme in ("http", "https") and is_loopback(url.hostname or "")
    except ValueError:
        return False
