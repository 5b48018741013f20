"""What ``hotreload run`` leaves of a program as it is: signals, exit code, terminal, streams, sitecustomize."""

from __future__ import annotations

import contextlib
import os
import pty
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.run.harness import PATIENCE, Extension, Program, Start, environment, helper_pids, leftovers


def write(path: Path, text: str) -> str:
    path.write_text(text)
    return str(path)


def test_the_exit_code_is_the_programs(start: Start, tmp_path: Path) -> None:
    program = start(write(tmp_path / "app.py", "raise SystemExit(7)"))

    assert program.wait() == 7
    assert not helper_pids(tmp_path)
    assert not leftovers(tmp_path)


def test_a_signal_ends_the_program_and_the_helper_follows(serving: Program, tmp_path: Path) -> None:
    assert len(helper_pids(tmp_path)) == 1
    assert serving.end(signal.SIGTERM) == -signal.SIGTERM

    assert not helper_pids(tmp_path)
    assert not leftovers(tmp_path)


def test_a_killed_program_takes_its_helper_along_even_from_a_build(
    serving: Program, extension: Extension, tmp_path: Path
) -> None:
    extension.header.write_text(extension.shade("x + 41"))
    time.sleep(0.03)
    assert serving.end(signal.SIGKILL) == -signal.SIGKILL

    assert not helper_pids(tmp_path)
    assert not leftovers(tmp_path)


def test_the_program_is_started_in_place_and_has_no_child_that_it_did_not_start(start: Start, tmp_path: Path) -> None:
    program = start(
        write(
            tmp_path / "app.py",
            "import os\nprint(os.getpid())\n"
            "try:\n    os.waitpid(-1, os.WNOHANG)\nexcept ChildProcessError:\n    print('no children')\n",
        )
    )
    program.wait()

    assert program.stdout == [str(program.process.pid), "no children"]


def test_stdout_and_stderr_are_the_programs_alone(start: Start, tmp_path: Path) -> None:
    program = start(write(tmp_path / "app.py", "import sys\nprint('out')\nprint('err', file=sys.stderr)\n"))
    program.wait()

    assert (program.stdout, program.stderr) == (["out"], ["err"])


def test_arguments_go_through_as_they_are(start: Start, tmp_path: Path) -> None:
    program = start(write(tmp_path / "app.py", "import sys\nprint(sys.argv[1:])\n"), "--polling", "--", "-m", "x y")
    program.wait()

    assert program.stdout == ["['--polling', '--', '-m', 'x y']"]


def test_a_module_runs_with_m(start: Start, tmp_path: Path) -> None:
    (tmp_path / "package").mkdir()
    write(tmp_path / "package" / "__init__.py", "")
    write(tmp_path / "package" / "__main__.py", "import sys\nprint(__name__, __package__, sys.argv[1:])\n")
    program = start("-m", "package", "a")
    program.wait()

    assert program.stdout == ["__main__ package ['a']"]


def test_a_command_that_does_not_exist_is_named_and_nothing_is_left(start: Start, tmp_path: Path) -> None:
    program = start("--", "no-such-command-anywhere")

    assert program.wait() == 2
    assert "no such command: no-such-command-anywhere" in program.stderr[0]
    assert not leftovers(tmp_path)


def test_a_program_that_is_not_python_gets_a_hint_and_runs(start: Start) -> None:
    program = start("--", "sh", "-c", "echo hello; sleep 1; exit 3", HOTRELOAD_HINT_AFTER="0.2")
    event = program.wait_event("program.missed")

    assert "hotreload run" in event["hint"]
    assert program.wait() == 3
    assert program.stdout == ["hello"]


def test_a_program_without_a_hot_extension_gets_a_hint(start: Start, tmp_path: Path) -> None:
    program = start(write(tmp_path / "app.py", "import time\ntime.sleep(1)\n"), HOTRELOAD_HINT_AFTER="0.3")

    assert "hotreload build" in program.wait_event("extension.missed")["hint"]
    assert program.wait() == 0


def test_the_programs_own_sitecustomize_runs_in_our_place(start: Start, tmp_path: Path) -> None:
    site = tmp_path / "site"
    site.mkdir()
    write(site / "sitecustomize.py", "import builtins\nbuiltins.customized = __name__\n")
    script = write(
        tmp_path / "app.py",
        "import sys\nprint(customized, sys.modules['sitecustomize'].__file__)\n"
        "print([entry for entry in sys.path if 'bootstrap' in entry], 'hotreload.run.link' in sys.modules)\n",
    )
    path = environment(tmp_path)["PYTHONPATH"]
    program = start(script, PYTHONPATH=f"{site}{os.pathsep}{path}")
    program.wait()

    assert program.stdout == [f"sitecustomize {site}/sitecustomize.py", "[] True"]
    assert program.stderr == []


