"""Files that are damaged or lie: always a refusal, never a crash, and the process is as it was."""

from __future__ import annotations

import random
import struct
from dataclasses import replace
from pathlib import Path

import pytest
import tiny
from tiny import status_of

from hotreload.errors import StageError
from hotreload.live.core import NativeCore
from hotreload.patch.linktable import (
    HEADER,
    Carried,
    Fixup,
    FixupKind,
    Function,
    Hook,
    HookKind,
    Import,
    LinkTable,
    Protection,
    Range,
    Segment,
    Table,
    TableKind,
)


@pytest.fixture
def whole(patch: tiny.TinyPatch) -> bytes:
    return patch.to_bytes()


def is_refused(core: NativeCore, raw: bytes) -> bool:
    try:
        core.close_patch(core.open_patch(raw))
    except StageError:
        return True
    return False


def test_a_whole_file_is_taken(core: NativeCore, whole: bytes) -> None:
    assert not is_refused(core, whole)


def test_a_file_that_ends_at_any_byte_is_refused(core: NativeCore, whole: bytes) -> None:
    before = tiny.maps()[:5]
    accepted = [n for n in range(len(whole)) if not is_refused(core, whole[:n])]
    assert accepted == []
    assert tiny.maps()[:5] == before


def test_a_file_that_shrinks_while_it_is_read_is_refused(core: NativeCore, base: tiny.TinyBase, whole: bytes) -> None:
    assert status_of(core.open_patch, whole[: len(whole) // 2]) in ("TRUNCATED", "NOT_ELF")


def test_a_flipped_byte_anywhere_in_the_table_never_crashes(core: NativeCore, patch: tiny.TinyPatch) -> None:
    """Most are refused; those that are not (an addend, a name) must stage or be refused cleanly as well."""
    table, blank = patch.table.to_bytes(), patch.to_bytes()
    at = blank.index(table)
    generator = random.Random(2)
    refused = 0
    for _ in range(4000):
        raw = bytearray(blank)
        for _ in range(generator.choice((1, 1, 2, 5))):
            raw[at + generator.randrange(len(table))] = generator.choice(
                (0, 1, 7, 0x7F, 0x80, 0xFF, generator.randrange(256))
            )
        refused += is_refused(core, bytes(raw))
    assert refused > 1000


def test_a_flipped_byte_in_the_headers_never_crashes(core: NativeCore, whole: bytes) -> None:
    generator = random.Random(3)
    section_headers = struct.unpack_from("<Q", whole, 40)[0]
    places = [*range(64), *range(64, 64 + 56 * 4), *range(section_headers, len(whole))]
    for _ in range(4000):
        raw = bytearray(whole)
        raw[generator.choice(places)] = generator.randrange(256)
        is_refused(core, bytes(raw))


def change(table: LinkTable, **counts: int) -> bytes:
    """The table with other numbers in its header than it should have."""
    names = ["magic", "total_len", "image_len", "eh_frame", "eh_frame_len", "build_id", "build_id_len"]
    names += ["segment_count", "fixup_count", "import_count", "library_count", "carried_count", "function_count"]
    names += ["range_count", "hook_count", "string_len", "flags", "table_count"]
    raw = table.to_bytes()
    values = dict(zip(names, HEADER.unpack_from(raw)))
    values.update(counts)
    return HEADER.pack(*values.values()) + raw[HEADER.size :]


@pytest.mark.parametrize("name", ["segment_count", "fixup_count", "import_count", "library_count", "carried_count",
                                  "function_count", "range_count", "hook_count", "string_len",
                                  "table_count"])  # fmt: skip
@pytest.mark.parametrize("count", [2**32 - 1, 2**31, 2**28, 1000])
def test_a_huge_count_is_refused(core: NativeCore, patch: tiny.TinyPatch, name: str, count: int) -> None:
    assert status_of(core.open_patch, patch.to_bytes(change(patch.table, **{name: count}))) == "BAD_TABLE"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("build_id_len", 0),
        ("build_id_len", 33),
        ("image_len", 0),
        ("image_len", 4097),
        ("image_len", 2**64 - 4096),
        ("total_len", 0),
        ("total_len", 2**64 - 1),
        ("eh_frame", 2**63),
        ("eh_frame_len", 2**64 - 1),
        ("eh_frame_len", 3),
        ("string_len", 0),
        ("flags", 2),
    ],
)
def test_a_header_with_an_impossible_number_is_refused(
    core: NativeCore, patch: tiny.TinyPatch, field: str, value: int
) -> None:
    assert status_of(core.open_patch, patch.to_bytes(change(patch.table, **{field: value}))) == "BAD_TABLE"


