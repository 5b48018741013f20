"""What the functions of an object take and return, written down for cffi: from DWARF, so no C is parsed here.

A text that cffi reads, and the compiler behind it::

    struct image;                                       tags first: pointers may lead anywhere
    typedef struct image image;
    struct image { int w; int h; uint8_t *px; };        a layout that is the natural one; else the tag stays opaque
    void blur(image *a0, const float *a1, long a2);

The wrapper must not see the user's headers, whose macros could mean anything there, and its own include what Python
needs, which may define the same names. So each name of ours is another one in the wrapper's C, by ``#define``, and each
function has its symbol by an ``asm`` label. The compiler behind it insists that every layout is the one of the object.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import NamedTuple, Optional

from hotreload.diff.types import ARRAY, RECORD, Types
from hotreload.elf.debug import DebugInfo, Subprogram
from hotreload.elf.dwarf import AT_EXTERNAL, AT_NAME, AT_PROTOTYPED, TAG_PARAMETER
from hotreload.elf.file import ElfFile
from hotreload.mark.making.spelling import Inexpressible, Speller

__all__ = ["Function", "Header", "read_header"]

#: Names of variables in what cffi writes: a function of that name could not be called there.
TAKEN = {"self", "args", "result", "pyresult", "datasize", "large_args_free", "noarg", "alloca", "memset"}
#: An array of the addresses of the functions, in their order: what is redirected, which no caller sees.
ENTRIES = "hotreload_entries"
FLOAT_SIZE = 4


class Function(NamedTuple):
    """One function: its prototype as a person reads it, as cffi does, and which pointers only read.

    ``symbol`` is another name only where an ``asm`` label gives one; ``file`` is a base name.
    """

    name: str
    symbol: str
    prototype: str
    declaration: str
    file: str
    line: int
    reads_only: tuple[bool, ...]


class Header(NamedTuple):
    """``types`` and the declarations are for cffi; ``left_out`` says why, ``statics`` are no symbols of the file.

    ``fields`` are names of fields, ``checks`` what the compiler is to insist on.
    """

    types: str
    functions: dict[str, Function]
    left_out: dict[str, str]
    statics: list[str]
    names: list[str]
    fields: list[str]
    checks: list[str]

    @property
    def cdef(self) -> str:
        """All of it, as cffi reads it."""
        declared = [f"{function.declaration};" for function in self.functions.values()]
        return "\n".join([self.types, *declared, f"extern uintptr_t {ENTRIES}[{len(self.functions)}];", ""])

    @property
    def preamble(self) -> str:
        """The same in C, under names that nothing else has."""
        renamed = [f"#undef {name}\n#define {name} hot_{name}" for name in (*self.names, *self.functions)]
        freed = [f"#undef {name}" for name in self.fields]
        labelled = [f'extern {f.declaration} __asm__("{f.symbol}");' for f in self.functions.values()]
        entries = ", ".join(f"(uintptr_t){name}" for name in self.functions)
        array = f"static uintptr_t {ENTRIES}[] = {{{entries}}};"
        return "\n".join([*freed, *renamed, self.types, *self.checks, *labelled, array, ""])


def read_header(
    elf: ElfFile, only: Optional[Collection[str]] = None, left_out: Optional[Mapping[str, str]] = None
) -> Header:
    """What is known of the functions of an object.

    Args:
        elf: the object.
        only: without all others, and the types that they need.
        left_out: why those are not there.
    """
    debug = DebugInfo(elf)
    reader = _Reader(debug)
    functions, because, statics = {}, dict(left_out or {}), []
    for subprogram in debug.subprograms:
        name = subprogram.word or subprogram.name
        if not subprogram.line or not name:
            continue
        if AT_EXTERNAL not in debug.named(debug.die(subprogram.start)).values:
            statics.append(name)
        elif subprogram.has_code and (only is None or name in only):
            try:
                functions[name] = reader.function(subprogram, name)
            except Inexpressible as reason:
                because[name] = str(reason)
    speller = reader.speller
    names = [name for name in speller.names if name not in functions]
    return Header(
        speller.text, functions, because, sorted(set(statics)), names, sorted(speller.fields), list(speller.checks)
    )


class _Reader:
    """Reads one function after the other; the types that they need are collected by ``speller``."""

    def __init__(self, debug: DebugInfo) -> None:
        self._debug = debug
        self._types = Types(debug)
        self.speller = Speller(debug, self._types)

    def function(self, subprogram: Subprogram, name: str) -> Function:
        """Raises Inexpressible; what it needed up to there stays declared, which does no harm."""
        signature = self._types.signature(subprogram.start)
        if name in TAKEN or (name[:1] == "x" and name[1:].isdigit()):
            raise Inexpressible(f"the name `{name}` has another meaning in what calls it")
        if signature.is_variadic:
            raise Inexpressible("it takes any number of arguments (`...`)")
        words = self._parameter_names(subprogram.start)
        self._check_old_style(subprogram.start, signature.parameters)
        spell = self.speller.spell
        for number, offset in enumerate((signature.returns, *signature.parameters)):
            try:
                self._check_value(offset)
                self._check_words(spell(offset, ""))
            except Inexpressible as reason:
                where = f"parameter {number}" if number else "its result"
                raise Inexpressible(f"{where}: {reason}") from None
        parameters = [spell(offset, f"a{i}") for i, offset in enumerate(signature.parameters)]
        readable = [spell(offset, word) for offset, word in zip(signature.parameters, words)]
        declaration = spell(signature.returns, f"{name}({', '.join(parameters) or 'void'})")
        prototype = spell(signature.returns, f"{name}({', '.join(readable) or 'void'})")
        reads_only = tuple(self._types.is_const(self._types.node(p).target) for p in signature.parameters)
        return Function(
            name, subprogram.name, prototype, declaration, self._file_of(subprogram), subprogram.line, reads_only
        )

    def _file_of(self, subprogram: Subprogram) -> str:
        files = self._debug.files_of_unit(self._debug.unit_of(subprogram.start)[1])
        return files[subprogram.file].rpartition("/")[2] if subprogram.file < len(files) else ""

    def _parameter_names(self, start: int) -> list[str]:
        die = self._debug.named(self._debug.die(start))
        found = [child for child in self._debug.children(die) if child.tag == TAG_PARAMETER]
        return [self._debug.text(self._debug.named(child), AT_NAME) for child in found]

    def _check_old_style(self, start: int, parameters: tuple[int, ...]) -> None:
        """``int f(x) float x; {}`` is handed a double, whatever it says."""
        if AT_PROTOTYPED in self._debug.named(self._debug.die(start)).values:
            return
        nodes = [self._types.node(offset) for offset in parameters]
        if any(node.encoding == "float" and node.size == FLOAT_SIZE for node in nodes):
            raise Inexpressible("it is defined in the old style with a `float`, which callers pass as a `double`")

    @staticmethod
    def _check_words(text: str) -> None:
        if "{" in text:
            raise Inexpressible("a struct, union or enum without a name")

    def _check_value(self, offset: int) -> None:
        """What is passed or returned as it is: not by a pointer."""
        node = self._types.node(offset)
        if node.kind == ARRAY:
            raise Inexpressible("a vector type of the compiler")
        if node.kind == RECORD:
            text = self.speller.spell(offset, "").strip()
            if node.is_opaque or self.speller.is_opaque(offset):
                raise Inexpressible(
                    f"`{text}` by value, whose layout cannot be told (bit fields, packed, aligned, unnamed parts)"
                )
