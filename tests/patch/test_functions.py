"""Functions of every kind: what calls them, points to them or is in them works on after a swap."""

from __future__ import annotations

import pytest

import hotreload
from hotreload.errors import IncompatibleError, StageError

POINTERS = """
typedef long (*callback)(long);
static callback stored;
static __attribute__((noinline)) long twice(long x) { return 2 * x; }
long thrice(long x) { return 3 * x; }
static const callback table[] = {twice, thrice};
void store(long i) { stored = table[i]; }
long call(long x) { return stored(x); }
long is_stored(void) { return (stored == twice) + 2 * (stored == thrice); }
long bump(long x) { return twice(x) + 1; }
"""


@pytest.mark.parametrize("flags", [("-O0",), ("-O2",), ("-O2", "-fno-plt"), ("-O2", "-Wl,-Bsymbolic")], ids=" ".join)
def test_a_pointer_stored_before_the_patch_calls_new_code_and_stays_equal(hot_extension, flags):
    hot = hot_extension(POINTERS, flags=flags)
    hot("store(0)")
    assert [hot("call(5)"), hot("is_stored()")] == [10, 1]
    hot.edit("return 2 * x", "return 20 * x")
    assert [hot("call(5)"), hot("is_stored()"), hot("bump(5)")] == [100, 1, 101]
    hot.edit("(stored == twice) + 2", "10 * (stored == twice) + 2")
    assert hot("is_stored()") == 10
    hot.edit("stored = table[i]", "stored = table[i]; stored(0)")
    hot("store(1)")
    hot.edit("return 3 * x", "return 30 * x")
    assert [hot("call(5)"), hot("is_stored()")] == [150, 2]
    hot.rollback()
    assert [hot("call(5)"), hot("is_stored()")] == [15, 2]


PYTHON = """
#include <Python.h>
static PyObject *f(PyObject *s, PyObject *a) { static long n; return PyLong_FromLong(++n * 10 + 1); }
static PyObject *g(PyObject *s, PyObject *a) { return PyErr_Format(PyExc_ValueError, "bad %d", 5); }
static PyMethodDef m[] = {{"f", f, METH_NOARGS, 0}, {"g", g, METH_NOARGS, 0}, {0}};
static struct PyModuleDef d = {PyModuleDef_HEAD_INIT, "ext", 0, -1, m};
PyMODINIT_FUNC PyInit_ext(void) { return PyModule_Create(&d); }
"""


def test_a_static_function_in_a_method_table_is_patched(hot_extension):
    import sysconfig

    hot = hot_extension(PYTHON, is_python=True, flags=("-O2", f"-I{sysconfig.get_path('include')}"))
    assert hot("ext.f()") == 11
    hot("globals().update(bound=ext.f)")
    assert hot.edit("* 10 + 1", "* 100 + 2").changed == ("f",)
    assert [hot("ext.f()"), hot("bound()")] == [202, 302]
    hot.edit('"bad %d", 5', '"worse %d", 6')
    with pytest.raises(ValueError, match="worse 6"):
        hot("ext.g()")


