"""Prepare, commit, abort and rollback over the socket of a real process, and what a process does that is left alone."""

from __future__ import annotations

import os
import signal

import pytest

from tests.agent.kit import Application, refusal_of, wait_until


def test_a_prepared_patch_changes_nothing_until_it_is_committed(app: Application) -> None:
    program = app.start()
    prepared = app.prepare(program, "p1", app.hot.artefact("x + 41", sequence=10))

    assert (prepared["staged"], prepared["module"], prepared["functions"]) == (True, "tiny", ["value"])
    assert prepared["generation_now"] == 0
    assert app.value(program) == 2
    committed = app.ask(program, "commit", push="p1")
    assert committed["generation"] == 1
    assert committed["commit_ms"] > 0
    assert app.value(program) == 42


def test_what_is_live_says_who_pushed_it(app: Application) -> None:
    program = app.start()
    artefact = app.hot.artefact("x + 41", sequence=10)
    app.push(program, "p1", artefact)
    (module,) = app.status(program)["modules"]
    info = module["generations"][-1]["info"]

    assert (info["push"], info["sha256"], info["sequence"]) == ("p1", artefact.sha256, 10)
    assert (info["author"], info["peer_uid"], info["peer_pid"]) == ("a test", os.getuid(), os.getpid())
    assert app.status(program)["tainted"] is True
    assert [entry["push"] for entry in app.status(program)["history"]] == ["p1"]


def test_requests_may_be_repeated(app: Application) -> None:
    program = app.start()
    artefact = app.hot.artefact("x + 41", sequence=10)
    first = app.prepare(program, "p1", artefact)
    assert app.prepare(program, "p1", artefact) == first
    committed = app.ask(program, "commit", push="p1")

    assert app.ask(program, "commit", push="p1") == committed
    assert app.prepare(program, "p1", artefact)["generation"] == 1
    assert app.generation(program) == 1


def test_an_aborted_push_leaves_nothing_behind(app: Application) -> None:
    program = app.start()
    app.prepare(program, "p1", app.hot.artefact("x + 41", sequence=10))
    app.ask(program, "abort", push="p1")
    app.ask(program, "abort", push="p1")

    assert app.decisions.look("p1") == "abort"
    assert app.value(program) == 2
    assert app.status(program)["modules"][0]["staged"] == 0
    assert refusal_of(app.ask, program, "commit", push="p1") == "NOT_PREPARED"
    assert refusal_of(app.prepare, program, "p1", app.hot.artefact("x + 41", sequence=10)) == "NOT_PREPARED"


def test_aborting_what_was_never_prepared_does_nothing(app: Application) -> None:
    program = app.start()

    assert app.ask(program, "abort", push="never")["ok"] is True


def test_a_deadline_decides_to_abort(app: Application) -> None:
    program = app.start()
    app.prepare(program, "p1", app.hot.artefact("x + 41", sequence=10), deadline=0.3)
    wait_until(lambda: app.status(program)["prepared"] is None, "the deadline passes")

    assert app.decisions.look("p1") == "abort"
    assert app.value(program) == 2


def test_a_decision_to_commit_is_carried_out_although_the_pusher_is_gone(app: Application) -> None:
    programs = [app.start(), app.start()]
    artefact = app.hot.artefact("x + 41", sequence=10)
    for program in programs:
        app.prepare(program, "p1", artefact, deadline=30)
    app.decisions.decide("p1", "commit")
    for program in programs:
        wait_until(lambda program=program: app.generation(program) == 1, "it settles")

    assert [app.value(program) for program in programs] == [42, 42]
    assert app.patches.current(artefact.manifest.build_id).sha256 == artefact.sha256, "who starts later has it too"


def test_a_stopped_process_that_missed_its_deadline_does_as_was_decided(app: Application) -> None:
    program = app.start()
    app.prepare(program, "p1", app.hot.artefact("x + 41", sequence=10), deadline=0.5)
    program.process.send_signal(signal.SIGSTOP)
    app.decisions.decide("p1", "commit")
    program.process.send_signal(signal.SIGCONT)
    wait_until(lambda: app.generation(program) == 1, "it settles")


def test_alone_it_does_not_undo_what_was_made_current_since(app: Application) -> None:
    program = app.start()
    artefact = app.hot.artefact("x + 41", sequence=10)
    app.prepare(program, "p1", artefact)
    program.process.send_signal(signal.SIGSTOP)
    app.decisions.decide("p1", "commit")
    app.patches.set_current(artefact.manifest.build_id, "base")
    program.process.send_signal(signal.SIGCONT)
    wait_until(lambda: app.generation(program) == 1, "it settles")

    assert app.patches.current_name(artefact.manifest.build_id) == "base"


