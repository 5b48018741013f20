"""The page in a real browser, in a process of its own: Playwright switches greenlets, beside which no thread can be
looked at, so that other tests of this process would be refused their transitions."""

from __future__ import annotations

import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
STEPS = Path(__file__).with_name("in_browser.py")
NAMES = re.findall(r"^def (test_\w+)", STEPS.read_text(), re.MULTILINE)


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ET.Element]:
    """What became of each test of ``in_browser.py``."""
    report = tmp_path_factory.mktemp("browser") / "report.xml"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--junitxml={report}", str(STEPS)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    print(done.stdout, done.stderr)
    return {str(case.get("name")): case for case in ET.parse(report).iter("testcase")}


@pytest.mark.parametrize("step", NAMES)
def test_in_a_browser(reports: dict[str, ET.Element], step: str) -> None:
    case = reports.get(step)
    if case is None or case.find("skipped") is not None:
        skipped = None if case is None else case.find("skipped")
        pytest.skip("playwright is not installed" if skipped is None else str(skipped.get("message")))
    for kind in ("failure", "error"):
        fault = case.find(kind)
        assert fault is None, fault.text
