"""What the manager hands out: frozen, plain, safe to keep."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, overload

from hotreload.errors import StageError
from hotreload.live.core import Image, PatchCarried, PatchHook, PatchTable

__all__ = [
    "Generation",
    "History",
    "HookRun",
    "LoadedModule",
    "Redirect",
    "StagedPatch",
    "TableRun",
    "Taint",
    "Terms",
    "check_reason",
]

LEVELS = ("function", "call", "request")
POLICIES = ("wait", "revert", "force")
PRE_COMMIT, POST_COMMIT, POST_ROLLBACK = 1, 2, 3  # kinds of migration hooks


@dataclass(frozen=True)
class LoadedModule:
    """A hot extension of this process, as it was when it was asked for.

    ``build_id`` is in hex, ``bias`` what the loader added to its addresses, ``generation`` what was live.
    """

    name: str
    path: str
    build_id: str
    bias: int
    generation: int


@dataclass(frozen=True)
class Redirect:
    """One function of a generation: calls of ``entry`` go to ``target``."""

    name: str
    entry: int
    target: int


@dataclass(frozen=True)
class StagedPatch:
    """A patch that is mapped and bound, to which nothing is redirected yet.

    It was bound to what the generations before it own, so it can be committed only as generation ``number``.
    """

    module: LoadedModule
    functions: tuple[str, ...]
    bytes_mapped: int
    distance: int
    number: int
    carried: tuple[PatchCarried, ...] = field(repr=False)
    image: Image = field(repr=False)
    redirects: tuple[Redirect, ...] = field(repr=False)
    data_escapes: bool = field(default=True, repr=False)
    hooks: tuple[PatchHook, ...] = field(default=(), repr=False)
    tables: tuple[PatchTable, ...] = field(default=(), repr=False)

    def draft(self, info: Mapping[str, Any] | None = None) -> Generation:
        """The generation that it is to become."""
        return Generation(
            module=self.module.name,
            build_id=self.module.build_id,
            number=self.number,
            functions=self.functions,
            bytes_mapped=self.bytes_mapped,
            distance=self.distance,
            address=self.image.address,
            length=self.image.length,
            committed_at=time.time(),
            info=info or {},
            redirects=self.redirects,
            carried=self.carried,
            hooks=self.hooks,
            tables=self.tables,
        )

    @property
    def can_roll_back(self) -> bool:
        """Whether leaving it again undoes all that it did: a machine may do that only where it does."""
        kinds = {hook.kind for hook in self.hooks}
        return POST_COMMIT not in kinds or POST_ROLLBACK in kinds


@dataclass(frozen=True)
class HookRun:
    """One call of a migration hook; ``error`` is empty when all was well."""

    kind: str
    name: str
    seconds: float
    error: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class TableRun:
    """What became of one of Python's tables: names like ``kernels.area()``, of what was added and what taken away.

    ``kept`` are names that somebody has given to something else, which stays; ``error`` is empty when all was well.
    """

    name: str
    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()
    error: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Generation:
    """One state of an extension that was live at some time; number 0 is the base as loaded from disk.

    ``synchronised`` is false when the kernel has no core sync and the commit was allowed without. ``info`` is what
    the caller of commit wanted to be remembered. ``length`` is that of the address space from ``address`` on.

    ``level`` and ``transition`` say how the last swap to it went: stored entry by entry ("none"), or thread by thread
    and still "open", "complete", "forced" or "reversed". ``is_retired``: its code is not mapped any more. ``hook_runs``
    are the migration hooks that were called when it became live last, those of what it replaced among them;
    ``table_runs`` what its tables came to then, on the modules and types of the process.
    """

    module: str
    build_id: str
    number: int
    functions: tuple[str, ...] = ()
    bytes_mapped: int = 0
    distance: int = 0
    address: int = 0
    length: int = 0
    committed_at: float = 0.0
    duration: float = 0.0
    synchronised: bool = True
    info: Mapping[str, Any] = field(default_factory=dict)
    level: str = "function"
    transition: str = "none"
    is_retired: bool = False
    redirects: tuple[Redirect, ...] = field(default=(), repr=False)
    carried: tuple[PatchCarried, ...] = field(default=(), repr=False)
    hooks: tuple[PatchHook, ...] = field(default=(), repr=False)
    hook_runs: tuple[HookRun, ...] = field(default=(), repr=False)
    tables: tuple[PatchTable, ...] = field(default=(), repr=False)
    table_runs: tuple[TableRun, ...] = field(default=(), repr=False)

    def describe(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "number": self.number,
            "functions": list(self.functions),
            "bytes_mapped": self.bytes_mapped,
            "distance": self.distance,
            "address": f"{self.address:#x}",
            "committed_at": self.committed_at,
            "synchronised": self.synchronised,
            "level": self.level,
            "transition": self.transition,
            "retired": self.is_retired,
            "info": dict(self.info),
            "hooks": [run.as_dict() for run in self.hook_runs],
            "tables": [run.as_dict() for run in self.table_runs],
        }


class History(Sequence[Generation]):
    """Every generation by its number, the base first; of those long retired only the number is known."""

    def __init__(self, known: Mapping[int, Generation], newest: int) -> None:
        self._known = dict(known)
        self._numbers = range(newest + 1)

    def __len__(self) -> int:
        return len(self._numbers)

    @overload
    def __getitem__(self, index: int) -> Generation: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Generation, ...]: ...
    def __getitem__(self, index: int | slice) -> Generation | tuple[Generation, ...]:
        if isinstance(index, slice):
            return tuple(self._at(number) for number in self._numbers[index])
        return self._at(self._numbers[index])

    def __iter__(self) -> Iterator[Generation]:
        return (self._at(number) for number in self._numbers)

    def _at(self, number: int) -> Generation:
        base = self._known[0]
        return self._known.get(number) or Generation(base.module, base.build_id, number, is_retired=True)


@dataclass(frozen=True)
class Taint:
    """Something that was done to an extension and voids a promise until the process ends."""

    what: str
    reason: str
    at: float
    by: str

    def describe(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {"what": self.what, "reason": self.reason, "at": self.at, "by": self.by}


@dataclass(frozen=True)
class Terms:
    """How threads are to move, and what happens when one does not.

    ``level`` is empty where the number of entries decides: one is stored as it is, several are a transition.
    ``deadline`` is in seconds from the start or from the last reversal.
    """

    level: str = ""
    deadline: float = 30.0
    policy: str = "wait"
    reason: str = ""
    by: str = ""

    def but(self, **changes: Any) -> Terms:
        """These terms with what is not None put in.

        Raises:
            ValueError: no such level or policy.
            StageError: force without a reason; nothing was changed.
        """
        terms = replace(self, **{name: value for name, value in changes.items() if value is not None})
        if terms.level not in ("", *LEVELS):
            raise ValueError(f"{terms.level!r} is no level: {', '.join(LEVELS)}")
        if terms.policy not in POLICIES:
            raise ValueError(f"{terms.policy!r} is no policy: {', '.join(POLICIES)}")
        if terms.policy == "force":
            check_reason(terms.reason)
        return terms

    def level_for(self, entries: int) -> str:
        """The level of a swap of so many entries."""
        return self.level or ("function" if entries <= 1 else "call")

    def at_least(self, level: str, entries: int) -> Terms:
        """These terms for a swap of so many entries, at that level where they would have it at a lower one."""
        if level not in LEVELS or LEVELS.index(self.level_for(entries)) >= LEVELS.index(level):
            return self
        return replace(self, level=level)


def check_reason(reason: str) -> None:
    """Insists that a force says why.

    Raises:
        StageError: it does not; nothing was changed.
    """
    if not reason.strip():
        raise StageError(
            "to force threads over needs a reason",
            hint="say why: it is written down and stays with the extension until the process ends",
            status="NO_REASON",
        )
