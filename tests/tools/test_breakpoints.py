"""Breakpoints by file and line follow the code: into a new generation, back at a rollback, away with what is unmapped."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from conftest import EDITED, SOURCE, Project, line_of, make_project, need, run

LINE = line_of(EDITED, "hidden += scaled")
OLD = {line: number for number, line in enumerate(SOURCE.splitlines(), 1)}
#: In the old code this line is another statement of the same function.
WORDS = {"old": SOURCE.splitlines()[LINE - 1].strip(), "new": EDITED.splitlines()[LINE - 1].strip()}
SHOW = ["backtrace 1", "info locals", "print served", "print hidden", "print calls"]


def debug(project: Project, tmp_path: Path, words: list[str], *commands: str) -> str:
    """gdb with a program that does these words, one a line."""
    (tmp_path / "words").write_text("\n".join(words) + "\n")
    script = ["set pagination off", "set confirm off", "handle SIGUSR1 stop nopass", *commands]
    (tmp_path / "commands").write_text("\n".join(script) + "\n")
    program, *arguments = project.argv("off")
    done = run(
        *("gdb", "-q", "-batch", "-iex", "set debuginfod enabled off", "-iex", "set auto-load off"),
        *("-x", tmp_path / "commands", "--args", program, *arguments),
        check=False,
    )
    if "ptrace: " in done.stderr:
        pytest.skip("gdb may not trace a process here")
    return done.stdout + done.stderr


@pytest.mark.parametrize("prologue", ["jump", "slot"])
def test_a_breakpoint_that_was_set_before_the_patch_stops_the_new_code_too(tmp_path: Path, prologue: str) -> None:
    need("gdb")
    (tmp_path / "project").mkdir()
    project = make_project(tmp_path / "project", prologue)
    words = ["mark", "score 2 3", f"commit {project.patch}", "score 2 3", "rollback", "score 2 3", "mark"]
    text = debug(
        *(project, tmp_path, [w.replace("stage", "stage") for w in words], "run < " + str(tmp_path / "words")),
        *(f"break kernels.c:{LINE}", "continue", "echo OLD\\n", "backtrace 1", "continue", "echo NEW\\n", *SHOW),
        *("info breakpoints", "continue", "echo BACK\\n", "backtrace 1", "continue", "kill"),
    )
    project.hot.close()
    _, old, rest = re.split("OLD\n", text, maxsplit=1)[0], *re.split("NEW\n", re.split("OLD\n", text, maxsplit=1)[1], maxsplit=1)
    new, back = re.split("BACK\n", rest, maxsplit=1)
    assert re.search(rf"#0  score \(base=2, weight=3\) at kernels.c:{LINE}", old), text
    assert re.search(rf"#0  score@hotreload\.g1 \(base=2, weight=3\) at kernels.c:{LINE}", new), text
    assert "scaled = 1006" in new
    assert "= 40" in new, "a variable of the base is read where it lives"
    assert re.search(r"= 13\n", new), "the one that is static too: the old code has added 6 to its 7"
    assert re.search(r"1\.1 .*score@hotreload\.g1|1\.2 .*score@hotreload\.g1", new), "one breakpoint, two places"
    assert re.search(rf"#0  score \(base=2, weight=3\) at kernels.c:{LINE}", back), text
    assert WORDS["old"] in text
    assert WORDS["new"] in text


def test_what_is_unmapped_is_forgotten_and_a_breakpoint_on_an_entry_refuses(project: Project, tmp_path: Path) -> None:
    need("gdb")
    words = [f"stage {project.patch}", "mark", "unstage", "mark", f"commit {project.patch}", "mark", "score 1 1"]
    text = debug(
        *(project, tmp_path, words, "run < " + str(tmp_path / "words"), "info symbol 'score@hotreload.g1'"),
        *("continue", "echo GONE\\n", "info symbol 'score@hotreload.g1'", "break *score", "continue", "delete"),
        *("break score", "info breakpoints", "kill"),
    )
    staged, gone = text.split("GONE\n", maxsplit=1)
    assert "score@hotreload.g1 in section .text" in staged, text
    assert 'No symbol "score@hotreload.g1" in current context' in gone, text
    if project.hot.prologue == "jump":
        assert "refused: score: a debugger or uprobe has a breakpoint on the entry" in gone, text
