"""What this process and its host allow, asked of the process itself."""

from __future__ import annotations

import importlib.util
import os
import platform
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import hotreload
from hotreload.agent.books import Books
from hotreload.agent.change import Live
from hotreload.agent.policy import PolicySource
from hotreload.errors import HotReloadError

__all__ = ["examine"]


def examine(live: Live, books: Books, policy: PolicySource) -> dict[str, Any]:
    """Checks, each with a name, whether it is fine, and what was found; and the versions."""
    from hotreload.live.core import NativeCore
    from hotreload.live.host import examine_prologues

    core = NativeCore()
    checks = [
        *_prologues(examine_prologues(core), live),
        _check("sealed memfd", _try_memfd),
        _check("state directory", lambda: _state(books)),
        _check("audit trail", lambda: _audit(books)),
        _check("policy", lambda: _policy(policy)),
        _check("not locked", live.check_unlocked),
        _check("files of generations", lambda: _files(live)),
        *_marked(live),
    ]
    return {
        "checks": checks,
        "fine": all(check["ok"] for check in checks),
        "versions": {
            "hotreload": hotreload.__version__,
            "python": platform.python_version(),
            "kernel": os.uname().release,
            "libc": " ".join(platform.libc_ver()),
        },
        "signatures": importlib.util.find_spec("cryptography") is not None,
    }


def _prologues(found: Iterable[Any], live: Live) -> Iterator[dict[str, Any]]:
    """One that cannot be used is no fault of a process that has no extension built so; without any, one must do."""
    found = list(found)
    extensions = [module for module in live.status()["modules"] if not module.get("path", "").endswith(".py")]
    used = {module.get("prologue", "jump") for module in extensions}
    needed = used or {usable.prologue for usable in found if not any(other.is_usable for other in found)}
    for usable in found:
        is_fine = usable.is_usable or usable.prologue not in needed
        told = {"name": f"prologue {usable.prologue}", "ok": is_fine, "detail": usable.why, "hint": ""}
        yield {**told, "usable": usable.is_usable}


def _marked(live: Live) -> Iterator[dict[str, Any]]:
    """What is marked and cannot be patched is worth a line and is no fault: a plain build serves as well."""
    marked = live.status().get("marked") or ()
    for mark in marked:
        if not mark["patchable"]:
            yield {"name": f"marked {mark['name']}", "ok": True, "detail": mark["reason"], "hint": "", "note": True}
    if marked:
        yield {"name": "marked", "ok": True, "detail": [mark["name"] for mark in marked], "hint": ""}


def _check(name: str, check: Callable[[], Any]) -> dict[str, Any]:
    try:
        found = check()
    except HotReloadError as error:
        return {"name": name, "ok": False, "detail": error.message, "hint": error.hint}
    except OSError as error:
        return {"name": name, "ok": False, "detail": str(error), "hint": ""}
    return {"name": name, "ok": True, "detail": found or "", "hint": ""}


def _try_memfd() -> None:
    os.close(os.memfd_create("hotreload-doctor", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING))


def _state(books: Books) -> str:
    books.directory.check()
    return books.directory.path


def _files(live: Live) -> str:
    """No fault when there are none: perf and others then have no names for new code."""
    files = live.status().get("files", {})
    return f"in memory only: {files['reason']}" if files.get("reason") else str(files.get("directory", ""))


def _audit(books: Books) -> str:
    with books.directory.append("audit.jsonl"):
        return books.directory.path_of("audit.jsonl")


def _policy(policy: PolicySource) -> dict[str, Any]:
    return policy.read().as_dict()
