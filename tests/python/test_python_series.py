"""Series of edits, in any order: after each one the process answers as a fresh one does."""

from __future__ import annotations

import random

import pytest

from tests.python.conftest import Make

#: Parts of a text with their variants; any choice is a text. The first is the base.
PARTS = {
    "head": [
        "import math\nLIMITED = False\n",
        "import math, os\nLIMITED = False\n",
        "import math\nLIMITED = False\nfrom os import path as p\n",
        "\n\nimport math\nLIMITED = False\n",
    ],
    "names": ["", "LIMIT = 4\n", "def helper(x, y=2):\n    return x * y\n", "def helper(x, y=3):\n    return x - y\n"],
    "function": [
        "def f(x, y=1):\n    'one'\n    return x + y\n",
        "def f(x, y=2):\n    return x * y\n",
        "def f(x, *more, z=7, **named):\n    'three'\n    return x, more, z, named\n",
        "def f(x: int, y: 'str' = 1) -> float:\n    'one'\n    yield x\n",
    ],
    "class": [
        (
            "class Base:\n    def who(self):\n        return 'base'\n"
            "class C(Base):\n    @property\n    def p(self):\n        return 1\n    def who(self):\n        return 'c'\n"
        ),
        (
            "class Base:\n    def who(self):\n        return 'BASE'\n"
            "class C(Base):\n    @property\n    def p(self):\n        return 2\n"
            "    @p.setter\n    def p(self, v):\n        self.v = v\n"
            "    def who(self):\n        return super().who() + '!'\n"
        ),
        (
            "class Base:\n    def who(self):\n        return 'base'\n    @classmethod\n    def made(cls):\n        return cls.__name__\n"
            "class C(Base):\n    @property\n    def p(self):\n        return self.__q()\n"
            "    def __q(self):\n        return 3\n    def who(self):\n        return __class__.__name__\n"
        ),
    ],
    "closure": [
        "def outer(a, b):\n    def inner(n):\n        return n + a + b\n    return inner\n",
        "def outer(a, b):\n    def inner(n):\n        return n * b\n    return inner\n",
        "def outer(a, b):\n    # moved\n    def inner(n):\n        'doc'\n        return n - a\n    return inner\n",
    ],
    "alike": [
        (
            "import functools\n@functools.singledispatch\ndef area(x):\n    return 0\n"
            "@area.register\ndef _(x: int):\n    return 'int'\n@area.register\ndef _(x: str):\n    return 'str'\n"
            "if LIMITED:\n    def g(x):\n        return 1\nelse:\n    def g(x):\n        return 2\n"
        ),
        (
            "import functools\n@functools.singledispatch\ndef area(x):\n    return 0\n"
            "@area.register\ndef _(x: bytes):\n    return 'bytes'\n"
            "@area.register\ndef _(x: int):\n    return 'INT'\n@area.register\ndef _(x: str):\n    return 'STR'\n"
            "if LIMITED:\n    def g(x):\n        return 3\nelse:\n    def g(x):\n        return 4\n"
        ),
        (
            "import functools\n@functools.singledispatch\ndef area(x):\n    return 0\n"
            "@area.register\ndef _(x: int):\n    return 'iint'\n@area.register\ndef _(x: float):\n    return 'float'\n"
            "@area.register\ndef _(x: str):\n    return 'sstr'\n"
            "if LIMITED:\n    def g(x):\n        return 3\nelse:\n    def g(x, y=2):\n        return x + y\n"
        ),
    ],
    "lambdas": [
        "def funcs():\n    return [lambda: 1, lambda: 2]\n",
        "def funcs():\n    return [lambda: 3, lambda: 4]\n",
    ],
    "new": [
        "",
        "class New:\n    def v(self, n=1):\n        return n\n",
        "class New:\n    def v(self, n=5):\n        return n + 1\n    def w(self):\n        return self.v()\n",
    ],
}
QUESTIONS = [
    "list(f(3)) if f.__code__.co_flags & 0x20 else f(3)",
    "f.__doc__",
    "area(1), area(''), g(1)",
    "f.__annotations__",
    "f.__code__.co_firstlineno - outer.__code__.co_firstlineno",
    "C().who(), Base().who()",
    "C().p",
    "hasattr(C, 'made') and C.made()",
    "isinstance(vars(C)['p'].fset, type(f))",
    "inner(10), inner.__doc__, outer(1, 2)(10)",
    "[f() for f in made], [f() for f in funcs()]",
    "globals().get('LIMIT'), 'helper' in globals() and helper(5)",
    "'p' in globals(), 'os' in globals()",
    "'New' in globals() and (New().v(), hasattr(New, 'w') and New().w())",
]
WARM = "inner = outer(1, 2)\nmade = funcs()\n"


def answers(namespace: dict[str, object]) -> list[object]:
    return [eval(question, namespace) for question in QUESTIONS]


@pytest.mark.parametrize("seed", range(3))
def test_after_each_edit_of_a_series_the_answers_are_those_of_a_fresh_process(edited: Make, seed: int) -> None:
    choose = random.Random(seed)
    chosen = dict.fromkeys(PARTS, 0)
    live = edited("".join(PARTS[part][0] for part in PARTS))
    namespace = vars(live.module)
    exec(WARM, namespace)
    identities = {name: id(namespace[name]) for name in ("f", "C", "Base", "outer", "inner", "funcs")}
    history: list[str] = []
    for step in range(20):
        for part in choose.sample(list(PARTS), choose.choice([1, 1, 2, 4])):
            chosen[part] = choose.randrange(len(PARTS[part]))
        text = "".join(PARTS[part][number] for part, number in chosen.items())
        history.append(str(chosen))
        if any(chosen.values()):
            live.save(text)
        else:
            live.back()
        fresh = vars(live.fresh(text))
        exec(WARM, fresh)
        assert answers(namespace) == answers(fresh), "\n".join([f"step {step}", *history[-3:]])
    live.back()
    base = vars(live.fresh("".join(PARTS[part][0] for part in PARTS)))
    exec(WARM, base)
    assert answers(namespace) == answers(base)
    assert identities == {name: id(namespace[name]) for name in identities}
