"""What this process and its host allow, asked of the process itself."""

from __future__ import annotations

import importlib.util
import os
import platform
from collections.abc import Callable
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

    core = NativeCore()
    checks = [
        _check("text can be opened for writing", core.probe_text),
        _check("membarrier with core sync", core.probe_barrier),
        _check("sealed memfd", _try_memfd),
        _check("state directory", lambda: _state(books)),
        _check("audit trail", lambda: _audit(books)),
        _check("policy", lambda: _policy(policy)),
        _check("not locked", live.check_unlocked),
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


def _audit(books: Books) -> str:
    with books.directory.append("audit.jsonl"):
        return books.directory.path_of("audit.jsonl")


def _policy(policy: PolicySource) -> dict[str, Any]:
    return policy.read().as_dict()
