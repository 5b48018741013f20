"""What can be asked about a marked function: ``blur.hotreload``, or ``hotreload.about(score)``."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from hotreload.mark import book
from hotreload.mark.callbacks import Mark
from hotreload.mark.symbols import symbol_of

__all__ = ["Handle", "Moment", "Source"]

#: What the eight bytes at an entry are that can be redirected: untouched, marked in C, redirected, through a slot.
_PROLOGUES = (bytes.fromhex("0f1f840000000000"), bytes.fromhex("488da42400000000"))
_NOT_HOT = "{} was built without hotreload: build it with `hotreload build`"
_JUMP, _SLOT, _NEVER_RUN = b"\xe9", b"\xff\x25", b"\xcc"


@dataclass(frozen=True)
class Moment:
    """One generation that concerned the function: its number, when it became live first, and what it was.

    ``at`` is in seconds since 1970, 0 for what was loaded; ``is_live`` is true of the last one, if nothing followed.
    """

    number: int
    at: float
    what: str
    is_live: bool


@dataclass(frozen=True)
class Source:
    """Where a function is. ``text`` is that of the file from the function's line on, as it is live; None where the
    file does not say what is live any more, or never did."""

    file: str
    line: int
    text: str | None = None


class Handle:
    """One marked function, or all functions of a marked type or module. Asking changes nothing."""

    def __init__(self, mark: Mark) -> None:
        self._mark = mark

    def __repr__(self) -> str:
        return f"<hotpatchable {self.name}, generation {self.generation}>"

    @property
    def mark(self) -> Mark:
        """What was written down."""
        return self._mark

    @property
    def name(self) -> str:
        """How Python calls it."""
        return self._mark.name

    @property
    def kind(self) -> str:
        """``stub``, ``extension`` or ``python``."""
        return self._mark.kind

    @property
    def group(self) -> str:
        """The group that it moves with; empty where it is in none."""
        return self._mark.group

    @property
    def path(self) -> str:
        """The library or the ``.py`` file that it is in."""
        return self._mark.path

    @property
    def symbols(self) -> tuple[str, ...]:
        """The C functions behind it, where the library's symbol table names them."""
        return tuple(filter(None, (symbol_of(entry) for entry in self._mark.entries)))

    @property
    def ffi(self) -> Any:
        """Of a stub: cffi's ``ffi`` with the types of the C file, for ``ffi.new("image *")``.

        Raises:
            AttributeError: it is no stub.
        """
        if "ffi" not in self._mark.more:
            raise AttributeError(f"{self.name} is no stub over a C file: there is no ffi for it")
        return self._mark.more["ffi"]

    # What is live --------------------------------------------------------------------------------------------------

    @property
    def generation(self) -> int:
        """The generation whose definition is live; 0 for the one that was loaded."""
        module = self._module()
        if module is None:
            return 0
        live = book.manager().history(module)[module.generation]
        return int(live.number) if self._is_in(live) else 0

    @property
    def history(self) -> tuple[Moment, ...]:
        """Every generation that concerned it, the one that was loaded first."""
        module = self._module()
        number = module.generation if module is not None else 0
        told: list[tuple[int, float, str]] = [(0, 0.0, "as it was loaded")]
        was_in = False
        for made in book.manager().history(module) if module is not None else ():
            is_in = made.number > 0 and self._is_in(made)
            if is_in or was_in:
                what = "another definition" if is_in else "the definition that was loaded, again"
                told.append((made.number, made.committed_at, what))
            was_in = is_in
        live = max((entry[0] for entry in told if entry[0] <= number), default=0)
        if self.generation == 0 and not any(n == live and "again" in what for n, _, what in told):
            live = 0
        return tuple(Moment(n, at, what, n == live) for n, at, what in told)

    def _module(self) -> Any:
        manager = book.manager()
        if manager is None:
            return None
        path = os.path.realpath(self._mark.path)
        return next((module for module in manager.modules() if module.path == path), None)

    def _is_in(self, made: Any) -> bool:
        if self.kind == "python":
            own = (name for name in made.functions if self._mark.is_own(name))
            return next(own, None) is not None
        if self._mark.is_whole:
            return bool(made.functions)
        return any(redirect.entry in self._mark.entries for redirect in made.redirects)

    # Where it is, and whether it can be changed --------------------------------------------------------------------

    @property
    def source(self) -> Source:
        """Where its definition is: of C, as it was built; of Python, where it is now.

        For a C function of an extension a process beside this one is asked, which reads debug information; that takes
        a moment.
        """
        if self.kind == "python":
            return self._python_source()
        file, line, sha256 = self._mark.more.get("place") or _ask_place(self._mark)
        text = _text_from(file, line, sha256) if self.generation == 0 and sha256 else None
        return Source(file, line, text)

    def _python_source(self) -> Source:
        function = self._mark.more.get("function")
        code = getattr(function, "__code__", None)
        line = code.co_firstlineno if code is not None else 0
        text = None
        if code is not None:
            import inspect
            import linecache

            linecache.checkcache(self._mark.path)
            try:
                lines = inspect.getblock(linecache.getlines(self._mark.path)[line - 1 :])
            except (IndexError, SyntaxError):
                lines = []
            if _has_code("".join(lines), code):
                text = "".join(lines)
        return Source(self._mark.path, line, text)

    @property
    def is_patchable(self) -> bool:
        """Whether a change of it could go live in this process."""
        return not self.reason

    @property
    def reason(self) -> str:
        """Why not, and what to do; empty where it can."""
        if self.kind == "python":
            return ""
        return next(filter(None, self._reasons()), "")

    def _reasons(self) -> Iterator[str]:
        from hotreload._state import locate

        if self._mark.is_whole and not self._mark.entries:  # as of Cython, whose functions have no address to ask for
            from hotreload.live.arrivals import is_hot

            if not is_hot(self._mark.path):
                yield _NOT_HOT.format(os.path.basename(self._mark.path))
        for entry in self._mark.entries:
            path, _, _, _, head = locate(entry)
            if not path:
                yield "its code is in no library that was loaded from a file"
                continue
            symbol = symbol_of(entry)
            if "pybind11" in symbol and "dispatcher" in symbol:
                yield "every function of pybind11 is called through one that all share: mark the whole module"
            if not _can_be_redirected(head):
                yield _NOT_HOT.format(os.path.basename(path))


