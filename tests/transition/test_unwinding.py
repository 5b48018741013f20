"""Whoever walks the stack finds the way through a stub, and gdb has a name for it."""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import subprocess
import sys

import pytest
from kit import HERE, make_pair
from tiny import child

BACKTRACES = """
#include <execinfo.h>
int depth(void) { void *frames[64]; return backtrace(frames, 64); }
HOOK long trace(void) { long n = depth(); return n; }
long call_trace(void) { long n = trace(); return n; }
"""

NEW_TRACE = "int depth(void); HOOK long trace(void) { long n = depth(); return n; }"


def test_a_body_that_was_entered_through_a_stub_has_all_its_callers() -> None:
    pair = make_pair(BACKTRACES, NEW_TRACE, ("trace",))
    call = pair.base.function("call_trace")
    direct = call()
    transition = pair.begin()
    pair.settle(transition)
    assert call() == direct
    pair.core.reverse(transition)
    pair.settle(transition)
    assert call() == direct
    pair.end(transition, is_reversed=True)


THROWS = """
extern "C" HOOK long thrower(long n) { if (n) throw n; return 0; }
extern "C" long catches(long n) { try { return thrower(n); } catch (long caught) { return %d + caught; } }
"""


def test_an_exception_passes_a_body_that_was_entered_through_a_stub() -> None:
    new = 'extern "C" HOOK long thrower(long n) { if (n) throw n + 1; return 0; }'
    pair = make_pair(THROWS % 1000, new, ("thrower",), "-lstdc++", compiler="g++", suffix="cc")
    catches = pair.base.function("catches", ctypes.c_long)
    assert catches(1) == 1001
    transition = pair.begin()
    pair.settle(transition)
    assert catches(1) == 1002
    pair.end(transition)
    assert catches(1) == 1002


STEPS = f"""
import ctypes, os, signal, sys
sys.path[:0] = [{str(HERE)!r}]
import kit, tiny
from test_unwinding import BACKTRACES, NEW_TRACE

#: Steps through one call, and at each instruction in a stub, in its tail and in the relay asks for the whole stack.
STEPPER = r'''
#define _GNU_SOURCE
#include <execinfo.h>
#include <signal.h>
#include <stdint.h>
#include <ucontext.h>
#include <string.h>
static uintptr_t stub_start, stub_end, caller_start, caller_end;
static volatile long steps, in_stub, below_stub, lost;
static void on_step(int number, siginfo_t *info, void *context) {{
    void *frames[64];
    uintptr_t pc = (uintptr_t)((ucontext_t *)context)->uc_mcontext.gregs[REG_RIP];
    int count = backtrace(frames, 64), sees_stub = 0, sees_caller = 0;
    for (int i = 0; i < count; i++) {{
        uintptr_t frame = (uintptr_t)frames[i];
        sees_stub |= frame >= stub_start && frame < stub_end;
        sees_caller |= frame >= caller_start && frame < caller_end;
    }}
    steps++;
    if (!sees_stub)
        return;
    if (pc >= stub_start && pc < stub_end) in_stub++; else below_stub++;
    lost += !sees_caller;
}}
void prepare(uintptr_t a, uintptr_t b, uintptr_t c, uintptr_t d) {{
    struct sigaction action = {{.sa_sigaction = on_step, .sa_flags = SA_SIGINFO}};
    void *frames[4];
    backtrace(frames, 4);
    stub_start = a, stub_end = b, caller_start = c, caller_end = d;
    sigaction(SIGTRAP, &action, 0);
}}
long step(long (*function)(void)) {{
    __asm__ volatile("pushfq; orq $0x100, (%rsp); popfq");
    long answer = function();
    __asm__ volatile("pushfq; andq $~0x100, (%rsp); popfq");
    return answer;
}}
long result(int what) {{ return what == 0 ? steps : what == 1 ? in_stub : what == 2 ? below_stub : lost; }}
'''
folder = kit.folder()
(folder / "step.c").write_text(STEPPER)
tiny.run("gcc", "-shared", "-fPIC", "-O0", "-mno-red-zone", folder / "step.c", "-o", folder / "step.so")
step = ctypes.CDLL(str(folder / "step.so"))
step.prepare.argtypes = [ctypes.c_size_t] * 4
step.step.argtypes = [ctypes.c_size_t]
step.result.restype = ctypes.c_long
pair = kit.make_pair(BACKTRACES.replace("long n = depth()", "long n = 1"), NEW_TRACE.replace("long n = depth()", "long n = 2"), ("trace",))
start = pair.base.address("call_trace")
transition = pair.begin()
step.prepare(transition.stubs.start, transition.stubs.end, start, start + kit.sizes(pair.base.path)["call_trace"])
step.step(start)
print(*[step.result(i) for i in range(4)])
"""


def test_at_every_instruction_of_stub_and_relay_the_callers_are_found() -> None:
    """A single step after each instruction, and backtrace() in its handler."""
    steps, in_stub, below_stub, lost = (int(word) for word in child(STEPS).split())
    assert steps > 100
    assert in_stub > 5
    assert below_stub > 50, "the relay was stepped through"
    assert lost == 0


GDB = f"""
import sys
sys.path[:0] = [{str(HERE)!r}]
import kit
pair = kit.answers_pair()
transition = pair.begin()
pair.settle(transition)
print(hex(transition.stubs.start), hex(pair.new["a"]), flush=True)
"""


@pytest.mark.skipif(not shutil.which("gdb"), reason="gdb is not installed")
def test_gdb_names_the_stub_and_the_new_function() -> None:
    script = GDB + "import os, signal\nos.kill(os.getpid(), signal.SIGUSR1)\npair.base.function('a')()\n"
    # At the signal all is mapped: the breakpoints are on addresses that the interface has told gdb the names of.
    commands = [
        "set pagination off", "set confirm off", "set debuginfod enabled off", "handle SIGUSR1 stop nopass", "run",
        "info symbol 'stub0@hotreload.t1'", "break *(&'stub0@hotreload.t1')", "break *(&'b@hotreload.g1')",
        "continue", "backtrace 3", "delete 1", "continue", "backtrace 3", "kill",
    ]  # fmt: skip
    done = subprocess.run(
        ["gdb", "-q", "-batch", *[w for c in commands for w in ("-ex", c)], "--args", sys.executable, "-c", script],
        capture_output=True, text=True, check=False, timeout=120,
        env={**os.environ, "PYTHONPATH": str(HERE.parents[1])},
    )  # fmt: skip
    text = done.stdout + done.stderr
    if "ptrace" in text and "Operation not permitted" in text:
        pytest.skip("gdb may not trace here")
    frames = re.findall(r"^#\d.*$", text, flags=re.MULTILINE)
    assert len(frames) >= 5, text
    assert "in stub0@hotreload.t1 ()" in frames[0], text
    assert any("b@hotreload.g1" in frame for frame in frames[1:]), text
    assert any("a@hotreload.g1" in frame for frame in frames[1:]), "and its caller"
