"""What is known about one extension: its generations, who owns what they brought, and what is redirected now.

Patches are cumulative: each is base → then-current source. So the redirects of a generation are its whole truth, and
making one live is: redirect all of its functions, and put back whatever is redirected now and it lacks::

    live now      f → 1:f    g → 1:g
    generation 2  f → 2:f               h → 2:h
    the batch     f → 2:f    g → base   h → 2:h

What a patch has and the base has not, a new variable or function, is *carried*: the first generation that was
committed with its key owns it, and later ones are bound to that owner, so its state and its address stay. A new
function that is edited again is redirected at its owner's entry, like any other.

A transition needs to know whose code is whose. Every piece is mine, theirs, or old, and old code is on both lists,
so that no thread moves in either direction out of the middle of it::

                      before (keeps a thread here)      after (keeps it there)
    live now          its image                         -
    the other one     -                                 its image
    original code     of what is not redirected now     of what will not be redirected then
    anything older    images, stub pages, original code that neither side uses
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from hotreload.errors import PoisonedError, StageError
from hotreload.live.around import Swap
from hotreload.live.core import Base, Image, Patch, PatchCarried, PatchTable, Site, Span, Switch, Transition
from hotreload.live.records import Generation, History, LoadedModule, Redirect, StagedPatch, Taint

__all__ = ["Arena", "Ledger", "MappedImage", "Owner"]

#: Of generations that were retired, so many keep their details.
RETIRED_KEPT = 32
TAINTS_KEPT = 32


@dataclass(frozen=True)
class Owner:
    """Where a carried symbol lives for good."""

    address: int
    size: int
    is_function: bool
    generation: int


@dataclass
class MappedImage:
    """The code of a generation that was live at some time. ``is_proven``: no thread is in it, and none can come."""

    image: Image
    data_escapes: bool
    is_proven: bool = False

    @property
    def text(self) -> Span:
        """Where its code is."""
        return self.image.text


@dataclass
class Arena:
    """The stub pages of a transition that is over; a thread may still stand in one."""

    handle: Transition
    is_proven: bool = False


@dataclass
class Ledger:
    """One extension's book. The manager's lock guards it; nothing in here touches the process."""

    name: str
    path: str
    base: Base
    generations: dict[int, Generation]
    live: Generation
    #: When that became so, by whatever way.
    since: float = field(default_factory=time.time)
    newest: int = 0
    owners: dict[str, Owner] = field(default_factory=dict)
    sites: dict[int, Site] = field(default_factory=dict)
    staged: list[StagedPatch] = field(default_factory=list)
    #: By the entry of a function of the base: all original code that belongs to it.
    ranges: dict[int, frozenset[Span]] = field(default_factory=dict)
    mapped: dict[int, MappedImage] = field(default_factory=dict)
    #: Python's tables of the base that some generation has shown otherwise, by kind and place.
    tables: dict[tuple[int, int], PatchTable] = field(default_factory=dict)
    arenas: list[Arena] = field(default_factory=list)
    #: Mapped for ever: some thread may have entered them, although their swap was undone.
    retained: list[Image] = field(default_factory=list)
    retired: deque[int] = field(default_factory=deque)
    taints: deque[Taint] = field(default_factory=lambda: deque(maxlen=TAINTS_KEPT))
    is_forced: bool = False
    poison: PoisonedError | None = None

    @classmethod
    def open(cls, name: str, path: str, base: Base) -> Ledger:
        """The book of an extension that has just been found; generation 0 is live."""
        first = Generation(module=name, build_id=base.object.build_id.hex(), number=0)
        return cls(name=name, path=path, base=base, generations={0: first}, live=first)

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
            "since": self.since,
            "functions": dict.fromkeys(self.live.functions, self.live.number),
            "level": self.live.level,
            "bytes_mapped": sum(mapped.image.mapped for mapped in self.mapped.values()),
            "bytes_retained": sum(image.mapped for image in self.retained),
            "distance": self.live.distance,
            "staged": len(self.staged),
            "files": {str(number): mapped.image.file for number, mapped in self.mapped.items() if mapped.image.file},
            "poisoned": self.poison is not None,
            "taints": [taint.describe() for taint in self.taints],
            "generations": [generation.describe() for generation in self.generations.values()],
        }

    def history(self) -> History:
        """Every generation there ever was."""
        return History(self.generations, self.newest)

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

    def learn_ranges(self, patch: Patch) -> None:
        """Remembers where the original code of the patch's functions is: later swaps need it, and lack this patch."""
        bias = self.base.object.bias
        for covered in patch.ranges:
            entry = bias + patch.functions[covered.function].entry
            span = Span(bias + covered.base_off, bias + covered.base_off + covered.length)
            self.ranges[entry] = self.ranges.get(entry, frozenset()) | {span}

    def missing_entries(self, redirects: Iterable[Redirect]) -> list[int]:
        """Entries that have no site yet, each once."""
        return list(dict.fromkeys(r.entry for r in redirects if r.entry not in self.sites))

    def batch(self, redirects: Iterable[Redirect]) -> list[tuple[Site, int]]:
        """What must be stored so that exactly these redirects are in force."""
        targets = {redirect.entry: 0 for redirect in self.live.redirects}
        targets.update((redirect.entry, redirect.target) for redirect in redirects)
        return [(self.sites[entry], target) for entry, target in targets.items()]

    def switches(self, redirects: Iterable[Redirect]) -> list[Switch]:
        """The same as a list of what changes at each entry; an entry that stays as it is is not in it."""
        now = {redirect.entry: redirect.target for redirect in self.live.redirects}
        then = {redirect.entry: redirect.target for redirect in redirects}
        return [
            Switch(self.sites[entry], now.get(entry, 0), then.get(entry, 0))
            for entry in {**now, **then}
            if now.get(entry, 0) != then.get(entry, 0)
        ]

    def swap_to(self, goal: Generation) -> Swap:
        """What making a generation live changes, for those who want to be called around it."""
        now = {redirect.entry: redirect for redirect in self.live.redirects}
        then = {redirect.entry: redirect for redirect in goal.redirects}
        changed = [
            then.get(entry) or now[entry]
            for entry in {**now, **then}
            if entry not in now or entry not in then or now[entry].target != then[entry].target
        ]
        return Swap(
            self.name,
            self.path,
            self.live.number,
            goal.number,
            tuple(redirect.name for redirect in changed),
            frozenset(redirect.entry for redirect in changed),
        )

    def sides(self, switches: Iterable[Switch], to: int, image: Image | None) -> tuple[list[Span], list[Span]]:
        """The code that a thread must not be in to leave what is live now, and to come back from generation ``to``.

        ``image`` is that generation's where the book does not have it yet.
        """
        before, after = set(self.old_code()), set(self.old_code())
        for number, mapped in self.mapped.items():
            if number != to:
                before.add(mapped.text)
            if number != self.live.number:
                after.add(mapped.text)
        if image is not None:
            after.add(image.text)
        for switch in switches:
            if switch.after:
                before |= self._original_code(switch.site.entry)
            if switch.before:
                after |= self._original_code(switch.site.entry)
        return sorted(before, key=_start), sorted(after, key=_start)

    def old_code(self) -> list[Span]:
        """What belongs to no generation: images of swaps that were undone, and stub pages."""
        return [image.text for image in self.retained] + [arena.handle.stubs for arena in self.arenas]

    def _original_code(self, entry: int) -> frozenset[Span]:
        """The original code behind an entry: its ranges, or all of the base where they are not known."""
        whole = self.base.object
        if not whole.start <= entry < whole.end:
            return frozenset()  # a carried function: its owner's image is on the list
        return self.ranges.get(entry) or frozenset({Span(whole.start, whole.end)})

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
        if staged.number != self.newest + 1:
            raise StageError(
                f"generation {self.newest} of {self.name} was committed after this patch was staged",
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
        self.mapped[generation.number] = MappedImage(staged.image, staged.data_escapes)
        self.newest = generation.number
        self.make_live(generation)

    def make_live(self, generation: Generation) -> None:
        """A swap has happened: what is live can be entered, so nothing is proven of it."""
        if generation.number != self.live.number:
            self.since = time.time()
        self.live = self.generations[generation.number] = generation
        if generation.number in self.mapped:
            self.mapped[generation.number].is_proven = False

    def mark(self, number: int, **fields: Any) -> Generation:
        """Notes something about a generation."""
        marked = replace(self.generations[number], **fields)
        self.generations[number] = marked
        if self.live.number == number:
            self.live = marked
        return marked

    def drop_retired(self, number: int) -> None:
        """A generation is not mapped any more; its details are forgotten after a while."""
        del self.mapped[number]
        self.mark(number, is_retired=True, redirects=(), carried=(), hooks=(), tables=())
        self.retired.append(number)
        if len(self.retired) > RETIRED_KEPT:
            del self.generations[self.retired.popleft()]

    @property
    def reason_to_keep_all(self) -> str:
        """Why nothing of this extension is unmapped any more; empty when something may be."""
        if self.poison is not None:
            return "an undo failed: where the entries lead is unknown"
        return "threads were forced over: one may be anywhere" if self.is_forced else ""

    @property
    def bytes_held(self) -> int:
        """What is mapped for this extension, staged or live or old."""
        images = [mapped.image for mapped in self.mapped.values()] + self.retained
        return sum(image.mapped for image in images) + sum(staged.bytes_mapped for staged in self.staged)

    def owned_by(self, number: int) -> list[str]:
        """What a generation owns for good."""
        return [key for key, owner in self.owners.items() if owner.generation == number]

    def generation(self, number: int) -> Generation:
        """A generation by its number.

        Raises:
            StageError: there is no such generation; nothing was changed.
        """
        if not 0 <= number <= self.newest:
            raise StageError(
                f"{self.name} has no generation {number}",
                hint=f"there are 0 to {self.newest}",
                status="NO_GENERATION",
            )
        if number and number not in self.mapped:
            raise StageError(
                f"generation {number} of {self.name} was retired: its code is not mapped any more",
                hint=f"push its source again, or go back to one of {', '.join(map(str, sorted({0, *self.mapped})))}",
                status="NO_GENERATION",
            )
        return self.generations[number]


def _start(span: Span) -> int:
    return span.start
