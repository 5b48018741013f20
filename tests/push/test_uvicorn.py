"""uvicorn with workers: spawned processes that turn their agents on in the application itself."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from hotreload.push.processes import family_of
from tests.hot import ROOT
from tests.push.kit import BASE_ANSWER, EDITS, Project, Server, wait_until

APP = """\
import os
import hotreload

hotreload.enable(agent=True)
import kernel


async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    body = b"%d %d" % (kernel.answer(), os.getpid())
    headers = [(b"connection", b"close"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})
"""


class Uvicorn(Server):
    """The same as the other servers of these tests, but for how it is started."""

    def __init__(self, project: Project, workers: int) -> None:
        self.project, self.workers = project, workers
        self.state = Path(tempfile.mkdtemp(prefix="hr-push-"))
        self.log = []
        (project.directory / "asgi.py").write_text(APP)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        command = [sys.executable, "-m", "uvicorn", "--workers", str(workers), "--port", str(self.port), "asgi:app"]
        environment = {"PYTHONPATH": str(ROOT), "HOTRELOAD_STATE": str(self.state), "HOTRELOAD_APP": "tests"}
        self.environment = {**os.environ, **environment}
        self._process = subprocess.Popen(
            command,
            cwd=project.directory,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def worker_pids(self) -> list[int]:
        return sorted(family_of([self.pid]) & set(self.answering()))


@pytest.fixture
def server(project: Project) -> Iterator[Uvicorn]:
    pytest.importorskip("uvicorn")
    running = Uvicorn(project, 2)
    wait_until(lambda: len(running.answering()) == 2, what="".join(running.log))
    wait_until(lambda: sum(bool(re.search("startup complete", line)) for line in running.log) >= 2)
    yield running
    running.close()
    print("".join(running.log[-40:]))


@pytest.mark.slow
def test_uvicorn_workers_take_a_push_and_a_killed_one_comes_back_with_it(server: Uvicorn) -> None:
    assert server.answers() == {BASE_ANSWER}
    assert server.push(EDITS[0]).code == 0
    assert server.answers() == {EDITS[0]}
    victim = server.worker_pids()[0]
    os.kill(victim, signal.SIGKILL)
    wait_until(lambda: len(server.live()) == 2 and victim not in server.live(), 30)
    assert set(map(bool, server.live().values())) == {True}
    assert server.cli("rollback").code == 0
    assert set(server.live().values()) == {""}
