"""Says once what is missing when there is nothing to reload: a program that is quietly not hot costs an afternoon."""

from __future__ import annotations

import os
from collections.abc import Sequence

from hotreload import events
from hotreload.log import Log
from hotreload.watch.seams import Opener, Worker

__all__ = ["Hints"]


class Hints:
    """The lines for somebody who waits for an edit that will not come.

    Args:
        program: what was started.
        opener: says which libraries were built hot, if not for this store.
        worker: reads them elsewhere.
        log: where the lines go.
    """

    def __init__(self, program: str, opener: Opener, worker: Worker, log: Log) -> None:
        self._program = program
        self._opener = opener
        self._worker = worker
        self._log = log

    def miss_program(self) -> None:
        """No process has connected."""
        self._log.warning(
            events.PROGRAM_MISSED,
            program=self._program,
            reason="no Python process has connected",
            hint="start the Python program itself with `hotreload run`, "
            "without -I, -E or -S and with PYTHONPATH and HOTRELOAD_SOCKET passed on",
        )

    def miss_extension(self, cold: Sequence[str], *, is_alone: bool) -> None:
        """Names those of the ``cold`` libraries that were built hot; ``is_alone`` is whether no other one is hot."""

        def find() -> list[str]:
            return [path for path in cold if self._opener.was_built_hot(path)]

        def tell(strays: list[str]) -> None:
            for path in strays:
                place = self._opener.place
                self._tell(
                    f"{os.path.basename(path)} was built hot, but is not in this store ({place})",
                    "build it again with `hotreload build`, or set HOTRELOAD_STORE to the store it was built with",
                )
            if is_alone and not strays:
                self._tell(
                    "no hot extension is loaded so far", "build it with `hotreload build`, then start the program again"
                )

        self._worker.submit(find, tell)

    def _tell(self, reason: str, hint: str) -> None:
        self._log.warning(events.EXTENSION_MISSED, program=self._program, reason=reason, hint=hint)
