"""What the page shows of what the loop tells, and how much of it is kept."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hotreload.errors import BuildError, Finding, IncompatibleError
from hotreload.page.book import Book
from hotreload.page.difference import compare
from hotreload.page.texts import Texts

BASE = "static int shade(int x)\n{\n    return x + 1;\n}\n"
SOURCE = Path("/src/tiny.c")

LINE: dict[str, Any] = {
    "outcome": "live", "module": "tiny", "functions": ["shade"], "compiler_changed": [], "edited": ["shade"], "added": [],
    "removed": [], "generation": 1, "build_ms": 100.0, "diff_ms": 2.0, "link_ms": 1.0, "stage_ms": 0.5, "commit_ms": 0.25,
    "total_ms": 120.0, "distance_bytes": 4096, "processes": 1, "consistency": "function", "stragglers": [],
    "build_id": "ab", "trigger": "save", "discarded": 0, "notes": [], "warnings": "",
}  # fmt: skip

Finish = Callable[..., None]


@pytest.fixture
def book() -> Book:
    book = Book("app.py", clock=lambda: 1000.0)
    book.module_found("ab", "tiny", lambda: {SOURCE: BASE})
    return book


@pytest.fixture
def finish(book: Book) -> Finish:
    def finish(digest: str, text: str | None, *, error: Exception | None = None, **fields: Any) -> None:
        texts = {} if text is None else {SOURCE: text}
        book.reload_finished("ab", {**LINE, **fields}, digest=digest, texts=texts, error=error)

    return finish


def stand(book: Book, **fields: Any) -> None:
    shown = {"state": "idle", "wanted": "", "kept": [], "files": [str(SOURCE)], "holders": [(7, "/lib/tiny.so", "")]}
    book.module_changed("ab", **{**shown, **fields})


def lines_of(compared: dict[str, Any]) -> list[str]:
    return [sign + text for file in compared["files"] for hunk in file["hunks"] for sign, text in hunk["lines"]]


def test_a_reload_is_a_row_with_its_stages_and_what_it_changed(book: Book, finish: Finish) -> None:
    finish("d1", BASE.replace("+ 1", "+ 2"))
    (row,) = book.snapshot()["entries"]

    assert (row["number"], row["when"], row["outcome"], row["digest"]) == (1, 1000.0, "live", "d1")
    assert row["stages"] == {"build": 100.0, "diff": 2.0, "link": 1.0, "stage": 0.5, "commit": 0.25, "total": 120.0}
    assert row["functions"] == ["shade"]
    assert "/src" not in json.dumps(row), "the sources are asked for, row by row"


def test_the_difference_is_shown_since_what_was_live_and_since_the_base(book: Book, finish: Finish) -> None:
    finish("d1", BASE.replace("+ 1", "+ 2"))
    finish("", None, outcome="build_failed", error=BuildError("no"))
    finish("d2", BASE.replace("+ 1", "+ 3"))
    found = book.differences(3)

    assert [line for line in lines_of(found["previous"]) if line[0] != " "] == [
        "-    return x + 2;",
        "+    return x + 3;",
    ]
    assert [line for line in lines_of(found["base"]) if line[0] != " "] == ["-    return x + 1;", "+    return x + 3;"]
    (hunk,) = found["base"]["files"][0]["hunks"]
    assert hunk["heading"] == "static int shade(int x)"
    assert book.differences(9) is None


def test_going_to_an_earlier_state_shows_the_sources_of_that_state(book: Book, finish: Finish) -> None:
    finish("d1", BASE.replace("+ 1", "+ 2"))
    finish("d2", BASE.replace("+ 1", "+ 3"))
    finish("d1", None, trigger="page")
    finish("", None, trigger="page", outcome="base")
    changed = [[line for line in lines_of(book.differences(number)["previous"]) if line[0] != " "] for number in (3, 4)]

    assert changed == [["-    return x + 3;", "+    return x + 2;"], ["-    return x + 2;", "+    return x + 1;"]]
    assert lines_of(book.differences(4)["base"]) == []


def test_a_refusal_has_its_findings_with_place_reason_hint_and_slug(book: Book, finish: Finish) -> None:
    finding = Finding("type-layout", "`struct s` has grown", "restart", "/src/tiny.c", 12, can_be_allowed=True)
    error = IncompatibleError(str(finding), findings=(finding,))
    finish("", BASE, outcome="refused", error=error, reason=str(finding), diagnostics=finding.with_slug)
    (row,) = book.snapshot()["entries"]

    assert row["findings"] == [finding._asdict()]
    assert row["diagnostics"] == "", "once is enough"


def test_a_compiler_s_text_is_shown_without_a_terminal_s_colours_and_not_endlessly(book: Book, finish: Finish) -> None:
    finish("", BASE, outcome="build_failed", error=BuildError("no"), diagnostics="\x1b[1merror\x1b[m" + "x" * 100_000)
    (row,) = book.snapshot()["entries"]

    assert row["diagnostics"].startswith("errorxxx")
    assert len(row["diagnostics"]) == 16 * 1024


def test_a_module_shows_since_when_each_function_is_another(book: Book, finish: Finish) -> None:
    finish("d1", BASE)
    finish("d2", BASE, functions=["shade", "blur"])
    stand(book, wanted="d2")
    (module,) = book.snapshot()["modules"]
    assert module["functions"] == [{"name": "shade", "since": 1}, {"name": "blur", "since": 2}]

    finish("", BASE, outcome="base", functions=[], edited=[])
    stand(book)
    assert book.snapshot()["modules"][0]["functions"] == []


def test_only_what_is_another_is_told_again(book: Book) -> None:
    stand(book)
    told = book.feed.newest
    stand(book)
    book.processes_changed([])
    book.stragglers_seen(7, [])
    assert book.feed.newest == told
    stand(book, state="making")
    book.processes_changed([7])
    book.stragglers_seen(7, ["T1 (inside shade)"])

    assert book.feed.newest == told + 3
    assert book.snapshot()["stragglers"] == [{"pid": 7, "stragglers": ["T1 (inside shade)"]}]


def test_a_reader_begins_with_everything_and_comes_again_to_what_it_missed(book: Book, finish: Finish) -> None:
    finish("d1", BASE)
    reader = book.attend(None)
    first = reader.take(0)
    assert (first.kind, first.number, len(json.loads(first.data)["entries"])) == ("snapshot", book.feed.newest, 1)
    assert book.is_watched
    reader.close()
    assert not book.is_watched
    finish("d2", BASE)

    again = book.attend(first.number).take(0)
    assert (again.kind, json.loads(again.data)["number"]) == ("entry", 2)
    assert book.attend(10_000).take(0).kind == "snapshot"


def test_the_read_only_feed_says_three_things_and_no_more(book: Book, finish: Finish) -> None:
    reader = book.live_feed.join()
    finish("d1", BASE, reason="a secret", notes=["another"])

    assert json.loads(reader.take(0).data) == {"outcome": "live", "module": "tiny", "generation": 1}


def test_rows_are_kept_up_to_a_number(book: Book, finish: Finish) -> None:
    for number in range(250):
        finish(f"d{number}", BASE.replace("+ 1", f"+ {number}"))
    entries = book.snapshot()["entries"]

    assert (len(entries), entries[0]["number"], entries[-1]["number"]) == (200, 51, 250)
    assert book.differences(50) is None


def test_texts_that_get_too_much_are_forgotten_the_oldest_first() -> None:
    versions: list[Any] = []
    texts = Texts(lambda: list(reversed(versions)), limit=1000)
    for number in range(20):
        versions.append(texts.keep({"a.c": f"{number:02}" + "x" * 98}))

    assert texts.read(versions[0]) == {"a.c": None}
    assert texts.read(versions[-1])["a.c"].startswith("19")
    compared = compare(texts.read(versions[0]), texts.read(versions[-1]))
    assert compared["files"][0]["note"] == "this text is not kept any more"


def test_a_base_that_is_gone_from_the_store_is_said_to_be(finish: Finish, book: Book) -> None:
    def gone() -> Any:
        raise BuildError("texts/ab is gone from the store", hint="build again")

    book.module_found("ab", "tiny", gone)
    finish("d1", BASE)

    assert book.differences(1) == {"reason": "texts/ab is gone from the store", "hint": "build again"}


def test_a_new_file_is_a_difference_and_one_that_is_read_no_more_is_none() -> None:
    compared = compare({"a.c": "a\n"}, {"a.c": "a\n", "b.h": "b\n"})

    assert [file["name"] for file in compared["files"]] == ["b.h"]


def test_a_long_difference_is_cut_and_says_how_much_is_left_out() -> None:
    compared = compare({"a.c": ""}, {"a.c": "x\n" * 5000})

    assert (len(lines_of(compared)), compared["left_out"]) == (1500, 3500)


def test_a_python_hunk_names_its_function_at_any_depth() -> None:
    old = "class Shop:\n    def price(self):\n        return 1\n"
    compared = compare({"a.py": old}, {"a.py": old.replace("1", "2")})

    assert compared["files"][0]["hunks"][0]["heading"] == "def price(self):"


def test_two_files_of_one_text_are_two_modules(book: Book) -> None:
    book.module_found("ab other.py", "other", lambda: {Path("other.py"): "a = 1\n"})
    book.module_changed(
        "ab other.py", state="idle", wanted="d1", kept=[], files=["other.py"], holders=[(7, "other.py", "d1")]
    )
    book.reload_finished("ab other.py", LINE, digest="d1", texts={Path("other.py"): "a = 2\n"}, error=None)
    shown = {module["key"]: module["wanted"] for module in book.snapshot()["modules"]}
    assert shown == {"ab": "", "ab other.py": "d1"}
    assert lines_of(book.differences(1)["base"]) == ["-a = 1", "+a = 2"]


def test_the_loop_goes_on_while_the_texts_of_a_base_are_read(finish: Finish, book: Book) -> None:
    told: list[str] = []

    def slow() -> dict[Path, str]:
        loop = threading.Thread(target=lambda: (stand(book, state="making"), told.append("went on")))
        loop.start()
        loop.join(10)
        return {SOURCE: BASE}

    book.module_found("ab", "tiny", slow)
    finish("d1", BASE.replace("+ 1", "+ 2"))
    assert book.differences(1)["base"]["files"]
    assert told == ["went on"]


def test_a_line_in_a_file_of_very_many_is_found_with_its_context() -> None:
    old = [f"line {number % 7}" for number in range(200_000)]
    new = [*old[:150_000], "new", *old[150_001:]]
    (file,) = compare({"a.c": "\n".join(old)}, {"a.c": "\n".join(new)})["files"]
    (hunk,) = file["hunks"]
    assert (hunk["old"], hunk["new"]) == (149_998, 149_998)
    assert [sign for sign, _text in hunk["lines"]] == [" ", " ", " ", "-", "+", " ", " ", " "]
