"""What is known about one file in this process: its functions, what they were, its generations, what is live.

::

    Version 0      the code that was loaded                  by key, as in codes.py
    Version n      the code of the text that generation n came from, what it evaluated, the names that it added
    Original       what a function had when it was met first: a rollback puts these very objects back
"""

from __future__ import annotations

import time
import weakref
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import CodeType, FunctionType
from typing import Any, NamedTuple

from hotreload.errors import PoisonedError, StageError
from hotreload.live.core import Image, Span
from hotreload.live.records import Generation, History, LoadedModule, StagedPatch, Taint
from hotreload.python.codes import Found, is_same, walk
from hotreload.python.index import CodeIndex, counts_of, place_of
from hotreload.python.registry import SourceFile, functions_in

__all__ = [
    "KEPT",
    "NO_IMAGE",
    "Addition",
    "Book",
    "Name",
    "Original",
    "Parameters",
    "PythonGeneration",
    "StagedPython",
    "Version",
]

#: So many generations besides the base can be gone back to.
KEPT = 32
NO_IMAGE = Image(0, 0, 0, 0, False, Span(0, 0), None)


class Addition(NamedTuple):
    """A statement that an edit adds: ``owner`` is the class that it belongs to, empty for the module."""

    owner: str
    names: tuple[str, ...]
    line: int
    text: str
    code: CodeType


class Name(NamedTuple):
    """A name that a generation has given to a module or a class, what was there before, and by which statement."""

    target: Any
    name: str
    value: Any
    had: bool
    before: Any
    said: str = ""

    @property
    def is_live(self) -> bool:
        """Whether it still has that value."""
        space = self.target if isinstance(self.target, dict) else vars(self.target)
        return space.get(self.name, ...) is self.value


class Parameters(NamedTuple):
    """What the new parameters of a function came to; of those in ``kept``, each live one goes on having its own."""

    positional: Mapping[str, Any]
    keyword: Mapping[str, Any]
    annotations: Mapping[str, Any]
    kept: tuple[str, ...]

    def of(self, original: Original) -> tuple[Any, Any, Any]:
        """Defaults, keyword defaults and annotations for one function: several may come from one ``def``."""
        code, defaults = original.code, original.defaults or ()
        names = code.co_varnames[code.co_argcount - len(defaults) : code.co_argcount]
        own = {**dict(zip(names, defaults)), **(original.kwdefaults or {})}
        own = {name: value for name, value in own.items() if name in self.kept}
        positional = tuple(own.get(name, value) for name, value in self.positional.items())
        keyword = {name: own.get(name, value) for name, value in self.keyword.items()}
        return positional or None, keyword or None, dict(self.annotations)


@dataclass
class Version:
    """One text as code.

    ``evaluated`` has what parameters came to. ``made`` are the functions that its additions have made, by their
    numbers: they have their parameters already. ``bound`` are names of the module that its additions have bound.
    """

    codes: dict[str, CodeType]
    swapped: frozenset[str] = frozenset()
    edited: tuple[str, ...] = ()
    moved: frozenset[str] = frozenset()
    rigid: frozenset[str] = frozenset()
    signatures: Mapping[str, tuple[str, str, CodeType, tuple[str, ...]]] = field(default_factory=dict)
    additions: tuple[Addition, ...] = ()
    members: tuple[Addition, ...] = ()
    evaluated: dict[str, Parameters] = field(default_factory=dict)
    names: list[Name] = field(default_factory=list)
    made: set[int] = field(default_factory=set)
    bound: set[str] = field(default_factory=set)
    is_base: bool = False

    def __post_init__(self) -> None:
        self.by_line = {(code.co_name, code.co_firstlineno): key for key, code in self.codes.items()}
        self.counts = counts_of(self.codes)


@dataclass
class Original:
    """A function as it was met; ``is_replaced`` is whether its defaults are ones of ours."""

    function: weakref.ref[FunctionType]
    key: str
    code: CodeType
    defaults: Any
    kwdefaults: Any
    annotations: Any
    doc: Any
    closure: Any
    is_replaced: bool = False


