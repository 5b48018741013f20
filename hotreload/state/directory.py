"""The state directory, opened by hand: every component below it without following links, every time.

::

    STATE ──open(O_DIRECTORY|O_NOFOLLOW)──▶ fstat: a directory? ours? 0700? ──▶ fd ──openat──▶ sub ── the same ──▶ fd
                                                                                └─▶ files: O_NOFOLLOW, regular, ours

Between two uses a directory may have been replaced, so nothing is kept open and nothing is believed from last time.
A file appears whole or not at all: it is written under another name, synced, and renamed or linked.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import stat
import time
from collections.abc import Iterator
from typing import Any

from hotreload.errors import HotReloadError

__all__ = ["StateDirectory", "StateError", "is_hex", "is_plain_name"]

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_PLAIN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}")
_HEX = re.compile(r"[0-9a-f]{2,64}")
_TEMPORARY = ".tmp."
_ABANDONED_SECONDS = 3600.0


class StateError(HotReloadError):
    """The state directory, or something in it, is not as it must be; nothing was written.

    ``path`` is what refused, ``errno`` the system's reason where there is one.
    """


def is_plain_name(name: str) -> bool:
    """Whether ``name`` can name a file here: no separator, no leading dot or dash, nothing that a shell misreads."""
    return _PLAIN.fullmatch(name) is not None


def is_hex(name: str) -> bool:
    """Whether ``name`` is a build-id or a hash in lower-case hexadecimal."""
    return _HEX.fullmatch(name) is not None


class StateDirectory:
    """One application's state directory.

    Args:
        path: where it is; :func:`hotreload.state.place.state_path` says where it should be.
        owner: the user it must belong to; this process's own by default. Only root may name another: what it writes
            there is given to that user.
        create: whether it is made, with its parents, when it is not there.

    Raises:
        StateError: it cannot be made or used.
    """

    def __init__(self, path: str | os.PathLike[str], *, owner: int | None = None, create: bool = True) -> None:
        self.path = os.path.abspath(path)
        self.owner = os.geteuid() if owner is None else owner
        if create:
            self._create()
        self.check()

    @classmethod
    def as_operator(cls, path: str | os.PathLike[str]) -> StateDirectory:
        """The directory of a service that is running, for whoever may operate it: its user, or root.

        Raises:
            StateError: it is not there, or belongs to somebody else.
        """
        try:
            owner = os.stat(path, follow_symlinks=False).st_uid
        except OSError as error:
            raise _cannot("open", os.fspath(path), error) from None
        return cls(path, owner=owner if os.geteuid() == 0 else None, create=False)

    def check(self) -> None:
        """Insists that the directory is still what it must be."""
        with self.open():
            pass

    def path_of(self, *names: str) -> str:
        """The path of something inside, for a message."""
        return os.path.join(self.path, *names)

    @contextlib.contextmanager
    def open(self, *names: str, create: bool = False) -> Iterator[int]:
        """A descriptor of the directory, or of one below it, for the length of a ``with``.

        Args:
            names: the way down, one component each.
            create: whether what is missing below is made.

        Raises:
            StateError: a component is a link, no directory, somebody else's, or open to others.
            FileNotFoundError: a component below is not there, and ``create`` is false.
        """
        self._check_parents()
        try:
            fd = os.open(self.path, _DIRECTORY)
        except OSError as error:
            raise _cannot("open", self.path, error) from None
        try:
            self._check_directory(fd, self.path)
            for depth, name in enumerate(names, 1):
                inner = self._step(fd, name, self.path_of(*names[:depth]), create=create)
                os.close(fd)
                fd = inner
            yield fd
        finally:
            os.close(fd)

    def read(self, *names: str, limit: int) -> bytes | None:
        """The content of a file, or None when it is not there.

        Raises:
            StateError: it is a link, no regular file, somebody else's, or longer than ``limit``.
        """
        path = self._file(names)
        try:
            with self.open(*names[:-1]) as directory, self._opened(directory, names[-1], path) as fd:
                if os.fstat(fd).st_size > limit:
                    raise StateError(f"{path} is longer than {limit:,} bytes", hint="remove it", path=path)
                with open(fd, "rb", closefd=False) as file:
                    return file.read(limit)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise _cannot("read", path, error) from None

    def write(self, *names: str, content: bytes) -> None:
        """Make or replace a file; readers see the old content or the new, and a power cut leaves one of them."""
        path = self.path_of(*names)
        with self._temporary(names, content) as (directory, temporary):
            try:
                os.replace(temporary, names[-1], src_dir_fd=directory, dst_dir_fd=directory)
                os.fsync(directory)
            except OSError as error:
                raise _cannot("write", path, error) from None

    def create(self, *names: str, content: bytes) -> bool:
        """Make a file that is not there yet; False when it is there, whatever it holds. One of many makes it."""
        path = self.path_of(*names)
        with self._temporary(names, content) as (directory, temporary):
            try:
                os.link(temporary, names[-1], src_dir_fd=directory, dst_dir_fd=directory, follow_symlinks=False)
                os.fsync(directory)
            except FileExistsError:
                return False
            except OSError as error:
                raise _cannot("write", path, error) from None
        return True

    def remove(self, *names: str) -> bool:
        """Remove a file; False when it was not there."""
        path = self._file(names)
        try:
            with self.open(*names[:-1]) as directory:
                os.unlink(names[-1], dir_fd=directory)
        except FileNotFoundError:
            return False
        except OSError as error:
            raise _cannot("remove", path, error) from None
        return True

    def names(self, *names: str) -> list[str]:
        """What is in a directory below, sorted; nothing when it is not there."""
        try:
            with self.open(*names) as directory:
                return sorted(name for name in os.listdir(directory) if not name.startswith(_TEMPORARY))
        except FileNotFoundError:
            return []

    def sweep(self, *names: str) -> int:
        """Remove from a directory below what writers that were killed left half written; returns how many files."""
        removed = 0
        try:
            with self.open(*names) as directory:
                for name in os.listdir(directory):
                    if name.startswith(_TEMPORARY) and self._age(directory, name) > _ABANDONED_SECONDS:
                        with contextlib.suppress(FileNotFoundError):
                            os.unlink(name, dir_fd=directory)
                            removed += 1
        except FileNotFoundError:
            return removed
        except OSError as error:
            raise _cannot("clean", self.path_of(*names), error) from None
        return removed

    def age_of(self, *names: str) -> float | None:
        """Seconds since a file was written, or None when it is not there."""
        self._file(names)
        try:
            with self.open(*names[:-1]) as directory:
                return self._age(directory, names[-1])
        except FileNotFoundError:
            return None

    @contextlib.contextmanager
    def append(self, name: str, *, create: bool = True) -> Iterator[int]:
        """A descriptor that appends to a file of the directory itself.

        Raises:
            StateError: it is a link, no regular file, somebody else's, or cannot be written; nothing was.
            FileNotFoundError: it is not there, and ``create`` is false.
        """
        flags = os.O_RDWR | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        path = self.path_of(name)
        with self.open() as directory:
            try:
                fd = os.open(name, flags | (os.O_CREAT if create else 0), 0o600, dir_fd=directory)
            except FileNotFoundError:
                raise
            except OSError as error:
                raise _cannot("open", path, error) from None
        try:
            self._check_file(fd, path)
            if os.fstat(fd).st_nlink != 1:
                raise StateError(f"{path} has another name somewhere", hint="find it and remove both", path=path)
            self._give(fd)
            yield fd
        finally:
            os.close(fd)

    # How -----------------------------------------------------------------------------------------------------------

    def _create(self) -> None:
        missing = [self.path]
        while not os.path.lexists(os.path.dirname(missing[-1])):
            missing.append(os.path.dirname(missing[-1]))
        try:
            for path in reversed(missing):
                with contextlib.suppress(FileExistsError):
                    os.mkdir(path, 0o700)
                    if self.owner != os.geteuid():
                        os.chown(path, self.owner, -1, follow_symlinks=False)
        except OSError as error:
            raise _cannot("make", self.path, error) from None

    def _step(self, fd: int, name: str, path: str, *, create: bool) -> int:
        """Down into one directory."""
        if not is_plain_name(name):
            raise StateError(f"{name!r} cannot be the name of a directory", path=path)
        try:
            if create:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(name, 0o700, dir_fd=fd)
                    if self.owner != os.geteuid():
                        os.chown(name, self.owner, -1, dir_fd=fd, follow_symlinks=False)
            inner = os.open(name, _DIRECTORY, dir_fd=fd)
        except FileNotFoundError:
            raise
        except OSError as error:
            raise _cannot("open", path, error) from None
        try:
            self._check_directory(inner, path)
        except BaseException:
            os.close(inner)
            raise
        return inner

    def _file(self, names: tuple[str, ...]) -> str:
        """The path of a file below, whose name is one."""
        path = self.path_of(*names)
        if not is_plain_name(names[-1]):
            raise StateError(f"{names[-1]!r} cannot be the name of a file", path=path)
        return path

    def _check_directory(self, fd: int, path: str) -> None:
        found = os.fstat(fd)
        self._check_owner(found, path)
        if stat.S_IMODE(found.st_mode) & 0o077:
            raise StateError(
                f"{path} is open to other users: its mode is {stat.S_IMODE(found.st_mode):04o}",
                hint=f"see who was there, then chmod 0700 {path}",
                path=path,
            )

    def _check_parents(self) -> None:
        """A parent that everybody may write to, without the sticky bit, is one where everybody may replace us."""
        parent = os.path.dirname(os.path.realpath(os.path.dirname(self.path)) + os.sep)
        while True:
            try:
                mode = os.stat(parent).st_mode
            except OSError as error:
                raise _cannot("open", self.path, error) from None
            if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
                raise StateError(
                    f"{self.path} can be replaced by anybody: {parent} is world-writable",
                    hint=f"chmod o-w {parent}, or keep the state elsewhere",
                    path=parent,
                )
            if parent == os.path.dirname(parent):
                return
            parent = os.path.dirname(parent)

    def _check_file(self, fd: int, path: str) -> None:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode):
            raise StateError(f"{path} is not a regular file", hint="remove it", path=path)
        self._check_owner(found, path)
        if stat.S_IMODE(found.st_mode) & 0o022:
            raise StateError(f"{path} can be written by other users", hint=f"do not trust it; remove {path}", path=path)

    def _check_owner(self, found: os.stat_result, path: str) -> None:
        if found.st_uid not in (self.owner, 0):
            raise StateError(
                f"{path} belongs to user {found.st_uid}, not to {self.owner}",
                hint="run as the service's user or as root, or name another directory with HOTRELOAD_STATE",
                path=path,
            )

    @contextlib.contextmanager
    def _opened(self, directory: int, name: str, path: str) -> Iterator[int]:
        fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory)
        try:
            self._check_file(fd, path)
            yield fd
        finally:
            os.close(fd)

    @contextlib.contextmanager
    def _temporary(self, names: tuple[str, ...], content: bytes) -> Iterator[tuple[int, str]]:
        """A synced file with ``content``, under a name that nobody else uses, in the directory of ``names``."""
        path = self._file(names)
        temporary = f"{_TEMPORARY}{os.getpid()}.{os.urandom(8).hex()}"
        with self.open(*names[:-1], create=True) as directory:
            try:
                self._write_new(directory, temporary, content)
                yield directory, temporary
            except OSError as error:
                raise _cannot("write", path, error) from None
            finally:
                with contextlib.suppress(OSError):
                    os.unlink(temporary, dir_fd=directory)

    @staticmethod
    def _age(directory: int, name: str) -> float:
        return time.time() - os.stat(name, dir_fd=directory, follow_symlinks=False).st_mtime

    def _write_new(self, directory: int, name: str, content: bytes) -> None:
        fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=directory)
        with open(fd, "wb", buffering=0) as file:
            self._give(fd)
            view = memoryview(content)
            while view:
                view = view[file.write(view) :]
            os.fsync(fd)

    def _give(self, fd: int) -> None:
        """What root makes in a service's directory belongs to the service."""
        if self.owner != os.geteuid() and os.fstat(fd).st_uid != self.owner:
            os.fchown(fd, self.owner, -1)


def _cannot(what: str, path: str, error: OSError) -> StateError:
    if error.errno in (errno.ELOOP, errno.ENOTDIR) and os.path.islink(path):
        reason, hint = "it is a symbolic link", "links are not followed here; name the directory itself"
    else:
        reason, hint = os.strerror(error.errno) if error.errno else str(error), ""
    fields: dict[str, Any] = {"path": path, "errno": error.errno or 0}
    return StateError(f"cannot {what} {path}: {reason}", hint=hint, **fields)
