"""Every refusal of the list is provoked here, in a real process that is then as it was; the two cannot drift apart."""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from hotreload import signing
from hotreload.agent.refusal import HINTS
from hotreload.agent.sealed import SEALS
from hotreload.wire import encode, receive
from tests.agent.kit import Application, Refused, build_hot, refusal_of, sealed, wait_until
from tests.agent.textkit import PRICED, TextApplication, forged
from tests.run.harness import ROOT

PROVOKED: set[str] = set()


def provokes(name: str) -> Callable:
    """Marks the test of one status; the test returns the status that it saw."""
    PROVOKED.add(name)

    def mark(test: Callable) -> Callable:
        @functools.wraps(test)
        def checked(*arguments: object, **named: object) -> None:
            assert test(*arguments, **named) == name

        return checked

    return mark


def test_every_refusal_is_provoked_and_none_is_invented() -> None:
    assert set(HINTS) == PROVOKED


def raw_ask(app: Application, pid: int, data: bytes, *fds: int) -> dict:
    with app.connect(pid) as sock:
        socket.send_fds(sock, [data], list(fds)) if fds else sock.sendall(data)
        received = receive(sock)
        assert received is not None
        return received[0]


# Threads that do not come over -----------------------------------------------------------------------------------------


@provokes("NO_TRANSITION")
def test_forcing_where_nothing_is_open(app: Application, serving: int) -> str:
    return refusal_of(app.ask, serving, "force", reason="the queue is full")


@provokes("NO_REASON")
def test_forcing_without_a_reason(app: Application, serving: int) -> str:
    assert refusal_of(app.ask, serving, "force") == "NO_REASON"
    artefact = app.hot.artefact("x + 41", sequence=10)
    assert refusal_of(app.prepare, serving, "p1", artefact, policy="force", reason=" ") == "NO_REASON"
    assert app.generation(serving) == 0
    return "NO_REASON"


def test_a_level_that_greenlets_could_not_be_seen_to_keep(app: Application) -> None:
    program = app.start(before='import types; sys.modules["greenlet"] = types.ModuleType("greenlet")')
    artefact = app.hot.artefact("x + 41", sequence=10)
    assert refusal_of(app.prepare, program, "p1", artefact, level="call") == "GREENLETS"
    app.push(program, "p2", artefact, level="function")
    assert app.value(program) == 42


def test_a_level_that_threads_cannot_be_seen_to_keep(app: Application) -> None:
    """Known before it is decided: afterwards it would be too late to refuse."""
    live = Path(__file__).parents[1] / "live"
    program = app.start(
        before=f"sys.path.append({str(live)!r}); import seccomp; seccomp.deny('process_vm_readv', 1)",
    )
    artefact = app.hot.artefact("x + 41", sequence=10)
    assert refusal_of(app.prepare, program, "p1", artefact, level="call") == "NO_SCAN"
    app.push(program, "p2", artefact, level="function")
    assert app.value(program) == 42


# The request -------------------------------------------------------------------------------------------------------


@provokes("BAD_REQUEST")
@pytest.mark.parametrize(
    "fields",
    [
        {"cmd": "explode"},
        {"cmd": None},
        {"cmd": ["status"]},
        {"cmd": "commit"},
        {"cmd": "commit", "push": 7},
        {"cmd": "commit", "push": "../../etc/passwd"},
        {"cmd": "commit", "push": ""},
        {"cmd": "commit", "push": "p" * 65},
        {"cmd": "prepare", "push": "p1", "deadline": "soon"},
        {"cmd": "prepare", "push": "p1", "deadline": True},
        {"cmd": "prepare", "push": "p1", "deadline": -1},
        {"cmd": "prepare", "push": "p1", "deadline": 0},
        {"cmd": "prepare", "push": "p1", "deadline": 1e9},
        {"cmd": "prepare", "push": "p1", "deadline": float("inf")},
        {"cmd": "prepare", "push": "p1", "deadline": float("nan")},
        {"cmd": "commit", "push": "p1", "hold": "long"},
        {"cmd": "prepare-rollback", "push": "p1", "to": 0},
        {"cmd": "prepare-rollback", "push": "p1", "build_id": "../x", "to": 0},
        {"cmd": "prepare-rollback", "push": "p1", "build_id": "ab" * 20, "to": -1},
        {"cmd": "prepare-rollback", "push": "p1", "build_id": "ab" * 20, "to": "base"},
    ],
    ids=str,
)
def test_what_is_not_asked_as_it_must_be(app: Application, serving: int, fields: dict) -> str:
    return raw_ask(app, serving, encode({"v": 1, **fields}))["error"]["status"]