def test_an_error_in_the_programs_sitecustomize_is_reported_as_ever(start: Start, tmp_path: Path) -> None:
    site = tmp_path / "site"
    site.mkdir()
    write(site / "sitecustomize.py", "raise ValueError('theirs')\n")
    script = write(tmp_path / "app.py", "print('runs')\n")
    path = environment(tmp_path)["PYTHONPATH"]
    program = start(script, PYTHONPATH=f"{site}{os.pathsep}{path}")
    program.wait()

    assert program.stdout == ["runs"]
    assert any("ValueError: theirs" in line for line in program.stderr)


def test_where_the_package_is_not_installed_it_is_found_without_its_neighbours(start: Start, tmp_path: Path) -> None:
    script = write(
        tmp_path / "app.py",
        "import sys, hotreload\nprint('hotreload.run.link' in sys.modules, any('work' in e for e in sys.path))\n"
        "print(hotreload.__file__)\n",
    )
    # The launcher finds the package from its own directory; the program is given no way to.
    command = f"import sys; sys.path.insert(0, {environment(tmp_path)['PYTHONPATH']!r}); "
    command += "from hotreload.cli import main; main()"
    kept = environment(tmp_path)
    del kept["PYTHONPATH"]
    done = subprocess.run(
        [sys.executable, "-c", command, "run", script], env=kept, capture_output=True, text=True, cwd=tmp_path
    )

    assert done.stdout.splitlines()[0].startswith("True"), done.stderr


def test_hotreload_disable_refuses(start: Start, tmp_path: Path) -> None:
    program = start(write(tmp_path / "app.py", "print('runs')"), HOTRELOAD_DISABLE="1")

    assert program.wait() == 2
    assert "HOTRELOAD_DISABLE=1" in program.stderr[0]
    assert program.stdout == []


def test_hotreload_disable_in_a_child_keeps_it_out(start: Start, tmp_path: Path) -> None:
    script = write(
        tmp_path / "app.py",
        "import os, subprocess, sys\n"
        "code = \"import sys; print('hotreload.run.link' in sys.modules)\"\n"
        "subprocess.run([sys.executable, '-c', code], env={**os.environ, 'HOTRELOAD_DISABLE': '1'})\n"
        "subprocess.run([sys.executable, '-c', code])\n",
    )
    program = start(script)
    program.wait()

    assert program.stdout == ["False", "True"]


def test_nothing_heavy_is_imported_into_the_program(start: Start, tmp_path: Path) -> None:
    heavy = ["watchdog", "rich", "structlog", "elftools", "argparse", "hotreload.build", "hotreload.diff",
             "hotreload.patch", "hotreload.watch", "hotreload.config", "hotreload.log"]  # fmt: skip
    program = start(write(tmp_path / "app.py", f"import sys\nprint([m for m in {heavy} if m in sys.modules])\n"))
    program.wait()

    assert program.stdout == ["[]"]


def test_a_helper_that_is_killed_costs_one_line_and_the_program_serves_on(
    serving: Program, extension: Extension, tmp_path: Path
) -> None:
    extension.header.write_text(extension.shade("x + 41"))
    serving.wait_line("value 42")
    serving.wait_reloads(1)
    for pid in helper_pids(tmp_path):
        os.kill(pid, signal.SIGKILL)
    serving.wait_for(lambda: [line for line in serving.stderr if "helper process is gone" in line], "no line")

    assert serving.process.poll() is None
    assert not leftovers(tmp_path)
    serving.end()
    assert len([line for line in serving.stderr if line.startswith("hotreload:")]) == 1


def test_a_helper_that_is_told_to_stop_says_so_and_the_program_serves_on(serving: Program, tmp_path: Path) -> None:
    for pid in helper_pids(tmp_path):
        os.kill(pid, signal.SIGTERM)
    serving.wait_event("helper.stopped", signal="SIGTERM")
    serving.wait_for(lambda: not leftovers(tmp_path) or None, "the socket is still there")

    assert serving.process.poll() is None
    serving.end()
    assert not [line for line in serving.stderr if line.startswith("hotreload:")]


def test_the_rendezvous_is_private(serving: Program, tmp_path: Path) -> None:
    (directory,) = leftovers(tmp_path)

    assert directory.stat().st_mode & 0o777 == 0o700
    assert (directory / "socket").is_socket()


# On a terminal -------------------------------------------------------------------------------------------------------


