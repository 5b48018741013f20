"""What an edit of Python's tables shows on modules, types and objects that are alive."""

from __future__ import annotations

from pathlib import Path

import pytest

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
    assert hot("ext.area is was")
    hot.rollback()
    assert hot(NAMES) == names
    assert sorted(hot(f"[name for run in {RUNS.format(0)} for name in run.removed]")) == sorted(ADDED)
    hot.rollback(1)
    hot.agrees(*CALLS)
