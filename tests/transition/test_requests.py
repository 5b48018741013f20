"""When a request begins and ends: blocks, functions, WSGI responses, ASGI scopes. What that is good for is shown elsewhere."""

from __future__ import annotations

import asyncio
import gc
import io
import threading
from wsgiref.handlers import SimpleHandler
from wsgiref.util import FileWrapper

import pytest

import hotreload
from hotreload.live import requests


class Registry:
    """Counts what is open, by thread that entered, and insists that each is left once."""

    def __init__(self) -> None:
        self.handles = 0
        self.open: dict[int, int] = {}

    def enter(self) -> int:
        self.handles += 1
        self.open[self.handles] = threading.get_ident()
        return self.handles

    def leave(self, handle: int) -> None:
        del self.open[handle]


@pytest.fixture
def registry(monkeypatch) -> Registry:
    registry = Registry()
    monkeypatch.setattr(requests, "_enter", registry.enter)
    monkeypatch.setattr(requests, "_leave", registry.leave)
    return registry


# Blocks and functions ------------------------------------------------------------------------------------------------


def test_a_block_is_a_request_and_blocks_nest(registry: Registry) -> None:
    with hotreload.request():
        assert len(registry.open) == 1
        with hotreload.request():
            assert len(registry.open) == 2
    assert not registry.open


def test_an_exception_ends_a_request_and_passes(registry: Registry) -> None:
    with pytest.raises(KeyError), hotreload.request():
        raise KeyError("mine")
    assert not registry.open


def test_a_function_is_a_request_each_time_it_is_called(registry: Registry) -> None:
    @hotreload.request()
    def work(n: int, *, more: int = 0) -> int:
        """Its own text."""
        assert len(registry.open) == n
        return work(n + 1) if n < 3 else n + more

    assert work(1) == 3
    assert (work.__name__, work.__doc__) == ("work", "Its own text.")
    assert not registry.open and registry.handles == 3


def test_a_coroutine_function_is_a_request_while_it_runs(registry: Registry) -> None:
    @hotreload.request()
    async def work() -> int:
        await asyncio.sleep(0)
        return len(registry.open)

    waiting = work()
    assert not registry.open
    assert asyncio.run(_await(waiting)) == 1
    assert not registry.open


async def _await(thing):
    return await thing


def test_a_generator_function_is_refused(registry: Registry) -> None:
    def plain():
        yield 1

    async def strange():
        yield 1

    for function in (plain, strange):
        with pytest.raises(TypeError, match="enter the request in its body"):
            hotreload.request()(function)


# WSGI ----------------------------------------------------------------------------------------------------------------


def serve(app, **environ) -> bytes:
    """One request through the server of the standard library."""
    out = io.BytesIO()
    handler = SimpleHandler(
        io.BytesIO(), out, io.StringIO(), {"REQUEST_METHOD": "GET", "SERVER_PROTOCOL": "HTTP/1.0", **environ}
    )
    handler.run(app)
    return out.getvalue().split(b"\r\n\r\n", 1)[1]


def answer(start_response) -> None:
    start_response("200 OK", [("Content-Type", "text/plain")])


def test_a_response_that_is_finished_ends_the_request_with_the_call(registry: Registry) -> None:
    def app(environ, start_response):
        assert len(registry.open) == 1
        answer(start_response)
        return [b"whole"]

    wrapped = hotreload.wsgi(app)
    assert wrapped({}, lambda *_: None) == [b"whole"]
    assert not registry.open
    assert serve(wrapped) == b"whole"
    assert wrapped.__name__ == "app"


def test_a_response_that_is_made_piece_by_piece_is_part_of_the_request_until_it_is_closed(registry: Registry) -> None:
    closed = []

    def app(environ, start_response):
        answer(start_response)
        try:
            for piece in (b"one ", b"two"):
                assert len(registry.open) == 1
                yield piece
        finally:
            closed.append(len(registry.open))

    wrapped = hotreload.wsgi(app)
    assert serve(wrapped) == b"one two"
    assert closed == [1]
    body = wrapped({}, lambda *_: None)
    assert next(iter(body)) == b"one "
    assert len(registry.open) == 1
    body.close()
    assert not registry.open and closed == [1, 1]
    body.close()


