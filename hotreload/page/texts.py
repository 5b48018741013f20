"""What source files said at each reload, each text once, and no more of it than a helper process should hold."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping

__all__ = ["Texts"]

_LIMIT = 32 << 20

#: Path → name of what it said.
Version = Mapping[str, str]


class Texts:
    """Texts by their content. ``in_use`` names, newest first, the versions that are wanted when it gets too much."""

    def __init__(self, in_use: Callable[[], Iterable[Version]], *, limit: int = _LIMIT) -> None:
        self._in_use = in_use
        self._limit = limit
        self._texts: dict[str, str] = {}
        self._bytes = 0

    def keep(self, files: Mapping[str, str]) -> Version:
        """Keeps what the files say, and says under which names."""
        version = {}
        for path, text in files.items():
            name = hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()
            if name not in self._texts:
                self._texts[name] = text
                self._bytes += len(text)
            version[path] = name
        if self._bytes > self._limit:
            self._forget(set(version.values()))
        return version

    def read(self, version: Version) -> dict[str, str | None]:
        """What the files said; ``None`` for a text that is not kept any more."""
        return {path: self._texts.get(name) for path, name in version.items()}

    def _forget(self, kept: set[str]) -> None:
        """Keeps the newest versions that fit into half of the room."""
        room = self._limit // 2 - sum(len(self._texts[name]) for name in kept)
        for version in self._in_use():
            new = {name for name in version.values() if name in self._texts and name not in kept}
            room -= sum(len(self._texts[name]) for name in new)
            if room < 0:
                break
            kept |= new
        self._texts = {name: text for name, text in self._texts.items() if name in kept}
        self._bytes = sum(map(len, self._texts.values()))
