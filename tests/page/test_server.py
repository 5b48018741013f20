"""The page over HTTP: what it answers, and whom it refuses."""

from __future__ import annotations

import http.client
import json
import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest

import hotreload
from hotreload.errors import HotReloadError
from hotreload.page import server, tag
from hotreload.page.book import Book
from hotreload.page.guard import Tokens
from hotreload.page.server import PageServer
from hotreload.run import doorway
from hotreload.run.doorway import open_doorway
from tests.page.test_book import BASE, LINE, SOURCE

PAGE, LIVE = "page-token", "live-token"


class Browser:
    """Asks the server, as a browser would."""

    def __init__(self, page: PageServer) -> None:
        self.host = f"127.0.0.1:{page.port}"
        self.origin = f"http://{self.host}"

    def ask(
        self, path: str, method: str = "GET", body: bytes | None = None, **headers: str
    ) -> http.client.HTTPResponse:
        connection = http.client.HTTPConnection(self.host, timeout=10)
        named = {"Host": self.host, **{name.replace("_", "-"): value for name, value in headers.items()}}
        connection.request(method, path, body, named)
        return connection.getresponse()

    def go(self, body: bytes = b'{"key": "ab", "digest": "d1"}', **headers: str) -> http.client.HTTPResponse:
        own = {"Origin": self.origin, "Sec_Fetch_Site": "same-origin", "Content_Type": "application/json"}
        sent = {name: value for name, value in {**own, **headers}.items() if value}
        return self.ask(f"/{PAGE}/go", "POST", body, **sent)


@pytest.fixture
def book() -> Book:
    book = Book("app.py")
    book.module_found("ab", "tiny", lambda: {SOURCE: BASE})
    return book


@pytest.fixture
def orders() -> list[tuple[str, str]]:
    return []


@pytest.fixture
def browser(book: Book, orders: list[tuple[str, str]]) -> Iterator[Browser]:
    def go_to(key: str, digest: str) -> None:
        if digest == "gone":
            raise HotReloadError("this patch is not kept any more", hint="undo the edit")
        orders.append((key, digest))

    listening = open_doorway(0).listening
    page = PageServer(listening, Tokens(PAGE, LIVE), book, go_to)
    page.start()
    yield Browser(page)
    page.close()


def event_of(answer: http.client.HTTPResponse) -> tuple[str, Any]:
    """The next event of a stream; comments and the like are passed over."""
    kind = ""
    while True:
        line = answer.readline().decode().rstrip("\n")
        if line.startswith("event: "):
            kind = line[7:]
        elif line.startswith("data: "):
            return kind, json.loads(line[6:])


def test_the_page_and_its_parts_are_served_with_strict_headers(browser: Browser) -> None:
    for path, kind in (
        ("", "text/html"),
        ("page.css", "text/css"),
        ("page.js", "text/javascript"),
        ("icon.svg", "image/svg"),
    ):
        answer = browser.ask(f"/{PAGE}/{path}")
        assert answer.status == 200
        assert answer.headers["Content-Type"].startswith(kind)
        assert answer.headers["Content-Security-Policy"].startswith("default-src 'self'; base-uri 'none';")
        assert "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"]
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.headers["Referrer-Policy"] == "no-referrer"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Cross-Origin-Resource-Policy"] == "same-origin"
        assert answer.headers["Access-Control-Allow-Origin"] is None
        assert answer.read()


@pytest.mark.parametrize(
    "path",
    ["/", "/wrong/", f"/{PAGE}", f"/{PAGE}x/", f"/x{PAGE}/events", f"/{PAGE.upper()}/", "//", f"/{PAGE}/../secrets"],
)
def test_without_the_token_there_is_nothing(browser: Browser, path: str) -> None:
    answer = browser.ask(path)

    assert answer.status == 404
    assert PAGE not in answer.read().decode()


@pytest.mark.parametrize(("path", "status"), [("http://[::1/", 400), (f"/{PAGE}/entry/{'9' * 5000}", 404)])
def test_an_address_that_cannot_be_read_is_answered(browser: Browser, path: str, status: int) -> None:
    assert browser.ask(path).status == status


