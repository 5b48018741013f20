"""Marked functions that are swapped under four threads, callbacks around each swap, groups, and what is told of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.mark.mark_kit import SHADE, run, surroundings, write_kernels

STUBS = """
from hotreload.live import manager
order = []

def hear(who):
    return {
        "before_swap": lambda swap: order.append([who, "before", swap.function, swap.module, swap.left, swap.entered, swap.group]),
        "after_swap": lambda swap: order.append([who, "after", swap.function, swap.module, swap.left, swap.entered, swap.group]),
        "on_refused": lambda error: order.append([who, "refused", error.fields.get("status", ""), type(error).__name__]),
    }

@hotpatchable(source="kernels.c", **hear("first"))
def value(n: int) -> int: ...

@hotpatchable(source="kernels.c", **hear("second"))
def other(n: int) -> int: ...

@hotpatchable(source="kernels.c")
def count() -> int: ...

from hotreload.mark.stub import _loaded
(loaded,) = _loaded.values()
SHADES = [f"#define SHADE {number}\\n" for number in (2, 3)]
made = patches(loaded.entry.build_id, "shade.h", *SHADES)
module = manager().attach(loaded.entry.path)
"""


def test_a_stub_is_swapped_a_thousand_times_under_four_threads(tmp_path: Path) -> None:
    write_kernels(tmp_path)
    told = run(
        tmp_path,
        STUBS
        + """
def swap(number):
    staged = manager().stage(module, made[number % 2])
    manager().commit(staged, level="function")

seen, calls, wrong = hammer(lambda: value(0), {1, 2, 3}.__contains__, swap, 1000)
tell(seen=seen, state_kept=count() == calls, wrong=wrong, events=len(order), generation=value.hotreload.generation,
     history=len(value.hotreload.history), last=value(0), live=[m.number for m in value.hotreload.history if m.is_live],
     pairs=all(order[i:i+4] == [[who, when, name, "kernels_c", n, n + 1, ""] for when in ("before", "after")
               for who, name in (("first", "value"), ("second", "other"))] for n, i in enumerate(range(0, 4000, 4))))
manager().rollback(module)
tell(back=value(0), base=value.hotreload.generation, kept=count() == calls + 2,
     first=[m.is_live for m in value.hotreload.history][0])
