"""The example server: a WSGI application whose hot loop is the C extension ``render``.

::

    /            the page
    /tile.png    ?frame=0..255 &size=1..512 &fresh=1     a tile, from C
    /palette.png                                         the colours of the code that is live
    /state       JSON: counters, generation of each C function, process, recent events
    /events      the swaps as they happen (server-sent events)

Every tile and every JSON answer says in its headers which code gave it, so that a client can tell:

    X-Render-Stamp      signature of the C code that drew it: it changes with the code and comes back with it
    X-Render-Ticket     its number among all tiles of this process: a static inside a C function
    X-Render-Thread     the thread that answered, and how many tiles that thread has answered: a C thread-local
    X-Render-Cache      hit, miss, or unused
    X-Render-Whole      no: the code was swapped while this tile was drawn
    X-Render-Pid        the process

Nothing here knows how code is swapped. The application runs without hotreload just as well; with it, it is told of
each swap through ``hotreload.subscribe()`` and asks ``hotreload.status()`` what is live.
"""

from __future__ import annotations

import json
import os
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable, Iterable
from urllib.parse import parse_qs

import generations
import render
from png import encode_png
from swaplog import StreamsError, SwapLog

__all__ = ["app", "swaps"]

Environ = dict[str, Any]
StartResponse = Callable[[str, list[tuple[str, str]]], object]

STREAMS_MAX = 4  # of the server's threads (gunicorn.conf.py) at most so many serve streams, the rest serve tiles
PAGE = (Path(__file__).parent / "page.html").read_bytes()
STARTED_AT = time.time()

swaps = SwapLog(STREAMS_MAX)
generations.subscribe(swaps.publish)


@dataclass(frozen=True)
class Response:
    """What a route answers."""

    body: Iterable[bytes]
    content_type: str
    status: str = "200 OK"
    headers: dict[str, str] = field(default_factory=dict)


class BadRequestError(ValueError):
    """The query says something that cannot be answered; the message goes to the client."""


def app(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    """The WSGI entry point."""
    route = ROUTES.get(environ["PATH_INFO"])
    if environ["REQUEST_METHOD"] not in ("GET", "HEAD"):
        response = _plain("405 Method Not Allowed", "GET only\n")
    elif route is None:
        response = _plain("404 Not Found", "no such page\n")
    else:
        try:
            response = route(environ)
        except BadRequestError as error:
            response = _plain("400 Bad Request", f"{error}\n")
    headers = {"Content-Type": response.content_type, "Cache-Control": "no-store", **response.headers}
    if isinstance(response.body, list):
        headers["Content-Length"] = str(sum(map(len, response.body)))
    start_response(response.status, list(headers.items()))
    return response.body


def answer_page(_environ: Environ) -> Response:
    """The page: one file, nothing fetched from elsewhere."""
    policy = (
        "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
        "connect-src 'self'; img-src 'self' data:"
    )
    return Response([PAGE], "text/html; charset=utf-8", headers={"Content-Security-Policy": policy})


def answer_tile(environ: Environ) -> Response:
    """A tile, drawn by C without the GIL; the headers say by which code."""
    frame = _number(environ, "frame", default=0, low=0, high=render.FRAMES - 1)
    size = _number(environ, "size", default=256, low=1, high=render.SIZE_MAX)
    fresh = _number(environ, "fresh", default=0, low=0, high=1)
    pixels, stamp, ticket, by_this_thread, hit, whole = render.tile(frame, size, fresh=bool(fresh))
    headers = {
        "X-Render-Stamp": f"{stamp:08x}",
        "X-Render-Ticket": str(ticket),
        "X-Render-Thread": f"{threading.get_native_id()} {by_this_thread}",
        "X-Render-Cache": "unused" if fresh else "hit" if hit else "miss",
        "X-Render-Whole": "yes" if whole else "no",
        "X-Render-Pid": str(os.getpid()),
    }
    return Response([encode_png(pixels, size, size)], "image/png", headers=headers)


def answer_palette(_environ: Environ) -> Response:
    """The palette of the code that is live, as a strip one pixel high."""
    return Response([encode_png(render.palette(512), 512, 1)], "image/png")


def answer_state(_environ: Environ) -> Response:
    """Everything the page shows, as JSON."""
    stamp = f"{render.stamp():08x}"
    state = {
        "pid": os.getpid(),
        "started_at": STARTED_AT,
        "loaded_at": render.loaded_at(),
        "uptime": time.time() - STARTED_AT,
        "stamp": stamp,
        "counters": render.counters(),
        "hotreload": generations.describe(),
        "streams": swaps.streams,
        "events": swaps.recent(),
    }
    headers = {"X-Render-Stamp": stamp, "X-Render-Pid": str(os.getpid())}
    return Response([json.dumps(state, default=str).encode()], "application/json", headers=headers)


def answer_events(environ: Environ) -> Response:
    """The log of swaps as server-sent events, if a thread can be spared."""
    try:
        stream = swaps.stream(environ.get("HTTP_LAST_EVENT_ID", ""))
    except StreamsError:
        return _plain("503 Service Unavailable", "enough streams are open; /state has the events too\n", retry_after=5)
    return Response(stream, "text/event-stream", headers={"X-Accel-Buffering": "no"})


ROUTES: dict[str, Callable[[Environ], Response]] = {
    "/": answer_page,
    "/tile.png": answer_tile,
    "/palette.png": answer_palette,
    "/state": answer_state,
    "/events": answer_events,
}


def _plain(status: str, text: str, retry_after: int = 0) -> Response:
    headers = {"Retry-After": str(retry_after)} if retry_after else {}
    return Response([text.encode()], "text/plain; charset=utf-8", status, headers)


def _number(environ: Environ, name: str, *, default: int, low: int, high: int) -> int:
    values = parse_qs(environ.get("QUERY_STRING", "")).get(name)
    if not values:
        return default
    try:
        number = int(values[-1])
    except ValueError:
        raise BadRequestError(f"{name} must be a whole number, not {values[-1]!r}") from None
    if not low <= number <= high:
        raise BadRequestError(f"{name} must be between {low} and {high}, not {number}")
    return number
