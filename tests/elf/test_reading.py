"""The reader sees what pyelftools sees, on real objects and libraries, and refuses what is no ELF file whole."""

from __future__ import annotations

import random
import subprocess

import pytest
from elftools.elf.elffile import ELFFile
from elftools.elf.relocation import RelocationSection
from elftools.elf.sections import SymbolTableSection

from hotreload.elf.debug import DebugInfo
from hotreload.elf.edit import Editor
from hotreload.elf.file import SHT_NOBITS, ElfFile
from hotreload.errors import BuildError

SOURCE = """
#include <stdio.h>
#include <errno.h>
__thread long tls = 4;
static long counter;
const char *const names[] = {"a", "b"};
__attribute__((weak)) long weak(long x) { return x; }
__attribute__((visibility("hidden"))) long hidden(long x) { return x + counter++; }
long f(long x) { static long calls; printf("%ld\\n", ++calls); errno = 0; tls++; return hidden(x) + weak(x); }
"""


@pytest.fixture(scope="module", params=["gcc", "clang"])
def made(request, tmp_path_factory):
    """An object and a library linked from it, by each compiler."""
    directory = tmp_path_factory.mktemp("elf")
    (directory / "a.c").write_text(SOURCE)
    try:
        words = [request.param, "-O2", "-g", "-fPIC", "-ffunction-sections", "-fdata-sections"]
        subprocess.run([*words, "-c", "a.c", "-o", "a.o"], cwd=directory, check=True)
        subprocess.run([*words, "-shared", "a.o", "-o", "a.so", "-lm", "-Wl,--build-id"], cwd=directory, check=True)
    except FileNotFoundError:
        pytest.skip(f"{request.param} is not installed")
    return directory


@pytest.fixture(params=["a.o", "a.so"])
def both(request, made):
    """One file, as this reader and as pyelftools see it."""
    with open(made / request.param, "rb") as file:
        yield ElfFile.read(made / request.param), ELFFile(file)


def test_sections_are_those_that_pyelftools_sees(both):
    ours, theirs = both
    expected = [
        (
            s.name,
            s["sh_flags"],
            s["sh_addr"],
            s["sh_offset"],
            s["sh_size"],
            s["sh_link"],
            s["sh_info"],
            s["sh_addralign"],
        )
        for s in theirs.iter_sections()
    ]
    assert [(s.name, s.flags, s.addr, s.offset, s.size, s.link, s.info, s.align) for s in ours.sections] == expected
    for mine, other in zip(ours.sections, theirs.iter_sections()):
        if mine.type not in (0, SHT_NOBITS):
            assert ours.content(mine) == other.data()
        assert ours.content(mine) == b"" or mine.type != SHT_NOBITS


def test_symbols_are_those_that_pyelftools_sees(both):
    ours, theirs = both
    special = {"SHN_UNDEF": 0, "SHN_ABS": 0xFFF1, "SHN_COMMON": 0xFFF2}
    for name, symbols in ((".symtab", ours.symbols), (".dynsym", ours.dynamic_symbols)):
        table = theirs.get_section_by_name(name)
        assert table is None or isinstance(table, SymbolTableSection)
        expected = [
            (
                s.name if s["st_info"]["type"] != "STT_SECTION" else "",
                s["st_value"],
                s["st_size"],
                special.get(s["st_shndx"], s["st_shndx"]),
            )
            for s in (table.iter_symbols() if table else ())
        ]
        found = [(s.name if s.type != 3 else "", s.value, s.size, s.section) for s in symbols]
        assert found == expected


def test_relocations_are_those_that_pyelftools_sees(both):
    ours, theirs = both
    tables = [s for s in theirs.iter_sections() if isinstance(s, RelocationSection)]
    assert tables
    for table in tables:
        mine = next(s for s in ours.sections if s.name == table.name)
        expected = [(r["r_offset"], r["r_info_type"], r["r_info_sym"], r["r_addend"]) for r in table.iter_relocations()]
        assert [tuple(r) for r in ours.relocations_in(mine)] == expected
        if mine.info and not mine.name.startswith(".rela.dyn"):
            assert ours.relocations(mine.info) == ours.relocations_in(mine)


