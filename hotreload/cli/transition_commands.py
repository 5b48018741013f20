"""``hotreload transition``: threads that are still in old code, seen, turned round, or left behind."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from typing import Any

from hotreload.agent.policy import PolicySource
from hotreload.artefact import printable
from hotreload.cli.push_commands import (
    Answers,
    Session,
    ask_all,
    directory_of,
    hash_of,
    open_sockets,
)
from hotreload.errors import HotReloadError
from hotreload.push.books import name_of_operator
from hotreload.push.client import AgentClient, Finder
from hotreload.push.coordinator import RefusedError
from hotreload.push.records import Exit, ProcessStatus
from hotreload.push.settling import no_reason
from hotreload.push.threads import tell_transition
from hotreload.state import Audit, StateDirectory

__all__ = ["transition"]

#: What is told of each process in which it was forced.
_FORCED = ("module", "from", "to", "direction", "left")


def transition(options: argparse.Namespace) -> int:
    """``hotreload transition [status | revert | force]``. Raises HotReloadError: nothing was done."""
    if options.action == "force" and options.dry_run:
        options.usage_error("what is forced is over: there is no --dry-run of it")
    if options.action == "force" and not options.reason.strip():
        raise no_reason()
    directory = directory_of(options)
    with open_sockets(directory) as fd:
        clients = Finder(fd, pids=tuple(options.pid), timeout=options.timeout).clients()
        open_ones, silent = _open_among(ask_all(clients, AgentClient.status))
        if options.action == "force" and open_ones:
            return _force(directory, [client for client, _ in open_ones], options.reason.strip(), as_json=options.json)
    if options.action == "revert" and open_ones:
        with Session(options) as session:
            return _turn_round(session, open_ones)
    _show_open(open_ones, silent, as_json=options.json)
    if silent:
        return Exit.PARTLY
    return Exit.DONE if options.action == "status" else Exit.NOTHING


def _open_among(answers: Answers) -> tuple[list[tuple[AgentClient, Mapping[str, Any]]], list[tuple[int, str]]]:
    """The processes in which a transition is open, and those that did not answer."""
    found, silent = [], []
    for client, answer in answers:
        if not isinstance(answer, ProcessStatus):
            silent.append((client.identity.pid, str(answer)))
        elif isinstance(answer.raw.get("transition"), Mapping):
            found.append((client, answer.raw["transition"]))
    return found, silent


def _turn_round(session: Session, open_ones: Sequence[tuple[AgentClient, Mapping[str, Any]]]) -> int:
    """Has every process go back to what its threads came from, also where all have left it: all or none.

    What is on its way back already stays so, however often it is asked for.

    Raises:
        HotReloadError: not the same is open everywhere, or nobody knows any more what they came from.
    """
    leaving = {}
    for client, found in open_ones:
        number = int(found["from"])
        live = next((one for one in client.seen.live if one.module == found.get("module")), None)
        if live is not None:
            leaving[live.build_id, hash_of(client.seen, live.build_id, number) or ""] = live
    if len(leaving) != 1:
        modules = ", ".join(sorted({str(found.get("module")) for _client, found in open_ones}))
        raise HotReloadError(
            f"threads did not come from one and the same code of {modules}",
            hint="`hotreload rollback MODULE --to N`",
        )
    (((build_id, sha256), live),) = leaving.items()
    artefact = session.kept_by_hash(build_id, sha256) if sha256 else None
    return session.carry_out("rollback", artefact, session.way_back(live, artefact))


def _force(directory: StateDirectory, clients: Sequence[AgentClient], reason: str, *, as_json: bool) -> int:
    """Ends what is open in these processes, each for itself: what their threads come from was decided before."""
    audit = Audit(directory, PolicySource.find().read().needs_audit)
    pids = [client.identity.pid for client in clients]
    audit.write({"event": "force.requested", "user": name_of_operator(), "reason": reason, "processes": pids})
    told, codes = [], []
    for client, answer in ask_all(clients, lambda client: client.force(reason)):
        row: dict[str, Any] = {"pid": client.identity.pid, "command": client.command}
        if isinstance(answer, dict):
            codes.append(Exit.DONE)
            told.append({**row, **{key: answer.get(key) for key in _FORCED}})
        elif getattr(answer, "status", "") == "NO_TRANSITION":
            told.append({**row, "note": "every thread had come over"})
        else:
            codes.append(Exit.REFUSED if isinstance(answer, RefusedError) else Exit.PARTLY)
            told.append({**row, "error": str(answer)})
    code = _worst(codes)
    audit.write({"event": "force.finished", "reason": reason, "exit": int(code), "processes": told})
    if as_json:
        print(json.dumps({"exit": int(code), "forced": told}, indent=2, default=str))
    for row in () if as_json else told:
        print(_line_of_forced(row))
    return code


def _show_open(
    open_ones: Sequence[tuple[AgentClient, Mapping[str, Any]]], silent: Sequence[tuple[int, str]], *, as_json: bool
) -> None:
    if as_json:
        told = [{"pid": client.identity.pid, "command": client.command, **found} for client, found in open_ones]
        print(json.dumps({"open": told, "silent": dict(silent)}, indent=2, default=str))
        return
    for client, found in open_ones:
        for line in tell_transition(client.identity.pid, found):
            print(line)
    for pid, why in silent:
        print(printable(f"{pid}: {why}"))
    if not open_ones:
        print("no transition is open" + (" in the processes that answer" if silent else ""))


def _line_of_forced(row: Mapping[str, Any]) -> str:
    if row.get("error") or row.get("note"):
        return printable(f"{row['pid']}: {row.get('error') or row.get('note')}")
    left = "; ".join(row.get("left") or ()) or "no thread was in its way"
    way = (row.get("to"), row.get("from")) if row.get("direction") == "back" else (row.get("from"), row.get("to"))
    return printable(f"{row['pid']}: forced, {row.get('module')} {way[0]} -> {way[1]}: {left}")


def _worst(codes: Sequence[Exit]) -> Exit:
    """One exit code for several processes: partly, unless all say the same."""
    if not codes:
        return Exit.NOTHING
    return codes[0] if len(set(codes)) == 1 else Exit.PARTLY
