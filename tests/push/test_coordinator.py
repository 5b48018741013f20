"""Every way in which a push can be met by refusals, silence, deaths and births; processes and clock are fakes."""

from __future__ import annotations

import os
from typing import Any

import pytest

from hotreload.errors import HotReloadError
from hotreload.push.coordinator import Coordinator, EndedError, RefusedError, Terms
from hotreload.push.records import Exit, Outcome, State
from tests.push.fakes import FakeChange, FakeTrial, FakeWorker, Farm

QUICK = Terms(deadline=5.0, newcomers=0.3)


def push(farm: Farm, **options: Any) -> Outcome:
    return Coordinator(farm.find, farm.books, terms=QUICK).run(FakeChange(), push="P", **options)


def states(outcome: Outcome) -> list[str]:
    return [row.state.value for row in outcome.rows]


def refuse(why: str) -> Any:
    def refusing() -> None:
        raise RefusedError(why)

    return refusing


class Killed(BaseException):
    """Stands for SIGKILL: nothing of the command runs after it, so the fakes must not be told anything either."""


# All or none -----------------------------------------------------------------------------------------------------------


def test_all_take_it_and_it_is_current() -> None:
    farm = Farm()
    outcome = push(farm)

    assert (outcome.exit, outcome.decision) == (Exit.DONE, "commit")
    assert farm.live == ["new"] * 4
    assert farm.books.log == ["keep", "decide commit", "make current"]
    assert states(outcome) == ["committed"] * 4


def test_nobody_commits_before_everybody_has_prepared_and_it_is_decided() -> None:
    farm = Farm()
    for worker in farm.workers:
        worker.before["commit"] = lambda: order.append("commit")
        worker.before["prepare"] = lambda: order.append("prepare")
    order: list[str] = []
    farm.books.before["decide commit"] = lambda: order.append("decide")
    push(farm)

    assert order == ["prepare"] * 4 + ["decide"] + ["commit"] * 4


def test_one_refusal_leaves_all_as_they_were_and_names_who_and_why() -> None:
    farm = Farm()
    farm.workers[2].before["prepare"] = refuse("no memory")
    outcome = push(farm)

    assert outcome.exit is Exit.REFUSED
    assert outcome.reason == "3: no memory"
    assert farm.live == ["base"] * 4
    assert states(outcome) == ["aborted", "aborted", "refused", "aborted"]
    assert all(worker.prepared is None for worker in farm.workers)
    assert farm.books.current == "base"
    assert farm.books.log == ["decide abort"]
    assert not farm.books.kept


def test_another_build_of_the_module_refuses_before_anything_is_prepared() -> None:
    farm = Farm()
    farm.workers[1].build = "cd" * 20
    outcome = push(farm)

    assert outcome.exit is Exit.REFUSED
    assert "another build of render: cdcdcdcdcdcd, not abababababab" in outcome.reason
    assert all("prepare" not in worker.heard for worker in farm.workers)


def test_a_silent_process_refuses_and_what_it_may_have_prepared_is_decided() -> None:
    farm = Farm()

    def prepare_and_stop() -> None:
        farm.workers[1].prepared = ("P", "new")
        farm.workers[1].silent = True

    farm.workers[1].before["prepare"] = prepare_and_stop
    outcome = push(farm)

    assert outcome.exit is Exit.REFUSED
    assert "2: no answer" in outcome.reason
    farm.pass_deadlines()
    assert farm.live == ["base"] * 4
    assert all(worker.prepared is None for worker in farm.workers)


def test_a_process_that_is_silent_from_the_start_refuses_and_nobody_prepares() -> None:
    farm = Farm()
    farm.workers[3].silent = True
    outcome = push(farm)

    assert outcome.exit is Exit.REFUSED
    assert states(outcome) == ["found", "found", "found", "silent"]
    assert all("prepare" not in worker.heard for worker in farm.workers)


