"""``hotreload push``, ``rollback``, ``transition``, ``status``, ``log``, ``doctor``: operators and running servers."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any, Union

from hotreload.agent.policy import PolicySource
from hotreload.artefact import Artefact, ArtefactError, is_same_module, load, printable
from hotreload.cli.arguments import LONGEST
from hotreload.cli.progress import Progress
from hotreload.config import load_config
from hotreload.diff.verdicts import check_allowed
from hotreload.errors import BuildError, HotReloadError
from hotreload.panels import wants_panels
from hotreload.push.books import StateBooks, catch_up, name_of_operator, what_was_before
from hotreload.push.canary import Canary
from hotreload.push.changes import BaseChange, PatchChange
from hotreload.push.client import AgentClient, Finder
from hotreload.push.coordinator import Coordinator, EndedError, RefusedError, SilentError, Terms
from hotreload.push.doctor import Finding, examine_host, examine_state
from hotreload.push.listing import status_table
from hotreload.push.place import find_state
from hotreload.push.processes import family_of, look, pids_of_sockets
from hotreload.push.records import BASE, Exit, Live, Outcome, ProcessStatus
from hotreload.push.settling import Settling
from hotreload.push.table import Show, make_show
from hotreload.push.texts import Running, base_text, find_running, is_text
from hotreload.push.threads import name_of_user, name_threads, tell_taint, tell_transition
from hotreload.state import Audit, PatchStore, Quarantine, StateDirectory

__all__ = [
    "Session",
    "ask_all",
    "directory_of",
    "doctor",
    "hash_of",
    "log",
    "open_sockets",
    "push",
    "rollback",
    "status",
]

_SUFFIX = ".hotpatch"
_AT_ONCE = 32
_SHORT = 12
_DIFFERS = "differs from the others"

Change = Union[PatchChange, BaseChange]
Answers = Sequence["tuple[AgentClient, Union[ProcessStatus, dict[str, Any], Exception]]"]


# push and rollback ----------------------------------------------------------------------------------------------------


def push(options: argparse.Namespace) -> int:
    """Makes a change live in every process, or in none. Raises HotReloadError: no process was changed."""
    if options.canary < 0 or (options.health and not options.canary):
        options.usage_error("--canary must be 1 or more; --health needs it")
    with Session(options, may_revert=bool(options.canary)) as session:
        if options.canary:
            _check_trial(options, session.settling)
        artefact = session.artefact_of(options.what, options.build_id)
        if artefact is None:
            return session.carry_out("push", None, session.base_of_source(options.what, options.build_id))
        trial = None
        if options.canary:
            trial = Canary.of_command(options.canary, options.hold, options.health, session.show.say)
        change = PatchChange(artefact, allow_quarantined=options.allow_quarantined, terms=session.terms)
        return session.carry_out("push", artefact, change, trial)


def _check_trial(options: argparse.Namespace, settling: Settling) -> None:
    """A canary holds the code for all of the push: longer than a process waits is a usage error."""
    seconds = Canary(options.canary, options.hold, (options.health,) if options.health else ()).seconds
    seconds += options.deadline + (settling.seconds if settling.policy == "revert" else 0.0)
    if seconds > LONGEST:
        what = "--hold, --deadline, what --health may take and --settle"
        options.usage_error(f"{what} come to {seconds:g} seconds; a process waits at most {LONGEST:g}")


def rollback(options: argparse.Namespace) -> int:
    """Takes the last push back, or goes to an earlier state. Raises HotReloadError: no process was changed."""
    with Session(options) as session:
        live = session.module_of(options.module)
        artefact = session.target_of(live, options.to)
        return session.carry_out("rollback", artefact, session.way_back(live, artefact))


class Session:
    """One command against one application: its directory, its processes, and how it is shown."""

    def __init__(self, options: argparse.Namespace, *, may_revert: bool = False) -> None:
        config = load_config()
        check_allowed(config.allow)
        if not hasattr(options, "canary"):  # what the file says of a push is not said of the way back
            config = replace(config, settle_policy="")
        self.settling = Settling.of(
            config, level=options.level, seconds=options.settle, policy=options.settle_policy, reason=options.reason
        )
        self.terms = self.settling.as_fields(may_revert=may_revert)
        self._allow = frozenset((*config.allow, *(getattr(options, "allow", None) or ())))
        self.directory = directory_of(options)
        self.show: Show = make_show(as_json=options.json)
        self._options = options
        self._statuses: list[ProcessStatus] | None = None
        self._why_nothing = ""

    def __enter__(self) -> Session:  # noqa: PYI034 - Self is not in typing before 3.11
        for note in catch_up(self.directory):
            self.show.say(f"push {note.push} was decided and its command did not finish: finished now")
        return self

    def __exit__(self, *exc: object) -> None:
        self.show.close()

    # What is meant -------------------------------------------------------------------------------------------------

    def artefact_of(self, what: str, build_id: str) -> Artefact | None:
        """The artefact in a file, or made of a source; None when the source means what the base means."""
        if what.endswith(_SUFFIX):
            return load(what)
        if is_text(what):
            return self._artefact_of_text(what, find_running(what, build_id, self.statuses()))
        from hotreload.patch.pack import pack

        record = self._record_of(what, build_id)
        with Progress() as progress:
            packed = pack(
                what,
                build_id=record.build_id,
                allow=self._allow,
                colours=wants_panels(sys.stderr),
                progress=progress.compiling,
                unchanged=self._remember_why,
            )
        if packed is None:
            return None
        if packed.result.warnings:
            _complain(packed.result.warnings)
        return packed.artefact

    def _remember_why(self, reason: str) -> None:
        self._why_nothing = reason

    def _artefact_of_text(self, what: str, running: Running) -> Artefact | None:
        """The same for the new text of a module of Python, compared with the text that the processes have loaded."""
        from hotreload.patch.pack_text import pack_text

        base = base_text(self.directory, running)
        packed = pack_text(what, base, module=running.module, path=running.path)
        if packed.warnings:
            _complain(f"{packed.warnings}\n")
        if packed.artefact is None:
            self.show.say(f"{what}: {packed.reason}")
        elif os.path.realpath(what) == running.path:
            self.show.say(
                f"{what} is the deployed file: a process that starts later loads it as it is then, also after a "
                "rollback; push a copy with --build-id to keep the two apart"
            )
        return packed.artefact

    def base_of_source(self, what: str, build_id: str) -> BaseChange:
        """The way back to what was loaded, for a source that has its original text again."""
        if is_text(what):
            running = find_running(what, build_id, self.statuses())
            return BaseChange(running.module, running.build_id, self.terms)
        record = self._record_of(what, build_id)
        return BaseChange(record.module, record.build_id, self.terms)

    def way_back(self, live: Live, artefact: Artefact | None) -> Change:
        """The change that makes an earlier patch live again, or without one the base."""
        if artefact is None:
            return BaseChange(live.module, live.build_id, self.terms)
        return PatchChange(artefact, is_rollback=True, terms=self.terms)

    def _record_of(self, what: str, build_id: str) -> Any:
        """The base that a source went into: among several builds of it the one that runs."""
        from hotreload.patch.pack import find_base

        if build_id:
            return find_base(what, build_id)
        fitting = {}
        for running in sorted({live.build_id for status in self.statuses() for live in status.live}):
            with suppress(BuildError):
                fitting[running] = find_base(what, running)
        if len(fitting) > 1:
            raise HotReloadError(
                f"{what} is a source of {len(fitting)} builds that run: {', '.join(fitting)}", hint="use --build-id"
            )
        return next(iter(fitting.values())) if fitting else find_base(what)

    def statuses(self) -> list[ProcessStatus]:
        """What the processes that answer say; asked once."""
        if self._statuses is None:
            with self._finder() as finder:
                answers = ask_all(finder.clients(), AgentClient.status)
            self._statuses = [answer for _client, answer in answers if isinstance(answer, ProcessStatus)]
        return self._statuses

    def module_of(self, name: str) -> Live:
        """The module to roll back.

        Raises:
            HotReloadError: there is none of that name, or several could be meant.
        """
        store = PatchStore(self.directory)
        live = [live for status in self.statuses() for live in status.live]
        if name:
            named = {one.build_id: one for one in live if one.module == name}
            named = named or {one.build_id: one for one in live if _is_short_for(name, one)}
        else:
            patched = [one for one in live if one.name != BASE or store.current_name(one.build_id) != BASE]
            named = {one.build_id: one for one in patched}
            named = named or ({one.build_id: one for one in live} if len({one.build_id for one in live}) == 1 else {})
        if len(named) == 1:
            return next(iter(named.values()))
        if not named:
            there = ", ".join(sorted({printable(one.module) for one in live})) or "nothing"
            what = f"no process has loaded {printable(name)}" if name else "no module is patched"
            raise HotReloadError(what, hint=f"the processes have {there}")
        listed = ", ".join(f"{printable(one.module)} {one.build_id[:_SHORT]}" for one in named.values())
        raise HotReloadError(f"which module? {listed}", hint="name it, or the beginning of its build-id")

    def target_of(self, live: Live, to: str) -> Artefact | None:
        """What to go back to; None is the base.

        Raises:
            HotReloadError: nothing that is known here is called that, or processes call different things that.
        """
        store = PatchStore(self.directory)
        if not to:
            name = what_was_before(self.directory, live.build_id)
            return None if name == BASE else store.get(live.build_id, name)
        if to in ("0", BASE):
            return None
        if not to.isdecimal():
            raise HotReloadError(f"{to!r} is no generation", hint="a number, or base")
        kept = {int(name.split(".")[0]): name for name in store.names(live.build_id)}
        if int(to) in kept:
            return store.get(live.build_id, kept[int(to)])
        hashes = {sha for status in self.statuses() if (sha := hash_of(status, live.build_id, int(to))) is not None}
        if not hashes:
            there = ", ".join(str(sequence) for sequence in kept) or "none"
            raise HotReloadError(f"no process has a generation {to}", hint=f"patches that are kept: {there}")
        if len(hashes) == 1:
            return self.kept_by_hash(live.build_id, next(iter(hashes)))
        raise HotReloadError(
            f"generation {to} is not the same patch in every process",
            hint="name the patch by its sequence number: " + ", ".join(str(sequence) for sequence in kept),
        )

    def kept_by_hash(self, build_id: str, sha256: str) -> Artefact:
        """A patch that is kept. Raises HotReloadError: it is not kept any more, or was never pushed."""
        store = PatchStore(self.directory)
        for name in store.names(build_id):
            with suppress(ArtefactError):
                found = store.get(build_id, name)
                if found.sha256 == sha256:
                    return found
        kept = ", ".join(name.split(".")[0] for name in store.names(build_id)) or "none"
        raise HotReloadError(f"the patch {sha256[:_SHORT]} is not kept here", hint=f"patches that are kept: {kept}")

    # What is done --------------------------------------------------------------------------------------------------

    def carry_out(self, kind: str, artefact: Artefact | None, change: Change, trial: Canary | None = None) -> int:
        """The two phases, shown and written down."""
        options = self._options
        policy = PolicySource.find().read()
        audit = Audit(self.directory, policy.needs_audit)
        is_partial = self._is_partial()
        about = {
            "kind": kind,
            "module": change.module,
            "code": artefact.manifest.kind if artefact else "",
            "build_id": change.build_id,
            "hash": artefact.sha256 if artefact else "",
            "sequence": artefact.manifest.sequence if artefact else 0,
            "functions": list(artefact.functions) if artefact else [],
            "user": name_of_operator(),
            "dry_run": options.dry_run,
            "partial": is_partial,
            "level": self.settling.level,
            "policy": self.settling.policy,
            "why_forced": self.settling.reason,
        }
        audit.write({"event": "push.requested", **about})
        books = StateBooks(
            self.directory,
            artefact,
            module=change.module,
            build_id=change.build_id,
            kind=kind,
            is_partial=is_partial,
            releases=getattr(options, "allow_quarantined", False),
        )
        name = self._name_of(change)
        what = f"{name}: {', '.join(about['functions'])}" if artefact else f"{name}: back to the base"
        self.show.say(f"{kind} of {what}")
        try:
            self.show.open()
            with self._finder() as finder:
                terms = Terms(
                    deadline=options.deadline,
                    settle=self.settling.seconds,
                    policy=self.settling.policy,
                    reason=self.settling.reason,
                )
                coordinator = Coordinator(finder, books, observe=self.show.observe, terms=terms)
                outcome = coordinator.run(change, trial=trial, dry_run=options.dry_run)
                if self._why_nothing and outcome.exit is Exit.NOTHING:
                    outcome = replace(outcome, reason=f"{outcome.reason}: {self._why_nothing}")
        except BaseException as error:
            with suppress(HotReloadError):
                audit.write({"event": "push.failed", **about, "reason": f"{type(error).__name__}: {error}"})
            raise
        finally:
            self.show.close()
            change.close()
        self.show.conclude(outcome, about)
        _write_down(audit, about, outcome)
        return outcome.exit

    def _name_of(self, change: Change) -> str:
        """What the processes call the module; what the build calls it where they were not asked."""
        live = (one for status in self._statuses or () for one in status.live)
        return next((one.module for one in live if one.build_id == change.build_id), change.module)

    @contextmanager
    def _finder(self) -> Iterator[Finder]:
        with open_sockets(self.directory) as fd:
            yield Finder(fd, pids=tuple(self._options.pid), timeout=self._options.timeout)

    def _is_partial(self) -> bool:
        """Whether --pid leaves out processes of this application: then those that start later are not to have it."""
        if not self._options.pid:
            return False
        with open_sockets(self.directory) as fd:
            living = {pid for pid in pids_of_sockets(fd) if look(pid)}
        return not living <= family_of(self._options.pid)


def _write_down(audit: Audit, about: Mapping[str, Any], outcome: Outcome) -> None:
    told = outcome.as_dict()
    processes = {str(row["pid"]): row["state"] for row in told.pop("processes")}
    try:
        audit.write({"event": "push.finished", **about, **told, "processes": processes})
    except HotReloadError as error:  # what was done is done, and was requested in writing
        _complain(f"hotreload: {printable(str(error))}\n")


def _is_short_for(name: str, live: Live) -> bool:
    """Whether an operator may mean that by ``name``: the module without its packages, or how its build-id begins."""
    return live.build_id.startswith(name) or ("." not in name and is_same_module(live.module, name))


def hash_of(status: ProcessStatus, build_id: str, number: int) -> str | None:
    """Which patch a process calls generation ``number``; None when it has no such generation."""
    for module in status.raw.get("modules") or ():
        if module.get("build_id") == build_id:
            for generation in module.get("generations") or ():
                if generation.get("number") == number:
                    return str((generation.get("info") or {}).get("sha256", ""))
    return None


# status ---------------------------------------------------------------------------------------------------------------


def status(options: argparse.Namespace) -> int:
    """Shows what is live in each process. Raises HotReloadError: there is no such application."""
    directory = directory_of(options)
    with open_sockets(directory) as fd:
        clients = Finder(fd, pids=tuple(options.pid), timeout=options.timeout).clients()
        answers = ask_all(clients, AgentClient.status)
    store = PatchStore(directory)
    usual = _usual([answer for _client, answer in answers if isinstance(answer, ProcessStatus)])
    processes, rows, silent = [], [], 0
    for client, answer in answers:
        if not isinstance(answer, ProcessStatus):
            silent += 1
            processes.append({"pid": client.identity.pid, "command": client.command, "error": str(answer)})
            rows.append([str(client.identity.pid), client.command[:36], *[""] * 7, f"{answer}"])
            continue
        processes.append({"command": client.command, **answer.raw})
        rows += _status_rows(client, answer, usual)
    current = {build_id: store.current_name(build_id) for build_id in store.build_ids()}
    withheld = _withheld(directory, current)
    differ = any(_DIFFERS in row[-1] for row in rows)
    if options.json:
        told = {"state": directory.path, "current": current, "withheld": withheld, "differ": differ}
        print(json.dumps({**told, "processes": processes}, indent=2, default=str))
        return Exit.PARTLY if silent else Exit.DONE
    headings = ("pid", "process", "module", "generation", "level", "patch", "functions", "since", "by", "note")
    if rows:
        status_table(rows, headings, f"{directory.path}")
    else:
        print(f"no process has an agent in {directory.path}")
    for line in _lines_below(answers):
        print(line)
    for build_id, name in sorted(current.items()):
        print(_line_of_current(build_id, name, withheld.get(build_id, "")))
    if differ:
        print("the processes are not all the same: see the notes")
    return Exit.PARTLY if silent else Exit.DONE


def _lines_below(answers: Answers) -> Iterator[str]:
    """What does not fit into a table: threads on their way, what was forced, and old code that is kept."""
    for client, answer in answers:
        if not isinstance(answer, ProcessStatus):
            continue
        pid = client.identity.pid
        yield from _marked_lines(pid, answer.raw.get("marked") or ())
        found = answer.raw.get("transition")
        if isinstance(found, Mapping):
            yield from tell_transition(pid, found)
        for module in answer.raw.get("modules") or ():
            name = str(module.get("name", ""))
            yield from (tell_taint(pid, name, taint) for taint in module.get("taints") or ())
            yield from _lines_of_kept(pid, name, module.get("kept") or ())


def _lines_of_kept(pid: int, name: str, kept: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Old generations that stay in memory, those with one reason in one line."""
    reasons: dict[str, list[Mapping[str, Any]]] = {}
    for one in kept:
        reasons.setdefault(str(one.get("reason", "")), []).append(one)
    for reason, group in reasons.items():
        numbers = _in_ranges([int(one.get("generation", 0)) for one in group])
        memory = sum(int(one.get("bytes") or 0) for one in group) >> 10
        yield printable(f"{pid}: {name} keeps generation {numbers} ({memory:,} KiB): {reason}")


