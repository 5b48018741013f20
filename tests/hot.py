"""A hot extension in a process of its own, next to the same source built plainly.

::

    test process                          child process (forked)
    Workshop.make() ──── patch file ────▶ the extension: stage, commit, roll back
    expressions ────────────────────────▶ evaluated on live functions and live state

    fresh: the edited source, compiled by the plain compiler, loaded by another child

A crash of the extension is a failed test, not the end of the run.
"""

from __future__ import annotations

import ctypes
import importlib.util
import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Optional

from hotreload.patch.workshop import PatchResult, Workshop

ROOT = Path(__file__).resolve().parents[1]
EXTENSIONS = Path(__file__).resolve().parent / "extensions"
WRAPPER = [sys.executable, "-m", "hotreload", "cc"]
FORK = multiprocessing.get_context("fork")
PATIENCE = 30.0
#: How the extensions of the tests are redirected, where a test does not say: the suite runs over both.
PROLOGUE = os.environ.get("HOTRELOAD_PROLOGUE", "") or "jump"
#: How they are compiled, likewise: `make matrix` goes through all of it.
FLAGS = tuple(os.environ.get("HOTRELOAD_TEST_FLAGS", "-O2").split())
COMPILER = os.environ.get("HOTRELOAD_TEST_COMPILER", "gcc")
PR_SET_PDEATHSIG = 1


