"""What the functions of an object take and return, written down for cffi: from DWARF, so no C is parsed here.

A text that cffi reads, and the compiler behind it::

    struct image;                                       tags first: pointers may lead anywhere
    typedef struct image image;
    struct image { int w; int h; uint8_t *px; };        a layout that is the natural one; else the tag stays opaque
    void blur(image *a0, const float *a1, long a2);

The wrapper must not see the user's headers, whose macros could mean anything there, and its own include what Python
needs, which may define the same names. So each name of ours is another one in the wrapper's C, by ``#define``, and each
function has its symbol by an ``asm`` label.
"""

from __future__ import annotations

from typing import NamedTuple

from hotreload.diff.types import ARRAY, NUMBER, RECORD, UNKNOWN, Node, Types
from hotreload.elf.debug import DebugInfo, Subprogram
from hotreload.elf.dwarf import (
    AT_BIT_SIZE,
    AT_CONST_VALUE,
    AT_EXTERNAL,
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
    TAG_PARAMETER,
    TAG_POINTER,
    TAG_RESTRICT,
    TAG_STRUCTURE,
    TAG_TYPEDEF,
    TAG_UNION,
    TAG_VOLATILE,
    Die,
)
from hotreload.elf.file import ElfFile

__all__ = ["Function", "Header", "read_header"]

#: Names that cffi knows without being told.
KNOWN = {
    f"{sign}int{kind}{bits}_t" for sign in ("", "u") for kind in ("", "_least", "_fast") for bits in (8, 16, 32, 64)
}
KNOWN |= {"intptr_t", "uintptr_t", "intmax_t", "uintmax_t", "ptrdiff_t", "size_t", "ssize_t", "wchar_t", "FILE"}
BASE_TYPES = {
    *("char", "signed char", "unsigned char", "_Bool", "float", "double", "long double"),
    *("short int", "short unsigned int", "int", "unsigned int", "long int", "long unsigned int"),
    *("long long int", "long long unsigned int", "short", "unsigned short", "long", "unsigned long"),
    *("long long", "unsigned long long"),
}
#: Names of variables in what cffi writes: a function of that name could not be called there.
TAKEN = {"self", "args", "result", "pyresult", "datasize", "large_args_free", "noarg", "alloca", "memset"}
#: An array of the addresses of the functions, in their order: what is redirected, which no caller sees.
ENTRIES = "hotreload_entries"
TAGS = {TAG_STRUCTURE: "struct", TAG_UNION: "union", TAG_ENUMERATION: "enum"}
PASSED_ON = (TAG_VOLATILE, TAG_RESTRICT, TAG_ATOMIC)
VARIADIC_LIST = {"va_list", "__builtin_va_list", "__gnuc_va_list", "__va_list_tag"}


class Inexpressible(Exception):  # noqa: N818 - it is no error: it says why a function is left out
    """A type that cffi has no words for; the text says which."""


class Function(NamedTuple):
    """One function: its prototype as a person reads it, as cffi does, its line, and which pointers only read."""

    name: str
    prototype: str
    declaration: str
    line: int
    reads_only: tuple[bool, ...]


class Header(NamedTuple):
    """``types`` and the declarations are for cffi; ``left_out`` says why, ``statics`` are no symbols of the file."""

    types: str
    functions: dict[str, Function]
    left_out: dict[str, str]
    statics: list[str]
    names: list[str]

    @property
    def cdef(self) -> str:
        """All of it, as cffi reads it."""
        declared = [f"{function.declaration};" for function in self.functions.values()]
        return "\n".join([self.types, *declared, f"extern uintptr_t {ENTRIES}[{len(self.functions)}];", ""])

    @property
    def preamble(self) -> str:
        """The same in C, under names that nothing else has."""
        renamed = [f"#undef {name}\n#define {name} hot_{name}" for name in (*self.names, *self.functions)]
        labelled = [f'extern {f.declaration} __asm__("{f.name}");' for f in self.functions.values()]
        entries = ", ".join(f"(uintptr_t){name}" for name in self.functions)
        return "\n".join([*renamed, self.types, *labelled, f"static uintptr_t {ENTRIES}[] = {{{entries}}};", ""])


def read_header(elf: ElfFile) -> Header:
    """What is known of the functions of an object."""
    debug = DebugInfo(elf)
    speller = _Speller(debug)
    functions, left_out, statics = {}, {}, []
    for subprogram in debug.subprograms:
        if not subprogram.line or not subprogram.name:
            continue
        if AT_EXTERNAL not in debug.named(debug.die(subprogram.start)).values:
            statics.append(subprogram.name)
        elif subprogram.has_code:
            try:
                functions[subprogram.name] = speller.function(subprogram)
            except Inexpressible as reason:
                left_out[subprogram.name] = str(reason)
    return Header(speller.text, functions, left_out, sorted(set(statics)), list(speller.names))


