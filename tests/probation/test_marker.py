"""A process that dies soon after a push leaves one line, and dies as it would have died without it."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from hotreload.live.probation import read_crash
from tests.agent.kit import Application, wait_until
from tests.run.harness import Program

CRASH = "*(volatile long *)(x * 0)"
CALL = "import tiny; tiny.value()"
FAULTHANDLER = "import faulthandler; faulthandler.enable()"


def die(app: Application, program: Program, code: str) -> dict[str, str]:
    """Has the program run ``code``, waits for its end, and returns what the marker's file says."""
    app.do(code)
    program.wait()
    return marker_of(app, program.process.pid)


def marker_of(app: Application, pid: int) -> dict[str, str]:
    found = read_crash((app.state_path / "crashes" / f"crash-{pid}").read_text())
    assert found is not None
    return found


def pushed(app: Application, expression: str, **environment: str) -> Program:
    program = app.start(**environment)
    app.push(program, "p1", app.hot.artefact(expression, sequence=10))
    return program


def lines(program: Program) -> list[str]:
    return [line for line in program.stderr if line.startswith("hotreload: crash")]


@pytest.mark.parametrize("faulthandler", ["none", "before", "after"])
@pytest.mark.parametrize("where", ["main", "thread"])
def test_a_crash_in_new_code_names_it(app: Application, faulthandler: str, where: str) -> None:
    program = app.start(before=FAULTHANDLER if faulthandler == "before" else "")
    artefact = app.hot.artefact(CRASH, sequence=10)
    app.push(program, "p1", artefact)
    code = CALL if where == "main" else "import tiny; threading.Thread(target=tiny.value).start(); time.sleep(60)"
    crash = die(app, program, f"{FAULTHANDLER}; {code}" if faulthandler == "after" else code)

    assert program.process.returncode == -signal.SIGSEGV
    assert (crash["signal"], crash["module"], crash["generation"]) == ("11", "tiny", "1")
    assert crash["function"].startswith("value+0x")
    assert (crash["push"], crash["sha256"]) == ("p1", artefact.sha256)
    assert crash["blame"] == ("new-code-on-stack" if faulthandler == "after" else "new-code")
    assert (crash["tid"] == crash["pid"]) is (where == "main")
    assert len(lines(program)) == 1
    assert any("Fatal Python error" in line for line in program.stderr) is (faulthandler != "none")


def test_a_crash_in_old_code_that_new_code_called_is_the_new_codes(app: Application) -> None:
    crash = die(app, pushed(app, "deref((long *)0) + x"), CALL)

    assert crash["blame"] == "new-code-on-stack"
    assert crash["function"].startswith("value+0x")


def test_a_crash_elsewhere_is_written_down_as_nobodys(app: Application) -> None:
    program = pushed(app, "x + 41")
    crash = die(app, program, "import tiny; tiny.other()")

    assert (crash["blame"], crash["function"], crash["push"]) == ("none", "?", "p1")
    assert program.process.returncode == -signal.SIGSEGV


@pytest.mark.parametrize(
    ("expression", "number"),
    [
        ("(x + 41) / ({ volatile long zero = 0; zero; })", signal.SIGFPE),
        ("(__builtin_trap(), x)", signal.SIGILL),
        ("(abort(), x)", signal.SIGABRT),
    ],
)
def test_every_fatal_signal_is_marked_and_stays_what_it_is(app: Application, expression: str, number: int) -> None:
    program = pushed(app, expression)
    crash = die(app, program, CALL)

    assert program.process.returncode == -number
    assert crash["signal"] == str(int(number))
    assert crash["blame"].startswith("new-code")


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT, signal.SIGFPE, signal.SIGILL])
def test_a_signal_that_was_sent_is_delivered_too(app: Application, number: int) -> None:
    program = pushed(app, "x + 41")
    program.end(number)

    assert program.process.returncode == -number
    crash = marker_of(app, program.process.pid)
    assert (crash["signal"], crash["blame"]) == (str(int(number)), "none")
    assert crash["sender"] == str(__import__("os").getpid())


def test_a_stack_that_overflows_in_the_main_thread_is_marked_where_it_has_a_signal_stack(app: Application) -> None:
    program = app.start(before=FAULTHANDLER)
    header = app.hot.extension.header
    recursive = (
        "long deref(long *);\nstatic long deeper(long x) { volatile char room[4096]; room[0] = (char)x; "
        "return x ? deeper(x + 1) + room[0] : 0; }\n"
        "static inline long shade(long x) { return deeper(x); }\n"
    )
    original = app.hot.extension.shade
    object.__setattr__(app.hot.extension, "shade", lambda expression: recursive)
    try:
        artefact = app.hot.artefact("", sequence=10)
    finally:
        object.__setattr__(app.hot.extension, "shade", original)
    assert header.read_text() == recursive
    app.push(program, "p1", artefact)
    crash = die(app, program, CALL)

    assert program.process.returncode == -signal.SIGSEGV
    assert crash["blame"] == "new-code"
    assert any("Fatal Python error" in line for line in program.stderr)


