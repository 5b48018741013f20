"""Edits of a ``.py``, each with what must come of it.

A case is compared with a process that starts on the new text: ``LIVE`` gives the same answers; ``KEPT`` gives the
answers of ``kept``, which the notes explain; a slug is refused.
"""

from __future__ import annotations

import sys
from typing import NamedTuple

LIVE, KEPT = "live", "kept"


class Case(NamedTuple):
    """``ask`` is evaluated in the module after the edit; ``warm`` is run before it."""

    name: str
    base: str
    new: str
    ask: str
    verdict: str = LIVE
    warm: str = ""
    kept: str = ""
    note: str = ""


GENERIC = [
    Case(
        "a class with type parameters",
        "class A[T]:\n    def f(self):\n        return 1\n    @staticmethod\n    def g[U](x: U = 1):\n        return x",
        "class A[T]:\n    def f(self) -> T:\n        return 2\n    @staticmethod\n    def g[U](x: U = 2):\n        return x\n"
        "    def h(self, x: T):\n        return x",
        "A().f(), A.g(), A().h(5)",
    ),
]
CASES = [
    Case("a body", "def f(x):\n    return x", "def f(x):\n    return x * 2", "f(4)"),
    Case("a constant of another type", "def f():\n    return 1", "def f():\n    return 1.0", "repr(f())"),
    Case("a docstring", 'def f():\n    "a"', 'def f():\n    "b"', "f.__doc__"),
    Case("a docstring that is gone", 'def f():\n    "a"\n    return 1', "def f():\n    return 1", "f.__doc__"),
    Case("a parameter", "def f(a):\n    return a", "def f(a, b=3):\n    return a + b", "f(1), f(1, 2)"),
    Case("a default", "def f(a=1):\n    return a", "def f(a=2):\n    return a", "f()"),
    Case("a keyword-only default", "def f(*, a=1):\n    return a", "def f(*, a=2, b=3):\n    return a, b", "f()"),
    Case(
        "a parameter before a default that has state",
        "def f(a=[]):\n    a.append(1)\n    return a",
        "def f(n, a=[]):\n    a.append(n)\n    return a",
        "f(2)",
        verdict=KEPT,
        warm="f()",
        kept="[1, 2]",
    ),
    Case("annotations", "def f(a: int): ...", "def f(a: str) -> bytes: ...", "f.__annotations__"),
    Case("a function becomes a generator", "def f():\n    return [1]", "def f():\n    yield 2", "list(f())"),
    Case("*args and **kwargs", "def f(*a):\n    return a", "def f(*a, **k):\n    return a, k", "f(1, b=2)"),
    Case(
        "a method",
        "class C:\n    def f(self):\n        return 1",
        "class C:\n    def f(self):\n        return 2",
        "C().f()",
    ),
    Case(
        "a static method and a class method",
        "class C:\n    @staticmethod\n    def s():\n        return 1\n    @classmethod\n    def c(cls):\n        return 1",
        "class C:\n    @staticmethod\n    def s():\n        return 2\n    @classmethod\n    def c(cls):\n        return cls",
        "C.s(), C.c().__name__",
    ),
    Case(
        "a getter and its setter",
        "class C:\n    v = 0\n    @property\n    def p(self):\n        return self.v\n"
        "    @p.setter\n    def p(self, v):\n        self.v = v",
        "class C:\n    v = 0\n    @property\n    def p(self):\n        return self.v + 1\n"
        "    @p.setter\n    def p(self, v):\n        self.v = v * 10",
        "(lambda c: (setattr(c, 'p', 2), c.p))(C())",
    ),
    Case(
        "a setter that is new",
        "class C:\n    @property\n    def p(self):\n        return vars(self).get('v', 0)",
        "class C:\n    @property\n    def p(self):\n        return vars(self).get('v', 0)\n"
        "    @p.setter\n    def p(self, v):\n        vars(self)['v'] = v",
        "(lambda c: (setattr(c, 'p', 2), c.p))(C())",
    ),
    Case(
        "a property that is new, with its setter, and what is made of it",
        "class C:\n    v = 1",
        "class C:\n    v = 1\n    @property\n    def p(self):\n        return self.v\n"
        "    @p.setter\n    def p(self, v):\n        self.v = v\n    q = p",
        "(lambda c: (setattr(c, 'p', 2), c.p, c.q))(C())",
    ),
    Case(
        "super() in a method that had none",
        "class B:\n    def f(self):\n        return 1\nclass C(B):\n    def f(self):\n        return 2",
        "class B:\n    def f(self):\n        return 1\nclass C(B):\n    def f(self):\n        return super().f() + 10",
        "C().f()",
    ),
    Case(
        "super() that is gone",
        "class B:\n    def f(self):\n        return 1\nclass C(B):\n    def f(self):\n        return super().f()",
        "class B:\n    def f(self):\n        return 1\nclass C(B):\n    def f(self):\n        return 5",
        "C().f()",
    ),
    Case(
        "a new method, which overrides one",
        "class B:\n    def f(self):\n        return 1\nclass C(B):\n    pass",
        "class B:\n    def f(self):\n        return 1\nclass C(B):\n    def f(self):\n        return super().f() + 1",
        "c.f(), C.f.__qualname__",
        warm="c = C()",
    ),
    Case(
        "private names",
        "class C:\n    def __a(self, n=1):\n        return n\n    def f(self):\n        return self.__a()",
        "class C:\n    def __a(self, n=2):\n        return n\n    def f(self):\n        return self.__a() + self.__b()\n"
        "    def __b(self):\n        return 100",
        "C().f()",
    ),
    Case(
        "a class attribute that is new",
        "class C:\n    def f(self):\n        return 1",
        "class C:\n    rate = 7\n    def f(self):\n        return self.rate",
        "C().f()",
    ),
    Case(
        "a live closure",
        "def outer(k):\n    def inner(n):\n        return n + k\n    return inner",
        "def outer(k):\n    def inner(n):\n        return n * k\n    return inner",
        "inner(5), outer(3)(5)",
        warm="inner = outer(10)",
    ),
    Case(
        "a live closure that needs one variable less",
        "def outer(a, b):\n    def inner():\n        return a, b\n    return inner",
        "def outer(a, b):\n    def inner():\n        return b\n    return inner",
        "inner()",
        warm="inner = outer(1, 2)",
    ),
    Case(
        "one more of several functions of one name",
        "from functools import singledispatch\n@singledispatch\ndef area(x):\n    return 0\n"
        "@area.register\ndef _(x: int):\n    return 'int'\n@area.register\ndef _(x: str):\n    return 'str'",
        "from functools import singledispatch\n@singledispatch\ndef area(x):\n    return 0\n"
        "@area.register\ndef _(x: bytes):\n    return 'bytes'\n@area.register\ndef _(x: int):\n    return 'INT'\n"
        "@area.register\ndef _(x: str):\n    return 'STR'",
        "area(1), area('')",
    ),
    Case(
        "new functions of one name",
        "def f():\n    return 1",
        "from functools import singledispatch\n@singledispatch\ndef area(x):\n    return 0\n"
        "@area.register\ndef _(x: int):\n    return 'int'\n@area.register\ndef _(x: str):\n    return 'str'\n"
        "def f():\n    return area(1), area('')",
        "f()",
    ),
    Case(
        "an overload more",
        "from typing import overload\n@overload\ndef f(x: int) -> int: ...\n@overload\ndef f(x: str) -> str: ...\n"
        "def f(x):\n    return x",
        "from typing import overload\n@overload\ndef f(x: int) -> int: ...\n@overload\ndef f(x: str) -> str: ...\n"
        "@overload\ndef f(x: bytes) -> bytes: ...\ndef f(x):\n    return x * 2",
        "f(2)",
    ),
    Case(
        "an overload less",
        "from typing import overload\n@overload\ndef f(x: int) -> int: ...\n@overload\ndef f(x: str) -> str: ...\n"
        "def f(x):\n    return x",
        "from typing import overload\n@overload\ndef f(x: int) -> int: ...\ndef f(x):\n    return x * 2",
        "f(2)",
    ),
    Case(
        "another definition above, which is not the one that counts",
        "def f():\n    return 2",
        "def f():\n    return 1\ndef f():\n    return 3",
        "f()",
    ),
    Case(
        "functions that a loop has made, each with its default",
        "made = {}\nfor n in range(3):\n    def f(x, n=n):\n        return x + n\n    made[n] = f",
        "made = {}\nfor n in range(3):\n    def f(x, y=1, n=n):\n        return x * n + y\n    made[n] = f",
        "[made[n](5) for n in range(3)]",
    ),
    Case(
        "a function that its decorator has put into a table",
        "tasks = {}\ndef task(f):\n    def run(*a):\n        return f(*a)\n    tasks[f.__name__] = run\n"
        "@task\ndef send(x):\n    return x",
        "tasks = {}\ndef task(f):\n    def run(*a):\n        return f(*a)\n    tasks[f.__name__] = run\n"
        "@task\ndef send(x):\n    return x * 2",
        "tasks['send'](3)",
    ),
    Case(
        "methods that a class statement makes something else of",
        "class C:\n    n = 3",
        "class C:\n    n = 3\n    def __class_getitem__(cls, key):\n        return key\n"
        "    def __init_subclass__(cls):\n        cls.is_sub = True\n    def __eq__(self, other):\n        return True",
        "C[1], type('D', (C,), {}).is_sub, C.__hash__",
    ),
    Case(
        "a definition that the compiler leaves out",
        "if 0:\n    def f(x=1):\n        return 1\nelse:\n    def f(x=2):\n        return x",
        "if 0:\n    def f(x=1):\n        return 1\nelse:\n    def f(x=5):\n        return x + 1",
        "f()",
    ),
    Case(
        "a name that is bound in steps",
        "def f():\n    return 1",
        "X = 1\nX += 1\nX = X * 10\ndef f():\n    return X",
        "f()",
    ),
    Case(
        "a docstring of a class",
        "class C:\n    'one'\n    def f(self):\n        return 1",
        "class C:\n    'two'\n    def f(self):\n        return 2",
        "C.__doc__, C().f()",
        verdict=KEPT,
        kept="('one', 2)",
        note="the docstring of class C is kept",
    ),
    Case(
        "lambdas in a function",
        "def outer():\n    return [lambda: 1, lambda: 2]",
        "def outer():\n    return [lambda: 1, lambda: 3]",
        "[f() for f in made]",
        warm="made = outer()",
    ),
    Case(
        "one lambda more",
        "def outer():\n    return [lambda: 1, lambda: 2]",
        "def outer():\n    return [lambda: 0, lambda: 3, lambda: 4]",
        "[f() for f in made], [f() for f in outer()]",
        verdict=KEPT,
        warm="made = outer()",
        kept="([1, 2], [0, 3, 4])",
        note="which of several it is now is open",
    ),
    Case(
        "a decorator of the same file",
        "import functools\ndef twice(f):\n    @functools.wraps(f)\n    def wrapper(*a):\n        return f(*a) * 2\n"
        "    return wrapper\n@twice\ndef f(x):\n    return x",
        "import functools\ndef twice(f):\n    @functools.wraps(f)\n    def wrapper(*a):\n        return f(*a) * 20\n"
        "    return wrapper\n@twice\ndef f(x):\n    return x + 1",
        "f(1)",
    ),
    Case(
        "imports and names that are new",
        "def f():\n    return 1",
        "import math\nfrom os import path, sep as s\nLIMIT = 3\n\ndef g():\n    return LIMIT\n\ndef f():\n    return g(), math.pi, path.sep == s",
        "f()",
    ),
    Case(
        "one more name of an import",
        "from os import path\ndef f():\n    return path.sep",
        "from os import path, linesep\ndef f():\n    return path.sep, linesep",
        "f()",
    ),
    Case(
        "a new class with a new function that uses it",
        "def f():\n    return 1",
        "class New:\n    def v(self):\n        return 4\n\ndef f():\n    return New().v()",
        "f()",
    ),
    Case(
        "an initial value",
        "LIMIT = 1\ndef f():\n    return LIMIT",
        "LIMIT = 2\ndef f():\n    return LIMIT + 10",
        "f()",
        verdict=KEPT,
        kept="11",
        note="`LIMIT = 2` is not run again: the live value of LIMIT is kept",
    ),
    Case(
        "a function that is gone",
        "def f():\n    return 1\ndef g():\n    return 2",
        "def g():\n    return 3",
        "f(), g()",
        verdict=KEPT,
        kept="(1, 3)",
        note="f() is gone from the text",
    ),
    Case(
        "decorators and base classes",
        "import functools\nclass B: ...\nclass C:\n    def f(self):\n        return 1\ndef g(n):\n    return n",
        "import functools\nclass B: ...\nclass C(B):\n    def f(self):\n        return 2\n@functools.lru_cache\ndef g(n):\n    return n + 1",
        "C().f(), C.__bases__[0].__name__, g(1), hasattr(g, 'cache_info')",
        verdict=KEPT,
        kept="(2, 'object', 2, False)",
        note="the live class keeps its bases",
    ),
    Case(
        "a call at import",
        "seen = []\ndef f():\n    return len(seen)",
        "seen = []\ndef f():\n    return len(seen) + 10\nseen.append(1)",
        "f()",
        verdict=KEPT,
        kept="10",
        note="`seen.append(1)` is not run",
    ),
    Case(
        "a method becomes static",
        "class C:\n    def f(self):\n        return 1",
        "class C:\n    @staticmethod\n    def f():\n        return 1",
        "",
        verdict="python-method-kind",
    ),
    Case(
        "what a default of a live closure says",
        "def outer(k):\n    def inner(n=k):\n        return n\n    return inner",
        "def outer(k):\n    def inner(n=k + 1):\n        return -n\n    return inner",
        "inner(), outer(1)()",
        verdict=KEPT,
        warm="inner = outer(1)",
        kept="(-1, -2)",
        note="keep the defaults",
    ),
    Case(
        "a live closure that lacks a variable",
        "def outer(a, b):\n    def inner():\n        return a\n    return inner, b",
        "def outer(a, b):\n    def inner():\n        return a, b\n    return inner, b",
        "",
        verdict="python-free-variables",
        warm="inner = outer(1, 2)",
    ),
    Case(
        "the defaults of a live closure",
        "def outer(k):\n    def inner(n=k):\n        return n\n    return inner",
        "def outer(k):\n    def inner(n=k, m=1):\n        return n + m\n    return inner",
        "",
        verdict="python-closure-defaults",
        warm="inner = outer(1)",
    ),
]
if sys.version_info >= (3, 12):
    CASES += GENERIC
