"""In C++ the generation is where a compiler puts the name of a clone, so that names are still demangled."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from toolkit import line_of, need, run

from tests.hot import HotExtension

SOURCE = """#include <csignal>
namespace shop {
struct Price { long base; long scaled(long n) const; static long made; };
long Price::made = 3;
__attribute__((noinline)) long Price::scaled(long n) const
{
    made += 1;
    raise(SIGUSR1);
    return base * n + made;
}
}
extern "C" long score(long n) { shop::Price price{n}; return price.scaled(n) + 100; }
"""
EDITED = "\n\n" + SOURCE.replace("+ made;", "+ made + 1;").replace("+ 100", "+ 200")


def test_gdb_shows_class_parameters_line_and_generation(tmp_path: Path) -> None:
    need("gdb")
    need("g++")
    hot = HotExtension(tmp_path, {"ext.cpp": SOURCE}, flags=["-O0"], compiler="g++")
    hot.save(SOURCE, EDITED)
    patch = hot.make().path
    program = tmp_path / "program.py"
    program.write_text(
        "import ctypes\nfrom hotreload.live import manager\n"
        f"library, live = ctypes.CDLL({str(hot.path)!r}), manager()\n"
        f"live.commit(live.stage(live.attach({str(hot.path)!r}), open({str(patch)!r}, 'rb').read()))\n"
        "library.score(3)\n"
    )
    commands = [
        "handle SIGUSR1 stop nopass",
        "run",
        "backtrace 6",
        "set language c++",
        "print shop::Price::made",
        "kill",
    ]
    words = [word for command in commands for word in ("-ex", command)]
    quiet = ("-q", "-batch", "-iex", "set debuginfod enabled off", "-iex", "set auto-load off")
    done = run("gdb", *quiet, *words, "--args", sys.executable, program, check=False)
    hot.close()
    name = re.escape("shop::Price::scaled(long) const [clone .hotreload.1] ")
    line = line_of(EDITED, "raise(")
    assert re.search(rf"{name}\(this=0x[0-9a-f]+, n=3\) at ext.cpp:{line}", done.stdout), done.stdout + done.stderr
    assert "$1 = 4" in done.stdout, "a static member is where the base has it"
