"""Takes the picture in docs/page.md: ``python -m tests.page.picture``, where the page is tried anyway."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

from playwright.sync_api import expect, sync_playwright

from tests.page.shop import Shop

PICTURE = Path(__file__).resolve().parents[2] / "docs" / "assets" / "page.png"
REBATE = "/* a rebate for regulars */\n    return PyLong_FromLong(shade(3) - 1);"


def edit(shop: Shop, page: Any) -> None:
    """An afternoon at the keyboard: an edit, a slip, another edit."""
    texts = ["x + 41", "x + 10", "x + oops", "x + 10"]
    for number, text in enumerate(texts, 1):
        shop.save(text)
        expect(page.locator("#rows li")).to_have_count(number)
    shop.extension.source.write_text(shop.original.replace("return PyLong_FromLong(shade(1));", REBATE))
    expect(page.locator("#rows li")).to_have_count(len(texts) + 1)
    expect(page.locator("#detail .plus")).to_have_count(2)


def main() -> None:
    """Starts the site, edits it, and looks."""
    directory = Path(tempfile.mkdtemp())
    PICTURE.parent.mkdir(exist_ok=True)
    try:
        with Shop(directory) as shop, sync_playwright() as playwright:
            browser = playwright.chromium.launch(
                executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"]
            )
            page = browser.new_page(viewport={"width": 1280, "height": 760}, reduced_motion="reduce")
            page.goto(shop.page)
            expect(page.locator("#modules h3")).to_contain_text("shop")
            edit(shop, page)
            page.screenshot(path=PICTURE)
            browser.close()
    finally:
        shutil.rmtree(directory)
    print(f"{PICTURE}: {PICTURE.stat().st_size} bytes")


if __name__ == "__main__":
    main()
