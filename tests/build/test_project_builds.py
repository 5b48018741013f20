"""``hotreload build``, and hot extensions by configuration: a project's own build makes them."""

from __future__ import annotations

import json
import sys

import pytest

from hotreload.build.project import THROUGH, default_command
from hotreload.build.record import read_record
from hotreload.elf.file import ElfFile
from hotreload.errors import BuildError
from tests.hot import PROLOGUE, run

SOURCE = """
#include <Python.h>
static PyObject *f(PyObject *s, PyObject *a) { return PyLong_FromLong(%d); }
static PyMethodDef m[] = {{"f", f, METH_NOARGS, 0}, {0}};
static struct PyModuleDef d = {PyModuleDef_HEAD_INIT, "speed", 0, -1, m};
PyMODINIT_FUNC PyInit_speed(void) { return PyModule_Create(&d); }
"""
SETUP = "from setuptools import setup, Extension\nsetup(name='p', py_modules=[], ext_modules=[Extension('speed', ['speed.c'])])\n"
MAKEFILE = "m.so: a.c\n\t$(CC) -fPIC -shared a.c -o m.so\nnothing:\n\t@true\nbroken:\n\t@exit 7\n"
TWO = f"2 functions can be patched{THROUGH.get(PROLOGUE, '')}"
BUILD = [sys.executable, "-m", "hotreload", "build"]


@pytest.fixture
def made_by_make(tmp_path):
    (tmp_path / "Makefile").write_text(MAKEFILE)
    (tmp_path / "a.c").write_text("long f(long x) { return x; }\n__attribute__((ifunc(\"pick\"))) long g(long x);\n"
                                  "static void *pick(void) { return f; }\n")  # fmt: skip
    return tmp_path


def test_any_command_is_built_hot_and_reported(made_by_make):
    done = run(*BUILD, "--", "make", cwd=made_by_make)
    assert f"hotreload build: m: {TWO} (m.so)" in done.stderr
    record = read_record(ElfFile.read(made_by_make / "m.so"))
    assert record is not None and record.units[0].plain_argv[0].endswith("gcc")


def test_the_report_is_one_json_document_for_machines(made_by_make):
    done = run(*BUILD, "--json", "--", "make", cwd=made_by_make)
    report = json.loads(done.stdout)
    (extension,) = report["extensions"]
    assert report["exit_code"] == 0
    assert extension["module"] == "m" and extension["path"] == str(made_by_make / "m.so")
    assert extension["patchable"] == 2 and extension["unpatchable"] == []
    assert extension["sources"] == [str(made_by_make / "a.c")]
    assert extension["build_id"] == ElfFile.read(made_by_make / "m.so").build_id.hex()


def test_the_exit_code_is_that_of_the_build(made_by_make):
    done = run(*BUILD, "--", "sh", "-c", "exit 7", cwd=made_by_make, code=7)
    assert "the build failed with exit code 7" in done.stderr
    assert json.loads(run(*BUILD, "--json", "--", "false", cwd=made_by_make, code=1).stdout) == {
        "exit_code": 1,
        "extensions": [],
    }


def test_a_build_that_links_nothing_says_so(made_by_make):
    assert "linked no shared library" in run(*BUILD, "--", "make", "nothing", cwd=made_by_make).stderr


def test_what_cannot_be_run_or_understood_is_said(tmp_path):
    assert "cannot run no-such-tool" in run(*BUILD, "--", "no-such-tool", cwd=tmp_path, code=2).stderr
    assert "no setup.py and no pyproject.toml" in run(*BUILD, cwd=tmp_path, code=2).stderr


@pytest.mark.parametrize("project", ["setup.py", "pyproject.toml"])
def test_an_environment_without_setuptools_is_told_so(tmp_path, monkeypatch, project):
    (tmp_path / project).write_text("")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(BuildError, match="takes setuptools") as refused:
        default_command(str(tmp_path))
    assert "pip install setuptools" in refused.value.hint


def test_an_editable_install_is_named_where_it_is(tmp_path):
    (tmp_path / "setup.py").write_text(SETUP)
    (tmp_path / "speed.c").write_text(SOURCE % 1)
    target = tmp_path / "installed"
    pip = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "-q",
        "--no-build-isolation",
        "--no-deps",
        "--target",
        target,
        "-e",
        ".",
    ]
    (extension,) = json.loads(run(*BUILD, "--json", "--", *pip, cwd=tmp_path).stdout)["extensions"]
    (built,) = tmp_path.glob("speed*.so")
    assert extension["path"] == str(built)


@pytest.mark.parametrize("backend", ["mesonpy", "scikit_build_core.build"])
def test_a_project_of_another_backend_is_told_its_command(tmp_path, backend):
    (tmp_path / "pyproject.toml").write_text(f'[build-system]\nbuild-backend = "{backend}"\n')
    said = run(*BUILD, cwd=tmp_path, code=2).stderr
    assert f"is built by {backend.split('.')[0]}" in said
    assert "hotreload build -- pip install --no-build-isolation --editable ." in said
    assert "put the build command behind --" in run(*BUILD, "make", cwd=tmp_path, code=2).stderr


def test_a_setup_py_project_is_built_in_place_by_default(tmp_path):
    (tmp_path / "setup.py").write_text(SETUP)
    (tmp_path / "speed.c").write_text(SOURCE % 5)
    done = run(*BUILD, cwd=tmp_path)
    assert f"hotreload build: speed: {TWO} (" in done.stderr
    assert run(sys.executable, "-c", "import speed; print(speed.f())", cwd=tmp_path).stdout == "5\n"


PYPROJECT = """
[build-system]
requires = ["setuptools"]
build-backend = "setuptools.build_meta"
[project]
name = "speed"
version = "1"
[tool.setuptools]
py-modules = []
[tool.setuptools.cmdclass]
build_ext = "hotreload.build.extension.build_ext"
"""


def test_a_project_has_hot_extensions_by_configuration_and_plain_ones_on_request(tmp_path):
    (tmp_path / "pyproject.toml").write_text(PYPROJECT)
    (tmp_path / "setup.py").write_text(
        "from setuptools import setup, Extension\nsetup(ext_modules=[Extension('speed', ['speed.c'])])\n"
    )
    (tmp_path / "speed.c").write_text(SOURCE % 6)
    build = [sys.executable, "setup.py", "-q", "build_ext", "--inplace"]
    run(*build, cwd=tmp_path)
    (library,) = tmp_path.glob("speed.*.so")
    record = read_record(ElfFile.read(library))
    assert record is not None and record.module == "speed" and record.patchable == 2
    assert run(sys.executable, "-c", "import speed; print(speed.f())", cwd=tmp_path).stdout == "6\n"
    run(*build, "--force", cwd=tmp_path, HOTRELOAD_HOT="0")
    assert read_record(ElfFile.read(library)) is None


def test_a_wrapper_in_the_environment_is_not_wrapped_again(made_by_make):
    done = run(*BUILD, "--", *BUILD, "--", "make", cwd=made_by_make)
    assert done.stderr.count(TWO) >= 1
    (unit,) = read_record(ElfFile.read(made_by_make / "m.so")).units
    assert "hotreload" not in " ".join(unit.plain_argv)
