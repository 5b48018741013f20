"""Requests and replies: what may be asked, of whom, and what is said.

    request  {"v": 1, "cmd": ...}                                             reply, besides "v" and "ok"
    ───────────────────────────────────────────────────────────────────────   ──────────────────────────────────────
    status                                                                    how this process is
    doctor                                                                    what this process allows
    prepare  push, deadline [expect_generation] [rollback]                    module, build_id, functions, distance,
             [allow_quarantined] [terms]  + the artefact as a sealed memfd    generation_now, staged
    prepare-rollback  push, build_id, to, deadline [expect_generation]        the same
             [terms]
    commit   push [hold]                                                      generation, commit_ms, level, transition
    abort    push                                                             transition
    force    reason                                                           what was ended, and who was in its way

    terms    level, settle, policy, reason, may_revert: see terms.py
    transition  the one that is open here, with its stragglers; null when every thread has come over

A refusal is ``{"ok": false, "error": {"error", "message", "hint", "status", ...}}``. What is not asked for as it must
be is refused, and what is said is plain data. Nothing that a client sends ends the agent.
"""

from __future__ import annotations

import hashlib
import math
import os
import sys
import time
from collections.abc import Callable
from typing import Any

from hotreload.agent.books import Books
from hotreload.agent.change import Change, Live, Nothing, Patch, Rollback, live_generation, stage
from hotreload.agent.peer import Peer
from hotreload.agent.policy import Policy, PolicySource
from hotreload.agent.refusal import refuse
from hotreload.agent.sealed import read_sealed
from hotreload.agent.session import DEADLINE_LIMIT, Session
from hotreload.agent.terms import Terms, reason_of, terms_of
from hotreload.agent.transitions import Transitions
from hotreload.artefact import Artefact, is_same_module, parse, printable
from hotreload.errors import HotReloadError
from hotreload.events import AGENT_REFUSED
from hotreload.state.directory import is_hex, is_plain_name
from hotreload.wire import Message

__all__ = ["PROTOCOL", "Desk"]

PROTOCOL = 1
DEADLINE_DEFAULT = 30.0

_LOOKING = ("status", "doctor")
_SHOWN_GENERATIONS = 16

Handler = Callable[[Message, "int | None", Peer, Policy], dict[str, Any]]


