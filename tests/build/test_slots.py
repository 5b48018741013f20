"""``prologue = "slot"``: entries that jump through slots, whatever linker and whatever else the link is asked for."""

from __future__ import annotations

import json
import shutil
import struct
import sys

import pytest

from hotreload.build.record import read_record
from hotreload.build.slots import SECTION, slot_of
from hotreload.elf.file import PT_GNU_RELRO, PT_NOTE, RELA, STT_FUNC, ElfFile, R
from tests.hot import Child, hot_cc, run

F = "long f(long x) { return x + 1; }\n"
G = "long g(long x) { return x + 2; }\n"
SLOT = {"HOTRELOAD_PROLOGUE": "slot"}
PAGE = 4096


def slots_of(path) -> dict[str, int]:
    """The functions of a library that jump through a slot, and those slots; all that must be true of them is checked."""
    elf = ElfFile.read(path)
    section, table = elf.section(SECTION), elf.section(".rela.dyn")
    assert section and table and section.addr % PAGE == section.size % PAGE == 0
    held = {r.offset: r.addend for r in elf.relocations_in(table) if r.type == R.RELATIVE}
    found: dict[str, int] = {}
    for symbol in elf.symbols:
        if symbol.type == STT_FUNC and symbol.section:
            start = elf.file_offset(symbol.value)
            slot = slot_of(symbol.value, elf.data[start : start + 8])
            if slot is not None:
                assert section.addr <= slot < section.addr + section.size and slot % 8 == 0
                assert held[slot] == symbol.value + 8, "it starts as the body"
                found[symbol.name] = slot
    for segment in elf.segments:
        if segment.type == PT_GNU_RELRO:
            relro = range(segment.vaddr // PAGE * PAGE, segment.vaddr + segment.mem_len)
            assert section.addr + section.size <= relro.start or section.addr >= relro.stop // PAGE * PAGE
    assert note_of(elf) == (section.addr, section.size)
    return found


def note_of(elf: ElfFile) -> tuple[int, int]:
    """What the server reads in the note: where the slots are, and their bytes."""
    for segment in elf.segments:
        at, end = segment.offset, segment.offset + segment.file_len
        while segment.type == PT_NOTE and at < end:
            name_len, desc_len, _ = struct.unpack_from("<III", elf.data, at)
            desc = at + 12 + (name_len + 3) // 4 * 4
            if elf.data[at + 12 : at + 12 + name_len] == b"hotreload\0":
                distance, size = struct.unpack_from("<qQ", elf.data, desc)
                return segment.vaddr + desc - segment.offset + distance, size
            at = desc + (desc_len + 3) // 4 * 4
    raise AssertionError("there is no note")


def answers(path, *expressions: str) -> list[object]:
    """What a process says that has loaded the library."""
    child = Child(path)
    try:
        return [child.ask("evaluate", expression) for expression in expressions]
    finally:
        child.end()


LINKS = {
    "plain": [],
    "gc-sections": ["-Wl,--gc-sections"],
    "version script": ["-Wl,--version-script=v.map", "-Wl,--gc-sections"],
    "Bsymbolic": ["-Wl,-Bsymbolic", "-Wl,-z,defs"],
    "relro": ["-Wl,-z,relro,-z,now"],
    "no relro": ["-Wl,-z,norelro"],
    "lazy": ["-Wl,-z,lazy"],
    "one section": ["-Wl,-z,noseparate-code"],
    "relr": ["-Wl,-z,pack-relative-relocs"],
}


WAYS = [("bfd", way) for way in LINKS] + [
    (ld, way) for ld in ("gold", "lld") for way in ("plain", "version script", "relro")
]


@pytest.mark.parametrize(("linker", "way"), WAYS)
def test_every_linker_keeps_the_slots_and_they_start_as_the_bodies(tmp_path, linker, way):
    if shutil.which(f"ld.{linker}") is None:
        pytest.skip(f"ld.{linker} is not installed")
    (tmp_path / "v.map").write_text("VERS_1 { global: f; g; local: *; };")
    (tmp_path / "a.c").write_text(
        F + "static long n; static long __attribute__((noinline)) own(long x) { return x + n++; }\n" + G
    )
    (tmp_path / "b.c").write_text("long b(long x) { return x * 3; }\n")
    command = ["gcc", f"-fuse-ld={linker}", "-O1", "-fPIC", "-shared", *LINKS[way], "a.c", "b.c", "-o", "m.so"]
    hot_cc(*command, cwd=tmp_path, **SLOT)
    slots = slots_of(tmp_path / "m.so")
    assert {"f", "g"} <= slots.keys() and len(set(slots.values())) == len(slots)
    record = read_record(ElfFile.read(tmp_path / "m.so"))
    assert record is not None and record.prologue == "slot" and not record.unpatchable
    assert record.patchable == len(slots)
    assert not any("slots" in word for word in record.link_argv)
    assert answers(tmp_path / "m.so", "f(1)", "g(1)") == [2, 3]
    assert not [path.name for path in tmp_path.iterdir() if "slots" in path.name]


def test_objects_are_the_same_for_both_prologues_and_the_link_decides(tmp_path):
    (tmp_path / "a.c").write_text(F)
    hot_cc("gcc", "-O2", "-fPIC", "-c", "a.c", cwd=tmp_path)
    for prologue in ("slot", "jump"):
        hot_cc("gcc", "-shared", "a.o", "-o", f"{prologue}.so", cwd=tmp_path, HOTRELOAD_PROLOGUE=prologue)
    assert slots_of(tmp_path / "slot.so").keys() == {"f"}
    elf = ElfFile.read(tmp_path / "jump.so")
    assert elf.section(SECTION) is None and elf.section(".note.hotreload") is None
    assert elf.build_id != ElfFile.read(tmp_path / "slot.so").build_id


def test_archives_bring_functions_that_nobody_counted(tmp_path):
    (tmp_path / "a.c").write_text(F)
    (tmp_path / "b.c").write_text("".join(f"long g{i}(long x) {{ return x + {i}; }}\n" for i in range(700)))
    hot_cc("gcc", "-O1", "-fPIC", "-c", "a.c", "b.c", cwd=tmp_path)
    run("ar", "rcs", "libb.a", "b.o", cwd=tmp_path)
    link = ["gcc", "-shared", "a.o", "-L.", "-Wl,--whole-archive", "-lb", "-Wl,--no-whole-archive", "-o", "m.so"]
    hot_cc(*link, cwd=tmp_path, **SLOT)
    slots = slots_of(tmp_path / "m.so")
    assert slots.keys() == {"f", *(f"g{i}" for i in range(700))}
    assert len(set(slots.values())) == 701
    section = ElfFile.read(tmp_path / "m.so").section(SECTION)
    assert section is not None and section.size == 2 * PAGE
    assert answers(tmp_path / "m.so", "f(1)", "g0(1)", "g699(1)") == [2, 1, 700]


def test_functions_that_two_units_bring_have_one_slot(tmp_path):
    shared = "template <class T> __attribute__((noinline)) T twice(T x) { return 2 * x; }\n"
    for name in ("a", "b"):
        text = f'{shared}extern "C" long {name}(long x) {{ return twice(x) + 1; }}\n'
        (tmp_path / f"{name}.cpp").write_text(text)
    hot_cc("g++", "-O2", "-fPIC", "-shared", "a.cpp", "b.cpp", "-o", "m.so", cwd=tmp_path, **SLOT)
    assert slots_of(tmp_path / "m.so").keys() == {"a", "b", "_Z5twiceIlET_S0_"}
    assert answers(tmp_path / "m.so", "a(2)", "b(3)") == [5, 7]


@pytest.mark.parametrize("prologue", ["jump", "slot"])
def test_a_function_with_the_hook_of_gcc_is_taken_as_it_is(tmp_path, prologue):
    (tmp_path / "a.c").write_text(F + "__attribute__((ms_hook_prologue, aligned(16), noipa))\n" + G)
    hot_cc("gcc", "-O2", "-fPIC", "-shared", "a.c", "-o", "m.so", cwd=tmp_path, HOTRELOAD_PROLOGUE=prologue)
    record = read_record(ElfFile.read(tmp_path / "m.so"))
    assert record is not None and record.patchable == 2 and not record.unpatchable
    if prologue == "slot":
        assert slots_of(tmp_path / "m.so").keys() == {"f", "g"}
    assert answers(tmp_path / "m.so", "f(1)", "g(1)") == [2, 3]


def test_a_slot_without_a_relocation_is_not_taken(tmp_path):
    from hotreload.build.slots import Slots, make_object

    (tmp_path / "s.o").write_bytes(make_object(3))
    run("gcc", "-shared", "s.o", "-Wl,-u,hotreload.slots", "-o", "s.so", cwd=tmp_path)
    elf = ElfFile.read(tmp_path / "s.so")
    section, table = elf.section(SECTION), elf.section(".rela.dyn")
    assert section and table
    taken = [Slots(elf)] * 4
    assert [slots.take() is not None for slots in taken] == [True, True, True, False]
    broken = bytearray(elf.data)
    for i, relocation in enumerate(elf.relocations_in(table)):
        if relocation.offset == section.addr + 8:
            struct.pack_into("<Q", broken, table.offset + i * RELA.size + 8, R.NONE)
    slots = Slots(ElfFile(broken))
    assert [taken and taken[0] for taken in (slots.take(), slots.take(), slots.take())] == [
        section.addr,
        section.addr + 16,
        None,
    ]


def test_a_library_without_hot_objects_gets_no_slots(tmp_path):
    (tmp_path / "a.c").write_text(F)
    run("gcc", "-fPIC", "-c", "a.c", cwd=tmp_path)
    hot_cc("gcc", "-shared", "a.o", "-o", "m.so", cwd=tmp_path, **SLOT)
    assert ElfFile.read(tmp_path / "m.so").section(SECTION) is None


def test_a_link_that_fails_fails_as_it_would_and_leaves_nothing(tmp_path):
    (tmp_path / "a.c").write_text(F)
    hot_cc("gcc", "-fPIC", "-c", "a.c", cwd=tmp_path)
    words = ["gcc", "-shared", "a.o", "-lno_such_library", "-o", "m.so"]
    plain = run(*words, cwd=tmp_path, code=1)
    assert hot_cc(*words, cwd=tmp_path, code=1, **SLOT).stderr == plain.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"a.c", "a.o"}


