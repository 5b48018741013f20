"""Where the state of an application is: its name, and the directory that goes with it.

HOTRELOAD_STATE, else `state` in [tool.hotreload], else
$XDG_RUNTIME_DIR/hotreload/APP, else /run/user/UID/hotreload/APP, else ~/.local/state/hotreload/APP
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping

from hotreload.state.directory import StateError, is_plain_name

__all__ = ["app_name", "state_path"]


def app_name(configured: str = "", *, environ: Mapping[str, str] | None = None, argv: list[str] | None = None) -> str:
    """The name that an application's processes and its operator call it by.

    Args:
        configured: ``app`` of [tool.hotreload], which ``HOTRELOAD_APP`` beats.
        environ: the environment; that of this process by default.
        argv: the program and its arguments; those of this process by default.

    Raises:
        StateError: the name that was given cannot be the name of a directory.
    """
    given = (os.environ if environ is None else environ).get("HOTRELOAD_APP", "") or configured
    if given:
        if not is_plain_name(given):
            raise StateError(
                f"{given!r} cannot be the name of an application", hint="letters, digits, '-', '_' and '.', at most 64"
            )
        return given
    program = (sys.argv if argv is None else argv)[:1] or [""]
    name = os.path.basename(program[0]).removesuffix(".py")
    return name if is_plain_name(name) else "python"


def state_path(
    app: str, configured: str = "", *, environ: Mapping[str, str] | None = None, uid: int | None = None
) -> str:
    """The state directory of ``app``, which need not exist yet.

    Args:
        app: from :func:`app_name`.
        configured: ``state`` of [tool.hotreload], which ``HOTRELOAD_STATE`` beats.
        environ: the environment; that of this process by default.
        uid: the service's user; this process's own by default.
    """
    env = os.environ if environ is None else environ
    given = env.get("HOTRELOAD_STATE", "") or configured
    if given:
        return os.path.abspath(given)
    if not is_plain_name(app):
        raise StateError(f"{app!r} cannot be the name of an application", hint="set HOTRELOAD_APP")
    user = os.geteuid() if uid is None else uid
    runtime = env.get("XDG_RUNTIME_DIR", "") if user == os.geteuid() else ""
    if not runtime and os.path.isdir(f"/run/user/{user}"):
        runtime = f"/run/user/{user}"
    if runtime:
        return os.path.join(runtime, "hotreload", app)
    return os.path.join(_home(user, env), ".local", "state", "hotreload", app)


def _home(user: int, environ: Mapping[str, str]) -> str:
    if user == os.geteuid() and environ.get("HOME"):
        return environ["HOME"]
    import pwd

    try:
        return pwd.getpwuid(user).pw_dir
    except KeyError:
        raise StateError(
            f"user {user} has no home directory to keep state in", hint="set HOTRELOAD_STATE to a directory of its own"
        ) from None
