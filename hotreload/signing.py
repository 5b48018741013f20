"""Signatures of artefacts: Ed25519 over everything but the signature itself.

::

    sign     artefact + private key ──▶ manifest says who signs ──▶ signature over code, manifest and footer
    verify   artefact + trusted keys ─▶ fingerprint of the key that signed, or the one reason why not:

        SIGNATURE_MISSING    it is not signed
        SIGNATURE_FOREIGN    it is signed, by a key that is not trusted here
        SIGNATURE_BAD        it says that a trusted key signed it, and that is not so: it was changed since
        SIGNATURE_EXPIRED    the signature is good and the artefact's time is over
        SIGNATURE_NO_KEYS    nobody is trusted here
        SIGNATURE_NO_CRYPTO  there is nothing to check it with

The signature is checked before the manifest or the code is read. ``cryptography`` is imported when there is something
to check or to sign, and not before: a server that asks for no signatures does not need it.
"""

from __future__ import annotations

import binascii
import hashlib
import time
from base64 import b64decode, b64encode
from calendar import timegm
from collections.abc import Iterable
from typing import Any, Union

from hotreload.artefact import (
    ArtefactError,
    open_envelope,
    parse,
    read_manifest,
)
from hotreload.errors import HotReloadError

__all__ = [
    "KeyFileError",
    "fingerprint",
    "is_encrypted",
    "new_key",
    "public_key",
    "public_key_text",
    "read_public_key",
    "sign",
    "verify",
]

_KEY_LEN = 32
_PREFIX = "ed25519:"

PublicKey = Union[bytes, str]


class KeyFileError(HotReloadError):
    """What was given as a key is none that can be used; nothing was signed or verified."""


def sign(raw: bytes, private_key_pem: bytes, passphrase: bytes | None = None) -> bytes:
    """The artefact ``raw``, signed; an earlier signature is replaced.

    Raises:
        ArtefactError: it is no artefact.
        KeyFileError: the key is no Ed25519 private key, or its passphrase is missing or wrong.
    """
    manifest = parse(raw).manifest
    key = _private_key(private_key_pem, passphrase)
    envelope = open_envelope(raw)
    signer = fingerprint(_raw_public(key.public_key()))
    envelope = envelope._replace(manifest=manifest._replace(signer=signer).to_bytes())
    signed = envelope._replace(signature=key.sign(envelope.signed_bytes())).to_bytes()
    open_envelope(signed)
    return signed


def verify(raw: bytes, keys: Iterable[PublicKey], *, now: float | None = None) -> str:
    """Insists that one of ``keys`` signed exactly this artefact, and that its time is not over.

    Args:
        raw: the whole file.
        keys: public keys: 32 raw bytes, PEM, or ``ed25519:BASE64``.
        now: seconds since the epoch; the clock's by default. 0 asks only whose signature it is: what was committed
            in its time stays good for processes that start later.

    Returns:
        the fingerprint of the key that signed.

    Raises:
        ArtefactError: see the list above; ``status`` tells the reasons apart.
        KeyFileError: one of ``keys`` is no key.
    """
    envelope = open_envelope(raw)
    trusted = [read_public_key(key) for key in keys]
    if not envelope.signature:
        raise ArtefactError(
            "the artefact is not signed", hint="sign it with `hotreload sign`", status="SIGNATURE_MISSING"
        )
    if not trusted:
        raise ArtefactError(
            "the artefact is signed, and no key is trusted here",
            hint="name the public keys under `keys` in [tool.hotreload.policy]",
            status="SIGNATURE_NO_KEYS",
        )
    signer = _who_signed(envelope.signed_bytes(), envelope.signature, trusted)
    if signer is None:
        raise _not_signed_by(trusted, envelope.manifest)
    manifest = read_manifest(envelope.manifest)
    if manifest.expires and _seconds(manifest.expires) <= (time.time() if now is None else now):
        raise ArtefactError(
            f"the artefact's time was over at {manifest.expires}",
            hint="pack and sign it again",
            status="SIGNATURE_EXPIRED",
            expires=manifest.expires,
        )
    return signer


def fingerprint(key: PublicKey) -> str:
    """The name of a public key."""
    return "SHA256:" + hashlib.sha256(read_public_key(key)).hexdigest()