def run(*command: object, cwd: Path, code: int = 0, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command; its output is in the failure when it exits with another code."""
    env = {**os.environ, "PYTHONPATH": str(ROOT), "LC_ALL": "C", **environment}
    words = [str(word) for word in command]
    done = subprocess.run(words, cwd=cwd, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == code, f"{' '.join(words)}\nexit code {done.returncode}\n{done.stdout}{done.stderr}"
    return done


def hot_cc(*command: object, cwd: Path, code: int = 0, **environment: str) -> subprocess.CompletedProcess[str]:
    """``hotreload cc COMMAND``."""
    return run(*WRAPPER, *command, cwd=cwd, code=code, **environment)


class Function:
    """A C function for expressions: ints are long, floats double, texts char *; the result is long by default."""

    def __init__(self, function: Any) -> None:
        self._function = function
        self.address = ctypes.cast(function, ctypes.c_void_p).value

    def __call__(self, *args: Any) -> int:
        return self._call(ctypes.c_long, args)

    def double(self, *args: Any) -> float:
        return self._call(ctypes.c_double, args)

    def text(self, *args: Any) -> str:
        return self._call(ctypes.c_char_p, args).decode()

    def _call(self, kind: Any, args: Sequence[Any]) -> Any:
        kinds = {int: ctypes.c_long, float: ctypes.c_double}
        self._function.restype = kind
        return self._function(*(kinds.get(type(arg), lambda arg: arg)(arg) for arg in args))


class Names(dict[str, Any]):
    """What an expression can name: functions of the library, its variables as ``var("x")``, the module ``ext``."""

    def __init__(self, path: Path, is_python: bool) -> None:
        super().__init__()
        if is_python:
            spec = importlib.util.spec_from_file_location("ext", path)
            assert spec and spec.loader
            self["ext"] = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(self["ext"])
        self.library = ctypes.CDLL(str(path))
        self["var"] = lambda name: ctypes.c_long.in_dll(self.library, name).value

    def __missing__(self, name: str) -> Any:
        if not hasattr(self.library, name):
            raise KeyError(name)
        return Function(getattr(self.library, name))

    def evaluate(self, expression: str) -> Any:
        return eval(expression, self)


class Child:
    """A forked process that has one library loaded and does what it is told."""

    def __init__(self, path: Path, *, is_python: bool = False, is_hot: bool = True) -> None:
        self._connection, theirs = FORK.Pipe()
        self._process = FORK.Process(target=_serve, args=(theirs, path, is_python, is_hot), daemon=True)
        self._process.start()
        theirs.close()

    def ask(self, *request: Any) -> Any:
        """One request; an exception of the child is raised here, its death fails the test."""
        try:
            self._connection.send(request)
            assert self._connection.poll(PATIENCE), f"no answer to {request}"
            succeeded, answer = self._connection.recv()
        except (EOFError, ConnectionError):
            self._process.join(PATIENCE)
            raise AssertionError(f"the process died of {self._process.exitcode} at {request}") from None
        if not succeeded:
            raise answer
        return answer

    def end(self) -> None:
        self._process.kill()
        self._process.join(PATIENCE)
        self._connection.close()


def _serve(connection: Connection, path: Path, is_python: bool, is_hot: bool) -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    names = Names(path, is_python)
    manager = module = None
    if is_hot:
        from hotreload.live import manager as live_manager

        manager = live_manager()
        module = manager.attach(str(path))
        names["manager"], names["module"] = manager, module
    actions = {
        "evaluate": names.evaluate,
        "commit": lambda patch: manager.commit(manager.stage(module, patch)).number,
        "rollback": lambda to: manager.rollback(module, to).number,
    }
    while True:
        action, argument = connection.recv()
        try:
            connection.send((True, actions[action](argument)))
        except Exception as error:
            connection.send((False, error))


class HotExtension:
    """The façade of the tests: ``hot("f(3)")``, ``hot.edit(old, new)``, ``hot.fresh("f(3)")``."""

    def __init__(
        self,
        directory: Path,
        files: dict[str, str],
        *,
        flags: Sequence[str] = FLAGS,
        link: Sequence[str] = (),
        compiler: str = COMPILER,
        is_python: bool = False,
        prologue: str = "",
    ) -> None:
        self.directory = directory
        self.prologue = prologue or PROLOGUE
        self.path = directory / "ext.so"
        self._command = [compiler, "-fPIC", *flags]
        self._link = list(link)
        self._is_python = is_python
        self._sources = [name for name in files if Path(name).suffix in (".c", ".cpp", ".S") and name[0] != "_"]
        self.main = self._sources[0]
        for name, text in files.items():
            (directory / name).parent.mkdir(parents=True, exist_ok=True)
            (directory / name).write_text(text)
        self.built = hot_cc(*self.argv("-o", self.path.name), cwd=directory, HOTRELOAD_PROLOGUE=self.prologue)
        self._child: Optional[Child] = None
        self._workshop: Optional[Workshop] = None
        self._fresh_number = 0

    def argv(self, *output: str) -> list[str]:
        return [*self._command, "-shared", *self._sources, *output, *self._link]

    @property
    def child(self) -> Child:
        """The process that runs the extension; started when it is first needed."""
        if self._child is None:
            self._child = Child(self.path, is_python=self._is_python)
        return self._child

    @property
    def workshop(self) -> Workshop:
        if self._workshop is None:
            from hotreload.elf.file import ElfFile

            self._workshop = Workshop.open(ElfFile.read(self.path).build_id.hex())
            assert self._workshop.record.prologue == self.prologue
        return self._workshop

    def __call__(self, expression: str) -> Any:
        """The value of an expression in the running process."""
        return self.child.ask("evaluate", expression)

    def text(self, file: str = "") -> str:
        return (self.directory / (file or self.main)).read_text()

    def save(self, old: str, new: str, file: str = "") -> None:
        """Change the source and nothing else."""
        text = self.text(file)
        assert text.count(old) == 1, f"{old!r} is there {text.count(old)} times"
        (self.directory / (file or self.main)).write_text(text.replace(old, new))

    def edit(self, old: str, new: str, file: str = "") -> PatchResult:
        """Change the source and bring the change live."""
        self.child  # noqa: B018 - the process has been running since before the edit
        self.save(old, new, file)
        return self.make_live()

    def write(self, text: str, file: str = "") -> PatchResult:
        """Replace the source and bring it live."""
        self.child  # noqa: B018
        (self.directory / (file or self.main)).write_text(text)
        return self.make_live()

    def make(self) -> PatchResult:
        """The patch for what the source says now; nothing is sent."""
        return self.workshop.make()

    def make_live(self) -> PatchResult:
        result = self.make()
        if result.path:
            self.child.ask("commit", str(result.path))
        else:
            self.rollback()
        return result

    def rollback(self, to: int = 0) -> None:
        self.child.ask("rollback", to)

    def fresh(self, *expressions: str) -> list[Any]:
        """What a process answers that was started with the source as it is now."""
        self._fresh_number += 1
        path = self.directory / f"fresh{self._fresh_number}.so"
        run(*self.argv("-o", path.name), cwd=self.directory)
        child = Child(path, is_python=self._is_python, is_hot=False)
        try:
            return [child.ask("evaluate", expression) for expression in expressions]
        finally:
            child.end()

    def agrees(self, *expressions: str) -> list[Any]:
        """Insist that the patched process answers as the freshly built one does; the answers are returned."""
        live, fresh = [self(expression) for expression in expressions], self.fresh(*expressions)
        assert live == fresh
        return live

    def close(self) -> None:
        if self._child is not None:
            self._child.end()
        if self._workshop is not None:
            self._workshop.close()
