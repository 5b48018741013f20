from collections.abc import Callable
from types import CodeType
from typing import Any

shadow: object  # the capsule of hotreload.h

def call_hook(address: int, module: str, left: int, entered: int, /) -> tuple[int, str]: ...
def shadow_stats() -> tuple[int, int, int, int]: ...
def exchange(
    functions: list[tuple[Any, ...]],
    names: list[tuple[Any, ...]],
    undo_names: list[tuple[Any, ...]],
    inside: set[CodeType],
    nested: dict[CodeType, tuple[Any, ...]],
    objects: Callable[[], list[Any]],
    /,
) -> tuple[list[int], list[tuple[Any, ...]] | None]: ...
