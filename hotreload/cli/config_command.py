"""``hotreload config``: what is set, and by whom: a table on a terminal, lines in a pipe, or JSON."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from hotreload.cli.arguments import check_allow, flags_of
from hotreload.config import (
    PREFIX,
    TABLES,
    VARIABLES,
    Setting,
    find_pyproject,
    line_of_key,
    load_settings,
    read_table,
    variable_problems,
)

__all__ = ["print_config"]

#: What nobody should read over a shoulder, or in a log.
_SECRET = frozenset({"HOTRELOAD_KEY_PASSPHRASE"})


class _Row(NamedTuple):
    """One line: what, its value, who says so, and what it is for."""

    name: str
    value: Any
    source: str
    where: str
    help: str


def print_config(options: argparse.Namespace) -> int:
    """Prints all that is set.

    Raises:
        ConfigError: a key or a value means nothing.
        StageError: the policy cannot be read.
    """
    settings = load_settings(flags=flags_of(options))
    check_allow(settings)
    pyproject = find_pyproject(Path.cwd())
    rows = [_row_of(setting, pyproject) for setting in settings]
    tables = list(_rows_of_tables(pyproject))
    variables = list(_rows_of_variables(os.environ))
    if options.json:
        told = {
            "pyproject": str(pyproject) if pyproject else None,
            "options": [row._asdict() for row in rows],
            "tables": [row._asdict() for row in tables],
            "variables": [row._asdict() for row in variables],
        }
        print(json.dumps(told, indent=2))
    elif sys.stdout.isatty():
        _draw({f"{pyproject or 'no pyproject.toml here or above'}": rows, "tables": tables, "variables": variables})
    else:
        for row in (*rows, *tables, *variables):
            print(f"{row.name} = {_shown(row.value)}  # {_where(row)}")
    return 0


def _row_of(setting: Setting, pyproject: Path | None) -> _Row:
    where = setting.where
    if setting.source == "file" and pyproject is not None:
        where = _place(pyproject, setting.option.key)
    value = list(setting.value) if isinstance(setting.value, tuple) else setting.value
    return _Row(setting.option.key, value, setting.source, where, setting.option.help)


def _rows_of_tables(pyproject: Path | None) -> Iterator[_Row]:
    """[tool.hotreload.policy], from where it is read, and the other tables as they stand in the file."""
    from hotreload.agent.policy import PolicySource

    source = PolicySource.find()
    policy = {name.replace("_", "-"): value for name, value in source.read().as_dict().items() if name != "path"}
    for key in policy if source.path else ():
        given = source.path == str(pyproject) and key in (read_table(Path(source.path)).get("policy") or {})
        where = _place(Path(str(source.path)), key, "policy") if given else str(source.path)
        yield _Row(f"policy.{key}", policy[key], "file", where, "who may push what")
    for name in TABLES:
        if name == "policy" or pyproject is None:
            continue
        for key, value in (read_table(pyproject).get(name) or {}).items():
            yield _Row(f"{name}.{key}", value, "file", _place(pyproject, key, name), "")


def _rows_of_variables(environ: Mapping[str, str]) -> Iterator[_Row]:
    """Variables that are no options, and those that nothing reads."""
    for name, text in VARIABLES.items():
        if name in environ:
            value = "(set)" if name in _SECRET else environ[name]
            yield _Row(name, value, "variable", name, text)
    for name, problem in variable_problems(environ).items():
        yield _Row(name, environ[name], "unknown", problem, f"{PREFIX}... that nothing reads")


def _place(path: Path, key: str, table: str = "") -> str:
    line = line_of_key(path, key, table)
    return f"{path}:{line}" if line else f"{path}: {key}"


def _where(row: _Row) -> str:
    """Who says it, in few words: a variable that is a row of its own names itself."""
    if row.source == "unknown":
        return f"unknown: {row.where}"
    return row.help if row.name == row.where else row.where


def _shown(value: Any) -> str:
    return json.dumps(value, default=str)


def _draw(groups: Mapping[str, list[_Row]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from hotreload.artefact import printable

    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("option", "value", "from", "what it is for"):
        table.add_column(heading, overflow="fold")
    for number, (title, rows) in enumerate(groups.items()):
        if rows and number:
            table.add_row(Text(title, style="bold"))
        for row in rows:
            style = {"default": "dim", "unknown": "bold red"}.get(row.source, "green")
            cells = (row.name, _shown(row.value), row.where, row.help)
            table.add_row(*(Text(printable(cell), style=style if at < 3 else "dim") for at, cell in enumerate(cells)))
    console = Console(highlight=False)
    console.print(Text(next(iter(groups)), style="bold"))
    console.print(table)