R, W, X = Protection.R, Protection.W, Protection.X

WRONG = {
    "overlap": lambda t: {"segments": (t.segments[0], replace(t.segments[1], image_off=0), *t.segments[2:])},
    "descending": lambda t: {"segments": t.segments[::-1]},
    "half a page": lambda t: {"segments": (replace(t.segments[0], image_off=8), *t.segments[1:])},
    "beyond the image": lambda t: {"segments": (*t.segments[:-1], replace(t.segments[-1], mem_len=1 << 40))},
    "wraps around": lambda t: {"segments": (*t.segments[:-1], replace(t.segments[-1], mem_len=2**64 - 4096))},
    "more file than memory": lambda t: {"segments": (replace(t.segments[0], file_len=1 << 20), *t.segments[1:])},
    "no protection": lambda t: {"segments": (replace(t.segments[0], prot=Protection(0)), *t.segments[1:])},
    "unknown protection": lambda t: {"segments": (replace(t.segments[0], prot=9), *t.segments[1:])},
    "no segment": lambda _: {"segments": ()},
    "65 segments": lambda t: {"segments": tuple(Segment(i * 4096, 8, 0, 0, R) for i in range(65)), "image_len": 65 * 4096},
    "fixup beyond the image": lambda t: {"fixups": (Fixup(t.image_len, FixupKind.IMAGE64),)},
    "fixup across the end": lambda t: {"fixups": (Fixup(t.image_len - 4, FixupKind.IMAGE64),)},
    "fixup far away": lambda _: {"fixups": (Fixup(2**64 - 8, FixupKind.IMAGE64),)},
    "fixup kind 0": lambda _: {"fixups": (Fixup(4096, 0),)},
    "fixup kind 17": lambda _: {"fixups": (Fixup(4096, 17),)},
    "fixup of no import": lambda _: {"fixups": (Fixup(4096, FixupKind.IMPORT64, 0, 0),)},
    "fixup of no carried": lambda _: {"fixups": (Fixup(4096, FixupKind.CARRIED64, 0, 3),)},
    "resolver outside": lambda t: {"fixups": (Fixup(t.segments[-1].image_off, FixupKind.IRELATIVE, -8),)},
    "empty import name": lambda _: {"imports": (Import(""),)},
    "empty library name": lambda _: {"libraries": ("",)},
    "carried beyond the image": lambda t: {"carried": (Carried("k", t.image_len, 8, False),)},
    "carried too long": lambda t: {"carried": (Carried("k", t.segments[-1].image_off, 2**64 - 8, False),)},
    "carried function in data": lambda t: {"carried": (Carried("k", t.segments[-1].image_off, 8, True),)},
    "function in data": lambda t: {"functions": (Function("f", t.functions[0].entry, t.segments[-1].image_off),)},
    "function beyond": lambda t: {"functions": (Function("f", t.functions[0].entry, 1 << 40),)},
    "function without a range": lambda _: {"ranges": ()},
    "range beside the entry": lambda t: {"ranges": (Range(0, t.functions[0].entry + 8, 8),)},
    "range of nothing": lambda t: {"ranges": (*t.ranges, Range(0, t.functions[0].entry, 0))},
    "range of no function": lambda t: {"ranges": (*t.ranges, Range(len(t.functions), 0, 8))},
    "range that wraps around": lambda t: {"ranges": (*t.ranges, Range(0, t.functions[0].entry, 2**64 - 8))},
    "ranges out of order": lambda t: {
        "functions": (t.functions[0], t.functions[0]),
        "ranges": (replace(t.ranges[0], function=1), t.ranges[0]),
    },
    "hook kind 0": lambda t: {"hooks": (Hook(0, "h", t.functions[0].image_off),)},
    "hook kind 4": lambda t: {"hooks": (Hook(4, "h", t.functions[0].image_off),)},
    "hook without a name": lambda t: {"hooks": (Hook(HookKind.PRE_COMMIT, "", t.functions[0].image_off),)},
    "hook in data": lambda t: {"hooks": (Hook(HookKind.PRE_COMMIT, "h", t.segments[-1].image_off),)},
    "hook beyond": lambda _: {"hooks": (Hook(HookKind.POST_COMMIT, "h", 1 << 40),)},
    "table kind 0": lambda t: {"tables": (Table(0, "t", 0, t.segments[-1].image_off, 1, 0, "a"),)},
    "table kind 4": lambda t: {"tables": (Table(4, "t", 0, t.segments[-1].image_off, 1, 0, "a"),)},
    "table without a name": lambda t: {"tables": (Table(TableKind.METHODS, "", 0, t.segments[-1].image_off, 1, 0, "a"),)},
    "table of no members": lambda t: {"tables": (Table(TableKind.MEMBERS, "t", 0, t.segments[-1].image_off, 0, 0, ""),)},
    "table beyond": lambda _: {"tables": (Table(TableKind.GETSET, "t", 0, 1 << 40, 1, 1, "a"),)},
    "table in code": lambda t: {"tables": (Table(TableKind.MEMBERS, "t", 0, t.functions[0].image_off, 1, 0, "a"),)},
    "table with a change too many": lambda t: {
        "tables": (Table(TableKind.METHODS, "t", 0, t.segments[-1].image_off, 1, 0, "aa"),)
    },
    "table with a change that is none": lambda t: {
        "tables": (Table(TableKind.METHODS, "t", 0, t.segments[-1].image_off, 1, 0, "A"),)
    },
    "table that is too long": lambda t: {
        "tables": (Table(TableKind.METHODS, "t", 0, t.segments[-1].image_off, 1, 2**32 - 1, "a"),)
    },
    "function of no carried": lambda t: {"functions": (Function("f", 0, t.functions[0].image_off, True),)},
    "function of a variable": lambda t: {
        "carried": (Carried("k", t.segments[-1].image_off, 8, False),),
        "functions": (Function("f", 0, t.functions[0].image_off, True),),
    },
    "eh_frame without its end": lambda t: {"eh_frame_len": t.eh_frame_len - 4},
    "eh_frame shifted": lambda t: {"eh_frame": t.eh_frame + 4, "eh_frame_len": t.eh_frame_len - 4},
}  # fmt: skip


