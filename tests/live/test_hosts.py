"""Hosts that stand in the way of changing code: with slots a patch goes live, with jumps it does or is refused at stage.

Whatever the host says, the text of the extension is byte for byte what it was afterwards, and executable.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import tiny
from tiny import child

sys.path.insert(0, str(tiny.ROOT))

from tests.hot import HotExtension  # noqa: E402

KINDS = ("jump", "slot")

#: What every child begins with. `outcome` is what counts: live, called, rolled back, or refused, and no trace left.
PRELUDE = """
import ctypes, errno, os, sys, tiny, seccomp
from pathlib import Path
from tiny import status_of
from hotreload.live import Manager
kind, path, patch = sys.argv[1:4]
raw = Path(patch).read_bytes()
library = ctypes.CDLL(path)
f, entry = library.f, ctypes.cast(library.f, ctypes.c_void_p).value
manager = Manager()
module = manager.attach(path)

def text():
    found = b""
    for line in tiny.maps():
        start, end = (int(part, 16) for part in line.split(" ", 1)[0].split("-"))
        if line.endswith(path) and line.split()[1] == "r-xp":
            found += ctypes.string_at(start, end - start)
    return found

def images():  # others map memory of their own meanwhile: valgrind does
    return [line for line in tiny.maps() if "hotreload:" in line]

before = text()
assert f(1) == 2 and before

def push():
    manager.commit(manager.stage(module, raw))

def outcome(refusal):
    mapped = images()
    if kind == "jump" and refusal:
        got = status_of(manager.stage, module, raw)
        assert got == refusal, got
        assert images() == mapped
    else:
        push()
        assert f(1) == 101
        assert kind == "jump" or text() == before
        manager.rollback(module)
    assert f(1) == 2 and text() == before
"""


@pytest.fixture(scope="module", params=KINDS)
def pushed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path, Path]:
    """The kind, a hot extension of that kind, and a patch for it; readable by every user."""
    folder = tmp_path_factory.mktemp(request.param)
    hot = HotExtension(folder, {"ext.c": "long f(long x) { return x + 1; }\n"}, prologue=request.param)
    hot.save("x + 1", "x + 100")
    patch = folder / "f.hotpatch"
    shutil.copy(hot.make().path, patch)
    hot.close()
    return request.param, hot.path, patch


def test_a_host_that_allows_everything(pushed) -> None:
    child(PRELUDE + "outcome('')", *pushed)


def test_memory_deny_write_execute_of_the_kernel(pushed) -> None:
    child(PRELUDE + "assert tiny.libc.prctl(65, 1, 0, 0, 0) == 0\noutcome('TEXT_LOCKED')", *pushed)


def test_memory_deny_write_execute_of_systemd(pushed) -> None:
    child(PRELUDE + "seccomp.memory_deny_write_execute()\noutcome('TEXT_LOCKED')", *pushed)


def test_a_filter_that_knows_no_membarrier(pushed) -> None:
    script = """
import hotreload.live.core
seccomp.deny("membarrier", errno.EPERM)
if kind == "slot":
    outcome("")
else:
    staged = manager.stage(module, raw)
    fresh = os.fork()  # its barrier is not registered yet, as that of a process that starts under the filter
    if not fresh:
        os._exit(status_of(manager.commit, staged) not in ("NO_SYNC", "SYNC_FAILED") or f(1) != 2 or text() != before)
    assert os.waitpid(fresh, 0)[1] == 0
"""
    child(PRELUDE + script, *pushed)


def test_a_process_that_is_locked_down_while_a_patch_is_live(pushed) -> None:
    script = """
push()
live = text()
assert tiny.libc.prctl(65, 1, 0, 0, 0) == 0
if kind == "slot":
    manager.rollback(module)
    assert f(1) == 2
else:
    assert status_of(manager.rollback, module) == "TEXT_LOCKED"
    assert f(1) == 101
assert text() == live and tiny.maps_at(entry) == "r-xp"
"""
    child(PRELUDE + script, *pushed)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can drop root")
def test_a_process_that_dropped_root(pushed) -> None:
    script = """
import hotreload.live.core, hotreload.live.manager
os.setgroups([]); os.setgid(65534); os.setuid(65534)
assert tiny.libc.prctl(3) == 0, "not dumpable any more"
try:
    open("/proc/self/mem", "r+b").close()
except OSError:
    pass