def read_public_key(key: PublicKey) -> bytes:
    """The 32 bytes of a public key that is given as such, as PEM, or as ``ed25519:BASE64``."""
    if isinstance(key, bytes) and len(key) == _KEY_LEN:
        return key
    text = key.decode("utf-8", "replace") if isinstance(key, bytes) else key
    text = text.strip()
    if text.startswith(_PREFIX):
        try:
            raw = b64decode(text[len(_PREFIX) :].split(None, 1)[0], validate=True)
        except (binascii.Error, IndexError, ValueError):
            raw = b""
        if len(raw) == _KEY_LEN:
            return raw
    elif text.startswith("-----BEGIN PUBLIC KEY"):
        return _public_from_pem(text.encode())
    raise KeyFileError("not an Ed25519 public key", hint="PEM as `openssl pkey -pubout` writes it, or ed25519:BASE64")


def public_key(private_key_pem: bytes, passphrase: bytes | None = None) -> bytes:
    """The public half of a private key."""
    return _raw_public(_private_key(private_key_pem, passphrase).public_key())


def public_key_text(key: PublicKey) -> str:
    """A public key on one line, for a policy or a file."""
    return _PREFIX + b64encode(read_public_key(key)).decode("ascii")


def new_key() -> bytes:
    """A new private key, as PEM."""
    crypto = _cryptography()
    serialization = crypto.serialization
    pem: bytes = crypto.ed25519.Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return pem


def is_encrypted(private_key_pem: bytes) -> bool:
    """Whether the key asks for a passphrase."""
    return b"ENCRYPTED" in private_key_pem


def _who_signed(message: bytes, signature: bytes, keys: list[bytes]) -> str | None:
    crypto = _cryptography()
    for key in keys:
        try:
            crypto.ed25519.Ed25519PublicKey.from_public_bytes(key).verify(signature, message)
        except crypto.InvalidSignature:
            continue
        return fingerprint(key)
    return None


def _not_signed_by(keys: list[bytes], manifest: bytes) -> ArtefactError:
    """Why no key fits: the manifest is believed for this message and for nothing else."""
    try:
        signer = read_manifest(manifest).signer
    except ArtefactError:
        signer = ""
    if signer and signer not in {fingerprint(key) for key in keys}:
        return ArtefactError(
            f"the artefact is signed by the key {signer}, which is not trusted here",
            hint="name its public key under `keys` in [tool.hotreload.policy], if you trust it",
            status="SIGNATURE_FOREIGN",
            signer=signer,
        )
    return ArtefactError(
        "the signature is not a signature of this artefact: it was changed after it was signed",
        hint="fetch it again, or pack and sign it again",
        status="SIGNATURE_BAD",
    )


def _seconds(stamp: str) -> int:
    try:
        return timegm(time.strptime(stamp, "%Y-%m-%dT%H:%M:%SZ"))
    except ValueError:
        raise ArtefactError(f"{stamp} is no time", hint="pack it again", status="SIGNATURE_EXPIRED") from None


def _private_key(pem: bytes, passphrase: bytes | None) -> Any:
    crypto = _cryptography()
    try:
        key = crypto.serialization.load_pem_private_key(pem, passphrase)
    except (ValueError, TypeError) as error:
        raise KeyFileError(f"the private key cannot be read: {error}", hint="PEM; check its passphrase") from None
    except crypto.UnsupportedAlgorithm:
        key = None
    if not isinstance(key, crypto.ed25519.Ed25519PrivateKey):
        raise KeyFileError("not an Ed25519 private key", hint="make one with `hotreload sign --new-key FILE`")
    return key


def _public_from_pem(pem: bytes) -> bytes:
    crypto = _cryptography()
    try:
        key = crypto.serialization.load_pem_public_key(pem)
    except (ValueError, crypto.UnsupportedAlgorithm):
        key = None
    if not isinstance(key, crypto.ed25519.Ed25519PublicKey):
        raise KeyFileError("not an Ed25519 public key", hint="make a pair with `hotreload sign --new-key FILE`")
    return _raw_public(key)


def _raw_public(key: Any) -> bytes:
    serialization = _cryptography().serialization
    raw: bytes = key.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    return raw


class _Cryptography:
    """The few names of ``cryptography`` that are used here."""

    def __init__(self) -> None:
        from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ed25519

        self.InvalidSignature, self.UnsupportedAlgorithm = InvalidSignature, UnsupportedAlgorithm
        self.serialization, self.ed25519 = serialization, ed25519


def _cryptography() -> _Cryptography:
    try:
        return _Cryptography()
    except ImportError:
        raise ArtefactError(
            "signatures need the package `cryptography`, which is not installed here",
            hint="pip install hotreload[sign]",
            status="SIGNATURE_NO_CRYPTO",
        ) from None
