"""What a swap keeps and what it changes, in the process that it happens in."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import marshal
import os
import sys
import traceback
import types
import warnings
import weakref
from pathlib import Path

import pytest

from hotreload.errors import HotReloadError, StageError
from hotreload.live import manager
from hotreload.live.around import Swap
from hotreload.python import serve
from hotreload.python.payload import decode, encode
from tests.python.conftest import Make
from tests.python.kit import load


def test_a_function_keeps_its_identity_its_attributes_and_who_refers_to_it(edited: Make) -> None:
    live = edited("def f():\n    return 1\nroutes = {'/': f}")
    f, bound = live.module.f, functools.partial(live.module.f)
    f.calls = 3
    before = id(f)

    live.save("def f():\n    return 2\nroutes = {'/': f}")

    assert id(live.module.f) == before
    assert f.calls == 3
    assert (f(), bound(), live.module.routes["/"]()) == (2, 2, 2)


def test_a_rollback_puts_the_very_objects_back(edited: Make) -> None:
    live = edited("def f(a=[1], *, b={}):\n    'one'\n    return a, b")
    f = live.module.f
    had = (f.__code__, f.__defaults__, f.__kwdefaults__, f.__doc__)
    live.save("def f(a=[2], *, b={'k': 1}):\n    'two'\n    return b, a")
    assert f() == ({"k": 1}, [2])

    live.back()

    now = (f.__code__, f.__defaults__, f.__kwdefaults__, f.__doc__)
    assert all(one is other for one, other in zip(now, had))


def test_decorated_functions_are_swapped_behind_what_decorates_them(edited: Make) -> None:
    text = """
    import functools
    from tests.python.kit import hot
    seen = []
    @functools.lru_cache(maxsize=None)
    @hot
    def cached(n):
        seen.append(n)
        return n
    def logged(f):
        @functools.wraps(f)
        def wrapper(*args):
            seen.append(f.__name__)
            return f(*args)
        return wrapper
    @hot
    @logged
    def plain(n):
        return n
    """
    live = edited(text, is_whole=False)
    module = live.module
    assert (module.cached(1), module.plain(1)) == (1, 1)

    live.save(
        text.replace("return n\n    def logged", "return n * 10\n    def logged").replace(
            "def plain(n):\n        return n", "def plain(n):\n        return -n"
        )
    )

    assert module.plain(1) == -1
    assert module.cached(1) == 1  # the cache is state, and kept
    assert module.cached(2) == 20
    assert module.cached.cache_info().currsize == 2
    assert module.seen == [1, "plain", "plain", 2]


def test_generators_and_coroutines_that_are_suspended_finish_in_the_old_code(edited: Make) -> None:
    text = "def g():\n    yield 1\n    yield 10\nasync def c(gate):\n    await gate\n    return 1\nasync def a():\n    yield 1\n    yield 10"
    live = edited(text)

    async def run() -> None:
        gate = asyncio.get_running_loop().create_future()
        generator, task, stream = live.module.g(), asyncio.ensure_future(live.module.c(gate)), live.module.a()
        assert (next(generator), await stream.__anext__()) == (1, 1)
        await asyncio.sleep(0)

        live.save(text.replace("10", "20").replace("return 1", "return 2"))

        gate.set_result(None)
        assert (next(generator), await stream.__anext__(), await task) == (10, 10, 1)
        assert list(live.module.g()) == [1, 20]
        assert await live.module.c(asyncio.sleep(0)) == 2
        assert [each async for each in live.module.a()] == [1, 20]

    asyncio.run(run())


def test_bound_methods_instances_and_subclasses_see_the_new_code(edited: Make) -> None:
    live = edited("class A:\n    def f(self):\n        return self.n\nclass B(A):\n    pass")
    b = live.module.B()
    b.n, f = 5, b.f
    live.save("class A:\n    def f(self):\n        return self.n + 1\nclass B(A):\n    pass")

    assert (f(), b.f(), b.n) == (6, 6, 5)


def test_lines_of_tracebacks_are_right_after_an_edit_above(edited: Make) -> None:
    """Functions that only moved are exchanged silently."""
    live = edited("def f():\n    return 1\ndef g():\n    raise ValueError")
    generation = live.save("def f():\n    # a\n    # b\n    return 2\ndef g():\n    raise ValueError")

    assert generation.functions == ("f",)
    try:
        live.module.g()
    except ValueError as error:
        (*_, last) = traceback.extract_tb(error.__traceback__)
    assert last.line == "raise ValueError"
    assert live.path.read_text().splitlines()[last.lineno - 1] == "    raise ValueError"


def test_an_edit_that_only_moves_lines_is_a_generation_of_no_functions(edited: Make) -> None:
    live = edited("def f():\n    return 1")
    generation = live.save("\n\ndef f():\n    return 1")

    assert (generation.functions, generation.level) == ((), "function")
    assert live.module.f.__code__.co_firstlineno == live.full("\n\ndef f").count("\n") + 1


def test_patches_are_cumulative_from_the_base(edited: Make) -> None:
    live = edited("def f():\n    return 1\ndef g():\n    return 1")
    live.save("def f():\n    return 2\ndef g():\n    return 1")
    live.save("def f():\n    return 1\ndef g():\n    return 3")

    assert (live.module.f(), live.module.g()) == (1, 3)
    live.back(1)
    assert (live.module.f(), live.module.g()) == (2, 1)
    live.back(2)
    assert (live.module.f(), live.module.g()) == (1, 3)
    live.back(0)
    assert (live.module.f(), live.module.g()) == (1, 1)
    assert [each.number for each in manager().history(live.loaded)] == [0, 1, 2]


def test_what_an_edit_added_is_edited_by_the_next_one(edited: Make) -> None:
    live = edited("def f():\n    return 1")
    live.save(
        "class New:\n    def v(self, n=1):\n        return n\nmade = []\ndef f():\n    made.append(1)\n    return New().v()"
    )
    live.module.f()
    new, made = live.module.New, live.module.made
    old = new()
    live.save(
        "class New:\n    def v(self, n=2):\n        return n * 10\nmade = []\ndef f():\n    made.append(1)\n    return New().v()"
    )

    assert live.module.f() == 20
    assert live.module.New is new
    assert old.v() == 20
    assert live.module.made is made
    assert len(made) == 2

    live.back()
    assert not hasattr(live.module, "New")


def test_a_new_name_that_raises_leaves_nothing_behind(edited: Make) -> None:
    live = edited("def f():\n    return 1")
    before = set(vars(live.module))
    with pytest.raises(StageError, match="python-addition-raises") as refused:
        live.save("import math\nA = 1\nB = A / 0\ndef f():\n    return 2")

    assert "ZeroDivisionError" in refused.value.fields["diagnostics"]
    assert "B = A / 0" in refused.value.message
    assert set(vars(live.module)) == before
    assert live.module.f() == 1


def test_a_default_that_raises_is_refused_the_same_way(edited: Make) -> None:
    live = edited("def f():\n    return 1")
    with pytest.raises(StageError, match=r"the parameters of f\(\) raises NameError"):
        live.save("def f(a=missing):\n    return 2")
    assert live.module.f() == 1


def test_an_override_that_an_edit_added_is_gone_after_a_rollback(edited: Make) -> None:
    live = edited("class A:\n    def f(self):\n        return 1\nclass B(A):\n    pass")
    b = live.module.B()
    live.save("class A:\n    def f(self):\n        return 1\nclass B(A):\n    def f(self):\n        return 2")
    assert b.f() == 2
    live.back()
    assert b.f() == 1


def test_functions_that_are_not_marked_are_named(edited: Make) -> None:
    live = edited("@hot\ndef f():\n    return 1\ndef g():\n    return 1", is_whole=False)
    generation = live.save("@hot\ndef f():\n    return 2\ndef g():\n    return 2")

    assert (live.module.f(), live.module.g()) == (2, 1)
    assert generation.functions == ("f",)
    assert "g() changed and is not marked" in live.notes()
    live.back()
    with pytest.raises(StageError, match="python-not-marked") as refused:
        live.save("@hot\ndef f():\n    return 1\ndef g():\n    return 2")
    assert refused.value.status == "NOT_MARKED"


def test_a_marked_class_covers_its_methods(edited: Make) -> None:
    text = "@hot\nclass C:\n    def f(self):\n        return 1\n    @staticmethod\n    def s():\n        return 1\ndef g():\n    return 1"
    live = edited(text, is_whole=False)
    live.save(text.replace("return 1", "return 2"))

    assert (live.module.C().f(), live.module.C.s(), live.module.g()) == (2, 2, 1)


def test_a_text_that_was_not_the_one_that_is_live_is_refused(edited: Make) -> None:
    """As when the file is saved between the import and the mark; or when something rewrites code."""
    live = edited("def f():\n    return 1")
    live.module.f.__code__ = live.module.f.__code__.replace(co_consts=(None, 5))
    with pytest.raises(HotReloadError) as refused:
        live.save("def f():\n    return 2")
    assert [finding.slug for finding in refused.value.fields["findings"]] == ["python-base-changed"]
    assert live.module.f() == 5


def test_a_stranger_that_was_not_edited_is_told(edited: Make) -> None:
    live = edited("def f():\n    return 1\ndef g():\n    return 1")
    live.module.g.__code__ = live.module.g.__code__.replace(co_consts=(None, 5))
    live.save("def f():\n    return 2\ndef g():\n    return 1")
    assert "the live code of g() is not what the text says" in live.notes()
    assert (live.module.f(), live.module.g()) == (2, 5)


def test_a_file_that_was_saved_while_it_was_imported_is_refused_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    path = tmp_path / "saved_meanwhile.py"
    path.write_text(
        "from pathlib import Path\nfrom hotreload.python import register\n"
        "text = Path(__file__).read_text()\nPath(__file__).write_text(text.replace('return 1', 'return 22'))\n"
        "def f():\n    return 1\nregister(f)\n"
    )
    module = load(path, "saved_meanwhile")
    serve(manager())
    with pytest.raises(HotReloadError, match="was saved while it was being imported") as refused:
        manager().attach(str(path))
    assert [finding.slug for finding in refused.value.fields["findings"]] == ["python-base-changed"]
    assert module.f() == 1


def test_an_added_statement_that_ends_the_process_does_not(edited: Make) -> None:
    live = edited("def f():\n    return 1")
    with pytest.raises(StageError, match="SystemExit"):
        live.save("import sys\nA = sys.exit(3)\ndef f():\n    return 2")
    assert live.module.f() == 1


def test_a_payload_for_another_base_or_damaged_is_refused(edited: Make) -> None:
    live, other = edited("def f():\n    return 1"), edited("def f():\n    return 3")
    with pytest.raises(StageError) as refused:
        manager().stage(other.loaded, live.payload("def f():\n    return 2"))
    assert refused.value.status == "BUILD_ID"
    good = live.payload("def f():\n    return 2")
    for bad in (b"", good[:-1], good + b"x", b"HRPYTHN1", good.replace(b"return 2", b"return 9")):
        with pytest.raises(StageError) as refused:
            manager().stage(live.loaded, bad)
        assert refused.value.status == "PAYLOAD"
    with pytest.raises(StageError, match="damaged"):
        manager().stage(live.loaded, encode(decode(good)._replace(code=b"x")))
    assert live.module.f() == 1


def test_a_payload_of_another_python_is_compiled_here(edited: Make) -> None:
    live = edited("def f():\n    return 1")
    payload = decode(live.payload("X = 4\ndef f(a=X):\n    return a"))
    staged = manager().stage(live.loaded, encode(payload._replace(python="0000-0", code=b"?")))
    manager().commit(staged)

    assert live.module.f() == 4


class Listening:
    """Writes down what it is told; ``veto`` has it say no."""

    def __init__(self, path: str) -> None:
        self.path, self.told, self.veto, self.level = path, [], False, ""

    def before(self, swap: Swap) -> None:
        if swap.path == self.path:
            self.told.append(("before", swap.functions, swap.left, swap.entered))
            if self.veto:
                raise ValueError("not now")

    def after(self, swap: Swap) -> None:
        if swap.path == self.path:
            self.told.append(("after", swap.functions, swap.left, swap.entered))

    def refused(self, swap: Swap, error: HotReloadError) -> None:
        if swap.path == self.path:
            self.told.append(("refused", error.fields.get("status")))

    def level_of(self, swap: Swap) -> str:
        return self.level if swap.path == self.path else ""


def test_callbacks_are_asked_and_told_around_a_swap(edited: Make) -> None:
    live = edited("def f():\n    return 1")
    listener = Listening(live.loaded.path)
    remove = manager().around.add(listener)
    try:
        live.save("def f():\n    return 2")
        live.back()
        assert listener.told == [
            ("before", ("f",), 0, 1),
            ("after", ("f",), 0, 1),
            ("before", ("f",), 1, 0),
            ("after", ("f",), 1, 0),
        ]
        listener.veto = True
        with pytest.raises(StageError, match="not now"):
            live.save("def f():\n    return 3")
        assert listener.told[-1] == ("refused", "VETO")
        assert live.module.f() == 1
        listener.veto, listener.level = False, "call"
        assert live.save("def f():\n    return 4").level == "call"
    finally:
        remove()


def test_a_forked_child_goes_on_by_itself(edited: Make) -> None:
    live = edited("def f():\n    return 1")
    live.save("def f():\n    return 2")
    child = os.fork()
    if not child:
        with contextlib.suppress(BaseException):
            live.save("def f():\n    return 3")
            os._exit(live.module.f())
        os._exit(99)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 3
    assert live.module.f() == 2
    live.back()
    assert live.module.f() == 1


def test_memory_of_a_closure_that_is_gone_is_free(edited: Make) -> None:
    live = edited("class Thing: ...\ndef outer(t):\n    def inner():\n        return t\n    return inner")
    inner = live.module.outer(live.module.Thing())
    live.save("class Thing: ...\ndef outer(t):\n    def inner():\n        return 1, t\n    return inner")
    assert inner()[0] == 1
    del inner
    live.back()
    gc.collect()

    assert not [each for each in gc.get_objects() if type(each) is live.module.Thing]


def test_many_saves_keep_the_code_of_the_newest_and_of_who_still_has_it(
    edited: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is looked through in a swap, and the memory, stay as they are; closures and names of the oldest are found."""
    monkeypatch.setattr("hotreload.python.book.KEPT", 3)
    text = "def f():\n    return {0}\ndef outer(a):\n    def inner():\n        return a, {0}\n    return inner\n"
    live = edited(text.format(0))
    live.save(text.format(1) + "NEW = 1\n", level="function")
    inner = live.module.outer("a")
    old = weakref.ref(inner.__code__)
    book = manager()._ledgers[live.loaded.path]
    sizes = []
    for number in range(2, 12):
        live.save(text.format(number), level="function")
        assert inner() == ("a", number)
        sizes.append(len(book.index))

    assert sizes[4:] == [sizes[4]] * len(sizes[4:])
    assert old() is None
    assert not hasattr(live.module, "NEW")
    assert [generation.is_retired for generation in manager().history(live.loaded)] == [
        False,
        *[True] * 8,
        *[False] * 3,
    ]
    with pytest.raises(StageError, match="generation 5 of .* was retired") as refused:
        live.back(to=5)
    assert refused.value.status == "NO_GENERATION"
    live.back(to=9, level="function")
    assert (live.module.f(), inner()) == (9, ("a", 9))
    live.back(level="function")
    assert (live.module.f(), inner()) == (0, ("a", 0))


