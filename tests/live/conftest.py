"""What the tests of the live room share: a core, and one small base with a patch for it."""

from __future__ import annotations

from pathlib import Path

import pytest
import tiny

from hotreload.live.core import NativeCore

BASE = """
long counter = 5;
static long hidden = 7;
__thread long per_thread = 40;
long *where_hidden(void) { return &hidden; }
HOOK long step(long n) { counter += n; return counter + hidden * 0; }
HOOK long other(long n) { return n + 1000; }
HOOK long third(long n) { return n + 3000; }
"""

PATCH = """
extern long counter;
HOOK long step(long n) { counter += 100 * n; return counter; }
"""


@pytest.fixture
def core() -> NativeCore:
    return NativeCore()


@pytest.fixture
def base(tmp_path: Path) -> tiny.TinyBase:
    return tiny.make_base(tmp_path, BASE)


@pytest.fixture
def patch(tmp_path: Path, base: tiny.TinyBase) -> tiny.TinyPatch:
    return tiny.make_patch(tmp_path, base, PATCH, replaces=("step",))
