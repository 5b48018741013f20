"""Who is at the other end, and what is said where the kernel cannot hold the process."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from hotreload.agent import peer


@pytest.fixture
def pair(tmp_path: Path):
    """A connection to a socket with a name, as the agent's is."""
    with socket.socket(socket.AF_UNIX) as listening, socket.socket(socket.AF_UNIX) as client:
        listening.bind(str(tmp_path / "s"))
        listening.listen()
        client.connect(str(tmp_path / "s"))
        server, _ = listening.accept()
        with server:
            yield server


def test_the_peer_is_named_with_its_program(pair: socket.socket) -> None:
    found = peer.peer_of(pair)

    assert found is not None
    assert (found.pid, found.uid, found.gid) == (os.getpid(), os.getuid(), os.getgid())
    if found.is_verified:
        assert found.exe == os.path.realpath("/proc/self/exe")
    assert found.as_dict()["peer_pid"] == os.getpid()


def test_where_the_kernel_has_no_pidfd_nothing_is_read_about_the_process(
    pair: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peer, "_SO_PEERPIDFD", 4242)
    found = peer.peer_of(pair)

    assert found == peer.Peer(os.getpid(), os.getuid(), os.getgid())
    assert found.is_verified is False


def test_who_became_root_by_sudo_is_told(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "s"))
        listening.listen()
        script = f"import socket; s = socket.socket(1); s.connect({str(tmp_path / 's')!r}); s.recv(1)"
        with subprocess.Popen([sys.executable, "-c", script], env={"SUDO_UID": "1000\n\x1b[2J"}) as client:
            server, _ = listening.accept()
            with server:
                found = peer.peer_of(server)
                server.sendall(b"x")
            client.wait()

    assert found is not None
    if not found.is_verified:
        pytest.skip("needs SO_PEERPIDFD")
    assert found.sudo_uid == "1000\\n\\x1b[2J"


def test_one_that_has_ended_is_nobody(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "s"))
        listening.listen()
        script = f"import socket; s = socket.socket(1); s.connect({str(tmp_path / 's')!r})"
        subprocess.run([sys.executable, "-c", script], check=True)
        server, _ = listening.accept()
        with server:
            found = peer.peer_of(server)

    assert found is None or not found.is_verified
