"""What a user's type checker sees: every public name typed, and stubs that are true of what was compiled."""

from __future__ import annotations

import ast
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import hotreload
from tests.hot import ROOT

PACKAGE = ROOT / "hotreload"

PROGRAM = """\
from __future__ import annotations

from typing import Any, Callable, Iterable

import hotreload
from hotreload import errors
from hotreload.integrations.pytest_plugin import HotExtensionFactory
from hotreload.integrations.testing import Edit, HotExtension


def told(event: dict[str, Any]) -> None:
    print(event["event"])


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    with hotreload.request():
        return [b""]


async def asgi_application(scope: Any, receive: Any, send: Any) -> None:
    with hotreload.request():
        pass


is_on: bool = hotreload.enable(polling=True, log_format="json", verbose=False)
stop: Callable[[], None] = hotreload.subscribe(told)
stop()
state: dict[str, Any] = hotreload.status()
moving: dict[str, Any] | None = hotreload.transition()
wrapped = hotreload.wsgi(application)
wrapped_too = hotreload.asgi(asgi_application)
include: str = hotreload.get_include()
version: str = hotreload.__version__
with hotreload.redirect(0x1000, 0x2000) as redirection:
    print(redirection)
hotreload.lock()
hotreload.disable()

try:
    raise errors.IncompatibleError("no", hint="restart")
except errors.IncompatibleError as refused:
    slugs: tuple[str, ...] = refused.slugs
    places: list[tuple[str, int]] = [(finding.file, finding.line) for finding in refused.findings]
except (errors.BuildError, errors.StageError, errors.TransitionError, errors.PoisonedError) as error:
    hint: str = error.hint


def test_it(hot_extension: HotExtensionFactory) -> None:
    extension: HotExtension = hot_extension("kernels.c", flags=["-O3"])
    edit: Edit = extension.edit("old", "new")
    functions: tuple[str, ...] = edit.functions
    extension.rollback()
"""


def mypy(directory: Path, text: str) -> str:
    pytest.importorskip("mypy")
    program = directory / "program.py"
    program.write_text(text)
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file=", "--hide-error-context", str(program)]
    done = subprocess.run(
        [*command, "--cache-dir", str(ROOT / ".mypy_cache")], cwd=ROOT, capture_output=True, text=True
    )
    return done.stdout + done.stderr


def test_a_strict_program_that_uses_every_public_name_is_clean(tmp_path: Path) -> None:
    asked = "".join(f"reveal_type(hotreload.{name})\n" for name in hotreload.__all__ if name != "errors")
    said = mypy(tmp_path, PROGRAM + asked)

    assert " error: " not in said, said
    revealed = [line for line in said.splitlines() if "Revealed type" in line]
    assert len(revealed) == len(hotreload.__all__) - 1, said
    assert not [line for line in revealed if 'type is "Any"' in line or 'type is "builtins.object"' in line]


def test_a_wrong_program_is_told(tmp_path: Path) -> None:
    said = mypy(tmp_path, "import hotreload\nhotreload.enable(poling=True)\nhotreload.subscribe(1)\n")

    assert said.count(" error: ") == 2, said


@pytest.mark.parametrize("name", ["hotreload._state"])
def test_a_stub_names_what_was_compiled(name: str) -> None:
    module = import_module(name)
    stub = PACKAGE.parent.joinpath(*name.split(".")).with_suffix(".pyi")
    declared = set()
    for node in ast.parse(stub.read_text()).body:
        if isinstance(node, ast.FunctionDef):
            declared.add(node.name)
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            declared.add(node.target.id)

    assert declared == {name for name in vars(module) if not name.startswith("__")}


def test_every_compiled_module_has_a_stub_and_all_of_it_is_shipped() -> None:
    compiled = {path.name.split(".")[0] for path in PACKAGE.rglob("*.so")}
    stubs = {path.stem for path in PACKAGE.rglob("*.pyi")}
    shipped = (ROOT / "pyproject.toml").read_text()

    assert compiled == stubs
    assert (PACKAGE / "py.typed").exists()
    assert all(f'"{pattern}"' in shipped for pattern in ("py.typed", "*.pyi", "live/*.pyi"))