@pytest.mark.parametrize("what", WRONG)
def test_a_table_that_contradicts_itself_is_refused(core: NativeCore, patch: tiny.TinyPatch, what: str) -> None:
    assert status_of(core.open_patch, patch.but(**WRONG[what](patch.table)).to_bytes()) == "BAD_TABLE"


def test_a_segment_that_the_file_does_not_have_is_refused(core: NativeCore, patch: tiny.TinyPatch) -> None:
    first, *rest = patch.table.segments
    for file_off in (1 << 30, 2**64 - 100):
        wrong = patch.but(segments=(replace(first, file_off=file_off), *rest))
        assert status_of(core.open_patch, wrong.to_bytes()) == "TRUNCATED"


def test_an_entry_outside_the_base_s_text_is_refused_at_stage(
    core: NativeCore, base: tiny.TinyBase, patch: tiny.TinyPatch
) -> None:
    opened = core.open_base(str(base.path))
    for entry in (base.symbols["counter"], 1 << 40, 2**62):
        wrong = patch.but(functions=(replace(patch.table.functions[0], entry=entry),), ranges=(Range(0, entry, 8),))
        assert status_of(core.stage, core.open_patch(wrong.to_bytes()), opened, [], "test") == "BAD_TABLE"
    core.close_base(opened)


