"""The container: it is read back as it was made, and anything else is refused with its reason."""

from __future__ import annotations

import hashlib
import json
import pickle
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hotreload import artefact
from hotreload.artefact import (
    FORMAT,
    MAX_LEN,
    MAX_PAYLOAD_LEN,
    MAX_TEXT_LEN,
    ArtefactError,
    load,
    open_envelope,
    parse,
    printable,
)
from hotreload.errors import StageError
from tests.artefact import kit

HEAVY = ("cryptography", "hotreload.elf", "hotreload.build", "hotreload.diff", "hotreload.patch", "rich", "structlog")


def refused(raw: bytes, match: str) -> ArtefactError:
    with pytest.raises(ArtefactError, match=match) as caught:
        parse(raw)
    return caught.value


def test_what_was_built_is_read_back() -> None:
    elf = kit.tiny_elf(functions=("f", "g"))
    made = kit.manifest(changed=("f",), compiler_changed=("g",))
    raw = artefact.build(elf, made)
    found = parse(raw)

    assert found.manifest == made._replace(body_sha256=hashlib.sha256(elf).hexdigest())
    assert (found.body, found.raw, found.signature) == (elf, raw, b"")
    assert found.sha256 == hashlib.sha256(raw).hexdigest()
    assert found.functions == ("f", "g") == found.manifest.functions
    assert raw == artefact.build(elf, made)


def test_what_is_read_is_the_file_and_not_one_bit_of_another_spelling() -> None:
    raw = kit.make(source_diff="ä\udc80\x1b[31m\n")

    assert open_envelope(raw).to_bytes() == raw
    assert parse(raw).manifest.source_diff == "ä\udc80\x1b[31m\n"


@pytest.mark.parametrize("signature", [b"", bytes(64)], ids=["unsigned", "signed"])
def test_an_artefact_that_is_cut_at_any_byte_is_refused(signature: bytes) -> None:
    raw = open_envelope(kit.make())._replace(signature=signature).to_bytes()
    parse(raw)
    for length in range(len(raw)):
        for cut in (raw[:length], raw[len(raw) - length :]):
            with pytest.raises(ArtefactError):
                parse(cut)


def test_a_real_artefact_that_is_cut_at_any_byte_is_refused(hot_extension) -> None:
    from hotreload.patch.pack import pack

    hot = hot_extension("long f(long x) { return x; }\n")
    hot.save("return x", "return x + 1")
    raw = pack(hot.directory / "ext.c").artefact.raw
    for length in range(len(raw)):
        with pytest.raises(ArtefactError):
            parse(raw[:length])
        if length % 97 == 0:
            with pytest.raises(StageError):
                parse(raw[:length] + raw[length + 1 :])


@pytest.mark.parametrize("extra", [b"\0", b"\n", b"HOTPATCH", bytes(4096)])
def test_bytes_that_were_added_are_refused(extra: bytes) -> None:
    raw = kit.make()

    refused(extra + raw, "footer speaks of")
    refused(raw + extra, "footer")
    refused(raw + raw, "footer speaks of")


def test_the_kinds_of_wrong_footer_have_their_own_message() -> None:
    raw = kit.make()
    body, (elf_len,) = raw[:-32], struct.unpack("<Q", raw[-8:])
    manifest_len = len(body) - elf_len
    footer = struct.Struct("<8sIIQQ")

    refused(b"", "0 bytes are too few")
    refused(body + footer.pack(b"HOTPATCX", FORMAT, 0, manifest_len, elf_len), "no artefact, or cut off")
    refused(body + footer.pack(b"HOTPATCH", 1, 0, manifest_len, elf_len), "of format 1, and this hotreload reads .* 2")
    refused(body + footer.pack(b"HOTPATCH", FORMAT, 63, manifest_len, elf_len), "a signature of 63 bytes")
    refused(body + footer.pack(b"HOTPATCH", FORMAT, 0, 5 << 20, elf_len), "a manifest of 5,242,880 bytes is over")
    refused(body + footer.pack(b"HOTPATCH", FORMAT, 0, manifest_len, 2**64 - 1), "footer speaks of")


def test_an_artefact_over_the_limit_is_refused_before_it_is_looked_at(tmp_path: Path) -> None:
    refused(bytes(MAX_LEN + 1), "over the limit of 67,108,864")
    with open(tmp_path / "big.hotpatch", "wb") as file:
        file.truncate(MAX_LEN * 4)
    with pytest.raises(ArtefactError, match=r"big\.hotpatch: 67,108,865 bytes are over the limit"):
        load(tmp_path / "big.hotpatch")


