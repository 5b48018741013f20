"""Builds ``hotreload.live._core`` from ``csrc/``: cffi, API mode.

The declarations that cffi needs are cut out of ``core.h`` itself, between ``cdef: begin`` and ``cdef: end``, so
that the header and the binding are one text and cannot drift apart. Constants are not declared twice either: the
list of statuses is asked for at run time.

Run as a script it builds the extension in place.
"""

from __future__ import annotations

import re
from pathlib import Path

import cffi

ROOT = Path(__file__).resolve().parent.parent
MODULE = "hotreload.live._core"

#: The members of the enum come from an X-macro, which cffi cannot expand: the compiler fills them in.
PREAMBLE = "enum hr_status { HR_OK, ... };\n"


def read_cdef(header: str) -> str:
    """The marked regions of a header, ready for ``FFI.cdef``.

    Raises:
        ValueError: when the header has no such region; nothing was built.
    """
    regions = re.findall(r"/\* cdef: begin \*/(.*?)/\* cdef: end \*/", header, flags=re.DOTALL)
    if not regions:
        raise ValueError("core.h has no region between 'cdef: begin' and 'cdef: end'")
    return PREAMBLE + "".join(regions)


def make_builder() -> cffi.FFI:
    """The builder that ``setup.py`` names in ``cffi_modules``; its paths are relative to the project's root."""
    builder = cffi.FFI()
    builder.cdef(read_cdef((ROOT / "csrc" / "core.h").read_text()))
    builder.set_source(
        MODULE,
        '#include "core.h"\n',
        sources=sorted(f"csrc/{path.name}" for path in (ROOT / "csrc").glob("*.c")),
        depends=sorted(f"csrc/{path.name}" for path in (ROOT / "csrc").glob("*.h")),
        include_dirs=["csrc"],
        libraries=["dl", "pthread", "gcc_s"],
        extra_compile_args=["-std=gnu11", "-O2", "-g", "-fvisibility=hidden", "-Wall", "-Wextra"],
    )
    return builder


ffibuilder = make_builder()

if __name__ == "__main__":
    import os

    os.chdir(ROOT)
    ffibuilder.compile(verbose=True)
