"""What types a stub's C file may use: read from debug information, said to cffi, called for real."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.mark.mark_kit import run

TYPES = """\
#include <stdint.h>
#include <stddef.h>
#include <string.h>
#include <time.h>
#include <wchar.h>

typedef struct node node;
struct node { node *next; const node *const *all; int (*cmp)(const node *, const node *); struct tree *t; int n; };
struct tree { node root; struct tree *left; union { int i; double d; } u; };
typedef struct { int a[3]; double m[2][2]; char name[16]; } fixed;
typedef struct __attribute__((packed)) { char c; int i; } packed;
struct flexible { int n; int data[]; };
typedef union { int i; float f; uint8_t b[4]; } word;
typedef struct { struct { int x, y; } at; word w; } nested;
typedef int row[4];
typedef float vector __attribute__((vector_size(16)));
typedef enum { ALPHA, BETA = 7 } greek;
typedef int (*handler)(int, const char *);
typedef struct type { int size; } type;

int use_tree(struct tree *t) { return t->root.n + t->u.i; }
double sum_fixed(fixed f) { return f.a[2] + f.m[1][0] + f.name[0]; }
int use_packed(packed *p) { return ((char *)p)[0]; }
packed by_packed(packed p) { return p; }
int use_flexible(struct flexible *f) { return f->n; }
word make_word(float f) { word w; w.f = f; return w; }
int by_nested(nested n) { return n.at.x * 10 + n.w.i; }
int use_rows(row *r) { return r[1][2]; }
vector use_vector(vector v) { return v; }
greek turn(greek g) { return g == BETA ? ALPHA : BETA; }
handler pick(handler a, handler b, int which) { return which ? a : b; }
int strings(char **argv, const char *const *more) { return argv[0][0] + more[0][1]; }
int use_type(type *t, struct type size) { return t->size + size.size; }
__int128 huge(__int128 x) { return x; }
long double twice(long double x) { return x * 2; }
wchar_t second(const wchar_t *w) { return w[1]; }
struct tm *when(const time_t *t, struct tm *out) { out->tm_year = 77; return out; }
int result(int x) { return x; }
int read(int fd) { return fd + 1000; }
__attribute__((visibility("hidden"))) int hidden(int x) { return x + 9; }
int old_style(a, b) int a; short b; { return a + b; }
int restricted(int *restrict a, const volatile int *restrict b) { return *a + *b; }
"""

PROGRAM = """
def stub(name, *words):
    scope = {"hotpatchable": hotpatchable, "__name__": "types"}
    exec(f"@hotpatchable(source='types.c')\\ndef {name}({', '.join(words)}): ...", scope)
    return scope[name]

use_tree = stub("use_tree", "t: 'struct tree *'")
ffi = use_tree.hotreload.ffi
tree = ffi.new("struct tree *", {"root": {"n": 30}, "u": {"i": 4}})
fixed = ffi.new("fixed *", {"a": [0, 0, 5], "m": [[0, 0], [2.5, 0]], "name": b"A"})
twice = ffi.callback("handler", lambda n, text: n * 2)
names = ffi.new("char[]", b"xy")
tell(
    tree=use_tree(tree),
    fixed=stub("sum_fixed", "f: 'fixed'")(fixed[0]),
    packed=stub("use_packed", "p: 'packed *'")(ffi.cast("packed *", names)),
    flexible=error_of(lambda: ffi.new("struct flexible *")),
    word=stub("make_word", "f: float")(1.0).i,
    nested=stub("by_nested", "n")({"at": {"x": 3}, "w": {"i": 4}}),
    rows=stub("use_rows", "r: 'row *'")(ffi.new("row[2]", [[1], [1, 2, 3, 4]])),
    greek=stub("turn", "g: 'greek'")(7),
    pick=stub("pick", "a", "b: 'handler'", "which: int")(twice, twice, 1)(21, b""),
    strings=stub("strings", "a: 'char **'", "b: 'const char *const *'")([names], [names]),
    type=stub("use_type", "t: 'type *'", "size: 'struct type'")(ffi.new("type *", {"size": 3}), {"size": 4}),
    long_double=float(stub("twice", "x: float")(1.5)),
    wide=stub("second", "w: 'wchar_t *'")("ab"),
    when=stub("when", "t: 'time_t *'", "out: 'struct tm *'")(ffi.new("time_t *"), ffi.new("struct tm *")).tm_year,
    read=stub("read", "fd: int")(1),
    hidden=stub("hidden", "x: int")(1),
    old_style=stub("old_style", "a: int", "b: int")(1, 2),
    restricted=stub("restricted", "a: 'int *'", "b: 'int *'")([1], [2]),
)
tell(left_out={name: error_of(lambda: stub(name, "x")) for name in ("by_packed", "use_vector", "huge", "result")})
"""


#: Where C as it is usually laid out and the object differ: each of these gave a wrong number, or broke its whole file.
ODD = """\
struct fields { int linux; int stdin; int errno; int assert; };
int sum_fields(struct fields f) { return f.linux + f.stdin * 10 + f.errno * 100 + f.assert * 1000; }
enum __attribute__((packed)) tiny { ONE = 1, MANY = 200 };
struct two { enum tiny a; char b; };
int by_tiny(struct two t) { return t.a * 1000 + t.b; }
enum tiny many(void) { return MANY; }
enum winds { n, o, s = 7 };
int blow(enum winds w) { return w; }
enum usual { A, B };
struct short_one { enum usual a; char b; };
int by_flag(struct short_one t) { return t.a * 10 + t.b; }
typedef unsigned short size_t;
struct small { size_t a; char b; };
int by_small(struct small t) { return t.a * 10 + t.b; }
struct aligned { long a, b, c, d; } __attribute__((aligned(32)));
long by_aligned(int q, int r, int s_, int t, int u, int v, int w, struct aligned g) { return g.a + g.d + w; }
int old_float(a, b) int a; float b; { return a + (int)(b * 10); }
int renamed(int a) __asm__("other_label");
int renamed(int a) { return a + 5; }
int nameless(struct { int q; } *x) { return x->q; }
int square(int m, double a[m][m]) { return (int)a[m - 1][m - 1]; }
int cube(int m, double a[m][m][m]) { return (int)a[0][0][0]; }
long double by_long_double(long double x) { return x; }
inline int inlined(int a) { return a + 1; }
#define macro(x) (x)
#include "part.inc"
"""
ODD_PROGRAM = """
flags = os.environ["FLAGS"].split()
def stub(name, *words):
    scope = {"hotpatchable": hotpatchable, "__name__": "odd", "flags": flags}
    exec(f"@hotpatchable(source='odd.c', flags=flags)\\ndef {name}({', '.join(words)}): ...", scope)
    return scope[name]

