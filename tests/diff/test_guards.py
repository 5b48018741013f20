"""What cannot go live safely is refused with its reason, at its line, and what only looks like it is not."""

from __future__ import annotations

import re
import sysconfig
from pathlib import Path
from typing import NamedTuple

import pytest

import hotreload
from hotreload.diff.verdicts import ALLOWABLE, NEVER, SLUGS
from hotreload.errors import HotReloadError, IncompatibleError
from hotreload.patch.workshop import Workshop
from hotreload.python.verdicts import NEVER as PYTHON_SLUGS
from tests.hot import hot_cc

LEVELS = pytest.mark.parametrize("level", ["-O0", "-O2"])
NOINLINE = "#define NOINLINE __attribute__((noinline))\n"


class Case(NamedTuple):
    """An edit of one source, and what must be said about it."""

    source: str
    old: str
    new: str
    said: tuple[str, ...] = ()


def findings(hot, *edits: tuple[str, ...]) -> list[str]:
    """All that the workshop refuses after these edits, with file names instead of paths."""
    for edit in edits:
        hot.save(*edit)
    try:
        hot.make()
    except IncompatibleError as error:
        assert all(finding.hint and finding.line for finding in error.findings), error.findings
        return [f"{f.slug} {f}".replace(f"{hot.directory}/", "") for f in error.findings]
    return []


CALLED = NOINLINE + (
    "static NOINLINE long f(long x)\n{\n    return x * 3;\n}\n"
    "long g(long x)\n{\n    return f(x) + 1;\n}\n"
    "long h(long x)\n{\n    return x + 2;\n}\n"
)
POINTED = CALLED + "static long (*table[])(long) = {(void *)f};\nlong call(long x) { return table[x & 0](x); }\n"
ITEMS = (
    "#include <stdlib.h>\n"
    "struct item { long id; long weight; };\n"
    "static struct item *first;\n"
    "long add(long x) { struct item *new = malloc(sizeof *new); new->id = x; new->weight = 2 * x; first = new; return 0; }\n"
    "long weigh(long x) { return first ? first->weight + x : -1; }\n"
)
LOCAL = (
    "struct item { long id; long weight; };\n"
    "static __attribute__((noinline)) long weigh(struct item *it) { return it->weight * 10 + it->id; }\n"
    "long f(long x) { struct item it = {x, 3}; return weigh(&it); }\n"
)
PASSED = (
    LOCAL
    + "static __attribute__((noinline)) long id(struct item *it) { return it->id; }\nlong g(long x) { struct item it = {x, 4}; return id(&it); }\n"
)
RESTART = "restart to change it, or give the new variable another name"
TYPE_HINT = "restart to change it, or give the new type another name"

