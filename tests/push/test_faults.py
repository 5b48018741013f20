"""Faults of the lists E (fork and processes), G (channel) and H (bad new code) that a push meets; each by its number."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hotreload import artefact
from hotreload.push.changes import PatchChange
from hotreload.push.client import Finder
from hotreload.push.coordinator import EndedError
from hotreload.push.processes import look
from hotreload.push.records import new_push_id
from hotreload.state import Decisions, StateDirectory
from tests.push.kit import BASE_ANSWER, EDITS, Load, Program, Server, wait_until

Serve = Callable[..., Server]


@pytest.fixture
def sockets(program: Program) -> Iterator[int]:
    fd = os.open(program.state / "sockets", os.O_RDONLY | os.O_DIRECTORY)
    yield fd
    os.close(fd)


def commit_in(program: Program, sockets: int, pid: int, value: int) -> None:
    """A push to one process, with nobody else asked."""
    change = PatchChange(artefact.load(str(program.project.patch(value))))
    push = new_push_id()
    (client,) = (client for client in Finder(sockets).clients() if client.identity.pid == pid)
    change.prepare(client, push, 5)
    Decisions(StateDirectory(program.state)).decide(push, "commit")
    client.commit(push)
    change.close()


# E: fork and processes -------------------------------------------------------------------------------------------------


def test_fault_e74_processes_forked_before_the_push_are_listed_and_reached(program: Program) -> None:
    children = {program.fork(), program.fork()}

    assert set(program.answering()) == {program.pid} | children
    outcome = program.push(EDITS[0])
    assert outcome.code == 0
    assert outcome.states() == dict.fromkeys({program.pid} | children, "committed")
    assert len(set(program.live().values())) == 1


def test_fault_e74_a_process_whose_socket_was_removed_is_reached_again(program: Program) -> None:
    child = program.fork()
    path = program.state / "sockets" / f"{child}.sock"
    path.unlink()
    wait_until(path.exists)
    outcome = program.push(EDITS[0])

    assert outcome.code == 0
    assert outcome.states() == {program.pid: "committed", child: "committed"}


def test_fault_e75_a_child_forked_after_the_push_has_the_new_code_and_an_agent_of_its_own(program: Program) -> None:
    assert program.push(EDITS[0]).code == 0
    child = program.fork()

    live = program.live()
    assert set(live) == {program.pid, child}
    assert len(set(live.values())) == 1
    assert program.push(EDITS[1]).states() == {program.pid: "committed", child: "committed"}


def test_fault_e77_a_patch_in_the_parent_does_not_change_the_child(program: Program, sockets: int) -> None:
    child = program.fork()
    commit_in(program, sockets, program.pid, EDITS[0])

    assert int(program.tell("answer")) == EDITS[0]
    live = program.live()
    assert live[program.pid]
    assert live[child] == ""


def test_fault_e77_a_patch_in_the_child_does_not_change_the_parent(program: Program, sockets: int) -> None:
    child = program.fork()
    commit_in(program, sockets, child, EDITS[0])

    assert int(program.tell("answer")) == BASE_ANSWER
    assert program.live()[child]


def test_fault_e78_the_socket_of_a_parent_that_died_is_nobodys_and_its_child_answers(program: Program) -> None:
    child = program.fork()
    program.kill()
    began = time.monotonic()
    outcome = program.push(EDITS[0])

    assert outcome.code == 0
    assert outcome.states() == {child: "committed"}
    assert time.monotonic() - began < 5


def test_fault_e79_a_process_that_became_another_program_is_passed_over(program: Program) -> None:
    child = program.fork()
    assert program.tell("exec") == "gone"
    wait_until(lambda: "time.sleep" in (look(program.pid) or look(1)).command)  # type: ignore[union-attr]
    outcome = program.push(EDITS[0])

    assert outcome.code == 0
    assert outcome.states()[child] == "committed"
    assert outcome.states().get(program.pid, "ended") == "ended"


def test_fault_e79_children_that_are_spawned_have_agents_of_their_own(program: Program) -> None:
    spawned = subprocess.Popen(
        [sys.executable, "-c", "import hotreload; hotreload.enable(agent=True); import kernel, signal; signal.pause()"],
        cwd=program.project.directory,
        env=program.environment,
    )
    try:
        wait_until(lambda: len(program.answering()) == 2)
        assert program.push(EDITS[0]).states() == {program.pid: "committed", spawned.pid: "committed"}
    finally:
        spawned.kill()
        spawned.wait()


def test_fault_e80_a_pid_that_was_given_again_is_not_taken_for_the_process_it_was(
    program: Program, sockets: int
) -> None:
    """This process has the pid that a socket is named after, and does not listen there."""
    shutil.copy2("/dev/null", program.state / "nothing")
    stale = socket.socket(socket.AF_UNIX)
    stale.bind(str(program.state / "sockets" / f"{os.getpid()}.sock"))
    stale.close()
    outcome = program.push(EDITS[0])

    assert outcome.code == 0
    assert outcome.states()[program.pid] == "committed"
    assert outcome.states().get(os.getpid(), "ended") == "ended"


def test_fault_e80_a_socket_that_another_process_answers_is_not_believed(program: Program, sockets: int) -> None:
    name = program.state / "sockets" / f"{os.getpid()}.sock"
    name.symlink_to(f"{program.pid}.sock")
    (client,) = (client for client in Finder(sockets).clients() if client.identity.pid == os.getpid())

    with pytest.raises(EndedError, match=f"its socket belongs to process {program.pid}"):
        client.status()


# G: the channel --------------------------------------------------------------------------------------------------------


def test_fault_g93_the_socket_of_a_dead_server_is_passed_over_and_swept_away(program: Program) -> None:
    child = program.fork()
    os.kill(child, signal.SIGKILL)
    wait_until(lambda: look(child) is None)

    assert program.push(EDITS[0]).states() == {program.pid: "committed"}


def test_fault_g101_an_audit_trail_that_cannot_be_written_refuses_the_push(program: Program, tmp_path: Path) -> None:
    policy = tmp_path / "policy.toml"
    policy.write_text('audit = "required"\n')
    policy.chmod(0o644)
    trail = program.state / "audit.jsonl"
    trail.unlink(missing_ok=True)
    trail.mkdir()
    outcome = program.cli("push", program.project.patch(EDITS[0]), HOTRELOAD_POLICY=str(policy))

    assert outcome.code == 4
    assert "the audit trail cannot be written" in outcome.err
    assert int(program.tell("answer")) == BASE_ANSWER


def test_fault_g94_a_client_that_says_nothing_does_not_keep_the_operator_out(program: Program) -> None:
    with socket.socket(socket.AF_UNIX) as silent:
        silent.connect(str(program.state / "sockets" / f"{program.pid}.sock"))
        assert program.push(EDITS[0]).code == 0


# H: bad new code -------------------------------------------------------------------------------------------------------


def test_fault_h104_workers_whose_new_code_crashes_come_back_without_it(serve: Serve) -> None:
    server = serve(workers=2)
    patch = server.project.patch_that("raise_no_more: __builtin_trap(); goto raise_no_more;")
    assert server.cli("push", patch).code == 0
    for _attempt in range(12):
        try:
            server.ask()
        except (OSError, ValueError, IndexError):
            time.sleep(0.1)
    wait_until(lambda: len(server.answering()) == 2 and set(server.live().values()) == {""})

    assert server.answers() == {BASE_ANSWER}
    refused = server.cli("push", patch)
    assert refused.code == 4
    assert "quarantine" in refused.out + refused.err
    assert any(event["event"] == "patch.quarantined" for event in server.audit())


def test_fault_h109_a_health_check_that_fails_takes_the_canary_back(serve: Serve) -> None:
    server = serve()
    health = f"{sys.executable} -c 'raise SystemExit(\"error rate is 7 %\")'"
    with Load(server) as load:
        outcome = server.push(EDITS[0], "--canary", 1, "--hold", "300ms", "--health", health)

    assert outcome.code == 4
    assert "exited with 1: error rate is 7 %" in outcome.json["reason"]
    assert sorted(outcome.states().values()) == ["aborted", "absent", "found", "found", "found"]
    assert set(server.live().values()) == {""}
    canary = next(row["pid"] for row in outcome.json["processes"] if row["detail"] == "taken back")
    assert load.failed == []
    assert {answer.pid for answer in load.answers if answer.value == EDITS[0]} == {canary}


def test_fault_h109_a_health_check_that_passes_lets_it_go_on(serve: Serve) -> None:
    server = serve()
    marks = server.state / "seen"
    health = f'{sys.executable} -c \'import os; open("{marks}", "w").write(os.environ["HOTRELOAD_CANARIES"])\''
    outcome = server.push(EDITS[0], "--canary", 2, "--hold", "100ms", "--health", health)

    assert outcome.code == 0
    assert len(marks.read_text().split()) == 2
    assert server.answers() == {EDITS[0]}


def test_fault_h109_the_canary_of_a_preloaded_gunicorn_is_one_that_serves(serve: Serve) -> None:
    server = serve(workers=2, options=("--preload",))
    workers = set(server.worker_pids())
    wait_until(lambda: {server.pid, *workers} <= set(server.answering()))
    health = f"{sys.executable} -c 'import os; raise SystemExit(os.environ[\"HOTRELOAD_CANARIES\"])'"
    outcome = server.push(EDITS[0], "--canary", 1, "--hold", "100ms", "--health", health)

    assert outcome.code == 4
    assert int(outcome.json["reason"].split()[-1]) in workers
    assert outcome.states()[server.pid] == "found"
    assert server.answers() == {BASE_ANSWER}


def test_fault_h112_new_code_that_ends_the_process_is_caught_by_the_canary(serve: Serve) -> None:
    server = serve()
    with Load(server, rate=100):
        patch = server.project.patch_that("_exit(7);")
        outcome = server.cli("push", patch, "--canary", 1, "--hold", "10s", "--json")

    assert outcome.code == 4
    assert "the canary ended while it was on trial" in outcome.json["reason"]
    wait_until(lambda: len(server.live()) == 4 and set(server.live().values()) == {""})
    assert server.answers() == {BASE_ANSWER}
