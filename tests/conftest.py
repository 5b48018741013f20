"""What tests of several rooms share: a store of their own, and extensions that are built hot."""

from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Union

import pytest

import hotreload.live  # noqa: F401 - imported before children are forked, so that each starts at once
from tests.hot import HotExtension

#: Whose files take longest: they are begun first, so that no worker is alone with one of them at the end.
LONGEST = ("real", "matrix", "integrations", "edits", "fuzz", "transition", "push", "examples", "methods", "python")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    def rank(item: pytest.Item) -> int:
        room = item.path.parent.name
        return LONGEST.index(room) if room in LONGEST else len(LONGEST)

    items.sort(key=rank)


HotFactory = Callable[..., HotExtension]


@pytest.fixture(scope="session", autouse=True)
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """One store for the whole run, never the user's."""
    directory = tmp_path_factory.mktemp("store")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOTRELOAD_STORE", str(directory))
        yield directory


def _factory(directory: Path) -> Iterator[HotFactory]:
    made: list[HotExtension] = []
    numbers = itertools.count()

    def make(source: Union[str, dict[str, str]], **options: Any) -> HotExtension:
        compiler = options.get("compiler", "gcc")
        if shutil.which(compiler) is None:
            pytest.skip(f"{compiler} is not installed")
        name = "ext.cpp" if compiler.endswith("++") else "ext.c"
        files = source if isinstance(source, dict) else {name: source}
        place = directory / str(next(numbers))
        os.mkdir(place)
        made.append(HotExtension(place, files, **options))
        return made[-1]

    yield make
    for extension in made:
        extension.close()


@pytest.fixture
def hot_extension(tmp_path: Path) -> Iterator[HotFactory]:
    """Builds extensions through ``hotreload cc``; each runs in a process of its own."""
    yield from _factory(tmp_path)


@pytest.fixture(scope="module")
def shared_hot_extension(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HotFactory]:
    """The same for a whole module of tests."""
    yield from _factory(tmp_path_factory.mktemp("hot"))
