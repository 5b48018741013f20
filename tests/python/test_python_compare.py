"""Two texts compared, without a process: what is told of each difference."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

import pytest

from hotreload.errors import BuildError, HotReloadError, IncompatibleError
from hotreload.python.codes import walk
from hotreload.python.compare import Difference, Text, compare
from hotreload.python.payload import Payload, decode, encode, python_of
from hotreload.python.workshop import PythonWorkshop, base_file, module_name


def text(source: str) -> Text:
    return Text(dedent(source).encode(), "/src/shop/pricing.py")


def difference(base: str, new: str) -> Difference:
    return compare(text(base), text(new))


def test_comments_and_spacing_on_the_same_lines_are_nothing() -> None:
    assert difference("def f(a):\n    return a", "def f(a):\n    return a  # the same").is_empty


def test_functions_below_an_edit_are_moved() -> None:
    found = difference("def f():\n    pass\ndef g():\n    pass", "def f():\n    return 1\n    pass\ndef g():\n    pass")
    assert (found.edited, found.swapped, found.moved) == (["f"], ["f"], ["g"])


def test_an_inner_function_is_what_was_edited_and_the_outer_one_is_swapped_with_it() -> None:
    found = difference("def f():\n    def g(): return 1\n    return g", "def f():\n    def g(): return 2\n    return g")
    assert (found.edited, found.swapped) == (["f.<locals>.g"], ["f", "f.<locals>.g"])


def test_functions_of_one_name_are_told_apart_by_their_order() -> None:
    source = "class C:\n @property\n def p(self): ...\n @p.setter\n def p(self, v): ...\n @p.deleter\n def p(self): ..."
    assert [found.key for found in walk(text(source).code)] == ["C.p", "C.p#2", "C.p#3"]
    found = difference(source, source.replace("v): ...", "v): self.v = v"))
    assert found.edited == ["C.p#2"]


def test_a_name_that_means_something_else_changes_the_function() -> None:
    """The text of inner is the same; n is of the function around it now."""
    found = difference(
        "def f():\n    def g():\n        return n\n    return g",
        "def f():\n    n = 1\n    def g():\n        return n\n    return g",
    )
    assert "f.<locals>.g" in found.swapped


def test_definitions_in_conditional_blocks_are_seen() -> None:
    base = "try:\n    import fast\nexcept ImportError:\n    def f(a=1):\n        return 1\n"
    found = difference(base, base.replace("a=1", "a=2"))
    assert (found.edited, list(found.signatures), found.notes) == (["f"], ["f"], [])


def test_statements_are_sorted_into_run_told_and_kept() -> None:
    found = difference(
        "import os\nA = 1\nGONE = 3\nprint('x')\n",
        "import os, sys\nA = 2\nB, C = A, 3\nD: int = 4\nE: int\nA += 1\nfrom m import *\nif __name__ == '__main__':\n    F = 1\n",
    )
    assert [text.replace("(", "").replace(")", "") for text in found.added] == [
        "import sys",
        "B, C = A, 3",
        "D: int = 4",
    ]
    said = "\n".join(found.notes)
    assert "pricing.py:2: `A = 2` is not run again: the live value of A is kept" in said
    assert "`A += 1` is not run again" in said
    assert "`from m import *` is not run" in said
    assert "`GONE = 3` is gone from the text: the live value of GONE is kept" in said
    assert "`print('x')` is gone from the text: what it did is not undone" in said
    assert "F = 1" not in str(found.added)


def test_a_syntax_error_is_shown_as_python_shows_it() -> None:
    with pytest.raises(BuildError) as refused:
        text("def f():\n    return (1\n")
    assert refused.value.message.startswith("/src/shop/pricing.py:2: SyntaxError: ")
    shown = refused.value.diagnostics.splitlines()
    assert shown[:2] == ['  File "/src/shop/pricing.py", line 2', "    return (1"]
    assert shown[-1] == refused.value.message.partition(": ")[2]  # 3.9 has other words than its successors


@pytest.mark.parametrize(
    "bad", [b"a = 1\x00", b"# coding: nonsense\n", b"\xff\xfe", b"(" * 5000, b"a = " + b"-" * 9000 + b"1"]
)
def test_what_is_no_text_of_python_is_a_build_error_too(bad: bytes) -> None:
    with pytest.raises(BuildError):
        Text(bad, "x.py")


def test_a_workshop_says_base_for_the_base_and_makes_payloads_for_the_rest(tmp_path: Path) -> None:
    path = tmp_path / "m.py"
    path.write_text("def f():\n    return 1\n")
    workshop = PythonWorkshop(str(path), path.read_bytes(), "m")
    assert (workshop.make().kind, workshop.make().reason) == ("base", "the text is the one that was loaded")
    path.write_text("def f():\n    return 1  # one\n")
    assert "only comments or spacing differ" in workshop.make().reason

    path.write_text("def f():\n    return 2\n")
    made = workshop.make()

    assert made.path is not None
    payload = decode(made.path.read_bytes())
    assert (payload.functions, payload.module, payload.build_id) == (("f",), "m", workshop.build_id)
    assert made.digest == workshop.make().digest
    assert decode(encode(payload)) == payload
    path.unlink()
    with pytest.raises(BuildError, match="cannot be read"):
        workshop.make()
    workshop.close()


def test_a_kind_of_method_is_refused_with_its_place(tmp_path: Path) -> None:
    path = tmp_path / "m.py"
    path.write_text("class C:\n    def f(self): ...\n")
    workshop = PythonWorkshop(str(path), path.read_bytes(), "m")
    path.write_text("class C:\n    @classmethod\n    def f(self): ...\n")
    with pytest.raises(IncompatibleError) as refused:
        workshop.make()
    (finding,) = refused.value.findings
    assert (finding.slug, finding.line) == ("python-method-kind", 3)
    workshop.close()


def test_the_base_text_is_found_beside_the_socket_when_the_file_is_another_by_now(tmp_path: Path) -> None:
    path, beside = tmp_path / "m.py", tmp_path / "socket"
    beside.mkdir()
    path.write_text("def f(): return 1\n")
    build_id = PythonWorkshop(str(path), path.read_bytes(), "m").build_id
    path.write_text("def f(): return 2\n")
    with pytest.raises(HotReloadError, match="not there any more"):
        PythonWorkshop.open(build_id, str(path), str(beside))

    Path(base_file(str(beside), build_id)).write_text("def f(): return 1\n")

    assert PythonWorkshop.open(build_id, str(path), str(beside)).make().changed == ("f",)


def test_modules_are_named_by_their_packages(tmp_path: Path) -> None:
    (tmp_path / "shop" / "api").mkdir(parents=True)
    for directory in ("shop", "shop/api"):
        (tmp_path / directory / "__init__.py").touch()
    assert module_name(str(tmp_path / "shop" / "api" / "views.py")) == "shop.api.views"
    assert module_name(str(tmp_path / "shop" / "api" / "__init__.py")) == "shop.api"
    assert module_name(str(tmp_path / "app.py")) == "app"


def test_the_same_code_on_the_same_lines_has_the_same_digest() -> None:
    payload = Payload("m", "m.py", "0", "d", (), (), (), (), (), python_of(0), b"x", b"y")
    assert decode(encode(payload)) == payload


def test_parameters_are_evaluated_as_the_module_would() -> None:
    """With its future statements: annotations stay texts."""
    found = difference(
        "from __future__ import annotations\ndef f(a: int): ...",
        "from __future__ import annotations\ndef f(a: Missing) -> Also.missing: ...",
    )
    _owner, name, code, kept = found.signatures["f"]
    space: dict[str, object] = {}
    exec(code, space)
    assert (space[name].__annotations__, kept) == ({"a": "Missing", "return": "Also.missing"}, ())
