"""Extensions of several files: each unit is bound to its own static variables, and a header touches all who read it."""

from __future__ import annotations

import shutil

import pytest

from hotreload.errors import BuildError
from hotreload.patch.workshop import Workshop

SAME = """
static long state = %d;
static long __attribute__((noinline)) help(long x) { static long calls; calls++; return x * %d + calls; }
long %s(long x) { state++; return help(x) + state * 1000 + 0; }
"""


def test_units_of_one_file_name_with_the_same_statics_are_told_apart(hot_extension):
    hot = hot_extension(
        {"left/util.c": SAME % (1, 10, "l"), "right/util.c": SAME % (5, 20, "r"), "util.c": SAME % (8, 30, "m")}
    )
    assert [hot("l(1)"), hot("r(1)"), hot("m(1)")] == [2011, 6021, 9031]
    hot.edit("return help(x) + state * 1000 + 0", "return help(x) + state * 1000 + 500", "right/util.c")
    assert [hot("l(1)"), hot("r(1)"), hot("m(1)")] == [3012, 7522, 10032]
    hot.edit("return x * 30 + calls", "return x * 40 + calls", "util.c")
    hot.edit("return help(x) + state * 1000 + 0", "return help(x) + state * 1000 + 700", "left/util.c")
    assert [hot("l(1)"), hot("r(1)"), hot("m(1)")] == [4713, 8523, 11043]


def test_a_unity_build_is_patched_through_the_included_file(hot_extension):
    hot = hot_extension(
        {
            "all.c": '#include "_a.c"\n#include "_b.c"\nlong both(long x) { return a(x) + b(x); }\n',
            "_a.c": "static long n = 3; static long a(long x) { return x + n++; }\n",
            "_b.c": "static long m = 5; static long b(long x) { return x * m++; }\n",
        },
        flags=["-O2"],
    )
    assert hot("both(2)") == 5 + 10
    result = hot.edit("return x * m++", "return x * m++ * 10", "_b.c")
    assert result.changed == ("both",) and result.edited == ("b",)
    assert hot("both(2)") == 6 + 120


HEADER = {
    "a.c": '#include "shade.h"\nlong f(long x) { return shade(x); }\n',
    "b.c": '#include "shade.h"\nlong g(long x) { return shade(x) * 100; }\n',
    "c.c": "long h(long x) { return x; }\n",
    "shade.h": "#define LEVEL 1\nstatic inline long shade(long x) { return x + LEVEL; }\n",
}


@pytest.mark.parametrize("flags", ["-O0", "-O2"])
def test_an_edited_header_changes_all_units_that_include_it(hot_extension, flags):
    hot = hot_extension(HEADER, flags=(flags,))
    assert hot.directory / "shade.h" in hot.workshop.watched_files()
    assert [hot("f(1)"), hot("g(1)"), hot("h(1)")] == [2, 200, 1]
    result = hot.edit("return x + LEVEL", "return x - LEVEL", "shade.h")
    assert [hot("f(2)"), hot("g(2)"), hot("h(2)")] == [1, 100, 2]
    swapped = {"shade"} if flags == "-O0" else {"f", "g"}
    assert set(result.changed) == swapped and result.compiler_changed == ()
    hot.edit("LEVEL 1", "LEVEL 7", "shade.h")
    assert [hot("f(2)"), hot("g(2)"), hot("h(2)")] == [-5, -500, 2]
    assert hot.write(HEADER["shade.h"], "shade.h").kind == "base"
    assert [hot("f(2)"), hot("g(2)"), hot("h(2)")] == [3, 300, 2]


def test_a_new_header_is_watched_from_the_next_build_on(hot_extension):
    hot = hot_extension("long f(long x) { return x; }\n")
    (hot.directory / "new.h").write_text("#define N 5\n")
    hot.edit("long f(long x) { return x; }", '#include "new.h"\nlong f(long x) { return x + N; }')
    assert hot("f(1)") == 6
    assert hot.directory / "new.h" in hot.workshop.watched_files()
    hot.edit("N 5", "N 6", "new.h")
    assert hot("f(1)") == 7


def test_a_header_may_go_when_nothing_includes_it_any_more(hot_extension):
    hot = hot_extension({"ext.c": '#include "old.h"\nlong f(long x) { return x + N; }\n', "old.h": "#define N 5\n"})
    assert hot("f(1)") == 6
    (hot.directory / "old.h").unlink()
    with pytest.raises(BuildError) as refused:
        hot.make()
    assert "old.h" in refused.value.diagnostics
    assert hot.write("long f(long x) { return x + 6; }\n").changed == ("f",)
    assert hot("f(1)") == 7


def test_a_deleted_source_is_refused_by_its_name_and_a_later_save_goes_live(hot_extension):
    hot = hot_extension("long f(long x) { return x; }\n")
    assert hot("f(1)") == 1
    (hot.directory / "ext.c").unlink()
    with pytest.raises(BuildError, match=r"ext\.c"):
        hot.make()
    hot.write("long f(long x) { return x + 1; }\n")
    assert hot("f(1)") == 2


def test_an_emptied_store_is_refused_with_what_to_do(hot_extension, tmp_path, monkeypatch):
    monkeypatch.setenv("HOTRELOAD_STORE", str(tmp_path / "own store"))
    hot = hot_extension("long f(long x) { return x; }\n")
    build_id = hot.workshop.build_id
    hot.save("return x", "return x + 1")
    shutil.rmtree(tmp_path / "own store" / "objects")
    with pytest.raises(BuildError, match="gone from the store .*hotreload build"):
        hot.make()
    shutil.rmtree(tmp_path / "own store")
    with pytest.raises(BuildError, match=f"no hot build with build-id {build_id}.*hotreload build"):
        Workshop.open(build_id)


def test_units_whose_statics_cannot_be_told_apart_are_refused(hot_extension):
    hot = hot_extension({"left/util.c": SAME % (1, 10, "l"), "right/util.c": SAME % (5, 10, "r")})
    assert [hot("l(1)"), hot("r(1)")] == [2011, 6011]
    with pytest.raises(BuildError, match="cannot be told apart"):
        hot.edit("state * 1000 + 0", "state * 1000 + 500", "right/util.c")
    assert [hot("l(1)"), hot("r(1)")] == [3012, 7012]
