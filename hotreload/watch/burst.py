"""When a burst of saves has come to rest, so that it is built once.

::

    save save    save                      quiet window over
    ──┴───┴───────┴────────────────────────────┴──▶ time
                  └── quiet (10 ms, see below) ─┘└ due

A file that was closed or renamed into place is whole, so a short window is enough. A file that was only *created*
is either moved in from elsewhere (whole) or about to be written (not): it waits longer, until its ``closed`` comes.
After each build that had to be thrown away the window doubles, up to a limit: whoever saves faster than the compiler
reads is waited for instead of raced.
"""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["Burst"]

_CREATED_QUIET = 0.05
_LONGEST_QUIET = 0.32


@dataclass
class Burst:
    """The saves of one module's files that no build has taken yet. Times are seconds of one monotonic clock."""

    quiet: float
    paths: set[str] = field(default_factory=set)
    last: float = 0.0
    _unfinished: set[str] = field(default_factory=set)
    _window: float = 0.0

    def add(self, path: str, now: float, *, whole: bool = True) -> None:
        """Notes a save of ``path``; ``whole`` is whether its writer is known to be done."""
        self.paths.add(path)
        self.last = now
        if whole:
            self._unfinished.discard(path)
        else:
            self._unfinished.add(path)

    @property
    def due(self) -> float | None:
        """When the burst may be built; ``None`` when nothing was saved."""
        if not self.paths:
            return None
        window = max(self.quiet, self._window)
        return self.last + (max(window, _CREATED_QUIET) if self._unfinished else window)

    def take(self) -> set[str]:
        """The saved paths, for a build that starts now."""
        paths, self.paths = self.paths, set()
        self._unfinished.clear()
        return paths

    def back_off(self) -> None:
        """A build was thrown away: wait longer before the next."""
        self._window = min(2 * max(self.quiet, self._window), _LONGEST_QUIET)

    def relax(self) -> None:
        """A build was good: the window is short again."""
        self._window = 0.0
