"""Makes edits to C extensions live inside the Python process that runs them.

Most programs need no import at all: ``hotreload build`` once, then ``hotreload run app.py``. From code::

    import hotreload

    hotreload.enable()  # watch and patch, from now on
    hotreload.subscribe(print)  # every reload, as a dict
    hotreload.status()  # generations, functions, memory

    with hotreload.request():  # what is called in here is of one generation, at level request
        ...

Importing this package imports nothing else; each name is looked up when it is first used.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from hotreload import errors as errors
    from hotreload.integrations.ipython import load_ipython_extension as load_ipython_extension
    from hotreload.integrations.ipython import unload_ipython_extension as unload_ipython_extension
    from hotreload.live import lock as lock
    from hotreload.live import redirect as redirect
    from hotreload.live import status as status
    from hotreload.live import transition as transition
    from hotreload.live.requests import asgi as asgi
    from hotreload.live.requests import request as request
    from hotreload.live.requests import wsgi as wsgi
    from hotreload.mark import about as about
    from hotreload.mark import hotpatchable as hotpatchable
    from hotreload.page.tag import live_script as live_script
    from hotreload.run.switch import disable as disable
    from hotreload.run.switch import enable as enable
    from hotreload.run.switch import subscribe as subscribe

__all__ = [
    "__version__",
    "about",
    "asgi",
    "disable",
    "enable",
    "errors",
    "get_include",
    "hotpatchable",
    "live_script",
    "lock",
    "redirect",
    "request",
    "status",
    "subscribe",
    "transition",
    "wsgi",
]

__version__ = "0.1.0"

_HOMES = {
    "about": "hotreload.mark",
    "asgi": "hotreload.live.requests",
    "disable": "hotreload.run.switch",
    "enable": "hotreload.run.switch",
    "hotpatchable": "hotreload.mark",
    "live_script": "hotreload.page.tag",
    "load_ipython_extension": "hotreload.integrations.ipython",
    "lock": "hotreload.live",
    "redirect": "hotreload.live",
    "request": "hotreload.live.requests",
    "status": "hotreload.live",
    "subscribe": "hotreload.run.switch",
    "transition": "hotreload.live",
    "unload_ipython_extension": "hotreload.integrations.ipython",
    "wsgi": "hotreload.live.requests",
}


def get_include() -> str:
    """The directory of ``hotreload.h``, for a compiler's ``-I``."""
    import os

    return os.path.join(os.path.dirname(os.path.abspath(__file__)), "include")


def __getattr__(name: str) -> object:
    if name == "errors":
        import hotreload.errors

        return hotreload.errors
    if name in _HOMES:
        from importlib import import_module

        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