class Desk:
    """Answers the requests of one process.

    Args:
        live: the manager.
        books: the state directory.
        session: the pushes.
        policy: what is allowed.
        transitions: what is open.
        describe: the part of ``status`` that others know.
        unfit: modules that are loaded and that the manager cannot take.
        refresh: is called before each request, to catch up with what happened on disk.
    """

    def __init__(
        self,
        live: Live,
        books: Books,
        session: Session,
        policy: PolicySource,
        transitions: Transitions,
        *,
        describe: Callable[[], dict[str, Any]] = dict,
        unfit: Callable[[], list[dict[str, Any]]] = list,
        refresh: Callable[[], None] = lambda: None,
    ) -> None:
        self._live = live
        self._books = books
        self._session = session
        self._policy = policy
        self._transitions = transitions
        self._describe = describe
        self._unfit = unfit
        self._refresh = refresh
        self._handlers: dict[str, Handler] = {
            "status": self._status,
            "doctor": self._doctor,
            "prepare": self._prepare,
            "prepare-rollback": self._prepare_rollback,
            "commit": self._commit,
            "abort": self._abort,
            "force": self._force,
        }

    def answer(self, message: Message, fd: int | None, peer: Peer) -> Message:
        """The reply to one request, whatever it was."""
        command = message.get("cmd")
        try:
            return {"v": PROTOCOL, "ok": True, **self._do(message, fd, peer)}
        except HotReloadError as error:
            reply = error.as_dict()
        except Exception as error:  # noqa: BLE001 - a fault of ours must not end the agent
            reply = {"error": type(error).__name__, "message": str(error), "hint": "", "status": "INTERNAL"}
        if command not in _LOOKING:
            self._write_refusal(message, peer, reply)
        return {"v": PROTOCOL, "ok": False, "error": reply}

    def _do(self, message: Message, fd: int | None, peer: Peer) -> dict[str, Any]:
        command = message.get("cmd")
        if message.get("v") != PROTOCOL:
            said = printable(repr(message.get("v")))[:40]
            raise refuse("VERSION", f"a request of version {said}, and this process speaks version {PROTOCOL}")
        if not isinstance(command, str) or command not in self._handlers:
            raise refuse("BAD_REQUEST", f"unknown command {printable(repr(command))[:40]}")
        policy = self._policy_for(command, peer)
        if command not in _LOOKING and not policy.may_push(peer.uid):
            if policy.may_look(peer.uid):
                raise refuse("READER", f"user {peer.uid} may not change this process", uid=peer.uid)
            raise refuse("USER", f"user {peer.uid} may not speak to this process", uid=peer.uid)
        if not policy.may_look(peer.uid):
            raise refuse("USER", f"user {peer.uid} may not speak to this process", uid=peer.uid)
        self._refresh()
        return self._handlers[command](message, fd, peer, policy)

    def _policy_for(self, command: str, peer: Peer) -> Policy:
        """The policy; without a readable one, our own user and root may look and end what they began."""
        try:
            return self._policy.read()
        except HotReloadError:
            default = Policy()
            if command in (*_LOOKING, "commit", "abort") and default.may_push(peer.uid):
                return default
            raise

    # Looking -------------------------------------------------------------------------------------------------------

    def _status(self, message: Message, fd: int | None, peer: Peer, policy: Policy) -> dict[str, Any]:  # noqa: ARG002
        transition = self._transitions.describe()  # before the rest: when it is over, what became of it is in there
        status = self._live.status()
        for module in status["modules"]:
            made = module["generations"]
            shown = made[-_SHOWN_GENERATIONS:]
            shown += [one for one in made[:-_SHOWN_GENERATIONS] if one["number"] == module["generation"]]
            module["generations"] = shown
        status["modules"] += self._unfit()
        return {
            **status,
            "uid": os.geteuid(),
            "locked": self._live.is_locked,
            "tainted": any(made["number"] for module in status["modules"] for made in module["generations"]),
            "prepared": self._session.describe(),
            "transition": transition,
            **self._describe(),
        }

    def _doctor(self, message: Message, fd: int | None, peer: Peer, policy: Policy) -> dict[str, Any]:  # noqa: ARG002
        from hotreload.agent.health import examine

        return {"pid": os.getpid(), **examine(self._live, self._books, self._policy)}

    # The first phase -----------------------------------------------------------------------------------------------

    def _prepare(self, message: Message, fd: int | None, peer: Peer, policy: Policy) -> dict[str, Any]:
        push, seconds = _push_of(message), _seconds_of(message, "deadline", DEADLINE_DEFAULT)
        terms = terms_of(message, peer.uid)
        answer = self._session.find(push)
        if answer is not None:
            self._check_same(push, fd)
            return answer
        self._live.check_unlocked()
        self._session.check_free()
        _tell_marks()
        raw = read_sealed(fd)
        signer = policy.check_signature(raw)
        artefact = parse(raw)
        policy.check_functions((*artefact.functions, *artefact.carried, *artefact.tables))
        is_allowed = _flag_of(message, "allow_quarantined")
        why = self._books.quarantine.find(artefact.sha256, artefact.manifest.body_sha256)
        if why is not None and not is_allowed:
            raise refuse("QUARANTINED", f"the patch is in quarantine: {why}", sha256=artefact.sha256)
        module = self._find_module(artefact.manifest.build_id, artefact.manifest.module)
        policy.check_module(module.name)
        _check_generation(module, message)
        about = _about(peer, artefact, signer, is_allowed=why is not None)
        is_rollback = _flag_of(message, "rollback")
        change = self._make_change(module, artefact, push, about, terms, policy=policy, is_rollback=is_rollback)
        return self._session.open(push, change, seconds, about, is_audit_required=policy.needs_audit)

    def _check_same(self, push: str, fd: int | None) -> None:
        """A push has one artefact: whoever sends another under its name is mistaken about what was prepared."""
        known = self._session.sha256_of(push)
        if fd is not None and known and hashlib.sha256(read_sealed(fd)).hexdigest() != known:
            raise refuse("BAD_REQUEST", f"push {push} was prepared here with another artefact")

    def _make_change(
        self,
        module: Any,
        artefact: Artefact,
        push: str,
        about: dict[str, Any],
        terms: Terms,
        *,
        policy: Policy,
        is_rollback: bool,
    ) -> Change:
        now = live_generation(self._live, module)
        if now.number and now.info.get("sha256") == artefact.sha256:
            return Nothing(self._live, module, artefact)
        leaving = self._transitions.from_of(module)
        if leaving is not None:
            if self._live.history(module)[leaving].info.get("sha256") != artefact.sha256:
                raise self._transitions.busy()
            return Rollback(self._live, module, leaving, terms)
        if not is_rollback:
            self._check_newer(now, artefact)
        info = {"push": push, "at": time.time(), **about}
        staged = stage(self._live, module, artefact)
        try:
            policy.check_marked(staged, module.path)
            return Patch(self._live, module, artefact, staged, info=info, terms=terms)
        except BaseException:
            self._live.unstage(staged)
            raise

    def _check_newer(self, now: Any, artefact: Artefact) -> None:
        sequence = artefact.manifest.sequence
        live = now.info.get("sequence", 0)
        is_other = now.info.get("body_sha256") != artefact.manifest.body_sha256
        if isinstance(live, int) and (sequence < live or (sequence == live and is_other)):
            what = f"{live} is live here" if sequence < live else "other code with that number is live here"
            raise refuse("OLDER", f"the patch has sequence number {sequence}, and {what}", sequence=sequence)
        self._books.patches.refuse_older(artefact)

    def _prepare_rollback(self, message: Message, fd: int | None, peer: Peer, policy: Policy) -> dict[str, Any]:  # noqa: ARG002
        push, seconds = _push_of(message), _seconds_of(message, "deadline", DEADLINE_DEFAULT)
        terms = terms_of(message, peer.uid)
        answer = self._session.find(push)
        if answer is not None:
            return answer
        self._live.check_unlocked()
        self._session.check_free()
        build_id, to = message.get("build_id"), message.get("to")
        if not isinstance(build_id, str) or not is_hex(build_id):
            raise refuse("BAD_REQUEST", "a rollback names a build-id")
        if type(to) is not int or to < 0:
            raise refuse("BAD_REQUEST", "a rollback names a generation, 0 or more")
        module = self._find_module(build_id, "")
        policy.check_module(module.name)
        _check_generation(module, message)
        made = self._live.history(module)
        if to >= len(made):
            raise refuse("GENERATION", f"{module.name} has generations 0 to {len(made) - 1} here, and no {to}")
        about = {"module": module.name, "build_id": build_id, "to": to, **peer.as_dict()}
        change: Change = Rollback(self._live, module, to, terms)
        if module.generation == to:
            change = Nothing(self._live, module, None)
        elif self._transitions.from_of(module) not in (None, to):
            raise self._transitions.busy()
        return self._session.open(push, change, seconds, about, is_audit_required=policy.needs_audit)

    def _find_module(self, build_id: str, name: str) -> Any:
        """The module with that build-id, taken under management."""
        paths = [path for path, found in self._live.loaded_libraries() if found == build_id]
        if len(paths) > 1:
            raise refuse("TWICE", f"the build {build_id} is loaded {len(paths)} times: {', '.join(paths)}")
        if paths:
            return self._live.attach(paths[0])
        modules = self._live.modules() if name else ()
        other = next((module for module in modules if is_same_module(module.name, name)), None)
        if other is not None:
            raise refuse(
                "OTHER_BUILD",
                f"{printable(name)} is the build {other.build_id} here, the patch is for {build_id}",
                build_id=other.build_id,
            )
        raise refuse("NOT_LOADED", f"this process has not loaded {printable(name) or 'that module'} ({build_id})")

    # The second phase ----------------------------------------------------------------------------------------------

    def _commit(self, message: Message, fd: int | None, peer: Peer, policy: Policy) -> dict[str, Any]:  # noqa: ARG002
        hold = _seconds_of(message, "hold", 0.0) if message.get("hold") is not None else None
        answer = self._session.commit(_push_of(message), hold=hold)
        return {**answer, "transition": self._transitions.describe()}

    def _abort(self, message: Message, fd: int | None, peer: Peer, policy: Policy) -> dict[str, Any]:  # noqa: ARG002
        self._session.abort(_push_of(message))
        return {"transition": self._transitions.describe()}

    # Threads that do not come over ---------------------------------------------------------------------------------

    def _force(self, message: Message, fd: int | None, peer: Peer, policy: Policy) -> dict[str, Any]:  # noqa: ARG002
        reason = reason_of(message)
        found = self._transitions.describe()
        if found is not None:
            policy.check_module(found["module"])
        return self._transitions.force(reason, peer.as_dict(), is_audit_required=policy.needs_audit)

    def _write_refusal(self, message: Message, peer: Peer, error: dict[str, Any]) -> None:
        """A refusal is written down where that is possible; it is a refusal either way."""
        try:
            about: dict[str, Any] = {k: message[k] for k in ("cmd", "push") if isinstance(message.get(k), str)}
            self._books.audit(AGENT_REFUSED, **about, **peer.as_dict(), error=error)
        except HotReloadError:
            pass


