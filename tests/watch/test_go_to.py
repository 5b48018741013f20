"""An earlier state is delivered like any other patch; what is kept for it, and what is asked for whoever watches."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from hotreload import events
from hotreload.errors import HotReloadError, IncompatibleError
from hotreload.watch.bench import KEPT
from tests.watch.fakes import BUILD_ID, Bed, FakePeer


class FakeAudience:
    """Remembers what it was shown."""

    def __init__(self) -> None:
        self.is_watched = False
        self.found: list[str] = []
        self.modules: list[dict[str, Any]] = []
        self.pids: list[int] = []
        self.finished: list[dict[str, Any]] = []
        self.stragglers: dict[int, list[str]] = {}

    def module_found(self, key: str, module: str, base_texts: Any) -> None:
        self.found.append(module)

    def module_changed(self, key: str, **shown: Any) -> None:
        self.modules.append({**shown, "kept": list(shown["kept"])})

    def processes_changed(self, pids: Any) -> None:
        self.pids = list(pids)

    def reload_finished(self, key: str, line: Any, **more: Any) -> None:
        self.finished.append({"key": key, **line, **more})

    def stragglers_seen(self, pid: int, stragglers: Any) -> None:
        self.stragglers[pid] = list(stragglers)


@pytest.fixture
def audience() -> FakeAudience:
    return FakeAudience()


@pytest.fixture
def bed(tmp_path: Path, audience: FakeAudience) -> Bed:
    return Bed(tmp_path, audience=audience)


def save_live(bed: Bed, text: str, *peers: FakePeer) -> None:
    """A save that every process takes."""
    bed.save("render.c", text)
    bed.settle()
    for peer in peers:
        bed.answer(peer, generation=len(bed.finished) + 1)


def last_order(peer: FakePeer) -> tuple[str, str]:
    command = peer.commands("stage+commit", "rollback")[-1]
    return command["cmd"], command.get("info", {}).get("digest", "")


def test_an_earlier_patch_is_delivered_to_every_process_and_the_line_says_who_asked(
    bed: Bed, audience: FakeAudience
) -> None:
    one, two = bed.join(1), bed.join(2)
    save_live(bed, "v1\n", one, two)
    save_live(bed, "v2\n", one, two)
    bed.loop.go_to(BUILD_ID, "v1\n")
    for peer in (one, two):
        assert last_order(peer) == ("stage+commit", "v1\n")
        bed.answer(peer, generation=3)

    line = bed.finished[-1]
    assert (line["outcome"], line["trigger"], line["generation"], line["processes"]) == ("live", "page", 3, 2)
    assert [(one["pid"], one["ok"], one["generation"]) for one in audience.finished[-1]["answers"]] == [
        (1, True, 3),
        (2, True, 3),
    ]
    assert (line["build_ms"], line["diff_ms"], line["warnings"]) == (0.0, None, ""), "nothing was built for it"


def test_the_base_is_gone_to_like_any_other_state(bed: Bed) -> None:
    peer = bed.join()
    save_live(bed, "v1\n", peer)
    bed.loop.go_to(BUILD_ID, "")
    assert last_order(peer)[0] == "rollback"
    bed.answer(peer, generation=0)

    assert (bed.finished[-1]["outcome"], bed.finished[-1]["trigger"]) == ("base", "page")


def test_the_next_save_goes_forward_again_also_to_what_was_left(bed: Bed) -> None:
    peer = bed.join()
    save_live(bed, "v1\n", peer)
    save_live(bed, "v2\n", peer)
    bed.loop.go_to(BUILD_ID, "")
    bed.answer(peer)
    os.utime(bed.workshop.directory / "render.c", (1, 1))
    save_live(bed, "v2\n", peer)

    assert last_order(peer) == ("stage+commit", "v2\n")
    assert [(line["outcome"], line["trigger"]) for line in bed.finished[-2:]] == [("base", "page"), ("live", "save")]


def test_a_process_that_comes_later_takes_what_was_gone_to(bed: Bed) -> None:
    peer = bed.join(1)
    save_live(bed, "v1\n", peer)
    save_live(bed, "v2\n", peer)
    bed.loop.go_to(BUILD_ID, "v1\n")
    bed.answer(peer)

    assert last_order(bed.join(2)) == ("stage+commit", "v1\n")


def test_a_process_that_refuses_it_keeps_what_it_has_and_so_does_the_bench(bed: Bed) -> None:
    peer = bed.join(1)
    save_live(bed, "v1\n", peer)
    save_live(bed, "v2\n", peer)
    bed.loop.go_to(BUILD_ID, "v1\n")
    bed.answer(peer, ok=False, error={"message": "no room", "hint": "", "status": "MAP"})

    assert bed.finished[-1]["outcome"] == "refused"
    assert last_order(bed.join(2)) == ("stage+commit", "v2\n")


def test_what_is_live_already_is_nothing_and_says_so(bed: Bed) -> None:
    peer = bed.join()
    save_live(bed, "v1\n", peer)
    bed.loop.go_to(BUILD_ID, "v1\n")

    assert (bed.finished[-1]["outcome"], bed.finished[-1]["trigger"]) == ("nothing", "page")
    assert "live already" in bed.finished[-1]["reason"]


def test_what_cannot_be_gone_to_is_refused_with_its_reason(bed: Bed) -> None:
    with pytest.raises(HotReloadError, match="no module with build-id"):
        bed.loop.go_to(BUILD_ID, "")
    peer = bed.join()
    with pytest.raises(HotReloadError, match="not kept any more.*undo the edit"):
        bed.loop.go_to(BUILD_ID, "never made")
    bed.save("render.c", "v1\n")
    bed.pass_time(0.011)
    with pytest.raises(HotReloadError, match="being built"):
        bed.loop.go_to(BUILD_ID, "")
    bed.worker.work()
    with pytest.raises(HotReloadError, match="being delivered"):
        bed.loop.go_to(BUILD_ID, "")
    bed.answer(peer, generation=1)
    bed.loop.process_left(peer)
    with pytest.raises(HotReloadError, match="no process has fake.speedups loaded"):
        bed.loop.go_to(BUILD_ID, "")


def test_the_last_patches_stay_open_and_older_ones_are_closed(bed: Bed, audience: FakeAudience) -> None:
    peer = bed.join()
    before = len(os.listdir("/proc/self/fd"))
    for number in range(KEPT + 5):
        save_live(bed, f"v{number}\n", peer)
    bed.loop.tick()

    assert audience.modules[-1]["kept"] == [f"v{number}\n" for number in range(5, KEPT + 5)]
    assert len(os.listdir("/proc/self/fd")) - before == KEPT
    with pytest.raises(HotReloadError, match="not kept"):
        bed.loop.go_to(BUILD_ID, "v0\n")


def test_saving_back_and_forth_opens_no_patch_twice(bed: Bed) -> None:
    peer = bed.join()
    save_live(bed, "v1\n", peer)
    save_live(bed, "v2\n", peer)
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        save_live(bed, "v1\n", peer)
        save_live(bed, "v2\n", peer)

    assert len(os.listdir("/proc/self/fd")) == before


def test_a_patch_that_nobody_took_is_closed(bed: Bed, audience: FakeAudience) -> None:
    peer = bed.join()
    before = len(os.listdir("/proc/self/fd"))
    bed.save("render.c", "v1\n")
    bed.settle()
    bed.answer(peer, ok=False, error={"message": "no room", "hint": ""})
    bed.loop.tick()

    assert audience.modules[-1]["kept"] == []
    assert len(os.listdir("/proc/self/fd")) == before


def test_the_audience_is_shown_what_there_is_and_what_the_files_said(bed: Bed, audience: FakeAudience) -> None:
    peer = bed.join(7)
    save_live(bed, "v1\n", peer)
    bed.workshop.error = IncompatibleError("no")
    bed.save("render.c", "v2\n")
    bed.settle()

    assert (audience.found, audience.pids) == (["fake.speedups"], [7])
    assert (audience.modules[-1]["wanted"], audience.modules[-1]["holders"]) == ("v1\n", [(7, "/lib/fake.so", "v1\n")])
    live, refused = audience.finished
    assert (live["outcome"], live["digest"], list(live["texts"].values())) == ("live", "v1\n", ["v1\n"])
    assert (refused["outcome"], refused["error"], list(refused["texts"].values())) == (
        "refused", bed.workshop.error, ["v2\n"],
    )  # fmt: skip


def test_the_audience_is_told_what_each_process_said_and_who_said_nothing(bed: Bed, audience: FakeAudience) -> None:
    peers = [bed.join(1), bed.join(2), bed.join(3), bed.join(4)]
    bed.save("render.c", "v1\n")
    bed.settle()
    bed.answer(peers[0], generation=1)
    bed.answer(peers[1], ok=False, error={"message": "no room", "hint": ""})
    bed.refuse_as_busy(peers[2])
    bed.pass_time(11.0)

    assert [(one["pid"], one["ok"], one["reason"]) for one in audience.finished[-1]["answers"]] == [
        (1, True, ""), (2, False, "no room"), (3, False, "T1 is inside shade"), (4, None, "no answer in time"),
    ]  # fmt: skip


def test_a_process_is_asked_for_its_stragglers_once_a_second_and_only_while_somebody_watches(
    bed: Bed, audience: FakeAudience
) -> None:
    peer = bed.join(7)
    bed.save("render.c", "v1\n")
    bed.settle()
    bed.answer(peer, generation=1, stragglers=["worker (inside shade)"])
    assert audience.stragglers == {7: ["worker (inside shade)"]}
    bed.pass_time(5.0)
    assert not peer.commands("stragglers"), "nobody watches"

    audience.is_watched = True
    bed.loop.tick()
    assert bed.pass_time(0.4) == pytest.approx(0.6)
    bed.pass_time(0.6)
    assert len(peer.commands("stragglers")) == 2
    bed.loop.stragglers_told(peer, ["worker (inside shade)", "T2"])
    assert audience.stragglers == {7: ["worker (inside shade)", "T2"]}
    bed.end_transition(peer, events.TRANSITION_COMPLETED)
    assert audience.stragglers == {7: []}
    bed.pass_time(5.0)
    assert len(peer.commands("stragglers")) == 2
