"""What new code meets in the running process: the state, the libraries, the unwinder; and no constructor."""

from __future__ import annotations

import ctypes
import errno
import threading
from pathlib import Path

import pytest
import tiny

from hotreload.live import Manager

LONG = ctypes.c_long


class Live:
    """A base with one patch committed."""

    def __init__(
        self, folder: Path, before: str, after: str, *replaces: str, flags=(), libraries=(), **options
    ) -> None:
        self.base = tiny.make_base(
            folder, before, *flags, **{k: options[k] for k in options if k in ("compiler", "suffix")}
        )
        patch = tiny.make_patch(folder, self.base, after, replaces=replaces, **options)
        self.manager = Manager()
        self.module = self.manager.attach(str(self.base.path))
        self.staged = self.manager.stage(self.module, patch.but(libraries=tuple(libraries)).to_bytes())

    def commit(self) -> None:
        self.manager.commit(self.staged)


def test_globals_and_statics_keep_their_addresses_and_values(tmp_path: Path) -> None:
    live = Live(
        tmp_path,
        "long counter = 5; HOOK long f(long n) { static long calls; calls++; counter += n; return calls; }",
        "extern long counter; HOOK long f(long n) { counter += 1000 * n; return counter; }",
        "f",
    )
    f = live.base.function("f", LONG)
    assert [f(1), f(1)] == [1, 2]
    live.commit()
    assert f(1) == 1007
    assert live.base.variable("counter").value == 1007


def test_a_stored_function_pointer_keeps_its_identity_and_takes_the_new_code(tmp_path: Path) -> None:
    live = Live(
        tmp_path,
        "HOOK long f(long n) { return n; } long (*pointer)(long) = f; HOOK long *g(void) { return (long *)f; }",
        "long f(long n); HOOK long new_f(long n) { return 2 * n; } HOOK long *g(void) { return (long *)f; }",
        "g",
    )
    g = live.base.function("g", result=ctypes.c_void_p)
    before = g()
    live.commit()
    assert g() == before == live.base.address("f")


