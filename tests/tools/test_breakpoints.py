"""Breakpoints by file and line follow the code: into a new generation, back at a rollback, away with what is unmapped."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from toolkit import EDITED, Project, line_of, make_project, need, run

LINE = line_of(EDITED, "calls += 1")
SHOW = ["backtrace 1", "info locals", "print served", "print hidden", "print calls", "print mine"]


def debug(project: Project, tmp_path: Path, words: list[str], *commands: str) -> str:
    """gdb with a program that does these words, one a line."""
    (tmp_path / "words").write_text("\n".join(words) + "\n")
    program, *arguments = project.argv("off")
    begin = f"run {' '.join(arguments)} < {tmp_path / 'words'}"
    script = ["set pagination off", "set confirm off", "handle SIGUSR1 stop nopass", begin, *commands]
    done = run(
        *("gdb", "-q", "-batch", "-iex", "set debuginfod enabled off", "-iex", "set auto-load off"),
        *(*(word for command in script for word in ("-ex", command)), program),
        check=False,
    )
    if "ptrace: " in done.stderr:
        pytest.skip("gdb may not trace a process here")
    return done.stdout + done.stderr


@pytest.mark.parametrize("prologue", ["jump", "slot"])
def test_a_breakpoint_that_was_set_before_the_patch_stops_the_new_code_too(tmp_path: Path, prologue: str) -> None:
    need("gdb")
    (tmp_path / "project").mkdir()
    project = make_project(tmp_path / "project", prologue, "-O0")  # statements are where the source has them
    words = ["mark", "score 2 3", f"commit {project.patch}", "score 2 3", "rollback", "score 2 3", "mark"]
    text = debug(
        *(project, tmp_path, words, f"break kernels.c:{LINE}", "continue", "echo OLD\\n"),
        *("backtrace 1", "continue", "echo NEW\\n", *SHOW),
        *("info breakpoints", "continue", "echo BACK\\n", "backtrace 1", "continue", "kill"),
    )
    project.hot.close()
    assert "OLD\n" in text, text
    old, _, rest = text.partition("OLD\n")[2].partition("NEW\n")
    new, _, back = rest.partition("BACK\n")
    assert re.search(rf"#0  score \(base=2, weight=3\) at kernels.c:{LINE}", old), text
    assert re.search(rf"#0  score@hotreload\.g1 \(base=2, weight=3\) at kernels.c:{LINE}", new), text
    assert re.search(r"\$3 = 1\n", new), "calls: a static of the function"
    assert "$4 = <optimized out>" in new, "a thread-local is not taken from another library's block"
    assert "$1 = 40" in new, "a variable of the base is read where it lives"
    assert re.search(r"\$2 = 13\n", new), "the one that is static too: the old code has added 6 to its 7"
    assert re.search(r"1\.1 .*score@hotreload\.g1|1\.2 .*score@hotreload\.g1", new), "one breakpoint, two places"
    assert re.search(rf"#0  score \(base=2, weight=3\) at kernels.c:{LINE}", back), text


def test_what_is_unmapped_is_forgotten_and_a_breakpoint_on_an_entry_refuses(project: Project, tmp_path: Path) -> None:
    need("gdb")
    words = [f"stage {project.patch}", "mark", "unstage", "mark", f"commit {project.patch}", "mark", "score 1 1"]
    text = debug(
        *(project, tmp_path, words, "info symbol 'score@hotreload.g1'", "tbreak kernels.c:20"),
        *("continue", "echo GONE\\n", "info symbol 'score@hotreload.g1'", "break *score", "continue", "delete"),
        *("break score", "info breakpoints", "kill"),
    )
    assert "GONE\n" in text, text
    staged, _, gone = text.partition("GONE\n")
    assert "score@hotreload.g1 in section .text" in staged, text
    assert 'No symbol "score@hotreload.g1" in current context' in text
    if project.hot.prologue == "jump":
        assert "refused: score: a debugger or uprobe has a breakpoint on the entry" in gone, text


def test_a_breakpoint_holds_in_code_that_is_mapped_where_other_new_code_was(project: Project, tmp_path: Path) -> None:
    need("gdb")
    words = ["mark", f"stage {project.patch}", "unstage", f"commit {project.patch}", "score 2 3", "mark"]
    text = debug(project, tmp_path, words, f"break kernels.c:{LINE}", "continue", "echo NEW\\n", "backtrace 1", "kill")
    new = text.partition("NEW\n")[2]
    assert re.search(r"#0  score@hotreload\.g1 \(base=2, weight=3\) at kernels.c", new), text
