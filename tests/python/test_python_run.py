"""From a save to live, in real programs under ``hotreload run``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.run.harness import Program

PRICING = """\
from hotreload.python import register


def hot(function):
    register(function)
    return function


seen = []


@hot
def price(n):
    seen.append(n)
    return n * 2


def unmarked():
    return 1
"""
SERVER = """\
import os, sys, time
import pricing

print("ready", pricing.price(3), flush=True)
if "fork" in sys.argv:
    os.fork()
last = None
while True:
    value = (pricing.price(3), getattr(pricing, "EXTRA", None))
    if value != last:
        os.write(1, f"value {value[0]} {value[1]} kept {len(pricing.seen) > 0}\\n".encode())
        last = value
    time.sleep(0.001)
"""


@pytest.fixture
def run(tmp_path: Path) -> Iterator[tuple]:
    """Starts the server; gives it and its file."""
    source = tmp_path / "pricing.py"
    source.write_text(PRICING)
    (tmp_path / "server.py").write_text(SERVER)
    with ExitStack() as stack:

        def start(*arguments: str, **environment: str) -> Program:
            return stack.enter_context(
                Program(["-m", "hotreload", "run", "server.py", *arguments], directory=tmp_path, **environment)
            )

        yield start, source


def test_a_save_is_live_and_a_broken_one_is_shown_while_the_old_code_serves(run: tuple) -> None:
    start, source = run
    program = start()
    program.wait_line("ready 6")
    program.wait_event("extension.found", module="pricing")

    source.write_text("EXTRA = 5\n" + PRICING.replace("n * 2", "n * EXTRA"))
    line = program.wait_reloads(1)
    program.wait_line("value 15 5 kept True")
    assert (line["outcome"], line["functions"], line["added"]) == ("live", ["price"], ["EXTRA = 5"])
    assert line["generation"] == 1
    assert line["total_ms"] < 5000

    source.write_text(PRICING.replace("n * 2", "n * ("))
    line = program.wait_reloads(2)
    assert line["outcome"] == "build_failed"
    assert f'File "{source}", line 15' in line["diagnostics"]
    assert "SyntaxError" in line["diagnostics"]

    source.write_text(PRICING.replace("return 1", "return 2"))
    line = program.wait_reloads(3)
    assert line["outcome"] == "refused"
    assert "unmarked() changed and is not marked [python-not-marked]" in line["reason"]
    assert "hotpatchable" in line["hint"]

    source.write_text(PRICING.replace("n * 2", "n * 3").replace("return 1", "return 2"))
    line = program.wait_reloads(4)
    program.wait_line("value 9 ")
    assert (line["outcome"], line["functions"]) == ("live", ["price"])
    assert "unmarked() changed and is not marked" in line["notes"][0]

    source.write_text(PRICING.replace("n * 2", "n * 4").replace("seen = []", "seen = []\nBAD = 1 / 0"))
    line = program.wait_reloads(5)
    assert (line["outcome"], line["diagnostics"].splitlines()[-1]) == ("refused", "ZeroDivisionError: division by zero")
    assert f'File "{source}", line 10, in <module>' in line["diagnostics"]

    source.write_text(PRICING)
    line = program.wait_reloads(6)
    assert (line["outcome"], line["generation"]) == ("base", 0)
    program.wait_for(lambda: [each for each in program.stdout if each.startswith("value 6 None")][1:], "no way back")

    source.write_text(PRICING + "# a comment\n")
    line = program.wait_reloads(7)
    assert (line["outcome"], "only comments or spacing differ" in line["reason"]) == ("nothing", True)
    program.end()


def test_forked_processes_each_take_the_save(run: tuple) -> None:
    start, source = run
    program = start("fork")
    program.wait_event("extension.found", module="pricing")
    program.wait_for(lambda: [each for each in program.stdout if each.startswith("value 6")][1:], "no second process")

    source.write_text(PRICING.replace("n * 2", "n * 7"))
    program.wait_for(lambda: [each for each in program.stdout if each.startswith("value 21")][1:], "not in both")


def test_a_file_that_was_edited_before_it_was_imported_is_its_own_base(run: tuple, tmp_path: Path) -> None:
    """And the main script is reloaded too, under its own name."""
    start, _source = run
    script = tmp_path / "server.py"
    text = (
        "import time\nfrom hotreload.python import register\n\ndef f():\n    return 1\n\nregister(f)\n"
        "last = None\nwhile True:\n    value = f()\n    if value != last:\n        print('value', value, flush=True)\n"
        "    last = value\n    time.sleep(0.001)\n"
    )
    script.write_text(text)
    program = start()
    program.wait_line("value 1")
    program.wait_event("extension.found", module="server")
    script.write_text("import json\n" + text.replace("return 1", "return json.dumps([2])"))
    program.wait_line("value [2]")
    program.end()


def test_the_line_for_people_names_module_functions_and_notes(run: tuple) -> None:
    start, source = run
    program = start(HOTRELOAD_LOG_FORMAT="console")
    program.wait_line("ready 6")
    program.wait_for(lambda: [line for line in program.stderr if "extension.found" in line], "not found")
    source.write_text(PRICING.replace("n * 2", "n * 3").replace("seen = []", "seen = [0]"))
    program.wait_line("value 9 ")
    found = program.wait_for(lambda: [line for line in program.stderr if "reload.finished" in line], "no line")
    for part in ("pricing", "price", "live value of seen is kept"):
        assert part in found[0], found[0]
    program.end()


SHOP = """\
import asyncio, functools, os, threading, time
from hotreload.python import register


