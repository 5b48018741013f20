"""Which function each code object is, as long as anybody has it.

::

    id(code) ─▶ key, meaning, siblings        who runs, holds or could be given it keeps it alive, not the index
    key      ─▶ its code objects              so a swap looks at those of one function, however many saves there were
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Mapping
from types import CodeType
from typing import NamedTuple

from hotreload.python.codes import fingerprint

__all__ = ["CodeIndex", "counts_of", "place_of"]


class _Known(NamedTuple):
    """``siblings``: how many functions of its name are where it is."""

    code: weakref.ref[CodeType]
    key: str
    meaning: str
    siblings: int


class CodeIndex:
    """Every code object of one file that was met or made, and is still there."""

    def __init__(self) -> None:
        self._known: dict[int, _Known] = {}
        self._by_key: dict[str, dict[int, weakref.ref[CodeType]]] = {}

    def __len__(self) -> int:
        return len(self._known)

    def add(self, code: CodeType, key: str, counts: Mapping[tuple[str, str], int]) -> None:
        """Remembers which function it is; ``counts`` are of the text that it is from."""
        ident = id(code)
        if self._find(code) is not None:
            self._forget(ident)
        known, by_key = self._known, self._by_key

        def forget(gone: weakref.ref[CodeType]) -> None:
            found = known.get(ident)
            if found is None or found.code is not gone:  # another has taken its place
                return
            del known[ident]
            others = by_key.get(found.key, {})
            others.pop(ident, None)
            if not others:
                by_key.pop(found.key, None)

        ref = weakref.ref(code, forget)
        known[ident] = _Known(ref, key, fingerprint(code, with_lines=False), counts[place_of(key)])
        by_key.setdefault(key, {})[ident] = ref

    def codes_of(self, key: str) -> list[CodeType]:
        """Every code object of a function."""
        found = [ref() for ref in list(self._by_key.get(key, {}).values())]
        return [code for code in found if code is not None]

    def key_of(self, code: CodeType) -> str:
        """Which function it is; empty where that is not known."""
        known = self._find(code)
        return known.key if known is not None else ""

    def meaning_of(self, code: CodeType) -> str:
        """Its fingerprint without lines."""
        known = self._find(code)
        return known.meaning if known is not None else fingerprint(code, with_lines=False)

    def siblings_of(self, code: CodeType) -> int:
        """How many functions of its name are where it is; 0 where that is not known."""
        known = self._find(code)
        return known.siblings if known is not None else 0

    def _find(self, code: CodeType) -> _Known | None:
        known = self._known.get(id(code))
        return known if known is not None and known.code() is code else None

    def _forget(self, ident: int) -> None:
        key = self._known.pop(ident).key
        self._by_key[key].pop(ident, None)


def place_of(key: str) -> tuple[str, str]:
    """What functions of one name in one place have in common."""
    outer, _, name = key.rpartition(".")
    return outer, name.partition("#")[0]


def counts_of(keys: Iterable[str]) -> dict[tuple[str, str], int]:
    """How many there are in each place."""
    counts: dict[tuple[str, str], int] = {}
    for key in keys:
        counts[place_of(key)] = counts.get(place_of(key), 0) + 1
    return counts
