"""The page in a real browser: one Chromium and one site for the whole file; pictures are kept in ``artefacts/``.

Run by ``test_browser.py``, in a process of its own.
"""

from __future__ import annotations

import re
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.page.shop import Shop

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
expect = sync_api.expect

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
ARTEFACTS = Path(__file__).parent / "artefacts"
OPTIONS = [
    "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--no-first-run",
]  # fmt: skip

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    with Shop(tmp_path_factory.mktemp("shop")) as shop:
        yield shop


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            str(tmp_path_factory.mktemp("profile")), executable_path=CHROMIUM, headless=True, args=OPTIONS,
            viewport={"width": 1600, "height": 1000}, reduced_motion="reduce",
        )  # fmt: skip
        context.set_default_timeout(20_000)
        expect.set_options(timeout=20_000)
        yield context
        context.close()


@pytest.fixture(scope="module")
def faults() -> list[str]:
    """What the browser's console says is wrong."""
    return []


@pytest.fixture(scope="module")
def page(context: Any, shop: Shop, faults: list[str]) -> Any:
    page = context.new_page()
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("console", lambda message: faults.append(message.text) if message.type == "error" else None)
    page.goto(shop.page)
    expect(page.locator("#connection")).to_have_text("connected")
    return page


@pytest.fixture
def settled(page: Any, shop: Shop) -> Any:
    """The page with the focus nowhere and the newest row shown; the base's text is on disk and live."""
    page.keyboard.press("Escape")
    page.evaluate("document.activeElement.blur()")
    rows = page.locator("#rows li").count()
    files = {shop.extension.source: shop.original, shop.extension.header: shop.extension.shade("x + 1")}
    edited = [path for path, text in files.items() if path.read_text() != text]
    for path in edited:
        path.write_text(files[path])
    if edited:
        expect(page.locator("#rows li")).to_have_count(rows + 1)
        expect(page.locator("#modules .now")).to_contain_text("was built with")
    if rows:
        newest(page).locator(".row").click()
        page.evaluate("document.activeElement.blur()")
    return page


def keep(page: Any, name: str, **options: Any) -> None:
    """Keeps a picture of the page, and says where."""
    ARTEFACTS.mkdir(exist_ok=True)
    page.screenshot(path=ARTEFACTS / name, **options)
    print(f"picture: {ARTEFACTS / name}")


def newest(page: Any) -> Any:
    return page.locator("#rows li").first


def wait_for_value(page: Any, shop: Shop, text: str, value: str) -> None:
    """Saves, and waits for the row that says so."""
    rows = page.locator("#rows li").count()
    shop.save(text)
    expect(page.locator("#rows li")).to_have_count(rows + 1)
    expect(newest(page)).to_have_class(re.compile("live"))
    assert shop.get("/value") == value


def test_an_empty_page_says_what_to_do(page: Any) -> None:
    expect(page.locator("#no-rows")).to_contain_text("Save a source of a module")
    expect(page.locator("#modules h3")).to_contain_text("shop")
    expect(page.locator("#modules .now")).to_contain_text("The code it was built with is live")


def test_a_save_appears_as_a_row_by_itself_and_its_diff_and_stages_are_shown(settled: Any, shop: Shop) -> None:
    settled.evaluate("window.stillTheSame = true")
    wait_for_value(settled, shop, "x + 41", "42")

    assert settled.evaluate("window.stillTheSame") is True, "nobody loaded the page again"
    expect(newest(settled).locator(".tag")).to_have_text("now")
    expect(settled.locator("#detail .minus")).to_contain_text("return x + 1;")
    expect(settled.locator("#detail .plus")).to_contain_text("return x + 41;")
    expect(settled.locator("#detail .names").first).to_contain_text("shade")
    assert settled.locator("#plot .bar").count() == 1
    settled.locator("#figures summary").click()
    expect(settled.locator("#figures tbody th")).to_contain_text("shop")
    settled.locator("#figures summary").click()


def test_the_keyboard_goes_back_to_the_base_and_the_site_answers_as_before(settled: Any, shop: Shop) -> None:
    wait_for_value(settled, shop, "x + 6", "7")
    settled.keyboard.press("j")
    settled.keyboard.press("b")
    expect(settled.locator("#confirm")).to_contain_text("Go to the code it was built with?")
    settled.keyboard.press("Escape")
    assert shop.get("/value") == "7", "it asks first"

    settled.keyboard.press("b")
    settled.keyboard.press("Enter")
    expect(newest(settled)).to_contain_text("base")
    expect(settled.locator("#modules .now")).to_contain_text("This page chose it")
    assert shop.get("/value") == "2"
    line = shop.program.reloads()[-1]
    assert (line["outcome"], line["trigger"]) == ("base", "page")


def test_an_earlier_row_is_made_live_again_and_the_next_save_goes_forward(settled: Any, shop: Shop) -> None:
    wait_for_value(settled, shop, "x + 20", "21")
    wait_for_value(settled, shop, "x + 30", "31")
    rows = settled.locator("#rows li").count()
    settled.keyboard.press("j")
    settled.keyboard.press("j")
    expect(settled.locator("#rows li").nth(1).locator(".row")).to_be_focused()
    settled.keyboard.press("Enter")
    expect(settled.locator("#detail-title")).to_be_focused()
    settled.keyboard.press("r")
    settled.keyboard.press("Enter")
    expect(settled.locator("#rows li")).to_have_count(rows + 1)
    expect(newest(settled)).to_have_class(re.compile("now"))
    assert shop.get("/value") == "21"

    wait_for_value(settled, shop, "x + 50", "51")


