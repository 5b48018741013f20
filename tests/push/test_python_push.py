"""Functions in Python go live in every worker, or in none, by the same two phases as functions in C."""

from __future__ import annotations

import os
import signal
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from hotreload.artefact import load
from hotreload.push.records import Exit
from hotreload.python.payload import build_id_of
from tests.push.kit import wait_until
from tests.push.textkit import EDITED, PAGES, PRICING, TextProject, TextServer

BASE = {"/": {1000}, "/total": {1500}, "/empty": {0}}
NEW = {"/": {1002}, "/total": {1504}, "/empty": {3}}
OTHER = EDITED.replace("501", "502")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TextServer]:
    """Three workers with threads; each test begins and ends with the base."""
    running = TextServer(TextProject(tmp_path_factory.mktemp("text")), workers=3)
    try:
        yield running.wait_until_ready()
    finally:
        running.close()
        print("".join(running.log[-60:]))


@pytest.fixture(autouse=True)
def _base_again(request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    if "server" in request.fixturenames:
        server: TextServer = request.getfixturevalue("server")
        server.project.write(PRICING)
        assert server.cli("rollback", "pricing", "--to", "base").code in (Exit.DONE, Exit.NOTHING)


def test_an_edit_is_live_in_every_worker_as_if_they_had_been_started_with_it(
    server: TextServer, tmp_path: Path
) -> None:
    fresh = TextServer(TextProject(tmp_path, EDITED), workers=1)
    try:
        assert server.pages() == BASE
        server.project.write(EDITED)
        done = server.cli("push", "pricing.py", "--json")

        assert done.code == Exit.DONE, done
        assert list(done.states().values()).count("committed") == 3, done
        assert server.pages() == NEW == fresh.wait_until_ready().pages(1)
    finally:
        fresh.close()
    assert {server.ask("/same")[0] for _ in range(12)} == {1}
    assert 0 not in {server.ask("/orders")[0] for _ in range(12)}
    again = server.cli("push", "pricing.py", "--json")
    assert (again.code, again.json["reason"]) == (Exit.NOTHING, "every process has it already")


def test_the_way_back_ends_with_the_bases_own_code(server: TextServer) -> None:
    assert server.push_text(EDITED).code == Exit.DONE
    assert {server.ask("/own")[0] for _ in range(12)} == {0}
    assert server.push_text(OTHER).code == Exit.DONE
    assert server.cli("rollback").code == Exit.DONE
    assert server.pages() == NEW
    assert server.cli("rollback").code == Exit.DONE

    assert server.pages() == BASE
    assert {server.ask("/own")[0] for _ in range(12)} == {1}


def test_the_first_text_again_is_the_way_back_and_then_nothing_to_do(server: TextServer) -> None:
    assert server.push_text(EDITED).code == Exit.DONE
    assert server.push_text(PRICING).code == Exit.DONE
    assert server.pages() == BASE

    again = server.cli("push", "pricing.py")
    assert again.code == Exit.NOTHING
    assert "pricing.py: the text is the one that was loaded" in again.out
    server.project.write(PRICING + "# a remark\n")
    assert "only comments or spacing differ" in server.cli("push", "pricing.py").out
    server.project.write(PRICING)


def test_a_worker_that_is_killed_comes_back_with_it(server: TextServer) -> None:
    assert server.push_text(EDITED).code == Exit.DONE
    victim = server.worker_pids()[0]
    os.kill(victim, signal.SIGKILL)
    wait_until(lambda: victim not in server.answering() and len(server.answering()) >= 3)

    assert server.pages(24) == NEW
    restored = [event for event in server.audit() if event["event"] == "patch.restored"]
    assert restored[-1]["code"] == "python"
    assert set(restored[-1]["functions"]) >= {"price", "Basket.total", "Basket.empty"}


def test_a_dry_run_asks_the_workers_and_changes_nothing(server: TextServer) -> None:
    done = server.push_text(EDITED, "--dry-run")

    assert (done.code, done.json["decision"]) == (Exit.DONE, "abort")
    assert "pricing.py is the deployed file" in done.err
    assert all(row["notes"] == [] for row in done.json["processes"])
    assert server.pages() == BASE


@pytest.mark.parametrize(("health", "code", "answers"), [("true", Exit.DONE, NEW), ("false", Exit.REFUSED, BASE)])
def test_a_canary_takes_it_on_trial(server: TextServer, health: str, code: int, answers: dict) -> None:
    done = server.push_text(EDITED, "--canary", 1, "--hold", "100ms", "--health", health)

    assert done.code == code, done
    assert server.pages() == answers


def test_the_base_text_is_kept_for_who_pushes_here(server: TextServer) -> None:
    (kept,) = (server.state / "bases").iterdir()

    assert kept.read_text() == PRICING
    assert kept.stem == build_id_of(PRICING.encode())
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600


def test_status_show_and_log_say_what_it_is(server: TextServer, tmp_path: Path) -> None:
    assert server.push_text(EDITED).code == Exit.DONE
    status = server.cli("status").out
    assert "pricing" in status
    assert "Python" in status
    assert "price" in status
    (module,) = next(iter(server.answering().values()))["modules"]
    assert module["path"] == str(server.project.source)
    assert server.cli("doctor").code == Exit.DONE
    assert "code=python" in server.cli("log", "-n", 12).out

    artefact = max((server.state / "patches").glob("*/*.hotpatch"))  # its number is the time
    shown = server.cli("show", artefact).out
    assert "functions in Python" in shown
    assert "+    return dearer(amount)" in shown
    assert server.cli("show", "--text", artefact).out == EDITED
    assert load(artefact).manifest.sources == ("pricing.py",)


def test_what_is_not_live_although_the_push_is_is_told(server: TextServer) -> None:
    server.project.write(EDITED.replace("return 7", "return 8").replace("ORDERS = []", "ORDERS = [1]"))
    told = server.cli("push", "pricing.py").out

    assert "note: shipping() changed and is not marked: the old code serves" in told
    assert "the live value of ORDERS is kept" in told
    unmarked = server.push_text(PRICING.replace("return 7", "return 9"))
    assert unmarked.code == Exit.REFUSED
    assert "shipping() changed and is not marked" in unmarked.json["reason"]


# What is refused -------------------------------------------------------------------------------------------------------


def test_a_text_that_is_no_python_is_not_sent(server: TextServer) -> None:
    before = len(server.audit())
    refused = server.push_text(PRICING.replace("return 500 * amount", "return 500 *"))

    assert refused.code == Exit.REFUSED
    assert refused.json["error"] == "BuildError"
    assert "pricing.py:17: SyntaxError" in refused.json["message"]
    assert len(server.audit()) == before
    assert server.pages() == BASE


def test_an_edit_that_cannot_go_live_is_refused_by_its_kind(server: TextServer) -> None:
    refused = server.push_text(
        PRICING.replace("    @classmethod\n    def empty(cls)", "    @staticmethod\n    def empty()")
    )

    assert refused.code == Exit.REFUSED
    assert refused.json["error"] == "IncompatibleError"
    assert [finding["slug"] for finding in refused.json["findings"]] == ["python-method-kind"]


def test_a_level_that_python_cannot_keep_is_refused(server: TextServer) -> None:
    refused = server.push_text(EDITED, "--level", "request")

    assert refused.code == Exit.REFUSED, refused
    assert "level" in refused.json["reason"]
    assert server.pages() == BASE


def test_a_module_without_marks_is_refused_with_how_to_mark(server: TextServer) -> None:
    for name in ("app.py", "gunicorn.conf.py"):
        refused = server.cli("push", name)
        assert refused.code == Exit.REFUSED
        assert f"no process has marked functions of {server.project.directory / name}" in refused.err
        assert "@hotpatchable" in refused.err
        assert "marked modules: pricing" in refused.err
    assert "is not there" in server.cli("push", "missing.py").err


def test_a_file_elsewhere_is_pushed_by_build_id(server: TextServer, tmp_path: Path) -> None:
    (tmp_path / "fixed.py").write_text(EDITED)

    assert server.cli("push", tmp_path / "fixed.py").code == Exit.REFUSED
    wrong = server.cli("push", tmp_path / "fixed.py", "--build-id", "feed")
    assert "with build-id feed" in wrong.err
    assert server.cli("push", tmp_path / "fixed.py", "--build-id", build_id_of(PRICING.encode())[:12]).code == Exit.DONE
    assert server.pages() == NEW


def test_a_base_text_that_is_gone_is_asked_for(server: TextServer) -> None:
    (kept,) = (server.state / "bases").iterdir()
    text = kept.read_bytes()
    kept.unlink()
    try:
        refused = server.push_text(EDITED)
        assert refused.code == Exit.REFUSED
        assert "was loaded from is not kept" in refused.json["message"]
        assert "pack NEW.py --base OLD.py" in refused.json["hint"]
    finally:
        kept.write_bytes(text)
        kept.chmod(0o600)


def test_a_worker_that_loaded_another_text_is_named_and_refuses_for_all(server: TextServer) -> None:
    """A deployment that is half done: the file is new, and one worker has been started since."""
    victim = server.worker_pids()[0]
    server.project.write(OTHER)
    os.kill(victim, signal.SIGKILL)
    wait_until(lambda: victim not in server.answering() and len(server.answering()) >= 3)
    (culprit,) = set(server.worker_pids()) & {
        pid
        for pid, process in server.answering().items()
        if process["modules"][0]["build_id"] != build_id_of(PRICING.encode())
    }
    try:
        refused = server.push_text(EDITED)
        assert refused.code == Exit.REFUSED
        assert "the processes have loaded 2 texts" in refused.json["message"]
        assert f"in {culprit}" in refused.json["message"]

        refused = server.push_text(EDITED, "--build-id", build_id_of(PRICING.encode()))
        assert refused.code == Exit.REFUSED
        assert f"{culprit}: has another build of pricing" in refused.json["reason"]
    finally:
        server.project.write(PRICING)
        os.kill(culprit, signal.SIGKILL)
        wait_until(lambda: culprit not in server.answering() and len(server.answering()) >= 3)
    assert server.pages() == BASE


assert PAGES