def test_an_application_that_fails_ends_the_request(registry: Registry) -> None:
    def app(environ, start_response):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        hotreload.wsgi(app)({}, lambda *_: None)
    assert not registry.open


def test_a_close_that_fails_ends_the_request_all_the_same(registry: Registry) -> None:
    class Response:
        def __iter__(self):
            return iter([b"x"])

        def close(self):
            raise OSError("gone")

    body = hotreload.wsgi(lambda environ, start_response: Response())({}, None)
    with pytest.raises(OSError, match="gone"):
        body.close()
    assert not registry.open


def test_a_response_that_no_server_closes_ends_when_it_is_thrown_away(registry: Registry) -> None:
    body = hotreload.wsgi(lambda environ, start_response: iter([b"x"]))({}, None)
    assert list(body) == [b"x"] and len(registry.open) == 1
    del body
    assert not registry.open


def test_a_file_wrapper_of_the_server_s_stays_one(registry: Registry) -> None:
    file = io.BytesIO(b"content of a file")

    def app(environ, start_response):
        answer(start_response)
        return environ["wsgi.file_wrapper"](file)

    body = hotreload.wsgi(app)({"wsgi.file_wrapper": FileWrapper}, lambda *_: None)
    assert type(body) is FileWrapper and len(registry.open) == 1
    assert b"".join(body) == b"content of a file"
    body.close()
    assert file.closed and not registry.open
    file = io.BytesIO(b"again")
    assert serve(hotreload.wsgi(app)) == b"again"
    assert file.closed and not registry.open
    file = io.BytesIO(b"forgotten")
    body = hotreload.wsgi(app)({"wsgi.file_wrapper": FileWrapper}, lambda *_: None)
    del body
    gc.collect()
    assert not registry.open


def test_a_file_wrapper_that_takes_no_attribute_is_read_like_any_other(registry: Registry) -> None:
    class Native:
        __slots__ = ("file",)

        def __init__(self, file) -> None:
            self.file = file

        def __iter__(self):
            return iter([self.file.read()])

        def close(self) -> None:
            self.file.close()

    file = io.BytesIO(b"content")
    body = hotreload.wsgi(lambda environ, _: Native(file))({"wsgi.file_wrapper": Native}, None)
    assert list(body) == [b"content"] and len(registry.open) == 1
    body.close()
    assert file.closed and not registry.open


# ASGI ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "count"), [("http", 1), ("websocket", 0), ("lifespan", 0)])
def test_an_http_scope_is_a_request_and_others_pass_through(registry: Registry, kind: str, count: int) -> None:
    seen = []

    async def app(scope, receive, send):
        await asyncio.sleep(0)
        seen.append((scope["type"], len(registry.open), await receive()))
        await send("answer")

    sent = []

    async def receive():
        return "question"

    async def send(message):
        sent.append(message)

    asyncio.run(hotreload.asgi(app)({"type": kind}, receive, send))
    assert seen == [(kind, count, "question")] and sent == ["answer"]
    assert not registry.open


def test_an_asgi_application_that_fails_or_is_cancelled_ends_the_request(registry: Registry) -> None:
    async def failing(scope, receive, send):
        raise ZeroDivisionError

    async def hanging(scope, receive, send):
        await asyncio.sleep(60)

    with pytest.raises(ZeroDivisionError):
        asyncio.run(hotreload.asgi(failing)({"type": "http"}, None, None))

    async def cancel() -> None:
        task = asyncio.ensure_future(hotreload.asgi(hanging)({"type": "http"}, None, None))
        await asyncio.sleep(0)
        assert len(registry.open) == 1
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancel())
    assert not registry.open


def test_a_request_of_the_native_core_is_counted() -> None:
    core = requests._core
    before = core.request_count()
    with hotreload.request(), hotreload.request():
        assert core.request_count() > before
    assert core.request_count() == before
