"""From a source to an imported hot extension, without touching the source's own tree.

::

    files    copies, with the headers beside them ─▶ one `hotreload cc` ─▶ imported by its path
    project  a copy of the directory ─▶ `hotreload build` ─▶ imported by name, its directory first on sys.path
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Union

from hotreload.errors import BuildError, HotReloadError

__all__ = ["Source", "build_files", "build_project", "import_file"]

Source = Union[str, "os.PathLike[str]", Sequence[Union[str, "os.PathLike[str]"]]]

_INIT = re.compile(r"\bPyInit_(\w+)\s*\(|\bPYBIND11_MODULE\s*\(\s*(\w+)")
_CXX = {".cc", ".cpp", ".cxx", ".C"}
_UNITS = {".c", *_CXX}
_HEADERS = {".h", ".hh", ".hpp", ".hxx", ".inc"}


def build_files(
    source: Source, directory: Path, name: str, flags: Sequence[str], link: Sequence[str]
) -> tuple[Path, Path]:
    """Compiles copies of the files into one library beside them."""
    files = _copied(source, directory)
    name = name or _module_name(files)
    is_cxx = any(file.suffix in _CXX for file in files)
    compiler = shlex.split(os.environ.get("CXX" if is_cxx else "CC", "") or ("g++" if is_cxx else "gcc"))
    path = directory / f"{name}{sysconfig.get_config_var('EXT_SUFFIX')}"
    includes = [f"-I{directory}", f"-I{sysconfig.get_paths()['include']}", *_where_headers_are(source)]
    units = [str(file) for file in files if file.suffix in _UNITS]
    command = [
        *compiler,
        "-O2",
        "-g",
        "-fPIC",
        "-shared",
        *includes,
        *_from_here(flags),
        *units,
        "-o",
        str(path),
        *link,
    ]
    _run([*_wrapper(), *command], directory)
    if not path.exists():
        raise BuildError(f"the compiler made no {path.name}", command=command)
    return path, files[0]


def _copied(source: Source, directory: Path) -> list[Path]:
    if isinstance(source, str) and "\n" in source:
        main = directory / f"{_name_in(source) or 'extension'}{'.cpp' if 'PYBIND11_MODULE' in source else '.c'}"
        main.write_text(source, encoding="utf-8")
        return [main]
    given = [source] if isinstance(source, (str, os.PathLike)) else source
    files = []
    for file in given:
        if not os.path.isfile(file):
            raise BuildError(f"there is no {os.fspath(file)} in {os.getcwd()}", hint="give a path, or the text itself")
        files.append(Path(shutil.copy2(file, directory)))
        for beside in Path(file).resolve().parent.iterdir():
            if beside.suffix in _HEADERS:
                shutil.copy2(beside, directory)
    return files


def _from_here(flags: Sequence[str]) -> list[str]:
    """Directories of headers are meant from where the test runs, not from where the compiler will."""
    absolute: list[str] = []
    for flag in flags:
        if absolute[-1:] == ["-I"]:
            absolute.append(os.path.abspath(flag))
        else:
            absolute.append(f"-I{os.path.abspath(flag[2:])}" if flag.startswith("-I") and flag != "-I" else flag)
    return absolute


def _where_headers_are(source: Source) -> list[str]:
    """The directories that the copies came from: what they include by name is still found."""
    if isinstance(source, str) and "\n" in source:
        return []
    given = [source] if isinstance(source, (str, os.PathLike)) else source
    return list(dict.fromkeys(f"-I{os.path.dirname(os.path.abspath(file))}" for file in given))


def _module_name(files: Sequence[Path]) -> str:
    for file in files:
        if found := _name_in(file.read_text(encoding="utf-8", errors="replace")):
            return found
    raise BuildError(
        f"no PyInit_NAME in {', '.join(file.name for file in files)}", hint="say name=, if a macro makes it"
    )


def _name_in(text: str) -> str:
    found = _INIT.search(text)
    return (found[1] or found[2]) if found else ""


def build_project(
    source: Path, directory: Path, name: str, undo: contextlib.ExitStack
) -> tuple[ModuleType, Path, Path]:
    """Builds a copy of a setuptools project in place, and imports one extension of it."""
    from hotreload.build.project import default_command
    from hotreload.build.record import read_record
    from hotreload.elf.file import ElfFile

    ignored = shutil.ignore_patterns("build", "dist", ".git", ".venv", "venv", "__pycache__", "*.egg-info", "*.so")
    shutil.copytree(source, directory, ignore=ignored)
    _run([*_build_wrapper(), "--", *default_command(str(directory))], directory)
    records = {path: read_record(ElfFile.read(path)) for path in sorted(directory.rglob("*.so"))}
    found = {_dotted_name(path): path for path, record in records.items() if record is not None}
    chosen = name or (next(iter(found)) if len(found) == 1 else "")
    if chosen not in found:
        names = ", ".join(sorted(found)) or "none"
        raise HotReloadError(f"which extension of {source}? it has: {names}", hint="say name=")
    path = found[chosen]
    record = records[path]
    assert record is not None
    return _import_from(_top_of(path), chosen, undo), path, Path(record.units[0].source)


def _top_of(path: Path) -> Path:
    """The directory that has to be on ``sys.path``."""
    top = path.parent
    while (top / "__init__.py").exists():
        top = top.parent
    return top


def _dotted_name(path: Path) -> str:
    parts = path.relative_to(_top_of(path)).parts
    return ".".join((*parts[:-1], parts[-1].split(".", 1)[0]))


def _wrapper() -> list[str]:
    return [sys.executable, "-m", "hotreload", "cc"]


def _build_wrapper() -> list[str]:
    return [sys.executable, "-m", "hotreload", "build"]


def _run(command: list[str], directory: Path) -> None:
    root = str(Path(__file__).resolve().parents[2])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, (os.environ.get("PYTHONPATH"), root)))}
    done = subprocess.run(
        command,
        cwd=directory,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        raise BuildError(f"the extension does not compile:\n{done.stdout}", diagnostics=done.stdout, command=command)


# Importing ---------------------------------------------------------------------------------------------------------


def import_file(name: str, path: Path, undo: contextlib.ExitStack) -> ModuleType:
    _set_aside(name, undo)
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def _import_from(directory: Path, name: str, undo: contextlib.ExitStack) -> ModuleType:
    _set_aside(name.split(".", 1)[0], undo)
    sys.path.insert(0, str(directory))
    undo.callback(sys.path.remove, str(directory))
    importlib.invalidate_caches()
    return importlib.import_module(name)


def _set_aside(top: str, undo: contextlib.ExitStack) -> None:
    """Modules of that name, and below it, are put back when all is over."""

    def ours() -> dict[str, ModuleType]:
        return {name: module for name, module in sys.modules.items() if name == top or name.startswith(f"{top}.")}

    before = ours()

    def put_back() -> None:
        for name in ours():
            del sys.modules[name]
        sys.modules.update(before)

    for name in before:
        del sys.modules[name]
    undo.callback(put_back)
