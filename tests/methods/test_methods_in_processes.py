"""New functions of an extension in whole programs: saved, pushed, restored at a start, forked."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from hotreload.artefact import Artefact
from hotreload.patch.pack import pack
from tests.agent.kit import Application, build_hot
from tests.run.harness import Extension, Program, build

MORE = "static PyObject *more(PyObject *self, PyObject *args) { return PyLong_FromLong(10 * shade(1)); }\n"
SERVER = """\
import os, sys, time
sys.path.insert(0, {ext!r})
import tiny

print("ready", flush=True)
last = None
while True:
    seen = tiny.more() if hasattr(tiny, "more") else 0
    if seen != last:
        print("more", seen, flush=True)
        last = seen
    time.sleep(0.002)
"""


def with_more(extension: Extension, *, doc: str = "More of it.") -> str:
    text = extension.source.read_text().replace("static PyMethodDef", MORE + "static PyMethodDef")
    return text.replace("    {0},\n", f'    {{"more", more, METH_NOARGS, "{doc}"}},\n    {{0}},\n', 1)


def test_a_saved_function_appears_and_the_original_text_takes_it_away(tmp_path: Path) -> None:
    extension = build(tmp_path)
    before = extension.source.read_text()
    path = tmp_path / "server.py"
    path.write_text(SERVER.format(ext=str(extension.directory)))
    with Program(["-m", "hotreload", "run", str(path)], directory=tmp_path) as program:
        program.wait_line("more 0")
        program.wait_event("extension.found")
        extension.source.write_text(with_more(extension))
        program.wait_line("more 20")
        line = program.wait_reloads(1)
        assert (line["outcome"], line["appeared"], line["added"]) == ("live", ["tiny.more()"], ["more"])
        extension.header.write_text(extension.shade("x + 2"))
        program.wait_line("more 30")
        assert program.wait_reloads(2)["appeared"] == []
        extension.source.write_text(before)
        program.wait_line("more 0", after=2)
        line = program.wait_reloads(3)
        assert (line["outcome"], line["appeared"], line["withdrawn"]) == ("live", [], ["tiny.more()"])


@pytest.fixture
def app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Application]:
    monkeypatch.setenv("HOTRELOAD_STORE", str(tmp_path / "store"))
    application = Application(tmp_path, build_hot(tmp_path))
    yield application
    application.close()


def packed(app: Application, text: str, sequence: int) -> Artefact:
    app.hot.extension.source.write_text(text)
    made = pack(app.hot.extension.source, author="a test", sequence=sequence)
    assert made is not None
    return made.artefact


def seen(app: Application, program: Program) -> str:
    before = len(program.stdout)
    app.do(
        "import tiny; f = getattr(tiny, 'more', None); os.write(1, f'seen {f and (f(), f.__doc__)} end\\n'.encode())"
    )
    return program.wait_line("seen ", after=before)


def test_a_push_adds_it_a_start_restores_it_and_a_child_has_it(app: Application) -> None:
    base = app.hot.extension.source.read_text()
    artefact = packed(app, with_more(app.hot.extension), 10)
    program = app.start()
    told = app.push(program, "a", artefact)
    assert told["notes"] == ["appeared: tiny.more()"]
    assert seen(app, program) == "seen (20, 'More of it.') end"
    app.do(
        "import tiny; pid = os.fork(); pid or (os.write(1, f'seen {tiny.more()} in a child\\n'.encode()), os._exit(0))"
    )
    program.wait_line("seen 20 in a child")

    app.store(artefact)
    later = app.start(after="import tiny; print('imported', tiny.more(), flush=True)")
    assert "imported 20" in later.stdout

    app.hot.extension.source.write_text(base)
    other = packed(app, with_more(app.hot.extension, doc="Much more."), 11)
    app.push(program, "b", other)
    assert seen(app, program) == "seen (20, 'Much more.') end"
    app.hot.extension.source.write_text(base)


def test_a_patch_of_documentation_alone_can_be_pushed(app: Application) -> None:
    text = app.hot.extension.source.read_text().replace("value, METH_NOARGS, 0", 'value, METH_NOARGS, "What it is."')
    artefact = packed(app, text, 10)
    program = app.start()
    app.push(program, "a", artefact)
    app.do("import tiny; os.write(1, f'doc {tiny.value.__doc__}\\n'.encode())")
    assert program.wait_line("doc ") == "doc What it is."
