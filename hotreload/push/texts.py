"""Which running module the file is that somebody wants to push: ``hotreload push pricing.py``.

the file's real path, or --build-id ─▶ what the processes say they have ─▶ one module, one base text
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from hotreload.artefact import printable
from hotreload.errors import HotReloadError
from hotreload.push.records import ProcessStatus
from hotreload.state import BaseTexts, StateDirectory, StateError

__all__ = ["Running", "base_text", "find_running", "is_text"]

_SHORT = 12
_HOW_TO_MARK = "put `@hotpatchable` (from hotreload import hotpatchable) over its functions and restart the processes"


class Running(NamedTuple):
    """A Python module of which processes have marked functions, as they loaded it."""

    module: str
    path: str
    build_id: str


def is_text(path: str) -> bool:
    """Whether a file is a module of Python, by its name."""
    return path.endswith(".py")


def find_running(source: str, build_id: str, statuses: Sequence[ProcessStatus]) -> Running:
    """The module that ``source`` is to be the new text of.

    Args:
        source: the file; it is looked for by its real path.
        build_id: or how the build-id of the running module begins; then the file may be anywhere.
        statuses: what the processes say.

    Raises:
        HotReloadError: no process has marked functions of it, or they were loaded from several texts.
    """
    if not os.path.exists(source):
        raise HotReloadError(f"{printable(source)} is not there", hint="name the .py with the new text")
    marked = _marked(statuses)
    if build_id:
        found = {running for running in marked if running.build_id.startswith(build_id)}
        what = f"no process has marked functions of a module with build-id {printable(build_id)}"
        hint = "the beginning of one of these"
    else:
        real = os.path.realpath(source)
        found = {running for running in marked if running.path == real}
        what = f"no process has marked functions of {printable(real)}"
        hint = _HOW_TO_MARK if not marked else f"{_HOW_TO_MARK}; a file elsewhere: --build-id"
    if not found:
        raise HotReloadError(what, hint=f"{hint}; marked modules: {_listed(marked)}")
    if len(found) > 1:
        raise HotReloadError(
            f"the processes have loaded {len(found)} texts of {printable(source)}: {_with_pids(found, statuses)}",
            hint="a deployment is half done, or the deployed file was edited in its place and a process has started "
            "since: restart the others, or put the file back and restart that one",
        )
    return found.pop()


def base_text(directory: StateDirectory, running: Running) -> bytes:
    """The text that the processes have loaded it from.

    Raises:
        HotReloadError: it is not kept in the state directory, or is not what it was.
    """
    elsewhere = "`hotreload pack NEW.py --base OLD.py` where that text is, and push what it makes"
    try:
        text = BaseTexts(directory).get(running.build_id)
    except StateError as error:
        raise StateError(error.message, hint=f"{error.hint}; {elsewhere}", **error.fields) from None
    if text is None:
        raise HotReloadError(
            f"the text that {printable(running.module)} was loaded from is not kept in {directory.path}", hint=elsewhere
        )
    return text


def _marked(statuses: Sequence[ProcessStatus]) -> set[Running]:
    return {found for status in statuses for found in _marked_in(status)}


def _marked_in(status: ProcessStatus) -> list[Running]:
    modules: Sequence[Mapping[str, Any]] = status.raw.get("modules") or ()
    running = [Running(*(str(module.get(key, "")) for key in ("name", "path", "build_id"))) for module in modules]
    return [one for one in running if is_text(one.path)]


def _with_pids(found: set[Running], statuses: Sequence[ProcessStatus]) -> str:
    parts = []
    for running in sorted(found):
        pids = [str(status.raw.get("pid")) for status in statuses if running in _marked_in(status)]
        parts.append(f"{running.module} {running.build_id[:_SHORT]} in {', '.join(pids)}")
    return "; ".join(parts)


def _listed(marked: set[Running]) -> str:
    return ", ".join(f"{printable(one.module)} {one.build_id[:_SHORT]}" for one in sorted(marked)) or "none"
