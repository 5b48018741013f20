"""The example server on its own: what it draws, counts, says and refuses."""

from __future__ import annotations

import shutil
import struct
import subprocess
import sys
import threading
import zlib
from pathlib import Path

import pytest
from driver.edits import EditError, read_edit, read_plan
from example_kit import EXAMPLE, Served, build


def pixels_of(png: bytes) -> tuple[int, int, bytes]:
    """Width, height and pixels of a PNG as this server writes them; fails on a wrong checksum."""
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    at, data, width, height = 8, b"", 0, 0
    while at < len(png):
        (length,) = struct.unpack_from(">I", png, at)
        name, chunk = png[at + 4 : at + 8], png[at + 8 : at + 8 + length]
        assert struct.unpack_from(">I", png, at + 8 + length)[0] == zlib.crc32(name + chunk)
        if name == b"IHDR":
            width, height, depth, colours = struct.unpack_from(">IIBB", chunk)
            assert (depth, colours) == (8, 2)
        elif name == b"IDAT":
            data += chunk
        at += length + 12
    rows = zlib.decompress(data)
    assert len(rows) == height * (width * 3 + 1)
    return width, height, rows


def test_a_tile_is_a_png_of_the_size_that_was_asked_for(served: Served) -> None:
    answer, body = served.get("/tile.png?size=40&frame=3")
    assert (answer.status, answer.headers["Content-Type"]) == (200, "image/png")
    width, height, rows = pixels_of(body)
    assert (width, height) == (40, 40)
    assert len(set(rows)) > 20, "a picture has more than a few shades"


def test_the_same_code_draws_the_same_tile_and_gives_the_same_stamp(served: Served) -> None:
    first, drawn = served.get("/tile.png?size=31&frame=9")
    second, found = served.get("/tile.png?size=31&frame=9")
    fresh, drawn_again = served.get("/tile.png?size=31&frame=9&fresh=1")
    assert drawn == found == drawn_again
    assert [answer.headers["X-Render-Cache"] for answer in (first, second, fresh)] == ["miss", "hit", "unused"]
    assert len({answer.headers["X-Render-Stamp"] for answer in (first, second, fresh)}) == 1
    assert served.state()["stamp"] == first.headers["X-Render-Stamp"]


def test_tickets_and_counters_count_on_whichever_thread_asks(served: Served) -> None:
    before = served.state()
    tickets: list[int] = []

    def ask() -> None:
        for frame in range(10):
            tickets.append(int(served.get(f"/tile.png?size=16&frame={frame}&fresh=1")[0].headers["X-Render-Ticket"]))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(tickets) == list(range(min(tickets), min(tickets) + 40))
    after = served.state()
    assert after["counters"]["tiles_drawn"] == before["counters"]["tiles_drawn"] + 40
    assert after["counters"]["pixels_drawn"] == before["counters"]["pixels_drawn"] + 40 * 16 * 16
    assert (after["pid"], after["loaded_at"]) == (before["pid"], before["loaded_at"])


def test_the_state_names_every_c_function_in_generation_0(served: Served) -> None:
    functions = {entry["name"]: entry["generation"] for entry in served.state()["hotreload"]["functions"]}
    assert {"render_tile", "signature", "take_ticket"} <= set(functions)
    assert set(functions.values()) == {0}


def test_the_page_is_whole_in_itself(served: Served) -> None:
    answer, body = served.get("/")
    assert answer.status == 200
    text = body.decode()
    assert "http://" not in text.replace("http://www.w3.org/2000/svg", "")
    assert "https://" not in text
    assert 'lang="en"' in text


@pytest.mark.parametrize(
    ("path", "status", "says"),
    [
        ("/nowhere", 404, "no such page"),
        ("/tile.png?size=0", 400, "size must be between 1 and 512"),
        ("/tile.png?size=99999", 400, "size must be between 1 and 512"),
        ("/tile.png?frame=x", 400, "frame must be a whole number"),
    ],
)
def test_a_request_that_cannot_be_answered_is_told_why(served: Served, path: str, status: int, says: str) -> None:
    answer, body = served.get(path)
    assert answer.status == status
    assert says in body.decode()


def test_open_event_streams_leave_threads_for_tiles(served: Served) -> None:
    streams = [served.open_stream() for _ in range(6)]
    try:
        statuses = sorted(answer.status for _, answer in streams)
        assert statuses == [200] * 4 + [503] * 2
        assert all(
            answer.headers["Content-Type"] == "text/event-stream" for _, answer in streams if answer.status == 200
        )
        assert served.get("/tile.png?size=8")[0].status == 200
        assert served.state()["streams"] == 4
    finally:
        for connection, answer in streams:
            answer.close()
            connection.close()


def test_every_edit_compiles_without_warnings_and_draws_something_else(project: Path, tmp_path: Path) -> None:
    directory = tmp_path / "edited"
    shutil.copytree(project, directory)
    original = text = (directory / "render.c").read_text()
    stamps = [stamp_of(directory)]
    for edit in read_plan(EXAMPLE / "edits"):
        if not edit.compiles:
            edit.apply(text)
            continue
        text = original if edit.original else edit.apply(text)
        (directory / "render.c").write_text(text)
        build(directory)
        stamps.append(stamp_of(directory))
    assert len(stamps) == 6
    assert len(set(stamps[:5])) == 5
    assert stamps[5] == stamps[0]


def test_the_broken_edit_does_not_compile(tmp_path: Path) -> None:
    text = (EXAMPLE / "render.c").read_text()
    for name in ("1-constant", "2-algorithm", "2-broken"):
        text = read_edit(EXAMPLE / "edits" / f"{name}.patch").apply(text)
    (tmp_path / "render.c").write_text(text)
    include = subprocess.run(
        [sys.executable, "-c", "import sysconfig; print(sysconfig.get_path('include'))"], capture_output=True, text=True
    ).stdout.strip()
    done = subprocess.run(
        ["cc", "-fsyntax-only", f"-I{include}", str(tmp_path / "render.c")], capture_output=True, text=True
    )
    assert done.returncode != 0
    assert "error: expected ';'" in done.stderr.replace("\u2018", "'").replace("\u2019", "'")


def test_an_edit_is_applied_once_or_not_at_all(tmp_path: Path) -> None:
    (tmp_path / "9-twice.patch").write_text("Title\n\n--- a/x\n+++ b/x\n@@ -1 +1 @@\n-old\n+new\n")
    edit = read_edit(tmp_path / "9-twice.patch")
    assert edit.title == "Title"
    assert edit.apply("an old one") == "an new one"
    for text in ("old and old", "nothing of the kind"):
        with pytest.raises(EditError, match="not once"):
            edit.apply(text)


def stamp_of(directory: Path) -> str:
    """The stamp of the extension in `directory`, asked in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", "import render; print(render.stamp())"], cwd=directory, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()