REFUSED = {
    "a parameter more, and an exported function": Case(
        NOINLINE + "NOINLINE long f(long x)\n{\n    return x * 3;\n}\nlong g(long x) { return f(x) + 1; }\n",
        "long f(long x)\n{\n    return x * 3;\n}\nlong g(long x) { return f(x) + 1; }",
        "long f(long x, long y)\n{\n    return x * 3 + y;\n}\nlong g(long x) { return f(x, 7) + 1; }",
        ((
            "prototype-changed ext.c:2: refused: `long int f(long int)` became `long int f(long int, long int)`, and the old "
            "one is still needed by whoever else uses `f`, which is exported "
            "(give the new function another name, or change those too)"
        ),),
    ),
    "a parameter more, and a table of pointers": Case(
        POINTED,
        "f(long x)\n{\n    return x * 3;\n}\nlong g(long x)\n{\n    return f(x) + 1;",
        "f(long x, long y)\n{\n    return x * 3 + y;\n}\nlong g(long x)\n{\n    return f(x, 4) + 1;",
        ((
            "prototype-changed ext.c:2: refused: `long int f(long int)` became `long int f(long int, long int)`, and the old "
            "one is still needed by `table` (ext.c:14) (give the new function another name, or change those too)"
        ),),
    ),
    "a field in the middle of what a variable points to": Case(
        ITEMS, "{ long id; long weight; }", "{ long id; int kind; long weight; }",
        ((
            "type-layout ext.c:2: refused: `struct item` is laid out differently: `kind` (new at 8+4), `weight` (8+8 -> 16+8), "
            f"size 16 -> 24; variable `first` is alive ({TYPE_HINT})"
        ),),
    ),
    "a field at the end of what a variable points to": Case(
        ITEMS, "{ long id; long weight; }", "{ long id; long weight; long more; }",
        ((
            "type-layout ext.c:2: refused: `struct item` is laid out differently: `more` (new at 16+8), size 16 -> 24; "
            f"variable `first` is alive ({TYPE_HINT})"
        ),),
    ),
    "two fields that trade places": Case(
        ITEMS, "{ long id; long weight; }", "{ long weight; long id; }",
        ((
            "type-layout ext.c:2: refused: `struct item` is laid out differently: `weight` (8+8 -> 0+8), `id` (0+8 -> 8+8); "
            f"variable `first` is alive ({TYPE_HINT})"
        ),),
    ),
    "a field of another type": Case(
        ITEMS, "long weight; }", "double weight; }",
        ((
            "type-layout ext.c:2: refused: `struct item` is laid out differently: `weight` (long int -> double); "
            f"variable `first` is alive ({TYPE_HINT})"
        ),),
    ),
    "a parameter of a function that is not replaced": Case(
        PASSED, "{ long id; long weight; }", "{ long id; long more; long weight; }",
        ((
            "type-layout ext.c:1: refused: `struct item` is laid out differently: `more` (new at 8+8), `weight` (8+8 -> 16+8), "
            f"size 16 -> 24; `id` is not replaced and takes or returns it ({TYPE_HINT})"
        ),),
    ),
    "a bit-field": Case(
        "struct flags { unsigned a : 3; unsigned b : 5; };\nstatic struct flags now;\n"
        "long set(long x) { now.b = x; return 0; } long get(void) { return now.b; }\n",
        "a : 3", "a : 4",
        ((
            "type-layout ext.c:1: refused: `struct flags` is laid out differently: `a` (bits 0+3 -> bits 0+4), "
            f"`b` (bits 3+5 -> bits 4+5); variable `now` is alive ({TYPE_HINT})"
        ),),
    ),
    "an enumerator of a type that a variable has": Case(
        "enum mode { OFF, ON, AUTO };\nstatic enum mode mode;\n"
        "long set(long x) { mode = x ? AUTO : OFF; return 0; } long get(void) { return mode == AUTO; }\n",
        "{ OFF, ON,", "{ OFF, HALF, ON,",
        ((
            "type-layout ext.c:1: refused: `enum mode` is laid out differently: `ON` (1 -> 2), `AUTO` (2 -> 3); "
            f"variable `mode` is alive ({TYPE_HINT})"
        ),),
    ),
    "a variable of another type": Case(
        "\nstatic int level = 3;\nlong f(long x) { level += x; return level; }\n", "static int", "static float",
        ((
            "variable-type ext.c:2: refused: variable `level` was `int` and is now `float`; the live one holds the old "
            f"({RESTART})"
        ),),
    ),
    "a typedef of another type": Case(
        "typedef int amount;\nstatic amount level = 3;\nlong f(long x) { level += x; return level; }\n", "int amount", "float amount",
        ((
            "variable-type ext.c:2: refused: variable `level` was `int` and is now `float`; the live one holds the old "
            f"({RESTART})"
        ),),
    ),
    "a pointer to something else": Case(
        "struct a { long n; }; struct b { double d; };\nstatic struct a *p;\nlong f(void) { return p != 0; }\nlong g(long x) { p = (void *)x; return 0; }\n",
        "static struct a *p;", "static struct b *p;",
        ((
            "variable-type ext.c:2: refused: variable `p` was `struct a *` and is now `struct b *`; the live one holds the old "
            f"({RESTART})"
        ),),
    ),
    "a static local of another type": Case(
        "long f(long x)\n{\n    static long n;\n    n += x;\n    return n;\n}\n", "static long n", "static double n",
        ((
            "variable-type ext.c:3: refused: variable `f::n` was `long int` and is now `double`; the live one holds the old "
            f"({RESTART})"
        ),),
    ),
    "a variable of another size": Case(
        "static long t[4];\nlong f(long x) { return t[x & 3]++; }\n", "t[4]", "t[8]",
        ((
            "variable-size ext.c:1: refused: variable `t` was 32 bytes and is now 64; the live one keeps its size "
            f"({RESTART})"
        ),),
    ),
    "a variable that becomes const": Case(
        "static long t[4];\nlong f(long x) { return t[x & 3]; }\nlong g(long x) { t[0] = x; return 0; }\n",
        "static long t[4];\nlong f(long x) { return t[x & 3]; }\nlong g(long x) { t[0] = x; return 0; }\n",
        "static const long t[4] = {1, 2, 3, 4};\nlong f(long x) { return t[x & 3]; }\nlong g(long x) { return 0; }\n",
        ((
            "variable-section ext.c:1: refused: variable `t` was writable and is const now: the new code would use a copy with "
            "the value of its initialiser (restart, or give the new one another name)"
        ),),
    ),
    "a const that becomes a variable": Case(
        "static const long t[4] = {1, 2, 3, 4};\nlong f(long x) { return t[x & 3]; }\nlong g(long x) { return 0; }\n",
        "static const long t[4] = {1, 2, 3, 4};\nlong f(long x) { return t[x & 3]; }\nlong g(long x) { return 0; }\n",
        "static long t[4] = {1, 2, 3, 4};\nlong f(long x) { return t[x & 3]; }\nlong g(long x) { t[0] = x; return 0; }\n",
        ((
            "variable-section ext.c:1: refused: variable `t` was const and is writable now: the new code would use a copy with "
            "the value of its initialiser (restart, or give the new one another name)"
        ),),
    ),
    "a variable that becomes one per thread": Case(
        "static long n;\nlong f(long x) { return n += x; }\n", "static long n;", "static __thread long n;",
        ((
            "thread-local-changed ext.c:1: refused: variable `n` was one for all threads and is now one per thread "
            f"({RESTART})"
        ),),
    ),
    "a thread-local that becomes one for all": Case(
        "static __thread long n;\nlong f(long x) { return n += x; }\n", "static __thread long n;", "static long n;",
        ((
            "thread-local-changed ext.c:1: refused: variable `n` was one per thread and is now one for all threads "
            f"({RESTART})"
        ),),
    ),
    "a constructor": Case(
        "static long n;\nlong f(long x) { return n + x; }\nlong set(long x) { n = x; return 0; }\n", "static long n;\n",
        "static long n;\n__attribute__((constructor)) static void start(void) { n = 5; }\n",
        ((
            "constructor-added ext.c:2: refused: `start` runs when the library is loaded, and it is not loaded again "
            "(restart, or call it from a function that runs)"
        ),),
    ),
}  # fmt: skip


