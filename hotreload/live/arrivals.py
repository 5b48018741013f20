"""Being told when the program imports an extension module; and which of them are hot.

One wrapper around the interpreter's loader, however many want to know: two that each put the original back when they
end would end each other. What is told comes after the module's init and before ``import`` returns.
"""

from __future__ import annotations

import functools
import struct
import sys
from collections.abc import Callable
from importlib.machinery import ExtensionFileLoader
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import ModuleType

__all__ = ["is_hot", "watch_imports"]

#: The section that ``hotreload cc`` leaves in a hot extension.
_RECORD_NAME = b"\0.hotreload.record\0"
_ELF_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_SECTION_HEADER = struct.Struct("<IIQQQQIIQQ")
_MAX_NAMES = 1 << 20

Watcher = Callable[[str], None]


class _Loader:
    """The wrapper, while somebody wants to be told."""

    def __init__(self) -> None:
        self._watchers: dict[object, Watcher] = {}
        self._original: Callable[..., None] | None = None

    def add(self, watcher: Watcher) -> Callable[[], None]:
        key = object()
        self._watchers[key] = watcher
        self._wrap()

        def remove() -> None:
            self._watchers.pop(key, None)
            self._unwrap()

        return remove

    def _wrap(self) -> None:
        if self._original is not None:
            return
        original = ExtensionFileLoader.exec_module
        loader = self

        @functools.wraps(original)
        def exec_module(self: ExtensionFileLoader, module: ModuleType) -> None:
            original(self, module)
            loader.tell(getattr(module, "__file__", None) or self.path)

        self._original = original
        ExtensionFileLoader.exec_module = exec_module  # type: ignore[method-assign]

    def _unwrap(self) -> None:
        if self._watchers or self._original is None:
            return
        ExtensionFileLoader.exec_module = self._original  # type: ignore[method-assign]
        self._original = None

    def tell(self, path: str) -> None:
        for watcher in list(self._watchers.values()):
            try:
                watcher(path)
            except Exception:  # noqa: BLE001 - an import must not fail of what is done besides
                sys.excepthook(*sys.exc_info())


_loader = _Loader()


def watch_imports(watcher: Watcher) -> Callable[[], None]:
    """Has ``watcher`` called with the path of every extension module that is imported from now on.

    Returns:
        what ends it; calling it twice does nothing.
    """
    return _loader.add(watcher)


def is_hot(path: str) -> bool:
    """Whether the file was built to be patched, as its section names tell; a file that is gone was not."""
    try:
        with open(path, "rb") as file:
            header = file.read(_ELF_HEADER.size)
            if len(header) < _ELF_HEADER.size or header[:5] != b"\x7fELF\x02":
                return False
            fields = _ELF_HEADER.unpack(header)
            file.seek(fields[6] + fields[13] * _SECTION_HEADER.size)
            section = file.read(_SECTION_HEADER.size)
            if len(section) < _SECTION_HEADER.size:
                return False
            names = _SECTION_HEADER.unpack(section)
            file.seek(names[4])
            return _RECORD_NAME in file.read(min(names[5], _MAX_NAMES))
    except (OSError, ValueError, OverflowError):
        return False
