"""Which application an operator means: by directory, by name, or because there is only one."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress

from hotreload.errors import HotReloadError
from hotreload.state import StateDirectory, StateError, app_name, state_path

__all__ = ["find_state"]


def find_state(
    *, app: str = "", state: str = "", configured_app: str = "", configured_state: str = ""
) -> StateDirectory:
    """The state directory of the application that is meant.

    Args:
        app: ``--app``, which beats HOTRELOAD_APP and ``app`` of [tool.hotreload].
        state: ``--state``, which beats HOTRELOAD_STATE and ``state`` of [tool.hotreload].
        configured_app: ``app`` of [tool.hotreload].
        configured_state: ``state`` of [tool.hotreload].

    Raises:
        HotReloadError: there is none, or there are several and none was named.
    """
    if state:
        return _open(state)
    given = app or os.environ.get("HOTRELOAD_APP", "") or configured_app
    if given or configured_state or os.environ.get("HOTRELOAD_STATE"):
        environ: Mapping[str, str] = {**os.environ, **({"HOTRELOAD_APP": app} if app else {})}
        return _open(state_path(app_name(given or "app", environ=environ), configured_state, environ=environ))
    around = os.path.dirname(state_path("app"))
    names: list[str] = []
    with suppress(FileNotFoundError):
        names = sorted(name for name in os.listdir(around) if os.path.isdir(os.path.join(around, name)))
    if len(names) != 1:
        there = f"there are {', '.join(names)}" if names else f"there is none in {around}"
        raise HotReloadError(
            f"which application? {there}", hint="name it with --app, or its state directory with --state"
        )
    return _open(os.path.join(around, names[0]))


def _open(path: str) -> StateDirectory:
    try:
        return StateDirectory.as_operator(path)
    except StateError as error:
        hint = error.hint or "is the application running with its agent on, under this user?"
        raise StateError(error.message, hint=hint, **error.fields) from None
