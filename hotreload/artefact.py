"""The artefact: a patch as a file that can be read, signed, sent and kept; by custom ``NAME.hotpatch``.

::

    +-----------------------------+---------------+------------------+-------------------+
    | body: what is to go live;   | manifest,     | signature,       | footer, 32 bytes  |
    | the manifest's kind says as | JSON in ASCII | 0 or 64 bytes    |                   |
    +-----------------------------+---------------+------------------+-------------------+
    ^ 0                           ^ body_len      ^ + manifest_len                        ^ end of the file

    footer   "HOTPATCH"   u32 format = 2   u32 signature_len   u64 manifest_len   u64 body_len    little-endian

    kind     "elf"        a shared library, as ld and the link table make it: functions in C
             "python"     a payload: the new text of one module's .py, whole and as it was saved: functions in Python

The four lengths are those of the file, to the byte: whatever is cut off, added or moved is refused. The manifest has
one spelling (:meth:`Manifest.to_bytes`), so two files that say the same are the same. What is signed is everything
but the signature, with a footer that says there is one: base build-id and sequence number stand in the manifest, so
a signed patch can be neither moved to another module nor passed off as newer than it is.

A payload (``hotreload/python/payload.py``) in an artefact carries no marshalled code: what is signed is then what a
person has read, it fits every version of the interpreter, and nobody's bytes are unmarshalled, which may crash a
process and cannot be checked. So the server compiles the text, while it prepares.

This module is imported by servers. It reads of the body only what it must compare with the manifest: build-id and names
of functions, in the link table (drawn in ``csrc/linktable.h``) or in the head of the payload. Neither core nor engine
believes any of it.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import struct
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from hotreload.errors import StageError

__all__ = [
    "ELF",
    "FORMAT",
    "MAX_LEN",
    "MAX_PAYLOAD_LEN",
    "MAX_TEXT_LEN",
    "PYTHON",
    "SIGNATURE_LEN",
    "Artefact",
    "ArtefactError",
    "Envelope",
    "Manifest",
    "build",
    "is_same_module",
    "load",
    "open_envelope",
    "parse",
    "printable",
    "read_manifest",
]

FORMAT = 2
ELF, PYTHON = "elf", "python"
SIGNATURE_LEN = 64
#: A whole artefact, and its manifest; a server reads no more than this from anybody.
MAX_LEN = 64 << 20
MAX_MANIFEST_LEN = 4 << 20
#: The text of a module, which the server compiles with its interpreter held.
MAX_TEXT_LEN = 1 << 20
#: That with its head, names and notes.
MAX_PAYLOAD_LEN = 4 << 20
#: What a link table may hold, so that reading one takes milliseconds whatever is in it.
MAX_FUNCTIONS = 1 << 16
MAX_NAME_LEN = 4096
MAX_NAMES_LEN = 4 << 20

_FOOTER = struct.Struct("<8sIIQQ")
_MAGIC = b"HOTPATCH"

_ELF_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_SECTION_HEADER = struct.Struct("<IIQQQQIIQQ")
_LINK_HEADER = struct.Struct("<8sQQQQ32s12I")
_LINK_FUNCTION = struct.Struct("<IIQQ")
_LINK_NAME = b".hotreload.link\0"
_LINK_MAGIC = b"HRLINK03"
_LINK_RECORDS = (40, 24, 16, 8, 24)  # bytes of a segment, fixup, import, library and carried symbol
_LINK_RANGE = 24  # bytes
_LINK_HOOK = struct.Struct("<IIQ")
_LINK_TABLE = struct.Struct("<IIQQIIII")
_TABLE_KINDS = 3  # of functions, of getters and setters, of members
_WHEN = {1: "before the commit", 2: "after the commit", 3: "after a rollback"}
_SHT_NOBITS = 8

#: How a payload says that a function or a class is new; what else is new is no definition.
_DEFINED = re.compile(r"(.+)\(\)|class (.+)")

_HEX_ID = re.compile(r"(?:[0-9a-f]{2}){1,32}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_TIME = re.compile(r"\d{4}-[01]\d-[0-3]\dT[0-2]\d:[0-5]\d:[0-6]\dZ")
_FINGERPRINT = re.compile(r"SHA256:[0-9a-f]{64}")


class ArtefactError(StageError):
    """The file is no artefact, or not the one it says it is; nothing of it was used and nothing was changed.

    ``status`` is "ARTEFACT" here, and tells the kinds of bad signature apart in :mod:`hotreload.signing`.
    """

    def __init__(self, message: str, *, hint: str = "", status: str = "ARTEFACT", **fields: Any) -> None:
        super().__init__(message, hint=hint, status=status, **fields)


class Manifest(NamedTuple):
    """What an artefact says about itself.

    ``kind`` is what the body is, "elf" or "python". ``module`` is the name of the init function of an extension, and
    the dotted name of a Python module; functions in Python are named as in the module, ``Basket.total``.
    ``sequence`` only grows for one base: a process refuses a smaller one than the newest it knows. ``edited`` are the
    functions whose text was changed, ``changed`` and ``compiler_changed`` those that are swapped. ``sources`` are the
    files that differ from the base's and ``source_diff`` how. ``expires`` is a time like ``created``, or empty: never.
    ``signer`` is the fingerprint of the key that signed, or empty.
    """

    module: str
    build_id: str
    sequence: int
    author: str
    created: str
    compiler: str
    edited: tuple[str, ...]
    changed: tuple[str, ...]
    compiler_changed: tuple[str, ...]
    added: tuple[str, ...]
    removed: tuple[str, ...]
    notes: tuple[str, ...]
    sources: tuple[str, ...]
    source_diff: str
    body_sha256: str
    inputs_sha256: str
    expires: str = ""
    signer: str = ""
    kind: str = ELF
    format: int = FORMAT

    def to_bytes(self) -> bytes:
        """The one spelling: ASCII JSON, sorted, without white space."""
        return json.dumps(self._asdict(), sort_keys=True, separators=(",", ":")).encode("ascii")

    @property
    def functions(self) -> tuple[str, ...]:
        """What is swapped, each name once: by the person's doing first, then by the compiler's."""
        return tuple(dict.fromkeys((*self.changed, *self.compiler_changed)))


class Envelope(NamedTuple):
    """The parts of an artefact, cut where its footer says; nothing inside them has been looked at."""

    body: bytes
    manifest: bytes
    signature: bytes

    def signed_bytes(self) -> bytes:
        """What a signature of this artefact is over."""
        return self.body + self.manifest + _footer(SIGNATURE_LEN, len(self.manifest), len(self.body))

    def to_bytes(self) -> bytes:
        """The file."""
        footer = _footer(len(self.signature), len(self.manifest), len(self.body))
        return self.body + self.manifest + self.signature + footer


@dataclass(frozen=True)
class Artefact:
    """An artefact that is whole and agrees with itself. Whether its signature is good is asked elsewhere.

    ``functions`` are the names that its link table redirects, ``carried`` those of functions that the base has not,
    ``hooks`` what is called around the commit, and when, ``tables`` those of Python's that it changes: read from what
    would be mapped, not from the manifest; of a payload from its head, without those that would only stand on other
    lines.
    """

    manifest: Manifest
    body: bytes = field(repr=False)
    signature: bytes = field(repr=False)
    raw: bytes = field(repr=False)
    sha256: str
    functions: tuple[str, ...] = ()
    carried: tuple[str, ...] = ()
    hooks: tuple[tuple[str, str], ...] = ()
    tables: tuple[str, ...] = ()


def parse(raw: bytes) -> Artefact:
    """The artefact in ``raw``.

    Raises:
        ArtefactError: it is cut, too big, of another format, or says one thing in its manifest and another in its
            code. Nothing was changed.
    """
    envelope = open_envelope(raw)
    manifest = read_manifest(envelope.manifest)
    digest = hashlib.sha256(envelope.body).hexdigest()
    if digest != manifest.body_sha256:
        raise ArtefactError("the code is not the code of this manifest: its SHA-256 differs", hint=_FETCH_AGAIN)
    table = _read_payload(envelope.body) if manifest.kind == PYTHON else _read_table(envelope.body)
    if table.build_id != manifest.build_id:
        raise ArtefactError(
            f"the manifest is for the base {manifest.build_id}, the code for {printable(table.build_id)}",
            hint="a patch cannot be moved to another module; pack it again",
        )
    unnamed = sorted({*table.functions, *table.moved} - {*manifest.changed, *manifest.compiler_changed})
    if unnamed:
        raise ArtefactError(
            f"the code replaces `{printable(unnamed[0][:200])}`, which its manifest does not name", hint="pack it again"
        )
    return Artefact(
        manifest=manifest,
        body=envelope.body,
        signature=envelope.signature,
        raw=bytes(raw),
        sha256=hashlib.sha256(raw).hexdigest(),
        functions=table.functions,
        carried=table.carried,
        hooks=table.hooks,
        tables=table.tables,
    )


def build(body: bytes, manifest: Manifest) -> bytes:
    """An unsigned artefact of ``body``, whose hash is put into the manifest.

    Raises:
        ArtefactError: the result would not be read back; there is none then.
    """
    manifest = manifest._replace(body_sha256=hashlib.sha256(body).hexdigest(), signer="", format=FORMAT)
    raw = Envelope(bytes(body), manifest.to_bytes(), b"").to_bytes()
    parse(raw)
    return raw


def load(path: str | os.PathLike[str]) -> Artefact:
    """The artefact in a file.

    Raises:
        ArtefactError: it cannot be read, or is none; ``path`` says which file.
    """
    name = os.fspath(path)
    try:
        with open(name, "rb") as file:
            raw = file.read(MAX_LEN + 1)
    except OSError as error:
        raise ArtefactError(f"cannot read {printable(name)}: {error.strerror}", path=name) from None
    try:
        return parse(raw)
    except ArtefactError as error:
        fields = {**error.fields, "path": name}
        raise ArtefactError(f"{printable(name)}: {error.message}", hint=error.hint, **fields) from None


def open_envelope(raw: bytes) -> Envelope:
    """The parts of ``raw``; this much is done before a signature is checked, and no more.

    Raises:
        ArtefactError: the lengths are not those of the file, or over a limit.
    """
    total = len(raw)
    if total > MAX_LEN:
        raise ArtefactError(f"{total:,} bytes are over the limit of {MAX_LEN:,} for an artefact")
    if total < _FOOTER.size:
        raise ArtefactError(f"{total} bytes are too few for an artefact", hint=_FETCH_AGAIN)
    magic, version, signature_len, manifest_len, body_len = _FOOTER.unpack_from(raw, total - _FOOTER.size)
    if magic != _MAGIC:
        raise ArtefactError("no artefact, or cut off: it does not end in a footer", hint=_FETCH_AGAIN)
    if version != FORMAT:
        raise ArtefactError(
            f"an artefact of format {version}, and this hotreload reads format {FORMAT}",
            hint="pack it with the version of hotreload that the server has",
        )
    if signature_len not in (0, SIGNATURE_LEN):
        raise ArtefactError(f"a signature of {signature_len} bytes; it has 0 or {SIGNATURE_LEN}")
    if manifest_len > MAX_MANIFEST_LEN:
        raise ArtefactError(f"a manifest of {manifest_len:,} bytes is over the limit of {MAX_MANIFEST_LEN:,}")
    said = body_len + manifest_len + signature_len + _FOOTER.size
    if said != total:
        raise ArtefactError(f"its footer speaks of {said:,} bytes, and there are {total:,}", hint=_FETCH_AGAIN)
    data = bytes(raw)
    return Envelope(
        data[:body_len], data[body_len : body_len + manifest_len], data[body_len + manifest_len : total - _FOOTER.size]
    )


def read_manifest(text: bytes) -> Manifest:
    """The manifest in ``text``.

    Raises:
        ArtefactError: it is no JSON, has other fields than this format, or another spelling than the one there is.
    """
    try:
        document = json.loads(text.decode("ascii"), parse_int=_read_int, parse_float=_no_such, parse_constant=_no_such)
    except (ValueError, RecursionError) as error:
        raise ArtefactError(f"the manifest cannot be read: {printable(str(error)[:200])}") from None
    if not isinstance(document, dict):
        raise ArtefactError("the manifest is no JSON object")
    if document.get("format") != FORMAT:
        raise ArtefactError(f"the manifest is of format {printable(repr(document.get('format'))[:40])}, not {FORMAT}")
    odd = sorted(set(document) ^ set(Manifest._fields))
    if odd:
        raise ArtefactError(f"the manifest has a field too many or too few: {printable(odd[0][:80])}")
    values = {name: _checked(name, value) for name, value in document.items()}
    manifest = Manifest(**values)
    if manifest.to_bytes() != text:
        raise ArtefactError("the manifest is not spelt as it must be", hint="it was edited; pack it again")
    return manifest


def is_same_module(one: str, other: str) -> bool:
    """Whether two names may be of one module: equal, or one is the end of the other.

    The manifest of an extension has the name of the init function, ``kernels``; a process has the name of the import,
    ``shop.kernels``. ``shop.utils`` and ``stock.utils`` are two modules.
    """
    return f".{one}".endswith(f".{other}") or f".{other}".endswith(f".{one}")


def printable(text: str) -> str:
    """``text`` with what would not print escaped: safe for a terminal, a log and a message."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


