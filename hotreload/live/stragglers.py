"""Who has not moved yet, told so that a person finds the code: thread names, native frames, Python frames.

Nothing here is looked up before somebody asks: a server that is never asked imports no more than it has.
"""

from __future__ import annotations

import bisect
import functools
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import FrameType
from typing import Any

from hotreload.live.core import Straggler
from hotreload.live.ledger import Ledger

__all__ = [
    "GREENLETS",
    "Since",
    "Symbols",
    "are_greenlets_in_use",
    "brief",
    "describe",
    "greenlets_entry",
    "python_stacks",
    "thread_names",
]

#: The reason of the entry that stands for all suspended greenlets; it has no thread.
GREENLETS = "GREENLETS"

#: Of so many threads stacks are told, and of each so many Python frames.
SHOWN = 32

_SAYINGS = {
    "RUNNING": "is computing and has not called a changed function since",
    "INSIDE": "is inside {where}",
    "REQUEST": "is inside a request",
    "FOREIGN_STACK": "runs on a stack that is not its own, which cannot be looked through",
    "UNREADABLE": "cannot be looked at",
    "CROWDED": "is one of too many threads to keep a book of",
    GREENLETS: "suspended greenlets keep their stacks where they cannot be looked through",
}


class Since:
    """Since when each thread is where it is, as far as anybody has looked: one that has never been seen elsewhere has
    not moved since the beginning."""

    def __init__(self) -> None:
        self._began = time.time()
        self._seen: dict[int, tuple[str, int, float]] = {}

    def update(self, stragglers: Iterable[Straggler]) -> dict[int, float]:
        """By thread, since when it is at this place for this reason; who is no straggler any more is forgotten."""
        seen = {}
        for straggler in stragglers:
            reason, where, at = self._seen.get(straggler.tid, (straggler.reason, straggler.where, self._began))
            if (reason, where) != (straggler.reason, straggler.where):
                at = time.time()
            seen[straggler.tid] = (straggler.reason, straggler.where, at)
        self._seen = seen
        return {tid: at for tid, (_reason, _where, at) in seen.items()}


class Symbols:
    """Names for addresses: what the ledger knows, and for the rest what the dynamic loader says."""

    def __init__(self, ledger: Ledger) -> None:
        spots: list[tuple[int, int, str]] = []
        for number, mapped in ledger.mapped.items():
            generation = ledger.generations[number]
            named = [(redirect.target, redirect.name) for redirect in generation.redirects]
            named += [
                (generation.address + carried.image_off, carried.key.rpartition(":")[2])
                for carried in generation.carried
                if carried.is_function
            ]
            spots += [(start, mapped.text.end, f"{name} [generation {number}]") for start, name in named]
        names = {r.entry: r.name for g in ledger.generations.values() for r in g.redirects}
        for entry, spans in ledger.ranges.items():
            spots += [(span.start, span.end, f"{names.get(entry, hex(entry))} [original]") for span in spans]
        self._spots = sorted(spots)
        self._starts = [start for start, _end, _name in self._spots]

    def known(self, address: int) -> str:
        """The function that an address is in, if it belongs to this extension's changed code; else empty."""
        index = bisect.bisect_right(self._starts, address) - 1
        if index < 0 or address > self._spots[index][1]:
            return ""
        start, _end, name = self._spots[index]
        function, _, side = name.partition(" ")
        return f"{function}+{address - start:#x} {side}"

    def name(self, address: int) -> str:
        """The same for any address; the bare number where nobody knows."""
        return self.known(address) or _dladdr(address)


