"""``hotreload.enable()`` and its kin, in programs that call them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.run.harness import Extension, Program, helper_pids, leftovers

HEAD = """\
import json, logging, os, sys, threading, time
sys.path.insert(0, {ext!r})
import hotreload

def wait_for(condition):
    end = time.monotonic() + 20
    while not condition():
        if time.monotonic() > end:
            raise SystemExit("waited in vain")
        time.sleep(0.005)

def edit(expression):
    with open({header!r}, "w") as file:
        file.write("static inline long shade(long x) {{ return " + expression + "; }}\\n")
"""


@pytest.fixture
def run(tmp_path: Path, extension: Extension):
    programs: list[Program] = []

    def start(text: str, **environment: str) -> Program:
        script = tmp_path / "app.py"
        script.write_text(HEAD.format(ext=str(extension.directory), header=str(extension.header)) + text)
        programs.append(Program([str(script)], directory=tmp_path, **environment))
        return programs[-1]

    yield start
    for program in programs:
        program.__exit__(None, None, None)


def test_enabled_from_code_a_save_goes_live_and_disabled_it_does_not(run, tmp_path: Path) -> None:
    program = run(
        "import tiny\n"
        "assert hotreload.enable() is True\n"
        "assert hotreload.enable() is True\n"
        "edit('x + 41')\n"
        "wait_for(lambda: tiny.value() == 42)\n"
        "print('live', flush=True)\n"
        "hotreload.disable()\n"
        "hotreload.disable()\n"
        "edit('x + 6')\n"
        "time.sleep(0.5)\n"
        "print(tiny.value(), 'HOTRELOAD_SOCKET' in os.environ, threading.active_count(), len(os.listdir('/proc/self/task')))\n"
    )

    assert program.wait() == 0, program.describe()
    assert program.stdout == ["live", "42 False 1 1"]
    assert not helper_pids(tmp_path)
    assert not leftovers(tmp_path)


def test_enabled_again_it_takes_what_was_edited_meanwhile(run) -> None:
    program = run(
        "import tiny\n"
        "for expression, value in (('x + 41', 42), ('x + 6', 7), ('x + 1', 2)):\n"
        "    edit(expression)\n"
        "    hotreload.enable()\n"
        "    wait_for(lambda: tiny.value() == value)\n"
        "    hotreload.disable()\n"
        "print('done')\n"
    )

    assert program.wait() == 0, program.describe()
    assert program.stdout == ["done"]


def test_an_extension_imported_after_enable_is_watched(run) -> None:
    program = run(
        "hotreload.enable()\n"
        "import tiny\n"
        "edit('x + 41')\n"
        "wait_for(lambda: tiny.value() == 42)\n"
        "from importlib.machinery import ExtensionFileLoader as loader\n"
        "wrapped = loader.exec_module\n"
        "hotreload.disable()\n"
        "print(loader.exec_module is wrapped.__wrapped__)\n"
    )

    assert program.wait() == 0, program.describe()
    assert program.stdout == ["True"]


def test_a_forked_child_of_a_program_that_enabled_it_gets_the_patch(run) -> None:
    program = run(
        "import tiny\n"
        "hotreload.enable()\n"
        "pid = os.fork()\n"
        "if pid == 0:\n"
        "    wait_for(lambda: tiny.value() == 42)\n"
        "    os._exit(5)\n"
        "edit('x + 41')\n"
        "wait_for(lambda: tiny.value() == 42)\n"
        "print(os.waitpid(pid, 0)[1] >> 8)\n"
    )

    assert program.wait() == 0, program.describe()
    assert program.stdout == ["5"]


def test_a_process_that_enables_it_after_an_edit_has_the_patch_when_it_is_on(run) -> None:
    program = run(
        "import tiny, subprocess\n"
        "hotreload.enable()\n"
        "edit('x + 41')\n"
        "wait_for(lambda: tiny.value() == 42)\n"
        "code = f'import sys; sys.path.insert(0, {sys.path[0]!r}); import tiny, hotreload; '\n"
        "code += 'before = tiny.value(); hotreload.enable(); print(before, tiny.value())'\n"
        "for _ in range(5): subprocess.run([sys.executable, '-c', code])\n"
    )

    assert program.wait() == 0, program.describe()
    assert program.stdout == ["2 42"] * 5


def test_subscribers_hear_of_swaps_compile_errors_and_refusals(run) -> None:
    program = run(
        "import tiny\n"
        "events = []\n"
        "def broken(event): raise ValueError('theirs')\n"
        "hotreload.subscribe(broken)\n"
        "end = hotreload.subscribe(events.append)\n"
        "hotreload.enable()\n"
        "def of(name, **fields):\n"
        "    return [e for e in list(events) if e['event'] == name and all(e.get(k) == v for k, v in fields.items())]\n"
        "edit('x + 41')\n"
        "wait_for(lambda: of('reload.finished', outcome='live'))\n"
        "assert of('generation.staged') and of('swap.committed')\n"
        "assert of('swap.committed')[0]['generation'] == 1\n"
        "edit('x + oops')\n"
        "wait_for(lambda: of('reload.finished', outcome='build_failed'))\n"
        "assert 'oops' in of('reload.finished', outcome='build_failed')[0]['diagnostics']\n"
        "edit('x + 1')\n"
        "wait_for(lambda: of('reload.finished', outcome='base'))\n"
        "assert of('swap.rolled_back')\n"
        "status = hotreload.status()\n"
        "assert json.dumps(status) and status['modules'][0]['name'] == 'tiny', status\n"
        "end(); end()\n"
        "count = len(events)\n"
        "edit('x + 9')\n"
        "wait_for(lambda: tiny.value() == 10)\n"
        "print(len(events) == count)\n"
    )

    assert program.wait() == 0, program.describe()
    assert program.stdout == ["True"]


def test_hotreload_disable_makes_enable_refuse(run, tmp_path: Path) -> None:
    program = run("print(hotreload.enable())\n", HOTRELOAD_DISABLE="1")

    assert program.wait() == 0
    assert program.stdout == ["False"]
    assert "HOTRELOAD_DISABLE=1" in program.stderr[0]
    assert not leftovers(tmp_path)


def test_the_hosts_logging_stays_as_it_is_and_nothing_heavy_is_imported(run) -> None:
    program = run(
        "def state():\n"
        "    return (logging.root.level, list(logging.root.handlers), logging.getLoggerClass(), sys.excepthook,\n"
        "            sys.stdout, sys.stderr, logging.getLogger('hotreload').handlers)\n"
        "before = state()\n"
        "import tiny\n"
        "hotreload.enable()\n"
        "edit('x + 41')\n"
        "wait_for(lambda: tiny.value() == 42)\n"
        "assert state() == before\n"
        "heavy = ('watchdog', 'rich', 'structlog', 'elftools', 'argparse', 'hotreload.watch', 'hotreload.build')\n"
        "print([name for name in heavy if name in sys.modules])\n"
    )

    assert program.wait() == 0, program.describe()
    assert program.stdout == ["[]"]


def test_the_hosts_structlog_stays_as_it_is(run) -> None:
    program = run(
        "import structlog\n"
        "lines = []\n"
        "structlog.configure(processors=[lambda logger, method, event: lines.append(event) or 'theirs'])\n"
        "before = structlog.get_config()\n"
        "import tiny\n"
        "hotreload.enable()\n"
        "edit('x + 41')\n"
        "wait_for(lambda: tiny.value() == 42)\n"
        "hotreload.disable()\n"
        "print(structlog.get_config() == before, lines)\n"
    )

    assert program.wait() == 0, program.describe()
    assert program.stdout == ["True []"]


def test_a_wrong_configuration_is_an_error_before_anything_starts(run, tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text("[tool.hotreload]\nlogformat = 'json'\n")
    program = run("try:\n    hotreload.enable()\nexcept hotreload.errors.HotReloadError as error:\n    print(error)\n")

    assert program.wait() == 0
    assert "did you mean 'log-format'" in program.stdout[0]
    assert not leftovers(tmp_path)