else:
    raise AssertionError("this is no such process")
outcome("")
"""
    child(PRELUDE + script, *pushed)


@pytest.mark.skipif(shutil.which("valgrind") is None, reason="valgrind is not installed")
def test_valgrind_with_default_options(pushed) -> None:
    script = "for i in range(3000):\n    f(i)  # translated by now\noutcome('TRANSLATED')"
    child(PRELUDE + script, *pushed, under=("valgrind", "-q"), timeout=300)


@pytest.mark.soak
@pytest.mark.skipif(shutil.which("valgrind") is None, reason="valgrind is not installed")
def test_valgrind_that_looks_at_changed_code(pushed) -> None:
    script = "for i in range(3000):\n    f(i)\noutcome('')"
    child(PRELUDE + script, *pushed, under=("valgrind", "-q", "--smc-check=all"), timeout=300)


def test_a_fork_before_and_a_fork_after(pushed) -> None:
    script = """
def fork(check):
    ask, answer = os.pipe(), os.pipe()
    pid = os.fork()
    if pid:
        assert os.read(answer[0], 1) == b"x"
        return pid, ask[1]
    try:
        check(lambda: (os.write(answer[1], b"x"), os.read(ask[0], 1)))
        os._exit(0)
    except BaseException as error:
        print(repr(error), file=sys.stderr, flush=True)
        os._exit(1)

def early(pause):
    pause()  # the parent commits meanwhile
    assert f(1) == 2 and text() == before
    push()
    assert f(1) == 101
    manager.rollback(module)
    assert f(1) == 2 and text() == before

def late(pause):
    assert f(1) == 101
    pause()  # the parent rolls back meanwhile
    assert f(1) == 101
    manager.rollback(module)
    assert f(1) == 2 and text() == before

children = [fork(early)]
push()
assert f(1) == 101
children.append(fork(late))
manager.rollback(module)
assert f(1) == 2
for pid, go in children:
    os.write(go, b"x")
    assert os.waitpid(pid, 0)[1] == 0
assert f(1) == 2 and text() == before
"""
    child(PRELUDE + script, *pushed)


#: The second hit is after the push; then the breakpoint goes, and the entry is called once more without it.
GDB = """
set confirm off
set breakpoint always-inserted on
set $hits = 0
break *%s
commands
silent
set $hits = $hits + 1
printf "hit %%d\\n", $hits
if $hits == 2
delete
end
continue
end
continue
"""

AT_THE_BREAKPOINT = """
import time
print(os.getpid(), hex(entry), flush=True)
deadline = time.monotonic() + 60
while ctypes.string_at(entry, 1) != b"\\xcc":
    assert time.monotonic() < deadline, "gdb never came"
    time.sleep(0.01)
assert f(1) == 2  # hit 1
if kind == "jump":
    assert status_of(manager.stage, module, raw) == "BREAKPOINT"
else:
    push()
assert f(1) == (2 if kind == "jump" else 101)  # hit 2
assert text() == before, "the breakpoint is gone, and nothing else has changed"
assert f(1) == (2 if kind == "jump" else 101)
outcome("")
"""


@pytest.mark.skipif(shutil.which("gdb") is None, reason="gdb is not installed")
def test_a_breakpoint_of_gdb_on_the_entry(pushed, tmp_path: Path) -> None:
    command = [sys.executable, "-c", PRELUDE + AT_THE_BREAKPOINT, *map(str, pushed)]
    environment = {"PYTHONPATH": f"{tiny.ROOT}:{tiny.ROOT}/tests/live", "PATH": os.environ["PATH"]}
    server = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        pid, entry = server.stdout.readline().split()
        commands = tmp_path / "commands"
        commands.write_text(GDB % entry)
        gdb = ["gdb", "-q", "-nx", "-batch", "-iex", "set debuginfod enabled off", "-p", pid, "-x", str(commands)]
        done = subprocess.run(gdb, capture_output=True, text=True, check=False, timeout=120)
        if "ptrace" in done.stderr and "not permitted" in done.stderr:
            pytest.skip("ptrace is not permitted here")
        _, errors = server.communicate(timeout=60)
    finally:
        server.kill()
    assert server.returncode == 0, f"{errors}\n{done.stdout}\n{done.stderr}"
    assert [line for line in done.stdout.splitlines() if line.startswith("hit")] == ["hit 1", "hit 2"], done.stdout