@pytest.mark.parametrize("fields", [{"expect_generation": "x"}, {"rollback": 1}, {"allow_quarantined": "yes"}], ids=str)
def test_options_of_another_kind_are_refused(app: Application, serving: int, fields: dict) -> None:
    artefact = app.hot.artefact("x + 41", sequence=10)
    assert refusal_of(app.prepare, serving, "p1", artefact, **fields) == "BAD_REQUEST"


@provokes("VERSION")
@pytest.mark.parametrize("version", [None, 0, 2, "1", [1]], ids=str)
def test_another_version_of_the_protocol(app: Application, serving: int, version: object) -> str:
    return raw_ask(app, serving, encode({"v": version, "cmd": "status"}))["error"]["status"]


OTHER_USER = """\
import os, socket, sys
sys.path.insert(0, {root!r})
from hotreload.wire import encode, receive
os.chdir({sockets!r})
os.setgroups([])
os.setgid({uid})
os.setuid({uid})
sock = socket.socket(socket.AF_UNIX)
sock.connect("{pid}.sock")
sock.sendall(encode({{"v": 1, "cmd": {cmd!r}, "push": "p1"}}))
reply = receive(sock)[0]
print(reply["ok"], reply.get("error", {{}}).get("status"))
"""


def ask_as(uid: int, app: Application, pid: int, cmd: str) -> str:
    """The answer that another user gets, once somebody has opened the doors for it that are shut by default."""
    sockets = app.state_path / "sockets"
    app.status(pid)
    os.chmod(sockets / f"{pid}.sock", 0o666)
    os.chmod(sockets, 0o711)
    try:
        script = OTHER_USER.format(root=str(ROOT), sockets=str(sockets), uid=uid, pid=pid, cmd=cmd)
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    finally:
        os.chmod(sockets, 0o700)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


needs_root = pytest.mark.skipif(os.getuid() != 0, reason="becomes another user")


@needs_root
@provokes("USER")
def test_another_user(app: Application, serving: int) -> str:
    assert ask_as(65534, app, serving, "status") == "False USER"
    assert ask_as(65534, app, serving, "commit") == "False USER"
    assert app.audit("agent.refused")[-1]["peer_uid"] == 65534
    return "USER"


@needs_root
@provokes("READER")
def test_a_user_who_may_look_and_not_push(app: Application, tmp_path: Path) -> str:
    (tmp_path / "policy.toml").write_text("readers = [65534]\nusers = [65533]\n")
    program = app.start(HOTRELOAD_POLICY=str(tmp_path / "policy.toml"))
    assert ask_as(65534, app, program.process.pid, "status") == "True None"
    assert ask_as(65533, app, program.process.pid, "commit") == "False UNKNOWN_PUSH"
    return ask_as(65534, app, program.process.pid, "abort").split()[1]


@needs_root
def test_by_default_another_user_does_not_even_reach_the_socket(app: Application, serving: int) -> None:
    sockets = app.state_path / "sockets"
    script = OTHER_USER.format(root=str(ROOT), sockets=str(sockets), uid=65534, pid=serving, cmd="status")
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)

    assert "PermissionError" in done.stderr
    assert (sockets / f"{serving}.sock").stat().st_mode & 0o777 == 0o600