def test_a_pipe_that_nobody_empties_does_not_keep_it_from_dying(app: Application) -> None:
    program = pushed(app, CRASH)
    app.do(
        "read, write = os.pipe()\nos.dup2(write, 2)\nos.set_blocking(2, False)\n"
        "try:\n    while True: os.write(2, b'x' * 4096)\nexcept BlockingIOError: os.set_blocking(2, True)\n"
        f"{CALL}"
    )
    program.process.wait(10)

    assert program.process.returncode == -signal.SIGSEGV
    assert marker_of(app, program.process.pid)["blame"] == "new-code"


def test_a_host_that_survives_a_signal_has_not_crashed(app: Application) -> None:
    """gunicorn's workers take SIGABRT in Python: the handler is called, and the mark goes when probation is over."""
    program = app.start(
        before="import signal; signal.signal(signal.SIGABRT, lambda *_: print('handled', flush=True))",
        HOTRELOAD_PROBATION="1.5",
    )
    app.push(program, "p1", app.hot.artefact("x + 41", sequence=10))
    program.process.send_signal(signal.SIGABRT)
    program.wait_line("handled")
    path = app.state_path / "crashes" / f"crash-{program.process.pid}"
    wait_until(path.exists, "it is marked")
    wait_until(lambda: not path.exists(), "the mark goes")
    program.process.send_signal(signal.SIGABRT)
    wait_until(lambda: program.stdout.count("handled") == 2, "the handler is still there")

    assert app.quarantine.entries() == {}
    assert not path.exists()


def test_a_signal_that_the_host_ignores_stays_ignored(app: Application) -> None:
    program = app.start(before="import signal; signal.signal(signal.SIGFPE, signal.SIG_IGN)")
    app.push(program, "p1", app.hot.artefact("x + 41", sequence=10))
    program.process.send_signal(signal.SIGFPE)

    assert app.value(program) == 42
    assert not list((app.state_path / "crashes").iterdir())


def caught(pid: int) -> int:
    """The signals that a process has handlers for, as the kernel shows them."""
    text = Path(f"/proc/{pid}/status").read_text()
    return int(next(line.split()[1] for line in text.splitlines() if line.startswith("SigCgt")), 16)


OURS = sum(1 << (n - 1) for n in (signal.SIGSEGV, signal.SIGBUS, signal.SIGILL, signal.SIGFPE, signal.SIGABRT))


def test_the_handlers_are_there_on_probation_only(app: Application) -> None:
    program = app.start(HOTRELOAD_PROBATION="1")
    pid = program.process.pid
    before = caught(pid)
    assert before & OURS == 0
    app.push(pid, "p1", app.hot.artefact("x + 41", sequence=10))
    assert caught(pid) & OURS == OURS
    assert app.status(pid)["probation"][0]["push"] == "p1"
    wait_until(lambda: caught(pid) == before, "probation is over")
    assert app.status(pid)["probation"] == []
    app.push(pid, "p2", app.hot.artefact("x + 42", sequence=11))
    assert caught(pid) & OURS == OURS
    build_id = app.hot.artefact("x + 41", sequence=10).manifest.build_id
    app.ask(pid, "prepare-rollback", push="r1", build_id=build_id, to=0, deadline=5)
    app.ask(pid, "commit", push="r1")

    assert caught(pid) == before, "what was rolled back is not on probation"


def test_after_probation_a_crash_is_only_a_crash(app: Application) -> None:
    program = app.start(HOTRELOAD_PROBATION="0.2")
    app.push(program, "p1", app.hot.artefact(CRASH, sequence=10))
    wait_until(lambda: app.status(program)["probation"] == [], "probation is over")
    app.do(CALL)
    program.wait()

    assert program.process.returncode == -signal.SIGSEGV
    assert not lines(program)


def test_handlers_may_come_and_go_above_ours(app: Application) -> None:
    """faulthandler stands over ours while the next push arms again: they must not call each other for ever."""
    program = app.start()
    app.push(program, "p1", app.hot.artefact("x + 41", sequence=10))
    app.do(f"{FAULTHANDLER}; print('over', flush=True)")
    program.wait_line("over")
    app.push(program, "p2", app.hot.artefact("x + 42", sequence=11))
    app.push(program, "p3", app.hot.artefact(CRASH, sequence=12))
    crash = die(app, program, CALL)

    assert program.process.returncode == -signal.SIGSEGV
    assert (crash["push"], crash["blame"]) == ("p3", "new-code-on-stack")
    assert len(lines(program)) == 1
    assert sum("Fatal Python error" in line for line in program.stderr) == 1


def test_a_handler_that_was_thrown_away_is_installed_again(app: Application) -> None:
    program = app.start()
    app.push(program, "p1", app.hot.artefact("x + 41", sequence=10))
    app.do("import signal; signal.signal(signal.SIGSEGV, signal.SIG_DFL); print('gone', flush=True)")
    program.wait_line("gone")
    app.push(program, "p2", app.hot.artefact(CRASH, sequence=11))

    assert die(app, program, CALL)["push"] == "p2"


def test_a_forked_child_dies_under_its_own_name(app: Application) -> None:
    program = pushed(app, CRASH)
    app.do("import tiny\nif os.fork() == 0:\n    tiny.value()\nprint('status', os.wait()[1], flush=True)")
    assert int(program.wait_line("status ").split()[1]) & 0x7F == signal.SIGSEGV
    wait_until(lambda: app.quarantine.entries() or app.status(program), "somebody looks")

    assert app.quarantine.entries()
    assert app.audit("patch.quarantined")[0]["crashed_pid"] != str(program.process.pid)
