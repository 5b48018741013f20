"""Shadow data: fields attached to live objects, and gone with them, whatever kind of object it is."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tests.hot import ROOT, run
from tests.migration.conftest import FLAGS

SOURCE = Path(__file__).with_name("objects.c")
PRELUDE = """
import gc, os, sys, objects
from hotreload._state import shadow_stats
from objects import Plain, Derived, Weakable, Node, Heap, attach, attach_raw, peek, drop, ended
class Slotted(Plain): __slots__ = ("x",)
class SlottedNode(Node): __slots__ = ("x",)
class Full(Plain): pass
class Ordinary: pass
class Both(Derived): __slots__ = ()
EVERY = [Plain, Derived, Weakable, Node, Heap, Slotted, SlottedNode, Full, Ordinary, Both]
def resident():
    return int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
"""


@pytest.fixture(scope="module")
def objects(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built plainly: shadow data is no matter of patches."""
    folder = tmp_path_factory.mktemp("objects")
    run(
        "gcc",
        "-shared",
        "-fPIC",
        "-O2",
        *FLAGS,
        "-Wno-missing-field-initializers",
        SOURCE,
        "-o",
        "objects.so",
        cwd=folder,
    )
    return folder


@pytest.fixture
def python(objects: Path):
    """Runs Python in a process of its own; what it says besides is in the failure."""

    def check(body: str, *, options: tuple[str, ...] = ()) -> str:
        done = subprocess.run(
            [sys.executable, *options, "-c", PRELUDE + textwrap.dedent(body)],
            capture_output=True, text=True, check=False, timeout=120,
            env={"PYTHONPATH": f"{ROOT}:{objects}", "PATH": "/usr/bin:/bin"},
        )  # fmt: skip
        assert done.returncode == 0, f"exit {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout.strip()

    return check


def test_the_data_is_zero_at_first_and_stays_where_it_is(python):
    python("""
        for kind in EVERY:
            thing = kind()
            assert [attach(thing, 1, 8) for _ in range(3)] == [0, 1, 2], kind
            where = peek(thing, 1)
            assert where and where % 16 == 0
            others = [kind() for _ in range(1000)]
            for other in others: attach(other, 1, 8)
            assert peek(thing, 1) == where and attach(thing, 1, 8) == 3
            assert attach(thing, 2, 100) == 0 and peek(thing, 2) != where
            assert peek(thing, 3) == 0
    """)


def test_the_data_ends_with_the_object_whatever_its_kind(python):
    python("""
        for kind in EVERY:
            things = [kind() for _ in range(1000)]
            for thing in things: attach(thing, 7, 40)
            assert shadow_stats()[:3] == (1000, 1000, 40_000), kind
            ended()
            del thing
            things.clear()
            gc.collect()
            assert shadow_stats()[:3] == (0, 0, 0), (kind, shadow_stats())
            if kind is not Ordinary:
                assert ended() in (1000, 101_000), kind  # each original deallocator once
    """)


def test_a_hundred_thousand_objects_leave_nothing(python):
    python("""
        def fill(kind):
            things = [kind() for _ in range(100_000)]
            for thing in things:
                attach(thing, 1, 64)
            assert shadow_stats()[0] == 100_000
        for kind in (Weakable, Plain, Ordinary, Slotted):
            fill(kind)
            assert shadow_stats()[:3] == (0, 0, 0)
            before = resident()
            for _ in range(3):
                fill(kind)
            assert resident() - before < 12 << 20, (kind, before, resident())
    """)


def test_an_object_at_the_address_of_a_dead_one_has_no_data(python):
    python("""
        for kind in EVERY:
            seen = set()
            for _ in range(2000):
                thing = kind()
                assert attach(thing, 5, 16) == 0, kind
                seen.add(id(thing))
                del thing
            assert len(seen) < 2000, kind
    """)


def test_types_of_the_interpreter_are_refused_by_their_names(python):
    said = python("""
        for thing in (5000, "text", [], {}, (1,), object(), 1.5, b"x", range(9)):
            try:
                attach(thing, 1, 8)
            except TypeError as error:
                assert type(thing).__name__ in str(error)
            else:
                raise SystemExit(f"{type(thing)} was taken")
        class Bare: __slots__ = ("x",)
        try:
            attach(Bare(), 1, 8)
        except TypeError as error:
            print(error)
        for thing in (set(), print.__class__, lambda: 1, type("T", (), {})):  # these can have weakrefs
            assert attach(thing, 1, 8) == 0
        assert shadow_stats()[3] == 0
    """)
    assert said.startswith("no shadow data for Bare objects")