@LEVELS
@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_go_live_is_refused_with_its_place_and_reason(hot_extension, level, what):
    case = REFUSED[what]
    hot = hot_extension(case.source, flags=(level,))
    assert findings(hot, (case.old, case.new)) == list(case.said)


PYTHON = """\
#include <Python.h>
typedef struct { PyObject_HEAD long sides; } Shape;
static PyObject *area(PyObject *self, PyObject *arg) { return PyLong_FromLong(PyLong_AsLong(arg) * 3); }
static PyObject *edge(PyObject *self, PyObject *arg) { return PyLong_FromLong(4); }
static PyObject *get(PyObject *self, void *closure) { return PyLong_FromLong(((Shape *)self)->sides); }
static PyObject *text(PyObject *self) { return PyUnicode_FromFormat("shape %ld", ((Shape *)self)->sides); }
static PyMethodDef methods[] = {
    {"area", area, METH_O, "How large."}, {"edge", (PyCFunction)edge, METH_NOARGS, "How long."}, {0}};
static PyGetSetDef fields[] = {{"sides", get, NULL, "How many.", NULL}, {0}};
static PyTypeObject Shape_Type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "ext.Shape", .tp_basicsize = sizeof(Shape), .tp_repr = text,
    .tp_flags = Py_TPFLAGS_DEFAULT, .tp_new = PyType_GenericNew, .tp_getset = fields, .tp_doc = "A shape."};
static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "ext", "Shapes.", -1, methods, 0, 0, 0, 0};
PyMODINIT_FUNC PyInit_ext(void)
{
    PyObject *m;
    if (PyType_Ready(&Shape_Type) < 0) return NULL;
    m = PyModule_Create(&module);
    if (m && PyModule_AddObjectRef(m, "Shape", (PyObject *)&Shape_Type) < 0) return NULL;
    return m;
}
"""
READ = "Python has read the live one and does not look again"
FREE = "restart to change it; the functions that it names can be edited freely"
NEEDED = "give the new function another name, or change those too"
SHADOW = "restart to change it, or keep new fields in shadow data (hotreload_shadow_get)"

