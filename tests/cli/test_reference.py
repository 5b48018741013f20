"""docs/ says of commands and options what the parsers and the configuration say."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

from hotreload.cli.commands import run_command
from hotreload.cli.tree import COMMANDS, make_parser, top_parser
from hotreload.config import OPTIONS, VARIABLES

ROOT = Path(__file__).resolve().parents[2]


def texts() -> dict[str, object]:
    spec = importlib.util.spec_from_file_location("reference", ROOT / "scripts" / "reference.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.TEXTS


@pytest.mark.parametrize("name", ["configuration.md", "commands.md"])
def test_the_page_is_what_the_script_writes(name: str) -> None:
    assert (ROOT / "docs" / name).read_text() == texts()[name](), "run scripts/reference.py"


def test_every_variable_that_is_read_is_known_to_the_table() -> None:
    sources = "".join(path.read_text() for path in (ROOT / "hotreload").rglob("*.py"))
    read = set(re.findall(r"[\"'](HOTRELOAD_[A-Z_]*[A-Z])[\"']", sources))

    assert read <= {*VARIABLES, *(option.variable for option in OPTIONS)}


def test_every_option_says_what_it_is_for() -> None:
    assert [option.key for option in OPTIONS if not option.help] == []


def test_the_list_of_commands_has_all_of_them(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run_command(["--help"])
    shown = capsys.readouterr().out
    assert all(f"    {name}" in shown and command.help.split()[0] in shown for name, command in COMMANDS.items())
    assert top_parser().parse_args(["push", "a.c", "--level", "call"]).level == "call"


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_each_command_explains_itself_with_its_own_exit_codes(name: str) -> None:
    shown = make_parser(COMMANDS[name]).format_help()
    told = set(re.findall(r"^  (\d+) ", shown.split("exit codes:")[1], re.MULTILINE))
    assert told == {str(code) for code in COMMANDS[name].exits}


def test_what_carries_a_command_out_is_there() -> None:
    assert all(callable(command.load()) for command in COMMANDS.values())
