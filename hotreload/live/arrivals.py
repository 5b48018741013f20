"""Being told when the program imports an extension module, or a module of Python; and which extensions are hot.

One wrapper around the interpreter's loader, however many want to know: two that each put the original back when they
end would end each other. What is told comes after the module's init, or its text, has run and before ``import``
returns.
"""

from __future__ import annotations

import functools
import struct
import sys
from collections.abc import Callable
from importlib.machinery import ExtensionFileLoader, SourceFileLoader
from typing import TYPE_CHECKING, Union

if TYPE_CHECKING:
    from types import ModuleType

__all__ = ["is_hot", "watch_imports", "watch_texts"]

#: The section that ``hotreload cc`` leaves in a hot extension.
_RECORD_NAME = b"\0.hotreload.record\0"
_ELF_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_SECTION_HEADER = struct.Struct("<IIQQQQIIQQ")
_MAX_NAMES = 1 << 20

Watcher = Callable[[str], None]


Loader = Union[type[ExtensionFileLoader], type[SourceFileLoader]]


class _Wrapper:
    """Around ``exec_module`` of one kind of loader, while somebody wants to be told."""

    def __init__(self, loader: Loader) -> None:
        self._loader = loader
        self._watchers: dict[object, Watcher] = {}
        self._is_on = False
        self._own: object = None

    def add(self, watcher: Watcher) -> Callable[[], None]:
        key = object()
        self._watchers[key] = watcher
        self._wrap()

        def remove() -> None:
            self._watchers.pop(key, None)
            self._unwrap()

        return remove

    def _wrap(self) -> None:
        if self._is_on:
            return
        original = self._loader.exec_module
        wrapper = self

        def exec_module(self: ExtensionFileLoader, module: ModuleType) -> None:
            original(self, module)
            wrapper.tell(getattr(module, "__file__", None) or self.path)

        # In the loader's own name, so that the interpreter leaves this frame out of tracebacks like the loader's.
        exec_module.__code__ = exec_module.__code__.replace(co_filename=original.__code__.co_filename)
        self._own = vars(self._loader).get("exec_module")
        self._is_on = True
        self._loader.exec_module = functools.wraps(original)(exec_module)  # type: ignore[method-assign]

    def _unwrap(self) -> None:
        if self._watchers or not self._is_on:
            return
        self._is_on = False
        if self._own is None:
            del self._loader.exec_module
        else:
            self._loader.exec_module = self._own  # type: ignore[method-assign,assignment]

    def tell(self, path: str) -> None:
        for watcher in list(self._watchers.values()):
            try:
                watcher(path)
            except Exception:  # noqa: BLE001 - an import must not fail of what is done besides
                sys.excepthook(*sys.exc_info())


_extensions = _Wrapper(ExtensionFileLoader)
_texts = _Wrapper(SourceFileLoader)


def watch_imports(watcher: Watcher) -> Callable[[], None]:
    """Has ``watcher`` called with the path of every extension module that is imported from now on.

    Returns:
        what ends it; calling it twice does nothing.
    """
    return _extensions.add(watcher)


def watch_texts(watcher: Watcher) -> Callable[[], None]:
    """The same for every module that is imported from a ``.py``: its text has run to the end.

    Not for a script that is started, nor for loaders that are no kind of the interpreter's own.
    """
    return _texts.add(watcher)


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
