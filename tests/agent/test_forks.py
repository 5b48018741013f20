"""A fork at any moment: the child is whole, has a socket of its own, and shares neither listener nor lock."""

from __future__ import annotations

import os
import signal
import textwrap

import pytest

from tests.agent.kit import Application, refusal_of, wait_until
from tests.run.harness import PATIENCE, Program

#: A child that does what the tests put into ``child/`` as the parent does with ``do/``.
FORK = """
def fork(name):
    pid = os.fork()
    if pid:
        os.write(1, f"{name} is {pid} end\\n".encode())
        return pid
    import tiny
    last = None
    while os.getppid() != 1:
        value = tiny.value()
        if value != last:
            os.write(1, f"{name} computes {value} end\\n".encode())
            last = value
        time.sleep(0.005)
    os._exit(0)
"""


def fork(app: Application, program: Program, name: str = "child") -> int:
    """Has the program fork; returns the child's pid."""
    app.do(f"fork({name!r})")
    return int(program.wait_line(f"{name} is ").split()[2])


@pytest.fixture
def parent(app: Application) -> Program:
    return app.start(after=FORK)


def inodes(pid: int) -> set[str]:
    """The sockets that a process holds open."""
    found = set()
    for name in os.listdir(f"/proc/{pid}/fd"):
        try:
            link = os.readlink(f"/proc/{pid}/fd/{name}")
        except OSError:
            continue
        if link.startswith("socket:"):
            found.add(link)
    return found


def test_a_child_has_an_agent_of_its_own_and_nothing_of_its_parents(app: Application, parent: Program) -> None:
    pid = fork(app, parent)
    assert app.status(pid)["pid"] == pid
    assert app.status(parent)["pid"] == parent.process.pid
    assert app.status(pid)["start_time"] != 0
    assert not inodes(pid) & inodes(parent.process.pid)
    artefact = app.hot.artefact("x + 41", sequence=10)
    app.push(pid, "p1", artefact)

    parent.wait_line("child computes 42 ")
    assert app.value(parent) == 2, "what is pushed to the child is the child's"
    assert app.generation(parent) == 0
    app.push(parent, "p2", app.hot.artefact("x + 6", sequence=11))
    assert app.value(parent) == 7
    assert app.generation(pid) == 1


def test_a_child_of_a_patched_process_has_the_patch_from_its_first_moment(app: Application, parent: Program) -> None:
    app.push(parent, "p1", app.hot.artefact("x + 41", sequence=10))
    pid = fork(app, parent)

    parent.wait_line("child computes 42 ")
    assert not [line for line in parent.stdout if "child computes 2 " in line]
    assert app.generation(pid) == 1
    assert app.status(pid)["modules"][0]["generations"][1]["info"]["push"] == "p1"


@pytest.mark.parametrize("decision", ["commit", "abort"])
def test_a_fork_in_the_middle_of_a_push_settles_like_everybody(
    app: Application, parent: Program, decision: str
) -> None:
    app.prepare(parent, "p1", app.hot.artefact("x + 41", sequence=10), deadline=60)
    pid = fork(app, parent)
    assert app.status(pid)["prepared"]["push"] == "p1"
    assert app.generation(pid) == 0
    app.decisions.decide("p1", decision)
    wait_until(lambda: app.status(pid)["prepared"] is None, "the child settles")
    wait_until(lambda: app.status(parent)["prepared"] is None, "the parent settles")
    expected = {"commit": 42, "abort": 2}[decision]

    parent.wait_line(f"child computes {expected} ")
    assert app.value(parent) == expected
    assert app.generation(pid) == app.generation(parent) == (decision == "commit")
    assert refusal_of(app.ask, pid, "commit", push="p2") == "UNKNOWN_PUSH"


def test_a_child_forked_between_the_phases_answers_the_second(app: Application, parent: Program) -> None:
    artefact = app.hot.artefact("x + 41", sequence=10)
    app.prepare(parent, "p1", artefact, deadline=60)
    pid = fork(app, parent)
    assert app.prepare(pid, "p1", artefact)["staged"] is True
    assert app.ask(pid, "commit", push="p1")["generation"] == 1
    assert app.ask(parent, "commit", push="p1")["generation"] == 1


def test_a_child_forked_during_a_trial_goes_back_with_it(app: Application, parent: Program) -> None:
    app.prepare(parent, "p1", app.hot.artefact("x + 41", sequence=10))
    app.ask(parent, "commit", push="p1", hold=1.5)
    pid = fork(app, parent)
    parent.wait_line("child computes 42 ")
    wait_until(lambda: app.generation(pid) == 0, "the child goes back")

    assert app.decisions.look("p1") == "abort"
    wait_until(lambda: app.value(parent) == 2, "and so does the parent")


