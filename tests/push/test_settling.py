"""What becomes of a push whose threads do not all come over; processes are fakes, and time is a tenth of a second."""

from __future__ import annotations

from typing import Any

import pytest

from hotreload.push.coordinator import Coordinator, EndedError, RefusedError, SilentError, Terms
from hotreload.push.records import Exit, Outcome
from hotreload.push.table import outcome_sentence
from tests.push.fakes import FakeChange, FakeTrial, Farm

REASON = "the queue is full"


def push(farm: Farm, policy: str = "wait", settle: float = 0.1, **options: Any) -> Outcome:
    terms = Terms(deadline=5.0, newcomers=0.1, settle=settle, policy=policy, reason=REASON)
    return Coordinator(farm.find, farm.books, terms=terms).run(FakeChange(), push="P", **options)


def states(outcome: Outcome) -> list[str]:
    return [row.state.value for row in outcome.rows]


def test_it_is_followed_until_every_thread_has_come_over() -> None:
    farm = Farm()
    farm.workers[1].stragglers, farm.workers[1].patience = 1, 3
    outcome = push(farm, settle=10.0)

    assert outcome.exit is Exit.DONE
    assert (outcome.open_rows, farm.workers[1].moving) == ([], False)
    assert [row.level for row in outcome.rows] == ["call"] * 4
    assert "finishing" not in outcome_sentence(outcome)


def test_threads_that_stay_are_named_and_the_push_is_done_all_the_same() -> None:
    farm = Farm()
    farm.workers[1].stragglers = 1
    outcome = push(farm)

    assert (outcome.exit, outcome.decision) == (Exit.DONE, "commit")
    assert [row.pid for row in outcome.open_rows] == [2]
    assert "1 thread is still finishing in old code" in outcome_sentence(outcome)
    assert outcome.as_dict()["processes"][1]["transition"]["stragglers"][0]["name"] == "T0"


def test_a_process_that_ends_or_falls_silent_while_it_is_followed_spoils_nothing() -> None:
    farm = Farm(2)

    def end() -> None:
        raise EndedError("ended")

    def stay_silent() -> None:
        raise SilentError("no answer")

    for worker, happens in zip(farm.workers, (end, stay_silent)):
        worker.stragglers = 1
        worker.before["commit"] = lambda worker=worker, happens=happens: worker.before.update(status=happens)
    outcome = push(farm)

    assert (outcome.exit, states(outcome)) == (Exit.DONE, ["committed", "committed"])
    assert [row.pid for row in outcome.open_rows] == [2]


def test_who_types_ctrl_c_while_it_is_followed_ends_the_looking_only(monkeypatch: pytest.MonkeyPatch) -> None:
    farm = Farm()
    farm.workers[0].stragglers = 1

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Coordinator, "_follow", interrupt)
    outcome = push(farm, settle=60.0)

    assert (outcome.exit, farm.live) == (Exit.DONE, ["new"] * 4)


def test_who_has_it_already_and_is_not_through_with_it_is_named_too() -> None:
    farm = Farm(2)
    worker = farm.workers[0]
    worker.live, worker.stragglers, worker.moving = "new", 1, True
    outcome = push(farm)

    assert (outcome.exit, states(outcome)) == (Exit.DONE, ["current", "committed"])
    assert "1 thread is still finishing in old code" in outcome_sentence(outcome)


# Revert ----------------------------------------------------------------------------------------------------------------


def test_with_revert_nothing_is_decided_before_every_thread_has_come_over() -> None:
    farm = Farm()
    farm.workers[2].stragglers, farm.workers[2].patience = 1, 2
    was: list[Any] = []
    farm.books.before["decide commit"] = lambda: was.append([worker.moving for worker in farm.workers])
    outcome = push(farm, "revert", settle=10.0)

    assert outcome.exit is Exit.DONE
    assert was == [[False] * 4]
    assert farm.live == ["new"] * 4
    assert farm.books.current == "new"


