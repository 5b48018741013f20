"""A thread of a real server that sits in old code while a push comes: who tells of it, and what each policy does."""

from __future__ import annotations

import os
import pwd
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hotreload.push.records import Exit
from tests.push.kit import Cli, PairProject, Server, wait_until

REASON = "the queue is full"


@pytest.fixture
def server(serve: Callable[..., Server], pair: PairProject) -> Server:
    return serve(pair, workers=2)


def push(server: Server, value: int, *options: object) -> Cli:
    return server.push(value, "--settle", "1s", *options)


def open_in(server: Server) -> dict[int, Any]:
    """The transitions that are open, by process."""
    return {row["pid"]: row for row in server.cli("transition", "--json").json["open"]}


def levels(done: Cli) -> set[str]:
    """The levels at which processes have committed."""
    return {row["level"] for row in done.json["processes"] if row["state"] == "committed"}


def events(server: Server, name: str) -> list[dict[str, Any]]:
    return [event for event in server.audit() if event["event"] == name]


def test_a_push_of_two_functions_is_at_level_call_and_waits_for_idle_threads_only(server: Server) -> None:
    done = server.push(1001)

    assert (done.code, server.answers()) == (Exit.DONE, {1001})
    assert levels(done) == {"call"}
    assert open_in(server) == {}
    assert {event["level"] for event in events(server, "transition.completed")} == {"call"}


def test_a_thread_in_old_code_is_named_everywhere_and_everybody_else_has_the_new(
    server: Server, pair: PairProject
) -> None:
    with pair.resting(server) as request:
        done = push(server, 1001)
        assert (done.code, server.answers()) == (Exit.DONE, {1001})
        (pid,) = open_in(server)
        told = server.cli("status").out
        shown = server.cli("transition").out
        (row,) = [row for row in done.json["processes"] if row["transition"]]
        (straggler,) = row["transition"]["stragglers"]
        assert request.let_go() == 1000, "the call that began in old code ends in old code"
        wait_until(lambda: not open_in(server), what="it did not complete by itself")

    assert row["pid"] == pid == request.pid
    assert (straggler["reason"], straggler["where"].split("+")[0]) == ("INSIDE", "answer")
    assert any("app.py" in frame for frame in straggler["python"])
    assert any("answer" in frame for frame in straggler["native"])
    for text in (told, shown):
        assert f"{pid}: kernel 0 -> 1, level call" in text
        assert f"{straggler['name']} (thread {straggler['tid']}) is inside answer" in text
        assert "Python: " in text
    assert "app.py" in told
    assert len(events(server, "transition.stalled")) == 1


def test_in_a_pipe_the_last_line_says_that_a_thread_still_finishes(server: Server, pair: PairProject) -> None:
    with pair.resting(server):
        done = server.cli("push", pair.patch(1001), "--settle", "300ms")

    assert done.code == Exit.DONE
    assert "1 thread is still finishing in old code, see `hotreload transition`" in done.out.splitlines()[-1]


def test_while_it_is_open_a_second_push_is_refused_with_the_name_and_changes_nothing(
    server: Server, pair: PairProject
) -> None:
    with pair.resting(server):
        push(server, 1001)
        second = push(server, 1002)
        assert server.answers() == {1001}

    assert second.code == Exit.REFUSED
    assert "is inside answer" in second.json["reason"]
    assert "hotreload transition revert" in second.json["reason"]


def test_with_policy_revert_one_thread_takes_it_back_in_every_process(server: Server, pair: PairProject) -> None:
    with pair.resting(server) as request:
        done = push(server, 1001, "--policy", "revert")
        assert (done.code, server.answers()) == (Exit.REVERTED, {1000})
        wait_until(lambda: not open_in(server), what="the way back did not end")
        assert request.let_go() == 1000

    assert set(done.states().values()) == {"aborted", "absent"}
    assert "not settled after 1 s" in done.json["reason"]
    assert set(server.live().values()) == {""}
    assert push(server, 1002).code == Exit.DONE


def test_with_policy_revert_a_push_without_stragglers_is_an_ordinary_push(server: Server) -> None:
    done = push(server, 1001, "--policy", "revert")

    assert (done.code, server.answers()) == (Exit.DONE, {1001})


