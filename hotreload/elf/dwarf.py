"""Entries of ``.debug_info``: abbreviations, forms, references, and how to step over a subtree.

    .debug_abbrev   code ─▶ tag, has children, [(attribute, form)]
    .debug_info     unit header │ code, values... │ code, values... │ 0 │ ...
                                  └ entry (DIE)     └ its child       └ end of the children

Versions 4 and 5 as GCC and ``clang -gdwarf-4`` write them (DWARF 5, sections 7.5.3 to 7.5.6).
"""

from __future__ import annotations

import struct
from bisect import bisect_left, bisect_right
from functools import cached_property
from typing import Iterator, NamedTuple, Union

from hotreload.elf.file import ElfFile, Relocation
from hotreload.errors import BuildError

__all__ = ["Die", "Entries", "read_uleb"]

TAG_INLINED, TAG_SUBPROGRAM, TAG_VARIABLE, TAG_NAMESPACE = 0x1D, 0x2E, 0x34, 0x39
TAG_ARRAY, TAG_CLASS, TAG_ENUMERATION, TAG_PARAMETER, TAG_MEMBER, TAG_POINTER = 0x01, 0x02, 0x04, 0x05, 0x0D, 0x0F
TAG_REFERENCE, TAG_STRUCTURE, TAG_FUNCTION_TYPE, TAG_TYPEDEF, TAG_UNION = 0x10, 0x13, 0x15, 0x16, 0x17
TAG_ELLIPSIS, TAG_INHERITANCE, TAG_SUBRANGE, TAG_BASE_TYPE, TAG_CONST = 0x18, 0x1C, 0x21, 0x24, 0x26
TAG_ENUMERATOR, TAG_VOLATILE, TAG_RESTRICT, TAG_RVALUE_REFERENCE, TAG_ATOMIC = 0x28, 0x35, 0x37, 0x42, 0x47

AT_SIBLING, AT_LOCATION, AT_NAME, AT_LOW_PC, AT_DECL_LINE, AT_DECLARATION = 0x01, 0x02, 0x03, 0x11, 0x3B, 0x3C
AT_STMT_LIST, AT_DECL_FILE = 0x10, 0x3A
AT_ABSTRACT_ORIGIN, AT_SPECIFICATION, AT_RANGES, AT_LINKAGE_NAME = 0x31, 0x47, 0x55, 0x6E
AT_BYTE_SIZE, AT_BIT_OFFSET, AT_BIT_SIZE, AT_CONST_VALUE, AT_PRODUCER = 0x0B, 0x0C, 0x0D, 0x1C, 0x25
AT_COUNT, AT_MEMBER_LOCATION, AT_ENCODING, AT_EXTERNAL, AT_TYPE, AT_VTABLE_INDEX = 0x37, 0x38, 0x3E, 0x3F, 0x49, 0x4D
AT_UPPER_BOUND, AT_DATA_BIT_OFFSET, AT_PROTOTYPED, AT_ALIGNMENT = 0x2F, 0x6B, 0x27, 0x88

FORM_STRING, FORM_STRP, FORM_REF4, FORM_EXPRLOC = 0x08, 0x0E, 0x13, 0x18
FORM_IMPLICIT_CONST = 0x21
FORM_SDATA, FORM_REF_ADDR = 0x0D, 0x10
CONSTANT_FORMS = {0x05, 0x06, 0x07, 0x0B, 0x0D, 0x0F, 0x1E, 0x21}  # data2 4 8 1 sdata udata data16 implicit_const
UNIT_REFERENCES = {0x11, 0x12, 0x13, 0x14, 0x15}  # ref1 ref2 ref4 ref8 ref_udata: they count from the unit's start

# Sizes of the forms that have one (DWARF 5, table 7.6; 32-bit DWARF).
FIXED = {
    0x01: 8,
    0x05: 2,
    0x06: 4,
    0x07: 8,
    0x0B: 1,
    0x0C: 1,
    0x0E: 4,
    0x10: 4,
    0x11: 1,
    0x12: 2,
    0x13: 4,
    0x14: 8,
    0x17: 4,
    0x19: 0,
    0x1C: 4,
    0x1D: 4,
    0x1E: 16,
    0x1F: 4,
    0x20: 8,
    0x21: 0,
    0x24: 8,
    0x25: 1,
    0x26: 2,
    0x27: 3,
    0x28: 4,
    0x29: 1,
    0x2A: 2,
    0x2B: 3,
    0x2C: 4,
}
LEB_FORMS = {0x0D, 0x0F, 0x15, 0x1A, 0x1B, 0x22, 0x23}  # sdata udata ref_udata strx addrx loclistx rnglistx
BLOCK_PREFIX = {0x0A: 1, 0x03: 2, 0x04: 4}  # block1 block2 block4
OP_ADDR, OP_CONSTU, OP_PLUS_UCONST = 0x03, 0x10, 0x23


