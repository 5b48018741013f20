"""The fixture ``hot_extension``, for tests of a project's own C code and of edits to it.

::

    def test_the_count_survives_an_edit(hot_extension):
        counter = hot_extension("src/counter.c")
        counter.module.add(5)
        counter.edit("total += n;", "total += 2 * n;")
        assert counter.module.add(1) == 7

pytest loads this file in every run of every project in the environment: it imports nothing but pytest.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from hotreload.integrations.testing import HotExtension

__all__ = ["HotExtensionFactory", "hot_extension"]


class HotExtensionFactory:
    """What the fixture is: called with a source, it builds, imports and returns a :class:`HotExtension`.

    It can be called more than once in a test; each extension has a directory of its own.
    """

    def __init__(self, directory: Path, stack: ExitStack) -> None:
        self._directory, self._stack = directory, stack
        self._made = 0

    def __call__(self, source: Any, **options: Any) -> HotExtension:
        """Builds ``source`` hot and imports it; the arguments are those of :meth:`HotExtension.build`."""
        from hotreload.integrations.testing import HotExtension

        self._made += 1
        directory = self._directory / f"hot{self._made}"
        directory.mkdir()
        return self._stack.enter_context(HotExtension.build(source, directory, **options))


@pytest.fixture
def hot_extension(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HotExtensionFactory]:
    """Builds a C source, several, or a project hot, and imports it; edits go live in this very process.

    Nothing runs beside it, so an edit is live, or refused, when ``edit()`` returns. With the test the extension is
    closed: ``sys.modules`` and ``sys.path`` are as before. Its code stays mapped until pytest ends.
    """
    monkeypatch.setenv("HOTRELOAD_STORE", str(tmp_path / "hotreload-store"))
    with ExitStack() as stack:
        yield HotExtensionFactory(tmp_path, stack)