def test_with_revert_one_thread_in_one_process_takes_all_of_them_back() -> None:
    farm = Farm()
    farm.workers[2].stragglers = 1
    outcome = push(farm, "revert")

    assert (outcome.exit, outcome.decision) == (Exit.REVERTED, "abort")
    assert farm.live == ["base"] * 4
    assert states(outcome) == ["aborted"] * 4
    assert "not settled after 0.1 s: 3: 8 of 9 threads have come over: T0 (thread 7) is inside colour" in outcome.reason
    assert farm.books.current == "base"
    assert outcome_sentence(outcome).startswith("reverted: it is live in no process any more")


def test_a_command_that_dies_while_it_waits_for_threads_leaves_every_process_as_it_was() -> None:
    class Killed(BaseException):
        """Stands for SIGKILL."""

    farm = Farm()
    farm.workers[0].stragglers = 1

    def die() -> None:
        for worker in farm.workers:
            worker.silent = True
        raise Killed

    farm.workers[0].before["commit on trial"] = lambda: farm.workers[0].before.update(status=die)
    with pytest.raises(Killed):
        push(farm, "revert", settle=10.0)
    farm.pass_deadlines()

    assert farm.live == ["base"] * 4


def test_a_process_that_ends_while_all_are_on_trial_takes_the_others_back() -> None:
    farm = Farm()
    farm.workers[1].stragglers = 1
    farm.workers[1].before["commit on trial"] = lambda: farm.workers[1].before.update(status=end)

    def end() -> None:
        farm.workers[1].alive = False

    outcome = push(farm, "revert", settle=10.0)

    assert outcome.exit is Exit.REVERTED
    assert farm.live == ["base"] * 3


def test_a_canary_keeps_its_trial_until_the_others_have_come_over() -> None:
    farm = Farm()
    farm.workers[3].stragglers, farm.workers[3].patience = 1, 2
    outcome = push(farm, "revert", settle=10.0, trial=FakeTrial())

    assert (outcome.exit, farm.live) == (Exit.DONE, ["new"] * 4)


def test_a_dry_run_puts_nobody_on_trial() -> None:
    farm = Farm()
    outcome = push(farm, "revert", dry_run=True)

    assert outcome.exit is Exit.DONE
    assert all("commit on trial" not in worker.heard for worker in farm.workers)


# Hooks that have a say -------------------------------------------------------------------------------------------------


def test_a_hook_that_says_no_in_one_process_keeps_all_of_them_on_old_code() -> None:
    farm = Farm()

    def veto() -> None:
        raise RefusedError("hook `migrate` refuses the patch: the table is in use", status="VETO")

    for worker in farm.workers:
        worker.may_veto = True
    farm.workers[2].before["commit on trial"] = veto
    outcome = push(farm)

    assert (outcome.exit, outcome.decision) == (Exit.REFUSED, "abort")
    assert "3: hook `migrate` refuses the patch" in outcome.reason
    assert farm.live == ["base"] * 4


def test_hooks_that_agree_are_asked_before_it_is_decided() -> None:
    farm = Farm()
    farm.workers[1].may_veto = True
    outcome = push(farm)

    assert (outcome.exit, farm.live) == (Exit.DONE, ["new"] * 4)
    assert all(worker.heard.index("commit on trial") < worker.heard.index("commit") for worker in farm.workers)


# Force -----------------------------------------------------------------------------------------------------------------


def test_what_a_process_has_forced_is_told() -> None:
    farm = Farm(2)
    worker = farm.workers[0]
    worker.stragglers, worker.patience = 1, 2
    worker.taints = [{"what": "forced", "reason": REASON}]
    outcome = push(farm, "force")

    assert outcome.exit is Exit.DONE
    assert [row.forced for row in outcome.rows] == ["forced", ""]
    assert "forced in 1 process" in outcome_sentence(outcome)
