"""The page over HTTP: on the loopback, for whoever knows the token, and for nobody else's scripts.

::

    GET  /TOKEN/              the page             GET  /LIVE-TOKEN/live.js    what live_script() refers to
    GET  /TOKEN/page.css .js  its parts            GET  /LIVE-TOKEN/events     outcome, module, generation
    GET  /TOKEN/events        all that happens
    GET  /TOKEN/entry/N       the diffs of a row
    POST /TOKEN/go            to an earlier state

What is refused, and why: a ``Host`` that is not of this machine (a name that was pointed here, to get round the
browser's same-origin rule); a token that is wrong; a POST that does not say it comes from the page itself; an
``Origin`` of elsewhere at the read-only events, which a page of the user's own reads from another port.
"""

from __future__ import annotations

import errno
import json
import os
import socket
import threading
import time
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from hotreload.errors import HotReloadError
from hotreload.page.book import Book
from hotreload.page.feed import Reader
from hotreload.page.guard import Tokens, is_loopback, is_loopback_origin

__all__ = ["PageServer"]

_STATIC = os.path.join(os.path.dirname(os.path.abspath(__file__)), "static")
_FILES = {
    "": ("index.html", "text/html; charset=utf-8"),
    "page.css": ("page.css", "text/css; charset=utf-8"),
    "page.js": ("page.js", "text/javascript; charset=utf-8"),
    "icon.svg": ("icon.svg", "image/svg+xml"),
}
_LIVE_FILES = {"live.js": ("live.js", "text/javascript; charset=utf-8")}
_POLICY = (
    "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; object-src 'none'; "
    "require-trusted-types-for 'script'"
)
_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": _POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
_HEARTBEAT = 15.0
# A browser that takes nothing for so long is gone, or stopped in its debugger.
_PATIENCE = 10.0
_CONNECTIONS = 96
_REST = 0.1
_LONGEST_BODY = 4096
_LONGEST_AGE = 3600.0
_LONGEST_ENTRY = 20


class PageServer:
    """Serves a book on a socket that listens already.

    Args:
        listening: bound to the loopback.
        tokens: what opens it.
        book: what is shown.
        go_to: has the loop go to a state of a module; waits for its answer. Raises HotReloadError.
    """

    def __init__(self, listening: socket.socket, tokens: Tokens, book: Book, go_to: Callable[[str, str], None]) -> None:
        self.tokens = tokens
        self.book = book
        self.go_to = go_to
        self.port: int = listening.getsockname()[1]
        self._listening = listening
        self._is_open = True
        self._http = _Threads(listening, self)
        self._thread = threading.Thread(target=self._serve, name="hotreload-page", daemon=True)

    def start(self) -> None:
        """Serves from a thread of its own; each browser gets another."""
        self._thread.start()

    def close(self) -> None:
        """Ends it; connections that are open end with the process."""
        self._is_open = False
        self._listening.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._http.server_close()

    def _serve(self) -> None:
        """Not ``serve_forever``, which wakes twice a second to see whether it is to go on."""
        while self._is_open:
            self._http.handle_request()


class _Threads(ThreadingHTTPServer):
    """The standard library's, on the launcher's socket, and no more connections than a person has tabs."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, listening: socket.socket, page: PageServer) -> None:
        super().__init__(listening.getsockname(), _Handler, bind_and_activate=False)
        self.socket.close()
        self.socket = listening
        self.page = page
        self._room = threading.BoundedSemaphore(_CONNECTIONS)

    def get_request(self) -> tuple[socket.socket, Any]:
        """Where no descriptor is left, whoever asks waits; the loop must not turn round them without a rest."""
        try:
            return super().get_request()
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE):
                time.sleep(_REST)
            raise

    def process_request(self, request: Any, client_address: Any) -> None:
        if self._room.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._room.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that went away in the middle is no error of anybody's."""


