"""docs/production.md says which test shows what: each of them is there."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.hot import ROOT

GUIDE = (ROOT / "docs" / "production.md").read_text(encoding="utf-8")
UNIT = re.compile(r"```ini\n# /etc/systemd/system/(\S+)\n(.*?)```", re.DOTALL)


def test_every_test_that_is_named_exists() -> None:
    names = set(re.findall(r"`(test_\w+)`", GUIDE))
    sources = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py"))

    assert len(names) > 30
    assert {name for name in names if f"def {name}(" not in sources} == set()


def test_every_numbered_fault_of_a_test_is_in_the_guide() -> None:
    sources = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py"))
    numbers = {number.upper() for number in re.findall(r"def test_fault_([egh]\d+)_", sources)}

    assert {number for number in numbers if f"| {number} " not in GUIDE} == set()


def test_every_fault_of_the_three_lists_is_accounted_for() -> None:
    faults = [
        *(f"E{n}" for n in range(74, 83)),
        *(f"G{n}" for n in range(91, 104)),
        *(f"H{n}" for n in range(104, 113)),
    ]

    assert [fault for fault in faults if not re.search(rf"\| (H110, )?{fault}\b", GUIDE)] == []


def test_systemd_accepts_the_unit(tmp_path: Path) -> None:
    if not shutil.which("systemd-analyze"):
        pytest.skip("systemd-analyze is not installed")
    found = UNIT.search(GUIDE)
    assert found
    unit = tmp_path / found[1]
    unit.write_text(re.sub(r"(?m)^ExecStart=.*$", "ExecStart=/bin/true", found[2]))
    done = subprocess.run(["systemd-analyze", "verify", str(unit)], capture_output=True, text=True, check=False)

    assert [line for line in (done.stdout + done.stderr).splitlines() if found[1] in line] == []
