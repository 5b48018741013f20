"""``hotreload cc COMPILER ARGS...``: a compiler wrapper in the manner of ccache.

    compile   hot flags ─▶ compiler ─▶ raise alignment ─▶ keep object and texts ─▶ a line about it in the object
    link      compiler, to a temporary name ─▶ finish prologues ─▶ record ─▶ keep base ─▶ rename
    other     the compiler, in this process's place

If a hot step fails, the plain command is run in this process's place: it fails as it would have without us, or
it succeeds and the file is left unpatchable, which is said. What is left unpatchable is never wrongly patchable:
its functions have no prologue.

This file starts for every call of the compiler, so it imports little; ``steps.py`` has the hot steps.
"""

from __future__ import annotations

import os
import sys
from typing import NoReturn

from hotreload.build import command as commands
from hotreload.build.command import Command
from hotreload.build.flags import reason_to_leave
from hotreload.errors import BuildError, HotReloadError

__all__ = ["main"]

INTERRUPTED = 130
USAGE_ERROR = 2


def main(argv: list[str]) -> int:
    """Run ``argv`` (compiler and arguments) hot where that is possible; the exit code is the compiler's."""
    if not argv:
        print("usage: hotreload cc COMPILER [ARGS...]", file=sys.stderr)
        return 2
    command = commands.parse(argv)
    if command.step == commands.OTHER or _is_device(command.output):
        run_plain(command)
    reason = reason_to_leave(command.args)
    if reason:
        say(f"{_subject(command)}: left unpatchable: {reason}")
        run_plain(command)

    from hotreload.build import steps

    try:
        steps.run_hot(command, say)
    except steps.HotStepError as failure:
        return _run_plain_and_compare(command, str(failure))
    except (BuildError, OSError) as error:
        say(f"{_subject(command)}: left unpatchable: {error}")
        run_plain(command)
    except HotReloadError as error:  # the configuration is wrong: nothing would be as the person wants it
        say(f"{_subject(command)}: {error}")
        return USAGE_ERROR
    except KeyboardInterrupt:
        return INTERRUPTED
    except Exception:  # noqa: BLE001 - a defect of ours must not break somebody's build; it is shown whole
        import traceback

        say(f"{_subject(command)}: left unpatchable by a defect in hotreload:\n{traceback.format_exc()}")
        run_plain(command)
    return 0


def run_plain(command: Command) -> NoReturn:
    """Become the compiler."""
    try:
        os.execvp(command.compiler[0], command.argv)  # noqa: S606 - no shell is the point
    except OSError as error:
        say(f"cannot run {command.compiler[0]}: {error.strerror}")
        raise SystemExit(127) from error


def say(text: str) -> None:
    """One line to whoever reads the build's output."""
    print(f"hotreload cc: {text}", file=sys.stderr)


def _run_plain_and_compare(command: Command, diagnostics: str) -> int:
    """Run the plain command; where it succeeds, the hot flags were at fault, and that is said."""
    from hotreload.build import steps

    code = steps.spawn(command.argv)
    if code == 0:
        first = diagnostics.strip().split("\n", 1)[0]
        say(f"{_subject(command)}: left unpatchable: with the hot flags: {first}")
    return code if code >= 0 else 128 - code


def _is_device(output: str) -> bool:
    """Whether the output is something like /dev/null, as in a configure script's probe: nothing to keep."""
    return os.path.exists(output) and not os.path.isfile(output)


def _subject(command: Command) -> str:
    return " ".join(command.sources) or command.output or "a.out"
