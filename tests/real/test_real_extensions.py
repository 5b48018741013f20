"""Real extensions from the package index, unmodified: built hot, tested by their own suites, edited live."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from projects import PROJECTS, Project

HERE = Path(__file__).parent
SDISTS = HERE / "sdists"
PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--quiet", "--no-deps"]

pytestmark = pytest.mark.pypi


@pytest.fixture(scope="session")
def sdists() -> Path:
    """The pinned source distributions, downloaded once and verified by their hashes."""
    wanted = [f"{p.name}-{p.version}.tar.gz" for p in PROJECTS.values()]
    if not all((SDISTS / name).exists() for name in wanted):
        SDISTS.mkdir(exist_ok=True)
        command = [*PIP, "--no-binary", ":all:", "--require-hashes", "-r", str(HERE / "sdists.txt"), "-d", str(SDISTS)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode and not os.environ.get("CI"):
            pytest.skip(f"no package index to download from: {done.stderr[-500:]}")
        assert done.returncode == 0, done.stderr
    return SDISTS


def unpack(project: Project, sdists: Path, directory: Path) -> Path:
    name = f"{project.name}-{project.version}"
    with tarfile.open(sdists / f"{name}.tar.gz") as archive:
        archive.extractall(directory, filter="data") if sys.version_info >= (3, 12) else archive.extractall(directory)
    return directory / name


def run(command: list[str], directory: Path, **environment: str) -> str:
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True, env={**os.environ, **environment})
    assert done.returncode == 0, f"{command} exited {done.returncode}\n{done.stdout[-3000:]}\n{done.stderr[-6000:]}"
    return done.stdout


def plain_answers(project: Project, source: Path, directory: Path) -> list[str]:
    """What a freshly and plainly built copy of ``source`` answers to the probes, in a process of its own."""
    shutil.copytree(source, directory)
    run([sys.executable, "setup.py", "-q", "build_ext", "--inplace", "--force"], directory)
    program = f"{project.probes}\nimport json; print(json.dumps(results))"
    python_path = str(directory / project.python_path)
    return json.loads(run([sys.executable, "-c", program], directory, PYTHONPATH=python_path))


def build_hot(project: Project, original: Path, directory: Path) -> tuple[Path, dict[str, str]]:
    """A hot copy of the project, and the environment in which its base is known."""
    hot = directory / "hot"
    shutil.copytree(original, hot)
    store = {"HOTRELOAD_STORE": str(directory / "store")}
    output = run([sys.executable, "-m", "hotreload", "build", "--json"], hot, **store)
    built = json.loads(output.strip().splitlines()[-1])
    assert [entry["module"] for entry in built["extensions"]] == ["_speedups"]
    assert built["extensions"][0]["unpatchable"] == [], "every function of a real extension must be patchable"
    return hot, store


@pytest.mark.slow
@pytest.mark.parametrize("name", list(PROJECTS))
def test_real_extension_takes_edits_live_and_gives_the_answers_of_a_fresh_build(
    name: str, sdists: Path, tmp_path: Path
) -> None:
    project = PROJECTS[name]
    original = unpack(project, sdists, tmp_path / "original")
    fresh = {"base": plain_answers(project, original, tmp_path / "plain")}
    for number, edit in enumerate(project.edits):
        edited = tmp_path / f"edited-{number}"
        shutil.copytree(original, edited)
        source = edited / project.source
        source.write_text(edit.apply(source.read_text()))
        fresh[edit.name] = plain_answers(project, edited, tmp_path / f"fresh-{number}")
        assert fresh[edit.name] != fresh["base"], f"{edit.name}: no probe can see this edit"

    hot, store = build_hot(project, original, tmp_path)
    suite = f"{project.suite}\nassert passed"
    run([sys.executable, "-c", suite], hot, PYTHONPATH=str(hot / project.python_path), **store)

    answers = tmp_path / "answers.json"
    answers.write_text(json.dumps(fresh))
    output = run([sys.executable, str(HERE / "live_session.py"), name, str(hot), str(answers)], hot, **store)
    report = json.loads(output.strip().splitlines()[-1])
    assert len(report["edits"]) == len(project.edits) >= 5
    assert all(rounds > 0 for rounds in report["rounds"])
    for line in report["edits"]:
        print(line)


@pytest.mark.slow
@pytest.mark.parametrize("name", list(PROJECTS))
def test_every_function_of_a_real_extension_can_be_replaced_and_its_own_suite_still_passes(
    name: str, sdists: Path, tmp_path: Path
) -> None:
    project = PROJECTS[name]
    hot, store = build_hot(project, unpack(project, sdists, tmp_path / "original"), tmp_path)
    output = run([sys.executable, str(HERE / "every_function.py"), name, str(hot)], hot, **store)
    report = json.loads(output.strip().splitlines()[-1])
    assert report["swapped"] == report["functions"] > 0
