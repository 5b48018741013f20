"""The tables by which Python finds the functions of an extension: methods, type slots, module definitions.

The interpreter has read them when the module was made, and does not look again. Two versions are compared entry by
entry:

    static PyMethodDef methods[] = { {"area", area, METH_O, "..."}, ... , {0} }
                                      └─ entry ─ ml_name ml_meth ml_flags ml_doc

Arrays of methods, of getters and of members can be *shown*: the patch has the new one, and the server brings what was
made from the live one up to it (``live/tables.py``). The objects that were made of an entry read it at every call, so
another function, getter or text of documentation shows in all of them at once; but how Python passes the arguments was
chosen when they were made. Slots, types and module definitions cannot be shown.
"""

from __future__ import annotations

from itertools import takewhile
from typing import NamedTuple, Union

from hotreload.diff.graph import TO_ENTRY, TO_EXTERNAL, TO_VARIABLE, VARIABLE, ObjectGraph
from hotreload.diff.types import Node

__all__ = ["ENTRY_LEN", "TEXT_FIELDS", "NewTable", "TableChange", "changed_table", "is_same_copy", "table_kind"]

METHODS, TYPE, MODULE = "method-table", "type-object", "module-def"
KINDS = {
    **dict.fromkeys(("PyMethodDef", "PyGetSetDef", "PyMemberDef"), METHODS),
    **dict.fromkeys(("PyTypeObject", "_typeobject", "PyType_Slot", "PyType_Spec"), TYPE),
    **dict.fromkeys(("PyNumberMethods", "PySequenceMethods", "PyMappingMethods"), TYPE),
    **dict.fromkeys(("PyAsyncMethods", "PyBufferProcs"), TYPE),
    **dict.fromkeys(("PyModuleDef", "PyModuleDef_Slot"), MODULE),
}
DOCUMENTATION = {"ml_doc", "doc", "tp_doc", "m_doc"}
NAMES = {"ml_name", "name"}
SIZES = {"tp_basicsize", "tp_itemsize", "basicsize", "itemsize"}

#: What of METHODS can be shown: its number in the link table, and the bytes of an entry.
SHOWN = {"PyMethodDef": (1, 32), "PyGetSetDef": (2, 40), "PyMemberDef": (3, 40)}
ENTRY_LEN = dict(SHOWN.values())
#: Where an entry of each has pointers to text, which the server copies.
TEXT_FIELDS = {1: (0, 24), 2: (0, 24), 3: (0, 32)}
#: The fields of an entry in the order of their bits in the link table.
FIELDS = {1: ("ml_doc", "ml_meth"), 2: ("doc", "get", "set", "closure"), 3: ("doc", "type", "offset", "flags")}
FLAGS = ("VARARGS", "KEYWORDS", "NOARGS", "O", "CLASS", "STATIC", "COEXIST", "FASTCALL", "STACKLESS", "METHOD")
#: Py_RELATIVE_OFFSET of a member (3.12): PyType_FromSpec adds where the type's own part begins, to its copy alone.
RELATIVE_OFFSET = 8
#: Names for which a type has a slot, or that tell Python where something is: subclasses have asked for them already.
SPECIAL = (
    " repr hash call str getattribute getattr setattr delattr lt le eq ne gt ge iter next get set delete init new del "
    "await aiter anext len getitem setitem delitem contains bool neg pos abs invert int float index buffer "
    "release_buffer dictoffset weaklistoffset vectorcalloffset dict weakref doc "
)
ARITHMETIC = " add sub mul mod divmod pow lshift rshift and xor or floordiv truediv matmul concat "

Meaning = tuple[Union[bytes, tuple[Union[int, str, bytes], ...]], ...]


class NewTable(NamedTuple):
    """A changed table that can be shown: ``key`` is its variable, ``section`` where the new one is.

    ``conventions`` has what the entries' functions are called by, ``METH_O``: the address of a function that is new is
    only good for that one. ``changes`` has a letter for each entry of the base, ``a`` plus the bits of the fields that
    are others: what the program has set since is not to be undone. ``notes`` say what is not shown.
    """

    key: str
    kind: int
    old_section: int
    section: int
    base_length: int
    length: int
    changes: str
    conventions: dict[str, str]
    notes: list[str]


class TableChange(NamedTuple):
    """What an edit did to one table; ``is_text``: only its documentation is another, ``is_size``: the objects' size.

    ``new`` is there where it can be shown.
    """

    kind: str
    entries: list[str]
    is_text: bool
    is_size: bool
    new: Union[NewTable, None] = None


class _Entry(NamedTuple):
    name: str
    fields: dict[str, Meaning]


