"""What the manager hands out: frozen, plain, safe to keep."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from hotreload.live.core import Image, PatchCarried

__all__ = ["Generation", "LoadedModule", "Redirect", "StagedPatch"]


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


@dataclass(frozen=True)
class Generation:
    """One state of an extension that was live at some time; number 0 is the base as loaded from disk.

    ``synchronised`` is false when the kernel has no core sync and the commit was allowed without. ``info`` is what
    the caller of commit wanted to be remembered. ``length`` is that of the address space from ``address`` on.
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
    redirects: tuple[Redirect, ...] = field(default=(), repr=False)
    carried: tuple[PatchCarried, ...] = field(default=(), repr=False)

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
            "info": dict(self.info),
        }