def test_the_first_decision_holds_against_pusher_and_deadline(app: Application) -> None:
    program = app.start()
    artefact = app.hot.artefact("x + 41", sequence=10)
    app.decisions.decide("lost", "abort")
    assert refusal_of(app.prepare, program, "lost", artefact) == "DECIDED"
    app.prepare(program, "p1", artefact)
    app.decisions.decide("p1", "abort")
    assert refusal_of(app.ask, program, "commit", push="p1") in ("DECIDED", "NOT_PREPARED")
    assert app.generation(program) == 0

    app.prepare(program, "p2", artefact)
    app.decisions.decide("p2", "commit")
    assert refusal_of(app.ask, program, "abort", push="p2") == "DECIDED"
    assert app.generation(program) == 1


def test_a_process_that_cannot_read_the_decision_stays_in_doubt_and_asks_again(app: Application) -> None:
    program = app.start()
    app.prepare(program, "p1", app.hot.artefact("x + 41", sequence=10), deadline=0.3)
    os.rename(app.state_path / "decisions", app.state_path / "elsewhere") if (
        app.state_path / "decisions"
    ).exists() else None
    (app.state_path / "decisions").write_text("in the way")
    doubt = wait_until(lambda: (app.status(program)["prepared"] or {}).get("in_doubt"), "it doubts")
    assert "decisions" in doubt
    assert app.generation(program) == 0
    assert refusal_of(app.ask, program, "commit", push="p1") != "nothing was refused"
    (app.state_path / "decisions").unlink()
    app.decisions.decide("p1", "commit")

    wait_until(lambda: app.generation(program) == 1, "it settles")


def test_one_push_at_a_time(app: Application) -> None:
    program = app.start()
    app.prepare(program, "p1", app.hot.artefact("x + 41", sequence=10))

    assert refusal_of(app.prepare, program, "p2", app.hot.artefact("x + 42", sequence=11)) == "BUSY"
    app.decisions.decide("p1", "abort")
    app.prepare(program, "p2", app.hot.artefact("x + 42", sequence=11))


def test_a_trial_is_confirmed_or_taken_back(app: Application) -> None:
    program = app.start()
    app.prepare(program, "p1", app.hot.artefact("x + 41", sequence=10))
    app.ask(program, "commit", push="p1", hold=30)
    assert app.value(program) == 42
    assert app.decisions.look("p1") is None
    assert app.status(program)["prepared"]["step"] == "trying"
    app.ask(program, "commit", push="p1", hold=30)
    app.ask(program, "abort", push="p1")
    assert app.value(program) == 2
    assert app.decisions.look("p1") == "abort"

    app.prepare(program, "p2", app.hot.artefact("x + 41", sequence=10))
    app.ask(program, "commit", push="p2", hold=30)
    app.ask(program, "commit", push="p2")
    assert app.value(program) == 42
    assert app.status(program)["prepared"] is None


@pytest.mark.parametrize(("decision", "value"), [("commit", 42), ("", 2)])
def test_a_trial_that_nobody_ends_does_as_is_decided(app: Application, decision: str, value: int) -> None:
    program = app.start()
    app.prepare(program, "p1", app.hot.artefact("x + 41", sequence=10))
    app.ask(program, "commit", push="p1", hold=0.5)
    if decision:
        app.decisions.decide("p1", decision)
    wait_until(lambda: app.status(program)["prepared"] is None, "it settles")

    assert app.value(program) == value


def test_a_trial_of_an_aborted_push_does_not_begin(app: Application) -> None:
    program = app.start()
    app.prepare(program, "p1", app.hot.artefact("x + 41", sequence=10))
    app.decisions.decide("p1", "abort")

    assert refusal_of(app.ask, program, "commit", push="p1", hold=1) in ("DECIDED", "NOT_PREPARED")
    assert app.value(program) == 2


def test_a_rollback_goes_through_the_same_two_phases(app: Application) -> None:
    program = app.start()
    first, second = app.hot.artefact("x + 41", sequence=10), app.hot.artefact("x + 50", sequence=11)
    build_id = first.manifest.build_id
    app.push(program, "p1", first)
    app.push(program, "p2", second)
    assert app.value(program) == 51
    prepared = app.ask(program, "prepare-rollback", push="r1", build_id=build_id, to=1, deadline=20)
    assert prepared["generation_now"] == 2
    assert app.value(program) == 51
    assert app.ask(program, "commit", push="r1")["generation"] == 1
    assert app.value(program) == 42

    app.ask(program, "prepare-rollback", push="r2", build_id=build_id, to=0, deadline=20)
    app.ask(program, "abort", push="r2")
    assert app.value(program) == 42
    app.ask(program, "prepare-rollback", push="r3", build_id=build_id, to=0, deadline=20)
    app.ask(program, "commit", push="r3", hold=20)
    assert app.value(program) == 2
    app.ask(program, "abort", push="r3")
    assert app.value(program) == 42
    app.ask(program, "prepare-rollback", push="r4", build_id=build_id, to=1, deadline=20)
    assert app.ask(program, "commit", push="r4")["generation"] == 1