_FETCH_AGAIN = "fetch or pack it again"

_PATTERNS = {
    "build_id": _HEX_ID,
    "created": _TIME,
    "body_sha256": _SHA256,
    "inputs_sha256": _SHA256,
    "expires": re.compile(f"(?:{_TIME.pattern})?"),
    "signer": re.compile(f"(?:{_FINGERPRINT.pattern})?"),
    "kind": re.compile(f"{ELF}|{PYTHON}"),
}
_LISTS = frozenset({"edited", "changed", "compiler_changed", "added", "removed", "notes", "sources"})
_NUMBERS = frozenset({"sequence", "format"})
_MAX_NUMBER = (1 << 63) - 1


def _checked(name: str, value: Any) -> Any:
    """``value`` as the field ``name`` has it."""
    if name in _LISTS:
        if isinstance(value, list) and all(isinstance(item, str) for item in value):
            return tuple(value)
    elif name in _NUMBERS:
        if type(value) is int and 0 <= value <= _MAX_NUMBER:
            return value
    elif isinstance(value, str):
        pattern = _PATTERNS.get(name)
        if (pattern is None or pattern.fullmatch(value)) and (value or name != "module"):
            return value
    raise ArtefactError(f"the manifest's {name} is {printable(repr(value)[:80])}, which it cannot be")