def table_kind(graph: ObjectGraph, section: int) -> str:
    """Which slug a change of the variable in ``section`` has; empty if it is not one of Python's tables."""
    types, offset = graph.types, graph.variable_type(section)
    if not offset:
        return ""
    element = types.element(offset)
    names = types.names(offset) | types.names(element.offset) | {element.key, element.key.partition(" ")[2]}
    return next((KINDS[name] for name in sorted(names) if name in KINDS), "")


def changed_table(base: ObjectGraph, old: int, new: ObjectGraph, fresh: int) -> Union[TableChange, None]:
    """What became of the table in section ``old`` of the base, which is in section ``fresh`` of ``new``."""
    kind = table_kind(new, fresh) or table_kind(base, old)
    slugs: set[str] = set()
    before, after = _entries(base, old), _entries(new, fresh)
    told, fields = [], set()
    for name in before.keys() | after.keys():
        if name not in after or name not in before:
            told.append(f"{name} is {'new' if name in after else 'gone'}")
            fields.add("")
            if name in after and _is_special(name):
                slugs.add("method-special")
            continue
        a, b = before[name].fields, after[name].fields
        differing = [field for field in b if a.get(field) != b[field]]
        fields.update(differing)
        if "ml_flags" in differing:
            told.append(f"{name or 'it'} was {_convention(before[name])} and is {_convention(after[name])}")
            slugs.add("method-flags")
        elif differing:
            if _is_special(name) and kind == METHODS and not {*differing} <= DOCUMENTATION:
                slugs.add("method-special")
            told.append(f"{name} has another {', '.join(differing)}" if name else f"another {', '.join(differing)}")
    if not told:
        return None
    shown = _shown(base, old, new, fresh) if kind == METHODS else None
    slug = max(slugs, default=kind) if shown else kind  # both at once: the special name is the harder one
    change = TableChange(slug, sorted(told), fields <= DOCUMENTATION, fields <= SIZES)
    return change if shown is None or slugs else change._replace(new=shown)


def _shown(base: ObjectGraph, old: int, new: ObjectGraph, fresh: int) -> Union[NewTable, None]:
    """What the server needs to show the table; None where it is of a form that nobody can be sure of."""
    if base.kinds[old] != VARIABLE or new.kinds[fresh] != VARIABLE:
        return None  # const: the live one cannot be written to
    was, now = _form(base, old), _form(new, fresh)
    if was is None or now is None or was[0] != now[0]:
        return None
    kind, base_length = was
    before, after = _entries(base, old), _entries(new, fresh)
    if kind == SHOWN["PyMemberDef"][0] and any(map(_is_relative, (*before.values(), *after.values()))):
        return None  # no type has the table, nor a copy that could be told by its offsets
    notes = [f"{name} is gone from `{new.variable_key(fresh)}`: it keeps working until a restart"
             for name in before if name not in after]  # fmt: skip
    for name in before.keys() & after.keys():
        a, b = before[name].fields, after[name].fields
        gone = [field for field in DOCUMENTATION & b.keys() if a[field] != b[field] and not _is_set(b[field])]
        notes += [f"the documentation of {name} was removed: Python shows the old text until a restart" for _ in gone]
    conventions: dict[str, set[str]] = {}
    for entry in after.values() if kind == 1 else ():
        for function in _functions_in(entry.fields["ml_meth"]):
            conventions.setdefault(function, set()).add(_convention(entry))
    return NewTable(
        key=new.variable_key(fresh),
        kind=kind,
        old_section=old,
        section=fresh,
        base_length=base_length,
        length=len(after),
        changes="".join(chr(ord("a") + _bits(kind, before[name], after.get(name))) for name in before),
        conventions={name: " or ".join(sorted(found)) for name, found in conventions.items()},
        notes=sorted(notes),
    )


def is_same_copy(base: ObjectGraph, table: NewTable, other: ObjectGraph, section: int) -> bool:
    """Whether a table of members that types have copies of says what another does, which types may have copies of too.

    ``section`` is that other one, in the base as well.
    """
    if table.kind != SHOWN["PyMemberDef"][0] or (base is other and table.old_section == section):
        return False
    if table_kind(other, section) != METHODS or _form(other, section) is None:
        return False
    same = _entries(base, table.old_section) == _entries(other, section)
    return same and not (_has_static_type(base, table.old_section) or _has_static_type(other, section))


def _has_static_type(graph: ObjectGraph, section: int) -> bool:
    """Whether a type that is a variable has the table itself."""
    key = graph.variable_key(section)
    return any(
        graph.types.element(graph.variable_type(owner)).key in {"struct _typeobject", "PyTypeObject"}
        for owner in graph.variables.values()
        if any(reference.kind == TO_VARIABLE and reference.name == key for reference in graph.references(owner))
    )


