"""Hot extensions in a setuptools project, by configuration.

In ``pyproject.toml``::

    [tool.setuptools.cmdclass]
    build_ext = "hotreload.build.extension.build_ext"

or in ``setup.py``: ``setup(..., cmdclass={"build_ext": hotreload.build.extension.build_ext})``. From then on each
build of the project is hot, in place, editable or into a wheel; ``HOTRELOAD_HOT=0`` in the environment makes a
plain one, for a release.
"""

from __future__ import annotations

import os
from typing import Any

from setuptools.command.build_ext import build_ext as plain_build_ext

from hotreload.build.project import wrapper_command
from hotreload.config import load_prologue

__all__ = ["build_ext"]

PROGRAMS = ("compiler", "compiler_so", "compiler_cxx", "compiler_so_cxx", "linker_so", "linker_so_cxx")


class build_ext(plain_build_ext):  # noqa: N801 - setuptools finds commands by their lower-case name
    """``build_ext`` whose compiler and linker run through ``hotreload cc``."""

    def build_extensions(self) -> None:
        if os.environ.get("HOTRELOAD_HOT", "1") != "0":
            self.force = True  # an object of a plain build is no input for a hot one
            os.environ["HOTRELOAD_PROLOGUE"] = load_prologue()
            _wrap(self.compiler)
        super().build_extensions()


def _wrap(compiler: Any) -> None:
    wrapper = wrapper_command()
    for name in PROGRAMS:
        command = getattr(compiler, name, None)
        if command and list(command[: len(wrapper)]) != wrapper:
            setattr(compiler, name, [*wrapper, *command])
