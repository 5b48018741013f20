"""Starts the helper process, for the launcher and for ``hotreload.enable()``."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from hotreload.errors import HotReloadError
from hotreload.run.descriptors import Identity, behind_streams, close_if_ours, identity_of
from hotreload.run.doorway import LIVE_VARIABLE, TOKENS_VARIABLE, Doorway

__all__ = ["BOOTSTRAP", "Started", "environment_without_us", "interpreter", "start_helper"]

BOOTSTRAP = str(Path(__file__).resolve().parent / "bootstrap")

# The first entry of sys.path would be the program's directory: its modules must not become the helper's.
_START = (
    "import sys; root = sys.argv.pop(1); sys.path[:1] = []; root in sys.path or sys.path.append(root); "
    "from hotreload.watch.start import main; main(sys.argv[1:])"
)
# sun_path holds 108 bytes with its end.
_PATH_LIMIT = 107


@dataclass(frozen=True)
class Started:
    """A helper process that listens.

    ``life_fd`` is the end of the pipe by which it knows that the program lives: whoever holds it open keeps the
    helper. It is not inheritable yet. ``identity`` tells whether the number still means it.
    """

    socket_path: str
    life_fd: int
    identity: Identity

    def close(self) -> None:
        """Lets go of the helper."""
        close_if_ours(self.life_fd, self.identity)


def start_helper(config_json: str, program: str, doorway: Doorway | None = None, *, quiet: bool = False) -> Started:
    """Starts a helper process that is nobody's child; it can be connected to at once.

    Args:
        config_json: what ``Config.to_json`` wrote.
        program: how to call the program in a message.
        doorway: where it serves the page, if it does; the socket is left to it and closed here.
        quiet: it writes nothing to stderr; otherwise it has this process's, if that is open.

    Raises:
        HotReloadError: it could not be started; nothing is left behind.
    """
    with behind_streams():
        directory, listening = _open_rendezvous()
        read_fd, write_fd = os.pipe()
    root = Path(__file__).resolve().parent.parent.parent
    command = [interpreter(), "-c", _START, str(root), "--directory", directory]
    command += ["--listen-fd", str(listening.fileno()), "--life-fd", str(read_fd)]
    command += ["--config", config_json, f"--program={program}"]  # it may be called "-c"
    told = json.loads(config_json)
    if told.get("allow") or told.get("log_file"):
        command.append("--check")  # what a server cannot know by itself: the guards are not imported there
    environment, fds = environment_without_us(), [listening.fileno(), read_fd]
    if doorway is not None:
        command += ["--page-fd", str(doorway.listening.fileno())]
        environment[TOKENS_VARIABLE] = doorway.tokens
        fds.append(doorway.listening.fileno())
    try:
        subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=None if _has_stderr() and not quiet else subprocess.DEVNULL,
            pass_fds=fds,
            env=environment,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError) as error:
        os.close(write_fd)
        shutil.rmtree(directory, ignore_errors=True)
        said = (getattr(error, "stdout", None) or b"").decode(errors="replace").strip()
        if said:  # the configuration is wrong, and it says how
            raise HotReloadError(said) from None
        raise HotReloadError(f"the helper process did not start: {error}", hint="see what it printed") from None
    finally:
        os.close(read_fd)
        listening.close()
        if doorway is not None:
            doorway.close()
    return Started(os.path.join(directory, "socket"), write_fd, identity_of(write_fd))


def _has_stderr() -> bool:
    """Whether a child gets our descriptor 2: it may be closed, or a file that the program has opened since."""
    try:
        return os.get_inheritable(2)
    except OSError:
        return False


def environment_without_us() -> dict[str, str]:
    """This process's environment without what makes a Python process connect to a helper."""
    environment = dict(os.environ)
    environment.pop("HOTRELOAD_SOCKET", None)
    environment.pop(LIVE_VARIABLE, None)
    if "PYTHONPATH" in environment:
        entries = [entry for entry in environment["PYTHONPATH"].split(os.pathsep) if entry != BOOTSTRAP]
        environment["PYTHONPATH"] = os.pathsep.join(entries)
        if not entries:
            del environment["PYTHONPATH"]
    return environment


def _open_rendezvous() -> tuple[str, socket.socket]:
    """A fresh directory that only this user can enter, and a socket that listens in it."""
    for parent in (os.environ.get("XDG_RUNTIME_DIR"), tempfile.gettempdir(), "/tmp"):  # noqa: S108 - a fresh directory in it
        if not parent:
            continue
        try:
            directory = tempfile.mkdtemp(prefix="hotreload-", dir=parent)
        except OSError:
            continue
        path = os.path.join(directory, "socket")
        if len(os.fsencode(path)) <= _PATH_LIMIT:
            listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            listening.bind(path)
            listening.listen(128)
            return directory, listening
        os.rmdir(directory)
    raise HotReloadError("no directory for the socket", hint="set XDG_RUNTIME_DIR or TMPDIR to a writable directory")


def interpreter() -> str:
    """The interpreter; where Python is embedded, sys.executable is the host instead."""
    if "python" in os.path.basename(sys.executable or ""):
        return sys.executable
    return os.path.join(sys.exec_prefix, "bin", "python3")
