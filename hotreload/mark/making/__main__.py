"""``python -m hotreload.mark.making``: reads what is to be made or found; writes the answer; both JSON.

The directory is locked by whoever starts this, and the lock is inherited: nobody else makes the same meanwhile.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

from hotreload.errors import BuildError, HotReloadError
from hotreload.mark.making.library import make
from hotreload.mark.making.place import find_place


def main() -> int:
    told: Any
    answer = os.dup(1)
    os.umask(os.umask(0) | 0o022)  # it is code that is loaded: nobody else is to write to it
    os.dup2(2, 1)  # what a compiler or cffi has to say is no part of the answer
    try:
        order = json.load(sys.stdin)
        told, code = (find_place(order) if "locate" in order else make(order)), 0
    except HotReloadError as error:
        told, code = {"refused": error.as_dict()}, 1
    except OSError as error:  # a full disk, a directory that went away
        refusal = BuildError(f"it cannot be built: {error}", hint="HOTRELOAD_STORE names another directory to build in")
        told, code = {"refused": refusal.as_dict()}, 1
    with open(answer, "w", encoding="utf-8") as file:
        json.dump(told, file)
    return code


if __name__ == "__main__":
    sys.exit(main())
