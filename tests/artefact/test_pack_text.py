"""Packing the text of a Python module: the same texts make the same bytes, and what cannot go live makes none."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hotreload.artefact import MAX_TEXT_LEN, parse
from hotreload.cli.commands import run_command
from hotreload.errors import BuildError, HotReloadError, IncompatibleError
from hotreload.patch.pack_text import PackedText, pack_text
from hotreload.python.payload import build_id_of, decode

BASE = """\
def price(n):
    return 2 * n


def tax(n):
    return n


def outer():
    def inner():
        return 1

    return inner
"""
EDITED = BASE.replace("    return 2 * n\n", "    # dearer\n    return 3 * n\n").replace("return 1\n", "return 2\n")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """shop/pricing.py in a package, and the text that runs beside it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "__init__.py").touch()
    (tmp_path / "shop" / "pricing.py").write_text(EDITED)
    (tmp_path / "old.py").write_text(BASE)
    return tmp_path


def packed(text: str, path: Path, **options: object) -> PackedText:
    (path / "shop" / "pricing.py").write_text(text)
    return pack_text(path / "shop" / "pricing.py", BASE.encode(), **{"module": "shop.pricing", **options})


def test_it_carries_the_text_and_names_what_differs(project: Path) -> None:
    found = packed(EDITED, project, author="Ada", environ={"SOURCE_DATE_EPOCH": "1700000000"}, expires="7d").artefact
    assert found is not None
    payload, manifest = decode(found.body), found.manifest

    assert (payload.text, payload.code, payload.python) == (EDITED.encode(), b"", "")
    assert manifest.build_id == build_id_of(BASE.encode())
    assert manifest.edited == ("price", "outer.<locals>.inner")
    assert set(manifest.changed) == {"price", "outer.<locals>.inner", "outer"}
    assert manifest.compiler_changed == ("tax",)
    assert manifest.sources == ("shop/pricing.py",)
    assert "+    return 3 * n\n" in manifest.source_diff
    assert (manifest.created, manifest.expires) == ("2023-11-14T22:13:20Z", "2023-11-21T22:13:20Z")


def test_the_same_texts_make_the_same_bytes(project: Path) -> None:
    environ = {"SOURCE_DATE_EPOCH": "1700000000"}
    one, other = (packed(EDITED, project, author="Ada", environ=environ).artefact for _ in range(2))

    assert one is not None
    assert one == other


@pytest.mark.parametrize(("text", "why"), [(BASE, "the one that was loaded"), (BASE + "# end\n", "only comments")])
def test_what_means_the_same_makes_no_artefact_and_says_why(project: Path, text: str, why: str) -> None:
    found = packed(text, project)

    assert found.artefact is None
    assert why in found.reason


def test_what_cannot_be_packed_says_why(project: Path) -> None:
    with pytest.raises(BuildError, match=r"pricing\.py:2: SyntaxError"):
        packed(BASE.replace("2 * n", "2 *"), project)
    with pytest.raises(BuildError, match="longer than the 1,048,576 bytes"):
        packed("#" * (MAX_TEXT_LEN + 1), project)
    base = "class A:\n    def f(self):\n        pass\n"
    (project / "a.py").write_text(base.replace("def f(self)", "@staticmethod\n    def f()"))
    with pytest.raises(IncompatibleError) as refused:
        pack_text(project / "a.py", base.encode(), module="a")
    assert [finding.slug for finding in refused.value.findings] == ["python-method-kind"]


def test_pack_show_and_the_text_from_the_command_line(
    project: Path, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    assert run_command(["pack", "shop/pricing.py", "--base", "old.py", "--json"]) == 0
    told = json.loads(capsysbinary.readouterr().out)
    assert told["packed"] == "pricing.hotpatch"
    assert told["manifest"]["module"] == "shop.pricing"
    assert parse((project / "pricing.hotpatch").read_bytes()).manifest.kind == "python"

    assert run_command(["show", "pricing.hotpatch"]) == 0
    shown = capsysbinary.readouterr().out.decode()
    assert "changes   functions in Python" in shown
    assert "tax  changed  the same, on other lines" in shown
    assert run_command(["show", "--text", "pricing.hotpatch"]) == 0
    assert capsysbinary.readouterr().out == EDITED.encode()

    assert run_command(["pack", "old.py", "--base", "old.py"]) == 3
    assert b"nothing to pack: the text is the one that was loaded" in capsysbinary.readouterr().out


@pytest.mark.parametrize(
    "arguments",
    [
        ("shop/pricing.py",),
        ("shop/pricing.py", "--base", "old.py", "--build-id", "ab"),
        ("kernels.c", "--base", "old.c"),
        ("kernels.c", "--module", "kernels"),
    ],
)
def test_a_base_text_belongs_to_python_and_a_build_id_to_c(
    project: Path, arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        run_command(["pack", *arguments])

    assert ended.value.code == 2
    assert "needs --base OLD.py" in capsys.readouterr().err


def test_a_patch_of_c_has_no_text_to_show(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    from tests.artefact import kit

    (tmp_path / "c.hotpatch").write_bytes(kit.make())
    assert run_command(["show", "--text", str(tmp_path / "c.hotpatch")]) == 4
    assert "carries no source" in capfd.readouterr().err


def test_an_end_that_is_none_is_refused(project: Path) -> None:
    with pytest.raises(HotReloadError, match="is no time"):
        packed(EDITED, project, expires="soon")
