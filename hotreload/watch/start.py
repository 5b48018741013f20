"""The first breath of the helper process: it becomes nobody's child, and then imports all that it needs.

::

    hotreload run ──▶ python -c ──▶ (the configuration is wrong: says so, exits 2)
         │                 │
         │ waits           ├──▶ fork, a session of its own ──▶ helper.py: imports, serves
         ◀── exits 0 ──────┘

Whoever starts it waits for no more than that: the socket listens already, and what the helper imports it imports while
the program starts. So nothing is imported here that is not needed.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import NoReturn

__all__ = ["main"]

# The exit code of a helper whose configuration is wrong; it has said why.
_WRONG = 2


def main(argv: Sequence[str]) -> NoReturn:
    """Goes on as the helper, in a process that is nobody's child; ``--check`` looks at the configuration before."""
    words = list(argv)
    if "--check" in words:
        words.remove("--check")
        _check(words[words.index("--config") + 1])
    _detach()
    _guard_streams()
    from hotreload.watch.helper import main as help_program

    help_program(words)


def _check(config_json: str) -> None:
    """Ends at once where what is to be allowed cannot be, so that whoever starts the helper is told why.

    What it says goes to stdout, which whoever starts it reads.
    """
    from hotreload.config import Config, ConfigError
    from hotreload.diff.verdicts import check_allowed

    config = Config.from_json(config_json)
    try:
        check_allowed(config.allow)
        if config.log_file:
            with open(config.log_file, "a", encoding="utf-8"):
                pass
    except ConfigError as error:
        sys.exit(_say(str(error)))
    except OSError as error:
        sys.exit(_say(f"cannot write {config.log_file}: {error.strerror} (choose another place with --log-file)"))


def _say(text: str) -> int:
    os.write(1, text.encode(errors="backslashreplace"))
    return _WRONG


def _detach() -> None:
    """Goes on in a child of nobody, in a session of its own."""
    os.setsid()
    if os.fork():
        os._exit(0)


def _guard_streams() -> None:
    """The program's stdin and stdout are its own: here they lead nowhere, and to stderr."""
    with open(os.devnull, "rb") as nowhere:
        os.dup2(nowhere.fileno(), 0)
    os.dup2(2, 1)
