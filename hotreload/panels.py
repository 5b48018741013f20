"""What went wrong, as a person reads it: a panel on a terminal, plain lines in a pipe; one place for all commands.

    ╭─ refused: shapes.c ─────────────────────────────────────────╮
    │ src/shapes.c:14                                             │   where, as the file was compiled
    │   14 │ struct item {                                        │
    │      │        ^^^^                                          │
    │ `struct item` is laid out differently: ...                  │   why
    │ restart to change it, or give the new type another name     │   what next
    │ type-layout: hotreload explain type-layout                  │   and more about it
    ╰─────────────────────────────────────────────────────────────╯

What a compiler printed stands below its panel, in the compiler's own colours. It is used by the command line and by
the helper process, never in a server.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any, NamedTuple, TextIO

from hotreload.artefact import printable
from hotreload.errors import BuildError, Finding, HotReloadError, IncompatibleError, StageError

__all__ = ["Trouble", "draw", "plain", "tell", "trouble_of", "trouble_of_event", "wants_panels", "without_colours"]

#: Wider than this a text is hard to read, however wide the terminal is.
_WIDEST = 110
_GUTTER = 8
_COLOURS = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
_ERROR = re.compile(r"^(\S[^\n]*?):(\d+):(?:(\d+):)? (?:fatal )?error: (.*)$", re.MULTILINE)
_IN_BACKTICKS = re.compile(r"`([^`]+)`")


class Trouble(NamedTuple):
    """One failure: ``findings``, or one ``reason`` with its ``hint`` and the ``status`` that it has a page under.

    ``sources`` has the lines that findings are about, by "file:line", as they were compiled.
    """

    title: str
    findings: tuple[Finding, ...] = ()
    reason: str = ""
    hint: str = ""
    status: str = ""
    diagnostics: str = ""
    sources: Mapping[str, str] = {}


def trouble_of(error: HotReloadError) -> Trouble:
    """What an error tells."""
    if isinstance(error, IncompatibleError) and error.findings:
        return Trouble(_refused(error.findings), error.findings, sources=error.fields.get("sources") or {})
    status = _page_of(error.fields)
    if isinstance(error, BuildError):
        title = "does not build" if error.diagnostics else "hotreload"
    elif isinstance(error, StageError):
        title = f"refused: {status}" if status else "refused"
    else:
        title = "hotreload"
    diagnostics = error.diagnostics if isinstance(error, BuildError) else ""
    return Trouble(title, (), error.message, error.hint, status, diagnostics)


def trouble_of_event(event: Mapping[str, Any]) -> Trouble | None:
    """What a line of the log tells of a failure; None where it tells of none."""
    if event.get("outcome") not in ("refused", "build_failed"):
        return None
    found = tuple(Finding(**finding) for finding in event.get("findings") or ())
    if found:
        return Trouble(_refused(found), found, sources=event.get("sources") or {})
    is_build = event["outcome"] == "build_failed"
    status = _page_of(event.get("details") or {})
    title = "does not build" if is_build else f"refused: {status}" if status else "refused"
    name = f"{title}: {event['module']}" if event.get("module") else title
    reason, hint, diagnostics = (str(event.get(key) or "") for key in ("reason", "hint", "diagnostics"))
    return Trouble(name, (), reason, hint, status, diagnostics)


def _page_of(fields: Mapping[str, Any]) -> str:
    """The page that says most of an error: that of the refusal, or of the status that it came as."""
    return str(fields.get("slug") or fields.get("status") or "")


def wants_panels(stream: TextIO) -> bool:
    """Whether a person looks at this stream through a terminal that can draw."""
    return stream.isatty() and os.environ.get("TERM", "") not in ("dumb", "unknown")


def tell(error: HotReloadError) -> None:
    """An error on stderr; whether anybody reads it decides nothing."""
    trouble = trouble_of(error)
    text = draw(trouble, sys.stderr) if wants_panels(sys.stderr) else plain(trouble)
    with suppress(OSError):
        os.write(2, text.encode(errors="backslashreplace"))


def plain(trouble: Trouble) -> str:
    """Lines as compilers write them."""
    if trouble.findings:
        lines = [printable(finding.with_slug) for finding in trouble.findings]
    else:
        hint = f" ({trouble.hint})" if trouble.hint else ""
        lines = [f"hotreload: {printable(trouble.reason)}{printable(hint)}"]
    if trouble.diagnostics:
        lines.append(without_colours(trouble.diagnostics).rstrip("\n"))
    return "".join(f"{line}\n" for line in lines)


def draw(trouble: Trouble, stream: TextIO) -> str:
    """The panel, as wide as the terminal behind ``stream``; the compiler's text below it."""
    from rich.console import Console, Group
    from rich.padding import Padding
    from rich.panel import Panel

    console = Console(file=stream, highlight=False, markup=False, emoji=False, soft_wrap=False)
    width = max(20, min(console.width, _WIDEST))
    parts = list(_parts(trouble, width - 4))
    panel = Panel(
        Group(*(Padding(part, 0) for part in parts)),
        title=printable(trouble.title),
        title_align="left",
        border_style="red",
        width=width,
    )
    with console.capture() as captured:
        console.print(panel)
    below = (without_colours(trouble.diagnostics) if console.no_color else trouble.diagnostics).rstrip("\n")
    return captured.get() + (f"{below}\n" if below else "")


