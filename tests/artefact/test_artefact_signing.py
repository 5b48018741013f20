"""Signatures: only the trusted key's, over exactly this file, in its time; each refusal has its own message."""

from __future__ import annotations

import subprocess
import sys

import pytest

from hotreload import signing
from hotreload.artefact import ArtefactError, open_envelope, parse
from tests.artefact import kit

pytest.importorskip("cryptography", reason="the package cryptography is not installed")

KEY, OTHER_KEY = signing.new_key(), signing.new_key()
PUBLIC, OTHER_PUBLIC = signing.public_key(KEY), signing.public_key(OTHER_KEY)
EXPIRES = "2030-01-01T00:00:00Z"
EXPIRES_SECONDS = 1893456000


def refused(raw: bytes, keys: list, status: str, match: str, **options) -> ArtefactError:
    with pytest.raises(ArtefactError, match=match) as caught:
        signing.verify(raw, keys, **options)
    assert caught.value.status == status
    assert caught.value.hint
    return caught.value


@pytest.fixture(scope="module")
def signed() -> bytes:
    return signing.sign(kit.make(), KEY)


def test_a_good_signature_names_its_key(signed: bytes) -> None:
    assert signing.verify(signed, [OTHER_PUBLIC, PUBLIC]) == signing.fingerprint(PUBLIC)
    assert parse(signed).manifest.signer == signing.fingerprint(PUBLIC)


def test_signing_changes_nothing_but_the_signer(signed: bytes) -> None:
    plain, found = parse(kit.make()), parse(signed)

    assert found.body == plain.body
    assert found.manifest._replace(signer="") == plain.manifest
    assert signing.sign(kit.make(), KEY) == signed


def test_signing_again_replaces_the_signature(signed: bytes) -> None:
    again = signing.sign(signed, OTHER_KEY)

    assert signing.verify(again, [OTHER_PUBLIC]) == signing.fingerprint(OTHER_PUBLIC)
    assert signing.sign(again, KEY) == signed


def test_a_missing_signature_is_refused() -> None:
    refused(kit.make(), [PUBLIC], "SIGNATURE_MISSING", "is not signed")


def test_a_signature_that_was_taken_off_is_a_missing_one(signed: bytes) -> None:
    refused(open_envelope(signed)._replace(signature=b"").to_bytes(), [PUBLIC], "SIGNATURE_MISSING", "is not signed")


def test_a_foreign_signature_is_refused_naming_its_key(signed: bytes) -> None:
    error = refused(signed, [OTHER_PUBLIC], "SIGNATURE_FOREIGN", "which is not trusted here")
    assert signing.fingerprint(PUBLIC) in error.message


def test_where_nobody_is_trusted_every_signature_is_refused(signed: bytes) -> None:
    refused(signed, [], "SIGNATURE_NO_KEYS", "no key is trusted here")


def test_a_bad_signature_is_refused(signed: bytes) -> None:
    for forged in (bytes(64), bytes(reversed(open_envelope(signed).signature))):
        broken = open_envelope(signed)._replace(signature=forged).to_bytes()
        refused(broken, [PUBLIC], "SIGNATURE_BAD", "changed after it was signed")


def test_a_change_of_any_byte_is_refused(signed: bytes) -> None:
    for at in range(len(signed)):
        changed = bytearray(signed)
        changed[at] ^= 1
        with pytest.raises(ArtefactError):
            signing.verify(bytes(changed), [PUBLIC])


def test_a_signed_artefact_cut_at_any_byte_is_refused(signed: bytes) -> None:
    for length in range(len(signed)):
        with pytest.raises(ArtefactError):
            signing.verify(signed[:length], [PUBLIC])


@pytest.mark.parametrize(
    "changes",
    [{"build_id": kit.OTHER_ID.hex()}, {"sequence": 1_700_000_000_000_001}, {"module": "other"}, {"expires": ""}],
    ids=lambda changes: next(iter(changes)),
)
def test_a_signed_manifest_that_was_edited_is_refused(changes: dict) -> None:
    """Neither moved to another module nor passed off as newer, nor given more time."""
    raw = signing.sign(kit.make(expires=EXPIRES), KEY)

    refused(kit.with_fields(raw, **changes), [PUBLIC], "SIGNATURE_BAD", "changed after it was signed")


def test_a_signature_of_another_artefact_is_refused(signed: bytes) -> None:
    newer = signing.sign(kit.make(sequence=2_000_000_000_000_000), KEY)
    moved = open_envelope(newer)._replace(signature=open_envelope(signed).signature).to_bytes()

    refused(moved, [PUBLIC], "SIGNATURE_BAD", "changed after it was signed")


