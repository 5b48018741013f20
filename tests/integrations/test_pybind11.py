"""pybind11: bodies of bound functions, methods and lambdas go live; what binds them ran at import and is not run again."""

from __future__ import annotations

from pathlib import Path

import pytest

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
