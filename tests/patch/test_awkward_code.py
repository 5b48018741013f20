"""Code that compilers and linkers treat in a way of its own, and that real extensions have."""

from __future__ import annotations

import subprocess

import pytest

from hotreload.elf.file import ElfFile
from hotreload.errors import IncompatibleError


def test_a_new_variable_begins_with_pointers_to_live_state_and_to_functions(hot_extension):
    hot = hot_extension(
        "static long counter = 5; static __attribute__((noinline)) long old(long x) { return x + counter++; }\n"
        "long f(long x) { return old(x); }\n"
    )
    assert hot("f(1)") == 6
    hot.edit(
        "long f(long x) { return old(x); }",
        "static long fresh(long x) { return x * 100; }\n"
        'static struct { long *where; long (*call[2])(long); const char *name; } table = {&counter, {old, fresh}, "ab"};\n'
        "long f(long x) { *table.where += 10; return table.call[x & 1](x) + table.name[1]; }",
    )
    assert hot("f(2)") == 2 + 16 + 98
    assert hot("f(3)") == 300 + 98
    hot.edit("return x * 100", "return x * 1000")
    assert hot("f(3)") == 3000 + 98


@pytest.mark.parametrize("flags", ["-O0", "-O2"])
def test_a_second_static_of_one_name_in_a_function_is_refused(hot_extension, flags):
    hot = hot_extension("long f(long x) { static long n = 10; n += x; return n; }\n", flags=[flags])
    assert hot("f(1)") == 11
    with pytest.raises(IncompatibleError, match="`n`"):
        hot.edit("static long n = 10; n += x", "{ static long n = 99; x += n++; } static long n = 10; n += x")
    assert hot("f(1)") == 12


def test_a_static_of_one_name_in_another_function_is_no_trouble(hot_extension):
    hot = hot_extension("long f(long x) { static long n = 10; n += x; return n; }\n")
    assert hot("f(1)") == 11
    hot.edit("long f(", "long g(long x) { static long n = 20; n += x; return n; }\nlong f(")
    hot.edit("static long n = 10; n += x; return n", "static long n = 10; n += x; return n + 1000")
    assert hot("f(1)") == 1012


@pytest.mark.parametrize("flags", ["-O0", "-O2"])
def test_compound_literals_that_moved_are_refused(hot_extension, flags):
    hot = hot_extension(
        "static long *first = (long[]){1, 2, 3};\nlong f(long i) { return first[i]++; }\n", flags=[flags]
    )
    assert hot("[f(1), f(1)]") == [2, 3]
    text = "static long *zero = (long[]){7, 8, 9};\nlong g(long i) { return zero[i]++; }\n"
    with pytest.raises(IncompatibleError):
        hot.write(text + hot.text().replace("first[i]++", "first[i]++ * 10"))
    assert hot("f(1)") == 4


def test_a_static_that_the_base_never_wrote_becomes_a_variable(hot_extension):
    hot = hot_extension(
        "static long debug = 3;\nlong f(long x) { return debug ? x + debug : x; }\nlong set(long x) { return x; }\n"
    )
    assert hot("f(1)") == 4
    hot.edit("long set(long x) { return x; }", "long set(long x) { debug = x; return x; }")
    assert hot("[f(1), set(5), f(1), set(0), f(1)]") == [4, 5, 6, 0, 1]


@pytest.mark.parametrize("linker", ["bfd", "gold", "lld"])
@pytest.mark.parametrize("flags", [["-fvisibility=hidden"], ["-Wl,--version-script=only_f"]], ids=" ".join)
def test_units_of_every_linker_share_what_the_library_hides(hot_extension, linker, flags):
    export = '__attribute__((visibility("default"))) '
    hot = hot_extension(
        {
            "only_f": "{ global: f; local: *; };\n",
            "a.c": "long level = 3; static long own = 1; long help(long x) { return x + level + own++; }\n",
            "b.c": f"extern long level; long help(long); static long own = 100; {export}long f(long x) {{ level++; own++; return help(x) + own; }}\n",
            "c.c": "static long own = 1000; long level_of_c(void) { return own++; }\n",
        },
        flags=["-O2", *flags, f"-fuse-ld={linker}"],
    )
    assert hot("f(1)") == 1 + 4 + 1 + 101
    hot.edit("return help(x) + own", "return help(x) * 10 + own", "b.c")
    assert hot("f(1)") == (1 + 5 + 2) * 10 + 102
    hot.edit("return x + level + own++", "return x - level - own++", "a.c")
    assert hot("f(1)") == (1 - 6 - 3) * 10 + 103


