"""What the page shows: modules, processes, the time line, and who is still on the way.

::

    reload loop ──▶ module_found, module_changed, processes_changed, reload_finished, stragglers_seen
                        │
                        ├──▶ records, the newest so many of each
                        └──▶ feed: each record that is new or another, whole; a browser replaces what it has

One thread writes (the loop's) and many read (one for each browser): a lock is held for as long as plain data is moved
and a text encoded, never while anything is waited for.
"""

from __future__ import annotations

import json
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hotreload.errors import HotReloadError, IncompatibleError
from hotreload.log import without_colours
from hotreload.page.difference import compare
from hotreload.page.feed import Event, Feed, Reader
from hotreload.page.texts import Texts, Version

__all__ = ["Book"]

_ENTRIES = 200
_PROCESSES = 200
_NAMES = 200
_TEXT = 16 * 1024
_WORDS = 1024
_STAGES = ("build", "diff", "link", "stage", "commit", "total")
_NUMBERS = ("generation", "processes", "refused_by", "unanswered", "busy", "discarded", "distance_bytes")
_LISTS = ("functions", "compiler_changed", "edited", "added", "removed", "notes", "stragglers")
_SHORT_TEXTS = ("module", "outcome", "trigger", "consistency", "reason", "hint")
_TAKEN = frozenset({"live", "base"})


@dataclass
class _Module:
    """One base. ``version`` is what its files said when what is live was made; ``None``: as when it was built.

    ``changed`` has the functions that are others than the base's, and the entry since which they are.
    """

    shown: dict[str, Any]
    base_texts: Callable[[], Mapping[Path, str]]
    base: Version | None = None
    version: Version | None = None
    by_digest: dict[str, Version] = field(default_factory=dict)
    changed: dict[str, int] = field(default_factory=dict)


@dataclass
class _Entry:
    """One row of the time line, and what the files said before and then; ``None`` is the base."""

    shown: dict[str, Any]
    before: Version | None
    after: Version | None