def _can_be_redirected(head: bytes) -> bool:
    """Whether a function begins so that it can be, or is already: see ARCHITECTURE.md for the bytes."""
    is_jump = head[:1] == _JUMP and head[5:] == 3 * _NEVER_RUN
    is_slot = head[:2] == _SLOT and head[6:] == 2 * _NEVER_RUN
    return head in _PROLOGUES or is_jump or is_slot


def _ask_place(mark: Mark) -> tuple[str, int, str]:
    """File, line and the hash of the text that the first of its C functions was built from."""
    import json

    from hotreload.mark.beside import ask

    for entry in mark.entries:
        done = ask({"locate": os.path.realpath(mark.path), "symbol": symbol_of(entry)})
        if done.returncode == 0:
            file, line, sha256 = json.loads(done.stdout)
            mark.more["place"] = (file, line, sha256)
            return file, line, sha256
        break
    return "", 0, ""


def _text_from(file: str, line: int, sha256: str) -> str | None:
    """The function's text up to the line that closes it, if the file is the one that was built."""
    import hashlib

    try:
        with open(file, "rb") as source:
            content = source.read()
    except OSError:
        return None
    if hashlib.sha256(content).hexdigest() != sha256:
        return None
    lines = content.decode("utf-8", "replace").splitlines(keepends=True)[line - 1 :]
    for number, text in enumerate(lines):
        if text.startswith("}") or (number == 0 and text.rstrip().endswith("}")):
            return "".join(lines[: number + 1])
    return None


def _has_code(text: str, code: Any) -> bool:
    """Whether a text compiles to that code: then it is what is live."""
    import textwrap

    try:
        queue = [compile(textwrap.dedent(text), code.co_filename, "exec", dont_inherit=True)]
    except (SyntaxError, ValueError):
        return False
    for outer in queue:
        inner = [const for const in outer.co_consts if hasattr(const, "co_code")]
        if any(_is_same(code, made) for made in inner):
            return True
        queue += inner
    return False


def _is_same(a: Any, b: Any) -> bool:
    """Whether two code objects, or constants, do the same; lines may differ."""
    if not hasattr(a, "co_code") or not hasattr(b, "co_code"):
        return type(a) is type(b) and bool(a == b)
    if (a.co_name, a.co_code, a.co_names, a.co_varnames) != (b.co_name, b.co_code, b.co_names, b.co_varnames):
        return False
    return len(a.co_consts) == len(b.co_consts) and all(map(_is_same, a.co_consts, b.co_consts))
