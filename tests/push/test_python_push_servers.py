"""Functions in Python in servers of other kinds: sync workers, preload, load, a policy, and code that crashes."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Optional

import pytest

from hotreload import signing
from hotreload.push.records import Exit
from hotreload.state import Quarantine, StateDirectory
from tests.push.kit import Load, wait_until
from tests.push.textkit import EDITED, PRICING, RESTING, RestingProject, TextProject, TextServer

BASE = {"/": {1000}, "/total": {1500}, "/empty": {0}}
NEW = {"/": {1002}, "/total": {1504}, "/empty": {3}}


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., TextServer]]:
    servers: list[TextServer] = []

    def begin(project: Optional[TextProject] = None, **options: Any) -> TextServer:
        servers.append(TextServer(project or TextProject(tmp_path), **options))
        servers[-1].wait_until_ready()
        return servers[-1]

    yield begin
    for server in servers:
        server.close()
        print("".join(server.log[-60:]))


def test_workers_that_were_forked_with_the_module_take_it_and_their_successors_inherit_it(
    start: Callable[..., TextServer],
) -> None:
    """sync workers, preload_app: the master has the module too, and takes part."""
    server = start(workers=2, threads=1, options=("--preload", "--worker-class", "sync"))
    done = server.push_text(EDITED)
    assert done.code == Exit.DONE, done
    assert set(done.states().values()) == {"committed"}
    assert len(done.states()) == 3
    assert server.pages() == NEW

    victim = server.worker_pids()[0]
    os.kill(victim, signal.SIGKILL)
    wait_until(lambda: victim not in server.worker_pids() and len(server.answering()) >= 3)
    assert server.pages(24) == NEW
    assert server.cli("rollback").code == Exit.DONE
    assert server.pages() == BASE


def test_no_request_fails_and_none_that_starts_afterwards_is_served_by_old_code(
    start: Callable[..., TextServer],
) -> None:
    server = start(workers=2)
    with Load(server) as load:
        time.sleep(0.3)
        began = time.monotonic_ns()
        assert server.push_text(EDITED).code == Exit.DONE
        live = time.monotonic_ns()
        time.sleep(0.3)
        back = time.monotonic_ns()
        assert server.cli("rollback").code == Exit.DONE
        base = time.monotonic_ns()
        time.sleep(0.3)

    assert load.failed == []
    assert {answer.value for answer in load.between(0, began)} == {1000}
    assert {answer.value for answer in load.between(live, back)} == {1002}
    assert {answer.value for answer in load.between(base, time.monotonic_ns())} == {1000}


def test_a_policy_is_kept_by_every_worker(start: Callable[..., TextServer], tmp_path: Path) -> None:
    policy = tmp_path / "policy.toml"
    key = signing.new_key()
    (tmp_path / "key").write_bytes(key)
    (tmp_path / "key").chmod(0o600)
    policy.write_text('functions = ["Basket.*"]\n')
    policy.chmod(0o644)
    server = start(workers=2, HOTRELOAD_POLICY=str(policy))

    refused = server.push_text(EDITED)
    assert refused.code == Exit.REFUSED
    assert "does not allow the function price" in refused.json["reason"]
    dearer = PRICING.replace("return sum(", "return 1 + sum(")
    assert server.push_text(dearer).code == Exit.DONE

    policy.write_text(f'signature = "required"\nkeys = ["{signing.public_key_text(signing.public_key(key))}"]\n')
    refused = server.push_text(EDITED)
    assert refused.code == Exit.REFUSED
    assert "the artefact is not signed" in refused.json["reason"]
    (tmp_path / "base.py").write_text(PRICING)
    server.project.write(EDITED)
    assert server.cli("pack", "pricing.py", "--base", "base.py", "-o", "fix.hotpatch").code == 0
    assert server.cli("sign", "fix.hotpatch", "--key", "key").code == 0
    assert server.cli("push", "fix.hotpatch").code == Exit.DONE
    assert server.pages() == NEW


def test_a_text_that_a_worker_dies_of_is_in_quarantine(start: Callable[..., TextServer]) -> None:
    server = start(workers=2)
    deadly = PRICING.replace("return 500 * amount", "import ctypes\n    return ctypes.string_at(1)")
    assert server.push_text(deadly).code == Exit.DONE
    with pytest.raises((OSError, ValueError)):
        server.ask("/")

    quarantine = Quarantine(StateDirectory(server.state))
    wait_until(lambda: server.status() and quarantine.entries(), what="nothing is in quarantine")
    refused = server.push_text(deadly)
    assert refused.code == Exit.REFUSED
    assert "the patch is in quarantine" in refused.json["reason"]
    assert server.cli("rollback").code == Exit.DONE
    assert server.pages() == BASE


def test_what_a_new_statement_raises_keeps_every_worker_on_old_code(start: Callable[..., TextServer]) -> None:
    """It is run when it goes live, which is tried everywhere before anything is decided."""
    server = start(workers=2)
    here = str(server.project.directory / "flag")
    victim = server.worker_pids()[0]
    Path(here).write_text(str(victim))
    text = EDITED.replace(
        "ORDERS = []", f"ORDERS = []\nimport os as system\nRATE = 1 / (system.getpid() - int(open({here!r}).read()))"
    )
    refused = server.push_text(text)

    assert refused.code == Exit.REFUSED, refused
    assert f"{victim}: " in refused.json["reason"]
    assert server.pages() == BASE


def test_a_callback_that_says_no_in_one_worker_keeps_all_where_they_are(start: Callable[..., TextServer]) -> None:
    """The way back is promised to all, and is not asked for."""
    server = start(workers=2)
    assert server.push_text(EDITED).code == Exit.DONE
    _told, culprit = server.ask("/veto")
    refused = server.push_text(EDITED.replace("501", "502"))

    assert refused.code == Exit.REFUSED, refused
    assert f"{culprit}: pricing: before_swap refuses the change: RuntimeError: not now" in refused.json["reason"]
    assert server.pages() == NEW
    assert server.cli("rollback").code == Exit.DONE
    assert server.pages() == BASE


def test_a_command_that_is_killed_leaves_every_worker_the_same(start: Callable[..., TextServer]) -> None:
    """Before the decision they have it on trial and go back; after it they keep it, and so does who starts later."""
    server = start(workers=2)
    for step, answer in (("decide", 1000), ("make_current", 1002)):
        killed = server.killed_at(step, 1002)
        assert killed.returncode == -signal.SIGKILL, killed
        wait_until(lambda: all(not process["prepared"] for process in server.answering().values()), 10)
        assert server.answers() == {answer}
    server.project.write(PRICING)
    victim = server.worker_pids()[0]
    os.kill(victim, signal.SIGKILL)
    wait_until(lambda: victim not in server.live() and len(server.live()) == 2)
    assert server.answers() == {1002}


def test_a_thread_that_is_inside_is_named_and_the_others_wait_for_it_or_go_back(
    start: Callable[..., TextServer], tmp_path: Path
) -> None:
    project = RestingProject(tmp_path, RESTING)
    server = start(project, workers=1)
    edited = RESTING.replace("500 * amount", "501 * amount").replace("return 1000", "return 1001")
    project.write(edited)
    with project.resting(server) as request:
        reverted = server.cli("push", "pricing.py", "--json", "--policy", "revert", "--settle", "300ms")
        assert reverted.code == Exit.REVERTED, reverted
        assert "rest" in reverted.json["reason"]

        waits = server.cli("push", "pricing.py", "--json", "--settle", "300ms")
        assert waits.code == Exit.DONE, waits
        (row,) = [row for row in waits.json["processes"] if row["transition"]]
        assert (row["level"], row["transition"]["module"]) == ("call", "pricing")
        assert server.answers(4) == {1000}  # nobody is served by a mixture, so everybody by the old
        told = server.cli("transition").out
        assert "pricing 0 -> " in told
        assert "rest" in told
        assert server.cli("push", "pricing.py", "--json", "--level", "function").code == Exit.NOTHING
        assert request.let_go() == 1000
        wait_until(lambda: server.answers(4) == {1002})
    assert "no transition is open" in server.cli("transition").out
    assert server.cli("rollback").code == Exit.DONE
    assert server.answers(4) == {1000}