def hot(thing):
    register(thing)
    return thing


routes, seen = {}, []


def route(path):
    def add(function):
        routes[path] = function
        return function

    return add


@route("/")
@hot
def index():
    return "index 1"


@functools.lru_cache(maxsize=None)
@hot
def cached(n):
    seen.append(n)
    return n + 1


@hot
def counter(start):
    def add(n=1):
        nonlocal start
        start += n
        return start

    return add


@hot
class Cart:
    count = 0

    def add(self):
        self.count += 1
        return self.count

    @classmethod
    def empty(cls):
        return cls().count + 1

    @staticmethod
    def vat(n):
        return n * 1

    @property
    def total(self):
        return self.count * 1


@hot
def stream():
    yield 1
    yield 1


@hot
async def fetch(n):
    await asyncio.sleep(0)
    return n * 1


@hot
def stand(gate):
    while not os.path.exists(gate):
        time.sleep(0.002)
    return beside()


@hot
def beside():
    return 1
"""
ASKING = """\
import asyncio, os, sys, threading, time
import shop

identity = {name: id(getattr(shop, name)) for name in ("index", "cached", "counter", "stream", "fetch", "beside")}
add, cart, stream = shop.counter(100), shop.Cart(), shop.stream()
add(), cart.add(), shop.cached(1), next(stream)
if len(sys.argv) > 1:
    stood = []
    threading.Thread(target=lambda: stood.append(shop.stand(sys.argv[1])), name="stands", daemon=True).start()
last = None
print("ready", flush=True)
while True:
    version = shop.index()
    if version != last or shop.beside() != 1 and len(sys.argv) > 1:
        same = all(id(getattr(shop, name)) == number for name, number in identity.items())
        answers = [
            version, shop.routes["/"](), shop.cached(1), shop.cached(2), shop.seen, add(), cart.add(), cart.total,
            shop.Cart.empty(), shop.Cart.vat(1), list(stream), list(shop.stream()), asyncio.run(shop.fetch(1)), same,
        ]
        if version != last:
            os.write(1, f"answers {answers}\\n".encode())
        elif shop.beside() == 2:
            os.write(1, b"beside 2\\n")
            time.sleep(60)
        last = version
    time.sleep(0.002)
