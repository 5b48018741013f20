"""Building hotreload itself where something is missing: one line says what, before any compiler is started."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_a_missing_compiler_is_named_with_the_packages_to_install(tmp_path, monkeypatch):
    monkeypatch.setenv("CC", "no-such-compiler")
    done = subprocess.run(
        [sys.executable, "setup.py", "-q", "build_ext", "--build-temp", str(tmp_path), "--build-lib", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    (line,) = [line for line in done.stderr.splitlines() if "hotreload" in line and "cannot be built" in line]
    assert "the compiler (no-such-compiler)" in line
    assert "apt-get install gcc" in line


ISOLATION = """
import os, sys
sys.path[:] = [p for p in sys.path if "site-packages" not in p and not os.path.exists(os.path.join(p, "hotreload"))]
sys.meta_path[:] = [finder for finder in sys.meta_path if "editable" not in str(finder).lower()]
"""


def test_the_command_starts_where_pip_has_taken_its_environment_away(tmp_path, monkeypatch):
    """As in ``hotreload build -- pip install .``, where it is the compiler."""
    (tmp_path / "sitecustomize.py").write_text(ISOLATION)
    (tmp_path / "x.c").write_text("int x;\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    hidden = subprocess.run([sys.executable, "-c", "import hotreload"], cwd=tmp_path, capture_output=True, check=False)
    assert hidden.returncode != 0
    command = [sys.executable, str(ROOT / "scripts" / "hotreload"), "cc", "gcc", "-c", "x.c"]
    subprocess.run(command, cwd=tmp_path, check=True)
    assert (tmp_path / "x.o").exists()
