from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import hotreload
from hotreload.cli.commands import run_command, split_program
from hotreload.cli.tree import COMMANDS, make_parser
from hotreload.config import Config
from hotreload.errors import HotReloadError
from hotreload.run.launcher import command_of
from tests.run.harness import environment


def cli(*arguments: str, cwd: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "hotreload", *arguments],
        capture_output=True,
        text=True,
        cwd=cwd,
        env={**os.environ, **environment},
        timeout=60,
    )


def test_version() -> None:
    assert cli("--version").stdout == f"hotreload {hotreload.__version__}\n"


def test_without_a_command_it_says_what_there_is() -> None:
    done = cli()

    assert done.returncode == 0
    assert all(command in done.stdout for command in ("run", "build", "cc"))


def test_an_unknown_command_is_a_usage_error() -> None:
    done = cli("rnu")

    assert done.returncode == 2
    assert "rnu" in done.stderr


def test_run_explains_itself() -> None:
    assert "--log-format" in cli("run", "--help").stdout


def test_run_without_a_program_is_a_usage_error() -> None:
    for arguments in (["run"], ["run", "--polling"], ["run", "--"], ["run", "-m"]):
        assert cli(*arguments).returncode == 2, arguments


def test_a_misspelt_setting_stops_it_and_names_the_nearest(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text("[tool.hotreload]\nquiet-mz = 5\n")
    done = cli("run", "app.py", cwd=tmp_path)

    assert done.returncode == 2
    assert "did you mean 'quiet-ms'" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "own", "rest"),
    [
        (["app.py", "--polling"], [], ["app.py", "--polling"]),
        (["--polling", "app.py"], ["--polling"], ["app.py"]),
        (["--log-format", "json", "-m", "app"], ["--log-format", "json"], ["-m", "app"]),
        (["--log-format=json", "--", "gunicorn", "-w", "2"], ["--log-format=json"], ["--", "gunicorn", "-w", "2"]),
        (["--verbose"], ["--verbose"], []),
    ],
)
def test_our_options_end_where_the_program_begins(arguments: list[str], own: list[str], rest: list[str]) -> None:
    assert split_program(make_parser(COMMANDS["run"]), arguments) == (own, rest)


def test_what_becomes_of_the_command_line() -> None:
    assert command_of(["app.py", "a"]) == [sys.executable, "app.py", "a"]
    assert command_of(["-m", "app", "a"]) == [sys.executable, "-m", "app", "a"]
    assert command_of(["--", "gunicorn", "-w", "2"]) == ["gunicorn", "-w", "2"]
    with pytest.raises(HotReloadError):
        command_of(["--"])


def test_cc_is_dispatched_before_anything_heavy_is_imported() -> None:
    code = (
        "import sys\n"
        "from types import ModuleType\n"
        "fake = ModuleType('hotreload.build.cc')\n"
        "fake.main = lambda argv: print(argv, 'argparse' in sys.modules) or 5\n"
        "sys.modules['hotreload.build.cc'] = fake\n"
        "from hotreload.cli import main\n"
        "sys.exit(main(['cc', 'gcc', '-c', '--version']))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)

    assert done.stdout == "['gcc', '-c', '--version'] False\n"
    assert done.returncode == 5


def test_run_hands_on_what_is_said_of_threads_and_findings(monkeypatch: pytest.MonkeyPatch) -> None:
    configs: list[Config] = []
    monkeypatch.setattr("hotreload.run.launcher.launch", lambda rest, config: configs.append(config))
    flags = [
        "--allow",
        "variable-type",
        "--level",
        "call",
        "--settle",
        "5",
        "--policy",
        "wait",
        "--allow",
        "type-layout",
    ]
    run_command(["run", *flags, "app.py", "--level", "not ours"])

    (config,) = configs
    assert config.allow == ("variable-type", "type-layout")
    assert (config.level, config.settle, config.settle_policy) == ("call", 5.0, "wait")


@pytest.mark.parametrize(
    ("slug", "said"), [("wrong", "`wrong` is no kind of refusal"), ("no-hook", "`no-hook` cannot be allowed")]
)
def test_run_starts_nothing_where_what_is_to_be_allowed_cannot_be(slug: str, said: str, tmp_path: Path) -> None:
    for flags, variables in ((["--allow", slug], {}), ([], {"HOTRELOAD_ALLOW": f"type-layout,{slug}"})):
        done = cli("run", *flags, "--", sys.executable, "-c", "print('began')", cwd=tmp_path, **variables)
        assert (done.returncode, done.stdout) == (2, "")
        assert said in done.stderr


def test_build_explains_itself() -> None:
    done = cli("build", "--help")

    assert (done.returncode, "usage: hotreload build [--json] [-- COMMAND...]" in done.stdout) == (0, True)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["pusch", "a.c"], "no command 'pusch' (did you mean 'push'?)"),
        (["push", "a.c", "--dri-run"], "did you mean '--dry-run'?"),
        (["run", "--pollin", "app.py"], "did you mean '--polling'?"),
        (["push", "a.c", "--allow", "variable-typ"], "did you mean 'variable-type'?"),
        (["build", "make"], "make: put the build command behind --"),
    ],
)
def test_what_is_mistyped_is_told_with_the_nearest(arguments: list[str], said: str) -> None:
    done = cli(*arguments)

    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr


