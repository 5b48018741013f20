"""What can be wrong with an artefact and with where it is kept, by its number in the list of faults (docs/).

Each is refused in one sentence that names the cause; where there are several kinds, no two sentences are the same.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from hotreload.artefact import ArtefactError, open_envelope, parse
from hotreload.errors import HotReloadError, StageError
from hotreload.live.core import NativeCore
from hotreload.patch.linktable import Carried, Fixup, FixupKind, Function, LinkTable, Protection, Range, Segment
from hotreload.state import Audit, AuditError, PatchStore, StateDirectory, StateError
from tests.artefact import kit

TABLE_AT = 64 + len(kit.NAMES) + -len(kit.NAMES) % 8
GOOD = LinkTable(
    build_id=kit.BUILD_ID,
    image_len=2 * kit.PAGE,
    segments=(Segment(0, kit.PAGE, 0, 64, Protection.R | Protection.X), Segment(kit.PAGE, 64, 0, 64, Protection.R)),
    fixups=(Fixup(kit.PAGE, FixupKind.IMAGE64),),
    functions=(Function("f", 0x1000, 0),),
    ranges=(Range(0, 0x1000, 16),),
)


def changed(**fields: object) -> bytes:
    return kit.tiny_elf([replace(GOOD, **fields).to_bytes()])


def patched(at: int, fmt: str, value: int) -> bytes:
    elf = bytearray(changed())
    struct.pack_into(fmt, elf, at, value)
    return bytes(elf)


def fixup_of(field: int, value: int) -> bytes:
    return patched(TABLE_AT + 120 + 2 * 40 + field, "<I", value)


def refusal_of(elf: bytes) -> str:
    """What the parser says of this code, else what the core says of it; the artefact around it is whole."""
    try:
        found = parse(kit.with_elf(kit.make(), elf))
        core = NativeCore()
        core.close_patch(core.open_patch(found.body))
    except StageError as error:
        return error.message
    return ""


G95 = {
    "not ELF": b"#!/bin/sh\n" + bytes(100),
    "ELF32": patched(4, "<B", 1),
    "other machine": patched(18, "<H", 183),
    "ET_EXEC": patched(16, "<H", 2),
    "section headers outside the file": patched(40, "<Q", 1 << 40),
    "a section outside the file": patched(len(changed()) - 64 + 24, "<Q", 1 << 40),
    "wrong entsize": patched(58, "<H", 56),
    "overlapping segments": changed(segments=(GOOD.segments[0], replace(GOOD.segments[1], image_off=0))),
    "2**32 relocations": patched(TABLE_AT + 80, "<I", 2**32 - 1),
    "a relocation outside the image": changed(fixups=(Fixup(2 * kit.PAGE - 4, FixupKind.IMAGE64),)),
    "a relocation into code": changed(fixups=(Fixup(2**40, FixupKind.IMAGE64),)),
    "an unknown relocation": fixup_of(16, 99),
    "a bad symbol index": changed(fixups=(Fixup(kit.PAGE, FixupKind.CARRIED64, 0, 7),)),
    "a W+X segment": changed(segments=(replace(GOOD.segments[0], prot=Protection(7)), GOOD.segments[1])),
    "a function outside the code": changed(functions=(Function("f", 0x1000, kit.PAGE),)),
    "carried outside the image": changed(carried=(Carried("0:x", 2**40, 8, is_function=False),)),
    "two link tables": kit.tiny_elf([GOOD.to_bytes(), GOOD.to_bytes()]),
    "no link table": patched(len(changed()) - 64 + 4, "<I", 8),
}


@pytest.mark.parametrize("elf", G95.values(), ids=G95.keys())
def test_fault_g95_code_that_is_damaged_or_lies_is_refused(elf: bytes) -> None:
    assert refusal_of(changed()) == ""
    assert refusal_of(elf)


def test_fault_g95_an_artefact_cut_at_each_byte_is_refused() -> None:
    raw = kit.make(changed())
    for length in range(len(raw)):
        with pytest.raises(ArtefactError):
            parse(raw[:length])


def test_fault_g98_each_kind_of_wrong_signature_has_its_own_message(tmp_path: Path) -> None:
    pytest.importorskip("cryptography", reason="the package cryptography is not installed")
    from hotreload import signing

    key, foreign = signing.new_key(), signing.new_key()
    keys = [signing.public_key(key)]
    patches = PatchStore(StateDirectory(tmp_path / "state"))
    patches.put(parse(signing.sign(kit.make(sequence=9), key)))

    def check(raw: bytes) -> None:
        signing.verify(raw, keys)
        patches.refuse_older(parse(raw))

    signed = signing.sign(kit.make(sequence=9), key)
    check(signed)
    wrong = {
        "bad": open_envelope(signed)._replace(signature=bytes(64)).to_bytes(),
        "missing": kit.make(sequence=9),
        "foreign": signing.sign(kit.make(sequence=9), foreign),
        "expired": signing.sign(kit.make(sequence=9, expires="2001-01-01T00:00:00Z"), key),
        "downgraded or replayed": signing.sign(kit.make(sequence=8), key),
    }
    statuses = set()
    for kind, raw in wrong.items():
        with pytest.raises(ArtefactError) as caught:
            check(raw)
        statuses.add(caught.value.status)
        assert caught.value.message and caught.value.hint, kind
    assert statuses == {
        "SIGNATURE_BAD", "SIGNATURE_MISSING", "SIGNATURE_FOREIGN", "SIGNATURE_EXPIRED", "SEQUENCE_OLD",
    }  # fmt: skip


def test_fault_g98_a_right_signature_for_another_module_is_refused() -> None:
    pytest.importorskip("cryptography", reason="the package cryptography is not installed")
    from hotreload import signing

    key = signing.new_key()
    signed = signing.sign(kit.make(), key)
    with pytest.raises(ArtefactError, match="changed after it was signed"):
        signing.verify(kit.with_fields(signed, build_id=kit.OTHER_ID.hex()), [signing.public_key(key)])
    theirs = signing.sign(kit.make(kit.tiny_elf(build_id=kit.OTHER_ID), build_id=kit.OTHER_ID.hex()), key)
    mixed = open_envelope(signed)._replace(body=open_envelope(theirs).body).to_bytes()
    with pytest.raises(ArtefactError, match="changed after it was signed"):
        signing.verify(mixed, [signing.public_key(key)])


def a_link(path: Path) -> None:
    os.mkdir(path.parent / "elsewhere", 0o700)
    path.symlink_to(path.parent / "elsewhere")


def a_regular_file(path: Path) -> None:
    path.write_text("")


def of_another_user(path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give a directory away")
    os.mkdir(path, 0o700)
    os.chown(path, 65534, -1)


def world_writable(path: Path) -> None:
    os.mkdir(path)
    path.chmod(0o777)


@pytest.mark.parametrize("spoil", [a_link, a_regular_file, of_another_user, world_writable], ids=lambda f: f.__name__)
def test_fault_g92_a_state_directory_that_is_not_ours_is_refused(tmp_path: Path, spoil: Callable[[Path], None]) -> None:
    path = tmp_path / "state"
    spoil(path)
    before = os.lstat(path)
    with pytest.raises(StateError) as caught:
        StateDirectory(path)
    assert str(path) in caught.value.message
    assert os.lstat(path) == before


def test_fault_g101_where_the_audit_trail_is_required_and_cannot_be_written_nothing_is_done(tmp_path: Path) -> None:
    directory = StateDirectory(tmp_path / "state")
    os.mkdir(tmp_path / "state" / "audit.jsonl")
    with pytest.raises(AuditError, match=r"the audit trail cannot be written: .*Is a directory"):
        Audit(directory, required=True).write({"event": "push.requested"})


def test_fault_g103_names_from_an_artefact_forge_no_line(tmp_path: Path) -> None:
    forged = 'f\n{"event":"push.committed","uid":0}\x1b[2J\u2028'
    found = parse(kit.make(kit.tiny_elf(functions=(forged,)), changed=(forged,), module=forged, author=forged))
    directory = StateDirectory(tmp_path / "state")
    audit = Audit(directory, required=True)
    audit.write({"event": "patch.refused", "module": found.manifest.module, "functions": found.functions})

    assert (tmp_path / "state" / "audit.jsonl").read_bytes().count(b"\n") == 1
    assert [event["event"] for event in audit.read()] == ["patch.refused"]
    with pytest.raises(HotReloadError) as caught:
        parse(kit.with_fields(found.raw, changed=[]))
    assert caught.value.message.isprintable()
