"""Threads that have not come over to the new code, as an operator reads of them.

::

    4711: shop.kernels 1 -> 2, level call: 8 of 9 threads have come over, open for 12 s, after 30 s it stays open
          worker-3 (thread 4713) is inside price_all+0x12 [original], for 12 s
            native: price_all+0x12 [original] < kernel_price+0x40 < cfunction_vectorcall+0x5c [libpython3.11.so]
            Python: app.py:12 in price < wsgi.py:80 in handle
"""

from __future__ import annotations

import pwd
import re
import time
from collections.abc import Iterator, Mapping
from typing import Any

from hotreload.artefact import printable

__all__ = ["count_stragglers", "name_of_user", "name_threads", "tell_taint", "tell_transition"]

_FRAMES = 8
_NAMED = 3
_LEFT_OUT = "..."
_NAMELESS = re.compile(r"(\S+\+)?0x[0-9a-f]+")
_SAYINGS = {
    "RUNNING": "is computing and has not called a changed function since",
    "INSIDE": "is inside {where}",
    "REQUEST": "is inside a request",
    "FOREIGN_STACK": "runs on a stack that is not its own, which cannot be looked through",
    "UNREADABLE": "cannot be looked at",
    "GREENLETS": "suspended greenlets keep their stacks where they cannot be looked through",
}
_POLICIES = {"wait": "it stays open", "revert": "it turns round", "force": "it is forced"}


def count_stragglers(transition: Mapping[str, Any]) -> int:
    """How many threads have not come over."""
    stragglers = transition.get("straggler_count", len(transition.get("stragglers") or ()))
    return max(int(stragglers), int(transition.get("threads", 0)) - int(transition.get("settled", 0)))


def name_threads(transition: Mapping[str, Any]) -> str:
    """How far it is, in one line with a few names."""
    settled, threads = transition.get("settled", 0), transition.get("threads", 0)
    text = f"{settled} of {threads} threads have come over"
    stragglers = list(transition.get("stragglers") or ())
    if stragglers:
        text += ": " + ", ".join(_thread(straggler) for straggler in stragglers[:_NAMED])
    rest = count_stragglers(transition) - min(len(stragglers), _NAMED)
    return text + (f" and {rest} more" if stragglers and rest > 0 else "")


def tell_transition(pid: int, transition: Mapping[str, Any]) -> Iterator[str]:
    """What is open in one process, thread by thread."""
    head = f"{pid}: {transition.get('module')} {transition.get('from')} -> {transition.get('to')}"
    parts = [f"{transition.get('settled', 0)} of {transition.get('threads', 0)} threads have come over"]
    if transition.get("direction") == "back":
        parts.append("turned round")
    since = transition.get("since")
    if isinstance(since, (int, float)):
        parts.append(f"open for {_ago(since)}")
    if isinstance(transition.get("deadline"), (int, float)):
        parts.append(f"after {transition['deadline']:g} s {_POLICIES.get(transition.get('policy', ''), '')}".rstrip())
    yield printable(f"{head}, level {transition.get('level')}: {', '.join(parts)}")
    for straggler in transition.get("stragglers") or ():
        yield printable(f"      {_thread(straggler)}")
        for label, frames in (("native", straggler.get("native")), ("Python", straggler.get("python"))):
            if frames:
                yield printable(f"        {label}: {_stack([str(frame) for frame in frames])}")


def tell_taint(pid: int, module: str, taint: Mapping[str, Any]) -> str:
    """What was done to a process that no proof stands for any more."""
    at = taint.get("at")
    when = time.strftime(" at %m-%d %H:%M:%S", time.localtime(at)) if isinstance(at, (int, float)) and at else ""
    by = f" by {name_of_user(str(taint['by']))}" if taint.get("by") not in (None, "") else ""
    return printable(f"{pid}: {module} is tainted: {taint.get('what')}{when}{by}: {taint.get('reason')}")


def name_of_user(text: str) -> str:
    """A user by the name that the machine has for "uid N"; anything else as it is."""
    number = text[4:] if text.startswith("uid ") else ""
    try:
        return pwd.getpwuid(int(number)).pw_name if number.isdecimal() else text
    except (KeyError, OverflowError):
        return text


def _thread(straggler: Mapping[str, Any]) -> str:
    reason = str(straggler.get("reason", ""))
    what = _SAYINGS.get(reason, reason).format(where=straggler.get("where") or "old code")
    if not straggler.get("tid"):
        return what
    since = straggler.get("since")
    ago = f", for {_ago(since)}" if isinstance(since, (int, float)) and since else ""
    return f"{straggler.get('name')} (thread {straggler['tid']}) {what}{ago}"


def _stack(frames: list[str]) -> str:
    """A stack in one line: what has no name is left out, and so is what is far from where the thread is."""
    told: list[str] = []
    for frame in frames:
        if not _NAMELESS.fullmatch(frame):
            told.append(frame)
        elif told[-1:] != [_LEFT_OUT]:
            told.append(_LEFT_OUT)
    far = [_LEFT_OUT] if len(told) > _FRAMES and told[_FRAMES - 1] != _LEFT_OUT else []
    return " < ".join(told[:_FRAMES] + far)


def _ago(since: float) -> str:
    return f"{max(0.0, time.time() - since):.0f} s"
