"""Where the files of generations are kept, for tools that open what is mapped: perf, eu-stack, a core dump elsewhere.

::

    DIRECTORY, 0700          shop.kernels.g3.4711.so         module, generation, process that staged it; 0500
                             .build-id/ab/cdef...   ─┐       how gdb and others look a file up by what a core dump
                             .build-id/ab/cdef....debug ─▶ ../../shop.kernels.g3.4711.so                     says of it

A file outlives its generation and its process, since a core dump is read afterwards: the oldest go when there are too
many, those of dead processes first. What has no file any more runs on: the kernel keeps what is mapped.

Without a directory, or in one that cannot be used, generations are in memory only and the reason is told.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from typing import NamedTuple

from hotreload.errors import StageError
from hotreload.live.core import Base, Core, Image, Patch

__all__ = ["OFF", "Files"]

#: For ``files`` where none are wanted.
OFF = "off"
KEPT_FILES = 200
KEPT_BYTES = 512 << 20

_NEW = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_LINKS = ".build-id"
#: A name that we gave; whatever else is in the directory is somebody else's.
_NAME = re.compile(r".+\.g\d+\.(\d+)\.so")


class _Kept(NamedTuple):
    """A file: those that go first are the least."""

    is_alive: bool
    made: float
    name: str
    size: int


class Files:
    """Gives each generation a file, where there may be some."""

    def __init__(self, core: Core, *, max_files: int = KEPT_FILES, max_bytes: int = KEPT_BYTES) -> None:
        self._core = core
        self._max_files, self._max_bytes = max_files, max_bytes
        self.directory = ""
        self.reason = "no directory is configured"

    def use(self, directory: str) -> None:
        """From now on files are made there; empty or "off": none are."""
        self.directory, self.reason = "", "no directory is configured"
        if directory not in ("", OFF):
            try:
                self.directory, self.reason = os.path.abspath(os.path.expanduser(directory)), ""
            except OSError as error:  # relative to a working directory that is gone
                self.reason = f"{directory}: {error.strerror}"

    def describe(self) -> dict[str, str]:
        """Plain data for ``status``: ``reason`` says why generations are in memory only."""
        return {"directory": self.directory, "reason": self.reason}

    def stage(self, patch: Patch, base: Base, carried: list[int], label: str) -> Image:
        """Maps a patch as the core does, from a file where that is possible.

        Raises:
            StageError: the patch cannot be mapped; there is no file.
        """
        path, fd = self._open(label)
        if fd < 0:
            return self._core.stage(patch, base, carried, label)
        try:
            image = self._core.stage(patch, base, carried, label, fd)
        except StageError as error:
            _remove(path)
            if error.status != "MAP":
                raise
            image = self._core.stage(patch, base, carried, label)
            self.reason = f"{self.directory}: {error.message}"
            return image
        finally:
            os.close(fd)
        if not image.build_id:  # nothing is in it that a tool could read
            _remove(path)
            return image
        with suppress(OSError):
            self._link(path, image.build_id)
            self._prune(path)
        self.reason = ""
        return replace(image, file=path)

    def forget(self, image: Image) -> None:
        """No thread was ever in that generation: no core dump can speak of it.

        A forked child leaves the file to its parent, which may commit what both have staged.
        """
        if image.file.endswith(f".{os.getpid()}.so"):
            _remove(image.file)
            with suppress(OSError):
                self._remove_links()

    def _open(self, label: str) -> tuple[str, int]:
        if not self.directory:
            return "", -1
        module, _, number = label.partition(":")[2].rpartition(".")
        plain = re.sub(r"[^A-Za-z0-9._-]", "_", module)
        path = os.path.join(self.directory, f"{plain}.g{number}.{os.getpid()}.so")
        try:
            self._check_directory()
            with suppress(FileNotFoundError):
                os.unlink(path)  # of a process that had our number
            return path, os.open(path, _NEW, 0o700)
        except (OSError, ValueError) as error:  # a name with a zero byte in it is a ValueError
            self.reason = f"{self.directory}: {getattr(error, 'strerror', None) or error}"
            return "", -1

    def _check_directory(self) -> None:
        """Insists that nobody else can put a file there, or take ours for another."""
        os.makedirs(self.directory, mode=0o700, exist_ok=True)
        found = os.stat(self.directory)
        if found.st_uid != os.geteuid():
            raise OSError(0, "it belongs to another user")
        if stat.S_IMODE(found.st_mode) & 0o022:
            raise OSError(0, "others can write there")
        if os.statvfs(self.directory).f_flag & os.ST_NOEXEC:
            raise OSError(0, "the file system is mounted noexec")

    def _link(self, path: str, build_id: str) -> None:
        root = os.path.join(self.directory, _LINKS)
        directory = os.path.join(root, build_id[:2])
        for each in (root, directory):
            with suppress(FileExistsError):
                os.mkdir(each, 0o700)  # whoever could write there could have a debugger read a file of theirs
        target = os.path.join(os.pardir, os.pardir, os.path.basename(path))
        for suffix in ("", ".debug"):
            link = os.path.join(directory, build_id[2:] + suffix)
            temporary = f"{link}.{os.getpid()}"
            with suppress(FileNotFoundError):
                os.unlink(temporary)
            os.symlink(target, temporary)
            os.replace(temporary, link)

    def _prune(self, newest: str) -> None:
        """Removes what is too much, and a tenth more: looking through the links takes milliseconds."""
        kept = sorted(self._kept())
        count, size = len(kept), sum(file.size for file in kept)
        if count <= self._max_files and size <= self._max_bytes:
            return
        for file in kept:
            if count <= self._max_files - self._max_files // 10 and size <= self._max_bytes - self._max_bytes // 10:
                break
            if file.name != os.path.basename(newest):
                _remove(os.path.join(self.directory, file.name))
                count, size = count - 1, size - file.size
        self._remove_links()

    def _kept(self) -> Iterator[_Kept]:
        with os.scandir(self.directory) as entries:
            for entry in entries:
                name = _NAME.fullmatch(entry.name)
                if name is None:
                    continue
                with suppress(FileNotFoundError):  # another process prunes as well
                    found = entry.stat(follow_symlinks=False)
                    if stat.S_ISREG(found.st_mode):
                        is_alive = os.path.exists(f"/proc/{name[1]}")
                        yield _Kept(is_alive, found.st_mtime, entry.name, found.st_blocks * 512)

    def _remove_links(self) -> None:
        """Those that lead nowhere; a file is there before what leads to it."""
        root = os.path.join(self.directory, _LINKS)
        for name in os.listdir(root):
            directory = os.path.join(root, name)
            for link in os.listdir(directory):
                path = os.path.join(directory, link)
                if os.path.islink(path) and not os.path.exists(path):
                    _remove(path)


def _remove(path: str) -> None:
    with suppress(OSError):
        os.unlink(path)
