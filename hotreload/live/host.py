"""Which prologues this process can use, and why not: a jump needs the host's leave to change text, a slot is data."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import NamedTuple

from hotreload.errors import HotReloadError
from hotreload.live.core import NativeCore

__all__ = ["Usable", "examine_prologues"]

REBUILD = 'build with prologue = "slot"'


class Usable(NamedTuple):
    """One kind of prologue: whether it can be used here, and what that was found from."""

    prologue: str
    is_usable: bool
    why: str


def examine_prologues(core: NativeCore) -> tuple[Usable, Usable]:
    """What was found for "jump" and for "slot"; it is tried on memory of our own, and nothing stays changed."""
    text, sync, data = (_refusal(probe) for probe in (core.probe_text, core.probe_barrier, core.probe_slots))
    slot = Usable("slot", not data, data or "slots are data: neither text is written nor core sync needed")
    if not text and not sync:
        return Usable(
            "jump", True, "text can be changed for one store and put back, and every core made to see it"
        ), slot
    reasons = [reason for reason in (text, sync) if reason]
    hints = [REBUILD] if slot.is_usable else []
    return Usable("jump", False, "; ".join([*reasons, *_circumstances(core), *hints])), slot


def _circumstances(core: NativeCore) -> Iterator[str]:
    """What is in force for this process and explains a refusal."""
    if core.is_write_execute_denied():
        yield "PR_SET_MDWE is in force"
    with suppress(OSError), open("/proc/self/status", encoding="utf-8", errors="replace") as file:
        if any(line.split() == ["Seccomp:", "2"] for line in file):
            yield "a seccomp filter is in force, as by MemoryDenyWriteExecute= or in a container"


def _refusal(probe: Callable[[], None]) -> str:
    try:
        probe()
    except HotReloadError as error:
        return error.message
    return ""