@provokes("PEER_GONE")
def test_a_client_that_ended_before_it_was_looked_at(app: Application) -> str:
    """The kernel names a process that is dead: what it asked for is not done. (Linux 6.5 and later can tell.)"""
    program = app.start()
    pid = program.process.pid
    with app.connect(pid) as sock:
        try:
            os.close(int.from_bytes(sock.getsockopt(socket.SOL_SOCKET, 77, 4), "little"))
        except OSError:
            pytest.skip("needs SO_PEERPIDFD")
    app.prepare(program, "p1", app.hot.artefact("x + 41", sequence=10), deadline=60)
    program.process.send_signal(signal.SIGSTOP)
    script = (
        "import os, socket, sys\n"
        f"sys.path.insert(0, {str(ROOT)!r})\n"
        "from hotreload.wire import encode\n"
        f"os.chdir({str(app.state_path / 'sockets')!r})\n"
        "sock = socket.socket(socket.AF_UNIX)\n"
        f"sock.connect('{pid}.sock')\n"
        "sock.sendall(encode({'v': 1, 'cmd': 'commit', 'push': 'p1'}))\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
    program.process.send_signal(signal.SIGCONT)
    assert app.generation(program) == 0
    assert app.value(program) == 2
    return app.audit("agent.refused")[-1]["error"]["status"]


# The artefact ------------------------------------------------------------------------------------------------------


@provokes("NO_ARTEFACT")
def test_a_prepare_without_a_descriptor(app: Application, serving: int) -> str:
    return refusal_of(app.ask, serving, "prepare", push="p1", deadline=5)


def descriptors(tmp_path: Path, raw: bytes) -> dict[str, int]:
    """Things that are not a sealed memfd."""
    plain = tmp_path / "plain.hotpatch"
    plain.write_bytes(raw)
    fds = {
        "a file": os.open(plain, os.O_RDONLY),
        "a directory": os.open(tmp_path, os.O_RDONLY),
        "a pipe": os.pipe()[0],
        "a device": os.open("/dev/zero", os.O_RDONLY),
        "a socket": socket.socket().detach(),
        "memory": os.open("/proc/self/mem", os.O_RDONLY),
        "no seals": sealed(raw, 0),
    }
    import fcntl

    for name in ("WRITE", "SHRINK", "GROW", "SEAL"):
        fds[f"all but {name}"] = sealed(raw, SEALS & ~getattr(fcntl, f"F_SEAL_{name}"))
    return fds


@provokes("NOT_SEALED")
def test_whatever_could_still_be_changed(app: Application, serving: int, tmp_path: Path) -> str:
    raw = app.hot.artefact("x + 41", sequence=10).raw
    for what, fd in descriptors(tmp_path, raw).items():
        try:
            assert refusal_of(app.ask, serving, "prepare", fd, push="p1", deadline=5) == "NOT_SEALED", what
        finally:
            os.close(fd)
    return "NOT_SEALED"


@provokes("TOO_BIG")
def test_an_artefact_that_is_too_big(app: Application, serving: int) -> str:
    fd = os.memfd_create("big", os.MFD_ALLOW_SEALING)
    os.ftruncate(fd, (64 << 20) + 1)
    import fcntl

    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, SEALS)
    try:
        return refusal_of(app.ask, serving, "prepare", fd, push="p1", deadline=5)
    finally:
        os.close(fd)


def test_an_artefact_that_was_changed(app: Application, serving: int) -> None:
    raw = app.hot.artefact("x + 41", sequence=10).raw
    assert refusal_of(app.prepare, serving, "p1", raw[:-1]) == "ARTEFACT"
    assert refusal_of(app.prepare, serving, "p1", raw[:200] + b"\0" + raw[201:]) == "ARTEFACT"
    assert refusal_of(app.prepare, serving, "p1", b"") == "ARTEFACT"


# The policy ----------------------------------------------------------------------------------------------------------


def with_policy(app: Application, text: str) -> int:
    path = app.directory / "policy.toml"
    path.write_text(text)
    return app.start(HOTRELOAD_POLICY=str(path)).process.pid


