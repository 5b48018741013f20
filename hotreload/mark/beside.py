"""Asks a process beside this one, which compiles and reads debug information: a server loads nothing that does."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Sequence
from typing import Any

__all__ = ["ask"]

# The first entry of sys.path would be the program's directory: its modules must not become those of the build.
_START = (
    "import sys; sys.path[:1] = [entry for entry in sys.path[:1] if entry]; "
    "from hotreload.mark.making.__main__ import main; sys.exit(main())"
)


def ask(order: dict[str, Any], pass_fds: Sequence[int] = ()) -> subprocess.CompletedProcess[str]:
    """What ``hotreload.mark.making`` has to say to an order; see there."""
    from hotreload.run.spawn import interpreter

    package = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    python_path = os.pathsep.join(filter(None, (package, os.environ.get("PYTHONPATH", ""))))
    return subprocess.run(
        [interpreter(), "-c", _START],
        input=json.dumps(order),
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
        pass_fds=pass_fds,
        env={**os.environ, "PYTHONPATH": python_path, "HOTRELOAD_DISABLE": "1", **_store()},
    )


def _store() -> dict[str, str]:
    """The store by its whole path: the build goes from one directory to another."""
    store = os.environ.get("HOTRELOAD_STORE")
    return {"HOTRELOAD_STORE": os.path.abspath(store)} if store else {}
