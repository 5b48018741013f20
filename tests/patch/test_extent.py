"""What a patch says of itself besides its code: how far the old code reaches, and what the program may point to."""

from __future__ import annotations

import re

import pytest

from hotreload.elf.file import ElfFile
from hotreload.live.core import NativeCore, Patch
from tests.hot import HotExtension, run

COLD = """
#include <stdlib.h>
__attribute__((cold, noinline)) static void complain(long n) { if (n == 77) abort(); }
__attribute__((noipa)) long work(long n)
{
    if (__builtin_expect(n < 0, 0)) { complain(n); complain(n + 1); complain(n * 2); return complain(3), -1; }
    return n + 1;
}
__attribute__((noipa)) long beside(long n) { return n + 2; }
"""


SWITCH = """switch (n) { case 0: return 7; case 1: return hit(n); case 2: return 8 + hit(1); case 3: return 99;
    case 4: return hit(n) * 2; case 5: return hit(12); case 6: return 5; } return 0;"""


def made(hot: HotExtension) -> Patch:
    path = hot.make().path
    assert path is not None
    core = NativeCore()
    patch = core.open_patch(path)
    core.close_patch(patch)
    return patch


def code_of(hot: HotExtension) -> dict[str, tuple[int, int]]:
    elf = ElfFile.read(hot.path)
    return {s.name: (s.value, s.size) for s in elf.symbols if s.size}


def test_the_range_of_a_function_is_its_body_and_its_cold_part(hot_extension):
    hot = hot_extension(COLD, flags=["-O2"])
    hot.save("return n + 1", "return n + 10")
    patch, code = made(hot), code_of(hot)
    assert [f.name for f in patch.functions] == ["work"]
    (body, cold) = patch.ranges
    assert (body.base_off, body.length) == code["work"]
    assert cold.base_off == code["work.cold"][0] and cold.length >= code["work.cold"][1]
    assert all(not r.base_off <= code["beside"][0] < r.base_off + r.length for r in patch.ranges)


def test_the_debug_information_has_the_same_extents(hot_extension):
    """Asked of the debug information, which knows nothing of how the ranges are made."""
    hot = hot_extension(COLD, flags=["-O2"])
    hot.save("return n + 1", "return n + 10")
    patch = made(hot)
    told = run("readelf", "--debug-dump=Ranges", hot.path, cwd=hot.directory).stdout
    spans = re.findall(r"^\s+[0-9a-f]{8} ([0-9a-f]{16}) ([0-9a-f]{16}) *$", told, flags=re.MULTILINE)
    hit = [(int(a, 16), int(b, 16)) for a, b in spans]
    inside = [r for r in patch.ranges for a, b in hit if a <= r.base_off and r.base_off + r.length <= b]
    assert len({*inside}) == len(patch.ranges) == 2


def test_an_inline_function_of_two_units_has_the_range_of_the_copy_that_was_kept(hot_extension):
    shared = "inline __attribute__((noinline)) long shared(long n) { return n * 3 + 1; }\n"
    hot = hot_extension(
        {
            "ext.cpp": '#include "shared.h"\nextern "C" long a(long n) { return shared(n); }\n',
            "two.cpp": '#include "shared.h"\nextern "C" long b(long n) { return shared(n) + 1; }\n',
            "shared.h": shared,
        },
        compiler="g++",
    )
    hot.save("n * 3 + 1", "n * 5 + 1", "shared.h")
    patch, code = made(hot), code_of(hot)
    assert [(r.base_off, r.length) for r in patch.ranges] == [code["_Z6sharedl"]]


@pytest.mark.parametrize(
    ("body", "escapes"),
    [
        ("return n + 10;", False),
        ("return (long)((double)n * 2.5 + 0.25);", False),
        (SWITCH, False),
        ("extern int puts(const char *); return puts(\"escapes\");", True),
        ("static const long table[3] = {5, 6, 7}; extern const long *kept; kept = table; return table[n % 3];", True),
        ("extern const void *label; label = &&out; if (n) goto *label; out: return 4;", True),
        ("static long new_state; return ++new_state;", False),
    ],
    ids=["code", "constants", "switch", "string", "table", "label", "carried"],
)  # fmt: skip
def test_what_the_program_may_point_to(hot_extension, body, escapes):
    source = "const long *kept; const void *label;\n__attribute__((noipa)) long hit(long n) { return n; }\n"
    hot = hot_extension(source + "long work(long n) { return n + 1; }\n")
    hot.save("{ return n + 1; }", "{ " + body + " }")
    assert made(hot).data_escapes is escapes


def test_a_new_function_has_its_size(hot_extension):
    hot = hot_extension("long work(long n) { return n + 1; }\n")
    hot.save("long work(long n) { return n + 1; }",
             "__attribute__((noipa)) long fresh(long n) { return n * 7; }\nlong work(long n) { return fresh(n); }")  # fmt: skip
    (carried,) = made(hot).carried
    assert carried.is_function and 8 < carried.size < 100


def test_the_text_of_an_image_holds_its_functions(hot_extension):
    hot = hot_extension("long work(long n) { return n + 1; }\n")
    hot.edit("n + 1", "n + 2")
    described = hot("[(manager.history(module)[1].redirects[0].target), manager.history(module)[1].address]")
    assert described[0] > described[1]
