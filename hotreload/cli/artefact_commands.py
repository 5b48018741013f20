"""``hotreload pack``, ``show``, ``sign`` and ``verify``: artefacts as files, before anything is pushed anywhere."""

from __future__ import annotations

import argparse
import contextlib
import getpass
import json
import os
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hotreload import artefact, signing
from hotreload.artefact import Artefact, printable
from hotreload.cli.artefact_view import as_data, text_of
from hotreload.cli.artefact_view import show as show_artefact
from hotreload.cli.progress import Progress
from hotreload.errors import HotReloadError
from hotreload.panels import wants_panels
from hotreload.push.records import Exit

__all__ = ["pack", "show", "sign", "verify"]

_SUFFIX = ".hotpatch"


def pack(options: argparse.Namespace) -> int:
    """Makes an artefact. Raises HotReloadError: it cannot be made; nothing was written."""
    is_python = options.source.endswith(".py")
    if is_python != bool(options.base) or (is_python and options.build_id) or (options.module and not is_python):
        options.usage_error("a module of Python needs --base OLD.py, the text that runs; C sources have a --build-id")
    found, warnings, reason = _pack_text(options) if is_python else _pack_sources(options)
    if found is None:
        _print(options, f"nothing to pack: {reason}", {"packed": None, "reason": reason})
        return Exit.NOTHING
    output = options.output or Path(options.source).stem + _SUFFIX
    _write(output, found.raw)
    if warnings:
        os.write(2, warnings.encode(errors="backslashreplace"))
    _print(options, f"{printable(output)}: {_summary(found)}", {"packed": output, **as_data(found)})
    return Exit.DONE


def _pack_sources(options: argparse.Namespace) -> tuple[Artefact | None, str, str]:
    """The artefact, or none; the compiler's warnings; why there is nothing to pack."""
    from hotreload.config import load_config
    from hotreload.diff.verdicts import check_allowed
    from hotreload.patch.pack import pack as make_artefact

    allowed, why = check_allowed(load_config().allow), [""]
    with Progress() as progress:
        packed = make_artefact(
            options.source,
            build_id=options.build_id,
            author=options.author,
            sequence=options.sequence,
            expires=options.expires,
            allow=allowed.union(options.allow or ()),
            colours=wants_panels(sys.stderr),
            progress=progress.compiling,
            unchanged=why.append,
        )
    if packed is None:
        return None, "", f"the sources mean what the running base means: {why[-1]}"
    return packed.artefact, packed.result.warnings, ""


def _pack_text(options: argparse.Namespace) -> tuple[Artefact | None, str, str]:
    """The same for a module of Python."""
    from hotreload.patch.pack_text import pack_text, read_text
    from hotreload.python.workshop import module_name

    return pack_text(
        options.source,
        read_text(options.base),
        module=options.module or module_name(os.path.realpath(options.source)),
        author=options.author,
        sequence=options.sequence,
        expires=options.expires,
    )


def show(options: argparse.Namespace) -> int:
    """Prints what an artefact would change. Raises HotReloadError: it is none."""
    found = artefact.load(options.artefact)
    if options.text:
        sys.stdout.buffer.write(text_of(found))
    elif options.json:
        print(json.dumps(as_data(found), indent=2))
    else:
        show_artefact(found, sys.stdout)
    return Exit.DONE


def sign(options: argparse.Namespace) -> int:
    """Signs an artefact, or makes a pair of keys. Raises HotReloadError: nothing was written."""
    if options.new_key and not options.artefact:
        return _make_key(options)
    if options.new_key or not options.artefact or not options.key:
        options.usage_error("give an artefact and --key, or --new-key alone")
    raw = artefact.load(options.artefact).raw
    key = _read_key(options.key, is_secret=True)
    signed = artefact.parse(signing.sign(raw, key, _passphrase(options.key, key)))
    output = options.output or options.artefact
    _write(output, signed.raw)
    _print(options, f"{printable(output)}: signed by {signed.manifest.signer}", {"signed": output, **as_data(signed)})
    return Exit.DONE


def verify(options: argparse.Namespace) -> int:
    """Says whether one of the keys signed it. Raises HotReloadError: none did, or it is no artefact."""
    keys = [key if key.startswith("ed25519:") else _read_key(key) for key in options.key]
    raw = artefact.load(options.artefact).raw
    signer = signing.verify(raw, keys)
    found = artefact.parse(raw)
    text = f"{printable(options.artefact)}: good, signed by {signer}: {_summary(found)}"
    _print(options, text, {"verified": True, **as_data(found)})
    return Exit.DONE


def _summary(found: Artefact) -> str:
    manifest = found.manifest
    count = len(manifest.functions)
    return (
        f"{count} function{'s' if count != 1 else ''} of {printable(manifest.module)}, "
        f"base {manifest.build_id[:12]}, sequence {manifest.sequence}, {len(found.raw):,} bytes"
    )


def _print(options: argparse.Namespace, text: str, data: Mapping[str, Any]) -> None:
    print(json.dumps({"ok": True, **data}) if options.json else text)


def _make_key(options: argparse.Namespace) -> int:
    private = signing.new_key()
    public = signing.public_key_text(signing.public_key(private))
    path = options.new_key
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with open(fd, "wb") as file:
            file.write(private)
        _write(f"{path}.pub", f"{public}\n".encode())
    except FileExistsError:
        raise HotReloadError(f"{path} is there already", hint="choose another name; keys are not replaced") from None
    except OSError as error:
        raise HotReloadError(f"cannot write {path}: {error.strerror}") from None
    data = {"key": path, "public_key": public, "fingerprint": signing.fingerprint(public)}
    _print(options, f"{path}: keep it secret\n{path}.pub: {public}\nfingerprint: {data['fingerprint']}", data)
    return Exit.DONE


def _read_key(path: str, *, is_secret: bool = False) -> bytes:
    try:
        with open(path, "rb") as file:
            key = file.read(64 << 10)
            mode = os.fstat(file.fileno()).st_mode
    except OSError as error:
        raise signing.KeyFileError(f"cannot read the key {path}: {error.strerror}") from None
    if is_secret and mode & 0o077:
        os.write(2, f"hotreload: {path} can be read by others; chmod 0600 {path}\n".encode())
    return key


def _passphrase(path: str, key: bytes) -> bytes | None:
    if not signing.is_encrypted(key):
        return None
    given = os.environ.get("HOTRELOAD_KEY_PASSPHRASE")
    if given is None and sys.stdin.isatty():
        given = getpass.getpass(f"passphrase of {path}: ")
    return None if given is None else given.encode()


def _write(path: str, content: bytes) -> None:
    """A file that is there whole or not at all."""
    directory = os.path.dirname(os.path.abspath(path))
    try:
        fd, temporary = tempfile.mkstemp(dir=directory, prefix=".hotpatch.")
    except OSError as error:
        raise HotReloadError(f"cannot write {path}: {error.strerror}", hint="choose another place with -o") from None
    try:
        with open(fd, "wb") as file:
            file.write(content)
            os.fchmod(fd, 0o644)
        os.replace(temporary, path)
    except OSError as error:
        raise HotReloadError(f"cannot write {path}: {error.strerror}", hint="choose another place with -o") from None
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
