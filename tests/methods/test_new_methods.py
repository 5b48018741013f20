"""What an edit of Python's tables shows on modules, types and objects that are alive."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from hotreload.errors import StageError
from hotreload.live.core import PatchTable
from hotreload.live.tables import prepare

KINDS = (Path(__file__).resolve().parent / "kinds.c").read_text()
PLUS = "//+"
AFTER = KINDS.replace(PLUS, "")

CALLS = [
    "ext.area(2)",
    "ext.plus_o(5)[1], ext.plus_o(1)[0] is ext",
    "ext.plus_none()[1:3]",
    "ext.plus_args(1, 2)",
    "ext.plus_words(1, a=2)",
    "ext.plus_fast(7, 8)",
    "ext.plus_fast_words(7, b=8)",
    "sorted(name for name in vars(ext) if name[0] != '_')",
    "[(f.__name__, f.__qualname__, f.__module__, f.__doc__, f.__text_signature__, repr(f)) for n, f in sorted(vars(ext).items()) if hasattr(f, '__text_signature__') and not isinstance(f, type)]",
    "[(n, v.__doc__, repr(v).partition(' at ')[0]) for n, v in sorted(vars(ext.Shape).items()) if n[:2] != '__']",
    "[(n, v.__doc__, repr(v).partition(' at ')[0]) for n, v in sorted(vars(ext.Heap).items()) if n[:2] != '__']",
    *(
        expression.replace("TYPE", name)
        for name in ("Shape", "Heap")
        for expression in (
            "(lambda s: [s.area(), s.edge(), s.width, s.double_width, s.height, s.raw_width])(ext.TYPE(2, 5))",
            "(lambda s: [setattr(s, 'double_width', 8), s.width, setattr(s, 'height', 9), s.area()])(ext.TYPE(2, 5))",
            "type('Sub', (ext.TYPE,), {})(3, 4).edge()",
        )
    ),
    "ext.Shape.made_by(1)[0] is ext.Shape, type('Sub', (ext.Shape,), {}).made_by(1)[0].__name__",
    "ext.Shape.plain(1, 2), ext.Shape(1, 2).plain(3)",
    "ext.Heap(1, 2).whose(3)[0] is ext.Heap, type('Sub', (ext.Heap,), {})(1, 2).whose(3, 4)[0].__name__",
]
ADDED = [
    *(f"ext.plus_{name}()" for name in ("o", "none", "args", "words", "fast", "fast_words")),
    *("ext.Shape.edge()", "ext.Shape.made_by()", "ext.Shape.plain()", "ext.Shape.double_width", "ext.Shape.raw_width"),
    *("ext.Heap.edge()", "ext.Heap.whose()", "ext.Heap.double_width", "ext.Heap.raw_width"),
]
RUNS = "[run for g in [manager.history(module)[{}]] for run in g.table_runs]"
NAMES = "[sorted(n for n in vars(o) if n[:2] != '__') for o in (ext, ext.Shape, ext.Heap)]"


@pytest.mark.parametrize("options", [{}, {"compiler": "clang"}, {"prologue": "slot"}], ids=["gcc", "clang", "slot"])
def test_what_an_edit_adds_is_there_as_in_a_fresh_build_and_a_rollback_takes_it_away(kinds, options):
    hot = kinds(**options)
    names = hot(f"(was := ext.area) and {NAMES}")
    result = hot.write(AFTER)
    assert {"plus_o", "shape_edge", "set_width"} <= set(result.added)
    hot.agrees(*CALLS)
    assert sorted(hot(f"[name for run in {RUNS.format(-1)} for name in run.added]")) == sorted(ADDED)
    assert hot(f"[(run.kept, run.error) for run in {RUNS.format(-1)}]") == [((), "")] * 7
    assert hot("ext.area is was")
    hot.rollback()
    assert hot(NAMES) == names
    assert sorted(hot(f"[name for run in {RUNS.format(0)} for name in run.removed]")) == sorted(ADDED)
    hot.rollback(1)
    hot.agrees(*CALLS)


SMALL = """\
#include <Python.h>
static long factor(void) { return 3; }
static PyObject *area(PyObject *self, PyObject *arg) { (void)self; return PyLong_FromLong(PyLong_AsLong(arg) * factor()); }
static PyObject *through(PyObject *self, PyObject *arg) { (void)self; return PyObject_CallNoArgs(arg); }
/* more */
static PyMethodDef methods[] = {
    {"area", area, METH_O, "How large."},
    {"through", through, METH_O, NULL},
    /* entries */
    {NULL, NULL, 0, NULL},
};
static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, .m_name = "ext", .m_size = -1, .m_methods = methods};
PyMODINIT_FUNC PyInit_ext(void) { return PyModule_Create(&definition); }
"""
EDGE = "static PyObject *edge(PyObject *self, PyObject *arg) { (void)self; (void)arg; return PyLong_FromLong(4 * factor()); }\n"


def with_edge(flags: str = "METH_NOARGS", *, doc: str = "How long.", factor: int = 3, body: str = EDGE) -> str:
    text = SMALL.replace("/* more */", body).replace("return 3;", f"return {factor};")
    return text.replace("/* entries */", f'{{"edge", edge, {flags}, "{doc}"}},')


def test_later_generations_keep_the_object_and_change_what_it_does(kinds):
    hot = kinds(SMALL)
    hot.write(with_edge())
    assert hot("(edge := ext.edge)() == 12")
    hot.write(with_edge(factor=5, doc="How long around."))
    assert hot("[ext.edge is edge, edge(), edge.__doc__]") == [True, 20, "How long around."]
    hot.write(with_edge(body=EDGE.replace("4 *", "6 *")))
    assert hot("[ext.edge is edge, edge(), edge.__doc__]") == [True, 18, "How long."]
    hot.write(SMALL)
    assert hot("[hasattr(ext, 'edge'), edge()]") == [False, 12], (
        "an object that is held runs the code that it came with"
    )
    assert hot("[(run.added, run.removed) for run in manager.history(module)[0].table_runs]") == [((), ("ext.edge()",))]
    hot.write(with_edge(factor=7))
    assert hot("[ext.edge(), edge(), ext.edge.__self__ is ext]") == [28, 28, True]


def test_another_way_of_calling_what_was_added_is_another_object_and_the_old_one_keeps_its_own(kinds):
    """The person had saved the new function once, with other flags: whoever holds that object calls it as it was."""
    hot = kinds(SMALL)
    hot.write(with_edge("METH_O", body=EDGE.replace("PyLong_FromLong(4 * factor())", 'Py_BuildValue("O", arg)')))
    assert hot("(edge := ext.edge)(7)") == 7
    hot.write(
        with_edge(
            "METH_VARARGS",
            body=EDGE.replace(
                "PyLong_FromLong(4 * factor())", 'PyTuple_GetItem(arg, 1), Py_BuildValue("O", PyTuple_GET_ITEM(arg, 1))'
            ),
        )
    )
    assert hot("[ext.edge(1, 2), ext.edge is edge, edge(8)]") == [2, False, 8]
    hot.rollback(1)
    assert hot("[ext.edge(9), edge(9)]") == [9, 9]
    hot.rollback()
    assert hot("hasattr(ext, 'edge')") is False


def test_a_name_that_somebody_has_given_to_something_else_is_left_alone(kinds):
    hot = kinds(SMALL)
    hot("setattr(ext, 'edge', 'mine')")
    hot.write(with_edge())
    assert hot("ext.edge") == "mine"
    assert hot("[run.kept for run in manager.history(module)[-1].table_runs]") == [("ext.edge()",)]
    hot.rollback()
    assert hot("ext.edge") == "mine"
    hot("delattr(ext, 'edge')")
    hot.rollback(1)
    assert hot("ext.edge()") == 12
    hot("setattr(ext, 'edge', 'mine again')")
    hot.rollback()
    assert hot("ext.edge") == "mine again"


def test_every_module_object_that_was_made_of_the_definition_gets_it(kinds):
    """Modules are found wherever they are: neither of the two is in sys.modules."""
    hot = kinds(SMALL.replace("m_size = -1", "m_size = 0").replace("PyModule_Create(", "PyModuleDef_Init("))
    again = "(other := __import__('importlib.util').util.module_from_spec(ext.__spec__)) and ext.__loader__.exec_module(other)"
    hot(again)
    assert hot("other is not ext")
    hot.write(with_edge().replace("m_size = -1", "m_size = 0").replace("PyModule_Create(", "PyModuleDef_Init("))
    assert hot("[ext.edge(), other.edge(), ext.edge.__self__ is ext, other.edge.__self__ is other]") == [
        12,
        12,
        True,
        True,
    ]


def test_objects_that_the_collector_has_set_aside_are_found(kinds):
    """A server that is about to fork calls gc.freeze(), and the collector does not list what was there then."""
    hot = kinds(SMALL)
    hot("__import__('sys').modules.update(ext=ext) or __import__('gc').freeze()")
    hot.write(with_edge())
    assert hot("ext.edge()") == 12
    hot.rollback()
    assert hot("hasattr(ext, 'edge')") is False


def test_documentation_and_functions_of_live_entries_change_in_objects_that_are_held(kinds):
    hot = kinds(SMALL)
    hot("(area := ext.area) and 0")
    text = with_edge().replace('{"area", area, METH_O, "How large."}', '{"area", through, METH_O, "How through."}')
    hot.write(text)
    assert hot("[area is ext.area, area(list), area.__doc__]") == [True, [], "How through."]
    hot.rollback()
    assert hot("[area(2), area.__doc__]") == [6, "How large."]


def test_an_entry_that_is_gone_keeps_working_and_that_is_said(kinds):
    hot = kinds(SMALL)
    result = hot.write(SMALL.replace('    {"through", through, METH_O, NULL},\n', ""))
    assert "`through` is gone from `methods`: it keeps working until a restart" in result.notes
    assert hot("ext.through(list)") == []
    renamed = hot.write(SMALL.replace('{"through", through', '{"past", through'))
    assert "`through` is gone from `methods`: it keeps working until a restart" in renamed.notes
    assert hot("[ext.through(list), ext.past(list)]") == [[], []]


def test_all_entries_may_go(kinds):
    """Nothing of the new table is left but its end, which is zeros alone."""
    hot = kinds(SMALL)
    result = hot.write(
        SMALL.replace('    {"area", area, METH_O, "How large."},\n', "").replace(
            '    {"through", through, METH_O, NULL},\n', ""
        )
    )
    assert len([note for note in result.notes if "keeps working until a restart" in note]) == 2
    assert hot("[ext.area(2), ext.through(list)]") == [6, []]
    hot.rollback()
    assert hot("ext.area(2)") == 6


def test_what_cannot_be_made_is_told_and_changes_nothing(kinds):
    hot = kinds(SMALL)
    text = with_edge("METH_NOARGS | METH_STATIC").replace("How large.", "How very large.")
    hot.write(text)
    (run,) = hot("[run.as_dict() for run in manager.history(module)[-1].table_runs]")
    assert run["error"] == "ValueError: module functions cannot set METH_CLASS or METH_STATIC"
    assert hot("[hasattr(ext, 'edge'), ext.area.__doc__, ext.area(2)]") == [False, "How large.", 6]
    hot.write(with_edge())
    assert hot("ext.edge()") == 12


def test_a_name_appears_when_the_last_thread_has_moved(kinds):
    hot = kinds(SMALL)
    hot("(event := __import__('threading').Event()) and 0")
    hot("(inside := __import__('threading').Event()) and 0")
    hot(
        "(thread := __import__('threading').Thread(target=ext.through, args=(lambda: [inside.set(), event.wait()],))) and 0"
    )
    hot("thread.start()")
    assert hot("inside.wait(20)")
    hot.write(with_edge(factor=5).replace("PyObject_CallNoArgs(arg);", "PyObject_Repr(PyObject_CallNoArgs(arg));"))
    assert hot("[manager.history(module)[1].transition, hasattr(ext, 'edge')]") == ["open", False]
    hot("event.set()")
    assert hot("[thread.join(), manager.wait(20), manager.history(module)[1].transition]") == [None, True, "complete"]
    assert hot("ext.edge()") == 20


def test_old_generations_are_retired_although_names_of_theirs_are_shown(kinds):
    """Names, texts and entries were copied: only the generation that owns a new function stays."""
    hot = kinds(SMALL)
    hot("manager.configure(retire=True, keep=1)")
    for number in range(8):
        hot.write(with_edge(factor=3 + number, doc=f"Number {number}."))
        assert hot("[ext.edge(), ext.edge.__doc__]") == [4 * (3 + number), f"Number {number}."]
    held = hot(
        "[g['number'] for m in manager.status()['modules'] if m['build_id'] == module.build_id for g in m['generations'] if g['number'] and not g['retired']]"
    )
    assert held[0] == 1
    assert len(held) <= 4


CHURN = "__import__('tests.methods.churn', fromlist=['swap'])"


def test_threads_that_ask_all_the_time_see_one_or_the_other_through_all_swaps_which_leave_nothing_behind(kinds):
    hot = kinds()
    hot.write(AFTER)
    seen = hot(f"{CHURN}.swap(manager, module, ext, 80)")
    assert seen["there"] > 100
    assert seen["gone"] > 100
    objects, grown = hot(f"{CHURN}.leak(manager, module, 120)")
    assert objects < 20
    assert grown < 2 << 20


def test_calls_of_the_state_module_leave_nothing_behind(kinds):
    hot = kinds(SMALL)
    hot.write(with_edge())
    table = "manager.history(module)[-1].tables[0]"
    hot(
        f"(live := module.bias + {table}.base_off) and (new := manager.history(module)[-1].address + {table}.image_off)"
    )
    assert hot(f"{CHURN}.leak_of_state(live, 2, new, 3, 100)") < 1 << 20


FUNCTION = "static PyObject *edge(PyObject *self, PyObject *arg) { (void)self; (void)arg; return PyLong_FromLong(12); }"
END = "{NULL, NULL, 0, NULL}};"
DEFINITION = (
    'static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, "ext", NULL, -1, table, NULL, NULL, NULL, NULL};'
)
INIT = "PyMODINIT_FUNC PyInit_ext(void)"
FORMS = {
    "a table that had no entry": ("gcc", {"ext.c": f"{FUNCTION} static PyMethodDef table[] = {{ENTRY {END} {DEFINITION}\n"
                                                   f"{INIT} {{ return PyModule_Create(&definition); }}\n"}),
    "a table inside a function": ("gcc", {"ext.c": f"{FUNCTION}\n{INIT} {{ static PyMethodDef table[] = {{ENTRY {END} {DEFINITION}\n"
                                                   f"return PyModule_Create(&definition); }}\n"}),
    "C++": ("g++", {"ext.cpp": f"{FUNCTION} static PyMethodDef table[] = {{ENTRY {END} {DEFINITION}\n"
                               f"{INIT} {{ return PyModule_Create(&definition); }}\n"}),
    "a function of another file": ("gcc", {"ext.c": f"PyObject *edge(PyObject *, PyObject *);\nPyMethodDef table[] = {{ENTRY {END} {DEFINITION}\n"
                                                    f"{INIT} {{ return PyModule_Create(&definition); }}\n",
                                           "other.c": FUNCTION.replace("static ", "")}),
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_tables_of_other_forms(kinds, form):
    compiler, files = FORMS[form]
    texts = {name: "#include <Python.h>\n" + text for name, text in files.items()}
    main = next(iter(files))
    before = {name: text.replace("ENTRY", "").replace(FUNCTION, "") for name, text in texts.items()}
    before = {name: text if name == main else "#include <Python.h>\n" for name, text in before.items()}
    hot = kinds(before, compiler=compiler)
    assert hot("hasattr(ext, 'edge')") is False
    for name, text in texts.items():
        (hot.directory / name).write_text(text.replace("ENTRY", '{"edge", edge, METH_NOARGS, "How long."},'))
    hot.make_live()
    assert hot.agrees("ext.edge()", "ext.edge.__doc__") == [12, "How long."]
    hot.rollback()
    assert hot("hasattr(ext, 'edge')") is False


def test_what_the_program_itself_has_put_into_the_live_table_stays(kinds):
    """As one does that chooses a function for the processor that it finds."""
    chosen = SMALL.replace(
        "void) { return PyModule", "void) { methods[0].ml_meth = through; methods[0].ml_doc = 0; return PyModule"
    )
    hot = kinds(chosen)
    assert hot("ext.area(list)") == []
    text = chosen.replace('{"through", through, METH_O, NULL}', '{"through", through, METH_O, "New."}')
    hot.write(text.replace("/* entries */", '{"more", area, METH_O, NULL},'))
    assert hot.agrees("ext.area(list)", "ext.area.__doc__", "ext.more(2)", "ext.through.__doc__") == [
        [],
        None,
        6,
        "New.",
    ]
    hot.rollback()
    assert hot("[ext.area(list), ext.area.__doc__, ext.through.__doc__]") == [[], None, None]


def test_what_the_program_puts_into_the_live_table_after_an_edit_stays_too(kinds):
    """One that chooses again, at a call of its own, once a generation has shown the table already."""
    chooses = SMALL.replace(
        "/* more */",
        "static PyMethodDef methods[];\n"
        "static PyObject *choose(PyObject *self, PyObject *arg) { (void)self; (void)arg;"
        ' methods[0].ml_meth = through; methods[1].ml_doc = "Chosen."; Py_RETURN_NONE; }\n/* more */',
    ).replace("/* entries */", '{"choose", choose, METH_NOARGS, NULL}, /* entries */')
    hot = kinds(chooses)
    hot.write(chooses.replace("How large.", "How very large."))
    hot("ext.choose()")
    hot.write(chooses.replace("How large.", "How large in all."))
    assert hot("[ext.area(list), ext.area.__doc__, ext.through.__doc__]") == [[], "How large in all.", "Chosen."]
    hot.rollback()
    assert hot("[ext.area(list), ext.area.__doc__, ext.through.__doc__]") == [[], "How large.", "Chosen."]


def test_a_process_that_cannot_load_the_state_module_refuses_the_patch(monkeypatch):
    monkeypatch.setitem(sys.modules, "hotreload._state", None)
    prepare(())
    with pytest.raises(StageError, match="cannot be shown") as refused:
        prepare((PatchTable(1, "methods", 0, 0, 1, 1, "a"),))
    assert refused.value.status == "NO_STATE"
