"""From a saved file to the running process: a real compiler, a real process, real files."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.run.harness import Extension, Program, Start, build

CANONICAL = {
    "module", "functions", "compiler_changed", "generation", "build_ms", "diff_ms", "link_ms", "stage_ms",
    "commit_ms", "total_ms", "distance_bytes", "processes", "outcome",
}  # fmt: skip


def count_of(line: str) -> int:
    return int(line.split("count")[1])


def test_a_save_goes_live_with_its_state_and_one_canonical_line(serving: Program, extension: Extension) -> None:
    extension.header.write_text(extension.shade("x + 41"))
    first = serving.wait_line("value 42")
    extension.source.write_text(extension.source.read_text().replace("shade(1)", "shade(2)"))
    second = serving.wait_line("value 43")
    reloads = [serving.wait_reloads(1), serving.wait_reloads(2)]

    assert 2 < count_of(first) < count_of(second), "the counter goes on counting"
    assert [reload["outcome"] for reload in reloads] == ["live", "live"]
    assert [reload["generation"] for reload in reloads] == [1, 2]
    assert all(reload.keys() >= CANONICAL for reload in reloads)
    assert all(reload[name] > 0 for reload in reloads for name in ("build_ms", "stage_ms", "commit_ms", "total_ms"))
    assert reloads[1]["functions"] == ["value"]
    assert reloads[1]["processes"] == 1


def test_a_compile_error_is_shown_as_printed_and_the_next_good_save_goes_live(
    serving: Program, extension: Extension
) -> None:
    extension.header.write_text(extension.shade("x + oops"))
    failed = serving.wait_reloads(1)
    assert failed["outcome"] == "build_failed"
    assert "shade.h:1:" in failed["diagnostics"]
    assert "error: ‘oops’ undeclared" in failed["diagnostics"] or "error: 'oops' undeclared" in failed["diagnostics"]
    assert serving.process.poll() is None

    extension.header.write_text(extension.shade("x + 6"))
    serving.wait_line("value 7")
    assert serving.wait_reloads(2)["outcome"] == "live"
    assert not [line for line in serving.stdout if "value" in line and "value 7" not in line]


def test_the_original_text_goes_back_to_the_base(serving: Program, extension: Extension) -> None:
    extension.header.write_text(extension.shade("x + 41"))
    serving.wait_line("value 42")
    serving.wait_reloads(1)
    extension.header.write_text(extension.shade("x + 1"))
    serving.wait_line("value 2 ")

    assert serving.wait_reloads(2)["outcome"] == "base"


def test_a_comment_is_nothing_and_says_why(serving: Program, extension: Extension) -> None:
    extension.header.write_text("/* a word */\n" + extension.shade("x + 1"))
    reload = serving.wait_reloads(1)

    assert reload["outcome"] == "nothing"
    assert "comments" in reload["reason"]


def test_a_new_thread_local_variable_is_refused_with_its_reason(serving: Program, extension: Extension) -> None:
    text = extension.source.read_text()
    extension.source.write_text(
        text.replace("static long calls;", "static long calls;\nstatic __thread long mine;").replace(
            "calls++;", "calls++; mine += calls; if (mine == 7) return 0;"
        )
    )
    reload = serving.wait_reloads(1)

    assert reload["outcome"] == "refused"
    assert "mine" in reload["reason"] + reload.get("diagnostics", "")
    assert serving.process.poll() is None


def test_a_missing_symbol_is_refused_by_name(serving: Program, extension: Extension) -> None:
    text = extension.source.read_text()
    extension.source.write_text(
        text.replace("static long calls;", "static long calls;\nlong nowhere_to_be_found(long);").replace(
            "shade(1)", "nowhere_to_be_found(1)"
        )
    )
    reload = serving.wait_reloads(1)

    assert reload["outcome"] == "refused"
    assert "nowhere_to_be_found" in reload["reason"]
    extension.source.write_text(text.replace("shade(1)", "shade(4)"))
    serving.wait_line("value 5")


def by_rename(path: Path, text: str) -> None:
    other = path.with_name(path.name + "___jb_tmp___")
    other.write_text(text)
    other.replace(path)


def like_vim(path: Path, text: str) -> None:
    backup = path.with_name(path.name + "~")
    path.rename(backup)
    path.write_text(text)
    backup.unlink()


def moved_in(path: Path, text: str) -> None:
    other = path.parent.parent / "elsewhere.h"
    other.write_text(text)
    other.replace(path)


@pytest.mark.parametrize("save", [by_rename, like_vim, moved_in])
def test_every_editors_way_to_save_goes_live(
    serving: Program, extension: Extension, save: Callable[[Path, str], None]
) -> None:
    for number in (10, 20):
        save(extension.header, extension.shade(f"x + {number}"))
        serving.wait_line(f"value {number + 1}")

    assert {reload["outcome"] for reload in serving.reloads()} <= {"live"}


def test_a_save_every_50_ms_loses_no_last_save_and_builds_no_half_file(serving: Program, extension: Extension) -> None:
    for number in range(100, 120):
        text = extension.shade(f"x + {number}")
        with extension.header.open("w") as file:
            file.write(text[: len(text) // 2])
            file.flush()
            time.sleep(0.01)
            file.write(text[len(text) // 2 :])
        time.sleep(0.04)
    serving.wait_line("value 120")
    serving.wait_for(
        lambda: serving.reloads() and serving.reloads()[-1]["outcome"] == "live", "the last line is not that it is live"
    )

    assert "build_failed" not in {reload["outcome"] for reload in serving.reloads()}
    assert len(serving.reloads()) <= 20


def test_sources_edited_before_the_start_go_live_at_the_start(start: Start, server: Path, extension: Extension) -> None:
    extension.header.write_text(extension.shade("x + 41"))
    program = start(str(server))
    program.wait_line("value 42")

    assert program.wait_reloads(1)["trigger"] == "start"


def test_an_extension_that_is_imported_late_is_watched_too(start: Start, tmp_path: Path, extension: Extension) -> None:
    script = tmp_path / "late.py"
    script.write_text(
        "import sys, time\n"
        "print('before', flush=True)\n"
        "while not (__import__('os').path.exists('go')): time.sleep(0.01)\n"
        f"sys.path.insert(0, {str(extension.directory)!r})\n"
        "import tiny\n"
        "while True:\n"
        "    print('value', tiny.value(), flush=True)\n"
        "    time.sleep(0.01)\n"
    )
    program = start(str(script), HOTRELOAD_VERBOSE="1")
    program.wait_line("before")
    program.wait_event("process.connected")
    (tmp_path / "go").touch()
    program.wait_event("extension.found")
    extension.header.write_text(extension.shade("x + 41"))

    program.wait_line("value 42")


def test_two_threads_keep_calling_while_it_changes(start: Start, tmp_path: Path, extension: Extension) -> None:
    script = tmp_path / "threads.py"
    script.write_text(
        "import sys, threading, time\n"
        f"sys.path.insert(0, {str(extension.directory)!r})\n"
        "import tiny\n"
        "seen = set()\n"
        "def call():\n"
        "    while True:\n"
        "        seen.add(tiny.value())\n"
        "for _ in range(2): threading.Thread(target=call, daemon=True).start()\n"
        "print('ready', flush=True)\n"
        "while True:\n"
        "    time.sleep(0.02); print(sorted(seen), flush=True)\n"
    )
    program = start(str(script))
    program.wait_line("ready")
    program.wait_event("extension.found")
    for number in (10, 20, 30):
        extension.header.write_text(extension.shade(f"x + {number}"))
        program.wait_line(f"{number + 1}]")

    program.wait_line("[2, 11, 21, 31]")


def test_polling_sees_saves_too(start: Start, server: Path, extension: Extension) -> None:
    program = start("--polling", str(server), HOTRELOAD_POLLING_INTERVAL="0.05")
    program.wait_line("ready 2")
    program.wait_event("extension.found")
    extension.header.write_text(extension.shade("x + 41"))

    program.wait_line("value 42")


def test_the_thread_in_the_server_sleeps_until_there_is_something_to_do(
    start: Start, tmp_path: Path, extension: Extension
) -> None:
    script = tmp_path / "idle.py"
    script.write_text(
        f"import sys, threading\nsys.path.insert(0, {str(extension.directory)!r})\nimport tiny\n"
        "print('ready', threading.active_count(), flush=True)\nthreading.Event().wait()\n"
    )
    program = start(str(script))
    program.wait_line("ready 1")
    program.wait_event("extension.found")
    main = program.process.pid

    def wakeups() -> dict[str, int]:
        counts = {}
        for task in Path(f"/proc/{main}/task").iterdir():
            fields = dict(line.split(":\t") for line in (task / "status").read_text().splitlines() if ":\t" in line)
            counts[task.name] = int(fields["voluntary_ctxt_switches"])
        return counts

    threading.Event().wait(0.5)
    before = wakeups()
    threading.Event().wait(1.5)

    assert len(before) == 2
    assert wakeups() == before


def test_a_checkout_of_twenty_files_is_one_reload(
    start: Start, tmp_path: Path, server: Path, extension: Extension
) -> None:
    def git(*arguments: str) -> None:
        subprocess.run(
            ["git", "-c", "user.name=t", "-c", "user.email=t@localhost", *arguments],
            cwd=extension.directory,
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull},
        )

    numbers = range(20)
    for number in numbers:
        (extension.directory / f"h{number}.h").write_text(f"#define H{number} 1\n")
    includes = "".join(f'#include "h{number}.h"\n' for number in numbers)
    terms = " + ".join(f"H{number}" for number in numbers)
    git("init", "-q")
    extension.header.write_text(includes + extension.shade(f"x + {terms}"))
    git("add", "*.h")
    git("commit", "-qm", "one")
    for number in numbers:
        (extension.directory / f"h{number}.h").write_text(f"#define H{number} 2\n")
    git("commit", "-qam", "two")

    program = start(str(server))
    program.wait_line("value 41 ")
    program.wait_reloads(1)
    git("checkout", "-q", "HEAD~1")
    program.wait_line("value 21 ")
    program.wait_reloads(2)
    git("checkout", "-q", "-")
    program.wait_line("value 41 ", after=2)
    program.wait_reloads(3)

    assert [reload["outcome"] for reload in program.reloads()] == ["live", "live", "live"]


def test_two_extensions_that_share_a_header_are_two_lines(start: Start, tmp_path: Path, extension: Extension) -> None:
    other = build(tmp_path, "other")
    script = tmp_path / "two.py"
    script.write_text(
        f"import sys, time\nsys.path.insert(0, {str(extension.directory)!r})\nimport other, tiny\n"
        "while True:\n    print('values', tiny.value(), other.value(), flush=True)\n    time.sleep(0.02)\n"
    )
    program = start(str(script))
    program.wait_line("values 2 2")
    program.wait_event("extension.found", module="tiny")
    program.wait_event("extension.found", module="other")
    other.header.write_text(other.shade("x + 41"))
    program.wait_line("values 42 42")
    program.wait_reloads(2)

    assert sorted(reload["module"] for reload in program.reloads()) == ["other", "tiny"]


def test_two_copies_of_one_build_in_one_process_are_both_patched(
    start: Start, tmp_path: Path, extension: Extension
) -> None:
    (library,) = extension.directory.glob("tiny*.so")
    package = extension.directory / "package"
    package.mkdir()
    (package / "__init__.py").touch()
    shutil.copy(library, package / library.name)
    script = tmp_path / "two.py"
    script.write_text(
        f"import sys, time\nsys.path.insert(0, {str(extension.directory)!r})\nimport tiny\nfrom package import tiny as copy\n"
        "while True:\n    print('values', tiny.value(), copy.value(), flush=True)\n    time.sleep(0.02)\n"
    )
    program = start(str(script))
    program.wait_line("values 2 2")
    program.wait_event("extension.found")
    extension.header.write_text(extension.shade("x + 41"))
    program.wait_line("values 42 42")

    assert program.wait_reloads(1)["processes"] == 1
