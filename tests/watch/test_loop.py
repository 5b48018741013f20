from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from hotreload import events
from hotreload.errors import BuildError, Finding, IncompatibleError, StageError
from hotreload.watch.loop import _directory_of
from tests.watch.fakes import BUILD_ID, Bed, FakePeer


@pytest.fixture
def bed(tmp_path: Path) -> Bed:
    return Bed(tmp_path)


def test_a_hot_library_is_attached_and_its_files_are_watched(bed: Bed) -> None:
    peer = bed.join()

    assert [command["path"] for command in peer.commands("attach")] == ["/lib/fake.so"]
    assert bed.watcher.files == {bed.workshop.directory / "render.c"}
    assert len(bed.log.of(events.EXTENSION_FOUND)) == 1


def test_what_one_process_leaves_to_another_reloader_is_left_to_it_in_all(bed: Bed) -> None:
    watching = bed.join(1)
    bed.loop.files_left(["/lib/fake.so"])
    bed.save("render.c", "v2\n")
    bed.settle()
    bed.join(2)
    bed.settle()

    assert not watching.commands("stage+commit")
    assert not bed.finished


def test_a_library_that_is_not_hot_is_asked_about_once(bed: Bed) -> None:
    bed.join(1)
    bed.join(2)

    assert bed.opener.asked.count("cd" * 20) == 1


def test_sources_that_equal_the_base_at_the_start_say_nothing(bed: Bed) -> None:
    peer = bed.join()

    assert bed.workshop.made
    assert not peer.commands("stage+commit", "rollback")
    assert not bed.finished


def test_sources_edited_before_the_start_go_live_at_once(bed: Bed) -> None:
    (bed.workshop.directory / "render.c").write_text("edited before\n")
    peer = bed.join()
    bed.answer(peer, generation=1)

    (line,) = bed.finished
    assert (line["outcome"], line["trigger"], line["generation"]) == ("live", "start", 1)


def test_a_save_goes_live_and_writes_one_line_with_every_field(bed: Bed) -> None:
    peer = bed.join()
    bed.save("render.c", "v2\n")
    bed.settle()
    (message, fd) = next(pair for pair in peer.sent if pair[0]["cmd"] == "stage+commit")
    assert fd is not None
    assert message["info"]["changed"] == ["shade"]
    bed.now += 0.005
    bed.answer(peer, generation=1, stage_ms=1.5, commit_ms=0.1, distance_bytes=4096)

    (line,) = bed.finished
    assert line["outcome"] == "live"
    assert line["module"] == "fake.speedups"
    assert line["functions"] == ["shade"]
    assert line["compiler_changed"] == []
    assert line["generation"] == 1
    assert (line["build_ms"], line["diff_ms"], line["link_ms"]) == (100.0, 10.0, 2.0)
    assert (line["stage_ms"], line["commit_ms"], line["distance_bytes"]) == (1.5, 0.1, 4096)
    assert line["total_ms"] == pytest.approx(16.0, abs=12.0)
    assert line["processes"] == 1
    assert peer.commands("event")[-1]["event"]["event"] == events.RELOAD_FINISHED


def test_a_build_that_takes_long_is_told_when_half_a_second_is_over_and_not_when_something_else_happens(
    tmp_path: Path,
) -> None:
    bed = Bed(tmp_path, tells_slow_builds=True)
    bed.join()
    bed.save("render.c", "v2\n")
    assert bed.pass_time(0.011) == pytest.approx(0.5)
    assert bed.worker.jobs and bed.log.of(events.BUILD_PROLONGED) == []
    bed.pass_time(0.5)
    bed.pass_time(0.5)
    assert len(bed.log.of(events.BUILD_PROLONGED)) == 1


