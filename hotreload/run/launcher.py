"""``hotreload run``: starts the helper process, then becomes the program.

The program is started in place of this process, so its pid, its signals, its terminal and its exit code are its own;
what it gets besides is two variables in its environment and one descriptor that keeps the helper alive.

With HOTRELOAD_AGENT=1 nothing is watched: there is no helper, and each Python process of the program has an agent
that takes what `hotreload push` sends.
"""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import NoReturn

from hotreload.config import Config
from hotreload.errors import HotReloadError
from hotreload.run.doorway import LIVE_VARIABLE, open_doorway
from hotreload.run.spawn import BOOTSTRAP, start_helper
from hotreload.run.switch import is_forbidden

__all__ = ["command_of", "launch", "wants_agent"]


def wants_agent() -> bool:
    """Whether HOTRELOAD_AGENT asks for agents instead of a helper."""
    return os.environ.get("HOTRELOAD_AGENT", "") not in ("", "0")


def _app_of(command: Sequence[str], config: Config) -> str:
    """The application's name: every process of the program must find the same, whatever its own name is."""
    from hotreload.state.place import app_name

    if config.app:
        return config.app
    words = command[2:] if command[1:2] == ["-m"] else command[1:] if command[:1] == [sys.executable] else command
    return app_name(argv=[word.replace(":", ".") for word in words[:1]])


def command_of(rest: Sequence[str]) -> list[str]:
    """The command line behind ``SCRIPT [ARGS]``, ``-m MODULE [ARGS]`` or ``-- COMMAND [ARGS]``."""
    if rest[:1] == ["--"]:
        if len(rest) < 2:
            raise HotReloadError("no command after --", hint="hotreload run -- COMMAND [ARGS]")
        return list(rest[1:])
    if not rest or list(rest) == ["-m"]:
        raise HotReloadError(
            "nothing to run", hint="hotreload run SCRIPT [ARGS], -m MODULE [ARGS] or -- COMMAND [ARGS]"
        )
    return [sys.executable, *rest]


def launch(rest: Sequence[str], config: Config) -> NoReturn:
    """Becomes the program, with hot reload on.

    Raises:
        HotReloadError: it cannot be started, or hot reload is forbidden here; nothing was started.
    """
    if is_forbidden():
        raise HotReloadError(
            "hot reload is forbidden here by HOTRELOAD_DISABLE=1",
            hint="unset it, or start the program without `hotreload run`",
        )
    command = command_of(rest)
    if shutil.which(command[0]) is None:
        raise HotReloadError(f"no such command: {command[0]}", hint="check the spelling and PATH")
    if wants_agent():
        os.environ.setdefault("HOTRELOAD_APP", _app_of(command, config))
        os.environ.pop("HOTRELOAD_SOCKET", None)
        os.environ.pop(LIVE_VARIABLE, None)
        if config.ui:
            _tell("no page: with HOTRELOAD_AGENT=1 nothing is watched; see `hotreload status`")
    else:
        os.environ.pop(LIVE_VARIABLE, None)
        doorway = open_doorway(config.ui_port) if config.ui else None
        started = start_helper(config.to_json(), shlex.join(rest[1:] if rest[:1] == ["--"] else rest), doorway)
        if doorway is not None:
            os.environ[LIVE_VARIABLE] = doorway.live_url
            doorway.tell()
        os.environ["HOTRELOAD_SOCKET"] = started.socket_path
        os.set_inheritable(started.life_fd, True)
    path = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join([BOOTSTRAP, path] if path else [BOOTSTRAP])
    sys.stdout.flush()
    sys.stderr.flush()
    try:
        os.execvp(command[0], command)  # noqa: S606 - the point of it
    except OSError as error:
        raise HotReloadError(f"cannot run {command[0]}: {error.strerror}", hint="check that it is a program") from None


def _tell(text: str) -> None:
    with suppress(OSError):
        os.write(2, f"hotreload: {text}\n".encode())
