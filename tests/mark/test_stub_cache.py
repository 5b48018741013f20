"""What is built of a C file is kept by content: made once, made again when something changed, used without a compiler."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.mark.mark_kit import PRELUDE, finish, run, start, surroundings, write_kernels
from tests.run.harness import ROOT, environment

PROGRAM = """
@hotpatchable(source="kernels.c")
def value(n: int) -> int: ...

from hotreload.mark.stub import _loaded
(loaded,) = _loaded.values()
tell(value=value(0), path=loaded.entry.path, build_id=loaded.entry.build_id)
"""
FAILING = """
def stub():
    @hotpatchable(source="kernels.c")
    def value(n: int) -> int: ...

try:
    stub()
except hotreload.errors.BuildError as error:
    tell(message=error.message, hint=error.hint, diagnostics=error.diagnostics, command=error.command)
"""


def logging_compiler(directory: Path) -> dict[str, str]:
    """A compiler that writes down each call of it."""
    script = directory / "gcc"
    script.write_text(f'#!/bin/sh\necho "$@" >> {directory}/calls\nexec /usr/bin/env -S gcc "$@"\n')
    script.chmod(0o755)
    return {"CC": str(script)}


def calls(directory: Path) -> int:
    return len((directory / "calls").read_text().splitlines()) if (directory / "calls").exists() else 0


def test_it_is_built_once_and_again_only_when_something_changed(tmp_path: Path) -> None:
    compiler = logging_compiler(tmp_path)
    source = write_kernels(tmp_path)

    first = run(tmp_path, PROGRAM, **compiler)
    assert (first["value"], calls(tmp_path)) == (1, 3)  # the file, the wrapper, the link

    os.utime(source)
    os.utime(tmp_path / "shade.h")
    assert run(tmp_path, PROGRAM, **compiler)["path"] == first["path"]
    assert calls(tmp_path) == 3

    write_kernels(tmp_path, shade=2)  # a header, and nothing else
    assert run(tmp_path, PROGRAM, **compiler)["value"] == 2
    assert calls(tmp_path) == 6

    write_kernels(tmp_path, shade=1)
    again = run(tmp_path, PROGRAM, **compiler)
    assert again["path"] == first["path"]
    assert calls(tmp_path) == 6

    source.write_text(source.read_text() + "\n/* another text */\n")
    assert run(tmp_path, PROGRAM, **compiler)["path"] != first["path"]
    flags = run(tmp_path, PROGRAM.replace('"kernels.c"', '"kernels.c", flags=["-O1"]'), **compiler)
    assert flags["path"] != first["path"]
    assert calls(tmp_path) == 12

    os.utime(tmp_path / "gcc", (1, 1))  # as another version of the compiler
    run(tmp_path, PROGRAM, **compiler)
    assert calls(tmp_path) == 15


def test_what_is_there_needs_no_compiler_and_a_damaged_entry_is_made_again(tmp_path: Path) -> None:
    write_kernels(tmp_path)
    first = run(tmp_path, PROGRAM)

    nowhere = {"PATH": str(tmp_path / "nothing"), "CC": ""}
    assert run(tmp_path, PROGRAM, **nowhere)["path"] == first["path"]

    whole = Path(first["path"]).read_bytes()
    Path(first["path"]).write_bytes(whole[: len(whole) // 2])
    refused = run(tmp_path, FAILING, **nowhere)
    assert "as it is now, was not built for this Python, and there is no C compiler here" in refused["message"]
    assert run(tmp_path, PROGRAM)["build_id"] == first["build_id"]  # the same texts give the same library
    assert Path(first["path"]).read_bytes() == whole

    entry = Path(first["path"]).with_name("entry.json")
    for damage in ("", "[]", '{"home": 1}', json.dumps({**json.loads(entry.read_text()), "more": 1})):
        entry.write_text(damage)
        assert run(tmp_path, PROGRAM)["value"] == 1


def test_a_header_of_the_system_that_changes_is_noticed_and_what_nobody_uses_goes(tmp_path: Path) -> None:
    compiler = logging_compiler(tmp_path)
    source = write_kernels(tmp_path)
    entry = Path(run(tmp_path, PROGRAM, **compiler)["path"]).parent / "entry.json"
    known = json.loads(entry.read_text())
    name, (size, _, text) = next((n, look) for n, look in known["outside"].items() if n.endswith("stdint.h"))
    known["outside"][name] = [size, 1, text]  # another time, the same text: as in an image that was made again
    entry.write_text(json.dumps(known))
    assert run(tmp_path, PROGRAM, **compiler)["value"] == 1
    assert calls(tmp_path) == 3
    known["outside"][name] = [size, 1, "0" * 64]
    entry.write_text(json.dumps(known))
    assert run(tmp_path, PROGRAM, **compiler)["value"] == 1
    assert calls(tmp_path) == 6

    key = entry.parents[1]
    for file in (entry, key / "lock"):
        os.utime(file, (0, 0))
    (tmp_path / "json.py").write_text("raise SystemExit('of the program, and none of the build')")
    (tmp_path / "other").mkdir()
    source.rename(tmp_path / "other" / "kernels.c")
    (tmp_path / "shade.h").rename(tmp_path / "other" / "shade.h")
    (tmp_path / "other" / "program.py").write_text(
        f"import sys, os; sys.path.pop(0)\nimport json\nos.chdir({str(tmp_path)!r})\n{PRELUDE}{PROGRAM}"
    )
    told = subprocess.run(
        [sys.executable, str(tmp_path / "other" / "program.py")], env=surroundings(tmp_path, **compiler),
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert '"value": 1' in told.stdout, told.stderr
    assert not key.exists()


def test_many_that_start_at_once_build_it_once(tmp_path: Path) -> None:
    compiler = logging_compiler(tmp_path)
    write_kernels(tmp_path)
    programs = [start(tmp_path, PROGRAM, **compiler) for _ in range(6)]

    told = [finish(program) for program in programs]

    assert {one["value"] for one in told} == {1}
    assert len({one["path"] for one in told}) == 1
    assert calls(tmp_path) == 3


def test_a_child_of_a_fork_in_the_middle_of_a_build_builds_it_too(tmp_path: Path) -> None:
    write_kernels(tmp_path)
    (tmp_path / "stubs.py").write_text(
        "from hotreload import hotpatchable\n@hotpatchable(source='kernels.c')\ndef value(n: int) -> int: ...\n"
    )
    told = run(
        tmp_path,
        """
