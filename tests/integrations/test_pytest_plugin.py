"""The fixture that users get: their own test project, run by pytest as they would run it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from importlib.metadata import distribution
from pathlib import Path

from tests.hot import ROOT

PROJECTS = Path(__file__).resolve().parent / "projects"

USERS_TESTS = """\
import sys

import pytest
from hotreload import errors

KEEP = []

def test_an_edit_is_live_and_state_is_kept(hot_extension):
    count = hot_extension("src/counted/_count.c")
    assert count.module.__name__ == "_count"
    assert count.path.suffix == ".so" and count.source.name == "_count.c"
    add = count.module.add
    assert add(5) == 5
    edit = count.edit("total.sum += PyLong", "total.sum += 2 * PyLong")
    assert (edit.outcome, edit.generation, edit.functions) == ("live", 1, ("add",))
    assert add(1) == 7
    assert count.generation == 1
    count.rollback()
    assert add(1) == 8 and count.generation == 0

def test_saving_the_original_again_is_the_base_and_twice_is_nothing(hot_extension):
    count = hot_extension("src/counted/_count.c")
    original = count.source.read_text()
    edited = original.replace("+=", "-=")
    assert count.write(edited).outcome == "live"
    assert count.module.add(3) == -3
    again = count.write("/* the same */" + edited)
    assert again.outcome == "nothing" and "already" in again.reason
    assert count.write(original).outcome == "base"
    assert count.module.add(3) == 0
    comment = count.edit("struct total {", "struct total /* of all */ {")
    assert comment.outcome == "nothing" and comment.reason

def test_a_refused_edit_says_why_and_leaves_file_and_process_as_they_were(hot_extension):
    count = hot_extension("src/counted/_count.c")
    before = count.source.read_text()
    count.module.add(5)
    with pytest.raises(errors.IncompatibleError) as refused:
        count.edit("long sum;", "long calls, sum;")
    assert "variable-size" in refused.value.slugs
    assert count.source.read_text() == before
    assert count.module.add(1) == 6
    assert count.edit("+=", "-=").outcome == "live"

def test_what_does_not_compile_shows_what_the_compiler_said(hot_extension):
    count = hot_extension("src/counted/_count.c")
    with pytest.raises(errors.BuildError) as failed:
        count.edit("total.sum);", "total.summ);")
    assert "no member named" in failed.value.diagnostics
    with pytest.raises(ValueError, match="0 times, not once"):
        count.edit("not there", "")
    assert count.module.add(1) == 1

def test_several_files_a_header_and_a_text(hot_extension, tmp_path):
    scale = hot_extension(["c/scale.c", "c/helper.c"], flags=["-O1"])
    text = hot_extension(open("c/scale.c").read().replace("extern long helper(long);", "long helper(long x) { return x; }"),
                         flags=["-Ic"])
    assert scale.module.scale(3) == 8 and text.module.scale(3) == 6
    assert scale.edit("x + 1", "x + 100", file="helper.c").functions == ("helper",)
    assert scale.module.scale(3) == 206 and text.module.scale(3) == 6
    assert scale.edit("FACTOR 2", "FACTOR 1", file="factor.h").functions == ("scale", "helper")
    assert scale.module.scale(3) == 103

def test_a_whole_project(hot_extension):
    sys.modules["counted"] = KEEP
    count = hot_extension(".", name="counted._count")
    assert count.module.__name__ == "counted._count"
    assert count.module.add(2) == 2
    assert count.edit("+=", "-=").outcome == "live"
    assert count.module.add(2) == 0

def test_afterwards_everything_is_as_before():
    assert "_count" not in sys.modules and "scale" not in sys.modules
    assert sys.modules.pop("counted") is KEEP
    assert not [entry for entry in sys.path if entry.endswith("project")]

def test_what_is_not_there_is_said(hot_extension, tmp_path):
    with pytest.raises(errors.BuildError, match="there is no missing.c"):
        hot_extension("missing.c")
    with pytest.raises(errors.HotReloadError, match="counted._count"):
        hot_extension(".", name="counted.other")
"""

SCALE = """\
#include <Python.h>
#include "factor.h"
extern long helper(long);
static PyObject *scale(PyObject *self, PyObject *arg)
{
    return PyLong_FromLong(FACTOR * helper(PyLong_AsLong(arg)));
}
static PyMethodDef methods[] = {{"scale", scale, METH_O, 0}, {0}};
static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "scale", 0, -1, methods};
PyMODINIT_FUNC PyInit_scale(void) { return PyModule_Create(&module); }
"""

COUNTER = """\
#include <Python.h>
static long total;
static long table[8];

static PyObject *add(PyObject *self, PyObject *arg)
{
    long n = PyLong_AsLong(arg);
    total += n;
    table[n & 7]++;
    return PyLong_FromLong(total);
}

static PyMethodDef methods[] = {{"add", add, METH_O, 0}, {0}};
static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "counter", 0, -1, methods};
PyMODINIT_FUNC PyInit_counter(void) { return PyModule_Create(&module); }
"""


def plugin_arguments() -> list[str]:
    """How pytest finds the plugin: by the entry point, or by name where what is installed has none yet."""
    installed = {point.value for point in distribution("hotreload").entry_points if point.group == "pytest11"}
    return [] if "hotreload.integrations.pytest_plugin" in installed else ["-p", "hotreload.integrations.pytest_plugin"]


def run_pytest(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *plugin_arguments(), *arguments]
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("HOTRELOAD_", "PYTEST_"))}
    environment["PYTHONPATH"] = str(ROOT)
    return subprocess.run(command, cwd=directory, env=environment, capture_output=True, text=True, check=False)


def test_a_users_project_is_tested_with_the_fixture(tmp_path: Path) -> None:
    project = tmp_path / "counted"
    shutil.copytree(PROJECTS / "counted", project)
    (project / "c").mkdir()
    (project / "c" / "scale.c").write_text(SCALE)
    (project / "c" / "helper.c").write_text("long helper(long x) { return x + 1; }\n")
    (project / "c" / "factor.h").write_text("#define FACTOR 2\n")
    (project / "test_counted.py").write_text(USERS_TESTS)
    guide = (ROOT / "docs" / "integrations" / "pytest.md").read_text()
    (project / "test_guide.py").write_text(guide.split("```python\n")[1].split("```")[0])
    (project / "src" / "counter.c").write_text(COUNTER)
    before = sorted(str(path) for path in project.rglob("*"))

    done = run_pytest(project, "--basetemp", str(tmp_path / "base"), "test_counted.py", "test_guide.py")

    assert done.returncode == 0, done.stdout + done.stderr
    assert "10 passed" in done.stdout
    left = [path for path in sorted(str(path) for path in project.rglob("*")) if "__pycache__" not in path]
    assert left == before, "the user's own tree is not built in"


def test_the_plugin_costs_nothing_where_it_is_not_used() -> None:
    code = (
        "import hotreload.integrations.pytest_plugin, sys\n"
        "print([name for name in sys.modules if name.startswith('hotreload.') and 'integrations' not in name])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"


def test_the_plugin_is_declared_for_pytest() -> None:
    declared = (ROOT / "pyproject.toml").read_text()

    assert '[project.entry-points.pytest11]\nhotreload = "hotreload.integrations.pytest_plugin"' in declared