def test_a_wrong_configuration_is_a_usage_error_for_each_command(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text('[tool.hotreload]\nlevel = "calls"\n')
    (tmp_path / "a.c").touch()
    for arguments in (["run", "app.py"], ["push", "a.c"], ["status"], ["pack", "a.c"], ["config"]):
        done = cli(*arguments, cwd=tmp_path, HOTRELOAD_STATE=str(tmp_path))
        assert (done.returncode, "did you mean 'call'" in done.stderr) == (2, True), arguments


def test_enable_tells_at_once_what_cannot_be_allowed(tmp_path: Path) -> None:
    head = "import hotreload\nfrom hotreload.errors import HotReloadError\n"
    code = f"{head}try:\n    hotreload.enable()\nexcept HotReloadError as error:\n    print(error)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "HOTRELOAD_ALLOW": "no-hook", "XDG_RUNTIME_DIR": str(tmp_path)},
    )

    assert done.stdout.startswith("`no-hook` cannot be allowed"), done
    assert list(tmp_path.iterdir()) == []


def test_a_log_file_gets_every_line_as_json(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text("import sys\n")
    assert cli("run", "--log-file", "log", "--verbose", "app.py", cwd=tmp_path).returncode == 0
    wrong = cli("run", "--log-file", "no/such/log", "app.py", cwd=tmp_path)

    assert wrong.returncode == 2
    assert "cannot write no/such/log" in wrong.stderr


def test_parsers_import_nothing_that_carries_commands_out() -> None:
    code = (
        "import sys; from hotreload.cli.tree import top_parser; top_parser().format_help()\n"
        "heavy = ('rich', 'structlog', 'watchdog', 'shtab', 'hotreload.patch', 'hotreload.push', 'hotreload.live')\n"
        "print([name for name in heavy if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)

    assert done.stdout == "[]\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ["config", "--json", "--level", "x"],
        ["push", "--json"],
        ["show", "--json", "--text"],
        ["sign", "--json"],
        ["build", "--json", "make"],
        ["explain", "--json", "no-such-page"],
        ["status", "--json", "--state", "/nowhere/at/all"],
        ["pushes", "--json"],
    ],
    ids=" ".join,
)
def test_an_error_is_json_and_nothing_else_where_json_is_asked_for(
    arguments: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    code = run_command(arguments)

    told, err = capfd.readouterr()
    answer = json.loads(told)
    assert (answer["ok"], answer["exit"]) == (False, code)
    assert code in (2, 4)
    assert answer["message"]
    assert err == ""


def test_what_a_terminal_has_no_letters_for_is_spelt_out() -> None:
    done = cli("explain", LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0")

    assert (done.returncode, done.stderr) == (0, "")
    assert "python-not-marked" in done.stdout


@pytest.mark.parametrize("closed", ["<&-", "2>&-", "<&- >&- 2>&-"])
def test_streams_may_be_closed(closed: str, tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(
        "import os\n"
        "held = [fd for fd in (0, 1, 2) if os.path.exists(f'/proc/self/fd/{fd}')]\n"
        "import hotreload\n"
        "with open('told', 'w') as told: print(held, hotreload.enable(), file=told)\n"
    )
    command = f"'{sys.executable}' -m hotreload"
    for arguments in ("config", "explain"):
        subprocess.run(["sh", "-c", f"{command} {arguments} {closed}"], capture_output=True, check=True, timeout=60)
    done = subprocess.run(
        ["sh", "-c", f"{command} run app.py {closed}"],
        cwd=tmp_path,
        env=environment(tmp_path),
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert (done.returncode, done.stderr) == (0, "")
    open_ones = [fd for fd, sign in enumerate(("<&-", ">&-", "2>&-")) if sign not in closed.split()]
    assert (tmp_path / "told").read_text() == f"{open_ones} True\n"


def test_doctor_says_no_of_an_application_that_was_asked_for_and_is_not_there(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run_command(["doctor", "--json", "--state", str(tmp_path / "nowhere")]) == 4

    (found,) = [one for one in json.loads(capfd.readouterr().out)["findings"] if one["about"] == "application"]
    assert found["verdict"] == "no"
