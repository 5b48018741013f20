"""The tables by which Python finds the functions of an extension: methods, type slots, module definitions.

The interpreter has read them when the module was made. A live one keeps what it says, so an edit of one cannot
show before a restart; what its entries point to can be edited freely. Two versions are compared entry by entry:

    static PyMethodDef methods[] = { {"area", area, METH_O, "..."}, ... , {0} }
                                      └─ entry ─ ml_name ml_meth ml_flags ml_doc
"""

from __future__ import annotations

from typing import NamedTuple, Union

from hotreload.diff.graph import ObjectGraph
from hotreload.diff.types import Node

__all__ = ["TableChange", "changed_table", "table_kind"]

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

Meaning = tuple[Union[bytes, tuple[Union[int, str, bytes], ...]], ...]


class TableChange(NamedTuple):
    """What an edit did to one table; ``is_text``: only its documentation is another, ``is_size``: the objects' size."""

    kind: str
    entries: list[str]
    is_text: bool
    is_size: bool


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
    before, after = _entries(base, old), _entries(new, fresh)
    told, fields = [], set()
    for name in before.keys() | after.keys():
        if name not in after or name not in before:
            told.append(f"{name} is {'new' if name in after else 'gone'}")
            fields.add("")
            continue
        a, b = before[name].fields, after[name].fields
        differing = [field for field in b if a.get(field) != b[field]]
        fields.update(differing)
        if differing:
            told.append(f"{name} has another {', '.join(differing)}" if name else f"another {', '.join(differing)}")
    if not told:
        return None
    return TableChange(kind, sorted(told), fields <= DOCUMENTATION, fields <= SIZES)


def _entries(graph: ObjectGraph, section: int) -> dict[str, _Entry]:
    """The entries of a table by name; a variable that is no array has one, without a name."""
    offset = graph.variable_type(section)
    types = graph.types
    element = types.element(offset)
    symbol = graph.symbols_in[section][0]
    content = graph.elf.content(graph.elf.sections[section]) or bytes(graph.elf.sections[section].size)
    meanings = {r.offset: graph.meaning(section, r) for r in graph.references(section)}
    found: dict[str, _Entry] = {}
    is_array = types.node(offset).offset != element.offset
    for number, start in enumerate(range(symbol.value, symbol.value + symbol.size, element.size or symbol.size or 1)):
        fields = {
            member.name: _meaning(content, meanings, start + member.bit // 8, max(1, member.bits // 8))
            for member in element.members
        }
        name = _entry_name(element, fields, number) if is_array else ""
        if is_array and not any(
            any(part) if isinstance(part, bytes) else part for value in fields.values() for part in value
        ):
            continue  # the end of the table
        while name in found:
            name += "'"
        found[name] = _Entry(name, fields)
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
