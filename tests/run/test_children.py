"""Programs of several processes: forked, spawned, and gunicorn's."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from tests.run.harness import Extension, Program, Start, helper_pids, leftovers

LOOP = """\
import os, sys, time
sys.path.insert(0, {ext!r})

def serve(who):
    import tiny
    last = None
    while True:
        value = tiny.value()
        if value != last:
            os.write(1, f"{{who}} value {{value}} end\\n".encode())
            last = value
        if os.getppid() == 1:
            os._exit(0)
        time.sleep(0.005)
"""


@pytest.fixture
def loop(tmp_path: Path, extension: Extension) -> Path:
    path = tmp_path / "loop.py"
    path.write_text(LOOP.format(ext=str(extension.directory)))
    return path


def test_forked_children_get_every_patch_and_late_ones_the_newest(
    start: Start, tmp_path: Path, loop: Path, extension: Extension
) -> None:
    script = tmp_path / "app.py"
    script.write_text(
        "import os, time\nfrom loop import serve\n"
        "import tiny\n"
        "def child(who):\n"
        "    if os.fork() == 0:\n"
        "        serve(who)\n"
        "child('a'); child('b')\n"
        "while not os.path.exists('go'): time.sleep(0.01)\n"
        "child('c')\n"
        "serve('parent')\n"
    )
    program = start(str(script))
    program.wait_line("a value 2 ")
    program.wait_line("b value 2 ")
    program.wait_event("extension.found")
    extension.header.write_text(extension.shade("x + 41"))
    program.wait_line("a value 42 ")
    program.wait_line("b value 42 ")
    assert program.wait_reloads(1)["processes"] == 3
    (tmp_path / "go").touch()
    program.wait_line("c value 42 ")
    program.wait_line("parent value 42 ")
    extension.header.write_text(extension.shade("x + 6"))
    for who in ("a", "b", "c", "parent"):
        program.wait_line(f"{who} value 7 ")
    assert program.wait_reloads(2)["processes"] == 4

    program.end(signal.SIGKILL)
    assert not helper_pids(tmp_path)
    assert not leftovers(tmp_path)


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_multiprocessing_children_get_the_patch(
    start: Start, tmp_path: Path, loop: Path, extension: Extension, method: str
) -> None:
    script = tmp_path / "app.py"
    script.write_text(
        "import multiprocessing\nfrom loop import serve\n"
        "if __name__ == '__main__':\n"
        f"    context = multiprocessing.get_context({method!r})\n"
        "    child = context.Process(target=serve, args=('child',), daemon=True)\n"
        "    child.start()\n"
        "    import os, time\n"
        "    while not os.path.exists('go'): time.sleep(0.01)\n"
        "    child.terminate(); child.join()\n"
    )
    program = start(str(script))
    program.wait_line("child value 2 ")
    program.wait_event("extension.found")
    extension.header.write_text(extension.shade("x + 41"))

    program.wait_line("child value 42 ")
    (tmp_path / "go").touch()
    assert program.wait() == 0
    assert not helper_pids(tmp_path)
    assert not leftovers(tmp_path)


def test_a_program_that_forks_a_lot_stays_whole(start: Start, tmp_path: Path, loop: Path) -> None:
    script = tmp_path / "app.py"
    script.write_text(
        "import os, sys, warnings\nwarnings.simplefilter('error')\nfrom loop import serve\nimport tiny\n"
        "for number in range(60):\n"
        "    pid = os.fork()\n"
        "    if pid == 0:\n"
        "        os._exit(0 if tiny.value() == 2 else 1)\n"
        "    assert os.waitpid(pid, 0)[1] == 0\n"
        "descriptors = len(os.listdir('/proc/self/fd'))\n"
        "tasks = len(os.listdir('/proc/self/task'))\n"
        "print('done', descriptors < 15, tasks, flush=True)\n"
    )
    program = start(str(script))
    program.wait()

    assert program.stdout == ["done True 2"]
    assert program.stderr == [] or all("extension.found" in line for line in program.stderr)


def test_subprocesses_that_are_not_python_are_left_alone(start: Start, tmp_path: Path) -> None:
    script = tmp_path / "app.py"
    script.write_text(
        "import subprocess\n"
        "out = subprocess.run(['sh', '-c', 'ls -l /proc/self/fd'], capture_output=True, text=True).stdout\n"
        "print([line for line in out.splitlines() if 'socket' in line])\n"
    )
    program = start(str(script))
    program.wait()

    assert program.stdout == ["[]"]


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def test_gunicorns_workers_all_get_the_patch_and_a_new_worker_the_newest(
    start: Start, tmp_path: Path, extension: Extension
) -> None:
    pytest.importorskip("gunicorn")
    (tmp_path / "app.py").write_text(
        f"import os, sys\nsys.path.insert(0, {str(extension.directory)!r})\nimport tiny\n"
        "def application(environ, start_response):\n"
        "    start_response('200 OK', [('Content-Type', 'text/plain')])\n"
        "    return [f'{os.getpid()} {tiny.value()}'.encode()]\n"
    )
    port = free_port()
    gunicorn = str(Path(sys.executable).with_name("gunicorn"))
    options = subprocess.run([gunicorn, "--help"], capture_output=True, text=True, check=True).stdout
    quiet = ["--no-control-socket"] if "--no-control-socket" in options else []
    serve = [gunicorn, "-k", "gthread", "-w", "2", "--threads", "2", "-b", f"127.0.0.1:{port}", *quiet]
    program = start("--", *serve, "app:application", HOTRELOAD_VERBOSE="1")
    program.wait_for(lambda: len(workers(program)) >= 2, "no two workers")
    program.wait_event("extension.found")

    def ask() -> tuple[int, int]:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=10) as response:
            pid, value = response.read().split()
        return int(pid), int(value)

    def values(expected: int) -> dict[int, int]:
        """Asks until two workers have answered."""
        seen: dict[int, int] = {}
        for _ in range(400):
            pid, value = ask()
            seen[pid] = value
            if len(seen) == 2 and set(seen.values()) == {expected}:
                break
        return seen

    assert set(values(2).values()) == {2}
    extension.header.write_text(extension.shade("x + 41"))
    assert program.wait_reloads(1)["processes"] == 2
    patched = values(42)
    assert set(patched.values()) == {42}

    victim = next(iter(patched))
    os.kill(victim, signal.SIGKILL)
    program.wait_event("patch.delivered")
    seen = values(42)
    assert set(seen.values()) == {42}
    assert victim not in seen

    assert program.end(signal.SIGTERM) == 0
    assert not helper_pids(tmp_path)
    assert not leftovers(tmp_path)


def workers(program: Program) -> list[str]:
    return [line for line in program.stderr if "Booting worker with pid" in line]


def test_a_daemon_that_closes_every_descriptor_loses_no_byte_and_its_children_get_the_patch(
    start: Start, tmp_path: Path, loop: Path, extension: Extension
) -> None:
    script = tmp_path / "app.py"
    script.write_text(
        "import os, time\nfrom loop import serve\nimport tiny\n"
        "def wait():\n"
        "    end = time.monotonic() + 20\n"
        "    while not os.path.exists('go') and time.monotonic() < end: time.sleep(0.01)\n"
        "    os._exit(0)\n"
        "if os.fork(): wait()\n"
        "os.setsid()\n"
        "os.closerange(3, 256)\n"
        "files = [open(f'data{number}', 'wb', buffering=0) for number in range(12)]\n"
        "if os.fork() == 0:\n"
        "    serve('child')\n"
        "import array, _ctypes\n"
        "bad = 0\n"
        "for file in files:\n"
        "    try: file.write(b'mine')\n"
        "    except OSError: bad += 1\n"
        "print('bad', bad, flush=True)\n"
        "wait()\n"
    )
    program = start(str(script))
    program.wait_line("bad 0")
    program.wait_line("child value 2 ")
    program.wait_event("extension.found")
    extension.header.write_text(extension.shade("x + 41"))
    program.wait_line("child value 42 ")
    (tmp_path / "go").touch()

    assert program.wait() == 0
    assert {(tmp_path / f"data{number}").read_bytes() for number in range(12)} == {b"mine"}
    assert not leftovers(tmp_path)


def test_a_process_that_starts_after_an_edit_never_runs_the_base(
    start: Start, tmp_path: Path, loop: Path, extension: Extension
) -> None:
    (tmp_path / "child.py").write_text(
        f"import sys, _thread\nsys.path.insert(0, {str(extension.directory)!r})\n"
        "strangers, main = [], _thread.get_ident()\n"
        "def audit(event, arguments):\n"
        "    if event == 'import' and _thread.get_ident() != main: strangers.append(arguments[0])\n"
        "sys.addaudithook(audit)\n"
        "import tiny\n"
        "print('first', tiny.value(), 'imported by the link', strangers)\n"
    )
    script = tmp_path / "app.py"
    script.write_text(
        "import os, subprocess, sys, time\nfrom loop import serve\nimport tiny\n"
        "print('ready', flush=True)\n"
        "while tiny.value() == 2: time.sleep(0.01)\n"
        "time.sleep(0.3)\n"
        "for _ in range(5): subprocess.run([sys.executable, 'child.py'])\n"
    )
    program = start(str(script))
    program.wait_line("ready")
    program.wait_event("extension.found")
    extension.header.write_text(extension.shade("x + 41"))
    program.wait()

    assert program.stdout == ["ready", *["first 42 imported by the link []"] * 5]


def test_a_callback_that_imports_what_is_being_imported_is_no_deadlock(
    start: Start, tmp_path: Path, loop: Path, extension: Extension
) -> None:
    (tmp_path / "child.py").write_text(
        f"import sys, time\nsys.path.insert(0, {str(extension.directory)!r})\nimport hotreload\n"
        "seen = []\n"
        "hotreload.subscribe(lambda event: seen.append(__import__('tiny').value()))\n"
        "started = time.monotonic()\n"
        "import tiny\n"
        "while not seen: time.sleep(0.01)\n"
        "print('in time', time.monotonic() - started < 6, tiny.value(), seen[0])\n"
    )
    script = tmp_path / "app.py"
    script.write_text(
        "import subprocess, sys, time\nfrom loop import serve\nimport tiny\n"
        "print('ready', flush=True)\n"
        "while tiny.value() == 2: time.sleep(0.01)\n"
        "time.sleep(0.3)\n"
        "subprocess.run([sys.executable, 'child.py'])\n"
    )
    program = start(str(script))
    program.wait_line("ready")
    program.wait_event("extension.found")
    extension.header.write_text(extension.shade("x + 41"))
    program.wait()

    assert program.stdout[1].startswith("in time True")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_a_process_of_another_user_says_once_that_its_children_cannot_reach_the_helper(
    start: Start, tmp_path: Path, loop: Path
) -> None:
    script = tmp_path / "app.py"
    script.write_text(
        "import os, time\nimport loop, sys\nsys.path.insert(0, '.')\n"
        f"sys.path.insert(0, {str(tmp_path / 'ext')!r})\nimport tiny\n"
        "os.setgid(65534); os.setuid(65534)\n"
        "for _ in range(3):\n"
        "    if os.fork() == 0:\n"
        "        if os.fork() == 0: os._exit(0)\n"
        "        os.wait(); os._exit(0)\n"
        "    os.wait()\n"
    )
    program = start(str(script))
    program.wait()

    (line,) = [line for line in program.stderr if line.startswith("hotreload:")]
    assert "cannot reach the helper process" in line
