"""A save while threads are still on their way from the last one: it is delivered as soon as they have come over."""

from __future__ import annotations

from pathlib import Path

import pytest

from hotreload import events
from hotreload.config import Config
from hotreload.watch import report
from hotreload.watch.courier import Courier
from tests.watch.fakes import Bed, FakePeer


@pytest.fixture
def bed(tmp_path: Path) -> Bed:
    return Bed(tmp_path)


def save(bed: Bed, text: str) -> None:
    bed.save("render.c", text)
    bed.settle()


def orders(peer: FakePeer) -> list[str]:
    return [command["cmd"] for command in peer.commands("stage+commit", "rollback")]


def test_a_busy_process_gets_the_save_when_its_threads_have_come_over(bed: Bed) -> None:
    peer = bed.join()
    save(bed, "v2\n")
    bed.refuse_as_busy(peer)
    assert not bed.finished
    bed.end_transition(peer)
    bed.answer(peer, generation=2)

    assert orders(peer) == ["stage+commit"] * 2
    assert [line["outcome"] for line in bed.finished] == ["live"]


def test_the_others_have_it_meanwhile_and_one_line_tells_of_all(bed: Bed) -> None:
    busy, free = bed.join(1), bed.join(2)
    save(bed, "v2\n")
    bed.refuse_as_busy(busy)
    bed.answer(free, generation=1)
    assert not bed.finished
    bed.end_transition(busy)
    bed.answer(busy, generation=2)

    (line,) = bed.finished
    assert (line["processes"], line["generation"]) == (2, 2)


def test_a_save_that_was_given_up_is_not_lost(bed: Bed) -> None:
    peer = bed.join()
    save(bed, "v2\n")
    bed.refuse_as_busy(peer)
    bed.pass_time(11.0)
    (line,) = bed.finished
    assert (line["outcome"], line["reason"], line["busy"]) == ("refused", "T1 is inside shade", 1)
    assert "unanswered" not in line
    bed.end_transition(peer)
    bed.answer(peer, generation=2)

    assert orders(peer) == ["stage+commit"] * 2
    assert [line["generation"] for line in bed.log.of(events.PATCH_DELIVERED)] == [2]


def test_after_several_saves_a_busy_process_gets_the_last(bed: Bed) -> None:
    peer = bed.join()
    save(bed, "v2\n")
    bed.refuse_as_busy(peer)
    bed.pass_time(11.0)
    save(bed, "v3\n")
    bed.refuse_as_busy(peer)
    bed.end_transition(peer)
    bed.answer(peer, generation=2)

    assert peer.commands("stage+commit")[-1]["info"]["digest"] == "v3\n"
    assert orders(peer) == ["stage+commit"] * 3
    assert bed.finished[-1]["outcome"] == "live"


def test_a_busy_process_that_ends_is_waited_for_no_longer(bed: Bed) -> None:
    peer = bed.join()
    save(bed, "v2\n")
    bed.refuse_as_busy(peer)
    bed.loop.process_left(peer)

    assert [line["outcome"] for line in bed.finished] == ["nothing"]


def test_what_ends_without_anybody_waiting_sends_nothing(bed: Bed) -> None:
    peer = bed.join()
    bed.end_transition(peer)

    assert not orders(peer)


def test_what_was_forced_is_a_warning_and_what_took_long_a_line(bed: Bed) -> None:
    peer = bed.join(7)
    bed.end_transition(peer, events.TRANSITION_FORCED, reason="development server", stragglers=["T1"], duration=2.1)
    (line,) = bed.log.of(events.TRANSITION_FORCED)

    assert (line["pid"], line["reason"], line["stragglers"]) == (7, "development server", ["T1"])


def test_the_line_has_level_and_stragglers(bed: Bed) -> None:
    peer = bed.join()
    save(bed, "v2\n")
    bed.answer(peer, generation=1, level="call", stragglers=["T1 (INSIDE shade)"])

    (line,) = bed.finished
    assert (line["consistency"], line["stragglers"]) == ("call", ["T1 (INSIDE shade)"])
    assert report.level_of(line["outcome"]) == "info"


@pytest.mark.parametrize(
    ("config", "terms"),
    [
        (Config(), {"level": None, "deadline": 2.0, "policy": "force", "reason": "development server"}),
        (
            Config(level="request", settle=9.0, settle_policy="wait"),
            {"level": "request", "deadline": 9.0, "policy": "wait", "reason": "development server"},
        ),
    ],
)
def test_in_development_nobody_waits_long_unless_it_is_configured(config: Config, terms: dict[str, object]) -> None:
    courier = Courier(lambda: 0.0, lambda *_: None, lambda *_: None, lambda *_: None, config)

    assert courier._terms == terms
