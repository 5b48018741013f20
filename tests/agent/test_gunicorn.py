"""gunicorn with the hooks: every worker can be pushed to, and one that starts later has what is current."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from tests.agent.kit import Application, wait_until
from tests.run.harness import PATIENCE, Program
from tests.run.test_children import free_port

pytest.importorskip("gunicorn")

APP = """\
import os, sys
sys.path.insert(0, {ext!r})
import tiny

FIRST = tiny.value()

def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"{{os.getpid()}} {{tiny.value()}} {{FIRST}}".encode()]
"""
CRASHING = "*(volatile long *)(x * 0)"


class Gunicorn:
    """gunicorn with two workers."""

    def __init__(self, app: Application, *options: str, has_agents: bool = True, **environment: str) -> None:
        self.app = app
        (app.directory / "webapp.py").write_text(APP.format(ext=str(app.hot.extension.directory)))
        (app.directory / "gunicorn.conf.py").write_text("from hotreload.agent.gunicorn import *\n")
        self.port = free_port()
        program = str(Path(sys.executable).with_name("gunicorn"))
        known = subprocess.run([sys.executable, program, "--help"], capture_output=True, text=True, check=True).stdout
        quiet = ["--no-control-socket"] if "--no-control-socket" in known else []
        self.program: Program = app.launch(
            program, "-w", "2", "-b", f"127.0.0.1:{self.port}", *quiet, *options, "webapp:application", **environment
        )
        self.program.wait_for(lambda: len(self.booted()) >= 2, "two workers")
        if has_agents:
            wait_until(lambda: set(self.booted()[:2]) <= app.sockets(), "they have sockets")

    @property
    def master(self) -> int:
        return self.program.process.pid

    def booted(self) -> list[int]:
        found = (re.search(r"Booting worker with pid: (\d+)", line) for line in list(self.program.stderr))
        return [int(match.group(1)) for match in found if match]

    def workers(self) -> list[int]:
        """The workers that have an agent and the extension."""
        live = []
        for pid in self.booted():
            if os.path.exists(f"/proc/{pid}") and pid in self.app.sockets():
                live.append(pid)
        return live

    def ready(self) -> list[int]:
        """Two workers, once both have loaded the application."""
        return wait_until(
            lambda: (
                [pid for pid in self.workers() if self.app.status(pid)["modules"]]
                if len(self.workers()) == 2 and all(self.app.status(pid)["modules"] for pid in self.workers())
                else None
            ),
            "two workers with the module",
        )

    def ask(self) -> tuple[int, int, int]:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/", timeout=10) as response:
            pid, value, first = response.read().split()
        return int(pid), int(value), int(first)

    def answers(self, pids: list[int]) -> dict[int, tuple[int, int]]:
        """Asks until each of these has answered: what it computes now, and what it computed first."""
        seen: dict[int, tuple[int, int]] = {}

        def all_seen() -> bool:
            for _ in range(8):
                pid, value, first = self.ask()
                seen[pid] = (value, first)
            return set(pids) <= set(seen)

        wait_until(all_seen, "each has answered")
        return {pid: seen[pid] for pid in pids}


KINDS = [
    ("sync", False),
    ("sync", True),
    ("gthread", False),
    ("gthread", True),
]


@pytest.mark.parametrize(("kind", "preload"), KINDS, ids=lambda value: str(value))
def test_workers_take_a_push_and_a_new_one_has_it_before_its_first_request(
    app: Application, kind: str, preload: bool
) -> None:
    gunicorn = Gunicorn(app, "-k", kind, "--threads", "2" if kind == "gthread" else "1", *(["--preload"] * preload))
    workers = gunicorn.ready()
    artefact = app.hot.artefact("x + 41", sequence=10)
    targets = [*workers, *([gunicorn.master] if preload else [])]
    for pid in targets:
        app.prepare(pid, "p1", artefact)
    app.patches.put(artefact)
    app.decisions.decide("p1", "commit")
    app.store(artefact)
    for pid in targets:
        assert app.ask(pid, "commit", push="p1")["generation"] == 1
    assert gunicorn.answers(workers) == dict.fromkeys(workers, (42, 2))
    assert app.status(gunicorn.master)["pid"] == gunicorn.master

    os.kill(workers[0], signal.SIGKILL)
    gunicorn.program.wait_for(lambda: len(gunicorn.booted()) == 3, "a new worker")
    (fresh,) = set(gunicorn.ready()) - set(workers)
    value, first = gunicorn.answers([fresh])[fresh]
    assert (value, first) == (42, 2 if preload else 42)
    assert app.generation(fresh) == 1
    assert not [line for line in gunicorn.program.stderr if "Traceback" in line]

    assert gunicorn.program.end(signal.SIGTERM) == 0
    assert app.sockets() <= {workers[0]}, "only the killed worker's socket is left"


def test_a_worker_that_crashed_of_a_patch_comes_back_without(app: Application) -> None:
    gunicorn = Gunicorn(app, "-k", "gthread", "--threads", "2", "--preload")
    victim, other = gunicorn.ready()
    artefact = app.hot.artefact(CRASHING, sequence=10)
    for pid in (gunicorn.master, victim):
        app.push(pid, f"p-{pid}", artefact)
    app.store(artefact)
    seen: set[int] = set()

    def ask() -> bool:
        try:
            seen.add(gunicorn.ask()[0])
        except OSError:
            return True
        return not os.path.exists(f"/proc/{victim}")

    wait_until(ask, "the victim is asked")
    gunicorn.program.wait_for(lambda: len(gunicorn.booted()) == 3, "a new worker")
    (fresh,) = set(gunicorn.ready()) - {victim, other}

    assert gunicorn.answers([fresh])[fresh] == (2, 2)
    assert app.quarantine.find(artefact.sha256)
    assert app.generation(fresh) == 0
    assert [line for line in gunicorn.program.stderr if line.startswith("hotreload: crash signal=11")]


def test_workers_that_load_it_afresh_do_not_die_of_it_one_after_the_other(app: Application) -> None:
    """Without preload_app the master knows nothing of the patch: each new worker finds it in the store."""
    gunicorn = Gunicorn(app, "-k", "gthread", "--threads", "2")
    artefact = app.hot.artefact(CRASHING, sequence=10)
    for pid in gunicorn.ready():
        app.push(pid, f"p-{pid}", artefact)
    app.store(artefact)

    def ask() -> int:
        try:
            return gunicorn.ask()[1]
        except OSError:
            return 0

    values = [ask() for _ in range(30)]
    assert values[-10:] == [2] * 10
    assert len(gunicorn.booted()) <= 4, "the two that had it, and their successors"


def test_workers_that_come_and_go_all_have_agents(app: Application) -> None:
    gunicorn = Gunicorn(app, "-k", "gthread", "--threads", "2", "--max-requests", "5")
    app.store(app.hot.artefact("x + 41", sequence=10))
    first = set(gunicorn.booted())
    wait_until(lambda: gunicorn.ask() and len(gunicorn.booted()) >= 8, "workers are recycled")
    late = [pid for pid in gunicorn.booted() if pid not in first]
    values = {value for pid, value, _ in (gunicorn.ask() for _ in range(12)) if pid in late}

    assert values == {42}
    assert not [line for line in gunicorn.program.stderr if "Traceback" in line]


def test_where_it_is_forbidden_gunicorn_serves_without(app: Application) -> None:
    (app.directory / "webapp.py").write_text(APP.format(ext=str(app.hot.extension.directory)))
    (app.directory / "gunicorn.conf.py").write_text("from hotreload.agent.gunicorn import *\n")
    port = free_port()
    gunicorn = str(Path(sys.executable).with_name("gunicorn"))
    program = app.launch(gunicorn, "-w", "1", "-b", f"127.0.0.1:{port}", "webapp:application", HOTRELOAD_DISABLE="1")
    program.wait_for(lambda: any("Booting worker" in line for line in program.stderr), "a worker")

    def ask() -> bytes:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=PATIENCE) as response:
                return response.read()
        except OSError:
            return b""

    assert wait_until(ask, "it serves").split()[1] == b"2"
    assert not app.state_path.exists()


@pytest.mark.skipif(os.getuid() != 0, reason="changes the user")
def test_a_state_directory_of_another_user_is_no_agent_and_no_end_of_the_worker(app: Application) -> None:
    """gunicorn as root with workers of another user: the worker cannot use root's directory, says so, and serves."""
    for path in (app.directory, *app.directory.parents, app.hot.extension.directory, app.hot.directory):
        if path != Path("/") and path != Path("/tmp"):
            path.chmod(path.stat().st_mode | 0o055)
    gunicorn = Gunicorn(app, "-k", "sync", "--user", "65534", "--group", "65534", has_agents=False)
    wait_until(lambda: any("takes no pushes" in line for line in gunicorn.program.stderr), "it says so")

    def ask() -> int:
        try:
            return gunicorn.ask()[1]
        except OSError:
            return 0

    assert wait_until(ask, "it serves") == 2


def test_uvicorns_workers_have_agents_and_the_current_patch(app: Application) -> None:
    pytest.importorskip("uvicorn")
    app.store(app.hot.artefact("x + 41", sequence=10))
    (app.directory / "asgi.py").write_text(
        f"import sys\nsys.path.insert(0, {str(app.hot.extension.directory)!r})\nimport os, tiny\n"
        "os.write(1, f'worker {os.getpid()} computes {tiny.value()} end\\n'.encode())\n"
        "async def application(scope, receive, send):\n    pass\n"
    )
    uvicorn = ["-m", "uvicorn", "--workers", "2", "--lifespan", "off", "--port", str(free_port()), "asgi:application"]
    program = app.launch("-m", "hotreload", "run", *uvicorn, HOTRELOAD_AGENT="1")
    program.wait_for(lambda: len([line for line in program.stdout if "computes 42" in line]) == 2, "both have it")
    pids = [int(line.split()[1]) for line in program.stdout]
    for number, pid in enumerate(pids):
        assert app.status(pid)["app"] == "uvicorn"
        assert app.push(pid, f"p{number}", app.hot.artefact("x + 50", sequence=11))["generation"] == 2
    program.end(signal.SIGTERM)
