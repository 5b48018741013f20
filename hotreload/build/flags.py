"""The flags that make code hot-patchable, and those that would undo it.

What each is for (GCC manual; measured with GCC 12.2):

``-fpatchable-function-entry=24,16``  16 NOPs of padding, the entry, 8 NOPs that become the hook prologue
``-flive-patching=inline-only-static``  no optimisation that relies on the body of a function that may be replaced:
    ``-fipa-ra`` alone keeps values in registers that the replacement clobbers
``-ffunction-sections -fdata-sections``  a section per function and per variable, so that they can be compared
``-fmerge-constants``  strings and constants in sections of their own also at ``-O0``, where one section holds all
``-falign-functions=16``  an entry that one aligned 8-byte store can change
``-fno-optimize-sibling-calls``  a function that left by a tail jump has no return address on the stack, so a thread
    could not tell that the old caller of a new callee was there: what a transition is for
``-fcf-protection=none``  ``endbr64`` would stand before the NOPs and move them off their alignment
``-g``  function-local statics are told apart by their debug information
``-idirafter hotreload/include``  ``hotreload.h`` for an edit that begins to use it, behind every other directory
``-gz=none -gno-split-dwarf -fno-debug-types-section``  which is read from one section of the object, uncompressed
"""

from __future__ import annotations

import os

__all__ = ["HOT_MACRO", "hot_compile_args", "hot_link_args", "reason_to_leave"]

HOT_MACRO = "__HOTRELOAD__"

PADDING, PROLOGUE = 16, 8
INCLUDE = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "include")

COMMON = [
    f"-fpatchable-function-entry={PADDING + PROLOGUE},{PADDING}",
    "-falign-functions=16",
    "-ffunction-sections",
    "-fdata-sections",
    "-fno-optimize-sibling-calls",
    "-fcf-protection=none",
    "-gz=none",
    "-fno-debug-types-section",
    f"-D{HOT_MACRO}=1",
    f"-idirafter{INCLUDE}",
]
GCC_ONLY = ["-flive-patching=inline-only-static", "-fmerge-constants", "-gno-split-dwarf"]
# clang's DWARF 5 keeps names and addresses in tables of their own; version 4 has them where they are used.
CLANG_ONLY = ["-gdwarf-4", "-gno-split-dwarf"]

# GCC refuses these beside -flive-patching (toplev.c, "incompatible with"), or they hide code from the compare.
DROPPED_PREFIXES = ("-flto", "-fwhole-program", "-ffat-lto-objects", "-fno-fat-lto-objects", "-fuse-linker-plugin")
DROPPED_IPA = {
    *("-fipa-pta", "-fipa-reference", "-fipa-ra", "-fipa-icf", "-fipa-icf-functions", "-fipa-icf-variables"),
    *("-fipa-bit-cp", "-fipa-vrp", "-fipa-pure-const", "-fipa-reference-addressable", "-fipa-stack-alignment"),
    *("-fipa-modref", "-fipa-cp", "-fipa-cp-clone", "-fipa-sra", "-fpartial-inlining"),
}
DROPPED_LINK = {"-s", "-Wl,-s", "-Wl,-S", "-Wl,--strip-all", "-Wl,--strip-debug", "-Wl,--build-id=none"}
DROPPED_LINK_PREFIXES = ("-Wl,--icf=", "-Wl,-z,relr", "-Wl,-z,pack-relative-relocs", "-Wl,--pack-dyn-relocs")

LEAVE = {
    "-fsanitize=": "a sanitizer registers each variable once, when the library is loaded",
    "-fprofile-generate": "profiling counters belong to one load of the library",
    "--coverage": "coverage counters belong to one load of the library",
    "-fprofile-arcs": "coverage counters belong to one load of the library",
    "-fsplit-stack": "a split-stack prologue stands before the hook",
    "-m32": "only 64-bit code can be patched",
    "-mx32": "only 64-bit code can be patched",
    "-mcmodel=large": "code of the large model does not reach its data by 32-bit distances",
    "-mcmodel=medium": "code of the medium model does not reach its data by 32-bit distances",
    "-mtls-dialect=gnu2": "TLS descriptors cannot be bound to the variables of another library",
}


def reason_to_leave(args: list[str]) -> str:
    """Why a file compiled with ``args`` is left unpatchable; empty if it is not."""
    for arg in args:
        for prefix, reason in LEAVE.items():
            if arg.startswith(prefix):
                return f"{arg}: {reason}"
    return ""


def is_clang(compiler: list[str]) -> bool:
    """Whether the compiler's name says clang; GCC is assumed otherwise."""
    return "clang" in os.path.basename(compiler[-1])


def hot_compile_args(compiler: list[str], args: list[str]) -> tuple[list[str], list[str]]:
    """``args`` of a compile step made hot; and those that were dropped for it."""
    dropped = [arg for arg in args if arg.startswith(DROPPED_PREFIXES) or arg in DROPPED_IPA]
    kept = [arg for arg in args if arg not in dropped]
    added = [*COMMON, *(CLANG_ONLY if is_clang(compiler) else GCC_ONLY)]
    if not _has_debug_info(args):
        added.append("-g")
    return [*kept, *added], dropped


def hot_link_args(args: list[str]) -> tuple[list[str], list[str]]:
    """``args`` of a link step made hot; and those that were dropped for it."""
    dropped = [
        arg
        for arg in args
        if arg in DROPPED_LINK or arg.startswith(DROPPED_LINK_PREFIXES) or arg.startswith(DROPPED_PREFIXES)
    ]
    return [*(arg for arg in args if arg not in dropped), "-Wl,--build-id=sha1"], dropped


def _has_debug_info(args: list[str]) -> bool:
    levels = [arg for arg in args if arg.startswith("-g") and not arg.startswith(("-gno-", "-gz", "-gsplit", "-gcc"))]
    return bool(levels) and levels[-1] not in ("-g0", "-g1", "-ggdb0", "-ggdb1", "-gline-tables-only")
