"""What can be marked, and the words for what cannot."""

from __future__ import annotations

import functools
import subprocess
import sys
import types
import zipfile
from pathlib import Path

import pytest

from hotreload.python import MarkError, register
from hotreload.python.registry import files
from tests.python.kit import load

HERE = str(Path(__file__).resolve())


def plain():
    """A function of this file."""


class Marked:
    """A class of this file."""

    @staticmethod
    def static(): ...

    @classmethod
    def of_class(cls): ...

    @property
    def getter(self): ...

    @functools.cached_property
    def cached(self): ...

    def method(self): ...


@functools.lru_cache
@functools.wraps(plain)
def wrapper():
    return plain()


@pytest.mark.parametrize(
    ("thing", "name"),
    [
        (plain, "plain"),
        (vars(Marked)["static"], "Marked.static"),
        (vars(Marked)["of_class"], "Marked.of_class"),
        (vars(Marked)["getter"], "Marked.getter"),
        (vars(Marked)["cached"], "Marked.cached"),
        (Marked.of_class, "Marked.of_class"),
        (Marked().method, "Marked.method"),
        (Marked, "Marked"),
        (wrapper, "plain"),
        (sys.modules[__name__], ""),
    ],
)
def test_functions_classes_and_modules_are_marked(thing: object, name: str) -> None:
    assert register(thing) == (HERE, name)


def test_marking_a_class_marks_every_function_of_its_own() -> None:
    register(Marked)
    names = {name for name in files()[HERE].marks if name.startswith("Marked.")}
    assert names == {f"Marked.{name}" for name in ("static", "of_class", "getter", "cached", "method")}


def test_marking_inner_functions_again_and_again_remembers_nothing_more() -> None:
    def inner(): ...

    register(inner)
    before = len(files()[HERE]._functions)
    for _ in range(100):
        exec("def f(): ...", space := {})

        def inner(): ...

        register(inner)
    assert len(files()[HERE]._functions) == before
    assert space


@pytest.mark.parametrize(
    ("thing", "message"),
    [
        (lambda: 1, "a lambda cannot be marked"),
        (len, "len is no Python function but compiled code"),
        (str.upper, "compiled code"),
        (3, "3 is no function, method, property, class or module"),
        (type("Empty", (), {}), "class Empty has no Python function of its own"),
        (sys, "module sys was not loaded from a .py file"),
        (functools.partial(len, []), "no function"),
    ],
)
def test_what_is_no_python_function_is_refused_by_name(thing: object, message: str) -> None:
    with pytest.raises(MarkError, match=message) as refused:
        register(thing)
    assert refused.value.hint
    assert isinstance(refused.value, TypeError)


@pytest.mark.parametrize(
    ("filename", "message"),
    [
        ("<string>", "made by exec or eval"),
        ("<stdin>", "typed at a prompt"),
        ("<frozen zipimport>", "frozen into the interpreter"),
        ("/tmp/ipykernel_12/345.py", "defined in a notebook cell"),
        ("<ipython-input-1-abc>", "made by exec or eval"),
        ("/nowhere/gone.py", "cannot be read: No such file"),
    ],
)
def test_functions_without_a_file_are_refused_by_where_they_come_from(filename: str, message: str) -> None:
    space: dict[str, object] = {}
    exec(compile("def f(): ...", filename, "exec"), space)
    with pytest.raises(MarkError, match=message):
        register(space["f"])


def test_source_inside_an_archive_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with zipfile.ZipFile(tmp_path / "packed.zip", "w") as archive:
        archive.writestr("packed_module.py", "def f(): ...\n")
    monkeypatch.syspath_prepend(str(tmp_path / "packed.zip"))
    import packed_module  # type: ignore[import-not-found]

    with pytest.raises(MarkError, match="inside an archive"):
        register(packed_module.f)


def test_marking_imports_neither_the_core_nor_a_compiler(tmp_path: Path) -> None:
    """A program that marks its functions and is not hot pays for a small module."""
    (tmp_path / "marked.py").write_text(
        "import sys\nbefore = set(sys.modules)\nfrom hotreload.python import register\n"
        "@lambda f: (register(f), f)[1]\ndef f(): ...\n"
        "print(sorted(name for name in set(sys.modules) - before if name.startswith('hotreload') or name == 'ast'))\n"
    )
    done = subprocess.run([sys.executable, "marked.py"], cwd=tmp_path, capture_output=True, text=True, check=True)
    names = ["", ".errors", ".python", ".python.payload", ".python.registry"]
    assert done.stdout.strip() == str([f"hotreload{name}" for name in names])


def test_two_modules_of_one_file_are_one_entry(tmp_path: Path) -> None:
    path = tmp_path / "once.py"
    path.write_text("def f(): ...\n")
    one, other = load(path, "once_one"), load(path, "once_other")
    assert isinstance(one, types.ModuleType)
    assert register(one.f) == register(other.f) == (str(path), "f")
    assert len(files()[str(path)].functions()) == 2
