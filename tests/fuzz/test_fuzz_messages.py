"""The agent's messages against everything: bytes are a request or an end, a request gets a reply that is plain data.

::

    any bytes, in any pieces ─▶ Conversation ─▶ a request, "not yet", or WireError
    any request ──────────────▶ Desk ─────────▶ a reply; nothing is staged, nothing is an internal error
    any line ─────────────────▶ read_crash ───▶ fields, or None
"""

from __future__ import annotations

import json
import os
import socket
import struct
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from hotreload.agent.books import Books
from hotreload.agent.conversation import MESSAGE_LIMIT, Conversation
from hotreload.agent.desk import Desk
from hotreload.agent.peer import Peer
from hotreload.agent.policy import PolicySource
from hotreload.agent.session import Session
from hotreload.agent.transitions import Transitions
from hotreload.live.probation import read_crash
from hotreload.state import StateDirectory
from hotreload.wire import WireError
from tests.fuzz.fuzzing import fuzz

PEER = Peer(os.getpid(), os.getuid(), os.getgid())

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=80),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=20), inner, max_size=3),
    max_leaves=5,
)
commands = st.sampled_from(["status", "doctor", "prepare", "commit", "abort", "prepare-rollback", "force"]) | values
names = st.sampled_from(
    [
        *("v", "cmd", "push", "deadline", "hold", "build_id", "to", "expect_generation", "rollback"),
        *("allow_quarantined", "level", "settle", "policy", "reason", "may_revert"),
    ]
)
likely = st.sampled_from(["p1", "ab" * 20, 0, 1, 5.0, True, ""]) | values
requests = st.builds(
    lambda fields, command, version: {**fields, "cmd": command, "v": version},
    st.dictionaries(names | st.text(max_size=10), likely, max_size=8),
    commands,
    st.sampled_from([1, 1, 1, 2, "1"]),
)
bodies = st.binary(max_size=200) | requests.map(lambda request: json.dumps(request).encode())
chunks = bodies | bodies.map(lambda body: struct.pack(">I", len(body)) + body)


class NoModules:
    """A manager of a process that has loaded nothing hot."""

    is_locked = False

    def __init__(self) -> None:
        self.changes: list[str] = []

    def check_unlocked(self) -> None:
        pass

    def loaded_libraries(self) -> list[Any]:
        return []

    def modules(self) -> tuple[Any, ...]:
        return ()

    def status(self) -> dict[str, Any]:
        return {"pid": os.getpid(), "modules": []}

    def transition(self) -> None:
        return None

    def subscribe(self, *_: object) -> Any:
        return lambda: None

    def stage(self, *_: object) -> None:
        self.changes.append("stage")

    commit = rollback = stage


def test_any_bytes_are_a_request_or_the_end() -> None:
    def check(pieces: list[bytes], cut: int) -> None:
        stream = b"".join(pieces)
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        conversation = Conversation(ours, PEER)
        try:
            for piece in (stream[:cut], stream[cut:]):
                theirs.sendall(piece)
                try:
                    while (received := conversation.receive()) is not None:
                        assert isinstance(received[0], dict)
                        assert received[1] is None
                except (WireError, ConnectionError):
                    return
                assert len(conversation._buffer) <= MESSAGE_LIMIT + 4
        finally:
            conversation.close()
            theirs.close()

    assert fuzz(check, st.lists(chunks, max_size=4), st.integers(0, 300))


def test_any_request_gets_a_reply_that_is_plain_data(tmp_path: Path) -> None:
    books, live = Books(StateDirectory(tmp_path / "state")), NoModules()
    books.audit = lambda *_, **__: True
    transitions = Transitions(live, books)
    desk = Desk(live, books, Session(books, None, transitions), PolicySource(None), transitions)

    def check(request: dict[str, Any]) -> None:
        reply = json.loads(json.dumps(desk.answer(request, None, PEER)))
        assert reply["ok"] in (True, False)
        assert reply["ok"] or reply["error"].get("status") != "INTERNAL", reply
        assert live.changes == []

    assert fuzz(check, requests)


def test_any_line_is_a_crash_or_none() -> None:
    words = st.text(alphabet="abc=0123 \n\t\x00é", max_size=80)

    def check(text: str) -> None:
        crash = read_crash(text)
        assert crash is None or all(isinstance(value, str) for value in crash.values())

    assert fuzz(check, words | words.map(lambda text: f"hotreload: crash {text}\n"))
