"""The payload: a change to one ``.py`` file as bytes. It stands where the ELF file of a C patch stands.

::

    +-----------+----------------+---------------+----------------+------------+------------+-----------+
    | HRPYTHN1  | u32 header_len | u32 text_len  | u32 code_len   | header,    | text: the  | code,     |
    |           |                |               | little-endian  | JSON ASCII | whole file | marshal   |
    +-----------+----------------+---------------+----------------+------------+------------+-----------+

    header   module      dotted name under which the file was imported where the patch was made; for people
             path        the file where the patch was made; for people
             build_id    which base: the first 40 hex digits of the SHA-256 of the text that was loaded
             text        SHA-256 of the new text
             digest      equal for code that does the same, line numbers included
             functions   qualified names whose definition differs, in the order of the text
             moved       those that only stand on other lines
             added, removed, notes                      as in a patch of C; names and sentences
             python      importlib.util.MAGIC_NUMBER in hex and the optimisation level that ``code`` was made for

``code`` spares the server the compiler. It is used where ``python`` is the server's own; elsewhere the server compiles
base and new text itself, which gives the same. It is what ``compare.py`` makes of a difference.

The three lengths are those of the whole, to the byte: what was cut off or added is refused. Whoever can hand a payload
to a process can run code in it, as with any patch: who may is decided before (the user of the socket, a signature).
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
from importlib.util import MAGIC_NUMBER
from typing import Any, NamedTuple, Union

from hotreload.errors import StageError

__all__ = ["MAGIC", "MAX_LEN", "Payload", "build_id_of", "decode", "encode", "is_payload", "python_of", "read"]

MAGIC = b"HRPYTHN1"
MAX_LEN = 32 << 20
_LENGTHS = struct.Struct("<8sIII")
_TEXTS = ("module", "path", "build_id", "text", "digest", "python")
_LISTS = ("functions", "moved", "added", "removed", "notes")

Source = Union[int, bytes, "os.PathLike[str]", str]


class Payload(NamedTuple):
    """One payload; see above for the fields."""

    module: str
    path: str
    build_id: str
    digest: str
    functions: tuple[str, ...]
    moved: tuple[str, ...]
    added: tuple[str, ...]
    removed: tuple[str, ...]
    notes: tuple[str, ...]
    python: str
    text: bytes
    code: bytes


def python_of(optimize: int) -> str:
    """Which Python marshalled code is for."""
    return f"{MAGIC_NUMBER.hex()}-{optimize}"


def build_id_of(text: bytes) -> str:
    """The build-id of a base text."""
    return hashlib.sha256(text).hexdigest()[:40]


def is_payload(data: bytes) -> bool:
    """Whether the first bytes of something are those of a payload."""
    return data.startswith(MAGIC)


def encode(payload: Payload) -> bytes:
    """The bytes of a payload."""
    text, code = payload.text, payload.code
    fields: dict[str, Any] = payload._asdict()
    del fields["code"]
    fields["text"] = hashlib.sha256(text).hexdigest()
    header = json.dumps(fields, sort_keys=True, separators=(",", ":")).encode("ascii")
    return _LENGTHS.pack(MAGIC, len(header), len(text), len(code)) + header + text + code


def decode(data: bytes) -> Payload:
    """What the bytes say; the code is not unmarshalled.

    Raises:
        StageError: it is no payload, or a damaged one; status PAYLOAD. Nothing was changed.
    """
    if len(data) < _LENGTHS.size or not is_payload(data):
        raise _damaged("it does not begin as one")
    _magic, header_len, text_len, code_len = _LENGTHS.unpack_from(data)
    if _LENGTHS.size + header_len + text_len + code_len != len(data):
        raise _damaged("its lengths are not those of the bytes")
    begin, middle = _LENGTHS.size, _LENGTHS.size + header_len
    try:
        fields = json.loads(data[begin:middle].decode("ascii"))
    except (ValueError, RecursionError):
        raise _damaged("its header is no JSON") from None
    text, code = data[middle : middle + text_len], data[middle + text_len :]
    if not isinstance(fields, dict) or fields.keys() != {*_TEXTS, *_LISTS}:
        raise _damaged("its header lacks fields, or has others")
    if not all(isinstance(fields[name], str) for name in _TEXTS) or not all(map(_is_names, map(fields.get, _LISTS))):
        raise _damaged("a field of its header is of another kind")
    if fields.pop("text") != hashlib.sha256(text).hexdigest():
        raise _damaged("its text is not the one that was packed")
    fields.update((name, tuple(fields[name])) for name in _LISTS)
    return Payload(**fields, text=text, code=code)


def read(source: Source) -> Payload:
    """A payload from an open descriptor, from its beginning; from bytes; or from a file.

    Raises:
        StageError: as :func:`decode`, or it cannot be read; nothing was changed.
    """
    if isinstance(source, bytes):
        return decode(source)
    try:
        if isinstance(source, int):
            size = os.fstat(source).st_size
            return decode(os.pread(source, min(size, MAX_LEN) + 1, 0))
        with open(source, "rb") as file:
            return decode(file.read(MAX_LEN + 1))
    except OSError as error:
        raise StageError(
            f"the payload cannot be read: {error.strerror}",
            hint="nothing was changed",
            status="PAYLOAD",
            errno=error.errno or 0,
        ) from None


def _is_names(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(name, str) for name in value)


def _damaged(why: str) -> StageError:
    return StageError(f"this is no payload of Python functions: {why}", hint="make it again", status="PAYLOAD")
