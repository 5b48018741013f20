"""One pipe that wakes one loop: other threads post what the loop's own thread is to do next."""

from __future__ import annotations

import contextlib
import os
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

__all__ = ["Mailbox", "ThreadWorker"]


class Mailbox:
    """Calls from other threads, done in the order they came by the thread that calls :meth:`drain`."""

    def __init__(self) -> None:
        self._calls: deque[Callable[[], None]] = deque()
        self._read_fd, self._write_fd = os.pipe()
        os.set_blocking(self._read_fd, False)
        os.set_blocking(self._write_fd, False)

    def fileno(self) -> int:
        """Readable whenever a call waits."""
        return self._read_fd

    def post(self, call: Callable[[], None]) -> None:
        """Leaves a call for the loop's thread. A full pipe is no loss: the loop is awake then anyway."""
        self._calls.append(call)
        with contextlib.suppress(BlockingIOError, OSError):
            os.write(self._write_fd, b"!")

    def drain(self) -> None:
        """Does every call that waits."""
        with contextlib.suppress(BlockingIOError):
            os.read(self._read_fd, 4096)
        while self._calls:
            self._calls.popleft()()

    def close(self) -> None:
        """Closes the pipe; later posts are dropped."""
        self._calls.clear()
        for fd in (self._read_fd, self._write_fd):
            with contextlib.suppress(OSError):
                os.close(fd)


class ThreadWorker:
    """One thread that does slow jobs in turn and posts each result to a mailbox."""

    def __init__(self, mailbox: Mailbox) -> None:
        self._mailbox = mailbox
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="hotreload-build")

    def submit(self, job: Callable[[], Any], done: Callable[[Any], None]) -> None:
        """Runs ``job`` there and ``done(result)`` here. A job must not raise: its result says what went wrong."""

        def finished(future: Future[Any]) -> None:
            if not future.cancelled():
                self._mailbox.post(lambda: done(future.result()))

        self._pool.submit(job).add_done_callback(finished)

    def close(self) -> None:
        """Forgets the jobs that have not begun; one that has is not waited for."""
        self._pool.shutdown(wait=False, cancel_futures=True)
