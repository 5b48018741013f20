"""Finishing hook prologues: from 24 one-byte NOPs to padding and one 8-byte instruction.

``-fpatchable-function-entry=24,16`` leaves this, and lists the address of the first NOP in the section
``__patchable_function_entries``:

    -16                              0 = entry                +8
     90 90 90 90 90 90 ... 90 90 90   90 90 90 90 90 90 90 90   body
    finished, in the file and before it is ever mapped:
     cc cc cc cc cc cc ... cc cc cc   0f 1f 84 00 00 00 00 00   body
     (int3, never reached)            nopl 0x0(%rax,%rax,1)

A thread could stand between one-byte NOPs; it is before or after a single instruction, never inside. Other
bytes than these, or an entry that is not 8-aligned, are left as they are, and named.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from hotreload.build.flags import PADDING, PROLOGUE
from hotreload.build.record import Unpatchable
from hotreload.elf.edit import Editor
from hotreload.elf.file import (
    SHF_EXECINSTR,
    SHT_NOBITS,
    STT_FUNC,
    ElfFile,
    R,
    Section,
)

__all__ = ["ENTRY_ALIGN", "HOOK", "MS_HOOK", "Entries", "finish_entries", "raise_alignment"]

NOPS = b"\x90" * (PADDING + PROLOGUE)
INT3 = b"\xcc" * PADDING
HOOK = bytes.fromhex("0f1f840000000000")  # nopl 0x0(%rax,%rax,1)
MS_HOOK = bytes.fromhex("488da42400000000")  # lea 0x0(%rsp),%rsp: GCC's ms_hook_prologue
CLANG_NOPS = bytes.fromhex("662e0f1f840000000000") + bytes.fromhex("660f1f440000") + HOOK  # 10 + 6 + 8 bytes
ENTRIES_SECTION = "__patchable_function_entries"
SECTION_ALIGN = 16
ENTRY_ALIGN = 8


class Entries(NamedTuple):
    """Addresses of the finished entries, and what could not be finished."""

    finished: set[int]
    unpatchable: list[Unpatchable]


def raise_alignment(elf: ElfFile, editor: Editor) -> None:
    """Align each section of code to 16 bytes: GCC ignores -falign-functions for cold code and at -Os."""
    for section in elf.sections:
        if section.flags & SHF_EXECINSTR and section.size and section.align < SECTION_ALIGN:
            editor.set_align(section.number, SECTION_ALIGN)


def finish_entries(elf: ElfFile, editor: Editor) -> Entries:
    """Finish every listed entry of a linked library in ``editor``, and name those that cannot be."""
    names = {s.value: s.name for s in elf.symbols if s.type == STT_FUNC}
    finished: set[int] = set()
    unpatchable: list[Unpatchable] = []
    for start in _listed(elf):
        entry = start + PADDING
        reason = _finish(elf, editor, start)
        if reason:
            unpatchable.append(Unpatchable(names.get(entry, f"{entry:#x}"), reason))
        else:
            finished.add(entry)
    return Entries(finished, unpatchable)


def finish_bytes(code: bytearray, start: int) -> bool:
    """Finish the prologue whose padding begins at ``code[start]``; False, and nothing done, if it is none."""
    found = bytes(code[start : start + len(NOPS)])
    if found not in (NOPS, CLANG_NOPS):
        return False
    code[start : start + len(NOPS)] = INT3 + HOOK
    return True


def _finish(elf: ElfFile, editor: Editor, start: int) -> str:
    offset = elf.file_offset(start)
    code = bytearray(elf.data[offset : offset + len(NOPS)])
    if (start + PADDING) % ENTRY_ALIGN:
        return f"its entry {start + PADDING:#x} is not {ENTRY_ALIGN}-byte aligned"
    if not finish_bytes(code, 0):
        return f"its entry begins with {bytes(code).hex(' ')}, not with the NOPs of the hot flags"
    editor.write(offset, bytes(code))
    return ""


def _listed(elf: ElfFile) -> list[int]:
    """The addresses in ``__patchable_function_entries``, relocated as the loader would for bias 0."""
    section = elf.section(ENTRIES_SECTION)
    if section is None or section.type == SHT_NOBITS:
        return []
    values = dict(_stored(elf, section))
    for table in (s for s in elf.sections if s.name == ".rela.dyn"):
        for relocation in elf.relocations_in(table):
            if relocation.type == R.RELATIVE and relocation.offset in values:
                values[relocation.offset] = relocation.addend
    return [value for value in values.values() if value]


def _stored(elf: ElfFile, section: Section) -> list[tuple[int, int]]:
    words = struct.iter_unpack("<Q", elf.content(section))
    return [(section.addr + 8 * i, word) for i, (word,) in enumerate(words)]
