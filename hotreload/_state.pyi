from collections.abc import Callable
from types import CodeType
from typing import Any

shadow: object  # the capsule of hotreload.h

def call_hook(address: int, module: str, left: int, entered: int, /) -> tuple[int, str]: ...
def shadow_stats() -> tuple[int, int, int, int]: ...
def show_table(
    kind: int, live: int, live_length: int, new: int, new_length: int, changes: str, holders: list[object], /
) -> tuple[list[str], list[str], list[str], int]: ...
def c_functions(item: object, /) -> list[int]: ...
def locate(address: int, /) -> tuple[str, int, str, int, bytes]: ...
def exchange(
    functions: list[tuple[Any, ...]],
    names: list[tuple[Any, ...]],
    undo_names: list[tuple[Any, ...]],
    inside: set[CodeType],
    nested: list[tuple[CodeType, CodeType, Any, Any]],
    objects: Callable[[], list[Any]],
    /,
) -> tuple[list[int], list[tuple[Any, ...]] | None]: ...