@provokes("POLICY")
def test_a_policy_that_cannot_be_read_any_more(app: Application) -> str:
    pid = with_policy(app, "")
    (app.directory / "policy.toml").unlink()
    assert app.status(pid)["ok"] is True
    return refusal_of(app.prepare, pid, "p1", app.hot.artefact("x + 41", sequence=10))


@provokes("MODULE")
def test_a_module_that_may_not_be_patched(app: Application) -> str:
    pid = with_policy(app, 'modules = ["shop.*"]')
    artefact = app.hot.artefact("x + 41", sequence=10)
    build_id = artefact.manifest.build_id
    assert refusal_of(app.ask, pid, "prepare-rollback", push="r1", build_id=build_id, to=0, deadline=5) == "MODULE"
    return refusal_of(app.prepare, pid, "p1", artefact)


@provokes("FUNCTION")
def test_a_function_that_may_not_be_patched(app: Application) -> str:
    pid = with_policy(app, 'modules = ["t*"]\nfunctions = ["count"]')
    return refusal_of(app.prepare, pid, "p1", app.hot.artefact("x + 41", sequence=10))


@provokes("UNMARKED")
def test_a_function_that_is_not_marked(app: Application) -> str:
    pid = with_policy(app, "marked-only = true")
    artefact = app.hot.artefact("x + 41", sequence=10)
    with pytest.raises(Refused) as refused:
        app.prepare(pid, "p1", artefact)
    assert "the policy is marked-only, and value is not marked in this process" in refused.value.message
    assert "static inline" in refused.value.error["hint"]
    assert app.generation(pid) == 0

    app.do("import tiny; hotreload.hotpatchable(tiny.count)")
    wait_until(lambda: app.status(pid)["marked"], "it is not marked")
    assert refusal_of(app.prepare, pid, "p2", artefact) == "UNMARKED"  # that was another one

    app.do("hotreload.hotpatchable(tiny.value)")
    wait_until(lambda: len(app.status(pid)["marked"]) > 1, "it is not marked")
    app.push(pid, "p3", artefact)
    assert app.generation(pid) == 1
    assert {mark["name"]: mark["generation"] for mark in app.status(pid)["marked"]} == {
        "tiny.count": 0,
        "tiny.value": 1,
    }
    return refused.value.status


def test_a_table_needs_leave_as_functions_do(app: Application) -> None:
    """An entry that names another function has it called without a redirect."""
    text = app.hot.extension.source.read_text()
    more = text.replace(
        '{"value", value, METH_NOARGS, 0}', '{"value", value, METH_NOARGS, 0}, {"again", value, METH_NOARGS, 0}'
    )
    app.hot.extension.source.write_text(more)
    artefact = app.hot.artefact("x + 1", sequence=10)
    app.hot.extension.source.write_text(text)
    assert (artefact.functions, artefact.tables) == ((), ("methods",))

    pid = with_policy(app, 'functions = ["value"]')
    assert refusal_of(app.prepare, pid, "p1", artefact) == "FUNCTION"
    (app.directory / "policy.toml").write_text("marked-only = true\n")
    with pytest.raises(Refused, match="marked-only, and methods is not marked"):
        app.prepare(pid, "p2", artefact)
    app.do("import tiny; hotreload.hotpatchable(tiny)")
    wait_until(lambda: app.status(pid)["marked"], "it is not marked")
    app.push(pid, "p3", artefact)
    app.do("import tiny; print('again', tiny.again(), flush=True)")
    wait_until(lambda: app.generation(pid) == 1, "it is not live")


