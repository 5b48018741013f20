"""What an agent says and does while threads are on their way; the manager is one that the test plays."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Optional

import pytest

from hotreload import events
from hotreload.agent.books import Books
from hotreload.agent.change import Patch, Rollback
from hotreload.agent.desk import Desk
from hotreload.agent.peer import Peer
from hotreload.agent.policy import PolicySource
from hotreload.agent.restore import Restorer
from hotreload.agent.session import Session
from hotreload.agent.terms import Terms
from hotreload.agent.transitions import Transitions
from hotreload.errors import StageError
from hotreload.state import StateDirectory

BUILD = "ab" * 20
PEER = Peer(os.getpid(), 1234, os.getgid())
STRAGGLER = {
    "tid": 77,
    "name": "worker-3",
    "reason": "INSIDE",
    "where": "shade+0x4 [original]",
    "native": ["shade+0x4 [original]"] * 40,
    "python": ["app.py:3 in handle"],
}


def generation(number: int, **info: Any) -> Any:
    redirects = [SimpleNamespace(entry=0x1000, target=0x9000 + number)] if number else []
    return SimpleNamespace(
        number=number, info=info, functions=("shade",), distance=0, redirects=redirects, level="call", is_retired=False
    )


class PlayedLive:
    """A manager of one extension with three generations, of which the last is live."""

    is_locked = False

    def __init__(self) -> None:
        self.module = SimpleNamespace(name="tiny", path="/lib/tiny.so", build_id=BUILD, generation=2)
        self.generations = [generation(0), generation(1, sha256="1" * 64), generation(2, sha256="2" * 64)]
        self.open: Optional[dict[str, Any]] = None
        self.calls: list[Any] = []
        self.waited = 0
        self.has_greenlets = False
        self.tell: Callable[[dict[str, Any]], None] = lambda event: None

    def subscribe(self, callback: Callable[[dict[str, Any]], None]) -> Callable[[], None]:
        self.tell = callback
        return lambda: None

    def begin(self, **fields: Any) -> None:
        """Threads are on their way."""
        self.open = {
            "module": "tiny",
            "from": 1,
            "to": 2,
            "direction": "forward",
            "level": "call",
            "since": time.time() - 5,
            "deadline": 30.0,
            "policy": "wait",
            "threads": 9,
            "settled": 8,
            "stragglers": [{**STRAGGLER, "since": time.time() - 4}],
            **fields,
        }

    def check_unlocked(self) -> None: ...

    def check(self, module: Any, to: Any, *, level: Optional[str] = None) -> str:
        redirects = self.generations[to].redirects if isinstance(to, int) else to.redirects
        found = level or ("call" if len(redirects) > 1 else "function")
        if self.has_greenlets and found != "function":
            raise StageError("greenlets are in use", status="GREENLETS")
        return found

    def attach(self, path: str) -> Any:
        return self.module

    def modules(self) -> list[Any]:
        return [self.module]

    def history(self, module: Any) -> list[Any]:
        return self.generations

    def loaded_libraries(self) -> list[tuple[str, str]]:
        return [(self.module.path, BUILD)]

    def status(self) -> dict[str, Any]:
        return {"pid": os.getpid(), "modules": [], "transition": self.open}

    def transition(self) -> Optional[dict[str, Any]]:
        return self.open

    def wait(self, seconds: float) -> bool:
        self.waited += 1
        return self.open is None

    def force(self, reason: str, *, by: str = "") -> None:
        self.calls.append(("force", reason, by))
        self.open = None
        self.tell(
            {
                "event": events.TRANSITION_FORCED,
                "module": "tiny",
                "reason": reason,
                "stragglers": [{**STRAGGLER, "since": 1.0}],
            }
        )

    def rollback(self, module: Any, to: int = 0, **terms: Any) -> Any:
        self.calls.append(("rollback", to, terms))
        return self.generations[to]


class Office:
    """A desk with everything that it needs, and its manager."""

    def __init__(self, directory: Path) -> None:
        self.live = PlayedLive()
        self.audited: list[dict[str, Any]] = []
        self.ended = 0
        self.books = Books(StateDirectory(directory / "state"))
        self.books.audit = self._audit  # type: ignore[method-assign]
        self.transitions = Transitions(self.live, self.books, self._end)
        session = Session(self.books, SimpleNamespace(begin=print, end=lambda module: None), self.transitions)
        self._desk = Desk(self.live, self.books, session, PolicySource(None), self.transitions)

    def _audit(self, event: str, *, is_required: bool = False, **fields: Any) -> bool:
        self.audited.append({"event": event, **fields})
        return True

    def _end(self) -> None:
        self.ended += 1

    def ask(self, cmd: str, **fields: Any) -> dict[str, Any]:
        return self._desk.answer({"v": 1, "cmd": cmd, **fields}, None, PEER._replace(uid=os.geteuid()))

    def roll_back(self, to: int, **fields: Any) -> dict[str, Any]:
        return self.ask("prepare-rollback", push="p1", build_id=BUILD, to=to, **fields)

    def of(self, event: str) -> list[dict[str, Any]]:
        return [entry for entry in self.audited if entry["event"] == event]


@pytest.fixture
def office(tmp_path: Path) -> Office:
    return Office(tmp_path)


# Saying ----------------------------------------------------------------------------------------------------------------


def test_status_has_what_is_open_with_the_stacks_of_those_in_its_way(office: Office) -> None:
    assert office.ask("status")["transition"] is None
    office.live.begin()
    found = office.ask("status")["transition"]

    assert (found["threads"], found["settled"], found["straggler_count"]) == (9, 8, 1)
    assert found["stragglers"][0]["python"] == ["app.py:3 in handle"]
    assert len(found["stragglers"][0]["native"]) == 24


def test_of_a_thousand_stragglers_a_reply_has_some_and_the_number(office: Office) -> None:
    office.live.begin(stragglers=[{**STRAGGLER, "since": 0.0}] * 1000)
    found = office.ask("status")["transition"]

    assert (len(found["stragglers"]), found["straggler_count"]) == (32, 1000)


# Refusing --------------------------------------------------------------------------------------------------------------


def test_while_one_is_open_another_change_is_refused_with_names_and_the_next_step(office: Office) -> None:
    office.live.begin()
    error = office.roll_back(0)["error"]

    assert error["status"] == "BUSY"
    assert "1 of 9 threads have not come over" in error["message"]
    assert "worker-3 (thread 77) is inside shade+0x4 [original], for 4." in error["message"]
    assert "hotreload transition revert" in error["hint"]
    assert error["stragglers"][0]["tid"] == 77


def test_a_transition_of_another_extension_is_in_the_way_too(office: Office) -> None:
    office.live.begin(module="other", **{"from": 0})

    assert "a transition of other" in office.roll_back(0)["error"]["message"]


@pytest.mark.parametrize(("direction", "live", "back"), [("forward", 2, 1), ("back", 1, 2)])
def test_the_way_back_of_what_is_open_is_never_refused(office: Office, direction: str, live: int, back: int) -> None:
    office.live.module.generation = live
    office.live.begin(direction=direction)
    assert office.roll_back(back)["ok"] is True
    assert office.ask("commit", push="p1")["generation"] == back

    assert [call[:2] for call in office.live.calls] == [("rollback", back)]


@pytest.mark.parametrize(
    "fields",
    [
        {"level": "calls"},
        {"level": None},
        {"settle": "long"},
        {"settle": True},
        {"settle": 0},
        {"settle": -1},
        {"settle": 1e9},
        {"settle": float("nan")},
        {"policy": "revert"},
        {"policy": ["force"]},
        {"may_revert": 1},
        {"policy": "force", "reason": 7},
        {"policy": "force", "reason": "x" * 501},
    ],
    ids=str,
)
def test_terms_that_mean_nothing_are_refused(office: Office, fields: dict[str, Any]) -> None:
    assert office.roll_back(1, **fields)["error"]["status"] == "BAD_REQUEST"


@pytest.mark.parametrize("reason", ["", "  ", None])
def test_nothing_is_forced_without_a_reason(office: Office, reason: Optional[str]) -> None:
    office.live.begin()
    fields = {} if reason is None else {"reason": reason}

    assert office.ask("force", **fields)["error"]["status"] == "NO_REASON"
    assert office.roll_back(1, policy="force", **fields)["error"]["status"] == "NO_REASON"
    assert office.live.calls == []


def test_a_generation_that_is_not_mapped_any_more_is_refused_before_it_is_decided(office: Office) -> None:
    office.live.generations[1].is_retired = True

    assert office.roll_back(1)["error"]["status"] == "GENERATION"


def test_to_turn_round_is_not_refused_for_greenlets_and_anything_else_is(
    office: Office,
) -> None:
    office.live.has_greenlets = True
    assert office.roll_back(1, level="call")["error"]["status"] == "GREENLETS"
    office.live.begin()
    assert office.roll_back(1, level="function")["level"] == "call"


def test_what_was_on_trial_is_taken_back_entry_by_entry_where_greenlets_came_into_use(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(module: Any, to: int, **terms: Any) -> Any:
        office.live.calls.append(terms["level"])
        if terms["level"] != "function":
            raise StageError("greenlets are in use", status="GREENLETS")

    monkeypatch.setattr(office.live, "rollback", refuse)
    staged = SimpleNamespace(can_roll_back=True, hooks=[], functions=(), distance=0, redirects=[])
    artefact = SimpleNamespace(manifest=SimpleNamespace(sequence=1))
    Patch(office.live, office.live.module, artefact, staged, info={}, terms=Terms(level="call")).take_back()

    assert office.live.calls == ["call", "function"]


def test_a_patch_that_cannot_be_undone_is_refused_where_it_may_be_taken_back(office: Office) -> None:
    staged = SimpleNamespace(can_roll_back=False, hooks=[], functions=(), distance=0, redirects=[])
    artefact = SimpleNamespace(manifest=SimpleNamespace(sequence=1))

    with pytest.raises(StageError) as refused:
        Patch(office.live, office.live.module, artefact, staged, info={}, terms=Terms(may_revert=True))
    assert refused.value.status == "NO_ROLLBACK_HOOK"
    Patch(office.live, office.live.module, artefact, staged, info={}, terms=Terms())


def test_the_terms_reach_the_manager_and_name_who_asked(office: Office) -> None:
    office.roll_back(1, level="request", settle=7, policy="force", reason="the queue is full")
    office.ask("commit", push="p1")
    (_call, _to, terms) = office.live.calls[0]

    assert terms.pop("wait") < 0.2
    assert terms == {
        "is_promised": True,
        "level": "request",
        "deadline": 7.0,
        "policy": "force",
        "reason": "the queue is full",
        "by": f"uid {os.geteuid()}",
    }


def test_a_change_says_beforehand_at_which_level_it_goes_live(office: Office) -> None:
    assert Rollback(office.live, office.live.module, 1, Terms()).describe()["level"] == "function"
    office.live.generations[1].redirects = [SimpleNamespace(entry=entry, target=1) for entry in (0x1000, 0x2000)]
    assert Rollback(office.live, office.live.module, 1, Terms()).describe()["level"] == "call"


# Writing down ----------------------------------------------------------------------------------------------------------


def test_what_is_forced_is_written_down_with_reason_and_user_before_and_after(office: Office) -> None:
    office.live.begin()
    reply = office.ask("force", reason=" the queue is full ")
    (asked,), (done,) = office.of("force.requested"), office.of(events.TRANSITION_FORCED)

    assert reply["ok"] is True
    assert "worker-3 (thread 77) is inside" in reply["left"][0]
    assert (asked["reason"], asked["peer_uid"], asked["module"]) == ("the queue is full", os.geteuid(), "tiny")
    assert (done["reason"], done["peer_uid"]) == ("the queue is full", os.geteuid())
    assert "worker-3" in done["stragglers"][0]
    assert office.live.calls == [("force", "the queue is full", f"uid {os.geteuid()}")]


def test_where_nothing_is_open_there_is_nothing_to_force(office: Office) -> None:
    assert office.ask("force", reason="why not")["error"]["status"] == "NO_TRANSITION"
    assert office.live.calls == []


def test_begin_stall_and_end_are_written_down_on_behalf_of_the_push(office: Office) -> None:
    office.roll_back(1)
    office.ask("commit", push="p1")
    for event in (events.TRANSITION_STARTED, events.TRANSITION_STALLED, events.TRANSITION_COMPLETED, "swap.committed"):
        office.live.tell({"event": event, "module": "tiny", "path": "/lib/tiny.so", "level": "call"})
    told = [entry for entry in office.audited if entry["event"].startswith("transition.")]

    assert [entry["event"] for entry in told] == ["transition.started", "transition.stalled", "transition.completed"]
    assert {(entry["push"], entry["peer_uid"], entry["level"]) for entry in told} == {("p1", os.geteuid(), "call")}
    assert office.ended == 1


# Waiting ---------------------------------------------------------------------------------------------------------------


def test_an_import_that_met_a_transition_has_its_patch_when_that_is_over(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    live, restored = office.live, []
    live.module.generation = 0
    restorer = Restorer(live, office.books, PolicySource(None), None, lambda: None)  # type: ignore[arg-type]
    monkeypatch.setattr("hotreload.agent.restore.is_hot", lambda path: True)

    def take(module: Any, artefact: Any) -> None:
        if live.open:
            restorer._put_off(module)
        else:
            restored.append(module.path)

    monkeypatch.setattr(restorer, "_take", take)
    monkeypatch.setattr(type(office.books.patches), "current", lambda *_: "an artefact")
    live.begin()
    restorer.arrived("/lib/tiny.so")
    restorer.take_up()
    assert (live.waited, restored) == (1, [])
    live.open = None
    restorer.take_up()

    assert restored == ["/lib/tiny.so"]
