"""``%load_ext hotreload``: hot reload in an IPython shell or a Jupyter kernel, told in one line per save.

::

    link thread: reload.finished ─▶ one line ─┬─ a prompt is waiting  ▶ printed above it, what was typed stays
                                              ├─ a Jupyter kernel     ▶ into the output of the last cell
                                              └─ any other shell      ▶ kept, and printed before the next cell runs

The helper process says nothing by itself here: its log would end up in the middle of what is being typed.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["load_ipython_extension", "one_line", "unload_ipython_extension"]

_LONGEST = 300


class _Reporter:
    """Prints lines where they disturb nobody. Lines come on hotreload's thread, cells run on the shell's own."""

    def __init__(self, shell: Any) -> None:
        self._shell = shell
        self._kept: deque[str] = deque(maxlen=100)
        shell.events.register("pre_run_cell", self.flush)

    def close(self) -> None:
        self._shell.events.unregister("pre_run_cell", self.flush)
        self.flush()

    def tell(self, line: str) -> None:
        self._kept.append(line)
        if hasattr(self._shell, "kernel"):
            self.flush()
            return
        application = getattr(getattr(self._shell, "pt_app", None), "app", None)
        loop = getattr(application, "loop", None)
        if application is not None and loop is not None and application.is_running:
            with contextlib.suppress(RuntimeError):  # the prompt was answered meanwhile: the next cell tells it
                loop.call_soon_threadsafe(_above_prompt, self.flush)

    def flush(self, *_info: object) -> None:
        while self._kept:
            print(self._kept.popleft(), file=sys.stdout, flush=True)


def _above_prompt(tell: Callable[[], None]) -> None:
    from prompt_toolkit.application import run_in_terminal

    run_in_terminal(tell)


class _Extension:
    """What is on in this shell."""

    def __init__(self, shell: Any) -> None:
        from hotreload.run import switch

        was_on = bool(os.environ.get("HOTRELOAD_SOCKET"))
        self.is_on = switch.enable_quietly()
        self._is_ours = self.is_on and not was_on
        self._reporter = _Reporter(shell)
        # A helper of somebody else's writes to this terminal itself; a notebook would not show it.
        is_told_here = self._is_ours or hasattr(shell, "kernel")
        self._unsubscribe = switch.subscribe(self._told) if is_told_here else lambda: None

    def _told(self, event: Mapping[str, Any]) -> None:
        if event.get("event") == "reload.finished":
            self._reporter.tell(one_line(event))

    def close(self) -> None:
        from hotreload.run import switch

        self._unsubscribe()
        self._reporter.close()
        if self._is_ours:
            switch.disable()


_extensions: dict[int, _Extension] = {}


def load_ipython_extension(shell: Any) -> None:
    """Turns hot reload on in the shell's process and reports each reload; loading it twice is loading it once.

    Under ``hotreload run -- ipython`` the helper process that is there is joined.

    Raises:
        HotReloadError: the configuration is wrong or the helper process did not start; nothing has changed.
    """
    if id(shell) in _extensions:
        return
    extension = _Extension(shell)
    _extensions[id(shell)] = extension
    if extension.is_on:
        print("hotreload: on. Import what `hotreload build` has built; a saved C source goes live here.")
    else:
        print("hotreload: off: it is forbidden here by HOTRELOAD_DISABLE=1")


def unload_ipython_extension(shell: Any) -> None:
    """Undoes :func:`load_ipython_extension`. What is live stays live."""
    extension = _extensions.pop(id(shell), None)
    if extension is not None:
        extension.close()
        print("hotreload: off. What is live stays live.")


def one_line(event: Mapping[str, Any]) -> str:
    """What became of a save, in one line: the module, what is live or why not."""
    module, outcome = event.get("module"), event.get("outcome")
    if outcome == "live":
        text = f"{_names(event)} live as generation {event.get('generation')} ({event.get('total_ms') or 0:.0f} ms)"
        for word, kind in (("new", "appeared"), ("gone", "withdrawn")):
            text += f", {word}: {', '.join(event[kind])}" if event.get(kind) else ""
        if event.get("stragglers"):
            text += f", but not yet in {', '.join(map(str, event['stragglers']))}"
    elif outcome == "base":
        text = "the code that it was built from is live again"
    elif outcome == "nothing":
        text = f"nothing to do: {event.get('reason') or ''}"
    elif outcome == "build_failed":
        text = f"does not compile, the earlier code serves: {_first_error(event)}"
    else:
        text = f"refused, the earlier code serves: {_first_finding(event)}"
    line = f"hotreload: {module}: {text}"
    return line if len(line) <= _LONGEST else line[: _LONGEST - 3] + "..."


def _names(event: Mapping[str, Any]) -> str:
    """The functions that are others now; where only an inline one was edited, that one."""
    for kind in ("functions", "edited", "compiler_changed"):
        if event.get(kind):
            return ", ".join([*event[kind], *(event.get("added") or ())])
    return "new code"


def _first_error(event: Mapping[str, Any]) -> str:
    lines = str(event.get("diagnostics") or "").splitlines()
    return next((line for line in lines if "error:" in line), str(event.get("reason") or ""))


def _first_finding(event: Mapping[str, Any]) -> str:
    lines = str(event.get("diagnostics") or "").splitlines()
    more = f" (and {len(lines) - 1} more)" if len(lines) > 1 else ""
    return (lines[0] + more) if lines else str(event.get("reason") or "")
