"""What ``pyproject.toml`` cannot say: the C core is built through cffi, and a small module against the Python API.

The pages that `hotreload explain` prints are those of docs/: a wheel gets copies of them, a checkout reads them there.
"""

from __future__ import annotations

import os
import platform
import shlex
import shutil
import sysconfig
from glob import glob

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py

HINT = "on Debian and Ubuntu: apt-get install gcc libc6-dev python3-dev"
PAGES = ("refusals.md", "statuses.md")


class BuildPy(build_py):
    """Adds the pages to what is installed."""

    def run(self) -> None:
        super().run()
        if getattr(self, "editable_mode", False):
            return
        for target, source in self._pages():
            self.mkpath(os.path.dirname(target))
            self.copy_file(source, target)

    def get_outputs(self, include_bytecode: bool = True) -> list[str]:
        pages = [] if getattr(self, "editable_mode", False) else self._pages()
        return [*super().get_outputs(include_bytecode), *(target for target, _ in pages)]

    def _pages(self) -> list[tuple[str, str]]:
        return [
            (os.path.join(self.build_lib, "hotreload", "texts", name), os.path.join("docs", name)) for name in PAGES
        ]


class BuildExt(build_ext):
    """Says what is missing before a compiler does, or the lack of one."""

    def run(self) -> None:
        host = f"{platform.system()} {platform.machine()}"
        if host != "Linux x86_64":
            raise SystemExit(f"hotreload is for Linux on x86-64, and this is {host}")
        compiler = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "gcc")[0]
        missing = [] if shutil.which(compiler) else [f"the compiler ({compiler})"]
        include = sysconfig.get_path("include")
        if not os.path.exists(os.path.join(include, "Python.h")):
            missing.append(f"Python's headers (Python.h, looked for in {include})")
        if missing:
            raise SystemExit(f"hotreload cannot be built without {' and '.join(missing)}; {HINT}")
        super().run()


state = Extension(
    "hotreload._state",
    sources=sorted(glob("csrc/python/*.c")),
    depends=["csrc/python/state.h", "hotreload/include/hotreload.h"],
    include_dirs=["csrc/python", "hotreload/include"],
    libraries=["dl"],
    # What one version of Python does not declare would be called as if it returned an int.
    extra_compile_args=[
        *("-std=gnu11", "-O2", "-g", "-fvisibility=hidden", "-Wall", "-Wextra"),
        "-Werror=implicit-function-declaration",
    ],
)

setup(
    cffi_modules=["csrc/build_core.py:ffibuilder"],
    ext_modules=[state],
    # Not an entry point: it has to start in pip's isolated builds (scripts/hotreload says why).
    scripts=["scripts/hotreload"],
    cmdclass={"build_ext": BuildExt, "build_py": BuildPy},
)
