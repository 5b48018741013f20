"""How a push is told: whole lines whoever tells them, and nobody reading is no trouble."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from hotreload.cli.commands import run_command
from hotreload.cli.push_commands import _line_of
from hotreload.push.records import Exit, Identity, Outcome, Row, State
from hotreload.push.table import _Lines, _OnTerminal, partial_sentence
from hotreload.push.threads import tell_transition
from tests.cli.terminal import on_terminal, plain
from tests.push.kit import EDITS, Program


class Slow(io.StringIO):
    """A file between two writes to which others have all the time they need."""

    def write(self, text: str) -> int:
        written = super().write(text)
        time.sleep(0.001)
        return written


def test_what_many_threads_tell_at_once_is_a_line_for_each_thing() -> None:
    file = Slow()
    show = _Lines(file)
    rows = [Row(Identity(pid, 1), State.PREPARED, "answer") for pid in range(1, 21)]
    threads = [threading.Thread(target=show.observe, args=(rows,)) for _ in range(8)]
    threads += [threading.Thread(target=show.say, args=("said",)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    told = file.getvalue().splitlines()
    assert sorted(told) == sorted([f"{pid:>8}  prepared   answer" for pid in range(1, 21)] + ["said"] * 8)


@pytest.mark.parametrize(
    ("partial", "decision", "is_told"), [(True, "commit", True), (True, "abort", False), (False, "commit", False)]
)
def test_only_a_partial_push_that_was_decided_is_told_so(partial: bool, decision: str, is_told: bool) -> None:
    outcome = Outcome("p1", Exit.DONE, "", [], decision)

    assert bool(partial_sentence(outcome, {"partial": partial})) == is_told


def test_on_a_terminal_a_partial_push_leaves_that_line_behind(capsys: pytest.CaptureFixture[str]) -> None:
    _OnTerminal().conclude(Outcome("p1", Exit.DONE, "", [], "commit"), {"partial": True})

    assert capsys.readouterr().out.count("processes that start later do not get it") == 1


def cli_that_nobody_reads(program: Program, *arguments: object) -> subprocess.CompletedProcess[str]:
    """A command whose output goes into a pipe that has no other end."""
    reader, writer = os.pipe()
    os.close(reader)
    try:
        return subprocess.run(
            [sys.executable, "-m", "hotreload", *map(str, arguments)],
            cwd=program.project.directory,
            env=program.environment,
            stdout=writer,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
        )
    finally:
        os.close(writer)


@pytest.mark.parametrize("options", [(), ("--json",)])
def test_a_push_that_nobody_reads_is_carried_out(program: Program, options: tuple[str, ...]) -> None:
    done = cli_that_nobody_reads(program, "push", program.project.patch(EDITS[0]), *options)

    assert done.returncode == 0
    assert done.stderr == ("push of kernel: answer\n" if options else "")
    assert int(program.tell("answer")) == EDITS[0]
    assert cli_that_nobody_reads(program, "push", "no-such-file.hotpatch", *options).returncode == 4


@pytest.mark.parametrize("arguments", [("status",), ("status", "--json"), ("log",), ("doctor",)])
def test_what_nobody_reads_ends_quietly_and_is_not_done(program: Program, arguments: tuple[str, ...]) -> None:
    assert program.push(EDITS[0]).code == 0
    done = cli_that_nobody_reads(program, *arguments)

    assert (done.returncode, done.stderr) == (141, "")


def test_of_a_stack_what_has_a_name_is_told_and_what_is_near() -> None:
    native = ["read+0x4c [libc.so.6]", "libpython3.so+0x1a6ee2", "0x7f00", "sit+0x11 [original]", "x.so+0x12"]
    python = [f"app.py:{i} in f{i}" for i in range(20)]
    straggler = {"tid": 7, "name": "w", "reason": "INSIDE", "where": "sit+0x11", "native": native, "python": python}
    lines = list(tell_transition(1, {"module": "m", "from": 0, "to": 1, "stragglers": [straggler]}))

    assert lines[2] == "        native: read+0x4c [libc.so.6] < ... < sit+0x11 [original] < ..."
    assert lines[3].endswith("app.py:6 in f6 < app.py:7 in f7 < ...")


def test_a_line_of_the_audit_trail_names_the_base_and_leaves_out_what_says_nothing() -> None:
    event = {"event": "transition.started", "time": "now", "uid": 0, "from": 2, "to": 0, "settled": 0, "reason": ""}

    assert _line_of(event) == "now  transition.started  root    from=2 to=0"


def test_nothing_is_forced_for_show(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        run_command(["transition", "force", "--dry-run", "--reason", "why"])

    assert ended.value.code == 2
    assert "no --dry-run" in capsys.readouterr().err


STATUS = """
from hotreload.push.listing import status_table
headings = ("pid", "process", "module", "generation", "level", "patch", "functions", "since", "by", "note")
row = ["4711", "gunicorn: worker", "shop.kernels 0a1b", "3 (12 KiB)", "call", "1763654400", "blur, " + "sharpen" * 9]
status_table([[*row, "11-20 16:55:28", "deploy@build", "differs from others"]], headings, "/run/shop")
"""


@pytest.mark.parametrize("columns", [40, 80, 200])
def test_a_table_that_does_not_fit_is_told_below_each_other_and_nothing_is_cut_off(
    columns: int, tmp_path: Path
) -> None:
    code, screen = on_terminal([sys.executable, "-c", STATUS], directory=tmp_path, columns=columns)

    lines = plain(screen).splitlines()
    assert code == 0
    assert max(map(len, lines)) <= columns
    assert ("┃" in screen) == (columns == 200)
    said = "".join(plain(screen).split())
    assert "…" not in said
    if columns < 200:
        assert "sharpen" * 9 in said
        assert "note        differs from others" in plain(screen)
