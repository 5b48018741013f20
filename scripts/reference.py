#!/usr/bin/env python3
"""Writes docs/configuration.md and docs/commands.md from the options and the parsers; a test holds them to it."""

from __future__ import annotations

import argparse
import json
import sys
import textwrap
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from hotreload.cli.tree import COMMANDS, make_parser  # noqa: E402 - the checkout's, not an installed one
from hotreload.config import OPTIONS, VARIABLES, Option  # noqa: E402

_CONFIGURATION = """\
# Configuration

A flag beats the environment, which beats `[tool.hotreload]` in the nearest `pyproject.toml` at or above the working
directory. Nothing has to be set.

```toml
[tool.hotreload]
quiet-ms = 25
allow = ["variable-type"]

[tool.hotreload.policy]
users = ["deploy"]
```

A key or a value that means nothing is an error, exit code 2, that names the nearest one that there is:

```console
$ hotreload config
hotreload: /srv/shop/pyproject.toml: [tool.hotreload] has no key 'quiet-mz' (did you mean 'quiet-ms'?)
```

`hotreload config` prints what is in force and who says so: a table on a terminal, lines in a pipe, or `--json`. It
takes the flags of `hotreload run`, and then says what would hold there.

```console
$ HOTRELOAD_LEVEL=request HOTRELOAD_POLING=1 hotreload config --settle 5s
...
quiet-ms = 25.0  # /srv/shop/pyproject.toml:2
level = "request"  # HOTRELOAD_LEVEL
settle = 5.0  # --settle
settle-policy = ""  # default
...
HOTRELOAD_POLING = "1"  # unknown: nothing reads it: did you mean 'HOTRELOAD_POLLING'?
```

## Options

Lists are written with commas in a variable (`HOTRELOAD_ALLOW=variable-type,type-layout`), and a flag for one is
repeated. In a variable true and false are also 1 and 0, yes and no, on and off; in the file each value has the type of
its option, and lists are arrays. An empty variable is not set. With a flag, a time
may have a unit: `500ms`, `30s`, `2m`.

"""

_TABLES = """
## Tables

`[tool.hotreload.policy]` says who may push what into a process; see [production](production.md). It can be in another
file, which `HOTRELOAD_POLICY` names. Other programs' tables under `[tool.hotreload]` are errors, apart from
`[tool.hotreload.build]`, which is left to build backends.

## Variables that are no options

What hotreload sets for its own processes is marked "set"; there is no need to touch it.

"""

_COMMANDS = """\
# Commands

`hotreload COMMAND --help` says the same; `python -m hotreload` is `hotreload`. What is told on a terminal as a panel or
a table is plain lines in a pipe, and `--json` makes it a document for a program, also where the command line is
wrong or something fails: then `ok` is false, and `exit` is the exit code. `NO_COLOR` is respected, and `TERM=dumb` gets
the plain lines.

Errors of a command line, and of a configuration, are exit code 2; a mistyped command, option or key is told with the
nearest one that there is.

## Completion

```console
$ eval "$(hotreload completion bash)"          # in ~/.bashrc
$ eval "$(hotreload completion zsh)"           # in ~/.zshrc, behind compinit
$ hotreload completion fish | source           # in ~/.config/fish/config.fish
```

The scripts are static: nothing of Python is started when you press TAB. They complete commands, options, choices, the
names of refusals and files by their suffix.
"""


def configuration() -> str:
    """The text of docs/configuration.md."""
    lines = ["| key | what | default | may be | variable | flag |", "|---|---|---|---|---|---|"]
    lines += [_row(option) for option in OPTIONS]
    variables = ["| variable | what |", "|---|---|", *(f"| `{name}` | {text} |" for name, text in VARIABLES.items())]
    return "\n".join([_CONFIGURATION + "\n".join(lines), _TABLES + "\n".join(variables), ""])


def _row(option: Option) -> str:
    default = list(option.default) if isinstance(option.default, tuple) else option.default
    may_be = ", ".join(part for part in (option.kind, option.range) if part)
    flag = f"`{option.flag}`" if option.flag else ""
    cells = (f"`{option.key}`", option.help, f"`{json.dumps(default)}`", may_be, f"`{option.variable}`", flag)
    return f"| {' | '.join(cells)} |"


def commands() -> str:
    """The text of docs/commands.md."""
    parts = [_COMMANDS]
    for command in COMMANDS.values():
        parser = make_parser(command)
        usage = command.usage or " ".join(["hotreload", command.name, "[OPTIONS]", *_positionals(parser)])
        parts += [f"## {command.name}", f"```text\n{usage}\n```", textwrap.fill(command.description, 118)]
        rows = [_argument(action) for action in parser._actions if action.dest != "help"]  # noqa: SLF001
        parts.append("\n".join(["| argument | |", "|---|---|", *rows]))
        exits = [f"| {code} | {meaning} |" for code, meaning in command.exits.items()]
        parts.append("\n".join(["| exit code | |", "|---|---|", *exits]))
    return "\n\n".join(part.strip("\n") for part in parts) + "\n"


def _argument(action: argparse.Action) -> str:
    name = ", ".join(action.option_strings) or str(action.metavar or action.dest)
    if action.option_strings and action.nargs != 0:
        choices = f"{{{','.join(map(str, action.choices))}}}" if action.choices else action.dest.upper()
        value = action.metavar or choices
        name += f" {value}"
    text = (action.help or "").replace("%%", "%").replace("|", "\\|")
    choices = f" ({', '.join(map(str, action.choices))})" if action.choices and not action.option_strings else ""
    return f"| `{name}` | {text}{choices} |"


def _positionals(parser: argparse.ArgumentParser) -> list[str]:
    found = []
    for action in parser._actions:  # noqa: SLF001 - argparse has no other way
        if not action.option_strings:
            name = "|".join(map(str, action.choices)) if action.choices else str(action.metavar or action.dest).upper()
            found.append(f"[{name}]" if action.nargs == "?" else name)
    return found


TEXTS = {"configuration.md": configuration, "commands.md": commands}

if __name__ == "__main__":
    for name, make in TEXTS.items():
        (ROOT / "docs" / name).write_text(make(), encoding="utf-8")
