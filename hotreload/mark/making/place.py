"""Where a function of a hot extension was defined, from the debug information of its objects in the store."""

from __future__ import annotations

from typing import Any

from hotreload.build import store
from hotreload.build.record import read_record
from hotreload.elf.debug import DebugInfo
from hotreload.elf.file import ElfFile
from hotreload.errors import BuildError

__all__ = ["find_place"]


def find_place(order: dict[str, Any]) -> tuple[str, int, str]:
    """File, line, and the hash of the file's text as it was built, of ``order["symbol"]`` in ``order["locate"]``.

    Raises:
        BuildError: it was not built by hotreload, or has no such function.
    """
    library, symbol = order["locate"], order["symbol"]
    record = read_record(ElfFile.read(library))
    if record is None:
        raise BuildError(f"{library} was not built by hotreload", hint="build it with `hotreload build`")
    for unit in record.units:
        heading = DebugInfo(ElfFile(store.load_object(unit.object), unit.source)).headings.get(symbol)
        if heading is not None:
            path = next((path for path in unit.files if path.rpartition("/")[2] == heading.file), unit.source)
            return path, heading.line, unit.files.get(path, "")
    raise BuildError(f"{library} has no function {symbol}", hint="build it again")