def test_a_burst_of_saves_is_one_build(tmp_path: Path) -> None:
    names = tuple(f"f{number}.c" for number in range(20))
    bed = Bed(tmp_path, *names)
    bed.join()
    bed.workshop.made.clear()
    for name in names:
        bed.save(name, "checked out\n")
        bed.pass_time(0.002)
    bed.settle()

    assert len(bed.workshop.made) == 1
    assert bed.workshop.made[0] == "checked out\n" * 20


def test_a_file_saved_while_it_is_compiled_is_compiled_again_and_the_first_build_is_dropped(bed: Bed) -> None:
    peer = bed.join()
    bed.save("render.c", "half\n")
    edits = ["whole, and longer\n"]
    bed.workshop.during = lambda: edits and bed.save("render.c", edits.pop())
    bed.settle()
    bed.pass_time(0.5)
    bed.worker.work()
    bed.answer(peer, generation=1)

    assert bed.workshop.made[-2:] == ["half\n", "whole, and longer\n"]
    assert len(peer.commands("stage+commit")) == 1
    (line,) = bed.finished
    assert line["discarded"] == 1


def test_a_change_that_no_event_has_told_of_yet_drops_the_build_too(bed: Bed) -> None:
    peer = bed.join()
    bed.save("render.c", "half\n")
    edits = ["whole, and longer\n"]
    path = bed.workshop.directory / "render.c"
    bed.workshop.during = lambda: edits and path.write_text(edits.pop())
    bed.settle()
    bed.pass_time(0.5)
    bed.worker.work()

    assert bed.workshop.made[-1] == "whole, and longer\n"
    assert len(peer.commands("stage+commit")) == 1


def test_a_save_during_the_delivery_is_not_lost(bed: Bed) -> None:
    peer = bed.join()
    bed.save("render.c", "v2\n")
    bed.settle()
    bed.save("render.c", "v3\n")
    bed.settle()
    assert bed.workshop.made[-1] == "v2\n", "one at a time"
    bed.answer(peer, generation=1)
    bed.settle()
    bed.answer(peer, generation=2)

    assert bed.workshop.made[-1] == "v3\n"
    assert [line["generation"] for line in bed.finished] == [1, 2]


def test_saves_faster_than_the_compiler_wait_for_rest_instead_of_racing_it(bed: Bed) -> None:
    bed.join()
    bed.workshop.made.clear()
    for number in range(40):
        bed.save("render.c", f"{number}\n" * (number + 1))
        bed.pass_time(0.025)
        # A build that lasts until after the next save: begun here, read then.
        bed.workshop.during = lambda number=number: bed.save("render.c", f"during {number}\n" * (number + 1))
        bed.worker.work()
        bed.workshop.during = lambda: None
        bed.pass_time(0.025)
    bed.save("render.c", "the last\n")
    for _ in range(4):
        bed.pass_time(0.2)
        bed.worker.work()

    assert bed.workshop.made[-1] == "the last\n"
    assert len(bed.workshop.made) < 12


def test_a_created_file_is_given_time_to_be_written(bed: Bed) -> None:
    bed.join()
    bed.workshop.made.clear()
    bed.save("render.c", "", whole=False)
    bed.pass_time(0.02)
    assert not bed.worker.jobs
    bed.save("render.c", "whole\n")
    bed.pass_time(0.011)
    bed.worker.work()

    assert bed.workshop.made == ["whole\n"]


def test_a_compile_error_is_shown_and_the_next_good_save_goes_live(bed: Bed) -> None:
    peer = bed.join()
    bed.workshop.error = BuildError("the compiler failed", diagnostics="render.c:1:1: error: expected ';'\n")
    bed.save("render.c", "broken\n")
    bed.settle()
    (line,) = bed.finished
    assert line["outcome"] == "build_failed"
    assert "expected ';'" in line["diagnostics"]
    assert not peer.commands("stage+commit")
    assert "expected ';'" in peer.commands("event")[-1]["event"]["diagnostics"]

    bed.workshop.error = None
    bed.save("render.c", "good\n")
    bed.settle()
    bed.answer(peer, generation=1)
    assert bed.finished[-1]["outcome"] == "live"


