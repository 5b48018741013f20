"""Migration hooks: code of a generation that brings live state into the form that the generation expects.

::

    commit     pre-commit of the new ─▶ redirected, in the books ─▶ post-commit of the new
                 └─ veto: nothing was changed
                 └─ the swap is refused after it: post-rollback of the new

    rollback   pre-commit of the target ─▶ redirected ─▶ post-rollback of what is left ─▶ post-commit of the target

So whatever makes a generation live runs its pre-commit and post-commit hooks, and a rollback away from it runs its
post-rollback hooks. A commit of a later patch runs none of the earlier one's: patches are cumulative, and so is what
their hooks find done.

They run in the process that takes the patch, in the thread that commits, with the GIL held and the manager's lock too.
A child that is forked afterwards has what they did. At level ``call`` and ``request`` a post-commit hook runs when the
transition has begun: threads that are in the middle of something still run old code. Before the first store, where
pre-commit hooks run, all of them do. A post-rollback hook is part of what is left, so in a transition what it calls is
too; at level ``function`` it calls what serves from now on.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence

from hotreload.errors import StageError
from hotreload.live.core import PatchHook
from hotreload.live.records import POST_COMMIT, POST_ROLLBACK, PRE_COMMIT, Generation, HookRun, StagedPatch

__all__ = [
    "check_automatic_rollback",
    "run_post",
    "run_pre",
    "run_rollback",
]

KINDS = {PRE_COMMIT: "pre-commit", POST_COMMIT: "post-commit", POST_ROLLBACK: "post-rollback"}


def run_pre(entered: Generation, left: int, *, may_veto: bool = True) -> tuple[HookRun, ...]:
    """Runs the pre-commit hooks of a generation that is about to become live.

    Args:
        entered: what is to become live; its image is mapped.
        left: the number of what is live now.
        may_veto: without it a veto is reported and does not hold, as where others rely on what was promised.

    Raises:
        StageError: VETO, with what the hook said, and as its cause what the hook raised. Nothing is redirected; what
            hooks did before the one that refused stays done.
    """
    runs = []
    for hook in _of_kind(entered.hooks, PRE_COMMIT):
        run, cause = _run(hook, entered, left, entered.number)
        if run.error and may_veto:
            raise StageError(
                f"{entered.module}: hook `{hook.name}` refuses the patch: {run.error}",
                hint="nothing was redirected; the patch can be tried again",
                status="VETO",
                function=hook.name,
                detail=run.error,
            ) from cause
        runs.append(run)
    return tuple(runs)


def run_post(entered: Generation, left: int) -> tuple[HookRun, ...]:
    """Runs the post-commit hooks of a generation that has become live; what fails is reported and undoes nothing."""
    return tuple(_run(hook, entered, left, entered.number)[0] for hook in _of_kind(entered.hooks, POST_COMMIT))


def run_rollback(left: Generation, to: int) -> tuple[HookRun, ...]:
    """Runs the post-rollback hooks of a generation that was left by a rollback; it must still be mapped."""
    return tuple(_run(hook, left, left.number, to)[0] for hook in _of_kind(left.hooks, POST_ROLLBACK))


def check_automatic_rollback(staged: StagedPatch, why: str) -> None:
    """Insists that a patch may be taken back by a machine.

    Args:
        staged: what is to be committed.
        why: what would take it back, as in "a trial".

    Raises:
        StageError: NO_ROLLBACK_HOOK; nothing was changed.
    """
    if not staged.can_roll_back:
        raise StageError(
            f"the patch has a post-commit hook and no post-rollback hook: {why} could not be taken back",
            hint="add HOTRELOAD_POST_ROLLBACK, or commit it in all processes at once and with policy `wait`",
            status="NO_ROLLBACK_HOOK",
        )


def _of_kind(hooks: Sequence[PatchHook], kind: int) -> list[PatchHook]:
    return [hook for hook in hooks if hook.kind == kind]


def _run(hook: PatchHook, owner: Generation, left: int, to: int) -> tuple[HookRun, BaseException | None]:
    """Calls one hook in this thread; what went wrong is in the result, and in the log."""
    started = time.perf_counter()
    cause: BaseException | None = None
    try:
        from hotreload._state import call_hook  # loaded where there is something to call

        result, message = call_hook(owner.address + hook.image_off, owner.module, left, to)
        error = message or f"it returned {result}" if result or message else ""
    except BaseException as raised:  # noqa: BLE001 - whatever it is, between two stores of the books nothing may escape
        cause = raised
        error = f"{type(raised).__name__}: {raised}"
    run = HookRun(KINDS[hook.kind], hook.name, time.perf_counter() - started, error)
    if error and hook.kind != PRE_COMMIT:
        logging.getLogger("hotreload").error(
            "%s: %s hook `%s` failed, and generation %d is live all the same: %s",
            *(owner.module, run.kind, hook.name, to, error),
            exc_info=cause,
        )
    return run, cause
