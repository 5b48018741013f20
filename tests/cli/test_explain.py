"""The pages of refusals and statuses: there is one for each, also in an installed wheel."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from hotreload.agent.refusal import HINTS
from hotreload.cli.commands import run_command
from hotreload.cli.pages import load_pages
from hotreload.diff.verdicts import SLUGS
from tests.cli.terminal import HOTRELOAD, on_terminal, plain

ROOT = Path(__file__).resolve().parents[2]


def statuses_in_the_code() -> set[str]:
    """Every status that anything here refuses with: the core's list, the agent's, and those that are said in place."""
    sources = "".join(path.read_text() for path in (ROOT / "hotreload").rglob("*.py"))
    core = set(re.findall(r"X\((\w+), (?!FINE)", (ROOT / "csrc" / "status.h").read_text())) - {"name"}
    said = re.findall(r'(?:status=|refuse\(\s*)"([A-Z_]+)"', sources)
    return core | set(HINTS) | set(said)


def test_every_refusal_and_every_status_has_a_page() -> None:
    pages = load_pages()
    assert {name for name, page in pages.items() if page.kind == "refusal"} == set(SLUGS)
    assert {name for name, page in pages.items() if page.kind == "status"} - {"ARTEFACT"} == statuses_in_the_code()
    assert all(page.text and page.summary for page in pages.values())


@pytest.mark.parametrize("spelling", ["type-layout", "[type-layout]", "TYPE_LAYOUT", "Type-Layout"])
def test_a_page_is_found_however_it_is_typed(spelling: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["explain", spelling]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("type-layout\n\n**What** A struct, union, class or enumeration")
    assert "**What to do**" in shown


def test_a_typo_is_told_the_nearest_and_is_a_usage_error(capfd: pytest.CaptureFixture[str]) -> None:
    assert run_command(["explain", "type-layot"]) == 2
    assert "did you mean 'type-layout'?" in capfd.readouterr().err
    assert run_command(["explain", "BUSI"]) == 2
    assert "did you mean 'BUSY'?" in capfd.readouterr().err
    assert run_command(["explain", "zzzzzz"]) == 2
    assert "`hotreload explain` lists what there is" in capfd.readouterr().err


def test_without_a_name_there_is_a_line_for_each(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["explain"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(load_pages()) + 2
    assert any(line.startswith("  BUSY  ") for line in lines)


def test_a_program_gets_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["explain", "type-layout", "--json"]) == 0
    page = json.loads(capsys.readouterr().out)
    assert (page["name"], page["kind"], page["allowed"]) == ("type-layout", "refusal", True)


def test_on_a_terminal_it_is_rendered(tmp_path: Path) -> None:
    code, shown = on_terminal([*HOTRELOAD, "explain", "type-layout"], directory=tmp_path)
    assert code == 0
    assert "**What**" not in shown and "What A struct, union" in plain(shown)
    assert "\x1b[1m" in shown


def test_a_wheel_has_the_pages(tmp_path: Path) -> None:
    """Only the Python files are built, as setup.py says; what is installed from them explains."""
    code = "import sys; sys.argv[1:] = ['build_py', '--build-lib', sys.argv[1]]; exec(open('setup.py').read())"
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "lib")], cwd=ROOT, check=True, capture_output=True)
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:  # away from a checkout that has docs/
        for path in (tmp_path / "lib").rglob("*"):
            archive.write(path, path.relative_to(tmp_path / "lib"))
    place = tmp_path / "installed"
    zipfile.ZipFile(tmp_path / "x.zip").extractall(place)
    ask = "import hotreload.cli as c; print(c.__file__); sys.exit(c.main(['explain', 'BUSY']))"
    code = f"import sys; sys.path.insert(0, {str(place)!r}); {ask}"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, env={"PATH": ""})

    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(str(place)) and "Another push, or a transition, is under way" in done.stdout
