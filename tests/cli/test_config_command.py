"""``hotreload config``: what is set, and who says so."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.terminal import HOTRELOAD, in_pipe, on_terminal, plain

PYPROJECT = """\
[project]
name = "shop"

[tool.hotreload]
quiet-ms = 25
level = "call"
allow = ["variable-type"]

[tool.hotreload.policy]
audit = "required"
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "pyproject.toml").write_text(PYPROJECT)
    return tmp_path


def test_in_a_pipe_it_is_a_line_for_each_with_where_it_is_said(project: Path) -> None:
    variables = {"HOTRELOAD_LEVEL": "request", "HOTRELOAD_POLING": "1", "HOTRELOAD_KEY_PASSPHRASE": "secret"}
    done = in_pipe([*HOTRELOAD, "config", "--settle", "5s"], directory=project, **variables)
    lines = done.stdout.splitlines()
    file = project / "pyproject.toml"

    assert done.returncode == 0
    assert f"quiet-ms = 25.0  # {file}:5" in lines
    assert f'allow = ["variable-type"]  # {file}:7' in lines
    assert 'level = "request"  # HOTRELOAD_LEVEL' in lines
    assert "settle = 5.0  # --settle" in lines
    assert "keep = 1  # default" in lines
    assert f'policy.audit = "required"  # {file}:10' in lines
    assert "HOTRELOAD_POLING = \"1\"  # unknown: nothing reads it: did you mean 'HOTRELOAD_POLLING'?" in lines
    assert any(line.startswith("HOTRELOAD_STORE = ") for line in lines)
    assert 'HOTRELOAD_KEY_PASSPHRASE = "(set)"' in done.stdout and "secret" not in done.stdout


def test_for_a_program_it_is_one_document(project: Path) -> None:
    told = json.loads(in_pipe([*HOTRELOAD, "config", "--json"], directory=project).stdout)
    options = {row["name"]: row for row in told["options"]}

    assert told["pyproject"] == str(project / "pyproject.toml")
    assert (options["quiet-ms"]["value"], options["quiet-ms"]["source"]) == (25.0, "file")
    assert options["keep"]["source"] == "default"
    assert {row["name"] for row in told["tables"]} >= {"policy.audit", "policy.users"}


def test_on_a_terminal_it_is_a_table(project: Path) -> None:
    code, shown = on_terminal([*HOTRELOAD, "config"], directory=project, columns=160)

    assert code == 0
    row = next(line for line in plain(shown).splitlines() if line.startswith("quiet-ms"))
    assert "25.0" in row and "milliseconds that a burst of saves must rest" in row


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("quiet-mz = 1", "no key 'quiet-mz' (did you mean 'quiet-ms'?)"),
        ("ui-port = 70000", "out of range: 0 to 65535"),
        ("polling-interval = 0", "out of range: 0.01 to 3600"),
        ('allow = ["variable-typ"]', "did you mean 'variable-type'?"),
        ('allow = ["nix"]', "pyproject.toml: allow: `nix` is no kind of refusal"),
        ("[tool.hotreload.policy]\nuser = []", "a policy has no key user"),
    ],
)
def test_what_means_nothing_is_told_here_and_is_exit_code_2(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "pyproject.toml").write_text(f"[tool.hotreload]\n{text}\n")
    done = in_pipe([*HOTRELOAD, "config"], directory=tmp_path)

    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr


def test_a_policy_file_that_a_variable_names_is_what_holds(project: Path) -> None:
    file = project / "policy.toml"
    file.write_text('modules = ["shop.*"]\n')
    file.chmod(0o644)
    done = in_pipe([*HOTRELOAD, "config"], directory=project, HOTRELOAD_POLICY=str(file))

    assert f'policy.modules = ["shop.*"]  # {file}' in done.stdout
    assert f'policy.audit = "optional"  # {file}' in done.stdout
    assert f"policy.marked-only = false  # {file}" in done.stdout
