"""The state machine: what is open, who may change what meanwhile, deadlines, force. Threads move when the test says so."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
import types
from pathlib import Path

import pytest
from levels_kit import Desk, FakeTransitions
from tiny import status_of

from hotreload.errors import PoisonedError, StageError, TransitionError
from hotreload.live import Terms
from hotreload.live.core import Straggler

TWO = {"alpha": 2, "beta": 20}
THREE = {"alpha": 3, "beta": 30, "gamma": 300}


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def settle(desk: Desk) -> None:
    desk.core.settled.set()
    assert desk.manager.wait(10)


def open_one(desk: Desk, values=TWO, **terms):
    terms = {"wait": 0.0, **terms}
    generation = desk.push(values, **terms)
    assert generation.transition == "open"
    return generation


# Levels --------------------------------------------------------------------------------------------------------------


def test_one_function_is_stored_as_it_is_and_several_are_a_transition(desk: Desk) -> None:
    desk.core.settled.set()
    one = desk.push({"alpha": 2})
    assert (one.level, one.transition) == ("function", "none")
    two = desk.push(TWO)
    assert (two.level, two.transition) == ("call", "complete")
    assert desk.values == (2, 20, 100)
    back = desk.manager.rollback(desk.module, 1)
    assert (back.number, back.level, back.transition) == (1, "call", "complete")
    assert desk.values == (2, 10, 100)


def test_what_goes_back_counts_too(desk: Desk) -> None:
    desk.core.settled.set()
    desk.push({"alpha": 2})
    assert desk.push({"beta": 20}).level == "call", "alpha goes back, beta changes"


@pytest.mark.parametrize("level", ["function", "call", "request"])
def test_a_level_that_is_asked_for_is_taken(desk: Desk, level: str) -> None:
    desk.core.settled.set()
    generation = desk.push(TWO, level=level)
    assert generation.level == level
    assert [opened["per_request"] for opened in desk.core.opened] == {
        "function": [],
        "call": [False],
        "request": [True],
    }[level]


def test_the_level_of_the_configuration_holds_where_none_is_asked_for(desk: Desk) -> None:
    desk.core.settled.set()
    desk.manager.configure(level="request")
    assert desk.push({"alpha": 2}).level == "request"
    assert desk.push(TWO, level="function").level == "function"


@pytest.mark.parametrize("terms", [{"level": "cal"}, {"policy": "hope"}])
def test_a_level_or_policy_that_is_none_is_a_mistake_of_the_caller(desk: Desk, terms: dict) -> None:
    staged = desk.stage(**TWO)
    with pytest.raises(ValueError, match="is no"):
        desk.manager.commit(staged, **terms)
    assert desk.values == (1, 10, 100)
    assert desk.manager.commit(staged, level="function").number == 1


def test_a_rollback_to_what_is_live_changes_nothing(desk: Desk) -> None:
    desk.core.settled.set()
    desk.push(TWO)
    assert desk.manager.rollback(desk.module, 1).number == 1
    assert len(desk.core.opened) == 1


# Spans ---------------------------------------------------------------------------------------------------------------


def covers(spans, address: int) -> bool:
    return any(span.start <= address < span.end for span in spans)


def test_each_side_is_kept_by_the_code_of_its_own_and_both_by_what_is_older(desk: Desk) -> None:
    desk.core.settled.set()
    entry = {name: desk.base.address(name) for name in ("alpha", "beta", "gamma")}
    first = desk.push(TWO)
    before, after = (desk.core.opened[0][side] for side in ("before", "after"))
    assert covers(before, entry["alpha"]) and covers(before, entry["beta"]) and not covers(before, entry["gamma"])
    assert not covers(after, entry["alpha"])
    assert covers(after, first.redirects[0].target) and not covers(before, first.redirects[0].target)

    second = desk.push(THREE)
    before, after = (desk.core.opened[1][side] for side in ("before", "after"))
    assert covers(before, first.redirects[0].target) and not covers(after, first.redirects[0].target)
    assert covers(after, second.redirects[0].target) and not covers(before, second.redirects[0].target)
    assert covers(before, entry["alpha"]) and covers(after, entry["alpha"]), "neither side: old code, on both lists"
    assert covers(before, entry["gamma"]) and not covers(after, entry["gamma"])
    assert covers(before, 1 << 12) and covers(after, 1 << 12), "the stubs of the first transition"

    desk.manager.rollback(desk.module)
    before, after = (desk.core.opened[2][side] for side in ("before", "after"))
    assert covers(before, second.redirects[0].target) and covers(before, first.redirects[0].target)
    assert covers(after, first.redirects[0].target) and covers(after, entry["gamma"])
    assert not covers(before, entry["gamma"])


def test_stubs_are_discarded_when_the_next_transition_has_proven_them_unused(desk: Desk) -> None:
    desk.core.settled.set()
    desk.push(TWO)
    assert desk.core.discarded == []
    desk.push(THREE)
    assert desk.core.discarded == [1]
    desk.manager.rollback(desk.module)
    assert desk.core.discarded == [1, 2]


# Open, reversed, complete --------------------------------------------------------------------------------------------


def test_an_open_transition_is_told_with_everything_and_completes_by_itself(desk: Desk) -> None:
    inside = desk.base.address("alpha") + 9
    desk.core.stragglers = (Straggler(os.getpid(), "INSIDE", inside, (inside,)),)
    generation = open_one(desk, deadline=60.0)
    assert desk.manager.attach(str(desk.base.path)).generation == 1
    told = json.loads(json.dumps(desk.manager.status()))["transition"]
    assert told["module"] == desk.module.name
    assert (told["from"], told["to"], told["direction"]) == (0, 1, "forward")
    assert (told["level"], told["deadline"], told["policy"]) == ("call", 60.0, "wait")
    assert (told["threads"], told["settled"]) == (4, 3)
    (straggler,) = told["stragglers"]
    assert straggler["where"] == "alpha+0x9 [original]"
    assert straggler["name"] == threading.main_thread().name
    assert straggler["native"] == ["alpha+0x9 [original]"]
    assert any("test_an_open_transition" in frame for frame in straggler["python"])
    assert not desk.manager.wait(0.02)
    settle(desk)
    assert desk.manager.transition() is None
    assert desk.manager.history(desk.module)[generation.number].transition == "complete"
    assert desk.names() == ["transition.started", "swap.committed", "transition.completed"]
    started, committed, completed = (event for event in desk.events if event["event"] != "generation.staged")
    assert (started["from"], started["to"], started["entries"], started["level"]) == (0, 1, 2, "call")
    assert (committed["transition"], committed["level"]) == ("open", "call")
    assert (completed["generation"], completed["direction"]) == (1, "forward")
    assert 0 < completed["duration"] < 10
    assert [json.dumps(event) for event in desk.events]


def test_nothing_else_changes_while_one_is_open(desk: Desk, tmp_path: Path) -> None:
    desk.core.stragglers = (Straggler(os.getpid(), "RUNNING", 0, ()),)
    desk.core.settled.set()
    desk.push({"alpha": 7})
    desk.core.settled.clear()
    open_one(desk)
    staged = desk.stage(alpha=9)
    with pytest.raises(StageError, match=r"generation 1 to 2, 3 of 4 threads are there: MainThread \(thread") as busy:
        desk.manager.commit(staged)
    assert busy.value.status == "BUSY"
    assert "go back to generation 1" in busy.value.hint
    assert json.loads(json.dumps(busy.value.as_dict()))["transition"]["to"] == 2
    assert status_of(desk.manager.rollback, desk.module, 0) == "BUSY"
    assert desk.values == (2, 20, 100)
    settle(desk)
    assert desk.manager.commit(staged, level="function").number == 3


def test_one_that_has_settled_meanwhile_is_in_nobody_s_way(desk: Desk) -> None:
    open_one(desk)
    staged = desk.stage(**THREE)
    desk.core.settled.set()
    assert desk.manager.commit(staged).number == 2
    assert desk.manager.wait(10)
    assert desk.values == (3, 30, 300)


def test_a_rollback_to_where_it_came_from_turns_it_round(desk: Desk) -> None:
    open_one(desk)
    back = desk.manager.rollback(desk.module, 0, wait=0.0)
    assert (back.number, back.transition) == (0, "open")
    assert desk.values == (1, 10, 100)
    assert desk.manager.transition()["direction"] == "back"
    assert desk.manager.attach(str(desk.base.path)).generation == 0
    settle(desk)
    history = desk.manager.history(desk.module)
    assert [(g.number, g.transition) for g in history] == [(0, "complete"), (1, "reversed")]
    assert desk.names() == [
        "transition.started",
        "swap.committed",
        "transition.reversed",
        "swap.rolled_back",
        "transition.completed",
    ]
    assert desk.push({"alpha": 5}).number == 2, "numbers are not used twice"


def test_it_can_be_turned_round_again_and_again(desk: Desk) -> None:
    open_one(desk)
    for i in range(5):
        desk.manager.reverse(wait=0.0)
        assert desk.manager.attach(str(desk.base.path)).generation == i % 2
    assert desk.values == (1, 10, 100)
    assert desk.manager.rollback(desk.module, 1, wait=0.0).number == 1
    assert desk.values == (2, 20, 100)
    assert desk.manager.rollback(desk.module, 1, wait=0.0).number == 1, "it goes there already"
    settle(desk)
    assert [g.transition for g in desk.manager.history(desk.module)] == ["reversed", "complete"]


def test_a_locked_process_is_turned_round_only_where_that_was_promised(desk: Desk) -> None:
    open_one(desk)
    desk.manager.lock()
    assert status_of(desk.manager.reverse) == "LOCKED"
    assert status_of(desk.manager.rollback, desk.module, 0) == "LOCKED"
    assert desk.manager.transition()["direction"] == "forward"
    desk.manager.rollback(desk.module, 0, is_promised=True, wait=0.0)
    settle(desk)
    assert desk.values == (1, 10, 100)


def test_what_is_open_no_more_cannot_be_reversed_or_forced(desk: Desk) -> None:
    assert status_of(desk.manager.reverse) == "NO_TRANSITION"
    assert status_of(desk.manager.force, "why") == "NO_TRANSITION"
    assert desk.manager.wait(0)


def test_a_begin_that_is_refused_leaves_the_patch_staged_and_no_stubs(desk: Desk) -> None:
    staged = desk.stage(**TWO)
    desk.core.begin_failure = StageError("no", hint="", status="TEXT_CHANGED")
    assert status_of(desk.manager.commit, staged) == "TEXT_CHANGED"
    assert desk.core.discarded == [1]
    assert desk.manager.transition() is None
    desk.core.begin_failure = None
    desk.core.settled.set()
    assert desk.manager.commit(staged).number == 1


def test_a_begin_that_was_undone_leaves_stubs_and_image_mapped(desk: Desk) -> None:
    staged = desk.stage(**TWO)
    desk.core.begin_failure = TransitionError("undone", hint="", status="SYNC_FAILED")
    with pytest.raises(TransitionError):
        desk.manager.commit(staged)
    assert desk.core.discarded == []
    assert desk.described["bytes_retained"] == staged.bytes_mapped
    desk.core.begin_failure = None
    desk.manager.unstage(staged)
    desk.core.settled.set()
    desk.push(TWO)
    assert desk.core.discarded == [1], "proven unused"


def test_a_finish_that_fails_is_tried_again(desk: Desk) -> None:
    desk.core.finish_failure = StageError("not now", hint="", status="TEXT_LOCKED")
    desk.core.settled.set()
    open_one(desk)
    assert not desk.manager.wait(0.05)
    assert desk.manager.transition()["trouble"] == "not now"
    desk.core.finish_failure = None
    assert desk.manager.wait(10)


def test_a_finish_that_poisons_ends_it(desk: Desk) -> None:
    desk.core.finish_failure = PoisonedError("gone", hint="restart", status="POISONED")
    open_one(desk)
    desk.core.settled.set()
    assert desk.manager.wait(10)
    with pytest.raises(PoisonedError):
        desk.manager.rollback(desk.module)
    refused = wait_for(desk, "patch.refused")
    assert (refused["during"], refused["error"]["error"]) == ("transition", "PoisonedError")


def test_a_finish_that_poisons_one_extension_leaves_the_others_alone(desk: Desk) -> None:
    desk.core.finish_failure = PoisonedError("gone", hint="restart", status="POISONED")
    open_one(desk)
    desk.core.settled.set()
    assert desk.manager.wait(10)
    desk.core.finish_failure = None
    folder = desk.folder / "other"
    folder.mkdir()
    other = Desk(folder, desk.core)
    other.manager = desk.manager
    other.module = desk.manager.attach(str(other.base.path))
    generation = other.push(TWO, wait=10.0)
    assert (generation.transition, other.values) == ("complete", (2, 20, 100))


def test_nothing_of_a_poisoned_extension_is_unmapped(desk: Desk) -> None:
    """The entries may lead to stubs, or to the code of any generation."""
    desk.manager.configure(retire=True, keep=0)
    desk.core.settled.set()
    for values in (TWO, THREE, TWO):
        desk.push(values)
    desk.core.finish_failure = PoisonedError("gone", hint="restart", status="POISONED")
    with pytest.raises(PoisonedError):
        desk.push(THREE)
        desk.manager.rollback(desk.module)
    discarded, kept = list(desk.core.discarded), desk.described["kept"]
    desk.core.finish_failure = None
    for _ in range(3):
        assert desk.described["kept"] == kept
    assert desk.core.discarded == discarded
    assert any("an undo failed" in entry["reason"] for entry in kept)


def test_a_force_at_the_deadline_that_is_refused_leaves_it_open_and_says_why(desk: Desk) -> None:
    desk.core.finish_failure = StageError("not now", hint="", status="TEXT_LOCKED")
    open_one(desk, deadline=0.01, policy="force", reason="why not")
    wait_for(desk, "transition.stalled")
    assert desk.manager.transition()["trouble"] == "not now"
    assert desk.described["taints"] == []
    desk.core.finish_failure = None
    settle(desk)
    assert desk.values == (2, 20, 100)


def test_a_driver_that_fails_is_replaced_by_whoever_waits(desk: Desk, monkeypatch, caplog) -> None:
    def fail(*_: object, **__: object) -> bool:
        raise MemoryError

    monkeypatch.setattr(desk.core, "wait", fail)
    with pytest.raises(MemoryError):
        desk.push(TWO, wait=0.0)
    until = time.monotonic() + 10
    while "the driver of a transition failed" not in caplog.text and time.monotonic() < until:
        time.sleep(0.005)
    monkeypatch.undo()
    settle(desk)
    assert desk.values == (2, 20, 100)


# Deadlines -----------------------------------------------------------------------------------------------------------


def wait_for(desk: Desk, event: str) -> dict:
    until = time.monotonic() + 10
    while time.monotonic() < until:
        for found in desk.events:
            if found["event"] == event:
                return found
        time.sleep(0.005)
    raise AssertionError(desk.names())


def test_at_its_deadline_a_transition_that_waits_is_told_once(desk: Desk) -> None:
    desk.core.stragglers = (Straggler(os.getpid(), "FOREIGN_STACK", 0, ()),)
    open_one(desk, deadline=0.02)
    stalled = wait_for(desk, "transition.stalled")
    assert stalled["stragglers"][0]["reason"] == "FOREIGN_STACK"
    time.sleep(0.1)
    assert desk.names().count("transition.stalled") == 1
    assert desk.manager.transition() is not None
    settle(desk)
    assert desk.values == (2, 20, 100)


def test_at_its_deadline_a_transition_that_reverts_goes_back(desk: Desk) -> None:
    open_one(desk, deadline=0.02, policy="revert")
    assert wait_for(desk, "transition.reversed")["reason"] == "its deadline passed"
    settle(desk)
    assert desk.values == (1, 10, 100)
    assert desk.names()[-1] == "transition.completed"


def test_a_commit_that_is_reverted_while_it_waits_says_so(desk: Desk) -> None:
    with pytest.raises(TransitionError, match="generation 1 of .* was reversed, generation 0 serves") as reverted:
        desk.push(TWO, deadline=0.01, policy="revert", wait=0.2)
    assert reverted.value.fields["status"] == "REVERSED"
    settle(desk)


def test_at_its_deadline_a_transition_may_be_forced_with_a_reason(desk: Desk) -> None:
    staged = desk.stage(**TWO)
    assert status_of(desk.manager.commit, staged, policy="force") == "NO_REASON"
    assert desk.values == (1, 10, 100)
    generation = desk.manager.commit(staged, deadline=0.02, policy="force", reason="CVE", by="mallory", wait=1.0)
    assert generation.transition == "forced"
    assert desk.manager.wait(0)
    (taint,) = desk.described["taints"]
    assert (taint["what"], taint["reason"], taint["by"]) == ("forced", "CVE", "mallory")
    assert abs(taint["at"] - time.time()) < 60
    forced = wait_for(desk, "transition.forced")
    assert (forced["reason"], forced["by"], forced["from"], forced["to"]) == ("CVE", "mallory", 0, 1)
    assert "transition.completed" not in desk.names()


def test_a_person_may_force_with_a_reason_only(desk: Desk) -> None:
    open_one(desk)
    assert status_of(desk.manager.force, "  ") == "NO_REASON"
    assert desk.manager.transition() is not None
    assert desk.manager.force("it must go").number == 1
    assert desk.manager.transition() is None
    assert desk.described["taints"][0]["by"] == f"uid {os.geteuid()}"


def test_a_reversal_gives_the_deadline_anew(desk: Desk) -> None:
    open_one(desk, deadline=0.05, policy="revert")
    wait_for(desk, "transition.reversed")
    time.sleep(0.1)
    assert desk.names().count("transition.stalled") == 2, "once on each way"
    assert desk.names().count("transition.reversed") == 1, "it does not go to and fro"
    settle(desk)


def test_status_says_since_when_a_generation_is_live_not_when_it_was_first(desk: Desk) -> None:
    settle(desk)
    desk.push(TWO)
    first = desk.described["since"]
    desk.manager.rollback(desk.module, 0)
    desk.manager.rollback(desk.module, 1)
    again = desk.described
    assert again["generation"] == 1
    assert again["since"] > first >= again["generations"][1]["committed_at"]


# Greenlets -----------------------------------------------------------------------------------------------------------


def greenlets(count: int) -> types.ModuleType:
    module = types.ModuleType("greenlet._greenlet")
    module.get_total_main_greenlets = lambda: count
    return module


def test_where_greenlets_are_in_use_a_transition_is_refused(desk: Desk, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "greenlet._greenlet", greenlets(1))
    staged = desk.stage(**TWO)
    with pytest.raises(StageError, match="greenlets are in use") as refused:
        desk.manager.commit(staged)
    assert refused.value.status == "GREENLETS"
    assert "--level function" in refused.value.hint
    assert desk.manager.commit(staged, level="function").number == 1


def test_an_old_greenlet_that_cannot_tell_counts_as_in_use(desk: Desk, monkeypatch) -> None:
    monkeypatch.delitem(sys.modules, "greenlet._greenlet", raising=False)
    monkeypatch.setitem(sys.modules, "greenlet", types.ModuleType("greenlet"))
    assert status_of(desk.push, TWO) == "GREENLETS"


def test_greenlets_that_come_while_one_is_open_hold_it_open(desk: Desk, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "greenlet._greenlet", greenlets(0))
    open_one(desk)
    monkeypatch.setitem(sys.modules, "greenlet._greenlet", greenlets(2))
    desk.core.settled.set()
    assert not desk.manager.wait(0.05)
    assert [entry["name"] for entry in desk.manager.transition()["stragglers"]] == ["greenlets in use"]
    monkeypatch.setitem(sys.modules, "greenlet._greenlet", greenlets(0))
    assert desk.manager.wait(10)


# Threads and forks ---------------------------------------------------------------------------------------------------


def test_the_driver_is_no_thread_of_the_program_s(desk: Desk) -> None:
    before = threading.enumerate()
    open_one(desk)
    assert threading.enumerate() == before
    settle(desk)


def test_where_no_thread_can_be_started_whoever_waits_drives(desk: Desk, monkeypatch) -> None:
    def refuse(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr("hotreload.live.transitions.start_new_thread", refuse)
    open_one(desk)
    assert not desk.manager.wait(0.02)
    settle(desk)
    assert desk.values == (2, 20, 100)


def test_a_commit_waits_no_longer_than_it_was_told(desk: Desk) -> None:
    started = time.monotonic()
    open_one(desk, wait=0.1)
    assert 0.1 <= time.monotonic() - started < 2
    settle(desk)


def test_others_may_ask_and_reverse_while_a_commit_waits(desk: Desk) -> None:
    outcome = []

    def commit() -> None:
        try:
            desk.push(TWO, wait=30)
        except TransitionError as error:
            outcome.append(error.fields["status"])

    worker = threading.Thread(target=commit)
    worker.start()
    wait_for(desk, "transition.started")
    assert desk.manager.status()["transition"]["to"] == 1
    desk.manager.reverse(wait=0.0)
    settle(desk)
    worker.join(10)
    assert outcome == ["REVERSED"]
    assert desk.values == (1, 10, 100)


def test_a_child_drives_on_what_was_open_and_the_parent_goes_its_own_way(desk: Desk) -> None:
    open_one(desk)
    desk.manager.hold()
    pid = os.fork()
    if not pid:
        try:
            desk.manager.renew_lock()
            desk.core.settled = threading.Event()
            assert not desk.manager.wait(0.05)
            desk.core.settled.set()
            done = desk.manager.wait(10) and desk.values == (2, 20, 100)
            done = done and desk.manager.rollback(desk.module).transition == "complete"
        finally:
            os._exit(0 if done else 1)
    desk.manager.let_go()
    assert os.waitpid(pid, 0)[1] == 0
    assert desk.manager.transition()["to"] == 1
    desk.manager.reverse(wait=0.0)
    settle(desk)
    assert desk.values == (1, 10, 100)


def test_terms_are_checked_where_they_are_made() -> None:
    terms = Terms(deadline=5.0)
    assert terms.but(level=None, policy="revert") == Terms(deadline=5.0, policy="revert")
    assert (terms.level_for(0), terms.level_for(1), terms.level_for(2)) == ("function", "function", "call")
    assert Terms(level="request").level_for(1) == "request"


def test_the_fake_is_a_whole_core() -> None:
    from hotreload.live.core import Core

    wanted = {name for name in vars(Core) if not name.startswith("_")}
    assert wanted <= set(dir(FakeTransitions()))
