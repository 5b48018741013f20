"""Lambdas of C++ have no names: the compiler numbers them, and an edit that adds one renumbers those behind it.

::

    base   m.def("count", []() { return calls; });                  UlvE_
    edit   m.def("first", []() { return 77; });                     UlvE_   ◀ the name of another lambda's code
           m.def("count", []() { return calls; });                  UlvE0_

What was bound to the first at import would run the body of another. Lambdas of other parameters have other names; they
keep their code, as functions that were removed do.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from hotreload.diff.graph import ObjectGraph
from hotreload.errors import Finding

__all__ = ["examine_closures"]

#: A closure type in a mangled name: parameters, number (Itanium C++ ABI, 5.1.8).
_CLOSURE = re.compile(r"Ul(\w+?)E(\d*)_")


def examine_closures(base: ObjectGraph, new: ObjectGraph, changed: Iterable[str], source: str) -> Iterator[Finding]:
    """Lambdas that got other code while one of the same parameters came or went in the file; at most one finding."""
    before, after = _numbers(base), _numbers(new)
    moved = {params for params in before.keys() & after.keys() if before[params] != after[params]}
    for name in changed:
        closures = _CLOSURE.findall(name) if name.startswith("_Z") else ()
        if any(params in moved for params, _number in closures):
            reason = f"`{name}` is of a lambda, and one of the same parameters was added or removed in this file"
            reason = f"{reason}: which is which cannot be told by their numbers"
            hint = "make the new one a function with a name, or restart"
            yield Finding("lambda-renumbered", reason, hint, source, new.debug.lines.get(name, 0))
            return


def _numbers(graph: ObjectGraph) -> dict[str, set[str]]:
    """Parameters → the numbers of the lambdas that have these."""
    found: dict[str, set[str]] = {}
    for name in graph.functions:
        if name.startswith("_Z") and "Ul" in name:
            for params, number in _CLOSURE.findall(name):
                found.setdefault(params, set()).add(number)
    return found