def test_a_table_of_python_outside_the_base_s_data_is_refused_at_stage(
    core: NativeCore, base: tiny.TinyBase, patch: tiny.TinyPatch
) -> None:
    opened = core.open_base(str(base.path))
    inside, at = base.symbols["counter"], patch.table.segments[-1].image_off
    for base_off, count in ((patch.table.functions[0].entry, 1), (1 << 40, 1), (2**64 - 8, 1), (inside, 4000)):
        wrong = patch.but(tables=(Table(TableKind.METHODS, "t", base_off, at, count, 0, "a" * count),))
        assert status_of(core.stage, core.open_patch(wrong.to_bytes()), opened, [], "test") == "BAD_TABLE"
    core.close_base(opened)


def test_a_table_of_python_where_none_can_be_written_to_is_refused_at_stage(core: NativeCore, tmp_path: Path) -> None:
    """Storing to it would end the process, or change what is no table: in read-only data, half an entry on, twice."""
    text = "long free_data[64]; const long constant[8] = {1}; long *const relocated[8] = {free_data};"
    base = tiny.make_base(tmp_path, f"HOOK long step(long n) {{ return n; }} {text}", "-Wl,-z,relro")
    made = tiny.make_patch(
        tmp_path, base, "long room[64] = {1}; long step(long n) { return n + 1; }", replaces=("step",)
    )
    opened = core.open_base(str(base.path))
    data, at = base.symbols["free_data"], made.table.segments[-1].image_off

    def status(*tables: tuple[int, int]) -> str:
        rows = [Table(TableKind.METHODS, "t", base_off, at, count, 0, "a" * count) for base_off, count in tables]
        return status_of(core.stage, core.open_patch(made.but(tables=tuple(rows)).to_bytes()), opened, [], "test")

    for name in ("constant", "relocated"):
        assert status((base.symbols[name], 1)) == "BAD_TABLE", name
    assert status((data + 4, 1)) == "BAD_TABLE"
    for second in (data, data + 32, data + 64):
        assert status((data, 2), (second, 1)) == "BAD_TABLE"
        assert status((second, 1), (data, 2)) == "BAD_TABLE"
    whole = made.but(
        tables=(
            Table(TableKind.METHODS, "t", data, at, 2, 0, "aa"),
            Table(TableKind.GETSET, "u", data + 96, at, 1, 0, "a"),
        )
    )
    core.unstage(core.stage(core.open_patch(whole.to_bytes()), opened, [], "test"))
    core.close_base(opened)


def test_strings_without_an_end_are_refused(core: NativeCore, patch: tiny.TinyPatch) -> None:
    raw = patch.table.to_bytes()
    assert status_of(core.open_patch, patch.to_bytes(raw[:-8] + b"xxxxxxxx")) == "BAD_TABLE"


@pytest.mark.parametrize(
    ("offset", "raw"),
    [(4, b"\x01"), (5, b"\x02"), (16, b"\x02\x00"), (18, b"\xb7\x00"), (58, b"\x20\x00"), (54, b"\x20\x00")],
    ids=["32-bit", "big-endian", "program", "aarch64", "section entry size", "segment entry size"],
)
def test_another_kind_of_elf_is_refused(core: NativeCore, whole: bytes, offset: int, raw: bytes) -> None:
    assert status_of(core.open_patch, whole[:offset] + raw + whole[offset + len(raw) :]) == "NOT_ELF"


def test_names_from_a_file_cannot_forge_a_line_of_a_log(core: NativeCore, base, patch: tiny.TinyPatch) -> None:
    hostile = patch.but(imports=(Import("evil\nERROR: \x1b[31mfake"),))
    opened = core.open_base(str(base.path))
    with pytest.raises(StageError) as refused:
        core.stage(core.open_patch(hostile.to_bytes()), opened, [], "test")
    assert "evil\\nERROR: \\x1b[31mfake" in str(refused.value)
    assert "\n" not in str(refused.value)