def test_a_const_table_that_grew_is_used_whole(hot_extension):
    hot = hot_extension(
        "static const long table[] = {1, 2, 3};\n"
        "long f(void) { long s = 0; for (unsigned i = 0; i < sizeof table / sizeof *table; i++) s += table[i]; return s; }\n"
    )
    assert hot("f()") == 6
    hot.edit("{1, 2, 3}", "{1, 2, 3, 4, 5, 6, 7, 8, 9}")
    assert hot("f()") == 45


def test_thread_locals_with_constructors_are_made_once_in_each_thread(hot_extension):
    hot = hot_extension(
        "#include <thread>\nstatic long made;\nstruct counted { long n; counted() : n(40) { made++; } ~counted() { made += 100; } };\n"
        "static thread_local counted mine;\n"
        'extern "C" long f(long x) { mine.n += x; return mine.n; }\n'
        'extern "C" long other(long x) { long r = 0; std::thread t([&] { r = f(x); }); t.join(); return r; }\n'
        'extern "C" long count() { return made; }\n',
        compiler="g++",
        flags=("-O2", "-pthread"),
    )
    assert hot("[f(1), count(), other(2), count()]") == [41, 1, 42, 102]
    hot.edit("return mine.n", "return mine.n * 10")
    assert hot("[f(1), count(), other(2), count()]") == [420, 102, 420, 203]


def test_new_code_may_need_the_compilers_own_library(hot_extension):
    hot = hot_extension("long f(long x) { return x; }\n")
    hot("f(1)")
    hot.edit("return x;", "__int128 a = (__int128)x << 70, b = x + 2; return (long)(a / b >> 60);")
    assert hot.agrees("f(1234567)") != [0]


def test_aligned_data_of_new_code_is_aligned(hot_extension):
    hot = hot_extension("long f(long x) { return x; }\n")
    hot("f(1)")
    hot.edit(
        "long f(long x) { return x; }",
        "static __attribute__((aligned(64))) long wide[8]; static const __attribute__((aligned(128))) long fixed[2] = {1, 2};\n"
        "static __attribute__((aligned(2048))) char page[64];\n"
        "long f(long x) { wide[0]++; page[0]++; return (long)wide % 64 + (long)&fixed[x & 0] % 128 + (long)page % 2048; }",
    )
    assert hot("f(0)") == 0


def test_sections_with_names_of_their_own_are_walked(hot_extension):
    hot = hot_extension(
        '#define ENTRY __attribute__((section("entries"), used))\n'
        "ENTRY static long a = 1; ENTRY static long b = 20;\nextern long __start_entries[], __stop_entries[];\n"
        "long f(void) { long s = 0; for (long *p = __start_entries; p < __stop_entries; p++) s += *p; return s; }\n"
        "long bump(void) { return ++b; }\n"
    )
    assert hot("[f(), bump(), f()]") == [21, 21, 22]
    hot.edit("s += *p", "s += 10 * *p")
    assert hot("f()") == 220
    hot.edit("return ++b", "return b += 5")
    assert hot("[bump(), f()]") == [26, 270]


def test_sources_in_other_encodings_and_line_ends_are_read(hot_extension, tmp_path):
    hot = hot_extension("long f(void) { return 1; }\n")
    hot("f()")
    (hot.directory / "ext.c").write_bytes(
        b'/* \xe9\xff */\r\nlong f(void)\r\n{\r\n    return (unsigned char)"\xe9"[0];\r\n}\r\n'
    )
    assert hot.make_live().changed == ("f",)
    assert hot("f()") == 0xE9


