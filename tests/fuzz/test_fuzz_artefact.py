"""The artefact parser against everything: it gives an artefact that is what it says, or an ArtefactError.

::

    any bytes ─▶ mutated files ─▶ mutated code behind a footer and a hash that agree ─▶ mutated manifests
                                     │
                                     └─ the same code to the core's own reader: what both accept, both read alike
"""

from __future__ import annotations

import hashlib
import json
import re
import struct
import time

import pytest

hypothesis = pytest.importorskip("hypothesis", reason="the package hypothesis is not installed")
from hypothesis import strategies as st  # noqa: E402

from hotreload import artefact  # noqa: E402
from hotreload.artefact import Artefact, ArtefactError, Envelope, open_envelope, parse, printable  # noqa: E402
from hotreload.errors import StageError  # noqa: E402
from hotreload.patch.linktable import HookKind, TableKind  # noqa: E402
from hotreload.python.payload import decode  # noqa: E402
from tests.artefact import kit  # noqa: E402
from tests.fuzz.fuzzing import fuzz  # noqa: E402

ELF = kit.tiny_elf(functions=("f", "g", "h"), hooks=tuple(HookKind), tables=tuple(TableKind))
RAW = kit.make(ELF, changed=("f", "g"), compiler_changed=("h",))
PAYLOAD = kit.payload(functions=("f", "Basket.total"), moved=("h",), added=("g",))
TEXT = kit.make_python(PAYLOAD, changed=("f", "Basket.total"), compiler_changed=("h",), added=("g",))
SIGNED = open_envelope(RAW)._replace(signature=bytes(range(64))).to_bytes()
FOOTER = struct.Struct("<8sIIQQ")
EXTREMES = (0, 1, 2, 7, 8, 31, 32, 63, 64, 255, 4095, 4096, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**63, 2**64 - 1)  # fmt: skip
PATIENCE = 2.0

Edit = tuple


def edits(size: int) -> st.SearchStrategy:
    """Changes to a file of ``size`` bytes: flips, numbers that are extreme or not, cuts, insertions, swapped spans."""
    at = st.integers(0, size)
    return st.lists(
        st.one_of(
            st.tuples(st.just("byte"), at, st.integers(0, 255)),
            st.tuples(st.just("number"), at, st.sampled_from(("<H", "<I", "<Q")), st.sampled_from(EXTREMES)),
            st.tuples(st.just("near"), at, st.sampled_from(("<H", "<I", "<Q")), st.integers(0, size + 64)),
            st.tuples(st.just("cut"), at, at),
            st.tuples(st.just("insert"), at, st.binary(max_size=40)),
            st.tuples(st.just("copy"), at, at, st.integers(1, 128)),
        ),
        min_size=1,
        max_size=6,
    )


def edited(data: bytes, changes: list[Edit]) -> bytes:
    buffer = bytearray(data)
    for kind, at, *rest in changes:
        if kind == "byte" and at < len(buffer):
            buffer[at] = rest[0]
        elif kind in ("number", "near"):
            size = struct.calcsize(rest[0])
            if at + size <= len(buffer):
                buffer[at : at + size] = (rest[1] % 256**size).to_bytes(size, "little")
        elif kind == "cut":
            del buffer[min(at, rest[0]) : max(at, rest[0])]
        elif kind == "insert":
            buffer[at:at] = rest[0]
        elif kind == "copy":
            buffer[at : at + rest[1]] = buffer[rest[0] : rest[0] + rest[1]]
    return bytes(buffer)


def attempt(raw: bytes) -> Artefact | None:
    """What the parser makes of it, in bounded time; what it accepts must be what it says."""
    started = time.monotonic()
    try:
        found = parse(raw)
    except ArtefactError as error:
        assert error.message.isprintable() and error.status == "ARTEFACT"
        found = None
    assert time.monotonic() - started < PATIENCE
    if found is not None:
        assert Envelope(found.body, found.manifest.to_bytes(), found.signature).to_bytes() == raw == found.raw
        assert found.manifest.body_sha256 == hashlib.sha256(found.body).hexdigest()
        assert set(found.functions) <= {*found.manifest.changed, *found.manifest.compiler_changed}
    return found


def resealed(body: bytes, raw: bytes = RAW) -> bytes:
    """Any bytes as the body of an artefact whose footer and hash agree: what only the reader of the body can refuse."""
    parts = open_envelope(raw)
    document = {**json.loads(parts.manifest), "body_sha256": hashlib.sha256(body).hexdigest()}
    manifest = json.dumps(document, sort_keys=True, separators=(",", ":")).encode()
    return Envelope(body, manifest, b"").to_bytes()


def test_any_bytes() -> None:
    def check(body: bytes, numbers: tuple, has_footer: bool) -> None:
        lengths = (numbers[0] % 2**32, numbers[1], numbers[2])
        footer = FOOTER.pack(b"HOTPATCH", artefact.FORMAT, *lengths) if has_footer else b""
        assert attempt(body + footer) is None

    assert fuzz(
        check,
        st.binary(max_size=400),
        st.tuples(*(st.integers(0, 2**64 - 1) | st.integers(0, 400),) * 3),
        st.booleans(),
    )


