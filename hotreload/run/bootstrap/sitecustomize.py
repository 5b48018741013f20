"""Connects a Python process to the helper process, then makes room for the program's own ``sitecustomize``.

Where HOTRELOAD_AGENT=1 asks for one, an agent is started instead.

``hotreload run`` puts this directory in front of PYTHONPATH, and the interpreter imports this file before anything of
the program. Whatever goes wrong here costs one line on stderr, never the program.
"""

from __future__ import annotations

import importlib
import os
import sys


def _leave_path() -> None:
    """This directory has done its work; no other module is to be found in it."""
    here = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [entry for entry in sys.path if os.path.abspath(entry) != here]


def _connect(socket_path: str) -> None:
    try:
        _find_package()
        from hotreload.run.switch import join

        join(socket_path)
    except Exception as error:  # noqa: BLE001 - the program comes first
        _tell_once(socket_path, f"no hot reload in {sys.executable}: {type(error).__name__}: {error}")


def _find_package() -> None:
    """Makes the package importable where it is not installed, without putting its neighbours on the path."""
    import importlib.util

    if importlib.util.find_spec("hotreload") is not None:
        return
    package = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    spec = importlib.util.spec_from_file_location(
        "hotreload", os.path.join(package, "__init__.py"), submodule_search_locations=[package]
    )
    if spec is None or spec.loader is None:
        raise ImportError(f"no package in {package}")
    module = importlib.util.module_from_spec(spec)
    sys.modules["hotreload"] = module
    spec.loader.exec_module(module)


def _tell_once(socket_path: str, text: str) -> None:
    """One line, however many processes have the same trouble."""
    try:
        os.close(os.open(os.path.join(os.path.dirname(socket_path), "told"), os.O_CREAT | os.O_EXCL, 0o600))
        os.write(2, f"hotreload: {text}\n".encode())
    except OSError:
        pass


def _chain() -> None:
    """Imports the next ``sitecustomize`` on the path in the place of this one, with its errors as they would be."""
    ours = sys.modules.pop(__name__, None)
    try:
        importlib.import_module(__name__)
    except ImportError as error:
        if error.name != "sitecustomize":
            raise
    finally:
        if __name__ not in sys.modules and ours is not None:
            sys.modules[__name__] = ours


def _start_agent() -> None:
    try:
        _find_package()
        from hotreload.agent.process import start

        start()
    except Exception as error:  # noqa: BLE001 - the program comes first
        os.write(2, f"hotreload: no agent in process {os.getpid()}: {error}\n".encode())


_leave_path()
if os.environ.get("HOTRELOAD_SOCKET") and os.environ.get("HOTRELOAD_DISABLE", "") in ("", "0"):
    _connect(os.environ["HOTRELOAD_SOCKET"])
elif os.environ.get("HOTRELOAD_AGENT", "") not in ("", "0") and os.environ.get("HOTRELOAD_DISABLE", "") in ("", "0"):
    _start_agent()
_chain()
