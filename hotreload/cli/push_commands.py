"""``hotreload push``, ``rollback``, ``transition``, ``status``, ``log``, ``doctor``: operators and running servers."""

from __future__ import annotations

import argparse
import json
import os
import pwd
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
from hotreload.config import LEVELS, POLICIES, load_config
from hotreload.errors import BuildError, HotReloadError, IncompatibleError
from hotreload.push.books import StateBooks, catch_up, name_of_operator, what_was_before
from hotreload.push.canary import Canary, parse_seconds
from hotreload.push.changes import BaseChange, PatchChange
from hotreload.push.client import AgentClient, Finder
from hotreload.push.coordinator import Coordinator, EndedError, RefusedError, SilentError, Terms
from hotreload.push.doctor import Finding, examine_host, examine_state
from hotreload.push.place import find_state
from hotreload.push.processes import family_of, look, pids_of_sockets
from hotreload.push.records import BASE, Exit, Live, Outcome, ProcessStatus
from hotreload.push.settling import Settling
from hotreload.push.table import Show, make_show, status_table, stop_telling, write_line
from hotreload.push.texts import Running, base_text, find_running, is_text
from hotreload.push.threads import name_threads, tell_taint, tell_transition
from hotreload.state import Audit, PatchStore, Quarantine, StateDirectory

__all__ = ["COMMANDS", "run"]

EXIT_CODES = """exit codes:
  0   done: the change is live in every process, where threads may still be finishing in old code; the last line
      says how many
  2   the command line is wrong
  3   nothing to do: every process has it already
  4   refused: no process was changed
  5   partly: it was decided, and not every process has confirmed it yet; the table says which and what they will do
  6   reverted: with --policy revert, threads had not come over in time; it was taken back in every process
  70  an error of hotreload itself; `hotreload status` shows what is live
"""
#: What a shell says of a program that SIGPIPE ended: what it would have told is not known, so it is not "done".
_NOBODY_READS = 128 + 13
_SUFFIX = ".hotpatch"
_AT_ONCE = 32
_SHORT = 12
_DIFFERS = "differs from the others"

Change = Union[PatchChange, BaseChange]
Answers = Sequence["tuple[AgentClient, Union[ProcessStatus, dict[str, Any], Exception]]"]


def run(command: str, arguments: Sequence[str]) -> int:
    """Runs one of :data:`COMMANDS`; a refusal is told on stderr, or as JSON where that was asked for."""
    as_json = "--json" in arguments
    try:
        code = COMMANDS[command](list(arguments))
        sys.stdout.flush()
    except BrokenPipeError:  # `hotreload log | head`: nobody reads any more, and that is all
        stop_telling(sys.stdout)
        return _NOBODY_READS
    except HotReloadError as error:
        _tell(error, as_json=as_json)
        return Exit.REFUSED
    except KeyboardInterrupt:
        _complain("hotreload: interrupted; `hotreload status` shows what is live\n")
        return Exit.PARTLY
    except Exception as error:  # noqa: BLE001 - whatever it is, the operator is told what to look at
        _complain(f"hotreload: internal error: {type(error).__name__}: {error}\n")
        return Exit.INTERNAL
    return code


# push and rollback ----------------------------------------------------------------------------------------------------


def _transition(arguments: list[str]) -> int:
    from hotreload.cli.transition_commands import run_transition

    return run_transition(arguments)


