"""How a page comes to be: `hotreload run --ui`, ``enable(ui=True)``, and where there is none."""

from __future__ import annotations

import os
import re
import socket
import sys
import urllib.request
from pathlib import Path

import pytest

from tests.run.harness import Program

SAY = "import hotreload; print('tag', repr(str(hotreload.live_script())), flush=True)\n"
WAIT = "import time; time.sleep(60)\n"


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "app.py"
    path.write_text(SAY)
    return path


def run(script: Path, *options: str, **environment: str) -> Program:
    return Program(["-m", "hotreload", "run", *options, str(script)], directory=script.parent, **environment)


def address_of(program: Program) -> str:
    """What was printed; without a terminal it is plain text."""
    shown = program.wait_for(lambda: [line for line in program.stderr if "is shown at" in line], "no address")
    assert "\x1b" not in shown[0]
    return re.search(r"http://127\.0\.0\.1:\d+/[\w-]{32}/", shown[0])[0]


def test_the_tag_of_a_program_with_a_page_leads_to_the_read_only_side_of_it(script: Path) -> None:
    script.write_text(SAY + WAIT)
    with run(script, "--ui") as program:
        page = address_of(program)
        source = re.search('src="([^"]+)"', program.wait_line("tag"))[1]
        with urllib.request.urlopen(page, timeout=10) as answer:
            assert b"<title>hotreload</title>" in answer.read()
        with urllib.request.urlopen(source, timeout=10) as answer:
            assert b"EventSource" in answer.read()
        command = Path(f"/proc/{program.process.pid}/environ").read_bytes()

    token, live_token = page.split("/")[3], source.split("/")[3]
    assert token != live_token
    assert token.encode() not in command, "what the program shows by mistake is the read-only address at most"


def test_no_token_is_on_a_command_line_or_in_a_compiler_s_environment(script: Path) -> None:
    script.write_text(SAY + WAIT)
    with run(script, "--ui") as program:
        token = address_of(program).split("/")[3]
        program.wait_line("tag")
        lines = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    lines.append((entry / "cmdline").read_bytes())
                except OSError:
                    continue

    assert any(b"--page-fd" in line for line in lines)
    assert not any(token.encode() in line for line in lines)


def test_the_port_can_be_chosen_and_one_that_is_taken_is_an_error(script: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with run(script, "--ui-port", str(port)) as program:
            assert program.wait() == 2
            assert f"cannot have port {port}" in program.stderr[0]
            assert not program.stdout
    with run(script, "--ui-port", str(port)) as program:
        assert f":{port}/" in address_of(program)
        assert program.wait() == 0


def test_without_a_page_the_tag_is_nothing_also_inside_a_program_that_has_one(script: Path) -> None:
    with run(script, HOTRELOAD_LIVE="http://127.0.0.1:1/other/") as program:
        program.wait_line("tag ''")
    with run(script, "--ui", HOTRELOAD_AGENT="1", HOTRELOAD_STATE=str(script.parent / "state")) as program:
        program.wait_line("tag ''")
        assert any("no page" in line for line in program.stderr)


def test_a_program_can_ask_for_the_page_itself(script: Path) -> None:
    script.write_text(
        "import hotreload, os\n"
        "hotreload.enable(ui=True)\n" + SAY + "hotreload.enable(ui=True)\n"
        "if os.fork() == 0:\n"
        "    os.execv(" + repr(sys.executable) + ", ['python', '-c', "
        "\"import hotreload; hotreload.enable(ui=True); print('child', bool(hotreload.live_script()), flush=True)\"])\n"
        "os.wait()\n"
        "hotreload.disable()\n" + SAY + "print('off', flush=True)\n"
    )
    with Program([str(script)], directory=script.parent) as program:
        assert program.wait() == 0, program.describe()
        address_of(program)

    assert "<script src=" in program.stdout[0]
    assert program.stdout[1:] == ["child True", "tag ''", "off"]
    assert len([line for line in program.stderr if "is shown at" in line]) == 1


def test_who_joins_a_helper_process_without_a_page_is_told_so(script: Path) -> None:
    script.write_text("import hotreload; hotreload.enable(ui=True); print('on', flush=True)\n")
    with run(script) as program:
        program.wait_line("on")
        assert program.wait() == 0
        assert any("no page: the helper process that is there was started without" in line for line in program.stderr)


def test_on_a_terminal_the_address_is_a_link(script: Path) -> None:
    import pty

    leader, follower = pty.openpty()
    pid = os.fork()
    if pid == 0:
        os.dup2(follower, 2)
        os.environ["PYTHONPATH"] = str(Path(__file__).resolve().parents[2])
        os.execv(sys.executable, [sys.executable, "-m", "hotreload", "run", "--ui", str(script)])
    os.close(follower)
    shown = b""
    while b"\x1b]8;;\x1b\\" not in shown:
        shown += os.read(leader, 4096)
    os.close(leader)
    os.waitpid(pid, 0)

    assert re.search(rb"\x1b\]8;;(http://[^\x1b]+)\x1b\\\1\x1b\]8;;\x1b\\", shown)
