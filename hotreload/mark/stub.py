"""Form 1: a Python function without a body, over the C function of its name in a C file.

::

    @hotpatchable(source="kernels.c")             kernels.c ──▶ cache.py ──▶ kernels_c.so, imported like any extension
    def blur(px: "uint8_t *", n: int): ...                                     │ lib.blur     cffi, API mode
        │ prototype.py: do they agree?  ◀─────────────────────────────────────┤ entries      what is redirected
        ▼                                                                      ▼
    def blur(px, n): return lib.blur(px if it is cdata else lend it, n)

What is called is a Python function with the stub's name, signature and documentation, so that ``help``, ``inspect`` and
a debugger see what was written; its body is one call. All stubs of one file share one extension, and so its state.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
import os
import shlex
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from importlib.machinery import ExtensionFileLoader
from importlib.util import module_from_spec, spec_from_file_location
from types import FunctionType, ModuleType
from typing import Any, Union

from hotreload.errors import BuildError, MarkError
from hotreload.mark import book, prototype
from hotreload.mark.buffers import acceptor, plain_classes
from hotreload.mark.cache import Entry, Wanted, obtain
from hotreload.mark.callbacks import Mark
from hotreload.mark.handle import Handle

__all__ = ["bind"]


@dataclass(frozen=True)
class _Loaded:
    """The extension of one C file, as this process has it."""

    wanted: Wanted
    entry: Entry
    module: ModuleType
    place: str


_loaded: dict[str, _Loaded] = {}
_lock = threading.RLock()


def _renew() -> None:
    """In a forked child: the thread that was building is not there, and would hold it for ever."""
    global _lock
    _lock = threading.RLock()


os.register_at_fork(after_in_child=_renew)


def bind(how: dict[str, Any], options: dict[str, Any], stub: Any) -> Any:
    """The function that stands for the C function; the file is built and loaded where it was not.

    Raises:
        MarkError: no stub, no such file or function, or the two disagree; nothing was marked.
        BuildError: the file does not compile, or cannot be loaded; nothing was marked.
    """
    if not isinstance(stub, FunctionType):
        raise MarkError(
            f"source= is for a stub, a Python function without a body, and {stub!r:.80} is none",
            hint="put it directly above `def`, below other decorators",
        )
    place = f"{stub.__code__.co_filename}:{stub.__code__.co_firstlineno}"
    if inspect.iscoroutinefunction(stub) or inspect.isgeneratorfunction(stub):
        raise MarkError(
            f"{place}: {stub.__name__} is a coroutine or a generator, and a C function simply returns",
            hint="write a plain def, and await it as loop.run_in_executor: it runs without the GIL",
        )
    loaded = _load(_wanted(how, stub, place), stub, place)
    name = stub.__name__
    if name not in loaded.entry.functions:
        raise _not_there(name, loaded, place)
    known, ffi, lib = loaded.entry.functions[name], loaded.module.ffi, loaded.module.lib
    target = getattr(lib, name)
    kind = ffi.typeof(target)
    prototype.check(stub, ffi, kind, known)
    function = _make(stub, ffi, target, kind, known)
    entry = int(lib.hotreload_entries[list(loaded.entry.functions).index(name)])
    more = {"ffi": ffi, "place": (known["file"], known["line"], loaded.entry.files.get(known["file"], ""))}
    mark = Mark("stub", f"{stub.__module__}.{stub.__qualname__}", os.path.realpath(loaded.entry.path), {entry: name},
                **options, more=more)  # fmt: skip
    book.add(mark)
    function.hotreload = Handle(mark)  # type: ignore[attr-defined]
    return function


# Loading -----------------------------------------------------------------------------------------------------------


def _wanted(how: dict[str, Any], stub: FunctionType, place: str) -> Wanted:
    """What the options ask for; paths are relative to the stub's file, or where it has none to the directory."""
    file = stub.__code__.co_filename
    home = os.path.dirname(os.path.abspath(file)) if os.path.exists(file) else os.getcwd()
    source = os.fspath(how["source"])
    path = os.path.realpath(os.path.join(home, source))
    if not source.endswith(".c"):
        raise MarkError(
            f"{place}: source={source!r} is no C file",
            hint="C++ and others: build an extension, and mark its functions",
        )
    if not os.path.isfile(path):
        nearest = get_close_matches(os.path.basename(path), _names_in(os.path.dirname(path)), n=1, cutoff=0.5)
        hint = f"did you mean {nearest[0]!r}?" if nearest else "it is looked for beside the stub's own file"
        raise MarkError(f"{place}: there is no {path}", hint=hint)
    return Wanted(
        path,
        _words(how["flags"], "flags", place),
        tuple(
            os.path.realpath(os.path.join(home, name)) for name in _words(how["include_dirs"], "include_dirs", place)
        ),
        _words(how["libraries"], "libraries", place),
    )


def _names_in(directory: str) -> list[str]:
    try:
        return [name for name in os.listdir(directory) if name.endswith(".c")]
    except OSError:
        return []


def _words(value: Union[str, Sequence[str]], name: str, place: str) -> tuple[str, ...]:
    words = tuple(shlex.split(value)) if isinstance(value, str) else tuple(value)
    if not all(isinstance(word, str) for word in words):
        raise MarkError(f"{place}: {name}={value!r} is no list of texts", hint=f'{name}=["..."]')
    return words