OF_PYTHON = {
    "other flags": Case(
        PYTHON, "area, METH_O,", "area, METH_VARARGS,",
        ((
            "method-flags ext.c:7: refused: `methods`: `area` was METH_O and is METH_VARARGS; how Python passes the arguments "
            "was chosen when the function object was made (restart to change it, or add the function under another name)"
        ),),
    ),
    "a name for which types have a slot": Case(
        PYTHON, '"How long."}, {0}}', '"How long."}, {"__call__", area, METH_O, ""}, {0}}',
        ((
            "method-special ext.c:7: refused: `methods`: `__call__` is new; classes that exist have asked for the name "
            "already (restart to change it, or use another name until then)"
        ),),
    ),
    "two entries of one name": Case(
        PYTHON, '"How long."}, {0}}', '"How long."}, {"edge", area, METH_O, ""}, {0}}',
        (f"method-table ext.c:7: refused: `methods`: `edge`' is new; {READ} ({FREE})",),
    ),
    "an entry behind the end": Case(
        PYTHON, '"How long."}, {0}}', '"How long."}, {0}, {"size", area, METH_O, ""}}',
        (f"method-table ext.c:7: refused: `methods`: `size` is new; {READ} ({FREE})",),
    ),
    "a type slot": Case(
        PYTHON, ".tp_repr = text", ".tp_str = text",
        (f"type-object ext.c:10: refused: `Shape_Type`: another tp_repr, tp_str; {READ} ({FREE})",),
    ),
    "the module's state": Case(
        PYTHON, '"Shapes.", -1,', '"Shapes.", 8,',
        (f"module-def ext.c:13: refused: `module`: another m_size; {READ} ({FREE})",),
    ),
    "a field of a Python object": Case(
        PYTHON, "PyObject_HEAD long sides;", "PyObject_HEAD int colour; long sides;",
        ((
            "python-object-layout ext.c:2: refused: `typedef Shape` is laid out differently: `colour` (new at 16+4), `sides` "
            f"(16+8 -> 24+8), size 24 -> 32; objects that are alive keep the old layout ({SHADOW})"
        ),),
    ),
    "a prototype that a method table has": Case(
        PYTHON, "area(PyObject *self, PyObject *arg) { return PyLong_FromLong(PyLong_AsLong(arg) * 3); }",
        "area(PyObject *self, PyObject *const *arg) { return PyLong_FromLong(PyLong_AsLong(arg[0]) * 3); }",
        ((
            "prototype-changed ext.c:3: refused: `PyObject *area(PyObject *, PyObject *)` became `PyObject *area(PyObject *, "
            f"PyObject **)`, and the old one is still needed by `methods` (ext.c:7) ({NEEDED})"
        ),),
    ),
}  # fmt: skip


def python_extension(hot_extension, source: str, level: str = "-O2", **options):
    flags = (level, "-w", f"-I{sysconfig.get_path('include')}")
    return hot_extension(source, flags=flags, is_python=True, **options)


@LEVELS
@pytest.mark.parametrize("what", OF_PYTHON)
def test_what_python_has_read_is_refused_with_the_entry_named(hot_extension, level, what):
    case = OF_PYTHON[what]
    hot = python_extension(hot_extension, case.source, level)
    assert findings(hot, (case.old, case.new)) == list(case.said)


def test_documentation_of_methods_is_shown_and_that_of_a_type_is_not(hot_extension):
    hot = python_extension(hot_extension, PYTHON)
    assert hot("ext.area(2)") == 6
    hot.save('"How large."', '"How large it is."')
    hot.save('.tp_doc = "A shape."', '.tp_doc = "Some shape."')
    result = hot.edit("* 3)", "* 5)")
    assert hot("ext.area(2)") == 10
    assert result.notes == ("documentation in `Shape_Type` changed: Python shows the old text until a restart",)
    assert hot("ext.area.__doc__") == "How large it is."
    assert hot("ext.Shape.__doc__") == "A shape."