""",
    )
    assert told["seen"] == ["1", "2", "3"]
    assert told["wrong"] == []
    assert told["state_kept"]
    assert told["events"] == 4000
    assert told["pairs"]
    assert told["generation"] == 1000
    assert told["history"] == 1001
    assert told["live"] == [1000]
    assert told["last"] == 3
    assert (told["back"], told["base"], told["kept"], told["first"]) == (1, 0, True, True)


EXTENSION = """\
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include "shade.h"
static long calls;
static PyObject *score(PyObject *self, PyObject *n) { calls++; return PyLong_FromLong(PyLong_AsLong(n) + SHADE); }
static PyObject *calls_of(PyObject *self, PyObject *none) { return PyLong_FromLong(calls); }
typedef struct { PyObject_HEAD long n; } Counter;
static PyObject *add(PyObject *self, PyObject *none) { return PyLong_FromLong(((Counter *)self)->n += SHADE); }
static PyObject *make(PyObject *cls, PyObject *none) { return PyLong_FromLong(SHADE * 10); }
static PyObject *plain(PyObject *none, PyObject *n) { return PyLong_FromLong(SHADE * 20); }
static PyObject *get(PyObject *self, void *none) { return PyLong_FromLong(SHADE * 30); }
static PyObject *show(PyObject *self) { return PyUnicode_FromFormat("<Counter %d>", SHADE); }
static PyMethodDef of_type[] = {
    {"add", add, METH_NOARGS, 0}, {"make", make, METH_NOARGS | METH_CLASS, 0}, {"plain", plain, METH_O | METH_STATIC, 0},
    {0},
};
static PyGetSetDef fields[] = {{"tens", get, 0, 0, 0}, {0}};
static PyType_Slot slots[] = {{Py_tp_methods, of_type}, {Py_tp_getset, fields}, {Py_tp_repr, show}, {0}};
static PyType_Spec spec = {"_ext.Heap", sizeof(Counter), 0, Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE, slots};
static PyTypeObject Static = {
    PyVarObject_HEAD_INIT(0, 0) .tp_name = "_ext.Static", .tp_basicsize = sizeof(Counter), .tp_methods = of_type,
    .tp_getset = fields, .tp_repr = show, .tp_flags = Py_TPFLAGS_DEFAULT, .tp_new = PyType_GenericNew,
};
static PyMethodDef methods[] = {{"score", score, METH_O, "Scores."}, {"calls", calls_of, METH_NOARGS, 0}, {0}};
static struct PyModuleDef def = {PyModuleDef_HEAD_INIT, "_ext", 0, -1, methods};
PyMODINIT_FUNC PyInit__ext(void)
{
    PyObject *m = PyModule_Create(&def);
    PyModule_AddObject(m, "Heap", PyType_FromSpec(&spec));
    PyType_Ready(&Static);
    PyModule_AddObject(m, "Static", (PyObject *)&Static);
    return m;
}
"""

MARKED = """
import _ext
from hotreload.live import manager
from hotreload._state import c_functions
same = hotpatchable(_ext.score) is _ext.score
heap, static = _ext.Heap, _ext.Static
things = {
    "score": _ext.score, "method": heap.add, "static type": static.add, "class method": heap.make,
    "descriptor": heap.__dict__["make"], "static method": heap.plain, "property": static.tens, "slot": static.__repr__,
    "bound": _ext.Static().add,
}
"""


@pytest.fixture(scope="module")
def extension(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("extension")
    (directory / "shade.h").write_text(SHADE)
    (directory / "_ext.c").write_text(EXTENSION)
    build(directory, hot=True)
    return directory


def build(directory: Path, *, hot: bool) -> None:
    import os
    import subprocess
    import sys
    import sysconfig

    wrapper = [sys.executable, "-m", "hotreload", "cc"] if hot else []
    argv = [
        *wrapper,
        os.environ.get("CC", "gcc"),
        "-O2",
        "-g",
        "-fPIC",
        "-shared",
        f"-I{sysconfig.get_paths()['include']}",
    ]
    subprocess.run([*argv, "_ext.c", "-o", "_ext.so"], cwd=directory, env=surroundings(directory), check=True)


def test_a_marked_extension_function_is_swapped_a_thousand_times(extension: Path) -> None:
    told = run(
        extension,
        MARKED
        + """
from hotreload.live.core import NativeCore
order = []
hotpatchable(_ext.score, before_swap=lambda s: order.append(("before", s.function, s.entered)),
             after_swap=lambda s: order.append(("after", s.function, s.entered)))
module = manager().attach(_ext.__file__)
made = patches(module.build_id, "shade.h", "#define SHADE 2\\n", "#define SHADE 3\\n")
seen, calls, wrong = hammer(lambda: _ext.score(0), {1, 2, 3}.__contains__,
    lambda n: manager().commit(manager().stage(module, made[n % 2]), level="function"), 1000)
tell(same=same, seen=seen, wrong=wrong, state_kept=_ext.calls() == calls, events=len(order),
     in_order=order == [(when, "score", n) for n in range(1, 1001) for when in ("before", "after")],
     generation=about(_ext.score).generation, last=_ext.score(0),
     name=about(_ext.score).name, source=[about(_ext.score).source.line, about(_ext.score).source.text],
     unchanged=[type(_ext.score).__name__, _ext.score.__doc__])
""",
    )
    assert told["same"]
    assert told["seen"] == ["1", "2", "3"]
    assert told["wrong"] == []
    assert told["state_kept"]
    assert told["in_order"], told["events"]
    assert told["generation"] == 1000
    assert told["last"] == 3
    assert told["name"] == "_ext.score"
    assert told["source"] == [5, None]
    assert told["unchanged"] == ["builtin_function_or_method", "Scores."]


def test_each_kind_of_c_function_is_found_from_its_object(extension: Path) -> None:
    (extension / "shade.h").write_text(SHADE)
    told = run(
        extension,
        MARKED
        + """
class Mine(heap):
    def method(self): ...

for name, thing in things.items():
    hotpatchable(thing)
tell(symbols={name: about(thing).symbols for name, thing in things.items()},
     reasons=[about(thing).reason for thing in things.values()],
     names={name: about(thing).name for name, thing in things.items()},
     source=about(_ext.score).source.text)