def _load(wanted: Wanted, stub: FunctionType, place: str) -> _Loaded:
    with _lock:
        known = _loaded.get(wanted.source)
        if known is None:
            entry = obtain(wanted)
            known = _loaded[wanted.source] = _Loaded(wanted, entry, _import(entry, stub), place)
        elif known.wanted != wanted:
            raise MarkError(
                f"{place}: {wanted.source} is loaded already with other flags, include_dirs or libraries, "
                f"by {known.place}",
                hint="one file is one extension with one state: write the same options over all of its stubs",
            )
        return known


def _import(entry: Entry, stub: FunctionType) -> ModuleType:
    """Imports it as any extension is imported, so that whoever watches imports sees it."""
    spec = spec_from_file_location(entry.module, entry.path, loader=ExtensionFileLoader(entry.module, entry.path))
    assert spec is not None
    assert spec.loader is not None
    theirs = sys.modules.get(entry.module)
    try:
        module = module_from_spec(spec)
    except ImportError as error:
        raise BuildError(
            f"{entry.source} was built and cannot be loaded: {error}",
            hint='a function of another library: name it, as libraries=["m"]',
        ) from None
    for made in (entry.module, f"{entry.module}.lib"):  # where cffi puts them, whatever was there
        sys.modules.pop(made, None)
    if theirs is not None:
        sys.modules[entry.module] = theirs
    package = stub.__module__.rpartition(".")[0] if stub.__module__ else ""
    name = wanted = f"{package}.{entry.module}".lstrip(".")
    number = 1
    while name in sys.modules:
        number += 1
        name = f"{wanted}_{number}"
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def _not_there(name: str, loaded: _Loaded, place: str) -> MarkError:
    entry = loaded.entry
    if name in entry.left_out:
        return MarkError(
            f"{place}: `{name}` in {entry.source} cannot be called from Python: {entry.left_out[name]}",
            hint="write one around it that takes numbers, pointers or whole structs, and mark that",
        )
    if name in entry.statics:
        return MarkError(
            f"{place}: `{name}` is static in {entry.source}: it is there for that file alone",
            hint="remove `static`, or mark a function that calls it",
        )
    nearest = get_close_matches(name, entry.functions, n=1, cutoff=0.5)
    hint = f"did you mean `{nearest[0]}`?" if nearest else f"it has {', '.join(sorted(entry.functions))}"
    try:
        with open(entry.source, "rb") as file:
            text = file.read()
    except OSError:
        text = b""
    if f"{name}(".encode() in text.replace(b" (", b"("):
        hint = "it has no code of its own: a macro, an `inline` without `extern`, or defined in another file"
        if hashlib.sha256(text).hexdigest() != entry.files.get(entry.source):
            hint = "the file was loaded before it had that function: start the process again"
    return MarkError(f"{place}: {entry.source} has no function `{name}`", hint=hint)


# Calling -----------------------------------------------------------------------------------------------------------


def _make(stub: FunctionType, ffi: Any, target: Any, kind: Any, known: dict[str, Any]) -> FunctionType:
    """A function with the stub's signature whose body is the call."""
    parameters = prototype.parameters_of(stub)
    scope: dict[str, Any] = {"_hot_call": target, "_hot_plain": plain_classes(ffi), "_hot_type": type}
    arguments = []
    for number, (parameter, c_type) in enumerate(zip(parameters, kind.args)):
        accept = acceptor(
            ffi, c_type, reads_only=known["reads_only"][number], where=f"{stub.__name__}(), {parameter.name}"
        )
        word = parameter.name
        if accept is None:
            arguments.append(word)
        else:
            scope[f"_hot_{number}"] = accept
            arguments.append(f"{word} if _hot_type({word}) in _hot_plain else _hot_{number}({word})")
    # In a function of its own, so that these names are cells of the new function and not globals of the stub's module.
    bare = inspect.Signature([parameter.replace(annotation=inspect.Parameter.empty, default=_DEFAULT)
                              if parameter.default is not inspect.Parameter.empty
                              else parameter.replace(annotation=inspect.Parameter.empty)
                              for parameter in parameters])  # fmt: skip
    text = (
        f"def _hot_make({', '.join(scope)}):\n"
        f"    def {stub.__name__}{bare}: return _hot_call({', '.join(arguments)})\n"
        f"    return {stub.__name__}\n"
    )
    namespace: dict[str, Any] = {}
    exec(compile(text, stub.__code__.co_filename, "exec"), stub.__globals__, namespace)  # noqa: S102 - made of names
    made: FunctionType = namespace["_hot_make"](**scope)
    made.__defaults__, made.__kwdefaults__ = stub.__defaults__, stub.__kwdefaults__
    first = stub.__code__.co_firstlineno
    made.__code__ = made.__code__.replace(co_firstlineno=first, co_name=stub.__name__)
    functools.update_wrapper(made, stub)
    del made.__wrapped__  # type: ignore[attr-defined]
    made.__annotations__ = dict(stub.__annotations__)
    return made


class _Default:
    """Stands for a default while the text is made; the true ones are the stub's."""

    def __repr__(self) -> str:
        return "None"


_DEFAULT = _Default()
