"""Form 1: a typed stub over a C function, in one program that tells what it saw."""

from __future__ import annotations

from typing import Any

import pytest

from tests.mark.mark_kit import run, write_kernels

PROGRAM = '''
import array, inspect, pickle

@hotpatchable(source="kernels.c")
def blur(px: "uint8_t *", w: int, h: int, r: float = 0.5) -> None:
    """Blurs a little."""

@hotpatchable(source="kernels.c")
def value(n: int) -> int: ...

@hotpatchable(source="kernels.c")
def count() -> "long": ...

@hotpatchable(source="kernels.c")
def total(v: "const double *", n: "size_t") -> float: ...

@hotpatchable(source="kernels.c")
def length(text: bytes) -> int: ...

@hotpatchable(source="kernels.c")
def widen(im: "image *", by: "enum colour") -> "struct image *": ...

@hotpatchable(source="kernels.c")
def mirror(p: "point") -> "point": ...

@hotpatchable(source="kernels.c")
def apply(f: "int (*)(int, void *)", n: int, data: "void *"): ...

@hotpatchable(source="kernels.c")
def flip(b: bool) -> bool: ...

@hotpatchable(source="kernels.c")
def nothing(): ...

ffi = blur.hotreload.ffi
px = bytearray([100, 200])
blur(px, 2, h=1)
tell(px=list(px), count=count())
image = ffi.new("image *", {"w": 3})
callback = ffi.callback("int(int, void *)", lambda n, data: n * 7)
tell(
    total=[total(array.array("d", [1, 2]), 2), total([1.5, 2.5], 2), total(memoryview(array.array("d", [4])), 1),
           total(memoryview(bytearray(array.array("d", [5]))), 1), total(array.array("d", [6]).tobytes(), 1)],
    length=length(b"hallo"),
    widen=[widen(image, 4).w, widen(image, ffi.typeof("enum colour").relements["RED"]).w],
    mirror=[mirror((1, 2)).x, mirror({"x": 5}).y],
    apply=apply(callback, 6, ffi.NULL),
    flip=[flip(True), flip(0)],
    nothing=nothing(),
    value=value(41),
)
tell(
    signature=str(inspect.signature(blur)),
    doc=blur.__doc__,
    name=[blur.__name__, blur.__qualname__, blur.__module__],
    annotations=blur.__annotations__,
    is_function=inspect.isfunction(blur),
    pickled=pickle.loads(pickle.dumps(blur)) is blur,
    line=blur.__code__.co_firstlineno,
)
source = blur.hotreload.source
tell(
    handle=repr(blur.hotreload), about=about(blur).name, kind=blur.hotreload.kind, generation=blur.hotreload.generation,
    history=[[m.number, m.is_live] for m in blur.hotreload.history], source=[source.file, source.line, source.text],
    patchable=blur.hotreload.is_patchable, symbols=blur.hotreload.symbols,
)
strided = memoryview(bytearray(8))[::2]
tell(
    read_only=error_of(lambda: blur(b"abc", 3, 1)),
    byte_items=error_of(lambda: total(array.array("B", bytes(8)), 1)),
    other_items=error_of(lambda: total(array.array("f", [1]), 1)),
    unsigned_items=error_of(lambda: blur(array.array("i", [1]), 1, 1)),
    strided=error_of(lambda: blur(strided, 1, 1)),
    no_number=error_of(lambda: blur(px, "x", 1)),
    too_big=error_of(lambda: blur(px, 1 << 40, 1)),
    none=error_of(lambda: blur(None, 1, 1)),
    missing=error_of(lambda: blur(px)),
    unknown=error_of(lambda: blur(px, 1, 1, radius=2)),
    no_ffi=error_of(lambda: about(blur).nothing),
)
tell(heavy=sorted(name for name in sys.modules if name in
     ("cffi", "hotreload.build", "hotreload.elf", "hotreload.diff", "hotreload.live", "argparse")))
tell(modules=sorted(name for name in sys.modules if "kernels" in name))

def bad(name, text):
    tell(**{name: error_of(lambda: exec(text, {"hotpatchable": hotpatchable, "__name__": "bad"}))})

stub = "@hotpatchable(source='kernels.c')\\ndef "
bad("bad_type", stub + "blur(px: 'int8_t *', w: int, h: int, r: float): ...")
bad("bad_word", stub + "blur(px: 'pixel *', w: int, h: int, r: float): ...")
bad("bad_number", stub + "blur(px, w: int, h: int): ...")
bad("bad_kind", stub + "blur(px, w: int, h: int, r: int): ...")
bad("bad_result", stub + "value(n: int) -> float: ...")
bad("bad_void", stub + "value(n: int) -> None: ...")
bad("bad_bytes", stub + "blur(px: bytes, w: int, h: int, r: float): ...")
bad("bad_annotation", stub + "value(n: list): ...")
bad("no_function", stub + "valuu(n): ...")
bad("static", stub + "clamp(v): ...")
bad("variadic", stub + "variadic(n): ...")
bad("bit_fields", stub + "by_bits(b): ...")
bad("complex", stub + "complicated(z): ...")
bad("any_number", stub + "value(*n): ...")
bad("coroutine", "@hotpatchable(source='kernels.c')\\nasync def value(n): ...")
bad("on_a_class", "@hotpatchable(source='kernels.c')\\nclass A: ...")
bad("no_file", "@hotpatchable(source='kernel.c')\\ndef value(n): ...")
bad("no_c", "@hotpatchable(source='kernels.cpp')\\ndef value(n): ...")
bad("other_flags", "@hotpatchable(source='kernels.c', flags='-O3')\\ndef value(n): ...")
bad("flags_alone", "hotpatchable(flags='-O3')")
bad("text_alone", "hotpatchable('kernels.c')")
bad("group", "hotpatchable(source='kernels.c', group=3)")
bad("callback", "hotpatchable(source='kernels.c', before_swap=3)")
bad("unmarked", "import hotreload; hotreload.about(print)")
with open("kernels.c", "a") as file:
    file.write("int later(int n) { return n; }\\n")
bad("later", stub + "later(n): ...")
'''


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    directory = tmp_path_factory.mktemp("stubs")
    write_kernels(directory)
    return {**run(directory, PROGRAM), "directory": directory}