def _in_ranges(numbers: Sequence[int]) -> str:
    """Numbers in few words: 1-9, 12."""
    ranges: list[list[int]] = []
    for number in sorted(numbers):
        if ranges and number == ranges[-1][-1] + 1:
            ranges[-1][1:] = [number]
        else:
            ranges.append([number])
    return ", ".join("-".join(map(str, found)) for found in ranges)


def _withheld(directory: StateDirectory, current: Mapping[str, str]) -> dict[str, str]:
    """For each base whose current patch a process that starts does not take: why not."""
    store, quarantine = PatchStore(directory), Quarantine(directory)
    withheld = {}
    for build_id in current:
        try:
            artefact = store.current(build_id)
            why = quarantine.find(artefact.sha256, artefact.manifest.body_sha256) if artefact else None
        except HotReloadError as error:
            withheld[build_id] = f"it cannot be read: {error}"
        else:
            if why is not None:
                withheld[build_id] = f"it is in quarantine: {why}"
    return withheld


def _line_of_current(build_id: str, name: str, withheld: str) -> str:
    if withheld:
        line = f"a process that starts now has the base {build_id[:_SHORT]}: {name} is withheld, {withheld}"
        return printable(line)
    return f"a process that starts now has {name} on base {build_id[:_SHORT]}"


