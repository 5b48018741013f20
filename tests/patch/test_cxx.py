"""C++ units: exceptions through patched frames, inline and template functions, objects that are made once."""

from __future__ import annotations

import pytest

from hotreload.errors import IncompatibleError

EXCEPTIONS = r"""
#include <stdexcept>
#include <string>
struct guard { static long alive; guard() { alive++; } ~guard() { alive--; } };
long guard::alive = 0;
extern "C" __attribute__((noinline)) void thrower(long x)
{
    if (x == 1) throw std::runtime_error("one");
    if (x == 2) throw std::logic_error("two");
    if (x == 3) throw 33;
}
extern "C" __attribute__((noinline)) long middle(long x) { guard g; thrower(x); return 5 + 0 * x; }
extern "C" long catcher(long x)
{
    try {
        return middle(x);
    } catch (const std::runtime_error &e) {
        return 100 + (long)std::string(e.what()).size();
    } catch (int n) {
        return n;
    } catch (...) {
        return -1;
    }
}
extern "C" long alive() { return guard::alive; }
"""


@pytest.mark.parametrize("flags", ["-O0", "-O2"])
def test_exceptions_pass_through_new_frames_and_are_caught_by_new_handlers(hot_extension, flags):
    hot = hot_extension(EXCEPTIONS, compiler="g++", flags=(flags,))
    answers = "[catcher(n) for n in range(4)] + [alive()]"
    assert hot(answers) == [5, 103, -1, 33, 0]
    hot.edit("return 5 + 0 * x", "guard h; thrower(x + 0); return 6")
    assert hot(answers) == [6, 103, -1, 33, 0]
    hot.edit("const std::runtime_error &e", "const std::logic_error &e")
    assert hot(answers) == [6, -1, 103, 33, 0]
    hot.edit("throw 33", "throw 44")
    assert hot(answers) == [6, -1, 103, 44, 0]
    hot.edit(
        "catch (int n) {\n        return n;", "catch (int n) {\n        try { throw; } catch (int m) { return m + n; }"
    )
    assert hot.agrees(answers) == [[6, -1, 103, 88, 0]]
    hot.rollback()
    assert hot(answers) == [5, 103, -1, 33, 0]


def test_an_exception_from_new_code_passes_a_frame_of_old_code(hot_extension):
    hot = hot_extension(EXCEPTIONS, compiler="g++")
    hot("catcher(0)")
    hot.edit("if (x == 3) throw 33;", "if (x == 3) throw 33;\n    struct fresh { long n; };\n"
             "    try { if (x == 0) throw fresh{7}; } catch (const fresh &f) { throw (int)f.n; }")  # fmt: skip
    assert hot("catcher(0)") == 7


OBJECTS = r"""
#include <string>
#include <vector>
static long made;
struct counted { long n; explicit counted(long x) : n(x) { made++; } ~counted() { made += 1000; } };
static counted global(7);
namespace inner { static long hidden = 3; long bump() { static long calls = 40; return ++calls + hidden++; } }
template <typename T> T twice(T x) { static T calls = 0; calls += 1; return x + x + calls; }
inline long shared(long x) { static long n = 0; return x + ++n; }
struct shape { virtual ~shape() {} virtual long area(long x) { return x; } };
struct square : shape { long area(long x) override { return x * x; } };
static square one;
extern "C" long lazy(long x) { static counted local(x); return local.n; }
extern "C" long count() { return made; }
extern "C" long use(long x) { return global.n + inner::bump() + twice(x) + shared(x); }
extern "C" long area(long x) { shape *volatile s = &one; return s->area(x); }
extern "C" long text(long n) { std::vector<std::string> v(n, "ab"); long s = 0; for (auto &t : v) s += t.size(); return s; }
"""


