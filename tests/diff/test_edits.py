"""What an edit is said to have changed: exact sets, over the edits that mislead a naive comparison."""

from __future__ import annotations

import subprocess
import sysconfig
import tarfile
from pathlib import Path
from typing import NamedTuple

import pytest

from hotreload.build.flags import hot_compile_args
from hotreload.build.prologue import prepare_object
from hotreload.diff.compare import UnitDiff, compare
from hotreload.diff.graph import ObjectGraph
from hotreload.diff.source import SourceChange
from hotreload.elf.edit import Editor
from hotreload.elf.file import ElfFile

SOURCE = """\
#include <assert.h>
#include <stdio.h>
struct item { long id; long weight; };
static struct item items[4];
static long level = 3;
static const long table[4] = {1, 2, 3, 4};
static const char *const names[2] = {"first", "second"};

static inline long helper(long a)
{
    return a * 3 + 1;
}

long plain(long x)
{
    return x + 5;
}

long checked(long x)
{
    assert(x > 0);
    return x + level;
}

long noted(long x)
{
    fprintf(stderr, "%s:%d %ld\\n", __FILE__, __LINE__, x);
    return x;
}

long counting(long x)
{
    static long calls;
    return ++calls + x;
}

long counting_too(long x)
{
    static long calls = 4;
    return ++calls * x;
}

long uses_helper(long x)
{
    return helper(x) * 2;
}

long uses_helper_too(long x)
{
    return helper(x + 1) - 7;
}

const char *text(long x)
{
    return x > 1 ? "some text" : names[x & 1];
}

double scale(double x)
{
    return x * 1.25;
}

long weigh(long i)
{
    return items[i].weight;
}

long look(long i)
{
    return table[i];
}

long pick(long n)
{
    switch (n) {
    case 0: return 15; case 1: return plain(2); case 2: return 31; case 3: return 44; case 4: return 57;
    case 5: return plain(6); default: return -1;
    }
}

long jump(long n)
{
    static const void *const where[] = {&&a, &&b, &&c};
    goto *where[n];
a:  return plain(1);
b:  return plain(n) + 2;
c:  return 3;
}

const char *who(void)
{
    return __func__;
}
"""


class Version(NamedTuple):
    """One version of the source, compiled."""

    text: str
    graph: ObjectGraph


class Compiler:
    """Compiles versions of a source as a hot build does; each text once."""

    def __init__(self, directory: Path, *flags: str, compiler: str = "gcc", name: str = "ext.c") -> None:
        self.directory, self.compiler, self.path = directory, compiler, directory / name
        self.flags = [*hot_compile_args([compiler], ["-fPIC", *flags])[0], "-c", name, "-o", "ext.o"]
        self._versions: dict[str, Version] = {}

    def __call__(self, text: str) -> Version:
        if text not in self._versions:
            self._versions[text] = Version(text, self.compile(text))
        return self._versions[text]

    def compile(self, text: str) -> ObjectGraph:
        self.path.write_text(text)
        subprocess.run([self.compiler, *self.flags], cwd=self.directory, check=True)
        elf = ElfFile.read(self.directory / "ext.o")
        editor = Editor(elf)
        prepare_object(elf, editor)
        return ObjectGraph(ElfFile(editor.to_bytes()))

    def diff(self, old: str, new: str) -> UnitDiff:
        a, b = self(old), self(new)
        path = str(self.path)
        change = SourceChange({path: a.text}, {path: b.text}, a.graph.debug.headings, b.graph.debug.headings)
        return compare(a.graph, b.graph, change, path)


