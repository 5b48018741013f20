"""Whoever starts after a push has the patch before its first request, or is told why not and serves the base."""

from __future__ import annotations

import os

from hotreload import signing
from tests.agent.kit import Application, Refused


def test_the_current_patch_is_there_when_the_import_returns(app: Application) -> None:
    artefact = app.hot.artefact("x + 41", sequence=10)
    app.store(artefact)
    program = app.start()

    assert program.stdout[0].endswith(" 42"), "its first value is the new one"
    (module,) = app.status(program)["modules"]
    info = module["generations"][1]["info"]
    assert (info["restored"], info["sha256"], info["sequence"]) == (True, artefact.sha256, 10)
    assert app.audit("patch.restored")[0]["sha256"] == artefact.sha256


def test_what_was_loaded_before_the_agent_came_gets_it_too(app: Application) -> None:
    app.store(app.hot.artefact("x + 41", sequence=10))
    program = app.start(before="import tiny")

    assert program.stdout[0].endswith(" 42")


def test_a_library_that_is_no_module_gets_it_when_somebody_looks(app: Application) -> None:
    app.store(app.hot.artefact("x + 41", sequence=10))
    program = app.start(
        before="import importlib.util, ctypes; path = importlib.util.find_spec('tiny').origin",
        after="look = lambda: 0; ctypes.PyDLL(path)",
    )

    assert app.generation(program) == 1


def test_with_base_as_current_nothing_is_restored(app: Application) -> None:
    artefact = app.hot.artefact("x + 41", sequence=10)
    app.store(artefact)
    app.patches.set_current(artefact.manifest.build_id, "base")
    program = app.start()

    assert program.stdout[0].endswith(" 2")
    assert app.generation(program) == 0


def withheld(app: Application) -> str:
    (entry,) = app.audit("patch.withheld")
    return str(entry["error"].get("status") or entry["error"]["error"])


def test_a_damaged_patch_is_withheld(app: Application) -> None:
    artefact = app.hot.artefact("x + 41", sequence=10)
    app.store(artefact)
    name = app.patches.current_name(artefact.manifest.build_id)
    path = app.state_path / "patches" / artefact.manifest.build_id / name
    path.write_bytes(artefact.raw[:-1])
    program = app.start()

    assert program.stdout[0].endswith(" 2")
    assert withheld(app) == "ARTEFACT"
    program.wait_for(lambda: [line for line in program.stderr if "patch.withheld" in line], "no patch.withheld")


def test_a_patch_that_the_policy_does_not_allow_any_more_is_withheld(app: Application) -> None:
    key = signing.public_key_text(signing.public_key(signing.new_key()))
    (app.directory / "policy.toml").write_text(f'signature = "required"\nkeys = ["{key}"]')
    app.store(app.hot.artefact("x + 41", sequence=10))
    program = app.start(HOTRELOAD_POLICY=str(app.directory / "policy.toml"))

    assert program.stdout[0].endswith(" 2")
    assert withheld(app) == "SIGNATURE_MISSING"


def test_a_locked_process_gets_nothing(app: Application) -> None:
    app.store(app.hot.artefact("x + 41", sequence=10))
    program = app.start(before="hotreload.lock()")

    assert program.stdout[0].endswith(" 2")
    assert withheld(app) == "LOCKED"


def test_a_link_in_the_store_is_not_followed(app: Application) -> None:
    artefact = app.hot.artefact("x + 41", sequence=10)
    app.store(artefact)
    name = app.patches.current_name(artefact.manifest.build_id)
    path = app.state_path / "patches" / artefact.manifest.build_id / name
    other = app.directory / "elsewhere.hotpatch"
    os.rename(path, other)
    path.symlink_to(other)
    program = app.start()

    assert program.stdout[0].endswith(" 2")
    assert withheld(app) == "StateError"


def test_a_module_that_cannot_be_imported_fails_as_it_would_have(app: Application) -> None:
    (app.directory / "broken.so").write_bytes(b"\x7fELF\x02 nothing more")
    program = app.start(
        after="try:\n    from importlib.machinery import ExtensionFileLoader as L\n"
        "    from importlib.util import spec_from_loader, module_from_spec\n"
        "    module_from_spec(spec_from_loader('broken', L('broken', os.path.abspath('broken.so'))))\n"
        "except ImportError as error: print('failed', error.path.endswith('broken.so'), flush=True)"
    )

    assert program.wait_line("failed").split()[1] == "True"


def test_a_push_on_top_of_what_was_restored(app: Application) -> None:
    app.store(app.hot.artefact("x + 41", sequence=10))
    program = app.start()
    app.push(program, "p1", app.hot.artefact("x + 50", sequence=11))
    assert app.value(program) == 51
    build_id = app.hot.artefact("x + 50", sequence=11).manifest.build_id
    app.ask(program, "prepare-rollback", push="r1", build_id=build_id, to=1, deadline=5)
    app.ask(program, "commit", push="r1")

    assert app.value(program) == 42


def test_an_older_patch_is_not_taken_after_a_newer_one_was_restored(app: Application) -> None:
    app.store(app.hot.artefact("x + 50", sequence=11))
    program = app.start()
    try:
        app.prepare(program, "p1", app.hot.artefact("x + 41", sequence=10))
    except Refused as refused:
        assert refused.status == "OLDER"


def test_an_import_and_a_request_at_the_same_time_restore_once(app: Application) -> None:
    app.store(app.hot.artefact("x + 41", sequence=10))
    for _ in range(5):
        program = app.start(
            after="def hammer():\n"
            "    from hotreload.agent.process import current\n"
            "    for _ in range(200): current().restorer.look_around()\n"
            "threads = [threading.Thread(target=hammer) for _ in range(3)]\n"
            "sys.setswitchinterval(1e-5)\n"
            "[thread.start() for thread in threads]"
        )
        assert program.stdout[0].endswith(" 42")
        assert app.generation(program) == 1


def test_an_import_between_the_phases_does_not_break_the_promise(app: Application) -> None:
    """Prepared against the base, and then the older current patch is restored: the push is staged again."""
    program = app.start()
    app.prepare(program, "p1", app.hot.artefact("x + 50", sequence=11))
    app.store(app.hot.artefact("x + 41", sequence=10))
    app.do(
        "from hotreload.agent.process import current\nimport tiny\n"
        "current().restorer.restore(tiny.__file__); print('restored', tiny.value(), flush=True)"
    )
    assert program.wait_line("restored").split()[1] == "42"
    assert app.ask(program, "commit", push="p1")["generation"] == 2

    assert app.value(program) == 51
