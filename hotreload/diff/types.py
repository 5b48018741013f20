"""Types as two objects must agree on them: read from DWARF, where a declaration is not its spelling.

    typedef, const, volatile ─▶ stripped          unsigned and int of one size ─▶ the same bits
    struct item, named       ─▶ known by its name: two versions of it are compared once, and pointers to it are equal
    anonymous struct         ─▶ its typedef's name, else known by what is in it; members of anonymous ones are flattened

An entry is read when somebody asks for it, and once. Nothing here looks at code.
"""

from __future__ import annotations

from functools import cached_property
from math import prod
from typing import Collection, Iterator, NamedTuple

from hotreload.elf.debug import DebugInfo
from hotreload.elf.dwarf import (
    AT_BIT_OFFSET,
    AT_BIT_SIZE,
    AT_BYTE_SIZE,
    AT_CONST_VALUE,
    AT_COUNT,
    AT_DATA_BIT_OFFSET,
    AT_DECL_FILE,
    AT_DECL_LINE,
    AT_DECLARATION,
    AT_ENCODING,
    AT_EXTERNAL,
    AT_MEMBER_LOCATION,
    AT_NAME,
    AT_TYPE,
    AT_UPPER_BOUND,
    AT_VTABLE_INDEX,
    CONSTANT_FORMS,
    FORM_EXPRLOC,
    TAG_ARRAY,
    TAG_ATOMIC,
    TAG_BASE_TYPE,
    TAG_CLASS,
    TAG_CONST,
    TAG_ELLIPSIS,
    TAG_ENUMERATION,
    TAG_ENUMERATOR,
    TAG_FUNCTION_TYPE,
    TAG_INHERITANCE,
    TAG_MEMBER,
    TAG_NAMESPACE,
    TAG_PARAMETER,
    TAG_POINTER,
    TAG_REFERENCE,
    TAG_RESTRICT,
    TAG_RVALUE_REFERENCE,
    TAG_STRUCTURE,
    TAG_SUBPROGRAM,
    TAG_SUBRANGE,
    TAG_TYPEDEF,
    TAG_UNION,
    TAG_VOLATILE,
    Die,
)

__all__ = ["Comparison", "Member", "Node", "Signature", "Types"]

VOID, NUMBER, POINTER, ARRAY, RECORD, ENUM, FUNCTION, OTHER = (
    *("void", "number", "pointer", "array"),
    *("record", "enum", "function", "other"),
)
QUALIFIERS = (TAG_CONST, TAG_VOLATILE, TAG_RESTRICT, TAG_ATOMIC)
RECORDS = {TAG_STRUCTURE: "struct", TAG_CLASS: "struct", TAG_UNION: "union"}
POINTERS = {TAG_POINTER: " *", TAG_REFERENCE: " &", TAG_RVALUE_REFERENCE: " &&"}
SIGNED = (5, 6)
ENCODINGS = {2: "bool", 3: "complex", 4: "float"}  # DW_ATE_*: all others are integers, signed or not
POINTER_SIZE = 8
REGISTER = 4  # bytes of the shortest argument that is passed as it is
UNKNOWN = -1  # the length of an array that its declaration leaves open


class Member(NamedTuple):
    """A field: where it begins and how long it is in bits, and its type's offset in ``.debug_info``."""

    name: str
    bit: int
    bits: int
    type: int


class Signature(NamedTuple):
    """What a caller and a function must agree on."""

    returns: int
    parameters: tuple[int, ...]
    is_variadic: bool


class Node(NamedTuple):
    """A type with its qualifiers and typedefs stripped.

    ``key`` is the name by which both versions know it ("struct item", or a typedef of an anonymous one); empty
    where there is none. ``target`` is what a pointer or an array is of. ``length`` counts all elements of an array, and
    ``dimensions`` has its lengths, those of arrays in it too. ``is_opaque``: declared and not defined.
    """

    kind: str
    key: str
    offset: int
    size: int = 0
    encoding: str = ""
    target: int = 0
    length: int = 0
    dimensions: tuple[int, ...] = ()
    members: tuple[Member, ...] = ()
    values: tuple[tuple[str, int], ...] = ()
    is_opaque: bool = False
    is_signed: bool = False
    line: int = 0