square = stub("square", "m", "a")
ffi = square.hotreload.ffi
tell(
    fields=stub("sum_fields", "f")((1, 2, 3, 4)),
    tiny=[stub("by_tiny", "t")((200, b"\\2")), stub("many")()],
    winds=stub("blow", "w: int")(7),
    flag=stub("by_flag", "t")((1, b"\\5")),
    small=stub("by_small", "t")((1, b"\\5")),
    renamed=[stub("renamed", "a: int")(1), stub("renamed", "a: int").hotreload.symbols],
    square=square(2, ffi.cast("double(*)[]", ffi.new("double[4]", [1, 2, 3, 4]))),
    part=error_of(lambda: stub("part", "x: float")),
)
tell(left_out={name: error_of(lambda: stub(name, *words)) for name, *words in (
    ("by_aligned", *"qrstuvwg"), ("old_float", "a", "b"), ("nameless", "x"), ("cube", "m", "a"), ("inlined", "a"),
    ("macro", "x"), ("by_long_double", "x"))})
"""


@pytest.mark.parametrize(
    ("compiler", "flags"),
    [("gcc", "-std=c99"), ("gcc", "-std=c99 -fshort-enums -mlong-double-64"), ("clang", "-std=c99")],
)
def test_what_is_laid_out_otherwise_is_right_or_refused(tmp_path: Path, compiler: str, flags: str) -> None:
    import shutil

    if shutil.which(compiler) is None:
        pytest.skip(f"{compiler} is not installed")
    (tmp_path / "odd.c").write_text(ODD)
    (tmp_path / "part.inc").write_text("\n\nint part(int x) { return x; }\n")

    told: dict[str, Any] = run(tmp_path, ODD_PROGRAM, CC=compiler, FLAGS=f"{flags} -w")

    left_out = told["left_out"]
    assert (told["fields"], told["tiny"], told["winds"]) == (4321, [200002, 200], 7)
    assert (told["flag"], told["small"], told["square"]) == (15, 15, 4)
    assert told["renamed"] == [6, ["other_label"]]
    assert f"{tmp_path}/part.inc:3: int part(int x)" in told["part"]
    assert "parameter 8: `struct aligned` by value, whose layout cannot be told" in left_out["by_aligned"]
    assert "in the old style with a `float`, which callers pass as a `double`" in left_out["old_float"]
    assert "parameter 1: a struct, union or enum without a name" in left_out["nameless"]
    assert "incomplete element type" in left_out["cube"]
    assert all(
        "a macro, an `inline` without `extern`, or defined in" in left_out[name] for name in ("inlined", "macro")
    )
    is_short = "long-double-64" in flags
    assert ("the type `long double` of 8 bytes" if is_short else "nothing was raised") in left_out["by_long_double"]


@pytest.mark.parametrize("compiler", ["gcc", "clang"])
def test_types_of_all_kinds_are_said_to_cffi(tmp_path: Path, compiler: str) -> None:
    import shutil

    if shutil.which(compiler) is None:
        pytest.skip(f"{compiler} is not installed")
    (tmp_path / "types.c").write_text(TYPES)

    told: dict[str, Any] = run(tmp_path, PROGRAM, CC=compiler)

    left_out = told.pop("left_out")
    assert "unknown size" in told.pop("flexible")
    told.pop("stderr")
    assert told == {
        "tree": 34, "fixed": 5 + 2.5 + 65, "packed": ord("x"), "word": 0x3F800000, "nested": 34, "rows": 3, "greek": 0,
        "pick": 42, "strings": ord("x") + ord("y"), "type": 7, "long_double": 3.0, "wide": "b", "when": 77,
        "read": 1001, "hidden": 10, "old_style": 3, "restricted": 3,
    }  # fmt: skip
    assert "its result: `packed` by value, whose layout cannot be told" in left_out["by_packed"]
    assert "its result: a vector type of the compiler" in left_out["use_vector"]
    assert "its result: the type `__int128`" in left_out["huge"]
    assert "the name `result` has another meaning in what calls it" in left_out["result"]
