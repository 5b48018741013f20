"""The page with Python functions: what their files said, and going back in one of them, in a real program."""

from __future__ import annotations

import http.client
import json
import re
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tests.run.harness import Program

PRICING = """\
from hotreload import hotpatchable


@hotpatchable
def price(n):
    return n * 2
"""
SERVER = """\
import time, pricing, twin

last = None
while True:
    value = pricing.price(3), twin.price(3)
    if value != last:
        print("prices", *value, flush=True)
        last = value
    time.sleep(0.005)
"""


class Page:
    """What the browser asks."""

    def __init__(self, program: Program) -> None:
        (line,) = program.wait_for(lambda: [line for line in program.stderr if "is shown at" in line], "no address")
        self._url = urlsplit(re.search(r"http://\S+", line)[0])  # type: ignore[index]

    def _ask(self, method: str, path: str, body: bytes = b"") -> http.client.HTTPResponse:
        connection = http.client.HTTPConnection(self._url.netloc, timeout=20)
        headers = {"Content-Type": "application/json", "Origin": f"http://{self._url.netloc}"} if body else {}
        connection.request(method, self._url.path + path, body or None, headers)
        return connection.getresponse()

    def snapshot(self) -> dict[str, Any]:
        answer = self._ask("GET", "events")
        data = next(line for line in iter(answer.readline, b"") if line.startswith(b"data: "))
        answer.close()
        return json.loads(data[6:])  # type: ignore[no-any-return]

    def changed_lines(self, number: int, against: str) -> list[str]:
        found = json.loads(self._ask("GET", f"entry/{number}").read())[against]
        lines = [line for file in found["files"] for hunk in file["hunks"] for line in hunk["lines"]]
        return [sign + text for sign, text in lines if sign != " "]

    def go_to(self, key: str, digest: str) -> int:
        return self._ask("POST", "go", json.dumps({"key": key, "digest": digest}).encode()).status


def test_two_files_of_one_text_have_a_row_and_a_way_back_each(tmp_path: Path) -> None:
    for name in ("pricing", "twin"):
        (tmp_path / f"{name}.py").write_text(PRICING)
    (tmp_path / "server.py").write_text(SERVER)
    with Program(["-m", "hotreload", "run", "--ui", "server.py"], directory=tmp_path) as program:
        page = Page(program)
        program.wait_for(lambda: len([e for e in program.events if e["event"] == "extension.found"]) == 2, "not both")
        (tmp_path / "twin.py").write_text(PRICING.replace("n * 2", "n * 5"))
        program.wait_line("prices 6 15")
        (tmp_path / "twin.py").write_text(PRICING.replace("n * 2", "n * 6"))
        program.wait_line("prices 6 18")
        (tmp_path / "pricing.py").write_text(PRICING.replace("n * 2", "n * 7"))
        program.wait_line("prices 21 18")
        program.wait_reloads(3)

        assert page.changed_lines(2, "previous") == ["-    return n * 5", "+    return n * 6"]
        assert page.changed_lines(2, "base") == ["-    return n * 2", "+    return n * 6"]
        assert page.changed_lines(3, "base") == ["-    return n * 2", "+    return n * 7"]
        shown = page.snapshot()
        assert [entry["module"] for entry in shown["entries"]] == ["twin", "twin", "pricing"]
        twin = next(module for module in shown["modules"] if module["module"] == "twin")
        assert twin["functions"] == [{"name": "price", "since": 1}]

        assert page.go_to(twin["key"], shown["entries"][0]["digest"]) == 202
        program.wait_line("prices 21 15")
        assert page.go_to(twin["key"], "") == 202
        program.wait_line("prices 21 6")
        assert program.end() == -15
