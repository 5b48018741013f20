"""``hotreload cc COMPILER ARGS...``: a compiler wrapper in the manner of ccache.

    compile   hot flags ─▶ compiler ─▶ raise alignment ─▶ keep object and texts ─▶ a line about it in the object
    link      compiler, to a temporary name ─▶ finish prologues ─▶ record ─▶ keep base ─▶ rename
    other     the compiler, in this process's place

If a hot step fails, the plain command is run in this process's place: it fails as it would have without us, or
it succeeds and the file is left unpatchable, which is said. What is left unpatchable is never wrongly patchable:
its functions have no prologue.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import traceback
from typing import NoReturn

from hotreload.build import command as commands
from hotreload.build import depfile, store
from hotreload.build.command import Command
from hotreload.build.finish import finish_library
from hotreload.build.flags import hot_compile_args, hot_link_args, reason_to_leave
from hotreload.build.prologue import prepare_object
from hotreload.build.record import MEANINGFUL_ENVIRONMENT, UNIT_SECTION, Unit, unit_line
from hotreload.elf.edit import Editor
from hotreload.elf.file import ElfFile
from hotreload.errors import BuildError

__all__ = ["main"]


class HotStepError(Exception):
    """A hot compiler or linker exited non-zero; the plain command decides what that means."""


def main(argv: list[str]) -> int:
    """Run ``argv`` (compiler and arguments) hot where that is possible; the exit code is the compiler's."""
    if not argv:
        print("usage: hotreload cc COMPILER [ARGS...]", file=sys.stderr)
        return 2
    command = commands.parse(argv)
    reason = reason_to_leave(commands.expand_response_files(command.args))
    if command.step == commands.OTHER:
        run_plain(command)
    if reason:
        _say(f"{_subject(command)}: left unpatchable: {reason}")
        run_plain(command)
    try:
        if command.step == commands.COMPILE:
            for source in command.sources:
                _compile(command, source, command.object_for(source))
        elif command.step == commands.LINK:
            _link(command, command.args)
        else:
            _compile_and_link(command)
    except HotStepError as failure:
        _say_if_plain_succeeds(command, str(failure))
    except (BuildError, OSError) as error:
        _say(f"{_subject(command)}: left unpatchable: {error}")
        run_plain(command)
    except Exception:  # noqa: BLE001 - a defect of ours must not break somebody's build; it is shown whole
        _say(f"{_subject(command)}: left unpatchable by a defect in hotreload:\n{traceback.format_exc()}")
        run_plain(command)
    return 0


def run_plain(command: Command) -> NoReturn:
    """Become the compiler."""
    try:
        os.execvp(command.compiler[0], command.argv)  # noqa: S606 - no shell is the point
    except OSError as error:
        _say(f"cannot run {command.compiler[0]}: {error.strerror}")
        raise SystemExit(127) from error


def _say_if_plain_succeeds(command: Command, diagnostics: str) -> None:
    """Run the plain command; where it succeeds, the hot flags were at fault, and that is said."""
    code = subprocess.run(command.argv, check=False).returncode
    if code == 0:
        first = diagnostics.strip().split("\n", 1)[0]
        _say(f"{_subject(command)}: left unpatchable: with the hot flags: {first}")
    raise SystemExit(code if code >= 0 else 128 - code)


def _compile(command: Command, source: str, output: str) -> None:
    """Compile one source hot; the object at ``output`` then carries its unit line."""
    args = [arg for arg in command.args if arg not in command.sources and arg not in command.objects]
    hot, dropped = hot_compile_args(command.compiler, args)
    own_output = [] if command.output and command.step == commands.COMPILE else ["-o", output]
    dependencies, depfile_args = _depfile(args, output)
    argv = [*command.compiler, *hot, *own_output, source]
    if command.step == commands.COMPILE_AND_LINK:
        argv = [*command.compiler, *_without_output(hot), "-c", "-o", output, source]
    try:
        _run([*argv, *depfile_args])
        with open(dependencies, encoding="utf-8", errors="surrogateescape") as file:
            read = depfile.parse(file.read())
    finally:
        if depfile_args and os.path.exists(dependencies):
            os.unlink(dependencies)
    _note_dropped(source, dropped)
    directory = os.getcwd()
    elf = ElfFile.read(output)
    editor = Editor(elf)
    prepare_object(elf, editor)
    prepared = editor.to_bytes()
    unit = Unit(
        source=os.path.normpath(os.path.join(directory, source)),
        directory=directory,
        argv=argv,
        plain_argv=[*command.compiler, *args, "-c", source] if "-c" not in args else command.argv,
        environment={name: os.environ[name] for name in MEANINGFUL_ENVIRONMENT if name in os.environ},
        files={path: store.save_text(_read(path)) for path in depfile.project_files(read, directory)},
        compiler=elf.compiler,
        object=store.save_object(prepared),
    )
    carrier = Editor(ElfFile(prepared, output))
    carrier.add(UNIT_SECTION, unit_line(unit))
    with open(output, "wb") as target:
        target.write(carrier.to_bytes())


def _link(command: Command, args: list[str]) -> None:
    """Link to a temporary name beside the output, finish it there, and rename it into place."""
    output = command.output or "a.out"
    hot, dropped = hot_link_args(_without_output(args))
    temporary = f"{output}.{os.getpid()}.hot"
    try:
        _run([*command.compiler, *hot, "-o", temporary])
        _note_dropped(output, dropped)
        finish_library(temporary, output, [*command.compiler, *hot])
        os.replace(temporary, output)
    finally:
        if os.path.exists(temporary):
            os.unlink(temporary)


def _compile_and_link(command: Command) -> None:
    """``gcc -shared a.c b.c -o m.so``: an object for each source in a directory of its own, then the link."""
    directory = tempfile.mkdtemp(prefix="hotreload-")
    try:
        objects = {source: os.path.join(directory, f"{i}.o") for i, source in enumerate(command.sources)}
        for source, path in objects.items():
            _compile(command, source, path)
        _link(command, [objects.get(arg, arg) for arg in command.args])
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _run(argv: list[str]) -> None:
    """Run a hot step; what it prints is passed on only if it succeeds."""
    colours = ["-fdiagnostics-color=always"] if sys.stderr.isatty() else []
    done = subprocess.run([*argv, *colours], stderr=subprocess.PIPE, check=False)
    if done.returncode:
        raise HotStepError(done.stderr.decode(errors="replace"))
    sys.stderr.buffer.write(done.stderr)
    sys.stderr.buffer.flush()


def _depfile(args: list[str], output: str) -> tuple[str, list[str]]:
    """Where the make rule will be, and the arguments that ask for it where the build does not."""
    if "-MD" in args or "-MMD" in args:
        if "-MF" in args:
            return args[args.index("-MF") + 1], []
        return os.path.splitext(output)[0] + ".d", []
    path = f"{output}.{os.getpid()}.d"
    return path, ["-MD", "-MF", path]


def _without_output(args: list[str]) -> list[str]:
    kept: list[str] = []
    skip = False
    for arg in args:
        if skip or arg == "-o":
            skip = arg == "-o" and not skip
        elif not (arg.startswith("-o") and len(arg) > 2):
            kept.append(arg)
    return kept


def _read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def _note_dropped(name: str, dropped: list[str]) -> None:
    if dropped:
        _say(f"{name}: {' '.join(dropped)} dropped: it would make code unpatchable")


def _subject(command: Command) -> str:
    return " ".join(command.sources) or command.output or "a.out"


def _say(text: str) -> None:
    print(f"hotreload cc: {text}", file=sys.stderr)