def test_signatures_are_asked_for_and_checked(app: Application) -> None:
    ours, theirs = signing.new_key(), signing.new_key()
    (app.directory / "ours.pub").write_text(signing.public_key_text(signing.public_key(ours)))
    pid = with_policy(app, 'signature = "required"\nkeys = ["ours.pub"]')
    plain = app.hot.artefact("x + 41", sequence=10)
    assert refusal_of(app.prepare, pid, "p1", plain) == "SIGNATURE_MISSING"
    assert refusal_of(app.prepare, pid, "p1", signing.sign(plain.raw, theirs)) == "SIGNATURE_FOREIGN"
    signed = signing.sign(plain.raw, ours)
    broken = signed[:-33] + bytes([signed[-33] ^ 1]) + signed[-32:]
    assert refusal_of(app.prepare, pid, "p1", broken) == "SIGNATURE_BAD"
    past = app.hot.artefact("x + 41", sequence=10, expires="2001-01-01T00:00:00Z")
    assert refusal_of(app.prepare, pid, "p1", signing.sign(past.raw, ours)) == "SIGNATURE_EXPIRED"
    app.prepare(pid, "p1", signed)
    app.ask(pid, "commit", push="p1")

    (module,) = app.status(pid)["modules"]
    assert module["generations"][1]["info"]["signer"] == signing.fingerprint(signing.public_key(ours))


def test_a_key_that_is_taken_out_counts_at_once(app: Application) -> None:
    key = signing.new_key()
    text = signing.public_key_text(signing.public_key(key))
    pid = with_policy(app, f'signature = "required"\nkeys = ["{text}"]')
    other = signing.public_key_text(signing.public_key(signing.new_key()))
    signed = signing.sign(app.hot.artefact("x + 41", sequence=10).raw, key)
    app.prepare(pid, "p1", signed)
    app.ask(pid, "abort", push="p1")
    (app.directory / "policy.toml").write_text(f'signature = "required"\nkeys = ["{other}"]')

    assert refusal_of(app.prepare, pid, "p2", signed) == "SIGNATURE_FOREIGN"


def test_an_audit_trail_that_cannot_be_written_refuses_where_it_is_required(app: Application) -> None:
    pid = with_policy(app, 'audit = "required"')
    (app.state_path / "audit.jsonl").unlink()
    (app.state_path / "audit.jsonl").mkdir()
    assert refusal_of(app.prepare, pid, "p1", app.hot.artefact("x + 41", sequence=10)) == "AUDIT"
    assert app.status(pid)["modules"][0]["staged"] == 0
    assert app.status(pid)["prepared"] is None
    (app.directory / "policy.toml").write_text('audit = "optional"')

    assert app.push(pid, "p2", app.hot.artefact("x + 41", sequence=10))["generation"] == 1


@provokes("QUARANTINED")
@pytest.mark.parametrize("which", ["sha256", "body_sha256"])
def test_a_patch_in_quarantine(app: Application, serving: int, which: str) -> str:
    artefact = app.hot.artefact("x + 41", sequence=10)
    app.quarantine.add(artefact.sha256 if which == "sha256" else artefact.manifest.body_sha256, "a process died of it")
    with pytest.raises(Refused, match="a process died of it"):
        app.prepare(serving, "p1", artefact)
    status = refusal_of(app.prepare, serving, "p1", artefact)
    assert app.push(serving, "p1", artefact, allow_quarantined=True)["generation"] == 1
    return status


# What the process is -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["after = hotreload.lock", "before"])
def test_a_locked_process_refuses_for_ever_and_so_do_its_children(app: Application, how: str) -> None:
    lock = {"before": "hotreload.lock()"} if how == "before" else {"after": "hotreload.lock()"}
    program = app.start(**lock)
    artefact = app.hot.artefact("x + 41", sequence=10)
    assert app.status(program)["locked"] is True
    assert refusal_of(app.prepare, program, "p1", artefact) == "LOCKED"
    build_id = artefact.manifest.build_id
    assert refusal_of(app.ask, program, "prepare-rollback", push="r", build_id=build_id, to=0, deadline=5) == "LOCKED"
    app.do("if os.fork() == 0: print('child', os.getpid(), flush=True); time.sleep(60)")
    child = int(program.wait_line("child ").split()[1])

    assert refusal_of(app.prepare, child, "p1", artefact) == "LOCKED"


