"""The workshop of one ``.py`` file: from what it says now to a payload, beside the server.

The base is the text that a process has loaded. It is found by its build-id: the file itself where it is still the
same, else what the process has put beside the socket before it announced the file.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple, Union

from hotreload.errors import BuildError, HotReloadError, IncompatibleError
from hotreload.python.codes import fingerprint, without_number
from hotreload.python.compare import Difference, Text, compare
from hotreload.python.payload import Payload, build_id_of, encode, python_of

__all__ = ["PythonPatch", "PythonWorkshop", "base_file", "make_payload"]


class PythonPatch(NamedTuple):
    """What one look at the file came to; a ``PatchResult`` in the sense of ``watch/seams.py``."""

    kind: str
    digest: str
    path: Union[Path, None]
    edited: tuple[str, ...]
    changed: tuple[str, ...]
    added: tuple[str, ...]
    removed: tuple[str, ...]
    notes: tuple[str, ...]
    warnings: str
    inputs: Mapping[Path, str]
    seconds: Mapping[str, float]
    reason: str = ""
    compiler_changed: tuple[str, ...] = ()


def make_payload(module: str, base: Text, new: Text) -> Payload:
    """The payload that brings processes with ``base`` to ``new``.

    Raises:
        IncompatibleError: it cannot go live; nothing was made.
    """
    found = compare(base, new)
    if found.findings:
        raise IncompatibleError(
            f"{os.path.basename(new.path)}: {len(found.findings)} of the changes cannot go live",
            hint="each reason has a page in docs/refusals.md",
            findings=tuple(found.findings),
        )
    return Payload(
        module=module,
        path=new.path,
        build_id=build_id_of(base.text),
        digest=_digest(new),
        functions=_names(found.edited),
        moved=_names(found.moved),
        added=tuple(found.added),
        removed=tuple(found.removed),
        notes=tuple(found.notes),
        python=python_of(new.optimize),
        text=new.text,
        code=b"" if found.is_empty else found.to_code(base, new),
    )


def _digest(text: Text) -> str:
    """Equal for texts that do the same on the same lines; what an added statement does is in the module's code."""
    return fingerprint(text.code)


def _names(keys: list[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(without_number(key) for key in keys))


def base_file(directory: str, build_id: str) -> str:
    """Where a process puts the base text of a file before it announces it."""
    return os.path.join(directory, f"{build_id}.py")


class PythonWorkshop:
    """Makes payloads for one file and one base. Not for use from several threads at once.

    Raises:
        BuildError: from :meth:`make`: the text is no Python, or cannot be read. Nothing else changed.
        IncompatibleError: from :meth:`make`: it compiles and cannot go live.
    """

    def __init__(self, path: str, base: bytes, module: str) -> None:
        self._path, self._module = path, module
        self._build_id = build_id_of(base)
        self._base = Text(base, path)
        self._last: PythonPatch | None = None
        self._directory = tempfile.mkdtemp(prefix="hotreload-py-")
        self._made = 0

    @classmethod
    def open(cls, build_id: str, path: str, directory: str) -> PythonWorkshop:
        """The workshop of the base with that build-id.

        Raises:
            HotReloadError: its text is neither in the file nor beside the socket.
        """
        for place in (base_file(directory, build_id), path):
            try:
                text = Path(place).read_bytes()
            except OSError:
                continue
            if build_id_of(text) == build_id:
                return cls(path, text, module_name(path))
        raise HotReloadError(
            f"{path}: the text that the process has loaded is not there any more",
            hint="restart the program: it was edited while it was being imported",
        )

    @property
    def module(self) -> str:
        return self._module

    @property
    def build_id(self) -> str:
        return self._build_id

    def watched_files(self) -> frozenset[Path]:
        """The file."""
        return frozenset([Path(self._path)])

    def base_texts(self) -> dict[Path, str]:
        """What the file said when it was loaded, to show an edit beside it."""
        return {Path(self._path): self._base.text.decode("utf-8", "replace")}

    def close(self) -> None:
        """Removes what was made and is still there."""
        shutil.rmtree(self._directory, ignore_errors=True)

    def make(self) -> PythonPatch:
        """Brings the payload up to what the file says now."""
        start = time.monotonic()
        path = Path(self._path)
        try:
            text = path.read_bytes()
        except OSError as error:
            raise BuildError(
                f"{path} cannot be read: {error.strerror}", hint="the functions that are live serve on"
            ) from None
        inputs = {path: hashlib.sha256(text).hexdigest()}
        new = Text(text, self._path)
        built = time.monotonic()
        payload = make_payload(self._module, self._base, new)
        compared = time.monotonic()
        target = self._write(payload) if payload.code else None
        seconds = {"build": built - start, "diff": compared - built, "link": time.monotonic() - compared}
        return PythonPatch(
            kind="patch" if target else "base",
            digest=payload.digest,
            path=target,
            edited=payload.functions,
            changed=payload.functions,
            added=payload.added,
            removed=payload.removed,
            notes=payload.notes,
            warnings=new.warnings,
            inputs=inputs,
            seconds=seconds,
            reason="" if target else _why_nothing(text == self._base.text),
        )

    def _write(self, payload: Payload) -> Path:
        self._made += 1
        target = Path(self._directory, f"{self._made}.payload")
        target.write_bytes(encode(payload))
        return target


def _why_nothing(is_base: bool) -> str:
    if is_base:
        return "the text is the one that was loaded"
    return "no function does anything else or stands on another line: only comments or spacing differ"


def module_name(path: str) -> str:
    """The dotted name under which a file would be imported: packages are directories with an ``__init__.py``."""
    directory, name = os.path.split(path)
    parts = [] if name == "__init__.py" else [name.removesuffix(".py")]
    while os.path.isfile(os.path.join(directory, "__init__.py")):
        directory, package = os.path.split(directory)
        parts.insert(0, package)
    return ".".join(parts) or name


def difference(base: bytes, new: bytes, path: str, optimize: int) -> dict[str, object]:
    """What a payload's code would hold, made in the process itself: for another Python than the payload's."""
    texts = Text(base, path, optimize), Text(new, path, optimize)
    found: Difference = compare(*texts)
    return found.as_dict(*texts)
