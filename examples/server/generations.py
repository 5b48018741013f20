"""What the application knows about hot reloading: which generation each C function is in, and what just happened.

All of it is optional. Where the process was not started under ``hotreload run`` everything is in generation 0, the
extension as it was loaded from disk, and there are no events.
"""

from __future__ import annotations

import os
import subprocess
import time
from typing import Any, Callable, Mapping

import render

__all__ = ["describe", "subscribe"]

IS_ON = bool(os.environ.get("HOTRELOAD_SOCKET"))
if IS_ON:
    import hotreload


def subscribe(publish: Callable[[Mapping[str, Any]], None]) -> None:
    """Have `publish` called with each event, and with what this process knows at that moment.

    ``stamp`` is the signature of the code that is live then, ``at`` the time of day, and ``at_ns`` the monotonic
    clock, which all processes of a machine share: a request that was sent later than that was sent after the swap.
    """

    def receive(event: Mapping[str, Any]) -> None:
        at_ns = time.monotonic_ns()
        publish({**event, "at_ns": at_ns, "at": time.time(), "stamp": f"{render.stamp():08x}", "pid": os.getpid()})

    if IS_ON:
        hotreload.subscribe(receive)


def describe() -> dict[str, Any]:
    """The live generation of ``render``, and that of each of its functions."""
    generations = dict.fromkeys(_FUNCTIONS, 0)
    live = _status_of_render()
    generations.update(live.get("functions", {}))
    return {
        "is_on": IS_ON,
        "generation": live.get("generation", 0),
        "functions": [{"name": name, "generation": number} for name, number in sorted(generations.items())],
    }


def _status_of_render() -> Mapping[str, Any]:
    """What hotreload says of this extension; nothing before it has taken it on."""
    modules = hotreload.status()["modules"] if IS_ON else []
    here = os.path.realpath(render.__file__)
    return next((module for module in modules if os.path.realpath(module["path"]) == here), {})


def _functions_of_base() -> tuple[str, ...]:
    """The functions of the extension as it was loaded, by its own symbol table: those that were not inlined away."""
    table = subprocess.run(
        ["nm", "--defined-only", "--print-size", render.__file__], capture_output=True, text=True, check=True
    )
    rows = (line.split() for line in table.stdout.splitlines())
    # Address, size, kind, name; what the C runtime adds has no size.
    return tuple(row[3] for row in rows if len(row) == 4 and row[2] in "tT" and "." not in row[3])


_FUNCTIONS = _functions_of_base()
