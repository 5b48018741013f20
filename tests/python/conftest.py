from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.python.kit import Edited

Make = Callable[..., Edited]


@pytest.fixture
def edited(tmp_path: Path) -> Iterator[Make]:
    """Imports a text as a module whose functions are marked; it is forgotten with the test."""
    made: list[Edited] = []

    def make(text: str, *, is_whole: bool = True) -> Edited:
        made.append(Edited(tmp_path, text, is_whole=is_whole))
        return made[-1]

    yield make
    for each in made:
        sys.modules.pop(each.name, None)
