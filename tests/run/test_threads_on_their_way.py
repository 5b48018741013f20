"""Under ``hotreload run``: a thread in old code, what is told of it, and what becomes of the next save."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from tests.run import harness
from tests.run.harness import Extension, Program, Start, build

#: nap(wait) is in the middle of itself while Python waits; an edit of shade.h changes it and value().
NAP = """\
static PyObject *nap(PyObject *self, PyObject *wait)
{
    PyObject *result = PyObject_CallObject(wait, NULL);
    if (!result)
        return NULL;
    Py_DECREF(result);
    return PyLong_FromLong(shade(1));
}

static PyMethodDef methods[] = {
    {"nap", nap, METH_O, 0},
"""

SERVER = """\
import sys, threading, time
sys.path.insert(0, {ext!r})
import tiny

awake, asleep = threading.Event(), threading.Event()

def wait():
    asleep.set()
    awake.wait()

def sleep():
    print("nap", tiny.nap(wait), flush=True)

threading.Thread(target=sleep, name="sleeper", daemon=True).start()
asleep.wait()
print("ready", tiny.value(), flush=True)
threading.Thread(target=lambda: (open("wake").read(), awake.set()), daemon=True).start()
last = 0
while True:
    value = tiny.value()
    if value != last:
        print("value", value, flush=True)
        last = value
    time.sleep(0.002)
"""


@pytest.fixture
def extension(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Extension:
    monkeypatch.setattr(harness, "SOURCE", harness.SOURCE.replace("static PyMethodDef methods[] = {\n", NAP))
    return build(tmp_path)


@pytest.fixture
def run(start: Start, tmp_path: Path, extension: Extension) -> Any:
    """Starts the program, with one thread asleep in the extension."""

    def launch(**environment: str) -> Program:
        os.mkfifo(tmp_path / "wake")
        path = tmp_path / "server.py"
        path.write_text(SERVER.format(ext=str(extension.directory)))
        program = start(str(path), **environment)
        program.wait_line("ready 2")
        program.wait_event("extension.found")
        return program

    return launch


def test_after_two_seconds_the_thread_is_left_behind_and_a_warning_says_so(run: Any, extension: Extension) -> None:
    program = run()
    extension.header.write_text(extension.shade("x + 41"))
    program.wait_line("value 42")
    line = program.wait_reloads(1)
    forced = program.wait_event("transition.forced")

    assert (line["outcome"], line["consistency"], line["edited"]) == ("live", "call", ["shade"])
    assert len(line["stragglers"]) == 1
    assert line["stragglers"][0].startswith("sleeper (INSIDE nap+")
    assert (forced["reason"], forced["level"], forced["stragglers"]) == ("development server", "warning", ["sleeper"])
    assert forced["consistency"] == "call"
    assert 1.9 < forced["duration"] < 10


def test_a_save_while_a_thread_is_on_its_way_is_live_when_it_has_been_left_behind(
    run: Any, extension: Extension
) -> None:
    program = run(HOTRELOAD_SETTLE="0.8")
    extension.header.write_text(extension.shade("x + 41"))
    program.wait_reloads(1)
    extension.header.write_text(extension.shade("x + 6"))
    program.wait_line("value 7")

    assert program.wait_reloads(2)["outcome"] == "live"
    assert program.wait_event("transition.forced")


def test_where_it_may_stay_a_save_waits_for_the_thread_and_is_not_lost(
    run: Any, extension: Extension, tmp_path: Path
) -> None:
    program = run(HOTRELOAD_SETTLE_POLICY="wait")
    extension.header.write_text(extension.shade("x + 41"))
    program.wait_reloads(1)
    extension.header.write_text(extension.shade("x + 6"))
    program.wait_reloads(2)
    refused = program.reloads()[1]
    (tmp_path / "wake").write_text("now")
    program.wait_line("value 7")

    assert (refused["outcome"], refused["busy"]) == ("refused", 1)
    assert "sleeper" in refused["reason"]
    assert program.wait_line("nap 2"), "what began in old code has ended in old code"
    assert program.wait_event("patch.delivered")


def test_a_save_of_one_function_does_not_wait_for_anybody(run: Any, extension: Extension) -> None:
    program = run()
    extension.source.write_text(extension.source.read_text().replace("calls++;", "calls += 2;"))
    line = program.wait_reloads(1)

    assert (line["consistency"], line["stragglers"], line["functions"]) == ("function", [], ["value"])
