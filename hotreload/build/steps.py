"""The two steps of a hot build: a source to an object that remembers its making, and objects to a finished library."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from typing import Union

from hotreload.build import command as commands
from hotreload.build import depfile, store
from hotreload.build.command import Command
from hotreload.build.finish import note_start
from hotreload.build.flags import hot_compile_args, hot_link_args
from hotreload.build.looks import look_at
from hotreload.build.prologue import prepare_object
from hotreload.build.record import MEANINGFUL_ENVIRONMENT, UNIT_SECTION, Unit, unit_line
from hotreload.elf.edit import Editor
from hotreload.elf.file import SHN_UNDEF, STT_FUNC, ElfFile
from hotreload.errors import BuildError

__all__ = ["HotStepError", "run_hot", "spawn"]

Say = Callable[[str], None]

TRIES = 3
CLOCK_STEP_NS = 20_000_000  # the kernel stamps files with a clock that moves in steps


class HotStepError(Exception):
    """A hot compiler or linker exited non-zero; the plain command decides what that means."""


def run_hot(command: Command, say: Say) -> None:
    """Run a compile or link step hot.

    Raises:
        HotStepError: the compiler said no; nothing of what it printed was shown.
        BuildError, OSError: the step cannot be made hot; there may be a plain output by now.
    """
    if command.step == commands.COMPILE:
        for source in command.sources:
            _compile(command, source, command.object_for(source), say)
    elif command.step == commands.LINK:
        _link(command, command.args, say)
    else:
        _compile_and_link(command, say)


def spawn(argv: list[str]) -> int:
    """Run a command to its end; its exit code, or minus the signal that ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(os.posix_spawnp(argv[0], argv, os.environ), 0)[1])


def _compile(command: Command, source: str, output: str, say: Say) -> None:
    """Compile one source hot; the object at ``output`` then carries its unit line."""
    args = [arg for arg in command.args if arg not in command.sources and arg not in command.objects]
    if command.step == commands.COMPILE_AND_LINK:
        args = ["-c", *commands.without_link_args(args), *_rule_about_library(command), "-o", output]
    elif not command.output:
        args = [*args, "-o", output]
    hot, dropped = hot_compile_args(command.compiler, args)
    dependencies, depfile_args = _depfile(args, output)
    argv = [*command.compiler, *hot, source]
    note_start(source)
    try:
        files = _compile_settled([*argv, *depfile_args], source, dependencies)
    finally:
        if depfile_args:
            _remove(dependencies)
    _say_dropped(source, dropped, say)
    directory = os.getcwd()
    elf = ElfFile.read(output)
    editor = Editor(elf)
    prepare_object(elf, editor)
    prepared = editor.to_bytes()
    unit = Unit(
        source=os.path.normpath(os.path.join(directory, source)),
        directory=directory,
        argv=argv,
        plain_argv=[*command.compiler, *args, source],
        environment={name: os.environ[name] for name in MEANINGFUL_ENVIRONMENT if name in os.environ},
        files={path: store.save_text(text) for path, text in files.items()},
        compiler=elf.compiler,
        object=store.save_object(prepared),
    )
    carrier = Editor(ElfFile(prepared, output))
    carrier.add(UNIT_SECTION, unit_line(unit))
    with open(output, "wb") as target:
        target.write(carrier.to_bytes())


def _compile_settled(argv: list[str], source: str, dependencies: str) -> dict[str, bytes]:
    """Run a compilation; the texts of the project's files that it read.

    A file that is saved meanwhile would be remembered with a text that is not in the object: then it is done again.
    """
    before = {os.path.abspath(source): look_at(source)}
    for _ in range(TRIES):
        started = time.time_ns() - CLOCK_STEP_NS
        _run(argv)
        with open(dependencies, encoding="utf-8", errors="surrogateescape") as file:
            names = depfile.project_files(depfile.parse(file.read()), os.getcwd())
        texts = {path: _read(path) for path in names}
        after = {path: look_at(path) for path in names}
        if all(
            before[path] == look if path in before else os.stat(path).st_mtime_ns < started
            for path, look in after.items()
        ):
            return texts
        before = after
    raise BuildError(f"{source}: its files are saved faster than they can be compiled", hint="build again")


def _link(command: Command, args: list[str], say: Say) -> None:
    """Link to a temporary name beside the output, finish it there, and rename it into place."""
    from hotreload.build.finish import finish_library

    prologue = _prologue()
    output = command.output or "a.out"
    hot, dropped = hot_link_args(commands.without_output(args))
    temporary = f"{output}.{os.getpid()}.hot"
    try:
        argv = [*command.compiler, *hot, "-o", temporary]
        if prologue == "slot":
            _link_with_slots(argv, command.objects, temporary)
        else:
            _run(argv)
        _say_dropped(output, dropped, say)
        finish_library(temporary, output, [*command.compiler, *hot], prologue)
        os.replace(temporary, output)
    finally:
        _remove(temporary)


