from __future__ import annotations

import sysconfig
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.hot import HotExtension

INCLUDE = f"-I{sysconfig.get_paths()['include']}"
KINDS = (Path(__file__).resolve().parent / "kinds.c").read_text()


BEFORE = "".join(line for line in KINDS.splitlines(keepends=True) if not line.startswith("//+"))


@pytest.fixture
def kinds(hot_extension) -> Callable[..., HotExtension]:
    """The extension in a process of its own, before the edit."""

    def make(text: object = "", **options: object) -> HotExtension:
        return hot_extension(text or BEFORE, flags=("-O2", INCLUDE), is_python=True, **options)

    return make
