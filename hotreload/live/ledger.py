"""What is known about one extension: its generations, who owns what they brought, and what is redirected now.

Patches are cumulative: each is base → then-current source. So the redirects of a generation are its whole truth, and
making one live is: redirect all of its functions, and put back whatever is redirected now and it lacks::

    live now      f → 1:f    g → 1:g
    generation 2  f → 2:f               h → 2:h
    the batch     f → 2:f    g → base   h → 2:h

What a patch has and the base has not, a new variable or function, is *carried*: the first generation that was
committed with its key owns it, and later ones are bound to that owner, so its state and its address stay. A new
function that is edited again is redirected at its owner's entry, like any other.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from hotreload.errors import PoisonedError, StageError
from hotreload.live.core import Base, Image, Patch, PatchCarried, Site
from hotreload.live.records import Generation, LoadedModule, Redirect, StagedPatch

__all__ = ["Ledger", "Owner"]


@dataclass(frozen=True)
class Owner:
    """Where a carried symbol lives for good."""

    address: int
    size: int
    is_function: bool
    generation: int


@dataclass
class Ledger:
    """One extension's book. The manager's lock guards it; nothing in here touches the process."""

    name: str
    path: str
    base: Base
    generations: list[Generation]
    live: Generation
    owners: dict[str, Owner] = field(default_factory=dict)
    sites: dict[int, Site] = field(default_factory=dict)
    staged: list[StagedPatch] = field(default_factory=list)
    #: Mapped for ever: some thread may have entered them, although their swap was undone.
    retained: list[Image] = field(default_factory=list)
    poison: PoisonedError | None = None

    @classmethod
    def open(cls, name: str, path: str, base: Base) -> Ledger:
        """The book of an extension that has just been found; generation 0 is live."""
        first = Generation(module=name, build_id=base.object.build_id.hex(), number=0)
        return cls(name=name, path=path, base=base, generations=[first], live=first)

    def snapshot(self) -> LoadedModule:
        """The extension as it is now."""
        return LoadedModule(
            self.name, self.path, self.base.object.build_id.hex(), self.base.object.bias, self.live.number
        )

    def describe(self) -> dict[str, Any]:
        """Plain data for ``status``."""
        return {
            "name": self.name,
            "path": self.path,
            "build_id": self.base.object.build_id.hex(),
            "bias": f"{self.base.object.bias:#x}",
            "prologue": self.base.prologue,
            "generation": self.live.number,
            "functions": dict.fromkeys(self.live.functions, self.live.number),
            "bytes_mapped": sum(generation.bytes_mapped for generation in self.generations),
            "bytes_retained": sum(image.mapped for image in self.retained),
            "distance": self.live.distance,
            "staged": len(self.staged),
            "poisoned": self.poison is not None,
            "generations": [generation.describe() for generation in self.generations],
        }

    def owner_addresses(self, patch: Patch) -> list[int]:
        """For every carried symbol of the patch where its owner has it, 0 for what is new.

        Raises:
            StageError: the owner's is of another size or kind; nothing was mapped.
        """
        return [self._owner_address(carried) for carried in patch.carried]

    def _owner_address(self, carried: PatchCarried) -> int:
        owner = self.owners.get(carried.key)
        if owner is None:
            return 0
        if owner.is_function != carried.is_function:
            raise StageError(
                f"{carried.key} has changed between variable and function",
                hint="give the new one another name",
                status="CARRIED_KIND",
                name=carried.key,
            )
        if not owner.is_function and owner.size != carried.size:
            raise StageError(
                f"{carried.key} has {owner.size:,} bytes since generation {owner.generation}, the patch wants "
                f"{carried.size:,}",
                hint="give the new variable another name",
                status="CARRIED_SIZE",
                name=carried.key,
                value=carried.size,
                limit=owner.size,
            )
        return owner.address

    def redirects_of(self, patch: Patch, image: Image) -> tuple[Redirect, ...]:
        """What committing this image would redirect; a new function that this image owns needs no redirect."""
        redirects = []
        for function in patch.functions:
            if function.is_carried:
                owner = self.owners.get(patch.carried[function.entry].key)
                if owner is None:
                    continue
                entry = owner.address
            else:
                entry = self.base.object.bias + function.entry
            redirects.append(Redirect(function.name, entry, image.address + function.image_off))
        return tuple(redirects)

    def missing_entries(self, redirects: Iterable[Redirect]) -> list[int]:
        """Entries that have no site yet, each once."""
        return list(dict.fromkeys(r.entry for r in redirects if r.entry not in self.sites))

    def batch(self, redirects: Iterable[Redirect]) -> list[tuple[Site, int]]:
        """What must be stored so that exactly these redirects are in force."""
        targets = {redirect.entry: 0 for redirect in self.live.redirects}
        targets.update((redirect.entry, redirect.target) for redirect in redirects)
        return [(self.sites[entry], target) for entry, target in targets.items()]

    def name_of(self, entry: int, redirects: Iterable[Redirect]) -> str:
        """The function that begins at an address, as a person knows it; empty when nobody knows."""
        for redirect in (*redirects, *self.live.redirects):
            if redirect.entry == entry:
                return redirect.name
        return ""

    def check_staged(self, staged: StagedPatch) -> None:
        """Insists that this patch is staged here and that nothing was committed since.

        Raises:
            StageError: it is not, or something was; nothing was changed.
        """
        if not any(staged is known for known in self.staged):
            raise StageError("the patch is not staged", hint="stage it first", status="NOT_STAGED")
        if staged.number != len(self.generations):
            raise StageError(
                f"generation {len(self.generations) - 1} of {self.name} was committed after this patch was staged",
                hint="unstage it and stage it again",
                status="STALE",
            )

    def drop_staged(self, staged: StagedPatch) -> None:
        """Forgets a staged patch."""
        self.staged = [known for known in self.staged if known is not staged]

    def record(self, staged: StagedPatch, generation: Generation) -> None:
        """A commit has succeeded: the generation is live and owns what it was the first to bring."""
        for carried in staged.carried:
            self.owners.setdefault(
                carried.key,
                Owner(
                    address=staged.image.address + carried.image_off,
                    size=carried.size,
                    is_function=carried.is_function,
                    generation=generation.number,
                ),
            )
        self.drop_staged(staged)
        self.generations.append(generation)
        self.live = generation

    def generation(self, number: int) -> Generation:
        """A generation by its number.

        Raises:
            StageError: there is no such generation; nothing was changed.
        """
        if not 0 <= number < len(self.generations):
            raise StageError(
                f"{self.name} has no generation {number}",
                hint=f"there are 0 to {len(self.generations) - 1}",
                status="NO_GENERATION",
            )
        return self.generations[number]
