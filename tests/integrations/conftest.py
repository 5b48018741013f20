from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.run.harness import HEADER, SOURCE, Extension, Program, Start, build


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Extension:
    return build(tmp_path_factory.mktemp("shared"))


@pytest.fixture
def extension(built: Extension) -> Iterator[Extension]:
    """The extension that all tests share, with the text that it was built from."""
    yield built
    built.source.write_text(SOURCE.replace("NAME", built.name))
    built.header.write_text(HEADER)


@pytest.fixture
def start(tmp_path: Path, built: Extension) -> Iterator[Start]:
    """Starts ``python -m hotreload run ARGUMENTS`` with the shared store."""
    with ExitStack() as stack:

        def run(*arguments: str, **environment: str) -> Program:
            store = str(built.directory.parent / "store")
            return stack.enter_context(
                Program(
                    ["-m", "hotreload", "run", *arguments],
                    directory=tmp_path,
                    **{"HOTRELOAD_STORE": store, **environment},
                )
            )

        yield run
