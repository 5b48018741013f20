"""Decides: which save becomes a build, which build becomes a patch, which patch goes to whom.

It runs on one thread and waits for nothing: builds are done by a worker that calls back, replies come as messages,
and :meth:`ReloadLoop.tick` says when it wants to be called next. So a test can drive it with a fake of everything.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from hotreload import events
from hotreload.build import store
from hotreload.build.looks import look_at
from hotreload.config import Config
from hotreload.errors import BuildError, HotReloadError
from hotreload.log import Log
from hotreload.watch import report
from hotreload.watch.bench import Attempt, Bench, Holder, Made, State, drop_file, make
from hotreload.watch.burst import Burst
from hotreload.watch.courier import Courier, Delivery
from hotreload.watch.hints import Hints
from hotreload.watch.report import Outcome
from hotreload.watch.seams import Audience, Opener, Peer, Watcher, Worker, Workshop
from hotreload.wire import Message

__all__ = ["ReloadLoop"]

Library = Sequence[str]
# One that is over sooner has been told with the save.
_NOTICED = 0.25
# How often a process whose threads are on their way is asked for them, while somebody watches.
_ASK_INTERVAL = 1.0
# After it a person who waits is told what for.
_NOTICEABLE = 0.5
_TOLD_OF_TRANSITIONS = ("module", "direction", "duration", "reason", "stragglers", "appeared")


class ReloadLoop:
    """The state of one helper process.

    Args:
        opener: which build-ids are hot, and their workshops.
        watcher: is told the whole set of files to watch whenever it changes.
        worker: runs slow jobs elsewhere and calls back on this thread.
        log: where the lines go.
        config: quiet window and the like.
        clock: monotonic seconds.
        program: what was started, for the hint.
        audience: is shown everything; nobody, unless there is a page.
        tells_slow_builds: whether a build that takes long is told before it is over, for a person who waits.
    """

    def __init__(
        self,
        *,
        opener: Opener,
        watcher: Watcher,
        worker: Worker,
        log: Log,
        config: Config,
        clock: Callable[[], float],
        program: str = "the program",
        audience: Audience | None = None,
        tells_slow_builds: bool = False,
    ) -> None:
        self._opener = opener
        self._watcher = watcher
        self._worker = worker
        self._log = log
        self._config = config
        self._files = _directory_of(config.files)
        self._clock = clock
        self._hints = Hints(program, opener, worker, log)
        self._peers: dict[Peer, Mapping[str, str]] = {}
        self._benches: dict[str, Bench] = {}
        self._opening: dict[str, dict[Holder, None]] = {}
        self._cold: dict[str, str] = {}
        self._python: dict[str, str] = {}
        self._left: set[str] = set()
        self._courier = Courier(clock, self._delivered, self._awoke, self._freed, config)
        self._hint_due: float | None = clock() + config.hint_after
        self._seen_processes = 0
        self._audience = audience
        self._moving: dict[Peer, float] = {}
        self._patience = _NOTICEABLE if tells_slow_builds else None

    # What happens outside ------------------------------------------------------------------------------------------

    def process_joined(
        self, peer: Peer, libraries: Iterable[Library], live: Mapping[str, str] = MappingProxyType({})
    ) -> None:
        """A process has connected and says what it has loaded, and which patches are live in it, by path."""
        self._peers[peer] = live
        self._seen_processes += 1
        self._log.debug(events.PROCESS_CONNECTED, pid=peer.pid)
        self.libraries_loaded(peer, libraries)

    def libraries_loaded(self, peer: Peer, libraries: Iterable[Library]) -> None:
        """A process has these libraries, as pairs of path and build-id; the hot ones among them are taken on."""
        for path, build_id in libraries:
            if path in self._left:
                continue
            holder, key = Holder(peer, path), self._key(path, build_id)
            if key in self._benches:
                self._add_holder(self._benches[key], holder)
            elif key in self._opening:
                self._opening[key][holder] = None
            elif key not in self._cold:
                self._consider(holder, build_id)

    def files_left(self, paths: Iterable[str]) -> None:
        """A process leaves these files to a reloader that restarts the program for them: so do all others.

        The process that watches for a reloader may have imported them before there was one to be recognised.
        """
        self._left.update(paths)
        for waiting in self._opening.values():
            for holder in [holder for holder in waiting if holder.path in self._left]:
                del waiting[holder]
        for bench in self._benches.values():
            for holder in [holder for holder in bench.holders if holder.path in self._left]:
                del bench.holders[holder]

    def process_left(self, peer: Peer) -> None:
        """A process is gone; nobody waits for its answers any more."""
        self._peers.pop(peer, None)
        self._arrived_all(peer)
        self._log.debug(events.PROCESS_DISCONNECTED, pid=peer.pid)
        for waiting in self._opening.values():
            for holder in [holder for holder in waiting if holder.peer is peer]:
                del waiting[holder]
        for bench in self._benches.values():
            for holder in [holder for holder in bench.holders if holder.peer is peer]:
                del bench.holders[holder]
        self._courier.process_left(peer)

    def replied(self, peer: Peer, reply: Message) -> None:
        """A process says what became of a patch."""
        if reply.get("stragglers"):
            self.stragglers_told(peer, reply["stragglers"])
        if not self._courier.replied(peer, reply) and not reply.get("ok"):
            self._attach_refused(peer, reply)

    def transition_ended(self, peer: Peer, told: Message) -> None:
        """The threads of a process have come over, or were taken for it."""
        event = told.get("event")
        if isinstance(event, dict) and isinstance(event.get("event"), str):
            fields = {name: event.get(name) for name in _TOLD_OF_TRANSITIONS if event.get(name) not in (None, "", [])}
            log = self._log.info if float(event.get("duration") or 0.0) > _NOTICED else self._log.debug
            if event["event"] == events.TRANSITION_FORCED:
                log = self._log.warning
            log(event["event"], pid=peer.pid, consistency=event.get("level"), **fields)
        self._arrived_all(peer)
        self._courier.transition_ended(peer)

    def stragglers_told(self, peer: Peer, stragglers: Sequence[str]) -> None:
        """A process says which of its threads have not come over yet; it is asked again while somebody watches."""
        if self._audience is None or peer not in self._peers:
            return
        if not stragglers:
            self._arrived_all(peer)
            return
        self._moving[peer] = self._clock() + _ASK_INTERVAL
        self._audience.stragglers_seen(peer.pid, stragglers)

    def _arrived_all(self, peer: Peer) -> None:
        if self._moving.pop(peer, None) is not None and self._audience is not None:
            self._audience.stragglers_seen(peer.pid, ())

    def file_saved(self, path: str, when: float, *, whole: bool = True) -> None:
        """One of the watched files was saved."""
        for bench in self._benches.values():
            if any(str(file) == path for file in bench.files):
                bench.trigger = "save"
                bench.burst.add(path, when, whole=whole)

    def tick(self) -> float | None:
        """Does what is due, and says how many seconds may pass until the next call (``None``: any number)."""
        now = self._clock()
        times: list[float] = []
        for bench in list(self._benches.values()):
            if bench.slow_at is not None:
                if bench.slow_at <= now:
                    bench.slow_at = None
                    self._tell_slow(bench)
                else:
                    times.append(bench.slow_at)
            due = bench.burst.due
            if due is None or bench.state is not State.IDLE or not bench.holders:
                continue
            if due <= now:
                if not bench.forget_read_saves():
                    self._begin(bench)
                    times += [] if bench.slow_at is None else [bench.slow_at]
            else:
                times.append(due)
        times += self._courier.give_up_waiting()
        times += self._ask_for_stragglers(now)
        if self._hint_due is not None:
            if self._hint_due <= now:
                self._hint_due = None
                self._give_hint()
            else:
                times.append(self._hint_due)
        self._show()
        return max(0.0, min(times) - now) if times else None

    def _key(self, path: str, build_id: str) -> str:
        """One bench for each base, by its build-id; a second ``.py`` of the very same text is edited by itself."""
        if not path.endswith(".py") or self._python.setdefault(build_id, path) == path:
            return build_id
        return f"{build_id} {path}"

    def go_to(self, key: str, digest: str) -> None:
        """Makes an earlier state of one base live in every process that has it, like any other patch.

        It is what a process that comes later gets too, until the next save, which goes forward again. What came of
        it is a line like a save's, with ``trigger`` page.

        Args:
            key: the base, as the audience was told of it.
            digest: which of its patches; empty for the base itself.

        Raises:
            HotReloadError: there is no such base, it is being worked on, nobody has it loaded, or the patch is not
                kept any more. Nothing was sent to any process.
        """
        bench = self._benches.get(key)
        if bench is None:
            raise HotReloadError(f"no module with build-id {key!r} is loaded", hint="load the page again")
        target = bench.target(digest)
        attempt = Attempt("page", self._clock())
        made = Made(None if target is None else target.result, None, bench.looked, (), (), 0.0)
        holders = [holder for holder, live in bench.holders.items() if live != digest]
        previous, bench.newest = bench.newest, target
        bench.is_settled = True
        if not holders:
            bench.let_go_of(previous)
            self._finish(bench, attempt, made, Outcome.NOTHING, reason=report.REASON_THERE)
            return
        bench.state = State.DELIVERING
        self._courier.deliver(bench, attempt, made, holders, previous=previous)

    # For whoever watches -------------------------------------------------------------------------------------------

    def _ask_for_stragglers(self, now: float) -> list[float]:
        """Asks the processes whose threads are on their way who is left, and says when to ask again."""
        if self._audience is None or not self._audience.is_watched:
            return []
        for peer, due in self._moving.items():
            if due <= now:
                self._moving[peer] = now + _ASK_INTERVAL
                peer.send({"cmd": "stragglers"})
        return list(self._moving.values())

    def _show(self) -> None:
        """Shows what there is; the audience knows what of it is new."""
        if self._audience is None:
            return
        self._audience.processes_changed(peer.pid for peer in self._peers)
        for key, bench in self._benches.items():
            self._audience.module_changed(
                key,
                state=bench.state.value,
                wanted=bench.wanted,
                kept=bench.kept,
                files=sorted(str(path) for path in bench.files),
                holders=[(holder.peer.pid, holder.path, live) for holder, live in bench.holders.items()],
            )

    # Finding extensions --------------------------------------------------------------------------------------------

    def _consider(self, holder: Holder, build_id: str) -> None:
        """Opens the workshop of a library that turns out to be hot; remembers those that are not."""
        key = self._key(holder.path, build_id)
        if not self._opener.knows(build_id, holder.path):
            self._cold[key] = holder.path
            return
        self._opening[key] = {holder: None}

        def job() -> Any:
            try:
                return self._opener.open(build_id, holder.path)
            except Exception as error:  # noqa: BLE001 - an extension that cannot be opened is named and left alone
                return error

        self._worker.submit(job, lambda opened: self._opened(key, build_id, opened))

    def _opened(self, key: str, build_id: str, opened: Any) -> None:
        waiting = self._opening.pop(key)
        if isinstance(opened, Exception):
            self._cold[key] = ""
            path = next((holder.path for holder in waiting), "")
            self._log.warning(events.EXTENSION_REFUSED, path=path, build_id=build_id, **report.explain(opened))
            return
        workshop: Workshop = opened
        bench = Bench(workshop, Burst(self._config.quiet_ms / 1000), key)
        self._benches[key] = bench
        self._watch_files_of(bench)
        self._log.info(events.EXTENSION_FOUND, module=workshop.module, files=len(bench.files), build_id=build_id)
        if self._audience is not None:
            self._audience.module_found(key, workshop.module, workshop.base_texts)
        for holder in waiting:
            self._add_holder(bench, holder)
        # What was edited before the program started goes live at once: the first build says whether there is any.
        now = self._clock()
        bench.burst.add("", now - self._config.quiet_ms / 1000)

    def _add_holder(self, bench: Bench, holder: Holder) -> None:
        """A process has this base: it gets ready for patches, and takes the newest one if there is one."""
        if holder in bench.holders:
            return
        peer, path = holder
        bench.holders[holder] = self._peers.get(peer, {}).get(path, "")
        message = {"cmd": "attach", "path": path, "build_id": bench.workshop.build_id}
        peer.send({**message, "limits": {**self._config.limits, "files": self._files}})
        self._bring_up(bench, holder)

    def _bring_up(self, bench: Bench, holder: Holder) -> None:
        """Sends what should be live to a copy in which something else is."""
        if bench.is_settled and bench.holders[holder] not in (bench.wanted, None):
            result = None if bench.newest is None else bench.newest.result
            made = Made(result, None, bench.looked, (), (), 0.0)
            self._courier.deliver(bench, Attempt("process", self._clock()), made, [holder], is_late=True)

    def _attach_refused(self, peer: Peer, reply: Message) -> None:
        error = reply.get("error") or {}
        self._log.warning(
            events.EXTENSION_REFUSED,
            pid=peer.pid,
            path=reply.get("path", ""),
            reason=error.get("message", ""),
            hint=error.get("hint", ""),
        )
        for bench in self._benches.values():
            bench.holders.pop(Holder(peer, str(reply.get("path"))), None)

    def _watch_files_of(self, bench: Bench) -> None:
        """Watches the files of the newest compile; a file that changed before it was watched counts as saved."""
        bench.files = frozenset(bench.workshop.watched_files())
        self._watcher.watch(set().union(*(each.files for each in self._benches.values())))
        for path in bench.files:
            if path in bench.looked and look_at(path) != bench.looked[path]:
                bench.burst.add(str(path), self._clock(), whole=False)

    # Save → build → patch ------------------------------------------------------------------------------------------

    def _begin(self, bench: Bench) -> None:
        attempt = bench.begin()
        with_texts = self._audience is not None
        bench.slow_at = None if self._patience is None else self._clock() + self._patience
        job = functools.partial(make, bench.workshop, bench.files, bench.looked, with_texts=with_texts)
        self._worker.submit(job, lambda made: self._made(bench, attempt, made))

    def _made(self, bench: Bench, attempt: Attempt, made: Made) -> None:
        now = self._clock()
        bench.slow_at = None
        if made.changed or (made.disturbed and not attempt.discarded):
            bench.discard(made, now)
            files = [str(path) for path in made.disturbed]
            self._log.debug(events.BUILD_DISCARDED, module=bench.workshop.module, files=files)
            return
        if bench.accept(made):
            attempt = replace(attempt, trigger="save")
        self._watch_files_of(bench)
        bench.state = State.IDLE
        if made.error is not None:
            failed = isinstance(made.error, BuildError) or not isinstance(made.error, HotReloadError)
            outcome = Outcome.BUILD_FAILED if failed else Outcome.REFUSED
            self._finish(bench, attempt, made, outcome, **report.explain(made.error))
            return
        self._settle(bench, attempt, made)

    def _tell_slow(self, bench: Bench) -> None:
        """One line, since the program writes to the same terminal: a line that moves would be in its way."""
        told = getattr(bench.workshop, "compiling", "")
        self._log.info(events.BUILD_PROLONGED, module=bench.workshop.module, compiling=told)

    def _settle(self, bench: Bench, attempt: Attempt, made: Made) -> None:
        """A good build says what should be live; every process in which something else is live is told."""
        result = made.result
        assert result is not None
        digest = "" if result.kind == "base" else result.digest
        is_news = not bench.is_settled or digest != bench.wanted
        bench.is_settled = True
        holders = [holder for holder, live in bench.holders.items() if live != digest]
        previous = bench.newest
        if is_news:
            try:
                bench.newest = bench.take_in(result) if digest else None
            except OSError as error:
                self._finish(bench, attempt, made, Outcome.REFUSED, reason=f"the patch file cannot be read: {error}")
                return
        else:
            drop_file(result)
        if holders:
            bench.state = State.DELIVERING
            self._courier.deliver(bench, attempt, made, holders, previous=previous)
            return
        bench.keep()
        bench.let_go_of(previous)
        if attempt.trigger == "save":
            reason = report.why_nothing(result, is_base=not digest)
            if not bench.holders:
                reason = report.REASON_NOBODY
            self._finish(bench, attempt, made, Outcome.NOTHING, reason=reason)

    def _delivered(self, delivery: Delivery) -> None:
        """Every process has answered, is gone, or is not waited for any more: settles what is live."""
        bench = delivery.bench
        if delivery.is_late:
            self._tell_late(delivery)
            return
        bench.state = State.IDLE
        if delivery.refused and not delivery.accepted and not delivery.held:
            bench.replace_newest(delivery.previous)
        else:
            bench.keep()
            bench.let_go_of(delivery.previous)
        outcome, more = report.conclude(delivery)
        self._finish(bench, delivery.attempt, delivery.made, outcome, delivery=delivery, **more)

    def _awoke(self, delivery: Delivery, holder: Holder, reply: Message) -> None:
        """A process that was given up has answered after all; it may need to be brought to what is wanted by now."""
        delivery.replies = [reply]
        self._tell_late(delivery, pid=holder.peer.pid)
        if reply.get("ok") and holder in delivery.bench.holders:
            self._bring_up(delivery.bench, holder)

    def _freed(self, delivery: Delivery, holder: Holder) -> None:
        """A process that was too busy for a save until nobody waited any more is brought to what is wanted by now."""
        if holder in delivery.bench.holders:
            self._bring_up(delivery.bench, holder)

    def _tell_late(self, delivery: Delivery, **fields: Any) -> None:
        """A process that came later, or answers later, is no save: it gets a line of its own kind."""
        fields["module"] = delivery.bench.workshop.module
        for reply in delivery.accepted:
            measured = {name: reply.get(name) for name in ("generation", "stage_ms", "commit_ms")}
            self._log.info(events.PATCH_DELIVERED, **fields, **measured)
        if delivery.refused:
            self._log.warning(events.PATCH_REFUSED, **fields, **report.explain_refusal(delivery.refused[0]))

    def _finish(
        self,
        bench: Bench,
        attempt: Attempt,
        made: Made,
        outcome: str,
        *,
        delivery: Delivery | None = None,
        **more: Any,
    ) -> None:
        """Writes the canonical line, and tells every process, so that a server can show it."""
        accepted = () if delivery is None else delivery.accepted
        line = report.describe(bench, attempt, made, outcome, finished=self._clock(), accepted=accepted, **more)
        getattr(self._log, report.level_of(outcome))(events.RELOAD_FINISHED, **line)
        event = {"event": events.RELOAD_FINISHED, **line}
        for peer in list(self._peers):
            peer.send({"cmd": "event", "event": event})
        if self._audience is not None:
            self._audience.reload_finished(
                bench.key,
                line,
                digest=bench.wanted if delivery is None else delivery.digest,
                texts=made.texts,
                error=made.error,
                answers=() if delivery is None else report.answers_of(delivery),
            )

    def _give_hint(self) -> None:
        """Says once what is missing when there is nothing to reload."""
        if not self._seen_processes:
            self._hints.miss_program()
        elif self._peers:
            is_alone = not self._benches and not self._opening
            self._hints.miss_extension([path for path in self._cold.values() if path], is_alone=is_alone)


def _directory_of(files: str) -> str:
    """Where generations have files; a relative path is meant where `hotreload run` was typed."""
    if files == "off":
        return files
    return os.path.abspath(os.path.expanduser(files) if files else os.path.join(store.root(), "generations"))