def test_heap_types_are_looked_at_through_their_slots(hot_extension):
    source = (
        "#include <Python.h>\n"
        'static PyObject *text(PyObject *self) { return PyUnicode_FromString("a"); }\n'
        'static PyObject *other(PyObject *self) { return PyUnicode_FromString("b"); }\n'
        'static PyType_Slot slots[] = {{Py_tp_repr, text}, {Py_tp_doc, "text"}, {0, 0}};\n'
        'static PyType_Spec spec = {"ext.Heap", sizeof(PyObject), 0, Py_TPFLAGS_DEFAULT, slots};\n'
        'static int run(PyObject *m) { PyObject *t = PyType_FromSpec(&spec); return PyModule_AddObjectRef(m, "Heap", t); }\n'
        "static const PyModuleDef_Slot steps[] = {{Py_mod_exec, run}, {0, 0}};\n"
        'static PyModuleDef module = {PyModuleDef_HEAD_INIT, "ext", 0, 0, 0, (PyModuleDef_Slot *)steps, 0, 0, 0};\n'
        "PyMODINIT_FUNC PyInit_ext(void) { return PyModuleDef_Init(&module); }\n"
    )
    hot = python_extension(hot_extension, source)
    assert hot.edit('"Heap", t)', '"Heap", (Py_INCREF(t), t))').notes == (
        "`run` changed: module init is not run again",
    )
    hot.save('"Heap", (Py_INCREF(t), t))', '"Heap", t)')
    assert findings(hot, ("{Py_tp_repr, text}", "{Py_tp_repr, other}")) == [
        f"type-object ext.c:4: refused: `slots`: slot 66 has another pfunc; {READ} ({FREE})"
    ]
    assert findings(
        hot, ("{Py_tp_repr, other}", "{Py_tp_repr, text}"), ("sizeof(PyObject), 0", "sizeof(PyObject) + 8, 0")
    ) == [f"type-object ext.c:5: refused: `spec`: another basicsize; {READ} ({FREE})"]


def test_module_state_is_alive_although_only_the_interpreter_points_to_it(hot_extension):
    source = (
        "#include <Python.h>\n"
        "typedef struct { long a; long b; } state;\n"
        "static PyObject *get(PyObject *m, PyObject *x) { state *s = PyModule_GetState(m); return PyLong_FromLong(s->b); }\n"
        'static PyMethodDef methods[] = {{"get", get, METH_NOARGS, 0}, {0}};\n'
        'static PyModuleDef module = {PyModuleDef_HEAD_INIT, "ext", 0, sizeof(state), methods, 0, 0, 0, 0};\n'
        "PyMODINIT_FUNC PyInit_ext(void) { return PyModule_Create(&module); }\n"
    )
    hot = python_extension(hot_extension, source)
    (said,) = findings(hot, ("long a; long b;", "long b; long a;"))
    assert said == (
        "type-layout ext.c:2: refused: `typedef state` is laid out differently: `b` (8+8 -> 0+8), `a` (0+8 -> 8+8); "
        f"`get` gets one that is alive from PyModule_GetState ({TYPE_HINT})"
    )


def test_a_new_variable_that_only_module_init_sets_up_is_refused(hot_extension):
    hot = python_extension(hot_extension, PYTHON)
    (said,) = findings(
        hot,
        ("static PyObject *area(", "static PyObject *Error;\nstatic PyObject *area("),
        ("{ return PyLong_FromLong(4); }", "{ PyErr_SetNone(Error); return NULL; }"),
        ("    PyObject *m;\n", '    PyObject *m;\n    Error = PyErr_NewException("ext.Error", NULL, NULL);\n'),
    )
    assert said == (
        "module-init ext.c:3: refused: `Error` is new and is set up by `PyInit_ext`, which is not run again, but `edge` uses "
        "it (restart, or set it up where it is first used)"
    )


