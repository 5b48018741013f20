"""Address space: the nearest gap, the reserve, and what is said when there is no room."""

from __future__ import annotations

import ctypes
from pathlib import Path

import pytest
import tiny
from tiny import child, status_of

from hotreload.live._core import ffi, lib
from hotreload.live.core import NativeCore

MINIMUM, MAXIMUM = -(2**31), 2**31 - 1


def rel32(following: int, target: int) -> int | None:
    result = ffi.new("int32_t *")
    return result[0] if lib.hr_rel32(following, target, result) else None


@pytest.mark.parametrize("following", [0x7F00_0000_0000, 0x5555_5555_0005, 2**31 + 5, 1 << 46])
def test_rel32_reaches_exactly_two_gigabytes(following: int) -> None:
    assert rel32(following, following) == 0
    assert rel32(following, following + MAXIMUM) == MAXIMUM
    assert rel32(following, following + MAXIMUM + 1) is None
    assert rel32(following, following + MINIMUM) == MINIMUM
    assert rel32(following, following + MINIMUM - 1) is None


def test_rel32_does_not_wrap_around_the_address_space() -> None:
    assert rel32(0x1000, 0x7FFF_FFFF_F000) is None
    assert rel32(0x7FFF_FFFF_F000, 0x1000) is None


@pytest.mark.parametrize("displacement", [0, 1, -1, MAXIMUM, MINIMUM, 0x12345678])
def test_a_jump_is_e9_the_displacement_and_three_int3(displacement: int) -> None:
    word = lib.hr_encode_jump(displacement).to_bytes(8, "little")
    assert word == b"\xe9" + displacement.to_bytes(4, "little", signed=True) + b"\xcc\xcc\xcc"


@pytest.mark.parametrize("beyond", [0, 1])
@pytest.mark.parametrize("direction", [1, -1])
def test_a_commit_reaches_as_far_as_rel32_and_not_a_byte_further(core: NativeCore, direction: int, beyond: int) -> None:
    """A jump that is really taken, at the very boundary."""
    middle = tiny.map_memory(tiny.PAGE, 0, 0x2000_0000_0000)
    assert middle == 0x2000_0000_0000
    tiny.libc.munmap(middle, tiny.PAGE)
    entry = tiny.map_text(tiny.NOPL + tiny.returning(1), address=middle)
    target = entry + 5 + (MAXIMUM if direction > 0 else MINIMUM) + direction * beyond
    page = target // tiny.PAGE * tiny.PAGE
    offset = target - page
    code = tiny.map_text(bytes(offset) + tiny.returning(2), address=page)
    try:
        (site,) = core.open_sites([entry])
        if beyond:
            assert status_of(core.commit, [(site, target)]) == "OUT_OF_RANGE"
            assert tiny.call(entry) == 1
        else:
            core.commit([(site, target)])
            assert tiny.call(entry) == 2
    finally:
        tiny.libc.munmap(entry, tiny.PAGE)
        tiny.libc.munmap(code, tiny.page_up(offset + 6))


SCRIPT = """
import ctypes, sys, tempfile, tiny, near
from pathlib import Path
from hotreload.errors import StageError
from hotreload.live import Manager
from hotreload.live.core import NativeCore
core = NativeCore()
folder = Path(tempfile.mkdtemp())
base = tiny.make_base(folder, "long n = 1; HOOK long f(void) { return n; }")
raw = tiny.make_patch(folder, base, "extern long n; HOOK long f(void) { return ++n; }", replaces=("f",)).to_bytes()
manager = Manager(reserve_bytes=0)
module = manager.attach(str(base.path))
found = next(o for o in core.objects() if o.path == str(base.path))
f = base.function("f")
length = 5 * 4096
"""


def test_with_everything_within_reach_taken_stage_refuses_with_numbers_and_changes_nothing() -> None:
    out = child(
        SCRIPT
        + """
near.fill(found.start, found.end)
for _ in range(3):  # Python's allocator may take a megabyte for itself, and does not do it again
    before = tiny.maps()
    try:
        manager.stage(module, raw)
    except StageError as e:
        error = e
print(error.status, error.fields["length"] > 0, error.fields["limit"] == 2**31 - 1, error.fields["value"] > 2**31)
assert f"{error.fields['value']:,}" in str(error), error
assert tiny.maps() == before
assert f() == 1
assert manager.status()["modules"][0]["generation"] == 0
"""
    )
    assert out == "NO_ROOM True True True"


