"""The commands that are typed by people; each group has a file, which is imported when one of it is typed."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

import hotreload
from hotreload.config import LEVELS, LOG_FORMATS, POLICIES, load_config
from hotreload.errors import HotReloadError

__all__ = ["run_command"]

_RUN_USAGE = "hotreload run [OPTIONS] (SCRIPT | -m MODULE | -- COMMAND) [ARGS...]"
_BUILD_HELP = """Builds a project's extensions so that they can be patched. Without a command it is the
project's own build in place; any other runs with CC and CXX set. HOTRELOAD_PROLOGUE=slot, or
prologue = "slot" under [tool.hotreload], redirects through data; --json tells what was built."""
_BUILD_USAGE = "hotreload build [--json] [-- COMMAND...]"
_FLAGS_WITH_VALUE = frozenset({"--log-format", "--allow", "--level", "--settle", "--policy", "--ui-port"})
_USAGE_ERROR = 2
_ARTEFACT_COMMANDS = {
    "pack": "make a patch file of what the sources say now",
    "show": "print what a patch file would change",
    "sign": "sign a patch file",
    "verify": "check who signed a patch file",
}
_PUSH_COMMANDS = {
    "push": "make a change live in every running process, or in none",
    "status": "show what is live in each process",
    "rollback": "take a push back, in every process or in none",
    "transition": "show threads that are still in old code; take the push back, or force it",
    "log": "print the audit trail",
    "doctor": "say what this host and each process allow",
}


def run_command(arguments: Sequence[str]) -> int:
    """Runs one command, or says what there is."""
    command = arguments[0] if arguments else ""
    if command in _ARTEFACT_COMMANDS:
        from hotreload.cli.artefact_commands import run as run_artefact_command

        return run_artefact_command(command, arguments[1:])
    if command in _PUSH_COMMANDS:
        from hotreload.cli.push_commands import run as run_push_command

        return run_push_command(command, arguments[1:])
    try:
        if arguments[:1] == ["run"]:
            return _run(arguments[1:])
        if arguments[:1] == ["build"]:
            return _build(arguments[1:])
    except HotReloadError as error:
        os.write(2, f"hotreload: {error}\n".encode())
        return _USAGE_ERROR
    _top_parser().parse_args(arguments)
    _top_parser().print_help()
    return 0


def _top_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="hotreload", description="Makes edits to C extensions live while they run.")
    parser.add_argument("--version", action="version", version=f"hotreload {hotreload.__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    commands.add_parser("run", help="run a program with hot reload on", usage=_RUN_USAGE)
    commands.add_parser("build", help="build a project's extensions so that they can be patched", usage=_BUILD_USAGE)
    commands.add_parser("cc", help='compiler wrapper: CC="hotreload cc gcc"', usage="hotreload cc COMPILER [ARGS...]")
    for name, text in {**_ARTEFACT_COMMANDS, **_PUSH_COMMANDS}.items():
        commands.add_parser(name, help=text, usage=f"hotreload {name} [OPTIONS] ...")
    return parser


def _run(arguments: Sequence[str]) -> int:
    own, rest = _split_run(arguments)
    parser = argparse.ArgumentParser(
        prog="hotreload run",
        usage=_RUN_USAGE,
        description="Runs a program with hot reload on: a save of a C source of any extension that was built with "
        "`hotreload build` goes live in it.",
    )
    parser.add_argument("--log-format", choices=LOG_FORMATS, help="colours for a person, or JSON (default: auto)")
    parser.add_argument("--polling", action="store_true", default=None, help="look at files, for network file systems")
    parser.add_argument("--verbose", action="store_true", default=None, help="debug lines too")
    parser.add_argument("--allow", action="append", metavar="SLUG", help="a finding you know better about (repeat)")
    parser.add_argument("--level", choices=LEVELS, help="when a thread moves to new code (default: auto)")
    parser.add_argument("--settle", type=float, metavar="SECONDS", help="how long threads may take (default: 2)")
    parser.add_argument("--policy", choices=POLICIES, help="and then (default: force)")
    parser.add_argument("--ui", action="store_true", default=None, help="serve a page that shows what is live")
    parser.add_argument("--ui-port", type=int, metavar="PORT", help="where (default: any port that is free)")
    options = parser.parse_args(own)
    if not rest:
        parser.error("nothing to run")
    flags = {
        "log_format": options.log_format,
        "polling": options.polling,
        "verbose": options.verbose,
        "allow": options.allow,
        "level": options.level,
        "settle": options.settle,
        "settle_policy": options.policy,
        "ui": True if options.ui_port is not None else options.ui,
        "ui_port": options.ui_port,
    }
    config = load_config(flags=flags)
    from hotreload.diff.verdicts import check_allowed
    from hotreload.run.launcher import launch

    check_allowed(config.allow)  # now, not when the first edit is refused

    launch(rest, config)


def _split_run(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Our options, and from the script, ``-m`` or ``--`` on, what belongs to the program."""
    index = 0
    while index < len(arguments) and arguments[index].startswith("-") and arguments[index] not in ("-m", "--"):
        index += 2 if arguments[index] in _FLAGS_WITH_VALUE else 1
    return list(arguments[:index]), list(arguments[index:])


def _build(arguments: Sequence[str]) -> int:
    if arguments[:1] in (["-h"], ["--help"]):
        print(f"usage: {_BUILD_USAGE}\n\n{_BUILD_HELP}")
        return 0
    from hotreload.build.project import main as build_project

    sys.stdout.flush()
    return build_project(list(arguments))
