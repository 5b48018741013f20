from __future__ import annotations

import sysconfig
from collections.abc import Callable

import pytest

import hotreload
from tests.hot import HotExtension

FLAGS = ("-Wall", "-Wextra", "-Werror", f"-isystem{sysconfig.get_paths()['include']}", f"-I{hotreload.get_include()}")


@pytest.fixture
def migrating(hot_extension) -> Callable[..., HotExtension]:
    """An extension whose source knows hotreload.h; every warning of its compiler is an error."""

    def make(source: str, *, level: str = "-O2", **options: object) -> HotExtension:
        return hot_extension(source, flags=(level, *FLAGS), **options)

    return make
