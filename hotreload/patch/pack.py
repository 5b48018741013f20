"""From edited sources to an artefact: which base, what changed, who and when, in one file.

    source ─▶ the base that was built of it ─▶ Workshop ─▶ code ┐
                     └─ its texts ─▶ diff ─▶ manifest ──────────┴─▶ artefact

The same inputs make the same bytes. The time is that of the newest file that differs from the base's, or
SOURCE_DATE_EPOCH; the sequence number is that time in microseconds, so a later edit has a greater one.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Callable, Iterable, Mapping, NamedTuple, Union

from hotreload.artefact import Artefact, Manifest, build, parse
from hotreload.build import store
from hotreload.build.record import Record
from hotreload.errors import BuildError, HotReloadError
from hotreload.patch.manifest import author_of, cut_diff, expiry_of, moment_of, read_bytes, stamp_of, unified_diff
from hotreload.patch.workshop import PatchResult, Progress, Workshop

__all__ = ["Packed", "find_base", "pack"]


class Packed(NamedTuple):
    """An artefact, and how it was made."""

    artefact: Artefact
    result: PatchResult


def pack(
    source: Union[str, Path],
    *,
    build_id: str = "",
    author: str = "",
    sequence: Union[int, None] = None,
    expires: str = "",
    environ: Union[Mapping[str, str], None] = None,
    allow: frozenset[str] = frozenset(),
    colours: bool = False,
    progress: Union[Progress, None] = None,
    unchanged: Union[Callable[[str], None], None] = None,
) -> Union[Packed, None]:
    """An unsigned artefact of what the sources say now; None when they mean what the base means.

    Args:
        source: one of the module's sources or headers; all of its sources are looked at.
        build_id: the base, in hexadecimal; the newest that was built of ``source`` by default.
        author: whose change it is; git's ``user.name`` and ``user.email``, or the user's name, by default.
        sequence: the number by which newer is told from older; see above for the default.
        expires: a time (``2026-12-31T00:00:00Z``), or how long after its own time it ends (``30m``, ``12h``, ``7d``).
        environ: the environment; that of this process by default.
        allow: slugs of findings that somebody knows better about.
        colours: whether the compiler is asked for coloured diagnostics.
        progress: is told of each unit before it is compiled: its source, its number, and how many there are.
        unchanged: is told why, when there is nothing to pack.

    Raises:
        BuildError: there is no such base, or the compiler or the linker said no.
        IncompatibleError: the edit compiles and cannot go live.
        HotReloadError: a file was saved meanwhile, or an argument means nothing. Nothing was written anywhere.
    """
    workshop = Workshop.open(find_base(source, build_id).build_id)
    workshop.allow, workshop.colours, workshop.progress = allow, colours, progress
    try:
        looks = {path: _look(path) for path in workshop.watched_files()}
        result = workshop.make()
        if result.path is None:
            if unchanged is not None:
                unchanged(result.reason)
            return None
        code = result.path.read_bytes()
        _refuse_saved(path for path, look in looks.items() if _look(path) != look)
    finally:
        workshop.close()
    record = workshop.record
    texts = _changed_texts(record, result)
    moment = _moment(texts, result, os.environ if environ is None else environ)
    notes = list(result.notes)
    diff = cut_diff(_diff(record, texts), notes)
    manifest = Manifest(
        module=record.module,
        build_id=record.build_id,
        sequence=moment // 1000 if sequence is None else sequence,
        author=author or author_of(Path(source).absolute().parent),
        created=stamp_of(moment),
        compiler="; ".join(dict.fromkeys(unit.compiler for unit in record.units)),
        edited=result.edited,
        changed=result.changed,
        compiler_changed=result.compiler_changed,
        added=result.added,
        removed=result.removed,
        notes=tuple(notes),
        sources=tuple(sorted(_short(record, path) for path in texts)),
        source_diff=diff,
        body_sha256="",
        inputs_sha256=_inputs_digest(record, result),
        expires=expiry_of(expires, moment // 10**9) if expires else "",
    )
    return Packed(parse(build(code, manifest)), result)


def find_base(source: Union[str, Path], build_id: str = "") -> Record:
    """The record of the base that ``source`` went into: the newest build, unless another is asked for.

    Raises:
        BuildError: nothing hot was built of it, or more than one module was.
    """
    path = os.path.realpath(source)
    if not os.path.exists(path):
        raise BuildError(f"{source} is not there", hint="name a source of the module")
    if build_id:
        record, _ = store.load_base(build_id)
        if not _is_of(record, path):
            raise BuildError(
                f"{source} is no source of {record.module}, build {build_id}",
                hint="its sources: " + ", ".join(unit.source for unit in record.units[:5]),
            )
        return record
    newest: dict[str, Record] = {}
    for record in store.records():
        if _is_of(record, path):
            newest.setdefault(record.module, record)
    if not newest:
        raise BuildError(
            f"no hot build in {store.root()} has {source} as a source", hint="build it with `hotreload build` first"
        )
    if len(newest) > 1:
        listed = ", ".join(f"{record.module}: {record.build_id}" for record in newest.values())
        raise BuildError(f"{source} is a source of {len(newest)} modules: {listed}", hint="choose with --build-id")
    return next(iter(newest.values()))


def _is_of(record: Record, path: str) -> bool:
    """Whether a unit of that base read the file at ``path``."""
    return any(
        os.path.realpath(os.path.join(unit.directory, name)) == path
        for unit in record.units
        for name in (unit.source, *unit.files)
    )


class _Text(NamedTuple):
    """A file that differs: its text in the base and now, None where it was not read."""

    old: Union[bytes, None]
    new: Union[bytes, None]


def _changed_texts(record: Record, result: PatchResult) -> dict[str, _Text]:
    """The files that differ from those of the base, as they were when the compiler read them."""
    old = {path: name for unit in record.units for path, name in unit.files.items()}
    texts = {}
    for path, name in result.inputs.items():
        before = old.get(str(path))
        if before == name:
            continue
        new = read_bytes(path)
        if new is not None and hashlib.sha256(new).hexdigest() != name:
            _refuse_saved([path])
        texts[str(path)] = _Text(None if before is None else store.load_text(before), new)
    return texts


def _refuse_saved(paths: Iterable[Path]) -> None:
    """The code may be of another text than the one that would be shown with it."""
    for path in paths:
        raise HotReloadError(f"{path} was saved while it was packed", hint="pack again")


def _look(path: Path) -> tuple[int, ...]:
    """What tells one state of a file from the next."""
    try:
        found = os.stat(path)
    except OSError:
        return ()
    return (found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


def _moment(texts: Mapping[str, _Text], result: PatchResult, environ: Mapping[str, str]) -> int:
    """When the change was made: where nothing differs, when the newest of all files was."""
    return moment_of(list(texts), environ) or moment_of(list(result.inputs), environ)


def _diff(record: Record, texts: Mapping[str, _Text]) -> str:
    """A unified diff, base to now, that ``patch -p1`` takes."""
    return "".join(unified_diff(_short(record, path), text.old, text.new) for path, text in sorted(texts.items()))


def _short(record: Record, path: str) -> str:
    """``path`` as seen from where the module was built, so that two checkouts say the same."""
    relative = os.path.relpath(path, record.directory)
    return path if relative.startswith(os.pardir) else relative


def _inputs_digest(record: Record, result: PatchResult) -> str:
    digest = hashlib.sha256(f"{record.build_id}\0".encode())
    for name, text in sorted((_short(record, str(path)), text) for path, text in result.inputs.items()):
        digest.update(f"{name}\0{text}\0".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()
