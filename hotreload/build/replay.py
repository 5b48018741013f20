"""Compiling one unit again with its recorded command.

``setup.py build_ext`` costs 833 ms where the compiler costs 145: the recorded command is run as it was, in its
directory, with the environment that changes its meaning, and writes into a directory of our own.
"""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
from typing import NamedTuple

from hotreload.build import depfile
from hotreload.build.looks import look_at
from hotreload.build.record import MEANINGFUL_ENVIRONMENT, Unit
from hotreload.elf.file import ElfFile
from hotreload.errors import BuildError

__all__ = ["Replayed", "possible_headers", "replay"]

# GCC: "fatal error: inc/x.h: No such file or directory"; clang: "fatal error: 'inc/x.h' file not found".
MISSING = re.compile(r"fatal error: '?([^'\n]+?)(?:: No such file or directory|' file not found)")


class Replayed(NamedTuple):
    """A fresh object of a unit; ``files`` and ``texts`` are the sources and project headers it was made from.

    They were read before the compiler ran. ``is_settled`` is False when one of them was saved meanwhile: then the
    object may be of another text than these.
    """

    elf: ElfFile
    files: dict[str, str]
    texts: dict[str, str]
    warnings: str
    is_settled: bool


def replay(unit: Unit, directory: str, *, colours: bool = False) -> Replayed:
    """Compile ``unit`` as it was recorded; temporary files go to ``directory`` and are removed.

    Raises:
        BuildError: the compiler said no (``diagnostics`` is what it printed), or cannot be run. Nothing is left behind.
    """
    looks = {path: look_at(path) for path in unit.files}
    before = {path: _read(path) for path in unit.files if path == unit.source or os.path.exists(path)}
    output = os.path.join(directory, f"{os.path.basename(unit.source)}.{os.getpid()}.o")
    rule = f"{output}.d"
    argv = [*_redirected(unit.argv, output), "-MD", "-MF", rule]
    argv += [f"-fdiagnostics-color={'always' if colours else 'never'}"]
    try:
        diagnostics = _run(unit, argv)
        elf = ElfFile.read(output)
        with open(rule, encoding="utf-8", errors="surrogateescape") as file:
            names = depfile.project_files(depfile.parse(file.read()), unit.directory)
    finally:
        for path in (output, rule):
            if os.path.exists(path):
                os.unlink(path)
    contents = {path: before[path] if path in before else _read(path) for path in names}
    return Replayed(
        elf=elf,
        files={path: hashlib.sha256(content).hexdigest() for path, content in contents.items()},
        texts={path: content.decode("utf-8", errors="surrogateescape") for path, content in contents.items()},
        warnings=diagnostics,
        is_settled=all(look_at(path) == look for path, look in looks.items()),
    )


def possible_headers(unit: Unit, diagnostics: str) -> set[str]:
    """Where a header that the compiler did not find would be found if it appeared, in the project's directories."""
    directories = [os.path.dirname(unit.source), unit.directory]
    args = iter(unit.argv)
    for arg in args:
        if arg in ("-I", "-iquote", "-isystem"):
            directories.append(next(args, "."))
        elif arg.startswith("-I"):
            directories.append(arg[2:])
    names = [os.path.join(directory, name) for name in MISSING.findall(diagnostics) for directory in directories]
    return set(depfile.project_files(names, unit.directory))


def _run(unit: Unit, argv: list[str]) -> str:
    environment = {name: value for name, value in os.environ.items() if name not in MEANINGFUL_ENVIRONMENT}
    try:
        done = subprocess.run(
            argv,
            cwd=unit.directory,
            env={**environment, **unit.environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
        )
    except OSError as error:
        raise BuildError(f"cannot run {argv[0]} in {unit.directory}: {error.strerror}", command=argv) from error
    diagnostics = done.stdout.decode(errors="replace")
    if done.returncode:
        raise BuildError(f"{unit.source} does not compile", diagnostics=diagnostics, command=argv)
    return diagnostics


def _redirected(argv: list[str], output: str) -> list[str]:
    """``argv`` with another output, and without the dependency file of the build."""
    kept: list[str] = []
    args = iter(argv)
    for arg in args:
        if arg in ("-o", "-MF", "-MT", "-MQ"):
            next(args, None)
        elif arg not in ("-MD", "-MMD", "-MP") and not arg.startswith(("-o", "-MF", "-Wp,-MD,", "-Wp,-MMD,")):
            kept.append(arg)
    return [*kept, "-o", output]


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise BuildError(f"cannot read {path}: {error.strerror}", hint="put the file back, or rebuild") from error