def _read_int(digits: str) -> int:
    if len(digits) > len(str(_MAX_NUMBER)):
        raise ValueError("a number is too big")
    return int(digits)


def _no_such(text: str) -> Any:
    raise ValueError(f"{text[:20]} is no number of a manifest")


def _footer(signature_len: int, manifest_len: int, body_len: int) -> bytes:
    return _FOOTER.pack(_MAGIC, FORMAT, signature_len, manifest_len, body_len)


class _Table(NamedTuple):
    """What is read of a link table or of a payload."""

    build_id: str
    functions: tuple[str, ...]
    carried: tuple[str, ...]
    hooks: tuple[tuple[str, str], ...] = ()
    moved: tuple[str, ...] = ()
    tables: tuple[str, ...] = ()


def _read_payload(body: bytes) -> _Table:
    """What the head of a payload says; its text is not looked at."""
    from hotreload.python.payload import decode

    if len(body) > MAX_PAYLOAD_LEN:
        raise ArtefactError(f"a payload of {len(body):,} bytes is over the limit of {MAX_PAYLOAD_LEN:,}")
    try:
        payload = decode(body)
    except StageError as error:
        raise _damaged(error.message) from None
    if payload.code or payload.python:
        raise ArtefactError("the payload carries code that nobody can read", hint="pack it again from its text")
    if len(payload.text) > MAX_TEXT_LEN:
        raise ArtefactError(f"a text of {len(payload.text):,} bytes is over the limit of {MAX_TEXT_LEN:,}")
    defined = [found[1] or found[2] for found in map(_DEFINED.fullmatch, payload.added) if found]
    return _Table(payload.build_id, payload.functions, tuple(defined), moved=payload.moved)


