"""The suite over {jump, slot} x {-O0, -O1, -O2, -O3, -Os} x {gcc, clang}: a few cells of it always, whole by `make matrix`.

Each cell is a run of other tests in a process of its own, where what they build is compiled with the cell's compiler
and flags and redirected in its way; tests that say how they want their extension built are built so in each cell.
"""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import sys
from typing import NamedTuple

import pytest

from tests.hot import ROOT


class Cell(NamedTuple):
    """One combination."""

    prologue: str
    flags: str
    compiler: str

    def __str__(self) -> str:
        return " ".join(self)


CELLS = [
    Cell(*cell) for cell in itertools.product(("jump", "slot"), ("-O0", "-O1", "-O2", "-O3", "-Os"), ("gcc", "clang"))
]
SAMPLE = [
    Cell("slot", "-Os", "clang"),
    Cell("slot", "-O2", "gcc"),
]

WHOLE = ["tests/patch", "tests/diff", "tests/live/test_live_manager.py", "tests/live/test_live_redirect.py"]
SAMPLED = ["tests/patch/test_new_code.py", "tests/patch/test_state.py", "tests/live/test_live_redirect.py"]

#: Tests of what GCC does: which functions it inlines, how it names statics, that it keeps a static that is only ever
#: zero, which words it has for types. clang does it otherwise with either prologue, and has tests of its own
#: (tests/patch/test_clang.py, and those in tests/diff that ask for it).
OF_GCC = [
    "tests/diff/test_guards.py",
    "tests/diff/test_prototypes.py",
    "tests/patch/test_extent.py",
    "tests/patch/test_awkward_code.py::test_a_second_static_of_one_name_in_a_function_is_refused",
    "tests/patch/test_awkward_code.py::test_statics_of_one_name_that_may_have_traded_places_are_refused",
    "tests/patch/test_new_code.py::test_a_new_function_whose_pointer_lives_in_state_is_patched_again",
    "tests/patch/test_new_code.py::test_a_new_static_function_comes_along",
    "tests/patch/test_state.py::test_a_local_static_of_another_size_is_refused_by_its_owner",
    "tests/patch/test_state.py::test_a_new_variable_of_another_size_in_a_later_generation_is_refused",
    "tests/patch/test_units.py::test_an_edited_header_changes_all_units_that_include_it",
    "tests/patch/test_workshop.py::test_a_comment_after_a_patch_makes_the_same_digest",
]


def run_cell(cell: Cell, tests: list[str]) -> str:
    """Run ``tests`` in a cell; its last line. What failed is shown whole."""
    if shutil.which(cell.compiler) is None:
        pytest.skip(f"{cell.compiler} is not installed")
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "HOTRELOAD_PROLOGUE": cell.prologue,
        "HOTRELOAD_TEST_FLAGS": cell.flags,
        "HOTRELOAD_TEST_COMPILER": cell.compiler,
    }
    left_out = [word for test in OF_GCC for word in ("--deselect", test)] if cell.compiler != "gcc" else []
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *left_out, *tests],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"in the cell {cell}\n{done.stdout}\n{done.stderr}"
    return done.stdout.strip().splitlines()[-1]


@pytest.mark.slow
@pytest.mark.parametrize("cell", SAMPLE, ids=str)
def test_a_sample(cell: Cell) -> None:
    run_cell(cell, SAMPLED)


@pytest.mark.matrix
@pytest.mark.parametrize("cell", CELLS, ids=str)
def test_the_whole(cell: Cell) -> None:
    print(f"{cell}: {run_cell(cell, WHOLE)}", flush=True)
