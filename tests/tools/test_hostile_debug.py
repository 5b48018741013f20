"""What a patch says for tools is believed no more than the rest of it."""

from __future__ import annotations

import random
import struct
from pathlib import Path

import pytest
from toolkit import Program, Project

from hotreload.elf.file import ElfFile
from hotreload.errors import StageError
from hotreload.live.core import NativeCore
from hotreload.patch.genfile import PART, PLACE, SECTION

TOTAL_LEN, TAIL_LEN, HEAD_LEN, PLACE_COUNT, NAME_COUNT, BUILD_ID_OFF = 8, 16, 24, 28, 32, 40


@pytest.fixture
def whole(project: Project) -> tuple[bytearray, int, int]:
    """The patch, where its debug part is, and how long it is."""
    elf = ElfFile.read(project.patch)
    section = elf.section(SECTION)
    assert section is not None
    return bytearray(elf.data), section.offset, section.size


def status_of(raw: bytes) -> str:
    core = NativeCore()
    try:
        core.close_patch(core.open_patch(bytes(raw)))
    except StageError as error:
        return error.status
    return "OK"


@pytest.mark.parametrize(
    ("field", "form", "value"),
    [
        (TOTAL_LEN, "<Q", 1),
        (TAIL_LEN, "<Q", 2**64 - 8),
        (HEAD_LEN, "<I", 4),
        (HEAD_LEN, "<I", 1 << 20),
        (PLACE_COUNT, "<I", 2**32 - 1),
        (NAME_COUNT, "<I", 2**32 - 1),
        (BUILD_ID_OFF, "<Q", 0),
        (BUILD_ID_OFF, "<Q", 2**63),
        (BUILD_ID_OFF, "<Q", 0x400),
    ],
)
def test_a_header_that_lies_is_refused(whole: tuple[bytearray, int, int], field: int, form: str, value: int) -> None:
    raw, start, _ = whole
    assert status_of(raw) == "OK"
    struct.pack_into(form, raw, start + field, value)
    assert status_of(raw) == "BAD_TABLE"


@pytest.mark.parametrize(
    ("where", "kind"), [(2**64 - 4, 1), (0x800, 1), (2**40, 2), (64, 7)], ids=["wraps", "image", "behind", "kind"]
)
def test_a_place_outside_of_head_and_tail_is_refused(whole: tuple[bytearray, int, int], where: int, kind: int) -> None:
    raw, start, _ = whole
    head_len = struct.unpack_from("<I", raw, start + HEAD_LEN)[0]
    PLACE.pack_into(raw, start + PART.size + head_len, where, kind, 0)
    assert status_of(raw) == "BAD_TABLE"


def test_a_part_of_another_version_is_left_alone(whole: tuple[bytearray, int, int]) -> None:
    raw, start, _ = whole
    raw[start + 7 : start + 8] = b"9"
    assert status_of(raw) == "OK"


def test_a_flipped_byte_never_ends_the_process(
    whole: tuple[bytearray, int, int], project: Project, tmp_path: Path
) -> None:
    raw, start, size = whole
    chance = random.Random(5)
    head = struct.unpack_from("<I", raw, start + HEAD_LEN)[0] + PART.size
    running = Program(project, tmp_path / "files")
    for turn in range(60):
        flipped = bytearray(raw)
        at = start + (chance.randrange(head) if turn % 2 else chance.randrange(size))
        flipped[at] ^= 1 << chance.randrange(8)
        (tmp_path / "flipped").write_bytes(flipped)
        answer = running("stage", tmp_path / "flipped")
        assert answer, f"the process died of byte {at - start} of the debug part"
        if not answer.startswith("refused"):
            assert running("unstage") == "None"
    running.close()