@pytest.mark.parametrize(
    ("text", "match"),
    [
        (b"", "cannot be read"),
        (b"{", "cannot be read"),
        (b"\xff{}", "cannot be read"),
        (b"[" * 100_000, "cannot be read"),
        (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "cannot be read"),
        (b'{"format":' + b"9" * 4_000_000 + b"}", "a number is too big"),
        (b'{"format":1.0}', "no number of a manifest"),
        (b'{"format":NaN}', "no number of a manifest"),
        (b"[]", "no JSON object"),
        (b"null", "no JSON object"),
        (b"{}", "of format None, not 2"),
        (b'{"format":1}', "of format 1, not 2"),
        (b'{"format":2}', "a field too many or too few: added"),
    ],
)
def test_a_manifest_that_is_none_is_refused(text: bytes, match: str) -> None:
    refused(kit.with_manifest(kit.make(), text), match)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("module", ""),
        ("module", 1),
        ("build_id", "ABCD"),
        ("build_id", "abc"),
        ("build_id", "../../x"),
        ("build_id", "ab" * 33),
        ("sequence", -1),
        ("sequence", True),
        ("sequence", "7"),
        ("sequence", 2**63),
        ("created", "yesterday"),
        ("expires", "2023-11-14"),
        ("signer", "me"),
        ("changed", "f"),
        ("changed", [1]),
        ("changed", None),
        ("source_diff", ["a"]),
        ("inputs_sha256", "0"),
        ("body_sha256", "0" * 63 + "G"),
    ],
)
def test_a_field_that_is_not_of_its_kind_is_named(field: str, value: object) -> None:
    refused(kit.with_fields(kit.make(), **{field: value}), f"the manifest's {field} is ")


@pytest.mark.parametrize(
    ("one", "other", "is_same"),
    [
        ("kernels", "shop.kernels", True),
        ("shop.utils", "shop.utils", True),
        ("shop.utils", "stock.utils", False),
        ("utils", "myutils", False),
    ],
)
def test_names_of_one_module_end_alike_at_a_dot(one: str, other: str, is_same: bool) -> None:
    assert artefact.is_same_module(one, other) is is_same
    assert artefact.is_same_module(other, one) is is_same


def test_a_field_that_is_not_known_is_refused() -> None:
    refused(kit.with_fields(kit.make(), override=1), "a field too many or too few: override")


@pytest.mark.parametrize("spell", [lambda t: b" " + t, lambda t: t.replace(b":", b": ", 1), lambda t: t[:-1] + b',"module":"shop._kernels"}'])  # fmt: skip
def test_a_manifest_in_another_spelling_is_refused(spell) -> None:
    raw = kit.make()

    refused(kit.with_manifest(raw, spell(open_envelope(raw).manifest)), "not spelt as it must be")


def test_an_artefact_that_is_moved_to_another_module_is_refused() -> None:
    refused(
        kit.with_fields(kit.make(), build_id=kit.OTHER_ID.hex()),
        f"manifest is for the base {kit.OTHER_ID.hex()}, the code for {kit.BUILD_ID.hex()}",
    )


def test_code_of_another_artefact_is_refused() -> None:
    theirs = open_envelope(kit.make(kit.tiny_elf(build_id=kit.OTHER_ID), build_id=kit.OTHER_ID.hex()))

    refused(open_envelope(kit.make())._replace(body=theirs.body).to_bytes(), "its SHA-256 differs")


def test_code_that_replaces_more_than_its_manifest_says_is_refused() -> None:
    raw = kit.make(kit.tiny_elf(functions=("f", "g")), changed=("f", "g"))

    refused(kit.with_fields(raw, changed=["f"]), "the code replaces `g`, which its manifest does not name")


def test_a_manifest_may_name_more_than_the_code_replaces() -> None:
    assert parse(kit.make(changed=("f", "dropped_by_the_linker"))).functions == ("f",)


def test_the_text_of_a_python_module_is_carried_as_it_is() -> None:
    body = kit.payload(functions=("price",), moved=("Basket.total",), added=("discount()", "class Offer", "import os"))
    raw = kit.make_python(body, changed=("price",), compiler_changed=("Basket.total",))
    found = parse(raw)

    assert kit.TEXT in raw
    assert found.body == body
    assert (found.functions, found.carried) == (("price",), ("discount", "Offer"))