def test_a_library_tells_its_segments_libraries_and_build_id(made):
    ours = ElfFile.read(made / "a.so")
    with open(made / "a.so", "rb") as file:
        theirs = ELFFile(file)
        expected = [(s["p_vaddr"], s["p_offset"], s["p_filesz"], s["p_memsz"]) for s in theirs.iter_segments()]
        assert [(s.vaddr, s.offset, s.file_len, s.mem_len) for s in ours.segments] == expected
        note = next(
            n for n in theirs.get_section_by_name(".note.gnu.build-id").iter_notes() if n["n_type"] == "NT_GNU_BUILD_ID"
        )
        assert ours.build_id.hex() == note["n_desc"]
        dynamic = theirs.get_section_by_name(".dynamic")
        assert ours.needed() == [tag.needed for tag in dynamic.iter_tags() if tag.entry.d_tag == "DT_NEEDED"]
        text = theirs.get_section_by_name(".text")
        assert ours.file_offset(text["sh_addr"]) == text["sh_offset"]
    with pytest.raises(BuildError, match="no loaded segment"):
        ours.file_offset(1 << 40)


def test_an_edited_file_differs_in_what_was_edited_only(both):
    ours, _ = both
    editor = Editor(ours)
    index = editor.add(".added", b"some content")
    editor.set_align(1, 64)
    again = ElfFile(editor.to_bytes())
    assert again.content(again.sections[index]) == b"some content"
    assert again.sections[1].align == 64
    for old, new in zip(ours.sections, again.sections):
        assert (old.name, old.type, old.flags, old.addr) == (new.name, new.type, new.flags, new.addr)
        if old.name not in (".shstrtab", ".strtab"):
            assert ours.content(old) == again.content(new)
    assert again.symbols == ours.symbols
    assert again.segments == ours.segments


def test_the_linker_and_the_loader_accept_an_edited_file(made):
    editor = Editor(ElfFile.read(made / "a.o"))
    editor.add(".added", b"text")
    (made / "edited.o").write_bytes(editor.to_bytes())
    subprocess.run(["gcc", "-shared", "edited.o", "-o", "edited.so"], cwd=made, check=True)
    assert ElfFile.read(made / "edited.so").section(".added") is not None
    subprocess.run(["python3", "-c", "import ctypes; assert ctypes.CDLL('./edited.so').f(3)"], cwd=made, check=True)


@pytest.mark.parametrize("content", [b"", b"\x7fELF", b"#!/bin/sh\n" * 20, b"\x7fELF\x01\x01" + bytes(60), bytes(100)])
def test_what_is_no_elf_file_is_refused(content):
    with pytest.raises(BuildError, match="not a 64-bit little-endian ELF file"):
        ElfFile(content, "x.o")


def test_another_machine_is_refused(made):
    data = bytearray((made / "a.o").read_bytes())
    data[18] = 183  # AArch64
    with pytest.raises(BuildError, match="machine 183"):
        ElfFile(data)


def read_everything(elf: ElfFile) -> None:
    for section in elf.sections:
        elf.content(section)
        elf.relocations(section.number)
    assert isinstance(elf.symbols, list) and isinstance(elf.dynamic_symbols, list) and isinstance(elf.segments, list)
    assert elf.needed() is not None and elf.build_id is not None and elf.compiler is not None
    debug = DebugInfo(elf)
    for name in debug.lines:
        debug.inlined_into(name)
    debug.static_locals({section.number for section in elf.sections})


def test_a_file_cut_short_anywhere_is_refused(made):
    data = (made / "a.o").read_bytes()
    for length in range(0, len(data) - 64, 97):
        with pytest.raises(BuildError):
            read_everything(ElfFile(data[:length]))


def test_garbage_anywhere_is_refused_or_read_and_never_another_error(made):
    data = (made / "a.o").read_bytes()
    chance = random.Random(7)
    for _ in range(150):
        broken = bytearray(data)
        for _ in range(chance.choice((1, 4, 40))):
            broken[chance.randrange(64, len(broken))] = chance.randrange(256)
        try:
            read_everything(ElfFile(broken))
        except BuildError:
            pass
