"""Beside the server: from one C file to a hot extension that cffi calls. No server imports this package.

::

    kernels.c ─ hotreload cc ─▶ object ─ its DWARF ─▶ header.py: prototypes ─▶ cffi ─▶ wrapper.c
                                  └──────────────────── hotreload cc ───────────────────┴─▶ kernels_c.so, entry.json
"""