class _Speller:
    """Spells types, and collects the declarations that they need, each once and behind what it needs itself."""

    def __init__(self, debug: DebugInfo) -> None:
        self._debug = debug
        self._types = Types(debug)
        self._tags: dict[str, None] = {}
        self._bodies: list[str] = []
        self._seen: dict[str, str] = {}
        self.names: dict[str, None] = {}

    @property
    def text(self) -> str:
        return "\n".join([*(f"{tag};" for tag in self._tags), *self._bodies])

    def function(self, subprogram: Subprogram) -> Function:
        """Raises Inexpressible; what it needed up to there stays declared, which does no harm."""
        name = subprogram.name
        signature = self._types.signature(subprogram.start)
        if name in TAKEN or (name[:1] == "x" and name[1:].isdigit()):
            raise Inexpressible(f"the name `{name}` has another meaning in what calls it")
        if signature.is_variadic:
            raise Inexpressible("it takes any number of arguments (`...`)")
        words = self._parameter_names(subprogram.start)
        for number, offset in enumerate((signature.returns, *signature.parameters)):
            try:
                self._check_value(offset)
                self.spell(offset, "")
            except Inexpressible as reason:
                where = f"parameter {number}" if number else "its result"
                raise Inexpressible(f"{where}: {reason}") from None
        parameters = [self.spell(offset, f"a{i}") for i, offset in enumerate(signature.parameters)]
        readable = [self.spell(offset, word) for offset, word in zip(signature.parameters, words)]
        declaration = self.spell(signature.returns, f"{name}({', '.join(parameters) or 'void'})")
        prototype = self.spell(signature.returns, f"{name}({', '.join(readable) or 'void'})")
        reads_only = tuple(self._types.is_const(self._types.node(p).target) for p in signature.parameters)
        return Function(name, prototype, declaration, subprogram.line, reads_only)

    def _parameter_names(self, start: int) -> list[str]:
        die = self._debug.named(self._debug.die(start))
        found = [child for child in self._debug.children(die) if child.tag == TAG_PARAMETER]
        return [self._debug.text(self._debug.named(child), AT_NAME) for child in found]

    def _check_value(self, offset: int) -> None:
        """What is passed or returned as it is: not by a pointer."""
        node = self._types.node(offset)
        if node.kind == ARRAY:
            raise Inexpressible("a vector type of the compiler")
        if node.kind == RECORD:
            text = self.spell(offset, "").strip()
            if node.is_opaque or self._seen.get(f"{node.offset}") == "opaque":
                raise Inexpressible(
                    f"`{text}` by value, whose layout cannot be told (bit fields, packed, unnamed parts)"
                )

    # Types ---------------------------------------------------------------------------------------------------------

    def spell(self, offset: int, inner: str) -> str:
        """The declaration of ``inner`` as of the type at ``offset``."""
        if not offset:
            return _joined("void", inner)
        die = self._debug.die(offset)
        target = self._debug.reference(die, AT_TYPE)
        if die.tag == TAG_CONST:
            is_pointer = bool(target) and self._debug.die(target).tag == TAG_POINTER
            if is_pointer:
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
            if name not in BASE_TYPES:
                raise Inexpressible(f"the type `{name}`")
            return name
        if die.tag == TAG_TYPEDEF:
            if name not in KNOWN and name not in self._seen:
                self._typedef(name, target)
            return name
        if die.tag in TAGS and name:
            return self._tagged(die, name)
        body = self._body(die) if die.tag in TAGS else ""
        if body:  # the type of one field of a record
            return f"{TAGS[die.tag]} {body}"
        raise Inexpressible(f"the type `{name or 'without a name'}`")

    def _typedef(self, name: str, target: int) -> None:
        die = self._debug.die(target) if target else None
        if die is not None and die.tag in TAGS and AT_NAME not in die.values:
            self._seen[name] = ""
            self.names[name] = None
            body = self._body(die)
            self._seen[f"{die.offset}"] = "" if body else "opaque"
            self._bodies.append(f"typedef {TAGS[die.tag]} {body or f'hot_tag_{name}'} {name};")
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
        return tag

    def _body(self, die: Die) -> str:
        """The part in braces; empty where the layout cannot be told."""
        if die.tag == TAG_ENUMERATION:
            named = [child for child in self._debug.children(die) if child.tag == TAG_ENUMERATOR]
            values = [(self._debug.text(c, AT_NAME), self._debug.constant(c, AT_CONST_VALUE)) for c in named]
            self.names.update(dict.fromkeys(name for name, _ in values))
            return "{ " + ", ".join(f"{name} = {value}" for name, value in values) + " }"
        node = self._types.node(die.offset)
        children = [child for child in self._debug.children(die) if child.tag == TAG_MEMBER]
        has_bits = any(AT_BIT_SIZE in child.values or AT_NAME not in child.values for child in children)
        if node.is_opaque or has_bits or not node.members or not self._is_natural(die, node):
            return ""
        try:
            fields = [self.spell(member.type, member.name) for member in node.members]
        except Inexpressible:
            return ""
        return "{ " + " ".join(f"{field};" for field in fields) + " }"

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


def _joined(words: str, inner: str) -> str:
    return f"{words} {inner}" if inner else words