@pytest.mark.parametrize("flags", ["-O0", "-O2"])
def test_objects_are_made_once_and_templates_and_virtual_functions_are_patched(hot_extension, flags):
    hot = hot_extension(OBJECTS, compiler="g++", flags=(flags,))
    assert [hot("lazy(5)"), hot("count()")] == [5, 2]
    assert hot("use(10)") == 7 + 41 + 3 + 21 + 11
    hot.edit("return local.n", "return local.n * 10")
    assert [hot("lazy(6)"), hot("count()")] == [50, 2]
    hot.edit("return global.n + inner", "return 1000 + global.n + inner")
    assert hot("use(10)") == 1000 + 7 + 42 + 4 + 22 + 12
    hot.edit("return x + x + calls", "return x + x + calls + 10000")
    assert hot("use(10)") == 11000 + 7 + 43 + 5 + 23 + 13
    hot.edit("return x + ++n", "return x + ++n + 20000")
    assert hot("use(10)") == 31000 + 7 + 44 + 6 + 24 + 14
    result = hot.edit("return ++calls + hidden++", "return ++calls + hidden++ + 40000")
    assert set(result.edited) == {"_ZN5inner4bumpEv", "_Z5twiceIlET_S0_", "_Z6sharedl", "lazy", "use"}
    assert hot("use(10)") == 71000 + 7 + 45 + 7 + 25 + 15
    assert hot("area(3)") == 9
    hot.edit("return x * x", "return x * x + 1")
    assert hot("area(3)") == 10
    hot.edit('v(n, "ab")', 'v(n, "a longer text than fits the object itself")')
    assert hot.agrees("text(3)") == [3 * 41]
    assert hot("count()") == 2


def test_a_new_global_object_is_not_constructed_so_code_that_uses_it_is_refused(hot_extension):
    hot = hot_extension(OBJECTS, compiler="g++", flags=["-O2"])
    hot("use(1)")
    hot.save(
        'extern "C" long area',
        'static counted fresh(9);\nextern "C" long sum() { return fresh.n; }\nextern "C" long area',
    )
    with pytest.raises(IncompatibleError) as refused:
        hot.make()
    (finding,) = refused.value.findings
    assert finding.slug == "constructor-added"
    assert "counted fresh(9)" in hot.text().split("\n")[finding.line - 1]
    assert "which is not run again, but `sum` uses it" in finding.reason
    hot.workshop.allow = frozenset({"constructor-added"})
    result = hot.make_live()
    assert hot("count()") == 1
    assert any("not run" in note for note in result.notes), result.notes


def test_a_type_that_only_this_file_knows_is_thrown_by_old_code_and_caught_by_new(hot_extension):
    hot = hot_extension(
        "namespace { struct mine { long n; }; struct other { long n; }; }\n"
        "__attribute__((noinline)) void thrower(long x) { if (x) throw mine{x}; throw other{5}; }\n"
        'extern "C" long f(long x) { try { thrower(x); } catch (const mine &m) { return m.n; } catch (...) { return -1; }'
        " return 0; }\n",
        compiler="g++",
    )
    assert [hot("f(7)"), hot("f(0)")] == [7, -1]
    hot.edit("return m.n;", "return m.n + 100;")
    assert [hot("f(7)"), hot("f(0)")] == [107, -1]
    assert hot.edit("const mine &m", "const other &m").changed == ("f",)
    assert hot.agrees("f(7)", "f(0)") == [-1, 105]


@pytest.mark.parametrize("linker", ["bfd", "gold", "lld"])
def test_a_new_static_object_is_made_when_it_is_first_needed_and_destroyed_with_the_module(hot_extension, linker):
    hot = hot_extension(
        "static long made;\nstruct counted { long n; counted(long x) : n(x) { made++; } ~counted() { made--; } };\n"
        'extern "C" long f(long x) { return x; }\nextern "C" long count() { return made; }\n',
        compiler="g++",
        flags=("-O2", f"-fuse-ld={linker}"),
    )
    assert hot("[f(1), count()]") == [1, 0]
    hot.edit("return x; }", "static counted fresh(x); return fresh.n++; }")
    assert hot("[f(5), f(6), count()]") == [5, 6, 1]
    hot.edit("return fresh.n++", "return fresh.n++ * 10")
    assert hot("[f(5), count()]") == [70, 1]
