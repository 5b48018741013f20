"""How long a fuzzer runs: a few seconds among the tests, as long as HOTRELOAD_FUZZ_SECONDS says by `make fuzz`."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.strategies import SearchStrategy

__all__ = ["SECONDS", "fuzz"]

#: For each fuzz test.
SECONDS = float(os.environ.get("HOTRELOAD_FUZZ_SECONDS", "3"))
_ROUND = 400


def fuzz(check: Callable[..., None], *strategies: SearchStrategy[Any]) -> int:
    """Calls ``check`` with examples, in rounds of another seed each, until the time is over; how many rounds.

    A failure shows the shrunk example and its round's seed: HOTRELOAD_FUZZ_SEED begins with that one.
    """
    number = int(os.environ.get("HOTRELOAD_FUZZ_SEED") or int.from_bytes(os.urandom(4), "little"))
    options = settings(
        max_examples=_ROUND,
        deadline=None,
        database=None,
        report_multiple_bugs=False,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )
    end = time.monotonic() + SECONDS
    rounds = 0
    while not rounds or time.monotonic() < end:
        try:
            seed(number + rounds)(options(given(*strategies)(check)))()
        except BaseException:
            print(f"fuzzing failed in the round of HOTRELOAD_FUZZ_SEED={number + rounds}")
            raise
        rounds += 1
    return rounds