def test_a_file_that_is_away_for_a_moment_is_no_error_and_one_that_stays_away_is(bed: Bed) -> None:
    peer = bed.join()
    path = bed.workshop.directory / "render.c"
    bed.workshop.error = BuildError("cannot read render.c")
    bed.save("render.c", "v2\n")
    bed.workshop.during = path.unlink
    bed.settle()
    assert not bed.finished
    bed.workshop.during, bed.workshop.error = lambda: None, None
    bed.save("render.c", "v2\n")
    bed.pass_time(0.1)
    bed.worker.work()
    bed.answer(peer, generation=1)
    assert [line["outcome"] for line in bed.finished] == ["live"]

    bed.save("render.c", "v3\n")
    bed.workshop.error, bed.workshop.during = BuildError("cannot read render.c"), path.unlink
    bed.settle()
    bed.workshop.text = lambda: ""
    bed.workshop.during = lambda: None
    bed.pass_time(0.1)
    bed.worker.work()
    assert bed.finished[-1]["outcome"] == "build_failed"


def test_an_incompatible_edit_is_refused_with_every_finding(bed: Bed) -> None:
    bed.join()
    findings = (Finding("new-tls", "thread-local `t` is new", "restart", "render.c", 7),)
    bed.workshop.error = IncompatibleError("the edit cannot go live", findings=findings)
    bed.save("render.c", "tls\n")
    bed.settle()

    (line,) = bed.finished
    assert line["outcome"] == "refused"
    assert "render.c:7: refused: thread-local `t` is new (restart) [new-tls]" in line["diagnostics"]


def test_a_save_that_changes_nothing_says_why(bed: Bed) -> None:
    bed.join()
    bed.save("render.c", "// render.c\n")
    bed.settle()

    (line,) = bed.finished
    assert line["outcome"] == "nothing"
    assert "comments" in line["reason"]


def test_the_code_that_is_live_already_is_not_sent_again(bed: Bed) -> None:
    peer = bed.join()
    for _ in range(2):
        bed.save("render.c", "v2\n")
        bed.settle()
        if not bed.finished:
            bed.answer(peer, generation=1)

    assert [line["outcome"] for line in bed.finished] == ["live", "nothing"]
    assert len(peer.commands("stage+commit")) == 1


def test_the_original_text_is_a_rollback(bed: Bed) -> None:
    peer = bed.join()
    bed.save("render.c", "v2\n")
    bed.settle()
    bed.answer(peer, generation=1)
    bed.save("render.c", "// render.c\n")
    bed.settle()
    assert peer.commands("rollback")[-1]["to"] == 0
    bed.answer(peer, generation=0)

    assert [line["outcome"] for line in bed.finished] == ["live", "base"]


def test_a_refusal_by_the_process_is_shown_and_the_same_code_may_be_tried_again(bed: Bed) -> None:
    peer = bed.join()
    refusal = StageError("no room within 2 GB", hint="restart the process", status="HR_NO_ROOM")
    for _ in range(2):
        bed.save("render.c", "v2\n")
        bed.settle()
        bed.answer(peer, ok=False, error=refusal.as_dict())

    assert [line["outcome"] for line in bed.finished] == ["refused", "refused"]
    assert bed.finished[0]["reason"] == "no room within 2 GB"
    assert bed.finished[0]["hint"] == "restart the process"
    assert bed.finished[0]["details"] == {"error": "StageError", "status": "HR_NO_ROOM"}


def test_every_process_gets_the_patch_and_the_line_counts_them(bed: Bed) -> None:
    peers = [bed.join(pid) for pid in (1, 2, 3)]
    bed.save("render.c", "v2\n")
    bed.settle()
    for peer in peers[:2]:
        bed.answer(peer, generation=1)
    assert not bed.finished
    bed.answer(peers[2], ok=False, error={"error": "StageError", "message": "no", "hint": ""})

    (line,) = bed.finished
    assert (line["outcome"], line["processes"], line["refused_by"]) == ("live", 2, 1)


