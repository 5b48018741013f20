"""The pages of refusals and statuses: docs/refusals.md and docs/statuses.md, as they are in the checkout or the wheel.

A wheel has copies beside the package's own files, which ``setup.py`` puts there; a checkout has none and reads docs/.
"""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from hotreload.errors import HotReloadError

__all__ = ["Page", "load_pages"]

_FILES = {"refusals.md": "refusal", "statuses.md": "status"}
_PACKAGE = Path(__file__).resolve().parent.parent
_PLACES = (_PACKAGE / "texts", _PACKAGE.parent / "docs")
_HEADING = re.compile(r"^## (\S+)$", re.MULTILINE)


class Page(NamedTuple):
    """One page: its ``name`` is a slug or a status, ``text`` is Markdown without the heading."""

    name: str
    kind: str
    text: str

    @property
    def summary(self) -> str:
        """Its first sentence, in one line."""
        first = " ".join(self.text.split("\n\n")[0].replace("**What** ", "").split())
        return re.split(r"(?<=[a-z`)\]])\. ", first)[0].rstrip(".") + "."


@lru_cache(maxsize=1)
def load_pages() -> dict[str, Page]:
    """All pages by name. Raises HotReloadError: this installation has none."""
    pages = {}
    for file, kind in _FILES.items():
        parts = _HEADING.split(_read(file))
        for name, text in zip(parts[1::2], parts[2::2]):
            pages[name] = Page(name, kind, text.strip())
    return pages


def _read(file: str) -> str:
    for place in _PLACES:
        if (place / file).is_file():
            return (place / file).read_text(encoding="utf-8")
    raise HotReloadError(f"this installation has no {file}", hint="install hotreload again")