# The configuration -------------------------------------------------------------------------------------------------

BUILD = [sys.executable, "-m", "hotreload", "build"]
MAKEFILE = "m.so: a.c\n\t$(CC) -O2 -fPIC -shared a.c -o m.so\n"


def project(directory, configuration: str) -> None:
    (directory / "pyproject.toml").write_text(configuration)
    (directory / "a.c").write_text(F)
    (directory / "Makefile").write_text(MAKEFILE)


@pytest.mark.parametrize("environment", ["", "jump", "slot"])
@pytest.mark.parametrize("configured", ["", "jump", "slot"])
def test_the_environment_wins_over_the_configuration(tmp_path, configured, environment):
    project(tmp_path, f'[tool.hotreload]\nprologue = "{configured}"\n' if configured else "")
    done = run(*BUILD, "--json", "--", "make", "-B", cwd=tmp_path, HOTRELOAD_PROLOGUE=environment)
    expected = environment or configured or "jump"
    assert json.loads(done.stdout)["extensions"][0]["prologue"] == expected
    record = read_record(ElfFile.read(tmp_path / "m.so"))
    assert record is not None and record.prologue == expected
    told = run(*BUILD, "--", "make", "-B", cwd=tmp_path, HOTRELOAD_PROLOGUE=environment).stderr
    assert ("1 functions can be patched through slots (m.so)" in told) == (expected == "slot")


