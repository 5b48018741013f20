"""Many edits in a row, in a process that serves: nothing may grow but the generations themselves."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "many_edits.py"
GENERATION_MAPPINGS = 4
GENERATION_KIB = 16


def run(edits: int) -> dict:
    done = subprocess.run(
        [sys.executable, str(BENCHMARK), "--edits", str(edits), "--json"], capture_output=True, text=True, timeout=1200
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


def grown(report: dict, process: str, figure: str) -> float:
    """Growth per edit over the second half of the run: in the first, caches and arenas fill."""
    first, last = report["points"][len(report["points"]) // 2], report["points"][-1]
    return (last[process][figure] - first[process][figure]) / (last["edits"] - first["edits"])


def check(report: dict) -> None:
    assert report["wrong_answers"] == 0
    for process in ("server", "helper"):
        assert grown(report, process, "descriptors") == 0, f"the {process} process leaks descriptors"
        assert grown(report, process, "threads") == 0, f"the {process} process leaks threads"
    assert grown(report, "helper", "mappings") <= 0.05
    assert 0 < grown(report, "server", "mappings") <= GENERATION_MAPPINGS
    assert grown(report, "server", "resident_kib") <= GENERATION_KIB + 8, "more is kept than the generations"
    assert grown(report, "helper", "resident_kib") <= 8
    assert report["bytes_mapped"] <= report["edits"] * GENERATION_KIB * 1024


@pytest.mark.slow
def test_sixty_edits_in_a_row_leave_nothing_behind_but_their_generations():
    check(run(60))


@pytest.mark.soak
def test_a_thousand_edits_in_a_row_leave_nothing_behind_but_their_generations():
    report = run(1000)
    print(json.dumps(report["points"][-1]))
    check(report)
