"""A small gunicorn with a marked Python module, and texts for it.

::

    TextProject   app.py, and pricing.py with marked functions
    TextServer    its gunicorn, and what it answers on each page
"""

from __future__ import annotations

import time
from pathlib import Path

from tests.push.kit import CONFIG, Cli, PairProject, Server

PRICING = '''\
"""Prices."""

from hotreload.python import register


def mark(thing):
    register(thing)
    return thing


ORDERS = []


@mark
def price(amount):
    ORDERS.append(amount)
    return 500 * amount


def shipping():
    return 7


@mark
class Basket:
    def __init__(self):
        self.amounts = [1, 2]

    def total(self):
        return sum(price(amount) for amount in self.amounts)

    @classmethod
    def empty(cls):
        return 0


BASKET = Basket()
'''

APP = """\
import os

import pricing

FIRST = pricing.price
CODES = {name: id(thing.__code__) for name, thing in (("price", FIRST), ("total", pricing.Basket.total))}


class Veto:
    def before(self, swap):
        raise RuntimeError("not now")

    def refused(self, swap, error): pass

    def after(self, swap): pass

    def level_of(self, swap): return ""


def veto():
    from hotreload.live import manager

    manager().around.add(Veto())
    return 1


def app(environ, start_response):
    path = environ["PATH_INFO"]
    told = {
        "/": lambda: FIRST(2),
        "/total": lambda: pricing.BASKET.total(),
        "/empty": lambda: pricing.Basket.empty(),
        "/same": lambda: int(FIRST is pricing.price),
        "/orders": lambda: len(pricing.ORDERS),
        "/rest": lambda: pricing.rest(),
        "/veto": lambda: veto(),
        "/own": lambda: int(CODES == {"price": id(FIRST.__code__), "total": id(pricing.Basket.total.__code__)}),
    }[path]()
    body = b"%d %d" % (told, os.getpid())
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]
"""

EDITED = (
    PRICING.replace("return 500 * amount", "return dearer(amount)")
    .replace("return sum(", "return 1 + sum(")
    .replace("return 0\n", "return len(ORDERS) * 0 + 3\n")
    .replace("def shipping", "def dearer(amount):\n    return 501 * amount\n\n\ndef shipping")
)
PAGES = ("/", "/total", "/empty")


class TextProject:
    """One directory with an application whose prices are computed in Python."""

    def __init__(self, directory: Path, text: str = PRICING) -> None:
        self.directory = directory
        self.source = directory / "pricing.py"
        self.source.write_text(text)
        (directory / "app.py").write_text(APP)
        (directory / "gunicorn.conf.py").write_text(CONFIG)

    def write(self, text: str) -> Path:
        """Saves a text of the module; nothing is pushed. A later save has a later time, whatever the clock's grain."""
        self.source.write_text(text)
        time.sleep(0.002)
        return self.source

    def patch(self, value: int) -> Path:
        """The module, saved so that ``/`` answers ``value``, which is even."""
        return self.write(PRICING.replace("500", str(value // 2)).replace("return sum(", "return 1 + sum("))


#: A text in which a thread rests where the file says so, and that it does.
RESTING = (
    PRICING
    + """

@mark
def rest():
    open("resting", "x").close()
    open("rest").close()  # a fifo: until somebody writes
    return 1000
"""
)


class RestingProject(TextProject):
    """One with such a text; a thread may rest in it until it is let go."""

    resting, _bed = PairProject.resting, PairProject._bed  # noqa: SLF001


class TextServer(Server):
    """gunicorn with such a project."""

    project: TextProject

    def push_text(self, text: str, *options: object, **environment: str) -> Cli:
        """``hotreload push pricing.py`` of that text; the file has its first text again afterwards."""
        self.project.write(text)
        try:
            return self.cli("push", "pricing.py", "--json", *options, **environment)
        finally:
            self.project.source.write_text(PRICING)

    def pages(self, count: int = 12) -> dict[str, set[int]]:
        """The different answers of each page, among so many."""
        return {page: {self.ask(page)[0] for _ in range(count)} for page in PAGES}
