"""``hotreload pack``, ``show``, ``sign`` and ``verify``: artefacts as files, before anything is pushed anywhere.

Exit codes: 0 done, 2 usage, 3 nothing to do, 4 refused.
"""

from __future__ import annotations

import argparse
import contextlib
import getpass
import json
import os
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from hotreload import artefact, signing
from hotreload.artefact import Artefact, printable
from hotreload.cli.artefact_view import as_data, show, text_of
from hotreload.errors import BuildError, HotReloadError, IncompatibleError
from hotreload.push.records import Exit

__all__ = ["COMMANDS", "run"]

_SUFFIX = ".hotpatch"
_EXIT_CODES = "exit codes: 0 done, 2 usage, 3 nothing to do, 4 refused"


def run(command: str, arguments: Sequence[str]) -> int:
    """Runs one of :data:`COMMANDS`; the exit code is returned, and a refusal is told on stderr."""
    try:
        return COMMANDS[command](list(arguments))
    except HotReloadError as error:
        _tell(error, as_json="--json" in arguments)
        return Exit.REFUSED


def _pack(arguments: list[str]) -> int:
    parser = _parser("pack", "Makes an artefact of what a module's sources say now. The running code is not touched.")
    parser.add_argument(
        "source", help="a source or header of the module, all of whose sources are looked at; or a module of Python"
    )
    parser.add_argument("-o", "--output", help="the file to write (default: SOURCE's name with .hotpatch)")
    parser.add_argument("--build-id", default="", metavar="ID", help="the base (default: the newest build of SOURCE)")
    parser.add_argument("--base", default="", metavar="OLD.py", help="for a module of Python: the text that runs")
    parser.add_argument("--module", default="", metavar="NAME", help="and its dotted name (default: by its packages)")
    parser.add_argument("--author", default="", help="whose change it is (default: git's user, or yours)")
    parser.add_argument("--sequence", type=_sequence, metavar="N", help="newer is greater (default: the edit's time)")
    parser.add_argument("--expires", default="", metavar="WHEN", help="2026-12-31T00:00:00Z, or 30m, 12h, 7d, 2w")
    parser.add_argument(
        "--allow", action="append", default=[], metavar="SLUG", help="a finding that you know better about (repeat)"
    )
    options = parser.parse_args(arguments)
    is_python = options.source.endswith(".py")
    if is_python != bool(options.base) or (is_python and options.build_id) or (options.module and not is_python):
        parser.error("a module of Python needs --base OLD.py, the text that runs; C sources have a --build-id")
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
    from hotreload.patch.pack import pack

    packed = pack(
        options.source,
        build_id=options.build_id,
        author=options.author,
        sequence=options.sequence,
        expires=options.expires,
        allow=frozenset((*load_config().allow, *options.allow)),
    )
    if packed is None:
        return None, "", "the sources mean what the running base means"
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


def _show(arguments: list[str]) -> int:
    parser = _parser("show", "Prints what an artefact would change, for a reader; with --json for a program.")
    parser.add_argument("artefact", help="the .hotpatch file")
    parser.add_argument("--text", action="store_true", help="of a module of Python: its new text, and no more")
    options = parser.parse_args(arguments)
    found = artefact.load(options.artefact)
    if options.text:
        sys.stdout.buffer.write(text_of(found))
    elif options.json:
        print(json.dumps(as_data(found), indent=2))
    else:
        show(found, sys.stdout)
    return Exit.DONE


def _sign(arguments: list[str]) -> int:
    parser = _parser("sign", "Signs an artefact with an Ed25519 key; an earlier signature is replaced.")
    parser.add_argument("artefact", nargs="?", help="the .hotpatch file")
    parser.add_argument("--key", help="the private key, PEM; its passphrase is asked for, or HOTRELOAD_KEY_PASSPHRASE")
    parser.add_argument("-o", "--output", help="the file to write (default: the artefact itself)")
    parser.add_argument("--new-key", metavar="FILE", help="make a pair instead: FILE and FILE.pub")
    options = parser.parse_args(arguments)
    if options.new_key and not options.artefact:
        return _make_key(options)
    if options.new_key or not options.artefact or not options.key:
        parser.error("give an artefact and --key, or --new-key alone")
    raw = artefact.load(options.artefact).raw
    key = _read_key(options.key, is_secret=True)
    signed = artefact.parse(signing.sign(raw, key, _passphrase(options.key, key)))
    output = options.output or options.artefact
    _write(output, signed.raw)
    _print(options, f"{printable(output)}: signed by {signed.manifest.signer}", {"signed": output, **as_data(signed)})
    return Exit.DONE


def _verify(arguments: list[str]) -> int:
    parser = _parser("verify", "Says whether one of the given keys signed exactly this artefact.")
    parser.add_argument("artefact", help="the .hotpatch file")
    parser.add_argument(
        "--key", action="append", required=True, help="a public key: a file, or ed25519:BASE64; may be repeated"
    )
    options = parser.parse_args(arguments)
    keys = [key if key.startswith("ed25519:") else _read_key(key) for key in options.key]
    raw = artefact.load(options.artefact).raw
    signer = signing.verify(raw, keys)
    found = artefact.parse(raw)
    text = f"{printable(options.artefact)}: good, signed by {signer}: {_summary(found)}"
    _print(options, text, {"verified": True, **as_data(found)})
    return Exit.DONE


COMMANDS: Mapping[str, Callable[[list[str]], int]] = {"pack": _pack, "show": _show, "sign": _sign, "verify": _verify}


def _parser(command: str, description: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=f"hotreload {command}", description=description, epilog=_EXIT_CODES)
    parser.add_argument("--json", action="store_true", help="answer as JSON")
    return parser


def _sequence(text: str) -> int:
    number = int(text)
    if not 0 <= number < 1 << 63:
        raise argparse.ArgumentTypeError("a sequence number is zero or more, and less than 2**63")
    return number


def _summary(found: Artefact) -> str:
    manifest = found.manifest
    count = len(manifest.functions)
    return (
        f"{count} function{'s' if count != 1 else ''} of {printable(manifest.module)}, "
        f"base {manifest.build_id[:12]}, sequence {manifest.sequence}, {len(found.raw):,} bytes"
    )


def _print(options: argparse.Namespace, text: str, data: Mapping[str, Any]) -> None:
    print(json.dumps({"ok": True, **data}) if options.json else text)


def _tell(error: HotReloadError, *, as_json: bool) -> None:
    if as_json:
        print(json.dumps({"ok": False, **error.as_dict()}, default=str))
        return
    lines = [f"hotreload: {printable(str(error))}"]
    if isinstance(error, BuildError) and error.diagnostics:
        lines.append(error.diagnostics.rstrip("\n"))
    if isinstance(error, IncompatibleError):
        lines = [printable(finding.with_slug) for finding in error.findings] or lines
    os.write(2, "".join(f"{line}\n" for line in lines).encode(errors="backslashreplace"))


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