@pytest.fixture(scope="module", params=["-O0", "-O2"])
def level(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def compiler(level, tmp_path_factory) -> Compiler:
    return Compiler(tmp_path_factory.mktemp("diff"), level)


HELPED = ("uses_helper", "uses_helper_too")


class Edit(NamedTuple):
    """An edit, and what must be said about it; ``inlined`` is what changes besides where helpers are inlined."""

    old: str
    new: str
    changed: tuple[str, ...] = ()
    edited: tuple[str, ...] = ()
    optimised: tuple[str, ...] | None = None
    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    initial_values: tuple[str, ...] = ()


EDITS = {
    "nothing": Edit("", ""),
    "a constant": Edit("return x + 5", "return x + 6", ("plain",), ("plain",)),
    "a line added inside": Edit("    return x + 5;", "    x += 0;\n    return x + 6;", ("plain",), ("plain",)),
    "an empty line inside": Edit("    return x + 5;", "\n    return x + 5;"),
    "a comment at the top": Edit("#include <assert.h>", "/* a comment\n\n */\n#include <assert.h>"),
    "a comment inside": Edit("    return x + 5;", "    /* five */\n    return x + 5; // it is"),
    "white space": Edit("return x + 5;", "return  x  +\n        5;"),
    "an unused static": Edit("static long level = 3;", "static long unused;\nstatic long level = 3;"),
    "a static, used": Edit(
        "long plain(long x)\n{\n    return x + 5",
        "static long fresh;\nlong plain(long x)\n{\n    return x + fresh++",
        ("plain",), ("plain",),
    ),
    "a local static added": Edit("return x + 5", "static long calls; return x + ++calls", ("plain",), ("plain",)),
    "a local static renumbers the others": Edit(
        "    return a * 3 + 1;", "    static long n; n++;\n    return a * 3 + 1;", ("helper",), ("helper",), HELPED
    ),
    "a struct member in front": Edit(
        "long weight; };", "char c; long weight; };", ("weigh",), (), initial_values=("items",)
    ),
    "a struct member at the end": Edit(
        "long weight; };", "long weight; long size; };", ("weigh",), (), initial_values=("items",)
    ),
    "a helper that is inlined": Edit("a * 3 + 1", "a * 4 + 1", ("helper",), ("helper",), HELPED),
    "a new function in the middle": Edit(
        "long counting(", "long middle(long x)\n{\n    return x;\n}\n\nlong counting(", (), ("middle",), added=("middle",)
    ),
    "a removed function": Edit(
        "long look(long i)\n{\n    return table[i];\n}\n", "", (), ("look",), removed=("look",)
    ),
    "a string": Edit('"some text"', '"other text"', ("text",), ("text",)),
    "a string in a table": Edit('"second"', '"2nd"', ("text",), ()),
    "a floating constant": Edit("x * 1.25", "x * 1.75", ("scale",), ("scale",)),
    "a const table": Edit("{1, 2, 3, 4}", "{1, 2, 3, 5}", ("look",), ()),
    "a case": Edit("case 3: return 44", "case 3: return 45", ("pick",), ("pick",)),
    "a case more": Edit("default: return -1", "case 6: return 88; default: return -1", ("pick",), ("pick",)),
    "a table of labels": Edit("{&&a, &&b, &&c}", "{&&b, &&a, &&c}", ("jump",), ("jump",)),
    "code behind a label": Edit("b:  return plain(n) + 2", "b:  return plain(n) + 20", ("jump",), ("jump",)),
    "__func__": Edit("return __func__", "return __func__ + 1", ("who",), ("who",)),
    "an initial value": Edit("level = 3", "level = 4", initial_values=("level",)),
    "the initial value of a local static": Edit(
        "calls = 4", "calls = 5", (), ("counting_too",), initial_values=("counting_too::calls",)
    ),
    "a static made global": Edit("static long level", "long level", ("checked",), ()),
    "an assertion's text": Edit("assert(x > 0)", "assert(x > 1)", ("checked",), ("checked",)),
    "a line number that is used": Edit("__LINE__, x", "__LINE__ + 1, x", ("noted",), ("noted",)),
}  # fmt: skip


@pytest.mark.parametrize("what", EDITS)
def test_the_functions_that_an_edit_changes_are_named_exactly(compiler, level, what):
    edit = EDITS[what]
    if edit.old:
        assert SOURCE.count(edit.old) == 1
    diff = compiler.diff(SOURCE, SOURCE.replace(edit.old, edit.new) if edit.old else SOURCE)
    changed = edit.optimised if edit.optimised is not None and level != "-O0" else edit.changed
    assert diff.changed == changed
    assert diff.compiler_changed == ()
    assert diff.edited == tuple(sorted(edit.edited))
    assert (diff.added, diff.removed) == (edit.added, edit.removed)
    assert diff.initial_values == edit.initial_values


@pytest.mark.parametrize("what", EDITS)
def test_each_edit_taken_back_changes_the_same_functions(compiler, what):
    edit = EDITS[what]
    new = SOURCE.replace(edit.old, edit.new) if edit.old else SOURCE
    there, back = compiler.diff(SOURCE, new), compiler.diff(new, SOURCE)
    assert (back.changed, back.compiler_changed) == (there.changed, there.compiler_changed)
    assert (back.added, back.removed) == (there.removed, there.added)


def test_a_second_compilation_of_the_same_source_is_no_change(compiler):
    first, second = compiler(SOURCE).graph, compiler.compile(SOURCE)
    path = str(compiler.path)
    change = SourceChange({path: SOURCE}, {path: SOURCE}, first.debug.headings, second.debug.headings)
    diff = compare(first, second, change, path)
    assert diff.is_same_code and not diff.edited


def test_a_thread_local_added_is_a_finding(compiler):
    diff = compiler.diff(
        SOURCE,
        SOURCE.replace(
            "static long level", "static __thread long mine;\nlong use(void) { return ++mine; }\nstatic long level"
        ),
    )
    (finding,) = diff.findings
    assert (finding.slug, finding.line) == ("thread-local-added", 5)


def test_a_variable_of_another_size_is_a_finding(compiler):
    diff = compiler.diff(SOURCE, SOURCE.replace("items[4];", "items[8];"))
    assert [finding.slug for finding in diff.findings] == ["variable-size"]


def test_a_static_local_that_moved_is_another_variable(compiler):
    old = "long a(void) { static long n; return n++; }\nlong b(void) { return 1; }\n"
    new = "long a(void) { return 1; }\nlong b(void) { static long n; return n++; }\n"
    assert set(compiler(old).graph.variables) == {"a::n"}
    assert set(compiler(new).graph.variables) == {"b::n"}
    assert compiler.diff(old, new).changed == ("a", "b")


def test_two_statics_of_one_name_in_nested_blocks_are_told_apart_by_their_order(compiler):
    text = "long a(long x) { static long n; if (x) { static long n = 5; return n++; } return n++; }\n"
    assert set(compiler(text).graph.variables) == {"a::n", "a::n#1"}


def test_a_static_local_of_an_inlined_function_belongs_to_that_function(tmp_path):
    compiler = Compiler(tmp_path, "-O2")
    text = "static inline long a(long x) { static long n; return n += x; }\nlong b(long x) { return a(x) + 1; }\n"
    assert set(compiler(text).graph.variables) == {"a::n"}
    diff = compiler.diff(text, "static long m;\n" + text.replace("n += x", "n += x + m++"))
    assert diff.changed == ("b",) and diff.edited == ("a",)


def test_pieces_that_the_compiler_splits_off_belong_to_their_function(tmp_path):
    compiler = Compiler(tmp_path, "-O2")
    text = (
        "void abort(void); long f(long x) { if (__builtin_expect(x == 3, 0)) { if (x == 9) abort(); return x / 7; } return x; }\n"
        "__attribute__((cold)) void cold(void); long g(long x) { if (x) cold(); return x + 2; }\n"
    )
    graph = compiler(text).graph
    assert any(".cold" in symbol.name for symbol in graph.elf.symbols)
    assert set(graph.functions) == {"f", "g"}
    assert compiler.diff(
        text, text.replace("if (x) cold(); return x + 2", "if (x) { cold(); cold(); } return x + 2")
    ).changed == ("g",)


def test_a_comment_at_the_top_of_real_sources_changes_nothing(tmp_path):
    compiler = Compiler(tmp_path, "-O2")
    text = (Path(__file__).resolve().parents[1] / "extensions" / "torture" / "v1.c").read_text()
    diff = compiler.diff(text, "/* one\n two */\n" + text)
    assert diff.is_same_code and not diff.edited


MASKED = {
    "a macro's value": (
        "#include <stdlib.h>\n#define LIMIT (5 * 2)\nlong a(long x) { return x; }\n\n\n\n\n\n\nvoid *f(void) { return malloc(LIMIT); }\n",
        "#include <stdlib.h>\n#define LIMIT (5 * 2 + 1)\n\nlong a(long x) { return x; }\n\n\n\n\n\n\nvoid *f(void) { return malloc(LIMIT); }\n",
    ),
    "a struct's size": (
        "#include <stdlib.h>\nstruct item {\n    long id;\n    long weight;\n};\n" + "\n" * 16
        + "void *f(void) { return malloc(sizeof(struct item)); }\n",
        "#include <stdlib.h>\n\n\n\n\n\n\n\nstruct item {\n    long id;\n    long more;\n    long weight;\n};\n" + "\n" * 16
        + "void *f(void) { return malloc(sizeof(struct item)); }\n",
    ),
    "what an edited function returns, folded into its caller": (
        "#include <stdlib.h>\nstatic inline long g(void)\n{\n    return 10;\n}\n\n\n\n\nvoid *f(void) { return malloc(g()); }\n",
        "#include <stdlib.h>\nstatic inline long g(void)\n{\n\n    return 11;\n}\n\n\n\n\nvoid *f(void) { return malloc(g()); }\n",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", MASKED)
def test_a_number_that_looks_like_a_moved_line_is_still_a_change(compiler, what):
    old, new = MASKED[what]
    diff = compiler.diff(old, new)
    assert diff.changed + diff.compiler_changed in (("f",), ("g",))  # g where it is not inlined


REAL = {"markupsafe": "src/markupsafe/_speedups.c", "simplejson": "simplejson/_speedups.c"}


@pytest.mark.parametrize("project", REAL)
def test_a_real_source_compiled_again_or_moved_down_a_line_is_no_change(project, tmp_path):
    sdists = sorted((Path(__file__).resolve().parents[1] / "real" / "sdists").glob(f"{project}-*.tar.gz"))
    if not sdists:
        pytest.skip(f"the source distribution of {project} is not there")
    with tarfile.open(sdists[-1]) as archive:
        archive.extractall(tmp_path)
    (source,) = tmp_path.glob(f"*/{REAL[project]}")
    text = source.read_text()
    compiler = Compiler(source.parent, "-O2", f"-I{sysconfig.get_path('include')}", name=source.name)
    for again in (text, "/* moved */\n" + text):
        first, second = compiler(text).graph, compiler.compile(again)
        path = str(compiler.path)
        change = SourceChange({path: text}, {path: again}, first.debug.headings, second.debug.headings)
        assert not change.edited
        assert compare(first, second, change, path).is_same_code