def test_lines_that_point_into_another_file_never_hide_a_change(hot_extension):
    source = '#include <stdlib.h>\n#line 10 "made.pyx"\nlong g(void)\n{\n    return 1;\n}\n#line 30 "made.pyx"\nlong f(void)\n{\n    return 32;\n}\n'
    hot = hot_extension(source)
    assert hot("f()") == 32
    hot.write("\n" + source.replace("return 32", "return 33"))
    assert hot("f()") == 33


def test_a_static_in_a_lambda_that_got_another_number_is_refused(hot_extension):
    hot = hot_extension(
        'extern "C" long f(long x) { auto count = [](long y) { static long n = 10; return n += y; }; return count(x); }\n',
        compiler="g++",
    )
    assert hot("f(1)") == 11
    hot.edit("return n += y", "return (n += y) + 100")
    assert hot("f(1)") == 112
    with pytest.raises(IncompatibleError, match="cannot be told"):
        hot.edit("{ auto count", "{ auto other = [](long y) { return y + 1; }; x = other(x); auto count")
    assert hot("f(1)") == 113


def test_a_library_that_was_stripped_after_the_build_is_patched(hot_extension):
    hot = hot_extension("static long n = 1; long f(long x) { return x + n++; }\n")
    subprocess.run(["strip", "--strip-all", hot.path], check=True)
    assert ElfFile.read(hot.path).symbols == []
    assert hot("f(1)") == 2
    hot.edit("x + n++", "x * 10 + n++")
    assert hot("f(1)") == 12


def test_state_that_a_function_hands_out_stays_the_same_object(hot_extension):
    hot = hot_extension(
        "struct node { struct node *next; long value; }; static struct node last = {0, 3}, first = {&last, 2};\n"
        "static struct node *head = &first;\n"
        "long sum(void) { long s = 0; for (struct node *n = head; n; n = n->next) s += n->value; return s; }\n"
        "long add(long v) { static struct node more[4]; static long used; struct node *n = &more[used++];\n"
        "    n->value = v; n->next = head; head = n; return n == &more[used - 1]; }\n"
    )
    assert hot("[sum(), add(10), sum()]") == [5, 1, 15]
    hot.edit("s += n->value", "s += 2 * n->value")
    hot.edit("n->value = v;", "n->value = v + (n->next == &last) + (head == &first);")
    assert hot("[sum(), add(100), sum()]") == [30, 1, 230]


def test_a_function_and_a_variable_may_trade_kinds(hot_extension):
    hot = hot_extension("static long level(void) { return 3; }\nlong f(void) { return level(); }\n", flags=["-O0"])
    assert hot("f()") == 3
    hot.write("static long level = 5;\nlong f(void) { return level++; }\n")
    assert hot("[f(), f()]") == [5, 6]
    hot.write("static const long level = 7;\nlong f(void) { return level; }\n")
    assert hot("f()") == 7


def test_an_emptied_file_leaves_the_base(hot_extension):
    hot = hot_extension("long f(long x) { return x; }\n")
    hot.edit("return x", "return x + 1")
    result = hot.write("")
    assert result.kind == "base" and result.removed == ("f",)
    assert hot("f(1)") == 1


def test_statics_of_one_name_that_may_have_traded_places_are_refused(hot_extension):
    block = "{ static long n = %s; n += x; sum += n; }"
    hot = hot_extension(f"long f(long x) {{ long sum = 0; {block % 10} {block % 200} return sum; }}\n")
    assert hot("f(1)") == 11 + 201
    with pytest.raises(IncompatibleError, match="which of the static variables `n` in `f`"):
        hot.edit(f"{block % 10} {block % 200}", f"{block % 200} {block % 10}")
    assert hot("f(1)") == 12 + 202


def test_an_edit_of_the_first_function_brings_no_other_function_along(hot_extension):
    others = "".join(f"long g{n}(long x) {{ return per_thread += x * {n}; }}\n" for n in range(9))
    hot = hot_extension(f"static __thread long per_thread;\nlong first(long x) {{ return x + 1; }}\n{others}")
    small = hot.edit("x + 1", "x + 2")
    assert hot("first(1)") == 3
    table = {s.name for s in ElfFile.read(small.path).symbols}
    assert not any(name.startswith("g") for name in table), table