"""


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[tuple]:
    source = tmp_path / "shop.py"
    source.write_text(SHOP)
    (tmp_path / "asking.py").write_text(ASKING)
    with ExitStack() as stack:

        def start(*arguments: str, **environment: str) -> Program:
            program = Program(["-m", "hotreload", "run", "asking.py", *arguments], directory=tmp_path, **environment)
            stack.enter_context(program)
            program.wait_line("ready")
            program.wait_event("extension.found", module="shop")
            return program

        yield start, source


def test_identity_state_and_decorators_are_kept_in_a_running_server(shop: tuple) -> None:
    start, source = shop
    program = start()
    program.wait_line("answers ['index 1', 'index 1', 2, 3, [1, 2], 102, 2, 2, 1, 1, [1], [1, 1], 1, True]")

    source.write_text(
        SHOP.replace("index 1", "index 2")
        .replace("return n + 1", "return n + 10")
        .replace("start += n", "start += n * 10")
        .replace("self.count += 1", "self.count += 10")
        .replace("count + 1", "count + 10")
        .replace("n * 1", "n * 10")
        .replace("self.count * 1", "self.count * 10")
        .replace("yield 1", "yield 10")
    )

    # The cache, the counter, the cart and the list are what they were; the stream had begun and had ended in old code.
    program.wait_line("answers ['index 2', 'index 2', 2, 3, [1, 2], 202, 12, 120, 10, 10, [], [10, 10], 10, True]")
    line = program.wait_reloads(1)
    assert (line["outcome"], line["consistency"]) == ("live", "call")
    assert set(line["functions"]) == {
        *("index", "cached", "counter.<locals>.add", "stream", "fetch"),
        *("Cart.add", "Cart.empty", "Cart.vat", "Cart.total"),
    }
    program.end()


def test_a_thread_that_stays_inside_is_named_in_the_line_and_forced_at_the_deadline(
    shop: tuple, tmp_path: Path
) -> None:
    start, source = shop
    program = start(str(tmp_path / "gate"), HOTRELOAD_SETTLE="1")
    source.write_text(SHOP.replace("return beside()", "return -beside()").replace("return 1\n", "return 2\n"))

    line = program.wait_reloads(1)
    assert line["outcome"] == "live"
    assert len(line["stragglers"]) == 1
    assert line["stragglers"][0].startswith("stands (INSIDE stand (")
    forced = program.wait_event("transition.forced")
    assert forced["module"] == "shop"
    program.wait_line("beside 2")
    program.end()


def test_a_save_while_a_thread_is_inside_waits_for_the_first_one_to_be_over(shop: tuple, tmp_path: Path) -> None:
    start, source = shop
    program = start(str(tmp_path / "gate"), HOTRELOAD_SETTLE="60")
    first = SHOP.replace("return beside()", "return -beside()").replace("return 1\n", "return 3\n")
    source.write_text(first)
    program.wait_reloads(1)
    source.write_text(first.replace("return 3\n", "return 2\n"))

    (tmp_path / "gate").touch()

    line = program.wait_reloads(2)
    assert (line["outcome"], line["generation"]) == ("live", 2)
    program.wait_event("transition.completed")
    program.wait_line("beside 2")
    program.end()


def test_where_another_reloader_restarts_the_program_the_file_is_left_to_it(run: tuple, tmp_path: Path) -> None:
    start, source = run
    server = tmp_path / "server.py"
    server.write_text(
        "import hotreload.run.link\nhotreload.run.link.name_of_reloader = lambda: 'a reloader of its own'\n" + SERVER
    )
    program = start()
    program.wait_line("ready 6")
    said = "hotreload: saved .py files are left to a reloader of its own"
    program.wait_for(lambda: [line for line in program.stderr if line.startswith(said)], "nothing is said")
    assert not [event for event in program.events if event["event"] == "extension.found"]
    assert source.exists()
    program.end()


def test_without_hot_reload_marks_do_nothing(run: tuple, tmp_path: Path) -> None:
    _start, source = run
    with Program(["server.py"], directory=tmp_path) as program:
        program.wait_line("value 6 None")
        source.write_text(PRICING.replace("n * 2", "n * 9"))
        assert program.end() != 0
        assert not [line for line in program.stdout if line.startswith("value 27")]


def test_two_files_of_the_same_text_are_edited_each_by_itself(run: tuple, tmp_path: Path) -> None:
    start, source = run
    (tmp_path / "twin.py").write_text(PRICING)
    (tmp_path / "server.py").write_text(SERVER.replace("import pricing\n", "import pricing, twin\n"))
    program = start()
    program.wait_for(lambda: len([e for e in program.events if e["event"] == "extension.found"]) == 2, "not both")
    (tmp_path / "twin.py").write_text(PRICING.replace("n * 2", "n * 5"))
    assert program.wait_reloads(1)["module"] == "twin"
    source.write_text(PRICING.replace("n * 2", "n * 7"))
    assert program.wait_reloads(2)["module"] == "pricing"
    program.wait_line("value 21")
    assert not [line for line in program.stdout if line.startswith("value 15")]
    program.end()
