"""``compile_commands.json``: the commands as the build gave them, for editors and language servers.

The format is clang's JSON Compilation Database. Entries of other files are kept.
"""

from __future__ import annotations

import fcntl
import json
import os
from typing import Any

from hotreload.build.record import Unit

__all__ = ["merge"]

NAME = "compile_commands.json"


def merge(directory: str, units: list[Unit]) -> None:
    """Put the commands of ``units`` into the database in ``directory``, in place of older ones."""
    path = os.path.join(directory, NAME)
    lock = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)  # parallel links in one directory take turns
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        entries: dict[tuple[Any, Any], dict[str, Any]] = {(e["directory"], e["file"]): e for e in _load(path)}
        for unit in units:
            entries[unit.directory, unit.source] = {
                "directory": unit.directory,
                "file": unit.source,
                "arguments": unit.plain_argv,
            }
        temporary = f"{path}.{os.getpid()}"
        with open(temporary, "w", encoding="utf-8") as file:
            json.dump(list(entries.values()), file, indent=1)
            file.write("\n")
        os.replace(temporary, path)
    finally:
        os.close(lock)


def _load(path: str) -> list[dict[str, Any]]:
    try:
        with open(path, encoding="utf-8") as file:
            loaded = json.load(file)
    except (FileNotFoundError, ValueError):
        return []
    return loaded if isinstance(loaded, list) else []
