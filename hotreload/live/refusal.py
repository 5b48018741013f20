"""What the core refused, as an exception: the class answers *did anything change?*, the fields say what and where.

The texts and hints come from the list in ``csrc/status.h``; here they only meet the numbers.
"""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from typing import Any

from hotreload.errors import HotReloadError, PoisonedError, StageError, TransitionError

__all__ = ["Refusal", "make_error", "printable"]

_FAMILIES: dict[str, type[HotReloadError]] = {
    "STAGE": StageError,
    "TRANSITION": TransitionError,
    "POISONED": PoisonedError,
}

_BYTES_AT_ENTRY = {"BREAKPOINT", "NOT_A_HOOK", "REDIRECTED", "TEXT_CHANGED", "POISONED"}


@dataclass(frozen=True)
class Refusal:
    """One ``struct hr_error``, with the names of its status."""

    status: str
    family: str
    text: str
    hint: str
    call: str = ""
    errno: int = 0
    address: int = 0
    value: int = 0
    limit: int = 0
    length: int = 0
    name: str = ""
    detail: str = ""


def make_error(refusal: Refusal) -> HotReloadError:
    """The exception for a refusal; its fields are those of the core's error that are not empty."""
    fields: dict[str, Any] = {
        key: value for key, value in asdict(refusal).items() if key not in ("family", "text", "hint") and value
    }
    message = ": ".join(part for part in (refusal.text, refusal.name, _numbers(refusal), _cause(refusal)) if part)
    return _FAMILIES.get(refusal.family, StageError)(message, hint=refusal.hint, **fields)


def printable(raw: bytes) -> str:
    """Text from a file or a symbol table, safe for a log: what would not print is escaped."""
    text = raw.decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def _numbers(refusal: Refusal) -> str:
    if refusal.status == "NO_ROOM":
        nearest = (
            "no free gap is that big"
            if refusal.value == 2**64 - 1
            else f"the nearest free gap that fits ends {refusal.value:,} bytes away"
        )
        return f"{refusal.length:,} bytes are needed near {refusal.address:#x}, {nearest}, reach is {refusal.limit:,}"
    if refusal.status == "OUT_OF_RANGE":
        return f"{refusal.value:,} bytes from {refusal.address:#x}, reach is {refusal.limit:,}"
    if refusal.status in _BYTES_AT_ENTRY:
        found = refusal.value.to_bytes(8, "little").hex(" ")
        wanted = f", expected {refusal.limit.to_bytes(8, 'little').hex(' ')}" if refusal.limit else ""
        return f"{refusal.address:#x} holds {found}{wanted}"
    if refusal.status == "TARGET":
        return f"{refusal.value:#x}, from {refusal.address:#x}"
    parts = []
    if refusal.address:
        parts.append(f"at {refusal.address:#x}")
    if refusal.value or refusal.limit:
        parts.append(f"{refusal.value:,}" + (f" where {refusal.limit:,} is the limit" if refusal.limit else ""))
    if refusal.length:
        parts.append(f"{refusal.length:,} bytes")
    return ", ".join(parts)


def _cause(refusal: Refusal) -> str:
    if refusal.detail:
        return refusal.detail
    if refusal.call and refusal.errno:
        return f"{refusal.call}: {os.strerror(refusal.errno)}"
    return refusal.call