class _RequestError(Exception):
    """A request that is answered with a status and a sentence."""

    def __init__(self, status: HTTPStatus, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.text = text


class _Handler(BaseHTTPRequestHandler):
    """One connection."""

    server: _Threads
    protocol_version = "HTTP/1.1"
    server_version = "hotreload"
    sys_version = ""
    timeout = _PATIENCE

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name it has there
        """The terminal is the program's."""

    def do_GET(self) -> None:
        self._answer(self._get)

    def do_POST(self) -> None:
        self._answer(self._post)

    def _answer(self, handle: Callable[[], None]) -> None:
        try:
            handle()
        except _RequestError as error:
            self.close_connection = True
            self._send(error.status, "text/plain; charset=utf-8", f"hotreload: {error.text}\n".encode())
        except OSError:
            self.close_connection = True

    # Who asks ------------------------------------------------------------------------------------------------------

    def _check(self) -> tuple[str, str, dict[str, list[str]]]:
        """The role, the path below the token, and the query of a request that may be made."""
        if not self._is_own_host(self.headers.get("Host", "")):
            raise _RequestError(HTTPStatus.FORBIDDEN, "this page is for this machine only, by its loopback address")
        try:
            url = urlsplit(self.path)
        except ValueError:
            raise _RequestError(HTTPStatus.BAD_REQUEST, "that is no address") from None
        token, _slash, rest = url.path.lstrip("/").partition("/")
        role = self.server.page.tokens.role_of(token)
        if not role or not _slash:
            raise _RequestError(
                HTTPStatus.NOT_FOUND, "no such page: the address with its token is what `hotreload run --ui` printed"
            )
        return role, rest, parse_qs(url.query)

    def _is_own_host(self, host: str) -> bool:
        name, _colon, port = host.rpartition(":")
        return is_loopback(name) and port == str(self.server.page.port)

    def _check_same_origin(self) -> None:
        """Whether a request that changes something was made by the page itself, by the browser's own word."""
        origin, site = self.headers.get("Origin"), self.headers.get("Sec-Fetch-Site")
        is_ours = site in (None, "same-origin") and origin in (None, f"http://{self.headers['Host']}")
        if not is_ours or (origin is None and site is None):
            raise _RequestError(HTTPStatus.FORBIDDEN, "only the page itself may do this")

    # GET -----------------------------------------------------------------------------------------------------------

    def _get(self) -> None:
        role, path, query = self._check()
        if role == "live":
            self._get_live(path, query)
        elif path in _FILES:
            self._send_file(*_FILES[path])
        elif path == "events":
            self._stream(self.server.page.book.attend(self._last_seen()), {})
        elif path.startswith("entry/") and path[6:].isdecimal() and len(path) < _LONGEST_ENTRY:
            found = self.server.page.book.differences(int(path[6:]))
            if found is None:
                raise _RequestError(HTTPStatus.NOT_FOUND, "this row is not kept any more")
            self._send_json(HTTPStatus.OK, found)
        else:
            raise _RequestError(HTTPStatus.NOT_FOUND, "no such part of the page")

    def _get_live(self, path: str, query: dict[str, list[str]]) -> None:
        """What a page of the user's may have, from whatever port of this machine it comes."""
        origin = self.headers.get("Origin")
        allowed = {"Cross-Origin-Resource-Policy": "cross-origin"}
        if origin is not None:
            if not is_loopback_origin(origin):
                raise _RequestError(HTTPStatus.FORBIDDEN, "only pages of this machine may listen")
            allowed.update({"Access-Control-Allow-Origin": origin, "Vary": "Origin"})
        if path in _LIVE_FILES:
            self._send_file(*_LIVE_FILES[path], **allowed)
        elif path == "events":
            feed = self.server.page.book.live_feed
            last_seen = self._last_seen()
            missed = feed.younger_than(_age_of(query)) if last_seen is None else feed.missed_since(last_seen)
            self._stream(feed.join(missed or ()), allowed)
        else:
            raise _RequestError(HTTPStatus.NOT_FOUND, "no such part of the page")

    def _last_seen(self) -> int | None:
        text = self.headers.get("Last-Event-ID", "")
        return int(text) if text.isdecimal() and len(text) < 12 else None

    def _stream(self, reader: Reader | None, headers: dict[str, str]) -> None:
        """Server-sent events, until the browser leaves or does not keep up."""
        if reader is None:
            raise _RequestError(HTTPStatus.SERVICE_UNAVAILABLE, "too many browsers listen; close some")
        self.close_connection = True
        try:
            self._begin(HTTPStatus.OK, {"Content-Type": "text/event-stream", "Connection": "close", **headers})
            self.wfile.write(b"retry: 1000\n\n")
            while reader.is_open:
                event = reader.take(_HEARTBEAT)
                self.wfile.write(event.encode() if event is not None else b": still here\n\n")
        finally:
            reader.close()

    # POST ----------------------------------------------------------------------------------------------------------

    def _post(self) -> None:
        role, path, _query = self._check()
        if role != "page":
            raise _RequestError(HTTPStatus.FORBIDDEN, "this token may only listen")
        self._check_same_origin()
        if path != "go":
            raise _RequestError(HTTPStatus.NOT_FOUND, "no such part of the page")
        order = self._read_json()
        key, digest = order.get("key"), order.get("digest")
        if not isinstance(key, str) or not isinstance(digest, str):
            raise _RequestError(HTTPStatus.BAD_REQUEST, "it takes a key and a digest")
        try:
            self.server.page.go_to(key, digest)
        except HotReloadError as error:
            self._send_json(HTTPStatus.CONFLICT, {"reason": error.message, "hint": error.hint})
            return
        self._send_json(HTTPStatus.ACCEPTED, {})

    def _read_json(self) -> dict[str, Any]:
        length = self.headers.get("Content-Length", "")
        if self.headers.get_content_type() != "application/json" or not length.isdecimal():
            raise _RequestError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "it takes JSON")
        if len(length) > 6 or int(length) > _LONGEST_BODY:
            raise _RequestError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "that is too long")
        try:
            found = json.loads(self.rfile.read(int(length)))
        except (ValueError, RecursionError):
            raise _RequestError(HTTPStatus.BAD_REQUEST, "that is no JSON") from None
        if not isinstance(found, dict):
            raise _RequestError(HTTPStatus.BAD_REQUEST, "it takes a JSON object")
        return found

    # Answers -------------------------------------------------------------------------------------------------------

    def _send_file(self, name: str, content_type: str, **headers: str) -> None:
        with open(os.path.join(_STATIC, name), "rb") as file:
            self._send(HTTPStatus.OK, content_type, file.read(), **headers)

    def _send_json(self, status: HTTPStatus, data: dict[str, Any]) -> None:
        self._send(status, "application/json", json.dumps(data).encode())

    def _send(self, status: HTTPStatus, content_type: str, body: bytes, **headers: str) -> None:
        self._begin(status, {"Content-Type": content_type, "Content-Length": str(len(body)), **headers})
        self.wfile.write(body)

    def _begin(self, status: HTTPStatus, headers: dict[str, str]) -> None:
        self.send_response(status)
        if self.close_connection:
            headers.setdefault("Connection", "close")
        for name, value in {**_HEADERS, "Cross-Origin-Resource-Policy": "same-origin", **headers}.items():
            self.send_header(name, value)
        self.end_headers()


def _age_of(query: dict[str, list[str]]) -> float:
    """How many seconds ago a page began to load; what went live since is news to it."""
    try:
        return min(_LONGEST_AGE, max(0.0, float(query["age"][0]) / 1000))
    except (KeyError, ValueError):
        return 0.0
