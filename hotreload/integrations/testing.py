"""A hot extension in the process of a test: built, imported, edited and rolled back, with nobody beside it.

::

    source, sources or project ─▶ a copy in a temporary directory ─▶ hot build ─▶ import
                                        └─ edit() ─▶ compile, compare, link ─▶ stage, commit ─▶ Edit, or the refusal

No helper process and no watching: when :meth:`HotExtension.edit` returns, new calls run the new code.
"""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, TracebackType
from typing import TYPE_CHECKING, Any

from hotreload.errors import HotReloadError
from hotreload.integrations.building import Source, build_files, build_project, import_file

if TYPE_CHECKING:
    from hotreload.patch.workshop import PatchResult, Workshop

__all__ = ["Edit", "HotExtension"]

#: How long a commit waits for threads that are inside old code.
_PATIENCE = 5.0


@dataclass(frozen=True)
class Edit:
    """What became of an edit that was not refused.

    ``outcome`` is "live" (a generation of its own), "base" (the text means what the extension was built from, so
    that code serves again) or "nothing" (it means what was live before; ``reason`` says why). ``functions`` are the
    C functions whose code is another now, ``added`` and ``removed`` came and went, ``notes`` are what was accepted
    but is worth knowing, ``warnings`` what the compiler printed. ``stragglers`` are threads still in old code.
    """

    outcome: str
    generation: int
    functions: tuple[str, ...] = ()
    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    warnings: str = ""
    reason: str = ""
    stragglers: tuple[str, ...] = ()


class HotExtension:
    """One extension that this process has loaded. Get one from the fixture ``hot_extension``, or from :meth:`build`.

    ``module`` is the imported module, ``source`` the copy of the C file that is edited, ``path`` the library.
    """

    def __init__(self, module: ModuleType, path: Path, source: Path, allow: Collection[str] = ()) -> None:
        self.module, self.path, self.source = module, path, source
        self._cleanup = contextlib.ExitStack()
        self._loaded = self._manager.attach(str(path))
        self._workshop = _open_workshop(self._loaded.build_id, allow)
        self._digests = {0: ""}

    @classmethod
    def build(
        cls,
        source: Source,
        directory: Path,
        *,
        name: str = "",
        flags: Sequence[str] = (),
        link: Sequence[str] = (),
        allow: Collection[str] = (),
    ) -> HotExtension:
        """Copies, builds and imports an extension.

        Args:
            source: a C or C++ file; several, of which the first is edited where nothing else is said; the text of one;
                or the directory of a project with a ``setup.py`` or ``pyproject.toml`` for setuptools. Headers beside
                a file are copied with it, so they can be edited too.
            directory: where it is built; empty, and the caller's to remove.
            name: the module's dotted name, where a project has several extensions.
            flags: more arguments for the compiler, as ``-O3`` or ``-I``.
            link: more arguments for the linker, as ``-lm``.
            allow: slugs of refusals that are let through.

        Raises:
            BuildError: the compiler said no, or there is no such source; nothing was imported.
            HotReloadError: it has no hot extension, or several and no name.
        """
        directory = directory.absolute()
        with contextlib.ExitStack() as undo:
            if isinstance(source, (str, os.PathLike)) and "\n" not in str(source) and os.path.isdir(source):
                module, path, main = build_project(Path(source), directory / "project", name, undo)
            else:
                path, main = build_files(source, directory, name, flags, link)
                module = import_file(path.name.split(".", 1)[0], path, undo)
            extension = cls(module, path, main, allow)
            extension._cleanup.push(undo.pop_all())
            return extension

    def __enter__(self) -> HotExtension:  # noqa: PYI034 - 3.9 has no Self
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Takes the module out of ``sys.modules``; what has a reference to it can go on using it."""
        self._workshop.close()
        self._cleanup.close()

    # Editing -------------------------------------------------------------------------------------------------------

    def edit(self, old: str, new: str, file: str = "") -> Edit:
        """Replaces ``old``, which must be there exactly once, by ``new`` and makes that live.

        Args:
            old: text of the file.
            new: what stands in its place.
            file: another file than ``source``, relative to its directory; a header, say.

        Raises:
            ValueError: ``old`` is not there, or more than once; nothing was changed.
            BuildError, IncompatibleError, StageError, TransitionError: as :meth:`write`.
        """
        text = self._place(file).read_text(encoding="utf-8")
        if text.count(old) != 1:
            raise ValueError(f"{old!r} is in {self._place(file).name} {text.count(old)} times, not once")
        return self.write(text.replace(old, new), file)

    def write(self, text: str, file: str = "") -> Edit:
        """Replaces the whole text of the source, or of ``file``, and makes that live.

        Raises:
            BuildError: it does not compile.
            IncompatibleError: it compiles and cannot go live; ``findings`` says why, ``slugs`` in one word each.
            StageError, TransitionError: this process cannot take it.

        After any of these the file has its earlier text and the earlier code serves.
        """
        place = self._place(file)
        before = place.read_text(encoding="utf-8") if place.exists() else None
        place.write_text(text, encoding="utf-8")
        try:
            return self._make_live()
        except HotReloadError:
            if before is None:
                place.unlink()
            else:
                place.write_text(before, encoding="utf-8")
            raise

    def rollback(self, to: int = 0) -> None:
        """Makes an earlier generation live again, by default the code that was built; the files stay as they are.

        Raises:
            StageError: there is no such generation, or the swap was refused; nothing was changed.
        """
        self._manager.rollback(self._loaded, to, wait=_PATIENCE)

    @property
    def generation(self) -> int:
        """The number of the generation that is live; 0 is the code that was built."""
        return int(self._manager.attach(str(self.path)).generation)

    def _make_live(self) -> Edit:
        result = self._workshop.make()
        try:
            return self._deliver(result)
        finally:
            if result.path is not None:
                result.path.unlink()

    def _deliver(self, result: PatchResult) -> Edit:
        live = self.generation
        told = functools.partial(Edit, notes=result.notes, warnings=result.warnings)
        if result.path is None and not live:
            return told("nothing", live, reason=result.reason)
        if result.path is None:
            self.rollback()
            return told("base", 0)
        if result.digest == self._digests.get(live):
            return told("nothing", live, reason="the text compiles to the code that is live already")
        staged = self._manager.stage(self._loaded, result.path.read_bytes())
        try:
            generation = self._manager.commit(staged, info={"digest": result.digest}, wait=_PATIENCE)
        except HotReloadError:
            with contextlib.suppress(HotReloadError):
                self._manager.unstage(staged)
            raise
        self._digests[generation.number] = result.digest
        left = (self._manager.transition() or {}).get("stragglers") or ()
        return told(
            "live",
            generation.number,
            (*result.changed, *result.compiler_changed),
            result.added,
            result.removed,
            stragglers=tuple(str(one.get("name")) for one in left),
        )

    def _place(self, file: str) -> Path:
        return self.source.parent / file if file else self.source

    @property
    def _manager(self) -> Any:
        from hotreload.live import manager

        return manager()


def _open_workshop(build_id: str, allow: Collection[str]) -> Workshop:
    from hotreload.patch.workshop import Workshop

    return Workshop.open(build_id, allow=allow)
