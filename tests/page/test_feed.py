"""Events are numbered and kept for a while; whoever does not keep up is dropped."""

from __future__ import annotations

from hotreload.page.feed import Event, Feed, Reader


def numbers(events: list[Event] | None) -> list[int]:
    return [event.number for event in events or ()]


def join(feed: Feed, *backlog: Event) -> Reader:
    reader = feed.join(backlog)
    assert reader is not None
    return reader


def test_an_event_is_what_a_browser_reads() -> None:
    assert Event(7, "entry", '{"a":1}', 0.0).encode() == b'id: 7\nevent: entry\ndata: {"a":1}\n\n'


def test_every_reader_gets_every_event_in_order_behind_its_backlog() -> None:
    feed = Feed()
    early = join(feed)
    feed.publish("entry", "1")
    late = join(feed, Event(1, "snapshot", "{}", 0.0))
    feed.publish("entry", "2")

    assert [early.take(0).data, early.take(0).data, early.take(0)] == ["1", "2", None]
    assert [late.take(0).kind, late.take(0).data] == ["snapshot", "2"]


def test_a_reader_that_comes_again_gets_what_it_has_missed() -> None:
    feed = Feed(kept=4)
    for number in range(6):
        feed.publish("entry", str(number))

    assert numbers(feed.missed_since(4)) == [5, 6]
    assert numbers(feed.missed_since(2)) == [3, 4, 5, 6]
    assert feed.missed_since(6) == []


def test_one_that_comes_too_late_or_from_another_feed_is_told_so() -> None:
    feed = Feed(kept=4)
    for number in range(6):
        feed.publish("entry", str(number))

    assert feed.missed_since(1) is None
    assert feed.missed_since(7) is None, "the number is of a helper process that is gone"


def test_a_page_that_was_on_its_way_gets_what_went_live_since_it_set_out() -> None:
    now = 100.0
    feed = Feed(clock=lambda: now)
    feed.publish("reload", "old")
    now = 103.0
    feed.publish("reload", "new")
    now = 104.0

    assert numbers(feed.younger_than(2.0)) == [2]
    assert numbers(feed.younger_than(0.0)) == []


def test_a_slow_reader_is_dropped_and_holds_nobody_up() -> None:
    feed = Feed()
    slow, quick = join(feed), join(feed)
    for number in range(300):
        feed.publish("entry", str(number))
        assert quick.take(0).data == str(number)

    assert not slow.is_open
    assert slow.take(0) is None
    assert feed.readers == 1
    quick.close()
    assert feed.readers == 0


def test_there_is_an_end_of_readers() -> None:
    feed = Feed()
    readers = [join(feed) for _ in range(32)]
    assert feed.join() is None
    readers[0].close()
    assert feed.join() is not None
