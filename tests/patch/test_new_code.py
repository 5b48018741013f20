"""What the base has not: new functions and libraries come along with the patch and stay."""

from __future__ import annotations

import pytest

from hotreload.errors import BuildError


def test_a_new_static_function_comes_along(hot_extension):
    hot = hot_extension("long f(long x) { return x + 1; }\n")
    hot("f(1)")
    result = hot.edit(
        "long f(long x) { return x + 1; }",
        "static __attribute__((noinline)) long square(long x) { static long n; n++; return x * x + n; }\n"
        "long f(long x) { return square(x) + 1; }",
    )
    assert result.added == ("square",) and result.changed == ("f",)
    assert [hot("f(3)"), hot("f(3)")] == [11, 12]
    hot.edit("return x * x + n", "return x * x * x + n")
    assert hot("f(3)") == 31


def test_a_new_global_function_is_called_from_another_unit(hot_extension):
    hot = hot_extension({"a.c": "long f(long x) { return x; }\n", "b.c": "long g(long x) { return x; }\n"})
    hot("f(1)")
    hot.save(
        "long g(long x) { return x; }", "long fresh(long x) { return x + 40; }\nlong g(long x) { return x; }", "b.c"
    )
    hot.edit("long f(long x) { return x; }", "long fresh(long); long f(long x) { return fresh(x); }")
    assert hot("f(2)") == 42
    hot.edit("return x + 40", "return x + 50", "b.c")
    assert hot("f(2)") == 52


@pytest.mark.parametrize("flags", [("-O0",), ("-O2",), ("-O2", "-fno-plt")], ids=" ".join)
def test_a_new_function_whose_pointer_lives_in_state_is_patched_again(hot_extension, flags):
    hot = hot_extension(
        "typedef long (*callback)(long);\nstatic callback stored;\n"
        "long call(long x) { return stored ? stored(x) : -1; }\nlong set(void) { stored = 0; return 0; }\n",
        flags=flags,
    )
    assert [hot("set()"), hot("call(1)")] == [0, -1]
    hot.edit(
        "long set(void) { stored = 0; return 0; }",
        "static long fresh(long x) { return x + 10; }\nlong set(void) { stored = fresh; return 1; }",
    )
    assert [hot("set()"), hot("call(1)")] == [1, 11]
    hot.edit("return x + 10", "return x + 20")
    assert hot("call(1)") == 21
    hot.edit("stored = fresh; return 1", "return 5 + (stored == fresh)")
    assert [hot("set()"), hot("call(1)")] == [6, 21]
    hot.rollback()
    assert hot("call(1)") in (11, 21)


def test_a_library_that_only_the_new_code_needs_is_loaded(hot_extension):
    hot = hot_extension("unsigned long f(void) { return 1; }\n", link=("-Wl,--as-needed", "-lz"), flags=("-O2",))
    assert hot("f()") == 1
    hot.edit(
        "unsigned long f(void) { return 1; }",
        "unsigned long crc32(unsigned long, const char *, unsigned); "
        'unsigned long f(void) { return crc32(0, "hello", 5); }',
    )
    assert hot("f()") == 0x3610A686


def test_the_patch_uses_libm_and_errno_of_the_process(hot_extension):
    hot = hot_extension(
        "#include <errno.h>\n#include <math.h>\nlong f(long x) { errno = 0; return x; }\nlong seen(void) { return errno; }\n",
        flags=("-O2", "-fno-builtin"),
        link=("-lm",),
    )
    hot("f(1)")
    hot.edit("errno = 0; return x", "errno = 33; return (long)sqrt((double)x)")
    assert hot("[f(81), seen()]") == [9, 33]


def test_a_function_added_and_used_by_nobody_changes_nothing(hot_extension):
    hot = hot_extension("long f(long x) { return x; }\n")
    result = hot.edit("long f", "long lonely(long x) { return x; }\nlong f")
    assert result.added == ("lonely",)
    assert result.changed == () and result.compiler_changed == ()
    assert hot("f(2)") == 2


def test_a_removed_function_stays_callable_and_is_noted(hot_extension):
    hot = hot_extension("long f(long x) { return x; }\nlong gone(long x) { return x + 5; }\n")
    hot("f(1)")
    result = hot.edit("long gone(long x) { return x + 5; }\n", "")
    assert result.removed == ("gone",)
    assert result.notes == ("`gone` was removed: the old one stays callable",)
    assert hot("gone(1)") == 6


def test_what_does_not_compile_is_refused_with_the_compilers_words(hot_extension):
    hot = hot_extension("long f(long x) { return x; }\n")
    assert hot("f(1)") == 1
    with pytest.raises(BuildError) as refused:
        hot.edit("return x", "return y")
    assert "undeclared" in refused.value.diagnostics and "ext.c:1:" in refused.value.diagnostics
    assert hot("f(1)") == 1
    hot.edit("return y", "return x + 1")
    assert hot("f(1)") == 2