def test_buffers_numbers_structs_and_callbacks_reach_the_c_function(told: dict[str, Any]) -> None:
    assert told["px"] == [50, 100]
    assert told["total"] == [3.0, 4.0, 4.0, 5.0, 6.0]
    assert told["length"] == 5
    assert told["widen"] == [7, 6]
    assert told["mirror"] == [2.0, 5.0]
    assert told["apply"] == 42
    assert told["flip"] == [False, True]
    assert told["nothing"] is None
    assert told["value"] == 42


def test_state_is_shared_by_all_stubs_of_a_file(told: dict[str, Any]) -> None:
    assert told["count"] == 1


def test_the_stub_stays_what_it_was_written_as(told: dict[str, Any]) -> None:
    assert told["signature"] == "(px: 'uint8_t *', w: int, h: int, r: float = 0.5) -> None"
    assert told["doc"] == "Blurs a little."
    assert told["name"] == ["blur", "blur", "__main__"]
    assert told["annotations"]["px"] == "uint8_t *"
    assert told["is_function"]
    assert told["pickled"]
    assert "@hotpatchable" in (told["directory"] / "program.py").read_text().splitlines()[told["line"] - 1]


def test_the_handle_says_where_it_is_and_what_is_live(told: dict[str, Any]) -> None:
    assert told["handle"] == "<hotpatchable __main__.blur, generation 0>"
    assert told["about"] == "__main__.blur"
    assert told["kind"] == "stub"
    assert told["generation"] == 0
    assert told["history"] == [[0, True]]
    file, line, text = told["source"]
    assert (file, line) == (str(told["directory"] / "kernels.c"), 15)
    assert text.startswith("void blur(")
    assert text.endswith("}\n")
    assert told["patchable"]
    assert told["symbols"] == ["blur"]


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("read_only", "TypeError: blur(), px: bytes is read-only, and `uint8_t *` may be written through"),
        ("other_items", "of format 'f' (4 bytes), those of `double *` are floats of 8"),
        ("byte_items", "of format 'B' (1 bytes), those of `double *` are floats of 8"),
        ("unsigned_items", "of format 'i' (4 bytes), those of `uint8_t *` are unsigned integers of 1"),
        ("strided", "memoryview is not in one piece"),
        ("no_number", "TypeError: an integer is required"),
        ("too_big", "OverflowError: "),
        ("none", "must be a cdata pointer, not NoneType"),
        ("missing", "blur() missing 2 required positional arguments: 'w' and 'h'"),
        ("unknown", "unexpected keyword argument 'radius'"),
        ("no_ffi", "AttributeError: "),
    ],
)
def test_a_wrong_argument_is_refused_in_words(told: dict[str, Any], what: str, message: str) -> None:
    assert message in told[what]


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("bad_type", '1, px: "int8_t *" is not `uint8_t *`'),
        ("bad_word", 'px: "pixel *" is no type that the C file uses'),
        ("bad_number", "the stub has 3 parameters, the C function has 4"),
        ("bad_kind", "parameter 4, r: int is no `float`"),
        ("bad_result", "the result: float is no `long`"),
        ("bad_void", "the result: None is no `long`"),
        ("bad_bytes", "bytes cannot be written to, and the C function may write"),
        ("bad_annotation", "list says nothing about C"),
    ],
)
def test_a_stub_that_disagrees_is_refused_with_both_prototypes(told: dict[str, Any], what: str, message: str) -> None:
    text = told[what]
    assert text.startswith("MarkError: ")
    assert message in text
    assert "<string>:1: def " in text
    assert f"{told['directory']}/kernels.c:" in text
    assert "void blur(uint8_t *px, int w, int h, float r)" in text or "long int value(long int n)" in text


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("no_function", "kernels.c has no function `valuu` (did you mean `value`?)"),
        ("static", "`clamp` is static in"),
        ("variadic", "`variadic` in {}/kernels.c cannot be called from Python: it takes any number of arguments"),
        ("bit_fields", "parameter 1: `struct bits` by value, whose layout cannot be told"),
        ("complex", "its result: the type `complex double`"),
        ("any_number", "value takes *n, and a C function takes what its prototype says"),
        ("coroutine", "value is a coroutine or a generator, and a C function simply returns"),
        ("on_a_class", "source= is for a stub, a Python function without a body"),
        ("no_file", "there is no {}/kernel.c (did you mean 'kernels.c'?)"),
        ("no_c", "source='kernels.cpp' is no C file"),
        ("other_flags", "is loaded already with other flags, include_dirs or libraries, by"),
        ("flags_alone", "flags, include_dirs and libraries are for a C file (name it by source=)"),
        ("text_alone", "a file is named by source= (source='kernels.c')"),
        ("group", "group=3: a group has a name"),
        ("callback", "before_swap=3 cannot be called"),
        ("unmarked", "print is not marked (mark it with hotreload.hotpatchable first)"),
        ("later", "the file was loaded before it had that function: start the process again"),
    ],
)
def test_misuse_is_refused_in_words(told: dict[str, Any], what: str, message: str) -> None:
    assert told[what].startswith("MarkError: ")
    assert message.format(told["directory"]) in told[what]


def test_nothing_that_compiles_and_no_core_is_loaded(told: dict[str, Any]) -> None:
    assert told["heavy"] == []
    assert told["modules"] == ["kernels_c"]
