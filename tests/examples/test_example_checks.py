"""The demo's own eyes: what it must notice. A check that cannot fail proves nothing."""

from __future__ import annotations

from typing import Any

import pytest
from driver.answers import Answer
from driver.checks import Moment, Row, check_found_again, check_state, check_tickets, count_answers

OLD, NEW = "00000001", "00000002"
SAVED, SWAPPED = 1000, 2000


def answer(started: int, ended: int, stamp: str, ticket: int = 1, **fields: Any) -> Answer:
    """An answer of thread 7 as it should be, unless said otherwise."""
    usual = {"status": 200, "thread": 7, "by_thread": ticket, "cache": "hit", "whole": True, "pid": 1, "error": ""}
    return Answer(connection=0, started_ns=started, ended_ns=ended, stamp=stamp, ticket=ticket, **{**usual, **fields})


def moment(**changes: Any) -> Moment:
    """The server as it was, unless said otherwise."""
    state = {"stamp": OLD, "pid": 1, "started_at": 1.0, "loaded_at": 1, "counters": {"tiles_drawn": 5}}
    return Moment({**state, **changes})


def counted(*answers: Answer, new_stamp: str = NEW) -> Row:
    row = Row("1-edit", "An edit")
    count_answers(row, answers, moment(), SAVED, SWAPPED, new_stamp)
    return row


GOOD = (answer(100, 200, OLD, 1), answer(1100, 1900, OLD, 2), answer(1990, 2600, NEW, 3), answer(2100, 2500, NEW, 4))


def test_answers_are_sorted_by_the_code_that_gave_them() -> None:
    row = counted(*GOOD)
    assert (row.before, row.by_old, row.by_new, row.between, row.stale, row.failed) == (1, 1, 2, 0, 0, 0)
    assert row.problems == []


def test_save_to_live_ends_when_the_first_answer_of_the_new_code_has_arrived() -> None:
    row = counted(answer(1_000_000, 3_001_000, NEW, 1), answer(1_000_000, 9_000_000, NEW, 2))
    assert row.save_to_live_ms == 3.0


def test_an_old_answer_to_a_request_sent_after_the_swap_is_noticed() -> None:
    row = counted(*GOOD, answer(2001, 2300, OLD, 5))
    assert row.stale == 1
    assert "sent after the swap" in row.problems[0]


def test_an_open_request_may_end_the_old_way() -> None:
    row = counted(*GOOD, answer(1999, 2300, OLD, 5))
    assert (row.stale, row.problems) == (0, [])


@pytest.mark.parametrize("fields", [{"status": 500}, {"status": 0, "error": "ConnectionResetError: reset"}])
def test_a_failed_request_is_noticed(fields: dict[str, Any]) -> None:
    row = counted(*GOOD, answer(2100, 2300, NEW, 5, **fields))
    assert row.failed == 1
    assert "1 failed requests" in row.problems[0]


def test_new_code_from_an_edit_that_must_not_go_live_is_noticed() -> None:
    row = counted(answer(100, 200, OLD), answer(1500, 1600, NEW), new_stamp=OLD)
    assert row.between == 1
    assert "other than the old code" in row.problems[0]


def test_kept_state_is_no_problem() -> None:
    assert check_state(moment(), moment(counters={"tiles_drawn": 6, "contour_pixels": 3}), GOOD, SWAPPED) == []


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"pid": 2}, "pid was 1 and is 2"),
        ({"loaded_at": 9}, "loaded_at was 1 and is 9"),
        ({"counters": {"tiles_drawn": 0}}, "counter tiles_drawn went back from 5 to 0"),
    ],
)
def test_lost_state_is_noticed(changes: dict[str, Any], says: str) -> None:
    assert check_state(moment(), moment(**changes), GOOD, SWAPPED) == [says]


def test_a_function_local_static_that_begins_again_is_noticed() -> None:
    again = (answer(100, 200, OLD, 50, by_thread=1), answer(2100, 2200, NEW, 1, by_thread=2))
    assert check_state(moment(), moment(), again, SWAPPED) == ["the tickets, a function-local static, began again"]


def test_a_thread_local_that_begins_again_is_noticed() -> None:
    again = (answer(100, 200, OLD, 1, by_thread=9), answer(2100, 2200, NEW, 2, by_thread=1))
    assert check_state(moment(), moment(), again, SWAPPED) == ["the count of thread 7, a thread-local, went back to 1"]


def test_a_cache_that_lost_its_tiles_is_noticed() -> None:
    assert check_found_again(GOOD, SWAPPED) == []
    assert check_found_again((*GOOD, answer(2100, 2200, NEW, 5, cache="unused")), SWAPPED) == []
    lost = check_found_again((*GOOD, answer(2100, 2200, NEW, 5, cache="miss")), SWAPPED)
    assert lost == ["1 of 2 tiles of the original code were lost from the cache"]


def test_a_ticket_given_twice_or_lost_is_noticed() -> None:
    assert check_tickets(GOOD) == []
    assert check_tickets((*GOOD, answer(1, 2, NEW, 4))) != []
    assert check_tickets(GOOD[1:]) != []
