"""Finishing hook prologues: from 24 one-byte NOPs to padding and one 8-byte instruction.

``-fpatchable-function-entry=24,16`` leaves this at each function:

    -16                              0 = entry                +8
     90 90 90 90 90 90 ... 90 90 90   90 90 90 90 90 90 90 90   body
    finished, in the file and before it is ever mapped:
     cc cc cc cc cc cc ... cc cc cc   0f 1f 84 00 00 00 00 00   body
     (int3, never reached)            nopl 0x0(%rax,%rax,1)

A thread could stand between one-byte NOPs; it is before or after a single instruction, never inside. Other
bytes than these, or an entry that is not 8-aligned, are left as they are, and named.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from hotreload.build.flags import PADDING, PROLOGUE
from hotreload.build.record import Unpatchable
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


def finish_entries(elf: ElfFile, editor: Editor, own: set[str]) -> Entries:
    """Finish the entries of the functions in ``own`` in a linked library, and name those that cannot be."""
    finished: set[int] = set()
    unpatchable: list[Unpatchable] = []
    for symbol in elf.symbols:
        if symbol.type != STT_FUNC or symbol.section == SHN_UNDEF or symbol.name not in own:
            continue
        reason = "" if symbol.value in finished else _finish(elf, editor, symbol.value)
        if not reason:
            finished.add(symbol.value)
        elif not PIECE_NAME.search(symbol.name):
            unpatchable.append(Unpatchable(symbol.name, reason))
    return Entries(finished, unpatchable)


def finish_bytes(code: bytearray, start: int) -> bool:
    """Finish the prologue whose padding begins at ``code[start]``; False, and nothing done, if it is none."""
    found = bytes(code[start : start + len(NOPS)])
    if found not in (NOPS, CLANG_NOPS):
        return False
    code[start : start + len(NOPS)] = INT3 + HOOK
    return True


def _finish(elf: ElfFile, editor: Editor, entry: int) -> str:
    start = elf.file_offset(entry) - PADDING
    code = bytearray(elf.data[start : start + len(NOPS)]) if start >= 0 else bytearray()
    if bytes(code) not in (NOPS, CLANG_NOPS):
        return f"the compiler put no hook at its entry ({bytes(code[PADDING:]).hex(' ')})"
    if entry % ENTRY_ALIGN:
        return f"its entry {entry:#x} is not {ENTRY_ALIGN}-byte aligned"
    finish_bytes(code, 0)
    editor.write(start, bytes(code))
    return ""