CONTROL = """
static long __attribute__((noinline)) fact(long n) { return n < 2 ? 1 : n * fact(n - 1); }
long factorial(long n) { return fact(n); }
long even(long n);
long odd(long n) { return n == 0 ? 0 : even(n - 1); }
long even(long n) { return n == 0 ? 1 : odd(n - 1); }
long tail(long n) { return factorial(n); }
long pick(long n)
{
    switch (n) {
    case 0: return 11; case 1: return 7; case 2: return tail(3); case 3: return 90; case 4: return 5;
    case 5: return even(4); case 6: return 17; case 7: return -4; default: return n * 2;
    }
}
long jump(long n)
{
    static const void *const where[] = {&&a, &&b, &&c};
    goto *where[n % 3];
a:  return 1 + n;
b:  return 20 + n;
c:  return 300 + n;
}
long hop(long n)
{
    static void *where[] = {&&a, &&b, &&c};
    long sum = 0;
    goto *where[n % 3];
a:  sum += 1;
b:  sum += 20;
c:  return sum + n;
}
extern void abort(void);
long cold(long n) { if (__builtin_expect(n > 1000, 0)) { if (n == 123456) abort(); return n / 7; } return n + 1; }
const char *me(void) { return __func__; }
"""
QUESTIONS = [
    "[factorial(n) for n in range(6)]",
    "[odd(n) for n in range(5)]",
    "[tail(n) for n in range(5)]",
    "[pick(n) for n in range(-1, 10)]",
    "[jump(n) for n in range(6)]",
    "[hop(n) for n in range(6)]",
    "[cold(n) for n in (1, 1001, 7000)]",
    "me.text()",
]
EDITS = {
    "recursion": ("n * fact(n - 1)", "n + fact(n - 1)"),
    "tail call": ("return factorial(n)", "return factorial(n + 1)"),
    "mutual recursion": ("return n == 0 ? 0 : even", "return n == 0 ? 9 : even"),
    "switch table": ("case 3: return 90", "case 3: return 91 + n"),
    "a new case": ("default: return n * 2", "case 8: return 1234; default: return n * 3"),
    "computed goto through a const table": ("b:  return 20 + n;\nc:  return 300", "b:  return 21 + n;\nc:  return 301"),
    "the table of a computed goto": ("{&&a, &&b, &&c};\n    goto", "{&&c, &&a, &&b};\n    goto"),
    "computed goto through a live table": ("b:  sum += 20", "b:  sum += 21; sum *= 3"),
    "cold piece": ("return n / 7", "return n / 9"),
    "function name": ("return __func__", "return __func__ + 1"),
}


@pytest.mark.parametrize("flags", ["-O0", "-O2", "-Os"])
def test_control_flow_of_every_kind_agrees_with_a_fresh_build(hot_extension, flags):
    hot = hot_extension(CONTROL, flags=(flags,))
    hot.agrees(*QUESTIONS)
    for what, (old, new) in EDITS.items():
        hot.edit(old, new)
        live, fresh = [hot(q) for q in QUESTIONS], hot.fresh(*QUESTIONS)
        assert live == fresh, what
    hot.write(CONTROL)
    assert [hot(q) for q in QUESTIONS] == hot.fresh(*QUESTIONS)


ARGUMENTS = """
#include <stdarg.h>
typedef float v4f __attribute__((vector_size(16)));
typedef double v4d __attribute__((vector_size(32)));
typedef struct { long a, b, c; double d; } big;
typedef struct { double x; long y; } pair;
long sum(long n, ...) { va_list v; long s = 0; va_start(v, n); while (n--) s += va_arg(v, long); va_end(v); return s; }
long add(long n, ...) { va_list v; double s = 0; va_start(v, n); while (n--) s += va_arg(v, double); va_end(v); return s; }
big make_big(long a, double d) { big r = {a, a + 1, a + 2, d}; return r; }
pair make_pair(double x, long y) { pair r = {x * 2, y * 2}; return r; }
long double wide(long double x, long double y) { return x * y + 1; }
double many(double a, double b, double c, double d, double e, double f, double g, double h, double i, long j, long k,
            long l, long m, long n, long o, long p) { return a + b*2 + c*3 + d*4 + e*5 + f*6 + g*7 + h*8 + i*9 + j*10 + k*11 + l*12
            + m*13 + n*14 + o*15 + p*16; }
__attribute__((target("avx2"))) v4d lanes(v4d a, v4d b) { return a + b * b; }
float vec(v4f v) { return v[0] + v[1] * 10 + v[2] * 100; }

long drive_big(long n) { big r = make_big(n, 2.5); return r.a + r.b * 10 + r.c * 100 + (long)(r.d * 1000); }
long drive_pair(long n) { pair r = make_pair(n, n); return (long)r.x * 100 + r.y; }
long drive_wide(long n) { return (long)wide(n, 3.0L); }
double drive_many(void) { return many(1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16); }
__attribute__((target("avx2"))) long drive_lanes(long n)
{
    v4d a = {n, n + 1, n + 2, n + 3}, r = lanes(a, a);
    return (long)(r[0] + r[1] * 10 + r[2] * 100 + r[3] * 1000);
}
long drive_vec(long n) { v4f v = {n, n + 1, n + 2, 0}; return (long)vec(v); }
long drive_sum(void) { return sum(9L, 1L, 2L, 3L, 4L, 5L, 6L, 7L, 8L, 9L) + add(3L, 1.5, 2.5, 3.0); }
"""


