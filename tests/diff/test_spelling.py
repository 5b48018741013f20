"""C++ names in what a person is told."""

from __future__ import annotations

from hotreload.diff import spelling
from hotreload.diff.spelling import spelled


def test_names_are_told_as_the_source_has_them():
    texts = ["`_ZNK5Shape4areaEl` was removed", "`main` stays", "variable `_ZL4last` is alive"]
    assert spelled(texts) == ["`Shape::area(long) const` was removed", "`main` stays", "variable `last` is alive"]


def test_without_a_tool_they_stay_as_they_are(monkeypatch):
    monkeypatch.setattr(spelling, "DEMANGLERS", ("no-such-tool", "false"))
    assert spelled(["`_ZL4last`"]) == ["`_ZL4last`"]


def test_no_tool_is_asked_about_c(monkeypatch):
    monkeypatch.setattr(spelling.subprocess, "run", None)
    assert spelled(["`last` is alive"]) == ["`last` is alive"]