def test_a_payload_cannot_pass_for_code_nor_code_for_a_payload() -> None:
    refused(kit.with_fields(kit.make_python(), kind="elf"), "no 64-bit little-endian ELF file")
    refused(kit.with_fields(kit.make(), kind="python"), "it does not begin as one")
    refused(kit.with_fields(kit.make(), kind="marshal"), "the manifest's kind is ")


def test_a_payload_that_is_not_what_its_manifest_says_is_refused() -> None:
    raw = kit.make_python()

    refused(kit.with_elf(raw, kit.payload(functions=("f", "g"))), "the code replaces `g`, which its manifest does not")
    refused(kit.with_elf(raw, kit.payload(moved=("g",))), "the code replaces `g`, which its manifest does not name")
    refused(kit.with_elf(raw, kit.payload(build_id=kit.OTHER_ID.hex())), "manifest is for the base .*, the code for")
    refused(
        kit.with_elf(raw, kit.payload().replace(b"return 2", b"return 3")), "its text is not the one that was packed"
    )


def test_a_payload_with_code_that_nobody_can_read_is_refused() -> None:
    refused(kit.with_elf(kit.make_python(), kit.payload(code=b"N", python="a70d0d0a-0")), "code that nobody can read")


def test_a_text_over_the_limit_is_refused() -> None:
    refused(kit.with_elf(kit.make_python(), kit.payload(text=bytes(MAX_TEXT_LEN + 1))), "over the limit of 1,048,576")
    refused(kit.with_elf(kit.make_python(), bytes(MAX_PAYLOAD_LEN + 1)), "over the limit of 4,194,304")


def damaged(at: int, fmt: str, value: object) -> bytes:
    elf = bytearray(kit.tiny_elf())
    struct.pack_into(fmt, elf, at, value)
    return bytes(elf)


TABLE = 64 + len(kit.NAMES) + -len(kit.NAMES) % 8
SECTIONS = len(kit.tiny_elf()) - 3 * 64


@pytest.mark.parametrize(
    ("elf", "match"),
    [
        (b"", "no 64-bit little-endian ELF"),
        (damaged(4, "<B", 1), "no 64-bit little-endian ELF"),
        (damaged(5, "<B", 2), "no 64-bit little-endian ELF"),
        (damaged(16, "<H", 2), "no shared library for x86-64"),
        (damaged(18, "<H", 183), "no shared library for x86-64"),
        (damaged(58, "<H", 40), "no shared library for x86-64"),
        (damaged(40, "<Q", 2**64 - 1), "section headers point outside"),
        (damaged(60, "<H", 65535), "section headers point outside"),
        (damaged(62, "<H", 3), "section headers point outside"),
        (damaged(SECTIONS + 64 + 24, "<Q", 2**64 - 1), "a section lies outside"),
        (damaged(SECTIONS + 128 + 24, "<Q", 2**63), "a section lies outside"),
        (damaged(SECTIONS + 128 + 32, "<Q", 40), "link table is cut off"),
        (damaged(SECTIONS + 128, "<I", 2**32 - 1), "0 link tables instead of one"),
        (damaged(SECTIONS + 128 + 4, "<I", 8), "0 link tables instead of one"),
        (kit.tiny_elf([kit.link_table(), kit.link_table()]), "2 link tables instead of one"),
        (damaged(TABLE, "<B", 0), "lengths that do not fit together"),
        (damaged(TABLE + 7, "<B", ord("1")), "a patch of format 1, and this hotreload reads format 3"),
        (damaged(TABLE + 8, "<Q", 2**64 - 1), "lengths that do not fit together"),
        (damaged(TABLE + 72, "<I", 0), "lengths that do not fit together"),
        (damaged(TABLE + 72, "<I", 33), "lengths that do not fit together"),
        (damaged(TABLE + 80, "<I", 2**32 - 1), "lengths that do not fit together"),
        (damaged(TABLE + 96, "<I", 2**32 - 1), "lengths that do not fit together"),
        (damaged(TABLE + 120 + 40, "<I", 2**32 - 1), "names a function that is not there"),
        (damaged(TABLE + 120 + 44, "<I", 2), "names a function that is not there"),
    ],
)
def test_code_that_is_no_patch_is_refused(elf: bytes, match: str) -> None:
    refused(kit.with_elf(kit.make(), elf), match)