def test_a_process_that_ends_is_not_waited_for(bed: Bed) -> None:
    first, second = bed.join(1), bed.join(2)
    bed.save("render.c", "v2\n")
    bed.settle()
    bed.answer(first, generation=1)
    bed.loop.process_left(second)

    (line,) = bed.finished
    assert (line["outcome"], line["processes"]) == ("live", 1)


def test_a_stopped_process_does_not_hold_the_line_up_for_ever(bed: Bed) -> None:
    bed.join(1)
    bed.save("render.c", "v2\n")
    bed.settle()
    bed.pass_time(11.0)

    (line,) = bed.finished
    assert line["unanswered"] == 1


def test_a_process_that_comes_later_takes_the_newest_patch(bed: Bed) -> None:
    bed.answer_to = bed.join(1)
    for text in ("v2\n", "v3\n"):
        bed.save("render.c", text)
        bed.settle()
        bed.answer(bed.answer_to, generation=1)
    late = bed.join(2)
    (command,) = late.commands("stage+commit")
    bed.answer(late, generation=1)

    assert command["info"]["digest"] == "v3\n"
    assert len(bed.finished) == 2, "a late process is no save"
    assert len(bed.log.of(events.PATCH_DELIVERED)) == 1


def test_a_forked_process_that_has_the_newest_patch_already_is_not_sent_it_again(bed: Bed) -> None:
    first = bed.join(1)
    bed.save("render.c", "v2\n")
    bed.settle()
    bed.answer(first, generation=1)
    child = FakePeer(2)
    bed.loop.process_joined(child, [("/lib/fake.so", BUILD_ID)], {"/lib/fake.so": "v2\n"})
    assert not child.commands("stage+commit", "rollback")
    bed.save("render.c", "// render.c\n")
    bed.settle()

    assert child.commands("rollback")


def test_a_process_that_has_something_else_live_is_brought_to_what_the_sources_say(bed: Bed) -> None:
    peer = FakePeer(1)
    bed.loop.process_joined(peer, [("/lib/fake.so", BUILD_ID)], {"/lib/fake.so": "from an earlier helper"})
    assert not peer.commands("stage+commit", "rollback"), "not before the first build"
    bed.settle()

    assert peer.commands("rollback")


def test_a_process_that_refused_is_asked_again_and_the_others_are_not(bed: Bed) -> None:
    first, second = bed.join(1), bed.join(2)
    bed.save("render.c", "v2\n")
    bed.settle()
    bed.answer(first, generation=1)
    bed.answer(second, ok=False, error={"error": "StageError", "message": "no", "hint": ""})
    bed.save("render.c", "v2\n")
    bed.settle()

    assert (len(first.commands("stage+commit")), len(second.commands("stage+commit"))) == (1, 2)


def test_nothing_is_built_while_no_process_has_the_extension_and_nothing_is_lost(bed: Bed) -> None:
    first = bed.join(1)
    bed.loop.process_left(first)
    bed.workshop.made.clear()
    bed.save("render.c", "v2\n")
    bed.settle()
    assert not bed.workshop.made
    second = bed.join(2)

    assert bed.workshop.made == ["v2\n"]
    assert second.commands("stage+commit")


def test_a_new_header_is_watched_after_the_build_that_read_it(bed: Bed) -> None:
    bed.join()
    header = bed.workshop.directory / "new.h"
    header.write_text("// new\n")
    bed.workshop.during = lambda: bed.workshop.files.append(header) if header not in bed.workshop.files else None
    bed.save("render.c", "#include\n")
    bed.settle()

    assert header in bed.watcher.files


