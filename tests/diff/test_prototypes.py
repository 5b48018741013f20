"""A function with another prototype is a new function: its callers take it, the old entry is left alone."""

from __future__ import annotations

import pytest

from hotreload.errors import IncompatibleError

NOINLINE = "#define NOINLINE __attribute__((noinline))\n"
SOURCE = NOINLINE + (
    "static long calls;\n"
    "static NOINLINE long scale(long x) { static long n; n++; calls++; return x * 3 + n * 0; }\n"
    "long f(long x) { return scale(x) + 1; }\n"
    "long g(long x) { return scale(x) + 2; }\n"
    "long h(long x) { return x + 3; }\n"
    "long count(void) { return calls; }\n"
)
LEVELS = pytest.mark.parametrize("level", ["-O0", "-O2"])
WIDER = SOURCE.replace("scale(long x) {", "scale(long x, long y) {").replace("return x * 3", "return x * 3 + y")
WIDER = WIDER.replace("scale(x) + 1", "scale(x, 10) + 1").replace("scale(x) + 2", "scale(x, 20) + 2")


@LEVELS
def test_callers_take_the_new_function_and_state_stays(hot_extension, level):
    hot = hot_extension(SOURCE, flags=(level,))
    assert [hot("f(1)"), hot("g(1)"), hot("count()")] == [4, 5, 2]
    result = hot.write(WIDER)
    assert result.changed == ("f", "g") and result.added == ("scale",)
    told = "`long int scale(long int)` became `long int scale(long int, long int)`"
    assert result.notes == (f"{told}: it is a new function, and the old one is left alone",)
    assert [hot("f(1)"), hot("g(1)"), hot("count()")] == [14, 25, 4]


@LEVELS
def test_a_later_patch_of_the_same_prototype_replaces_the_carried_one(hot_extension, level):
    hot = hot_extension(SOURCE, flags=(level,))
    assert hot("f(1)") == 4
    first = hot.write(WIDER)
    assert [hot("f(1)"), hot("g(1)")] == [14, 25]
    second = hot.write(WIDER.replace("return x * 3 + y", "return x * 4 + y"))
    assert first.digest != second.digest
    assert [hot("f(1)"), hot("g(1)")] == [15, 26]
    third = hot.write(
        WIDER.replace("scale(long x, long y)", "scale(long y, double x)").replace("(x, 1", "(1, x + 0.5 * 1")
    )
    assert "scale" in third.added
    assert hot.agrees("f(1)", "g(1)")
    assert hot.write(SOURCE).kind == "base"
    assert [hot("f(1)"), hot("g(1)"), hot("count()")] == [4, 5, 9]
    hot.edit("return x * 3", "return x * 5")
    assert [hot("f(1)"), hot("g(1)")] == [6, 7]


def test_a_patched_function_gets_another_prototype_and_the_first_patch_is_taken_back(hot_extension):
    hot = hot_extension(SOURCE)
    hot.edit("return x * 3", "return x * 30")
    assert hot("f(1)") == 31
    hot.write(WIDER)
    assert [hot("f(1)"), hot("g(1)")] == [14, 25]
    hot.rollback(1)
    assert [hot("f(1)"), hot("g(1)")] == [31, 32]
    hot.rollback()
    assert [hot("f(1)"), hot("g(1)")] == [4, 5]


def test_a_caller_with_the_same_code_is_replaced_too(hot_extension):
    hot = hot_extension(
        NOINLINE + "static NOINLINE long f(int x) { return x * 3; }\nlong g(void) { return f(5) + 1; }\n",
        flags=("-O2",),
    )
    assert hot("g()") == 16
    result = hot.edit("f(int x) { return x * 3", "f(long x) { return x * 3 + (x >> 40)")
    assert result.changed == ("g",) and result.added == ("f",)
    assert hot("g()") == 16
    hot.edit("return x * 3 +", "return x * 30 +")
    assert hot("g()") == 151


def test_an_old_caller_keeps_the_old_function_while_it_runs(hot_extension):
    hot = hot_extension(
        NOINLINE + "#include <pthread.h>\n#include <semaphore.h>\nstatic sem_t in, go, gone;\nstatic long seen;\n"
        "static NOINLINE long f(long x) { return x * 3; }\n"
        "static NOINLINE void *slow(void *arg) { sem_post(&in); sem_wait(&go); seen = f(5); sem_post(&gone); return arg; }\n"
        "long start(void) { pthread_t t; sem_init(&in, 0, 0); sem_init(&go, 0, 0); sem_init(&gone, 0, 0);"
        " return pthread_create(&t, 0, slow, 0) || sem_wait(&in); }\n"
        "long end(void) { sem_post(&go); sem_wait(&gone); return seen; }\n",
        link=("-lpthread",),
    )
    assert hot("start()") == 0
    hot.save("f(long x) { return x * 3; }", "f(long x, long y) { return x * 3 + y; }")
    hot.edit("seen = f(5)", "seen = f(5, 1000)")
    assert hot("end()") == 15
    hot("start()")
    assert hot("end()") == 1015


