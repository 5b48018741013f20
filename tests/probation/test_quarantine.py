"""A patch that a process died of is not given to anybody again, unless somebody says so."""

from __future__ import annotations

import pytest

from hotreload.patch.pack import pack
from tests.agent.kit import Application, Refused, refusal_of, wait_until
from tests.run.harness import ROOT

CRASH = "*(volatile long *)(x * 0)"
DIE = "import tiny; tiny.value()"
START = """
import sys
sys.path.insert(0, {ext!r})
import hotreload
hotreload.enable(agent=True)
import tiny
print(tiny.value())
"""


def test_the_next_start_comes_up_with_the_base(app: Application) -> None:
    artefact = app.hot.artefact(CRASH, sequence=10)
    victim = app.start()
    app.push(victim, "p1", artefact)
    app.store(artefact)
    app.do(DIE)
    victim.wait()
    (app.directory / "do").rename(app.directory / "done")
    (app.directory / "do").mkdir()
    program = app.start()

    assert app.generation(program) == 0
    assert app.value(program) == 2
    why = app.quarantine.find(artefact.sha256)
    assert why is not None
    assert f"process {victim.process.pid} died of signal 11" in why
    assert "push p1" in why
    assert app.audit("patch.withheld")[0]["error"]["status"] == "QUARANTINED"
    assert [line for line in program.stderr if "patch.withheld" in line]
    assert not list((app.state_path / "crashes").iterdir())
    assert app.status(program)["quarantine"][artefact.sha256] == why


def test_it_is_not_pushed_again_even_packed_again_unless_told_so(app: Application) -> None:
    artefact = app.hot.artefact(CRASH, sequence=10)
    victim = app.start()
    app.push(victim, "p1", artefact)
    app.do(DIE)
    victim.wait()
    (app.directory / "do").rename(app.directory / "done")
    (app.directory / "do").mkdir()
    program = app.start()
    assert refusal_of(app.prepare, program, "p2", artefact) == "QUARANTINED"
    with pytest.raises(Refused, match="died of signal 11"):
        app.prepare(program, "p2", app.hot.artefact(CRASH, sequence=12))

    assert app.push(program, "p2", artefact, allow_quarantined=True)["generation"] == 1
    (module,) = app.status(program)["modules"]
    assert module["generations"][1]["info"]["allow_quarantined"] is True


def test_a_restored_patch_is_on_probation_too(app: Application) -> None:
    """A server that is started again and again must not die of it again and again."""
    artefact = app.hot.artefact(CRASH, sequence=10)
    app.store(artefact)
    server = "import sys\nsys.path.insert(0, {ext!r})\nimport hotreload\nhotreload.enable(agent=True)\nimport tiny\nprint(tiny.value())\n"
    path = app.directory / "short.py"
    path.write_text(server.format(ext=str(app.hot.extension.directory)))
    first = app.launch(str(path))
    first.wait()
    second = app.launch(str(path))
    second.wait()

    assert first.process.returncode == -11
    assert second.process.returncode == 0
    assert second.stdout == ["2"]


def test_what_dies_in_a_hook_is_not_restored_again(app: Application) -> None:
    """It runs before anybody could say that the patch is live."""
    header = ROOT / "hotreload" / "include" / "hotreload.h"
    hook = f'\n#include "{header}"\nHOTRELOAD_POST_COMMIT(grow) {{ (void)ctx; return *(volatile int *)0; }}\n'
    app.hot.extension.header.write_text(app.hot.extension.shade("x + 41") + hook)
    packed = pack(app.hot.extension.source, author="a test", sequence=10)
    assert packed is not None
    app.store(packed.artefact)
    first = app.launch("-c", START.format(ext=str(app.hot.extension.directory)))
    first.wait()
    second = app.launch("-c", START.format(ext=str(app.hot.extension.directory)))
    second.wait()

    assert first.process.returncode == -11
    assert (second.process.returncode, second.stdout) == (0, ["2"])
    why = app.quarantine.find(packed.artefact.sha256)
    assert why is not None and "blame=new-code" in why


def test_a_refused_patch_leaves_the_one_before_it_on_probation(app: Application) -> None:
    program = app.start()
    app.push(program, "p1", app.hot.artefact("x + 41", sequence=10))
    header = ROOT / "hotreload" / "include" / "hotreload.h"
    hook = f'\n#include "{header}"\nHOTRELOAD_PRE_COMMIT(idle) {{ return hotreload_veto(ctx, "no"); }}\n'
    app.hot.extension.header.write_text(app.hot.extension.shade("x + 51") + hook)
    packed = pack(app.hot.extension.source, author="a test", sequence=11)
    assert packed is not None
    assert refusal_of(app.push, program, "p2", packed.artefact) == "VETO"
    (entry,) = app.status(program)["probation"]
    assert entry["push"] == "p1"


def test_children_of_a_parent_that_has_it_come_up_without(app: Application) -> None:
    """As with preload_app: the parent holds the patch in memory, a child died of it, the next one goes back first."""
    artefact = app.hot.artefact(CRASH, sequence=10)
    parent = app.start()
    app.push(parent, "p1", artefact)
    app.do(
        "import tiny\n"
        "def fork(call):\n"
        "    pid = os.fork()\n"
        "    if pid == 0:\n"
        "        try: os._exit(tiny.value())\n"
        "        finally: os._exit(99)\n"
        "    return os.waitpid(pid, 0)[1]\n"
        "print('first', fork(0), 'second', os.waitstatus_to_exitcode(fork(0)), flush=True)"
    )
    line = parent.wait_line("first ")

    assert line.split()[3] == "2"
    assert int(line.split()[1]) & 0x7F == 11
    wait_until(lambda: app.generation(parent) in (0, 1), "the parent lives")


def test_one_that_was_pushed_in_spite_of_it_stays_in_children(app: Application) -> None:
    artefact = app.hot.artefact("x + 41", sequence=10)
    app.quarantine.add(artefact.sha256, "somebody thought so")
    parent = app.start()
    app.push(parent, "p1", artefact, allow_quarantined=True)
    app.do("import tiny\nif os.fork() == 0:\n    print('child', tiny.value(), flush=True)\n    os._exit(0)")

    assert parent.wait_line("child ").split()[1] == "42"


def test_a_mark_that_is_cut_short_is_put_away(app: Application) -> None:
    program = app.start()
    (app.state_path / "crashes" / "crash-999999999").write_text("hotreload: crash signal=11 sha256=abc")
    (app.state_path / "crashes" / "crash-999999999").chmod(0o600)
    app.status(program)

    assert app.quarantine.entries() == {}
    assert not list((app.state_path / "crashes").iterdir())


def test_a_process_that_was_killed_did_not_crash(app: Application) -> None:
    artefact = app.hot.artefact("x + 41", sequence=10)
    victim = app.start()
    app.push(victim, "p1", artefact)
    app.store(artefact)
    victim.process.kill()
    victim.wait()
    program = app.start()

    assert app.generation(program) == 1
    assert app.value(program) == 42
    assert app.quarantine.entries() == {}