def _pusher(info: Mapping[str, Any]) -> str:
    """Who made a generation live: the user who pushed it, or the process itself when it started."""
    if info.get("restored"):
        return f"restored, by {info.get('author', '')}"
    uid = info.get("peer_uid")
    user = name_of_user(f"uid {uid}") if isinstance(uid, int) else ""
    author = str(info.get("author") or "")
    return f"{user}, by {author}" if user and author and author != user else user or author


def _usual(statuses: Sequence[ProcessStatus]) -> dict[str, str]:
    """For each module what most processes have live: the hash of a patch, or nothing for the base."""
    counts: dict[str, Counter[str]] = {}
    for status in statuses:
        for live in status.live:
            counts.setdefault(live.module, Counter())[f"{live.build_id}/{live.sha256}"] += 1
    return {module: counter.most_common(1)[0][0] for module, counter in counts.items()}


def _marked_lines(pid: int, marked: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """What a process has marked with ``hotpatchable``, and what of it cannot be patched there."""
    if marked:
        names = [f"{mark.get('name')}{' of ' + repr(mark['group']) if mark.get('group') else ''}" for mark in marked]
        yield printable(f"{pid}: marked: {', '.join(names)}")
    for mark in marked:
        if not mark.get("patchable", True):
            yield printable(f"{pid}: {mark.get('name')} is marked and cannot be patched: {mark.get('reason')}")


def _status_rows(client: AgentClient, status: ProcessStatus, usual: Mapping[str, str]) -> list[list[str]]:
    head = [str(client.identity.pid), client.command[:36]]
    rows = []
    for live, module in zip(status.live, status.raw.get("modules") or ()):
        generations = module.get("generations") or ()
        made: Mapping[str, Any] = next((one for one in generations if one.get("number") == live.generation), {})
        info = made.get("info") or {}
        note = []
        if usual.get(live.module) != f"{live.build_id}/{live.sha256}":
            note.append(_DIFFERS)
        if module.get("poisoned"):
            note.append("poisoned: restart it")
        if status.locked:
            note.append("locked")
        under_way = status.raw.get("prepared") or {}
        if under_way.get("build_id") == live.build_id:
            left = under_way.get("seconds_left", 0)
            note.append(f"{under_way.get('step')} for push {under_way.get('push')}, settles within {left:.1f} s")
        found = status.transition_of(live.build_id)
        if found is not None:
            note.append(name_threads(found))
        if module.get("taints"):
            note.append("tainted: see below")
        is_python = is_text(str(module.get("path", "")))
        memory = int(module.get("bytes_mapped", 0)) + int(module.get("bytes_retained", 0))
        since = module.get("since") or made.get("committed_at") or 0
        rows.append(
            [
                *head,
                f"{live.module} {live.build_id[:_SHORT]}" + (" (Python)" if is_python else ""),
                str(live.generation) if is_python else f"{live.generation} ({memory >> 10:,} KiB)",
                str(module.get("level") or "") if live.generation else "",
                live.name,
                ", ".join(module.get("functions") or ()),
                time.strftime("%m-%d %H:%M:%S", time.localtime(since)) if live.generation and since else "",
                _pusher(info),
                "; ".join(note),
            ]
        )
        head = ["", ""]
    return rows or [[*head, "nothing hot is loaded", *[""] * 7]]


# log and doctor -------------------------------------------------------------------------------------------------------


def log(options: argparse.Namespace) -> int:
    """Prints the audit trail. Raises HotReloadError: there is no such application, or it cannot be read."""
    events = list(Audit(directory_of(options)).read())
    for event in events[-options.n :] if options.n > 0 else events:
        print(json.dumps(event, sort_keys=True) if options.json else _line_of(event))
    return Exit.DONE


def _line_of(event: Mapping[str, Any]) -> str:
    rest = {
        key: value
        for key, value in event.items()
        if key not in ("time", "event", "pid", "user", "uid", "module")
        and (value not in ("", None, [], {}, 0, False) or (key in ("from", "to", "generation") and value == 0))
    }
    who = event.get("user") or name_of_user(f"uid {event.get('uid', '?')}")
    fields = " ".join(f"{key}={_short(value)}" for key, value in sorted(rest.items()))
    parts = (event.get("time", ""), f"{event.get('event', ''):<18}", who, event.get("module", ""), fields)
    return printable("  ".join(str(part) for part in parts))


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))
    is_hash = len(text) >= 40 and all(character in "0123456789abcdef" for character in text)
    return text[:_SHORT] if is_hash else text