ACCEPTED = {
    "a parameter more where every caller is replaced": Case(
        CALLED, "f(long x)\n{\n    return x * 3;\n}\nlong g(long x)\n{\n    return f(x) + 1;",
        "f(long x, int y)\n{\n    return x * 3 + y;\n}\nlong g(long x)\n{\n    return f(x, 5) + 1;",
    ),
    "a wider parameter where a caller has the code that it had": Case(
        NOINLINE + "static NOINLINE long f(int x) { return x * 3; }\nlong g(long x) { return f(5) + 1; }\nlong h(long x) { return x; }\n",
        "f(int x) { return x * 3; }", "f(long x) { return x * 3 + (x >> 40); }",
    ),
    "const added to a parameter and a pointer to it": Case(
        NOINLINE + "static NOINLINE long f(char *x, long n) { return x[0] + n; }\nlong g(long x) { char t[2] = {3, 4}; return f(t, x); }\n",
        "f(char *x, long n) { return x[0] + n", "f(const char *const x, const long n) { return x[1] + n",
    ),
    "unsigned for int, an enum for int, void * for a struct": Case(
        NOINLINE + "enum mode { A, B }; struct s { long n; };\nstatic int state;\n"
        "static NOINLINE long f(int x, int m, struct s *s) { return x + m + s->n + state; }\n"
        "long g(long x) { struct s s = {x}; return f(x, 1, &s); }\nlong set(long x) { state = x; return 0; }\n",
        "static int state;\nstatic NOINLINE long f(int x, int m, struct s *s) { return x + m + s->n + state; }",
        "static unsigned state;\nstatic NOINLINE long f(unsigned x, enum mode m, void *s) { return x + m + 2 * ((struct s *)s)->n + state; }",
    ),
    "a field renamed": Case(
        ITEMS.replace("first->weight + x", "first->weight + x + 0"), "struct item { long id; long weight; };", "struct item { long id; long weight_; };\n#define weight weight_",
    ),
    "a typedef renamed, and a struct": Case(
        "typedef struct { long a; } thing; static thing *kept;\nlong f(long x) { return kept ? kept->a : x; }\nlong set(void) { static thing one = {5}; kept = &one; return 0; }\n",
        "typedef struct { long a; } thing; static thing *kept;\nlong f(long x) { return kept ? kept->a : x; }\nlong set(void) { static thing",
        "struct other { long a; }; static struct other *kept;\nlong f(long x) { return kept ? kept->a + 1 : x; }\nlong set(void) { static struct other",
    ),
    "a type that only replaced functions use": Case(
        LOCAL, "{ long id; long weight; }", "{ long id; long more; long weight; }",
    ),
    "an enumerator at the end": Case(
        "enum mode { OFF, ON };\nstatic enum mode mode;\nlong set(long x) { mode = x ? ON : OFF; return 0; }\nlong get(void) { return mode == ON; }\n",
        "enum mode { OFF, ON };", "enum mode { OFF, ON, AUTO };\nlong fresh(void) { return AUTO; }",
    ),
    "constants of no type that have other values": Case(
        "enum { SMALL = 3, LARGE = 30 };\nlong f(long x) { return x + SMALL; }\nlong set(long x) { return x + LARGE; }\n", "SMALL = 3", "SMALL = 4",
    ),
    "a declaration becomes a definition": Case(
        "struct hidden; static struct hidden *kept;\nlong f(long x) { return kept != 0 ? x : 1; }\nlong set(void *p) { kept = p; return 0; }\n",
        "struct hidden; static struct hidden *kept;\nlong f(long x) { return kept != 0 ? x : 1; }",
        "struct hidden { long n; }; static struct hidden *kept;\nlong f(long x) { return kept != 0 ? kept->n : 2; }",
    ),
    "a variable from .bss to .data": Case(
        "static long n;\nlong f(long x) { return n += x; }\nlong set(long x) { return n = x; }\n",
        "static long n;\nlong f(long x) { return n += x; }", "static long n = 7;\nlong f(long x) { return n += 2 * x; }",
    ),
    "a static const table gets other values": Case(
        "static const long t[] = {1, 2, 3};\nlong f(long x) { return t[x]; }\nlong set(long x) { return x; }\n", "{1, 2, 3}", "{1, 2, 4}",
    ),
}  # fmt: skip


@LEVELS
@pytest.mark.parametrize("compiler", ["gcc", "clang"])
@pytest.mark.parametrize("what", ACCEPTED)
def test_what_only_looks_dangerous_is_not_refused(hot_extension, level, what, compiler):
    case = ACCEPTED[what]
    hot = hot_extension(case.source, flags=(level, "-w"), compiler=compiler)
    assert findings(hot, (case.old, case.new)) == []


def test_all_that_is_wrong_is_told_at_once_in_all_units(hot_extension):
    hot = hot_extension(
        {
            "a.c": "static long t[4];\nstatic int level;\nlong f(long x) { level += x; return t[x & 3] + level; }\n",
            "b.c": "static long n;\n__attribute__((patchable_function_entry(0, 0))) long g(long x) { return n += x; }\n",
        },
        flags=("-O2",),
    )
    said = findings(
        hot,
        ("t[4]", "t[8]", "a.c"),
        ("static int level", "static float level", "a.c"),
        ("static long n", "static __thread long n", "b.c"),
    )
    assert [line.partition(":")[0] + ":" + line.split(":")[1] for line in said] == [
        "variable-size a.c:1",
        "thread-local-changed b.c:1",
        "variable-type a.c:2",
        "no-hook b.c:2",
    ]


HIDDEN = '__attribute__((visibility("hidden"))) '