@dataclass(frozen=True)
class StagedPython(StagedPatch):
    """A payload that is read and fits; nothing was run."""

    version: Any = field(default=None, repr=False)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class PythonGeneration(Generation):
    """A generation of a ``.py``; ``notes`` say what of the edit is not live, and why."""

    notes: tuple[str, ...] = ()

    def describe(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {**super().describe(), "notes": list(self.notes)}


class Book:
    """The ledger of one file."""

    def __init__(self, source: SourceFile) -> None:
        self.source = source
        self.name, self.path = source.name, source.path
        self.poison: PoisonedError | None = None
        self.staged: list[StagedPatch] = []
        self.taints: list[Taint] = []
        self.newest = 0
        base = PythonGeneration(self.name, source.build_id, 0, committed_at=time.time())
        self.generations: dict[int, Generation] = {0: base}
        self.live: Generation = base
        self.since = time.time()
        self.versions: dict[int, Version] = {}
        self.originals: dict[int, Original] = {}
        self.introduced: weakref.WeakValueDictionary[int, FunctionType] = weakref.WeakValueDictionary()
        self.has_looked = False
        #: Cells that a closure has had and its code of now does not use; another may.
        self.cells: weakref.WeakKeyDictionary[FunctionType, dict[str, Any]] = weakref.WeakKeyDictionary()
        self.index = CodeIndex()
        self._older_names: dict[tuple[int, str], Name] = {}

    # As the manager sees a ledger ----------------------------------------------------------------------------------

    def snapshot(self) -> LoadedModule:
        """As it is now."""
        return LoadedModule(self.name, self.path, self.source.build_id, 0, self.live.number)

    def history(self) -> History:
        """Every generation."""
        return History(self.generations, self.newest)

    def generation(self, number: int) -> Generation:
        """A generation that can be gone back to.

        Raises:
            StageError: there is none of that number.
        """
        if not 0 <= number <= self.newest:
            raise StageError(
                f"{self.name} has no generation {number}",
                hint=f"there are 0 to {self.newest}",
                status="NO_GENERATION",
            )
        if number and number not in self.versions:
            kept = sorted({0, *self.versions})
            raise StageError(
                f"generation {number} of {self.name} was retired: its code is not kept any more",
                hint=f"save or push its text again, or go back to 0 or one of {kept[1]} to {kept[-1]}",
                status="NO_GENERATION",
            )
        return self.generations[number]

    def check_staged(self, staged: StagedPatch) -> None:
        """Insists that a patch is staged and was made on top of what is live.

        Raises:
            StageError: it is not.
        """
        if not any(staged is known for known in self.staged):
            raise StageError("the patch is not staged", hint="stage it again", status="NOT_STAGED")
        if staged.number != self.newest + 1:
            raise StageError(
                "another patch was committed since this one was staged", hint="stage it again", status="OUTDATED"
            )

    def drop_staged(self, staged: StagedPatch) -> None:
        """Forgets it."""
        self.staged = [known for known in self.staged if known is not staged]

    def mark(self, number: int, **changes: Any) -> Generation:
        """Writes something down about a generation; returns it as it is now."""
        self.generations[number] = changed = replace(self.generations[number], **changes)
        if self.live.number == number:
            self.live = changed
        return changed

    def make_live(self, generation: Generation) -> None:
        """That generation serves from now on."""
        self.generations[generation.number] = self.live = generation
        self.since = time.time()

    def describe(self) -> dict[str, Any]:
        """Plain data for ``status``, with the fields of an extension; ``prologue`` is "python"."""
        return {
            "name": self.name,
            "path": self.path,
            "build_id": self.source.build_id,
            "bias": "0x0",
            "prologue": "python",
            "generation": self.live.number,
            "since": self.since,
            "functions": dict.fromkeys(self.live.functions, self.live.number),
            "level": self.live.level,
            "bytes_mapped": 0,
            "bytes_retained": 0,
            "distance": 0,
            "staged": len(self.staged),
            "poisoned": self.poison is not None,
            "taints": [taint.describe() for taint in self.taints],
            "generations": [generation.describe() for generation in self.generations.values()],
            "kept": [],
        }

    # Functions and their code --------------------------------------------------------------------------------------

    def open_base(self, codes: dict[str, CodeType]) -> Version:
        """Version 0, from the base text as it was compiled beside this process."""
        if 0 not in self.versions:
            self.versions[0] = Version(codes, is_base=True)
        return self.versions[0]

    def learn(self, code: CodeType, key: str) -> None:
        """Remembers which function a code object is, and those inside it."""
        found = [Found(key, code, ""), *walk(code, key + ".<locals>.", key)]
        counts = counts_of(each.key for each in found)
        for each in found:
            self.index.add(each.code, each.key, counts)

    def learn_version(self, version: Version) -> None:
        """Remembers all code of a version."""
        for key, code in version.codes.items():
            if not self.index.key_of(code):
                self.index.add(code, key, version.counts)

    def key_of(self, function: FunctionType) -> str:
        """Which function it is; empty where its code is not what the text says."""
        code = function.__code__
        known = self.index.key_of(code)
        if known:
            return known
        for version in reversed(list(self.versions.values())):
            key = version.by_line.get((code.co_name, code.co_firstlineno))
            if key is not None and is_same(code, version.codes[key]):
                self.learn(code, key)
                return key
        return ""

    def functions(self) -> tuple[list[tuple[str, FunctionType]], list[str]]:
        """The marked functions that live with their keys; and the names of those that the text does not explain."""
        found: list[tuple[str, FunctionType]] = []
        strangers: list[str] = []
        seen: set[int] = set()
        for function in [*self.source.functions(), *self.introduced.values()]:
            if id(function) in seen:
                continue
            seen.add(id(function))
            key = self.key_of(function)
            if key:
                found.append((key, function))
                self._meet(function, key)
            else:
                strangers.append(function.__qualname__)
        return found, strangers

    def look_for_hidden(self) -> None:
        """Finds the functions of a whole file that no name leads to, by one pass over all objects."""
        if self.source.is_whole:
            self.has_looked = True
            self.source.find_hidden()

    def _meet(self, function: FunctionType, key: str) -> None:
        originals = self.originals
        ident = id(function)
        if ident not in originals:
            originals[ident] = Original(
                weakref.ref(function, lambda _gone: originals.pop(ident, None)),
                key,
                function.__code__,
                function.__defaults__,
                function.__kwdefaults__,
                ...,
                function.__doc__,
                function.__closure__,
            )

    def introduce(self, value: Any, version: Version) -> None:
        """A function, or a class with functions, that an added statement has made: later edits change it too."""
        for function in functions_in({"": value, "__name__": getattr(value, "__module__", self.name)}, self.path):
            key = version.by_line.get((function.__code__.co_name, function.__code__.co_firstlineno))
            if key is not None and id(function) not in self.introduced:
                self.learn(function.__code__, key)
                self.introduced[id(function)] = function
                version.made.add(id(function))
                self._meet(function, key)

    def is_countable(self, code: CodeType, key: str, version: Version) -> bool:
        """Whether the n-th function of a name where that code is from is the n-th in the version: as many are there."""
        return self.index.siblings_of(code) == version.counts.get(place_of(key))

    def remember_cells(self, orders_back: list[tuple[Any, ...]]) -> None:
        """What closures had before an exchange."""
        for function, code, *_fields, closure in orders_back:
            if closure is not ... and code is not ... and closure:
                self.cells.setdefault(function, {}).update(zip(code.co_freevars, closure))

    def add_version(self, number: int, version: Version) -> None:
        """A generation has been made; of many the oldest are retired, but for the base and what is live."""
        self.newest = number
        self.versions[number] = version
        self.learn_version(version)
        old = [known for known in self.versions if known not in (0, number, self.live.number)]
        for known in sorted(old)[: max(0, len(old) + 2 - KEPT)]:
            self._retire(known)

    def _retire(self, number: int) -> None:
        """Its code stays with those who run or hold it; the names that it has added can still be taken away."""
        for name in self.versions.pop(number).names:
            self._older_names[id(name.target), name.name] = name
        self._older_names = {place: name for place, name in self._older_names.items() if name.is_live}
        self.mark(number, is_retired=True)

    def names(self) -> list[Name]:
        """Every name that a generation has added, the older first."""
        return [*self._older_names.values(), *(name for version in self.versions.values() for name in version.names)]

    def version(self, number: int) -> Version:
        """The version of a generation; before anything was staged, the base has none."""
        return self.versions.get(number) or Version({}, is_base=True)
