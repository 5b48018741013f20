"""``hotpatchable`` and ``about``: which of the three forms is meant."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Sequence
from types import FunctionType, ModuleType
from typing import Any, Optional, TypeVar, Union, overload

from hotreload.errors import MarkError
from hotreload.mark import book, native
from hotreload.mark.callbacks import FunctionSwap, Mark
from hotreload.mark.handle import Handle
from hotreload.python.registry import plain_functions

__all__ = ["about", "hotpatchable"]

T = TypeVar("T")
_NOT_GIVEN: Any = object()
Callback = Optional[Callable[[FunctionSwap], object]]


@overload
def hotpatchable(function: T, /) -> T: ...
@overload
def hotpatchable(
    function: T,
    /,
    *,
    group: str = ...,
    before_swap: Callback = ...,
    after_swap: Callback = ...,
    on_refused: Optional[Callable[[Any], object]] = ...,
) -> T: ...
@overload
def hotpatchable(
    *,
    source: Optional[str] = ...,
    flags: Union[str, Sequence[str]] = ...,
    include_dirs: Sequence[str] = ...,
    libraries: Sequence[str] = ...,
    group: str = ...,
    before_swap: Callback = ...,
    after_swap: Callback = ...,
    on_refused: Optional[Callable[[Any], object]] = ...,
) -> Callable[[T], T]: ...
def hotpatchable(
    function: Any = _NOT_GIVEN,
    /,
    *,
    source: Optional[str] = None,
    flags: Union[str, Sequence[str]] = (),
    include_dirs: Sequence[str] = (),
    libraries: Sequence[str] = (),
    group: str = "",
    before_swap: Callback = None,
    after_swap: Callback = None,
    on_refused: Optional[Callable[[Any], object]] = None,
) -> Any:
    """Says that a function may be changed while the process runs, and what to do around it.

    ::

        @hotpatchable(source="kernels.c")  # 1: the C function of that name in that file, built, bound and checked
        def blur(px: "uint8_t *", w: int, h: int, r: float) -> None: ...


        score = hotpatchable(_ext.score)  # 2: a C function that exists, or a type, or a module; returned as it is


        @hotpatchable  # 3: a Python function or class; returned as it is
        def price(item): ...

    Args:
        function: for the forms 2 and 3; without it, what is returned is a decorator.
        source: the C file of form 1, relative to the file that the stub is in.
        flags: of the compiler, form 1 only; as a list or one text.
        include_dirs: directories of headers, relative like ``source``; form 1 only.
        libraries: to link with, as ``["m"]``; form 1 only.
        group: functions of one extension, or one ``.py``, that must change together.
        before_swap: called with a `FunctionSwap` before it changes; what it raises refuses the change.
        after_swap: called when it has changed.
        on_refused: called with the error when a change of its file was refused, or does not compile.

    Returns:
        of form 1 a function that calls the C function; of the others what was given, at no cost per call.

    Raises:
        MarkError: it means nothing here, or the stub and the C function disagree; nothing was marked.
        BuildError: the C file does not compile; nothing was marked.
    """
    options: dict[str, Any] = {
        "group": _checked_group(group),
        "before_swap": _checked_callback("before_swap", before_swap),
        "after_swap": _checked_callback("after_swap", after_swap),
        "on_refused": _checked_callback("on_refused", on_refused),
    }
    if isinstance(function, str):
        raise MarkError(f"hotpatchable({function!r}): a file is named by source=", hint=f"source={function!r}")
    if source is None and (flags or include_dirs or libraries):
        raise MarkError("flags, include_dirs and libraries are for a C file", hint="name it by source=")
    if source is None:
        return functools.partial(_mark, options) if function is _NOT_GIVEN else _mark(options, function)

    from hotreload.mark.stub import bind

    how = {"source": source, "flags": flags, "include_dirs": include_dirs, "libraries": libraries}
    return functools.partial(bind, how, options) if function is _NOT_GIVEN else bind(how, options, function)


def _mark(options: dict[str, Any], thing: Any) -> Any:
    """Forms 2 and 3: by what it is."""
    mark = native.find(thing)
    if mark is None:
        mark = _mark_python(thing)
    for name, value in options.items():
        setattr(mark, name, value)
    book.add(mark)
    function = mark.more.get("function")
    if function is not None:
        function.hotreload = Handle(mark)
    return thing


def _mark_python(thing: Any) -> Mark:
    """Form 3. What takes attributes gets a handle; a class would hand its own on to whatever inherits it."""
    from hotreload.python import register

    path, qualname = register(thing)
    mark = Mark("python", _name_of(thing, qualname), path, qualname=qualname, is_whole=isinstance(thing, ModuleType))
    function = _plain(thing)
    if function is not None:
        mark.more["function"] = function
    return mark


def _plain(thing: Any) -> FunctionType | None:
    """The Python function behind a method or what ``functools.wraps`` has made; of a property its getter."""
    return next(iter(plain_functions(thing)), None)


def _name_of(thing: Any, qualname: str) -> str:
    if isinstance(thing, ModuleType):
        return thing.__name__
    module = getattr(_plain(thing) or thing, "__module__", None) or ""
    return f"{module}.{qualname}".lstrip(".")


def about(thing: Any) -> Handle:
    """What can be asked about a marked function, class, type or module; ``.hotreload`` of a function is the same.

    Raises:
        MarkError: it is not marked.
    """
    if isinstance(thing, Handle):
        return thing
    mark = _find(thing)
    if mark is None:
        name = getattr(thing, "__qualname__", None) or getattr(thing, "__name__", None) or repr(thing)[:80]
        raise MarkError(f"{name} is not marked", hint="mark it with hotreload.hotpatchable first")
    return Handle(mark)


def _find(thing: Any) -> Mark | None:
    function = _plain(thing)
    own = getattr(function, "hotreload", None) if function is not None else None
    if isinstance(own, Handle):
        return own.mark
    entries = native.entries_of(thing)
    if not entries and (isinstance(thing, (type, ModuleType))):
        found = native.find(thing, is_asked=True)
        if found is not None:
            return next((mark for mark in book.marks() if mark.key == found.key), None)
        file = sys.modules[thing.__module__] if isinstance(thing, type) else thing
        path = getattr(file, "__file__", None) or ""
        name = thing.__qualname__ if isinstance(thing, type) else ""
        return book.find_python(path, name)
    return next(filter(None, map(book.find, entries)), None)


def _checked_group(group: Any) -> str:
    if not isinstance(group, str):
        raise MarkError(f"group={group!r}: a group has a name", hint='group="filters"')
    return group


def _checked_callback(name: str, callback: Any) -> Any:
    if callback is not None and not callable(callback):
        raise MarkError(f"{name}={callback!r} cannot be called", hint="it is called with one argument")
    return callback