@pytest.mark.parametrize("flags", ["-O0", "-O2"])
def test_arguments_and_results_of_every_class_arrive_whole(hot_extension, flags):
    with open("/proc/cpuinfo", encoding="ascii") as file:
        if " avx2 " not in file.read():
            pytest.skip("the processor has no AVX2")
    hot = hot_extension(ARGUMENTS, flags=(flags, "-Wno-psabi"))
    questions = ["drive_sum()", "drive_big(3)", "drive_pair(4)", "drive_wide(5)", "drive_many.double()", "drive_lanes(2)",
                 "drive_vec(3)"]  # fmt: skip
    hot.agrees(*questions)
    for old, new in [
        ("s += va_arg(v, long)", "s += 2 * va_arg(v, long)"),
        ("s += va_arg(v, double)", "s += 3 * va_arg(v, double)"),
        ("{a, a + 1, a + 2, d}", "{a + 5, a, a + 1, d * 2}"),
        ("{x * 2, y * 2}", "{x * 3, y * 4}"),
        ("return x * y + 1", "return x * y * y - 1"),
        ("+ p*16", "+ p*17"),
        ("return a + b * b", "return a * b - a"),
        ("v[2] * 100", "v[2] * 1000"),
    ]:
        hot.edit(old, new)
        hot.agrees(*questions)


def test_ifunc_and_target_clones_cannot_be_replaced_and_say_so_and_can_be_called(hot_extension):
    hot = hot_extension(
        "static long fast(long x) { return x + 1; }\n"
        "static void *resolve(void) { return fast; }\n"
        'long chosen(long x) __attribute__((ifunc("resolve")));\n'
        '__attribute__((target_clones("avx2","default"))) long cloned(long x) { return x * 3; }\n'
        "long f(long x) { return chosen(x) + cloned(x) + 0; }\n"
        "long g(long x) { long (*volatile p)(long) = chosen, (*volatile q)(long) = cloned; return p(x) + q(x) + 0; }\n"
    )
    assert [hot("f(1)"), hot("g(1)")] == [5, 5]
    hot.edit("return chosen(x) + cloned(x) + 0", "return chosen(x) + cloned(x) + 100")
    assert hot("f(1)") == 105
    hot.edit("return p(x) + q(x) + 0", "return p(x) + q(x) + 200")
    assert hot("g(1)") == 205
    hot.edit("return x + 1", "return x + 11")
    assert [hot("f(1)"), hot("g(1)")] == [115, 215]
    hot.edit("return x * 3", "return x * 4")
    assert hot.agrees("f(1)", "g(1)") == [116, 216]


def test_aliases_and_weak_functions_are_one_function(hot_extension):
    hot = hot_extension(
        "long real(long x) { return x + 1; }\n"
        'long other(long x) __attribute__((alias("real")));\n'
        "__attribute__((weak)) long maybe(long x) { return x + 2; }\n"
        "extern long missing(long) __attribute__((weak));\n"
        "long f(long x) { return other(x) * 100 + maybe(x) + (missing ? missing(x) : 0); }\n"
    )
    assert hot("f(1)") == 203
    hot.edit("return x + 1", "return x + 4")
    assert [hot("f(1)"), hot("real(1)"), hot("other(1)")] == [503, 5, 5]
    hot.edit("return x + 2", "return x + 3")
    hot.edit("other(x) * 100", "other(x) * 1000")
    assert hot("f(1)") == 5004