def test_what_nobody_defines_any_more_is_refused_because_the_next_start_would_fail(hot_extension):
    hot = hot_extension(
        {
            "a.c": HIDDEN + "long level = 5;\nlong f(long x) { return x; }\nlong k(long x) { return x + 1; }\n",
            "b.c": "long f(long);\nlong g(long x)\n{\n    return f(x) + 1;\n}\n",
        }
    )
    (said,) = findings(hot, ("long f(long x) { return x; }\n", "", "a.c"), ("return x + 1", "return x + 2", "a.c"))
    assert said == (
        "removed-referenced b.c:2: refused: `f` is no longer defined, but `g` refers to it "
        "(define it again, or change what refers to it: the next start could not load the module)"
    )
    hot.workshop.allow = frozenset({"removed-referenced"})
    result = hot.make_live()
    assert hot("[g(3), k(3)]") == [4, 5]
    assert "`f` was removed: the old one stays callable" in result.notes


def test_a_choice_that_the_loader_made_is_not_made_again(hot_extension):
    hot = hot_extension(
        "static long one(long x) { return x + 1; }\nstatic long two(long x) { return x + 2; }\n"
        "static void *resolve(void) { return one; }\n"
        'long chosen(long x) __attribute__((ifunc("resolve")));\n'
        "long f(long x) { return chosen(x) + two(x); }\nlong plain(long x) { return x; }\n"
    )
    (said,) = findings(hot, ("return one", "return two"))
    assert said.startswith("ifunc ext.c:") and "which `chosen` is called was chosen when the library was loaded" in said
    hot.save("return two", "return one")
    (said,) = findings(
        hot, ("long plain(long x) { return x; }", 'long plain(long x) __attribute__((ifunc("resolve")));')
    )
    assert said.startswith("ifunc ext.c:") and "`plain`" in said


def test_other_options_than_those_of_the_base_are_refused(hot_extension, tmp_path):
    compiler = tmp_path / "cc"
    compiler.write_text('#!/bin/sh\nexec gcc "$@"\n')
    compiler.chmod(0o755)
    hot = hot_extension("long f(long x) { return x; }\n", compiler=str(compiler), flags=("-O2",))
    assert findings(hot, ("return x", "return x + 1")) == []
    compiler.write_text('#!/bin/sh\nexec gcc "$@" -fno-strict-aliasing -O1\n')
    (said,) = findings(hot, ("return x + 1", "return x + 2"))
    assert said == (
        "flags-changed ext.c:1: refused: the options are not those that the base was compiled with: "
        "`-O1 -fno-strict-aliasing` is new (build again with `hotreload build` and restart)"
    )


def test_other_modules_that_have_the_old_header_are_named(hot_extension, tmp_path, monkeypatch):
    monkeypatch.setenv("HOTRELOAD_STORE", str(tmp_path / "own store"))
    shared = tmp_path / "shared.h"
    shared.write_text("static inline long scale(long x) { return x * 3; }\n")
    text = '#include "shared.h"\nlong f(long x) { return scale(x); }\n'
    hot = hot_extension(text, flags=("-O2", f"-I{tmp_path}"))
    other = tmp_path / "other"
    other.mkdir()
    (other / "two.c").write_text(text)
    hot_cc("gcc", "-fPIC", "-shared", f"-I{tmp_path}", "two.c", "-o", "two.so", cwd=other)
    shared.write_text("static inline long scale(long x) { return x * 4; }\n")
    result = hot.make_live()
    assert hot("f(2)") == 8
    assert result.notes == ("`two` was compiled with the old shared.h too and keeps it until it is patched",)


@LEVELS
def test_an_opaque_type_is_known_from_the_unit_that_defines_it(hot_extension, level):
    hot = hot_extension(
        {
            "a.c": "struct item; static struct item *first; struct item *make(long);\n"
            "long set(long x) { first = make(x); return 0; }\nlong get(struct item *);\nlong f(void) { return get(first); }\n",
            "b.c": "#include <stdlib.h>\nstruct item { long id; long weight; };\n"
            "struct item *make(long x) { struct item *i = malloc(sizeof *i); i->id = i->weight = x; return i; }\n"
            "long get(struct item *i) { return i->weight; }\n",
        },
        flags=(level,),
    )
    (said,) = findings(hot, ("long id; long weight;", "long id; long more; long weight;", "b.c"))
    assert said.startswith("type-layout b.c:2: ") and "variable `first` is alive" in said


def test_a_type_in_a_header_is_refused_at_its_line_there(hot_extension):
    hot = hot_extension(
        {
            "ext.c": '#include "item.h"\nstatic struct item all[3];\nlong f(long i) { return all[i].weight; }\n',
            "item.h": "\n\nstruct item { long id; long weight; };\n",
        }
    )
    (said,) = findings(hot, ("long id; long weight;", "long weight; long id;", "item.h"))
    assert said.startswith("type-layout item.h:3: refused: `struct item`")


