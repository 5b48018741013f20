"""The hammer: commits under four threads that never stop calling, 100,000 in `make soak`; and two controls that must fail."""

from __future__ import annotations

import pytest
from hammering import BYTE_STORES, COMMIT, PLAIN_STORE, in_child

FLIPS = 20_000


@pytest.mark.slow
@pytest.mark.parametrize(
    ("with_original", "flips"),
    [
        pytest.param(True, FLIPS, id="nop and jumps"),
        pytest.param(False, FLIPS, id="jumps only"),
        pytest.param(True, 5 * FLIPS, id="100,000", marks=pytest.mark.soak),
    ],
)
def test_no_call_is_wrong_or_older_than_the_commit_that_had_returned(with_original: bool, flips: int) -> None:
    code, result = in_child(how=COMMIT, offset=0, flips=flips, pause=0, with_original=with_original)
    print(result)
    assert code == 0, "crashed"
    assert (result["wrong"], result["stale"], result["status"]) == (0, 0, 0)
    assert result["done"] == result["barriers"] == flips
    assert min(result["seen"]) > flips, "each definition was really called"
    assert result["judged"] > flips, "the calls could tell"
    assert result["protection"] == "r-xp"


def test_compiled_functions_of_a_base_and_two_staged_patches_are_whole_too() -> None:
    code, result = in_child(how=COMMIT, offset=None, flips=4_000, pause=0, with_original=True)
    print(result)
    assert code == 0, "crashed"
    assert (result["wrong"], result["stale"], result["status"]) == (0, 0, 0)
    assert min(result["seen"]) > 4_000


@pytest.mark.slow
def test_control_a_store_that_crosses_a_cache_line_is_seen_torn() -> None:
    """The line ends between the two low bytes of the displacement: hazard 1.2, offset 62."""
    code, result = in_child(
        how=PLAIN_STORE, offset=62, flips=200_000_000, pause=60, with_original=False, stops_at_first=True
    )
    print(result)
    assert code < 0 or result["wrong"] or result["stale"]


@pytest.mark.slow
def test_control_stores_of_single_bytes_are_seen_torn() -> None:
    code, result = in_child(
        how=BYTE_STORES, offset=0, flips=200_000_000, pause=60, with_original=False, stops_at_first=True
    )
    print(result)
    assert code < 0 or result["wrong"] or result["stale"]


def test_the_same_aligned_store_as_in_the_controls_is_whole() -> None:
    """What differs between this and the controls is the alignment, and nothing else."""
    code, result = in_child(how=PLAIN_STORE, offset=0, flips=2_000_000, pause=20, with_original=False)
    print(result)
    assert code == 0
    assert (result["wrong"], result["stale"]) == (0, 0)
