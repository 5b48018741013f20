"""The helper process's own logger: coloured lines on a terminal, one JSON object per line anywhere else.

It is wrapped around its own processors and its own file, so nothing that a host has configured, in structlog or in
logging, is read or changed. Texts that a compiler printed are shown as they are on a terminal, below their line;
in JSON they are the field ``diagnostics``, without colours.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, MutableMapping
from typing import Any, Protocol, TextIO, cast

import structlog

from hotreload.panels import draw, trouble_of_event, wants_panels, without_colours

__all__ = ["Log", "make_log", "without_colours", "writes_to_terminal"]

_DEBUG, _INFO = 10, 20
_TEXTS = ("diagnostics", "warnings")
# For programs, and for the panel; on a line they would be in the way.
_DATA = ("findings", "sources")
_MEASURED = ("build_ms", "diff_ms", "link_ms", "stage_ms", "commit_ms")
# What says nothing in passing.
_USUAL = (("trigger", "save"), ("discarded", 0), ("processes", 0))

Fields = MutableMapping[str, Any]


class _Lines(structlog.WriteLogger):
    """Writes each line in one piece, since the program writes to the same terminal.

    Where nothing can be written, on a full disk or to a reader that left, they are lost.
    """

    def msg(self, message: str) -> None:
        with contextlib.suppress(OSError, ValueError):
            super().msg(message)

    debug = info = warning = error = msg


class Log(Protocol):
    """What the rest of the package asks of a logger: a constant event name, and fields."""

    def debug(self, event: str, /, **fields: Any) -> Any: ...
    def info(self, event: str, /, **fields: Any) -> Any: ...
    def warning(self, event: str, /, **fields: Any) -> Any: ...
    def error(self, event: str, /, **fields: Any) -> Any: ...


class _Both:
    """A logger that is two."""

    def __init__(self, *logs: Log) -> None:
        self._logs = logs

    def debug(self, event: str, /, **fields: Any) -> None:
        for log in self._logs:
            log.debug(event, **fields)

    def info(self, event: str, /, **fields: Any) -> None:
        for log in self._logs:
            log.info(event, **fields)

    def warning(self, event: str, /, **fields: Any) -> None:
        for log in self._logs:
            log.warning(event, **fields)

    def error(self, event: str, /, **fields: Any) -> None:
        for log in self._logs:
            log.error(event, **fields)


def make_log(log_format: str = "auto", *, file: TextIO | None = None, verbose: bool = False, also: str = "") -> Log:
    """A logger that writes to ``file`` (stderr by default) and shares nothing with the host's logging.

    Args:
        log_format: ``console``, ``json``, or ``auto``: console when ``file`` is a terminal.
        file: where the lines go.
        verbose: whether debug lines are written too.
        also: a file that gets every line as JSON besides.

    Raises:
        OSError: that file cannot be written.
    """
    stream = sys.stderr if file is None else file
    if also:
        beside = open(also, "a", encoding="utf-8", buffering=1)  # noqa: SIM115 - for as long as the logger
        return _Both(make_log(log_format, file=stream, verbose=verbose), make_log("json", file=beside, verbose=verbose))
    console = writes_to_terminal(log_format, stream)
    render: list[Callable[..., Any]] = (
        [
            structlog.processors.TimeStamper(fmt="%H:%M:%S", utc=False),
            _shorten,
            _console_renderer(stream),
        ]
        if console
        else [
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.dict_tracebacks,
            _strip_colours,
            structlog.processors.JSONRenderer(default=str),
        ]
    )
    logger = structlog.wrap_logger(
        _Lines(stream),
        processors=[structlog.processors.add_log_level, *render],
        wrapper_class=structlog.make_filtering_bound_logger(_DEBUG if verbose else _INFO),
        context_class=dict,
        cache_logger_on_first_use=True,
    )
    return cast("Log", logger)


def writes_to_terminal(log_format: str, stream: TextIO) -> bool:
    """Whether lines in this format on this stream are meant for a person."""
    return log_format == "console" or (log_format == "auto" and stream.isatty())


def _console_renderer(stream: TextIO) -> Callable[..., str]:
    """structlog's renderer for people, with a panel or a compiler's text below the line instead of inside it."""
    colours = wants_panels(stream) and not os.environ.get("NO_COLOR")
    line = structlog.dev.ConsoleRenderer(
        colors=colours,
        sort_keys=False,
        pad_level=False,
        exception_formatter=structlog.dev.plain_traceback,
    )

    def render(logger: Any, method: str, event: Fields) -> str:
        below = _panel(event, stream)
        for name in _DATA:
            event.pop(name, None)
        texts = [str(event.pop(name)) for name in _TEXTS if event.get(name)]
        below += "\n".join(text if colours else without_colours(text) for text in texts).rstrip("\n")
        rendered = str(line(logger, method, event))
        return f"{rendered}\n{below}".rstrip("\n")

    return render


def _panel(event: Fields, stream: TextIO) -> str:
    """The panel for a failure, which leaves out of the line what it says itself; empty where none is drawn."""
    trouble = trouble_of_event(event)
    if trouble is None:
        return ""
    event.pop("details", None)
    if wants_panels(stream):
        for name in ("reason", "hint", "diagnostics"):
            event.pop(name, None)
        return draw(trouble, stream)
    if trouble.findings:  # the lines below begin with it
        event.pop("reason", None)
        event.pop("hint", None)
    elif trouble.status:
        event["status"] = trouble.status
    return ""


def _shorten(_logger: Any, _method: str, event: Fields) -> Fields:
    """Drops what is empty or usual, rounds what was measured, joins lists: a line is read by a person in passing."""
    short: dict[str, Any] = {}
    is_live = event.get("outcome") in ("live", None)
    for name, value in event.items():
        if name in ("build_id", "distance_bytes") or value is None or value in ((), [], ""):
            continue
        if (name, value) in _USUAL or (name in _MEASURED and round(value, 1) == 0):
            continue
        if name == "edited" and value == event.get("functions"):
            continue
        if name in ("functions", "edited", "added", "removed") and not is_live:
            continue  # of the patch as it was made: nothing of it is live
        if name in _DATA:
            short[name] = value
        elif isinstance(value, float):
            short[name] = round(value, 1)
        elif isinstance(value, (list, tuple)):
            short[name] = ", ".join(str(item) for item in value)
        else:
            short[name] = value
    return short


def _strip_colours(_logger: Any, _method: str, event: Fields) -> Fields:
    for name in _TEXTS:
        if name in event:
            event[name] = without_colours(str(event[name]))
    return event
