"""One ``.py`` that is imported, marked, and edited in this very process; and the same file loaded afresh."""

from __future__ import annotations

import importlib
import itertools
import sys
from pathlib import Path
from textwrap import dedent
from types import ModuleType
from typing import Any

from hotreload.live import manager
from hotreload.live.records import Generation, LoadedModule
from hotreload.python import register, serve
from hotreload.python.compare import Text
from hotreload.python.payload import encode
from hotreload.python.workshop import make_payload

_numbers = itertools.count(1)
WHOLE = "import sys\nfrom hotreload.python import register\nregister(sys.modules[__name__])\n"


def hot(thing: Any) -> Any:
    """Marks and returns it, as the public decorator does."""
    register(thing)
    return thing


class Edited:
    """A module that was imported from a file of the test's, and the manager that it is edited through."""

    def __init__(self, directory: Path, text: str, *, is_whole: bool = True) -> None:
        self.directory = directory
        self.name = f"edited_{next(_numbers)}"
        self.path = directory / f"{self.name}.py"
        self.base = (WHOLE if is_whole else "from tests.python.kit import hot\n") + dedent(text)
        self.head = len(self.base) - len(dedent(text))
        self.path.write_text(self.base)
        self.module = load(self.path, self.name)
        serve(manager())
        self.loaded: LoadedModule = manager().attach(str(self.path))

    def full(self, text: str) -> str:
        return self.base[: self.head] + dedent(text)

    def payload(self, text: str) -> bytes:
        """What the workshop makes of another text."""
        base = Text(self.base.encode(), str(self.path))
        return encode(make_payload(self.name, base, Text(self.full(text).encode(), str(self.path))))

    def save(self, text: str, **terms: Any) -> Generation:
        """Has the process take another text; the file is written too, as tracebacks read it."""
        staged = manager().stage(self.loaded, self.payload(text))
        try:
            generation = manager().commit(staged, **terms)
        except BaseException:
            if any(staged is known for known in manager()._ledgers[self.loaded.path].staged):
                manager().unstage(staged)
            raise
        self.path.write_text(self.full(text))
        return generation

    def back(self, to: int = 0, **terms: Any) -> Generation:
        return manager().rollback(self.loaded, to, **terms)

    def fresh(self, text: str) -> ModuleType:
        """The text as a process would have it that starts now."""
        path = self.directory / f"fresh_{next(_numbers)}.py"
        path.write_text("import sys\n\n\n" + dedent(text))
        return load(path, path.stem)

    def notes(self) -> str:
        """What is said about the generation that is live."""
        history = manager().history(self.loaded)
        live = next(module for module in manager().modules() if module.path == self.loaded.path).generation
        return "\n".join(history[live].notes)


def load(path: Path, name: str) -> ModuleType:
    importlib.invalidate_caches()
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module
