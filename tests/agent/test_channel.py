"""The socket against clients that are slow, rude or many: the agent answers the next one, and the server serves on."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import stat
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hotreload.agent.conversation import MESSAGE_LIMIT
from hotreload.agent.listener import Listener
from hotreload.agent.peer import Peer
from hotreload.state import StateDirectory, StateError
from hotreload.wire import WireError, encode, receive
from tests.agent.kit import Application, sealed, wait_until
from tests.run.harness import Program

STATUS = encode({"v": 1, "cmd": "status"})


def descriptors_of(pid: int) -> int:
    """How many a process has open, once the last client's is closed."""
    counts = []
    for _ in range(20):
        counts.append(len(os.listdir(f"/proc/{pid}/fd")))
        time.sleep(0.01)
    return min(counts)


def reply_to(app: Application, pid: int, data: bytes) -> dict | None:
    """What is said to these bytes; None when the agent hangs up."""
    with app.connect(pid) as sock:
        sock.sendall(data)
        sock.shutdown(socket.SHUT_WR)
        try:
            received = receive(sock)
        except ConnectionResetError:
            return None
        return None if received is None else received[0]


# What may be said on one connection --------------------------------------------------------------------------------


def test_several_requests_may_follow_each_other_on_one_connection(app: Application, serving: int) -> None:
    with app.connect(serving) as sock:
        for _ in range(5):
            sock.sendall(STATUS)
            assert receive(sock)[0]["pid"] == serving


def test_a_request_may_come_in_pieces(app: Application, serving: int) -> None:
    with app.connect(serving) as sock:
        for index in range(len(STATUS)):
            sock.sendall(STATUS[index : index + 1])
            time.sleep(0.001)
        assert receive(sock)[0]["ok"] is True


@pytest.mark.parametrize(
    "data",
    [
        struct.pack(">I", MESSAGE_LIMIT + 1),
        b"\xff\xff\xff\xff",
        struct.pack(">i", -1),
        struct.pack(">I", 4) + b"null",
        struct.pack(">I", 2) + b"[]",
        struct.pack(">I", 3) + b"\xff\xfe\x00",
        struct.pack(">I", 60000) + b"[" * 60000,
        struct.pack(">I", 0),
        STATUS + STATUS,
        STATUS + b"x",
        b"GET / HTTP/1.1\r\n\r\n",
    ],
    ids=lambda data: repr(data[:12]),
)
def test_what_is_no_request_is_refused_and_ends_the_connection(app: Application, serving: int, data: bytes) -> None:
    reply = reply_to(app, serving, data)

    assert reply is not None
    assert reply["ok"] is False
    assert reply["error"]["status"] == "BAD_REQUEST"
    assert app.status(serving)["ok"] is True


@pytest.mark.parametrize("data", [b"", b"\0", STATUS[:3], STATUS[:-1]], ids=repr)
def test_a_client_that_goes_away_in_the_middle_is_forgotten(app: Application, serving: int, data: bytes) -> None:
    assert reply_to(app, serving, data) is None
    assert app.status(serving)["ok"] is True


def test_a_message_of_the_greatest_length_is_taken_and_one_more_byte_is_not(app: Application, serving: int) -> None:
    def padded(length: int) -> bytes:
        body = json.dumps({"v": 1, "cmd": "status"}).encode()
        return struct.pack(">I", length) + body + b" " * (length - len(body))

    assert reply_to(app, serving, padded(MESSAGE_LIMIT))["ok"] is True
    assert reply_to(app, serving, padded(MESSAGE_LIMIT + 1))["error"]["status"] == "BAD_REQUEST"
    assert app.status(serving)["ok"] is True


# Time --------------------------------------------------------------------------------------------------------------


def test_a_client_that_sends_a_byte_a_second_is_cut_off_and_holds_up_no_deadline(app: Application) -> None:
    program = app.start()
    app.prepare(program, "p1", app.hot.artefact("x + 41", sequence=10), deadline=30)
    with app.connect(program.process.pid) as slow:
        slow.sendall(STATUS[:4])
        started = time.monotonic()
        app.decisions.decide("p1", "commit")
        app.do("import tiny\nprint('at', tiny.value(), flush=True)")
        wait_until(lambda: app.value(program) == 42, "the decision is carried out meanwhile", 3)
        assert time.monotonic() - started < 4
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            for index in range(4, len(STATUS)):
                slow.sendall(STATUS[index : index + 1])
                time.sleep(0.4)
        assert 4 < time.monotonic() - started < 10
        assert receive(slow)[0]["error"]["message"] == "the request did not come in time"
    assert app.generation(program) == 1


