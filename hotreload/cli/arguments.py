"""What each command takes; nothing here imports what carries the commands out.

An action may have an attribute ``completes``: the suffix of the files that it wants, ``"*"`` for any, ``"/"`` for
directories, or ``"slugs"`` and ``"pages"`` for the names of refusals and of what `hotreload explain` knows.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from typing import Any

from hotreload.config import OPTIONS, ConfigError, Option, Setting
from hotreload.errors import HotReloadError

__all__ = [
    "FLAGGED",
    "LONGEST",
    "add_build",
    "add_cc",
    "add_completion",
    "add_config",
    "add_doctor",
    "add_explain",
    "add_log",
    "add_pack",
    "add_push",
    "add_rollback",
    "add_run",
    "add_show",
    "add_sign",
    "add_status",
    "add_transition",
    "add_verify",
    "check_allow",
    "flags_of",
    "seconds",
]

SHELLS = ("bash", "zsh", "fish")
#: The options that have a flag: those of `hotreload run`, and of `hotreload config`, which says what they would do.
FLAGGED = tuple(option for option in OPTIONS if option.flag)
#: Longer than this no process of an application waits for a decision.
LONGEST = 3600.0
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}

Parser = argparse.ArgumentParser


def flags_of(options: argparse.Namespace) -> dict[str, Any]:
    """What was given of the options of the configuration, for ``load_config``."""
    return {option.name: getattr(options, option.name, None) for option in OPTIONS}


def check_allow(settings: Iterable[Setting]) -> None:
    """Insists that what is to be let through can be. Raises ConfigError: it cannot, and who says so."""
    from hotreload.diff.verdicts import check_allowed

    setting = next(setting for setting in settings if setting.option.name == "allow")
    try:
        check_allowed(setting.value)
    except HotReloadError as error:
        raise ConfigError(f"{setting.where}: {error.message}", hint=error.hint) from None


# Development ----------------------------------------------------------------------------------------------------------


def add_run(parser: Parser) -> None:
    _add_options(parser, FLAGGED)
    _add(parser, "program", nargs="...", metavar="PROGRAM", help="what to run, and its own arguments", completes="py")


def add_build(parser: Parser) -> None:
    _add_json(parser)
    parser.add_argument("build_command", nargs="*", metavar="COMMAND", help="behind --: how to build")


def add_cc(parser: Parser) -> None:
    parser.add_argument("compiler", nargs="...", metavar="COMPILER", help="the compiler, and its arguments")


def add_config(parser: Parser) -> None:
    _add_json(parser)
    _add_options(parser, FLAGGED)


def add_explain(parser: Parser) -> None:
    _add_json(parser)
    help_text = "what stands in [brackets] behind a refusal, or a status as BUSY"
    _add(parser, "slug", nargs="?", default="", metavar="SLUG", help=help_text, completes="pages")


def add_completion(parser: Parser) -> None:
    parser.add_argument("shell", choices=SHELLS, help="the shell that the script is for")


# Artefacts ------------------------------------------------------------------------------------------------------------


def add_pack(parser: Parser) -> None:
    _add_json(parser)
    text = "a source or header of the module, all of whose sources are looked at; or a module of Python"
    _add(parser, "source", help=text, completes="text")
    _add(
        parser, "-o", "--output", help="the file to write (default: SOURCE's name with .hotpatch)", completes="hotpatch"
    )
    parser.add_argument("--build-id", default="", metavar="ID", help="the base (default: the newest build of SOURCE)")
    text = "of a module of Python: the text that runs"
    _add(parser, "--base", default="", metavar="OLD.py", help=text, completes="py")
    parser.add_argument("--module", default="", metavar="NAME", help="and its dotted name (default: by its packages)")
    parser.add_argument("--author", default="", help="whose change it is (default: git's user, or yours)")
    parser.add_argument("--sequence", type=_sequence, metavar="N", help="newer is greater (default: the edit's time)")
    parser.add_argument("--expires", default="", metavar="WHEN", help="2026-12-31T00:00:00Z, or 30m, 12h, 7d, 2w")
    _add_options(parser, [_option("allow")])


def add_show(parser: Parser) -> None:
    _add_json(parser)
    _add(parser, "artefact", help="the .hotpatch file", completes="hotpatch")
    parser.add_argument("--text", action="store_true", help="of a module of Python: its new text, and no more")


def add_sign(parser: Parser) -> None:
    _add_json(parser)
    _add(parser, "artefact", nargs="?", help="the .hotpatch file", completes="hotpatch")
    text = "the private key, PEM; its passphrase is asked for, or HOTRELOAD_KEY_PASSPHRASE"
    _add(parser, "--key", help=text, completes="*")
    _add(parser, "-o", "--output", help="the file to write (default: the artefact itself)", completes="hotpatch")
    _add(parser, "--new-key", metavar="FILE", help="make a pair instead: FILE and FILE.pub", completes="*")


def add_verify(parser: Parser) -> None:
    _add_json(parser)
    _add(parser, "artefact", help="the .hotpatch file", completes="hotpatch")
    text = "a public key: a file, or ed25519:BASE64; may be repeated"
    _add(parser, "--key", action="append", required=True, help=text, completes="pub")


# Running servers ------------------------------------------------------------------------------------------------------


def add_push(parser: Parser) -> None:
    _add_json(parser)
    text = "a C source of the module, a .py, or a .hotpatch from `hotreload pack`"
    _add(parser, "what", metavar="FILE", help=text, completes="source")
    _add_terms(parser)
    _add_options(parser, [_option("allow")])
    parser.add_argument("--build-id", default="", metavar="ID", help="the base (default: the one that runs)")
    parser.add_argument("--canary", type=int, default=0, metavar="N", help="N processes take it first, on trial")
    parser.add_argument("--hold", type=_holding, default=30.0, metavar="TIME", help="how long they hold it (30s)")
    parser.add_argument("--health", default="", metavar="CMD", help="a command that must succeed before it goes on")
    parser.add_argument("--allow-quarantined", action="store_true", help="although a process has died of this patch")


def add_status(parser: Parser) -> None:
    _add_json(parser)
    _add_common(parser)


def add_rollback(parser: Parser) -> None:
    _add_json(parser)
    parser.add_argument("module", nargs="?", default="", help="whose (default: the one module that is patched)")
    parser.add_argument("--to", default="", metavar="N", help="0 or base, a generation, or a patch's sequence number")
    _add_terms(parser)


def add_transition(parser: Parser) -> None:
    _add_json(parser)
    parser.add_argument(
        "action", nargs="?", choices=("status", "revert", "force"), default="status", help="status by default"
    )
    _add_terms(parser)


def add_log(parser: Parser) -> None:
    _add_json(parser)
    _add_place(parser)
    parser.add_argument("-n", type=int, default=0, metavar="N", help="only the last N events")


def add_doctor(parser: Parser) -> None:
    _add_json(parser)
    _add_common(parser)


# What they share ------------------------------------------------------------------------------------------------------


def seconds(text: str) -> float:
    """``30s``, ``500ms``, ``2m``, ``1h`` or plain seconds, for argparse."""
    unit = next((unit for unit in sorted(_UNITS, key=len, reverse=True) if text.endswith(unit)), "")
    try:
        found = float(text[: -len(unit)] if unit else text) * _UNITS.get(unit, 1.0)
    except ValueError:
        found = float("nan")
    if not 0 <= found < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is no length of time; write 30s, 500ms or 2m")
    return found


def _waiting(text: str) -> float:
    """A time for which processes are willing to wait."""
    found = seconds(text)
    if not 0 < found <= LONGEST:
        raise argparse.ArgumentTypeError(f"{text} is out of range: more than 0 and at most {LONGEST:g} seconds")
    return found


def _holding(text: str) -> float:
    """The same for a trial; it may be over at once."""
    return _waiting(text) if seconds(text) else 0.0


def _slug(text: str) -> str:
    """A refusal that may be let through; the guards know which."""
    from hotreload.diff.verdicts import check_allowed

    try:
        check_allowed([text])
    except HotReloadError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return text


def _sequence(text: str) -> int:
    number = int(text)
    if not 0 <= number < 1 << 63:
        raise argparse.ArgumentTypeError("a sequence number is zero or more, and less than 2**63")
    return number


def _option(name: str) -> Option:
    return next(option for option in OPTIONS if option.name == name)


def _add(parser: Parser, *names: str, completes: str, **facts: Any) -> None:
    action = parser.add_argument(*names, **facts)
    action.completes = completes  # type: ignore[attr-defined]


def _add_options(parser: Parser, options: Iterable[Option]) -> None:
    """Flags for options of the configuration: not given is ``None``, and then the environment and the file count."""
    for option in options:
        shown = option.default if option.default not in ("", (), False, 0.0) else ""
        facts: dict[str, Any] = {
            "dest": option.name,
            "default": None,
            "help": option.help.replace("%", "%%") + (f" (default: {shown})" if shown else ""),
        }
        completes = ""
        if isinstance(option.default, bool):
            facts["action"] = "store_true"
        elif isinstance(option.default, tuple):
            facts.update(action="append", metavar="SLUG", type=_slug, help=f"{option.help} (repeat)")
            completes = "slugs"
        elif option.choices:
            facts["choices"] = option.choices
        elif isinstance(option.default, float):
            facts.update(type=_within(option), metavar="TIME")
        elif isinstance(option.default, int):
            facts.update(type=int, metavar="N")
        else:
            facts["metavar"] = "FILE"
            completes = "*"
        if completes:
            _add(parser, option.flag, completes=completes, **facts)
        else:
            parser.add_argument(option.flag, **facts)


def _within(option: Option) -> Any:
    """A time that is in the option's range, for argparse."""

    def check(text: str) -> float:
        found = seconds(text)
        if not option.least <= found <= option.most:
            raise argparse.ArgumentTypeError(f"{text} is out of range: {option.range} seconds")
        return found

    return check


def _add_json(parser: Parser) -> None:
    parser.add_argument("--json", action="store_true", help="answer as JSON")


def _add_place(parser: Parser) -> None:
    parser.add_argument("--app", default="", metavar="NAME", help="the application (default: the only one there is)")
    _add(
        parser,
        "--state",
        default="",
        metavar="DIR",
        help="its state directory, where it is not the usual one",
        completes="/",
    )


def _add_common(parser: Parser) -> None:
    _add_place(parser)
    parser.add_argument(
        "--pid", type=int, action="append", default=[], metavar="N", help="only this process and its descendants"
    )
    parser.add_argument(
        "--timeout", type=_waiting, default=6.0, metavar="TIME", help="how long a process may take to answer (6s)"
    )


def _add_terms(parser: Parser) -> None:
    _add_common(parser)
    parser.add_argument("--dry-run", action="store_true", help="everything but the commit, in the live processes")
    parser.add_argument(
        "--deadline", type=_waiting, default=10.0, metavar="TIME", help="after it a process settles by itself (10s)"
    )
    _add_options(parser, [_option("level"), _option("settle"), _option("settle_policy")])
    parser.add_argument("--reason", default="", metavar="TEXT", help="why it is forced; written down, and shown after")
