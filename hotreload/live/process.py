"""One manager for the process, and what a fork does to it.

::

    fork:   parent and child wait until no stage or commit is under way
    child:  the same generations (the memory was copied with them), locks of its own
"""

from __future__ import annotations

import os
import sys
import threading

from hotreload.live.manager import Manager

__all__ = ["existing", "manager"]


class _Process:
    """Holds the one manager; it is made when somebody asks for it, who may be the handler of a signal."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._manager: Manager | None = None

    def manager(self) -> Manager:
        with self._lock:
            if self._manager is None:
                self._manager = Manager()
                # What the program has marked before it was to be patched, if it has marked anything.
                marks = sys.modules.get("hotreload.mark.book")
                if marks is not None:
                    marks.join(self._manager)
            return self._manager

    @property
    def existing(self) -> Manager | None:
        return self._manager

    def before_fork(self) -> None:
        self._lock.acquire()
        if self._manager is not None:
            self._manager.hold()

    def after_fork_in_parent(self) -> None:
        if self._manager is not None:
            self._manager.let_go()
        self._lock.release()

    def after_fork_in_child(self) -> None:
        if self._manager is not None:
            self._manager.renew_lock()
        self._lock = threading.RLock()


_process = _Process()


def manager() -> Manager:
    """The manager of this process."""
    return _process.manager()


def existing() -> Manager | None:
    """The manager of this process, if somebody has asked for it already."""
    return _process.existing


os.register_at_fork(
    before=_process.before_fork,
    after_in_parent=_process.after_fork_in_parent,
    after_in_child=_process.after_fork_in_child,
)
