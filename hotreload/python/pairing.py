"""Which of several functions of one name is which, when an edit adds one or takes one away.

::

    base   _(x: int)        _(x: str)            f, an overload    f, the function
              │                 └───┐               └──────┐              └──────┐
    new    _(x: int)   _(x: float)  _(x: str)    f, an overload    f, another    f, the function

By their order alone each would get the code of its neighbour. They are told apart by what they say: all of it, then
decorators and parameters, then decorators. Of functions without a decorator the last is what the name means, so those
are paired from the end. What is left over is paired only where as many are left on both sides; else it is new, or gone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from hotreload.python.outline import Function, Outline, said

__all__ = ["pair"]

_Groups = dict[tuple[str, str], list[Function]]


def pair(old: Outline, now: Outline) -> dict[str, str]:
    """The keys of the new text's functions that are to be others, so that equal keys are the same function."""
    keys: dict[str, str] = {}
    before = _groups(old)
    for place, functions in _groups(now).items():
        known = before.get(place, [])
        if max(len(known), len(functions)) > 1 or (not known and place[1] == "_"):
            keys.update(_pair_group(known, functions))
    return {key: other for key, other in keys.items() if key != other}


def _groups(text: Outline) -> _Groups:
    found: _Groups = {}
    for function in text.functions.values():
        found.setdefault((function.owner, function.node.name), []).append(function)
    for cls in text.classes.values():  # it is numbered among them
        found.pop((cls.owner, cls.node.name), None)
    return found


def _pair_group(old: list[Function], now: list[Function]) -> dict[str, str]:
    old, now = list(old), list(now)
    keys: dict[str, str] = {}
    for look in (_whole, _head, _decorators):
        for what in dict.fromkeys(map(look, now)):
            those, these = _alike(old, look, what), _alike(now, look, what)
            if look is not _whole and these[0].decorators and len(those) != len(these):
                continue
            for one, other in zip(reversed(those), reversed(these)):
                keys[other.key] = one.key
                old.remove(one)
                now.remove(other)
    if len(old) == len(now):
        keys.update((other.key, one.key) for one, other in zip(old, now))
        return keys
    taken = set(keys.values()) | {function.key for function in old}
    for function in now:
        keys[function.key] = key = _new_key(function, taken)
        taken.add(key)
    return keys


def _alike(functions: list[Function], look: Callable[[Function], str], what: str) -> list[Function]:
    return [function for function in functions if look(function) == what]


def _whole(function: Function) -> str:
    return said(function.node)


def _head(function: Function) -> str:
    return "\n".join([*function.decorators, function.parameters])


def _decorators(function: Function) -> str:
    return "\n".join(function.decorators)


def _new_key(function: Function, taken: set[str]) -> str:
    """By what it says: the next edit may put another above it."""
    mark = hashlib.sha256(_head(function).encode("utf-8", "backslashreplace")).hexdigest()[:12]
    prefix = f"{function.owner}." if function.owner else ""
    key = base = f"{prefix}{function.node.name}#{mark}"
    number = 1
    while key in taken:
        number += 1
        key = f"{base}-{number}"
    return key
