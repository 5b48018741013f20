"""The push demo, run for real, as `make demo-push` runs it."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest
from example_kit import EXAMPLE


@pytest.fixture(scope="module")
def outcome() -> dict[str, Any]:
    """What the demo says with ``--json``; when it fails, what it printed besides is shown."""
    done = subprocess.run(
        [sys.executable, str(EXAMPLE / "demo_push.py"), "--json", "--answers", "120"],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, f"exit code {done.returncode}\n{done.stderr}\n{done.stdout}"
    return dict(json.loads(done.stdout))


@pytest.mark.slow
def test_every_step_of_the_push_demo_holds(outcome: dict[str, Any]) -> None:
    assert outcome["ok"] is True
    assert outcome["problems"] == []
    assert outcome["failed"] == 0
    steps = {step["name"]: step for step in outcome["steps"]}
    assert {name: step["code"] for name, step in steps.items()} == {
        "broken": 4,
        "tampered": 4,
        "canary": 4,
        "push": 0,
        "killed": -1,
        "rollback": 0,
    }
    assert all(step["stale"] == step["failed"] == 0 for step in steps.values())
