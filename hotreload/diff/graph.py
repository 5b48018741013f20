"""An object file as a graph: sections that mean something, and what they refer to.

With ``-ffunction-sections -fdata-sections`` a section is one function or one variable. Each is of one kind:

    FUNCTION   known by name: a reference to it means *that function*, whatever its body
    VARIABLE   known by name: a reference to it means *that state*, whatever its initial value
    CONTENT    known by what is in it: strings, constants, jump tables, const tables, and pieces of functions
               (.cold, .part, .isra, .constprop), which have no identity and no normal calling convention

So a function is its own section plus all the CONTENT that can be reached from it, and two functions are the same
when these are the same, references being compared by meaning. That one rule covers edited strings and floating
constants (which change no byte of the function), inlined helpers, clones, cold parts and switch tables.
"""

from __future__ import annotations

import hashlib
import re
import struct
from bisect import bisect_right
from functools import cached_property
from typing import Iterator, NamedTuple, Union

from hotreload.build.prologue import PIECE_NAME
from hotreload.diff.types import Types
from hotreload.elf.debug import DebugInfo
from hotreload.elf.file import (
    SHF_ALLOC,
    SHF_EXECINSTR,
    SHF_MERGE,
    SHF_STRINGS,
    SHF_TLS,
    SHF_WRITE,
    SHN_ABS,
    SHN_COMMON,
    SHN_LORESERVE,
    SHN_UNDEF,
    STB_LOCAL,
    STT_FUNC,
    STT_GNU_IFUNC,
    STT_NOTYPE,
    STT_OBJECT,
    STT_SECTION,
    STT_TLS,
    ElfFile,
    R,
    Relocation,
    Section,
    Symbol,
)

__all__ = ["CONTENT", "FUNCTION", "VARIABLE", "ObjectGraph", "Piece", "Reference"]

FUNCTION = "function"
VARIABLE = "variable"
CONTENT = "content"
IGNORED = "ignored"  # tables for the loader, the unwinder and the debugger

LOCAL_STATIC = re.compile(r"^(.+)\.\d+$")
#: A migration hook, see hotreload.h: called by the server, by nobody else.
HOOK_NAME = re.compile(r"^hotreload_(pre_commit|post_commit|post_rollback)_(\w+)$")
#: What PYBIND11_MODULE makes of its body; its table of slots is filled when it is run.
OF_PYBIND = re.compile(r"_ZL\d+pybind11_(exec|init)_\w+")
RELOCATED_CONSTANT = (".data.rel.ro", ".data.rel.ro.local")
NOT_DATA = ("__patchable_function_entries", ".init_array", ".fini_array", ".preinit_array", ".ctors", ".dtors")
LOADED_FIRST = (".init_array", ".preinit_array", ".ctors")
UNNAMED = ".rodata"
RUN_LAST = (".fini_array", ".dtors")
NOT_CODE = (".eh_frame", ".note", ".tm_clone_table")
HANDLERS = ".gcc_except_table"
# Pointers that exception handling goes through; writable only because the loader relocates them.
INDIRECT = (".data.rel.local.DW.ref.", ".data.DW.ref.")

PC_RELATIVE = {R.PC32, R.PLT32, R.GOTPCREL, R.GOTPCRELX, R.REX_GOTPCRELX, R.GOTTPOFF, R.TLSGD, R.TLSLD}
PC_BIAS = 4  # the processor counts from the end of the field
LEA = 0x8D
FUNC_TYPES = (STT_FUNC, STT_GNU_IFUNC)

# What a reference leads to.
TO_EXTERNAL, TO_ENTRY, TO_VARIABLE, TO_CONTENT, TO_INSIDE, TO_ABSOLUTE = (
    *("external", "entry", "variable"),
    *("content", "inside", "absolute"),
)


