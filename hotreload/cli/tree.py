"""Every command, in one list: what it takes, what it says of itself, how it exits, and where it is carried out.

The help, the completion of shells, docs/commands.md and the dispatch are all made of :data:`COMMANDS`. A parser is
built without importing what carries the command out: that is named by a text, and imported when it is called.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import NamedTuple, NoReturn

from hotreload.cli import arguments as takes
from hotreload.config import ConfigError, nearest

__all__ = ["COMMANDS", "Command", "Parser", "UsageError", "make_parser", "top_parser"]

_USAGE = "the command line, or the configuration, is wrong"
_REFUSED = "refused: nothing was changed"
_SILENT = "partly: a process did not answer"
_INTERNAL = "an error of hotreload itself"
_PUSH_EXITS = {
    0: "done: the change is live in every process, where threads may still be finishing in old code; the last line "
    "says how many",
    2: _USAGE,
    3: "nothing to do: every process has it already",
    4: "refused: no process was changed",
    5: "partly: it was decided, and not every process has confirmed it yet; the table says which and what they will do",
    6: "reverted: with --policy revert, threads had not come over in time; it was taken back in every process",
    70: "an error of hotreload itself; `hotreload status` shows what is live",
}
_READ_EXITS = {0: "done", 2: _USAGE, 4: "refused: it cannot be read, or is not what it should be", 70: _INTERNAL}


class Command(NamedTuple):
    """One command. ``home`` is "module:function", which takes the options and returns the exit code."""

    name: str
    help: str
    description: str
    home: str
    exits: Mapping[int, str]
    add: Callable[[argparse.ArgumentParser], None]
    usage: str | None = None
    #: Whether what follows the first word that is no option belongs to another program.
    hands_on: bool = False

    def load(self) -> Callable[[argparse.Namespace], int]:
        """The function that carries it out; imports what that needs."""
        module, _, function = self.home.partition(":")
        found: Callable[[argparse.Namespace], int] = getattr(import_module(module), function)
        return found


_COMMANDS = (
    Command(
        "run",
        "run a program with hot reload on",
        "Runs a program with hot reload on: a save of a C source of any extension that was built with `hotreload "
        "build` goes live in it.",
        "hotreload.cli.commands:run_program",
        {0: "and any other: that of the program", 2: f"nothing was started: {_USAGE}, or there is no such program"},
        takes.add_run,
        "hotreload run [OPTIONS] (SCRIPT | -m MODULE | -- COMMAND) [ARGS...]",
        hands_on=True,
    ),
    Command(
        "build",
        "build a project's extensions so that they can be patched",
        "Builds a project's extensions so that they can be patched. Without a command it is the project's own build in "
        'place; any other runs with CC and CXX set. HOTRELOAD_PROLOGUE=slot, or prologue = "slot" under '
        "[tool.hotreload], redirects through data.",
        "hotreload.cli.build_command:build_project",
        {0: "and any other: that of the build", 2: f"nothing was built: {_USAGE}, or there is nothing to build"},
        takes.add_build,
        "hotreload build [--json] [-- COMMAND...]",
    ),
    Command(
        "cc",
        'compiler wrapper: CC="hotreload cc gcc"',
        "Compiles and links as the compiler would, so that each function can be redirected while the process runs.",
        "hotreload.cli.commands:compile_with",
        {0: "and any other: that of the compiler", 2: _USAGE},
        takes.add_cc,
        "hotreload cc COMPILER [ARGS...]",
        hands_on=True,
    ),
    Command(
        "config",
        "print what is set, and where",
        "Prints every option, its value and who says so: a flag, a variable, pyproject.toml, or the default. With the "
        "flags of `hotreload run` it says what would hold there.",
        "hotreload.cli.config_command:print_config",
        {0: "done", 2: _USAGE, 70: _INTERNAL},
        takes.add_config,
    ),
    Command(
        "explain",
        "print the page of a refusal",
        "Prints what a refusal or a status means, why it is so and what to do; without a name, what there is.",
        "hotreload.cli.explain_command:explain",
        {0: "done", 2: "there is no page of that name; the nearest is named", 70: _INTERNAL},
        takes.add_explain,
    ),
    Command(
        "completion",
        "print a script that completes commands in a shell",
        'Prints a script for a shell: eval "$(hotreload completion bash)", the same for zsh, and for fish '
        "`hotreload completion fish | source`.",
        "hotreload.cli.completion_command:print_completion",
        {0: "done", 2: _USAGE, 70: _INTERNAL},
        takes.add_completion,
    ),
    Command(
        "pack",
        "make a patch file of what the sources say now",
        "Makes an artefact of what a module's sources say now. The running code is not touched.",
        "hotreload.cli.artefact_commands:pack",
        {0: "done", 2: _USAGE, 3: "nothing to do: the sources mean what the base means", 4: _REFUSED, 70: _INTERNAL},
        takes.add_pack,
    ),
    Command(
        "show",
        "print what a patch file would change",
        "Prints what an artefact would change, for a reader; with --json for a program.",
        "hotreload.cli.artefact_commands:show",
        _READ_EXITS,
        takes.add_show,
    ),
    Command(
        "sign",
        "sign a patch file",
        "Signs an artefact with an Ed25519 key; an earlier signature is replaced.",
        "hotreload.cli.artefact_commands:sign",
        _READ_EXITS,
        takes.add_sign,
    ),
    Command(
        "verify",
        "check who signed a patch file",
        "Says whether one of the given keys signed exactly this artefact.",
        "hotreload.cli.artefact_commands:verify",
        _READ_EXITS,
        takes.add_verify,
    ),
    Command(
        "push",
        "make a change live in every running process, or in none",
        "Makes a change live in every process of an application, or in none.",
        "hotreload.cli.push_commands:push",
        _PUSH_EXITS,
        takes.add_push,
    ),
    Command(
        "status",
        "show what is live in each process",
        "Shows what is live in each process, since when and by whom, and where they differ.",
        "hotreload.cli.push_commands:status",
        {0: "done", 2: _USAGE, 4: "refused: no such application, or it cannot be read", 5: _SILENT, 70: _INTERNAL},
        takes.add_status,
    ),
    Command(
        "rollback",
        "take a push back, in every process or in none",
        "Takes the last push back, or goes to an earlier state, everywhere or nowhere.",
        "hotreload.cli.push_commands:rollback",
        _PUSH_EXITS,
        takes.add_rollback,
    ),
    Command(
        "transition",
        "show threads that are still in old code; take the push back, or force it",
        "Shows threads that have not come over to new code; takes it back, or ends it.",
        "hotreload.cli.transition_commands:transition",
        {**_PUSH_EXITS, 3: "nothing to do: no transition is open"},
        takes.add_transition,
    ),
    Command(
        "log",
        "print the audit trail",
        "Prints the audit trail: who pushed what, and what came of it.",
        "hotreload.cli.push_commands:log",
        {0: "done", 2: _USAGE, 4: "refused: no such application, or it cannot be read", 70: _INTERNAL},
        takes.add_log,
    ),
    Command(
        "doctor",
        "say what this host and each process allow",
        "Says what this host and each process allow. It changes nothing.",
        "hotreload.cli.push_commands:doctor",
        {
            0: "everything that a push needs is there",
            2: _USAGE,
            4: "something is missing: a line says no",
            70: _INTERNAL,
        },
        takes.add_doctor,
    ),
)
COMMANDS: Mapping[str, Command] = {command.name: command for command in _COMMANDS}


class UsageError(ConfigError):
    """The command line is wrong; nothing was done. Raised where JSON is asked for, in place of argparse's own lines."""


