"""Staging what tools read, over and over, takes nothing for good."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from toolkit import Program, Project

ROUNDS = 150


def held(program: Program) -> tuple[int, int, int]:
    """Descriptors, mappings, and kilobytes in memory."""
    status = Path(f"/proc/{program.pid}/status").read_text()
    resident = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))
    maps = Path(f"/proc/{program.pid}/maps").read_text().count("\n")
    return len(os.listdir(f"/proc/{program.pid}/fd")), maps, resident


@pytest.mark.parametrize("where", ["file", "memory"])
def test_a_generation_that_is_unmapped_leaves_nothing(project: Project, tmp_path: Path, where: str) -> None:
    program = Program(project, tmp_path / "files" if where == "file" else "off")

    def rounds(count: int) -> None:
        for _ in range(count):
            assert program("stage", project.patch) == "1"
            assert program("unstage") == "None"

    rounds(20)
    before = held(program)
    rounds(ROUNDS)
    after = held(program)
    assert after[0] == before[0]
    assert after[1] <= before[1] + 2, "Python may have taken an arena"
    assert after[2] - before[2] < 2048
    program.close()