class Reference(NamedTuple):
    """One relocation, understood.

    ``kind`` is one of the TO_ constants; ``name`` the function, variable or external symbol; ``section`` where
    the target lies (0: elsewhere) and ``delta`` the relocation's value relative to its start, PC bias included.
    """

    offset: int
    type: int
    kind: str
    name: str
    section: int
    delta: int
    symbol: int


class Piece(NamedTuple):
    """One section of a function in canonical form: its bytes, and its references by meaning."""

    content: bytes
    references: tuple[tuple[Union[int, str, bytes], ...], ...]


class ObjectGraph:
    """The graph of one relocatable object.

    ``debug`` names the owners of static locals; without debug information they keep the names that the
    compiler gave them (``calls.0``), whose numbers move.
    """

    def __init__(self, elf: ElfFile) -> None:
        self.elf = elf
        self.debug = DebugInfo(elf)
        self._fingerprints: dict[str, bytes] = {}
        self._starts: dict[int, list[int]] = {}

    @cached_property
    def types(self) -> Types:
        """The types of the object; read only where a guard has to compare them."""
        return Types(self.debug)

    @cached_property
    def symbols_in(self) -> dict[int, list[Symbol]]:
        """The functions, objects and thread-locals that each section holds."""
        found: dict[int, list[Symbol]] = {}
        for symbol in self.elf.symbols:
            if symbol.type in (*FUNC_TYPES, STT_OBJECT, STT_TLS) or self._is_asm_label(symbol):
                found.setdefault(symbol.section, []).append(symbol)
        return found

    def _is_asm_label(self, symbol: Symbol) -> bool:
        return symbol.type == STT_NOTYPE and symbol.section != SHN_UNDEF and not symbol.name.startswith(".L")

    @cached_property
    def functions(self) -> dict[str, Symbol]:
        """Every function that is known by name."""
        return {
            symbol.name: symbol
            for section, symbols in self.symbols_in.items()
            if self.kinds.get(section) == FUNCTION
            for symbol in symbols
            if symbol.type in FUNC_TYPES and not PIECE_NAME.search(symbol.name)
        }

    @cached_property
    def kinds(self) -> dict[int, str]:
        """The kind of each section."""
        kinds = {section.number: self._kind(section) for section in self.elf.sections}
        for index, kind in kinds.items():
            # A writable table of label addresses (computed goto) belongs to the code whose labels it holds.
            if kind == VARIABLE and any(self._leads_inside(index, r) for r in self.elf.relocations(index)):
                kinds[index] = CONTENT
        return kinds

    def _kind(self, section: Section) -> str:
        if not section.flags & SHF_ALLOC or section.name.startswith((*NOT_DATA, *NOT_CODE)):
            return IGNORED
        if section.flags & SHF_EXECINSTR:
            names = [s.name for s in self.symbols_in.get(section.number, []) if s.type in FUNC_TYPES]
            has_identity = any(not PIECE_NAME.search(name) for name in names)
            return FUNCTION if has_identity and section.number not in self._private_code else CONTENT
        if section.flags & SHF_TLS:
            return VARIABLE
        is_named = section.number in self.symbols_in  # pointers for exception handling are not
        if section.flags & SHF_WRITE and is_named and not _is_relocated_constant(section.name):
            return VARIABLE
        return CONTENT

    @cached_property
    def _private_code(self) -> set[int]:
        """Code of static functions of which clang has seen every caller.

        It gives them a calling convention of their own, and callers that rely on their bodies; GCC is told not to.
        """
        if "clang" not in self.elf.compiler:
            return set()
        local = {
            section
            for section, symbols in self.symbols_in.items()
            if all(s.bind == STB_LOCAL and not HOOK_NAME.match(s.name) for s in symbols if s.type in FUNC_TYPES)
        }
        for section in self.elf.sections:
            is_list = section.name.startswith((*LOADED_FIRST, *RUN_LAST))  # of addresses, for the loader
            if section.flags & SHF_ALLOC and (is_list or not section.name.startswith((*NOT_DATA, *NOT_CODE))):
                is_code = section.flags & SHF_EXECINSTR
                for relocation in self.elf.relocations(section.number):
                    if not (is_code and relocation.type == R.PLT32):
                        local.discard(self.elf.symbols[relocation.symbol].section)
        return {section for section in local if self.elf.sections[section].flags & SHF_EXECINSTR}

    @cached_property
    def private(self) -> set[str]:
        """The names of the functions that are known to their callers alone, and copied along with these."""
        return {symbol.name for section in self._private_code for symbol in self.symbols_in[section]}

    def _leads_inside(self, source: int, relocation: Relocation) -> bool:
        symbol = self.elf.symbols[relocation.symbol]
        if symbol.section in (SHN_UNDEF, SHN_ABS, SHN_COMMON):
            return False
        target = self.elf.sections[symbol.section]
        if not target.flags & SHF_EXECINSTR:
            return False
        return self._entry_at(source, relocation, symbol) is None

    def _entry_at(self, source: int, relocation: Relocation, symbol: Symbol) -> Union[str, None]:
        """The function whose entry the relocation means; None if it leads into a function's body."""
        offset = symbol.value + relocation.addend
        if relocation.type in PC_RELATIVE:
            if not self.elf.sections[source].flags & SHF_EXECINSTR:
                return None  # an offset in a jump table counts from the table
            offset += PC_BIAS
        for candidate in self.symbols_in.get(symbol.section, ()):
            if candidate.value == offset and candidate.type in FUNC_TYPES and not PIECE_NAME.search(candidate.name):
                return symbol.name if symbol.type in FUNC_TYPES and symbol.value == offset else candidate.name
        return None

    @cached_property
    def handlers(self) -> dict[int, list[tuple[int, int]]]:
        """The exception table of each section of code, as section and offset: only .eh_frame refers to it."""
        frames = self.elf.section(".eh_frame")
        found: dict[int, list[tuple[int, int]]] = {}
        code = 0
        for relocation in self.elf.relocations(frames.number) if frames else []:
            symbol = self.elf.symbols[relocation.symbol]
            section = self.elf.sections[symbol.section] if symbol.section < SHN_LORESERVE else None
            if section is not None and section.flags & SHF_EXECINSTR:
                code = section.number
            elif section is not None and section.name.startswith(HANDLERS):
                found.setdefault(code, []).append((section.number, symbol.value + relocation.addend))
        return found

    def references(self, index: int) -> list[Reference]:
        """What section ``index`` refers to."""
        return [self._reference(index, relocation) for relocation in self.elf.relocations(index)]

    def _reference(self, index: int, relocation: Relocation) -> Reference:
        symbol = self.elf.symbols[relocation.symbol]
        delta = symbol.value + relocation.addend
        offset, kind_of_field = relocation.offset, relocation.type

        def to(kind: str, name: str, section: int = 0, by: int = relocation.addend) -> Reference:
            return Reference(offset, kind_of_field, kind, name, section, by, symbol.number)

        if symbol.section == SHN_ABS or not symbol.number:
            return to(TO_ABSOLUTE, symbol.name, by=delta)
        if symbol.section == SHN_COMMON:
            return to(TO_VARIABLE, symbol.name)
        if symbol.section == SHN_UNDEF:
            return to(TO_EXTERNAL, symbol.name)
        kind = self.kinds[symbol.section]
        if kind == VARIABLE:
            return to(TO_VARIABLE, self.variable_key(symbol.section), symbol.section, delta)
        if self.elf.sections[symbol.section].flags & SHF_EXECINSTR:
            entry = self._entry_at(index, relocation, symbol)
            if entry is not None and kind == FUNCTION:
                return to(TO_ENTRY, entry, symbol.section)
            return to(TO_INSIDE if kind == FUNCTION else TO_CONTENT, symbol.name, symbol.section, delta)
        return to(TO_CONTENT, symbol.name, symbol.section, delta)

    def variable_key(self, section: int) -> str:
        """The name by which the variable in ``section`` is known over all versions of this source."""
        owner = self._static_owners.get(section)
        if owner:
            return owner
        names = sorted((s.value, s.name) for s in self.symbols_in.get(section, ()))
        return "+".join(name for _, name in names) or self.elf.sections[section].name

    @cached_property
    def _static_owners(self) -> dict[int, str]:
        suffixed = {
            section
            for section, symbols in self.symbols_in.items()
            if self.kinds.get(section) == VARIABLE and any(LOCAL_STATIC.match(s.name) for s in symbols)
        }
        if not suffixed:
            return {}
        owners = self.debug.static_locals(suffixed)
        return {
            section: f"{found.owner}::{found.name}" + (f"#{found.ordinal}" if found.ordinal else "")
            for (section, offset), found in owners.items()
            if not offset
        }

    @cached_property
    def variables(self) -> dict[str, int]:
        """The section of each variable, by its key; common symbols are not among them."""
        return {
            self.variable_key(index): index
            for index, kind in self.kinds.items()
            if kind == VARIABLE and self.elf.sections[index].size
        }

    @cached_property
    def constructors(self) -> set[str]:
        """The functions that the loader runs when it loads the library."""
        return self._named_in(LOADED_FIRST)

    @cached_property
    def destructors(self) -> set[str]:
        """The functions that the loader runs when the process ends."""
        return self._named_in(RUN_LAST)

    def _named_in(self, prefixes: tuple[str, ...]) -> set[str]:
        tables = [s.number for s in self.elf.sections if s.name.startswith(prefixes)]
        return {name for table in tables for r in self.references(table) for name in self._names_at(r)}

    def _names_at(self, reference: Reference) -> list[str]:
        """What the code that a reference leads to is called; clang refers to it by its section."""
        if reference.name:
            return [reference.name]
        return [s.name for s in self.symbols_in.get(reference.section, ()) if s.value == reference.delta]

    @cached_property
    def initialisers(self) -> set[str]:
        """The functions that the loader runs when it loads the library, and an extension's init function."""
        return {name for name in self.functions if name in self.constructors or name.startswith("PyInit_")}

    def variable_line(self, key: str) -> int:
        """Where a variable is declared; if that is not known, where the function begins that owns it."""
        owner, _, name = key.rpartition("::")
        section = self.variables.get(key) or self.constants.get(key)
        if section is not None:
            symbols = self.symbols_in.get(section, [])
            place = (section, symbols[0].value) if symbols else (section, 0)
            is_local = owner or "." in name
            lines = self.debug.static_local_lines({section}) if is_local else self.debug.lines_by_place
            if place in lines:
                return lines[place]
        whole, lines_of = name.partition(".")[0], self.debug.variable_lines  # clang: a piece of it, or "owner.name"
        return lines_of.get(name) or lines_of.get(whole) or self.debug.lines.get(owner or whole, 0)

    def line_of(self, section: int) -> int:
        """Where the function begins that the code in ``section`` belongs to, or the variable that is in it."""
        names = [PIECE_NAME.split(s.name, 1)[0] for s in self.symbols_in.get(section, ())]
        lines = (self.debug.lines.get(name) or self.debug.variable_lines.get(name) for name in names)
        return next((line for line in lines if line), 0)

    def variable_type(self, section: int) -> int:
        """The type of the variable, or constant, that ``section`` holds alone; 0 where that is not known."""
        symbols = self.symbols_in.get(section, [])
        place = (section, symbols[0].value) if symbols else (section, 0)
        known = self.debug.variable_types
        if place in known:
            return known[place]
        name = symbols[0].name if len(symbols) == 1 else ""
        if "." in name:
            known = self._local_types if section in self._local_variables else self.debug.static_local_types({section})
            return known.get(place, 0)
        return self.debug.types_by_name.get(name, 0)

    @cached_property
    def _local_variables(self) -> set[int]:
        """The sections of the static variables of functions, which are cheaper to look up together."""
        return {i for i in self.variables.values() if any("." in symbol.name for symbol in self.symbols_in.get(i, ()))}

    @cached_property
    def _local_types(self) -> dict[tuple[int, int], int]:
        return self.debug.static_local_types(self._local_variables)

    @cached_property
    def run_once(self) -> set[str]:
        """The functions that Python runs when it makes the module: those of Py_mod_exec slots, and pybind11's."""
        found = {name for name in self.functions if OF_PYBIND.match(name)}
        for section in (*self.variables.values(), *self.constants.values()):
            offset = self.variable_type(section) if self.elf.relocations(section) else 0
            if offset and self.types.element(offset).key == "struct PyModuleDef_Slot":
                found |= {reference.name for reference in self.references(section) if reference.kind == TO_ENTRY}
        return found

    @cached_property
    def constants(self) -> dict[str, int]:
        """The section of each const object that has a name and a section of its own."""
        found = {}
        for index, symbols in self.symbols_in.items():
            section = self.elf.sections[index] if index < SHN_LORESERVE else None
            if section and self.kinds[index] == CONTENT and not section.flags & (SHF_EXECINSTR | SHF_MERGE):
                names = [s.name for s in symbols if s.type == STT_OBJECT]
                if len(names) == 1:
                    found[names[0]] = index
        return found

    def meaning(self, index: int, reference: Reference) -> tuple[Union[int, str, bytes], ...]:
        """What a reference in section ``index`` means, in terms that two versions can be compared by."""
        text = self._merged_text(index, reference)
        if text is not None:
            return ("text", *text)
        if reference.kind == TO_CONTENT:
            return ("content", self.content_fingerprint(reference.section), reference.delta)
        return (reference.kind, reference.name, reference.delta)

    def pieces(self, name: str) -> list[Piece]:
        """Function ``name`` in canonical form: its own section first, then all content it reaches."""
        return [piece for _, piece in self._walk(self.functions[name].section)]

    def bodies(self, name: str) -> set[str]:
        """The functions whose text went into ``name``: itself, those inlined into it, and those copied along."""
        names = {name}
        for section in self.reach(self.functions[name].section):
            code = [s.name for s in self.symbols_in.get(section, ()) if s.type in FUNC_TYPES]
            names.update(PIECE_NAME.split(piece, 1)[0] for piece in code)
        return names.union(*(self.debug.inlined_into(body) for body in names))

    def reach(self, section: int) -> list[int]:
        """``section`` and all CONTENT that can be reached from it, in the order of first reference."""
        return [index for index, _ in self._walk(section)]

    def fingerprint(self, name: str) -> bytes:
        """Equal for two functions if and only if they are the same, references compared by meaning."""
        if name not in self._fingerprints:
            entry = self.functions[name].value
            digest = hashlib.sha256(struct.pack("<Q", entry))
            for piece in self.pieces(name):
                digest.update(repr((len(piece.content), piece.references)).encode())
                digest.update(piece.content)
            self._fingerprints[name] = digest.digest()
        return self._fingerprints[name]

    def content_fingerprint(self, section: int) -> bytes:
        """The same for a variable's initial value or for a piece of content."""
        digest = hashlib.sha256()
        for index, piece in self._walk(section):
            digest.update(repr((self.elf.sections[index].size, piece.references)).encode())
            digest.update(piece.content)
        return digest.digest()

    def _walk(self, root: int) -> Iterator[tuple[int, Piece]]:
        order = {root: 0}
        queue = [root]
        for index in queue:
            canonical: list[tuple[Union[int, str, bytes], ...]] = []
            for handlers, start in self.handlers.get(index, ()):
                if handlers not in order:
                    order[handlers] = len(order)
                    queue.append(handlers)
                canonical.append(("handlers", order[handlers], start))
            for reference in self.references(index):
                text = self._merged_text(index, reference)
                if text is not None:
                    canonical.append((reference.offset, reference.type, "text", *text))
                elif reference.kind in (TO_CONTENT, TO_INSIDE) and (
                    reference.kind == TO_CONTENT or reference.section == root
                ):
                    if reference.section not in order:
                        order[reference.section] = len(order)
                        queue.append(reference.section)
                    canonical.append(
                        (reference.offset, reference.type, "piece", order[reference.section], reference.delta)
                    )
                else:
                    canonical.append(
                        (reference.offset, reference.type, reference.kind, reference.name, reference.delta)
                    )
            yield index, Piece(self.elf.content(self.elf.sections[index]), tuple(canonical))

    def _merged_text(self, index: int, reference: Reference) -> Union[tuple[bytes, int], None]:
        """The string or constant in a merged section that is meant, and the distance from its start.

        The linker merges equal ones, so they have no place of their own, only content. Where neither a label
        nor the form of the instruction tells which one is meant, None: then the whole section is compared.
        """
        if reference.kind != TO_CONTENT:
            return None
        section = self.elf.sections[reference.section]
        if self.elf.relocation_section(section.number):
            return None
        if not section.flags & SHF_MERGE:
            text = self._lone_text(index, reference)
            return None if text is None else (text, 0)
        symbol = self.elf.symbols[reference.symbol]
        if symbol.type != STT_SECTION:
            start = symbol.value
        elif reference.type in PC_RELATIVE and self.is_lea(index, reference.offset):
            start = reference.delta + PC_BIAS
        elif reference.type == R.ABS64:
            start = reference.delta
        else:
            return None
        data = self.elf.content(section)
        if section.flags & SHF_STRINGS:
            return _text_at(data, start, section.entsize), reference.delta - start
        return data[start : start + section.entsize], reference.delta - start

    def _lone_text(self, index: int, reference: Reference) -> Union[bytes, None]:
        """The string that a table means which lies among the compiler's own constants, where nothing is merged.

        GCC keeps all strings of a file there as soon as one function is compiled with ``optimize("O0")``. What is no
        string is taken up to the next constant that a table refers to, but to the end of a zero-terminated text.
        """
        section, start = self.elf.sections[reference.section], reference.delta
        is_table = not self.elf.sections[index].flags & SHF_EXECINSTR
        if section.name != UNNAMED or section.number in self.symbols_in or reference.type != R.ABS64 or not is_table:
            return None
        data = self.elf.content(section)
        text = _text_at(data, start, 1)
        starts = self._starts_in(section.number)
        end = [*starts, len(data)][bisect_right(starts, start + len(text))]
        return data[start:end] if any(data[start + len(text) : end]) else text

    def _starts_in(self, section: int) -> list[int]:
        """Where the addresses in tables lead to in ``section``, in order."""
        if section not in self._starts:
            tables = [s.number for s in self.elf.sections if s.flags & SHF_ALLOC and not s.flags & SHF_EXECINSTR]
            self._starts[section] = sorted(
                self.elf.symbols[r.symbol].value + r.addend
                for table in tables
                for r in self.elf.relocations(table)
                if r.type == R.ABS64 and self.elf.symbols[r.symbol].section == section
            )
        return self._starts[section]

    def is_lea(self, index: int, offset: int) -> bool:
        """Whether the field at ``offset`` of section ``index`` is that of an instruction which computes an address."""
        code = self.elf.content(self.elf.sections[index])
        return offset >= 2 and code[offset - 2] == LEA and code[offset - 1] & 0xC7 == 0x05

    def is_local(self, name: str) -> bool:
        """Whether function ``name`` is static."""
        return self.functions[name].bind == STB_LOCAL


def _is_relocated_constant(name: str) -> bool:
    return name in RELOCATED_CONSTANT or name.startswith((*(f"{prefix}." for prefix in RELOCATED_CONSTANT), *INDIRECT))


def _text_at(data: bytes, start: int, width: int) -> bytes:
    """The zero-terminated string of ``width``-byte characters at ``start``."""
    end = start
    while end < len(data) and any(data[end : end + width]):
        end += width
    return data[start:end]
