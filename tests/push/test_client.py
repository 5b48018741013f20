"""What an agent can do to the command line: say no, nothing, too much, too slowly, or nonsense."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hotreload.push.client import AgentClient, Finder, SealedPatch
from hotreload.push.coordinator import EndedError, RefusedError, SilentError
from hotreload.push.processes import Process, children_of, family_of, look, pids_of_sockets
from hotreload.push.records import Identity
from hotreload.wire import encode

HEAD = struct.Struct(">I")
Speak = Callable[[socket.socket], None]


@pytest.fixture
def sockets(tmp_path: Path) -> Iterator[int]:
    directory = tmp_path / ("a" * 60) / ("b" * 60)
    directory.mkdir(parents=True)
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    yield fd
    os.close(fd)


@contextlib.contextmanager
def agent(sockets: int, speak: Speak) -> Iterator[AgentClient]:
    """An agent of this process that does with its one client what the test says."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(f"/proc/self/fd/{sockets}/{os.getpid()}.sock")
    listener.listen(4)

    def serve() -> None:
        client, _ = listener.accept()
        with client, contextlib.suppress(OSError):
            client.recv(65536)
            speak(client)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    (client,) = Finder(sockets, timeout=0.5).clients()
    yield client
    listener.close()
    thread.join(5)


def test_a_path_that_is_too_long_for_a_socket_is_reached(sockets: int) -> None:
    assert len(os.readlink(f"/proc/self/fd/{sockets}")) > 108
    with agent(sockets, lambda client: client.sendall(encode({"ok": True, "modules": []}))) as client:
        assert client.status().live == ()


def test_a_refusal_has_its_message_and_its_hint(sockets: int) -> None:
    refusal = {"ok": False, "error": {"message": "no memory", "hint": "add some", "status": "MAP"}}
    with agent(sockets, lambda client: client.sendall(encode(refusal))) as client:
        with pytest.raises(RefusedError, match=r"no memory \(add some\)") as raised:
            client.status()
    assert raised.value.status == "MAP"


@pytest.mark.parametrize("error", [None, "no", {}, 7])
def test_a_refusal_without_a_reason_is_still_one(sockets: int, error: object) -> None:
    with agent(sockets, lambda client: client.sendall(encode({"ok": False, "error": error}))) as client:
        with pytest.raises(RefusedError, match="did not say why"):
            client.status()


@pytest.mark.parametrize("body", [b"", b"nonsense", b"[]", b"\xff" * 9, b"[" * 9000])
def test_an_answer_that_is_no_message_is_refused(sockets: int, body: bytes) -> None:
    with agent(sockets, lambda client: client.sendall(HEAD.pack(len(body)) + body)) as client:
        with pytest.raises(RefusedError, match="its answer is no message"):
            client.status()


def test_an_answer_without_end_is_not_read(sockets: int) -> None:
    with agent(sockets, lambda client: client.sendall(HEAD.pack(0xFFFFFFFF) + b"x" * 99)) as client:
        with pytest.raises(RefusedError, match="over the limit"):
            client.status()


def test_silence_has_an_end(sockets: int) -> None:
    began = time.monotonic()
    with agent(sockets, lambda client: time.sleep(1)) as client:
        with pytest.raises(SilentError, match=r"no answer within 0\.5 s"):
            client.status()
    assert time.monotonic() - began < 3


def test_a_byte_now_and_then_is_silence_too(sockets: int) -> None:
    def drip(client: socket.socket) -> None:
        for byte in encode({"ok": True, "modules": [], "filler": "x" * 100}):
            client.sendall(bytes([byte]))
            time.sleep(0.05)

    with agent(sockets, drip) as client:
        with pytest.raises(SilentError):
            client.status()


def test_a_connection_that_is_closed_by_a_living_process_is_silence(sockets: int) -> None:
    with agent(sockets, lambda client: client.sendall(b"\0\0")) as client:
        with pytest.raises(SilentError, match="it closed the connection"):
            client.status()


def test_a_status_that_is_none_does_no_harm(sockets: int) -> None:
    for modules in (None, 3, [3], [{}]):
        with agent(sockets, lambda client, m=modules: client.sendall(encode({"ok": True, "modules": m}))) as client:
            client.status()
        os.unlink(f"{os.getpid()}.sock", dir_fd=sockets)


def test_a_stopped_process_is_named_as_such(sockets: int) -> None:
    pid = os.fork()
    if not pid:
        signal.pause()
        os._exit(0)
    try:
        os.kill(pid, signal.SIGSTOP)
        os.waitpid(pid, os.WUNTRACED)
        process = look(pid)
        assert process is not None
        with pytest.raises(SilentError, match="stopped by a signal"):
            AgentClient(sockets, process, timeout=0.2, users=frozenset({0})).status()
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    with pytest.raises(EndedError):
        AgentClient(sockets, process, timeout=0.2, users=frozenset({0})).status()


def test_the_patch_travels_sealed_and_every_process_has_an_offset_of_its_own() -> None:
    sealed = SealedPatch(b"patch")
    first, second = sealed.open(), sealed.open()

    assert os.read(first, 9) == os.read(second, 9) == b"patch"
    assert fcntl.fcntl(first, fcntl.F_GET_SEALS) & 15 == 15
    with pytest.raises(OSError, match="not permitted"):
        os.truncate(f"/proc/self/fd/{first}", 1)
    for fd in (first, second):
        os.close(fd)
    sealed.close()


def test_the_request_carries_version_and_descriptor(sockets: int) -> None:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(f"/proc/self/fd/{sockets}/{os.getpid()}.sock")
    listener.listen(1)
    heard: list[object] = []

    def serve() -> None:
        client, _ = listener.accept()
        data, fds, _flags, _address = socket.recv_fds(client, 65536, 4)
        heard.extend([json.loads(data[4:]), os.pread(fds[0], 9, 0)])
        os.close(fds[0])
        client.sendall(encode({"ok": True}))
        client.close()

    thread = threading.Thread(target=serve)
    thread.start()
    sealed = SealedPatch(b"patch")
    (client,) = Finder(sockets, timeout=2).clients()
    client.prepare("P", sealed, 5.0, flags={"rollback": True})
    thread.join(5)
    sealed.close()
    listener.close()

    assert heard == [{"v": 1, "cmd": "prepare", "push": "P", "deadline": 5.0, "rollback": True}, b"patch"]


def test_names_that_are_no_sockets_of_processes_are_passed_over(sockets: int) -> None:
    for name in ("12.sock", "x.sock", "-3.sock", ".4.new", "7"):
        os.close(os.open(name, os.O_CREAT, 0o600, dir_fd=sockets))

    assert pids_of_sockets(sockets) == [12]


def test_a_pid_with_another_start_is_another_process() -> None:
    me = look(os.getpid())
    assert me is not None
    assert me.is_alive()
    assert not Process(Identity(me.identity.pid, me.identity.started - 1), 1, False, "").is_alive()
    assert look(2**22 + 1) is None


def test_a_family_is_a_process_and_its_descendants() -> None:
    assert os.getpid() in family_of([os.getppid()])
    assert os.getpid() in children_of(os.getppid())