def _prologue() -> str:
    """How this library is to be redirected; what reads the configuration is imported where it may say so.

    That costs as much as all else that is imported for a link. ``hotreload build`` has it in the environment, and most
    projects do not mention it. Raises ConfigError: there is no such prologue.
    """
    given = os.environ.get("HOTRELOAD_PROLOGUE", "")
    if given in ("jump", "slot") or (not given and not _mentions_prologue(os.getcwd())):
        return given or "jump"
    from hotreload.config import load_prologue

    return load_prologue()


def _mentions_prologue(directory: str) -> bool:
    """Whether the nearest ``pyproject.toml`` has the word; one that cannot be read has an error to be told."""
    while True:
        try:
            with open(os.path.join(directory, "pyproject.toml"), "rb") as file:
                return b"prologue" in file.read()
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
            if directory == os.path.dirname(directory):
                return False
            directory = os.path.dirname(directory)
        except OSError:
            return True


def _link_with_slots(argv: list[str], objects: list[str], temporary: str) -> None:
    """Link with a slot for each hot function.

    How many there are is what the linker decides: archives, COMDAT and ``--gc-sections`` have a say. The objects on
    the command line give a first number; where it was too small, the link is done again with the true one.
    """
    from hotreload.build import slots
    from hotreload.build.finish import count_hooks

    path = f"{temporary}.slots.o"
    room, needed = 0, sum(_count_functions(name) for name in objects)
    try:
        while True:
            if needed:
                with open(path, "wb") as file:
                    file.write(slots.make_object(needed))
            _run([*argv, *([path, *slots.KEPT_BY] if needed else [])])
            room, needed = needed, count_hooks(temporary)
            if needed <= room:
                return
    finally:
        _remove(path)


def _count_functions(path: str) -> int:
    """How many functions an object brings that was compiled hot; 0 for what is none."""
    try:
        elf = ElfFile.read(path)
        is_hot = elf.section(UNIT_SECTION) is not None
        return sum(s.type == STT_FUNC and s.section != SHN_UNDEF for s in elf.symbols) if is_hot else 0
    except (BuildError, OSError):
        return 0


def _compile_and_link(command: Command, say: Say) -> None:
    """``gcc -shared a.c b.c -o m.so``: an object for each source beside the output, then the link."""
    stem = f"{command.output or 'a.out'}.{os.getpid()}"
    objects = {source: f"{stem}.{i}.o" for i, source in enumerate(command.sources)}
    try:
        for source, path in objects.items():
            _compile(command, source, path, say)
        linked = command._replace(objects=[*objects.values(), *command.objects])
        _link(linked, [objects.get(arg, arg) for arg in command.args], say)
    finally:
        for path in objects.values():
            _remove(path)


def _run(argv: list[str]) -> None:
    """Run a hot step; what it prints is passed on only if it succeeds."""
    colours = ["-fdiagnostics-color=always"] if sys.stderr.isatty() else []
    reading, writing = os.pipe()
    try:
        to_pipe = [(os.POSIX_SPAWN_DUP2, writing, 2)]
        child = os.posix_spawnp(argv[0], [*argv, *colours], os.environ, file_actions=to_pipe)
    except OSError:
        os.close(reading)
        raise
    finally:
        os.close(writing)
    with open(reading, "rb") as pipe:
        printed = pipe.read()
    if os.waitpid(child, 0)[1]:
        raise HotStepError(printed.decode(errors="replace"))
    sys.stderr.buffer.write(printed)
    sys.stderr.buffer.flush()


def _rule_about_library(command: Command) -> list[str]:
    """What makes the rule of a compilation say what it would say of compiling and linking in one."""
    if not {"-MD", "-MMD"} & set(command.args):
        return []
    output = command.output or "a.out"
    has_target = any(arg.startswith(("-MT", "-MQ")) for arg in command.args)
    has_file = any(arg.startswith("-MF") for arg in command.args)
    file = ["-MF", os.path.splitext(output)[0] + ".d"]
    return [*([] if has_target else ["-MT", output]), *([] if has_file else file)]


def _depfile(args: list[str], output: str) -> tuple[str, list[str]]:
    """Where the make rule will be, and the arguments that ask for it where the build does not."""
    wanted = _wanted_depfile(args, output)
    if wanted is not None:
        return wanted, []
    path = f"{output}.{os.getpid()}.d"
    return path, ["-MD", "-MF", path]


def _wanted_depfile(args: list[str], output: str) -> Union[str, None]:
    """The make rule that the build asks for; None if it asks for none."""
    for arg in args:
        if arg.startswith(("-Wp,-MD,", "-Wp,-MMD,")):
            return arg.split(",")[2]
    if not {"-MD", "-MMD"} & set(args):
        return None
    for i, arg in enumerate(args):
        if arg.startswith("-MF"):
            return arg[3:] or args[i + 1]
    return os.path.splitext(output)[0] + ".d"


def _read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def _remove(path: str) -> None:
    if os.path.exists(path):
        os.unlink(path)


def _say_dropped(name: str, dropped: list[str], say: Say) -> None:
    if dropped:
        say(f"{name}: {' '.join(dropped)} dropped: it would make code unpatchable")
