"""A fault seam: from now on, this thread's chosen system calls fail, or trap. For child processes only."""

from __future__ import annotations

import ctypes
import struct
from errno import EPERM

NR = {"mmap": 9, "mprotect": 10, "openat": 257, "memfd_create": 319, "membarrier": 324, "open": 2, "rt_sigaction": 13}
NR["process_vm_readv"] = 310
RET_ERRNO, RET_TRAP, RET_ALLOW = 0x00050000, 0x00030000, 0x7FFF0000
PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 38, 22, 2

_LOAD, _EQUAL, _RETURN = 0x20, 0x15, 0x06


def deny(name: str, errno: int, **arguments: int) -> None:
    """Makes a system call fail. ``a0=…`` to ``a5=…`` restrict it to calls with these arguments."""
    _install(name, RET_ERRNO | errno, arguments)


def trap(name: str) -> None:
    """Makes a system call raise SIGSYS."""
    _install(name, RET_TRAP, {})


def memory_deny_write_execute() -> None:
    """What systemd's setting of that name filters: memory made executable later, and mapped writable and executable."""
    for prot in (4, 5, 6, 7):
        deny("mprotect", EPERM, a2=prot)
    for prot in (6, 7):
        deny("mmap", EPERM, a2=prot)


def _install(name: str, action: int, arguments: dict[str, int]) -> None:
    tests = [(0, NR[name])]
    for argument, value in arguments.items():
        offset = 16 + 8 * int(argument[1:])
        tests += [(offset, value & 0xFFFFFFFF), (offset + 4, value >> 32)]
    program = []
    for i, (offset, value) in enumerate(tests):
        left = 2 * (len(tests) - i - 1) + 1  # instructions between here and "allow"
        program += [(_LOAD, 0, 0, offset), (_EQUAL, 0, left, value)]
    program += [(_RETURN, 0, 0, action), (_RETURN, 0, 0, RET_ALLOW)]
    code = b"".join(struct.pack("<HBBI", *instruction) for instruction in program)
    buffer = ctypes.create_string_buffer(code, len(code))
    head = ctypes.create_string_buffer(struct.pack("<HxxxxxxQ", len(program), ctypes.addressof(buffer)))
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
    assert libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, head, 0, 0) == 0, ctypes.get_errno()
