"""Everything that this process has marked.

It loads nothing of ``hotreload.live``: marks are made while modules are imported, and whether they will ever be
patched is decided later or never. A manager that comes after the first mark takes the book over by itself
(``live/process.py``), one that is there already is met at the next mark.

Modules are imported, and so marked, on several threads. There is no lock, which a fork could leave held: each step is
one that the interpreter does as a whole.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterable
from typing import Any

from hotreload.errors import MarkError
from hotreload.mark.callbacks import Group, Mark

__all__ = [
    "add",
    "describe",
    "find",
    "find_python",
    "join",
    "manager",
    "marks",
    "tell_unpatchable",
    "unmarked",
]


class _Book:
    """The one of this process."""

    def __init__(self) -> None:
        self.marks: dict[object, Mark] = {}
        self.groups: dict[str, Group] = {}
        self.by_entry: dict[int, Mark] = {}
        self.whole: dict[str, Mark] = {}
        self.manager: Any = None
        self.told: set[str] = set()
        self.heard: dict[object, Callable[[], None]] = {}


_book = _Book()


def add(mark: Mark) -> None:
    """Writes a mark down; of what is marked already it takes the place, as when a module is imported anew.

    Raises:
        MarkError: its group has members elsewhere; nothing was marked.
    """
    if mark.group:
        _check_group(mark)
    old = _book.marks.pop(mark.key, None)
    if old is not None:
        _drop(old)
    _book.marks[mark.key] = mark
    _book.by_entry.update(dict.fromkeys(mark.entries, mark))
    if mark.is_whole:
        _book.whole[mark.path] = mark
    if mark.group:
        group = _book.groups.setdefault(mark.group, Group(mark.group))
        group.members[mark.key] = mark
    _listen()


def _drop(mark: Mark) -> None:
    remove = _book.heard.pop(mark.key, None)
    if remove is not None:
        remove()
    group = _book.groups.get(mark.group)
    if group is not None:
        group.members.pop(mark.key, None)


def _check_group(mark: Mark) -> None:
    group = _book.groups.get(mark.group)
    for other in list(group.members.values()) if group is not None else ():
        if other.key == mark.key:
            continue
        if (other.kind == "python") != (mark.kind == "python"):
            raise MarkError(
                f"group {mark.group!r} has {_called(other)} already, and {_called(mark)} is of the other kind",
                hint="C and Python functions do not change in one swap: give each kind a group of its own",
            )
        if other.path != mark.path:
            raise MarkError(
                f"group {mark.group!r} has {other.name} of {other.path} already, and {mark.name} is of {mark.path}",
                hint="what changes at once is one extension, or one .py file: give each a group of its own",
            )


def _called(mark: Mark) -> str:
    return f"the {'Python' if mark.kind == 'python' else 'C'} function {mark.name}"


def join(manager: Any) -> None:
    """A patch manager is there: from now on it calls whoever asked for it."""
    _book.manager = manager
    manager.describe_marks = describe
    _book.heard.clear()
    _listen()


def _listen() -> None:
    if _book.manager is None:
        process = sys.modules.get("hotreload.live.process")
        if process is None or process.existing() is None:
            return  # it joins when it comes
        join(process.existing())
        return
    listeners: dict[object, Any] = {key: mark for key, mark in list(_book.marks.items()) if mark.wants_to_hear}
    listeners.update({("group", name): group for name, group in list(_book.groups.items())})
    for key, listener in listeners.items():
        if key not in _book.heard:
            remove = _book.manager.around.add(listener)
            if _book.heard.setdefault(key, remove) is not remove:
                remove()  # another thread, which imports too, was first


def marks() -> list[Mark]:
    """All of them, in the order in which they were made."""
    return list(_book.marks.values())


def manager() -> Any:
    """The patch manager, if this process has one."""
    return _book.manager


def find(entry: int) -> Mark | None:
    """The mark of the C function at an address."""
    return _book.by_entry.get(entry)


def find_python(path: str, qualname: str) -> Mark | None:
    """The mark of a Python function, class or module."""
    return next((m for m in marks() if m.kind == "python" and (m.path, m.qualname) == (path, qualname)), None)


def unmarked(path: str, redirects: Iterable[Any], tables: Iterable[Any] = ()) -> list[str]:
    """What a patch of the library at ``path`` would change and nobody has marked: functions, and Python's tables.

    A function that an earlier generation brought is in no library: it came with what was marked. A table, as of the
    methods of a module, belongs to all of it.
    """
    from hotreload._state import locate

    if path in _book.whole:
        return []
    functions = [each.name for each in redirects if each.entry not in _book.by_entry and locate(each.entry)[0]]
    return functions + [table.name for table in tables]


def tell_unpatchable() -> None:
    """Says in the program's log, once for each, which marked functions cannot be patched here, and why."""
    for mark in describe():
        if not mark["patchable"] and mark["name"] not in _book.told:
            _book.told.add(mark["name"])
            logging.getLogger("hotreload").warning(
                "%s is marked and cannot be patched here: %s", mark["name"], mark["reason"]
            )


def describe() -> list[dict[str, Any]]:
    """Plain data for ``status`` and ``doctor``: what is marked, and what of it cannot be patched, and why."""
    from hotreload.mark.handle import Handle

    found = []
    for mark in marks():
        handle = Handle(mark)
        found.append(
            {
                "name": mark.name,
                "kind": mark.kind,
                "path": mark.path,
                "group": mark.group,
                "generation": handle.generation,
                "patchable": handle.is_patchable,
                "reason": handle.reason,
            }
        )
    return found
