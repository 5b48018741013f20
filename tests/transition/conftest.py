from __future__ import annotations

import ctypes

import pytest
from kit import load_workers


@pytest.fixture(scope="session")
def workers() -> ctypes.CDLL:
    return load_workers()
