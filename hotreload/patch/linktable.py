"""The flat link table that a patch carries: written here, read by ``csrc/image.c`` inside the server.

``csrc/linktable.h`` draws the format and says what every field means; this file is its writer. A test
compiles that header and compares sizes, offsets and the list of fixups with what stands here.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum, IntFlag

__all__ = [
    "PAGE",
    "SECTION",
    "Carried",
    "Fixup",
    "FixupKind",
    "Function",
    "Hook",
    "HookKind",
    "Import",
    "LinkTable",
    "Protection",
    "Range",
    "Segment",
    "Table",
    "TableKind",
]

SECTION = ".hotreload.link"
PAGE = 4096  # bytes; the pages of x86-64, in which segments are counted
MAGIC = b"HRLINK03"

HEADER = struct.Struct("<8sQQQQ32s12I")
SEGMENT = struct.Struct("<QQQQII")
FIXUP = struct.Struct("<QqII")
IMPORT = struct.Struct("<IIII")
LIBRARY = struct.Struct("<II")
CARRIED = struct.Struct("<IIQQ")
FUNCTION = struct.Struct("<IIQQ")
RANGE = struct.Struct("<IIQQ")
HOOK = struct.Struct("<IIQ")
TABLE = struct.Struct("<IIQQIIII")

IMPORT_WEAK = 1
CARRIED_FUNCTION = 1
FUNCTION_BASE = 0
FUNCTION_CARRIED = 1
DATA_ESCAPES = 1


class Protection(IntFlag):
    """What a segment may do once it is mapped."""

    R = 1
    W = 2
    X = 4


class FixupKind(IntEnum):
    """How one field of the image is filled; the formulas stand in ``linktable.h``."""

    IMAGE64 = 1
    BASE64 = 2
    BASE_PC32 = 3
    BASE_PC64 = 4
    IMPORT64 = 5
    CARRIED64 = 6
    CARRIED_PC32 = 7
    CARRIED_PC64 = 8
    BASE_DTPMOD = 9
    BASE_TPOFF = 10
    IMPORT_DTPMOD = 11
    IMPORT_DTPOFF = 12
    IMPORT_TPOFF = 13
    IRELATIVE = 14
    BASE_IFUNC64 = 15
    BASE_IFUNC_PC32 = 16


@dataclass(frozen=True)
class Segment:
    """One run of pages with one final protection."""

    image_off: int
    mem_len: int
    file_off: int
    file_len: int
    prot: Protection


@dataclass(frozen=True)
class Fixup:
    """One field of the image, and how it is filled."""

    where: int
    kind: FixupKind
    addend: int = 0
    target: int = 0


@dataclass(frozen=True)
class Import:
    """A symbol that the process provides."""

    name: str
    version: str = ""
    weak: bool = False


@dataclass(frozen=True)
class Carried:
    """Something new since the base, owned by the first generation that brings it."""

    key: str
    image_off: int
    size: int
    is_function: bool


@dataclass(frozen=True)
class Function:
    """A replacement: the entry at ``entry`` is to be redirected to ``image_off``.

    ``entry`` is a base offset, or, when ``is_carried``, an index into the carried symbols.
    """

    name: str
    entry: int
    image_off: int
    is_carried: bool = False


@dataclass(frozen=True)
class Range:
    """Code of the base that belongs to the replaced function of index ``function``."""

    function: int
    base_off: int
    length: int


class HookKind(IntEnum):
    """When a migration hook is called."""

    PRE_COMMIT = 1
    POST_COMMIT = 2
    POST_ROLLBACK = 3


@dataclass(frozen=True)
class Hook:
    """A migration hook, called by the server."""

    kind: HookKind
    name: str
    image_off: int


class TableKind(IntEnum):
    """Which of Python's tables it is."""

    METHODS = 1
    GETSET = 2
    MEMBERS = 3


@dataclass(frozen=True)
class Table:
    """One of Python's tables: the live one at ``base_off``, and how the sources have it now at ``image_off``.

    The counts are those of their entries, without the empty one at the end. ``changes`` has a letter for each entry of
    the live one: ``a`` plus a bit for each field that is another.
    """

    kind: TableKind
    name: str
    base_off: int
    image_off: int
    base_count: int
    count: int
    changes: str


@dataclass(frozen=True)
class LinkTable:
    """All that the server needs to map a patch and bind it to the base."""

    build_id: bytes
    image_len: int
    segments: tuple[Segment, ...]
    fixups: tuple[Fixup, ...]
    imports: tuple[Import, ...] = ()
    libraries: tuple[str, ...] = ()
    carried: tuple[Carried, ...] = ()
    functions: tuple[Function, ...] = ()
    ranges: tuple[Range, ...] = ()
    hooks: tuple[Hook, ...] = ()
    tables: tuple[Table, ...] = ()
    data_escapes: bool = True
    eh_frame: int = 0
    eh_frame_len: int = 0

    def to_bytes(self) -> bytes:
        """The table as ``linktable.h`` draws it."""
        strings = _Strings()
        body = b"".join(
            [
                *(SEGMENT.pack(s.image_off, s.mem_len, s.file_off, s.file_len, s.prot, 0) for s in self.segments),
                *(FIXUP.pack(f.where, f.addend, f.kind, f.target) for f in self.fixups),
                *(
                    IMPORT.pack(strings.add(i.name), strings.add(i.version), IMPORT_WEAK if i.weak else 0, 0)
                    for i in self.imports
                ),
                *(LIBRARY.pack(strings.add(name), 0) for name in self.libraries),
                *(
                    CARRIED.pack(strings.add(c.key), CARRIED_FUNCTION if c.is_function else 0, c.image_off, c.size)
                    for c in self.carried
                ),
                *(
                    FUNCTION.pack(
                        strings.add(f.name),
                        FUNCTION_CARRIED if f.is_carried else FUNCTION_BASE,
                        f.entry,
                        f.image_off,
                    )
                    for f in self.functions
                ),
                *(RANGE.pack(r.function, 0, r.base_off, r.length) for r in self.ranges),
                *(HOOK.pack(h.kind, strings.add(h.name), h.image_off) for h in self.hooks),
                *(
                    TABLE.pack(
                        *(t.kind, strings.add(t.name), t.base_off, t.image_off),
                        *(t.base_count, t.count, strings.add(t.changes), 0),
                    )
                    for t in self.tables
                ),
            ]
        )
        text = strings.to_bytes()
        header = HEADER.pack(
            MAGIC,
            HEADER.size + len(body) + len(text),
            self.image_len,
            self.eh_frame,
            self.eh_frame_len,
            self.build_id,
            len(self.build_id),
            len(self.segments),
            len(self.fixups),
            len(self.imports),
            len(self.libraries),
            len(self.carried),
            len(self.functions),
            len(self.ranges),
            len(self.hooks),
            len(text),
            DATA_ESCAPES if self.data_escapes else 0,
            len(self.tables),
        )
        return header + body + text


class _Strings:
    """NUL-terminated names, each once; offset 0 is the empty string."""

    def __init__(self) -> None:
        self._blob = bytearray(b"\0")
        self._offsets = {"": 0}

    def add(self, name: str) -> int:
        if name not in self._offsets:
            self._offsets[name] = len(self._blob)
            self._blob += name.encode() + b"\0"
        return self._offsets[name]

    def to_bytes(self) -> bytes:
        return bytes(self._blob) + bytes(-len(self._blob) % 8)