def test_hidden_functions_and_variables_of_another_unit_are_bound_to_the_live_ones(hot_extension):
    hot = hot_extension(
        {
            "a.c": '#define HIDDEN __attribute__((visibility("hidden")))\n'
            "HIDDEN long level = 3; HIDDEN long help(long x) { return x + level; }\n",
            "b.c": '#define HIDDEN __attribute__((visibility("hidden")))\n'
            "extern HIDDEN long level; HIDDEN long help(long); long f(long x) { level++; return help(x) * 10; }\n",
        }
    )
    assert hot("f(1)") == 50
    hot.edit("return help(x) * 10", "return help(x) * 100", "b.c")
    assert hot("f(1)") == 600
    hot.edit("return x + level", "return x + level + 1", "a.c")
    assert hot("f(1)") == 800


def test_an_exported_function_that_the_program_overrides_stays_overridden(hot_extension):
    hot = hot_extension("int abs(int x);\nlong f(long x) { return abs((int)x) + 1; }\n", flags=("-O2", "-fno-builtin"))
    assert hot("f(-3)") == 4
    hot.edit("+ 1", "+ 2")
    assert hot("f(-3)") == 5


def test_functions_of_one_to_three_bytes_are_patched(hot_extension):
    hot = hot_extension("void nothing(void) {}\nlong zero(void) { return 0; }\nlong same(long x) { return x; }\n")
    hot("nothing()")
    hot.write(
        "long n; void nothing(void) { n = 9; }\nlong zero(void) { return n; }\nlong same(long x) { return x + n; }\n"
    )
    hot("nothing()")
    assert [hot("zero()"), hot("same(1)")] == [9, 10]


def test_inline_assembler_with_labels_works_in_new_code(hot_extension):
    source = (
        'long f(long x) { long r = x; __asm__ volatile("1: dec %0; jz 2f; jmp 1b; 2:" : "+r"(r)); return r + 1; }\n'
        'long g(long x) { __asm__ goto("test %0, %0; jz %l1" : : "r"(x) : "cc" : zero); return 5; zero: return 6; }\n'
    )
    hot = hot_extension(source)
    assert [hot("f(3)"), hot("g(0)"), hot("g(1)")] == [1, 6, 5]
    hot.edit("return r + 1", "return r + 2")
    hot.edit("return 5; zero", "return 50; zero")
    assert hot.agrees("f(3)", "g(0)", "g(1)") == [2, 6, 50]


def test_a_function_without_hook_is_refused_by_name_when_it_changes(hot_extension):
    hot = hot_extension("__attribute__((patchable_function_entry(0, 0))) long f(void) { return 1; }\n")
    with pytest.raises(IncompatibleError, match="`f` cannot be patched: the compiler put no hook at its entry"):
        hot.edit("return 1", "return 2")


def test_a_symbol_that_nobody_has_is_refused_at_stage_by_its_name(hot_extension):
    hot = hot_extension("long f(void) { return 1; }\n")
    with pytest.raises(StageError, match="no_such_function_anywhere"):
        hot.edit(
            "long f(void) { return 1",
            "long no_such_function_anywhere(void); long f(void) { return no_such_function_anywhere()",
        )
    assert hot("f()") == 1


@pytest.mark.parametrize("compiler", ["gcc", "clang", "g++"])
def test_a_marked_function_is_kept_whole_so_a_change_to_it_is_a_change_of_one_function(hot_extension, compiler):
    hot = hot_extension(
        '#include "hotreload.h"\n#ifdef __cplusplus\nextern "C" long f(long);\n#endif\n'
        "HOTPATCHABLE static long blend(long x) { return x + 1; }\nlong f(long x) { return blend(x) * 10; }\n",
        compiler=compiler,
        flags=("-O2", f"-I{hotreload.get_include()}"),
    )
    assert hot("f(1)") == 20
    result = hot.edit("return x + 1", "return x + 2")
    assert len(result.changed) == 1
    assert ("blend" in result.changed[0]) is (compiler != "clang")  # clang: a private function, copied with its caller
    assert hot("f(1)") == 30