hotpatchable(heap), hotpatchable(_ext)
tell(of_type=sorted(about(heap).symbols), of_module=sorted(about(_ext).symbols), kinds=[about(heap).kind, about(_ext).kind],
     builtin=error_of(lambda: hotpatchable(len)), interpreter=error_of(lambda: hotpatchable(str.upper)),
     module=error_of(lambda: hotpatchable(sys)), slot_of=error_of(lambda: hotpatchable(_ext.Static().__repr__)))
import ctypes
class cython_function_or_method: ...
class Cythons: method = cython_function_or_method()
tell(cython=error_of(lambda: hotpatchable(Cythons)))
tell(misuse={type(thing).__name__: error_of(lambda: hotpatchable(thing)) for thing in
             (slice.start, cython_function_or_method(), ctypes.CDLL(None), ctypes.CDLL(None).getpid)})
import _struct, _bisect
hotpatchable(_bisect)
tell(whole=about(_bisect).reason, empty=about(hotpatchable(__import__("_opcode"))).is_patchable)
hotpatchable(_struct.calcsize)
tell(plain=about(_struct.calcsize).reason, is_patchable=about(_struct.calcsize).is_patchable, calls=_struct.calcsize("i"))
tell(loaded=[name for name in sys.modules if name in ("hotreload.elf", "hotreload.build")])
""",
    )
    assert told["symbols"] == {
        "score": ["score"], "method": ["add"], "static type": ["add"], "class method": ["make"], "descriptor": ["make"],
        "static method": ["plain"], "property": ["get"], "slot": ["show"], "bound": ["add"],
    }  # fmt: skip
    assert set(told["reasons"]) == {""}
    assert told["names"]["method"].endswith(".add")
    assert told["source"].startswith("static PyObject *score(")
    assert told["of_type"] == ["add", "get", "make", "plain", "show"]
    assert told["of_module"] == ["add", "calls_of", "get", "make", "plain", "score", "show"]
    assert told["kinds"] == ["extension", "extension"]
    assert "builtins.len is a function of the Python interpreter itself" in told["builtin"]
    assert "is a function of the Python interpreter itself" in told["interpreter"]
    assert "module sys is built into Python" in told["module"]
    assert "mark it in its type, as type(x).__repr__" in told["slot_of"]
    assert "it is a field of a struct: mark the functions that use it" in told["misuse"]["member_descriptor"]
    assert "the methods of __main__.Cythons are Cython's" in told["cython"]
    assert "mark the whole module" in told["misuse"]["cython_function_or_method"]
    assert "mark functions of an extension, or say source=" in told["misuse"]["CDLL"]
    assert "mark functions of an extension, or say source=" in told["misuse"]["_FuncPtr"]
    assert "was built without hotreload" in told["whole"]
    assert not told["empty"]
    assert told["plain"].endswith("was built without hotreload: build it with `hotreload build`")
    assert not told["is_patchable"]
    assert told["calls"] == 4
    assert told["loaded"] == []


def test_a_policy_that_goes_by_marks_counts_helpers_and_what_python_sees_anew(extension: Path) -> None:
    (extension / "shade.h").write_text(SHADE)
    told = run(
        extension,
        MARKED
        + """
from hotreload.agent.policy import Policy
policy = Policy(marked_only=True)
hotpatchable(_ext.score)
module = manager().attach(_ext.__file__)
text = open("_ext.c").read()
edited = text.replace("PyLong_AsLong(n) + SHADE", "PyLong_AsLong(n) + 7")
more = text.replace('{"calls", calls_of', '{"scores", score, METH_O, "Added."}, {"calls", calls_of')
one, helper, table = (manager().stage(module, patch) for patch in patches(module.build_id, "_ext.c",
    edited, text.replace("FromLong(calls)", "FromLong(calls + 1)"), more))
check = lambda staged: error_of(lambda: policy.check_marked(staged, module.path))
tell(one=check(one), helper=check(helper), table=check(table))
hotpatchable(_ext)
tell(whole=[check(one), check(helper), check(table)])
with open("_ext.c", "w") as file:
    file.write(text)
""",
    )
    assert told["one"] == "nothing was raised"
    assert "the policy is marked-only, and calls_of is not marked in this process" in told["helper"]
    assert "the policy is marked-only, and methods is not marked in this process" in told["table"]
    assert told["whole"] == ["nothing was raised"] * 3


def test_a_plain_build_comes_up_without_a_word(tmp_path: Path) -> None:
    (tmp_path / "shade.h").write_text(SHADE)
    (tmp_path / "_ext.c").write_text(EXTENSION)
    build(tmp_path, hot=False)
    told = run(
        tmp_path,
        MARKED
        + """
