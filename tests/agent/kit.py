"""What the tests of the agent share: a hot extension with artefacts for it, and real processes with agents.

The program prints what its extension computes; the test asks its agent over the socket, as a pusher would.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Union

from hotreload.agent.sealed import SEALS
from hotreload.artefact import Artefact, parse
from hotreload.patch.pack import pack
from hotreload.state import Decisions, PatchStore, Quarantine, StateDirectory
from hotreload.wire import encode, receive
from tests.run.harness import PATIENCE, Extension, Program, build

#: Asks for things on stdin's behalf: each file that appears in ``do/`` is run as Python, in order of its name.
SERVER = """\
import os, sys, threading, time
sys.path.insert(0, {ext!r})
import hotreload
{before}
hotreload.enable(agent=True)
{after}
def look():
    import tiny
    return tiny.value()

print("ready", os.getpid(), look(), flush=True)
done = set()
while True:
    for name in sorted(os.listdir("do")):
        if name not in done and not name.startswith("."):
            done.add(name)
            exec(open("do/" + name).read(), globals())
    time.sleep(0.005)
"""


def sealed(raw: bytes, seals: int = SEALS) -> int:
    """A memfd with that content and those seals."""
    fd = os.memfd_create("test", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.write(fd, raw)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)
    return fd


@dataclass(frozen=True)
class Hot:
    """A built extension whose ``value()`` is 2, and artefacts with which it is something else."""

    extension: Extension
    directory: Path

    def artefact(self, expression: str, **options: Any) -> Artefact:
        """The artefact that makes ``shade(1)`` compute ``expression`` of ``x``."""
        self.extension.header.write_text(self.extension.shade(expression))
        packed = pack(self.extension.source, author="a test", **options)
        assert packed is not None
        return packed.artefact

    @property
    def build_id(self) -> str:
        return self.artefact("x + 90", sequence=1).manifest.build_id


def build_hot(directory: Path, name: str = "tiny") -> Hot:
    """Builds the extension in a store of its own; HOTRELOAD_STORE must say so while artefacts are packed."""
    return Hot(build(directory, name), directory)


class Refused(Exception):
    """An agent said no."""

    def __init__(self, error: dict[str, Any]) -> None:
        super().__init__(json.dumps(error))
        self.status = error.get("status", "")
        self.message = error["message"]
        self.error = error


class Application:
    """A state directory, the processes that use it, and a pusher's hand."""

    def __init__(self, directory: Path, hot: Hot) -> None:
        self.directory = directory
        self.hot = hot
        self.state_path = directory / "state"
        self._do = directory / "do"
        self._do.mkdir()
        self._numbers = iter(range(1000))
        self._programs = contextlib.ExitStack()

    # The state directory -------------------------------------------------------------------------------------------

    @property
    def state(self) -> StateDirectory:
        return StateDirectory(self.state_path)

    @property
    def decisions(self) -> Decisions:
        return Decisions(self.state)

    @property
    def patches(self) -> PatchStore:
        return PatchStore(self.state)

    @property
    def quarantine(self) -> Quarantine:
        return Quarantine(self.state)

    def audit(self, event: str = "") -> list[dict[str, Any]]:
        lines = (self.state_path / "audit.jsonl").read_text().splitlines()
        return [entry for entry in map(json.loads, lines) if not event or entry["event"] == event]

    def sockets(self) -> set[int]:
        return {int(path.stem) for path in (self.state_path / "sockets").glob("*.sock")}

    # Processes -----------------------------------------------------------------------------------------------------

    def start(self, *, before: str = "", after: str = "", server: str = SERVER, **environment: str) -> Program:
        """Starts the server and waits until it serves."""
        path = self.directory / f"server{next(self._numbers)}.py"
        path.write_text(
            server.format(ext=str(self.hot.extension.directory), before=before, after=after)
            if server is SERVER
            else server
        )
        program = self.launch(str(path), **environment)
        program.wait_line("ready ")
        return program

    def launch(self, *arguments: str, **environment: str) -> Program:
        """Starts any Python program with this application's state."""
        program = Program(
            arguments, directory=self.directory, **{"HOTRELOAD_STATE": str(self.state_path), **environment}
        )
        return self._programs.enter_context(program)

    def do(self, code: str) -> None:
        """Has every server of this application run ``code``."""
        name = f"{next(self._numbers):05}"
        (self._do / f".{name}").write_text(code)
        (self._do / f".{name}").rename(self._do / name)

    def value(self, program: Program) -> int:
        """What the extension of that program computes now."""
        before = len(program.stdout)
        self.do('os.write(1, f"value {look()} end\\n".encode())')
        return int(program.wait_line("value ", after=before).split()[1])

    def close(self) -> None:
        self._programs.close()

    # Asking --------------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def connect(self, pid: int) -> Iterator[socket.socket]:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(PATIENCE)
            # The path of a test's directory may be longer than a socket's may be.
            fd = os.open(self.state_path / "sockets", os.O_RDONLY | os.O_DIRECTORY)
            try:
                deadline = time.monotonic() + PATIENCE
                while True:
                    try:
                        sock.connect(f"/proc/self/fd/{fd}/{pid}.sock")
                        break
                    except (FileNotFoundError, ConnectionRefusedError, BlockingIOError):
                        if time.monotonic() > deadline:
                            raise
                        time.sleep(0.01)
            finally:
                os.close(fd)
            yield sock

    def ask(self, pid: Union[int, Program], cmd: str, fd: int | None = None, **fields: Any) -> dict[str, Any]:
        """One request; a refusal is raised."""
        number = pid if isinstance(pid, int) else pid.process.pid
        with self.connect(number) as sock:
            data = encode({"v": 1, "cmd": cmd, **fields})
            if fd is None:
                sock.sendall(data)
            else:
                socket.send_fds(sock, [data], [fd])
            received = receive(sock)
        assert received is not None, "the agent hung up"
        reply = received[0]
        if not reply["ok"]:
            raise Refused(reply["error"])
        return reply

    def prepare(
        self,
        pid: Union[int, Program],
        push: str,
        artefact: Union[Artefact, bytes],
        deadline: float = 20.0,
        **fields: Any,
    ) -> dict[str, Any]:
        fd = sealed(artefact if isinstance(artefact, bytes) else artefact.raw)
        try:
            return self.ask(pid, "prepare", fd, push=push, deadline=deadline, **fields)
        finally:
            os.close(fd)

    def push(self, pid: Union[int, Program], push: str, artefact: Artefact, **fields: Any) -> dict[str, Any]:
        """Both phases in one process."""
        self.prepare(pid, push, artefact, **fields)
        return self.ask(pid, "commit", push=push)

    def store(self, artefact: Artefact) -> None:
        """Makes an artefact current, as a pusher does."""
        self.patches.set_current(artefact.manifest.build_id, self.patches.put(artefact))

    def status(self, pid: Union[int, Program]) -> dict[str, Any]:
        return self.ask(pid, "status")

    def generation(self, pid: Union[int, Program]) -> int:
        """What is live of the extension in that process."""
        (module,) = [module for module in self.status(pid)["modules"] if module["name"] == "tiny"]
        return int(module["generation"])


def refusal_of(call: Callable[..., Any], *arguments: Any, **fields: Any) -> str:
    """The status with which a request is refused."""
    try:
        call(*arguments, **fields)
    except Refused as refused:
        return refused.status
    return "nothing was refused"


def wait_until(condition: Callable[[], Any], what: str, seconds: float = PATIENCE) -> Any:
    """Waits for something that no line tells of."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, what
        time.sleep(0.02)
    return found


__all__ = ["Application", "Hot", "Refused", "build_hot", "parse", "refusal_of", "sealed", "wait_until"]
