"""The seam to C: the one module that knows cffi.

Above it nobody computes addresses or sees a C object; below it nobody knows Python. :class:`Core` says what the
core can do, :class:`NativeCore` does it through ``csrc/``, and tests may put something else in its place. The GIL is
released during every call.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, Union

from hotreload.errors import StageError
from hotreload.live._core import ffi, lib
from hotreload.live.refusal import Refusal, make_error, printable

__all__ = [
    "Base",
    "CommitReport",
    "Core",
    "Image",
    "LoadedObject",
    "Marker",
    "MarkerRegion",
    "NativeCore",
    "Patch",
    "PatchCarried",
    "PatchFunction",
    "PatchHook",
    "PatchRange",
    "PatchSource",
    "PatchTable",
    "Progress",
    "Site",
    "Span",
    "Straggler",
    "Switch",
    "Transition",
]

PatchSource = Union[int, bytes, "os.PathLike[str]"]


@dataclass(frozen=True)
class LoadedObject:
    """A library of this process, as the dynamic loader shows it; ``build_id`` is empty when it has none."""

    path: str
    build_id: bytes
    bias: int
    start: int
    end: int


@dataclass(frozen=True)
class Base:
    """A loaded library that patches are made for; it cannot be unloaded while it is open.

    ``prologue`` is "jump" or "slot": how its functions are redirected.
    """

    object: LoadedObject
    handle: Any = field(repr=False, compare=False)
    prologue: str = "jump"


@dataclass(frozen=True)
class PatchFunction:
    """A replacement; ``entry`` is an offset in the base or, when ``is_carried``, an index into the carried symbols."""

    name: str
    entry: int
    image_off: int
    is_carried: bool


@dataclass(frozen=True)
class PatchCarried:
    """Something that the base does not have."""

    key: str
    image_off: int
    size: int
    is_function: bool


@dataclass(frozen=True)
class PatchRange:
    """Code of the base that belongs to the replaced function of index ``function``: its body or a piece of it."""

    function: int
    base_off: int
    length: int


@dataclass(frozen=True)
class PatchHook:
    """A migration hook; ``kind`` is 1 before the commit, 2 after it, 3 after a rollback."""

    kind: int
    name: str
    image_off: int


@dataclass(frozen=True)
class PatchTable:
    """One of Python's tables: ``kind`` is 1 for methods, 2 for getters and setters, 3 for members.

    The live one is at ``base_off`` of the base, the one of the sources at ``image_off``; ``changes`` has a letter for
    each entry of the live one, which says what of it is another.
    """

    kind: int
    name: str
    base_off: int
    image_off: int
    base_count: int
    count: int
    changes: str


@dataclass(frozen=True)
class Span:
    """Addresses from ``start`` up to and not including ``end``."""

    start: int
    end: int


@dataclass(frozen=True)
class Patch:
    """A patch file, read and validated.

    ``data_escapes``: the program may keep a pointer into the image, so that it can never be proven unused.
    """

    build_id: bytes
    functions: tuple[PatchFunction, ...]
    carried: tuple[PatchCarried, ...]
    ranges: tuple[PatchRange, ...]
    hooks: tuple[PatchHook, ...]
    tables: tuple[PatchTable, ...]
    data_escapes: bool
    handle: Any = field(repr=False, compare=False)


@dataclass(frozen=True)
class Image:
    """A patch that is mapped and bound; ``distance`` is the number of bytes between it and the base.

    ``text`` holds all its code, and may hold read-only data too. ``build_id`` is its own, in hexadecimal; it is empty
    where the patch brings no debug information. ``file`` is where tools find it, empty: in memory only.
    """

    address: int
    length: int
    mapped: int
    distance: int
    is_from_reserve: bool
    text: Span
    handle: Any = field(repr=False, compare=False)
    build_id: str = ""
    file: str = ""


@dataclass(frozen=True)
class Site:
    """One redirectable entry; ``kind`` is "jump" or "slot"."""

    entry: int
    handle: Any = field(repr=False, compare=False)
    kind: str = "jump"


@dataclass(frozen=True)
class Switch:
    """One entry of a transition: its definition before and after; 0 is the site's original code."""

    site: Site
    before: int
    after: int