TWO = {
    "a.c": NOINLINE + '__attribute__((visibility("hidden"))) NOINLINE long f(long x) { return x * 3; }\n'
    "long g(long x) { return f(x) + 1; }\n",
    "b.c": '__attribute__((visibility("hidden"))) long f(long);\nlong h(long x) { return f(x) + 2; }\n',
}


@LEVELS
def test_callers_in_another_unit_must_change_too(hot_extension, level):
    hot = hot_extension(TWO, flags=(level,))
    assert [hot("g(1)"), hot("h(1)")] == [4, 5]
    hot.save("f(long x) { return x * 3; }", "f(long x, long y) { return x * 3 + y; }", "a.c")
    hot.save("return f(x) + 1", "return f(x, 7) + 1", "a.c")
    with pytest.raises(IncompatibleError) as refused:
        hot.make()
    (finding,) = refused.value.findings
    assert finding.slug == "prototype-changed" and finding.line == 2 and finding.file.endswith("/a.c")
    assert finding.reason.endswith("the old one is still needed by `h` (b.c:2)")
    hot.save("long f(long);", "long f(long, long);", "b.c")
    result = hot.edit("return f(x) + 2", "return f(x, 8) + 2", "b.c")
    assert set(result.changed) == {"g", "h"}
    assert [hot("g(1)"), hot("h(1)")] == [11, 13]


def test_when_it_is_allowed_those_who_are_named_go_on_with_the_old_one(hot_extension):
    hot = hot_extension(TWO)
    assert [hot("g(1)"), hot("h(1)")] == [4, 5]
    hot.workshop.allow = frozenset({"prototype-changed"})
    hot.save("f(long x) { return x * 3; }", "f(long x, long y) { return x * 3 + y; }", "a.c")
    result = hot.edit("return f(x) + 1", "return f(x, 7) + 1", "a.c")
    assert len(result.notes) == 1
    assert result.notes[0].startswith(f"allowed: {hot.directory}/a.c:2: `long int f(long int)` became")
    assert [hot("g(1)"), hot("h(1)")] == [11, 5]


def test_a_function_pointer_that_is_alive_is_a_variable_of_another_type(hot_extension):
    hot = hot_extension(
        "static long f(long x) { return x * 3; }\nstatic long (*stored)(long);\n"
        "long set(void) { stored = f; return 0; }\nlong call(long x) { return stored(x); }\n"
    )
    hot("set()")
    hot.save(
        "f(long x) { return x * 3; }\nstatic long (*stored)(long);",
        "f(long x, long y) { return x * 3 + y; }\nstatic long (*stored)(long, long);",
    )
    hot.save("return stored(x)", "return stored(x, 7)")
    with pytest.raises(IncompatibleError) as refused:
        hot.make()
    assert [(f.slug, f.line) for f in refused.value.findings] == [("variable-type", 2)]


@LEVELS
def test_a_struct_by_value_is_part_of_a_prototype(hot_extension, level):
    source = NOINLINE + (
        "struct pair { long a, b; };\nstatic NOINLINE long f(struct pair p) { return p.a * 10 + p.b; }\n"
        "long g(long x) { struct pair p = {x, 2}; return f(p); }\n"
    )
    hot = hot_extension(source, flags=(level,))
    assert hot("g(1)") == 12
    result = hot.edit("long a, b; }", "long a, more, b; }")
    assert result.changed == ("g",) and result.added == ("f",)
    assert hot.agrees("g(1)") == [10]


def test_a_function_that_moved_to_another_unit_and_changed_is_replaced(hot_extension):
    hot = hot_extension(
        {
            "a.c": "long f(long x) { return x * 3; }\nlong g(long x) { return f(x) + 1; }\n",
            "b.c": "long h(long x) { return x; }\n",
        }
    )
    assert hot("g(1)") == 4
    hot.save("long f(long x) { return x * 3; }\n", "long f(long);\n", "a.c")
    result = hot.write("long h(long x) { return x; }\nlong f(long x) { return x * 4; }\n", "b.c")
    assert set(result.changed) == {"f", "g"} and result.notes == ()
    assert [hot("g(1)"), hot("f(1)")] == [5, 4]
