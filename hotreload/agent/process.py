"""One agent for the process, off unless asked for, and what a fork does to it.

::

    start ─▶ state directory, policy ─▶ crashes of the dead ─▶ what is loaded gets the current patch ─▶ thread, socket

    fork:   parent and child wait until no request is being answered
    parent: goes on with its socket                 child: a socket of its own; an open push is inherited and settles
"""

from __future__ import annotations

import atexit
import contextlib
import os
import sys
import time
from collections.abc import Callable
from typing import Any

from hotreload.agent.books import Books, tell
from hotreload.agent.desk import PROTOCOL, Desk
from hotreload.agent.listener import Listener, socket_name, sweep
from hotreload.agent.peer import Peer
from hotreload.agent.policy import PolicySource
from hotreload.agent.probation import Watch
from hotreload.agent.refusal import refuse
from hotreload.agent.restore import Restorer
from hotreload.agent.session import Session
from hotreload.agent.transitions import Transitions
from hotreload.errors import HotReloadError
from hotreload.events import AGENT_FAILED, AGENT_REFUSED, AGENT_STARTED
from hotreload.state import StateDirectory, app_name, state_path
from hotreload.wire import Message, WireError

__all__ = ["Agent", "current", "start", "stop"]


class Agent:
    """Everything that one process has of an agent.

    Args:
        app: what the application is called.
        directory: its state directory.
        policy: where its policy is.
        probation: how long a patch is new here, in seconds.

    Raises:
        HotReloadError: the policy or the state directory cannot be used; nothing was started.
    """

    def __init__(self, app: str, directory: StateDirectory, policy: PolicySource, probation: float) -> None:
        from hotreload.live import manager

        policy.read()
        self.app = app
        self.books = Books(directory)
        self._uid = os.geteuid()
        self._live = manager()
        self._policy = policy
        self._started_at = time.time()
        self.watch = Watch(self._live, self.books, probation)
        self.restorer = Restorer(self._live, self.books, policy, self.watch, self.watch.collect)
        self.transitions = Transitions(self._live, self.books, self._transition_ended)
        self.session = Session(self.books, self.watch, self.transitions)
        self._desk = Desk(
            self._live,
            self.books,
            self.session,
            policy,
            self.transitions,
            describe=self._describe,
            unfit=self.restorer.unfit,
            refresh=self._refresh,
        )
        self.listener = Listener(directory, self, self._complain)
        self._unwatch: tuple[Callable[[], None], ...] = ()

    # From other threads --------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Restores what is to be restored, opens the socket and starts the thread.

        Raises:
            HotReloadError: there is no socket to be had; nothing was started.
        """
        from hotreload.live.arrivals import watch_imports, watch_texts
        from hotreload.python.registry import files, serve, watch_files

        try:
            self.listener.open()
        except OSError as error:
            raise HotReloadError(f"the agent has no socket: {error}", hint="see the state directory") from None
        sweep(self.books.directory)
        self.watch.collect()
        serve(self._live)
        for path in list(files()):
            self.restorer.marked(path)
        self.restorer.look_around()
        self._unwatch = (
            watch_files(self.restorer.marked),
            watch_imports(self.restorer.arrived),
            watch_texts(self.restorer.look_at_texts),
        )
        self._write(AGENT_STARTED, app=self.app, socket=socket_name(os.getpid()))
        self.listener.start()

    def close(self) -> None:
        """Ends it. What is live stays live, and a push that is open here is not settled any more."""
        unwatch, self._unwatch = self._unwatch, ()
        for end in unwatch:
            end()
        self.listener.close()
        self.transitions.close()
        self.watch.close()

    def before_fork(self) -> None:
        self.listener.stop()

    def after_fork_in_parent(self) -> None:
        self.listener.start()

    def after_fork_in_child(self) -> None:
        """The thread makes the child's own socket; a patch that a sibling died of is gone before the child goes on."""
        self.listener.leave_to_parent()
        self.restorer.renew_lock()
        self._started_at = time.time()
        self.watch.after_fork()
        self.listener.start()

    def refresh_user(self) -> None:
        """After a change of user: the socket must be the new user's. The state directory must be too."""
        if os.geteuid() == self._uid:
            return
        self._uid = os.geteuid()
        self.listener.close()
        self.books.directory.owner = self._uid
        self.listener.leave_to_parent()
        self.listener.start()

    # What the thread asks ------------------------------------------------------------------------------------------

    def answer(self, message: Message, fd: int | None, peer: Peer) -> Message:
        return self._desk.answer(message, fd, peer)

    def refuse_garbage(self, error: WireError, peer: Peer) -> Message:
        """The reply to what was no request; it is written down, since nobody sends that by accident."""
        said = refuse("BAD_REQUEST", str(error))
        self._write(AGENT_REFUSED, **peer.as_dict(), error=said.as_dict())
        return {"v": PROTOCOL, "ok": False, "error": said.as_dict()}

    def note_gone(self) -> None:
        """Nobody is there to be answered; that somebody was is written down."""
        said = refuse("PEER_GONE", "a client ended before it was known who it was; what it asked was not done")
        self._write(AGENT_REFUSED, error=said.as_dict())

    def tick(self) -> None:
        self.session.settle()
        self.watch.tick()
        self.restorer.take_up()

    @property
    def seconds_to_next(self) -> float | None:
        times = [self.session.seconds_to_next, self.watch.seconds_to_next]
        return min((seconds for seconds in times if seconds is not None), default=None)

    # How -----------------------------------------------------------------------------------------------------------

    def _transition_ended(self) -> None:
        """What had to wait for it can go on: the agent's thread looks."""
        self.listener.wake()

    def _refresh(self) -> None:
        self.restorer.look_around()
        self.watch.collect()

    def _describe(self) -> dict[str, Any]:
        return {
            "app": self.app,
            "start_time": _start_time(),
            "started_at": self._started_at,
            "state": self.books.directory.path,
            "program": sys.argv[0] if sys.argv else "",
            "probation": self.watch.describe(),
            "quarantine": self.watch.quarantined_here(),
            "history": self.watch.history(),
        }

    def _write(self, event: str, **fields: Any) -> None:
        """Writes down what happened; it has been told to the host's log at least."""
        with contextlib.suppress(HotReloadError):
            self.books.audit(event, **fields)

    def _complain(self, text: str) -> None:
        tell({"event": AGENT_FAILED, "reason": text, "pid": os.getpid()})


