"""Golden machine code: what an entry looks like before and after, and what must never be touched.

``accept/NAME.in.S`` becomes ``accept/NAME.out.S`` when it is redirected 0x1000 bytes further, and itself again
afterwards. Behind the target, 0x2000 bytes from the entry, is a page of slots. Each file in ``refuse/`` names, in its first line, the status with which it is refused.
"""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path

import pytest

INT3 = 0xCC
HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "live"))

import tiny  # noqa: E402

from hotreload.live.core import NativeCore  # noqa: E402


def assemble(source: Path, folder: Path) -> bytes:
    """The bytes of a piece of assembler; ``jmp`` is encoded near, as a displacement that is big enough makes it."""
    object_file, raw = folder / "text.o", folder / "text.bin"
    tiny.run("gcc", "-c", "-x", "assembler", source, "-o", object_file)
    tiny.run("objcopy", "-O", "binary", "-j", ".text", object_file, raw)
    return raw.read_bytes()


def map_library(text: bytes) -> tuple[int, int]:
    """A function, another one that returns 2, and a slot, in pages of one file; the function and the slot."""
    entry, slot = tiny.map_parts(
        (text.ljust(0x1000, b"\xcc") + tiny.returning(2), tiny.R | tiny.X), (bytes(8), tiny.R | tiny.W)
    )
    tiny.write_word(slot, entry + 8)
    return entry, slot


@pytest.mark.parametrize("case", sorted((HERE / "accept").glob("*.in.S")), ids=lambda path: path.name[:-5])
def test_an_entry_becomes_its_golden_form_and_itself_again(case: Path, tmp_path: Path) -> None:
    before = assemble(case, tmp_path)
    after = assemble(case.with_name(case.name.replace(".in.S", ".out.S")), tmp_path)
    entry, slot = map_library(before)
    core = NativeCore()
    (site,) = core.open_sites([entry])
    core.commit([(site, entry + 0x1000)])
    assert ctypes.string_at(entry, len(after)).hex(" ") == after.hex(" ")
    assert tiny.read_word(slot) == (entry + 0x1000 if site.kind == "slot" else entry + 8)
    if before[0] != INT3:
        assert tiny.call(entry) == 2
    core.commit([(site, 0)])
    assert ctypes.string_at(entry, len(before)).hex(" ") == before.hex(" ")
    assert tiny.read_word(slot) == entry + 8


@pytest.mark.parametrize("case", sorted((HERE / "refuse").glob("*.S")), ids=lambda path: path.stem)
def test_an_entry_that_must_not_be_touched_is_refused(case: Path, tmp_path: Path) -> None:
    raw = assemble(case, tmp_path)
    status = case.read_text().split(":", 1)[0].removeprefix("# ")
    entry, slot = map_library(raw)
    assert tiny.status_of(NativeCore().open_sites, [entry]) == status
    assert tiny.maps_at(slot) == "rw-p"


@pytest.mark.parametrize("offset", range(1, 8))
@pytest.mark.parametrize("prologue", [tiny.NOPL, tiny.LEA], ids=["nopl", "lea"])
def test_a_prologue_at_any_unaligned_place_is_refused(prologue: bytes, offset: int) -> None:
    entry = tiny.map_text(bytes(offset) + prologue + b"\xc3") + offset
    assert tiny.status_of(NativeCore().open_sites, [entry]) == "UNALIGNED"


@pytest.mark.parametrize("at", [0, 8, 56, 4088])
def test_any_aligned_place_is_taken_up_to_the_last_of_a_page(at: int) -> None:
    entry = tiny.map_text(bytes(at) + tiny.NOPL + tiny.returning(1)) + at
    target = tiny.map_text(tiny.returning(2))
    core = NativeCore()
    (site,) = core.open_sites([entry])
    core.commit([(site, target)])
    assert tiny.call(entry) == 2
    core.commit([(site, 0)])
    assert tiny.call(entry) == 1
