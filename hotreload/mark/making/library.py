"""One C file and its wrapper, compiled and linked by ``hotreload cc`` into one hot extension.

::

    DIRECTORY/               of the file, its text, flags, compiler, Python: see cache.py
    └── DIGEST/              of the headers that it read
        ├── kernels_c_wrapper.c
        ├── kernels_c.so
        └── entry.json       last: it is what makes the rest known

The same texts at the same places give the same library, byte for byte: a patch that was packed on one host fits the
build of another.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import time
from typing import Any

from hotreload.build import depfile, steps, store
from hotreload.build.command import parse
from hotreload.build.flags import reason_to_leave
from hotreload.build.record import read_units
from hotreload.elf.file import ElfFile
from hotreload.errors import BuildError
from hotreload.mark.making.header import Header, read_header

__all__ = ["make"]

DAY = 86400.0


def make(wanted: dict[str, Any]) -> dict[str, Any]:
    """Makes the extension of ``wanted["source"]`` in ``wanted["directory"]``; returns its entry.

    Raises:
        BuildError: the compiler or the linker says no, or the code cannot be made patchable; nothing is left behind.
    """
    source, directory, module = wanted["source"], wanted["directory"], wanted["module"]
    flags, compiler = list(wanted["flags"]), list(wanted["compiler"])
    includes = [f"-I{path}" for path in wanted["include_dirs"]]
    os.environ["HOTRELOAD_PROLOGUE"] = wanted["prologue"]
    unit, wrapper = os.path.join(directory, f"{module}.o"), f"{module}_wrapper.c"
    rule = os.path.join(directory, f"{module}.d")
    home = ""
    try:
        os.chdir(os.path.dirname(source))
        _run([*compiler, "-O2", "-fPIC", *includes, *flags, "-MD", "-MF", rule, "-c", source, "-o", unit], source)
        elf = ElfFile.read(unit)
        (line,) = read_units(elf)
        home = os.path.join(directory, hashlib.sha256(json.dumps(sorted(line.files.items())).encode()).hexdigest()[:16])
        os.makedirs(home, exist_ok=True)
        os.chdir(home)
        python = [
            f"-I{path}" for path in dict.fromkeys((sysconfig.get_path("include"), sysconfig.get_path("platinclude")))
        ]
        command = [*compiler, "-O2", "-fPIC", *python, "-c", wrapper, "-o", "wrapper.o"]
        header = _wrap(elf, module, source, command)
        libraries = [f"-l{name}" for name in wanted["libraries"]]
        argv = [*compiler, "-shared", *flags, unit, "wrapper.o", "-Wl,-Bsymbolic-functions", *libraries]
        _run([*argv, "-o", f"{module}.so"], source)
        with open(f"{module}.so", "rb") as file:
            content = file.read()
        entry = {
            "home": home,
            "module": module,
            "library": f"{module}.so",
            "sha256": hashlib.sha256(content).hexdigest(),
            "build_id": ElfFile(content, f"{module}.so").build_id.hex(),
            "source": source,
            "files": line.files,
            "outside": _look_at_system(rule, line.files),
            "compiler": wanted["identity"],
            "functions": {
                name: {
                    "prototype": f.prototype,
                    "file": next((path for path in line.files if path.rpartition("/")[2] == f.file), source),
                    "line": f.line,
                    "reads_only": f.reads_only,
                }
                for name, f in header.functions.items()
            },
            "left_out": header.left_out,
            "statics": header.statics,
        }
        _write("entry.json.new", json.dumps(entry))
        os.replace("entry.json.new", "entry.json")
    except BaseException:
        if home and not os.path.exists(os.path.join(home, "entry.json")):
            os.chdir(directory)
            shutil.rmtree(home, ignore_errors=True)
        raise
    finally:
        for path in (unit, rule, os.path.join(home or directory, "wrapper.o")):
            if os.path.exists(path):
                os.unlink(path)
    _forget_old(directory, home)
    return entry


def _run(argv: list[str], source: str) -> None:
    """One step of ``hotreload cc``, which must come out hot."""
    command = parse(argv)
    reason = reason_to_leave(command.args)
    if reason:
        raise BuildError(f"{source}: it cannot be made patchable: {reason}", hint="leave that flag out", command=argv)
    try:
        steps.run_hot(command, lambda text: print(f"hotreload: {text}", file=sys.stderr))
    except steps.HotStepError as failure:
        what = "compile" if command.step == "compile" else "link"
        hint = "correct it; the compiler's own words are above"
        if "Python.h" in str(failure) and command.sources == [source]:
            hint = "a stub is called without the GIL and needs no Python.h: for code that does, build an extension"
        elif "Python.h" in str(failure):
            hint = "install the headers of this Python, as python3-dev"
        raise BuildError(
            f"{source} does not {what}\n{failure}".rstrip(), hint=hint, diagnostics=str(failure), command=argv
        ) from None
    except OSError as error:
        raise BuildError(
            f"{source}: {argv[0]} cannot be run: {error.strerror}", hint="install gcc, or set CC"
        ) from None


def _wrap(elf: ElfFile, module: str, source: str, command: list[str]) -> Header:
    """Compiles what cffi writes; a function that nothing can be made for is left out, and the others are served."""
    header = read_header(elf)
    _check_any(source, header)
    try:
        _compile_wrapper(module, header, source, command)
    except BuildError as error:
        left_out = {**header.left_out, **_what_breaks(elf, header, module, command)}
        if left_out == header.left_out:
            raise
        header = read_header(elf, [name for name in header.functions if name not in left_out], left_out)
        if not header.functions:
            raise error from None
        _compile_wrapper(module, header, source, command)
    return header


def _what_breaks(elf: ElfFile, header: Header, module: str, command: list[str]) -> dict[str, str]:
    """The functions for which not even alone something can be made, and the first line of why."""
    found = {}
    for name in header.functions:
        try:
            _compile_wrapper(module, read_header(elf, [name]), name, [*command, "-fsyntax-only"])
        except BuildError as error:
            lines = str(error.diagnostics or error.message).splitlines()
            found[name] = next((line for line in lines if "error:" in line), lines[-1])
    return found


def _compile_wrapper(module: str, header: Header, source: str, command: list[str]) -> None:
    _write(f"{module}_wrapper.c", _wrapper(module, header))
    if "-fsyntax-only" not in command:
        _run(command, source)
        return
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    if done.returncode:
        raise BuildError(f"{source} does not compile", diagnostics=done.stderr)


def _wrapper(module: str, header: Header) -> str:
    """What cffi writes for these prototypes.

    Raises:
        BuildError: it does not understand them.
    """
    import cffi

    ffi = cffi.FFI()
    path = f"{module}_wrapper.tmp.c"
    try:
        ffi.cdef(header.cdef)
        ffi.set_source(module, header.preamble)
        with contextlib.redirect_stdout(io.StringIO()):  # it says that it writes
            ffi.emit_c_code(path)
    except Exception as error:
        raise BuildError(
            f"cffi does not understand the prototypes of {module}: {error}",
            hint="this is a fault of hotreload, please report it with the C file",
        ) from error
    with open(path, encoding="utf-8") as file:
        text = file.read()
    os.unlink(path)
    return text


def _look_at_system(rule: str, files: dict[str, str]) -> dict[str, list[Any]]:
    """Size, time and hash of each header that is not the project's: which package it is of may be another tomorrow."""
    with open(rule, encoding="utf-8", errors="surrogateescape") as file:
        names = [os.path.abspath(name) for name in depfile.parse(file.read())]
    found: dict[str, list[Any]] = {}
    for path in dict.fromkeys(names):
        if path not in files:
            with open(path, "rb") as header:
                look, text = os.fstat(header.fileno()), header.read()
            found[path] = [look.st_size, look.st_mtime_ns, hashlib.sha256(text).hexdigest()]
    return found