def test_a_lock_between_the_phases_does_not_break_the_promise(app: Application) -> None:
    program = app.start()
    first = app.hot.artefact("x + 41", sequence=10)
    app.prepare(program, "p1", first)
    app.do("hotreload.lock(); print('locked', flush=True)")
    program.wait_line("locked")

    assert app.ask(program, "commit", push="p1")["generation"] == 1
    assert refusal_of(app.prepare, program, "p2", app.hot.artefact("x + 50", sequence=11)) == "LOCKED"


@provokes("NOT_LOADED")
def test_a_module_that_is_not_loaded(app: Application) -> str:
    server = (
        "import hotreload, os, sys, time\nhotreload.enable(agent=True)\nprint('ready ', flush=True)\ntime.sleep(60)\n"
    )
    program = app.start(server=server)
    assert app.status(program)["modules"] == []
    return refusal_of(app.prepare, program, "p1", app.hot.artefact("x + 41", sequence=10))


@provokes("OTHER_BUILD")
def test_another_build_of_the_module(app: Application, serving: int, tmp_path: Path) -> str:
    (tmp_path / "other").mkdir()
    mine = app.hot.extension.source.read_text()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOTRELOAD_STORE", str(tmp_path / "other" / "store"))
        other = build_hot(tmp_path / "other")
        other.extension.source.write_text(mine.replace("calls++", "calls += 3"))
        with pytest.raises(Refused, match="is the build"):
            app.prepare(serving, "p1", rebuilt(other).artefact("x + 41", sequence=10))
        return refusal_of(app.prepare, serving, "p1", rebuilt(other).artefact("x + 41", sequence=10))


def test_another_build_of_a_module_in_a_package(app: Application, tmp_path: Path) -> None:
    """The artefact says ``tiny``, the process ``shop.tiny``."""
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "__init__.py").touch()
    for library in app.hot.extension.directory.glob("tiny*.so"):
        shutil.copy(library, tmp_path / "shop")
    program = app.start(
        server=f"import sys, time\nsys.path.insert(0, {str(tmp_path)!r})\nimport hotreload\n"
        "hotreload.enable(agent=True)\nimport shop.tiny\nprint('ready ', flush=True)\ntime.sleep(60)\n"
    )
    assert [module["name"] for module in app.status(program)["modules"]] == ["shop.tiny"]
    (tmp_path / "other").mkdir()
    mine = app.hot.extension.source.read_text()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOTRELOAD_STORE", str(tmp_path / "other" / "store"))
        other = build_hot(tmp_path / "other")
        other.extension.source.write_text(mine.replace("calls++", "calls += 3"))
        artefact = rebuilt(other).artefact("x + 41", sequence=10)
    assert refusal_of(app.prepare, program, "p1", artefact) == "OTHER_BUILD"


def rebuilt(hot):
    """The same module from other source."""
    from tests.run import harness

    text = hot.extension.source.read_text()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(harness, "SOURCE", text)
        from tests.agent.kit import build_hot as again

        return again(hot.directory)


@provokes("UNNAMED")
def test_a_text_that_changes_more_than_is_named_in_front_of_it(tmp_path: Path) -> str:
    with contextlib.closing(TextApplication(tmp_path)) as priced:
        program = priced.start_priced()
        artefact = priced.artefact_of(PRICED.replace("2 * n", "3 * n"))
        return refusal_of(priced.prepare, program, "p1", forged(artefact, {"changed": ()}, functions=()))


@provokes("TWICE")
def test_a_module_that_is_loaded_twice(app: Application) -> str:
    program = app.start(
        after="import ctypes, shutil, tiny; shutil.copy(tiny.__file__, 'copy.so'); ctypes.PyDLL('./copy.so')"
    )
    return refusal_of(app.prepare, program, "p1", app.hot.artefact("x + 41", sequence=10))


