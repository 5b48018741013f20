"""Fills the address space around a library, for child processes: every free page within reach and a bit further."""

from __future__ import annotations

import tiny

REACH = 1 << 31
LOWEST = 1 << 20


def gaps(low: int, high: int) -> list[tuple[int, int]]:
    """The free ranges of the address space between two addresses."""
    found, free_from = [], low
    for line in tiny.maps():
        start, end = (int(part, 16) for part in line.split(" ", 1)[0].split("-"))
        if start > free_from and free_from < high:
            found.append((free_from, min(start, high)))
        free_from = max(free_from, end)
    if free_from < high:
        found.append((free_from, high))
    return [(start, end) for start, end in found if start < end]


def fill(base_start: int, base_end: int, *, holes: tuple[tuple[int, int], ...] = ()) -> None:
    """Maps PROT_NONE over everything within 3 GB of the base, except for the holes (address, length)."""
    low, high = max(LOWEST, base_end - 3 * REACH // 2), base_start + 3 * REACH // 2
    kept = [tiny.map_memory(length, 0, address) for address, length in holes]
    assert all(kept), "the holes must be free to begin with"
    for start, end in gaps(low, high):
        # Python itself may map something between the listing and this: then page by page around it is not worth it.
        tiny.map_memory(end - start, 0, start, tiny.MAP_PRIVATE | tiny.MAP_ANONYMOUS | tiny.MAP_NORESERVE)
    for start, end in gaps(low, high):
        assert tiny.map_memory(end - start, 0, start, tiny.MAP_PRIVATE | tiny.MAP_ANONYMOUS | tiny.MAP_NORESERVE)
    for address, length in holes:
        tiny.libc.munmap(address, length)