def describe(
    stragglers: Sequence[Straggler], ledger: Ledger, since: Mapping[int, float], *, with_stacks: bool = True
) -> list[dict[str, Any]]:
    """Plain data for ``status``: everything that is known of each thread; of the first ones also the stacks."""
    symbols, names = Symbols(ledger), thread_names(since)
    stacks = python_stacks() if with_stacks and stragglers else {}
    return [
        {
            "tid": straggler.tid,
            "name": names[straggler.tid],
            "reason": straggler.reason,
            "where": symbols.name(straggler.where) if straggler.where else "",
            "since": since[straggler.tid],
            "native": [symbols.name(address) for address in straggler.frames] if with_stacks and i < SHOWN else [],
            "python": stacks.get(straggler.tid, []) if i < SHOWN else [],
        }
        for i, straggler in enumerate(stragglers)
    ]


def greenlets_entry(since: float) -> dict[str, Any]:
    """The entry that stands for all suspended greenlets."""
    about = {"tid": 0, "name": "greenlets in use", "reason": GREENLETS, "where": "", "since": since}
    return {**about, "native": [], "python": []}


def brief(entry: dict[str, Any]) -> str:
    """One straggler in one phrase: who, why, for how long."""
    what: str = _SAYINGS.get(entry["reason"], str(entry["reason"])).format(where=entry["where"] or "old code")
    if entry["reason"] == GREENLETS:
        return what
    return f"{entry['name']} (thread {entry['tid']}) {what}, for {max(0.0, time.time() - entry['since']):.1f} s"


def thread_names(tids: Iterable[int]) -> dict[int, str]:
    """What the program calls its threads; where it does not, what the kernel does."""
    known = {thread.native_id: thread.name for thread in threading.enumerate()}
    return {tid: known.get(tid) or _comm(tid) for tid in tids}


def python_stacks() -> dict[int, list[str]]:
    """By thread its Python frames, innermost first, each as ``file:line in function``.

    Threads that were not made by ``threading`` have no number that the kernel knows them by, and are left out.
    """
    tids = {thread.ident: thread.native_id for thread in threading.enumerate()}
    frames = sys._current_frames()  # noqa: SLF001 - there is no other way
    return {tid: _walk(frame) for ident, frame in frames.items() if (tid := tids.get(ident)) is not None}


def _walk(frame: FrameType | None) -> list[str]:
    stack: list[str] = []
    while frame is not None and len(stack) < SHOWN:
        code = frame.f_code
        stack.append(f"{code.co_filename}:{frame.f_lineno} in {code.co_name}")
        frame = frame.f_back
    return stack


def are_greenlets_in_use() -> bool:
    """Whether this program switches greenlets; a version of greenlet that cannot tell counts as in use."""
    native = sys.modules.get("greenlet._greenlet")
    if native is None:
        return "greenlet" in sys.modules
    count = getattr(native, "get_total_main_greenlets", None)
    return count is None or bool(count() > 0)


def _comm(tid: int) -> str:
    try:
        with open(f"/proc/self/task/{tid}/comm", "rb") as file:
            return file.read().rstrip(b"\n").decode("utf-8", "backslashreplace")
    except OSError:
        return "ended"


@functools.lru_cache(maxsize=1)
def _loader() -> Callable[[int], tuple[str, int, str, int]]:
    """Asks the dynamic loader about an address: file, where it begins, symbol, where that begins."""
    import ctypes

    class DlInfo(ctypes.Structure):
        _fields_ = (
            ("path", ctypes.c_char_p),
            ("base", ctypes.c_void_p),
            ("symbol", ctypes.c_char_p),
            ("start", ctypes.c_void_p),
        )

    dladdr = ctypes.CDLL(None).dladdr

    def ask(address: int) -> tuple[str, int, str, int]:
        info = DlInfo()
        if not dladdr(ctypes.c_void_p(address), ctypes.byref(info)):
            return "", 0, "", 0
        path, symbol = ((raw or b"").decode("utf-8", "backslashreplace") for raw in (info.path, info.symbol))
        return path, info.base or 0, symbol, info.start or 0

    return ask


def _dladdr(address: int) -> str:
    path, base, symbol, start = _loader()(address)
    library = path.rpartition("/")[2]
    if symbol:
        return f"{symbol}+{address - start:#x} [{library}]"
    return f"{library}+{address - base:#x}" if library else f"{address:#x}"
