"""What is proven unused is unmapped, what is not is kept and says why, and there may be a cap on both."""

from __future__ import annotations

import ctypes
import json
import os
import threading
import time
from pathlib import Path

import pytest
from levels_kit import Desk, tiny
from tiny import status_of

from hotreload.errors import StageError
from hotreload.live import Limits
from hotreload.live.core import NativeCore, Straggler

TWO = {"alpha": 2, "beta": 20}
THREE = {"alpha": 3, "beta": 30}
FOUR = {"alpha": 4, "beta": 40}


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    desk = Desk(tmp_path, limits=Limits(retire=True, keep=0))
    desk.core.settled.set()
    return desk


def kept(desk: Desk) -> dict[int, str]:
    return {entry["generation"]: entry["reason"] for entry in desk.described["kept"]}


def test_without_being_asked_for_nothing_is_ever_unmapped(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.core.settled.set()
    images = [desk.push(values) for values in (TWO, THREE, FOUR)]
    assert kept(desk) == {1: "retire is off", 2: "retire is off"}
    assert all(tiny.maps_at(image.redirects[0].target) == "r-xp" for image in images)
    desk.manager.rollback(desk.module, 1)
    assert desk.values == (2, 20, 100)


def test_a_transition_that_is_complete_proves_what_it_left(desk: Desk) -> None:
    first = desk.push(TWO)
    assert tiny.maps_at(first.redirects[0].target) == "r-xp"
    desk.push(THREE)
    assert tiny.maps_at(first.redirects[0].target) == "---p", "back to the reserve"
    retired = [event for event in desk.events if event["event"] == "generation.retired"]
    assert [(event["generation"], event["bytes"]) for event in retired] == [(1, first.bytes_mapped)]
    assert desk.manager.history(desk.module)[1].is_retired
    assert desk.described["bytes_mapped"] == desk.manager.history(desk.module)[2].bytes_mapped
    assert kept(desk) == {}


def test_a_retired_generation_cannot_be_gone_back_to(desk: Desk) -> None:
    desk.push(TWO)
    desk.push(THREE)
    with pytest.raises(StageError, match="generation 1 of .* was retired") as refused:
        desk.manager.rollback(desk.module, 1)
    assert refused.value.status == "NO_GENERATION"
    assert "go back to one of 0, 2" in refused.value.hint
    assert desk.manager.rollback(desk.module).number == 0
    assert desk.values == (1, 10, 100)


def test_the_last_ones_are_kept_to_go_back_to(desk: Desk) -> None:
    desk.manager.configure(keep=2)
    for values in (TWO, THREE, FOUR, TWO):
        desk.push(values)
    assert kept(desk) == {2: "it can be gone back to", 3: "it can be gone back to"}
    desk.manager.rollback(desk.module, 2)
    assert desk.values == (3, 30, 100)
    assert sorted(kept(desk)) == [3, 4], "4 is the newest of those that are not live"


def test_a_reversal_proves_nothing_and_a_survey_does_afterwards(desk: Desk) -> None:
    desk.core.settled.clear()
    generation = desk.push(TWO, wait=0.0)
    desk.manager.reverse(wait=0.0)
    assert tiny.maps_at(generation.redirects[0].target) == "r-xp"
    desk.core.settled.set()
    assert desk.manager.wait(10)
    assert tiny.maps_at(generation.redirects[0].target) == "---p", "back to the reserve"
    assert desk.manager.history(desk.module)[1].transition == "reversed"
    assert [len(opened["switches"]) for opened in desk.core.opened] == [2, 0]


def test_what_is_retired_at_the_last_moment_is_not_gone_back_to(desk: Desk) -> None:
    """The end of what is open may be found by the very rollback that asks for what goes with it."""
    desk.manager.configure(keep=1)
    first = desk.push(TWO)
    desk.push(THREE)
    desk.core.settled.clear()
    desk.push(FOUR, wait=0.0)
    with desk.manager._guard:  # so that nobody else finds it
        desk.core.settled.set()
        with pytest.raises(StageError, match="generation 1 of .* was retired") as refused:
            desk.manager.rollback(desk.module, 1)
    assert refused.value.status == "NO_GENERATION"
    assert tiny.maps_at(first.redirects[0].target) == "---p"
    assert desk.values == (4, 40, 100)


def test_transitions_that_never_come_to_their_end_leave_no_heap_of_stubs(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    raw = desk.raw(**TWO)
    for _ in range(20):
        desk.core.settled.clear()
        desk.manager.commit(desk.manager.stage(desk.module, raw), wait=0.0)
        desk.manager.reverse(wait=0.0)
        desk.core.settled.set()
        assert desk.manager.wait(10)
    stubs = [opened["number"] for opened in desk.core.opened if opened["switches"]]
    assert len(set(stubs) - set(desk.core.discarded)) <= 5


def test_after_a_swap_of_one_function_a_survey_proves(desk: Desk) -> None:
    desk.core.settled.clear()
    desk.core.stragglers = (Straggler(os.getpid(), "RUNNING", 0, ()),)
    first = desk.push({"alpha": 2})
    desk.push({"alpha": 3})
    assert kept(desk) == {1: f"thread {os.getpid()} (MainThread) was never seen outside"}
    assert [opened["switches"] for opened in desk.core.opened] == [[]]
    assert desk.manager.transition() is None, "a survey is no transition of anybody's"
    desk.core.settled.set()
    assert kept(desk) == {}
    assert tiny.maps_at(first.redirects[0].target) == "---p", "back to the reserve"
    assert desk.core.open is None


def test_what_a_survey_saw_of_a_generation_is_void_when_somebody_goes_back_to_it(desk: Desk) -> None:
    desk.core.settled.clear()
    first = desk.push({"alpha": 2})
    desk.push({"alpha": 3})
    assert desk.core.open is not None, "a survey of 1"
    assert desk.manager.rollback(desk.module, 1).level == "function"
    surveyed = desk.core.opened[-1]["before"]
    assert not any(span.start <= first.redirects[0].target < span.end for span in surveyed), "another one, of 2"
    desk.core.settled.set()
    assert kept(desk) == {}
    desk.core.settled.clear()
    desk.push({"alpha": 4})
    assert sorted(kept(desk)) == [1], "it was live in between: nothing is proven of it"
    assert tiny.maps_at(first.redirects[0].target) == "r-xp"


def test_a_survey_gives_way_to_a_transition(desk: Desk) -> None:
    desk.core.settled.clear()
    desk.push({"alpha": 2})
    desk.push({"alpha": 3})
    assert desk.core.open is not None
    assert desk.push(TWO, wait=0.0).transition == "open"
    assert [opened["switches"] == [] for opened in desk.core.opened] == [True, False]
    desk.core.settled.set()
    assert desk.manager.wait(10)
    assert kept(desk) == {}


def test_what_owns_a_variable_stays(desk: Desk) -> None:
    source = "long count; HOOK long alpha(void) { return ++count; } HOOK long beta(void) { return 20; }"
    raw = tiny.make_patch(desk.folder, desk.base, source, replaces=("alpha", "beta"), carried=("count",)).to_bytes()
    desk.manager.commit(desk.manager.stage(desk.module, raw))
    assert desk.call("alpha") == 1
    desk.push(TWO)
    assert kept(desk) == {1: "owns unit:count"}
    desk.manager.commit(desk.manager.stage(desk.module, raw))
    assert desk.call("alpha") == 2


def test_what_handed_out_a_pointer_stays(desk: Desk) -> None:
    source = "HOOK long alpha(void) { return 2; } HOOK long beta(void) { return 20; }"
    patch = tiny.make_patch(desk.folder, desk.base, source, replaces=("alpha", "beta")).but(data_escapes=True)
    desk.manager.commit(desk.manager.stage(desk.module, patch.to_bytes()))
    desk.push(THREE)
    assert kept(desk) == {1: "its data may be pointed to"}


def test_after_a_force_nothing_of_that_extension_is_unmapped(desk: Desk) -> None:
    desk.core.settled.clear()
    first = desk.push(TWO, wait=0.0)
    desk.manager.force("it must go")
    desk.core.settled.set()
    desk.push(THREE)
    desk.push(FOUR)
    assert kept(desk) == {
        1: "threads were forced over: one may be anywhere",
        2: "threads were forced over: one may be anywhere",
    }
    assert tiny.maps_at(first.redirects[0].target) == "r-xp"
    assert desk.core.discarded == [], "nor any stubs"


def test_at_the_cap_of_generations_stage_refuses_with_the_numbers(tmp_path: Path) -> None:
    desk = Desk(tmp_path, limits=Limits(max_generations=2))
    desk.core.settled.set()
    desk.push(TWO)
    desk.push(THREE)
    before = tiny.maps()
    with pytest.raises(StageError, match="2 generations are mapped where 2 may be; generation 1 is kept") as refused:
        desk.stage(**FOUR)
    assert (refused.value.status, refused.value.fields["value"], refused.value.fields["limit"]) == ("CAP", 2, 2)
    assert "turn retire on" in refused.value.hint
    assert tiny.maps() == before
    assert desk.values == (3, 30, 100)
    desk.manager.configure(retire=True, keep=1)
    with pytest.raises(StageError, match="generation 1 is kept: it can be gone back to") as refused:
        desk.stage(**FOUR)
    assert "keep fewer" in refused.value.hint and "retire" not in refused.value.hint
    desk.manager.configure(keep=0)
    desk.manager.status()
    assert desk.push(FOUR).number == 3


def test_at_the_cap_of_bytes_stage_refuses_with_the_numbers(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.core.settled.set()
    size = desk.push(TWO).bytes_mapped
    desk.manager.configure(max_bytes=2 * size - 1)
    before = tiny.maps()
    with pytest.raises(StageError, match=f"{size:,} bytes are mapped and the patch has {size:,}") as refused:
        desk.stage(**THREE)
    assert (refused.value.status, refused.value.fields["limit"]) == ("CAP", 2 * size - 1)
    assert tiny.maps() == before
    desk.manager.configure(max_bytes=2 * size)
    desk.push(THREE)


def test_of_generations_long_retired_only_the_number_is_known(desk: Desk) -> None:
    raws = [desk.raw(**values) for values in (TWO, THREE)]
    for i in range(120):
        desk.manager.commit(desk.manager.stage(desk.module, raws[i % 2]), info={"i": i})
    history = desk.manager.history(desk.module)
    assert len(history) == 121
    assert [generation.number for generation in history] == list(range(121))
    assert history[-1].number == history[120].number == 120
    assert history[60].is_retired and not history[60].info
    assert history[110].is_retired and history[110].info == {"i": 109}
    assert [generation.number for generation in history[118:]] == [118, 119, 120]
    assert len(desk.described["generations"]) < 40
    assert json.dumps(desk.manager.status())
    assert status_of(desk.manager.rollback, desk.module, 60) == "NO_GENERATION"
    assert status_of(desk.manager.rollback, desk.module, 121) == "NO_GENERATION"


# With the real core --------------------------------------------------------------------------------------------------

GATE = """
int gate;
HOOK long alpha(void) { return 1; }
HOOK long beta(void) { return 10; }
HOOK long gamma(void) { return 100; }
"""
WAITS = "extern int gate; extern long read(int, void *, unsigned long);"
WAITING = "HOOK long alpha(void) { char byte; return read(gate, &byte, 1) + 1; }"


def waiting_patch(desk: Desk) -> bytes:
    """A patch whose alpha waits until a byte comes through the gate."""
    return (
        tiny.make_patch(desk.folder, desk.base, WAITS + WAITING, replaces=("alpha",)).but(data_escapes=False).to_bytes()
    )


def test_a_thread_that_is_in_an_old_generation_keeps_it_and_is_named(tmp_path: Path) -> None:
    desk = Desk(tmp_path, NativeCore(), GATE, limits=Limits(retire=True, keep=0))
    read_end, write_end = os.pipe()
    desk.base.variable("gate", ctypes.c_int).value = read_end
    first = desk.manager.commit(desk.manager.stage(desk.module, waiting_patch(desk)))
    assert first.level == "function"
    results: list[int] = []
    sitter = threading.Thread(target=lambda: results.append(desk.call("alpha")), name="the sitter")
    sitter.start()
    wait_until_reading(sitter)
    for value in (3, 4, 5):
        desk.push({"alpha": value})
    assert "thread" in kept(desk)[1] and "(the sitter) was never seen outside" in kept(desk)[1]
    assert desk.call("alpha") == 5
    assert tiny.maps_at(first.redirects[0].target) == "r-xp"
    os.write(write_end, b"x")
    sitter.join(10)
    assert results == [2], "it came back through code that was still there"
    until = time.monotonic() + 10
    while kept(desk) and time.monotonic() < until:
        time.sleep(0.001)
    assert kept(desk) == {}
    assert tiny.maps_at(first.redirects[0].target) == "---p", "back to the reserve"


def wait_until_reading(thread: threading.Thread) -> None:
    until = time.monotonic() + 10
    while time.monotonic() < until:
        call = Path(f"/proc/self/task/{thread.native_id}/syscall").read_text().split()
        if call[0] == "0":
            return
        time.sleep(0.001)
    raise AssertionError("the thread does not read")


@pytest.mark.parametrize("level", ["function", "call", "request"])
def test_swaps_without_end_keep_no_more_than_they_need(tmp_path: Path, level: str) -> None:
    desk = Desk(tmp_path, NativeCore(), GATE, limits=Limits(retire=True, keep=1))
    raws = [desk.raw(**values) for values in (TWO, THREE, {"alpha": 9})]
    mappings = 0
    for i in range(300):
        generation = desk.manager.commit(desk.manager.stage(desk.module, raws[i % 3]), level=level)
        assert desk.manager.wait(10)
        if i == 30:
            mappings = len(tiny.maps())
    assert generation.number == 300
    assert len(desk.described["kept"]) <= 2
    assert abs(len(tiny.maps()) - mappings) <= 8
    assert desk.call("alpha") == 9


def test_a_child_has_what_it_needs_of_what_its_parent_was_retiring(tmp_path: Path) -> None:
    desk = Desk(tmp_path, NativeCore(), GATE, limits=Limits(retire=True, keep=0))
    for value in (2, 3):
        desk.push({"alpha": value})
    desk.manager.hold()
    pid = os.fork()
    if not pid:
        code = 1
        try:
            desk.manager.renew_lock()
            desk.push({"alpha": 4})
            assert desk.push(TWO).transition == "complete"
            assert kept(desk) == {} and desk.values == (2, 20, 100)
            code = 0
        finally:
            os._exit(code)
    desk.manager.let_go()
    assert os.waitpid(pid, 0)[1] == 0
    assert kept(desk) == {} and desk.call("alpha") == 3


def test_a_library_that_a_retired_generation_brought_stays_loaded(desk: Desk) -> None:
    """Its code may have left a thread or a callback there, which nobody sees."""
    needed = tiny.compile_base(desk.folder, "long needed(void) { return 20; }")
    source = "long needed(void); HOOK long alpha(void) { return 2; } HOOK long beta(void) { return needed(); }"
    patch = tiny.make_patch(desk.folder, desk.base, source, replaces=("alpha", "beta"))
    raw = patch.but(data_escapes=False, libraries=(str(needed),)).to_bytes()
    desk.manager.commit(desk.manager.stage(desk.module, raw))
    assert desk.values == (2, 20, 100)
    desk.push(THREE)
    assert kept(desk) == {} and desk.manager.history(desk.module)[1].is_retired
    assert any(str(needed) in line for line in tiny.maps())
    desk.manager.unstage(desk.manager.stage(desk.module, raw))
    assert any(str(needed) in line for line in tiny.maps())
