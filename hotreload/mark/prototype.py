"""Whether a typed stub and the C function agree; both are shown where they do not.

::

    annotation          C type
    "uint8_t *"         that very type, typedefs resolved; const does not count
    int                 any integer, or an enum           float   float, double, long double
    bool                _Bool or an integer               None    void, as a result
    bytes               pointer to char-like or void that the function only reads
    bytearray, memoryview   pointer to char-like or void
    none, or typing.Any     whatever it is
"""

from __future__ import annotations

import inspect
from types import FunctionType
from typing import Any

from hotreload.errors import MarkError

__all__ = ["check", "parameters_of"]

_ALL_TEXTS = annotations.compiler_flag
#: What C calls one type and cffi by several names.
_SAME = {
    **{f"int{kind}{bits}_t": name for kind in ("", "_least") for bits, name in
       ((8, "signed char"), (16, "short"), (32, "int"), (64, "long"))},
    **{f"uint{kind}{bits}_t": name for kind in ("", "_least") for bits, name in
       ((8, "unsigned char"), (16, "unsigned short"), (32, "unsigned int"), (64, "unsigned long"))},
    "int_fast8_t": "signed char", "uint_fast8_t": "unsigned char",
    **dict.fromkeys(("int_fast16_t", "int_fast32_t", "int_fast64_t"), "long"),
    **dict.fromkeys(("uint_fast16_t", "uint_fast32_t", "uint_fast64_t"), "unsigned long"),
    **dict.fromkeys(("intptr_t", "ptrdiff_t", "ssize_t", "intmax_t"), "long"),
    **dict.fromkeys(("uintptr_t", "size_t", "uintmax_t"), "unsigned long"),
}  # fmt: skip
_FLOATS = {"float", "double", "long double"}
_WIDE = {"char", "wchar_t", "char16_t", "char32_t"}
_BUFFERS = (bytes, bytearray, memoryview)
_CHAR_LIKE = {"char", "signed char", "unsigned char"}


def parameters_of(stub: FunctionType) -> list[inspect.Parameter]:
    """The parameters of a stub.

    Raises:
        MarkError: it takes any number of arguments, which no C function does that can be bound.
    """
    found = list(inspect.signature(stub).parameters.values())
    for parameter in found:
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            raise MarkError(
                f"{_place(stub)}: {stub.__name__} takes {parameter}, and a C function takes what its prototype says",
                hint="write its parameters one by one",
            )
    return found


def check(stub: FunctionType, ffi: Any, function: Any, known: dict[str, Any]) -> None:
    """Insists that they agree.

    Raises:
        MarkError: in number, kind or result they do not; the message has both, with files and lines.
    """
    parameters = parameters_of(stub)
    if len(parameters) != len(function.args):
        raise _disagree(stub, known, f"the stub has {_count(len(parameters))}, the C function has {len(function.args)}")
    for number, (parameter, kind) in enumerate(zip(parameters, function.args)):
        why = _mismatch(_value(stub, parameter.annotation), ffi, kind, is_read=known["reads_only"][number])
        if why:
            raise _disagree(stub, known, f"parameter {number + 1}, {parameter.name}: {why}")
    returns = inspect.signature(stub).return_annotation
    why = _mismatch(_value(stub, returns), ffi, function.result, is_result=True)
    if why:
        raise _disagree(stub, known, f"the result: {why}")


def _value(stub: FunctionType, annotation: Any) -> Any:
    """What an annotation means: a text is a C type, unless the module's annotations are all kept as texts."""
    if annotation is inspect.Parameter.empty or annotation is Any:
        return Any
    if isinstance(annotation, str) and stub.__code__.co_flags & _ALL_TEXTS:
        try:
            annotation = eval(annotation, stub.__globals__)  # noqa: S307 - it is the program's own annotation
        except Exception as error:  # noqa: BLE001 - whatever it raises, it says nothing about C
            raise MarkError(
                f"{_place(stub)}: the annotation {annotation} of {stub.__name__} means nothing: {error}",
                hint='a C type is a text: "uint8_t *"',
            ) from None
    if hasattr(annotation, "__metadata__"):  # Annotated[bytes, "uint8_t *"]: one word for a type checker, one for C
        texts = [word for word in annotation.__metadata__ if isinstance(word, str)]
        return texts[0] if texts else annotation.__origin__
    return Any if annotation is Any else annotation


def _mismatch(meant: Any, ffi: Any, kind: Any, *, is_read: bool = False, is_result: bool = False) -> str:
    """What is wrong about a C type where an annotation says something else; empty if nothing is."""
    if meant is Any:
        return ""
    if isinstance(meant, str):
        return _mismatch_of_types(meant, ffi, kind)
    text = f"{_word(meant)} is no `{kind.cname}`"
    if meant in (None, type(None)):
        return "" if kind.kind == "void" and is_result else text
    if meant is int:
        is_integer = kind.kind == "enum" or (kind.kind == "primitive" and kind.cname not in (*_FLOATS, *_WIDE, "_Bool"))
        return "" if is_integer else text
    if meant is bool:
        return "" if kind.kind == "primitive" and kind.cname not in (*_FLOATS, *_WIDE) else text
    if meant is float:
        return "" if kind.kind == "primitive" and kind.cname in _FLOATS else text
    if meant in _BUFFERS and not is_result:
        item = kind.item if kind.kind == "pointer" else None
        if item is None or not (item.kind == "void" or _plain(item.cname) in _CHAR_LIKE):
            return text
        if meant is bytes and not is_read:
            return f"bytes cannot be written to, and the C function may write through its `{kind.cname}`"
        return ""
    words = "a C type as a text, int, float, bool, None" + ("" if is_result else ", bytes, bytearray or memoryview")
    return f"{_word(meant)} says nothing about C: write {words}"


def _mismatch_of_types(text: str, ffi: Any, kind: Any) -> str:
    try:
        meant = ffi.typeof(" ".join(word for word in text.split() if word not in ("const", "volatile", "restrict")))
    except Exception as error:  # noqa: BLE001 - cffi has several kinds for a text that is no type
        told = str(error).partition("\n")[0]
        return f'"{text}" is no type that the C file uses ({told}); it is `{kind.cname}`'
    if _canonical(meant) != _canonical(kind):
        return f'"{text}" is not `{kind.cname}`'
    return ""


def _canonical(kind: Any) -> Any:
    """A type as a tuple that is equal for what C takes for one type."""
    if kind.kind == "primitive":
        return _plain(kind.cname)
    if kind.kind in ("pointer", "array"):
        return ("*", _canonical(kind.item))  # an array that is passed is a pointer
    if kind.kind == "function":
        return ("()", _canonical(kind.result), tuple(map(_canonical, kind.args)))
    return kind.cname


def _plain(name: str) -> str:
    return _SAME.get(name, name)


def _word(meant: Any) -> str:
    return "None" if meant in (None, type(None)) else getattr(meant, "__name__", repr(meant))


def _count(number: int) -> str:
    return f"{number} parameter{'' if number == 1 else 's'}"


def _place(stub: FunctionType) -> str:
    return f"{stub.__code__.co_filename}:{stub.__code__.co_firstlineno}"


def _disagree(stub: FunctionType, known: dict[str, Any], why: str) -> MarkError:
    annotations = str(inspect.signature(stub)).replace("'", "")
    return MarkError(
        f"{stub.__name__}: {why}\n"
        f"  {_place(stub)}: def {stub.__name__}{annotations}\n"
        f"  {known['file']}:{known['line']}: {known['prototype']}",
        hint="change the one or the other",
        file=known["file"],
        line=known["line"],
    )
