"""``hotreload build [-- COMMAND...]``: any build, with the compiler wrapper in it.

The command runs with ``CC`` and ``CXX`` set to the wrapper around the compiler that it would have used, which
setuptools, meson, CMake and make all honour. Without a command it is the project's own in-place build.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import threading
from contextlib import suppress
from typing import Any

from hotreload.build.finish import JOURNAL
from hotreload.config import load_prologue
from hotreload.elf.file import ElfFile
from hotreload.errors import BuildError

__all__ = ["build", "build_environment", "main"]

# A build that is over sooner needs no words.
_PATIENCE = 0.5
THROUGH = {"slot": " through slots"}
# Found by its line: a build need not read TOML, and what does not match is left to setuptools.
_BACKEND = re.compile(r"""^build-backend\s*=\s*["'](?P<name>mesonpy|scikit_build_core)\b""", re.MULTILINE)
_LINKED = re.compile(r"/(?:build/lib[^/]*|[^/]+\.build-lib)/(?P<tail>.+)$")
IN_PLACE = "from setuptools import setup; setup()"


def main(command: list[str], *, as_json: bool = False) -> int:
    """Build with ``command``, or what the project has, and say what was built; the exit code is that of the build.

    Raises:
        HotReloadError: there is nothing to build, the command cannot be run, or the configuration is wrong.
    """
    code, libraries = build(command or default_command(os.getcwd()), quiet=as_json)
    if as_json:
        print(json.dumps({"exit_code": code, "extensions": libraries}))
    else:
        _report(code, libraries)
    return code


def build(command: list[str], *, quiet: bool = False) -> tuple[int, list[dict[str, Any]]]:
    """Run a build command hot.

    Returns its exit code, and for each hot extension that it linked: ``module``, ``path``, ``build_id``,
    ``prologue``, ``patchable`` (a number of functions), ``unpatchable`` (names and reasons) and ``sources``.

    Raises:
        BuildError: the command cannot be run.
        HotReloadError: the configuration is wrong; nothing was run.
    """
    handle, journal = tempfile.mkstemp(prefix="hotreload-")
    os.close(handle)
    try:
        environment = {**build_environment(), JOURNAL: journal}
        try:
            with _Watch(journal):
                done = subprocess.run(command, env=environment, stdout=sys.stderr if quiet else None, check=False)
        except OSError as error:
            raise BuildError(f"cannot run {command[0]}: {error.strerror}") from error
        with open(journal, encoding="utf-8") as file:
            noted = [json.loads(line) for line in file]
    finally:
        os.unlink(journal)
    newest = {entry["path"]: entry for entry in noted if "path" in entry}
    return done.returncode, [
        {**entry, "path": _in_place(entry["path"], entry["build_id"])} for entry in newest.values()
    ]


class _Watch:
    """On a terminal, names each unit that is compiled while a build takes long: a line, since the build writes too."""

    def __init__(self, journal: str) -> None:
        self._journal = journal
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> None:
        if sys.stderr.isatty():
            self._thread.start()

    def __exit__(self, *exc: object) -> None:
        self._is_over.set()
        if self._thread.ident is not None:
            self._thread.join()

    def _look(self) -> None:
        told = 0
        while not self._is_over.wait(_PATIENCE):
            with open(self._journal, encoding="utf-8") as file:
                sources = [json.loads(line).get("compiling") for line in file if line.endswith("\n")]
            units = [source for source in sources if source]
            if told < len(units):
                told = len(units)
                print(f"hotreload build: compiling {units[-1]}, unit {told}", file=sys.stderr)


def build_environment() -> dict[str, str]:
    """This process's environment with the wrapper in ``CC`` and ``CXX``, and the prologue that the project asks for.

    Raises:
        HotReloadError: the project asks for a prologue that there is not.
    """
    wrapper = wrapper_command()
    environment = {**os.environ, "HOTRELOAD_PROLOGUE": load_prologue()}
    for name, fallback in (("CC", "gcc"), ("CXX", "g++")):
        configured = os.environ.get(name) or sysconfig.get_config_var(name) or fallback
        compiler = shlex.split(configured)
        if compiler[: len(wrapper)] == wrapper:
            continue
        if shutil.which(compiler[0]) is None:
            compiler = [fallback]
        environment[name] = shlex.join([*wrapper, *compiler])
    return environment


def wrapper_command() -> list[str]:
    """The words that start the compiler wrapper: this interpreter's, whatever ``PATH`` says later."""
    script = os.path.join(os.path.dirname(sys.executable), "hotreload")
    return [script, "cc"] if os.access(script, os.X_OK) else [sys.executable, "-m", "hotreload", "cc"]


def default_command(directory: str) -> list[str]:
    """The in-place build of the project in ``directory``.

    Raises:
        BuildError: there is no project of a kind that is known here, or not what builds it.
    """
    has_setup = os.path.exists(os.path.join(directory, "setup.py"))
    if not has_setup and (backend := _other_backend(directory)):
        raise BuildError(
            f"{directory} is built by {backend}, which has no build in place",
            hint="hotreload build -- pip install --no-build-isolation --editable .",
        )
    if has_setup or os.path.exists(os.path.join(directory, "pyproject.toml")):
        # Virtual environments have come without it since Python 3.12, which has no distutils either.
        known = ("setuptools", "distutils") if has_setup else ("setuptools",)
        if not any(importlib.util.find_spec(name) for name in known):
            raise BuildError(
                f"the in-place build of {directory} takes setuptools, and this environment has none",
                hint="pip install setuptools, or say how to build: hotreload build -- COMMAND...",
            )
    if has_setup:
        return [sys.executable, "setup.py", "build_ext", "--inplace", "--force"]
    if os.path.exists(os.path.join(directory, "pyproject.toml")):
        return [sys.executable, "-c", IN_PLACE, "build_ext", "--inplace", "--force"]
    raise BuildError(
        f"no setup.py and no pyproject.toml in {directory}", hint="say how to build: hotreload build -- COMMAND..."
    )


def _other_backend(directory: str) -> str:
    """What builds the project, where it is known to be something else than setuptools."""
    with suppress(OSError), open(os.path.join(directory, "pyproject.toml"), encoding="utf-8") as file:
        named = _BACKEND.search(file.read())
        return named["name"] if named else ""
    return ""


def _in_place(path: str, build_id: str) -> str:
    """The copy that an in-place build of setuptools has made of a library that it linked elsewhere; else the library.

    It links below ``build/lib*``, and for an editable install below ``*.build-lib``, which is gone by now.
    """
    linked = _LINKED.search(path)
    if linked:
        for root in ("", "src"):
            copy = os.path.abspath(os.path.join(root, linked["tail"]))
            if os.path.isfile(copy) and ElfFile.read(copy).build_id.hex() == build_id:
                return copy
    return path


def _report(code: int, libraries: list[dict[str, Any]]) -> None:
    if code:
        print(f"hotreload build: the build failed with exit code {code}", file=sys.stderr)
    elif not libraries:
        print(
            "hotreload build: the build linked no shared library through CC; nothing is hot (already up to date?)",
            file=sys.stderr,
        )
    for entry in libraries:
        functions = f"{entry['patchable']} functions can be patched{THROUGH.get(entry['prologue'], '')}"
        print(f"hotreload build: {entry['module']}: {functions} ({os.path.relpath(entry['path'])})", file=sys.stderr)
        for left in entry["unpatchable"]:
            print(f"    left unpatchable: {left['name']}: {left['reason']}", file=sys.stderr)
