"""Arguments go through stubs and through the relay as the caller gave them, whatever their class."""

from __future__ import annotations

import ctypes
import re
from pathlib import Path

import pytest
import tiny
from kit import Pair, Threads, make_pair

from hotreload.live import _core

CPU = set(re.findall(r"\bavx\w*", Path("/proc/cpuinfo").read_text()))

TYPES = """
#include <complex.h>
#include <stdarg.h>
#include <string.h>
struct two { long a, b; };
struct mixed { double d; long n; };
struct floats { float a, b, c; };
struct big { long a[5]; };
typedef double v4 __attribute__((vector_size(32)));
typedef double v8 __attribute__((vector_size(64)));
"""

#: The same in both generations: only the way leads through a stub.
BODIES = """
HOOK long integers(long a, long b, long c, long d, long e, long f, long g, long h, long i, long j, long k, long l,
                   long m, long n) {
    return a + 2*b + 3*c + 5*d + 7*e + 11*f + 13*g + 17*h + 19*i + 23*j + 29*k + 31*l + 37*m + 41*n;
}
HOOK double doubles(double a, double b, double c, double d, double e, double f, double g, double h, double i, double j,
                    double k, double l, double m, double n) {
    return a + 2*b + 3*c + 5*d + 7*e + 11*f + 13*g + 17*h + 19*i + 23*j + 29*k + 31*l + 37*m + 41*n;
}
HOOK double both(int a, double b, char c, float d, short e, double f, long g, double h, unsigned i, float j, long k,
                 double l, long m, double n) {
    return a + 2*b + 3*c + 5*d + 7*e + 11*f + 13*g + 17*h + 19*i + 23*j + 29*k + 31*l + 37*m + 41*n;
}
HOOK double variable(int count, ...) {
    va_list list;
    double sum = 0;
    va_start(list, count);
    for (int i = 0; i < count; i++)
        sum += i % 2 ? va_arg(list, double) : (double)va_arg(list, long);
    va_end(list);
    return sum;
}
HOOK struct two swap(struct two s) { return (struct two){s.b, s.a}; }
HOOK struct mixed turn(struct mixed s, struct floats f) { return (struct mixed){(double)s.n + f.a + f.b, (long)(s.d + f.c)}; }
HOOK struct big grow(struct big s, long by) { for (int i = 0; i < 5; i++) s.a[i] += by; return s; }
HOOK long double extend(long double a, int b, long double c) { return a * b + c; }
HOOK double complex rotate(double complex z, float complex w) { return z * I + w; }
HOOK long double complex wide(long double complex z) { return z * I; }
HOOK __int128 twice(__int128 a, __int128 b) { return 2 * a + b; }
HOOK long red_zone(long a) { volatile char room[100]; memset((char *)room, (char)a, 100); return room[3] + room[99]; }
#ifdef __AVX2__
HOOK v4 add4(v4 a, v4 b, double c) { return a + b * c; }
#endif
#ifdef __AVX512F__
HOOK v8 add8(v8 a, v8 b, double c) { return a + b * c; }
#endif
"""

CALLER = """
#define CHECK(what) wrong |= !(what)
long check(void) {
    static __thread long round;
    long r = ++round, wrong = 0;
    double d = (double)(r % 100000);
    CHECK(integers(r,1,2,3,4,5,6,7,8,9,10,11,12,r) == r+2+6+15+28+55+78+119+152+207+290+341+444+41*r);
    CHECK(doubles(d,1,2,3,4,5,6,7,8,9,10,11,12,d) == d+2+6+15+28+55+78+119+152+207+290+341+444+41*d);
    CHECK(both(1,d,2,3,4,5,6,7,8,9,10,11,12,d) == 1+2*d+6+15+28+55+78+119+152+207+290+341+444+41*d);
    CHECK(variable(0) == 0);
    CHECK(variable(12, 1L, d, 2L, 0.5, 3L, 0.25, 4L, d, 5L, d, 6L, d) == 21 + 0.75 + 4*d);
    struct two t = swap((struct two){r, -r});
    CHECK(t.a == -r && t.b == r);
    struct mixed m = turn((struct mixed){d, r}, (struct floats){1, 2, 3});
    CHECK(m.d == (double)r + 3 && m.n == (long)d + 3);
    struct big b = grow((struct big){{r, 2, 3, 4, 5}}, 10);
    CHECK(b.a[0] == r + 10 && b.a[4] == 15);
    CHECK(extend(d, 3, 0.5L) == (long double)d * 3 + 0.5L);
    CHECK(rotate(d + 2*I, 1 + 1*I) == -1 + (d + 1)*I);
    CHECK(wide(d + 2*I) == -2 + d*I);
    CHECK(twice((__int128)r << 70, 5) == ((__int128)r << 71) + 5);
    CHECK(red_zone(7) == 14);
#ifdef __AVX2__
    v4 x = add4((v4){1, 2, 3, d}, (v4){1, 1, 1, 1}, 2);
    CHECK(x[0] == 3 && x[3] == d + 2);
#endif
#ifdef __AVX512F__
    v8 y = add8((v8){1, 2, 3, 4, 5, 6, 7, d}, (v8){1, 1, 1, 1, 1, 1, 1, 1}, 2);
    CHECK(y[0] == 3 && y[6] == 9 && y[7] == d + 2);
#endif
    return wrong ? 99 : 1;
}
"""

