"""Finishing hook prologues: from 24 one-byte NOPs to padding and one 8-byte instruction.

``-fpatchable-function-entry=24,16`` leaves this at each function:

    -16                              0 = entry                +8
     90 90 90 90 90 90 ... 90 90 90   90 90 90 90 90 90 90 90   body
    finished, in the file and before it is ever mapped:
     cc cc cc cc cc cc ... cc cc cc   0f 1f 84 00 00 00 00 00   body
     (int3, never reached)            nopl 0x0(%rax,%rax,1)

or, where the prologue is "slot" (``slots.py`` makes them), and for functions that are marked in C as well:

     cc cc cc cc cc cc ... cc cc cc   ff 25 <rel32> cc cc       body
                                      jmp *slot(%rip)  ─▶ slot: address of the body

A thread could stand between one-byte NOPs; it is before or after a single instruction, never inside. Other
bytes than these, or an entry that is not 8-aligned, are left as they are, and named.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from hotreload.build.flags import PADDING, PROLOGUE
from hotreload.build.record import Unpatchable
from hotreload.build.slots import SLOT, Slots, encode_entry
from hotreload.elf.edit import Editor
from hotreload.elf.file import SHF_EXCLUDE, SHF_EXECINSTR, SHN_UNDEF, STT_FUNC, ElfFile

__all__ = [
    "ENTRIES_SECTION",
    "ENTRY_ALIGN",
    "HOOK",
    "MS_HOOK",
    "PIECE_NAME",
    "Entries",
    "finish_bytes",
    "finish_entries",
    "hooked_entries",
    "prepare_object",
]

NOPS = b"\x90" * (PADDING + PROLOGUE)
INT3 = b"\xcc" * PADDING
HOOK = bytes.fromhex("0f1f840000000000")  # nopl 0x0(%rax,%rax,1)
MS_HOOK = bytes.fromhex("488da42400000000")  # lea 0x0(%rsp),%rsp: GCC's ms_hook_prologue
CLANG_NOPS = b"\x90" * PADDING + bytes.fromhex("0f1f840000020000")  # its own idea of one 8-byte NOP
# What GCC and clang split off functions, or specialise: no identity, and no normal calling convention.
PIECE_NAME = re.compile(r"\.(cold|part|isra|constprop|lto_priv|llvm)\b")
ENTRIES_SECTION = "__patchable_function_entries"
SECTION_ALIGN = 16
ENTRY_ALIGN = 8


class Entries(NamedTuple):
    """Addresses of the finished entries, and what could not be finished."""

    finished: set[int]
    unpatchable: list[Unpatchable]


def prepare_object(elf: ElfFile, editor: Editor) -> None:
    """Make a fresh object fit to be linked: code aligned, and the list of entries left out.

    GCC ignores -falign-functions for cold code and at -Os. Its list of entries is not in the COMDAT group of the
    functions that it lists, so that C++ objects that share an inline function would not link.
    """
    for section in elf.sections:
        if section.flags & SHF_EXECINSTR and section.size and section.align < SECTION_ALIGN:
            editor.set_align(section.number, SECTION_ALIGN)
        if section.name == ENTRIES_SECTION:
            editor.add_flags(section.number, SHF_EXCLUDE)


def hooked_entries(elf: ElfFile, own: set[str]) -> set[int]:
    """The entries of the functions in ``own`` that can be finished in a linked library."""
    entries = {s.value for s in elf.symbols if s.type == STT_FUNC and s.section != SHN_UNDEF and s.name in own}
    return {entry for entry in entries if not _reason_to_leave(_code_at(elf, entry), entry)}


def finish_entries(elf: ElfFile, editor: Editor, own: set[str], slots: Slots | None = None) -> Entries:
    """Finish the entries of the functions in ``own`` in a linked library, and name those that cannot be.

    Each of them jumps through a slot of its own where ``slots`` are given.
    """
    finished: set[int] = set()
    unpatchable: list[Unpatchable] = []
    for symbol in elf.symbols:
        if symbol.type != STT_FUNC or symbol.section == SHN_UNDEF or symbol.name not in own:
            continue
        reason = "" if symbol.value in finished else _finish(elf, editor, symbol.value, slots)
        if not reason:
            finished.add(symbol.value)
        elif not PIECE_NAME.search(symbol.name):
            unpatchable.append(Unpatchable(symbol.name, reason))
    return Entries(finished, unpatchable)


def finish_bytes(code: bytearray, start: int, hook: bytes = HOOK) -> bool:
    """Finish the prologue whose padding begins at ``code[start]``; False, and nothing done, if it is none."""
    found = bytes(code[start : start + len(NOPS)])
    if found not in (NOPS, CLANG_NOPS):
        return False
    code[start : start + len(NOPS)] = INT3 + hook
    return True


def _finish(elf: ElfFile, editor: Editor, entry: int, slots: Slots | None) -> str:
    """Finish one entry; the reason where it cannot be."""
    code = _code_at(elf, entry)
    reason = _reason_to_leave(code, entry)
    if reason:
        return reason
    hook = HOOK
    if slots is not None:
        taken = slots.take()
        if taken is None:
            return "the linker kept no slot for it"
        slot, addend = taken
        hook = encode_entry(entry, slot)
        editor.write(addend, (entry + PROLOGUE).to_bytes(SLOT, "little"))
    start = elf.file_offset(entry) - PADDING
    if finish_bytes(code, 0, hook):
        editor.write(start, bytes(code))
    elif slots is not None:  # marked in C: its padding is int3 already
        editor.write(start + PADDING, hook)
    return ""


def _code_at(elf: ElfFile, entry: int) -> bytearray:
    """The padding and the prologue of a function."""
    start = elf.file_offset(entry) - PADDING
    return bytearray(elf.data[start : start + len(NOPS)]) if start >= 0 else bytearray()


def _reason_to_leave(code: bytearray, entry: int) -> str:
    if bytes(code) not in (NOPS, CLANG_NOPS) and bytes(code[PADDING:]) != MS_HOOK:
        return f"the compiler put no hook at its entry ({bytes(code[PADDING:]).hex(' ')})"
    if entry % ENTRY_ALIGN:
        return f"its entry {entry:#x} is not {ENTRY_ALIGN}-byte aligned"
    return ""
