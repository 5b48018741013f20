"""Extensions built by clang: static functions that only their callers know are copied, not redirected."""

from __future__ import annotations

import pytest

from hotreload.errors import IncompatibleError
from tests.hot import EXTENSIONS
from tests.patch.test_cxx import EXCEPTIONS
from tests.patch.test_many_flags import EDITS, QUESTIONS


@pytest.mark.parametrize("flags", ["-O0", "-O2"])
def test_every_kind_of_edit_agrees_with_a_fresh_build(hot_extension, flags):
    source = (EXTENSIONS / "torture" / "v1.c").read_text()
    hot = hot_extension(source, compiler="clang", flags=[flags])
    state, original = hot("calls()"), [hot(question) for question in QUESTIONS]
    for what, (old, new) in EDITS.items():
        hot.edit(old, new)
        answers, fresh = [hot(question) for question in QUESTIONS], hot.fresh(*QUESTIONS)
        assert answers == fresh, what
    assert hot.write(source).kind == "base"
    assert [hot(question) for question in QUESTIONS] == original
    assert hot("calls()") == state + 1


PRIVATE = """
typedef long (*callback)(long, long);
callback stored;
static __attribute__((noinline)) long private(long x, long unused) { static long calls; calls++; return x * 3 + calls; }
static __attribute__((noinline)) long pointed(long x, long unused) { return x * 5; }
long f(long x) { return private(x, 7) + 1; }
long g(long x) { return private(x, 8) + 2; }
long store(void) { stored = pointed; return 0; }
long call(long x) { return stored(x, 9); }
long direct(long x) { return pointed(x, 9); }
"""


def test_a_private_function_is_replaced_in_all_its_callers_and_keeps_its_state(hot_extension):
    hot = hot_extension(PRIVATE, compiler="clang")
    assert [hot("f(1)"), hot("g(1)")] == [5, 7]
    result = hot.edit("return x * 3 + calls", "return x * 30 + unused * 1000 + calls")
    assert result.changed == ("f", "g") and result.compiler_changed == () and result.edited == ("private",)
    assert [hot("f(1)"), hot("g(1)")] == [7000 + 30 + 3 + 1, 8000 + 30 + 4 + 2]
    hot.rollback()
    assert [hot("f(1)"), hot("g(1)")] == [3 + 5 + 1, 3 + 6 + 2]


def test_a_function_whose_address_is_taken_keeps_it(hot_extension):
    hot = hot_extension(PRIVATE, compiler="clang")
    hot("store()")
    assert [hot("call(2)"), hot("direct(2)")] == [10, 10]
    hot.edit("return x * 5", "return x * 50 + unused")
    assert [hot("call(2)"), hot("direct(2)")] == [109, 109]


def test_a_private_function_whose_address_new_code_takes_is_a_new_function(hot_extension):
    hot = hot_extension(PRIVATE, compiler="clang")
    assert hot("f(1)") == 5
    hot.edit("stored = pointed; return 0", "stored = private; return (long)pointed != 0")
    assert [hot("store()"), hot("call(1)"), hot("f(1)")] == [1, 3 + 2, 3 + 3 + 1]


def test_thread_locals_and_strings_and_constants_are_bound(hot_extension):
    hot = hot_extension(
        "static __thread long n = 4; double half(double x) { return x * 0.5; }\n"
        'const char *text(long i) { static const char *const t[] = {"a", "b", "c"}; return t[i]; }\n'
        "long f(void) { return n++; }\n",
        compiler="clang",
    )
    assert hot("[f(), f()]") == [4, 5]
    hot.edit("return n++", "return n++ * 10")
    hot.edit("x * 0.5", "x * 0.25")
    hot.edit('"b"', '"bb"')
    assert hot("[f(), half.double(8.0), text.text(1)]") == [60, 2.0, "bb"]


def test_state_that_clang_keeps_in_another_form_is_refused(hot_extension):
    hot = hot_extension(
        "static struct { long a, b; } pair; static long mode;\n"
        "long f(long x) { pair.a += x; pair.b += 2 * x; return pair.a * 100 + pair.b; }\n"
        "long set(long x) { if (x) mode = 5; else mode = 0; return 0; } long get(void) { return mode; }\n",
        compiler="clang",
        flags=["-O2"],
    )
    assert hot("[f(1), set(1), get()]") == [102, 0, 5]
    with pytest.raises(IncompatibleError, match="`pair`"):
        hot.edit("return pair.a * 100", "void *volatile p = &pair; return (p != 0) + pair.a * 100")
    hot.save("void *volatile p = &pair; return (p != 0) + pair.a * 100", "return pair.a * 100")
    with pytest.raises(IncompatibleError, match="`mode`"):
        hot.edit("if (x) mode = 5; else mode = 0", "mode = x")
    assert hot("[f(1), get()]") == [204, 5]


def test_a_new_static_local_beside_another_is_a_new_variable(hot_extension):
    hot = hot_extension("long f(void) { static long calls; return ++calls; }\n", compiler="clang")
    assert hot("f()") == 1
    hot.edit("return ++calls", "static long more = 10; return ++calls + more++")
    assert hot("[f(), f()]") == [12, 14]


def test_exceptions_pass_through_frames_that_clang_made(hot_extension):
    hot = hot_extension(EXCEPTIONS, compiler="clang++")
    answers = "[catcher(n) for n in range(4)] + [alive()]"
    assert hot(answers) == [5, 103, -1, 33, 0]
    hot.edit("const std::runtime_error &e", "const std::logic_error &e")
    assert hot(answers) == [5, -1, 103, 33, 0]
    hot.edit("return 5 + 0 * x", "guard h; thrower(x + 0); return 6")
    assert hot(answers) == [6, -1, 103, 33, 0]


OBJECT = """#include <stdlib.h>
struct Level { long value; explicit Level(long v) : value(v + (getenv("HOME") != NULL)) {} };
static Level first(10);
extern "C" long f(long x) { return first.value + x; }
"""


@pytest.mark.parametrize("level", ["-O0", "-O2"])
def test_an_object_that_nobody_would_construct_is_refused(hot_extension, level):
    hot = hot_extension(OBJECT, compiler="clang++", flags=[level])
    before = hot("f(1)")
    hot.save("static Level first(10);", "static Level first(10), second(20);")
    with pytest.raises(IncompatibleError, match="initialisation of C\\+\\+ objects, which is not run again"):
        hot.edit("first.value + x", "first.value + second.value + x")
    assert hot("f(1)") == before
