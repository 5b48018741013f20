"""Migration hooks in a fresh object: which there are, and which of them a patch brings.

    HOTRELOAD_POST_COMMIT(grow) { ... }     in hotreload.h ──▶     static int hotreload_post_commit_grow(...)

A hook that is in the base too, with the same meaning, is what an earlier migration left in the source: the process was
started with the new state, so there is nothing to migrate and it stays out of the patch.
"""

from __future__ import annotations

from typing import Iterable, NamedTuple

from hotreload.diff.graph import HOOK_NAME, ObjectGraph
from hotreload.patch.linktable import HookKind

__all__ = ["HookFunction", "find_hooks", "notes_about", "without_hooks"]

WHEN = {
    HookKind.PRE_COMMIT: "before the commit",
    HookKind.POST_COMMIT: "after the commit",
    HookKind.POST_ROLLBACK: "after a rollback",
}


class HookFunction(NamedTuple):
    """A migration hook of one unit; ``function`` is its C name, ``name`` the one that its author gave it."""

    kind: HookKind
    name: str
    function: str


def find_hooks(base: ObjectGraph, new: ObjectGraph) -> list[HookFunction]:
    """The hooks that are new or changed, in the order of the source."""
    found = []
    for function in new.functions:
        match = HOOK_NAME.match(function)
        if match and not (function in base.functions and base.fingerprint(function) == new.fingerprint(function)):
            found.append(HookFunction(HookKind[match.group(1).upper()], match.group(2), function))
    return sorted(found, key=lambda hook: (new.debug.lines.get(hook.function, 0), hook.function))


def without_hooks(functions: Iterable[str]) -> tuple[str, ...]:
    """The functions that are none."""
    return tuple(name for name in functions if not HOOK_NAME.match(name))


def notes_about(hooks: Iterable[HookFunction], *, has_changes: bool) -> list[str]:
    """What a person is told of them."""
    if not has_changes:
        return [f"hook `{hook.name}` does not run: the patch changes no function" for hook in hooks]
    return [f"hook `{hook.name}` runs {WHEN[hook.kind]}, once in each process" for hook in hooks]
