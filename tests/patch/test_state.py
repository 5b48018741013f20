"""Live state stays: every kind of variable keeps its address and its value through a swap."""

from __future__ import annotations

import pytest

from hotreload.errors import IncompatibleError, StageError

STATE = """
long exported = 5;
static long counter = 100;
long zeroed;
long bump(long by)
{
    static long calls;
    calls += 1;
    exported += by; counter += by; zeroed += by;
    return calls * 1000000 + exported * 1000 + counter + 0;
}
long *where_counter(void) { return &counter; }
long *where_calls(void) { static long calls = 7; calls++; return &calls; }
"""


@pytest.mark.parametrize("flags", [("-O0",), ("-O2",)], ids=" ".join)
def test_globals_statics_and_local_statics_keep_their_values(hot_extension, flags):
    hot = hot_extension(STATE, flags=flags)
    assert hot("bump(1)") == 1_006_101
    hot.edit("+ counter + 0", "+ counter + 500")
    assert hot("bump(1)") == 2_007_102 + 500
    hot.rollback()
    assert hot("bump(1)") == 3_008_103
    assert hot("var('exported')") == 8


def test_addresses_of_state_are_the_same_for_old_and_new_code(hot_extension):
    hot = hot_extension(STATE)
    before = hot("[where_counter(), where_calls()]")
    result = hot.edit("return &counter", "counter += 0; exported++; return &counter")
    assert result.changed == ("where_counter",)
    hot.edit("calls++; return &calls", "calls += 2; return &calls")
    assert hot("[where_counter(), where_calls()]") == before


def test_two_local_statics_of_one_name_stay_with_their_functions_when_numbers_shift(hot_extension):
    hot = hot_extension(
        "long a(void) { static long n = 10; return n++; }\n"
        "long b(void) { static long n = 20; return n++; }\n"
        "long c(void) { static long n = 30; { static long n = 40; n++; if (n > 1000) return n; } return n++; }\n"
    )
    assert [hot("a()"), hot("b()"), hot("c()")] == [10, 20, 30]
    result = hot.edit("long a(void) { static long n", "long z(void) { static long n = 90; return n++; }\n"
                      "long a(void) { static long m = 2, n")  # fmt: skip
    assert "b" not in result.changed
    hot.edit("static long n = 20; return n++", "static long n = 20; return n++ + 100")
    hot.edit("if (n > 1000)", "if (n > 41)")
    assert [hot("a()"), hot("b()"), hot("c()")] == [11, 121, 42]


def test_a_static_local_that_moved_to_another_function_is_a_new_variable(hot_extension):
    hot = hot_extension("long a(void) { static long n = 10; return n++; }\nlong b(void) { long n = 20; return n++; }\n")
    assert hot("a()") == 10
    hot.write("long a(void) { long n = 10; return n++; }\nlong b(void) { static long n = 20; return n++; }\n")
    assert [hot("a()"), hot("a()"), hot("b()"), hot("b()")] == [10, 10, 20, 21]


def test_a_new_variable_keeps_its_value_over_later_generations(hot_extension):
    hot = hot_extension("long f(void) { return 1; }\n")
    hot("f()")
    hot.edit("return 1", "static long fresh = 50; return fresh++")
    assert [hot("f()"), hot("f()")] == [50, 51]
    hot.edit("return fresh++", "return fresh++ + 1000")
    assert hot("f()") == 1052
    hot.edit("return fresh++ + 1000", "return 3")
    assert hot("f()") == 3
    hot.edit("return 3", "return fresh++ + 2000")
    assert hot("f()") == 2053


def test_a_new_variable_of_another_size_in_a_later_generation_is_refused(hot_extension):
    hot = hot_extension("long f(void) { return 1; }\n")
    hot("f()")
    hot.edit("return 1", "static long fresh[2]; return ++fresh[0]")
    with pytest.raises(StageError, match="fresh") as refused:
        hot.edit("fresh[2]", "fresh[4]")
    assert refused.value.status == "CARRIED_SIZE"
    assert hot("f()") == 1


def test_a_live_variable_of_another_size_is_refused_with_its_place(hot_extension):
    hot = hot_extension("\nstatic long table[4];\nlong f(long i) { return table[i]++; }\n")
    with pytest.raises(IncompatibleError) as refused:
        hot.edit("table[4]", "table[8]")
    (finding,) = refused.value.findings
    assert finding.slug == "variable-size"
    assert "`table` was 32 bytes and is now 64" in finding.reason
    assert finding.file.endswith("ext.c") and finding.line == 2


def test_a_local_static_of_another_size_is_refused_by_its_owner(hot_extension):
    hot = hot_extension("long f(long i) { static long table[4]; return table[i]++; }\n")
    with pytest.raises(IncompatibleError, match="f::table"):
        hot.edit("table[4]", "table[8]")