@dataclass(frozen=True)
class Transition:
    """Threads on their way from one definition of several functions to another; ``stubs`` are its entries."""

    stubs: Span
    handle: Any = field(repr=False, compare=False)


@dataclass(frozen=True)
class Straggler:
    """A thread that has not moved, and why.

    ``reason`` is one of RUNNING (computing, and has not called a changed function since), INSIDE (``where`` is a return
    address on its stack that belongs to code of the side that it leaves), REQUEST (inside ``request()``), FOREIGN_STACK
    (it ran on a stack that is not a thread's own), UNREADABLE (the kernel does not let it be looked at), CROWDED (more
    threads than the core can keep apart).
    ``frames`` are return addresses found on its stack, innermost first: a conservative scan, which may show stale ones.
    """

    tid: int
    reason: str
    where: int
    frames: tuple[int, ...]


@dataclass(frozen=True)
class Progress:
    """How far a transition is: of ``threads`` that live and matter, ``settled`` have moved or are proven outside.

    Threads that were born since do not matter until they call a changed function.
    """

    threads: int
    settled: int
    is_settled: bool
    stragglers: tuple[Straggler, ...]


@dataclass(frozen=True)
class CommitReport:
    """What one commit did; ``seconds`` runs from the first page opened to the last page closed."""

    is_synchronised: bool
    pages: int
    seconds: float


@dataclass(frozen=True)
class MarkerRegion:
    """New code that may be to blame: its addresses, what the line says of it, and where its functions begin."""

    start: int
    end: int
    label: str
    functions: tuple[tuple[int, str], ...]


@dataclass(frozen=True)
class Marker:
    """What a fatal signal is to write, and where; ``until`` is in nanoseconds of the monotonic clock."""

    directory: str
    until: int
    regions: tuple[MarkerRegion, ...]


class Core(Protocol):
    """What the manager needs from below. Every method raises :class:`StageError` when it refuses."""

    def objects(self) -> tuple[LoadedObject, ...]: ...
    def open_base(self, path: str) -> Base: ...
    def close_base(self, base: Base) -> None: ...
    def reserve(self, base: Base, length: int) -> int: ...
    def open_patch(self, source: PatchSource) -> Patch: ...
    def close_patch(self, patch: Patch) -> None: ...
    def stage(self, patch: Patch, base: Base, carried: Sequence[int], name: str, file: int = -1) -> Image: ...
    def unstage(self, image: Image, *, has_run: bool = False) -> None: ...
    def open_sites(self, entries: Sequence[int]) -> tuple[Site, ...]: ...
    def commit(self, moves: Sequence[tuple[Site, int]], *, allow_unsynchronised: bool = False) -> CommitReport: ...
    def open_transition(
        self,
        base: Base,
        switches: Sequence[Switch],
        before: Sequence[Span],
        after: Sequence[Span],
        *,
        per_request: bool,
    ) -> Transition: ...
    def begin(self, transition: Transition, *, allow_unsynchronised: bool = False) -> CommitReport: ...
    def wait(self, transition: Transition, seconds: float, *, is_outside: bool = False) -> bool: ...
    def hurry(self) -> None: ...
    def relax(self) -> None: ...
    def progress(self, transition: Transition) -> Progress: ...
    def reverse(self, transition: Transition) -> None: ...
    def finish(self, transition: Transition, *, allow_unsynchronised: bool = False) -> CommitReport: ...
    def close_transition(self, transition: Transition) -> None: ...
    def discard_stubs(self, transition: Transition) -> None: ...
    def enter_request(self) -> Any: ...
    def leave_request(self, request: Any) -> None: ...
    def request_count(self) -> int: ...
    def probe_text(self) -> None: ...
    def probe_slots(self) -> None: ...
    def probe_barrier(self) -> None: ...
    def barrier_count(self) -> int: ...


_KINDS = {lib.HR_SITE_JUMP: "jump", lib.HR_SITE_SLOT: "slot"}