def test_a_name_of_a_retired_generation_stays_and_goes_with_the_text(
    edited: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hotreload.python.book.KEPT", 1)
    live = edited("def f():\n    return 0\n")
    for number in range(1, 6):
        live.save(f"NEW = 1\ndef g():\n    return {number}\ndef f():\n    return g() + NEW\n", level="function")
        assert live.module.f() == number + 1
    live.save("def f():\n    return 9\n", level="function")

    assert not hasattr(live.module, "NEW")
    assert not hasattr(live.module, "g")


def test_staging_runs_nothing_of_the_edit(edited: Make) -> None:
    live = edited("def f():\n    return 1")
    staged = manager().stage(
        live.loaded, live.payload("import sys\nsys.was_run = True\nX = print\ndef f(a=X):\n    return 2")
    )

    assert not hasattr(live.module, "X")
    assert manager().check(live.loaded, staged) == "function"
    manager().unstage(staged)
    with pytest.raises(StageError):
        manager().commit(staged)
    assert live.module.f() == 1


def test_status_tells_of_it_as_plain_data(edited: Make) -> None:
    live = edited("def f():\n    return 1")
    live.save("def f():\n    return 2", info={"digest": "d"})
    about = next(each for each in manager().status()["modules"] if each["path"] == live.loaded.path)

    assert about["generation"] == 1
    assert about["generations"][1]["functions"] == ["f"]
    assert about["generations"][1]["info"] == {"digest": "d"}
    assert (live.loaded.path, live.loaded.build_id) in manager().loaded_libraries()


def test_locked_processes_refuse(edited: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    live = edited("def f():\n    return 1")
    monkeypatch.setattr(manager(), "_is_locked", True)
    with pytest.raises(StageError) as refused:
        live.save("def f():\n    return 2")
    assert refused.value.status == "LOCKED"


def test_a_code_object_that_does_not_fit_is_never_stored(edited: Make) -> None:
    """The exchange looks at every order before the first store, and undoes what was stored when one fails."""
    from hotreload import _state

    live = edited("def f():\n    return 1\ndef outer(n):\n    def inner():\n        return n\n    return inner")
    f, code = live.module.f, live.module.f.__code__
    other = live.module.outer(1).__code__
    with pytest.raises(ValueError, match="free variables"):
        _state.exchange([(f, other, ..., ..., ..., ..., ...)], [], [], set(), [], gc.get_objects)
    assert f.__code__ is code

    class Fixed:
        __slots__ = ()

    with pytest.raises(AttributeError):
        _state.exchange([(f, code, ..., ..., ..., "doc", ...)], [(Fixed(), "x", 1)], [], set(), [], gc.get_objects)
    assert f.__doc__ is None
    assert isinstance(f, types.FunctionType)


def test_another_value_for_a_name_that_an_edit_has_added_is_told(edited: Make) -> None:
    live = edited("def f():\n    return 1\n")
    live.save("LIMIT = 4\ndef f():\n    return LIMIT\n")
    live.save("LIMIT = 5\ndef f():\n    return -LIMIT\n")

    assert live.module.f() == -4
    assert "`LIMIT = 5` is not run again: the live value of LIMIT is kept" in live.notes()
    live.save("LIMIT = 4\ndef f():\n    return LIMIT\n")
    assert live.notes() == ""


def test_what_edits_add_of_one_name_is_told_apart_in_the_next_edit(edited: Make) -> None:
    """The second edit puts one above the one that the first has added."""
    text = "from functools import singledispatch\n@singledispatch\ndef area(x):\n    return 0\n"
    one = "@area.register\ndef _(x: int):\n    return 'int'\n"
    live = edited(text)
    live.save(text + one)
    live.save(text + "@area.register\ndef _(x: str):\n    return 'str'\n" + one.replace("'int'", "'INT'"))

    assert live.module.area(1) == "INT"


def test_a_function_that_becomes_a_generator_warns_of_nothing(edited: Make) -> None:
    live = edited("def f():\n    return [1]\n")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        live.save("def f():\n    yield 2\n")

    assert list(live.module.f()) == [2]


@pytest.mark.parametrize("is_whole", [True, False])
def test_a_file_that_is_loaded_under_two_names_is_edited_in_both(edited: Make, is_whole: bool) -> None:
    """As `python -m shop` and another module's `import shop.__main__` have it."""
    mark = "" if is_whole else "@hot\n"
    live = edited(f"class C:\n    pass\n{mark}def f():\n    return 1\n", is_whole=is_whole)
    other = load(live.path, live.name + "_again")
    text = "LIMIT = 2\ndef g():\n    return __name__\nclass C:\n    def m(self):\n        return LIMIT\n"
    live.save(f"{text}{mark}def f():\n    return g(), C().m(), C.__module__\n")

    assert live.module.f() == (live.name, 2, live.name)
    assert other.f() == (other.__name__, 2, other.__name__)
    live.save(f"{text.replace('return __name__', 'return 7')}{mark}def f():\n    return g()\n", level="function")
    assert (live.module.f(), other.f()) == (7, 7)
    live.back(level="function")
    assert (live.module.f(), other.f()) == (1, 1)
    assert not {"g", "LIMIT"} & {*vars(live.module), *vars(other)}


def test_an_interpreter_without_its_lock_is_refused_by_name(edited: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    live = edited("def f():\n    return 1\n")
    monkeypatch.setattr(sys, "_is_gil_enabled", lambda: False, raising=False)
    with pytest.raises(StageError, match="global lock") as refused:
        live.save("def f():\n    return 2\n")

    assert refused.value.status == "FREE_THREADED"
    assert live.module.f() == 1


@pytest.mark.parametrize(
    "forged",
    [
        {"base": 5},
        {"new": "x"},
        {"keys": [1]},
        {"signatures": {"f": ("",)}},
        {"signatures": [1]},
        {"additions": (("",),)},
        {"additions": (("", ("K",), 1, "K", 7),)},
        {"swapped": 5},
        {"edited": 5},
        {"rigid": None},
    ],
    ids=str,
)
def test_code_that_is_no_code_is_refused(edited: Make, forged: dict[str, object]) -> None:
    live = edited("def f(x=1):\n    return x\n")
    payload = decode(live.payload("K = 1\ndef f(x=2):\n    return x\n"))
    code = marshal.dumps({**marshal.loads(payload.code), **forged})
    with pytest.raises(StageError) as refused:
        manager().stage(live.loaded, encode(payload._replace(code=code)))

    assert refused.value.status == "PAYLOAD"
    assert live.module.f() == 1


def test_closures_of_equal_code_objects_are_each_found(edited: Make) -> None:
    """The decorator is compiled once where it is run as an addition and once with its text: equal, and two objects."""
    text = (
        "import functools\ndef deco(f):\n    @functools.wraps(f)\n    def w(*a):\n        return f(*a) + {0}\n"
        "    return w\n@deco\ndef h(x):\n    return x\ndef g(x):\n    return h(x)\n"
    )
    live = edited("import functools\ndef g(x):\n    return x\n")
    for number in (1, 100, 1, 100):
        live.save(text.format(number), level="function")
        later = live.module.deco(lambda x: x)
        assert (live.module.g(1), later(1)) == (number + 1, number + 1)
    live.save(text.format(7), level="function")
    assert (live.module.g(1), later(1)) == (8, 8)


def test_a_function_that_an_edit_has_added_into_a_table_is_edited_by_the_next(edited: Make) -> None:
    live = edited("TASKS = {}\ndef task(f):\n    TASKS[f.__name__] = lambda *a: f(*a)\n")
    text = "TASKS = {{}}\ndef task(f):\n    TASKS[f.__name__] = lambda *a: f(*a)\n@task\ndef send(x):\n    return x * {0}\n"
    live.save(text.format(2))
    assert live.module.TASKS["send"](4) == 8
    live.save(text.format(3))

    assert live.module.TASKS["send"](4) == 12
