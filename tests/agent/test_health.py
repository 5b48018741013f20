"""What a process finds wrong with itself."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from hotreload.agent.health import _prologues
from hotreload.live.host import Usable


@pytest.mark.parametrize(
    ("loaded", "usable", "fine"),
    [
        ([], (False, True), [True, True]),
        ([], (False, False), [False, False]),
        (["slot"], (False, True), [True, True]),
        (["jump"], (False, True), [False, True]),
        (["jump", "slot"], (False, True), [False, True]),
    ],
)
def test_a_prologue_that_cannot_be_used_is_a_fault_where_it_is_needed(
    loaded: list[str], usable: tuple[bool, bool], fine: list[bool]
) -> None:
    live: Any = SimpleNamespace(status=lambda: {"modules": [{"prologue": kind} for kind in loaded]})
    found = [Usable(kind, can, "why") for kind, can in zip(("jump", "slot"), usable)]
    checks = list(_prologues(found, live))

    assert [check["ok"] for check in checks] == fine
    assert [check["usable"] for check in checks] == list(usable)