class NativeCore:
    """The core in ``csrc/``."""

    def objects(self) -> tuple[LoadedObject, ...]:
        objects, error = ffi.new("struct hr_objects *"), _new_error()
        _check(lib.hr_objects_open(objects, error), error)
        try:
            return tuple(_loaded_object(objects.items[i]) for i in range(objects.count))
        finally:
            lib.hr_objects_close(objects)

    def open_base(self, path: str) -> Base:
        result, error = ffi.new("struct hr_base **"), _new_error()
        _check(lib.hr_base_open(os.fsencode(path), result, error), error)
        found = lib.hr_base_object(result[0])[0]
        return Base(_loaded_object(found), result[0], "slot" if found.slots else "jump")

    def close_base(self, base: Base) -> None:
        lib.hr_base_close(base.handle)

    def reserve(self, base: Base, length: int) -> int:
        """Keeps address space near the base; returns how much there is, which may be less."""
        reserved, error = ffi.new("size_t *"), _new_error()
        _check(lib.hr_base_reserve(base.handle, length, reserved, error), error)
        return int(reserved[0])

    def open_patch(self, source: PatchSource) -> Patch:
        """Reads and validates a patch from a descriptor, from bytes, or from a path.

        Raises:
            StageError: it is no patch, or not a whole one; nothing was changed.
            OSError: the path cannot be opened.
        """
        result, error = ffi.new("struct hr_patch **"), _new_error()
        if isinstance(source, int):
            _check(lib.hr_patch_open(source, result, error), error)
        elif isinstance(source, bytes):
            _check(lib.hr_patch_parse(source, len(source), result, error), error)
        else:
            with open(source, "rb") as file:
                _check(lib.hr_patch_open(file.fileno(), result, error), error)
        return _patch(result[0])

    def close_patch(self, patch: Patch) -> None:
        lib.hr_patch_close(patch.handle)

    def stage(self, patch: Patch, base: Base, carried: Sequence[int], name: str, file: int = -1) -> Image:
        """Maps a patch near its base.

        ``carried`` has each carried symbol's address, 0 for what is new here. ``file`` is a descriptor of an empty file
        of ours, which becomes the generation's; without one the memory has no file that tools could read.
        """
        result, error = ffi.new("struct hr_image **"), _new_error()
        owners = ffi.new("uintptr_t[]", list(carried) or [0])
        _check(lib.hr_image_stage(patch.handle, base.handle, owners, name.encode(), file, result, error), error)
        info = ffi.new("struct hr_image_info *")
        lib.hr_image_describe(result[0], info)
        return Image(
            address=info.address,
            length=info.len,
            mapped=info.mapped_len,
            distance=info.distance,
            is_from_reserve=bool(info.is_from_reserve),
            text=Span(info.text_start, info.text_end),
            handle=result[0],
            build_id=bytes(ffi.buffer(info.build_id, info.build_id_len)).hex(),
        )

    def unstage(self, image: Image, *, has_run: bool = False) -> None:
        """Unmaps it. Libraries that it brought are closed, unless its code has run: it may have left things there."""
        lib.hr_image_unstage(image.handle, has_run)

    def open_sites(self, entries: Sequence[int]) -> tuple[Site, ...]:
        sites, error = ffi.new("struct hr_site[]", max(1, len(entries))), _new_error()
        _check(lib.hr_sites_open(ffi.new("uintptr_t[]", list(entries) or [0]), len(entries), sites, error), error)
        return tuple(Site(entry, _OneOf(sites, i), _KINDS[sites[i].kind]) for i, entry in enumerate(entries))

    def commit(self, moves: Sequence[tuple[Site, int]], *, allow_unsynchronised: bool = False) -> CommitReport:
        """Redirects every site to its target in one batch; target 0 puts the original bytes back.

        Raises:
            StageError: nothing was stored.
            TransitionError: every store was undone.
            PoisonedError: an undo failed.
        """
        report, error = ffi.new("struct hr_commit_report *"), _new_error()
        batch = ffi.new("struct hr_move[]", max(1, len(moves)))
        for move, (site, target) in zip(batch, moves):
            move.site = site.handle.pointer
            move.target = target
        _check(lib.hr_commit(batch, len(moves), allow_unsynchronised, report, error), error)
        return _commit_report(report)

    def open_transition(
        self,
        base: Base,
        switches: Sequence[Switch],
        before: Sequence[Span],
        after: Sequence[Span],
        *,
        per_request: bool,
    ) -> Transition:
        """Prepares threads' way from one side to the other; nothing is redirected yet.

        Args:
            base: the stubs are mapped near it.
            switches: the entries; with none the transition only proves that no thread is in the code of its sides.
                Their own 8 bytes are no part of a side: a pointer to a function on a stack is not a call of it.
            before: all the code of the side that threads leave, and what else is to be proven unused.
            after: the same of the other side, which threads leave when the transition is reversed.
            per_request: a thread inside a request stays where it is until the request is over.

        Raises:
            StageError: BUSY, another is open; NO_SCAN, this host does not let threads be looked at. Nothing is mapped.
        """
        result, error = ffi.new("struct hr_transition **"), _new_error()
        raw = ffi.new("struct hr_switch[]", max(1, len(switches)))
        for item, switch in zip(raw, switches):
            item.site, item.before, item.after = switch.site.handle.pointer, switch.before, switch.after
        sides = ffi.new("struct hr_sides *")
        raw_before, raw_after = _extents(before), _extents(after)
        sides.before, sides.before_count = raw_before, len(before)
        sides.after, sides.after_count = raw_after, len(after)
        _check(lib.hr_transition_open(base.handle, raw, len(switches), sides, per_request, result, error), error)
        stubs = ffi.new("struct hr_extent *")
        lib.hr_transition_stubs(result[0], stubs)
        kept = [switch.site.handle for switch in switches]
        return Transition(Span(stubs.start, stubs.end), _Open(result[0], kept))

    def begin(self, transition: Transition, *, allow_unsynchronised: bool = False) -> CommitReport:
        """Leads every entry to its stub, then starts the transition.

        Raises like :meth:`commit`; then nothing has begun, and it may be tried again.
        """
        report, error = ffi.new("struct hr_commit_report *"), _new_error()
        _check(lib.hr_transition_begin(transition.handle.pointer, allow_unsynchronised, report, error), error)
        return _commit_report(report)

    def wait(self, transition: Transition, seconds: float, *, is_outside: bool = False) -> bool:
        """Looks at threads, ever less often, until all are settled or the time is over; 0 seconds: one look.

        ``is_outside``: the calling thread runs nothing of the host's. Its stack may have been another thread's before,
        and hold words of that one.
        """
        settled, error = ffi.new("int *"), _new_error()
        nanoseconds = min(max(0, int(seconds * 1e9)), 1 << 62)
        _check(lib.hr_transition_wait(transition.handle.pointer, nanoseconds, is_outside, settled, error), error)
        return bool(settled[0])

    def hurry(self) -> None:
        """Has everybody come back from :meth:`wait`, settled or not, until :meth:`relax`."""
        lib.hr_transition_hurry()

    def relax(self) -> None:
        """Ends :meth:`hurry`."""
        lib.hr_transition_relax()

    def progress(self, transition: Transition) -> Progress:
        """Looks once at all threads that have not moved."""
        progress, count, error = ffi.new("struct hr_progress *"), ffi.new("size_t *"), _new_error()
        stragglers = ffi.new("struct hr_straggler[]", _STRAGGLERS)
        handle = transition.handle.pointer
        _check(lib.hr_transition_look(handle, progress, stragglers, _STRAGGLERS, count, error), error)
        return Progress(
            progress.threads,
            progress.settled,
            bool(progress.is_settled),
            tuple(_straggler(stragglers[i]) for i in range(count[0])),
        )

    def reverse(self, transition: Transition) -> None:
        """Turns the goal round; whoever has not moved is where it should be at once."""
        error = _new_error()
        _check(lib.hr_transition_reverse(transition.handle.pointer, error), error)

    def finish(self, transition: Transition, *, allow_unsynchronised: bool = False) -> CommitReport:
        """Leads every entry to the goal side directly, whether all are settled or not.

        Raises like :meth:`commit`; then the transition is still open and its stubs serve. Where an undo failed it is
        over and can only be closed: some entries still lead to stubs, which must stay mapped for ever.
        """
        report, error = ffi.new("struct hr_commit_report *"), _new_error()
        _check(lib.hr_transition_finish(transition.handle.pointer, allow_unsynchronised, report, error), error)
        return _commit_report(report)

    def close_transition(self, transition: Transition) -> None:
        """Lets the process open another one; the stubs stay mapped. Refused (ORDER) between begin and finish."""
        error = _new_error()
        _check(lib.hr_transition_close(transition.handle.pointer, error), error)

    def discard_stubs(self, transition: Transition) -> None:
        """Unmaps the stubs of a transition that never began, or that is closed and whose stubs are proven unused.

        Proof is a later transition that settled on its ``after`` side: it looked for every arena of stubs and for all
        of its ``before``. One that was reversed proves nothing, since threads that had not moved were not looked at.
        """
        error = _new_error()
        _check(lib.hr_transition_discard(transition.handle.pointer, error), error)
        transition.handle.forget()

    def enter_request(self) -> Any:
        """The calling thread is inside a request from now on, until the handle that this returns is left."""
        request, error = ffi.new("struct hr_request **"), _new_error()
        _check(lib.hr_request_enter(request, error), error)
        return request[0]

    def leave_request(self, request: Any) -> None:
        """Ends one request; any thread may do it, once."""
        lib.hr_request_leave(request)

    def request_count(self) -> int:
        """How many requests are open in this process."""
        return int(lib.hr_request_count())

    def probe_text(self) -> None:
        """Raises StageError when this host does not allow text to be opened for writing."""
        error = _new_error()
        _check(lib.hr_text_probe(error), error)

    def is_write_execute_denied(self) -> bool:
        """Whether PR_SET_MDWE is in force, as in a service with MemoryDenyWriteExecute= under a recent systemd."""
        return bool(lib.hr_is_write_execute_denied())

    def probe_slots(self) -> None:
        """Raises StageError when this host does not allow a page of data to be opened for writing and closed again."""
        error = _new_error()
        _check(lib.hr_slot_probe(error), error)

    def probe_barrier(self) -> None:
        """Raises StageError when the kernel has no core sync."""
        error = _new_error()
        _check(lib.hr_barrier_probe(error), error)

    def barrier_count(self) -> int:
        """How many core syncs this process has made."""
        return int(lib.hr_barrier_count())

    def arm_marker(self, marker: Marker) -> None:
        """Has a fatal signal leave one line until the time is over; it replaces what was armed before.

        Raises:
            StageError: a handler cannot be installed; nothing is armed that was not before.
        """
        raw, kept = _raw_marker(marker)
        error = _new_error()
        _check(lib.hr_marker_arm(raw, error), error)
        _armed_markers.append(kept)

    def disarm_marker(self) -> None:
        """Takes the handlers away again, where nobody has put others over them."""
        lib.hr_marker_disarm()

    def is_marker_armed(self) -> bool:
        """Whether a fatal signal would leave a line now, if its time is not over."""
        return bool(lib.hr_marker_is_armed())