def test_processes_without_the_module_are_named_and_passed_over() -> None:
    farm = Farm()
    farm.workers[0].build = None
    outcome = push(farm)

    assert outcome.exit is Exit.DONE
    assert sorted(states(outcome)) == ["absent", "committed", "committed", "committed"]


def test_nobody_there_is_a_refusal_and_never_a_silent_success() -> None:
    outcome = push(Farm(0))

    assert (outcome.exit, outcome.reason) == (Exit.REFUSED, "no process has this module loaded")


def test_who_has_it_already_is_left_alone() -> None:
    farm = Farm()
    farm.workers[0].live = "new"
    outcome = push(farm)

    assert states(outcome) == ["current", "committed", "committed", "committed"]
    assert "prepare" not in farm.workers[0].heard


def test_nothing_to_do_has_an_exit_code_of_its_own() -> None:
    farm = Farm()
    push(farm)
    outcome = push(farm)

    assert outcome.exit is Exit.NOTHING
    assert farm.books.log == ["keep", "decide commit", "make current"]


def test_a_patch_that_is_everywhere_but_not_current_is_made_current() -> None:
    farm = Farm()
    for worker in farm.workers:
        worker.live = "new"

    assert push(farm).exit is Exit.DONE
    assert farm.books.current == "new"


def test_a_dry_run_prepares_everywhere_and_changes_nothing() -> None:
    farm = Farm()
    outcome = push(farm, dry_run=True)

    assert (outcome.exit, outcome.decision) == (Exit.DONE, "abort")
    assert [row.detail for row in outcome.rows] == ["would take it"] * 4
    assert all(worker.heard == ["status", "prepare", "abort"] for worker in farm.workers)
    assert (farm.live, farm.books.current, farm.books.kept) == (["base"] * 4, "base", False)


def test_a_dry_run_is_refused_where_a_push_would_be() -> None:
    farm = Farm()
    farm.workers[2].before["prepare"] = refuse("no memory")

    assert push(farm, dry_run=True).exit is Exit.REFUSED


# Deaths and silence in between -----------------------------------------------------------------------------------------


def kill(worker: FakeWorker) -> Any:
    def killing() -> None:
        worker.alive = False

    return killing


def test_a_process_that_ends_before_it_is_asked_has_no_vote() -> None:
    farm = Farm()
    farm.workers[1].before["prepare"] = kill(farm.workers[1])
    outcome = push(farm)

    assert outcome.exit is Exit.DONE
    assert states(outcome) == ["committed", "ended", "committed", "committed"]


def end_while_asked(worker: FakeWorker) -> Any:
    def ending() -> None:
        worker.alive = False
        raise EndedError("ended", was_asked=True)

    return ending


def test_a_process_that_ends_while_it_prepares_is_forgiven_once() -> None:
    farm = Farm()
    farm.workers[1].before["prepare"] = end_while_asked(farm.workers[1])
    outcome = push(farm)

    assert outcome.exit is Exit.DONE
    assert farm.books.decisions["P"] == "abort"
    assert farm.live == ["new"] * 3


def test_two_that_end_while_they_prepare_refuse() -> None:
    farm = Farm()
    for worker in farm.workers[:2]:
        worker.before["prepare"] = end_while_asked(worker)
    outcome = push(farm)

    assert outcome.exit is Exit.REFUSED
    assert "ended while it prepared" in outcome.reason
    assert farm.live == ["base"] * 2


def test_all_ending_before_they_are_asked_is_a_refusal() -> None:
    farm = Farm()
    for worker in farm.workers:
        worker.before["prepare"] = kill(worker)
    outcome = push(farm)

    assert outcome.exit is Exit.REFUSED
    assert farm.books.current == "base"