def test_a_signature_from_somebody_who_says_he_is_trusted_is_a_bad_one() -> None:
    raw = kit.with_fields(signing.sign(kit.make(), OTHER_KEY), signer=signing.fingerprint(PUBLIC))

    refused(raw, [PUBLIC], "SIGNATURE_BAD", "changed after it was signed")


def test_an_artefact_is_refused_when_its_time_is_over() -> None:
    raw = signing.sign(kit.make(expires=EXPIRES), KEY)

    assert signing.verify(raw, [PUBLIC], now=EXPIRES_SECONDS - 1)
    refused(raw, [PUBLIC], "SIGNATURE_EXPIRED", f"time was over at {EXPIRES}", now=EXPIRES_SECONDS)
    refused(signing.sign(kit.make(expires="2001-01-01T00:00:00Z"), KEY), [PUBLIC], "SIGNATURE_EXPIRED", "time was over")


def test_what_was_committed_in_its_time_stays_good_for_those_that_start_later() -> None:
    raw = signing.sign(kit.make(expires="2001-01-01T00:00:00Z"), KEY)

    assert signing.verify(raw, [PUBLIC], now=0) == signing.fingerprint(PUBLIC)


def test_a_time_that_is_none_is_refused() -> None:
    raw = signing.sign(kit.make(expires="2001-19-39T00:00:00Z"), KEY)

    refused(raw, [PUBLIC], "SIGNATURE_EXPIRED", "is no time")


def test_without_the_package_the_error_says_how_to_get_it(signed: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "cryptography"]:
        monkeypatch.setitem(sys.modules, name, None)
    error = refused(signed, [PUBLIC], "SIGNATURE_NO_CRYPTO", "which is not installed")

    assert error.hint == "pip install hotreload[sign]"
    refused(kit.make(), [PUBLIC], "SIGNATURE_MISSING", "is not signed")


def test_cryptography_is_imported_only_to_verify(signed: bytes) -> None:
    code = (
        "import sys\nfrom hotreload import artefact, signing\n"
        "raw = sys.stdin.buffer.read()\nartefact.parse(raw)\nprint('cryptography' in sys.modules)\n"
        f"signing.verify(raw, [{signing.public_key_text(PUBLIC)!r}])\nprint('cryptography' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], input=signed, capture_output=True, check=True)

    assert done.stdout == b"False\nTrue\n"


def test_a_key_is_read_in_every_form() -> None:
    from cryptography.hazmat.primitives import serialization

    key = serialization.load_pem_private_key(KEY, None).public_key()
    pem = key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    text = signing.public_key_text(PUBLIC)

    for form in (PUBLIC, pem, pem.decode(), text, text.encode(), f"  {text} a comment\n"):
        assert signing.read_public_key(form) == PUBLIC


@pytest.mark.parametrize("text", ["", "ed25519:", "ed25519:????", "ed25519:AAAA", "ssh-rsa AAAA", b"\xff" * 31, "-----BEGIN PUBLIC KEY-----\n"])  # fmt: skip
def test_what_is_no_public_key_is_refused(text) -> None:
    with pytest.raises(signing.KeyFileError, match="not an Ed25519 public key"):
        signing.verify(kit.make(), [text])


def test_keys_of_another_kind_are_refused() -> None:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    with pytest.raises(signing.KeyFileError, match="not an Ed25519 private key"):
        signing.sign(kit.make(), private)
    with pytest.raises(signing.KeyFileError, match="not an Ed25519 public key"):
        signing.read_public_key(public)
    with pytest.raises(signing.KeyFileError, match="cannot be read"):
        signing.sign(kit.make(), b"no key")


def test_a_key_with_a_passphrase_needs_it() -> None:
    from cryptography.hazmat.primitives import serialization

    locked = serialization.load_pem_private_key(KEY, None).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"open sesame"),
    )
    assert signing.is_encrypted(locked) and not signing.is_encrypted(KEY)
    assert signing.sign(kit.make(), locked, b"open sesame") == signing.sign(kit.make(), KEY)
    for wrong in (None, b"open"):
        with pytest.raises(signing.KeyFileError, match="cannot be read"):
            signing.sign(kit.make(), locked, wrong)


def test_what_is_no_artefact_is_not_signed() -> None:
    with pytest.raises(ArtefactError, match="footer"):
        signing.sign(kit.make()[:-1], KEY)