class _Process:
    """Holds the one agent."""

    def __init__(self) -> None:
        self.agent: Agent | None = None
        self._has_hooks = False

    def start(self) -> None:
        from hotreload.config import load_config
        from hotreload.live import manager

        config = load_config()
        app = app_name(config.app)
        state = StateDirectory(state_path(app, config.state))
        agent = Agent(app, state, PolicySource.find(), config.probation)
        # What was live before a trial must be there to go back to.
        files = config.files or state.path_of("generations")
        manager().configure(**{**config.limits, "keep": max(1, config.keep), "files": files})
        agent.start()
        self.agent = agent
        if not self._has_hooks:
            self._has_hooks = True
            os.register_at_fork(
                before=self._before_fork,
                after_in_parent=self._after_fork_in_parent,
                after_in_child=self._after_fork_in_child,
            )
            atexit.register(self.stop)

    def stop(self) -> None:
        if self.agent is not None:
            self.agent.close()
            self.agent = None

    def _before_fork(self) -> None:
        if self.agent is not None:
            self.agent.before_fork()

    def _after_fork_in_parent(self) -> None:
        if self.agent is not None:
            self.agent.after_fork_in_parent()

    def _after_fork_in_child(self) -> None:
        if self.agent is not None:
            self.agent.after_fork_in_child()


_process = _Process()


def current() -> Agent | None:
    """The agent of this process; None when there is none."""
    return _process.agent


def start() -> None:
    """Starts this process's agent; a second call does nothing.

    Raises:
        HotReloadError: configuration, policy or state directory cannot be used; nothing was started.
    """
    if _process.agent is None:
        _process.start()


def stop() -> None:
    """Ends this process's agent. What is live stays live."""
    _process.stop()


def _start_time() -> int:
    """Clock ticks from boot to the start of this process: with the pid, a name that is never given twice."""
    with open("/proc/self/stat", "rb") as file:
        return int(file.read().rsplit(b")", 1)[1].split()[19])