@pytest.mark.parametrize(
    ("holes", "nearest"),
    [
        ("[-0x4000_0000, -0x1000_0000, 0x2000_0000]", 1),
        ("[-0x3000_0000, 0x1000_0000, 0x4000_0000]", 1),
        ("[-0x7000_0000]", 0),
        ("[0x7000_0000]", 0),
    ],
)
def test_with_holes_left_the_nearest_is_taken(holes: str, nearest: int) -> None:
    child(
        SCRIPT
        + f"""
holes = [((found.end + away) & ~4095, 16 * 4096) for away in {holes}]
near.fill(found.start, found.end, holes=holes)
staged = manager.stage(module, raw)
address, room = holes[{nearest}]
assert address <= staged.image.address and staged.image.address + staged.image.length <= address + room, (
    hex(staged.image.address), [hex(hole) for hole, _ in holes])
manager.commit(staged)
assert [f(), f()] == [2, 3] and base.variable("n").value == 3
"""
    )


def test_a_hole_that_is_too_small_is_passed_over() -> None:
    child(
        SCRIPT
        + """
holes = [((found.end + away) & ~4095, pages * 4096) for away, pages in ((0x1000_0000, 2), (0x2000_0000, 16))]
near.fill(found.start, found.end, holes=holes)
assert manager.stage(module, raw).image.address == holes[1][0]
"""
    )


def test_the_reserve_still_has_room_when_everything_around_is_taken() -> None:
    child(
        SCRIPT
        + """
reserving = Manager(reserve_bytes=1 << 20)
module = reserving.attach(str(base.path))
near.fill(found.start, found.end)
staged = [reserving.stage(module, raw) for _ in range(3)]
assert all(one.image.is_from_reserve for one in staged)
assert len({one.image.address for one in staged}) == 3
closed = tiny.maps_at(staged[1].image.address + 4096)
reserving.unstage(staged[1])
assert (closed, tiny.maps_at(staged[1].image.address + 4096)) == ("r-xp", "---p")
assert reserving.stage(module, raw).image.address == staged[1].image.address, "what was given back is used again"
reserving.commit(reserving.stage(module, raw))
assert f() == 2
while True:
    try:
        reserving.stage(module, raw)
    except StageError as error:
        assert error.status == "NO_ROOM", error
        break
"""
    )


def test_a_smaller_reserve_is_taken_where_the_wanted_one_does_not_fit() -> None:
    out = child(
        SCRIPT
        + """
near.fill(found.start, found.end, holes=[((found.end + 0x1000_0000) & ~4095, 1 << 20)])
print(core.reserve(core.open_base(str(base.path)), 16 << 20))
"""
    )
    assert out == str(1 << 20)


def test_the_reserve_is_address_space_and_no_memory(core: NativeCore, base: tiny.TinyBase) -> None:
    opened = core.open_base(str(base.path))
    before = set(tiny.maps())
    assert core.reserve(opened, 8 << 20) == 8 << 20
    (line,) = [line for line in set(tiny.maps()) - before if "---p" in line]
    start, end = (int(part, 16) for part in line.split(" ", 1)[0].split("-"))
    assert end - start >= 8 << 20
    assert max(end, opened.object.end) - min(start, opened.object.start) < 2**31
    core.close_base(opened)


def test_a_gap_that_another_thread_takes_is_not_taken_from_it(core: NativeCore, base, patch, tmp_path: Path) -> None:
    """Threads map and unmap all the time in the very gap that stage would take; no image may land on their pages."""
    racer = tiny.load_base(tiny.compile_base(tmp_path, RACER, "-lpthread"))
    opened = core.open_base(str(base.path))
    parsed = core.open_patch(patch.to_bytes())
    image = core.stage(parsed, opened, [], "race")
    core.unstage(image)
    racer.function("start", ctypes.c_void_p)(image.address)
    places = set()
    try:
        for _ in range(500):
            image = core.stage(parsed, opened, [], "race")
            places.add(image.address)
            core.unstage(image)
    finally:
        mapped = racer.function("stop")()
    assert mapped > 100
    assert len(places) > 1, "there was no race"
    assert racer.variable("damaged").value == 0


RACER = """
#define _GNU_SOURCE
#include <pthread.h>
#include <sys/mman.h>
long damaged;
static long mapped;
static volatile int stopping;
static char *place;
static pthread_t threads[2];
static void *race(void *unused) {
    while (!stopping) {
        char *got = mmap(place, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (got == MAP_FAILED) continue;
        __atomic_add_fetch(&mapped, got == place, __ATOMIC_RELAXED);
        /* A mapping that was put over ours would be PROT_NONE, read-only, or hold something else. */
        unsigned char resident;
        got[0] = 42; got[4096] = 43;
        for (volatile int i = 0; i < 20000; i++);
        if (mincore(got, 1, &resident)) damaged++;
        else if (got[0] != 42 || got[4096] != 43) damaged++;
        munmap(got, 8192);
    }
    return 0;
}
long start(char *where) {
    place = where;
    for (int i = 0; i < 2; i++) pthread_create(&threads[i], 0, race, 0);
    return 0;
}
long stop(void) {
    stopping = 1;
    for (int i = 0; i < 2; i++) pthread_join(threads[i], 0);
    return mapped;
}
"""