NOTHING = Node(VOID, "void", 0)


class Types:
    """The types of one object."""

    def __init__(self, debug: DebugInfo) -> None:
        self._debug = debug
        self._nodes: dict[tuple[int, str], Node] = {}

    def node(self, offset: int) -> Node:
        """The type at ``offset`` of ``.debug_info``, stripped; 0 is void."""
        alias = ""
        while offset:
            die = self._debug.die(offset)
            if die.tag == TAG_TYPEDEF:
                alias = self._debug.text(die, AT_NAME)
            elif die.tag not in QUALIFIERS:
                break
            offset = self._debug.reference(die, AT_TYPE)
        if not offset:
            return NOTHING
        if (offset, alias) not in self._nodes:
            self._nodes[offset, alias] = self._read(die, alias)
        return self._nodes[offset, alias]

    def names(self, offset: int) -> set[str]:
        """Every name that a type goes by: its typedefs and its tag."""
        found = set()
        while offset:
            die = self._debug.die(offset)
            found.add(self._debug.text(die, AT_NAME))
            if die.tag != TAG_TYPEDEF and die.tag not in QUALIFIERS:
                break
            offset = self._debug.reference(die, AT_TYPE)
        return found - {""}

    def is_const(self, offset: int) -> bool:
        """Whether an object of this type cannot be written to."""
        while offset:
            die = self._debug.die(offset)
            if die.tag == TAG_CONST:
                return True
            if die.tag not in (*QUALIFIERS, TAG_TYPEDEF, TAG_ARRAY):
                break
            offset = self._debug.reference(die, AT_TYPE)
        return False

    def element(self, offset: int) -> Node:
        """The type of what an array, or an array of arrays, is of; the type itself if it is none."""
        node = self.node(offset)
        while node.kind == ARRAY:
            offset = node.target
            node = self.node(offset)
        return node

    def defined(self, files: Collection[str]) -> dict[str, Node]:
        """The records and enumerations with a key that are defined in files of these base names."""
        found: dict[str, Node] = {}
        for prefix, die in self._definitions(files):
            if die.tag == TAG_TYPEDEF:
                target = self._debug.die(self._debug.reference(die, AT_TYPE) or die.offset)
                if target.tag not in (*RECORDS, TAG_ENUMERATION) or AT_NAME in target.values:
                    continue
            elif AT_NAME not in die.values or AT_DECLARATION in die.values:
                continue
            node = self.node(die.offset)
            if prefix:
                node = node._replace(key=f"{prefix}{node.key}")
            found.setdefault(node.key, node)
        return found

    def _definitions(self, files: Collection[str]) -> Iterator[tuple[str, Die]]:
        """Named types at file scope and in namespaces, with the prefix of their scope."""
        debug = self._debug
        for first, _ in debug.units:
            names = debug.files_of_unit(debug.unit_of(first)[1])
            wanted = {number for number, name in enumerate(names) if name in files}
            queue = [("", debug.die(first))]
            for prefix, scope in queue:
                for die in debug.children(scope):
                    if die.tag == TAG_NAMESPACE:
                        queue.append((f"{prefix}{debug.text(die, AT_NAME)}::", die))
                    elif (
                        die.tag in (*RECORDS, TAG_ENUMERATION, TAG_TYPEDEF)
                        and debug.number(die, AT_DECL_FILE) in wanted
                    ):
                        yield prefix, die

    def file_of(self, node: Node) -> str:
        """The base name of the file that defines the type."""
        die = self._debug.die(node.offset)
        files = self._debug.files_of_unit(self._debug.unit_of(node.offset)[1])
        number = self._debug.number(die, AT_DECL_FILE)
        return files[number] if number < len(files) else ""

    def signature(self, offset: int) -> Signature:
        """What the function, or function type, at ``offset`` takes and returns."""
        die = self._debug.named(self._debug.die(offset))
        parameters = []
        is_variadic = False
        for child in self._debug.children(die):
            if child.tag == TAG_PARAMETER:
                parameters.append(self._debug.reference(child, AT_TYPE))
            elif child.tag == TAG_ELLIPSIS:
                is_variadic = True
        return Signature(self._debug.reference(die, AT_TYPE), tuple(parameters), is_variadic)

    @cached_property
    def functions(self) -> dict[str, int]:
        """Where each function with code is described, by the name of its symbol."""
        return {s.name: s.start for s in self._debug.subprograms if s.has_code}

    def spell(self, offset: int, *, is_stripped: bool = False) -> str:
        """A type as C spells it, without qualifiers; ``is_stripped``: without typedefs too."""
        if not offset:
            return "void"
        die = self._debug.die(offset)
        name = self._debug.text(die, AT_NAME)
        target = self._debug.reference(die, AT_TYPE)
        if die.tag in QUALIFIERS or (die.tag == TAG_TYPEDEF and is_stripped and not self._names_it(target)):
            return self.spell(target, is_stripped=is_stripped)
        if die.tag in POINTERS:
            if target and self._debug.die(target).tag == TAG_FUNCTION_TYPE:
                return self.spell_function(self.signature(target), "(*)", is_stripped=is_stripped)
            text = self.spell(target, is_stripped=is_stripped)
            mark = POINTERS[die.tag]
            return text + (mark.strip() if text.endswith("*") else mark)
        if die.tag == TAG_ARRAY:
            node = self.node(offset)
            lengths = "".join(f"[{'' if length == UNKNOWN else length}]" for length in node.dimensions)
            return f"{self.spell(node.target, is_stripped=is_stripped)}{lengths}"
        if die.tag == TAG_FUNCTION_TYPE:
            return self.spell_function(self.signature(offset), "", is_stripped=is_stripped)
        if die.tag in RECORDS or die.tag == TAG_ENUMERATION:
            return f"{RECORDS.get(die.tag, 'enum')} {name or '{...}'}"
        return name or "?"

    def spell_function(self, signature: Signature, name: str, *, is_stripped: bool = False) -> str:
        """A prototype as C spells it."""
        parameters = [self.spell(p, is_stripped=is_stripped) for p in signature.parameters]
        parameters += ["..."] if signature.is_variadic else []
        returns = self.spell(signature.returns, is_stripped=is_stripped)
        gap = "" if returns.endswith("*") or not name else " "
        return f"{returns}{gap}{name}({', '.join(parameters) or 'void'})"

    def identity(self, signature: Signature) -> str:
        """A text that is equal for two prototypes if a caller of one can call the other."""
        by_value = []
        for offset in (signature.returns, *signature.parameters):
            node = self.node(offset)
            if node.kind == RECORD:
                fields = ",".join(f"{m.bit}+{m.bits}" for m in node.members)
                by_value.append(f"{node.key}={node.size}[{fields}]")
        return self.spell_function(signature, "", is_stripped=True) + ";".join(["", *by_value])

    def _names_it(self, target: int) -> bool:
        """Whether a typedef is the only name of what it leads to."""
        die = self._debug.die(target) if target else None
        return die is not None and die.tag in (*RECORDS, TAG_ENUMERATION) and AT_NAME not in die.values

    def _read(self, die: Die, alias: str) -> Node:
        debug = self._debug
        name, size = debug.text(die, AT_NAME), debug.number(die, AT_BYTE_SIZE)
        offset, target = die.offset, debug.reference(die, AT_TYPE)
        line = debug.number(die, AT_DECL_LINE)
        is_opaque = AT_DECLARATION in die.values
        if die.tag == TAG_BASE_TYPE:
            encoding = debug.number(die, AT_ENCODING)
            return Node(NUMBER, name, offset, size, ENCODINGS.get(encoding, "int"), is_signed=encoding in SIGNED)
        if die.tag in POINTERS:
            return Node(POINTER, "", offset, size or POINTER_SIZE, target=target)
        if die.tag == TAG_ARRAY:
            return self._read_array(die, target)
        if die.tag in RECORDS:
            key = f"{RECORDS[die.tag]} {name}" if name else alias
            members = tuple(self._members(die))
            return Node(RECORD, key, offset, size, members=members, is_opaque=is_opaque, line=line)
        if die.tag == TAG_ENUMERATION:
            mask = (1 << 8 * (size or 4)) - 1
            values = tuple(
                (debug.text(child, AT_NAME), debug.constant(child, AT_CONST_VALUE) & mask)
                for child in debug.children(die)
                if child.tag == TAG_ENUMERATOR
            )
            key = f"enum {name}" if name else alias
            return Node(ENUM, key, offset, size or 4, "int", values=values, is_opaque=is_opaque, line=line)
        if die.tag == TAG_FUNCTION_TYPE:
            return Node(FUNCTION, "", offset)
        return Node(OTHER, name, offset, size)

    def _read_array(self, die: Die, target: int) -> Node:
        dimensions = []
        for child in self._debug.children(die):
            if child.tag == TAG_SUBRANGE:
                if AT_COUNT in child.values:
                    length = self._debug.number(child, AT_COUNT)
                elif child.values.get(AT_UPPER_BOUND, (FORM_EXPRLOC, 0))[0] in CONSTANT_FORMS:  # else a variable's
                    length = self._debug.number(child, AT_UPPER_BOUND) + 1
                else:
                    length = UNKNOWN
                dimensions.append(length)
        element = self.node(target)
        if element.kind == ARRAY:  # a typedef of one
            dimensions += element.dimensions
            target, element = element.target, self.node(element.target)
        count = UNKNOWN if UNKNOWN in dimensions else prod(dimensions)
        size = max(0, count) * element.size
        return Node(ARRAY, "", die.offset, size, target=target, length=count, dimensions=tuple(dimensions))

    def _members(self, die: Die, base: int = 0) -> Iterator[Member]:
        debug = self._debug
        for child in debug.children(die):
            if child.tag == TAG_INHERITANCE or (child.tag == TAG_MEMBER and AT_EXTERNAL not in child.values):
                kind = debug.reference(child, AT_TYPE)
                bit, bits = self._place(child, kind)
                name = debug.text(child, AT_NAME)
                inner = debug.die(kind) if kind and not name and child.tag == TAG_MEMBER else None
                if inner is not None and inner.tag in RECORDS:
                    yield from self._members(inner, base + bit)
                else:
                    yield Member(name or f"the base {self.node(kind).key}", base + bit, bits, kind)
            elif child.tag == TAG_SUBPROGRAM and AT_VTABLE_INDEX in child.values:
                yield Member(f"{debug.text(child, AT_NAME)}()", debug.constant(child, AT_VTABLE_INDEX), 0, 0)

    def _place(self, die: Die, kind: int) -> tuple[int, int]:
        debug = self._debug
        start = debug.constant(die, AT_MEMBER_LOCATION) * 8
        if AT_BIT_SIZE not in die.values:
            return start, self.node(kind).size * 8
        bits = debug.number(die, AT_BIT_SIZE)
        if AT_DATA_BIT_OFFSET in die.values:
            return debug.number(die, AT_DATA_BIT_OFFSET), bits
        whole = debug.number(die, AT_BYTE_SIZE) or self.node(kind).size  # DWARF 2 and 3 count from the highest bit
        return start + whole * 8 - debug.number(die, AT_BIT_OFFSET) - bits, bits