import logging
from hotreload.mark import book
records = []
logging.getLogger("hotreload").addHandler(type("Kept", (logging.Handler,), {"emit": lambda _, record: records.append(record.getMessage())})())
book.tell_unpatchable(), book.tell_unpatchable()
(mark,) = hotreload.status()["marked"]
tell(value=_ext.score(1), patchable=about(_ext.score).is_patchable, records=records, mark=mark)
""",
    )
    assert told["value"] == 2
    assert not told["patchable"]
    assert told["stderr"] == ""
    assert told["records"] == [
        (
            "_ext.score is marked and cannot be patched here: _ext.so was built without hotreload: "
            "build it with `hotreload build`"
        )
    ]
    assert told["mark"]["name"] == "_ext.score"
    assert not told["mark"]["patchable"]


def test_callbacks_may_refuse_and_hear_of_every_refusal_once(tmp_path: Path) -> None:
    write_kernels(tmp_path)
    told = run(
        tmp_path,
        STUBS
        + """
def attempt(patch=None):
    order.clear()
    raised = error_of(lambda: manager().commit(manager().stage(module, patch or made[0]), level="function"))
    return raised, list(order), value(0)

def no(swap):
    raise RuntimeError("a job is running")

def boom(anything):
    raise RuntimeError("a callback that fails")

tell(garbage=attempt(b"no patch"))

@hotpatchable(source="kernels.c", **{**hear("second"), "before_swap": no})
def other(n: int) -> int: ...
tell(veto=attempt())
manager().unstage(manager().stage(module, made[0]))

def leave(anything):
    raise SystemExit("a callback that leaves")

def hook(*error):
    sys.__excepthook__(*error)
    raise SystemExit("a hook that fails")

@hotpatchable(source="kernels.c", **{**hear("second"), "before_swap": leave})
def other(n: int) -> int: ...
tell(leave=attempt())
sys.excepthook = hook
@hotpatchable(source="kernels.c", **{**hear("second"), "after_swap": leave, "on_refused": leave})
def other(n: int) -> int: ...
tell(left=attempt())
manager().rollback(module)
sys.excepthook = sys.__excepthook__

@hotpatchable(source="kernels.c", **{**hear("second"), "after_swap": boom, "on_refused": boom})
def other(n: int) -> int: ...
tell(after=attempt(), again=attempt(b"no patch"))
order.clear()
manager().rollback(module)
tell(rollback=list(order), back=value(0))

text = open("kernels.c").read()
one, two = patches(module.build_id, "kernels.c", text.replace("return n + SHADE;", "return n + SHADE + 4;"),
                   text.replace("SHADE * 100", "SHADE * 200"))
manager().commit(manager().stage(module, one), level="function")
staged = manager().stage(module, two)
@hotpatchable(source="kernels.c", **{**hear("second"), "before_swap": lambda swap: swap.entered and manager().unstage(staged)})
def other(n: int) -> int: ...
order.clear()
tell(gone=error_of(lambda: manager().commit(staged, level="function")), paired=list(order))
manager().rollback(module)

manager().lock()
tell(locked=attempt())
""",
    )
    raised, order, live = told["garbage"]
    assert raised.startswith("StageError: ")
    assert [line[:2] for line in order] == [["first", "refused"], ["second", "refused"]]
    assert live == 1

    raised, order, live = told["veto"]
    assert "before_swap refuses the change: RuntimeError: a job is running" in raised
    assert order == [
        ["first", "before", "value", "kernels_c", 0, 1, ""],
        ["first", "refused", "VETO", "StageError"],
        ["second", "refused", "VETO", "StageError"],
    ]
    assert live == 1

    assert "before_swap refuses the change: SystemExit: a callback that leaves" in told["leave"][0]
    assert [told["left"][0], told["left"][2]] == ["nothing was raised", 2]

    raised, order, live = told["after"]
    assert raised == "nothing was raised"
    assert [line[1] for line in order] == ["before", "before", "after"]
    assert live == 2
    assert "a callback that fails" in told["stderr"]
    assert told["again"][1][0][:2] == ["first", "refused"]

    assert [line[:3] + line[5:6] for line in told["rollback"]] == [
        ["first", "before", "value", 0],
        ["second", "before", "other", 0],
        ["first", "after", "value", 0],
    ]
    assert told["back"] == 1
    assert "the patch is not staged" in told["gone"]  # value would have gone back with it: it was asked, so it is told
    assert [line[:2] for line in told["paired"]] == [["first", "before"], ["first", "refused"], ["second", "refused"]]
    assert told["locked"][1][0] == ["first", "refused", "LOCKED", "StageError"]


def test_a_group_moves_together_whatever_is_configured(tmp_path: Path, extension: Path) -> None:
    write_kernels(tmp_path)
    told = run(
        tmp_path,
        STUBS
        + f"""