@pytest.mark.parametrize(
    "host",
    ["evil.example:{port}", "127.0.0.1.evil.example:{port}", "127.0.0.1:1", "127.0.0.1", "192.168.1.2:{port}", ""],
)
def test_a_name_that_was_pointed_at_this_machine_is_refused(browser: Browser, host: str) -> None:
    answer = browser.ask(f"/{PAGE}/", Host=host.format(port=browser.host.split(":")[1]))

    assert answer.status == 403
    assert "this machine only" in answer.read().decode()


@pytest.mark.parametrize("host", ["localhost:{port}", "[::1]:{port}", "127.0.0.2:{port}", "shop.localhost:{port}"])
def test_every_name_of_the_loopback_is_taken(browser: Browser, host: str) -> None:
    assert browser.ask(f"/{PAGE}/", Host=host.format(port=browser.host.split(":")[1])).status == 200


def test_the_page_itself_may_go_to_an_earlier_state(browser: Browser, orders: list[tuple[str, str]]) -> None:
    assert browser.go().status == 202
    assert browser.go(Sec_Fetch_Site="").status == 202
    assert browser.go(Origin="").status == 202

    assert orders == [("ab", "d1")] * 3


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "http://127.0.0.1:1"},
        {"Origin": "null"},
        {"Sec_Fetch_Site": "cross-site"},
        {"Sec_Fetch_Site": "same-site"},
        {"Sec_Fetch_Site": "none"},
        {"Origin": "", "Sec_Fetch_Site": ""},
    ],
)
def test_nobody_else_s_script_may(browser: Browser, orders: list[tuple[str, str]], headers: dict[str, str]) -> None:
    answer = browser.go(**headers)

    assert answer.status == 403
    assert "only the page itself" in answer.read().decode()
    assert not orders


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        (b"key=ab", "application/x-www-form-urlencoded", 415),
        (b"{", "application/json", 400),
        (b"[]", "application/json", 400),
        (b"[" * 4000, "application/json", 400),
        (b'{"key": "ab"}', "application/json", 400),
        (b'{"key": 1, "digest": ""}', "application/json", 400),
        (b" " * 5000, "application/json", 413),
    ],
)
def test_what_is_no_order_is_refused(browser: Browser, orders: Any, body: bytes, kind: str, status: int) -> None:
    assert browser.go(body, Content_Type=kind).status == status
    assert not orders


def test_an_order_that_cannot_be_carried_out_says_why(browser: Browser) -> None:
    answer = browser.go(b'{"key": "ab", "digest": "gone"}')

    assert answer.status == 409
    assert json.loads(answer.read()) == {"reason": "this patch is not kept any more", "hint": "undo the edit"}


def test_events_begin_with_everything_and_go_on_from_where_a_browser_was(browser: Browser, book: Book) -> None:
    answer = browser.ask(f"/{PAGE}/events")
    assert answer.headers["Content-Type"] == "text/event-stream"
    assert event_of(answer)[0] == "snapshot"
    book.processes_changed([7])
    assert event_of(answer) == ("processes", {"pids": [7]})
    seen = book.feed.newest
    book.processes_changed([7, 8])

    assert event_of(browser.ask(f"/{PAGE}/events", Last_Event_ID=str(seen))) == ("processes", {"pids": [7, 8]})
    assert event_of(browser.ask(f"/{PAGE}/events", Last_Event_ID="999"))[0] == "snapshot"
    assert event_of(browser.ask(f"/{PAGE}/events", Last_Event_ID="-1"))[0] == "snapshot"


def test_a_silent_stream_is_kept_alive_and_a_browser_that_left_is_noticed(
    browser: Browser, book: Book, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "_HEARTBEAT", 0.02)
    answer = browser.ask(f"/{PAGE}/events")
    event_of(answer)
    while answer.readline() != b": still here\n":
        pass
    assert book.is_watched
    answer.close()
    deadline = time.monotonic() + 10
    while book.is_watched and time.monotonic() < deadline:
        time.sleep(0.005)

    assert not book.is_watched


def test_the_diffs_of_a_row_are_asked_for(browser: Browser, book: Book) -> None:
    book.reload_finished("ab", LINE, digest="d1", texts={SOURCE: BASE.replace("+ 1", "+ 2")}, error=None)

    assert json.loads(browser.ask(f"/{PAGE}/entry/1").read())["base"]["files"][0]["name"] == "tiny.c"
    assert browser.ask(f"/{PAGE}/entry/2").status == 404
    assert browser.ask(f"/{PAGE}/entry/x").status == 404


