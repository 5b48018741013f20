"""The patch link: ``ld`` makes a real shared library of the reduced objects.

``ld`` is called itself, not through the compiler: 2 ms instead of 9 to 18. ``--no-relax`` keeps every GOT load
one, and every offset in the object true in the library; ``--gc-sections`` drops what no replaced function reaches.
"""

from __future__ import annotations

import os
import subprocess
from functools import cache
from typing import NamedTuple

from hotreload.build.command import parse
from hotreload.build.record import Record
from hotreload.build.slots import make_empty_object
from hotreload.errors import BuildError
from hotreload.patch.linktable import PAGE

__all__ = ["SLOTS", "link_patch", "make_slots"]

SLOTS = "hr.slots"  # the symbol of the slots of new functions
VERSION_SCRIPT = "{ global: hr.*; local: *; };\n"


class Toolchain(NamedTuple):
    """The linker and the two files of the compiler that a link without its driver needs."""

    ld: str
    libgcc: str
    crtend: str  # ends .eh_frame with the zero word that __register_frame looks for


@cache
def toolchain(compiler: tuple[str, ...]) -> Toolchain:
    """Ask the compiler where its tools are."""

    def ask(question: str) -> str:
        try:
            done = subprocess.run([*compiler, question], capture_output=True, text=True, check=True)
        except (OSError, subprocess.CalledProcessError) as error:
            raise BuildError(f"cannot run {' '.join(compiler)} {question}: {error}") from error
        return done.stdout.strip()

    ld = ask("-print-prog-name=ld.bfd")
    if os.sep not in ld:
        ld = ask("-print-prog-name=ld")
    return Toolchain(ld, ask("-print-libgcc-file-name"), ask("-print-file-name=crtendS.o"))


def link_patch(inputs: list[str], output: str, record: Record, compiler: tuple[str, ...], script: str) -> None:
    """Link the reduced objects at ``inputs`` to ``output``; ``script`` is where the version script may be put.

    Raises:
        BuildError: with what the linker printed; there is no output then.
    """
    tools = toolchain(compiler)
    with open(script, "w", encoding="ascii") as file:
        file.write(VERSION_SCRIPT)
    argv = [
        *(tools.ld, "-shared", "--no-relax", "--gc-sections", "--build-id=sha1", "--hash-style=gnu", "--eh-frame-hdr"),
        *("-z", "noseparate-code", "-z", f"max-page-size={PAGE}", "-z", "relro", "-z", "now", "-z", "noexecstack"),
        *("--version-script", script, "-o", output, *inputs),
        *("--as-needed", *_libraries(record), "-L", os.path.dirname(tools.libgcc), "--no-as-needed"),
        *(tools.libgcc, tools.crtend),
    ]
    done = subprocess.run(argv, capture_output=True, text=True, cwd=record.directory, check=False)
    if done.returncode:
        raise BuildError("the patch could not be linked", diagnostics=done.stderr, command=argv)


def make_slots(count: int) -> bytes:
    """An object with slots for ``count`` new functions; the link table says what they hold."""
    return make_empty_object(count, SLOTS)


def _libraries(record: Record) -> list[str]:
    """The libraries, and where to look for them, of the base's own link; also those that the driver adds by itself."""
    found: list[str] = []
    args = iter(record.link_argv)
    for arg in args:
        if arg in ("-L", "-l"):
            found += [arg, next(args, "")]
        elif arg.startswith(("-L", "-l")) or (arg.endswith(".so") and not arg.startswith("-")):
            found.append(arg)
    is_cxx = "++" in os.path.basename(parse(record.link_argv).compiler[-1])
    return [*found, *(("-lstdc++", "-lm") if is_cxx else ()), "-lgcc_s"]