NAMES = (
    "integers", "doubles", "both", "variable", "swap", "turn", "grow", "extend", "rotate", "wide", "twice", "red_zone",
)  # fmt: skip


def shuttle(pair: Pair, workers: ctypes.CDLL, function: str, transitions: int) -> Threads:
    with Threads(workers, pair.base.address(function), 4) as threads:
        for i in range(transitions):
            transition = pair.begin()
            if i % 5 == 0:
                pair.core.reverse(transition)
            pair.settle(transition)
            pair.end(transition, is_reversed=i % 5 == 0)
    return threads


@pytest.mark.parametrize("feature", ["", "avx2", "avx512f"])
def test_arguments_of_all_classes_arrive(workers: ctypes.CDLL, feature: str) -> None:
    if feature and feature not in CPU:
        pytest.skip(f"this processor has no {feature}")
    names = NAMES + (("add4",) if feature else ()) + (("add8",) if feature == "avx512f" else ())
    # x * I with infinities and NaNs is not the matter: no helper of libgcc is needed
    flags = ("-Wno-psabi", "-fcx-limited-range", *([f"-m{feature}"] if feature else []))
    pair = make_pair(TYPES + BODIES + CALLER, TYPES + BODIES, names, *flags)
    threads = shuttle(pair, workers, "check", 40)
    assert threads.count(99) == 0
    assert threads.count(1) == threads.calls > 1000


# All registers, not only those of arguments -----------------------------------------------------------------------------

REGISTERS = ["rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp", "r8", "r9", "r10", "r11", "r13", "r14", "r15"]

#: The body stores every register where r12 points: general ones from 0, the x87 and SSE state at 128, AVX-512 at 640.
DUMP = """
__asm__(".text\\n.p2align 4\\n.globl dump\\n.type dump, @function\\ndump:\\n"
        ".byte 0x0f,0x1f,0x84,0,0,0,0,0\\n"
        "mov %%rsp, 112(%%r12)\\n"
        "%(stores)s"
        "fxsave64 128(%%r12)\\n"
#ifdef __AVX512F__
        "%(wide)s"
#endif
        "movq $%(generation)d, 120(%%r12)\\n"
        "ret\\n.size dump, . - dump\\n");
"""

PROBE = """
__asm__(".text\\n.globl probe\\n.type probe, @function\\nprobe:\\n"
        "push %%rbx\\n push %%rbp\\n push %%r12\\n push %%r13\\n push %%r14\\n push %%r15\\n"
        "mov %%rdi, %%r12\\n"
        "fninit\\n fldpi\\n fld1\\n fldl2e\\n"
        "%(vectors)s"
        "%(loads)s"
        "call dump@PLT\\n"
        "fninit\\n"
        "pop %%r15\\n pop %%r14\\n pop %%r13\\n pop %%r12\\n pop %%rbp\\n pop %%rbx\\n"
        "ret\\n.size probe, . - probe\\n");
#include <stdint.h>
#include <string.h>
void probe(void *area);
static __thread _Alignas(64) unsigned char area[4096], first[4096];
long check(void) {
    static __thread int has_first;
    memset(area, 0, sizeof area);
    probe(area);
    long generation = *(long *)(area + 120);
    *(long *)(area + 120) = 0;
    if (!has_first)
        memcpy(first, area, sizeof first), has_first = 1;
    return memcmp(first, area, sizeof first) ? 99 : generation;
}
"""


