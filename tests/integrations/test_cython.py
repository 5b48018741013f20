"""Cython: the generated C is the source. What goes live, and what must not: constants are taken out of tables by number."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hotreload.diff.cython import examine_constants
from hotreload.errors import IncompatibleError
from hotreload.integrations.testing import Edit, HotExtension

PYX = """\
# cython: language_level=3
cdef long calls = 0
SCALE = 10

cdef long inner(long x):
    return x + 1

def blur(long n):
    global calls
    calls += 1
    return inner(n) * 2 + SCALE

def count():
    return calls

def greet(name):
    return f"hello {name}"

def low(name):
    return name.lower()

cdef class Box:
    cdef long value
    def __init__(self, long value):
        self.value = value
    def doubled(self):
        return self.value * 2
"""


class Project:
    """One Cython module that runs in this process; each edit goes through cython and the C compiler."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        (directory / "hot").mkdir()
        self.extension = HotExtension.build(self.translated(PYX), directory / "hot", flags=["-O0"])
        self.module: Any = self.extension.module

    def translated(self, text: str) -> Path:
        source = self.directory / "kernels.pyx"
        source.write_text(text)
        command = [sys.executable, "-m", "cython", "-3", source.name]
        subprocess.run(command, cwd=self.directory, check=True)
        return source.with_suffix(".c")

    def edit(self, *pairs: tuple[str, str]) -> Edit:
        text = PYX
        for old, new in pairs:
            assert old in text
            text = text.replace(old, new)
        return self.extension.write(self.translated(text).read_text())


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    pytest.importorskip("Cython")
    running = Project(tmp_path_factory.mktemp("cython"))
    with contextlib.closing(running.extension):
        yield running


def test_bodies_of_cdef_def_and_methods_go_live_and_state_is_kept(project: Project) -> None:
    module = project.module
    box = module.Box(4)
    assert (module.blur(1), box.doubled()) == (14, 8)
    calls = module.count()
    edit = project.edit(
        ("return x + 1", "return x + 100"),
        ("inner(n) * 2 + SCALE", "inner(n) * 3 + SCALE"),
        ("return self.value * 2", "return self.value * 5"),
    )
    assert edit.outcome == "live"
    assert (module.blur(1), box.doubled(), module.count()) == (313, 20, calls + 1)
    assert project.edit(("return x + 1", "return x + 1  # as it was")).outcome in {"base", "live"}
    assert module.blur(1) == 14


def test_a_new_cdef_function_goes_live(project: Project) -> None:
    helper = "cdef long extra(long x):\n    return x * 7\n\n"
    project.edit(
        ("cdef long inner(long x):\n    return x + 1", f"{helper}cdef long inner(long x):\n    return extra(x)")
    )
    assert project.module.blur(1) == 24


def test_code_of_the_module_itself_is_told_not_to_run_again(project: Project) -> None:
    edit = project.edit(("SCALE = 10", "SCALE = 20"), ("return x + 1", "return x + 2"))
    assert "code of the module itself changed (`20`): it is not run again" in edit.notes
    assert project.module.blur(1) == 16


REFUSED = {
    "another text": (('f"hello {name}"', 'f"good morning {name}"'), "`'good morning '`"),
    "another attribute": (("name.lower()", "name.upper()"), "`'upper'`"),
    "another number": (('f"hello {name}"', "name * 12345"), "`12345`"),
    "a new local of a def": (("    calls += 1\n", "    cdef long k = 2\n    calls += k\n"), "`'k'`"),
}


@pytest.mark.parametrize("what", ["another text", "another attribute"])
def test_what_needs_other_constants_is_refused_though_the_tables_keep_their_size(project: Project, what: str) -> None:
    edit, named = REFUSED[what]
    project.extension.rollback()
    with pytest.raises(IncompatibleError) as refused:
        project.edit(edit)

    assert refused.value.slugs == ("cython-constants",)
    finding = refused.value.findings[0]
    assert f"the edit brings {named};" in finding.reason
    assert (finding.file, finding.line > 0) == ("kernels.pyx", True)
    assert project.module.greet("you") == "hello you"
    assert project.module.low("Cab") == "cab"


@pytest.mark.parametrize("what", ["another number", "a new local of a def"])
def test_what_an_edit_brings_is_named(project: Project, what: str) -> None:
    (old, new), named = REFUSED[what]
    before = project.translated(PYX).read_text()
    findings, _notes = examine_constants(before, project.translated(PYX.replace(old, new)).read_text())

    assert [finding.slug for finding in findings] == ["cython-constants"]
    assert f"the edit brings {named}" in findings[0].reason


def test_where_the_texts_cannot_be_read_each_stands_for_all(project: Project) -> None:
    old = project.translated(PYX).read_text()
    new = project.translated(PYX.replace("hello ", "howdy ")).read_text()
    assert examine_constants(old, old) == ([], [])
    old, new = (text.replace("_length_index[] = {{", "_length_index[] = {{1},{") for text in (old, new))
    assert examine_constants(old, old) == ([], [])
    findings, _notes = examine_constants(old, new)
    assert [finding.slug for finding in findings] == ["cython-constants"]
