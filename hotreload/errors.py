"""What can go wrong, by the question an operator asks first: did anything change?

::

    HotReloadError
    ├── BuildError          the compiler, the linker or the build said no; nothing was tried
    ├── IncompatibleError   the new code compiles but cannot go live on this base; nothing was tried
    ├── StageError          a process could not take the patch; nothing in it is redirected
    ├── TransitionError     the swap failed and was reverted; the earlier generation serves
    ├── PoisonedError       an undo failed: what runs is unknown; restart the process
    └── MarkError           @hotpatchable makes no sense there; nothing was marked

Every error has a one-sentence message, a ``hint`` that says what to do next, survives ``pickle`` and can be
turned into plain data with `HotReloadError.as_dict` for ``--json``.
"""

from __future__ import annotations

from typing import Any, NamedTuple

__all__ = [
    "BuildError",
    "Finding",
    "HotReloadError",
    "IncompatibleError",
    "MarkError",
    "PoisonedError",
    "StageError",
    "TransitionError",
]


class Finding(NamedTuple):
    """One reason why an edit cannot go live, told the way a compiler tells it.

    ``slug`` is stable and names the kind of finding, and its page in docs/refusals.md; ``line`` is 1-based, 0 where no
    line is known. ``can_be_allowed``: whether a person who knows better may let the edit through.
    """

    slug: str
    reason: str
    hint: str = ""
    file: str = ""
    line: int = 0
    can_be_allowed: bool = False

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}: " if self.line else f"{self.file}: " if self.file else ""
        return f"{place}refused: {self.reason}" + (f" ({self.hint})" if self.hint else "")

    @property
    def with_slug(self) -> str:
        """The same with the slug behind it, as compilers name the option that a warning belongs to."""
        return f"{self} [{self.slug}]"


class HotReloadError(Exception):
    """The root of all errors that this package raises on purpose."""

    def __init__(self, message: str, *, hint: str = "", **fields: Any) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.fields = fields

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.message, self.hint, self.fields)

    def as_dict(self) -> dict[str, Any]:
        """Plain data for another program: ``error``, ``message``, ``hint`` and the error's own fields."""
        fields = {
            name: [finding._asdict() for finding in value] if name == "findings" else value
            for name, value in self.fields.items()
        }
        return {"error": type(self).__name__, "message": self.message, "hint": self.hint, **fields}


class BuildError(HotReloadError):
    """The build failed; no patch was made and no process was touched.

    ``diagnostics`` is what the compiler or linker printed, byte for byte; ``command`` is what was run.
    """

    @property
    def diagnostics(self) -> str:
        return str(self.fields.get("diagnostics", ""))

    @property
    def command(self) -> list[str]:
        return list(self.fields.get("command", ()))


class IncompatibleError(HotReloadError):
    """The new code cannot go live on this base; no patch was made and no process was touched.

    ``findings`` holds every reason, not only the first.
    """

    @property
    def findings(self) -> tuple[Finding, ...]:
        return tuple(self.fields.get("findings", ()))

    @property
    def slugs(self) -> tuple[str, ...]:
        """The kinds of all findings, each once; see docs/refusals.md."""
        return tuple(dict.fromkeys(finding.slug for finding in self.findings))


class StageError(HotReloadError):
    """The process refused the patch; what was mapped for it is unmapped and nothing is redirected.

    ``status`` is the name of the core's refusal, ``call`` and ``errno`` the system call behind it, if any.
    """

    @property
    def status(self) -> str:
        return str(self.fields.get("status", ""))


class TransitionError(HotReloadError):
    """A swap failed half way and every store was undone; the earlier generation serves."""


class PoisonedError(HotReloadError):
    """A swap failed and its undo failed too: which code runs is unknown. Restart the process."""


class MarkError(HotReloadError, TypeError):
    """``@hotpatchable`` cannot mean anything there, or a stub and its C function disagree; nothing was marked.

    It is raised where the decorator stands. ``file`` and ``line`` are of the C function or of the Python one, if known.
    """


def _rebuild(kind: type[HotReloadError], message: str, hint: str, fields: dict[str, Any]) -> HotReloadError:
    return kind(message, hint=hint, **fields)
