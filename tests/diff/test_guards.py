"""What cannot go live safely is refused with its reason, at its line, and what only looks like it is not."""

from __future__ import annotations

from typing import NamedTuple

import pytest

from hotreload.errors import IncompatibleError

LEVELS = pytest.mark.parametrize("level", ["-O0", "-O2"])
NOINLINE = "#define NOINLINE __attribute__((noinline))\n"


class Case(NamedTuple):
    """An edit of one source, and what must be said about it; ``at`` restricts it to one level of optimisation."""

    source: str
    old: str
    new: str
    said: tuple[str, ...] = ()
    at: str = ""


def findings(hot, *edits: tuple[str, ...]) -> list[str]:
    """All that the workshop refuses after these edits, with file names instead of paths."""
    for edit in edits:
        hot.save(*edit)
    try:
        hot.make()
    except IncompatibleError as error:
        assert all(finding.hint and finding.line for finding in error.findings)
        return [f"{f.slug} {f}".replace(f"{hot.directory}/", "") for f in error.findings]
    return []


CALLED = NOINLINE + (
    "static NOINLINE long f(long x)\n{\n    return x * 3;\n}\n"
    "long g(long x)\n{\n    return f(x) + 1;\n}\n"
    "long h(long x)\n{\n    return x + 2;\n}\n"
)
POINTED = CALLED + "static long (*const table[])(long) = {f};\nlong call(long x) { return table[x & 0](x); }\n"
ITEMS = (
    "#include <stdlib.h>\n"
    "struct item { long id; long weight; };\n"
    "static struct item *first;\n"
    "long add(long x) { struct item *new = malloc(sizeof *new); new->id = x; new->weight = 2 * x; first = new; return 0; }\n"
    "long weigh(long x) { return first ? first->weight + x : -1; }\n"
)
LOCAL = (
    "struct item { long id; long weight; };\n"
    "static __attribute__((noinline)) long weigh(struct item *it) { return it->weight * 10 + it->id; }\n"
    "long f(long x) { struct item it = {x, 3}; return weigh(&it); }\n"
)
PASSED = (
    LOCAL
    + "static __attribute__((noinline)) long id(struct item *it) { return it->id; }\nlong g(long x) { struct item it = {x, 4}; return id(&it); }\n"
)
RESTART = "restart to change it, or give the new variable another name"
TYPE_HINT = "restart to change it, or give the new type another name"

