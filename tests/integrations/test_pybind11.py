"""pybind11: bodies of what is bound go live. What binds them ran at import; which lambda is which is told by numbers."""

from __future__ import annotations

from pathlib import Path

import pytest

from hotreload.errors import IncompatibleError
from hotreload.integrations.testing import HotExtension

SOURCE = """\
#include <pybind11/pybind11.h>
namespace py = pybind11;

static long calls = 0;

long scale(long x)
{
    calls++;
    return x * 2;
}

struct Box {
    long value;
    explicit Box(long v) : value(v) {}
    long doubled() const { return value * 2; }
};

PYBIND11_MODULE(bound, m)
{
    m.def("scale", &scale);
    m.def("count", []() { return calls; });
    m.def("plus", [](long x) {
        if (x < 0) throw py::value_error("negative");
        return x + 1;
    });
    py::class_<Box>(m, "Box").def(py::init<long>()).def("doubled", &Box::doubled);
}
"""


@pytest.mark.slow
def test_bodies_go_live_with_state_kept(tmp_path: Path) -> None:
    pybind11 = pytest.importorskip("pybind11")
    flags = [f"-I{pybind11.get_include()}", "-std=c++17", "-fvisibility=hidden", "-O0"]
    with HotExtension.build(SOURCE, tmp_path, flags=flags) as bound:
        module, box = bound.module, bound.module.Box(4)
        assert (module.scale(3), module.plus(1), box.doubled()) == (6, 2, 8)
        edited = SOURCE.replace("return x * 2;", "return x * 20;").replace("return x + 1;", "return x + 100;")
        edited = edited.replace("return value * 2;", "return value * 9;").replace('"negative"', '"below zero"')

        assert bound.write(edited).outcome == "live"
        assert (module.scale(3), module.plus(1), box.doubled()) == (60, 101, 36)
        assert module.count() == 2
        with pytest.raises(ValueError, match="below zero"):
            module.plus(-1)

        bound.rollback()
        assert (module.scale(3), module.plus(1), box.doubled(), module.count()) == (6, 2, 8, 3)


LAMBDAS = """\
#include <Python.h>

static long calls = 3;

template <typename F> static PyObject *call(PyObject *, PyObject *) { return PyLong_FromLong(F{}()); }
template <typename F> static PyMethodDef bind(const char *name, F) { return {name, &call<F>, METH_NOARGS, 0}; }

static PyMethodDef methods[4];
static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "lambdas", 0, -1, methods};
PyMODINIT_FUNC PyInit_lambdas(void)
{
    int n = 0;
    methods[n++] = bind("count", []() { return calls; });
    return PyModule_Create(&module);
}
"""
FIRST = '    methods[n++] = bind("first", []() { return calls + 77; });\n'


def test_a_lambda_that_takes_the_number_of_another_is_refused(tmp_path: Path) -> None:
    (tmp_path / "lambdas.cpp").write_text(LAMBDAS)
    (tmp_path / "hot").mkdir()
    with HotExtension.build(tmp_path / "lambdas.cpp", tmp_path / "hot", flags=["-std=c++20"]) as lambdas:
        module = lambdas.module
        assert module.count() == 3
        assert lambdas.edit("return calls;", "return calls * 10;").outcome == "live"
        assert module.count() == 30
        with pytest.raises(IncompatibleError) as refused:
            lambdas.edit("    int n = 0;\n", f"    int n = 0;\n{FIRST}")
        assert "lambda-renumbered" in refused.value.slugs
        assert module.count() == 30
        lambdas.rollback()
        lambdas.write(LAMBDAS.replace("    return PyModule_Create", f"{FIRST}    return PyModule_Create"))
        assert module.count() == 3, "behind the others it renumbers nothing"
