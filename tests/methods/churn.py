"""Run inside a process of the tests: names that come and go while threads ask for them."""

from __future__ import annotations

import gc
import sys
import threading
from pathlib import Path
from typing import Any


def swap(manager: Any, module: Any, ext: Any, rounds: int) -> dict[str, int]:
    """Goes to and fro between generation 0 and 1 while threads call what is there and what is not.

    Raises:
        AssertionError: a call gave something that neither generation gives.
    """
    sub = type("Sub", (ext.Shape,), {})(2, 5)
    heap = type("Sub", (ext.Heap,), {})(2, 5)
    seen = {"there": 0, "gone": 0}
    wrong: list[object] = []
    over = threading.Event()

    def ask() -> None:
        while not over.is_set():
            for call, right in (
                (lambda: ext.plus_args(1, 2), (1, 2)),
                (lambda: sub.edge(), 14),
                (lambda: sub.raw_width, 2),
                (lambda: heap.double_width, 4),
                (lambda: heap.raw_width, 2),
            ):
                try:
                    found = call()
                except AttributeError:
                    seen["gone"] += 1
                except BaseException as error:  # whatever it is, it is wrong
                    wrong.append(repr(error))
                else:
                    seen["there"] += 1
                    if found != right:
                        wrong.append(found)
                if (sub.area(), heap.area(), sub.width, ext.area(2)) != (10, 10, 2, 6):
                    wrong.append("what was there before")

    threads = [threading.Thread(target=ask) for _ in range(4)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-4)
    for thread in threads:
        thread.start()
    try:
        for number in range(rounds):
            manager.rollback(module, number % 2)
            assert hasattr(ext, "plus_args") == bool(number % 2)
            assert hasattr(sub, "edge") == bool(number % 2)
    finally:
        over.set()
        for thread in threads:
            thread.join()
        sys.setswitchinterval(interval)
    assert not wrong, wrong[:5]
    return seen


def leak(manager: Any, module: Any, rounds: int) -> tuple[int, int]:
    """How many objects, and how many bytes, so many changes leave behind."""

    def work(count: int) -> tuple[int, int]:
        for number in range(count):
            manager.rollback(module, number % 2)
        gc.collect()
        return len(gc.get_objects()), int(Path("/proc/self/statm").read_text().split()[1]) * 4096

    before = work(40)
    after = work(rounds)
    return after[0] - before[0], after[1] - before[1]


def leak_of_state(live: int, length: int, new: int, new_length: int, rounds: int) -> int:
    """The bytes that so many calls of ``show_table`` leave behind, the refused ones too."""
    from hotreload._state import show_table

    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

    before = 0
    for number in range(rounds + 50):
        if number == 50:
            before = resident()
        holders: list[object] = []
        show_table(1, live, length, new, new_length, "aa", holders)
        show_table(1, live, length, 0, 0, "aa", holders)
        for wrong in ((0, live, 1, 0, 0), (4, live, 1, 0, 0), (3, live, 0, 0, 0), (1, live, 1, 0, -1)):
            try:
                show_table(*wrong, "a" * wrong[2], holders)
            except ValueError:
                continue
            raise AssertionError(wrong)
    return resident() - before
