"""An agent and a module of Python: what it refuses, what it restores, and when."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from hotreload import signing
from hotreload.push.records import ProcessStatus
from hotreload.state import BaseTexts
from tests.agent.kit import Refused, refusal_of
from tests.agent.textkit import PRICED, TextApplication, forged

EDITED = PRICED.replace("2 * n", "3 * n")
#: price() as it was, and everything below it on other lines.
MOVED = EDITED.replace("    return 3 * n\n", "    n = 3 * n\n    return n\n")


@pytest.fixture
def priced(tmp_path: Path) -> Iterator[TextApplication]:
    application = TextApplication(tmp_path)
    yield application
    application.close()


def test_both_phases_and_the_way_back(priced: TextApplication) -> None:
    program = priced.start_priced()
    artefact = priced.artefact_of(EDITED)
    prepared = priced.prepare(program, "p1", artefact)
    assert prepared["functions"] == ["price"]
    assert prepared["may_veto"] is True
    assert priced.answers(program) == (20, 10)
    assert priced.ask(program, "commit", push="p1")["generation"] == 1
    assert priced.answers(program) == (30, 10)

    back = {"push": "r1", "build_id": artefact.manifest.build_id, "to": 0, "deadline": 5}
    priced.ask(program, "prepare-rollback", **back)
    priced.ask(program, "commit", push="r1")
    assert priced.answers(program) == (20, 10)
    assert priced.audit("agent.prepared")[0]["code"] == "python"


def test_a_trial_goes_back_by_itself(priced: TextApplication) -> None:
    program = priced.start_priced()
    priced.prepare(program, "p1", priced.artefact_of(EDITED))
    priced.ask(program, "commit", push="p1", hold=60.0)
    assert priced.answers(program) == (30, 10)
    priced.ask(program, "abort", push="p1")
    assert priced.answers(program) == (20, 10)


def test_what_is_refused_leaves_the_process_as_it_was(priced: TextApplication) -> None:
    """One process for all of it: the policy is read for each request."""
    policy = priced.directory / "policy.toml"
    policy.write_text("")
    policy.chmod(0o644)
    program = priced.start_priced(HOTRELOAD_POLICY=str(policy))
    artefact, moved = priced.artefact_of(EDITED), priced.artefact_of(MOVED)
    assert moved.manifest.compiler_changed == ("tax",)

    def refused(what: object) -> str:
        return refusal_of(priced.prepare, program, "p1", what)

    policy.write_text('modules = ["shop.*"]')
    assert refused(artefact) == "MODULE"
    policy.write_text('functions = ["tax"]')
    assert refused(artefact) == "FUNCTION"
    policy.write_text('functions = ["price"]')
    assert refused(priced.artefact_of(EDITED + "\n\ndef discount():\n    return 1\n")) == "FUNCTION"

    policy.write_text("")
    assert refused(priced.artefact_of(EDITED, base=PRICED + "# deployed since")) == "OTHER_BUILD"
    assert refused(priced.artefact_of(EDITED, module="stock", base=PRICED + "# deployed since")) == "NOT_LOADED"

    key, stranger = signing.new_key(), signing.new_key()
    policy.write_text(f'signature = "required"\nkeys = ["{signing.public_key_text(signing.public_key(key))}"]')
    assert refused(artefact) == "SIGNATURE_MISSING"
    assert refused(signing.sign(artefact.raw, stranger)) == "SIGNATURE_FOREIGN"
    assert refused(signing.sign(artefact.raw, key).replace(b"return 3", b"return 9")) == "SIGNATURE_BAD"
    policy.write_text("")
    assert refused(artefact.raw.replace(b"return 3", b"return 9")) == "ARTEFACT"

    priced.quarantine.add(artefact.manifest.body_sha256, "a process died of it")
    assert refused(artefact) == "QUARANTINED"
    with pytest.raises(Refused, match="level"):
        priced.prepare(program, "p1", moved, level="request")

    assert priced.answers(program) == (20, 10)
    policy.write_text('functions = ["price"]')
    priced.push(program, "p2", moved)  # tax() only stands on another line
    assert priced.answers(program) == (30, 10)


def test_the_names_in_front_of_a_text_are_held_against_the_text(priced: TextApplication) -> None:
    program = priced.start_priced()
    artefact = priced.artefact_of(EDITED)
    for head in ({"functions": ()}, {"functions": (), "moved": ("price",)}):
        raw = forged(artefact, {"changed": (), "compiler_changed": head.get("moved", ())}, **head)
        assert refusal_of(priced.prepare, program, "p1", raw) == "UNNAMED"
    assert priced.answers(program) == (20, 10)
    assert priced.status(program)["modules"][0]["generation"] == 0


# A process that starts later --------------------------------------------------------------------------------------------


def test_the_current_text_is_there_when_the_import_returns(priced: TextApplication) -> None:
    priced.store(priced.artefact_of(EDITED))
    program = priced.start_priced()

    assert program.stdout[-1].split()[1:3] == ["30", "10"]
    assert priced.audit("patch.restored")[0]["code"] == "python"
    assert BaseTexts(priced.state).get(priced.artefact_of(EDITED).manifest.build_id) == PRICED.encode()


def test_it_is_there_when_the_import_that_marks_returns(priced: TextApplication) -> None:
    """The functions of one module are marked by another."""
    bare = PRICED.replace("register(price)\nregister(tax)\n", "")
    priced.source.write_text(bare)
    (priced.directory / "marks.py").write_text(
        "import priced\nfrom hotreload.python import register\nregister(priced.price)\nregister(priced.tax)\n"
    )
    priced.store(priced.artefact_of(bare.replace("2 * n", "3 * n"), base=bare))
    program = priced.start_priced("import marks")

    assert program.stdout[-1].split()[1:3] == ["30", "10"]


def test_what_was_imported_before_the_agent_came_gets_it_too(priced: TextApplication) -> None:
    priced.store(priced.artefact_of(EDITED))
    server = f"import sys, time\nsys.path.insert(0, {str(priced.directory)!r})\nimport priced\nimport hotreload\n"
    server += "hotreload.enable(agent=True)\nprint('ready ', priced.price(10), flush=True)\ntime.sleep(60)\n"

    assert priced.start(server=server).stdout[-1].split()[1] == "30"


def test_a_script_has_it_when_the_agent_is_asked_next(priced: TextApplication) -> None:
    script = PRICED + (
        "\n\nif __name__ == '__main__':\n    import os, time\n    import hotreload\n\n    print('ready ', flush=True)\n"
        "    while True:\n        time.sleep(0.01)\n        os.write(1, b'now %d\\n' % price(10))\n"
    )
    script = "import hotreload\n\nhotreload.enable(agent=True)\n" + script
    priced.store(priced.artefact_of(script.replace("2 * n", "3 * n"), base=script, module="__main__"))
    program = priced.start(server=script)
    program.wait_line("now 20")
    priced.status(program)

    program.wait_line("now 30")


def test_a_text_that_was_deployed_since_starts_from_its_own_base(priced: TextApplication) -> None:
    priced.store(priced.artefact_of(EDITED))
    priced.source.write_text(PRICED.replace("2 * n", "5 * n"))

    assert priced.start_priced().stdout[-1].split()[1:3] == ["50", "10"]
    assert priced.audit("patch.restored") == []


def test_a_text_that_may_not_be_pushed_any_more_is_withheld(priced: TextApplication) -> None:
    priced.store(priced.artefact_of(EDITED))
    policy = priced.directory / "policy.toml"
    policy.write_text('functions = ["tax"]')
    policy.chmod(0o644)

    assert priced.start_priced(HOTRELOAD_POLICY=str(policy)).stdout[-1].split()[1:3] == ["20", "10"]
    (withheld,) = priced.audit("patch.withheld")
    assert withheld["error"]["status"] == "FUNCTION"


def test_a_module_that_fails_to_import_fails_as_it_would_have(priced: TextApplication) -> None:
    priced.store(priced.artefact_of(EDITED))
    (priced.directory / "broken.py").write_text(PRICED + "1 / 0\n")
    server = "try:\n    import broken\nexcept ZeroDivisionError:\n    pass"

    assert priced.start_priced(server).stdout[-1].split()[1:3] == ["30", "10"]


def test_a_text_that_was_saved_between_import_and_mark_is_another_build_to_every_push(priced: TextApplication) -> None:
    """What is loaded is not known: a push of the module must not pass over such a process."""
    priced.source.write_text(PRICED.replace("register(price)\nregister(tax)\n", ""))
    save = f"import priced; open(priced.__file__, 'w').write({EDITED!r})\n"
    mark = "from hotreload.python import register; register(priced.price)"
    program = priced.start_priced(save + mark, PYTHONDONTWRITEBYTECODE="")  # its cache file tells
    status = ProcessStatus.of_reply(priced.status(program))
    artefact = priced.artefact_of(EDITED.replace("3 * n", "4 * n"), base=EDITED)

    assert "saved while it was being imported" in priced.audit("patch.withheld")[0]["error"]["message"]
    assert [module["poisoned"] for module in status.raw["modules"]] != [None]
    other = status.other_build("priced", artefact.manifest.build_id)
    assert other is not None
    assert other.build_id == "unknown"
    assert refusal_of(priced.prepare, program, "p1", artefact) != "nothing was refused"
