"""Other reloaders in this process: where one restarts the program for a saved ``.py``, that file is theirs.

::

    reloader              the process that watches                the process that serves
    Werkzeug (Flask)      started `flask run`, or run_simple      WERKZEUG_RUN_MAIN=true
    Django's runserver    in restart_with_reloader                RUN_MAIN=true
    uvicorn --reload      in BaseReload.run                       spawned: subprocess_started(config)
    gunicorn --reload     (each worker watches by itself)         in Worker.init_process, cfg.reload
    hupper                in Reloader.run                         spawned: worker_main

Those that leave nothing in the environment are recognised by their function on a stack: it stays there for as long as
the process lives, and it is there before the program's own modules are imported.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from types import FrameType
from typing import Any

__all__ = ["name_of_reloader"]

_WERKZEUG = "Werkzeug's reloader"
_DJANGO = "Django's runserver"
_UVICORN = "uvicorn --reload"
_GUNICORN = "gunicorn --reload"
_HUPPER = "hupper"

#: What a reloader sets for the process that it restarts.
_VARIABLES = {"WERKZEUG_RUN_MAIN": _WERKZEUG, "RUN_MAIN": _DJANGO}


def _always(_names: Mapping[str, Any]) -> bool:
    return True


def _is_reload_child(names: Mapping[str, Any]) -> bool:
    """uvicorn starts its workers by the same function; ``should_reload`` is false for these."""
    return bool(getattr(names.get("config"), "should_reload", False))


def _is_reload_worker(names: Mapping[str, Any]) -> bool:
    return bool(getattr(getattr(names.get("self"), "cfg", None), "reload", False))


#: Module and function that a stack has, and what its local names must say.
_FRAMES: dict[tuple[str, str], tuple[str, Callable[[Mapping[str, Any]], bool]]] = {
    ("werkzeug._reloader", "run_with_reloader"): (_WERKZEUG, _always),
    ("django.utils.autoreload", "run_with_reloader"): (_DJANGO, _always),
    ("uvicorn.supervisors.basereload", "run"): (_UVICORN, _always),
    ("uvicorn._subprocess", "subprocess_started"): (_UVICORN, _is_reload_child),
    ("gunicorn.workers.base", "init_process"): (_GUNICORN, _is_reload_worker),
    ("hupper.reloader", "run"): (_HUPPER, _always),
    ("hupper.worker", "worker_main"): (_HUPPER, _always),
}


def name_of_reloader() -> str:
    """What restarts this process, or its child, when a ``.py`` is saved ("Django's runserver"); else an empty text.

    The answer can change from empty to a name: a program that calls ``app.run(debug=True)`` has imported its own
    modules by then. Costs some microseconds for each thread; never raises.
    """
    for variable, name in _VARIABLES.items():
        if os.environ.get(variable) == "true":
            return name
    return _from_command_line() or _from_stacks()


def _from_command_line() -> str:
    """The watching process of two that import the program before they start to watch."""
    words = sys.argv[1:]
    if words[:1] == ["runserver"] and "--noreload" not in words and "django" in sys.modules:
        return _DJANGO
    if "run" in words and "flask.cli" in sys.modules and "--no-reload" not in words:
        is_debug = os.environ.get("FLASK_DEBUG", "").lower() not in ("", "0", "false", "no")
        return _WERKZEUG if is_debug or "--reload" in words else ""
    return ""


def _from_stacks() -> str:
    for innermost in sys._current_frames().values():  # noqa: SLF001 - the only way to ask for the stacks of other threads
        frame: FrameType | None = innermost
        while frame is not None:
            known = _FRAMES.get((str(frame.f_globals.get("__name__")), frame.f_code.co_name))
            if known is not None and known[1](frame.f_locals):
                return known[0]
            frame = frame.f_back
    return ""