def test_a_changed_initial_value_is_noted_and_the_live_value_kept(hot_extension):
    hot = hot_extension("static long limit = 5;\nlong f(void) { return limit++; }\n")
    assert hot("f()") == 5
    result = hot.edit("limit = 5;\nlong f(void) { return limit++", "limit = 70;\nlong f(void) { return limit++ + 0 * 9")
    assert result.notes == ("initial value of `limit` changed: the live value is kept",)
    assert hot("f()") == 6


def test_a_static_made_global_and_back_is_the_same_variable(hot_extension):
    hot = hot_extension("static long n = 5;\nlong f(void) { return n++; }\n")
    assert hot("f()") == 5
    hot.edit("static long n = 5;", "long n = 5;")
    assert hot("f()") == 6
    hot.edit("return n++", "return n++ + 100")
    assert hot("f()") == 107
    hot.edit("long n = 5;", "static long n = 5;")
    assert hot("f()") == 108


def test_common_symbols_are_bound_to_the_live_ones(hot_extension):
    hot = hot_extension(
        {
            "a.c": "long shared; long f(void) { return ++shared; }\n",
            "b.c": "long shared; long g(void) { return shared; }\n",
        },
        flags=("-O2", "-fcommon"),
    )
    assert hot("f()") == 1
    hot.edit("return ++shared", "return shared += 10")
    assert [hot("f()"), hot("g()")] == [11, 11]


def test_a_new_common_symbol_is_one_variable_for_all_units(hot_extension):
    hot = hot_extension(
        {"a.c": "long f(void) { return 1; }\n", "b.c": "long g(void) { return 2; }\n"}, flags=("-O2", "-fcommon")
    )
    hot("f()")
    hot.save("long g(void) { return 2; }", "long fresh; long g(void) { return fresh; }", "b.c")
    hot.edit("long f(void) { return 1; }", "long fresh; long f(void) { return ++fresh; }")
    assert [hot("f()"), hot("f()"), hot("g()")] == [1, 2, 2]
    hot.edit("return ++fresh", "return fresh += 10")
    assert [hot("f()"), hot("g()")] == [12, 12]


CONSTANTS = """
static const long table[4] = {1, 2, 3, 4};
static const char *const names[] = {"one", "two", "three"};
const char *name(long i) { return names[i]; }
long look(long i) { return table[i] * 10; }
const long *where(void) { return table; }
double scale(double x) { return x * 1.5; }
const char *greet(void) { return "hello"; }
"""


@pytest.mark.parametrize("flags", [("-O0",), ("-O2",)], ids=" ".join)
def test_strings_constants_and_const_tables_are_those_of_the_new_code(hot_extension, flags):
    hot = hot_extension(CONSTANTS, flags=flags)
    hot("greet.text()")
    questions = ["greet.text()", "scale.double(3.0)", "look(2)", "[name.text(i) for i in range(3)]"]
    assert hot.edit('"hello"', '"howdy"').changed == ("greet",)
    assert hot.agrees(*questions)[0] == "howdy"
    assert set(hot.edit("x * 1.5", "x * 2.5").changed) == {"greet", "scale"}
    assert hot.agrees(*questions)[1] == 7.5
    hot.edit("{1, 2, 3, 4}", "{1, 2, 33, 4}")
    assert hot.agrees(*questions)[2] == 330
    hot.edit('"three"', '"drei"')
    assert hot.agrees(*questions)[3][2] == "drei"


def test_an_unchanged_const_table_keeps_its_address(hot_extension):
    hot = hot_extension(CONSTANTS)
    before = hot("where()")
    hot.edit("return table; }", "return table + 1; }")
    assert hot("where()") == before + 8


def test_pointers_to_an_old_string_stay_valid(hot_extension):
    hot = hot_extension(
        'static const char *kept; const char *pick(void) { return "old"; }\n'
        "const char *keep(void) { if (!kept) kept = pick(); return kept; }\n"
    )
    assert hot("keep.text()") == "old"
    hot.edit('"old"', '"new"')
    assert [hot("keep.text()"), hot("pick.text()")] == ["old", "new"]


def test_an_addend_before_the_first_element_means_the_same_variable(hot_extension):
    hot = hot_extension("static long before[8]; static long a[8];\n"
                        "long set(long i, long v) { before[0] = 1; return a[i] = v; }\n"
                        "long get(long i) { return (a - 1)[i]; }\n")  # fmt: skip
    hot("set(0, 77)")
    hot.edit("(a - 1)[i]", "(a - 1)[i] + 1000")
    assert hot("get(1)") == 1077