REFUSED = {
    "a parameter more, and an exported function": Case(
        NOINLINE + "NOINLINE long f(long x)\n{\n    return x * 3;\n}\nlong g(long x) { return f(x) + 1; }\n",
        "long f(long x)\n{\n    return x * 3;\n}\nlong g(long x) { return f(x) + 1; }",
        "long f(long x, long y)\n{\n    return x * 3 + y;\n}\nlong g(long x) { return f(x, 7) + 1; }",
        ("prototype-changed ext.c:2: refused: `long int f(long int)` became `long int f(long int, long int)`, and the old "
         "one is still needed by whoever else uses `f`, which is exported "
         "(give the new function another name, or change those too)",),
    ),
    "a parameter more, and a table of pointers": Case(
        POINTED,
        "f(long x)\n{\n    return x * 3;\n}\nlong g(long x)\n{\n    return f(x) + 1;\n}\n",
        "f_(long x)\n{\n    return x * 3;\n}\nlong g(long x)\n{\n    return f_(x) + 1;\n}\n",
        (),
    ),
    "a pointer to another type": Case(
        ITEMS, "static struct item *first;\n", "static struct item *first, *last;\n", ()
    ),
    "a field in the middle of what a variable points to": Case(
        ITEMS, "{ long id; long weight; }", "{ long id; int kind; long weight; }",
        ("type-layout ext.c:2: refused: `struct item` is laid out differently: `kind` (new at 8+4), `weight` (8+8 -> 16+8), "
         f"size 16 -> 24; variable `first` is alive ({TYPE_HINT})",),
    ),
    "a field at the end of what a variable points to": Case(
        ITEMS, "{ long id; long weight; }", "{ long id; long weight; long more; }",
        ("type-layout ext.c:2: refused: `struct item` is laid out differently: `more` (new at 16+8), size 16 -> 24; "
         f"variable `first` is alive ({TYPE_HINT})",),
    ),
    "two fields that trade places": Case(
        ITEMS, "{ long id; long weight; }", "{ long weight; long id; }",
        ("type-layout ext.c:2: refused: `struct item` is laid out differently: `weight` (8+8 -> 0+8), `id` (0+8 -> 8+8); "
         f"variable `first` is alive ({TYPE_HINT})",),
    ),
    "a field of another type": Case(
        ITEMS, "long weight; }", "double weight; }",
        ("type-layout ext.c:2: refused: `struct item` is laid out differently: `weight` (long int -> double); "
         f"variable `first` is alive ({TYPE_HINT})",),
    ),
    "a parameter of a function that is not replaced": Case(
        PASSED, "{ long id; long weight; }", "{ long id; long more; long weight; }",
        ("type-layout ext.c:1: refused: `struct item` is laid out differently: `more` (new at 8+8), `weight` (8+8 -> 16+8), "
         f"size 16 -> 24; `id` is not replaced and takes or returns it ({TYPE_HINT})",),
    ),
    "a bit-field": Case(
        "struct flags { unsigned a : 3; unsigned b : 5; };\nstatic struct flags now;\n"
        "long set(long x) { now.b = x; return 0; } long get(void) { return now.b; }\n",
        "a : 3", "a : 4",
        ("type-layout ext.c:1: refused: `struct flags` is laid out differently: `a` (bits 0+3 -> bits 0+4), "
         f"`b` (bits 3+5 -> bits 4+5); variable `now` is alive ({TYPE_HINT})",),
    ),
    "an enumerator of a type that a variable has": Case(
        "enum mode { OFF, ON, AUTO };\nstatic enum mode mode;\n"
        "long set(long x) { mode = x ? AUTO : OFF; return 0; } long get(void) { return mode == AUTO; }\n",
        "{ OFF, ON,", "{ OFF, HALF, ON,",
        ("type-layout ext.c:1: refused: `enum mode` is laid out differently: `ON` (1 -> 2), `AUTO` (2 -> 3); "
         f"variable `mode` is alive ({TYPE_HINT})",),
    ),
    "a variable of another type": Case(
        "\nstatic int level = 3;\nlong f(long x) { level += x; return level; }\n", "static int", "static float",
        ("variable-type ext.c:2: refused: variable `level` was `int` and is now `float`; the live one holds the old "
         f"({RESTART})",),
    ),
    "a typedef of another type": Case(
        "typedef int amount;\nstatic amount level = 3;\nlong f(long x) { level += x; return level; }\n", "int amount", "float amount",
        ("variable-type ext.c:2: refused: variable `level` was `int` and is now `float`; the live one holds the old "
         f"({RESTART})",),
    ),
    "a pointer to something else": Case(
        "struct a { long n; }; struct b { double d; };\nstatic struct a *p;\nlong f(void) { return p != 0; }\nlong g(long x) { p = (void *)x; return 0; }\n",
        "static struct a *p;", "static struct b *p;",
        ("variable-type ext.c:2: refused: variable `p` was `struct a *` and is now `struct b *`; the live one holds the old "
         f"({RESTART})",),
    ),
    "a static local of another type": Case(
        "long f(long x)\n{\n    static long n;\n    n += x;\n    return n;\n}\n", "static long n", "static double n",
        ("variable-type ext.c:1: refused: variable `f::n` was `long int` and is now `double`; the live one holds the old "
         f"({RESTART})",),
    ),
    "a variable of another size": Case(
        "static long t[4];\nlong f(long x) { return t[x & 3]++; }\n", "t[4]", "t[8]",
        ("variable-size ext.c:1: refused: variable `t` was 32 bytes and is now 64; the live one keeps its size "
         f"({RESTART})",),
    ),
    "a variable that becomes const": Case(
        "static long t[4];\nlong f(long x) { return t[x & 3]; }\nlong g(long x) { t[0] = x; return 0; }\n",
        "static long t[4];\nlong f(long x) { return t[x & 3]; }\nlong g(long x) { t[0] = x; return 0; }\n",
        "static const long t[4] = {1, 2, 3, 4};\nlong f(long x) { return t[x & 3]; }\nlong g(long x) { return 0; }\n",
        ("variable-section ext.c:1: refused: variable `t` was writable and is const now: the new code would use a copy with "
         "the value of its initialiser (restart, or give the new one another name)",),
    ),
    "a const that becomes a variable": Case(
        "static const long t[4] = {1, 2, 3, 4};\nlong f(long x) { return t[x & 3]; }\nlong g(long x) { return 0; }\n",
        "static const long t[4] = {1, 2, 3, 4};\nlong f(long x) { return t[x & 3]; }\nlong g(long x) { return 0; }\n",
        "static long t[4] = {1, 2, 3, 4};\nlong f(long x) { return t[x & 3]; }\nlong g(long x) { t[0] = x; return 0; }\n",
        ("variable-section ext.c:1: refused: variable `t` was const and is writable now: the new code would use a copy with "
         "the value of its initialiser (restart, or give the new one another name)",),
    ),
    "a variable that becomes one per thread": Case(
        "static long n;\nlong f(long x) { return n += x; }\n", "static long n;", "static __thread long n;",
        ("thread-local-changed ext.c:1: refused: variable `n` was one for all threads and is now one per thread "
         f"({RESTART})",),
    ),
    "a thread-local that becomes one for all": Case(
        "static __thread long n;\nlong f(long x) { return n += x; }\n", "static __thread long n;", "static long n;",
        ("thread-local-changed ext.c:1: refused: variable `n` was one per thread and is now one for all threads "
         f"({RESTART})",),
    ),
    "a constructor": Case(
        "static long n;\nlong f(long x) { return n + x; }\nlong set(long x) { n = x; return 0; }\n", "static long n;\n",
        "static long n;\n__attribute__((constructor)) static void start(void) { n = 5; }\n",
        ("constructor-added ext.c:2: refused: `start` runs when the library is loaded, and it is not loaded again "
         "(restart, or call it from a function that runs)",),
    ),
}  # fmt: skip


@LEVELS
@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_go_live_is_refused_with_its_place_and_reason(hot_extension, level, what):
    case = REFUSED[what]
    hot = hot_extension(case.source, flags=(level,))
    assert findings(hot, (case.old, case.new)) == list(case.said)
