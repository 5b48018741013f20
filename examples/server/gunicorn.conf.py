"""How gunicorn runs the example: one process, many threads, so that all of them meet in the same C code and state.

With more workers (``-w 2``) each has its own counters and its own log; the page shows which processes it met.
"""

from __future__ import annotations

from typing import Any

bind = "127.0.0.1:8000"
workers = 1
worker_class = "gthread"
threads = 12  # 4 of them at most are taken by open event streams: see STREAMS_MAX in app.py
keepalive = 75
graceful_timeout = 3
control_socket_disable = True
accesslog = None


def post_worker_init(worker: Any) -> None:
    """Let open event streams end when this worker is told to stop."""
    from app import swaps  # imported in the worker, after the fork, like the application itself

    swaps.is_serving = lambda: worker.alive