ALLOWED = {
    "type-layout": (ITEMS, "{ long id; long weight; }", "{ long id; long more; long weight; }"),
    "variable-type": (
        "static int level = 3;\nlong f(long x) { level += x; return level; }\n",
        *("static int", "static float"),
    ),
}


@pytest.mark.parametrize("slug", ALLOWED)
def test_what_a_person_may_know_better_is_a_note_when_it_is_allowed(hot_extension, slug):
    source, old, new = ALLOWED[slug]
    hot = hot_extension(source)
    hot.save(old, new)
    with pytest.raises(IncompatibleError) as refused:
        hot.make()
    (finding,) = refused.value.findings
    assert finding.slug == slug and finding.can_be_allowed
    hot.workshop.allow = frozenset({slug})
    place = f"{finding.file}:{finding.line}"
    assert f"allowed: {place}: {finding.reason}" in hot.make().notes


def test_what_can_never_work_cannot_be_allowed(hot_extension):
    hot = hot_extension("static long t[4];\nlong f(long x) { return t[x & 3]; }\n")
    for slug in NEVER:
        with pytest.raises(HotReloadError, match=f"`{slug}` cannot be allowed: {NEVER[slug]}"):
            hot.workshop.allow = frozenset({slug})
    with pytest.raises(HotReloadError, match="`no-such` is no kind of refusal"):
        Workshop.open(hot.workshop.build_id, allow=frozenset({"no-such"}))
    hot.workshop.allow = frozenset(ALLOWABLE)
    assert [line.split()[0] for line in findings(hot, ("t[4]", "t[8]"))] == ["variable-size"]


PAGE = re.compile(r"^## ([a-z-]+)$", re.MULTILINE)
SLUG_IN_CODE = re.compile(r'(?:Finding\(|self\._refuse\(unit,)\s*"([a-z-]+)"|slug = "([a-z-]+)" if .* else "([a-z-]+)"')
ROOT = Path(hotreload.__file__).parent


def test_every_refusal_has_its_page_and_its_verdict():
    text = (ROOT.parent / "docs" / "refusals.md").read_text()
    pages = dict(zip(PAGE.findall(text), PAGE.split(text)[2::2]))
    of_c = [slug for slug in SLUGS if slug not in PYTHON_SLUGS]
    assert list(pages) == sorted(of_c) + sorted(PYTHON_SLUGS)  # each part is in order
    for slug, page in pages.items():
        for part in ("**What**", "**Why**", "**What to do**"):
            assert part in page, f"{slug}: no {part}"
        said = (
            "**Allowed?** No" if slug in NEVER else "**Allowed?** Yes" if slug in ALLOWABLE else "**Allowed?** Always"
        )
        assert said in page, slug


def test_every_slug_that_the_code_says_is_known():
    emitted = set()
    for path in [path for room in ("diff", "patch", "python") for path in (ROOT / room).glob("*.py")]:
        for found in SLUG_IN_CODE.findall(path.read_text()):
            emitted |= {slug for slug in found if slug}
    assert emitted & set(SLUGS) == emitted, emitted - set(SLUGS)
    assert len(emitted) > 15
    said = "".join(path.read_text() for path in (ROOT / "python").glob("*.py") if path.stem != "verdicts")
    assert [slug for slug in PYTHON_SLUGS if f'"{slug}"' not in said] == []


OF_CLANG = {
    "a static local of another type": (["-O0", "-O2"], ["variable-type ext.c:3"]),
    "a variable of another type": (["-O0", "-O2"], ["variable-type ext.c:2"]),
    "a field in the middle of what a variable points to": (["-O0"], ["type-layout ext.c:2"]),
    "a bit-field": (["-O2"], ["variable-size ext.c:2", "type-layout ext.c:1"]),
    "two fields that trade places": (
        ["-O2"],
        ["variable-form ext.c:3", "static-ambiguous ext.c:3", "type-layout ext.c:2"],
    ),
    "a constructor": (["-O0"], ["constructor-added ext.c:2"]),
    "a variable that becomes one per thread": (["-O0", "-O2"], ["thread-local-changed ext.c:1"]),
}


@pytest.mark.parametrize("what", OF_CLANG)
def test_what_clang_keeps_in_another_form_is_found_too(hot_extension, what):
    case, (levels, wanted) = REFUSED[what], OF_CLANG[what]
    for level in levels:
        hot = hot_extension(case.source, flags=(level,), compiler="clang")
        said = findings(hot, (case.old, case.new))
        assert [":".join(line.split(":")[:2]) for line in said] == wanted
