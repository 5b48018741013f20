"""``hotreload explain``: the page of a refusal or a status, or a list of them."""

from __future__ import annotations

import argparse
import json
import sys

from hotreload.cli.pages import Page, load_pages
from hotreload.config import nearest
from hotreload.errors import HotReloadError

__all__ = ["explain"]


def explain(options: argparse.Namespace) -> int:
    """Prints a page; without a name, one line for each.

    Raises:
        HotReloadError: there is no page of that name; the nearest is named.
    """
    pages = load_pages()
    if not options.slug:
        return _list(pages, as_json=options.json)
    page = find(options.slug)
    if options.json:
        print(json.dumps({**page._asdict(), "allowed": _allowed(page.name)}, indent=2))
    elif sys.stdout.isatty():
        _draw(page)
    else:
        print(f"{page.name}\n\n{page.text}")
    return 0


def find(name: str) -> Page:
    """A page by its name, in any case, with brackets or without. Raises HotReloadError: there is none."""
    pages = load_pages()
    word = name.strip("[]` ")
    for spelling in (word, word.lower().replace("_", "-"), word.upper().replace("-", "_")):
        if spelling in pages:
            return pages[spelling]
    close = nearest(word.upper() if word.isupper() else word.lower(), pages)
    hint = close if close.startswith("did you mean") else "`hotreload explain` lists what there is"
    raise HotReloadError(f"there is no page {word!r}", hint=hint)


def _list(pages: dict[str, Page], *, as_json: bool) -> int:
    if as_json:
        print(json.dumps([{"name": page.name, "kind": page.kind, "summary": page.summary} for page in pages.values()]))
        return 0
    width = max(map(len, pages))
    for kind, title in (("refusal", "refusals of an edit:"), ("status", "answers of a process:")):
        print(title)
        for page in pages.values():
            if page.kind == kind:
                print(f"  {page.name:<{width}}  {page.summary}")
    return 0


def _allowed(slug: str) -> bool:
    from hotreload.diff.verdicts import ALLOWABLE

    return slug in ALLOWABLE


def _draw(page: Page) -> None:
    from rich.console import Console
    from rich.markdown import Markdown

    console = Console()
    console.width = min(console.width, 100)
    console.print(Markdown(f"# {page.name}\n\n{page.text}"))
