"""The two things that can be made live: a patch, and the base again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hotreload.artefact import Artefact
from hotreload.push.client import AgentClient, SealedPatch
from hotreload.push.records import BASE, Live

__all__ = ["BaseChange", "PatchChange"]


class PatchChange:
    """A patch goes live.

    Args:
        artefact: the patch.
        is_rollback: it was live before and is older than what is; a process that still has it mapped goes back to
            that, and one that has not stages it anew.
        allow_quarantined: it may be one that a process died of.
        terms: how threads are to come over; fields of the request.
    """

    def __init__(
        self,
        artefact: Artefact,
        *,
        is_rollback: bool = False,
        allow_quarantined: bool = False,
        terms: Mapping[str, Any] | None = None,
    ) -> None:
        self.artefact = artefact
        self._is_rollback = is_rollback
        self._terms = dict(terms or {})
        self._flags: dict[str, Any] = dict(self._terms)
        if is_rollback:
            self._flags["rollback"] = True
        if allow_quarantined:
            self._flags["allow_quarantined"] = True
        self._sealed = SealedPatch(artefact.raw)

    @property
    def module(self) -> str:
        return self.artefact.manifest.module

    @property
    def build_id(self) -> str:
        return self.artefact.manifest.build_id

    def is_live(self, live: Live) -> bool:
        """Whether exactly these bytes are live there."""
        return live.sha256 == self.artefact.sha256

    def prepare(self, worker: AgentClient, push: str, deadline: float) -> dict[str, Any]:
        """Has one process make ready."""
        kept = self._generation_in(worker) if self._is_rollback else None
        if kept is not None:
            return worker.prepare_rollback(push, self.build_id, kept, deadline, flags=self._terms)
        return worker.prepare(push, self._sealed, deadline, flags=self._flags)

    def close(self) -> None:
        self._sealed.close()

    def _generation_in(self, worker: AgentClient) -> int | None:
        """The generation in which a process still has this patch mapped."""
        for module in worker.seen.raw.get("modules") or ():
            if module.get("build_id") == self.build_id:
                for generation in module.get("generations") or ():
                    is_it = (generation.get("info") or {}).get("sha256") == self.artefact.sha256
                    if is_it and not generation.get("retired"):
                        return int(generation["number"])
        return None


class BaseChange:
    """What was loaded from disk goes live again."""

    def __init__(self, module: str, build_id: str, terms: Mapping[str, Any] | None = None) -> None:
        self.module = module
        self.build_id = build_id
        self._terms = dict(terms or {})

    def is_live(self, live: Live) -> bool:
        """Whether no patch is live there."""
        return live.name == BASE

    def prepare(self, worker: AgentClient, push: str, deadline: float) -> dict[str, Any]:
        """Has one process make ready."""
        return worker.prepare_rollback(push, self.build_id, 0, deadline, flags=self._terms)

    def close(self) -> None:
        """There is nothing to close."""