def _read_table(elf: bytes) -> _Table:
    """The link table of ``elf``; every offset is checked before it is used."""
    section = _find_table(elf)
    if len(section) < _LINK_HEADER.size:
        raise _damaged("its link table is cut off")
    magic, total, _, _, _, build_id, *counts = _LINK_HEADER.unpack_from(section)
    if magic != _LINK_MAGIC and magic[:6] == _LINK_MAGIC[:6] and magic[6:].isdigit():
        raise ArtefactError(
            f"the code in the artefact is a patch of format {int(magic[6:])}, and this hotreload reads "
            f"format {int(_LINK_MAGIC[6:])}",
            hint="build it again with the version of hotreload that the server has",
        )
    id_len, segments, fixups, imports, libraries, carried, functions, ranges, hooks, string_len, _, tables = counts
    before = (segments, fixups, imports, libraries, carried)
    start = _LINK_HEADER.size + sum(count * size for count, size in zip(before, _LINK_RECORDS))
    end_of_functions = start + functions * _LINK_FUNCTION.size
    end_of_ranges = end_of_functions + ranges * _LINK_RANGE
    end_of_hooks = end_of_ranges + hooks * _LINK_HOOK.size
    strings = end_of_hooks + tables * _LINK_TABLE.size
    if magic != _LINK_MAGIC or total != len(section) or strings + string_len != total or not 1 <= id_len <= 32:
        raise _damaged("its link table has lengths that do not fit together")
    if functions > MAX_FUNCTIONS:
        raise _damaged(f"its link table names {functions:,} functions, and {MAX_FUNCTIONS:,} are the limit")
    names: tuple[list[str], list[str]] = ([], [])
    text, room = section[strings:], MAX_NAMES_LEN
    for name, kind, _, _ in _LINK_FUNCTION.iter_unpack(section[start:end_of_functions]):
        end = text.find(b"\0", name, name + MAX_NAME_LEN)
        if kind > 1 or end < 0:
            raise _damaged("its link table names a function that is not there")
        room -= end - name
        if room < 0:
            raise _damaged(f"the names in its link table are longer than {MAX_NAMES_LEN:,} bytes")
        names[kind].append(text[name:end].decode("utf-8", "surrogateescape"))
    called = []
    for kind, name, _ in _LINK_HOOK.iter_unpack(section[end_of_ranges:end_of_hooks]):
        end = text.find(b"\0", name, name + MAX_NAME_LEN)
        room -= end - name
        if kind not in _WHEN or end < 0 or room < 0:
            raise _damaged("its link table names a hook that is not there")
        called.append((text[name:end].decode("utf-8", "surrogateescape"), _WHEN[kind]))
    shown = []
    for kind, name, *_ in _LINK_TABLE.iter_unpack(section[end_of_hooks:strings]):
        end = text.find(b"\0", name, name + MAX_NAME_LEN)
        room -= end - name
        if not 1 <= kind <= _TABLE_KINDS or end <= name or room < 0:
            raise _damaged("its link table names a table of Python's that is not there")
        shown.append(text[name:end].decode("utf-8", "surrogateescape"))
    return _Table(build_id[:id_len].hex(), tuple(names[0]), tuple(names[1]), tuple(called), tables=tuple(shown))