def _push(arguments: list[str]) -> int:
    parser = make_parser("push", "Makes a change live in every process of an application, or in none.")
    parser.add_argument(
        "what", metavar="FILE", help="a C source of the module, a .py, or a .hotpatch from `hotreload pack`"
    )
    add_terms(parser)
    parser.add_argument(
        "--allow", action="append", default=[], metavar="SLUG", help="a finding that you know better about (repeat)"
    )
    parser.add_argument("--build-id", default="", metavar="ID", help="the base (default: the one that runs)")
    parser.add_argument("--canary", type=int, default=0, metavar="N", help="N processes take it first, on trial")
    parser.add_argument("--hold", type=_seconds, default=30.0, metavar="TIME", help="how long they hold it (30s)")
    parser.add_argument("--health", default="", metavar="CMD", help="a command that must succeed before it goes on")
    parser.add_argument("--allow-quarantined", action="store_true", help="although a process has died of this patch")
    options = parser.parse_args(arguments)
    if options.canary < 0 or (options.health and not options.canary):
        parser.error("--canary must be 1 or more; --health needs it")
    with Session(options, may_revert=bool(options.canary)) as session:
        artefact = session.artefact_of(options.what, options.build_id)
        if artefact is None:
            return session.carry_out("push", None, session.base_of_source(options.what, options.build_id))
        trial = None
        if options.canary:
            trial = Canary.of_command(options.canary, options.hold, options.health, session.show.say)
        change = PatchChange(artefact, allow_quarantined=options.allow_quarantined, terms=session.terms)
        return session.carry_out("push", artefact, change, trial)


def _rollback(arguments: list[str]) -> int:
    parser = make_parser("rollback", "Takes the last push back, or goes to an earlier state, everywhere or nowhere.")
    parser.add_argument("module", nargs="?", default="", help="whose (default: the one module that is patched)")
    parser.add_argument("--to", default="", metavar="N", help="0 or base, a generation, or a patch's sequence number")
    add_terms(parser)
    options = parser.parse_args(arguments)
    with Session(options) as session:
        live = session.module_of(options.module)
        artefact = session.target_of(live, options.to)
        return session.carry_out("rollback", artefact, session.way_back(live, artefact))


class Session:
    """One command against one application: its directory, its processes, and how it is shown."""

    def __init__(self, options: argparse.Namespace, *, may_revert: bool = False) -> None:
        config = load_config()
        if not hasattr(options, "canary"):  # what the file says of a push is not said of the way back
            config = replace(config, settle_policy="")
        self.settling = Settling.of(
            config, level=options.level, seconds=options.settle, policy=options.policy, reason=options.reason
        )
        self.terms = self.settling.as_fields(may_revert=may_revert)
        self._allow = frozenset((*config.allow, *getattr(options, "allow", ())))
        self.directory = directory_of(options)
        self.show: Show = make_show(as_json=options.json)
        self._options = options
        self._statuses: list[ProcessStatus] | None = None

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
        packed = pack(what, build_id=record.build_id, allow=self._allow)
        if packed is not None and packed.result.warnings:
            _complain(packed.result.warnings)
        return None if packed is None else packed.artefact

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
        what = f"{change.module}: {', '.join(about['functions'])}" if artefact else f"{change.module}: back to the base"
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


def _status(arguments: list[str]) -> int:
    parser = make_parser("status", "Shows what is live in each process, since when and by whom, and where they differ.")
    _add_common(parser)
    options = parser.parse_args(arguments)
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
    try:
        user = pwd.getpwuid(uid).pw_name if isinstance(uid, int) else ""
    except KeyError:
        user = f"uid {uid}"
    author = str(info.get("author") or "")
    return f"{user}, by {author}" if user and author and author != user else user or author


def _usual(statuses: Sequence[ProcessStatus]) -> dict[str, str]:
    """For each module what most processes have live: the hash of a patch, or nothing for the base."""
    counts: dict[str, Counter[str]] = {}
    for status in statuses:
        for live in status.live:
            counts.setdefault(live.module, Counter())[f"{live.build_id}/{live.sha256}"] += 1
    return {module: counter.most_common(1)[0][0] for module, counter in counts.items()}


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


