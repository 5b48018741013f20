"""Stubs in real programs: a save under ``hotreload run``, a push to an agent, and what the commands show of marks."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.mark.mark_kit import KERNELS, write_kernels
from tests.run.harness import Program, environment

SERVER = """\
import sys, time
import hotreload
from hotreload import hotpatchable
{before}
def say(*words):
    print(*words, flush=True)

@hotpatchable(source="kernels.c", on_refused=lambda error: say("refused", type(error).__name__, error.fields["diagnostics"]),
              before_swap=lambda swap: say("before", swap.function, swap.left, swap.entered),
              after_swap=lambda swap: say("after", swap.function, swap.left, swap.entered))
def value(n: int) -> int: ...

@hotpatchable(source="kernels.c")
def count() -> int: ...

last = None
while True:
    if value(0) != last:
        last = value(0)
        say("value", last, value.hotreload.generation, count() > 1)
    time.sleep(0.005)
"""


def test_a_save_is_live_and_a_save_that_cannot_be_is_told_to_the_function(tmp_path: Path) -> None:
    source = write_kernels(tmp_path)
    (tmp_path / "server.py").write_text(SERVER.format(before=""))
    with Program(["-m", "hotreload", "run", "server.py"], directory=tmp_path) as program:
        program.wait_line("value 1 0 True")
        program.wait_event("extension.found", module="kernels_c")

        (tmp_path / "shade.h").write_text("#define SHADE 20\n")
        program.wait_line("before value 0 1")
        program.wait_line("after value 0 1")
        program.wait_line("value 20 1 True")

        (tmp_path / "shade.h").write_text("#define SHADE 20 +\n")
        assert "BuildError" in program.wait_line("refused ")
        program.wait_line("error: expected expression before")

        (tmp_path / "shade.h").write_text("#define SHADE 20\n")
        source.write_text(KERNELS.replace("long value(long n)", "long value(long n, long m)"))
        assert "IncompatibleError" in program.wait_line("refused IncompatibleError")
        assert [line for line in program.stdout if "prototype" in line or "became" in line]

        source.write_text(KERNELS)
        (tmp_path / "shade.h").write_text("#define SHADE 1\n")
        program.wait_line("after value 1 0")
        program.wait_line("value 1 0 True", after=5)


def test_a_push_of_the_c_file_reaches_a_stub_where_the_policy_allows_it(tmp_path: Path) -> None:
    write_kernels(tmp_path)
    state = tmp_path / "state"
    (tmp_path / "policy.toml").write_text("marked-only = true\n")
    (tmp_path / "policy.toml").chmod(0o644)
    (tmp_path / "server.py").write_text(
        SERVER.format(before="import _struct\nhotpatchable(_struct.calcsize)\nhotreload.enable(agent=True)")
    )
    more = {"HOTRELOAD_STATE": str(state), "HOTRELOAD_POLICY": str(tmp_path / "policy.toml")}

    def command(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "hotreload", *words, "--state", str(state)],
            cwd=tmp_path, env=environment(tmp_path, **more), capture_output=True, text=True, check=False,
        )  # fmt: skip

    with Program(["server.py"], directory=tmp_path, **more) as program:
        program.wait_line("value 1 0 True")

        (tmp_path / "shade.h").write_text("#define SHADE 20\n")
        refused = command("push", "kernels.c")
        assert refused.returncode != 0
        assert "other" in refused.stdout + refused.stderr  # it uses the header too, and is not marked
        assert "marked-only" in refused.stdout + refused.stderr

        (tmp_path / "shade.h").write_text("#define SHADE 1\n")
        text = KERNELS.replace("return n + SHADE; }\nlong other", "return n + 30; }\nlong other")
        (tmp_path / "kernels.c").write_text(text)
        pushed = command("push", "kernels.c")
        assert pushed.returncode == 0, pushed.stdout + pushed.stderr
        program.wait_line("after value 0 1")
        program.wait_line("value 30 1 True")

        shown = command("status").stdout
        assert "marked: _struct.calcsize, __main__.value, __main__.count" in shown
        assert "_struct.calcsize is marked and cannot be patched:" in shown
        (process,) = json.loads(command("status", "--json").stdout)["processes"]
        assert {mark["name"]: mark["generation"] for mark in process["marked"]}["__main__.value"] == 1
        doctor = command("doctor").stdout
        assert "3 marked" in " ".join(doctor.split())
        assert any("is marked and cannot be patched here" in line for line in program.stderr)

        (tmp_path / "kernels.c").write_text(KERNELS)
        with Program(["server.py"], directory=tmp_path, **more) as later:  # the same build: it takes the patch at once
            later.wait_line("value 30 1 True")
            assert "before value 0 1" not in later.stdout  # which was before the stub was there to be told

        assert command("rollback", "kernels_c").returncode == 0
        program.wait_line("after value 1 0")
