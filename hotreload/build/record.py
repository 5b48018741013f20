r"""What a hot extension remembers about its own making: the record.

Each object carries one line of JSON about its compilation in the section ``.hotreload.unit``. The linker
concatenates sections of one name in the order of its inputs, so the library ends up with the lines of exactly
those objects that went into it, through static libraries and copies alike; the link step turns them into the
record, one JSON document in the section ``.hotreload.record``.

    a.o  .hotreload.unit  {a}\n ┐
    b.o  .hotreload.unit  {b}\n ┼─ ld ─▶ {a}\n{b}\n ─ finish ─▶ .hotreload.record {units: [a, b], ...}
    c.o  (other compiler)       ┘                              ("c.o" has no line: it is left unpatchable)
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from hotreload.elf.file import ElfFile

__all__ = ["FORMAT", "RECORD_SECTION", "UNIT_SECTION", "Record", "Unit", "Unpatchable", "read_record", "read_units"]

FORMAT = 1
UNIT_SECTION = ".hotreload.unit"
RECORD_SECTION = ".hotreload.record"

# What changes the meaning of a command besides the command itself (GCC manual, "Environment Variables"): recorded
# with each unit, so that a later compilation does not depend on who runs it.
MEANINGFUL_ENVIRONMENT = (
    *("CPATH", "C_INCLUDE_PATH", "CPLUS_INCLUDE_PATH"),
    *("SOURCE_DATE_EPOCH", "GCC_EXEC_PREFIX", "COMPILER_PATH"),
)


class Unit(NamedTuple):
    """One compiled source file.

    ``argv`` is the whole hot command as it was run in ``directory``; ``plain_argv`` the command as the build
    gave it; ``files`` maps the source and the project headers it read, as the compiler named them, to the
    SHA-256 of their text; ``object`` is the SHA-256 of the object in the store.
    """

    source: str
    directory: str
    argv: list[str]
    plain_argv: list[str]
    environment: dict[str, str]
    files: dict[str, str]
    compiler: str
    object: str


class Unpatchable(NamedTuple):
    """A function, or a whole file, that cannot be patched, and why."""

    name: str
    reason: str


class Record(NamedTuple):
    """All that is needed to build the extension again, and to tell what in it can be patched.

    ``prologue`` is "jump" or "slot": how its functions are redirected, and new ones of its patches too.
    """

    module: str
    build_id: str
    directory: str
    link_argv: list[str]
    units: list[Unit]
    patchable: int
    unpatchable: list[Unpatchable]
    prologue: str = "jump"

    def to_json(self) -> bytes:
        document = self._asdict()
        document["format"] = FORMAT
        document["units"] = [unit._asdict() for unit in self.units]
        document["unpatchable"] = [entry._asdict() for entry in self.unpatchable]
        return json.dumps(document, sort_keys=True).encode()

    @classmethod
    def from_json(cls, text: bytes) -> Record:
        document: dict[str, Any] = json.loads(text)
        if document.pop("format") != FORMAT:
            raise ValueError("made by another version of hotreload")
        document["units"] = [Unit(**unit) for unit in document["units"]]
        document["unpatchable"] = [Unpatchable(**entry) for entry in document["unpatchable"]]
        return cls(**document)


def unit_line(unit: Unit) -> bytes:
    """The content of an object's ``.hotreload.unit`` section."""
    return json.dumps(unit._asdict(), sort_keys=True).encode() + b"\n"


def read_units(elf: ElfFile) -> list[Unit]:
    """The units whose lines the linker gathered in ``elf``, in link order."""
    section = elf.section(UNIT_SECTION)
    lines = elf.content(section).split(b"\n") if section else []
    return [Unit(**json.loads(line)) for line in (line.strip(b"\0") for line in lines) if line]


def read_record(elf: ElfFile) -> Record | None:
    """The record that a hot extension carries; None for any other library."""
    section = elf.section(RECORD_SECTION)
    return Record.from_json(elf.content(section)) if section else None
