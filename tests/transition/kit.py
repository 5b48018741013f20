"""What the tests of transitions share: a base and a patch of it, what lies between them, and threads written in C."""

from __future__ import annotations

import ctypes
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from elftools.elf.elffile import ELFFile

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "live")]

import tiny  # noqa: E402

from hotreload.live.core import NativeCore, Progress, Site, Span, Straggler, Switch, Transition  # noqa: E402

#: As hot builds are compiled: a function that is being executed has an address on the stack.
FLAGS = ("-fno-optimize-sibling-calls", "-O2")

Function = ctypes.CFUNCTYPE(ctypes.c_long)

#: b says 99 when it is called by the a of the other generation.
PAIR = """
extern volatile long spins;
HOOK long b(long caller) { return caller == %(g)d ? %(g)d : 99; }
HOOK long a(void) { for (volatile long i = 0; i < spins; i++) ; long answer = b(%(g)d); return answer; }
"""


def folder() -> Path:
    return Path(tempfile.mkdtemp(prefix="transition-"))


@dataclass
class Pair:
    """Two generations of some functions of one base, and whether the newer one is live."""

    core: NativeCore
    base: tiny.TinyBase
    opened: object
    names: Sequence[str]
    sites: dict[str, Site]
    old: dict[str, Span]
    new: dict[str, int]
    image: Span
    is_new: bool = False
    closed: list[Transition] = field(default_factory=list)

    def open(self, *, per_request: bool = False, extra: Sequence[Span] = ()) -> Transition:
        """The way to the generation that is not live."""
        switches = [
            Switch(self.sites[n], self.new[n], 0) if self.is_new else Switch(self.sites[n], 0, self.new[n])
            for n in self.names
        ]
        old, new = [*self.old.values(), *extra], [self.image, *extra]
        before, after = (new, old) if self.is_new else (old, new)
        return self.core.open_transition(self.opened, switches, before, after, per_request=per_request)

    def begin(self, *, per_request: bool = False) -> Transition:
        transition = self.open(per_request=per_request)
        self.core.begin(transition)
        return transition

    def end(self, transition: Transition, *, is_reversed: bool = False) -> None:
        """Finishes and closes; what was closed before is proven unused by this one, and is unmapped.

        Not by one that went back: who had not moved was where it should be, and nobody looked at it.
        """
        self.core.finish(transition)
        self.core.close_transition(transition)
        if not is_reversed:
            for earlier in self.closed:
                self.core.discard_stubs(earlier)
            self.closed.clear()
            self.is_new = not self.is_new
        self.closed.append(transition)

    def settle(self, transition: Transition, seconds: float = 60) -> None:
        assert self.core.wait(transition, seconds), self.core.progress(transition)

    def move(self, *, per_request: bool = False) -> None:
        """There, all of it."""
        transition = self.begin(per_request=per_request)
        self.settle(transition)
        self.end(transition)

    def commit(self) -> None:
        """The same without a transition: one entry after the other."""
        self.core.commit([(self.sites[n], 0 if self.is_new else self.new[n]) for n in self.names])
        self.is_new = not self.is_new

    def entry_bytes(self) -> list[bytes]:
        return [ctypes.string_at(self.base.address(n), 8) for n in self.names]


def sizes(path: Path) -> dict[str, int]:
    with path.open("rb") as file:
        table = ELFFile(file).get_section_by_name(".symtab")
        return {s.name: s["st_size"] for s in table.iter_symbols()}


def make_pair(old: str, new: str, names: Sequence[str], *flags: str, ours: str = "", **options: object) -> Pair:
    """Compiles and loads a base, stages a patch. ``ours`` goes into the base only."""
    where = folder()
    base = tiny.make_base(where, ours + old, *FLAGS, *flags, **options)
    patch = tiny.make_patch(where, base, new, *FLAGS, *flags, replaces=tuple(names), **options)
    core = NativeCore()
    opened = core.open_base(str(base.path))
    core.reserve(opened, 16 << 20)
    image = core.stage(core.open_patch(patch.to_bytes()), opened, [], "hotreload:pair.1")
    sites = dict(zip(names, core.open_sites([base.address(n) for n in names])))
    lengths = sizes(base.path)
    return Pair(
        core,
        base,
        opened,
        names,
        sites,
        {n: Span(base.address(n), base.address(n) + lengths[n]) for n in names},
        {n: image.address + patch.symbols[n] for n in names},
        Span(image.address, image.address + image.length),
    )


def answers_pair(spins: int = 0) -> Pair:
    """The pair a, b."""
    return make_pair(PAIR % {"g": 1}, PAIR % {"g": 2}, ("a", "b"), ours=f"volatile long spins = {spins};")


def load_workers() -> ctypes.CDLL:
    library = folder() / "workers.so"
    tiny.run("gcc", "-shared", "-fPIC", "-O1", "-pthread", "-Wall", HERE / "workers.c", "-o", library)
    workers = ctypes.CDLL(str(library))
    for name in ("worker_start", "once_start"):
        getattr(workers, name).restype = ctypes.c_void_p
        getattr(workers, name).argtypes = [ctypes.c_void_p]
    for name in ("worker_tid", "worker_calls", "worker_answers", "worker_tell", "worker_stop"):
        getattr(workers, name).argtypes = [ctypes.c_void_p]
    for name in ("once_tid", "once_go", "once_is_done", "once_answer", "once_stop"):
        getattr(workers, name).argtypes = [ctypes.c_void_p]
    workers.worker_answers.argtypes = [ctypes.c_void_p, ctypes.c_int]
    workers.worker_answers.restype = workers.worker_calls.restype = ctypes.c_uint64
    workers.storm_answers.restype = ctypes.c_uint64
    workers.storm_start.argtypes = [ctypes.c_void_p, ctypes.c_int]
    workers.once_answer.restype = ctypes.c_long
    for name in ("call_on_signal_stack", "call_in_coroutine"):
        getattr(workers, name).restype = ctypes.c_long
        getattr(workers, name).argtypes = [ctypes.c_void_p]
    workers.coroutine_start.argtypes = [ctypes.c_void_p, ctypes.c_int]
    workers.coroutine_go.argtypes = [ctypes.c_void_p]
    workers.coroutine_end.restype = ctypes.c_long
    workers.churn.restype = ctypes.c_long
    workers.churn.argtypes = [ctypes.c_void_p, ctypes.c_long, ctypes.c_long]
    workers.time_calls.restype = ctypes.c_double
    workers.time_calls.argtypes = [ctypes.c_void_p, ctypes.c_long]
    return workers


class Threads:
    """Workers that call one function without pause."""

    def __init__(self, library: ctypes.CDLL, address: int, count: int) -> None:
        self.library = library
        self.workers = [library.worker_start(address) for _ in range(count)]

    def __enter__(self):
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self.workers:
            self.library.worker_tell(worker)
        for worker in self.workers:
            self.library.worker_stop(worker)

    def count(self, answer: int) -> int:
        return sum(self.library.worker_answers(worker, answer) for worker in self.workers)

    @property
    def calls(self) -> int:
        return sum(self.library.worker_calls(worker) for worker in self.workers)


def straggler(progress: Progress, tid: int) -> Straggler:
    return next(s for s in progress.stragglers if s.tid == tid)