sys.path.insert(0, {str(extension)!r})
import _ext
alone = manager().commit(manager().stage(module, made[0]), level="function")
manager().rollback(module, level="function")

group = {{**hear("g"), "group": "sums"}}
@hotpatchable(source="kernels.c", **group)
def value(n: int) -> int: ...
manager().configure(level="function")
one_of_it = manager().commit(manager().stage(module, made[0]))
manager().rollback(module)

@hotpatchable(source="kernels.c", group="sums")
def other(n: int) -> int: ...
order.clear()
staged = manager().stage(module, made[0])
checked = manager().check(module, staged, level="function")
together = manager().commit(staged, level="function")
back = manager().rollback(module, level="function")
restored = manager().commit(manager().stage(module, made[0]), level="function", info={{"restored": True}})
promised = manager().rollback(module, level="function", is_promised=True)
tell(restored=restored.level, promised=promised.level)
tell(alone=alone.level, one_of_it=one_of_it.level, checked=checked, together=together.level, back=back.level,
     group=value.hotreload.group, order=order,
     elsewhere=error_of(lambda: hotpatchable(_ext.score, group="sums")),
     marked=[(mark["name"], mark["group"]) for mark in hotreload.status()["marked"]])
""",
    )
    assert told["alone"] == "function"
    assert told["one_of_it"] == "function"
    assert told["checked"] == told["together"] == told["back"] == "call"
    assert told["restored"] == told["promised"] == "function"  # nobody is in there yet; it was promised
    assert told["group"] == "sums"
    assert {line[6] for line in told["order"]} == {"sums"}
    assert "group 'sums' has __main__.value of " in told["elsewhere"]
    assert "_ext.score is of " in told["elsewhere"]
    assert ["__main__.other", "sums"] in told["marked"]
    assert len(told["marked"]) == 3


def test_a_transition_that_turns_round_is_told_as_a_swap_back(tmp_path: Path) -> None:
    (tmp_path / "shade.h").write_text(SHADE)
    (tmp_path / "kernels.c").write_text(
        '#include <unistd.h>\n#include "shade.h"\nstatic int go;\nlong value(long n) { return n + SHADE; }\n'
        "long hold(long n) { while (!__atomic_load_n(&go, __ATOMIC_SEQ_CST)) usleep(1000); return n + SHADE; }\n"
        "void release(void) { __atomic_store_n(&go, 1, __ATOMIC_SEQ_CST); }\nint is_held(void) { return 0; }\n"
    )
    told = run(
        tmp_path,
        """
from hotreload.live import manager
order = []
@hotpatchable(source="kernels.c", before_swap=lambda s: order.append(["before", s.left, s.entered]),
              after_swap=lambda s: order.append(["after", s.left, s.entered]))
def value(n: int) -> int: ...
@hotpatchable(source="kernels.c")
def hold(n: int) -> int: ...
@hotpatchable(source="kernels.c")
def release() -> None: ...
from hotreload.mark.stub import _loaded
(loaded,) = _loaded.values()
(made,) = patches(loaded.entry.build_id, "shade.h", "#define SHADE 2\\n")
module = manager().attach(loaded.entry.path)
worker = threading.Thread(target=hold, args=(1,))
worker.start()
generation = manager().commit(manager().stage(module, made), level="call", wait=0.0)
tell(transition=generation.transition, during=value(0))
manager().reverse(wait=0.0)
release()
worker.join()
tell(over=manager().wait(20), order=order, after=value(0), generation=value.hotreload.generation)
""",
    )
    assert told["transition"] == "open"
    assert told["over"]
    assert told["order"] == [["before", 0, 1], ["after", 0, 1], ["before", 1, 0], ["after", 1, 0]]
    assert (told["after"], told["generation"]) == (1, 0)
