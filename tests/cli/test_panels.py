"""What went wrong, on terminals of several kinds and in a pipe; and what takes long."""

from __future__ import annotations

import io
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from hotreload.errors import BuildError, Finding, IncompatibleError, StageError
from hotreload.panels import draw, trouble_of
from hotreload.panels import plain as plain_lines
from tests.cli.terminal import HOTRELOAD, in_pipe, on_terminal, plain
from tests.run.harness import SOURCE, Extension, Program, build

WRONG_TYPE = ("static long calls;", "static double calls;")
TWO_WRONG = ("static long calls;", "static double calls; static __thread long mine; long look(void) { return mine++; }")
SYNTAX = ("static long calls;", "static long calls")
REASON = "variable `calls` was `long int` and is now `double`; the live one holds the old"

DEAR = ("calls++;", "calls += 2;")
COMMENT = ("static long calls;", "/* a comment */ static long calls;")

PROGRAM = """\
import sys, threading
sys.path.insert(0, {ext!r})
import hotreload, tiny
done = threading.Event()
hotreload.subscribe(lambda event: event["event"] == "reload.finished" and done.set())
sys.exit(not done.wait(20))
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Extension:
    return build(tmp_path_factory.mktemp("panels"))


@pytest.fixture
def extension(built: Extension) -> Iterator[Extension]:
    """The extension, whose source is as it was built, before and after."""
    text = built.source.read_text()
    yield built
    built.source.write_text(text)


def edit(extension: Extension, change: tuple[str, str]) -> None:
    extension.source.write_text(SOURCE.replace("NAME", extension.name).replace(*change))


def pack(extension: Extension, *, columns: int = 100, **variables: str) -> tuple[int, str]:
    """What `hotreload pack` writes on a terminal, from the directory above the source."""
    top = extension.directory.parent
    return on_terminal([*HOTRELOAD, "pack", "ext/tiny.c"], directory=top, columns=columns, **variables)


def test_a_refusal_on_a_terminal_is_a_panel_with_the_line_and_what_it_is_about(extension: Extension) -> None:
    edit(extension, WRONG_TYPE)
    code, shown = pack(extension)
    lines = plain(shown).splitlines()

    assert code == 4
    assert lines[0].startswith("╭─ refused: tiny.c ──")
    assert lines[1].strip("│ ") == "ext/tiny.c:4"
    assert "4 │ static double calls;" in lines[2]
    assert lines[2].index("calls") == lines[3].index("^^^^^")
    assert REASON in lines[4]
    assert "restart to change it" in lines[5]
    assert "hotreload explain variable-type; --allow variable-type lets it through" in lines[6]
    assert "\x1b[3" in shown
    assert plain(shown).count(REASON) == 1


def test_the_line_is_that_which_was_compiled_wherever_the_file_is_by_now() -> None:
    finding = Finding("variable-type", "variable `n` is longer", "restart", "/no/such/file.c", 3)
    error = IncompatibleError("no", findings=(finding,), sources={"/no/such/file.c:3": "static long n;"})

    assert "3 │ static long n;" in draw(trouble_of(error), io.StringIO())


def test_several_findings_share_a_panel(extension: Extension) -> None:
    edit(extension, TWO_WRONG)
    shown = plain(pack(extension)[1])

    assert shown.count("╭") == 1
    assert "explain variable-type" in shown
    assert "explain thread-local-added" in shown


def test_a_narrow_terminal_is_not_overrun_and_still_shows_what_is_meant(extension: Extension) -> None:
    long_line = "static /* " + "a long comment before it " * 4 + "*/ double calls;"
    edit(extension, ("static long calls;", long_line))
    shown = plain(pack(extension, columns=40)[1])

    assert max(map(len, shown.splitlines())) <= 40
    above, below = next((a, b) for a, b in zip(shown.splitlines(), shown.splitlines()[1:]) if "^" in b)
    assert above[below.index("^") : below.rindex("^") + 1] == "calls"
    assert "…" in above


def test_who_wants_no_colours_gets_none_and_a_dumb_terminal_gets_lines(extension: Extension) -> None:
    edit(extension, WRONG_TYPE)
    shown = pack(extension, NO_COLOR="1")[1]
    assert "╭─ refused" in shown
    assert not any(f"\x1b[{code}" in shown for code in ("3", "1;3", "9"))

    shown = pack(extension, TERM="dumb")[1]
    assert "\x1b" not in shown and "╭" not in shown
    assert f"tiny.c:4: refused: {REASON}" in shown


def test_in_a_pipe_it_is_a_line_as_compilers_write_it(extension: Extension) -> None:
    edit(extension, WRONG_TYPE)
    done = in_pipe([*HOTRELOAD, "pack", "tiny.c"], directory=extension.directory.parent, cwd=extension.directory)

    hint = "restart to change it, or give the new variable another name"
    assert (done.returncode, done.stdout) == (4, "")
    assert done.stderr == f"{extension.source}:4: refused: {REASON} ({hint}) [variable-type]\n"


def test_a_compile_error_is_a_panel_above_what_the_compiler_says_in_its_own_colours(extension: Extension) -> None:
    edit(extension, SYNTAX)
    code, shown = pack(extension)
    panel, below = shown.split("╯", 1)

    assert code == 4
    assert "does not build" in panel
    assert "tiny.c:4" in panel and "4 │ " in panel and "static long calls" in panel
    assert "more, below" in panel
    assert "\x1b[01;31m\x1b[Kerror:" in below
    assert "\x1b[01;31m" not in pack(extension, NO_COLOR="1")[1]


def test_a_refusal_of_a_process_names_the_page_of_its_status() -> None:
    trouble = trouble_of(StageError("locked", hint="restart it", status="LOCKED"))

    assert "refused: LOCKED" in draw(trouble, io.StringIO())
    assert "hotreload explain LOCKED" in draw(trouble, io.StringIO())
    assert plain_lines(trouble) == "hotreload: locked (restart it)\n"


def test_what_others_wrote_cannot_move_the_cursor() -> None:
    finding = Finding("no-hook", "`f\x1b[2J` cannot be patched", "", "a\x1b[H.c", 1)
    for error in (
        IncompatibleError("", findings=(finding,), sources={"a\x1b[H.c:1": "f\x1b[2J()"}),
        BuildError("\x1b[2J"),
    ):
        for text in (draw(trouble_of(error), io.StringIO()), plain_lines(trouble_of(error))):
            assert "\x1b[2J" not in text and "\x1b[H" not in text


def program(extension: Extension) -> Path:
    """A program that ends when a save has come to something."""
    script = extension.directory.parent / "app.py"
    script.write_text(PROGRAM.format(ext=str(extension.directory)))
    return script


def run(extension: Extension, change: tuple[str, str], *, columns: int = 100, **variables: str) -> tuple[int, str]:
    """That program on a terminal; the change is saved when its extension is watched."""
    script = program(extension)
    found = ("extension.found", lambda: edit(extension, change))
    command = [*HOTRELOAD, "run", script.name]
    return on_terminal(command, directory=script.parent, columns=columns, when=found, **variables)


def test_the_console_of_a_program_shows_the_panel_once_below_one_line(extension: Extension) -> None:
    code, shown = run(extension, WRONG_TYPE)
    lines = plain(shown).splitlines()

    (at,) = (number for number, line in enumerate(lines) if "reload.finished" in line)
    assert code == 0
    assert "outcome=refused" in lines[at] and REASON not in lines[at]
    assert lines[at + 1].startswith("╭─ refused: tiny.c")
    assert plain(shown).count(REASON) == 1
    assert "findings=" not in shown and "sources=" not in shown


def slow_compiler(directory: Path) -> str:
    """A PATH on which gcc takes its time over the source."""
    real = shutil.which("gcc")
    place = directory / "slow"
    place.mkdir(exist_ok=True)
    (place / "gcc").write_text(f'#!/bin/sh\ncase "$*" in *tiny.c*) sleep 0.8;; esac\nexec {real} "$@"\n')
    (place / "gcc").chmod(0o755)
    return f"{place}{os.pathsep}{os.environ['PATH']}"


def test_a_build_that_takes_long_is_told_in_one_line_on_a_terminal_and_nowhere_else(extension: Extension) -> None:
    path = slow_compiler(extension.directory.parent)
    shown = plain(run(extension, DEAR, PATH=path)[1])
    assert shown.count("build.prolonged") in (1, 2)  # on a busy machine the first look at the sources takes as long
    assert "compiling=tiny.c" in shown

    edit(extension, ("", ""))
    script = program(extension)
    with Program(["-m", "hotreload", "run", script.name], directory=script.parent, PATH=path) as running:
        running.wait_event("extension.found")
        edit(extension, DEAR)
        assert running.wait_reloads(1)["outcome"] == "live"
        running.wait()
        assert "build.prolonged" not in "".join(running.stderr)


def test_a_pack_that_takes_long_says_what_it_does_on_a_terminal(extension: Extension) -> None:
    path = slow_compiler(extension.directory.parent)
    edit(extension, DEAR)
    assert "compiling tiny.c" in plain(pack(extension, PATH=path)[1])

    done = in_pipe([*HOTRELOAD, "pack", "ext/tiny.c"], directory=extension.directory.parent, PATH=path)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_build_names_what_takes_long_on_a_terminal(extension: Extension) -> None:
    top, path = extension.directory.parent, slow_compiler(extension.directory.parent)
    (top / "again_tiny.c").write_text("long f(void) { return 1; }\n")
    command = [*HOTRELOAD, "build", "--", "sh", "-c", "$CC -fPIC -shared again_tiny.c -o again.so"]
    shown = plain(on_terminal(command, directory=top, columns=200, PATH=path)[1])
    assert "hotreload build: compiling again_tiny.c, unit 1\n" in shown
    assert "1 functions can be patched" in shown

    assert "compiling again_tiny.c, unit" not in in_pipe(command, directory=top, PATH=path).stderr


def test_nothing_to_do_says_why_in_the_same_words_everywhere(extension: Extension) -> None:
    edit(extension, COMMENT)
    why = "only names, comments, white space or line numbers differ, which no code shows"
    done = in_pipe([*HOTRELOAD, "pack", "ext/tiny.c"], directory=extension.directory.parent)
    assert (done.returncode, done.stdout.strip().endswith(f": {why}")) == (3, True)

    edit(extension, ("", ""))
    shown = plain(run(extension, COMMENT, columns=300)[1])
    assert why in shown