def _check_any(source: str, header: Header) -> None:
    if header.functions:
        return
    told = "; ".join(f"`{name}`: {reason}" for name, reason in header.left_out.items())
    raise BuildError(
        f"{source} has no function that can be called from Python" + (f" ({told})" if told else ""),
        hint="a function that is static is for its own file: remove the word" if header.statics else "write one",
    )


def _write(path: str, text: str) -> None:
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)


def _forget_old(directory: str, kept: str) -> None:
    """Removes what was made for other texts and headers and not used for as long as the store keeps a build."""
    until = time.time() - store.KEPT_DAYS * DAY
    for entry in os.scandir(directory):
        if entry.is_dir() and entry.path != kept and _used(entry.path) < until:
            shutil.rmtree(entry.path, ignore_errors=True)
    for entry in os.scandir(os.path.dirname(directory)):
        if entry.path == directory or not entry.is_dir() or max(map(_used, _inside(entry.path)), default=0) >= until:
            continue
        with contextlib.suppress(OSError), open(os.path.join(entry.path, "lock"), "a", encoding="ascii") as lock:
            if os.fstat(lock.fileno()).st_mtime < until:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # else it is being made
                shutil.rmtree(entry.path, ignore_errors=True)


def _inside(directory: str) -> list[str]:
    return [entry.path for entry in os.scandir(directory) if entry.is_dir()]


def _used(home: str) -> float:
    """When an extension was loaded last; 0 where none was finished."""
    known = os.path.join(home, "entry.json")
    return os.stat(known).st_mtime if os.path.exists(known) else 0.0