def test_errno_is_the_calling_thread_s(tmp_path: Path) -> None:
    code = "#include <errno.h>\nHOOK long f(long n) { errno = %s; return 0; } HOOK long get(void) { return errno; }"
    live = Live(tmp_path, code % "n", code % "n + 1", "f", "get")
    library = ctypes.CDLL(str(live.base.path), use_errno=True)
    live.commit()
    seen = {}

    def work(n: int) -> None:
        library.f(n)
        seen[n] = ctypes.get_errno()

    threads = [threading.Thread(target=work, args=(n,)) for n in (errno.ENOENT, errno.EPERM, 77)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert seen == {n: n + 1 for n in (errno.ENOENT, errno.EPERM, 77)}


def test_libm_that_the_base_is_linked_with_is_found(tmp_path: Path) -> None:
    live = Live(
        tmp_path,
        "#include <math.h>\nHOOK double f(double x) { return sin(x); }",
        "#include <math.h>\nHOOK double f(double x) { return sin(x) + pow(x, 3); }",
        "f",
        flags=("-lm",),
    )
    f = ctypes.CFUNCTYPE(ctypes.c_double, ctypes.c_double)(live.base.address("f"))
    live.commit()
    import math

    assert f(1.5) == math.sin(1.5) + 1.5**3


def test_a_library_that_only_the_new_code_needs_is_loaded_and_let_go_with_it(tmp_path: Path) -> None:
    needed = tiny.compile_base(tmp_path, "long only_the_new_code_needs(long n) { return 40 + n; }")
    live = Live(
        tmp_path,
        "HOOK long f(long n) { return n; }",
        "long only_the_new_code_needs(long); HOOK long f(long n) { return only_the_new_code_needs(n); }",
        "f",
        libraries=(str(needed),),
    )

    def is_loaded() -> bool:
        return any(str(needed) in line for line in tiny.maps())

    assert is_loaded()
    live.commit()
    assert live.base.function("f", LONG)(2) == 42
    second = Live(tmp_path, "HOOK long g(void) { return 1; }", "HOOK long g(void) { return 2; }", "g")
    second.manager.unstage(second.staged)
    assert is_loaded(), "somebody else's unstage does not let it go"


def test_a_library_of_a_patch_that_is_unstaged_is_let_go(tmp_path: Path) -> None:
    needed = tiny.compile_base(tmp_path, "long needed(void) { return 1; }")
    live = Live(
        tmp_path,
        "HOOK long f(void) { return 1; }",
        "long needed(void); HOOK long f(void) { return needed(); }",
        "f",
        libraries=(str(needed),),
    )
    live.manager.unstage(live.staged)
    assert not any(str(needed) in line for line in tiny.maps())


def test_the_global_scope_comes_before_the_base_s_own(tmp_path: Path) -> None:
    """As for the base itself: what was preloaded wins."""
    name = f"who_{tmp_path.name}"
    dependency = tiny.compile_base(tmp_path, f"long {name}(void) {{ return 1; }}")
    winner = tiny.compile_base(tmp_path, f"long {name}(void) {{ return 2; }}")
    ctypes.CDLL(str(winner), mode=ctypes.RTLD_GLOBAL)
    live = Live(
        tmp_path,
        f"long {name}(void); HOOK long f(void) {{ return 10 + {name}(); }}",
        f"long {name}(void); HOOK long f(void) {{ return 20 + {name}(); }}",
        "f",
        flags=(str(dependency),),
    )
    f = live.base.function("f")
    assert f() == 12
    live.commit()
    assert f() == 22


def test_the_base_s_own_scope_is_searched_although_nobody_else_sees_it(tmp_path: Path) -> None:
    name = f"private_{tmp_path.name}"
    dependency = tiny.compile_base(
        tmp_path, f"long {name}(long n) {{ return n; }} long {name}2(long n) {{ return n + 2; }}"
    )
    live = Live(
        tmp_path,
        f"long {name}(long); HOOK long f(long n) {{ return {name}(n); }}",
        f"long {name}2(long); HOOK long f(long n) {{ return {name}2(n); }}",
        "f",
        flags=(str(dependency),),
    )
    live.commit()
    assert live.base.function("f", LONG)(5) == 7


def test_constructors_are_not_run(tmp_path: Path) -> None:
    live = Live(
        tmp_path,
        "long runs; __attribute__((constructor)) static void init(void) { runs++; } HOOK long f(void) { return runs; }",
        "extern long runs; __attribute__((constructor)) static void init(void) { runs++; }"
        "HOOK long f(void) { return 100 + runs; }",
        "f",
    )
    live.commit()
    assert live.base.function("f")() == 101


# Unwinding -----------------------------------------------------------------------------------------------------------

CPP_BASE = """
#include <stdexcept>
typedef void callback(long);
static void thrower(long n) { throw std::runtime_error(n ? "one" : "zero"); }
extern "C" HOOK long middle(callback *call, long n) { call(n); return 0; }
extern "C" long outer(long n) {
    try { return middle(thrower, n); } catch (const std::runtime_error &error) { return 100 + error.what()[0]; }
}
"""
CPP_PATCH = """
typedef void callback(long);
extern "C" { long destroyed; }
namespace { struct Guard { ~Guard() { destroyed++; } }; }
extern "C" HOOK long middle(callback *call, long n) { Guard guard; call(n + 1); return 1; }
"""


def test_a_cpp_exception_passes_a_patched_frame_and_its_cleanups_run(tmp_path: Path) -> None:
    live = Live(tmp_path, CPP_BASE, CPP_PATCH, "middle", compiler="g++", suffix="cc")
    outer = live.base.function("outer", LONG)
    assert outer(0) == 100 + ord("z")
    live.commit()
    destroyed = LONG.from_address(live.staged.image.address + _symbol(live, "destroyed"))
    assert [outer(0), outer(0)] == [100 + ord("o")] * 2
    assert destroyed.value == 2


def _symbol(live: Live, name: str) -> int:
    newest = max((live.base.path.parent).glob("new*.so"), key=lambda path: path.stat().st_mtime)
    return tiny.read_symbols(newest)[name]


BACKTRACE = """
#include <execinfo.h>
typedef long callback(void);
static long count(void) { void *frames[64]; return backtrace(frames, 64); }
HOOK long middle(callback *call) { return call() + 0; }
long inner(void) { long n = count(); return n; }
long outer(void) { long n = middle(inner); __asm__(""); return n; }
"""
BACKTRACE_PATCH = """
typedef long callback(void);
HOOK long middle(callback *call) { volatile long room[20]; room[3] = call(); return room[3]; }
"""


def test_backtrace_sees_the_frames_behind_a_patched_one(tmp_path: Path) -> None:
    live = Live(tmp_path, BACKTRACE, BACKTRACE_PATCH, "middle", flags=("-fno-optimize-sibling-calls",))
    outer = live.base.function("outer")
    before = outer()
    live.commit()
    assert before > 4
    assert outer() == before


def test_without_its_unwind_table_the_same_backtrace_ends_early(tmp_path: Path) -> None:
    """The control: what the two tests above see is not there by itself."""
    base = tiny.make_base(tmp_path, BACKTRACE, "-fno-optimize-sibling-calls")
    patch = tiny.make_patch(tmp_path, base, BACKTRACE_PATCH, replaces=("middle",)).but(eh_frame=0, eh_frame_len=0)
    manager = Manager()
    staged = manager.stage(manager.attach(str(base.path)), patch.to_bytes())
    before = base.function("outer")()
    manager.commit(staged)
    assert base.function("outer")() < before


def test_unwind_tables_are_taken_back_before_the_memory_is_unmapped(tmp_path: Path) -> None:
    """An exception afterwards walks every registered table: one that is unmapped would crash it."""
    live = Live(tmp_path, CPP_BASE, CPP_PATCH, "middle", compiler="g++", suffix="cc")
    for _ in range(20):
        live.manager.unstage(live.staged)
        assert live.base.function("outer", LONG)(0) == 100 + ord("z")
        live.staged = live.manager.stage(live.module, next(iter(sorted(tmp_path.glob("*.hotpatch")))).read_bytes())


@pytest.mark.parametrize("thrower", ["zero", "one"])
def test_an_exception_that_nobody_catches_in_new_code_reaches_the_base(tmp_path: Path, thrower: str) -> None:
    after = CPP_PATCH.replace("call(n + 1)", f"call({int(thrower == 'one')})")
    live = Live(tmp_path, CPP_BASE, after, "middle", compiler="g++", suffix="cc")
    live.commit()
    assert live.base.function("outer", LONG)(0) == 100 + ord(thrower[0])