def _tell_marks() -> None:
    """What this process has marked in vain is told at its first push: production code comes up without a word."""
    if "hotreload.mark.book" in sys.modules:
        from hotreload.mark.book import tell_unpatchable

        tell_unpatchable()


def _push_of(message: Message) -> str:
    push = message.get("push")
    if not isinstance(push, str) or not is_plain_name(push):
        raise refuse("BAD_REQUEST", "a push is named with letters, digits, '-', '_' and '.'")
    return push


def _seconds_of(message: Message, name: str, default: float) -> float:
    value = message.get(name, default)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise refuse("BAD_REQUEST", f"{name} is a number of seconds")
    if not 0 < value <= DEADLINE_LIMIT:
        raise refuse("BAD_REQUEST", f"{name} is more than 0 and at most {DEADLINE_LIMIT:g} seconds")
    return float(value)


def _flag_of(message: Message, name: str) -> bool:
    value = message.get(name, False)
    if not isinstance(value, bool):
        raise refuse("BAD_REQUEST", f"{name} is true or false")
    return value


def _check_generation(module: Any, message: Message) -> None:
    expected = message.get("expect_generation")
    if expected is None:
        return
    if type(expected) is not int:
        raise refuse("BAD_REQUEST", "expect_generation is a number")
    if module.generation != expected:
        raise refuse(
            "GENERATION",
            f"{module.name} is at generation {module.generation} here, {expected} was expected",
            generation=module.generation,
        )


def _about(peer: Peer, artefact: Artefact, signer: str, *, is_allowed: bool) -> dict[str, Any]:
    """What is remembered with a generation and written down: who, and what."""
    manifest = artefact.manifest
    return {
        "module": manifest.module,
        "code": manifest.kind,
        "build_id": manifest.build_id,
        "sequence": manifest.sequence,
        "sha256": artefact.sha256,
        "body_sha256": manifest.body_sha256,
        "author": manifest.author,
        "created": manifest.created,
        "signer": signer,
        "allow_quarantined": is_allowed,
        **peer.as_dict(),
    }