def _log(arguments: list[str]) -> int:
    parser = make_parser("log", "Prints the audit trail: who pushed what, and what came of it.")
    _add_place(parser)
    parser.add_argument("-n", type=int, default=0, metavar="N", help="only the last N events")
    options = parser.parse_args(arguments)
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
    who = event.get("user") or f"uid {event.get('uid', '?')}"
    fields = " ".join(f"{key}={_short(value)}" for key, value in sorted(rest.items()))
    parts = (event.get("time", ""), f"{event.get('event', ''):<18}", who, event.get("module", ""), fields)
    return printable("  ".join(str(part) for part in parts))


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))
    is_hash = len(text) >= 40 and all(character in "0123456789abcdef" for character in text)
    return text[:_SHORT] if is_hash else text


def _doctor(arguments: list[str]) -> int:
    parser = make_parser("doctor", "Says what this host and each process allow. It changes nothing.")
    _add_common(parser)
    options = parser.parse_args(arguments)
    findings = list(examine_host())
    processes: list[dict[str, Any]] = []
    try:
        directory = directory_of(options)
    except HotReloadError as error:
        findings.append(Finding("application", "note", str(error)))
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
        if "usable" in check:
            line += f"; {check.get('name')}" if check["usable"] else f"; no {check.get('name')}: {check.get('detail')}"
    return line


# What they share ------------------------------------------------------------------------------------------------------


COMMANDS: Mapping[str, Callable[[list[str]], int]] = {
    "push": _push,
    "status": _status,
    "rollback": _rollback,
    "transition": _transition,
    "log": _log,
    "doctor": _doctor,
}


def make_parser(command: str, description: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=f"hotreload {command}",
        description=description,
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--json", action="store_true", help="answer as JSON")
    return parser


def _add_place(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--app", default="", metavar="NAME", help="the application (default: the only one there is)")
    parser.add_argument("--state", default="", metavar="DIR", help="its state directory, where it is not the usual one")


def _add_common(parser: argparse.ArgumentParser) -> None:
    _add_place(parser)
    parser.add_argument(
        "--pid", type=int, action="append", default=[], metavar="N", help="only this process and its descendants"
    )
    parser.add_argument(
        "--timeout", type=_seconds, default=6.0, metavar="TIME", help="how long a process may take to answer (6s)"
    )


def add_terms(parser: argparse.ArgumentParser) -> None:
    _add_common(parser)
    parser.add_argument("--dry-run", action="store_true", help="everything but the commit, in the live processes")
    parser.add_argument(
        "--deadline", type=_seconds, default=10.0, metavar="TIME", help="after it a process settles by itself (10s)"
    )
    parser.add_argument("--level", choices=LEVELS, help="when a thread moves (auto: call for two functions and more)")
    parser.add_argument(
        "--settle", type=_seconds, metavar="TIME", help="how long threads may take to come over to the new code (30s)"
    )
    parser.add_argument("--policy", choices=POLICIES, help="and then: leave them, take it back everywhere, or force it")
    parser.add_argument("--reason", default="", metavar="TEXT", help="why it is forced; written down, and shown after")


def _seconds(text: str) -> float:
    try:
        return parse_seconds(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no length of time; write 30s, 500ms or 2m") from None


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
    with ThreadPoolExecutor(min(_AT_ONCE, len(clients))) as pool:
        answers = list(pool.map(one, clients))
    return [(client, answer) for client, answer in zip(clients, answers) if not isinstance(answer, EndedError)]


def _tell(error: HotReloadError, *, as_json: bool) -> None:
    if as_json:
        told = {"exit": int(Exit.REFUSED), "outcome": "refused", **error.as_dict()}
        write_line(sys.stdout, json.dumps(told, indent=2, default=str))
        return
    lines = [f"hotreload: {printable(str(error))}"]
    if isinstance(error, BuildError) and error.diagnostics:
        lines.append(error.diagnostics.rstrip("\n"))
    if isinstance(error, IncompatibleError):
        lines = [printable(finding.with_slug) for finding in error.findings] or lines
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        stop_telling(sys.stdout)
    _complain("".join(f"{line}\n" for line in lines))


def _complain(text: str) -> None:
    """To stderr, where somebody reads it or not: what is done does not depend on it."""
    with suppress(BrokenPipeError):
        os.write(2, text.encode(errors="backslashreplace"))