def test_a_client_that_says_nothing_is_cut_off(app: Application, serving: int) -> None:
    with app.connect(serving) as silent:
        started = time.monotonic()
        assert receive(silent)[0]["error"]["status"] == "BAD_REQUEST"
        assert 4 < time.monotonic() - started < 8


def test_a_client_that_does_not_read_its_answers_is_cut_off(app: Application, serving: int) -> None:
    with app.connect(serving) as deaf:
        deaf.setblocking(False)
        deadline = time.monotonic() + 20
        sent = b""
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            while time.monotonic() < deadline:
                try:
                    sent = sent or STATUS
                    sent = sent[deaf.send(sent) :]
                except BlockingIOError:
                    time.sleep(0.05)
                time.sleep(0.0005)
    assert app.status(serving)["ok"] is True


def test_a_fork_does_not_wait_for_a_slow_client(app: Application) -> None:
    program = app.start()
    with app.connect(program.process.pid) as slow:
        slow.sendall(STATUS[:5])
        time.sleep(0.1)
        app.do(
            "started = time.monotonic()\n"
            "if os.fork() == 0: os._exit(0)\n"
            "os.wait(); print('took', time.monotonic() - started, flush=True)"
        )
        assert float(program.wait_line("took ").split()[1]) < 0.5
        slow.sendall(STATUS[5:])
        assert receive(slow)[0]["pid"] == program.process.pid


# Many --------------------------------------------------------------------------------------------------------------


def test_a_thousand_connections_leave_nothing_behind(app: Application, serving: int) -> None:
    app.status(serving)
    before = descriptors_of(serving)
    memory = rss(serving)
    for number in range(1000):
        with app.connect(serving) as sock:
            if number % 3 == 0:
                sock.sendall(STATUS)
            elif number % 3 == 1:
                sock.sendall(b"\xff" * 100)
    fd = sealed(b"x" * 1000)
    for _ in range(200):
        with app.connect(serving) as sock:
            socket.send_fds(sock, [STATUS[:6]], [fd])
    os.close(fd)
    app.status(serving)

    assert descriptors_of(serving) == before
    assert rss(serving) - memory < 8 << 20