@pytest.mark.parametrize("to", [0, 1])
def test_a_rollback_that_is_settled_alone_is_current_afterwards(app: Application, to: int) -> None:
    program = app.start()
    first, second = app.hot.artefact("x + 41", sequence=10), app.hot.artefact("x + 50", sequence=11)
    build_id = first.manifest.build_id
    for number, artefact in enumerate((first, second)):
        app.push(program, f"p{number}", artefact)
        app.store(artefact)
    app.ask(program, "prepare-rollback", push="r1", build_id=build_id, to=to, deadline=20)
    app.decisions.decide("r1", "commit")
    wait_until(lambda: app.generation(program) == to, "it settles")
    current = wait_until(lambda: app.status(program)["prepared"] is None, "it has settled") and app.patches.current(
        build_id
    )

    assert (current.sha256 if current else "") == (first.sha256 if to else "")
    assert app.value(program) == (42 if to else 2)


def test_an_older_patch_comes_back_only_as_a_rollback(app: Application) -> None:
    program = app.start()
    old, new = app.hot.artefact("x + 41", sequence=10), app.hot.artefact("x + 50", sequence=11)
    app.push(program, "p1", old)
    app.push(program, "p2", new)
    assert refusal_of(app.prepare, program, "p3", old) == "OLDER"
    app.push(program, "p4", old, rollback=True)

    assert app.value(program) == 42


def test_what_is_live_already_is_said_to_be(app: Application) -> None:
    program = app.start()
    artefact = app.hot.artefact("x + 41", sequence=10)
    app.push(program, "p1", artefact)
    again = app.prepare(program, "p2", artefact)

    assert (again["staged"], again["is_live"]) == (False, True)
    assert app.ask(program, "commit", push="p2")["generation"] == 1


def test_everything_is_written_down(app: Application) -> None:
    program = app.start()
    artefact = app.hot.artefact("x + 41", sequence=10)
    app.push(program, "p1", artefact)
    app.prepare(program, "p2", app.hot.artefact("x + 42", sequence=11))
    app.ask(program, "abort", push="p2")
    refusal_of(app.prepare, program, "p3", b"nonsense")

    assert [entry["event"] for entry in app.audit()] == [
        "agent.started",
        "agent.prepared",
        "agent.committed",
        "agent.prepared",
        "agent.aborted",
        "agent.refused",
    ]
    committed = app.audit("agent.committed")[0]
    assert (committed["push"], committed["sha256"], committed["peer_uid"]) == ("p1", artefact.sha256, os.getuid())
    assert committed["build_id"] == artefact.manifest.build_id
    assert app.audit("agent.refused")[0]["error"]["status"] == "ARTEFACT"


BREAKPOINT = """
import ctypes
from hotreload.agent.process import current
entry = current().session._open.change._staged.redirects[0].entry
libc = ctypes.CDLL(None)
page = ctypes.c_void_p(entry & ~4095)
libc.mprotect(page, 8192, 7)
byte = ctypes.c_ubyte.from_address(entry)
was, byte.value = byte.value, {byte}
libc.mprotect(page, 8192, 5)
print("changed", flush=True)
"""


def test_a_swap_that_is_refused_after_the_decision_is_reported_and_remembered(app: Application) -> None:
    """A debugger sets a breakpoint between the phases: nothing is stored, and everybody hears why."""
    program = app.start()
    artefact = app.hot.artefact("x + 41", sequence=10)
    app.prepare(program, "p1", artefact)
    app.do(BREAKPOINT.format(byte="0xcc"))
    program.wait_line("changed")
    assert refusal_of(app.ask, program, "commit", push="p1") == "BREAKPOINT"
    assert refusal_of(app.ask, program, "commit", push="p1") == "BREAKPOINT"
    assert refusal_of(app.prepare, program, "p1", artefact) == "NOT_PREPARED"
    assert app.generation(program) == 0
    assert app.status(program)["modules"][0]["staged"] == 0
    assert app.audit("agent.failed")[0]["error"]["status"] == "BREAKPOINT"
    assert app.decisions.look("p1") == "commit"


@pytest.mark.parametrize("end", ["abort", "deadline"])
def test_a_trial_that_cannot_be_taken_back_is_a_failure(app: Application, end: str) -> None:
    program = app.start()
    app.prepare(program, "p1", app.hot.artefact("x + 41", sequence=10))
    app.ask(program, "commit", push="p1", hold=20 if end == "abort" else 0.7)
    app.do(BREAKPOINT.format(byte="0xcc"))
    program.wait_line("changed")
    if end == "abort":
        assert refusal_of(app.ask, program, "abort", push="p1") == "BREAKPOINT"
        assert refusal_of(app.ask, program, "abort", push="p1") == "BREAKPOINT"
    wait_until(lambda: app.audit("agent.failed"), "it says so")

    assert app.audit("agent.failed")[0]["error"]["status"] == "BREAKPOINT"
    assert app.generation(program) == 1
    assert app.status(program)["prepared"] is None