def test_a_deep_chain_of_hooked_objects_ends_without_recursion(python):
    """The trashcan of the original deallocator does not see its own type any more; the hook unwinds instead."""
    python("""
        attach(Node(), 1, 8)  # hooked
        ended()
        for kind in (Node, SlottedNode):
            head = None
            for i in range(300_000):
                node = kind()
                node.child = head
                if i % 3 == 0: attach(node, 1, 8)
                head = node
            del node, head
            assert ended() == 300_000
            assert shadow_stats()[0] == 0
    """)


def test_cycles_that_the_collector_finds(python):
    python("""
        class Ring(Node): pass  # has weakrefs and a dictionary
        for kind in (Node, Ring, SlottedNode):
            for _ in range(2000):
                a, b = kind(), kind()
                a.child, b.child = b, a
                attach(a, 1, 24), attach(b, 1, 24)
            del a, b
            gc.collect()
            assert shadow_stats()[:3] == (0, 0, 0), kind
    """)


def test_base_and_derived_types_may_both_be_hooked_in_any_order(python):
    for order in ("Plain, Derived, Both", "Both, Derived, Plain", "Derived, Plain, Slotted"):
        python(f"""
            for kind in ({order}):
                attach(kind(), 1, 8)
            assert shadow_stats()[3] == 2, shadow_stats()
            ended()
            for kind in ({order}):
                thing = kind()
                attach(thing, 1, 8)
                del thing
                assert ended() == (101 if issubclass(kind, Derived) else 1), kind
            assert shadow_stats()[:3] == (0, 0, 0)
        """)


def test_more_types_than_there_are_hooks(python):
    python("""
        kinds = [type(f"K{i}", (Plain,), {"__slots__": ()}) for i in range(500)]
        for kind in kinds:
            attach(kind(), 1, 8)
        assert shadow_stats()[3] == 1  # they are all deallocated by way of Plain
    """)


def test_a_subclass_dies_before_its_hooked_base(python):
    python("""
        for i in range(200):
            kind = type("K", (Heap,), {"__slots__": ()})
            things = [kind() for _ in range(50)]
            for thing in things: attach(thing, 1, 8)
            del kind, things, thing
            gc.collect()
        assert shadow_stats()[:3] == (0, 0, 0)
    """)


def test_data_for_what_is_no_object(python):
    python("""
        where = attach_raw(0x1230, 1, 8)
        assert where and attach_raw(0x1230, 1, 8) == where
        assert attach_raw(0x1230, 2, 8) != where
        drop(0x1230, 1); drop(0x1230, 1); drop(0x9990, 1)
        assert shadow_stats()[:3] == (1, 1, 8)
        drop(0x1230, 2)
        assert shadow_stats()[:3] == (0, 0, 0)
        for i in range(10_000): attach_raw(16 * i, i, 32)
        assert shadow_stats()[:3] == (10_000, 10_000, 320_000)
        for i in range(10_000): drop(16 * i, i)
        assert shadow_stats()[:3] == (0, 0, 0)
    """)


def test_more_bytes_than_the_first_time_are_refused(python):
    python("""
        thing = Plain()
        attach(thing, 1, 8)
        assert attach(thing, 1, 4) == 0  # less is fine
        try:
            attach(thing, 1, 9)
        except ValueError as error:
            assert "has 8 bytes, 9 were asked for" in str(error)
        else:
            raise SystemExit("it was given")
        for size in (2**62, 2**63 - 1):
            try:
                attach(thing, 2, size)
            except MemoryError:
                pass
            else:
                raise SystemExit("it was given")
    """)


def test_a_resurrected_object_starts_anew(python):
    python("""
        kept = []
        class Phoenix(Plain):
            __slots__ = ()
            def __del__(self): kept.append(self)
        bird = Phoenix()
        attach(bird, 1, 8)
        del bird
        assert len(kept) == 1
        assert attach(kept[0], 1, 8) in (0, 1)
        class Weak:
            def __del__(self): kept.append(self)
        bird = Weak()
        attach(bird, 1, 8)
        del bird
        assert attach(kept[1], 1, 8) in (0, 1)
        Phoenix.__del__ = Weak.__del__ = lambda self: None
        kept.clear()
        assert shadow_stats()[:3] == (0, 0, 0)
    """)