@pytest.mark.parametrize("raw", [RAW, SIGNED, TEXT], ids=["unsigned", "signed", "python"])
def test_files_that_were_changed(raw: bytes) -> None:
    """The code is held to its hash: no edit of an artefact gives another code than the one it was made with."""

    def check(changes: list[Edit]) -> None:
        found = attempt(edited(raw, changes))
        assert found is None or found.body == open_envelope(raw).body

    assert fuzz(check, edits(len(raw)))


def test_code_that_was_changed_is_read_as_the_core_reads_it() -> None:
    core = pytest.importorskip("hotreload.live.core").NativeCore()

    def check(changes: list[Edit]) -> None:
        elf = edited(ELF, changes)
        found = attempt(resealed(elf))
        try:
            patch = core.open_patch(elf)
        except StageError:
            return
        core.close_patch(patch)
        assert all(hook.kind in tuple(HookKind) and hook.name for hook in patch.hooks)
        for table in patch.tables:
            assert table.kind in tuple(TableKind)
            assert len(table.changes) == table.base_count
            assert {*table.changes} <= {*"abcdefghijklmnop"}
        for index, function in enumerate(patch.functions):
            extents = [(r.base_off, r.length) for r in patch.ranges if r.function == index]
            assert any(start <= function.entry < start + length for start, length in extents) != function.is_carried
        if found is not None:
            assert found.manifest.build_id == patch.build_id.hex()
            assert len(found.functions) == sum(not function.is_carried for function in patch.functions)
            names = [printable(name) for name in found.functions]
            assert names == [function.name for function in patch.functions if not function.is_carried]
            tables = [
                name.encode("utf-8", "surrogateescape").decode(errors="backslashreplace") for name in found.tables
            ]
            assert [*map(printable, tables)] == [printable(table.name) for table in patch.tables]

    assert fuzz(check, edits(len(ELF)))


def test_payloads_that_were_changed() -> None:
    """What is accepted is a payload of the same text and the same names, whatever was done to its bytes."""

    def check(changes: list[Edit]) -> None:
        found = attempt(resealed(edited(PAYLOAD, changes), TEXT))
        if found is not None:
            known = decode(found.body)
            assert (known.text, known.code) == (kit.TEXT, b"")
            assert found.functions == known.functions
            assert {*known.functions, *known.moved} <= set(found.manifest.functions)

    assert fuzz(check, edits(len(PAYLOAD)))


def test_a_parser_with_a_hole_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """The control: each refusal of the ELF reader is reached, so one that was forgotten would be seen."""
    reached = set()

    def note(why: str) -> ArtefactError:
        reached.add(re.sub(r"\d+", "N", why))
        return ArtefactError(why)

    def check(changes: list[Edit]) -> None:
        attempt(resealed(edited(ELF, changes)))

    monkeypatch.setattr(artefact, "_damaged", note)
    fuzz(check, edits(len(ELF)))
    assert len(reached) >= 6, reached
    monkeypatch.setattr(artefact, "_damaged", KeyError)
    with pytest.raises(KeyError):
        fuzz(check, edits(len(ELF)))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)


@pytest.mark.parametrize("raw", [RAW, TEXT], ids=["c", "python"])
def test_manifests_that_were_changed(raw: bytes) -> None:
    parts = open_envelope(raw)
    document = json.loads(parts.manifest)
    fields = st.sampled_from(sorted(document)) | st.text(max_size=10)

    def check(changes: dict, removed: list, is_sorted: bool) -> None:
        changed = {name: value for name, value in {**document, **changes}.items() if name not in removed}
        text = json.dumps(changed, sort_keys=is_sorted, separators=(",", ":")).encode()
        found = attempt(parts._replace(manifest=text).to_bytes())
        if found is not None:
            assert json.loads(found.manifest.to_bytes()) == changed

    assert fuzz(check, st.dictionaries(fields, JSON, max_size=4), st.lists(fields, max_size=2), st.booleans())


def test_text_of_manifests_that_was_changed() -> None:
    parts = open_envelope(RAW)

    def check(changes: list[Edit]) -> None:
        attempt(parts._replace(manifest=edited(parts.manifest, changes)).to_bytes())

    assert fuzz(check, edits(len(parts.manifest)))


def test_signed_files_that_were_changed_are_never_verified() -> None:
    pytest.importorskip("cryptography", reason="the package cryptography is not installed")
    from hotreload import signing

    key = signing.new_key()
    keys = [signing.public_key(key)]
    signed = signing.sign(RAW, key)

    def check(changes: list[Edit], is_resealed: bool) -> None:
        raw = edited(signed, changes)
        if is_resealed and len(raw) > 100:
            body = raw[: -32 - 64]
            elf_len = min(len(ELF), len(body))
            raw = Envelope(body[:elf_len], body[elf_len:], raw[-96:-32]).to_bytes()
        if raw == signed:
            return
        with pytest.raises(ArtefactError):
            signing.verify(raw, keys)

    assert fuzz(check, edits(len(signed)), st.booleans())
