"""``%load_ext hotreload`` in an IPython terminal and in a Jupyter kernel, as somebody sits before them."""

from __future__ import annotations

import os
import pty
import re
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Callable

import pytest

from hotreload.integrations.ipython import one_line
from tests.integrations.fitting import save
from tests.run.harness import PATIENCE, Extension, environment, helper_pids

ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b[=>]|\r")


class Terminal:
    """IPython on a terminal of its own."""

    def __init__(self, directory: Path, **more: str) -> None:
        self.screen = ""
        master, slave = pty.openpty()
        self._master = master
        self.process = subprocess.Popen(
            [sys.executable, "-m", "IPython", "--no-banner", "--no-confirm-exit", "--colors=nocolor"],
            cwd=directory,
            env={**environment(directory), "TERM": "xterm", "IPYTHONDIR": str(directory / "ipython"), **more},
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
        )
        os.close(slave)

    def type(self, text: str) -> None:
        os.write(self._master, text.encode())

    def wait(self, text: str) -> str:
        """Waits until that stands on the screen; returns what was written since the last wait."""
        deadline = time.monotonic() + PATIENCE
        while text not in ESCAPES.sub("", self.screen):
            rest = deadline - time.monotonic()
            assert rest > 0, f"no {text!r} on the screen:\n{self.screen}"
            if select.select([self._master], [], [], min(rest, 0.5))[0]:
                data = os.read(self._master, 65536)
                if b"\x1b[6n" in data:  # where is the cursor? a terminal answers
                    os.write(self._master, b"\x1b[1;1R")
                self.screen += data.decode(errors="replace")
        seen, self.screen = ESCAPES.sub("", self.screen), ""
        return seen

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._master)


@pytest.fixture
def terminal(tmp_path: Path, extension: Extension) -> Iterator[Terminal]:
    pytest.importorskip("IPython")
    running = Terminal(tmp_path, HOTRELOAD_STORE=str(extension.directory.parent / "store"))
    yield running
    running.close()


def test_a_save_is_told_above_the_prompt_and_what_is_being_typed_stays(
    terminal: Terminal, extension: Extension, tmp_path: Path
) -> None:
    terminal.wait("In [1]:")
    terminal.type("%load_ext hotreload\r")
    terminal.wait("hotreload: on.")
    terminal.wait("In [2]:")
    terminal.type(f"import sys; sys.path.insert(0, {str(extension.directory)!r}); import tiny; 1000 + tiny.value()\r")
    terminal.wait("1002")
    terminal.wait("In [3]:")
    terminal.type("2000 + tiny.va")
    terminal.wait("2000 + tiny.va")

    save(extension.header, "x + 1", "x + 41")
    told = terminal.wait("hotreload: tiny: shade live as generation 1")
    assert told.count("hotreload:") == 1
    terminal.type("lue()\r")
    terminal.wait("2042")

    save(extension.header, "x + 41", "x + nothing")
    assert "hotreload: tiny: does not compile, the earlier code serves:" in terminal.wait("shade.h:1:")
    terminal.type("%unload_ext hotreload\r")
    terminal.wait("hotreload: off.")
    wait_until(lambda: not helper_pids(tmp_path))


@pytest.fixture
def kernel(tmp_path: Path, extension: Extension) -> Iterator[Any]:
    jupyter_client = pytest.importorskip("jupyter_client")
    pytest.importorskip("ipykernel")
    manager = jupyter_client.KernelManager(kernel_name="python3")
    store = str(extension.directory.parent / "store")
    here = {**environment(tmp_path), "HOTRELOAD_STORE": store, "IPYTHONDIR": str(tmp_path / "ipython")}
    manager.start_kernel(cwd=str(tmp_path), env=here, stderr=subprocess.DEVNULL)
    client = manager.blocking_client()
    client.start_channels()
    client.wait_for_ready(timeout=PATIENCE)
    yield client
    client.stop_channels()
    manager.shutdown_kernel(now=True)


def run_cell(client: Any, code: str) -> str:
    """What a cell prints, and its value."""
    printed: list[str] = []
    reply = client.execute_interactive(
        code, timeout=PATIENCE, output_hook=lambda message: printed.append(text_of(message))
    )
    assert reply["content"]["status"] == "ok", reply["content"]
    return "".join(printed)


def text_of(message: dict[str, Any]) -> str:
    content = message["content"]
    return str(content.get("text") or content.get("data", {}).get("text/plain", ""))


def wait_until(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return True


def wait_for_text(client: Any, text: str) -> str:
    """Waits for that in the output of a cell that has long ended."""
    seen = ""
    while text not in seen:
        seen += text_of(client.get_iopub_msg(timeout=PATIENCE))
    return seen


def test_a_kernel_tells_each_reload_below_the_last_cell(kernel: Any, extension: Extension, tmp_path: Path) -> None:
    assert "hotreload: on." in run_cell(kernel, "%load_ext hotreload")
    imports = f"import sys; sys.path.insert(0, {str(extension.directory)!r}); import tiny; tiny.value()"
    assert run_cell(kernel, imports) == "2"

    save(extension.header, "x + 1", "x + 41")
    told = wait_for_text(kernel, "generation 1")
    assert "hotreload: tiny: shade live as" in told
    assert run_cell(kernel, "tiny.value(), tiny.count()") == "(42, 2)"

    save(extension.source, "static long calls;", "static long calls[2];")
    wait_for_text(kernel, "hotreload: tiny: ")
    assert run_cell(kernel, "%reload_ext hotreload\ntiny.value()").endswith("42")
    assert "off." in run_cell(kernel, "%unload_ext hotreload")
    wait_until(lambda: not helper_pids(tmp_path))


def test_one_line_says_what_became_of_a_save() -> None:
    def line(outcome: str, **fields: Any) -> str:
        return one_line({"event": "reload.finished", "module": "kernels", "outcome": outcome, **fields})

    refused = "k.c:3: refused: a\nk.c:9: refused: b"
    assert line("live", functions=["blur"], generation=2, total_ms=141.7) == (
        "hotreload: kernels: blur live as generation 2 (142 ms)"
    )
    assert line("live", functions=["a"], generation=1, stragglers=["worker"]).endswith("but not yet in worker")
    shown = line("live", functions=["a"], generation=1, appeared=["kernels.edge()"], withdrawn=["kernels.old()"])
    assert shown.endswith("live as generation 1 (0 ms), new: kernels.edge(), gone: kernels.old()")
    assert line("base") == "hotreload: kernels: the code that it was built from is live again"
    assert line("nothing", reason="only comments").endswith("nothing to do: only comments")
    assert line("build_failed", diagnostics="In x:\nk.c:1:2: error: no\n").endswith("serves: k.c:1:2: error: no")
    assert line("refused", diagnostics=refused).endswith("k.c:3: refused: a (and 1 more)")
    assert len(line("refused", reason="x" * 1000)) == 300


def test_the_address_of_the_page_is_told_although_the_helper_is_quiet(tmp_path: Path) -> None:
    program = (
        "from types import SimpleNamespace as Some\n"
        "from hotreload.integrations.ipython import load_ipython_extension\n"
        "load_ipython_extension(Some(events=Some(register=print)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=environment(tmp_path, HOTRELOAD_UI="1", HOTRELOAD_VERBOSE="1"),
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )

    (line,) = done.stderr.splitlines()
    assert "what is live is shown at http" in line
