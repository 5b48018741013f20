"""The agent in gunicorn. In ``gunicorn.conf.py``::

    from hotreload.agent.gunicorn import *

Those are the server hooks ``on_starting``, ``post_fork``, ``post_worker_init`` and ``worker_exit``; a configuration
that has hooks of its own calls these from them.

::

    on_starting        the master has an agent: with preload_app it holds the code that workers are forked with
    post_fork          a worker has its own by then; where the master has none, the worker starts one
    post_worker_init   gunicorn has changed the user, if it does: the socket becomes the worker's
    worker_exit        the worker's socket goes

HOTRELOAD_DISABLE=1 keeps all of it off. A state directory that cannot be used ends a master that starts, with one
sentence; a worker is never ended by it.
"""

from __future__ import annotations

import os
import sys
from typing import Any

__all__ = ["on_starting", "post_fork", "post_worker_init", "worker_exit"]


def on_starting(server: Any) -> None:
    """Starts the master's agent. Raises HotReloadError when configuration, policy or state cannot be used."""
    import hotreload

    _name_after(server)
    hotreload.enable(agent=True)


def post_fork(server: Any, worker: Any) -> None:  # noqa: ARG001 - the hook has two parameters
    """Starts the worker's agent, where the fork did not."""
    import hotreload
    from hotreload.errors import HotReloadError

    try:
        _name_after(server)
        hotreload.enable(agent=True)
    except HotReloadError as error:
        server.log.error("hotreload: no agent in this worker: %s", error)  # noqa: TRY400 - one sentence says it


def post_worker_init(worker: Any) -> None:
    """Gives the socket to the user that the worker has become."""
    from hotreload.agent.process import current
    from hotreload.errors import HotReloadError

    agent = current()
    if agent is not None:
        try:
            agent.refresh_user()
        except HotReloadError as error:
            worker.log.error("hotreload: no agent in this worker: %s", error)  # noqa: TRY400 - as above


def worker_exit(server: Any, worker: Any) -> None:  # noqa: ARG001 - the hook has two parameters
    """Ends the worker's agent. The master calls this too, for workers that vanished; its own agent stays."""
    if worker.pid == os.getpid() and "hotreload.agent.process" in sys.modules:
        from hotreload.agent.process import stop

        stop()


def _name_after(server: Any) -> None:
    """The application is called what gunicorn calls it, unless it has a name already."""
    from hotreload.config import load_config
    from hotreload.state.directory import is_plain_name

    if load_config().app:
        return
    name = getattr(getattr(server, "cfg", None), "proc_name", None)
    if isinstance(name, str) and is_plain_name(name):
        os.environ.setdefault("HOTRELOAD_APP", name)
