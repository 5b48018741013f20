"""Inside the server: maps finished patches near the extension and redirects functions to them.

::

    core.py         the seam to C: the only module that knows cffi
    refusal.py      what the core refused, as an exception with fields
    records.py      what the manager hands out
    ledger.py       what is known about one extension: generations, owners, redirects
    manager.py      attach, stage, commit, roll back
    work.py         who does the work on one kind of code; the manager has one for each
    swaps.py        the order of the steps of a stage, a commit and a rollback
    transitions.py  threads on their way: what is open, what drives it, deadlines, force
    stragglers.py   who has not moved, with stacks
    retire.py       what is proven unused and unmapped; what is kept and why; caps
    requests.py     request(), WSGI and ASGI
    around.py       callbacks of the program around a swap
    hooks.py        migration hooks: code of a generation that is called around its commit
    shadow.py       shadow data, counted
    report.py       the lock, and events for the subscribers
    process.py      one manager per process, also after a fork
    arrivals.py     being told of imports; which extensions are hot
    probation.py    who is to blame when the process dies soon after a commit
    redirect.py     the bare mechanism, on addresses

The C core is loaded when this package is imported, and the package is imported when the process is to be patched.
"""

from __future__ import annotations

from typing import Any

from hotreload.live.manager import Manager
from hotreload.live.process import manager
from hotreload.live.records import Generation, LoadedModule, StagedPatch, Terms
from hotreload.live.redirect import Redirection, redirect
from hotreload.live.retire import Limits

__all__ = [
    "Generation",
    "Limits",
    "LoadedModule",
    "Manager",
    "Redirection",
    "StagedPatch",
    "Terms",
    "lock",
    "manager",
    "redirect",
    "status",
    "transition",
]


def status() -> dict[str, Any]:
    """What is live in this process: extensions, generations, functions, memory; plain data for JSON."""
    return manager().status()


def transition() -> dict[str, Any] | None:
    """The transition that is open in this process, with the threads that have not moved and their stacks; or None."""
    return manager().transition()


def lock() -> None:
    """Has this process, and every child it forks, refuse patches and rollbacks until it ends. There is no unlock."""
    manager().lock()
