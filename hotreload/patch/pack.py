"""From edited sources to an artefact: which base, what changed, who and when, in one file.

    source ─▶ the base that was built of it ─▶ Workshop ─▶ code ┐
                     └─ its texts ─▶ diff ─▶ manifest ──────────┴─▶ artefact

The same inputs make the same bytes. The time is that of the newest file that differs from the base's, or
SOURCE_DATE_EPOCH; the sequence number is that time in microseconds, so a later edit has a greater one.
"""

from __future__ import annotations

import difflib
import hashlib
import os
import pwd
import re
import subprocess
import time
from calendar import timegm
from pathlib import Path
from typing import Iterable, Mapping, NamedTuple, Union

from hotreload.artefact import Artefact, Manifest, build, parse
from hotreload.build import store
from hotreload.build.record import Record
from hotreload.errors import BuildError, HotReloadError
from hotreload.patch.workshop import PatchResult, Workshop

__all__ = ["Packed", "find_base", "pack"]

_DIFF_LIMIT = 1 << 20
_STAMP = "%Y-%m-%dT%H:%M:%SZ"
_SPAN = re.compile(r"(\d{1,6})([mhdw])")
_SECONDS = {"m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


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

    Raises:
        BuildError: there is no such base, or the compiler or the linker said no.
        IncompatibleError: the edit compiles and cannot go live.
        HotReloadError: a file was saved meanwhile, or an argument means nothing. Nothing was written anywhere.
    """
    workshop = Workshop.open(find_base(source, build_id).build_id)
    workshop.allow = allow
    try:
        looks = {path: _look(path) for path in workshop.watched_files()}
        result = workshop.make()
        if result.path is None:
            return None
        code = result.path.read_bytes()
        _refuse_saved(path for path, look in looks.items() if _look(path) != look)
    finally:
        workshop.close()
    record = workshop.record
    texts = _changed_texts(record, result)
    moment = _moment(texts, result, os.environ if environ is None else environ)
    diff, notes = _diff(record, texts), list(result.notes)
    if len(diff) > _DIFF_LIMIT:
        notes.append(f"the source diff is {len(diff):,} characters and is cut")
        diff = diff[:_DIFF_LIMIT]
    manifest = Manifest(
        module=record.module,
        build_id=record.build_id,
        sequence=moment // 1000 if sequence is None else sequence,
        author=author or _author(Path(source).absolute().parent),
        created=time.strftime(_STAMP, time.gmtime(moment // 10**9)),
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
        expires=_expiry(expires, moment // 10**9) if expires else "",
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
        new = _read(path)
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


def _read(path: Path) -> Union[bytes, None]:
    try:
        return path.read_bytes()
    except OSError:
        return None


def _moment(texts: Mapping[str, _Text], result: PatchResult, environ: Mapping[str, str]) -> int:
    """When the change was made, in nanoseconds since the epoch."""
    given = environ.get("SOURCE_DATE_EPOCH", "")
    if given:
        if not given.isdecimal():
            raise HotReloadError(f"SOURCE_DATE_EPOCH={given} is no number of seconds", hint="`date +%s` prints one")
        return int(given) * 10**9
    times = [os.stat(path).st_mtime_ns for path in texts if os.path.exists(path)]
    times = times or [os.stat(path).st_mtime_ns for path in result.inputs if os.path.exists(path)]
    return max(times, default=0)


def _expiry(text: str, created: int) -> str:
    span = _SPAN.fullmatch(text)
    try:
        end = created + int(span[1]) * _SECONDS[span[2]] if span else timegm(time.strptime(text, _STAMP))
    except ValueError:
        raise HotReloadError(f"{text!r} is no time", hint="write 2026-12-31T00:00:00Z, or 30m, 12h, 7d") from None
    return time.strftime(_STAMP, time.gmtime(end))


def _diff(record: Record, texts: Mapping[str, _Text]) -> str:
    """A unified diff, base to now, that ``patch -p1`` takes."""
    parts: list[str] = []
    for path, text in sorted(texts.items()):
        name = _short(record, path)
        old, new = _lines(text.old), _lines(text.new)
        before = "/dev/null" if text.old is None else f"a/{name}"
        after = "/dev/null" if text.new is None else f"b/{name}"
        parts += [_ended(line) for line in difflib.unified_diff(old, new, before, after)]
    return "".join(parts)


def _ended(line: str) -> str:
    return line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n"


def _lines(text: Union[bytes, None]) -> list[str]:
    decoded = (text or b"").decode("utf-8", errors="surrogateescape")
    lines = [f"{line}\n" for line in decoded.split("\n")]
    lines[-1] = lines[-1][:-1]
    return lines if lines[-1] else lines[:-1]


def _short(record: Record, path: str) -> str:
    """``path`` as seen from where the module was built, so that two checkouts say the same."""
    relative = os.path.relpath(path, record.directory)
    return path if relative.startswith(os.pardir) else relative


def _inputs_digest(record: Record, result: PatchResult) -> str:
    digest = hashlib.sha256(f"{record.build_id}\0".encode())
    for name, text in sorted((_short(record, str(path)), text) for path, text in result.inputs.items()):
        digest.update(f"{name}\0{text}\0".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def _author(directory: Path) -> str:
    said = [_git_config(directory, key) for key in ("user.name", "user.email")]
    if said[0]:
        return f"{said[0]} <{said[1]}>" if said[1] else said[0]
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return f"uid {os.getuid()}"


def _git_config(directory: Path, key: str) -> str:
    try:
        done = subprocess.run(
            ["git", "config", key], cwd=directory, capture_output=True, text=True, check=False, timeout=5
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
