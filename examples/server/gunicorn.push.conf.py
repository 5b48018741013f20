"""How gunicorn runs the example where code is pushed to it: four workers, each with an agent."""

from __future__ import annotations

from typing import Any

from hotreload.agent.gunicorn import on_starting, post_fork, worker_exit  # noqa: F401 - gunicorn calls them
from hotreload.agent.gunicorn import post_worker_init as own_the_socket

bind = "127.0.0.1:8000"
workers = 4
worker_class = "gthread"
threads = 4
keepalive = 75
graceful_timeout = 3
control_socket_disable = True
accesslog = None


def post_worker_init(worker: Any) -> None:
    """Let open event streams end when this worker is told to stop."""
    own_the_socket(worker)
    from app import swaps  # imported in the worker, after the fork, like the application itself

    swaps.is_serving = lambda: worker.alive
