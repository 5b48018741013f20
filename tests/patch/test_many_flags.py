"""One extension with a little of everything, and every kind of edit, over the flags that real builds use."""

from __future__ import annotations

import shutil

import pytest

from tests.hot import EXTENSIONS

QUESTIONS = [f"probe({n})" for n in range(12)] + ["describe.text(3)", "ratio.double(2.0)"]

EDITS = {
    "constant": ("#define STEP 3", "#define STEP 5"),
    "inlined helper": ("return a * 2 + b;", "return a * 3 - b;"),
    "string": ('"many"', '"a great many"'),
    "floating constant": ("* 0.75", "* 0.875"),
    "const table": ("{3, 1, 4, 1, 5, 9, 2, 6}", "{2, 7, 1, 8, 2, 8, 1, 8}"),
    "a case of a switch": ("case 4: return n * 7;", "case 4: return n * 8 + 1;"),
    "a struct on the stack": ("struct point { long x, y; };", "struct point { long x, z, y; };"),
    "new static function": (
        "/* here */",
        "static long twist(long n) { return n ^ 21; }\n#define choose(n) twist(choose(n))",
    ),
    "argument of a call": ("return fold(n, STEP);", "return fold(n + 1, STEP);"),
    "recursion": ("return n < 2 ? n : fib(n - 1) + fib(n - 2);", "return n < 3 ? 1 : fib(n - 1) + fib(n - 3);"),
    "indirect call": ("{sub, mul, add}", "{add, add, mul}"),
    "body of an indirect callee": ("return a - b;", "return b - a;"),
    "variadic": ("total += va_arg(list, int);", "total += 2 * va_arg(list, int);"),
    "local static array": ("seen[n & 3] += 1;", "seen[n & 3] += 2;"),
    "cold path": ('return complain("negative");', 'return complain("below zero") - 1;'),
}

FLAGS = [
    *("-O0", "-O1", "-O2", "-O3", "-Os", "-Og", "-O2 -fcf-protection=full", "-O2 -fno-plt", "-O3 -march=native"),
    *("-O2 -fvisibility=hidden", "-O2 -fno-semantic-interposition", "-O2 -gdwarf-4", "-O2 -g1", "-O2 -Wl,-Bsymbolic"),
    *("-O2 -Wl,--gc-sections", "-O2 -fno-asynchronous-unwind-tables", "-O2 -Wl,-z,now -D_FORTIFY_SOURCE=2"),
    *("-O2 -fuse-ld=gold", "-O2 -fuse-ld=lld", "-O2 -fstack-protector-strong", "-O2 -fno-omit-frame-pointer"),
    *(
        "-O2 -fstack-clash-protection",
        "-O2 -pg",
        "-O2 -ffast-math",
        "-O2 -falign-functions=1",
        "-O2 -fmerge-all-constants",
    ),
]


@pytest.mark.parametrize("flags", FLAGS)
def test_every_kind_of_edit_agrees_with_a_fresh_build(hot_extension, flags):
    linker = "ld." + flags.partition("-fuse-ld=")[2]
    if linker != "ld." and shutil.which(linker) is None:
        pytest.skip(f"{linker} is not installed")
    source = (EXTENSIONS / "torture" / "v1.c").read_text()
    hot = hot_extension(source, flags=flags.split())
    state, original = hot("calls()"), [hot(question) for question in QUESTIONS]
    for old, new in EDITS.values():
        hot.save(old, new)
    hot.make_live()
    hot.agrees(*QUESTIONS)
    for old, new in [*EDITS.values()][::2]:  # patches are cumulative: half of the edits are taken back
        hot.save(new, old)
    hot.make_live()
    hot.agrees(*QUESTIONS)
    hot.write(source)
    assert hot.make().kind == "base"
    assert [hot(question) for question in QUESTIONS] == original
    assert hot("calls()") == state + 1


@pytest.mark.parametrize("flags", ["-O0", "-O2"])
def test_each_edit_alone_agrees_with_a_fresh_build(hot_extension, flags):
    source = (EXTENSIONS / "torture" / "v1.c").read_text()
    hot = hot_extension(source, flags=[flags])
    for what, (old, new) in EDITS.items():
        hot.write(source.replace(old, new))
        answers, fresh = [hot(question) for question in QUESTIONS], hot.fresh(*QUESTIONS)
        assert answers == fresh, what
    assert hot.write(source).kind == "base"