def table_with(function_count: int, strings: bytes) -> bytes:
    """A table of functions whose names all begin at the first byte of the strings."""
    whole = bytearray(kit.link_table(functions=()))
    header, rest = whole[:120], whole[120:160]
    functions = struct.pack("<IIQQ", 0, 0, 0x1000, 0) * function_count
    struct.pack_into("<I", header, 96, function_count)
    struct.pack_into("<I", header, 108, len(strings))
    struct.pack_into("<Q", header, 8, len(header) + len(rest) + len(functions) + len(strings))
    return bytes(header + rest) + functions + strings


@pytest.mark.parametrize(
    ("table", "match"),
    [
        (table_with(1 << 21, b"f\0"), "names 2,097,152 functions, and 65,536 are the limit"),
        (table_with(1 << 16, b"f" * (50 << 20) + b"\0"), "names a function that is not there"),
        (table_with(1, b"f" * 4096 + b"\0"), "names a function that is not there"),
        (table_with(1 << 16, b"f" * 4095 + b"\0"), "names in its link table are longer than 4,194,304 bytes"),
        (table_with(1 << 16, b"f" * 60 + b"\0"), "which its manifest does not name"),
    ],
    ids=["many", "long", "just too long", "one long name many times", "as much as there may be"],
)
def test_a_big_artefact_is_refused_in_bounded_time(table: bytes, match: str) -> None:
    raw = kit.with_elf(kit.make(), kit.tiny_elf([table]))
    started = time.process_time()
    refused(raw, match)
    assert time.process_time() - started < 3


@pytest.mark.parametrize("field", ["module", "created", "changed", "x" * 1_000_000])
def test_a_big_manifest_is_refused_in_bounded_time(field: str) -> None:
    text = kit.with_fields(kit.make(), **{field: {"\x1b\n" * 300_000: 1}})
    started = time.process_time()
    error = refused(text, "the manifest")
    assert time.process_time() - started < 3 and len(error.message) < 500 and error.message.isprintable()


def test_nothing_is_built_that_would_not_be_read_back() -> None:
    with pytest.raises(ArtefactError, match="no 64-bit"):
        artefact.build(b"x", kit.manifest())
    with pytest.raises(ArtefactError, match="does not name"):
        artefact.build(kit.tiny_elf(), kit.manifest(changed=()))
    with pytest.raises(ArtefactError, match="a manifest of"):
        kit.make(source_diff="x" * (5 << 20))


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ArtefactError, match=r"cannot read .*nothing\.hotpatch: No such file") as caught:
        load(tmp_path / "nothing.hotpatch")
    assert caught.value.fields["path"].endswith("nothing.hotpatch")


def test_a_refusal_survives_pickle_and_says_that_nothing_changed() -> None:
    error = refused(b"", "too few")
    again = pickle.loads(pickle.dumps(error))

    assert isinstance(again, StageError) and type(again) is ArtefactError
    assert (again.message, again.hint, again.status) == (error.message, error.hint, "ARTEFACT")
    assert json.loads(json.dumps(error.as_dict()))["error"] == "ArtefactError"


@pytest.mark.parametrize("name", ["f\nevent: forged", "\x1b]0;title\x07", "a\u202eb", "\u2028", "\x7f", "\udc80", "\r"])
def test_names_cannot_move_the_cursor_or_begin_a_line(name: str) -> None:
    error = refused(kit.with_fields(kit.make(kit.tiny_elf(functions=("f",))), build_id=name), "build_id")

    assert printable(name).isprintable() and error.message.isprintable()


def test_a_hostile_function_name_is_escaped_in_the_refusal() -> None:
    raw = kit.make(kit.tiny_elf(functions=("f\n\x1b[2Jok",)), changed=("f\n\x1b[2Jok",))

    assert refused(kit.with_fields(raw, changed=[]), "does not name").message.isprintable()


def test_a_server_that_reads_artefacts_imports_nothing_heavy() -> None:
    code = (
        "import sys, hotreload.artefact, hotreload.signing, hotreload.state\n"
        f"print([name for name in {HEAVY} if name in sys.modules])\n"
        "hotreload.artefact.parse(sys.stdin.buffer.read())\n"
        f"print([name for name in {HEAVY} if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], input=kit.make(), capture_output=True, check=True)

    assert done.stdout == b"[]\n[]\n"
