"""A compiler's command line, read as far as a wrapper must understand it.

Only three questions are asked: what kind of step is this, which arguments are inputs, where does the output go.
Whatever is not understood stays as it is, at its place.
"""

from __future__ import annotations

import os
import shlex
from typing import NamedTuple

__all__ = [
    "COMPILE",
    "COMPILE_AND_LINK",
    "LINK",
    "OTHER",
    "Command",
    "parse",
    "without_link_args",
    "without_output",
]

COMPILE = "compile"  # sources to objects
LINK = "link"  # objects to a shared library
COMPILE_AND_LINK = "compile and link"  # both in one command
OTHER = "other"  # anything that is none of our business: run as it is

SOURCE_SUFFIXES = {".c", ".cc", ".cp", ".cxx", ".cpp", ".CPP", ".c++", ".C", ".i", ".ii"}

# Options whose value is the next argument (GCC manual, "Option Summary"; clang takes the same ones).
TAKES_VALUE = {
    *("-o", "-I", "-D", "-U", "-L", "-l", "-T", "-u", "-z", "-x", "-e", "-h", "-B", "-A"),
    *("-include", "-imacros", "-isystem", "-iquote", "-idirafter", "-iprefix", "-iwithprefix"),
    *("-iwithprefixbefore", "-isysroot", "--sysroot", "-Xlinker", "-Xassembler", "-Xpreprocessor", "-Xclang"),
    *("-MF", "-MT", "-MQ", "--param", "-aux-info", "-specs", "-wrapper", "-dumpbase", "-dumpdir", "-target"),
    *("-mllvm", "-arch", "-gcc-toolchain", "-soname", "-rpath"),
}

# With one of these no object comes out.
NO_OBJECT = {"-E", "-S", "-M", "-MM", "-fsyntax-only", "-###", "--help", "--version", "-v", "-"}


class Command(NamedTuple):
    """A command, with what :func:`parse` found in it.

    ``argv`` is the command as it was given; ``args`` are its arguments, those in response files among them.
    ``sources`` and ``objects`` are the inputs as they are spelled; ``output`` is the argument of ``-o``, or
    what the compiler would choose.
    """

    argv: list[str]
    compiler: list[str]
    args: list[str]
    step: str
    sources: list[str]
    objects: list[str]
    output: str

    def object_for(self, source: str) -> str:
        """Where ``-c`` puts the object of ``source``."""
        return self.output or os.path.splitext(os.path.basename(source))[0] + ".o"


def parse(argv: list[str]) -> Command:
    """Read ``argv``, whose first words are the compiler (``gcc``, or ``ccache gcc``, or ``gcc -pthread``)."""
    words = 2 if len(argv) > 1 and os.path.basename(argv[0]) in ("ccache", "distcc", "sccache") else 1
    compiler, args = argv[:words], expand_response_files(argv[words:])
    sources: list[str] = []
    objects: list[str] = []
    output = ""
    seen: set[str] = set()
    position = 0
    while position < len(args):
        arg = args[position]
        position += 1
        if arg in TAKES_VALUE:
            value = args[position] if position < len(args) else ""
            position += 1
            if arg == "-o":
                output = value
            elif arg == "-x":
                seen.add(f"-x{value}")
        elif arg.startswith("-o") and len(arg) > 2 and not arg.startswith("-object"):
            output = arg[2:]
        elif (arg.startswith("-") and arg != "-") or arg == "-":
            seen.add(arg)
        elif os.path.splitext(arg)[1] in SOURCE_SUFFIXES:
            sources.append(arg)
        else:
            objects.append(arg)
    return Command(argv, compiler, args, _step(seen, sources, objects), sources, objects, output)


def _step(seen: set[str], sources: list[str], objects: list[str]) -> str:
    no_object = seen & NO_OBJECT or any(arg.startswith(("-print-", "-dump", "--print", "-x")) for arg in seen)
    if no_object or not (sources or objects):
        return OTHER
    if "-c" in seen:
        return COMPILE if sources else OTHER
    if "-shared" not in seen and "--shared" not in seen:
        return OTHER
    return COMPILE_AND_LINK if sources else LINK


def without_output(args: list[str]) -> list[str]:
    """``args`` without ``-o`` and its value."""
    return _without(args, ("-o",), exact=())


def without_link_args(args: list[str]) -> list[str]:
    """``args`` without the output and without what only the linker reads: clang warns of that when it compiles."""
    return _without(args, ("-o", "-l", "-L", "-Xlinker", "-Wl,"), exact=("-shared", "--shared", "-rdynamic"))


def _without(args: list[str], prefixes: tuple[str, ...], exact: tuple[str, ...]) -> list[str]:
    kept: list[str] = []
    words = iter(args)
    for arg in words:
        if arg in prefixes:
            next(words, None)
        elif arg in TAKES_VALUE:
            kept += [arg, next(words, "")]
        elif not arg.startswith(prefixes) and arg not in exact:
            kept.append(arg)
    return kept


def expand_response_files(args: list[str]) -> list[str]:
    """``args`` with each ``@file`` replaced by the words in that file, as GCC does it."""
    expanded: list[str] = []
    for arg in args:
        if arg.startswith("@") and os.path.isfile(arg[1:]):
            with open(arg[1:], encoding="utf-8", errors="surrogateescape") as file:
                expanded += expand_response_files(shlex.split(file.read()))
        else:
            expanded.append(arg)
    return expanded