#: A signal may be at work on a marker while the next one is armed: the last few are kept.
_armed_markers: deque[list[Any]] = deque(maxlen=8)


#: More threads than this that hold a transition up are counted, not described.
_STRAGGLERS = 256


class _Open:
    """A transition of the core until it is discarded, and the sites that it will store at."""

    def __init__(self, pointer: Any, kept: list[Any]) -> None:
        self._pointer = pointer
        self._kept = kept

    @property
    def pointer(self) -> Any:
        if self._pointer is None:
            raise StageError("the transition was discarded", hint="open another one", status="ORDER")
        return self._pointer

    def forget(self) -> None:
        self._pointer = None


class _OneOf:
    """A pointer into a C array, which keeps the array alive."""

    def __init__(self, array: Any, index: int) -> None:
        self._array = array
        self.pointer = array + index


def _raw_marker(marker: Marker) -> tuple[Any, list[Any]]:
    """The C structure of a marker, and everything that it points to."""
    kept: list[Any] = []

    def keep(made: Any) -> Any:
        kept.append(made)
        return made

    regions = keep(ffi.new("struct hr_marker_region[]", len(marker.regions)))
    for raw, region in zip(regions, marker.regions):
        functions = keep(ffi.new("struct hr_marker_function[]", max(1, len(region.functions))))
        for function, (start, name) in zip(functions, region.functions):
            function.start, function.name = start, keep(ffi.new("char[]", name.encode("ascii", "replace")))
        raw.start, raw.end = region.start, region.end
        raw.label = keep(ffi.new("char[]", region.label.encode("ascii", "replace")))
        raw.functions, raw.function_count = functions, len(region.functions)
    whole = keep(ffi.new("struct hr_marker *"))
    whole.directory = keep(ffi.new("char[]", os.fsencode(marker.directory)))
    whole.until, whole.regions, whole.count = marker.until, regions, len(marker.regions)
    return whole, kept