def _form(graph: ObjectGraph, section: int) -> Union[tuple[int, int], None]:
    """The number of a table's kind and that of its entries, where these have names and an empty one ends them."""
    types, offset = graph.types, graph.variable_type(section)
    element = types.element(offset)
    names = types.names(offset) | types.names(element.offset) | {element.key, element.key.partition(" ")[2]}
    kind, size = next((SHOWN[name] for name in sorted(names) if name in SHOWN), (0, 0))
    symbols = graph.symbols_in[section]
    if not kind or element.size != size or len(symbols) != 1:
        return None
    entries = _entries(graph, section)
    if types.node(offset).offset == element.offset:
        return None  # one alone, as Cython has for each function: what was made of it may have a copy
    is_named = all(name.startswith("`") and name.endswith("`") for name in entries)
    first = takewhile(lambda row: row in entries.values(), _rows(graph, section))
    is_ended = len(list(first)) == len(entries) < symbols[0].size // size
    has_some = entries or kind != SHOWN["PyMemberDef"][0]  # who has a copy of nothing cannot be told
    return (kind, len(entries)) if has_some and is_named and is_ended else None


def _is_special(name: str) -> bool:
    word = name.strip("`")[2:-2]
    is_arithmetic = f" {word} " in ARITHMETIC or (word[:1] in {"r", "i"} and f" {word[1:]} " in ARITHMETIC)
    return name == f"`__{word}__`" and (is_arithmetic or f" {word} " in SPECIAL)


def _bits(kind: int, before: _Entry, after: Union[_Entry, None]) -> int:
    """Which fields of an entry are others."""
    fields = enumerate(FIELDS[kind]) if after is not None else ()
    return sum(1 << bit for bit, name in fields if after and before.fields[name] != after.fields[name])


def _is_relative(member: _Entry) -> bool:
    raw = member.fields["flags"][0]
    return isinstance(raw, bytes) and bool(raw[0] & RELATIVE_OFFSET)


def _convention(entry: _Entry) -> str:
    """How a method is called, as it is written in C."""
    raw = entry.fields["ml_flags"][0]
    value = int.from_bytes(raw, "little") if isinstance(raw, bytes) else 0
    return "|".join(f"METH_{name}" for bit, name in enumerate(FLAGS) if value >> bit & 1) or str(value)


def _functions_in(meaning: Meaning) -> list[str]:
    return [
        part[1]
        for part in meaning
        if isinstance(part, tuple) and part[0] in {TO_ENTRY, TO_EXTERNAL} and isinstance(part[1], str)
    ]


def _is_set(meaning: Meaning) -> bool:
    """Whether anything is in a field."""
    return any(any(part) if isinstance(part, bytes) else part for part in meaning)


def _entries(graph: ObjectGraph, section: int) -> dict[str, _Entry]:
    """The entries of a table by name; a variable that is no array has one, without a name."""
    found: dict[str, _Entry] = {}
    for row in _rows(graph, section):
        if row.name and not any(map(_is_set, row.fields.values())):
            continue  # the end of the table
        name = row.name
        while name in found:
            name += "'"
        found[name] = row
    return found


def _rows(graph: ObjectGraph, section: int) -> list[_Entry]:
    """All of them, the empty one at the end too."""
    offset = graph.variable_type(section)
    types = graph.types
    element = types.element(offset)
    symbol = graph.symbols_in[section][0]
    content = graph.elf.content(graph.elf.sections[section]) or bytes(graph.elf.sections[section].size)
    meanings = {r.offset: graph.meaning(section, r) for r in graph.references(section)}
    found: list[_Entry] = []
    is_array = types.node(offset).offset != element.offset
    for number, start in enumerate(range(symbol.value, symbol.value + symbol.size, element.size or symbol.size or 1)):
        fields = {
            member.name: _meaning(content, meanings, start + member.bit // 8, max(1, member.bits // 8))
            for member in element.members
        }
        name = _entry_name(element, fields, number) if is_array else ""
        found.append(_Entry(name, fields))
    return found


def _meaning(content: bytes, meanings: dict[int, tuple[Union[int, str, bytes], ...]], start: int, size: int) -> Meaning:
    """The bytes of a field and what the addresses in it mean."""
    inside = tuple(meanings[at] for at in range(start, start + size) if at in meanings)
    return (content[start : start + size], *inside)


def _entry_name(element: Node, fields: dict[str, Meaning], number: int) -> str:
    for member in element.members:
        if member.name in NAMES:
            for part in fields[member.name]:
                if isinstance(part, tuple) and part and part[0] == "text" and isinstance(part[1], bytes):
                    return f"`{part[1].decode(errors='replace')}`"
    for member in element.members[:1]:
        if member.name == "slot":
            value = fields["slot"][0]
            return f"slot {int.from_bytes(value, 'little')}" if isinstance(value, bytes) else ""
    return f"entry {number}"