class Comparison:
    """Whether types of two versions mean the same bits in memory."""

    def __init__(self, old: Types, new: Types) -> None:
        self.old, self.new = old, new
        self._assumed: set[tuple[int, int]] = set()

    def is_same(self, old: int, new: int, *, is_value: bool = False) -> bool:
        """Whether what is of type ``old`` can be used as ``new``.

        A record that both know by one name is the same here, whatever became of its layout, unless
        ``is_value``: that is told once, of the type, and not of everything that has it.
        """
        a, b = self.old.node(old), self.new.node(new)
        pair = (a.offset, b.offset)
        if pair in self._assumed:
            return True
        is_known = bool(a.key) and a.key == b.key and RECORD == a.kind == b.kind
        if is_known and (not is_value or a.is_opaque or b.is_opaque):
            return True
        self._assumed.add(pair)
        try:
            return self._is_alike(a, b)
        finally:
            self._assumed.discard(pair)

    def is_same_signature(self, old: Signature, new: Signature) -> bool:
        """Whether a caller that was compiled for ``old`` can call ``new``."""
        if old.is_variadic != new.is_variadic or len(old.parameters) != len(new.parameters):
            return False
        pairs = zip((old.returns, *old.parameters), (new.returns, *new.parameters))
        return all(self.is_same(a, b, is_value=True) and self._is_extended_alike(a, b) for a, b in pairs)

    def _is_extended_alike(self, old: int, new: int) -> bool:
        """A number shorter than a register is extended by its sign or not: the two sides must agree."""
        a, b = self.old.node(old), self.new.node(new)
        return a.size >= REGISTER or a.kind != NUMBER or b.kind != NUMBER or a.is_signed == b.is_signed

    def _is_alike(self, a: Node, b: Node) -> bool:
        if a.kind != b.kind:
            return {a.kind, b.kind} == {NUMBER, ENUM} and (a.size, a.encoding) == (b.size, b.encoding)
        if a.kind in (NUMBER, ENUM):
            return (a.size, a.encoding) == (b.size, b.encoding)
        if a.kind == POINTER:
            if NOTHING in (self.old.node(a.target), self.new.node(b.target)):
                return True  # void * says nothing that could have changed
            return self.is_same(a.target, b.target)
        if a.kind == ARRAY:
            is_open = UNKNOWN in (a.length, b.length)
            return is_open or (a.dimensions == b.dimensions and self.is_same(a.target, b.target))
        if a.kind == FUNCTION:
            return self.is_same_signature(self.old.signature(a.offset), self.new.signature(b.offset))
        if a.kind == RECORD:
            if a.is_opaque or b.is_opaque:
                return a.key == b.key
            return a.size == b.size and not self.moved(a, b)
        return (a.key, a.size) == (b.key, b.size)

    def spell(self, old: int, new: int) -> tuple[str, str]:
        """Both types as C spells them; where a typedef hides the difference, what it stands for."""
        texts = self.old.spell(old), self.new.spell(new)
        if texts[0] != texts[1]:
            return texts
        return self.old.spell(old, is_stripped=True), self.new.spell(new, is_stripped=True)

    def moved(self, a: Node, b: Node) -> list[str]:
        """What is laid out differently in two versions of a record, field by field; a new name alone is nothing."""
        old, new = _by_name(a.members), _by_name(b.members)
        told = []
        for name in old.keys() & new.keys():
            before, after = old[name], new[name]
            if (before.bit, before.bits) != (after.bit, after.bits):
                told.append((after.bit, f"`{name}` ({_span(before)} -> {_span(after)})"))
            elif not self.is_same(before.type, after.type):
                told.append((after.bit, f"`{name}` ({' -> '.join(self.spell(before.type, after.type))})"))
        gone = [old[name] for name in old if name not in new]
        fresh = [new[name] for name in new if name not in old]
        for before, after in zip(gone[:], fresh[:]):
            if (before.bit, before.bits) == (after.bit, after.bits) and self.is_same(before.type, after.type):
                gone.remove(before)  # renamed
                fresh.remove(after)
        told += [(m.bit, f"`{m.name}` (was at {_span(m)}, is gone)") for m in gone]
        told += [(m.bit, f"`{m.name}` (new at {_span(m)})") for m in fresh]
        return [text for _, text in sorted(told)]


def _by_name(members: tuple[Member, ...]) -> dict[str, Member]:
    found: dict[str, Member] = {}
    for number, member in enumerate(members):
        found[member.name if member.name not in found else f"{member.name}#{number}"] = member
    return found


def _span(member: Member) -> str:
    """Where a field is: ``8+4`` are four bytes from byte 8 on; bits are told as such."""
    if not member.bits and member.name.endswith("()"):
        return f"entry {member.bit} of the vtable"
    if member.bit % 8 or member.bits % 8:
        return f"bits {member.bit}+{member.bits}"
    return f"{member.bit // 8}+{member.bits // 8}"
