from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.agent.kit import Application, Hot, build_hot
from tests.run import harness

SOURCE = """\
#include <Python.h>
#include <setjmp.h>
#include "shade.h"

long deref(long *where) { return *where; }

static PyObject *value(PyObject *self, PyObject *args) { return PyLong_FromLong(shade(1)); }
static PyObject *other(PyObject *self, PyObject *args) { return PyLong_FromLong(deref((long *)8)); }

static PyMethodDef methods[] = {{"value", value, METH_NOARGS, 0}, {"other", other, METH_NOARGS, 0}, {0}};
static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "NAME", 0, -1, methods};
PyMODINIT_FUNC PyInit_NAME(void) { return PyModule_Create(&module); }
"""
HEADER = "long deref(long *);\nstatic inline long shade(long x) { return x + 1; }\n"


@pytest.fixture(scope="module")
def hot(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hot]:
    """An extension with a function that crashes when it is asked to."""
    directory = tmp_path_factory.mktemp("hot")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOTRELOAD_STORE", str(directory / "store"))
        patch.setattr(harness, "SOURCE", SOURCE)
        patch.setattr(harness, "HEADER", HEADER)
        yield build_hot(directory)


@pytest.fixture
def app(tmp_path: Path, hot: Hot) -> Iterator[Application]:
    application = Application(tmp_path, hot)
    yield application
    application.close()