def test_a_build_in_another_directory_has_the_configuration_of_the_project(tmp_path):
    project(tmp_path, '[tool.hotreload]\nprologue = "slot"\n')
    outside = tmp_path / "elsewhere"
    outside.mkdir()
    (outside / "pyproject.toml").write_text("")
    elsewhere = "cd elsewhere && $CC -fPIC -shared ../a.c -o m.so"
    run(*BUILD, "--", "sh", "-c", elsewhere, cwd=tmp_path, HOTRELOAD_PROLOGUE="")
    record = read_record(ElfFile.read(outside / "m.so"))
    assert record is not None and record.prologue == "slot"


def test_a_prologue_that_there_is_not_is_an_error_before_anything_is_built(tmp_path):
    project(tmp_path, '[tool.hotreload]\nprologue = "slots"\n')
    done = run(*BUILD, "--", "make", cwd=tmp_path, code=2, HOTRELOAD_PROLOGUE="")
    assert "pyproject.toml: prologue: no prologue 'slots'" in done.stderr and "did you mean 'slot'?" in done.stderr
    assert not (tmp_path / "m.so").exists()
    done = hot_cc("gcc", "-fPIC", "-shared", "a.c", "-o", "m.so", cwd=tmp_path, code=2, HOTRELOAD_PROLOGUE="trampoline")
    assert "HOTRELOAD_PROLOGUE: no prologue 'trampoline' (known: jump, slot)" in done.stderr
    assert not (tmp_path / "m.so").exists()


def test_a_link_reads_no_configuration_that_says_nothing_of_it(tmp_path):
    project(tmp_path, "")
    link = ["-X", "importtime", "-m", "hotreload", "cc", "gcc", "-fPIC", "-shared", "a.c", "-o", "m.so"]
    for configuration, reads in (("", False), ('[tool.hotreload]\nprologue = "slot"\n', True)):
        (tmp_path / "pyproject.toml").write_text(configuration)
        done = run(sys.executable, *link, cwd=tmp_path, HOTRELOAD_PROLOGUE="")
        assert ("hotreload.config" in done.stderr) == reads
        assert read_record(ElfFile.read(tmp_path / "m.so")).prologue == ("slot" if reads else "jump")


def test_patches_follow_the_record_of_their_base_and_not_the_environment(hot_extension, monkeypatch):
    source = "static long n; long f(long x) { return x + n; }\n"
    for prologue, other in (("slot", "jump"), ("jump", "slot")):
        hot = hot_extension(source, prologue=prologue)
        monkeypatch.setenv("HOTRELOAD_PROLOGUE", other)
        hot.save("long f(long x) { return x + n; }",
                 "static __attribute__((noinline)) long fresh(long x) { return x + 5 + n; }\nlong f(long x) { return fresh(x); }")  # fmt: skip
        result = hot.make()
        elf = ElfFile.read(result.path)
        fresh = next(symbol for symbol in elf.symbols if symbol.name.startswith("hr.c."))
        start = elf.file_offset(fresh.value)
        assert (slot_of(fresh.value, elf.data[start : start + 8]) is not None) == (prologue == "slot")
        assert (elf.section(SECTION) is not None) == (prologue == "slot")