class Book:
    """An audience of the reload loop, and what browsers read.

    Args:
        program: what was started.
        clock: seconds since 1970, for people.
    """

    def __init__(self, program: str, *, clock: Callable[[], float] = time.time) -> None:
        self._program = program
        self._clock = clock
        self._lock = threading.RLock()
        self._modules: dict[str, _Module] = {}
        self._entries: deque[_Entry] = deque(maxlen=_ENTRIES)
        self._number = 0
        self._pids: list[int] = []
        self._stragglers: dict[int, list[str]] = {}
        self._texts = Texts(self._versions)
        self.feed = Feed()
        self.live_feed = Feed()

    # Written by the loop -------------------------------------------------------------------------------------------

    @property
    def is_watched(self) -> bool:
        """Whether anybody has the page open."""
        return self.feed.readers > 0

    def module_found(self, key: str, module: str, base_texts: Callable[[], Mapping[Path, str]]) -> None:
        """A hot module is taken on; ``base_texts`` is asked when a diff is, and may raise a HotReloadError."""
        with self._lock:
            shown = {"key": key, "module": module, "state": "idle", "wanted": "", "kept": [], "files": [],
                     "holders": [], "functions": []}  # fmt: skip
            self._modules[key] = _Module(shown, base_texts)
            self._publish("module", shown)

    def module_changed(
        self,
        key: str,
        *,
        state: str,
        wanted: str,
        kept: Iterable[str],
        files: Iterable[str],
        holders: Iterable[tuple[int, str, str | None]],
    ) -> None:
        """How a module stands; told again and again, shown when it is another."""
        with self._lock:
            module = self._modules[key]
            holding = [{"pid": pid, "path": path, "live": live} for pid, path, live in holders][:_PROCESSES]
            news = {"state": state, "wanted": wanted, "kept": list(kept), "files": list(files)[:_NAMES],
                    "holders": holding, "functions": self._functions_of(module)}  # fmt: skip
            if any(module.shown[name] != value for name, value in news.items()):
                module.shown.update(news)
                self._publish("module", module.shown)

    def processes_changed(self, pids: Iterable[int]) -> None:
        """Which processes are connected."""
        with self._lock:
            found = sorted(pids)[:_PROCESSES]
            if found != self._pids:
                self._pids = found
                self._publish("processes", {"pids": found})

    def reload_finished(
        self,
        key: str,
        line: Mapping[str, Any],
        *,
        digest: str,
        texts: Mapping[Path, str],
        error: Exception | None,
        answers: Iterable[Mapping[str, Any]] = (),
    ) -> None:
        """A reload has ended, somehow.

        Args:
            key: the module.
            line: what the log says of it.
            digest: what was to be live; empty for the base.
            texts: what the files said; empty when an earlier state was gone to.
            error: why nothing could be delivered, if so.
            answers: what each process said.
        """
        with self._lock:
            module = self._modules[key]
            outcome = line["outcome"]
            after = self._texts.keep({str(path): text for path, text in texts.items()}) if texts else None
            if line["trigger"] == "page":
                after = module.by_digest.get(digest) if digest else None
            self._number += 1
            shown = {"number": self._number, "key": key, "when": self._clock(), "digest": digest, **_plain(line, error)}
            shown["answers"] = [dict(answer) for answer in answers][:_PROCESSES]
            entry = _Entry(shown, module.version, after)
            self._entries.append(entry)
            if outcome in _TAKEN:
                self._follow(module, line)
            if outcome in _TAKEN or outcome == "nothing":
                module.version = after
                if after is not None and digest:
                    module.by_digest.pop(digest, None)
                    module.by_digest[digest] = after
                    for oldest in list(module.by_digest)[:-_ENTRIES]:
                        del module.by_digest[oldest]
            self._publish("entry", shown)
        told = {name: line.get(name) for name in ("outcome", "module", "generation")}
        self.live_feed.publish("reload", json.dumps(told))

    def stragglers_seen(self, pid: int, stragglers: Iterable[str]) -> None:
        """Which threads of a process have not come over yet; none when all have."""
        with self._lock:
            found = list(stragglers)
            if found != self._stragglers.get(pid, []):
                self._stragglers[pid] = found
                if not found:
                    del self._stragglers[pid]
                self._publish("stragglers", {"pid": pid, "stragglers": found})

    def _follow(self, module: _Module, line: Mapping[str, Any]) -> None:
        """Since which row each function is another than the base's."""
        names = [name for kind in ("edited", "functions", "compiler_changed", "added") for name in line[kind]]
        names = names if line["outcome"] == "live" else []
        module.changed = {name: module.changed.get(name, self._number) for name in dict.fromkeys(names)}

    def _functions_of(self, module: _Module) -> list[dict[str, Any]]:
        return [{"name": name, "since": since} for name, since in list(module.changed.items())[:_NAMES]]

    def _publish(self, kind: str, data: Mapping[str, Any]) -> None:
        self.feed.publish(kind, json.dumps(data))

    def _versions(self) -> Iterable[Version]:
        for module in self._modules.values():
            yield from (version for version in (module.version, module.base) if version is not None)
        for entry in reversed(self._entries):
            yield from (version for version in (entry.after, entry.before) if version is not None)

    # Read by browsers ----------------------------------------------------------------------------------------------

    def attend(self, last_seen: int | None) -> Reader | None:
        """A reader of the feed that has missed nothing: from where it was, or with everything there is first."""
        with self._lock:
            missed = None if last_seen is None else self.feed.missed_since(last_seen)
            if missed is None:
                missed = [Event(self.feed.newest, "snapshot", json.dumps(self.snapshot()), 0.0)]
            return self.feed.join(missed)

    def snapshot(self) -> dict[str, Any]:
        """Everything that is shown, but for the diffs."""
        with self._lock:
            return {
                "program": self._program,
                "modules": [module.shown for module in self._modules.values()],
                "processes": list(self._pids),
                "entries": [entry.shown for entry in self._entries],
                "stragglers": [{"pid": pid, "stragglers": found} for pid, found in self._stragglers.items()],
            }

    def differences(self, number: int) -> dict[str, Any] | None:
        """What one row changed in the sources: since the row before it and since the base; ``None``: no such row."""
        with self._lock:
            entry = next((entry for entry in self._entries if entry.shown["number"] == number), None)
            if entry is None:
                return None
            module = self._modules[entry.shown["key"]]
        # Neither the store nor the comparison may keep the loop from writing.
        try:
            texts = {} if module.base else module.base_texts()
        except HotReloadError as error:
            return {"reason": error.message, "hint": error.hint}
        with self._lock:
            if module.base is None:
                module.base = self._texts.keep({str(path): text for path, text in texts.items()})
            base = module.base
            after = self._texts.read(base if entry.after is None else entry.after)
            before = self._texts.read(base if entry.before is None else entry.before)
            original = self._texts.read(base)
        # A file that is read no more is no difference; one that is read for the first time is.
        return {
            "number": number,
            "previous": compare({path: text for path, text in before.items() if path in after}, after),
            "base": compare({path: text for path, text in original.items() if path in after}, after),
        }


def _plain(line: Mapping[str, Any], error: Exception | None) -> dict[str, Any]:
    """The fields of the canonical line that are shown, none of them longer than a person reads."""
    shown: dict[str, Any] = {name: str(line.get(name) or "")[:_TEXT] for name in _SHORT_TEXTS}
    shown.update({name: line.get(name) for name in _NUMBERS})
    shown.update({name: [str(one)[:_WORDS] for one in list(line.get(name) or ())[:_NAMES]] for name in _LISTS})
    shown.update({name: without_colours(str(line.get(name) or ""))[:_TEXT] for name in ("diagnostics", "warnings")})
    shown["stages"] = {name: line.get(f"{name}_ms") for name in _STAGES}
    found = error.findings if isinstance(error, IncompatibleError) else ()
    shown["findings"] = [finding._asdict() for finding in found[:_NAMES]]
    if found:
        shown["diagnostics"] = ""  # the same findings, as text
    return shown
