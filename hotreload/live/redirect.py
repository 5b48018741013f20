"""The bare mechanism: from now on, calls of one compiled function go to another.

No patch, no build, no generations: the old function must begin with a hook prologue (``HOTPATCHABLE``, or an
extension built with ``hotreload``), and both must have the same prototype, which nobody can check from addresses.
"""

from __future__ import annotations

from types import TracebackType
from typing import Any

from hotreload.live.core import NativeCore, Site

__all__ = ["Redirection", "redirect"]


class Redirection:
    """A redirect that is in force until :meth:`undo`; also a context manager that ends it."""

    def __init__(self, core: NativeCore, site: Site, old: Any, new: Any) -> None:
        self._core = core
        self._site = site
        # A cffi or ctypes callback must live as long as calls can reach it.
        self._kept = (old, new)
        self._is_in_force = True

    def undo(self) -> None:
        """Puts the original entry back. A second call does nothing.

        Raises:
            StageError: refused, for instance since another tool patches the entry too; the redirect stays.
            TransitionError: the undo was undone; the redirect stays.
            PoisonedError: what the entry does is unknown; restart the process.
        """
        if self._is_in_force:
            self._core.commit([(self._site, 0)])
            self._is_in_force = False

    def __enter__(self) -> Redirection:  # noqa: PYI034 - Self is not in typing before 3.11
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.undo()


def redirect(old: Any, new: Any) -> Redirection:
    """Sends every call of ``old`` to ``new``, on all threads.

    Args:
        old: an address, a cffi function pointer or a ctypes function; it must begin with a hook prologue.
        new: the same kinds; it may be any function within 2 GB.

    Returns:
        the redirect, to be undone.

    Raises:
        TypeError: not an address or a function pointer; nothing was changed.
        StageError: refused; nothing was changed.
        TransitionError: the store was undone.
        PoisonedError: an undo failed; restart the process.
    """
    core = NativeCore()
    entry, target = _address(old), _address(new)
    (site,) = core.open_sites([entry])
    core.commit([(site, target)])
    return Redirection(core, site, old, new)


def _address(function: Any) -> int:
    if isinstance(function, int) and not isinstance(function, bool):
        return function
    home = type(function).__module__
    if home == "_cffi_backend":
        from hotreload.live._core import ffi

        kind = ffi.typeof(function).kind if isinstance(function, ffi.CData) else ""
        if kind in ("function", "pointer"):
            return int(ffi.cast("uintptr_t", function))
    import ctypes
    from _ctypes import CFuncPtr

    if isinstance(function, CFuncPtr):
        return ctypes.cast(function, ctypes.c_void_p).value or 0
    raise TypeError(
        f"{type(function).__name__} is neither an address nor a cffi or ctypes function pointer "
        "(for a function of a cffi library pass ffi.addressof(lib, 'name'))"
    )
