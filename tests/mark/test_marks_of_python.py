"""Form 3 through the decorator: identity, callbacks, groups and handles; what becomes of the code is in tests/python."""

from __future__ import annotations

from pathlib import Path

from tests.mark.mark_kit import SHADE, run, write_kernels

PRICING = """
import functools
from hotreload import hotpatchable

order = []
hear = lambda who: {
    "before_swap": lambda swap: order.append((who, "before", swap.function, swap.left, swap.entered, swap.group)),
    "after_swap": lambda swap: order.append((who, "after", swap.function, swap.left, swap.entered, swap.group)),
    "on_refused": lambda error: order.append((who, "refused", type(error).__name__)),
}

@hotpatchable(group="prices", **hear("price"))
def price(n):
    return n + 1

@hotpatchable(group="prices", **hear("tax"))
@functools.lru_cache(None)
def tax(n):
    return n + 1

def counted(function):
    @functools.wraps(function)
    def inner(*arguments):
        inner.calls += 1
        return function(*arguments)
    inner.calls = 0
    return inner

@counted
@hotpatchable
def under(n):
    return n + 1

@hotpatchable
class Shop:
    def total(self, n):
        return n + 1

    @staticmethod
    def of(n):
        return n + 1

class Cart:
    @property
    @hotpatchable
    def items(self):
        return 1

    @hotpatchable
    @classmethod
    def make(cls):
        return 1
"""

PROGRAM = """
import inspect, pricing
from hotreload.live import manager
from hotreload.python import serve
from hotreload.python.workshop import PythonWorkshop

serve(manager())
path, base = pricing.__file__, open(pricing.__file__, "rb").read()
module = manager().attach(path)

def payload(number):
    with open(path, "wb") as file:
        file.write(base.replace(b"n + 1", b"n + %d" % number).replace(b"return 1\\n", b"return %d\\n" % number))
    workshop = PythonWorkshop(path, base, "pricing")
    with open(workshop.make().path, "rb") as file:
        content = file.read()
    workshop.close()
    return content
"""


def test_a_marked_python_function_is_swapped_a_thousand_times_under_four_threads(tmp_path: Path) -> None:
    (tmp_path / "pricing.py").write_text(PRICING)
    told = run(
        tmp_path,
        PROGRAM
        + """
price, order = pricing.price, pricing.order
made = [payload(2), payload(3)]
seen, calls, wrong = hammer(lambda: price(0), {1, 2, 3}.__contains__,
    lambda n: manager().commit(manager().stage(module, made[n % 2])), 1000, burst=20)
expected = [(who, when, who, n, n + 1, "prices") for n in range(1000) for when in ("before", "after") for who in ("price", "tax")]
tell(seen=seen, wrong=wrong, same=pricing.price is price, in_order=order == expected, events=len(order),
     last=[price(0), pricing.tax(0), pricing.under(0), pricing.Shop().total(0), pricing.Shop.of(0), pricing.Cart().items, pricing.Cart.make()],
     generations=[about(thing).generation for thing in (price, pricing.tax, pricing.under, pricing.Shop, pricing.Cart.make)],
     handle=repr(price.hotreload), history=len(price.hotreload.history), source=[price.hotreload.source.file, price.hotreload.source.text],
     calls=pricing.under.calls)
order.clear()
def no(swap):
    raise RuntimeError("not now")
hotpatchable(price, group="prices", before_swap=no, on_refused=lambda error: order.append("refused"))
manager().rollback(module, 999, is_promised=True)  # others count on it: shown, and all are asked
tell(promised=order, at=about(price).generation)
hotpatchable(price, group="prices", **pricing.hear("price"))
manager().rollback(module)
tell(back=[price(0), price.hotreload.generation], marked=sorted(mark["name"] for mark in hotreload.status()["marked"]))
""",
    )
    assert told["seen"] == ["1", "2", "3"]
    assert told["wrong"] == []
    assert told["same"]
    assert told["in_order"], told["events"]
    assert told["last"] == [3, 3, 3, 3, 3, 3, 3]
    assert told["generations"] == [1000] * 5
    assert told["handle"] == "<hotpatchable pricing.price, generation 1000>"
    assert told["history"] == 1001
    assert told["source"][0] == str(tmp_path / "pricing.py")
    assert told["source"][1].endswith("return n + 3\n")
    assert told["calls"] == 1
    assert [line[:2] for line in told["promised"]] == [["tax", "before"], ["tax", "after"]]
    assert told["at"] == 999
    assert "RuntimeError: not now" in told["stderr"]
    assert told["back"] == [1, 0]
    assert told["marked"] == [
        f"pricing.{name}" for name in ("Cart.items", "Cart.make", "Shop", "price", "tax", "under")
    ]


def test_what_cannot_be_marked_is_refused_in_words(tmp_path: Path) -> None:
    write_kernels(tmp_path)
    (tmp_path / "shade.h").write_text(SHADE)
    (tmp_path / "pricing.py").write_text(PRICING)
    told = run(
        tmp_path,
        """
import pricing
@hotpatchable(source="kernels.c", group="sums")
def value(n: int) -> int: ...
def more(n): return n
tell(
    kinds=error_of(lambda: hotpatchable(more, group="sums")),
    files=error_of(lambda: hotpatchable(more, group="prices")),
    nothing=error_of(lambda: hotpatchable(3)),
    none=error_of(lambda: hotpatchable(getattr(pricing, "fast", None))),
    partial=about(hotpatchable(__import__("functools").partial(more, 1))).name,
    unmarked=error_of(lambda: about(pricing.counted)),
    unmarked_class=error_of(lambda: about(pricing.Cart)),
    again=[hotpatchable(pricing.price) is pricing.price, about(pricing.price).group],
)
""",
    )
    assert (
        "has the C function __main__.value already, and the Python function __main__.more is of the other kind"
        in (told["kinds"])
    )
    assert "group 'prices' has pricing.price of " in told["files"]
    assert told["nothing"].startswith("MarkError: 3 is no function")
    assert told["none"].startswith("MarkError: None is no function")
    assert told["partial"] == "__main__.more"
    assert told["unmarked"] == "MarkError: counted is not marked (mark it with hotreload.hotpatchable first)"
    assert told["unmarked_class"].startswith("MarkError: Cart is not marked")
    assert told["again"] == [True, ""]
