"""The demo, run for real, as `make demo` runs it: it is the promise of this project in one minute."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest
from example_kit import EXAMPLE

COMPILING = ("1-constant", "2-algorithm", "3-new-helper", "4-inlined-helper", "5-original")


@pytest.fixture(scope="module")
def outcome() -> dict[str, Any]:
    """What the demo says with ``--json``; when it fails, what it printed besides is shown."""
    done = subprocess.run(
        [sys.executable, str(EXAMPLE / "demo.py"), "--json", "--answers", "150"],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, f"exit code {done.returncode}\n{done.stderr}\n{done.stdout}"
    return dict(json.loads(done.stdout))


@pytest.mark.slow
def test_five_edits_go_live_and_nothing_is_lost(outcome: dict[str, Any]) -> None:
    assert outcome["ok"] is True
    assert outcome["problems"] == []
    rows = {row["edit"]: row for row in outcome["edits"]}
    assert tuple(name for name in rows if name != "2-broken") == COMPILING
    for name in COMPILING:
        row = rows[name]
        assert row["failed"] == row["stale"] == 0, row
        assert row["state_kept"] is True, row
        assert row["before"] > 0, row
        assert row["by_new"] > 0, row
        assert 0 < row["compiler_ms"] < row["save_to_live_ms"], row


@pytest.mark.slow
def test_each_edit_swaps_the_functions_that_it_touches(outcome: dict[str, Any]) -> None:
    rows = {row["edit"]: row for row in outcome["edits"]}
    assert set(rows["1-constant"]["functions"]) == {"colour"}
    assert set(rows["2-algorithm"]["functions"]) == {"colour", "escape"}
    assert {"contour", "draw_row", "render_counters"} <= set(rows["3-new-helper"]["functions"])
    assert {"colour", "orbit"} <= set(rows["4-inlined-helper"]["functions"])
    assert [rows[name]["generation"] for name in COMPILING] == [1, 2, 3, 4, 0]


@pytest.mark.slow
def test_an_edit_that_does_not_compile_is_shown_and_changes_nothing(outcome: dict[str, Any]) -> None:
    row = next(row for row in outcome["edits"] if row["edit"] == "2-broken")
    assert row["outcome"] == "build_failed"
    assert "error: expected" in row["diagnostics"]
    assert (row["failed"], row["stale"], row["between"], row["by_new"]) == (0, 0, 0, 0)
    assert row["generation"] == 2


@pytest.mark.slow
def test_no_request_fails(outcome: dict[str, Any]) -> None:
    assert outcome["requests"] > 1000
    assert outcome["failed"] == 0