def rss(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096


def test_descriptors_that_nobody_asked_for_are_closed(app: Application, serving: int) -> None:
    app.status(serving)
    before = descriptors_of(serving)
    fds = [os.open(os.devnull, os.O_RDONLY) for _ in range(5)]
    try:
        for _ in range(20):
            with app.connect(serving) as sock:
                socket.send_fds(sock, [STATUS], [fds[0]])
                assert receive(sock)[0]["ok"] is True
            with app.connect(serving) as sock:
                socket.send_fds(sock, [STATUS], fds)
                assert receive(sock)[0]["error"]["status"] == "BAD_REQUEST"
            with app.connect(serving) as sock:
                socket.send_fds(sock, [STATUS[:4]], fds[:1])
                socket.send_fds(sock, [STATUS[4:]], fds[1:2])
                assert receive(sock)[0]["error"]["status"] == "BAD_REQUEST"
    finally:
        [os.close(fd) for fd in fds]
    app.status(serving)

    assert descriptors_of(serving) == before


def test_a_process_without_descriptors_left_answers_when_it_has_some_again(app: Application) -> None:
    program = app.start()
    app.do(
        "held = []\ntry:\n    while True: held.append(os.open('/dev/null', os.O_RDONLY))\nexcept OSError: pass\n"
        "print('full', flush=True)\ntime.sleep(1)\n[os.close(fd) for fd in held]"
    )
    program.wait_line("full")

    assert app.status(program)["ok"] is True


# The socket --------------------------------------------------------------------------------------------------------


class NoClerk:
    seconds_to_next = None

    def answer(self, message: dict, fd: int | None, peer: Peer) -> dict:
        return {"ok": True}

    def refuse_garbage(self, error: WireError, peer: Peer) -> dict:
        return {"ok": False}

    def note_gone(self) -> None:
        pass

    def tick(self) -> None:
        pass


@pytest.fixture
def listener(tmp_path: Path):
    listener = Listener(StateDirectory(tmp_path / "state"), NoClerk(), print)
    yield listener
    listener.close()


def test_only_its_owner_may_connect(listener: Listener, tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        listener.open()
    finally:
        os.umask(old)
    mode = (tmp_path / "state" / "sockets" / f"{os.getpid()}.sock").stat().st_mode

    assert stat.S_ISSOCK(mode)
    assert stat.S_IMODE(mode) == 0o600


def test_the_socket_of_a_dead_process_is_replaced(listener: Listener, tmp_path: Path) -> None:
    path = tmp_path / "state" / "sockets" / f"{os.getpid()}.sock"
    os.makedirs(path.parent, 0o700)
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(f"/proc/self/fd/{os.open(path.parent, os.O_RDONLY)}/{path.name}")
    listener.open()
    listener.start()
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(f"/proc/self/fd/{os.open(path.parent, os.O_RDONLY)}/{path.name}")
        sock.sendall(STATUS)
        assert receive(sock)[0] == {"ok": True}


@pytest.mark.parametrize("what", ["file", "link", "dangling link", "directory", "answered", "foreign"])
def test_what_is_in_the_way_and_no_dead_socket_of_ours_stays(listener: Listener, tmp_path: Path, what: str) -> None:
    path = tmp_path / "state" / "sockets" / f"{os.getpid()}.sock"
    os.makedirs(path.parent, 0o700)
    with contextlib.ExitStack() as stack:
        if what == "file":
            path.write_text("mine")
        elif what == "link":
            (tmp_path / "target").write_text("mine")
            path.symlink_to(tmp_path / "target")
        elif what == "dangling link":
            path.symlink_to(tmp_path / "nowhere")
        elif what == "directory":
            path.mkdir()
        else:
            other = stack.enter_context(socket.socket(socket.AF_UNIX))
            other.bind(f"/proc/self/fd/{os.open(path.parent, os.O_RDONLY)}/{path.name}")
            if what == "answered":
                other.listen()
            elif os.getuid():
                pytest.skip("needs root to give a file away")
            else:
                os.chown(path, 65534, -1)
        before = os.lstat(path)
        with pytest.raises(StateError, match=str(os.getpid())):
            listener.open()

        assert os.lstat(path).st_ino == before.st_ino
        assert not listener.is_listening


def test_what_takes_its_name_meanwhile_stays_and_that_is_said_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hotreload.agent.listener._LOOK_SECONDS", 0.02)
    path = tmp_path / "state" / "sockets" / f"{os.getpid()}.sock"
    said: list[str] = []
    listener = Listener(StateDirectory(tmp_path / "state"), NoClerk(), said.append)
    try:
        listener.open()
        listener.start()
        path.unlink()
        path.write_text("mine")
        wait_until(lambda: said, "it says so")
        time.sleep(0.2)
        assert path.read_text() == "mine"
        assert len(said) == 1
        path.unlink()
        wait_until(path.is_socket, "it takes its name again")
        assert listener.is_listening
    finally:
        listener.close()
    assert not path.exists()


@pytest.mark.parametrize("what", ["socket", "directory"])
def test_a_process_whose_socket_is_removed_makes_it_anew(app: Application, what: str) -> None:
    program = app.start()
    app.status(program)
    before = descriptors_of(program.process.pid)
    path = app.state_path / "sockets" / f"{program.process.pid}.sock"
    path.unlink()
    if what == "directory":
        path.parent.rmdir()
    wait_until(path.is_socket, "its socket is back", 10)

    assert app.push(program, "p1", app.hot.artefact("x + 41", sequence=10))["generation"] == 1
    assert app.value(program) == 42
    assert descriptors_of(program.process.pid) == before


@pytest.mark.parametrize("what", ["sockets is a link", "state is a link", "open to others", "foreign"])
def test_a_state_directory_that_others_could_reach_is_refused(tmp_path: Path, what: str) -> None:
    real = tmp_path / "real"
    real.mkdir(0o700)
    state = tmp_path / "state"
    if what == "state is a link":
        state.symlink_to(real)
    else:
        state.mkdir(0o700)
        if what == "sockets is a link":
            (state / "sockets").symlink_to(real)
        elif what == "open to others":
            state.chmod(0o755)
        elif os.getuid():
            pytest.skip("needs root to give a directory away")
        else:
            os.chown(state, 65534, -1)
    script = (
        f"import os; os.environ['HOTRELOAD_STATE'] = {str(state)!r}\n"
        "import hotreload\nfrom hotreload.errors import HotReloadError\n"
        "try: hotreload.enable(agent=True)\nexcept HotReloadError as error: print('refused:', error.message)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=tmp_path)

    assert done.stdout.startswith("refused:")
    assert not list(real.iterdir())


def test_a_state_directory_with_a_long_path_is_no_obstacle(app: Application) -> None:
    app.state_path = app.directory / ("long" * 30) / ("longer" * 20)
    program = app.start()

    assert len(str(app.state_path)) > 200
    assert app.status(program)["pid"] == program.process.pid


def test_the_socket_goes_with_the_process_and_those_of_the_dead_are_swept(app: Application) -> None:
    killed, ended = app.start(), app.start(after="import signal; signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))")
    assert app.sockets() == {killed.process.pid, ended.process.pid}
    ended.end(signal.SIGTERM)
    assert app.sockets() == {killed.process.pid}
    killed.end(signal.SIGKILL)
    assert app.sockets() == {killed.process.pid}
    program = app.start()

    assert app.sockets() == {program.process.pid}


def test_a_program_that_closes_all_descriptors_gets_a_new_socket(app: Application) -> None:
    program = app.start()
    app.do(
        "os.closerange(3, 200)\nkept = [os.open('/dev/null', os.O_RDONLY) for _ in range(20)]\nprint('shut', flush=True)"
    )
    program.wait_line("shut")

    def answers() -> bool:
        with contextlib.suppress(OSError, AssertionError, TypeError):
            return app.status(program)["ok"]
        return False

    wait_until(answers, "it answers again")
    app.do("print('whole', all(os.fstat(fd).st_rdev == os.stat('/dev/null').st_rdev for fd in kept), flush=True)")
    assert program.wait_line("whole").split()[1] == "True"
    assert app.push(program, "p1", app.hot.artefact("x + 41", sequence=10))["generation"] == 1


def test_it_does_not_stand_between_the_program_and_its_signals(app: Application) -> None:
    # Not print: a second signal in the middle of the first one's would end the program.
    program = app.start(after="import signal; signal.signal(signal.SIGUSR1, lambda *_: os.write(1, b'usr1\\n'))")
    for _ in range(20):
        app.status(program)
        program.process.send_signal(signal.SIGUSR1)
        time.sleep(0.01)
    wait_until(lambda: program.stdout.count("usr1") >= 10, "the signals arrive")
    tid = next(int(t) for t in os.listdir(f"/proc/{program.process.pid}/task") if int(t) != program.process.pid)
    blocked = next(
        int(line.split()[1], 16)
        for line in Path(f"/proc/{program.process.pid}/task/{tid}/status").read_text().splitlines()
        if line.startswith("SigBlk")
    )

    assert blocked >> (signal.SIGUSR1 - 1) & 1
    assert not blocked >> (signal.SIGSEGV - 1) & 1


def test_disable_takes_the_socket_away(app: Application) -> None:
    program = app.start()
    app.do("hotreload.disable(); print('off', flush=True)")
    program.wait_line("off")

    assert app.sockets() == set()
    wait_until(lambda: len(os.listdir(f"/proc/{program.process.pid}/task")) == 1, "the thread ends")


def test_it_stays_off_where_it_is_forbidden(app: Application) -> None:
    program = app.start(HOTRELOAD_DISABLE="1")

    assert not app.state_path.exists()
    assert "forbidden here" in program.stderr[0]


def run_with_agent(app: Application, **environment: str) -> Program:
    path = app.directory / "plain.py"
    path.write_text("import os, time\nprint('ready', os.getpid(), flush=True)\ntime.sleep(60)\n")
    program = app.launch("-m", "hotreload", "run", str(path), **environment)
    program.wait_line("ready ")
    return program


def test_hotreload_run_starts_an_agent_instead_of_a_helper(app: Application) -> None:
    program = run_with_agent(app, HOTRELOAD_AGENT="1")
    status = app.status(program)

    assert status["app"] == "plain"
    assert status["pid"] == program.process.pid
    assert not (app.directory / "runtime").exists() or not list((app.directory / "runtime").iterdir())


def test_without_a_usable_state_directory_the_program_runs_and_one_line_says_why(app: Application) -> None:
    app.state_path.mkdir(mode=0o755)
    app.state_path.chmod(0o755)
    program = run_with_agent(app, HOTRELOAD_AGENT="1")

    assert [line for line in program.stderr if "no agent in process" in line and "is open to other users" in line]