class Abbreviation(NamedTuple):
    tag: int
    has_children: bool
    attributes: list[tuple[int, int, int]]  # attribute, form, implicit constant
    size: int  # of all attributes together; -1 when it varies


class Die(NamedTuple):
    offset: int
    tag: int
    has_children: bool
    values: dict[int, tuple[int, int]]  # attribute: (form, position of its value, or the implicit constant)
    end: int  # where the next entry begins


class Entries:
    """The entries of one relocatable object; none when it was compiled without ``-g``."""

    def __init__(self, elf: ElfFile) -> None:
        self.elf = elf
        section = elf.section(".debug_info")
        self.info = elf.content(section) if section else b""
        relocations = elf.relocations(section.number) if section else []
        self.relocations = {relocation.offset: relocation for relocation in relocations}
        self._positions = sorted(self.relocations)
        strings = elf.section(".debug_str")
        self._strings = elf.content(strings) if strings else b""
        self._abbreviations: dict[int, dict[int, Abbreviation]] = {}

    @cached_property
    def units(self) -> list[tuple[int, int]]:
        """First DIE and end of each unit; fills in which abbreviations belong to which offsets."""
        units = []
        self.unit_starts: list[tuple[int, dict[int, Abbreviation], int]] = []
        position = 0
        while position + 11 < len(self.info):
            length, version = struct.unpack_from("<IH", self.info, position)
            if length >= 0xFFFFFFF0 or version not in (4, 5):
                raise BuildError(
                    f"{self.elf.path}: debug information of a kind that is not read here (version {version})",
                    hint="compile with -gdwarf-4 or -gdwarf-5",
                )
            if version == 4:
                at, first = position + 6, position + 11
            else:
                at, first = position + 8, position + 12
                if self.info[position + 6] in (2, 6):  # a type unit: signature and offset follow
                    first += 12
            end = position + 4 + length
            self.unit_starts.append((first, self._abbreviation_table(self.word(at)), position))
            units.append((first, end))
            position = end
        return units

    def unit_of(self, offset: int) -> tuple[dict[int, Abbreviation], int]:
        units = self.units
        index = bisect_right(units, (offset, 1 << 62)) - 1
        return self.unit_starts[index][1], self.unit_starts[index][2]

    def _abbreviation_table(self, offset: int) -> dict[int, Abbreviation]:
        if offset in self._abbreviations:
            return self._abbreviations[offset]
        section = self.elf.section(".debug_abbrev")
        data = self.elf.content(section) if section else b""
        table: dict[int, Abbreviation] = {}
        position = offset
        while True:
            code, position = read_uleb(data, position)
            if not code:
                break
            tag, position = read_uleb(data, position)
            has_children, position = bool(data[position]), position + 1
            attributes = []
            while True:
                attribute, position = read_uleb(data, position)
                form, position = read_uleb(data, position)
                constant = 0
                if form == FORM_IMPLICIT_CONST:
                    constant, position = _sleb(data, position)
                if not attribute and not form:
                    break
                attributes.append((attribute, form, constant))
            sizes = [FIXED.get(form, -1) for _, form, _ in attributes]
            table[code] = Abbreviation(tag, has_children, attributes, -1 if -1 in sizes else sum(sizes))
        self._abbreviations[offset] = table
        return table

    def die(self, offset: int) -> Die:
        table, _ = self.unit_of(offset)
        code, position = read_uleb(self.info, offset)
        abbreviation = table[code]
        values: dict[int, tuple[int, int]] = {}
        for attribute, form, constant in abbreviation.attributes:
            if form == FORM_IMPLICIT_CONST:
                values[attribute] = (form, constant)
                continue
            values[attribute] = (form, position)
            size = FIXED.get(form)
            position = position + size if size is not None else self._skip(form, position)
        return Die(offset, abbreviation.tag, abbreviation.has_children, values, position)

    def _skip(self, form: int, position: int) -> int:
        if form == FORM_STRING:
            return self.info.index(b"\0", position) + 1
        if form in LEB_FORMS:
            return read_uleb(self.info, position)[1]
        if form in (FORM_EXPRLOC, 0x09):  # exprloc, block
            length, position = read_uleb(self.info, position)
            return position + length
        if form in BLOCK_PREFIX:
            size = BLOCK_PREFIX[form]
            return position + size + int.from_bytes(self.info[position : position + size], "little")
        raise BuildError(f"{self.elf.path}: DWARF form {form:#x} is not read here", hint="compile with -gdwarf-4")

    def end_of(self, die: Die) -> int:
        """Where the entry after ``die`` and all below it begins."""
        if not die.has_children:
            return die.end
        if AT_SIBLING in die.values:
            _, unit = self.unit_of(die.offset)
            end = unit + self.word(die.values[AT_SIBLING][1])
            if end < die.end:
                raise ValueError("an entry that ends before it begins")
            return end
        position, depth = die.end, 1
        while depth:
            if self.info[position] == 0:
                position, depth = position + 1, depth - 1
                continue
            child = self.die(position)
            if child.has_children and AT_SIBLING in child.values:
                position = self.end_of(child)
            else:
                position, depth = child.end, depth + child.has_children
        return position

    def children_of_units(self) -> Iterator[tuple[Die, int]]:
        for first, unit_end in self.units:
            root = self.die(first)
            position, depth = root.end, 1
            while position < unit_end and depth:
                if self.info[position] == 0:
                    position, depth = position + 1, depth - 1
                    continue
                die = self.die(position)
                if die.tag == TAG_NAMESPACE and die.has_children:
                    position, depth = die.end, depth + 1
                    continue
                end = self.end_of(die)
                yield die, end
                position = end

    def subtree(self, start: int, end: int) -> Iterator[Die]:
        position = self.die(start).end
        while position < end:
            if self.info[position] == 0:
                position += 1
                continue
            die = self.die(position)
            yield die
            position = die.end

    def children(self, die: Die) -> Iterator[Die]:
        """The entries directly below ``die``; what is below those is stepped over."""
        position = die.end
        while die.has_children and self.info[position]:
            child = self.die(position)
            yield child
            position = self.end_of(child)

    def reference(self, die: Die, attribute: int) -> int:
        """The offset of the entry that an attribute of ``die``, or of its origin, leads to; 0 where there is none."""
        if attribute not in die.values:
            origin = self._origin(die)
            return self.reference(origin, attribute) if origin else 0
        form, position = die.values[attribute]
        if form == FORM_REF_ADDR:
            return self.word(position)
        if form not in UNIT_REFERENCES:
            return 0
        return self.unit_of(die.offset)[1] + self.number(die, attribute)

    def constant(self, die: Die, attribute: int) -> int:
        """A number that may be negative, or the operand of an expression that is nothing else."""
        form, position = die.values.get(attribute, (0, 0))
        if form == FORM_SDATA:
            return _sleb(self.info, position)[0]
        if form == FORM_EXPRLOC:
            _, start = read_uleb(self.info, position)
            operation = self.info[start]
            return read_uleb(self.info, start + 1)[0] if operation in (OP_CONSTU, OP_PLUS_UCONST) else 0
        return self.number(die, attribute)

    def named(self, die: Die) -> Die:
        """The entry that carries the name of ``die``: itself, or where its origin leads."""
        origin = self._origin(die) if AT_NAME not in die.values else None
        return self.named(origin) if origin else die

    def inherited(self, die: Die, attribute: int) -> int:
        """A number of ``die`` or else of its origin: a method is where it is defined, not where its class is."""
        origin = self._origin(die) if attribute not in die.values else None
        return self.inherited(origin, attribute) if origin else self.number(die, attribute)

    def _origin(self, die: Die) -> Union[Die, None]:
        for attribute in (AT_ABSTRACT_ORIGIN, AT_SPECIFICATION):
            if attribute in die.values:
                form, position = die.values[attribute]
                if form == FORM_REF4:
                    _, unit = self.unit_of(die.offset)
                    return self.die(unit + self.word(position))
        return None

    def name(self, die: Die) -> str:
        return self.text(die, AT_LINKAGE_NAME) or self.text(die, AT_NAME)

    def text(self, die: Die, attribute: int) -> str:
        form, position = die.values.get(attribute, (0, 0))
        if form == FORM_STRING:
            return _text(self.info, position)
        if form == FORM_STRP:
            return _text(self._strings, self.word(position))
        return ""

    def number(self, die: Die, attribute: int) -> int:
        if attribute not in die.values:
            return 0
        form, position = die.values[attribute]
        if form == FORM_IMPLICIT_CONST:
            return position
        if form in LEB_FORMS:
            return read_uleb(self.info, position)[0]
        return int.from_bytes(self.info[position : position + FIXED[form]], "little")

    def relocations_between(self, start: int, end: int) -> Iterator[Relocation]:
        first = bisect_left(self._positions, start)
        last = bisect_left(self._positions, end)
        return (self.relocations[position] for position in self._positions[first:last])

    def section_of(self, relocation: Relocation) -> tuple[int, int]:
        symbol = self.elf.symbols[relocation.symbol]
        return symbol.section, symbol.value + relocation.addend

    def word(self, position: int) -> int:
        relocation = self.relocations.get(position)
        if relocation is not None:
            return self.elf.symbols[relocation.symbol].value + relocation.addend
        return int(struct.unpack_from("<I", self.info, position)[0])


def read_uleb(data: bytes, position: int) -> tuple[int, int]:
    byte = data[position]
    if byte < 0x80:
        return byte, position + 1
    value, shift = byte & 0x7F, 7
    while True:
        position += 1
        byte = data[position]
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, position + 1


def _sleb(data: bytes, position: int) -> tuple[int, int]:
    value, end = read_uleb(data, position)
    bits = 7 * (end - position)
    return (value - (1 << bits) if value >> (bits - 1) else value), end


def _text(table: bytes, offset: int) -> str:
    return table[offset : table.find(b"\0", offset)].decode(errors="surrogateescape")