def doctor(options: argparse.Namespace) -> int:
    """Says what this host and each process allow; it changes nothing."""
    with Progress("examining this host"):
        findings = list(examine_host())
    processes: list[dict[str, Any]] = []
    try:
        directory = directory_of(options)
    except HotReloadError as error:
        is_asked_for = bool(options.app or options.state)
        findings.append(Finding("application", "no" if is_asked_for else "note", str(error)))
    else:
        findings += examine_state(directory)
        with open_sockets(directory) as fd:
            clients = Finder(fd, pids=tuple(options.pid), timeout=options.timeout).clients()
            for client, answer in ask_all(clients, AgentClient.doctor):
                is_answer = isinstance(answer, dict) and bool(answer.get("fine", True))
                told = answer if isinstance(answer, dict) else {"error": str(answer)}
                processes.append({"command": client.command, "pid": client.identity.pid, **told})
                detail = _doctor_line(told) if isinstance(answer, dict) else str(answer)
                findings.append(Finding(f"process {client.identity.pid}", "yes" if is_answer else "no", detail))
    if options.json:
        told_findings = [finding._asdict() for finding in findings]
        print(json.dumps({"findings": told_findings, "processes": processes}, indent=2, default=str))
    else:
        status_table(findings, ("what", "good", "detail"))
    return Exit.REFUSED if any(finding.verdict == "no" for finding in findings) else Exit.DONE


