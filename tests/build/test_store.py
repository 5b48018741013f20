"""The store keeps what running servers may need, and not for ever."""

from __future__ import annotations

import os
import time

import pytest

from hotreload.build import store
from hotreload.build.record import Record, Unit
from hotreload.errors import BuildError

DAY = 86400.0


@pytest.fixture
def kept(tmp_path, monkeypatch):
    monkeypatch.setenv("HOTRELOAD_STORE", str(tmp_path))
    return tmp_path


def save(build_id: str, text: bytes) -> Unit:
    unit = Unit("/p/a.c", "/p", ["gcc"], ["gcc"], {}, {"/p/a.c": store.save_text(text)}, "GCC", store.save_object(text))
    store.save_base(Record("m", build_id, "/p", [], [unit], 1, []), b"library")
    return unit


def age(path, days: float) -> None:
    then = time.time() - days * DAY
    os.utime(path, (then, then))


def test_a_build_that_was_not_used_for_a_month_goes_with_what_only_it_needed(kept):
    old, new = save("aa", b"old"), save("bb", b"new")
    age(kept / "builds" / "aa", 31)
    age(kept / "objects" / old.object, 31)
    age(kept / "texts" / old.object, 31)
    age(kept / "objects" / new.object, 31)
    assert store.prune() == 1
    assert store.find("aa") is None
    with pytest.raises(BuildError, match="gone from the store"):
        store.load_object(old.object)
    assert store.load_object(new.object) == b"new"
    assert store.load_base("bb")[1] == b"library"


def test_a_build_that_is_used_stays_however_old_it_is(kept):
    save("aa", b"old")
    age(kept / "builds" / "aa", 31)
    store.load_base("aa")
    assert store.prune() == 0
    assert store.find("aa") is not None


def test_an_object_whose_library_is_not_linked_yet_stays(kept):
    save("aa", b"old")
    age(kept / "builds" / "aa", 31)
    fresh = store.save_object(b"just compiled")
    assert store.prune() == 1
    assert store.load_object(fresh) == b"just compiled"


def test_a_base_that_was_not_built_here_is_refused_with_what_to_do(kept):
    with pytest.raises(BuildError, match=r"no hot build with build-id cc .*hotreload build"):
        store.load_base("cc")