def test_force_needs_a_reason_is_written_down_and_never_forgotten(server: Server, pair: PairProject) -> None:
    with pair.resting(server) as request:
        refused = push(server, 1001, "--policy", "force")
        assert (refused.code, server.answers()) == (Exit.REFUSED, {1000})
        assert refused.json["status"] == "NO_REASON"
        done = push(server, 1001, "--policy", "force", "--reason", REASON)
        assert (done.code, server.answers(), open_in(server)) == (Exit.DONE, {1001}, {})
        assert request.let_go() == 1000
    told = server.cli("status").out

    assert [row["forced"] for row in done.json["processes"] if row["pid"] == request.pid] == ["forced"]
    (entry,) = events(server, "transition.forced")
    assert (entry["reason"], entry["peer_uid"], entry["pid"]) == (REASON, os.getuid(), request.pid)
    assert f"{request.pid}: kernel is tainted: forced" in told
    assert f"by {pwd.getpwuid(os.getuid()).pw_name}: {REASON}" in told


def test_what_is_open_can_be_taken_back_in_every_process(server: Server, pair: PairProject) -> None:
    with pair.resting(server) as request:
        push(server, 1001)
        back = server.cli("transition", "revert", "--settle", "2s", "--json")
        assert (back.code, server.answers()) == (Exit.DONE, {1000})
        assert open_in(server) == {}
        assert request.let_go() == 1000

    assert events(server, "transition.reversed")


def test_what_is_on_its_way_back_stays_so_however_often_it_is_taken_back(
    serve: Callable[..., Server], pair: PairProject
) -> None:
    server = serve(pair, workers=1)
    with pair.resting(server) as old:
        push(server, 1001)
        new = pair.rest_too(server)
        for code in (Exit.DONE, Exit.NOTHING):
            back = server.cli("transition", "revert", "--settle", "1s", "--json")
            assert (back.code, server.answers()) == (code, {1000})
        (row,) = open_in(server).values()
        forced = server.cli("transition", "force", "--reason", REASON)
        assert (new.let_go(), old.let_go()) == (1001, 1000)

    assert (row["direction"], row["from"], row["to"]) == ("back", 0, 1)
    assert f"{row['pid']}: forced, kernel 1 -> 0" in forced.out


def test_a_dry_run_of_the_way_back_waits_for_nobody_and_changes_nothing(server: Server, pair: PairProject) -> None:
    with pair.resting(server):
        push(server, 1001)
        done = server.cli("transition", "revert", "--dry-run", "--settle", "5m", "--json")
        assert (done.code, server.answers()) == (Exit.DONE, {1001})
        assert [row["direction"] for row in open_in(server).values()] == ["forward"]


def test_what_is_open_can_be_forced_with_a_reason(server: Server, pair: PairProject) -> None:
    with pair.resting(server) as request:
        push(server, 1001)
        refused = server.cli("transition", "force")
        (pid,) = open_in(server)
        assert refused.code == Exit.REFUSED
        assert "without a reason" in refused.err
        forced = server.cli("transition", "force", "--reason", REASON)
        assert (forced.code, open_in(server)) == (Exit.DONE, {})
        assert request.let_go() == 1000
    assert (request.pid, f"{pid}: forced, kernel 0 -> 1" in forced.out) == (pid, True)
    assert "is inside answer" in forced.out
    assert [entry["reason"] for entry in events(server, "force.requested")] == [REASON] * 2


@pytest.mark.parametrize("action", ["revert", "force"])
def test_where_nothing_is_open_there_is_nothing_to_do(server: Server, action: str) -> None:
    done = server.cli("transition", action, "--reason", REASON)

    assert (done.code, done.out) == (Exit.NOTHING, "no transition is open\n")


def test_a_command_that_is_killed_while_it_waits_for_threads_leaves_no_process_on_new_code(
    server: Server, pair: PairProject
) -> None:
    with pair.resting(server):
        command = server.start_cli(
            "push", pair.patch(1001), "--policy", "revert", "--settle", "20s", "--deadline", "1s"
        )
        wait_until(lambda: open_in(server), 60, what="it was not tried")
        command.kill()
        command.communicate()
        wait_until(lambda: set(server.live().values()) == {""}, 60, what="it was not taken back")

    assert server.answers() == {1000}


def test_at_level_function_nobody_is_waited_for(server: Server, pair: PairProject) -> None:
    with pair.resting(server):
        done = push(server, 1001, "--level", "function")
        assert (done.code, server.answers(), open_in(server)) == (Exit.DONE, {1001}, {})
    assert levels(done) == {"function"}


def test_the_file_says_what_holds_where_no_flag_does(
    server: Server, pair: PairProject, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pyproject = pair.directory / "pyproject.toml"
    pyproject.write_text('[tool.hotreload]\nlevel = "function"\n')
    try:
        done = server.push(1001)
    finally:
        pyproject.unlink()

    assert levels(done) == {"function"}
