"""What this host allows, one line for each thing that a push stands on; nothing here changes anything."""

from __future__ import annotations

import mmap
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import NamedTuple

from hotreload.errors import HotReloadError
from hotreload.push.client import SealedPatch
from hotreload.state import StateDirectory

__all__ = ["Finding", "examine_host", "examine_state"]


class Finding(NamedTuple):
    """One thing: ``verdict`` is "yes", "no", or "note" for what is good to know and stops nothing."""

    about: str
    verdict: str
    detail: str


def examine_host() -> Iterator[Finding]:
    """Everything about this machine; what a build host needs and a server does not is a note where it is missing."""
    yield Finding("machine", _yes(platform.machine() == "x86_64"), f"{platform.machine()}, Linux {platform.release()}")
    yield Finding("python", _yes(sys.version_info >= (3, 9)), f"{platform.python_version()} {sys.executable}")
    yield from _examine_core()
    yield _examine_sealing()
    yield Finding("memfd_noexec", "note", _sysctl("vm/memfd_noexec", "0: memory files may be executable"))
    yield Finding("max_map_count", "note", _sysctl("vm/max_map_count", "not known"))
    yield Finding("ptrace", "note", "not needed, whatever kernel.yama.ptrace_scope says")
    yield _examine_selinux()
    yield _examine_compiler()
    yield _examine_signing()


def examine_state(directory: StateDirectory) -> Iterator[Finding]:
    """Everything about an application's state directory."""
    try:
        directory.check()
        yield Finding("state directory", "yes", directory.path)
    except HotReloadError as error:
        yield Finding("state directory", "no", str(error))
        return
    with suppress(OSError):
        room = os.statvfs(directory.path)
        free = room.f_bavail * room.f_frsize
        yield Finding("room for patches", _yes(free > 64 << 20), f"{free >> 20:,} MiB free")
    try:
        with directory.append("audit.jsonl"):
            yield Finding("audit trail", "yes", directory.path_of("audit.jsonl"))
    except (HotReloadError, OSError) as error:
        yield Finding("audit trail", "no", str(error))


def _examine_core() -> Iterator[Finding]:
    try:
        from hotreload.live.core import NativeCore
        from hotreload.live.host import examine_prologues

        core = NativeCore()
    except (ImportError, OSError) as error:
        yield Finding("core", "no", f"the C core cannot be loaded: {error}")
        return
    yield Finding("core", "yes", "loaded")
    yield _probe("core sync", core.probe_barrier, "membarrier PRIVATE_EXPEDITED_SYNC_CORE works")
    yield _probe("text writing", core.probe_text, "a page of code can be opened for one store, and put back")
    usable = examine_prologues(core)
    any_usable = any(prologue.is_usable for prologue in usable)
    for prologue in usable:
        refused = "note" if any_usable else "no"
        yield Finding(f"prologue {prologue.prologue}", "yes" if prologue.is_usable else refused, prologue.why)


def _probe(about: str, probe: Callable[[], object], good: str) -> Finding:
    """What only the prologue "jump" stands on: slots do without, so it stops nothing by itself."""
    try:
        probe()
    except HotReloadError as error:
        return Finding(about, "note", f"no: {error}")
    return Finding(about, "yes", good)


def _examine_sealing() -> Finding:
    try:
        sealed = SealedPatch(b"hotreload")
    except OSError as error:
        return Finding("sealed memory", "no", f"memfd_create or its seals: {error.strerror}")
    try:
        fd = sealed.open()
        try:
            with mmap.mmap(fd, 0, mmap.MAP_PRIVATE, mmap.PROT_READ):
                return Finding("sealed memory", "yes", "memfd_create with seals works")
        finally:
            os.close(fd)
    finally:
        sealed.close()


def _examine_selinux() -> Finding:
    try:
        with open("/sys/fs/selinux/enforce", encoding="ascii") as file:
            enforcing = file.read().strip() == "1"
    except OSError:
        return Finding("selinux", "note", "not there")
    return Finding(
        "selinux", "note", "enforcing: execmod decides whether code can be changed" if enforcing else "permissive"
    )


def _examine_compiler() -> Finding:
    for name in ("gcc", "clang"):
        if shutil.which(name):
            done = subprocess.run([name, "--version"], capture_output=True, text=True, check=False)
            return Finding("compiler", "note", done.stdout.splitlines()[0] if done.stdout else name)
    return Finding("compiler", "note", "none: patches must be packed elsewhere; servers need none")


def _examine_signing() -> Finding:
    try:
        from importlib.metadata import PackageNotFoundError, version

        return Finding("signatures", "note", f"cryptography {version('cryptography')}")
    except PackageNotFoundError:
        return Finding("signatures", "note", "not to be checked here: pip install hotreload[sign]")


def _sysctl(name: str, otherwise: str) -> str:
    try:
        with open(f"/proc/sys/{name}", encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return otherwise


def _yes(is_good: bool) -> str:
    return "yes" if is_good else "no"
