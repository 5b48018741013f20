"""From a save to live, in real programs under ``hotreload run``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.run.harness import Program

PRICING = """\
from hotreload.python import register


def hot(function):
    register(function)
    return function


seen = []


@hot
def price(n):
    seen.append(n)
    return n * 2


def unmarked():
    return 1
"""
SERVER = """\
import os, sys, time
import pricing

print("ready", pricing.price(3), flush=True)
if "fork" in sys.argv:
    os.fork()
last = None
while True:
    value = (pricing.price(3), getattr(pricing, "EXTRA", None))
    if value != last:
        os.write(1, f"value {value[0]} {value[1]} kept {len(pricing.seen) > 0}\\n".encode())
        last = value
    time.sleep(0.001)
"""


@pytest.fixture
def run(tmp_path: Path) -> Iterator[tuple]:
    """Starts the server; gives it and its file."""
    source = tmp_path / "pricing.py"
    source.write_text(PRICING)
    (tmp_path / "server.py").write_text(SERVER)
    with ExitStack() as stack:

        def start(*arguments: str, **environment: str) -> Program:
            return stack.enter_context(
                Program(["-m", "hotreload", "run", "server.py", *arguments], directory=tmp_path, **environment)
            )

        yield start, source


def test_a_save_is_live_and_a_broken_one_is_shown_while_the_old_code_serves(run: tuple) -> None:
    start, source = run
    program = start()
    program.wait_line("ready 6")
    program.wait_event("extension.found", module="pricing")

    source.write_text("EXTRA = 5\n" + PRICING.replace("n * 2", "n * EXTRA"))
    line = program.wait_reloads(1)
    program.wait_line("value 15 5 kept True")
    assert (line["outcome"], line["functions"], line["added"]) == ("live", ["price"], ["EXTRA = 5"])
    assert line["generation"] == 1
    assert line["total_ms"] < 5000

    source.write_text(PRICING.replace("n * 2", "n * ("))
    line = program.wait_reloads(2)
    assert line["outcome"] == "build_failed"
    assert f'File "{source}", line 15' in line["diagnostics"]
    assert "SyntaxError" in line["diagnostics"]

    source.write_text(PRICING.replace("return 1", "return 2"))
    line = program.wait_reloads(3)
    assert line["outcome"] == "refused"
    assert "unmarked() changed and is not marked [python-not-marked]" in line["reason"]
    assert "hotpatchable" in line["hint"]

    source.write_text(PRICING.replace("n * 2", "n * 3").replace("return 1", "return 2"))
    line = program.wait_reloads(4)
    program.wait_line("value 9 ")
    assert (line["outcome"], line["functions"]) == ("live", ["price"])
    assert "unmarked() changed and is not marked" in line["notes"][0]

    source.write_text(PRICING)
    line = program.wait_reloads(5)
    assert (line["outcome"], line["generation"]) == ("base", 0)
    program.wait_for(lambda: [each for each in program.stdout if each.startswith("value 6 None")][1:], "no way back")

    source.write_text(PRICING + "# a comment\n")
    line = program.wait_reloads(6)
    assert (line["outcome"], "only comments or spacing differ" in line["reason"]) == ("nothing", True)
    program.end()


def test_forked_processes_each_take_the_save(run: tuple) -> None:
    start, source = run
    program = start("fork")
    program.wait_event("extension.found", module="pricing")
    program.wait_for(lambda: [each for each in program.stdout if each.startswith("value 6")][1:], "no second process")

    source.write_text(PRICING.replace("n * 2", "n * 7"))
    program.wait_for(lambda: [each for each in program.stdout if each.startswith("value 21")][1:], "not in both")


def test_a_file_that_was_edited_before_it_was_imported_is_its_own_base(run: tuple, tmp_path: Path) -> None:
    """And the main script is reloaded too, under its own name."""
    start, _source = run
    script = tmp_path / "server.py"
    text = (
        "import time\nfrom hotreload.python import register\n\ndef f():\n    return 1\n\nregister(f)\n"
        "last = None\nwhile True:\n    value = f()\n    if value != last:\n        print('value', value, flush=True)\n"
        "    last = value\n    time.sleep(0.001)\n"
    )
    script.write_text(text)
    program = start()
    program.wait_line("value 1")
    program.wait_event("extension.found", module="server")
    script.write_text("import json\n" + text.replace("return 1", "return json.dumps([2])"))
    program.wait_line("value [2]")
    program.end()


def test_the_line_for_people_names_module_functions_and_notes(run: tuple) -> None:
    start, source = run
    program = start(HOTRELOAD_LOG_FORMAT="console")
    program.wait_line("ready 6")
    program.wait_for(lambda: [line for line in program.stderr if "extension.found" in line], "not found")
    source.write_text(PRICING.replace("n * 2", "n * 3").replace("seen = []", "seen = [0]"))
    program.wait_line("value 9 ")
    found = program.wait_for(lambda: [line for line in program.stderr if "reload.finished" in line], "no line")
    for part in ("pricing", "price", "live value of seen is kept"):
        assert part in found[0], found[0]
    program.end()