def without_colours(text: str) -> str:
    """``text`` without the terminal's escape sequences."""
    return _COLOURS.sub("", text)


def _refused(findings: tuple[Finding, ...]) -> str:
    files = dict.fromkeys(os.path.basename(finding.file) for finding in findings if finding.file)
    return f"refused: {', '.join(files)}" if files else "refused"


def _parts(trouble: Trouble, width: int) -> Iterator[Any]:
    """The lines inside the panel."""
    from rich.text import Text

    for number, finding in enumerate(trouble.findings):
        if number:
            yield Text("")
        if finding.file:
            place = _near(finding.file) + (f":{finding.line}" if finding.line else "")
            yield Text(printable(place), style="bold")
        yield from _source_lines(finding, trouble.sources, width)
        yield Text(printable(finding.reason))
        if finding.hint:
            yield Text(printable(finding.hint), style="green")
        allowed = f"; --allow {finding.slug} lets it through" if finding.can_be_allowed else ""
        yield Text(f"{finding.slug}: hotreload explain {finding.slug}{allowed}", style="dim")
    if not trouble.findings:
        yield Text(printable(trouble.reason))
        yield from _first_error(trouble.diagnostics, width)
        if trouble.hint:
            yield Text(printable(trouble.hint), style="green")
        if trouble.status:
            yield Text(f"{trouble.status}: hotreload explain {trouble.status}", style="dim")


def _first_error(diagnostics: str, width: int) -> Iterator[Any]:
    """The first error that a compiler told, with the line as the compiler shows it; nothing where there is none."""
    from rich.text import Text

    text = without_colours(diagnostics)
    found = _ERROR.search(text)
    if not found:
        return
    place, message, line = f"{found[1]}:{found[2]}", found[4], int(found[2])
    yield Text(printable(place), style="bold")
    shown = re.search(rf"^ *{line} \|(?: (.*))?$", text[found.end() :], re.MULTILINE)
    source = ((shown and shown[1]) or "").rstrip()
    begin = min(int(found[3] or 1) - 1, max(0, len(source) - 1))
    yield from _underline(line, source, begin, begin + 1, width)
    yield Text(printable(message))
    more = len(_ERROR.findall(text)) - 1
    if more:
        yield Text(f"and {more} more, below" if more > 1 else "and one more, below", style="dim")


def _source_lines(finding: Finding, sources: Mapping[str, str], width: int) -> Iterator[Any]:
    """The line that a finding is about, with what it names underlined; nothing where the line is not known."""
    line = sources.get(f"{finding.file}:{finding.line}", "").expandtabs(4).rstrip()
    if line.strip():
        yield from _underline(finding.line, line, *_underlined(line, finding.reason), width)


def _underline(number: int, line: str, begin: int, end: int, width: int) -> Iterator[Any]:
    """One line of a source, with a part of it underlined."""
    from rich.text import Text

    if not line.strip():
        return
    room = max(8, width - _GUTTER)
    if end > room:  # what is underlined is seen, whatever stands before it
        cut = min(begin, end - room) + 1 if end - begin < room else begin
        line, begin, end = "…" + line[cut:], begin - cut + 1, min(end - cut + 1, room)
    shown = printable(line[:room])
    yield Text.assemble((f"{number:>5} │ ", "blue"), shown, no_wrap=True)
    yield Text.assemble(("      │ ", "blue"), " " * begin, ("^" * max(1, end - begin), "bold red"), no_wrap=True)


def _underlined(line: str, reason: str) -> tuple[int, int]:
    """From where to where a line is underlined: the first thing that the reason names, or all of it."""
    for name in _IN_BACKTICKS.findall(reason):
        word = name.split()[-1].strip("*;()")
        found = re.search(rf"(?<!\w){re.escape(word)}(?!\w)", line) if word else None
        if found:
            return found.span()
    return len(line) - len(line.lstrip()), len(line)


def _near(path: str) -> str:
    """A path as seen from here, where that is shorter."""
    with suppress(OSError, ValueError):
        relative = os.path.relpath(path)
        if not relative.startswith(os.pardir):
            return relative
    return path