def test_the_read_only_token_hears_and_does_nothing_else(browser: Browser, orders: Any) -> None:
    for path in ("", "page.js", "entry/1", "go"):
        assert browser.ask(f"/{LIVE}/{path}").status == 404
    answer = browser.ask(
        f"/{LIVE}/go",
        "POST",
        b"{}",
        Origin=browser.origin,
        Sec_Fetch_Site="same-origin",
        Content_Type="application/json",
    )
    assert answer.status == 403
    assert "may only listen" in answer.read().decode()
    assert not orders


def test_the_read_only_events_are_for_pages_of_this_machine(browser: Browser, book: Book) -> None:
    answer = browser.ask(f"/{LIVE}/events", Origin="http://localhost:8000")
    assert answer.headers["Access-Control-Allow-Origin"] == "http://localhost:8000"
    book.reload_finished("ab", LINE, digest="d1", texts={}, error=None)
    assert event_of(answer) == ("reload", {"outcome": "live", "module": "tiny", "generation": 1})

    for origin in ("https://evil.example", "null", "http://localhost.evil.example", "http://[", "file://"):
        refused = browser.ask(f"/{LIVE}/events", Origin=origin)
        assert (refused.status, refused.headers["Access-Control-Allow-Origin"]) == (403, None), origin
    script = browser.ask(f"/{LIVE}/live.js")
    assert (script.status, script.headers["Cross-Origin-Resource-Policy"]) == (200, "cross-origin")


def test_a_page_that_comes_again_or_was_on_its_way_hears_what_it_missed(browser: Browser, book: Book) -> None:
    book.reload_finished("ab", LINE, digest="d1", texts={}, error=None)

    assert event_of(browser.ask(f"/{LIVE}/events?age=60000"))[0] == "reload"
    assert event_of(browser.ask(f"/{LIVE}/events?age=0", Last_Event_ID="0"))[0] == "reload"
    silent = browser.ask(f"/{LIVE}/events?age=nonsense")
    book.reload_finished("ab", {**LINE, "generation": 2}, digest="d2", texts={}, error=None)
    assert event_of(silent)[1]["generation"] == 2, "the first is old news to it"


def test_other_methods_are_not_known(browser: Browser) -> None:
    assert browser.ask(f"/{PAGE}/", "PUT").status == 501
    assert browser.ask(f"/{PAGE}/", "OPTIONS").status == 501


def test_too_many_readers_are_told_so(browser: Browser, book: Book) -> None:
    readers = [book.attend(None) for _ in range(32)]
    answer = browser.ask(f"/{PAGE}/events")

    assert answer.status == 503
    assert "close some" in answer.read().decode()
    for reader in readers:
        reader.close()


def test_a_port_that_is_taken_or_none_is_an_error_with_the_next_step() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(HotReloadError, match=f"cannot have port {port} of 127.0.0.1.*--ui-port"):
            open_doorway(port)
    with pytest.raises(HotReloadError, match="there is no port 70000"):
        open_doorway(70000)


def test_the_tokens_are_new_each_time_and_too_long_to_guess() -> None:
    one, two = open_doorway(0), open_doorway(0)
    tokens = {one.token, one.live_token, two.token, two.live_token}
    one.close()
    two.close()

    assert len(tokens) == 4
    assert all(len(token) >= 32 for token in tokens)


def test_live_script_is_nothing_without_a_page(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HOTRELOAD_LIVE", raising=False)
    assert hotreload.live_script() == ""
    monkeypatch.setenv("HOTRELOAD_LIVE", "http://127.0.0.1:1/token/")
    monkeypatch.setenv("HOTRELOAD_DISABLE", "1")
    assert hotreload.live_script() == ""


def test_live_script_is_a_tag_that_no_template_escapes_again(monkeypatch: pytest.MonkeyPatch) -> None:
    from django.utils.html import conditional_escape
    from markupsafe import escape

    assert tag.LIVE_VARIABLE == doorway.LIVE_VARIABLE
    monkeypatch.setenv("HOTRELOAD_LIVE", "http://127.0.0.1:1/token/")
    script = hotreload.live_script(nonce='r"4&')

    assert script == '<script src="http://127.0.0.1:1/token/live.js" defer nonce="r&quot;4&amp;"></script>'
    assert (escape(script), conditional_escape(script)) == (script, script)
    assert hotreload.live_script() == '<script src="http://127.0.0.1:1/token/live.js" defer></script>'
