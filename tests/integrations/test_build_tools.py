"""Editable installs of meson-python and scikit-build-core, which build again at import: both, and hot reload, at once."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

from tests.integrations.fitting import save
from tests.run.harness import Program, environment

PROJECTS = Path(__file__).resolve().parent / "projects"
PROGRAM = """\
import importlib, sys, time
module = importlib.import_module(sys.argv[1])
last = None
while True:
    before = module.add(0)
    step = module.add(1) - before
    if step != last:
        print("step", step, "from", "nothing" if before == 0 else "what there was", flush=True)
        last = step
    time.sleep(0.005)
"""
TOOLS = {
    "mesonic": ("mesonpy", "mesonic/_sum.c", []),
    "skbuilt": ("scikit_build_core", "src/skbuilt/_sum.c", ["-Ceditable.rebuild=true"]),
}


def make_environment(directory: Path) -> Path:
    """An empty virtual environment that sees the packages of this one; its interpreter."""
    venv.create(directory, with_pip=False, symlinks=True)
    python = directory / "bin" / "python"
    code = "import sysconfig; print(sysconfig.get_paths()['purelib'])"
    site = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    (Path(site) / "outer.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    return python


@pytest.mark.parametrize("name", TOOLS)
def test_an_editable_install_is_hot_and_the_next_start_is_built_from_the_edit(tmp_path: Path, name: str) -> None:
    backend, source, settings = TOOLS[name]
    pytest.importorskip(backend)
    if backend == "scikit_build_core" and shutil.which("cmake") is None:
        pytest.skip("cmake is not installed")
    project = tmp_path / name
    shutil.copytree(PROJECTS / name, project)
    python = make_environment(tmp_path / "env")
    path = os.pathsep.join([os.path.dirname(sys.executable), os.environ["PATH"]])
    here = {**environment(tmp_path), "PATH": path, "PIP_NO_INDEX": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--no-build-isolation", "--no-deps"]
    hot = [sys.executable, "-m", "hotreload", "build", "--"]
    installed = subprocess.run(
        [*hot, *pip, *settings, "-e", "."], cwd=project, env=here, capture_output=True, text=True, check=False
    )
    assert installed.returncode == 0, installed.stdout + installed.stderr
    assert "hotreload build: _sum: 2 functions can be patched" in installed.stderr
    (tmp_path / "program.py").write_text(PROGRAM)
    arguments = ["-m", "hotreload", "run", "program.py", name]

    with Program(arguments, directory=tmp_path, python=str(python), PATH=path) as program:
        program.wait_line("step 1 from nothing")
        program.wait_event("extension.found")
        save(project / source, "sum += PyLong", "sum += 3 * PyLong")
        program.wait_line("step 3 from what there was")
        base = program.wait_reloads(1)["build_id"]

        with Program(arguments, directory=tmp_path, python=str(python), PATH=path) as later:
            later.wait_line("step 3 from nothing")
            assert later.wait_event("extension.found")["build_id"] != base, "the import has built it from the edit"
            save(project / source, "sum += 3 *", "sum += 5 *")
            later.wait_line("step 5 from what there was")
            program.wait_line("step 5 from what there was")
            assert later.wait_reloads(1)["build_id"] != program.wait_reloads(2)["build_id"] == base