def test_a_process_that_dies_between_prepare_and_commit_does_not_stop_the_others() -> None:
    farm = Farm()
    farm.books.before["decide commit"] = kill(farm.workers[1])
    outcome = push(farm)

    assert outcome.exit is Exit.DONE
    assert states(outcome) == ["committed", "ended", "committed", "committed"]
    assert farm.start(5).live == "new"


def test_a_process_that_falls_silent_after_the_decision_settles_by_its_deadline() -> None:
    farm = Farm()

    def stop() -> None:
        farm.workers[1].silent = True

    farm.books.before["make current"] = stop
    outcome = push(farm)

    assert outcome.exit is Exit.PARTLY
    assert states(outcome) == ["committed", "settling", "committed", "committed"]
    assert "will settle by its deadline: commit" in outcome.reason
    farm.pass_deadlines()
    assert farm.live == ["new"] * 4


def test_a_refusal_after_the_decision_is_reported_and_not_hidden() -> None:
    farm = Farm()

    def fail(push: str, *, hold: Any = None) -> Any:
        farm.workers[0].prepared = None
        raise RefusedError("poisoned")

    farm.workers[0].commit = fail  # type: ignore[method-assign]
    outcome = push(farm)

    assert outcome.exit is Exit.PARTLY
    assert "failed" in states(outcome)
    assert "did not carry out the decision: poisoned" in outcome.reason


def test_a_deadline_that_was_first_makes_it_an_abort_for_all() -> None:
    farm = Farm()
    farm.books.before["decide commit"] = farm.workers[0].pass_deadline
    outcome = push(farm)

    assert (outcome.exit, outcome.decision) == (Exit.REFUSED, "abort")
    assert "deadline passed" in outcome.reason
    assert farm.live == ["base"] * 4
    assert farm.books.current == "base"


# Births in between -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("moment", ["keep", "decide commit", "make current"])
def test_a_process_that_started_in_between_with_the_old_code_gets_the_new(moment: str) -> None:
    farm = Farm()
    farm.books.before[moment] = lambda: farm.start(9, live="base")
    outcome = push(farm)

    assert outcome.exit is Exit.DONE
    assert farm.live == ["new"] * 5


def test_a_process_that_has_not_loaded_the_module_yet_will_find_what_is_current() -> None:
    farm = Farm()
    farm.books.before["make current"] = lambda: farm.start(9, build=None)
    outcome = push(farm)

    assert outcome.exit is Exit.DONE
    assert states(outcome)[-1] == "absent"


@pytest.mark.parametrize("restored", ["old", "new"])
def test_a_process_that_was_restoring_a_patch_meanwhile_is_asked_anew(restored: str) -> None:
    farm = Farm()

    def start() -> None:
        newcomer = farm.start(9, live="base")

        def restore() -> None:
            newcomer.live, newcomer.prepared = restored, None
            raise RefusedError("generation 1 was committed after this patch was staged")

        newcomer.before["commit"] = restore

    farm.books.before["make current"] = start
    outcome = push(farm)

    assert outcome.exit is Exit.DONE, outcome.reason
    assert farm.live == ["new"] * 5
    assert farm.books.decisions == ({"P": "commit", "P.1": "commit"} if restored == "old" else {"P": "commit"})


def test_a_child_without_a_socket_yet_is_waited_for() -> None:
    farm = Farm()
    farm.newborn = 1
    looks = farm.looks

    def be_born() -> None:
        farm.workers[0].before["commit"] = lambda: None
        original = farm.find

        def find() -> Any:
            if farm.newborn and farm.looks > looks + 3:
                farm.newborn = 0
                farm.start(9, live="base")
            return original()

        coordinator._find = find

    coordinator = Coordinator(farm.find, farm.books, terms=QUICK)
    be_born()
    outcome = coordinator.run(FakeChange(), push="P")

    assert outcome.exit is Exit.DONE
    assert farm.live == ["new"] * 5