def test_an_extension_that_cannot_be_opened_is_named_and_left_alone(bed: Bed) -> None:
    bed.opener.error = BuildError("its record is of another version", hint="build it again")
    peer = bed.join()

    (line,) = bed.log.of(events.EXTENSION_REFUSED)
    assert (line["path"], line["hint"]) == ("/lib/fake.so", "build it again")
    assert not peer.commands("attach")


def test_a_program_without_a_hot_extension_gets_one_hint(bed: Bed) -> None:
    bed.loop.process_joined(FakePeer(7), [("/lib/libc.so.6", "cd" * 20)])
    for _ in range(3):
        bed.pass_time(5.0)
        bed.worker.work()

    (line,) = bed.log.of(events.EXTENSION_MISSED)
    assert "hotreload build" in line["hint"]


def test_a_program_that_is_not_python_gets_a_hint(bed: Bed) -> None:
    bed.pass_time(5.0)

    assert len(bed.log.of(events.PROGRAM_MISSED)) == 1


def test_a_program_with_a_hot_extension_gets_no_hint(bed: Bed) -> None:
    bed.join()
    bed.pass_time(5.0)

    assert not bed.log.of(events.EXTENSION_MISSED)
    assert not bed.log.of(events.PROGRAM_MISSED)


def test_a_save_that_cannot_be_built_gets_its_line_though_a_file_is_missing_for_good(bed: Bed) -> None:
    bed.join()
    gone = bed.workshop.directory / "gone.h"
    bed.workshop.watched_files = lambda: [*bed.workshop.files, gone]
    for number in range(3):
        bed.workshop.error = BuildError("the compiler failed")
        bed.save("render.c", f"broken {number}\n")
        bed.settle()
        bed.pass_time(0.5)
        bed.settle()
        assert len(bed.finished) == number + 1


def test_a_header_that_the_build_misses_is_built_when_it_is_created(bed: Bed) -> None:
    peer = bed.join()
    header = bed.workshop.directory / "new.h"
    bed.workshop.during = lambda: setattr(bed.workshop, "watched_files", lambda: [*bed.workshop.files, header])
    bed.workshop.error = BuildError("new.h: No such file or directory")
    bed.workshop.made.clear()
    for text in ("#include 1\n", "#include 2\n"):
        bed.save("render.c", text)
        bed.settle()
    assert bed.workshop.made == ["#include 1\n", "#include 2\n"], "no build is repeated for what was never there"
    assert header in bed.watcher.files
    bed.workshop.error = None
    bed.save("new.h", "// new\n", whole=False)
    bed.pass_time(0.06)
    bed.worker.work()

    assert peer.commands("stage+commit")


def test_a_changed_initial_value_is_not_called_a_comment(bed: Bed) -> None:
    bed.join()
    make = bed.workshop.make
    bed.workshop.make = lambda: replace(make(), notes=("initial value of `m` changed: the live value is kept",))
    bed.save("render.c", "// render.c\n")
    bed.settle()

    (line,) = bed.finished
    assert "comments" not in line["reason"]
    assert "notes" in line["reason"]


def test_a_library_that_was_built_hot_for_another_store_is_named(bed: Bed) -> None:
    bed.opener.built_hot.add("/lib/k.so")
    bed.loop.process_joined(FakePeer(7), [("/lib/libc.so.6", "cd" * 20), ("/lib/k.so", "ef" * 20)])
    bed.pass_time(5.0)
    bed.worker.work()

    (line,) = bed.log.of(events.EXTENSION_MISSED)
    assert line["reason"] == "k.so was built hot, but is not in this store (/the/store)"


def test_a_directory_for_files_is_meant_where_the_command_was_typed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.setenv("HOTRELOAD_STORE", str(tmp_path / "store"))
    names = ["gens", "~/gens", "off", ""]
    assert [_directory_of(name) for name in names] == [
        *(str(tmp_path / "gens"), "/home/me/gens", "off", str(tmp_path / "store" / "generations"))
    ]
