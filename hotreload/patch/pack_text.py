"""From the edited text of a Python module to an artefact; the text alone travels, compiled by whoever takes it.

    new text ─┐
              ├─▶ compared, function by function ─▶ payload without code ┐
    base text ┘            └─ diff, who, when ─▶ manifest ───────────────┴─▶ artefact

Nothing of either text is run here. The base text is the one that the processes were started with: an agent keeps it in
its state directory, and whoever packs elsewhere has it from version control.
"""

from __future__ import annotations

import hashlib
import os
import platform
from pathlib import Path
from typing import Iterable, Mapping, NamedTuple, Union

from hotreload.artefact import MAX_TEXT_LEN, PYTHON, Artefact, Manifest, build, parse
from hotreload.errors import BuildError, IncompatibleError
from hotreload.patch.manifest import author_of, cut_diff, expiry_of, moment_of, stamp_of, unified_diff
from hotreload.python.codes import without_number
from hotreload.python.compare import Difference, Text, compare
from hotreload.python.payload import Payload, build_id_of, encode

__all__ = ["PackedText", "pack_text", "read_text"]


class PackedText(NamedTuple):
    """What packing the text of a module came to: an artefact, or why there is none; and what the compiler warned of."""

    artefact: Union[Artefact, None]
    warnings: str
    reason: str = ""


def pack_text(
    source: Union[str, Path],
    base: bytes,
    *,
    module: str,
    path: str = "",
    author: str = "",
    sequence: Union[int, None] = None,
    expires: str = "",
    environ: Union[Mapping[str, str], None] = None,
) -> PackedText:
    """An unsigned artefact of what the file says now; none when it means what the base text means.

    Args:
        source: the file with the new text.
        base: the text that the processes have loaded, byte for byte: the base's build-id is its hash.
        module: the dotted name under which they have imported it.
        path: where they have it, for people; ``source`` by default.
        author, sequence, expires, environ: as for a patch of C code.

    Raises:
        BuildError: one of the two is no text of Python, or too long to be pushed.
        IncompatibleError: the edit cannot go live.
        HotReloadError: an argument means nothing. Nothing was written anywhere.
    """
    real = os.path.realpath(source)
    old, new = Text(base, path or real), Text(read_text(real), path or real)
    found = compare(old, new)
    if found.findings:
        raise IncompatibleError(
            f"{source}: {len(found.findings)} of the changes cannot go live",
            hint="each reason has a page in docs/refusals.md",
            findings=tuple(found.findings),
        )
    if found.is_empty:
        return PackedText(None, new.warnings, _why_nothing(is_same=old.text == new.text))
    payload = _payload_of(found, module, old, new)
    moment = moment_of([real], os.environ if environ is None else environ)
    notes = list(payload.notes)
    diff = cut_diff(unified_diff(_short(module, new.path), old.text, new.text), notes)
    manifest = Manifest(
        kind=PYTHON,
        module=module,
        build_id=payload.build_id,
        sequence=moment // 1000 if sequence is None else sequence,
        author=author or author_of(Path(real).parent),
        created=stamp_of(moment),
        compiler=f"none: compared by {platform.python_implementation()} {platform.python_version()}",
        edited=_names(found.edited),
        changed=payload.functions,
        compiler_changed=payload.moved,
        added=payload.added,
        removed=payload.removed,
        notes=tuple(notes),
        sources=(_short(module, new.path),),
        source_diff=diff,
        body_sha256="",
        inputs_sha256=hashlib.sha256(old.text + b"\0" + new.text).hexdigest(),
        expires=expiry_of(expires, moment // 10**9) if expires else "",
    )
    return PackedText(parse(build(encode(payload), manifest)), new.warnings)


def read_text(path: Union[str, Path]) -> bytes:
    """The text in a file.

    Raises:
        BuildError: it cannot be read, or is longer than what a process would take.
    """
    try:
        with open(path, "rb") as file:
            text = file.read(MAX_TEXT_LEN + 1)
    except OSError as error:
        raise BuildError(f"cannot read {path}: {error.strerror}", hint="name a .py file") from None
    if len(text) > MAX_TEXT_LEN:
        raise BuildError(
            f"{path} is longer than the {MAX_TEXT_LEN:,} bytes that can be pushed", hint="split the module"
        )
    return text


def _payload_of(found: Difference, module: str, old: Text, new: Text) -> Payload:
    """What travels: without code, so a process compares the two texts itself, whatever stands in front of them."""
    changed = _names([*found.edited, *found.swapped])
    return Payload(
        module=module,
        path=new.path,
        build_id=build_id_of(old.text),
        digest=hashlib.sha256(new.text).hexdigest(),
        functions=changed,
        moved=tuple(name for name in _names(found.moved) if name not in changed),
        added=tuple(found.added),
        removed=tuple(found.removed),
        notes=tuple(found.notes),
        python="",
        text=new.text,
        code=b"",
    )


def _names(keys: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(without_number(key) for key in keys))


def _short(module: str, path: str) -> str:
    """The file as seen from where its packages lie, so that two checkouts say the same."""
    parts = Path(path).parts
    return "/".join(parts[-1 - module.count(".") :]) if parts[-1] != "__init__.py" else "/".join(parts[-2:])


def _why_nothing(*, is_same: bool) -> str:
    if is_same:
        return "the text is the one that was loaded"
    return "only comments or spacing differ: no function does anything else"
