"""Python's tables: what a generation adds to the modules and types of the process, and takes from them again.

::

    level function   stored ─▶ in the books ─▶ shown
    call, request    a transition begins ─▶ all threads have moved, or were forced ─▶ shown
                                └─ turned round: what was shown stays as it was

A name is there for everybody from one moment on, so it has to wait for the last thread: a function that is new may call
others that changed, and for a thread that has not moved these are the old ones.

What is shown follows from the generation that is live, whatever was shown before: for each live table either the one of
the generation or, where it has none, that of the base. ``hotreload._state`` does it (``csrc/python/tables.c``).
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from hotreload.errors import StageError
from hotreload.live.core import PatchTable
from hotreload.live.ledger import Ledger
from hotreload.live.records import TableRun

__all__ = ["prepare", "show"]


def prepare(tables: Sequence[PatchTable]) -> None:
    """Insists that tables can be shown in this process.

    Raises:
        StageError: NO_STATE; nothing was changed.
    """
    if not tables:
        return
    try:
        from hotreload._state import show_table  # noqa: F401 - loaded where there is something to show
    except ImportError as error:
        raise StageError(
            f"what the patch adds to modules and types cannot be shown: {error}",
            hint="install hotreload for this interpreter, or restart the server to take this edit",
            status="NO_STATE",
        ) from error


def show(ledger: Ledger) -> tuple[TableRun, ...]:
    """Brings modules and types up to the generation that is live, notes in the book what came of it, and returns it.

    A table that cannot be shown is as it was, and its run says why; the generation is live all the same.
    """
    live = ledger.live
    wanted = {(table.kind, table.base_off): table for table in live.tables}
    if not (wanted or ledger.tables):
        return ()
    holders: list[object] = []
    runs = tuple(
        _run(ledger, table, live.address + table.image_off if place in wanted else 0, holders)
        for place, table in {**ledger.tables, **wanted}.items()
    )
    ledger.tables.update(wanted)
    ledger.mark(live.number, table_runs=runs)
    return runs


def _run(ledger: Ledger, table: PatchTable, address: int, holders: list[object]) -> TableRun:
    """Shows one; ``holders`` is filled by the first that needs it: that means to look at every object."""
    logger = logging.getLogger("hotreload")
    try:
        from hotreload._state import show_table

        found = show_table(
            table.kind,
            ledger.base.object.bias + table.base_off,
            table.base_count,
            address,
            table.count if address else 0,
            table.changes,
            holders,
        )
    except BaseException as error:  # whatever it is: the code is live, and the books have to say so
        logger.exception(
            "%s: `%s` is not shown, and generation %d is live all the same", ledger.name, table.name, ledger.live.number
        )
        return TableRun(table.name, error=f"{type(error).__name__}: {error}")
    added, removed, kept, _ = found
    run = TableRun(table.name, tuple(added), tuple(removed), tuple(kept))
    if run.kept:
        logger.warning(
            "%s: left alone, since something else has the name: %s (new in `%s`)",
            *(ledger.name, ", ".join(run.kept), run.name),
        )
    if run.added or run.removed:
        words = [f"{what} {', '.join(names)}" for what, names in (("added", added), ("taken away", removed)) if names]
        logger.info("%s: generation %d: %s", ledger.name, ledger.live.number, "; ".join(words))
    return run
