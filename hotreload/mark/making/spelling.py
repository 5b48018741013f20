"""Types in the words of C and cffi, from DWARF: each declaration once, and behind what it needs itself.

What cffi or the compiler behind it would lay out otherwise than the object has it is not spelled: a record stays
opaque, an enumeration becomes the integer that it is stored as, and a number of another size is refused.
"""

from __future__ import annotations

from hotreload.diff.types import ARRAY, NUMBER, RECORD, UNKNOWN, Node, Types
from hotreload.elf.debug import DebugInfo
from hotreload.elf.dwarf import (
    AT_ALIGNMENT,
    AT_BIT_SIZE,
    AT_CONST_VALUE,
    AT_NAME,
    AT_TYPE,
    TAG_ARRAY,
    TAG_ATOMIC,
    TAG_BASE_TYPE,
    TAG_CONST,
    TAG_ENUMERATION,
    TAG_ENUMERATOR,
    TAG_FUNCTION_TYPE,
    TAG_MEMBER,
    TAG_POINTER,
    TAG_RESTRICT,
    TAG_STRUCTURE,
    TAG_TYPEDEF,
    TAG_UNION,
    TAG_VOLATILE,
    Die,
)

__all__ = ["Inexpressible", "Speller"]

#: Typedefs that cffi knows without being told, and their sizes; negative where they are signed.
KNOWN = {f"int{kind}{bits}_t": -bits // 8 for kind in ("", "_least") for bits in (8, 16, 32, 64)}
KNOWN.update({name.replace("int", "uint"): -size for name, size in list(KNOWN.items())})
KNOWN.update({f"int_fast{bits}_t": -8 for bits in (16, 32, 64)}, int_fast8_t=-1)
KNOWN.update({f"uint_fast{bits}_t": 8 for bits in (16, 32, 64)}, uint_fast8_t=1)
KNOWN.update(dict.fromkeys(("intptr_t", "intmax_t", "ptrdiff_t", "ssize_t"), -8), wchar_t=-4)
KNOWN.update(dict.fromkeys(("uintptr_t", "uintmax_t", "size_t"), 8))
BASE_TYPES = {
    **dict.fromkeys(("char", "signed char", "unsigned char", "_Bool"), 1),
    **dict.fromkeys(("short int", "short unsigned int", "short", "unsigned short"), 2),
    **dict.fromkeys(("int", "unsigned int", "float"), 4),
    **dict.fromkeys(("long int", "long unsigned int", "long", "unsigned long"), 8),
    **dict.fromkeys(("long long int", "long long unsigned int", "long long", "unsigned long long", "double"), 8),
    "long double": 16,
}
INTEGERS = {1: "signed char", 2: "short", 4: "int", 8: "long"}
#: Names of variables in what cffi writes to look at an enumerator.
TAKEN_ENUMERATORS = {"n", "o"}
#: Macros that what cffi writes needs itself.
NEEDED_MACROS = {"NULL", "assert", "offsetof", "static"}
TAGS = {TAG_STRUCTURE: "struct", TAG_UNION: "union", TAG_ENUMERATION: "enum"}
PASSED_ON = (TAG_VOLATILE, TAG_RESTRICT, TAG_ATOMIC)
VARIADIC_LIST = {"va_list", "__builtin_va_list", "__gnuc_va_list", "__va_list_tag"}


class Inexpressible(Exception):  # noqa: N818 - it is no error: it says why a function is left out
    """A type that cffi has no words for; the text says which."""


class Speller:
    """Spells types, and collects what they need: ``text`` declares it, ``names`` are all that it defines.

    ``fields`` are names of fields, ``checks`` assertions in C about sizes and places.
    """

    def __init__(self, debug: DebugInfo, types: Types) -> None:
        self._debug = debug
        self._types = types
        self._tags: dict[str, None] = {}
        self._bodies: list[str] = []
        self._seen: dict[str, str] = {}
        self.names: dict[str, None] = {}
        self.fields: set[str] = set()
        self.checks: list[str] = []

    @property
    def text(self) -> str:
        return "\n".join([*(f"{tag};" for tag in self._tags), *self._bodies])

    def is_opaque(self, offset: int) -> bool:
        """Whether a record that was spelled has a layout that could not be."""
        if self._seen.get(f"{self._types.node(offset).offset}") == "opaque":
            return True
        while offset:  # typedef struct {...} vector __attribute__((aligned(32)))
            die = self._debug.die(offset)
            if AT_ALIGNMENT in die.values:
                return True
            if die.tag not in (TAG_TYPEDEF, TAG_CONST, *PASSED_ON):
                break
            offset = self._debug.reference(die, AT_TYPE)
        return False

    def spell(self, offset: int, inner: str) -> str:
        """The declaration of ``inner`` as of the type at ``offset``.

        Raises:
            Inexpressible: there are no words for it.
        """
        if not offset:
            return _joined("void", inner)
        die = self._debug.die(offset)
        target = self._debug.reference(die, AT_TYPE)
        if die.tag == TAG_CONST:
            while target and self._debug.die(target).tag in PASSED_ON:
                target = self._debug.reference(self._debug.die(target), AT_TYPE)
            if target and self._debug.die(target).tag == TAG_POINTER:
                return self.spell(target, f"const {inner}".rstrip())
            return f"const {self.spell(target, inner)}"
        if die.tag in PASSED_ON:
            return self.spell(target, inner)
        if die.tag == TAG_POINTER:
            kind = self._debug.die(target).tag if target else 0
            return self.spell(target, f"(*{inner})" if kind in (TAG_FUNCTION_TYPE, TAG_ARRAY) else f"*{inner}")
        if die.tag == TAG_FUNCTION_TYPE:
            signature = self._types.signature(offset)
            if signature.is_variadic:
                raise Inexpressible("a pointer to a function that takes any number of arguments")
            parameters = [self.spell(parameter, "") for parameter in signature.parameters]
            return self.spell(signature.returns, f"{inner}({', '.join(parameters) or 'void'})")
        if die.tag == TAG_ARRAY:
            node = self._types.node(offset)
            lengths = "".join(f"[{'' if length == UNKNOWN else length}]" for length in node.dimensions)
            return self.spell(node.target, f"{inner}{lengths}")
        return _joined(self._name(die, target), inner)

    def _name(self, die: Die, target: int) -> str:
        name = self._debug.text(die, AT_NAME)
        if name in VARIADIC_LIST:
            raise Inexpressible("a `va_list`")
        if name in ("PyObject", "_object"):
            raise Inexpressible("a `PyObject`: it is called without the GIL, so it may not touch Python's objects")
        if die.tag == TAG_BASE_TYPE:
            size = self._types.node(die.offset).size
            if BASE_TYPES.get(name) != size:
                raise Inexpressible(f"the type `{name}`" + (f" of {size} bytes" if name in BASE_TYPES else ""))
            return name
        if die.tag == TAG_TYPEDEF:
            if name == "FILE" or name in self._seen:
                return name
            if name in KNOWN:  # a file may define it as it likes
                node = self._types.node(target)
                is_usual = KNOWN[name] == (-node.size if node.is_signed else node.size)
                return name if is_usual else self.spell(target, "")
            self._typedef(name, target)
            return name
        if die.tag == TAG_ENUMERATION and not self._is_enum(die):
            return self._integer(die)
        if die.tag in TAGS and name:
            return self._tagged(die, name)
        body = self._body(die) if die.tag in TAGS else ""
        if body:  # the type of one field of a record
            return f"{TAGS[die.tag]} {body}"
        raise Inexpressible(f"the type `{name or 'without a name'}`")

    def _typedef(self, name: str, target: int) -> None:
        die = self._debug.die(target) if target else None
        is_enum = die is None or die.tag != TAG_ENUMERATION or self._is_enum(die)
        if die is not None and die.tag in TAGS and AT_NAME not in die.values and is_enum:
            self._seen[name] = ""
            self.names[name] = None
            body = self._body(die)
            self._seen[f"{die.offset}"] = "" if body else "opaque"
            self._bodies.append(f"typedef {TAGS[die.tag]} {body or f'hot_tag_{name}'} {name};")
            self._check_layout(name, die, body)
            return
        text = self.spell(target, name)
        if name in self._seen:  # the record that it names has a field of it
            return
        self._seen[name] = ""
        self.names[name] = None
        self._bodies.append(f"typedef {text};")

    def _tagged(self, die: Die, name: str) -> str:
        tag = f"{TAGS[die.tag]} {name}"
        if tag not in self._seen:
            self._seen[tag] = ""
            self.names[name] = None
            if die.tag != TAG_ENUMERATION:
                self._tags[tag] = None
            body = self._body(die)
            self._seen[f"{die.offset}"] = "" if body else "opaque"
            if body:
                self._bodies.append(f"{tag} {body};")
                self._check_layout(tag, die, body)
        return tag

    # Layouts -------------------------------------------------------------------------------------------------------

    def _body(self, die: Die) -> str:
        """The part in braces; empty where the layout cannot be told."""
        if die.tag == TAG_ENUMERATION:
            values = self._enumerators(die)
            self.names.update(dict.fromkeys(values))
            return "{ " + ", ".join(f"{name} = {value}" for name, value in values.items()) + " }"
        node = self._types.node(die.offset)
        children = [child for child in self._debug.children(die) if child.tag == TAG_MEMBER]
        has_bits = any(AT_BIT_SIZE in child.values or AT_NAME not in child.values for child in children)
        is_aligned = any(AT_ALIGNMENT in each.values for each in (die, *children))
        if node.is_opaque or has_bits or is_aligned or not node.members or not self._is_natural(die, node):
            return ""
        try:
            fields = [self.spell(member.type, member.name) for member in node.members]
        except Inexpressible:
            return ""
        self.fields.update({member.name for member in node.members} - NEEDED_MACROS)
        return "{ " + " ".join(f"{field};" for field in fields) + " }"

    def _check_layout(self, name: str, die: Die, body: str) -> None:
        """Has the compiler insist that what it makes of a declaration is what the object has."""
        node = self._types.node(die.offset)
        if body:
            self.checks.append(f'_Static_assert(sizeof({name}) == {node.size}, "size of {name}");')
            self.checks += [
                f'_Static_assert(__builtin_offsetof({name}, {m.name}) == {m.bit // 8}, "place of {m.name}");'
                for m in node.members
            ]

    def _is_natural(self, die: Die, node: Node) -> bool:
        """Whether the fields are where a compiler puts them that is told nothing else."""
        end, alignment = 0, 1
        for member in node.members:
            own = self._alignment(member.type)
            size = self._types.node(member.type).size
            if not own or (not size and self._types.node(member.type).kind == ARRAY):
                return False
            at = 0 if die.tag == TAG_UNION else -(-end // own) * own
            if member.bit != at * 8:
                return False
            end = max(end, size) if die.tag == TAG_UNION else at + size
            alignment = max(alignment, own)
        return node.size == -(-end // alignment) * alignment

    def _alignment(self, offset: int) -> int:
        """What a type is aligned to by itself; 0 where that is not known."""
        node = self._types.node(offset)
        if node.kind == ARRAY:
            return self._alignment(node.target)
        if node.kind == RECORD:
            return max((self._alignment(member.type) for member in node.members), default=0)
        return node.size if node.kind != NUMBER or node.encoding != "complex" else 0

    # Enumerations --------------------------------------------------------------------------------------------------

    def _enumerators(self, die: Die) -> dict[str, int]:
        named = [child for child in self._debug.children(die) if child.tag == TAG_ENUMERATOR]
        return {self._debug.text(c, AT_NAME): self._debug.constant(c, AT_CONST_VALUE) for c in named}

    def _is_enum(self, die: Die) -> bool:
        """Whether it is as large as a compiler makes it that is told nothing else (packed, -fshort-enums)."""
        values = self._enumerators(die)
        low, high = min(values.values(), default=0), max(values.values(), default=0)
        is_int = (low >= -(1 << 31) and high < 1 << 31) or (low >= 0 and high < 1 << 32)
        is_usual = self._types.node(die.offset).size == (4 if is_int else 8)
        return bool(values) and is_usual and not TAKEN_ENUMERATORS & set(values)

    def _integer(self, die: Die) -> str:
        size = self._types.node(die.offset).size
        below = self._debug.reference(die, AT_TYPE)
        is_signed = self._types.node(below).is_signed if below else min(self._enumerators(die).values(), default=0) < 0
        return INTEGERS[size] if is_signed else f"unsigned {INTEGERS[size].replace('signed ', '')}"


def _joined(words: str, inner: str) -> str:
    return f"{words} {inner}" if inner else words