def _extents(spans: Sequence[Span]) -> Any:
    raw = ffi.new("struct hr_extent[]", max(1, len(spans)))
    for item, span in zip(raw, spans):
        item.start, item.end = span.start, span.end
    return raw


def _straggler(raw: Any) -> Straggler:
    frames = tuple(raw.frames[i] for i in range(raw.frame_count))
    return Straggler(raw.tid, _text(raw.reason), raw.where, frames)


def _commit_report(report: Any) -> CommitReport:
    return CommitReport(bool(report.is_synchronised), report.pages, report.nanoseconds / 1e9)


def _new_error() -> Any:
    return ffi.new("struct hr_error *")


def _check(status: int, error: Any) -> None:
    if not status:
        return
    raise make_error(
        Refusal(
            status=_text(lib.hr_status_name(status)),
            family=_text(lib.hr_status_family(status)),
            text=_text(lib.hr_status_text(status)),
            hint=_text(lib.hr_status_hint(status)),
            call=_text(error.call),
            errno=error.errnum,
            address=error.address,
            value=error.value,
            limit=error.limit,
            length=error.length,
            name=_text(error.name),
            detail=_text(error.detail),
        )
    )


def _text(pointer: Any) -> str:
    return printable(ffi.string(pointer)) if pointer else ""