def _find_table(elf: bytes) -> bytes:
    if len(elf) < _ELF_HEADER.size or elf[:6] != b"\x7fELF\x02\x01":
        raise _damaged("it is no 64-bit little-endian ELF file")
    header = _ELF_HEADER.unpack_from(elf)
    kind, machine, offset, entry_len, count, names_index = (header[i] for i in (1, 2, 6, 11, 12, 13))
    if kind != 3 or machine != 62 or entry_len != _SECTION_HEADER.size:
        raise _damaged("it is no shared library for x86-64")
    if names_index >= count or offset + count * entry_len > len(elf):
        raise _damaged("its section headers point outside it")
    sections = list(_SECTION_HEADER.iter_unpack(elf[offset : offset + count * entry_len]))
    names = _content(elf, sections[names_index])
    found = [s for s in sections if s[1] != _SHT_NOBITS and names[s[0] : s[0] + len(_LINK_NAME)] == _LINK_NAME]
    if len(found) != 1:
        raise _damaged(f"it has {len(found)} link tables instead of one")
    return _content(elf, found[0])


def _content(elf: bytes, section: tuple[int, ...]) -> bytes:
    offset, size = section[4], section[5]
    if offset + size > len(elf):
        raise _damaged("a section lies outside it")
    return elf[offset : offset + size]


def _damaged(why: str) -> ArtefactError:
    return ArtefactError(f"the code in the artefact is no patch: {why}", hint=_FETCH_AGAIN)
