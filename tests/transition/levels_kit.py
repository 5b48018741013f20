"""A manager over a core whose threads move when the test says so, and short ways to say things.

Staging and redirecting are real; what is made up is only who has moved. Entries lead to the goal from the start.
"""

from __future__ import annotations

import ctypes
import sys
import threading
from pathlib import Path
from typing import Any, Optional

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "live"))

import tiny  # noqa: E402

from hotreload.errors import StageError  # noqa: E402
from hotreload.live import Manager  # noqa: E402
from hotreload.live.core import CommitReport, NativeCore, Progress, Span, Straggler, Transition  # noqa: E402

BASE = """
HOOK long alpha(void) { return 1; }
HOOK long beta(void) { return 10; }
HOOK long gamma(void) { return 100; }
"""
REPORT = CommitReport(True, 1, 1e-6)


class FakeTransitions(NativeCore):
    """The native core, with a transition whose threads settle when :attr:`settled` is set."""

    def __init__(self) -> None:
        super().__init__()
        self.settled = threading.Event()
        self.stragglers: tuple[Straggler, ...] = ()
        self.opened: list[dict[str, Any]] = []
        self.open: Optional[dict[str, Any]] = None
        self.discarded: list[int] = []
        self.begin_failure: Optional[Exception] = None
        self.finish_failure: Optional[Exception] = None

    def open_transition(self, base, switches, before, after, *, per_request):
        if self.open is not None:
            raise StageError("another is open", hint="", status="BUSY")
        number = len(self.opened) + 1
        self.open = {
            "number": number,
            "switches": switches,
            "before": before,
            "after": after,
            "per_request": per_request,
            "is_forward": True,
            "is_closed": False,
        }
        self.opened.append(self.open)
        return Transition(Span(number << 12, (number + 1) << 12), self.open)

    def begin(self, transition, *, allow_unsynchronised=False):
        if self.begin_failure:
            raise self.begin_failure
        return self._lead(transition)

    def wait(self, transition, seconds, *, is_outside=False):
        assert not transition.handle["is_closed"]
        return self.settled.wait(seconds)

    def progress(self, transition):
        assert not transition.handle["is_closed"]
        left = len(self.stragglers)
        return Progress(4, 4 - left, self.settled.is_set(), self.stragglers)

    def reverse(self, transition):
        assert not transition.handle["is_closed"]
        transition.handle["is_forward"] ^= True
        self._lead(transition)

    def finish(self, transition, *, allow_unsynchronised=False):
        assert not transition.handle["is_closed"]
        if self.finish_failure:
            raise self.finish_failure
        return self._lead(transition)

    def close_transition(self, transition):
        assert not transition.handle["is_closed"]
        transition.handle["is_closed"] = True
        self.open = None

    def discard_stubs(self, transition):
        assert transition.handle["is_closed"]
        self.discarded.append(transition.handle["number"])

    def _lead(self, transition) -> CommitReport:
        side = "after" if transition.handle["is_forward"] else "before"
        moves = [(switch.site, getattr(switch, side)) for switch in transition.handle["switches"]]
        return self.commit(moves) if moves else REPORT


class Desk:
    """A manager with one attached base of three functions."""

    def __init__(self, folder: Path, core: Optional[NativeCore] = None, source: str = BASE, **options: Any) -> None:
        self.folder = folder
        self.core = core or FakeTransitions()
        self.base = tiny.make_base(folder, source)
        self.manager = Manager(self.core, reserve_bytes=1 << 20, **options)
        self.events: list[dict[str, Any]] = []
        self.manager.subscribe(self.events.append)
        self.module = self.manager.attach(str(self.base.path))

    def raw(self, *, carried: tuple[str, ...] = (), extra: str = "", **values: int) -> bytes:
        """A patch in which each named function returns that value, and nobody can keep a pointer into."""
        source = extra + "".join(f"HOOK long {name}(void) {{ return {value}; }}" for name, value in values.items())
        patch = tiny.make_patch(self.folder, self.base, source, replaces=tuple(values), carried=carried)
        return patch.but(data_escapes=False).to_bytes()

    def stage(self, **values: Any) -> Any:
        return self.manager.stage(self.module, self.raw(**values))

    def push(self, values: dict[str, int], **terms: Any) -> Any:
        return self.manager.commit(self.stage(**values), **terms)

    def call(self, name: str) -> int:
        return self.base.function(name, result=ctypes.c_long)()

    @property
    def values(self) -> tuple[int, ...]:
        return tuple(self.call(name) for name in ("alpha", "beta", "gamma"))

    def names(self) -> list[str]:
        """The events so far, without the noise of staging."""
        return [event["event"] for event in self.events if event["event"] != "generation.staged"]

    @property
    def described(self) -> dict[str, Any]:
        return self.manager.status()["modules"][0]
