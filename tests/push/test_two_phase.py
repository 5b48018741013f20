"""One worker that cannot: then no worker is changed, and exit code and table say which and why."""

from __future__ import annotations

import os
import resource
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from hotreload import artefact
from hotreload.push.processes import look
from hotreload.state import Quarantine, StateDirectory
from tests.push.kit import BASE_ANSWER, EDITS, Cli, Project, Server, wait_until

Serve = Callable[..., Server]
EVERYBODY_IS_AS_BEFORE = {BASE_ANSWER}


def check_nobody_changed(server: Server, outcome: Cli, culprit: int, why: str) -> None:
    assert outcome.code == 4, outcome
    row = next(row for row in outcome.json["processes"] if row["pid"] == culprit)
    assert row["state"] in ("refused", "silent"), row
    assert why in row["detail"], row
    assert f"{culprit}: " in outcome.json["reason"]
    assert set(outcome.states().values()) <= {"aborted", "found", "refused", "silent", "absent"}
    assert set(server.live().values()) == {""}


def test_a_worker_without_memory_refuses_for_all(serve: Serve) -> None:
    server = serve()
    culprit = server.worker_pids()[1]
    before = resource.prlimit(culprit, resource.RLIMIT_AS, (1 << 20, resource.RLIM_INFINITY))
    try:
        outcome = server.push(EDITS[0])
    finally:
        resource.prlimit(culprit, resource.RLIMIT_AS, before)

    check_nobody_changed(server, outcome, culprit, "memory")  # where it is missed first varies
    assert server.answers() == EVERYBODY_IS_AS_BEFORE
    assert server.push(EDITS[0]).code == 0
    assert server.answers() == {EDITS[0]}


def test_a_worker_that_was_locked_refuses_for_all(serve: Serve) -> None:
    server = serve()
    _value, culprit = server.ask("/lock")

    check_nobody_changed(server, server.push(EDITS[0]), culprit, "locked")
    assert server.answers() == EVERYBODY_IS_AS_BEFORE


def test_a_policy_that_does_not_allow_the_function_refuses_in_all(serve: Serve, tmp_path: Path) -> None:
    policy = tmp_path / "policy.toml"
    policy.write_text('functions = ["render_*"]\n')
    policy.chmod(0o644)
    server = serve(HOTRELOAD_POLICY=str(policy))
    outcome = server.push(EDITS[0])

    assert outcome.code == 4
    assert "the policy does not allow the function answer" in outcome.json["reason"]
    assert server.answers() == EVERYBODY_IS_AS_BEFORE


def test_a_worker_with_another_build_refuses_for_all(
    serve: Serve, project: Project, tmp_path_factory: pytest.TempPathFactory
) -> None:
    server = serve(workers=2)
    other_project = Project(tmp_path_factory.mktemp("other"))
    assert other_project.build_id != project.build_id
    other = Server(other_project, workers=1)
    other.environment["HOTRELOAD_STATE"] = str(server.state)
    other.close()
    other = Server(other_project, workers=1, HOTRELOAD_STATE=str(server.state))
    try:
        wait_until(lambda: len(server.answering()) >= 3)
        (culprit,) = other.worker_pids()
        check_nobody_changed(server, server.push(EDITS[0]), culprit, "another build of kernel")
    finally:
        other.close()
    assert server.push(EDITS[0]).code == 0


def test_a_stopped_worker_refuses_for_all_and_is_not_waited_for_long(serve: Serve) -> None:
    server = serve()
    culprit = server.worker_pids()[2]
    os.kill(culprit, signal.SIGSTOP)
    began = time.monotonic()
    outcome = server.push(EDITS[0])
    took = time.monotonic() - began
    os.kill(culprit, signal.SIGCONT)

    check_nobody_changed(server, outcome, culprit, "stopped by a signal")
    assert took < 8
    assert server.answers() == EVERYBODY_IS_AS_BEFORE


def test_a_worker_stopped_between_the_phases_carries_the_decision_out_when_it_goes_on(serve: Serve) -> None:
    server = serve()
    outcome = server.killed_at("make_current", EDITS[0], stop=True)
    victim = server.stopped

    assert outcome.returncode == 5, outcome
    assert "will settle by its deadline: commit" in outcome.stdout
    os.kill(victim, signal.SIGCONT)
    wait_until(lambda: look(victim) and len(set(server.live().values())) == 1)
    assert server.answers() == {EDITS[0]}


