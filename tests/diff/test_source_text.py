"""Whose text changed: functions are cut out of the source as people write it."""

from __future__ import annotations

import pytest

from hotreload.diff.source import SourceChange, _has_word
from hotreload.elf.debug import Heading

PATH = "x.c"

SHAPES = {
    "one line": ("long f(long x) { return x; }", 1),
    "K&R braces": ("long f(long x) {\n    if (x) {\n        x++;\n    }\n    return x;\n}", 1),
    "braces on lines of their own": ("static long\nf(long x)\n{\n    return x;\n}", 2),
    "a string with braces": ('long f(void)\n{\n    puts("}{{ /* no comment */");\n    return x;\n}', 1),
    "branches that unbalance braces": ("long f(long x)\n{\n#if A\n    if (x) {\n#else\n    {\n#endif\n    }\n    return x;\n}", 1),
    "arguments over lines": ("long f(long x,\n       long y)\n{\n    return x;\n}", 1),
    "inside a namespace": ("namespace n {\n    long f(long x)\n    {\n        return x;\n    }\n}", 2),
}  # fmt: skip
AFTER = "\n\nstatic long state = 1;\n\nlong g(long x)\n{\n    return x - state;\n}\n"


def change(old: str, new: str, old_headings: dict, new_headings: dict) -> SourceChange:
    return SourceChange({PATH: old}, {PATH: new}, old_headings, new_headings)


@pytest.mark.parametrize("shape", SHAPES)
def test_an_edit_of_a_function_is_an_edit_of_it_alone(shape):
    text, line = SHAPES[shape]
    headings = {"f": Heading(PATH, line, "f"), "g": Heading(PATH, text.count("\n") + 5, "g")}
    edited = change(text + AFTER, text.replace("return x", "return x + 1") + AFTER, headings, headings)
    assert edited.edited == {"f"} and not edited.names_in_declarations
    other = change(text + AFTER, text + AFTER.replace("x - state", "x + state"), headings, headings)
    assert other.edited == {"g"} and not other.names_in_declarations
    outside = change(text + AFTER, text + AFTER.replace("state = 1", "state = 2"), headings, headings)
    assert outside.edited == set() and outside.names_in_declarations == {"state"}
    assert outside.mentions_change("g") and not outside.mentions_change("f")


COMMENTS = {
    "at the end of a line": ("return x;", "return x; // why"),
    "in the middle": ("return x;", "return /* the */ x;"),
    "over lines": ("return x;", "return\n/* the\n\n*/ x;"),
    "white space": ("long x)", "long   x )"),
}


@pytest.mark.parametrize("what", COMMENTS)
def test_comments_and_white_space_are_no_edit(what):
    old, new = COMMENTS[what]
    text = "long f(long x)\n{\n    return x;\n}\n"
    headings = {"f": Heading(PATH, 1, "f")}
    if what == "white space":
        assert change(text, text.replace("    return", "\treturn  "), headings, headings).edited == set()
    else:
        assert change(text, text.replace(old, new), headings, headings).edited == set()


def test_what_looks_like_a_comment_in_a_string_is_an_edit():
    text = 'const char *f(void)\n{\n    return "http://a";\n}\n'
    headings = {"f": Heading(PATH, 1, "f")}
    assert change(text, text.replace("//a", "//b"), headings, headings).edited == {"f"}


def test_instances_of_one_template_share_their_text():
    text = "template <typename T> T f(T x) { return x; }\n"
    headings = {"_Z1fIiET_S0_": Heading(PATH, 1, "f"), "_Z1fIdET_S0_": Heading(PATH, 1, "f")}
    assert change(text, text.replace("return x", "return x + x"), headings, headings).edited == set(headings)


@pytest.mark.parametrize(
    ("old", "new", "alone"),
    [
        ("", "static long fresh;", True),
        ("", "#define fresh 1", False),
        ("", "static long limit2;\n#undef limit", False),
        ("struct s {\n long a;\n};", "struct s {\n long b;\n long a;\n};", False),
        ("enum {\n A,\n};", "enum {\n Z,\n A,\n};", False),
        ("static long limit;", "static int limit;", False),
        ("", "typedef int fresh;", True),
        ("", '_Pragma("pack(1)")', False),
    ],
)
def test_only_declarations_of_names_of_their_own_leave_the_rest_alone(old, new, alone):
    function = "\nlong f(long x)\n{\n    return limit + x;\n}\n"
    found = change(
        old + function,
        new + function,
        {"f": Heading(PATH, old.count("\n") + 2, "f")},
        {"f": Heading(PATH, new.count("\n") + 2, "f")},
    )
    assert found.edited == set()
    assert found.leaves_the_rest_alone is alone


def test_a_moved_line_is_told_from_another_number():
    old = "a\nb\nc\n"
    moved = change(old, "new\n" + old, {}, {})
    assert moved.is_moved_line(2, 3) and not moved.is_moved_line(2, 4) and not moved.is_moved_line(1, 1)


@pytest.mark.parametrize(
    ("line", "is_there"),
    [
        ("long ab(long x)", True),
        ("ab(1)", True),
        ("return ab", True),
        ("long ab2(long x)", False),
        ("long cab(long ab_)", False),
        ("long cab(long ab)", True),
        ("", False),
    ],
)
def test_a_word_is_found_where_it_stands_by_itself(line: str, is_there: bool) -> None:
    assert _has_word(line, "ab") == is_there