class Parser(argparse.ArgumentParser):
    """A parser whose message about a wrong word names the nearest one that there is, and whose help ends with exits.

    With ``answers_json`` what is wrong is raised as :class:`UsageError`: a program reads the answer.
    """

    exits: Mapping[int, str] = {}
    answers_json = False

    def format_help(self) -> str:
        self.epilog = _epilog(self.exits) or self.epilog
        return super().format_help()

    def error(self, message: str) -> NoReturn:
        told = _with_nearest(self, message)
        if self.answers_json:
            raise UsageError(told, hint=f"`{self.prog} --help` says what it takes")
        super().error(told)


def make_parser(command: Command) -> Parser:
    """The parser of one command, made without anything that carries it out."""
    parser = Parser(
        prog=f"hotreload {command.name}",
        usage=command.usage,
        description=command.description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.exits = command.exits
    command.add(parser)
    parser.set_defaults(usage_error=parser.error)
    return parser


def top_parser() -> Parser:
    """The parser of all commands."""
    import hotreload

    parser = Parser(
        prog="hotreload",
        description="Makes edits to C extensions live while they run.",
        epilog="`hotreload COMMAND --help` says more about each.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"hotreload {hotreload.__version__}")
    added = parser.add_subparsers(title="commands", metavar="COMMAND", dest="command", parser_class=Parser)
    for command in COMMANDS.values():
        one = added.add_parser(
            command.name,
            help=command.help,
            usage=command.usage,
            description=command.description,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        one.exits = command.exits
        command.add(one)
    return parser


def _epilog(exits: Mapping[int, str]) -> str:
    """Exit codes, as lines that fit a terminal."""
    from textwrap import wrap

    lines = ["exit codes:"] if exits else []
    for code, meaning in exits.items():
        first, *rest = wrap(meaning, 110)
        lines += [f"  {code:<3} {first}", *(f"      {line}" for line in rest)]
    return "\n".join(lines)


def _with_nearest(parser: argparse.ArgumentParser, message: str) -> str:
    """argparse's message, with the nearest option behind those that there are not."""
    head, _, words = message.partition("unrecognized arguments: ")
    known = [option for action in parser._actions for option in action.option_strings]  # noqa: SLF001 - argparse has no other way
    wrong = words.split()[0].split("=")[0] if words and not head else ""
    return f"{message} ({nearest(wrong, known)})" if wrong.startswith("--") else message
