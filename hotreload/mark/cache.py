"""Extensions that were made of C files, by content; many processes that need one at once make it once.

::

    STORE/stubs/KEY/          file, its text, flags, libraries, Python, cffi, hotreload
    ├── lock                  held by whoever makes it, and by the process that does it for him
    └── DIGEST/               for each state of the project's headers that it read
        ├── entry.json        prototypes; hashes of all headers and of the library; which compiler
        └── kernels_c.so

What is there and fresh is loaded as it is: that needs no compiler, and a server imports nothing that compiles.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shlex
import shutil
import stat
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from hotreload import __version__
from hotreload.errors import BuildError, HotReloadError
from hotreload.mark.beside import ask

__all__ = ["Entry", "Wanted", "obtain"]

FORMAT = 2
#: A build that takes longer is announced on a terminal.
PATIENCE = 0.5
#: What the compiler reads besides its command.
ENVIRONMENT = ("CPATH", "C_INCLUDE_PATH", "SOURCE_DATE_EPOCH", "GCC_EXEC_PREFIX", "COMPILER_PATH")


@dataclass(frozen=True)
class Wanted:
    """What is to be loaded: a C file, and how it is compiled."""

    source: str
    flags: tuple[str, ...] = ()
    include_dirs: tuple[str, ...] = ()
    libraries: tuple[str, ...] = ()

    @property
    def module(self) -> str:
        """The name of the extension: ``kernels_c`` of ``kernels.c``."""
        word = "".join(c if c.isascii() and c.isalnum() else "_" for c in os.path.basename(self.source))
        return word if not word[:1].isdigit() else f"_{word}"


@dataclass(frozen=True)
class Entry:
    """One finished extension, and what is known about the functions in it."""

    home: str
    module: str
    library: str
    build_id: str
    source: str
    files: dict[str, str]
    functions: dict[str, dict[str, Any]]
    left_out: dict[str, str]
    statics: list[str]

    @property
    def path(self) -> str:
        return os.path.join(self.home, self.library)


def obtain(wanted: Wanted) -> Entry:
    """The extension of a C file: as it is in the cache, or made now.

    Raises:
        BuildError: the compiler says no, or there is none and nothing fresh in the cache; nothing was loaded.
    """
    compiler = _find_compiler()
    directory, key = _place(wanted)
    found = _find(directory, compiler)
    if found is not None:
        return found
    if compiler is None:
        raise BuildError(
            f"{wanted.source}, as it is now, was not built for this Python, and there is no C compiler here",
            hint="import the module once where there is one, same paths, and take HOTRELOAD_STORE along",
        )
    with _open_lock(directory, wanted.source) as lock, _Progress(wanted.source):
        fcntl.flock(lock, fcntl.LOCK_EX)
        return _find(directory, compiler) or _make(wanted, directory, compiler, lock.fileno(), key)


def _open_lock(directory: str, source: str) -> TextIO:
    try:
        os.makedirs(directory, mode=0o755, exist_ok=True)  # what root has built in an image others load
        return open(os.path.join(directory, "lock"), "w", encoding="ascii")
    except OSError as error:
        raise BuildError(
            f"{source}: what is built of it cannot be kept in {directory}: {error.strerror}",
            hint="HOTRELOAD_STORE names another directory",
        ) from None


def _check_owner(directory: str) -> None:
    """Code that somebody else could have put there is not loaded.

    Raises:
        BuildError: the directory is another user's, or others may write to it.
    """
    found = os.stat(directory)
    if found.st_uid not in (0, os.geteuid()) or stat.S_IMODE(found.st_mode) & 0o002:
        raise BuildError(
            f"{directory} belongs to user {found.st_uid} or can be changed by others: nothing is loaded from there",
            hint="HOTRELOAD_STORE names another directory",
        )


def root() -> str:
    """The store of ``hotreload.build.store``, where patches are made from, has the room for it."""
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return os.path.abspath(os.environ.get("HOTRELOAD_STORE") or os.path.join(cache, "hotreload"))


def _place(wanted: Wanted) -> tuple[str, dict[str, Any]]:
    """Where it is kept, and what that depends on."""
    import _cffi_backend

    from hotreload.config import load_prologue

    try:
        with open(wanted.source, "rb") as file:
            text = hashlib.sha256(file.read()).hexdigest()
    except OSError as error:
        raise BuildError(f"{wanted.source} cannot be read: {error.strerror}", hint="check `source=`") from None
    key = {
        "format": FORMAT,
        "hotreload": __version__,
        "cffi": _cffi_backend.__version__,
        "python": [sys.implementation.cache_tag, getattr(sys, "abiflags", ""), sys.platform],
        "source": wanted.source,
        "text": text,
        "flags": wanted.flags,
        "include_dirs": wanted.include_dirs,
        "libraries": wanted.libraries,
        "environment": {name: os.environ[name] for name in ENVIRONMENT if name in os.environ},
        "prologue": load_prologue(Path(wanted.source).parent),
    }
    name = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:32]
    return os.path.join(root(), "stubs", name), key


def _find_compiler() -> dict[str, Any] | None:
    """The compiler, and what tells it from its next version without running it; None where there is none.

    Behind a launcher, as in ``ccache gcc``, the words that are programs count, each of them.
    """
    words = shlex.split(os.environ.get("CC", ""))
    if len(words) > 2 and os.path.basename(words[0]) == "hotreload" and words[1] == "cc":
        words = words[2:]
    for argv in [words] if words else [["gcc"], ["cc"], ["clang"]]:
        path = shutil.which(argv[0])
        if path is not None:
            programs = [os.path.realpath(found) for found in map(shutil.which, argv) if found]
            return {"argv": argv, "programs": [[program, *_look(program)] for program in programs]}
    return None


def _look(path: str) -> list[int]:
    found = os.stat(path)
    return [found.st_size, found.st_mtime_ns]


def _is_same_system(outside: dict[str, list[Any]]) -> bool:
    """Whether the headers of the system say what they said: by size and time, and by the text where those differ."""
    return all(_look(path) == look or _sha256(path) == text for path, (*look, text) in outside.items())


def _find(directory: str, compiler: dict[str, Any] | None) -> Entry | None:
    """A fresh entry: its headers are as they were, its library is whole.

    Where there is a compiler it is of that one, and of the headers that the system has now.
    """
    with suppress(OSError):
        _check_owner(directory)
        for home in sorted(os.listdir(directory)):
            known = os.path.join(directory, home, "entry.json")
            try:
                with open(known, encoding="utf-8") as file:
                    document = json.load(file)
                document["home"] = os.path.join(directory, home)
                made_by, sha256, outside = (document.pop(name) for name in ("compiler", "sha256", "outside"))
                entry = Entry(**document)
                is_whole = _sha256(entry.path) == sha256 and all(
                    _sha256(path) == text for path, text in entry.files.items()
                )
                is_ours = compiler is None or (made_by == compiler and _is_same_system(outside))
            except (OSError, ValueError, TypeError, KeyError, AttributeError):
                continue  # not there, or not as it was written: it is made again
            base = os.path.join(root(), "builds", entry.build_id)
            if is_whole and is_ours and (compiler is None or os.path.exists(base)):
                with suppress(OSError):
                    os.utime(known)
                    os.utime(base)  # in use: not to be pruned
                return entry
    return None


def _make(wanted: Wanted, directory: str, compiler: dict[str, Any], lock: int, key: dict[str, Any]) -> Entry:
    """Has another process make it: this one loads nothing that compiles."""
    order = {
        "source": wanted.source,
        "directory": directory,
        "module": wanted.module,
        "flags": wanted.flags,
        "include_dirs": wanted.include_dirs,
        "libraries": wanted.libraries,
        "compiler": compiler["argv"],
        "identity": compiler,
        "prologue": key["prologue"],
    }
    done = ask(order, (lock,))
    try:
        answer = json.loads(done.stdout)
    except ValueError:
        raise BuildError(
            f"{wanted.source}: the build ended with {done.returncode}",
            hint="this is a fault of hotreload, please report it",
            diagnostics=done.stderr,
        ) from None
    if "refused" in answer:
        error = answer["refused"]
        fields = {name: value for name, value in error.items() if name not in ("error", "message", "hint")}
        raise BuildError(error["message"], hint=error["hint"], **fields)
    if done.stderr:
        sys.stderr.write(done.stderr)
    made = _find(directory, compiler)
    if made is None:
        raise BuildError(
            f"{wanted.source}: a file that it is made of was saved while it was built", hint="import the module again"
        )
    return made


def _sha256(path: str) -> str:
    with open(path, "rb") as file:
        return hashlib.sha256(file.read()).hexdigest()


class _Progress:
    """One line on a terminal about what takes its time; nothing elsewhere."""

    def __init__(self, source: str) -> None:
        self._name = os.path.basename(source)
        self._timer = threading.Timer(PATIENCE, self._say)
        self._timer.daemon = True
        self._is_said = False

    def __enter__(self) -> None:
        self._started = time.monotonic()
        if sys.stderr is not None and sys.stderr.isatty():
            self._timer.start()

    def _say(self) -> None:
        self._is_said = True
        print(f"hotreload: building {self._name} ...", end="", file=sys.stderr, flush=True)

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        self._timer.cancel()
        if self._is_said:
            how = "failed" if isinstance(error, HotReloadError) else "done"
            print(f" {how} in {time.monotonic() - self._started:.1f} s", file=sys.stderr)
