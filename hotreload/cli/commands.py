"""From a command line to an exit code: one parser is built, what carries the command out is imported, errors are told.

What goes wrong is told in one way for all commands: on stderr, as a panel on a terminal and as plain lines in a pipe,
or as JSON on stdout where that was asked for.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace

from hotreload.cli.arguments import check_allow, flags_of
from hotreload.cli.tree import COMMANDS, Command, Parser, UsageError, make_parser, top_parser
from hotreload.config import ConfigError, load_config, load_settings, nearest
from hotreload.errors import HotReloadError

__all__ = ["carry_out", "compile_with", "complain", "run_command", "run_program"]

_USAGE, _REFUSED, _PARTLY, _INTERNAL = 2, 4, 5, 70
#: What a shell says of a program that SIGPIPE ended: what it would have told is not known, so it is not "done".
_NOBODY_READS = 128 + 13
_JSON = "--json"


def run_command(arguments: Sequence[str]) -> int:
    """Runs one command, or says what there is.

    Raises:
        SystemExit: the command line is wrong (2), or help was asked for (0).
    """
    words = list(arguments)
    _open_streams()
    if words and words[0] in COMMANDS:
        command = COMMANDS[words[0]]
        try:
            options = parse(command, words[1:])
        except UsageError as error:
            complain(error, _USAGE, as_json=True)
            return _USAGE
        return carry_out(command, options)
    if words and not words[0].startswith("-"):
        unknown = UsageError(f"no command {words[0]!r}", hint=nearest(words[0], COMMANDS))
        complain(unknown, _USAGE, as_json=_JSON in words)
        return _USAGE
    parser = top_parser()
    parser.parse_args(words)
    parser.print_help()
    return 0


def parse(command: Command, words: Sequence[str]) -> argparse.Namespace:
    """The options of one command; ``rest`` is what belongs to another program. Raises SystemExit, or UsageError."""
    parser = make_parser(command)
    own, rest = _split(command, parser, words)
    parser.answers_json = _JSON in own and _JSON in parser._option_string_actions  # noqa: SLF001 - argparse has no other way
    options = parser.parse_args(own)
    options.rest = rest
    return options


def carry_out(command: Command, options: argparse.Namespace) -> int:
    """Runs it; what it raises is told here, and becomes the exit code."""
    as_json = bool(getattr(options, "json", False))
    try:
        code = command.load()(options)
        sys.stdout.flush()
    except BrokenPipeError:  # `hotreload log | head`: nobody reads any more, and that is all
        _stop_telling()
        return _NOBODY_READS
    except HotReloadError as error:
        is_usage = isinstance(error, ConfigError) or _REFUSED not in command.exits
        code = _USAGE if is_usage else _REFUSED
        complain(error, code, as_json=as_json)
    except KeyboardInterrupt:
        code = _PARTLY if _PARTLY in command.exits else 128 + 2
        after = "`hotreload status` shows what is live" if code == _PARTLY else ""
        complain(HotReloadError("interrupted", hint=after), code, as_json=as_json, outcome="interrupted")
    except Exception as error:  # noqa: BLE001 - whatever it is, the operator is told what to look at
        code = _INTERNAL
        internal = HotReloadError(f"internal error: {type(error).__name__}: {error}")
        complain(internal, code, as_json=as_json, outcome="internal_error")
    return code


def complain(error: HotReloadError, code: int = _REFUSED, *, as_json: bool = False, outcome: str = "refused") -> None:
    """Tells what went wrong, once, where the person or the program looks; never raises."""
    if as_json:
        told = {"ok": False, "exit": int(code), "outcome": outcome, **error.as_dict()}
        with suppress(OSError):
            print(json.dumps(told, indent=2, default=str), flush=True)
        return
    from hotreload.panels import tell

    with suppress(OSError):
        sys.stdout.flush()
    tell(error)


# The commands that need no file of their own --------------------------------------------------------------------------


def run_program(options: argparse.Namespace) -> int:
    """``hotreload run``: becomes the program.

    Raises:
        HotReloadError: the configuration is wrong, or the program cannot be started. Nothing was started.
    """
    if not options.rest:
        options.usage_error("nothing to run")
    flags = flags_of(options)
    if flags["ui_port"] is not None:
        flags["ui"] = True
    config = load_config(flags=flags)
    if config.allow:
        check_allow(load_settings(flags=flags))  # now, not when the first edit is refused
    if config.log_file:
        config = replace(config, log_file=_writable(config.log_file))
    from hotreload.run.launcher import launch

    launch(options.rest, config)


def _writable(path: str) -> str:
    """The whole path of a file that can be written; the program may go elsewhere. Raises ConfigError."""
    try:
        with open(path, "a", encoding="utf-8"):
            return os.path.abspath(path)
    except OSError as error:
        raise ConfigError(
            f"cannot write {path}: {error.strerror}", hint="choose another place with --log-file"
        ) from None


def compile_with(options: argparse.Namespace) -> int:
    """``hotreload cc``; :func:`hotreload.cli.main` does it without coming here."""
    from hotreload.build.cc import main

    return main(options.rest)


def _split(command: Command, parser: Parser, words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Our options, and what belongs to another program: from its first word, ``-m`` or ``--`` on."""
    if command.hands_on:
        return split_program(parser, words)
    if command.name == "build" and "--" in words:
        index = list(words).index("--")
        return list(words[:index]), list(words[index + 1 :])
    return list(words), []


def split_program(parser: Parser, words: Sequence[str]) -> tuple[list[str], list[str]]:
    """The same for a command that hands on all that follows its own options."""
    with_value = {
        option
        for action in parser._actions  # noqa: SLF001 - argparse has no other way
        if action.nargs is None
        for option in action.option_strings
    }
    index = 0
    while index < len(words) and words[index].startswith("-") and words[index] not in ("-m", "--"):
        index += 2 if words[index] in with_value else 1
    return list(words[:index]), list(words[index:])


def _stop_telling() -> None:
    """Nobody reads stdout any more: what it still holds goes nowhere."""
    nowhere = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def _open_streams() -> None:
    """Where a stream is closed what it is told goes nowhere; where a terminal has no letter for it, it is spelt out."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 - until this process ends
        elif isinstance(stream, io.TextIOWrapper) and stream.errors != "backslashreplace":
            stream.reconfigure(errors="backslashreplace")