def test_forks_while_pushes_come_in_leave_every_process_whole(app: Application, parent: Program) -> None:
    """Children are forked as fast as they can be while every request is under way; each must end as it should."""
    app.do(
        "def storm():\n"
        "    import tiny\n"
        "    count = 0\n"
        "    while not os.path.exists('enough'):\n"
        "        pid = os.fork()\n"
        "        if pid == 0:\n"
        "            before = tiny.value()\n"
        "            os._exit(0 if before in (2, 42, 51) else 1)\n"
        "        assert os.waitpid(pid, 0)[1] == 0\n"
        "        count += 1\n"
        "    print('stormed', count, flush=True)\n"
        "threading.Thread(target=storm).start()"
    )
    first, second = app.hot.artefact("x + 41", sequence=10), app.hot.artefact("x + 50", sequence=11)
    for number in range(15):
        artefact = (first, second)[number % 2]
        app.push(parent, f"p{number}", artefact, rollback=True)
        app.prepare(parent, f"a{number}", (second, first)[number % 2], rollback=True)
        app.ask(parent, "abort", push=f"a{number}")
    (app.directory / "enough").touch()

    assert int(parent.wait_line("stormed ").split()[1]) > 10
    assert app.value(parent) == 42
    assert app.status(parent)["modules"][0]["staged"] == 0


def test_a_child_that_ends_does_not_take_its_parents_socket_along(app: Application, parent: Program) -> None:
    app.do("if os.fork() == 0: sys.exit(0)")
    app.do("os.wait(); print('waited', flush=True)")
    parent.wait_line("waited")

    assert parent.process.pid in app.sockets()
    assert app.status(parent)["pid"] == parent.process.pid


def test_a_parent_that_dies_leaves_its_children_theirs(app: Application) -> None:
    program = app.start(after=FORK.replace("os.getppid() != 1", "True"))
    pid = fork(app, program)
    app.status(pid)
    os.kill(program.process.pid, signal.SIGKILL)
    program.process.wait(PATIENCE)
    try:
        assert app.push(pid, "p1", app.hot.artefact("x + 41", sequence=10))["generation"] == 1
    finally:
        os.kill(pid, signal.SIGKILL)


def test_a_child_takes_pushes_once_its_state_directory_can_be_used(app: Application, parent: Program) -> None:
    app.state_path.chmod(0o755)
    pid = fork(app, parent)
    parent.wait_for(lambda: any("takes no pushes" in line for line in parent.stderr), "it says so")
    assert pid not in app.sockets()
    app.state_path.chmod(0o700)
    wait_until(lambda: pid in app.sockets(), "it has a socket", 10)

    assert app.push(pid, "p1", app.hot.artefact("x + 41", sequence=10))["generation"] == 1
    parent.wait_line("child computes 42 ")
    assert app.status(parent)["pid"] == parent.process.pid


def test_a_daemon_keeps_its_agent(app: Application) -> None:
    """Twice forked, in a session of its own, all descriptors closed: as daemons are made."""
    program = app.start()
    app.do(
        textwrap.dedent(
            """
            if os.fork() == 0:
                os.setsid()
                if os.fork() == 0:
                    out = os.dup(1)
                    os.closerange(3, out); os.closerange(out + 1, 256)
                    os.write(out, f"daemon {os.getpid()} end\\n".encode())
                    end = time.time() + 60
                    while time.time() < end and not os.path.exists('enough'): time.sleep(0.01)
                    os._exit(0)
                os._exit(0)
            os.wait()
            """
        )
    )
    pid = int(program.wait_line("daemon ").split()[1])

    def answers() -> bool:
        try:
            return app.status(pid)["pid"] == pid
        except (OSError, AssertionError):
            return False

    wait_until(answers, "the daemon answers")
    assert app.push(pid, "p1", app.hot.artefact("x + 41", sequence=10))["generation"] == 1
    (app.directory / "enough").touch()


def test_programs_that_are_run_get_nothing_of_the_agent(app: Application, parent: Program) -> None:
    app.do(
        "import subprocess\n"
        "text = subprocess.run(['sh', '-c', 'ls -l /proc/self/fd'], capture_output=True, text=True).stdout\n"
        "print('leaked', [line for line in text.splitlines() if 'socket' in line], flush=True)"
    )

    assert parent.wait_line("leaked ") == "leaked []"


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_multiprocessing_children_have_agents_and_the_patch(app: Application, method: str) -> None:
    app.store(app.hot.artefact("x + 41", sequence=10))
    (app.directory / "work.py").write_text(
        f"import sys\nsys.path.insert(0, {str(app.hot.extension.directory)!r})\nimport os, time\n"
        "import hotreload\nhotreload.enable(agent=True)\n"
        "def work():\n"
        "    import tiny\n"
        "    os.write(1, f'child {os.getpid()} computes {tiny.value()} end\\n'.encode())\n"
        "    while not os.path.exists('enough'): time.sleep(0.01)\n"
    )
    path = app.directory / "main.py"
    path.write_text(
        "import multiprocessing, work\n"
        "if __name__ == '__main__':\n"
        f"    context = multiprocessing.get_context({method!r})\n"
        "    children = [context.Process(target=work.work) for _ in range(2)]\n"
        "    [child.start() for child in children]\n"
        "    [child.join() for child in children]\n"
        "    print('codes', [child.exitcode for child in children], flush=True)\n"
    )
    program = app.launch(str(path))
    program.wait_for(lambda: len([line for line in program.stdout if "computes 42" in line]) == 2, "both compute 42")
    pids = [int(line.split()[1]) for line in program.stdout]
    for number, pid in enumerate(pids):
        assert app.generation(pid) == 1
        assert app.push(pid, f"p{number}", app.hot.artefact("x + 50", sequence=11 + number))["generation"] == 2
    (app.directory / "enough").touch()

    assert program.wait_line("codes") == "codes [0, 0]"
