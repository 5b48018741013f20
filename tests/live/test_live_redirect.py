"""``hotreload.redirect``: the bare mechanism, on addresses and function pointers."""

from __future__ import annotations

import ctypes

import cffi
import pytest
import tiny
from tiny import NOPL, map_text, returning, status_of

import hotreload
from hotreload.errors import StageError


@pytest.fixture
def old() -> int:
    return map_text(NOPL + returning(1))


@pytest.fixture
def new() -> int:
    return map_text(returning(2))


def test_calls_of_old_go_to_new_until_it_is_undone(old: int, new: int) -> None:
    handle = hotreload.redirect(old, new)
    assert tiny.call(old) == 2
    handle.undo()
    assert tiny.call(old) == 1
    handle.undo()
    assert tiny.call(old) == 1


def test_as_a_context_manager_it_ends_with_the_block_also_after_an_exception(old: int, new: int) -> None:
    with pytest.raises(KeyError), hotreload.redirect(old, new):
        assert tiny.call(old) == 2
        raise KeyError
    assert tiny.call(old) == 1


def test_ctypes_functions_are_taken_and_callbacks_are_kept_alive(old: int) -> None:
    kind = ctypes.CFUNCTYPE(ctypes.c_int)
    with hotreload.redirect(kind(old), kind(lambda: 77)):
        import gc

        gc.collect()
        assert tiny.call(old) == 77
    assert tiny.call(old) == 1


def test_cffi_pointers_are_taken(old: int, new: int) -> None:
    ffi = cffi.FFI()
    with hotreload.redirect(ffi.cast("int(*)(void)", old), ffi.cast("void *", new)):
        assert tiny.call(old) == 2


@pytest.mark.parametrize("wrong", [None, "f", 1.5, True, len, object()])
def test_something_else_is_a_type_error(old: int, wrong: object) -> None:
    with pytest.raises(TypeError, match="neither an address"):
        hotreload.redirect(old, wrong)
    assert tiny.call(old) == 1


def test_a_second_redirect_of_the_same_function_is_refused(old: int, new: int) -> None:
    with hotreload.redirect(old, new):
        assert status_of(hotreload.redirect, old, new) == "REDIRECTED"
        assert tiny.call(old) == 2


def test_a_function_without_a_prologue_is_refused(new: int) -> None:
    with pytest.raises(StageError, match="does not begin with a hook prologue"):
        hotreload.redirect(new, new)


def test_a_target_out_of_reach_is_refused_with_numbers(old: int) -> None:
    with pytest.raises(StageError, match="reach is 2,147,483,647"):
        hotreload.redirect(old, old + (3 << 30))