def _loaded_object(raw: Any) -> LoadedObject:
    return LoadedObject(
        path=os.fsdecode(ffi.string(raw.path)),
        build_id=bytes(ffi.buffer(raw.build_id)[0 : raw.build_id_len]),
        bias=raw.bias,
        start=raw.start,
        end=raw.end,
    )


def _patch(handle: Any) -> Patch:
    info = ffi.new("struct hr_patch_info *")
    function = ffi.new("struct hr_patch_function *")
    carried = ffi.new("struct hr_patch_carried *")
    covered, hook = ffi.new("struct hr_patch_range *"), ffi.new("struct hr_patch_hook *")
    table = ffi.new("struct hr_patch_table *")
    lib.hr_patch_describe(handle, info)
    functions, symbols, ranges, hooks, tables = [], [], [], [], []
    for i in range(info.function_count):
        lib.hr_patch_function_at(handle, i, function)
        functions.append(
            PatchFunction(_text(function.name), function.entry, function.image_off, bool(function.is_carried))
        )
    for i in range(info.carried_count):
        lib.hr_patch_carried_at(handle, i, carried)
        symbols.append(PatchCarried(_text(carried.key), carried.image_off, carried.size, bool(carried.is_function)))
    for i in range(info.range_count):
        lib.hr_patch_range_at(handle, i, covered)
        ranges.append(PatchRange(covered.function, covered.base_off, covered.len))
    for i in range(info.hook_count):
        lib.hr_patch_hook_at(handle, i, hook)
        hooks.append(PatchHook(hook.kind, _text(hook.name), hook.image_off))
    for i in range(info.table_count):
        lib.hr_patch_table_at(handle, i, table)
        places = (table.base_off, table.image_off, table.base_count, table.count)
        tables.append(PatchTable(table.kind, _text(table.name), *places, _text(table.changes)))
    return Patch(
        build_id=bytes(ffi.buffer(info.build_id, info.build_id_len)),
        functions=tuple(functions),
        carried=tuple(symbols),
        ranges=tuple(ranges),
        hooks=tuple(hooks),
        tables=tuple(tables),
        data_escapes=bool(info.data_escapes),
        handle=handle,
    )