def test_a_newcomer_that_refuses_is_reported_since_the_others_have_committed() -> None:
    farm = Farm()

    def start() -> None:
        farm.start(9, live="base").before["prepare"] = refuse("no memory")

    farm.books.before["make current"] = start
    outcome = push(farm)

    assert outcome.exit is Exit.PARTLY
    assert outcome.reason == "9: no memory"
    assert farm.live[:4] == ["new"] * 4


def test_births_without_end_do_not_keep_it_for_ever() -> None:
    farm = Farm(1)
    pids = iter(range(10, 10_000))
    original = farm.find

    def find() -> Any:
        farm.start(next(pids))
        return original()

    outcome = Coordinator(find, farm.books, terms=QUICK).run(FakeChange(), push="P")

    assert outcome.exit is Exit.DONE


# The command is killed -------------------------------------------------------------------------------------------------


STEPS = ["prepare", "keep", "decide commit", "make current", "commit"]


@pytest.mark.parametrize("step", STEPS)
def test_after_a_kill_at_any_step_all_processes_settle_the_same_way(step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    farm = Farm()

    def die() -> None:
        raise Killed

    monkeypatch.setattr(Coordinator, "_abort", lambda *args: None)  # a killed process aborts nothing
    farm.books.before[step] = die
    farm.workers[2].before[step] = die
    with pytest.raises(Killed):
        push(farm)
    farm.pass_deadlines()

    assert len(set(farm.live)) == 1
    assert farm.live[0] == ("new" if step in ("make current", "commit") else "base")


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
def test_an_interrupt_before_the_decision_aborts_everywhere_at_once(error: type[BaseException]) -> None:
    farm = Farm()

    def interrupt() -> None:
        raise error

    farm.books.before["keep"] = interrupt
    with pytest.raises(error):
        push(farm)

    assert farm.live == ["base"] * 4
    assert all(worker.prepared is None for worker in farm.workers)
    assert farm.books.decisions == {"P": "abort"}


def fail() -> None:
    raise HotReloadError("the disk is full")


def test_books_that_cannot_be_written_stop_it_before_the_decision() -> None:
    farm = Farm()
    farm.books.before["keep"] = fail
    with pytest.raises(HotReloadError, match="disk is full"):
        push(farm)

    assert farm.live == ["base"] * 4
    assert all(worker.prepared is None for worker in farm.workers)


def test_processes_are_told_to_abort_even_when_that_cannot_be_written_down() -> None:
    farm = Farm()
    farm.books.before.update({"keep": fail, "decide abort": fail})
    with pytest.raises(HotReloadError, match="disk is full"):
        push(farm)

    assert all(worker.prepared is None for worker in farm.workers)


def test_what_is_current_not_written_after_the_decision_is_said_and_the_decision_carried_out() -> None:
    farm = Farm()
    farm.books.before["make current"] = fail
    outcome = push(farm)

    assert outcome.exit is Exit.PARTLY
    assert "processes that start later will not have it: the disk is full" in outcome.reason
    assert farm.live == ["new"] * 4


# Canaries --------------------------------------------------------------------------------------------------------------


def test_a_canary_goes_first_and_the_others_follow() -> None:
    farm = Farm()
    trial = FakeTrial(2, lambda workers: "" if farm.live == ["new", "new", "base", "base"] else f"{farm.live}")
    outcome = push(farm, trial=trial)

    assert outcome.exit is Exit.DONE, outcome.reason
    assert trial.judged == [1, 2]
    assert farm.live == ["new"] * 4
    assert farm.workers[0].heard == ["status", "prepare", "commit on trial", "commit"]


@pytest.mark.parametrize("count", [1, 3, 9])
def test_no_canary_is_another_ones_parent_where_there_is_a_choice(count: int) -> None:
    farm = Farm()
    for worker in farm.workers[1:]:
        worker.parent = 1
    trial = FakeTrial(count)
    outcome = push(farm, trial=trial)

    assert outcome.exit is Exit.DONE, outcome.reason
    assert trial.judged == [2, 3, 4][:count]
    assert farm.workers[0].heard == ["status", "prepare", "commit"]
    assert farm.live == ["new"] * 4


def test_a_parent_is_the_canary_when_there_is_nobody_else() -> None:
    farm = Farm(2)
    farm.workers[1].parent, farm.workers[1].build = 1, None
    trial = FakeTrial()
    outcome = push(farm, trial=trial)

    assert outcome.exit is Exit.DONE, outcome.reason
    assert trial.judged == [1]
    assert farm.workers[0].live == "new"


def test_a_canary_that_does_not_do_well_goes_back_and_nobody_else_is_touched() -> None:
    farm = Farm()
    outcome = push(farm, trial=FakeTrial(1, lambda workers: "the health command exited with 1"))

    assert (outcome.exit, outcome.reason) == (Exit.REFUSED, "the health command exited with 1")
    assert farm.live == ["base"] * 4
    assert states(outcome) == ["aborted", "found", "found", "found"]
    assert outcome.rows[0].detail == "taken back"
    assert farm.books.current == "base"


def test_a_refusal_by_the_rest_takes_the_canary_back() -> None:
    farm = Farm()
    farm.workers[3].before["prepare"] = refuse("no memory")
    outcome = push(farm, trial=FakeTrial())

    assert outcome.exit is Exit.REFUSED
    assert farm.live == ["base"] * 4


def test_a_process_that_started_during_the_trial_is_one_of_the_rest() -> None:
    farm = Farm()

    def judge(workers: Any) -> str:
        assert farm.start(9).live == "base"
        return ""

    outcome = push(farm, trial=FakeTrial(1, judge))

    assert outcome.exit is Exit.DONE
    assert farm.live == ["new"] * 5


def test_a_canary_that_does_not_answer_when_it_is_taken_back_goes_back_by_its_deadline() -> None:
    farm = Farm()

    def judge(workers: Any) -> str:
        farm.workers[0].silent = True
        return "the health command exited with 1"

    outcome = push(farm, trial=FakeTrial(1, judge))

    assert outcome.exit is Exit.PARTLY
    assert "goes back by its deadline" in outcome.rows[0].detail
    farm.pass_deadlines()
    assert farm.live == ["base"] * 4


@pytest.mark.parametrize("step", ["judge", *STEPS[1:]])
def test_after_a_kill_with_a_canary_all_settle_the_same_way(step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    farm = Farm()

    def die(*_: Any) -> str:
        raise Killed

    monkeypatch.setattr(Coordinator, "_abort", lambda *args: None)
    farm.books.before[step] = die
    farm.workers[2].before[step] = die
    with pytest.raises(Killed):
        push(farm, trial=FakeTrial(1, die if step == "judge" else lambda workers: ""))
    farm.pass_deadlines()

    assert len(set(farm.live)) == 1


def test_more_canaries_than_processes_is_a_push_with_a_trial_for_all() -> None:
    farm = Farm(2)

    assert push(farm, trial=FakeTrial(10)).exit is Exit.DONE
    assert farm.live == ["new"] * 2


# What is told ----------------------------------------------------------------------------------------------------------


def test_every_step_is_observed_and_the_last_look_is_the_outcome() -> None:
    farm = Farm()
    seen: list[list[State]] = []
    observe = lambda rows: seen.append([row.state for row in rows])
    outcome = Coordinator(farm.find, farm.books, observe=observe, terms=QUICK).run(FakeChange())

    assert [State.PREPARED] * 4 in seen
    assert seen[-1] == [row.state for row in outcome.rows]
    assert str(os.getpid()) in outcome.push


def test_the_outcome_is_plain_data() -> None:
    told = push(Farm(1)).as_dict()

    assert told["exit"] == 0
    assert told["outcome"] == "done"
    assert told["processes"][0]["pid"] == 1
    assert told["processes"][0]["state"] == "committed"
