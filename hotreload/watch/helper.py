"""The helper process: puts the parts together, runs one loop, and leaves no later than the program does.

It is started with the listening socket and one end of a pipe. The program holds the other end, and so do the children
it forks; when that is closed everywhere and no process is connected any more, there is nobody left to help.

Its own session keeps a Ctrl-C in the terminal, which is meant for the program, away from it; being no child of the
program keeps it out of the program's ``wait``.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import selectors
import shutil
import signal
import socket
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from concurrent import futures
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from hotreload.page.server import PageServer

__all__ = ["main"]

# How often directories are looked at for having been replaced.
_CHECK_INTERVAL = 1.0
# A library of more bytes is not read to see whether it was built hot.
_LARGEST = 64 << 20
# How long the page waits for the loop, which waits for nothing.
_PATIENCE = 5.0


def main(argv: Sequence[str]) -> NoReturn:
    """Runs the helper until the program is gone; ``start.py`` has made this process one of its own."""
    options = _parse(argv)
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGPIPE):
        signal.signal(number, signal.SIG_IGN)
    # A workshop's files are gone with the socket, whoever removes it.
    tempfile.tempdir = options.directory
    status = 1
    try:
        status = _Helper(options).run()
    except Exception:  # noqa: BLE001 - told, and then this process ends
        with contextlib.suppress(OSError, ValueError):
            traceback.print_exc()
            os.write(2, b"hotreload: the helper process has failed; the program serves on with the code it has\n")
    finally:
        shutil.rmtree(options.directory, ignore_errors=True)
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.flush()
        _end_compilers()
        # Not a return: a build may still be running in its thread, and its answer interests nobody any more.
        os._exit(status)


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="hotreload-helper")
    parser.add_argument("--directory", required=True)
    parser.add_argument("--listen-fd", type=int, required=True)
    parser.add_argument("--life-fd", type=int, required=True)
    parser.add_argument("--page-fd", type=int)
    parser.add_argument("--config", default="{}")
    parser.add_argument("--program", default="the program")
    return parser.parse_args(argv)


def _end_compilers() -> None:
    """Ends what a build has started; the helper has a process group of its own when it was detached."""
    if os.getpgrp() != os.getpid() and os.getsid(0) == os.getpgrp():
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        with contextlib.suppress(OSError):
            os.killpg(os.getpgrp(), signal.SIGTERM)


class _Store:
    """The opener of ``seams``: what ``hotreload cc`` has recorded, and ``.py`` files that a process announces."""

    def __init__(self, directory: str, *, colours: bool, allow: frozenset[str]) -> None:
        self._directory = directory
        self._colours = colours
        self._allow = allow

    def knows(self, build_id: str, path: str) -> bool:
        if path.endswith(".py"):  # a process announces those with marked functions, and no others
            return True
        from hotreload.build import store

        return store.find(build_id) is not None

    @property
    def place(self) -> str:
        from hotreload.build import store

        return store.root()

    def was_built_hot(self, path: str) -> bool:
        from hotreload.build.record import RECORD_SECTION
        from hotreload.elf.file import ElfFile
        from hotreload.errors import BuildError

        try:
            return os.path.getsize(path) < _LARGEST and ElfFile.read(path).section(RECORD_SECTION) is not None
        except (OSError, ValueError, BuildError):
            return False

    def open(self, build_id: str, path: str) -> Any:
        if path.endswith(".py"):
            from hotreload.python.workshop import PythonWorkshop

            return PythonWorkshop.open(build_id, path, self._directory)
        from hotreload.patch.workshop import Workshop

        workshop = Workshop.open(build_id)
        workshop.colours = self._colours
        workshop.allow = self._allow
        return workshop


class _Helper:
    """The parts, in the order in which they are set up; ``run`` undoes them in reverse."""

    def __init__(self, options: argparse.Namespace) -> None:
        from hotreload.config import Config
        from hotreload.log import make_log, writes_to_terminal
        from hotreload.watch.broker import Broker
        from hotreload.watch.files import SourceWatcher
        from hotreload.watch.loop import ReloadLoop
        from hotreload.watch.mailbox import Mailbox, ThreadWorker

        self._config = Config.from_json(options.config)
        self._log = make_log(self._config.log_format, verbose=self._config.verbose, also=self._config.log_file)
        self._life_fd: int = options.life_fd
        self._program_alive = True
        self._stopped_by: int | None = None
        self._selector = selectors.DefaultSelector()
        self._mailbox = Mailbox()
        self._broker = Broker(socket.socket(fileno=options.listen_fd), self._selector, self._log)
        self._worker = ThreadWorker(self._mailbox)
        self._watcher = SourceWatcher(
            self._saved, self._degraded, polling=self._config.polling, interval=self._config.polling_interval
        )
        self._page = None if options.page_fd is None else self._open_page(options)
        self._loop = ReloadLoop(
            opener=_Store(options.directory, colours=sys.stderr.isatty(), allow=frozenset(self._config.allow)),
            watcher=self._watcher,
            worker=self._worker,
            log=self._log,
            config=self._config,
            clock=time.monotonic,
            program=options.program,
            audience=None if self._page is None else self._page.book,
            tells_slow_builds=writes_to_terminal(self._config.log_format, sys.stderr),
        )

    def _open_page(self, options: argparse.Namespace) -> PageServer:
        from hotreload.page.book import Book
        from hotreload.page.guard import Tokens
        from hotreload.page.server import PageServer

        # Compilers are started from here: what they need not know is taken out of the environment.
        tokens = Tokens.parse(os.environ.pop("HOTRELOAD_PAGE_TOKENS"))
        listening = socket.socket(fileno=options.page_fd)
        return PageServer(listening, tokens, Book(options.program), self._go_to)

    def _go_to(self, key: str, digest: str) -> None:
        """Has the loop go to a state, from a thread of the page's. Raises HotReloadError."""
        from hotreload.errors import HotReloadError

        answered: futures.Future[None] = futures.Future()

        def go() -> None:
            try:
                self._loop.go_to(key, digest)
            except Exception as error:  # noqa: BLE001 - whatever it is, it is the answer
                answered.set_exception(error)
            else:
                answered.set_result(None)

        self._mailbox.post(go)
        try:
            answered.result(_PATIENCE)
        except futures.TimeoutError:  # not the builtin one, before Python 3.11
            raise HotReloadError("the helper process does not answer", hint="see its messages") from None

    def run(self) -> int:
        from hotreload import events

        self._broker.begin(self._loop)
        self._selector.register(self._mailbox, selectors.EVENT_READ, lambda _mask: self._mailbox.drain())
        self._selector.register(self._life_fd, selectors.EVENT_READ, self._life_ended)
        signal.signal(signal.SIGTERM, self._stop)
        self._log.debug(events.HELPER_STARTED, pid=os.getpid())
        if self._page is not None:
            self._page.start()
        try:
            next_check = time.monotonic() + _CHECK_INTERVAL
            while self._is_needed:
                wanted = self._loop.tick()
                pause = max(0.0, next_check - time.monotonic())
                for key, mask in self._selector.select(pause if wanted is None else min(wanted, pause)):
                    key.data(mask)
                if time.monotonic() >= next_check:
                    self._watcher.check()
                    next_check = time.monotonic() + _CHECK_INTERVAL
        finally:
            self._worker.close()
            self._watcher.close()
        if self._stopped_by is not None:
            self._log.warning(
                events.HELPER_STOPPED,
                signal=signal.Signals(self._stopped_by).name,
                reason="the program serves on with the code it has",
            )
        return 0

    @property
    def _is_needed(self) -> bool:
        return self._stopped_by is None and (self._program_alive or self._broker.connected > 0)

    def _life_ended(self, _mask: int) -> None:
        """The pipe that the program and its forked children hold is closed everywhere."""
        self._program_alive = False
        self._selector.unregister(self._life_fd)
        os.close(self._life_fd)

    def _stop(self, number: int, _frame: object) -> None:
        self._stopped_by = number
        self._mailbox.post(lambda: None)

    def _saved(self, path: str, whole: bool) -> None:
        when = time.monotonic()
        self._mailbox.post(lambda: self._loop.file_saved(path, when, whole=whole))

    def _degraded(self, reason: str) -> None:
        from hotreload import events

        self._log.warning(events.WATCH_DEGRADED, reason=reason, hint="raise fs.inotify.max_user_watches")