def test_a_dry_run_asks_the_live_processes_and_changes_nothing(serve: Serve) -> None:
    server = serve(workers=2)
    outcome = server.push(EDITS[0], "--dry-run")

    assert outcome.code == 0
    assert outcome.json["decision"] == "abort"
    assert server.answers() == EVERYBODY_IS_AS_BEFORE
    assert not list((server.state / "patches").glob("*/*")) if (server.state / "patches").exists() else True


def test_the_same_patch_twice_is_nothing_to_do(serve: Serve) -> None:
    server = serve(workers=2)
    patch = server.project.patch(EDITS[0])

    assert server.cli("push", patch).code == 0
    assert server.cli("push", patch).code == 3


def test_an_older_patch_is_refused_and_a_rollback_to_it_is_not(serve: Serve) -> None:
    server = serve(workers=2)
    older, newer = server.project.patch(EDITS[0]), server.project.patch(EDITS[1])
    assert server.cli("push", older).code == 0
    assert server.cli("push", newer).code == 0
    refused = server.cli("push", older)

    assert refused.code == 4
    assert "sequence number" in refused.out + refused.err
    assert server.cli("rollback").code == 0
    assert server.answers() == {EDITS[0]}
    assert server.cli("rollback").code == 0
    assert server.answers() == {BASE_ANSWER}
    assert server.cli("rollback").code == 3


def test_a_rollback_reaches_a_worker_that_started_after_the_patch_it_goes_back_to(serve: Serve) -> None:
    server = serve(workers=2)
    for value in EDITS:
        assert server.push(value).code == 0
    os.kill(server.worker_pids()[0], signal.SIGKILL)
    wait_until(lambda: len(server.live()) == 2 and len(set(server.live().values())) == 1)

    assert server.cli("rollback").code == 0
    assert server.answers() == {EDITS[1]}
    assert server.cli("rollback", "kernel", "--to", "base").code == 0
    assert server.answers() == {BASE_ANSWER}


def test_a_source_is_packed_and_pushed_and_its_original_text_is_a_rollback(serve: Serve) -> None:
    server = serve(workers=2)
    try:
        server.project.edit(4242)
        assert server.cli("push", "kernel.c").code == 0
        assert server.answers() == {4242}
    finally:
        server.project.edit(1000)
    assert server.cli("push", "kernel.c").code == 0
    assert server.answers() == {BASE_ANSWER}


def test_a_push_to_one_process_leaves_the_others_and_what_is_current(serve: Serve) -> None:
    server = serve(workers=2)
    chosen = server.worker_pids()[0]

    assert server.push(EDITS[0], "--pid", chosen).code == 0
    live = server.live()
    assert [pid for pid, sha in live.items() if sha] == [chosen]
    shown = server.cli("status")
    assert "differs from the others" in shown.out
    assert "the processes are not all the same" in shown.out


def test_two_pushes_at_the_same_moment_leave_all_workers_the_same(serve: Serve) -> None:
    server = serve()
    patches = [server.project.patch(value) for value in EDITS]
    running = [server.start_cli("push", patch) for patch in patches]
    told = [command.communicate(timeout=60)[0] for command in running]
    codes = [command.returncode for command in running]

    assert set(codes) <= {0, 4}, told
    assert len(set(server.live().values())) == 1, told
    assert len(server.answers()) == 1
    assert server.push(EDITS[0]).code == 0
    assert server.answers() == {EDITS[0]}


def test_a_patch_in_quarantine_is_pushed_only_by_who_says_so(serve: Serve) -> None:
    server = serve(workers=2)
    patch = server.project.patch(EDITS[0])
    Quarantine(StateDirectory(server.state)).add(artefact.load(str(patch)).sha256, "process 7 died of it")
    refused = server.cli("push", patch, "--json")

    assert refused.code == 4
    assert "process 7 died of it" in refused.json["reason"]
    assert server.answers() == EVERYBODY_IS_AS_BEFORE
    assert server.cli("push", patch, "--allow-quarantined").code == 0
    assert server.answers() == {EDITS[0]}


def test_status_names_a_push_that_is_under_way(serve: Serve) -> None:
    server = serve(workers=2)
    assert server.killed_at("keep", EDITS[0]).returncode == -signal.SIGKILL
    shown = server.cli("status").out

    assert "prepared for push" in shown
    assert "settles within" in shown