def test_a_compile_error_is_shown_as_it_was_printed(settled: Any, shop: Shop) -> None:
    shop.save("x + oops")
    expect(newest(settled)).to_contain_text("build failed")
    expect(newest(settled)).to_contain_text("oops")
    expect(settled.locator("#detail .output")).to_contain_text("shade.h:1:")
    expect(newest(settled).locator(".back")).to_be_hidden()
    assert shop.get("/value") == "2"
    keep(settled, "compile-error.png")


def test_a_refusal_is_shown_with_place_reason_hint_and_slug_and_as_text(settled: Any, shop: Shop) -> None:
    text = shop.original.replace("static long calls;", "static long calls; static __thread long mine; // <b id=html>")
    shop.extension.source.write_text(text.replace("calls++;", "calls++; mine += calls; if (mine == 7) return 0;"))
    expect(newest(settled)).to_contain_text("refused")
    problem = settled.locator("#detail .problem")
    expect(problem.locator(".place")).to_contain_text("shop.c:")
    expect(problem).to_contain_text("thread-local variable `mine` is new")
    expect(problem).to_contain_text("restart")
    expect(problem.locator(".slug")).to_have_text("thread-local-added")
    expect(settled.locator("#detail .plus").first).to_contain_text("<b id=html>")
    assert settled.locator("#html").count() == 0
    keep(settled, "refused.png")


def test_light_and_dark_follow_the_system_and_the_switch(settled: Any, shop: Shop) -> None:
    def ground() -> str:
        return settled.evaluate("getComputedStyle(document.body).backgroundColor")

    shop.save("x + 9")
    expect(newest(settled)).to_have_class(re.compile("now"))
    settled.emulate_media(color_scheme="light")
    light = ground()
    keep(settled, "light.png")
    settled.emulate_media(color_scheme="dark")
    dark = ground()
    keep(settled, "dark.png")
    assert light != dark
    settled.keyboard.press("t")
    assert ground() == light
    settled.reload()
    expect(newest(settled)).to_have_class(re.compile("now"))
    expect(settled.locator("#theme")).to_contain_text("light")
    assert ground() == light, "the choice is remembered"
    settled.keyboard.press("t")
    settled.keyboard.press("t")
    assert ground() == dark
    settled.emulate_media(color_scheme="light")


def test_it_fits_a_telephone_and_a_wide_screen(settled: Any) -> None:
    for width in (360, 768, 1600):
        settled.set_viewport_size({"width": width, "height": 1000})
        assert settled.evaluate("document.documentElement.scrollWidth") <= width
        if width == 360:
            keep(settled, "narrow.png", full_page=True)


def test_everything_is_reached_with_the_tab_key_and_has_a_name(settled: Any) -> None:
    settled.locator(".skip").focus()
    seen = []
    for _ in range(14):
        settled.keyboard.press("Tab")
        seen.append(
            settled.evaluate(
                "document.activeElement.id || document.activeElement.className || document.activeElement.tagName"
            )
        )
    assert {"theme", "help", "row"} <= set(seen)
    nameless = settled.evaluate(
        "[...document.querySelectorAll('button, a, [role=region], [role=img]')].filter(e => e.checkVisibility()"
        " && !(e.textContent.trim() || e.getAttribute('aria-label'))).length"
    )
    assert nameless == 0
    settled.keyboard.press("?")
    expect(settled.locator("#keys")).to_be_visible()
    settled.keyboard.press("Escape")
    expect(settled.locator("#keys")).to_be_hidden()


def test_a_thread_in_old_code_is_named_until_it_has_left(settled: Any, shop: Shop) -> None:
    sleeper = threading.Thread(target=shop.get, args=("/nap",))
    sleeper.start()
    shop.program.wait_for(lambda: shop.get("/is-napping") == "1", "no request")
    shop.save("x + 70")
    expect(settled.locator("#stragglers .waiting")).to_contain_text(str(shop.program.process.pid))
    keep(settled, "straggler.png")
    shop.save("x + 71")
    expect(settled.locator("#modules .now")).to_contain_text("on its way; until then what was live serves")
    expect(newest(settled).locator(".back")).to_be_hidden()
    shop.get("/wake")
    sleeper.join(20)
    expect(settled.locator("#modules .now")).to_contain_text("is live, generation")
    expect(settled.locator("#stragglers")).to_contain_text("every thread runs what is live")
    assert shop.get("/value") == "72"


def test_the_user_s_own_page_reloads_by_itself_after_an_edit_and_only_then(
    context: Any, settled: Any, shop: Shop
) -> None:
    own = context.new_page()
    with own.expect_response(re.compile("/events")):
        own.goto(shop.address + "/")
    expect(own.locator("#price")).to_have_text("2")
    shop.save("x + 80")
    expect(own.locator("#price")).to_have_text("81")

    own.evaluate(
        "document.title = ''; addEventListener('hotreload', e => { document.title += ' ' + e.detail.outcome; e.preventDefault(); })"
    )
    shop.save("x + oops")
    expect(newest(settled)).to_contain_text("build failed")
    shop.save("x + 1")
    expect(own).to_have_title("build_failed base")
    expect(own.locator("#price")).to_have_text("81")
    own.close()


def test_the_end_of_the_program_is_told_and_nothing_was_wrong_on_the_way(
    page: Any, shop: Shop, faults: list[str]
) -> None:
    assert faults == []
    assert shop.program.end() == -15
    expect(page.locator("#lost")).to_contain_text("The connection is lost")
    expect(page.locator("#connection")).to_have_text("lost")
