"""The command line: ``hotreload run``, ``hotreload build``, ``hotreload cc``.

``cc`` stands in front of every compiler call of a build, so it is dispatched before anything is imported; the others
are read by ``argparse`` as usual.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code.

    Args:
        argv: the arguments without the program's name; those of this process by default.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments[:1] == ["cc"]:
        from hotreload.build.cc import main as compile_with

        return compile_with(arguments[1:])
    from hotreload.cli.commands import run_command

    return run_command(arguments)