class Terminal:
    """A program that has a terminal of its own, and what it shows on it."""

    def __init__(self, arguments: list[str], directory: Path) -> None:
        self.text = ""
        values = environment(directory)
        del values["HOTRELOAD_LOG_FORMAT"]
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.chdir(directory)
            os.execve(sys.executable, [sys.executable, "-m", "hotreload", "run", *arguments], values)

    def wait_for(self, text: str) -> None:
        deadline = time.monotonic() + PATIENCE
        while text not in self.text:
            ready, _, _ = select.select([self.fd], [], [], max(0.0, deadline - time.monotonic()))
            assert ready, f"no {text!r} in:\n{self.text}"
            try:
                self.text += os.read(self.fd, 65536).decode()
            except OSError:
                raise AssertionError(f"it ended without {text!r}:\n{self.text}") from None

    def close(self) -> None:
        with contextlib.suppress(OSError):
            os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        os.close(self.fd)


@pytest.fixture
def interactive(tmp_path: Path, extension: Extension) -> str:
    return write(
        tmp_path / "app.py",
        f"import sys, time\nsys.path.insert(0, {str(extension.directory)!r})\nimport tiny\nlast = 0\n"
        "print('ready', flush=True)\n"
        "while True:\n"
        "    try:\n"
        "        time.sleep(0.01)\n"
        "        if tiny.value() != last:\n"
        "            last = tiny.value(); print('value', last, flush=True)\n"
        "    except KeyboardInterrupt:\n"
        "        print('interrupted', flush=True)\n",
    )


def test_ctrl_c_in_a_terminal_is_for_the_program_only(interactive: str, extension: Extension, tmp_path: Path) -> None:
    terminal = Terminal([interactive], tmp_path)
    try:
        terminal.wait_for("value 2")
        terminal.wait_for("extension.found")
        os.write(terminal.fd, b"\x03")
        terminal.wait_for("interrupted")
        extension.header.write_text(extension.shade("x + 41"))
        terminal.wait_for("value 42")
    finally:
        terminal.close()


def test_a_terminal_gets_colours_and_the_compilers_own_text(
    interactive: str, extension: Extension, tmp_path: Path
) -> None:
    terminal = Terminal([interactive], tmp_path)
    try:
        terminal.wait_for("extension.found")
        extension.header.write_text(extension.shade("x + oops"))
        terminal.wait_for("undeclared")
        terminal.wait_for("build_failed")
    finally:
        terminal.close()

    assert "\x1b[01;31m\x1b[Kerror:" in terminal.text


def test_a_helper_that_cannot_start_costs_the_program_nothing(start: Start, tmp_path: Path) -> None:
    broken = tmp_path / "site" / "watchdog"
    broken.mkdir(parents=True)
    write(broken / "__init__.py", "raise ImportError('no watchdog here')\n")
    script = write(tmp_path / "app.py", "import time\ntime.sleep(1)\nprint('runs')\nraise SystemExit(4)\n")
    path = environment(tmp_path)["PYTHONPATH"]
    program = start(script, PYTHONPATH=f"{broken.parent}{os.pathsep}{path}")

    assert program.wait() == 4
    assert program.stdout == ["runs"]
    assert [line for line in program.stderr if line.startswith("hotreload:")] == [
        "hotreload: the helper process has failed; the program serves on with the code it has"
    ]
    assert not leftovers(tmp_path)


def test_where_nothing_can_be_written_edits_go_live_all_the_same(
    server: Path, extension: Extension, tmp_path: Path
) -> None:
    code = (
        "import os, sys; os.dup2(os.open('/dev/full', os.O_WRONLY), 2); "
        f"os.execv(sys.executable, [sys.executable, '-m', 'hotreload', 'run', {str(server)!r}])"
    )
    with Program(["-c", code], directory=tmp_path) as program:
        program.wait_line("ready 2")
        for number in (41, 51):
            time.sleep(0.5)
            extension.header.write_text(extension.shade(f"x + {number}"))
            program.wait_line(f"value {number + 1} ")
        program.end()
        deadline = time.monotonic() + PATIENCE
        while helper_pids(tmp_path) and time.monotonic() < deadline:
            time.sleep(0.02)

    assert not helper_pids(tmp_path)
    assert not leftovers(tmp_path)


def test_an_extension_of_another_store_is_named(start: Start, server: Path, tmp_path: Path) -> None:
    program = start(str(server), HOTRELOAD_STORE=str(tmp_path / "other"), HOTRELOAD_HINT_AFTER="0.5")
    event = program.wait_event("extension.missed")

    assert "was built hot, but is not in this store" in event["reason"]
    assert "tiny" in event["reason"]
    assert str(tmp_path / "other") in event["reason"]