def _doctor_line(told: Mapping[str, Any]) -> str:
    """What a process cannot do that it should, or what it is and which prologues it can use."""
    bad = [check for check in told.get("checks") or () if not check.get("ok")]
    if bad:
        return "; ".join(f"{check.get('name')}: {check.get('detail')}" for check in bad)
    versions = told.get("versions") or {}
    line = ", ".join(f"{name} {value}" for name, value in versions.items()) or "answers"
    for check in told.get("checks") or ():
        if check.get("note"):
            line += f"; {check.get('name')}: {check.get('detail')}"
        if check.get("name") == "marked":
            line += f"; {len(check.get('detail') or ())} marked"
        if "usable" in check:
            line += f"; {check.get('name')}" if check["usable"] else f"; no {check.get('name')}: {check.get('detail')}"
    return line


# What they share ------------------------------------------------------------------------------------------------------


def directory_of(options: argparse.Namespace) -> StateDirectory:
    config = load_config()
    return find_state(app=options.app, state=options.state, configured_app=config.app, configured_state=config.state)


@contextmanager
def open_sockets(directory: StateDirectory) -> Iterator[int]:
    with directory.open("sockets", create=True) as fd:
        yield fd


def ask_all(
    clients: Sequence[AgentClient], ask: Callable[[AgentClient], Any]
) -> list[tuple[AgentClient, Union[ProcessStatus, dict[str, Any], Exception]]]:
    """One question to each, side by side; those that have ended are left out."""

    def one(client: AgentClient) -> Any:
        try:
            return ask(client)
        except (RefusedError, SilentError, EndedError) as error:
            return error

    if not clients:
        return []
    asking = Progress(f"asking {len(clients)} process{'es' if len(clients) > 1 else ''}")
    with asking, ThreadPoolExecutor(min(_AT_ONCE, len(clients))) as pool:
        answers = list(pool.map(one, clients))
    return [(client, answer) for client, answer in zip(clients, answers) if not isinstance(answer, EndedError)]


def _complain(text: str) -> None:
    """To stderr, where somebody reads it or not: what is done does not depend on it."""
    with suppress(BrokenPipeError):
        os.write(2, text.encode(errors="backslashreplace"))
