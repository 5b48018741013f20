"""What belongs to one request: at level ``request`` a thread moves to another generation between requests only.

::

    with hotreload.request():          everything that this thread calls in here is of one generation
        price = kernels.price(order)
        kernels.book(order, price)

    app = hotreload.wsgi(app)          a request lasts from the call until the server closes the response
    app = hotreload.asgi(app)          a request lasts as long as the call for an http scope

**Threads, not tasks.** What has a generation is the thread. Where requests share one, as in asyncio, the promise is:
everything that the thread calls while *any* request is open on it is of one generation. So a request sees one from
beginning to end; so do all that overlap with it, one after the other. The thread can move in a moment in which none is
open. If there is no such moment, because the next always begins before the last has ended, the transition waits, and
its deadline decides. What runs in other threads (``run_in_executor``, ``to_thread``, a pool) is not covered unless it
enters a request itself; two that do may be in different generations.
"""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Iterable, Iterator, MutableMapping
from types import TracebackType
from typing import Any, TypeVar

from hotreload.live.core import NativeCore

__all__ = ["asgi", "request", "wsgi"]

Function = TypeVar("Function", bound=Callable[..., Any])
Scope = MutableMapping[str, Any]
AsgiApp = Callable[[Scope, Callable[..., Any], Callable[..., Any]], Awaitable[None]]

_core = NativeCore()
_enter, _leave = _core.enter_request, _core.leave_request

_COROUTINE, _GENERATOR, _ASYNC_GENERATOR = 0x80, 0x20, 0x200  # inspect.CO_*: that module is a heavy one


class request:  # noqa: N801 - it reads as a verb at its only kind of use
    """One request on this thread, as a context manager or around a function; requests nest.

    As a decorator it takes functions and coroutine functions. What a generator does happens after its call has
    returned, so it is refused: use ``with`` in its body.

    Raises:
        TypeError: it decorates a generator function.
    """

    __slots__ = ("_handle",)

    def __init__(self) -> None:
        self._handle: Any = None

    def __enter__(self) -> request:  # noqa: PYI034 - Self is not in typing before 3.11
        self._handle = _enter()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        _leave(self._handle)

    def __call__(self, function: Function) -> Function:
        flags = getattr(getattr(function, "__code__", None), "co_flags", 0)
        if flags & (_GENERATOR | _ASYNC_GENERATOR):
            raise TypeError(f"{function!r} is a generator function: enter the request in its body")
        wrapper = _around_coroutine(function) if flags & _COROUTINE else _around(function)
        return functools.wraps(function)(wrapper)  # type: ignore[return-value]


def _around(function: Callable[..., Any]) -> Callable[..., Any]:
    def call(*args: Any, **named: Any) -> Any:
        handle = _enter()
        try:
            return function(*args, **named)
        finally:
            _leave(handle)

    return call


def _around_coroutine(function: Callable[..., Any]) -> Callable[..., Any]:
    async def call(*args: Any, **named: Any) -> Any:
        handle = _enter()
        try:
            return await function(*args, **named)
        finally:
            _leave(handle)

    return call


# WSGI --------------------------------------------------------------------------------------------------------------


def wsgi(app: Callable[..., Iterable[bytes]]) -> Callable[..., Iterable[bytes]]:
    """A WSGI application whose requests are requests here: from the call until the response is closed.

    A list or tuple is a response that is finished; the request ends with the call. A file wrapper of the server's own
    stays one, so that it can use ``sendfile``.
    """

    @functools.wraps(app, updated=())
    def call(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        handle = _enter()
        try:
            response = app(environ, start_response)
            if isinstance(response, (list, tuple)):
                _leave(handle)
                return response
            return _until_closed(response, handle, environ.get("wsgi.file_wrapper"))
        except BaseException:
            _leave(handle)
            raise

    return call


def _until_closed(response: Iterable[bytes], handle: Any, file_wrapper: object) -> Iterable[bytes]:
    body = _Body(response, handle)
    if isinstance(file_wrapper, type) and isinstance(response, file_wrapper):
        try:
            response.close = body.close  # type: ignore[attr-defined]
        except AttributeError:  # made in C: the server reads it like any other
            return body
        return response
    return body


class _Body:
    """A response that is not finished, with the request that it belongs to."""

    def __init__(self, response: Iterable[bytes], handle: Any) -> None:
        self._response = response
        self._close = getattr(response, "close", None)
        self._handle = handle

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._response)

    def close(self) -> None:
        """Ends the response and, whatever comes of that, the request."""
        try:
            if self._close is not None:
                self._close()
        finally:
            self._response, self._close = (), None
            self._end()

    def _end(self) -> None:
        handle, self._handle = self._handle, None
        if handle is not None:
            _leave(handle)

    def __del__(self) -> None:
        """A server that forgets to close a response must not keep a thread in a request for ever."""
        self._end()


# ASGI --------------------------------------------------------------------------------------------------------------


def asgi(app: AsgiApp) -> AsgiApp:
    """An ASGI application whose http requests are requests here, each as long as its call.

    ``websocket`` and ``lifespan`` pass through: they last as long as they like, and would keep the thread in one
    generation. A websocket's application may enter :class:`request` for each message.

    Of requests that share the thread of an event loop only this is promised: everything on the thread is of one
    generation as long as any of them is open. See the text of this module.
    """

    @functools.wraps(app, updated=())
    async def call(scope: Scope, receive: Callable[..., Any], send: Callable[..., Any]) -> None:
        if scope["type"] != "http":
            await app(scope, receive, send)
            return
        handle = _enter()
        try:
            await app(scope, receive, send)
        finally:
            _leave(handle)

    return call
