"""The examples of docs/hotpatchable.md are run as they stand there."""

from __future__ import annotations

import re
import subprocess
import sys
import sysconfig
from pathlib import Path

from tests.hot import ROOT
from tests.run.harness import environment

PAGE = (ROOT / "docs" / "hotpatchable.md").read_text(encoding="utf-8")
FILE = re.compile(r"```(?:c|python)\n(?://|#) (\w+\.\w+)\n(.*?)```", re.DOTALL)
EXTENSION = """\
#include <Python.h>
static PyObject *ext_score(PyObject *self, PyObject *n) { return PyLong_FromLong(PyLong_AsLong(n) + 1); }
static PyObject *insert(PyObject *self, PyObject *n) { Py_RETURN_NONE; }
static PyMethodDef of_table[] = {{"insert", insert, METH_O, 0}, {0}};
static PyType_Slot slots[] = {{Py_tp_methods, of_table}, {0}};
static PyType_Spec spec = {"_ext.Table", sizeof(PyObject), 0, Py_TPFLAGS_DEFAULT, slots};
static PyMethodDef methods[] = {{"score", ext_score, METH_O, 0}, {0}};
static struct PyModuleDef def = {PyModuleDef_HEAD_INIT, "_ext", 0, -1, methods};
PyMODINIT_FUNC PyInit__ext(void)
{
    PyObject *m = PyModule_Create(&def);
    PyModule_AddObject(m, "Table", PyType_FromSpec(&spec));
    return m;
}
"""


def test_every_example_runs(tmp_path: Path) -> None:
    files = dict(FILE.findall(PAGE))
    assert set(files) == {"kernels.c", "filters.py", "use.py", "typed.py", "scores.py", "pricing.py", "around.py"}
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "_ext.c").write_text(EXTENSION)
    env = environment(tmp_path)
    argv = ["gcc", "-O2", "-g", "-fPIC", "-shared", f"-I{sysconfig.get_paths()['include']}", "_ext.c", "-o", "_ext.so"]
    subprocess.run([sys.executable, "-m", "hotreload", "cc", *argv], cwd=tmp_path, env=env, check=True)

    for name in ("use.py", "typed.py", "scores.py", "pricing.py", "around.py"):
        done = subprocess.run(
            [sys.executable, name], cwd=tmp_path, env=env, capture_output=True, text=True, check=False
        )  # fmt: skip
        assert done.returncode == 0, f"{name}\n{done.stderr}"
        assert done.stderr == ""


def test_the_error_that_is_shown_is_the_one_that_is_raised(tmp_path: Path) -> None:
    files = dict(FILE.findall(PAGE))
    (tmp_path / "kernels.c").write_text(files["kernels.c"])
    (tmp_path / "filters.py").write_text(files["filters.py"].replace("r: float = 0.5", "r: int"))
    done = subprocess.run(
        [sys.executable, "filters.py"], cwd=tmp_path, env=environment(tmp_path), capture_output=True, text=True, check=False
    )  # fmt: skip

    found = re.search(r"\n\n```\n(hotreload\.errors\.MarkError.*?)```", PAGE, re.DOTALL)
    assert found
    assert found[1].replace("/srv/shop", str(tmp_path)) in done.stderr