def test_threads_and_a_fork(python):
    python("""
        import threading
        sys.setswitchinterval(1e-5)
        def work():
            for _ in range(20_000):
                thing = Plain() if _ % 2 else Weakable()
                attach(thing, 1, 8)
        threads = [threading.Thread(target=work) for _ in range(4)]
        for t in threads: t.start()
        for t in threads: t.join()
        assert shadow_stats()[:3] == (0, 0, 0)
        thing = Plain(); attach(thing, 1, 8)
        pid = os.fork()
        if not pid:
            ok = attach(thing, 1, 8) == 1
            del thing
            os._exit(0 if ok and shadow_stats()[0] == 0 else 1)
        assert os.waitpid(pid, 0)[1] == 0
        assert attach(thing, 1, 8) == 1
    """)


def test_the_state_module_brings_nothing_else(python):
    python("""
        assert "hotreload.live" not in sys.modules and "cffi" not in sys.modules
        assert [name for name in sys.modules if name.startswith("hotreload")] == ["hotreload", "hotreload._state"]
    """)


def test_an_interpreter_that_ends_with_data_attached(python):
    python("""
        things = [kind() for kind in EVERY]
        for thing in things: attach(thing, 1, 8)
        sys.things = things
        ring = Node(); ring.child = ring; attach(ring, 1, 8)
    """)


PATCHED = """
#include <Python.h>
#include "hotreload.h"
typedef struct { PyObject_HEAD long size; } Box;
static void box_dealloc(PyObject *self) { Py_TYPE(self)->tp_free(self); }
static PyObject *box_open(PyObject *self, PyObject *none)
{
    (void)none;
    return PyLong_FromLong(((Box *)self)->size);
}
static PyMethodDef box_methods[] = {{"open", box_open, METH_NOARGS, NULL}, {0}};
static PyTypeObject BoxType = {PyVarObject_HEAD_INIT(NULL, 0) .tp_name = "ext.Box", .tp_basicsize = sizeof(Box),
    .tp_flags = Py_TPFLAGS_DEFAULT, .tp_new = PyType_GenericNew, .tp_dealloc = box_dealloc,
    .tp_methods = box_methods};
static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "ext", NULL, -1, NULL, NULL, NULL, NULL, NULL};
PyMODINIT_FUNC PyInit_ext(void)
{
    PyObject *made = PyModule_Create(&module);
    if (PyType_Ready(&BoxType) < 0)
        return NULL;
    Py_INCREF(&BoxType);
    PyModule_AddObject(made, "Box", (PyObject *)&BoxType);
    return made;
}
"""
COUNTED = """
    long *hits = hotreload_shadow_get_object(self, 0x51, sizeof *hits);
    if (!hits)
        return NULL;
    return PyLong_FromLong(((Box *)self)->size + ++*hits);
"""


def test_a_patch_gives_live_objects_a_new_field(hot_extension):
    """It stays through a rollback and a second generation, and ends with its object."""
    hot = hot_extension(PATCHED, flags=("-O2", *FLAGS, "-Wno-missing-field-initializers"), is_python=True)
    assert hot("ext.__dict__.setdefault('box', ext.Box()).open()") == 0
    hot.edit("    return PyLong_FromLong(((Box *)self)->size);\n", COUNTED)
    stats = "__import__('hotreload._state', fromlist=['x']).shadow_stats()"
    assert [hot("ext.box.open()") for _ in range(3)] == [1, 2, 3]
    assert hot(f"{stats}[:3]") == (1, 1, 8)
    hot.rollback()
    assert hot("ext.box.open()") == 0
    assert hot(f"{stats}[:3]") == (1, 1, 8)
    hot.edit("+ ++*hits", "+ ++*hits + 100")
    assert hot("ext.box.open()") == 104
    assert hot("[ext.Box().open() for _ in range(5)]") == [101] * 5
    hot.rollback()
    assert hot("ext.__dict__.pop('box') is None") is False
    assert hot(f"{stats}[:3]") == (0, 0, 0)
