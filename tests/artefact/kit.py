"""Artefacts without a compiler: the smallest ELF file that has a link table, and a manifest to go with it."""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence

from hotreload.artefact import PYTHON, Envelope, Manifest, build, open_envelope
from hotreload.patch.linktable import (
    Function,
    Hook,
    HookKind,
    LinkTable,
    Protection,
    Range,
    Segment,
    Table,
    TableKind,
)
from hotreload.python.payload import Payload, encode

BUILD_ID = bytes(range(1, 21))
OTHER_ID = bytes(range(101, 121))
ELF_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
SECTION = struct.Struct("<IIQQQQIIQQ")
NAMES = b"\0.shstrtab\0.hotreload.link\0"
PAGE = 4096


def link_table(
    functions: Sequence[str] = ("f",),
    build_id: bytes = BUILD_ID,
    hooks: Sequence[HookKind] = (),
    tables: Sequence[TableKind] = (),
) -> bytes:
    """A table that the core accepts."""
    return LinkTable(
        build_id=build_id,
        image_len=2 * PAGE if tables else PAGE,
        segments=(
            Segment(0, PAGE, 0, 64, Protection.R | Protection.X),
            *((Segment(PAGE, PAGE, 0, 64, Protection.R | Protection.W),) if tables else ()),
        ),
        fixups=(),
        functions=tuple(Function(name, 0x1000 + 16 * i, 16 * i) for i, name in enumerate(functions)),
        ranges=tuple(Range(i, 0x1000 + 16 * i, 16) for i, _ in enumerate(functions)),
        hooks=tuple(Hook(kind, f"hook{kind}", 16 * kind) for kind in hooks),
        tables=tuple(Table(kind, f"table{kind}", 0x2000 * kind, PAGE + 200 * kind, 2, 3, "ac") for kind in tables),
    ).to_bytes()


def tiny_elf(link_tables: Sequence[bytes] = (), **table: object) -> bytes:
    """A shared library that is nothing but its link table, or several of them."""
    link_tables = link_tables or [link_table(**table)]  # type: ignore[arg-type]
    body, sections = bytearray(64), [SECTION.pack(*(0,) * 10)]
    sections.append(SECTION.pack(1, 3, 0, 0, len(body), len(NAMES), 0, 0, 1, 0))
    body += NAMES + bytes(-len(NAMES) % 8)
    for content in link_tables:
        sections.append(SECTION.pack(11, 1, 0, 0, len(body), len(content), 0, 0, 1, 0))
        body += content
    ident = b"\x7fELF\x02\x01\x01" + bytes(9)
    header = ELF_HEADER.pack(ident, 3, 62, 1, 0, 0, len(body), 0, 64, 56, 0, 64, len(sections), 1)
    return header + bytes(body[64:]) + b"".join(sections)


def manifest(**changes: object) -> Manifest:
    fields: dict[str, object] = {
        "module": "shop._kernels",
        "build_id": BUILD_ID.hex(),
        "sequence": 1_700_000_000_000_000,
        "author": "Ada <ada@example.org>",
        "created": "2023-11-14T22:13:20Z",
        "compiler": "GCC: 12.2.0",
        "edited": ("f",),
        "changed": ("f",),
        "compiler_changed": (),
        "added": (),
        "removed": (),
        "notes": (),
        "sources": ("kernels.c",),
        "source_diff": "--- a/kernels.c\n+++ b/kernels.c\n@@ -1 +1 @@\n-int a;\n+int b;\n",
        "body_sha256": "",
        "inputs_sha256": "0" * 64,
    }
    return Manifest(**{**fields, **changes})  # type: ignore[arg-type]


def make(elf: bytes | None = None, **changes: object) -> bytes:
    """An unsigned artefact."""
    return build(tiny_elf() if elf is None else elf, manifest(**changes))


TEXT = b"def f():\n    return 2\n"


def payload(**changes: object) -> bytes:
    """A new text of a module of Python, as it travels."""
    fields: dict[str, object] = {
        "module": "shop.pricing",
        "path": "/srv/shop/pricing.py",
        "build_id": BUILD_ID.hex(),
        "digest": "d" * 64,
        "functions": ("f",),
        "moved": (),
        "added": (),
        "removed": (),
        "notes": (),
        "python": "",
        "text": TEXT,
        "code": b"",
    }
    return encode(Payload(**{**fields, **changes}))  # type: ignore[arg-type]


def make_python(body: bytes | None = None, **changes: object) -> bytes:
    """An unsigned artefact of it."""
    about = {"kind": PYTHON, "module": "shop.pricing", "sources": ("pricing.py",), **changes}
    return build(payload() if body is None else body, manifest(**about))


def with_manifest(raw: bytes, text: bytes) -> bytes:
    """The artefact with another manifest and a footer that agrees."""
    return open_envelope(raw)._replace(manifest=text).to_bytes()


def with_fields(raw: bytes, **changes: object) -> bytes:
    """The artefact with some fields of its manifest edited, spelt as it must be."""
    document = {**json.loads(open_envelope(raw).manifest), **changes}
    return with_manifest(raw, json.dumps(document, sort_keys=True, separators=(",", ":")).encode())


def with_elf(raw: bytes, elf: bytes) -> bytes:
    """The artefact with other code, and its hash in the manifest."""
    import hashlib

    parts = open_envelope(with_fields(raw, body_sha256=hashlib.sha256(elf).hexdigest()))
    return Envelope(elf, parts.manifest, parts.signature).to_bytes()