def test_another_artefact_under_the_name_of_a_push_that_is_prepared(app: Application, serving: int) -> None:
    app.prepare(serving, "p1", app.hot.artefact("x + 41", sequence=10))
    assert refusal_of(app.prepare, serving, "p1", app.hot.artefact("x + 42", sequence=11)) == "BAD_REQUEST"


@provokes("GENERATION")
def test_a_push_that_expects_another_generation(app: Application, serving: int) -> str:
    artefact = app.hot.artefact("x + 41", sequence=10)
    build_id = artefact.manifest.build_id
    ask = functools.partial(app.ask, serving, "prepare-rollback", push="r1", build_id=build_id, deadline=5)
    assert refusal_of(ask, to=3) == "GENERATION"
    assert refusal_of(ask, to=0, expect_generation=2) == "GENERATION"
    assert refusal_of(app.prepare, serving, "p1", artefact, expect_generation=4) == "GENERATION"
    app.push(serving, "p2", artefact, expect_generation=0)
    return refusal_of(app.prepare, serving, "p3", artefact, expect_generation=0)


@provokes("OLDER")
def test_a_patch_that_is_older_than_what_is_live(app: Application, serving: int) -> str:
    app.push(serving, "p1", app.hot.artefact("x + 50", sequence=11))
    assert refusal_of(app.prepare, serving, "p2", app.hot.artefact("x + 60", sequence=11)) == "OLDER"
    return refusal_of(app.prepare, serving, "p2", app.hot.artefact("x + 41", sequence=10))


def test_a_patch_that_is_older_than_what_was_ever_pushed(app: Application, serving: int) -> None:
    app.patches.put(app.hot.artefact("x + 50", sequence=11))
    assert refusal_of(app.prepare, serving, "p1", app.hot.artefact("x + 41", sequence=10)) == "SEQUENCE_OLD"
    assert app.push(serving, "p1", app.hot.artefact("x + 41", sequence=10), rollback=True)["generation"] == 1


@provokes("BUSY")
def test_a_second_push_at_the_same_time(app: Application, serving: int) -> str:
    app.prepare(serving, "p1", app.hot.artefact("x + 41", sequence=10))
    return refusal_of(app.prepare, serving, "p2", app.hot.artefact("x + 41", sequence=10))


# The two phases ------------------------------------------------------------------------------------------------------


@provokes("UNKNOWN_PUSH")
def test_a_commit_of_what_was_not_prepared(app: Application, serving: int) -> str:
    return refusal_of(app.ask, serving, "commit", push="never")


@provokes("NOT_PREPARED")
def test_a_commit_of_what_was_aborted(app: Application, serving: int) -> str:
    app.prepare(serving, "p1", app.hot.artefact("x + 41", sequence=10))
    app.ask(serving, "abort", push="p1")
    return refusal_of(app.ask, serving, "commit", push="p1")


@provokes("DECIDED")
def test_a_prepare_of_what_was_aborted_elsewhere(app: Application, serving: int) -> str:
    app.decisions.decide("p1", "abort")
    return refusal_of(app.prepare, serving, "p1", app.hot.artefact("x + 41", sequence=10))


def test_the_core_says_no_at_stage_and_nothing_is_left(app: Application) -> None:
    """Memory that runs out is one of the core's refusals: it comes through with its call and errno."""
    program = app.start()
    artefact = app.hot.artefact("x + 41", sequence=10)
    app.do(
        "import resource; used = int(open('/proc/self/statm').read().split()[0]) * 4096\n"
        "resource.setrlimit(resource.RLIMIT_AS, (used, resource.RLIM_INFINITY)); print('tight', flush=True)"
    )
    program.wait_line("tight")
    status = refusal_of(app.prepare, program, "p1", artefact)
    assert status in ("NO_MEMORY", "MAP", "NO_ROOM")
    assert app.value(program) == 2
    app.do("resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY,) * 2); print('loose', flush=True)")
    program.wait_line("loose")

    assert app.push(program, "p1", artefact)["generation"] == 1
