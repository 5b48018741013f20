"""What is known about a process that has not answered, or that has a base more than once."""

from __future__ import annotations

from pathlib import Path

import pytest

from hotreload import events
from tests.watch.fakes import BUILD_ID, Bed, FakePeer

ORIGINAL = "// render.c\n"


@pytest.fixture
def bed(tmp_path: Path) -> Bed:
    return Bed(tmp_path)


def save(bed: Bed, text: str) -> None:
    bed.save("render.c", text)
    bed.settle()


def test_an_answer_after_the_patience_is_told_and_says_what_is_live(bed: Bed) -> None:
    peer = bed.join(7)
    save(bed, "v2\n")
    bed.pass_time(11.0)
    assert [line["outcome"] for line in bed.finished] == ["refused"]
    bed.answer(peer, generation=1, stage_ms=1.0)
    (line,) = bed.log.of(events.PATCH_DELIVERED)
    assert (line["pid"], line["generation"]) == (7, 1)
    save(bed, "v2\n")
    assert bed.finished[-1]["outcome"] == "nothing", "it is live there already"
    save(bed, ORIGINAL)

    assert peer.commands("rollback")


def test_the_original_that_is_saved_before_the_late_answer_is_sent_too(bed: Bed) -> None:
    peer = bed.join()
    save(bed, "v2\n")
    bed.pass_time(11.0)
    save(bed, ORIGINAL)
    patch, back = peer.commands("stage+commit", "rollback")
    for command in (patch, back):
        bed.loop.replied(peer, {"msg": "reply", "id": command["id"], "path": command["path"], "ok": True})

    assert [line["outcome"] for line in bed.finished] == ["refused", "base"]
    save(bed, ORIGINAL)
    assert len(peer.commands("rollback")) == 1, "the last answer counts"


def test_a_late_refusal_is_told_and_not_tried_again_by_itself(bed: Bed) -> None:
    peer = bed.join()
    save(bed, "v2\n")
    bed.pass_time(11.0)
    bed.answer(peer, ok=False, error={"error": "StageError", "message": "no room", "hint": ""})

    (line,) = bed.log.of(events.PATCH_REFUSED)
    assert line["reason"] == "no room"
    assert len(peer.commands("stage+commit")) == 1


def test_a_process_that_wakes_with_a_patch_that_others_refused_is_brought_back(bed: Bed) -> None:
    first, second = bed.join(1), bed.join(2)
    save(bed, "v2\n")
    bed.answer(first, ok=False, error={"error": "StageError", "message": "no", "hint": ""})
    bed.pass_time(11.0)
    bed.answer(second, generation=1)

    assert second.commands("rollback")
    assert not first.commands("rollback")


def test_the_original_that_is_saved_while_a_new_process_takes_the_patch_is_sent_to_it(bed: Bed) -> None:
    first = bed.join(1)
    save(bed, "v2\n")
    bed.answer(first, generation=1)
    late = bed.join(2)
    assert late.commands("stage+commit")
    save(bed, ORIGINAL)

    assert late.commands("rollback")


def test_one_base_from_two_paths_in_one_process_is_patched_twice_and_counted_once(bed: Bed) -> None:
    peer = FakePeer()
    bed.loop.process_joined(peer, [("/lib/fake.so", BUILD_ID), ("/copy/fake.so", BUILD_ID)])
    bed.settle()
    save(bed, "v2\n")
    commands = peer.commands("stage+commit")
    assert [command["path"] for command in commands] == ["/lib/fake.so", "/copy/fake.so"]
    for command in commands:
        assert not bed.finished
        bed.loop.replied(peer, {"msg": "reply", "id": command["id"], "path": command["path"], "ok": True})

    (line,) = bed.finished
    assert (line["outcome"], line["processes"]) == ("live", 1)
    bed.loop.process_left(peer)
    assert bed.join(2).commands("stage+commit")
