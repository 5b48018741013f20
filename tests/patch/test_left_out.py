"""Variables that the optimiser left out of the base, and that new code needs: they begin with their initial values."""

from __future__ import annotations

import pytest

COMPILERS = pytest.mark.parametrize("compiler", ["gcc", "clang"])
LEVEL = "`level` begins with its initial value: the compiler had left it out of the base"


@COMPILERS
@pytest.mark.parametrize("initial", [0, 5])
def test_a_static_that_was_never_written_is_the_same_for_all_who_use_it(hot_extension, compiler, initial):
    hot = hot_extension(
        f"static long level = {initial};\nlong get(long x)\n{{\n    return level + x;\n}}\n"
        "long twice(long x)\n{\n    return 2 * level + x;\n}\nlong set(long x)\n{\n    return x;\n}\n",
        compiler=compiler,
        flags=["-O2"],
    )
    assert hot("[set(3), get(1), twice(1)]") == [3, initial + 1, 2 * initial + 1]
    result = hot.edit("    return x;", "    return level += x;")
    assert (LEVEL in result.notes) == (compiler == "clang")
    assert hot("[get(1), set(3), get(1), twice(1)]") == [initial + 1, initial + 3, initial + 4, 2 * initial + 7]
    hot.edit("    return level += x;", "    return level += x + 1;")
    assert hot("[get(1), set(0), get(1)]") == [initial + 4, initial + 4, initial + 5]


@COMPILERS
def test_a_static_that_was_never_read_is_kept_where_there_is_one_and_its_loss_is_told_where_not(
    hot_extension, compiler
):
    hot = hot_extension(
        "static long level, total;\nlong put(long x)\n{\n    level = x;\n    total += x;\n    return x;\n}\n"
        "long get(long x)\n{\n    return x;\n}\n",
        compiler=compiler,
        flags=["-O2"],
    )
    assert hot("[put(3), put(4)]") == [3, 4]
    result = hot.edit("get(long x)\n{\n    return x;", "get(long x)\n{\n    return total * 100 + level + x;")
    assert (LEVEL in result.notes) == (hot("get(0)") == 700)
    assert hot("[put(2), get(0)]") == [2, 902]
