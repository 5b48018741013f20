"""Being told of imports, and telling a hot extension from its file."""

from __future__ import annotations

import importlib.util
import sys
import traceback
from importlib.machinery import ExtensionFileLoader, SourceFileLoader
from pathlib import Path

import pytest
import tiny

from hotreload.live.arrivals import is_hot, watch_imports, watch_texts

MODULE = """
#include <Python.h>
static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "arrived", 0, -1, 0};
PyMODINIT_FUNC PyInit_arrived(void) { return PyModule_Create(&module); }
"""


@pytest.fixture
def library(tmp_path: Path) -> Path:
    import sysconfig

    source, path = tmp_path / "arrived.c", tmp_path / "arrived.so"
    source.write_text(MODULE)
    tiny.run("gcc", "-shared", "-fPIC", f"-I{sysconfig.get_paths()['include']}", source, "-o", path)
    return path


def load(path: Path) -> object:
    spec = importlib.util.spec_from_file_location("arrived", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_everybody_who_wants_to_know_is_told_until_he_does_not(library: Path) -> None:
    original = ExtensionFileLoader.exec_module
    first: list[str] = []
    second: list[str] = []
    end_first, end_second = watch_imports(first.append), watch_imports(second.append)
    load(library)
    end_first()
    end_first()
    load(library)
    end_second()
    load(library)

    assert first == [str(library)]
    assert second == [str(library)] * 2
    assert ExtensionFileLoader.exec_module is original


def test_what_a_watcher_raises_does_not_fail_the_import(library: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raised: list[type] = []
    monkeypatch.setattr(sys, "excepthook", lambda kind, *_: raised.append(kind))
    end = watch_imports(lambda path: 1 / 0)
    try:
        assert load(library) is not None
    finally:
        end()

    assert raised == [ZeroDivisionError]


def test_a_module_of_python_is_told_when_its_text_has_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "told_text.py").write_text("is_done = True\n")
    monkeypatch.syspath_prepend(tmp_path)
    seen: list[tuple[str, bool]] = []
    end = watch_texts(lambda path: seen.append((path, sys.modules["told_text"].is_done)))
    try:
        importlib.import_module("told_text")
    finally:
        end()

    assert seen == [(str(tmp_path / "told_text.py"), True)]
    assert "exec_module" not in vars(SourceFileLoader)


def test_a_module_that_fails_is_not_told_and_its_traceback_is_as_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "fails_text.py").write_text("1 / 0\n")
    monkeypatch.syspath_prepend(tmp_path)
    seen: list[str] = []

    def frames() -> list[str]:
        try:
            import fails_text  # noqa: F401
        except ZeroDivisionError as error:
            return [frame.filename for frame in traceback.extract_tb(error.__traceback__)]
        return []

    without = frames()
    end = watch_texts(seen.append)
    try:
        assert frames() == without == [__file__, str(tmp_path / "fails_text.py")]
    finally:
        end()
    assert seen == []


def test_a_hot_extension_is_known_by_its_record(library: Path, tmp_path: Path) -> None:
    hot = tmp_path / "hot.so"
    (tmp_path / "record").write_text("{}")
    tiny.run("objcopy", "--add-section", f".hotreload.record={tmp_path / 'record'}", library, hot)

    assert is_hot(str(hot))
    assert not is_hot(str(library))


@pytest.mark.parametrize("length", [0, 3, 16, 63, 64, 4096])
def test_a_file_that_is_cut_off_is_not_hot(library: Path, tmp_path: Path, length: int) -> None:
    cut = tmp_path / "cut.so"
    cut.write_bytes(library.read_bytes()[:length])

    assert not is_hot(str(cut))
    assert not is_hot(str(tmp_path / "missing.so"))
    assert not is_hot(str(tmp_path))
