"""A small gunicorn with a hot extension and agents, its load, and patches for it that need no compiler.

::

    Project   kernel.c built hot once, three edits packed once; a patch with a new number is made of these in no time
    Server    gunicorn in a state directory of its own
    Load      a process that asks all the time, and what it was answered
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, Optional

from hotreload import artefact
from hotreload.artefact import Artefact
from hotreload.push.processes import children_of, look
from tests.hot import ROOT, hot_cc

HERE = Path(__file__).parent
BASE_ANSWER = 1000
EDITS = (1001, 1002, 1003)

KERNEL = """\
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdlib.h>
#include <unistd.h>

static long calls;

long answer(long unit) {
    calls += 1;
    return 1000 * unit;
}

static PyObject *kernel_answer(PyObject *self, PyObject *unused) {
    (void)self, (void)unused;
    return PyLong_FromLong(answer(1));
}

static PyMethodDef methods[] = {{"answer", kernel_answer, METH_NOARGS, NULL}, {NULL, NULL, 0, NULL}};
static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "kernel", NULL, -1, methods, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit_kernel(void) {
    return PyModule_Create(&module);
}
"""

#: answer() and twin() change together; answer(-1) rests where the file says so, and shows that it does.
PAIR = KERNEL.replace(
    """long answer(long unit) {
    calls += 1;
""",
    """#include <fcntl.h>

long twin(long unit) {
    return 1000 * unit;
}

long answer(long unit) {
    calls += 1;
    if (unit < 0) {
        PyThreadState *state = PyEval_SaveThread();
        close(open("resting", O_CREAT | O_WRONLY, 0600));
        int bed = open("rest", O_RDONLY);  /* a fifo: until somebody writes */
        if (bed >= 0)
            close(bed);
        PyEval_RestoreThread(state);
        unit = 1;
    }
""",
).replace(
    """static PyMethodDef methods[] = {""",
    """static PyObject *kernel_rest(PyObject *self, PyObject *unused) {
    (void)self, (void)unused;
    return PyLong_FromLong(answer(-1));
}

static PyObject *kernel_twin(PyObject *self, PyObject *unused) {
    (void)self, (void)unused;
    return PyLong_FromLong(twin(1));
}

static PyMethodDef methods[] = {{"rest", kernel_rest, METH_NOARGS, NULL}, {"twin", kernel_twin, METH_NOARGS, NULL}, """,
)

APP = """\
import os
import kernel


def app(environ, start_response):
    if environ["PATH_INFO"] == "/lock":
        import hotreload

        hotreload.lock()
    told = kernel.rest() if environ["PATH_INFO"] == "/rest" else kernel.answer()
    body = b"%d %d" % (told, os.getpid())
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]
"""

#: A command that does something just before the nth call of one of its steps.
_KILLER = """\
import itertools, os, signal, sys, threading
from hotreload.push.books import StateBooks
from hotreload.push.canary import Canary
from hotreload.push.client import AgentClient
from hotreload.cli.commands import run_command

owner = {{"judge": Canary, "prepare": AgentClient, "commit": AgentClient}}.get("{step}", StateBooks)
original = getattr(owner, "{step}")
calls, lock = itertools.count(1), threading.Lock()


def step(*args, **kwargs):
    with lock:
        if next(calls) == {number}:
            {act}
        return original(*args, **kwargs)


setattr(owner, "{step}", step)
sys.exit(run_command(sys.argv[1:]))
"""

CONFIG = """\
from hotreload.agent.gunicorn import *  # noqa: F403

bind = "127.0.0.1:0"
worker_class = "gthread"
graceful_timeout = 5
control_socket_disable = True
"""


def wait_until(condition: Callable[[], Any], seconds: float = 15.0, what: str = "") -> Any:
    """The first true value of ``condition``."""
    ends = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < ends, what or f"not within {seconds} s"
        time.sleep(0.02)


class Project:
    """One directory with the extension, the application, and what was packed of the extension's edits."""

    kernel = KERNEL

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.source = directory / "kernel.c"
        self.source.write_text(self.kernel)
        (directory / "app.py").write_text(APP)
        (directory / "gunicorn.conf.py").write_text(CONFIG)
        flags = ("-O2", "-fPIC", f"-I{sysconfig.get_path('include')}")
        hot_cc("gcc", *flags, "-shared", "kernel.c", "-o", "kernel.so", cwd=directory)
        self._sequence = int(time.time() * 1e6)
        self._packed = {value: self._pack(value) for value in EDITS}
        self.source.write_text(self.kernel)

    @property
    def build_id(self) -> str:
        return next(iter(self._packed.values())).manifest.build_id

    def edit(self, value: int) -> None:
        """The source says that the answer is ``value``; nothing is pushed."""
        self.source.write_text(self.kernel.replace("return 1000 * unit;", f"return {value} * unit;"))

    def _pack(self, value: int) -> Artefact:
        self.edit(value)
        return self._pack_source()

    def _pack_source(self) -> Artefact:
        from hotreload.patch.pack import pack

        packed = pack(self.source)
        assert packed is not None
        return packed.artefact

    def patch_that(self, does: str) -> Path:
        """A patch whose function does something else than answer, as C."""
        self.source.write_text(self.kernel.replace("return 1000 * unit;", does))
        try:
            made = self._pack_source()
        finally:
            self.source.write_text(self.kernel)
        return self._write(made)

    def patch_with(self, hooks: str, value: int = EDITS[0]) -> Path:
        """A patch that answers ``value`` and brings migration hooks, as C."""
        self.edit(value)
        header = ROOT / "hotreload" / "include" / "hotreload.h"
        self.source.write_text(f'{self.source.read_text()}\n#include "{header}"\n{hooks}\n')
        try:
            made = self._pack_source()
        finally:
            self.source.write_text(self.kernel)
        return self._write(made)

    def patch(self, value: int) -> Path:
        """A patch file that is newer than every one before it, and whose code answers ``value``."""
        return self._write(self._packed[value])

    def _write(self, made: Artefact) -> Path:
        self._sequence += 1
        path = self.directory / f"{self._sequence}.hotpatch"
        path.write_bytes(artefact.build(made.body, made.manifest._replace(sequence=self._sequence)))
        return path


class PairProject(Project):
    """An extension of two functions that change together; a thread may rest in one of them until it is let go."""

    kernel = PAIR

    @property
    def _bed(self) -> Path:
        return self.directory / "rest"

    @contextlib.contextmanager
    def resting(self, server: Server) -> Iterator[RestingRequest]:
        """A request whose thread sits in the code that is live now, from the beginning to the end of the ``with``."""
        os.mkfifo(self._bed)
        request = RestingRequest(server, self._bed)
        try:
            request.start()
            wait_until((self.directory / "resting").exists, what="nobody rests")
            yield request
        finally:
            request.let_go()
            self._bed.unlink()
            (self.directory / "resting").unlink(missing_ok=True)

    def rest_too(self, server: Server) -> RestingRequest:
        """One more, while one rests; whoever lets go of one lets go of both."""
        (self.directory / "resting").unlink()
        request = RestingRequest(server, self._bed)
        request.start()
        wait_until((self.directory / "resting").exists, what="nobody rests")
        return request


class RestingRequest(threading.Thread):
    """A request that takes as long as somebody wants, and its answer."""

    def __init__(self, server: Server, bed: Path) -> None:
        super().__init__(daemon=True)
        self._server, self._bed = server, bed
        self.answer = 0
        self.pid = 0

    def run(self) -> None:
        self.answer, self.pid = self._server.ask("/rest", 300.0)

    def let_go(self) -> int:
        """Ends the rest; what the thread has answered."""
        with contextlib.suppress(OSError):  # it was let go before
            os.close(os.open(self._bed, os.O_WRONLY | os.O_NONBLOCK))
        self.join(20)
        return self.answer


class Cli(NamedTuple):
    """A command that has ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        assert self.out, self
        return dict(json.loads(self.out))

    def states(self) -> dict[int, str]:
        return {row["pid"]: row["state"] for row in self.json["processes"]}


class Server:
    """gunicorn, with a state directory of its own.

    Args:
        project: what it serves.
        workers, threads: how many.
        options: more of gunicorn's command line.
        environment: more of its environment.
    """

    def __init__(
        self, project: Project, *, workers: int = 4, threads: int = 4, options: tuple[str, ...] = (), **environment: str
    ) -> None:
        self.project = project
        self.state = Path(tempfile.mkdtemp(prefix="hr-push-"))
        self.port = 0
        self.workers = workers
        self.log: list[str] = []
        command = [sys.executable, "-m", "gunicorn", "-c", "gunicorn.conf.py", "-w", str(workers)]
        command += ["--threads", str(threads), *options, "app:app"]
        self.environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "HOTRELOAD_STATE": str(self.state),
            "HOTRELOAD_APP": "tests",
            **environment,
        }
        self._process = subprocess.Popen(
            command,
            cwd=project.directory,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.log.append(line)
            listening = re.search(r"Listening at: http://127\.0\.0\.1:(\d+)", line)
            if listening:
                self.port = int(listening[1])

    @property
    def pid(self) -> int:
        return self._process.pid

    def wait_until_ready(self) -> Server:
        """Every worker serves and has its agent."""
        wait_until(lambda: self.port, what="".join(self.log) or "no log")
        wait_until(lambda: len(self.answering()) >= self.workers, what="".join(self.log[-40:]))
        return self

    def answering(self) -> dict[int, Any]:
        """The processes that have the extension loaded and answer, with their statuses."""
        processes = self.status()["processes"]
        return {process["pid"]: process for process in processes if process.get("modules")}

    def worker_pids(self) -> list[int]:
        """The processes that serve, by gunicorn's own order of things: the children of its first process."""
        return [pid for pid in children_of(self.pid) if look(pid)]

    def ask(self, path: str = "/", seconds: float = 10.0) -> tuple[int, int]:
        """One answer, and the pid of the worker that gave it."""
        from tests.push.load import ask

        return ask(self.port, path, seconds)[1:]

    def answers(self, count: int = 24) -> set[int]:
        """The different answers among so many."""
        return {self.ask()[0] for _ in range(count)}

    # The command line ----------------------------------------------------------------------------------------------

    def cli(self, *arguments: object, **environment: str) -> Cli:
        """``hotreload ARGUMENTS`` as an operator types it, beside the server."""
        done = subprocess.run(
            [sys.executable, "-m", "hotreload", *map(str, arguments)],
            cwd=self.project.directory,
            env={**self.environment, **environment},
            capture_output=True,
            text=True,
            timeout=120,
        )
        return Cli(done.returncode, done.stdout, done.stderr)

    def start_cli(self, *arguments: object) -> subprocess.Popen[str]:
        """The same, not waited for."""
        return subprocess.Popen(
            [sys.executable, "-m", "hotreload", *map(str, arguments)],
            cwd=self.project.directory,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def here(self, *arguments: object) -> int:
        """The same in this process, which saves the start of an interpreter."""
        from hotreload.cli.commands import run_command

        with _environment(HOTRELOAD_STATE=str(self.state)), open(os.devnull, "w") as nowhere:
            with contextlib.redirect_stdout(nowhere):
                return run_command([str(argument) for argument in arguments])

    def killed_at(
        self, step: str, value: int, *options: object, stop: bool = False
    ) -> subprocess.CompletedProcess[str]:
        """A push whose command dies by SIGKILL before a step; with ``stop`` a worker is stopped there instead."""
        number = next((int(word) for word in step.split() if word.isdecimal()), 1)
        self.stopped = self.worker_pids()[0]
        act = f"os.kill({self.stopped}, signal.SIGSTOP)" if stop else "os.kill(os.getpid(), signal.SIGKILL)"
        code = _KILLER.format(step=step.split(maxsplit=1)[0], number=number, act=act)
        arguments = ["push", self.project.patch(value), "--deadline", "2s", *options]
        return subprocess.run(
            [sys.executable, "-c", code, *map(str, arguments)],
            cwd=self.project.directory,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=60,
        )

    def push(self, value: int, *options: object) -> Cli:
        """``hotreload push`` of a new patch that answers ``value``."""
        return self.cli("push", self.project.patch(value), "--json", *options)

    def status(self) -> dict[str, Any]:
        """``hotreload status --json``."""
        return self.cli("status", "--json").json

    def live(self) -> dict[int, str]:
        """What each process that has the extension says is live: the hash of a patch, empty for the base."""
        live = {}
        for pid, process in self.answering().items():
            (module,) = process["modules"]
            made = next(one for one in module["generations"] if one["number"] == module["generation"])
            live[pid] = (made["info"] or {}).get("sha256", "")
        return live

    def audit(self) -> list[dict[str, Any]]:
        """The audit trail; a writer that met another in the middle of its line has begun with an empty one."""
        return [json.loads(line) for line in (self.state / "audit.jsonl").read_text().splitlines() if line]

    def close(self) -> None:
        """Ends it, stopped processes too."""
        for pid in [*self.worker_pids(), self.pid]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join(5)
        if self._process.stdout is not None:
            self._process.stdout.close()
        shutil.rmtree(self.state, ignore_errors=True)


class Program:
    """A plain program with an agent that forks, execs and answers when it is told to; no server, no framework."""

    CODE = """\
import os, signal, sys
import hotreload
hotreload.enable(agent=True)
import kernel
print("ready", flush=True)
for line in sys.stdin:
    word = line.strip()
    if word == "fork":
        pid = os.fork()
        if not pid:
            while True:
                signal.pause()
        print(pid, flush=True)
    elif word == "answer":
        print(kernel.answer(), flush=True)
    elif word == "exec":
        print("gone", flush=True)
        os.execv(sys.executable, [sys.executable, "-c", "import time; time.sleep(60)"])
"""

    def __init__(
        self,
        project: Project,
        *,
        before: tuple[str, ...] = (),
        first: str = "",
        owner: Optional[int] = None,
        directory: Optional[Path] = None,
        **environment: str,
    ) -> None:
        """``before`` is a command that starts it, ``first`` code that it runs first, ``owner`` the state's user."""
        self.project = project
        self.state = Path(tempfile.mkdtemp(prefix="hr-push-"))
        if owner is not None:
            os.chown(self.state, owner, owner)
        self.environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "HOTRELOAD_STATE": str(self.state),
            "HOTRELOAD_APP": "tests",
            **environment,
        }
        self._children: list[int] = []
        self._process = subprocess.Popen(
            [*before, sys.executable, "-c", first + self.CODE],
            cwd=directory or project.directory,
            env=self.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._hear() == "ready"

    @property
    def pid(self) -> int:
        return self._process.pid

    cli, push, status, answering, live = Server.cli, Server.push, Server.status, Server.answering, Server.live

    def tell(self, word: str) -> str:
        """One word to the program, one line back."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{word}\n")
        self._process.stdin.flush()
        return self._hear()

    def fork(self) -> int:
        """A child that does nothing, with its agent ready."""
        self._children.append(int(self.tell("fork")))
        wait_until(lambda: (self.state / "sockets" / f"{self._children[-1]}.sock").exists())
        return self._children[-1]

    def kill(self) -> None:
        """The program dies, its children stay."""
        self._process.kill()
        self._process.wait()

    def close(self) -> None:
        """Ends it and what it forked."""
        self.kill()
        for pid in self._children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for stream in (self._process.stdin, self._process.stdout):
            with contextlib.suppress(BrokenPipeError):
                if stream is not None:
                    stream.close()
        shutil.rmtree(self.state, ignore_errors=True)

    def _hear(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()


class Answer(NamedTuple):
    """One request and its answer."""

    started_ns: int
    ended_ns: int
    status: int
    value: int
    pid: int
    error: str


class Load:
    """Requests to a server, from another process, until the end of a ``with``."""

    def __init__(self, server: Server, *, connections: int = 8, rate: float = 300.0) -> None:
        self.answers: list[Answer] = []
        self._command = [sys.executable, str(HERE / "load.py"), str(server.port), str(connections), str(rate)]
        self._process: Optional[subprocess.Popen[str]] = None

    def __enter__(self) -> Load:  # noqa: PYI034
        self._process = subprocess.Popen(self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        return self

    def __exit__(self, *exc: object) -> None:
        assert self._process is not None
        out, _ = self._process.communicate("", timeout=60)
        self.answers = sorted(Answer(*answer) for answer in json.loads(out))

    @property
    def failed(self) -> list[Answer]:
        return [answer for answer in self.answers if answer.status != 200]

    def between(self, start_ns: int, end_ns: int) -> list[Answer]:
        """Answers to requests that began after ``start_ns`` and ended before ``end_ns``."""
        return [answer for answer in self.answers if start_ns < answer.started_ns and answer.ended_ns < end_ns]


@contextlib.contextmanager
def _environment(**values: str) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