from hotreload.mark import stub
held, go = threading.Event(), threading.Event()
def build():
    with stub._lock:
        held.set()
        go.wait()
threading.Thread(target=build).start()
held.wait()
pid = os.fork()
if not pid:
    import signal
    signal.alarm(30)
    import stubs
    tell(value=stubs.value(0))
    os._exit(0)
tell(status=os.waitpid(pid, 0)[1])
go.set()
""",
    )
    assert (told["status"], told["value"]) == (0, 1)


def test_a_builder_that_dies_leaves_nothing_that_is_taken_for_whole(tmp_path: Path) -> None:
    write_kernels(tmp_path)
    script = tmp_path / "gcc"
    script.write_text('#!/bin/sh\ncase "$*" in *-shared*) kill -9 $PPID;; esac\nexec /usr/bin/env -S gcc "$@"\n')
    script.chmod(0o755)
    assert "the build ended with -9" in run(tmp_path, FAILING, CC=str(script))["message"]

    assert run(tmp_path, PROGRAM)["value"] == 1


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("long value(long n) { return n + ; }", "", "expected expression before"),
        ('#include "missing.h"\nlong value(long n) { return n; }', "", "missing.h: No such file"),
        ("#include <Python.h>\nlong value(long n) { return n; }", "", "Python.h"),
        ("static long value(long n) { return n; }", "", "has no function that can be called from Python"),
        ("long value(long n, ...) { return n; }", "", "`value`: it takes any number of arguments"),
        ("extern long far_away(long); long value(long n) { return far_away(n); }", "", "undefined symbol: far_away"),
        ("long value(long n) { return n; }", ', libraries=["no_such_library"]', "no_such_library"),
        (
            "long value(long n) { return n; }",
            ', flags="-fsanitize=address"',
            "a sanitizer registers each variable once",
        ),
    ],
    ids=["syntax", "include", "python", "static", "variadic", "undefined", "library", "sanitizer"],
)
def test_a_file_that_cannot_be_built_is_a_build_error(tmp_path: Path, text: str, options: str, message: str) -> None:
    (tmp_path / "kernels.c").write_text(text)
    program = FAILING.replace('"kernels.c"', f'"kernels.c"{options}')

    told = run(tmp_path, program)

    assert message in told["message"]
    assert str(tmp_path / "kernels.c") in told["message"]
    assert told["hint"]
    (tmp_path / "kernels.c").write_text("long value(long n) { return n + 5; }")
    assert run(tmp_path, PROGRAM)["value"] == 5


def test_no_compiler_by_that_name_is_a_build_error(tmp_path: Path) -> None:
    write_kernels(tmp_path)

    assert "there is no C compiler here" in run(tmp_path, FAILING, CC="no-such-compiler")["message"]


def test_a_build_that_takes_its_time_is_announced_on_a_terminal_and_nowhere_else(tmp_path: Path) -> None:
    write_kernels(tmp_path)
    script = tmp_path / "gcc"
    script.write_text('#!/bin/sh\ncase "$*" in *-shared*) sleep 0.7;; esac\nexec /usr/bin/env -S gcc "$@"\n')
    script.chmod(0o755)
    assert run(tmp_path, PROGRAM, CC=str(script))["stderr"] == ""

    write_kernels(tmp_path, shade=3)
    ours, theirs = os.openpty()
    with os.fdopen(ours, "rb", buffering=0) as terminal:
        program = subprocess.Popen(
            [sys.executable, "program.py"], cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=theirs,
            env={**environment(tmp_path), "PYTHONPATH": str(ROOT), "CC": str(script)},
        )  # fmt: skip
        os.close(theirs)
        said = b""
        while b"done in" not in said:
            said += terminal.read(4096)
        assert program.wait(60) == 0
    assert said.startswith(b"hotreload: building kernels.c ... done in ")


def test_a_cache_that_is_not_ours_is_refused_and_one_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    write_kernels(tmp_path)
    first = run(tmp_path, PROGRAM)
    directory = Path(first["path"]).parents[1]
    directory.chmod(0o707)
    assert "can be changed by others: nothing is loaded from there" in run(tmp_path, FAILING)["message"]
    directory.chmod(0o700)
    assert run(tmp_path, PROGRAM)["path"] == first["path"]

    (directory / "lock").unlink()
    (directory / "lock").mkdir()
    (directory / Path(first["path"]).parent.name / "entry.json").unlink()
    assert "cannot be kept in" in run(tmp_path, FAILING)["message"]

    (tmp_path / "file").write_text("")
    refused = run(tmp_path, FAILING, HOTRELOAD_STORE=str(tmp_path / "file"))
    assert "cannot be kept in" in refused["message"]
    assert "HOTRELOAD_STORE" in refused["hint"]


def test_what_is_built_others_may_load_and_nobody_else_may_write(tmp_path: Path) -> None:
    write_kernels(tmp_path)
    key = Path(run(tmp_path, f"os.umask(0)\n{PROGRAM}", HOTRELOAD_STORE="store")["path"]).parents[1]
    assert key.parents[1] == tmp_path / "store"
    modes = {path.name: path.stat().st_mode & 0o777 for path in (key, *key.rglob("*")) if path.name != "lock"}
    assert len(modes) >= 5
    assert {mode & 0o022 for mode in modes.values()} == {0}
    assert {mode & 0o044 for mode in modes.values()} == {0o044}


def test_stubs_find_headers_and_libraries_by_their_options(tmp_path: Path) -> None:
    (tmp_path / "include").mkdir()
    (tmp_path / "include" / "deep.h").write_text("#define DEEP 40.0\n")
    (tmp_path / "kernels.c").write_text(
        '#include <math.h>\n#include "deep.h"\ndouble deep(double x) { return DEEP + cos(x) * MORE; }\n'
    )
    program = """
@hotpatchable(source="kernels.c", include_dirs=["include"], flags="-DMORE=2", libraries=["m"])
def deep(x: float) -> float: ...
tell(deep=deep(0.0))
"""
    assert run(tmp_path, program)["deep"] == 42.0
