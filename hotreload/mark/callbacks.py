"""What a mark asks for around a swap, as a listener of ``hotreload.live``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Optional

from hotreload.errors import HotReloadError
from hotreload.mark.symbols import symbol_of

if TYPE_CHECKING:
    from hotreload.live.around import Swap

__all__ = ["FunctionSwap", "Group", "Mark"]


@dataclass(frozen=True)
class FunctionSwap:
    """What a callback is handed: one function that gets, or got, another definition.

    ``function`` is its C symbol, or its qualified name in Python; ``left`` and ``entered`` are generations of
    ``module``, 0 being what was loaded; ``group`` is empty where it is in none.
    """

    function: str
    module: str
    left: int
    entered: int
    group: str = ""


Before = Optional[Callable[[FunctionSwap], object]]
Refused = Optional[Callable[[HotReloadError], object]]


@dataclass
class Mark:
    """One use of ``hotpatchable``, and the listener that it is.

    ``entries`` are the addresses of its C functions with the names that Python has for them; ``qualname`` is that of
    a Python function or class, empty for a module. ``is_whole``: all of the file at ``path``.
    """

    kind: str
    name: str
    path: str
    entries: dict[int, str] = field(default_factory=dict)
    qualname: str = ""
    is_whole: bool = False
    group: str = ""
    before_swap: Before = None
    after_swap: Before = None
    on_refused: Refused = None
    more: dict[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> object:
        """What is marked, so that marking it again takes the place of the first time."""
        return (self.path, self.qualname, frozenset(self.entries), self.is_whole)

    @property
    def wants_to_hear(self) -> bool:
        return bool(self.before_swap or self.after_swap or self.on_refused)

    def concerns(self, swap: Swap) -> list[str]:
        """The functions of a swap that this mark is about."""
        if swap.entries:
            if self.is_whole and swap.path == self.path:
                return list(swap.functions)
            return [symbol_of(entry) or name for entry, name in self.entries.items() if entry in swap.entries]
        if swap.path != self.path:
            return []
        return [name for name in swap.functions if self.is_own(name)]

    def is_own(self, function: str) -> bool:
        """Whether it is the function of that name, or a part of it."""
        if self.kind != "python":
            names = (*self.entries.values(), *map(symbol_of, self.entries))
            return self.is_whole or function in names
        return self.is_whole or function == self.qualname or function.startswith(f"{self.qualname}.")

    def _told(self, swap: Swap) -> Iterator[FunctionSwap]:
        for function in self.concerns(swap):
            yield FunctionSwap(function, swap.module, swap.left, swap.entered, self.group)

    # As a listener -------------------------------------------------------------------------------------------------

    def before(self, swap: Swap) -> None:
        if self.before_swap is not None:
            for told in self._told(swap):
                self.before_swap(told)

    def after(self, swap: Swap) -> None:
        from hotreload.live.around import shown

        if self.after_swap is not None:
            for told in self._told(swap):
                with shown():
                    self.after_swap(told)

    def refused(self, swap: Swap, error: HotReloadError) -> None:
        """Where nobody knows which functions it was about, as of a file that does not compile, it was about all."""
        if self.on_refused is not None and swap.path == self.path and (not swap.functions or self.concerns(swap)):
            self.on_refused(error)

    def level_of(self, swap: Swap) -> str:  # noqa: ARG002 - one function alone asks for nothing
        return ""


class Group:
    """Functions that must move together: a change of two or more of them is a transition, whatever was configured."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.members: dict[object, Mark] = {}

    def before(self, swap: Swap) -> None:
        pass

    def after(self, swap: Swap) -> None:
        pass

    def refused(self, swap: Swap, error: HotReloadError) -> None:
        pass

    def level_of(self, swap: Swap) -> str:
        """``call`` where two of its functions would change: no caller then meets one new and one old."""
        touched = sum(len(member.concerns(swap)) for member in list(self.members.values()))
        return "call" if touched > 1 else ""
