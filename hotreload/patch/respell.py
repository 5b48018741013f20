"""Room for a longer name where the compiler wrote a short one into the entry itself.

    before   code │ "ab" 0 │ line │ column │ type │ ...     a name of up to three letters is no longer than a reference
    after    code'│ .debug_str + n │ line │ type  │ ...     as many bytes: what has an address stays where it is

An entry cannot grow, since others are known by their offsets. So the column of its name, or the line, is given up for
it, and the entry gets an abbreviation of its own, in a table that its unit has alone.
"""

from __future__ import annotations

from itertools import combinations
from typing import NamedTuple, Union

from hotreload.elf.debug import DebugInfo
from hotreload.elf.dwarf import (
    AT_DECL_LINE,
    AT_NAME,
    FIXED,
    FORM_IMPLICIT_CONST,
    FORM_STRING,
    FORM_STRP,
    Abbreviation,
    Die,
)

__all__ = ["Respelt", "Tables"]

AT_DECL_COLUMN = 0x39
_STRP_LEN = 4
_ONE_BYTE_CODES = range(1, 0x80)


class Respelt(NamedTuple):
    """The bytes of an entry, and where in them the reference to its name goes."""

    content: bytes
    reference: int


class Tables:
    """The abbreviations of the units of one object, with those that are added."""

    def __init__(self, debug: DebugInfo) -> None:
        self._debug = debug
        self._added: dict[int, dict[int, Abbreviation]] = {}  # start of a unit: its own table

    def respell(self, die: Die) -> Union[Respelt, None]:
        """The entry with a reference in place of its name; None where nothing can be given up for it."""
        table, unit = self._debug.unit_of(die.offset)
        own = self._added.get(unit, table)
        info = self._debug.info
        code = info[die.offset]
        free = next((code for code in _ONE_BYTE_CODES if code not in own), 0)
        if code >= _ONE_BYTE_CODES.stop or not free or die.values[AT_NAME][0] != FORM_STRING:
            return None
        name = die.values[AT_NAME][1]
        end = info.index(b"\0", name) + 1
        dropped = self._sacrifice(die, end, _STRP_LEN - (end - name))
        if dropped is None:
            return None
        pieces = [bytes([free]), info[die.offset + 1 : name], bytes(_STRP_LEN)]
        at = end
        for start, size in sorted(dropped.values()):
            pieces.append(info[at:start])
            at = start + size
        pieces.append(info[at : die.end])
        old = table[code]
        kept = [(attribute, FORM_STRP if attribute == AT_NAME else form, constant)
                for attribute, form, constant in old.attributes if attribute not in dropped]  # fmt: skip
        self._added[unit] = {**own, free: Abbreviation(old.tag, old.has_children, kept, -1)}
        return Respelt(b"".join(pieces), name - die.offset)

    def _sacrifice(self, die: Die, start: int, growth: int) -> Union[dict[int, tuple[int, int]], None]:
        """What of an entry to leave out for so many bytes: attributes that stand before the first address."""
        first = min((r.offset for r in self._debug.relocations_between(start, die.end)), default=die.end)
        sizes = {}
        for attribute in (AT_DECL_COLUMN, AT_DECL_LINE):
            form, position = die.values.get(attribute, (FORM_IMPLICIT_CONST, 0))
            if form in FIXED and form != FORM_IMPLICIT_CONST and start <= position < first:
                sizes[attribute] = (position, FIXED[form])
        for count in range(len(sizes) + 1):
            for chosen in combinations(sizes, count):
                if sum(sizes[attribute][1] for attribute in chosen) == growth:
                    return {attribute: sizes[attribute] for attribute in chosen}
        return None

    def units(self) -> dict[int, bytes]:
        """For each unit that needs one, by where it starts: its table."""
        return {unit: _encode(table) for unit, table in self._added.items()}


def _encode(table: dict[int, Abbreviation]) -> bytes:
    out = bytearray()
    for code, abbreviation in table.items():
        out += _uleb(code) + _uleb(abbreviation.tag) + bytes([abbreviation.has_children])
        for attribute, form, constant in abbreviation.attributes:
            out += _uleb(attribute) + _uleb(form) + (_sleb(constant) if form == FORM_IMPLICIT_CONST else b"")
        out += b"\0\0"
    return bytes(out + b"\0")


def _uleb(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def _sleb(value: int) -> bytes:
    out = bytearray()
    while not -0x40 <= value < 0x40:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value & 0x7F])
