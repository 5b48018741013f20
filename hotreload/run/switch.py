"""On and off in one process: ``enable()``, ``disable()``, and what ``hotreload run`` does by itself.

While it is on, every extension module that is imported is announced to the helper process, and the import returns when
the newest patch is live in it; a fork gives the child a connection of its own. Off again, both are as they were.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from hotreload.python.registry import serve, watch_files
from hotreload.run.link import Link
from hotreload.wire import WireError

if TYPE_CHECKING:
    from hotreload.run.spawn import Started

__all__ = ["disable", "enable", "is_forbidden", "join", "subscribe"]

Event = dict[str, Any]


class _Switch:
    """The state of this process; there is one."""

    def __init__(self) -> None:
        self.link: Link | None = None
        self._helper: Started | None = None
        self._exported = False
        self._told = False
        self._hooked_fork = False
        self._unwatch: Callable[[], None] | None = None
        self._feed: dict[object, Callable[[Event], None]] = {}

    def connect(self, socket_path: str) -> None:
        """Connects to a helper process. Raises OSError or WireError; then nothing has changed."""
        from hotreload.live import manager

        patcher = manager()
        serve(patcher)

        def hear(event: Event) -> None:
            self._publish(event)
            patcher.around.hear(event, patcher.modules())

        link = Link(socket_path, patcher, hear)
        self.link = link
        self._watch_imports()
        self._watch_forks()
        link.start()

    def connect_to_own(self, config_json: str, ui_port: int | None = None, *, quiet: bool = False) -> None:
        """Starts a helper process for this process and its children, with a page if asked to, and connects to it."""
        from hotreload.run.doorway import LIVE_VARIABLE, open_doorway
        from hotreload.run.spawn import start_helper

        doorway = None if ui_port is None else open_doorway(ui_port)
        helper = start_helper(config_json, sys.argv[0] or "the program", doorway, quiet=quiet)
        try:
            self.connect(helper.socket_path)
        except BaseException:
            helper.close()
            raise
        self._helper = helper
        self._exported = True
        os.environ["HOTRELOAD_SOCKET"] = helper.socket_path
        if doorway is not None:
            os.environ[LIVE_VARIABLE] = doorway.live_url
            doorway.tell()

    def disconnect(self) -> None:
        """Undoes all of it, in reverse. What is live stays live."""
        if self._exported:
            os.environ.pop("HOTRELOAD_SOCKET", None)
            os.environ.pop("HOTRELOAD_LIVE", None)
            self._exported = False
        if self._unwatch is not None:
            self._unwatch()
            self._unwatch = None
        if self.link is not None:
            self.link.close()
            self.link = None
        if self._helper is not None:
            self._helper.close()
            self._helper = None

    def subscribe(self, callback: Callable[[Event], None]) -> Callable[[], None]:
        """Hands ``callback`` what happens here and what the helper forwards."""
        from hotreload.live import manager

        unsubscribe = manager().subscribe(callback)
        key = object()
        self._feed[key] = callback

        def undo() -> None:
            self._feed.pop(key, None)
            unsubscribe()

        return undo

    def _publish(self, event: Event) -> None:
        for callback in list(self._feed.values()):
            try:
                callback(dict(event))
            except Exception:  # noqa: BLE001 - a callback of the program's is its own affair, and so is its traceback
                sys.excepthook(*sys.exc_info())

    def _watch_imports(self) -> None:
        from hotreload.live.arrivals import watch_imports

        if self._unwatch is None:
            unwatch = contextlib.ExitStack()
            unwatch.callback(watch_imports(self._announce))
            unwatch.callback(watch_files(self._announce_python))
            self._unwatch = unwatch.close

    def _announce(self, path: str) -> None:  # noqa: ARG002 - the link looks for itself what is new
        if self.link is not None:
            self.link.announce_and_wait()

    def _announce_python(self, path: str) -> None:  # noqa: ARG002 - as above
        """A file has its first marked function: its import is under way, so there is nothing to wait for."""
        if self.link is not None:
            self.link.announce()

    def _watch_forks(self) -> None:
        """Registered once: the interpreter keeps such hooks for good, and they do nothing while it is off."""
        if not self._hooked_fork:
            self._hooked_fork = True
            os.register_at_fork(
                before=self._before_fork,
                after_in_parent=self._after_fork_in_parent,
                after_in_child=self._after_fork_in_child,
            )

    def _before_fork(self) -> None:
        if self.link is not None:
            if not self._told and self.link.is_out_of_reach:
                self._told = True
                _tell(f"process {os.getpid()} has changed its user: what it forks cannot reach the helper process")
            self.link.stop()

    def _after_fork_in_parent(self) -> None:
        if self.link is not None:
            self.link.start()

    def _after_fork_in_child(self) -> None:
        if self.link is not None:
            try:
                self.link.reopen_in_child()
            except (OSError, WireError):
                self.link = None


_switch = _Switch()


def is_forbidden() -> bool:
    """Whether HOTRELOAD_DISABLE says that this process must not be patched."""
    return os.environ.get("HOTRELOAD_DISABLE", "") not in ("", "0")


def join(socket_path: str) -> None:
    """Connects this process to the helper that ``hotreload run`` has started; does nothing when it is gone."""
    if _switch.link is None and not is_forbidden():
        try:
            _switch.connect(socket_path)
        except (ConnectionRefusedError, FileNotFoundError, PermissionError):
            return


def enable(
    *,
    agent: bool = False,
    polling: bool | None = None,
    log_format: str | None = None,
    verbose: bool | None = None,
    ui: bool | None = None,
    ui_port: int | None = None,
) -> bool:
    """Turns hot reload on in this process: from now on, a save of a C source goes live here.

    Under ``hotreload run``, or in a child of a process that has enabled it, the helper process that is there is
    joined; otherwise one is started beside this process. Enabling twice is enabling once.

    In production nothing is watched and nothing compiled: ``enable(agent=True)`` starts a thread that takes what
    `hotreload push` sends, here and in every child. It is on until the process ends or `disable` is called.

    Args:
        agent: take pushes, instead of watching.
        polling: look at the files now and then instead of being told by the kernel.
        log_format: ``console``, ``json`` or ``auto``.
        verbose: write debug lines too.
        ui: serve the page that shows what is live, and say on stderr where. A helper process that is there already
            has one or has none.
        ui_port: where; any port that is free by default. It means that there is to be one, as ``--ui-port`` does.

    Returns:
        Whether it is on. With HOTRELOAD_DISABLE=1 in the environment it stays off and one line says so: the variable
        is how production turns off what development left in the code.

    Raises:
        HotReloadError: the configuration is wrong, the helper process did not start, the page's port is taken, or the
            agent has no state directory to work in; nothing has changed.
    """
    if is_forbidden():
        _tell("refused: hot reload is forbidden here by HOTRELOAD_DISABLE=1")
        return False
    if agent:
        from hotreload.agent.process import start

        start()
        return True
    if ui_port is not None and ui is None:
        ui = True  # as with --ui-port
    return _turn_on({"polling": polling, "log_format": log_format, "verbose": verbose, "ui": ui, "ui_port": ui_port})


def enable_quietly() -> bool:
    """:func:`enable` for a shell that tells each reload itself: a helper process that it starts writes nothing.

    Returns:
        Whether it is on; False where HOTRELOAD_DISABLE=1 forbids it, which the caller is to say.
    """
    return not is_forbidden() and _turn_on({}, quiet=True)


def _turn_on(flags: dict[str, Any], *, quiet: bool = False) -> bool:
    """Joins the helper process that is there, or starts one. Raises as :func:`enable` does."""
    ui = flags.get("ui")
    if _switch.link is not None and _switch.link.is_alive:
        _miss_page(ui)
        return True
    _switch.disconnect()
    if os.environ.get("HOTRELOAD_SOCKET"):
        join(os.environ["HOTRELOAD_SOCKET"])
        if _switch.link is not None:
            _switch.link.announce_and_wait()
            _miss_page(ui)
            return True
    from hotreload.config import load_config

    config = load_config(flags=flags)
    _switch.connect_to_own(config.to_json(), config.ui_port if config.ui else None, quiet=quiet)
    return True


def _miss_page(ui: bool | None) -> None:
    """Says that a page that is asked for cannot be had any more."""
    if ui and not os.environ.get("HOTRELOAD_LIVE"):
        _tell("no page: the helper process that is there was started without; use `hotreload run --ui`")


def _tell(text: str) -> None:
    with contextlib.suppress(OSError):
        os.write(2, f"hotreload: {text}\n".encode())


def disable() -> None:
    """Turns hot reload off in this process. The code that is live stays live; edits and pushes are no longer taken."""
    _switch.disconnect()
    if "hotreload.agent.process" in sys.modules:
        from hotreload.agent.process import stop

        stop()


def subscribe(callback: Callable[[Event], None]) -> Callable[[], None]:
    """Hands ``callback`` every event of a reload as a dict; ``hotreload.events`` has their names.

    What happens in this process (``swap.committed`` and the like) comes from here; ``reload.finished``, with compile
    errors and refusals, comes from the helper process while hot reload is on. It is called on hotreload's own thread,
    so it should be brief.

    Returns:
        A function that ends the subscription.
    """
    return _switch.subscribe(callback)