def dump(generation: int) -> str:
    stores = "".join(f"mov %{name}, {8 * i}(%r12)\\n" for i, name in enumerate(REGISTERS))
    wide = "".join(f"vmovups %zmm{i}, {640 + 64 * i}(%r12)\\n" for i in range(32))
    wide += "".join(f"kmovw %k{i}, {2688 + 8 * i}(%r12)\\n" for i in range(8))
    return DUMP % {"stores": stores, "wide": wide, "generation": generation}


def test_a_stub_changes_no_register(workers: ctypes.CDLL) -> None:
    """Among them r10, the static chain of nested functions, which the compiler does not let us mark, and rax."""
    has_512 = "avx512f" in CPU
    loads = "".join(f"movabs $0x{(i + 1) * 0x0101010101010101:x}, %{name}\\n" for i, name in enumerate(REGISTERS))
    kind, count = ("zmm", 32) if has_512 else ("xmm", 16)
    vectors = "".join(
        f"mov ${1000 + i}, %eax\\n" + (f"vpbroadcastd %eax, %zmm{i}\\n" if has_512 else f"movd %eax, %{kind}{i}\\n")
        for i in range(count)
    )
    if has_512:
        vectors += "".join(f"mov ${77 + i}, %eax\\n kmovw %eax, %k{i}\\n" for i in range(8))
    flags = ["-mavx512f"] if has_512 else []
    where = "void dump(void);\n" + PROBE % {"loads": loads, "vectors": vectors}
    pair = make_pair(where + dump(1), dump(2), ("dump",), *flags)
    threads = shuttle(pair, workers, "check", 60)
    assert threads.count(99) == 0
    assert threads.count(1) > 100
    assert threads.count(2) > 100


# The machine code -------------------------------------------------------------------------------------------------------


def disassemble(*options: object) -> str:
    return tiny.run("objdump", "-d", "--no-show-raw-insn", *options)


def test_the_relay_has_no_vector_and_no_x87_instruction_and_calls_nobody() -> None:
    """Read in the core as it was built. What it runs is what can be reached from the thunk."""
    symbols = tiny.read_symbols(Path(_core.__file__))
    text = disassemble(_core.__file__)
    functions = dict(re.findall(r"^[0-9a-f]+ <([^>]+)>:\n(.*?)(?:\n\n|\Z)", text, flags=re.MULTILINE | re.DOTALL))
    assert "hr_relay_thunk" in symbols
    reached, todo = set(), ["hr_relay_thunk", "hr_relay_visit"]
    while todo:
        name = todo.pop()
        if name in reached:
            continue
        reached.add(name)
        assert "@plt" not in name, f"a call into another library: {name}"
        todo += [n for n in re.findall(r"(?:call|jmp|j\w+) +[0-9a-f]+ <([^>+]+)>", functions[name]) if n != name]
        assert not re.findall(r"%[xyz]?mm\d|%st|\bf(?:ld|st|xsave)|emms|%k[0-7]", functions[name]), name
        assert not re.findall(r"call +\*|jmp +\*", functions[name]), name
    assert {"hr_relay_thunk", "hr_relay_decide"} <= reached


def test_a_stub_is_what_the_drawing_says(tmp_path: Path) -> None:
    one = make_pair("HOOK long f(void) { return 1; }", "HOOK long f(void) { return 2; }", ("f",))
    before = one.entry_bytes()
    transition = one.open()
    code = ctypes.string_at(transition.stubs.start, 80)
    assert one.entry_bytes() == before, "nothing is redirected yet"
    one.core.discard_stubs(transition)
    raw = tmp_path / "stub"
    raw.write_bytes(code)
    lines = [
        " ".join(line.split("\t", 1)[1].split("#")[0].split())
        for line in disassemble("-b", "binary", "-m", "i386:x86-64", "-D", raw).splitlines()
        if re.match(r" +[0-9a-f]+:\t", line)
    ]
    shape = [re.sub(r"0x[0-9a-f]+(?=\(%rip\)|,%fs)|\$0x[0-9a-f]{1,8}(?=,%fs)|%fs:0x\w+", "_", line) for line in lines]
    assert [s.split()[0] for s in shape[:13]] == [
        "cmpl", "je", "cmpl", "je", "jmp", "cmpl", "je", "jmp", "call", "movq", "jne", "jmp", "int3",
    ], shape  # fmt: skip
    assert [s.split()[0] for s in shape[14:16]] == ["push", "jmp"], shape
    targets = [
        int(m.group(1), 16) for line in lines[:12] if (m := re.match(r"(?:je|jne|jmp|call) +0x([0-9a-f]+)$", line))
    ]
    assert targets == [29, 44, 44, 64, 38, 23]
