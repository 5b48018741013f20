"""The operator's commands: what they say on a terminal, in a pipe and as JSON, and their exit codes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from hotreload import artefact
from hotreload.cli.commands import run_command
from hotreload.push.processes import look
from hotreload.state import Quarantine, StateDirectory
from tests.push.kit import EDITS, Program, wait_until

PARTIAL = "processes that start later do not get it"
COMMANDS = ("push", "status", "rollback", "transition", "log", "doctor")


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_explains_itself_and_its_exit_codes(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        run_command([command, "--help"])
    shown = capsys.readouterr().out

    assert ended.value.code == 0
    changes = command in ("push", "rollback", "transition")
    assert all(f"\n  {code} " in shown for code in (0, 2, 4, 70))
    assert all((f"\n  {code} " in shown) == changes for code in (3, 6))


@pytest.mark.parametrize(
    "arguments",
    [
        ["push"],
        ["push", "x.hotpatch", "--hold", "soon"],
        ["push", "x.hotpatch", "--hold", "2h"],
        ["push", "x.hotpatch", "--deadline", "0"],
        ["push", "x.hotpatch", "--settle", "2h"],
        ["push", "x.hotpatch", "--allow", "wrong"],
        ["push", "x.hotpatch", "--allow", "no-hook"],
        ["push", "x.hotpatch", "--canary", "-1"],
        ["push", "x.hotpatch", "--health", "true"],
        ["status", "--pid", "x"],
        ["rollback", "--no-such-option"],
    ],
)
def test_what_is_typed_wrong_is_a_usage_error(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        run_command(arguments)

    assert ended.value.code == 2


def test_without_an_application_it_says_so(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run_command(["status", "--state", str(tmp_path / "none")]) == 4
    assert "is the application running" in capfd.readouterr().err


def test_several_applications_must_be_told_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.delenv("HOTRELOAD_STATE", raising=False)
    monkeypatch.delenv("HOTRELOAD_APP", raising=False)
    for name in ("shop", "search"):
        (tmp_path / "hotreload" / name).mkdir(parents=True, mode=0o700)
    assert run_command(["status"]) == 4
    assert "which application? there are search, shop" in capfd.readouterr().err
    assert run_command(["status", "--app", "shop"]) == 0
    assert "no process has an agent" in capfd.readouterr().out


def test_a_refusal_as_json_is_one_document(program: Program) -> None:
    outcome = program.cli("push", "no-such-file.hotpatch", "--json")

    assert outcome.code == 4
    assert outcome.json["outcome"] == "refused"
    assert outcome.json["exit"] == 4


def test_a_push_in_a_pipe_is_a_line_for_each_thing(program: Program) -> None:
    outcome = program.cli("push", program.project.patch(EDITS[0]))

    assert outcome.code == 0
    lines = outcome.out.splitlines()
    assert lines[0] == "push of kernel: answer"
    assert any(line.split()[:2] == [str(program.pid), "prepared"] for line in lines)
    assert any(line.split()[:2] == [str(program.pid), "committed"] and "level function" in line for line in lines)
    assert lines[-1].startswith("live in 1 process after ")
    assert "\x1b" not in outcome.out


def test_nothing_to_do_says_why(program: Program) -> None:
    source = program.project.source
    text = source.read_text()
    source.write_text(f"/* a comment */{text}")
    try:
        outcome = program.cli("push", source)
    finally:
        source.write_text(text)

    assert outcome.code == 3
    why = "only names, comments, white space or line numbers differ, which no code shows"
    assert outcome.out.splitlines()[-1] == f"nothing to do: every process has it already: {why}"


def test_a_trial_that_no_process_would_wait_for_is_a_usage_error(program: Program) -> None:
    outcome = program.cli("push", program.project.patch(EDITS[0]), "--canary", "1", "--hold", "3599s")

    assert outcome.code == 2
    assert "a process waits at most 3600" in outcome.err


def test_a_push_on_a_terminal_is_a_table(program: Program) -> None:
    command = [sys.executable, "-m", "hotreload", "push", str(program.project.patch(EDITS[0]))]
    outer, inner = os.openpty()
    done = subprocess.run(
        command, cwd=program.project.directory, env={**program.environment, "COLUMNS": "120"}, stdout=inner, timeout=60
    )
    os.close(inner)
    shown = os.read(outer, 1 << 20).decode(errors="replace")  # a terminal gives it in pieces
    os.close(outer)

    assert done.returncode == 0
    assert "committed" in shown
    assert "\x1b[" in shown


def test_status_says_what_is_live_since_when_and_by_whom(program: Program) -> None:
    assert program.push(EDITS[0]).code == 0
    child = program.fork()
    shown = program.cli("status").out

    assert str(program.pid) in shown
    assert str(child) in shown
    assert "answer" in shown
    assert "a process that starts now has" in shown
    assert "not all the same" not in shown
    told = program.cli("status", "--json").json
    assert told["differ"] is False
    assert {process["pid"] for process in told["processes"]} == {program.pid, child}


def test_status_says_that_what_is_in_quarantine_is_withheld_and_why(program: Program) -> None:
    patch = program.project.patch(EDITS[0])
    assert program.cli("push", patch).code == 0
    made = artefact.load(str(patch))
    Quarantine(StateDirectory(program.state)).add(made.manifest.body_sha256, "process 7 died of it")
    build_id, name = made.manifest.build_id, f"{made.manifest.sequence:020}.hotpatch"
    shown = program.cli("status").out.splitlines()
    told = program.cli("status", "--json").json

    assert shown[-1] == (
        f"a process that starts now has the base {build_id[:12]}: {name} is withheld, "
        "it is in quarantine: process 7 died of it"
    )
    assert not any(f"now has {name}" in line for line in shown)
    assert told["withheld"] == {build_id: "it is in quarantine: process 7 died of it"}


def test_the_socket_of_a_process_that_is_gone_makes_no_push_partial(program: Program) -> None:
    gone = program.fork()
    os.kill(gone, signal.SIGKILL)
    wait_until(lambda: look(gone) is None)
    (program.state / "sockets" / f"{gone}.sock").touch()
    outcome = program.push(EDITS[0], "--pid", program.pid)

    assert outcome.code == 0, outcome
    assert outcome.json["partial"] is False
    assert list(program.status()["current"].values()) != ["base"]
    assert PARTIAL not in outcome.err


@pytest.mark.parametrize("options", [(), ("--json",)])
def test_a_push_that_leaves_processes_out_says_who_does_not_get_it(program: Program, options: tuple[str, ...]) -> None:
    child = program.fork()
    patch = program.project.patch(EDITS[0])
    outcome = program.cli("push", patch, "--pid", child, *options)

    assert outcome.code == 0, outcome
    assert [PARTIAL in line for line in (outcome.out + outcome.err).splitlines()].count(True) == 1
    assert set(program.status()["current"].values()) <= {"base"}
    assert PARTIAL not in program.cli("push", patch).out


def test_the_log_tells_who_pushed_what_and_what_came_of_it(program: Program) -> None:
    assert program.push(EDITS[0]).code == 0
    assert program.cli("rollback").code == 0
    shown = program.cli("log").out
    events = [json.loads(line) for line in program.cli("log", "--json").out.splitlines()]

    assert "push.requested" in shown
    assert "push.finished" in shown
    finished = [event for event in events if event["event"] == "push.finished"]
    assert [(event["kind"], event["outcome"]) for event in finished] == [("push", "done"), ("rollback", "done")]
    assert all(event["user"] and event["build_id"] for event in finished)
    assert len(program.cli("log", "-n", 1).out.splitlines()) == 1


def test_doctor_looks_at_the_host_the_state_and_the_processes(program: Program) -> None:
    outcome = program.cli("doctor", "--json")

    assert outcome.code == 0, outcome
    verdicts = {finding["about"]: finding["verdict"] for finding in outcome.json["findings"]}
    assert verdicts["core sync"] == verdicts["state directory"] == verdicts[f"process {program.pid}"] == "yes"
    told = program.cli("doctor").out
    assert "ptrace" in told
    (line,) = (line for line in told.splitlines() if line.startswith("process "))
    assert "; prologue slot" in line and "prologue jump" in line


def test_a_rollback_of_a_module_that_is_not_there_names_those_that_are(program: Program) -> None:
    outcome = program.cli("rollback", "colonel")

    assert outcome.code == 4
    assert "no process has loaded colonel" in outcome.err
    assert "kernel" in outcome.err


@pytest.mark.parametrize("to", ["7", "soon"])
def test_a_rollback_to_what_is_not_known_is_refused(program: Program, to: str) -> None:
    assert program.push(EDITS[0]).code == 0
    assert program.cli("rollback", "--to", to).code == 4


def test_a_generation_is_taken_for_the_patch_that_it_is(program: Program) -> None:
    for value in EDITS[:2]:
        assert program.push(value).code == 0

    assert program.cli("rollback", "--to", "1").code == 0
    assert int(program.tell("answer")) == EDITS[0]


def test_a_generation_that_is_not_the_same_everywhere_is_refused(program: Program) -> None:
    assert program.push(EDITS[0]).code == 0
    assert program.push(EDITS[1]).code == 0
    late = subprocess.Popen(
        [sys.executable, "-c", "import hotreload; hotreload.enable(agent=True); import kernel, signal; signal.pause()"],
        cwd=program.project.directory,
        env=program.environment,
    )
    try:
        wait_until(lambda: late.pid in program.answering())
        outcome = program.cli("rollback", "--to", "1")
        assert outcome.code == 4
        assert "generation 1 is not the same patch in every process" in outcome.err
    finally:
        late.kill()
        late.wait()


@pytest.mark.parametrize("broken", [lambda: 1 / 0, lambda: {}["x"]])
def test_an_error_of_our_own_has_an_exit_code_of_its_own(
    broken: Callable[[], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    from hotreload.cli import push_commands

    def fail(options: object) -> int:
        broken()
        return 0

    monkeypatch.setattr(push_commands, "status", fail)
    assert run_command(["status"]) == 70


def test_old_code_that_is_kept_is_a_line_for_each_reason() -> None:
    from hotreload.cli import push_commands

    kept = [{"generation": number, "bytes": 4096, "reason": "retire is off"} for number in (1, 2, 3, 5)]
    kept.append({"generation": 4, "bytes": 8192, "reason": "it owns `calls`"})

    assert list(push_commands._lines_of_kept(7, "kernel", kept)) == [
        "7: kernel keeps generation 1-3, 5 (16 KiB): retire is off",
        "7: kernel keeps generation 4 (8 KiB): it owns `calls`",
    ]


def test_a_rollback_does_not_ask_why_the_file_says_force(program: Program) -> None:
    assert program.push(EDITS[0]).code == 0
    pyproject = program.project.directory / "pyproject.toml"
    pyproject.write_text('[tool.hotreload]\nsettle-policy = "force"\n')
    try:
        pushed, back = program.cli("push", program.project.patch(EDITS[1])), program.cli("rollback")
    finally:
        pyproject.unlink()

    assert (pushed.code, "without a reason" in pushed.err) == (4, True)
    assert (back.code, program.tell("answer")) == (0, "1000")


def test_no_time_at_all_is_refused(program: Program) -> None:
    outcome = program.cli("push", program.project.patch(EDITS[0]), "--settle", "0")

    assert (outcome.code, "--policy force" in outcome.err) == (4, True)


def test_a_process_that_does_not_answer_may_have_one_open(program: Program) -> None:
    os.kill(program.pid, signal.SIGSTOP)
    try:
        outcome = program.cli("transition", "--timeout", "500ms")
    finally:
        os.kill(program.pid, signal.SIGCONT)

    assert outcome.code == 5
    assert f"{program.pid}: stopped by a signal" in outcome.out
    assert "no transition is open in the processes that answer" in outcome.out
