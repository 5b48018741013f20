from __future__ import annotations

import contextlib
import io
import json
import logging
import re
from pathlib import Path

import pytest
import structlog

from hotreload.log import make_log, without_colours


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_away_from_a_terminal_each_line_is_one_json_object() -> None:
    file = io.StringIO()
    make_log(file=file).error("reload.finished", outcome="build_failed", diagnostics="\x1b[31ma.c:1: error\x1b[m\n")

    line = json.loads(file.getvalue())
    assert (line["event"], line["level"], line["outcome"]) == ("reload.finished", "error", "build_failed")
    assert line["diagnostics"] == "a.c:1: error\n"


def test_on_a_terminal_the_compiler_speaks_for_itself_below_the_line() -> None:
    file = Terminal()
    text = "\x1b[31ma.c:1: error\x1b[m\n"
    make_log(file=file).error("reload.finished", outcome="build_failed", reason="no", diagnostics=text)

    first, *panel, last = file.getvalue().splitlines()
    assert "\x1b[" in first
    assert "build_failed" in without_colours(first)
    assert without_colours(panel[1]).strip("│ ") == "no"
    assert last == "\x1b[31ma.c:1: error\x1b[m"


def test_a_file_gets_every_line_as_json_besides(tmp_path: Path) -> None:
    file, also = io.StringIO(), tmp_path / "log.jsonl"
    log = make_log("console", file=file, also=str(also))
    log.info("reload.finished", outcome="live", generation=1)
    log.debug("process.connected")

    (line,) = map(json.loads, also.read_text().splitlines())
    assert (line["event"], line["outcome"], line["generation"]) == ("reload.finished", "live", 1)
    assert "outcome=live" in file.getvalue()


def test_console_format_in_a_file_has_no_colours() -> None:
    file = io.StringIO()
    make_log("console", file=file).error(
        "reload.finished", diagnostics="\x1b[31ma.c:1: error\x1b[m\n", notes=["a", "b"]
    )

    assert "\x1b" not in file.getvalue()
    assert "a.c:1: error" in file.getvalue()
    assert "a, b" in file.getvalue()


def test_a_finding_is_told_once_in_lines_and_kept_as_data_in_json() -> None:
    finding = {"slug": "no-hook", "reason": "`f` cannot be patched", "hint": "restart", "file": "a.c", "line": 1}
    text = "a.c:1: refused: `f` cannot be patched (restart) [no-hook]"
    fields = {"outcome": "refused", "reason": text, "hint": "", "diagnostics": text, "findings": [finding]}
    console, data = io.StringIO(), io.StringIO()
    make_log("console", file=console).warning("reload.finished", **fields, sources={"a.c:1": "int f;"})
    make_log("json", file=data).warning("reload.finished", **fields, sources={"a.c:1": "int f;"})

    assert console.getvalue().splitlines()[1:] == [text]
    assert console.getvalue().count("cannot be patched") == 1
    assert json.loads(data.getvalue())["findings"] == [finding]
    assert json.loads(data.getvalue())["sources"] == {"a.c:1": "int f;"}


def test_a_line_for_a_person_says_what_is_live_once_and_measures_nothing_that_took_no_time() -> None:
    file = io.StringIO()
    log = make_log("console", file=file)
    names = {"functions": ["blur"], "edited": ["blur"]}
    log.info("reload.finished", outcome="live", **names, link_ms=0.04, build_ms=9.96, distance_bytes=4096)
    log.info("reload.finished", outcome="live", functions=["blur"], edited=["inlined"])
    log.info("reload.finished", outcome="nothing", **names, processes=0, reason="it is live already")

    live, inlined, nothing = file.getvalue().splitlines()
    assert live.split()[3:] == ["outcome=live", "functions=blur", "build_ms=10.0"]
    assert "edited=inlined" in inlined
    assert nothing.split("reload.finished")[1].strip() == "outcome=nothing reason='it is live already'"


def test_a_refusal_of_a_process_names_its_page_and_shows_no_data() -> None:
    details = {"error": "StageError", "status": "ADDITION", "slug": "python-addition-raises"}
    fields = {"outcome": "refused", "module": "pricing", "reason": "f() raises", "details": details}
    panel, lines = Terminal(), io.StringIO()
    make_log(file=panel).warning("reload.finished", **fields)
    make_log("console", file=lines).warning("reload.finished", **fields)

    assert "hotreload explain python-addition-raises" in panel.getvalue()
    assert "StageError" not in panel.getvalue() + lines.getvalue()
    assert "status=python-addition-raises" in lines.getvalue()


def test_json_format_on_a_terminal_is_json() -> None:
    file = Terminal()
    make_log("json", file=file).info("reload.finished", generation=1)

    assert json.loads(file.getvalue())["generation"] == 1


def test_debug_lines_are_written_only_when_asked_for() -> None:
    file = io.StringIO()
    make_log(file=file).debug("process.connected")
    assert not file.getvalue()
    make_log(file=file, verbose=True).debug("process.connected")
    assert file.getvalue()


def test_the_hosts_structlog_and_logging_stay_as_they_are() -> None:
    structlog.reset_defaults()
    before = (structlog.get_config(), logging.root.level, list(logging.root.handlers), logging.getLoggerClass())
    file = io.StringIO()
    log = make_log(file=file)
    log.info("reload.finished")

    assert not structlog.is_configured()
    assert before == (structlog.get_config(), logging.root.level, list(logging.root.handlers), logging.getLoggerClass())


def test_a_host_that_configures_structlog_does_not_change_our_lines() -> None:
    try:
        structlog.configure(processors=[lambda *_: "host"], wrapper_class=structlog.make_filtering_bound_logger(50))
        file = io.StringIO()
        make_log(file=file).info("reload.finished")
    finally:
        structlog.reset_defaults()

    assert json.loads(file.getvalue())["event"] == "reload.finished"


@pytest.mark.parametrize(("name", "value"), [("TERM", "dumb"), ("NO_COLOR", "1")])
def test_a_terminal_that_is_to_have_no_colours_gets_none(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv(name, value)
    file = Terminal()
    text = "\x1b[31ma.c:1: error: x\x1b[m\n"
    make_log(file=file).error("reload.finished", outcome="build_failed", reason="no", diagnostics=text)

    assert "a.c:1: error: x" in file.getvalue()
    assert not re.search("\x1b\\[[0-9;]*3[0-7]", file.getvalue())


def test_a_line_and_what_stands_below_it_are_one_write() -> None:
    pieces: list[str] = []

    class File(Terminal):
        def write(self, text: str) -> int:
            pieces.extend([text] if text else [])
            return len(text)

    make_log(file=File()).error("reload.finished", outcome="build_failed", reason="no", diagnostics="a.c:1: error: x")
    make_log("json", file=File()).info("reload.finished")

    assert [piece.endswith("\n") for piece in pieces] == [True, True]


def test_a_line_that_cannot_be_written_is_lost_and_nothing_else() -> None:
    with open("/dev/full", "w") as full:
        log = make_log(file=full)
        for level in ("info", "warning", "error"):
            getattr(log, level)("reload.finished", text="x" * 100_000)
        with contextlib.suppress(OSError):
            full.close()
