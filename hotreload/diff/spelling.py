"""C++ names as a person writes them: ``_ZNK5Shape4areaEl`` is ``Shape::area(long) const``."""

from __future__ import annotations

import subprocess
from typing import Iterable

from hotreload.errors import Finding

__all__ = ["spelled", "spelled_findings"]

DEMANGLERS = ("c++filt", "llvm-cxxfilt")
MANGLED = "`_Z"


def spelled(texts: Iterable[str]) -> list[str]:
    """The texts with C++ names demangled; as they are where there is no tool to do it."""
    given = list(texts)
    if not any(MANGLED in text for text in given):
        return given
    for tool in DEMANGLERS:
        try:
            text = "".join(f"{text}\0" for text in given)
            done = subprocess.run([tool], input=text, capture_output=True, text=True, check=True, timeout=10)
        except (OSError, subprocess.SubprocessError, UnicodeError):
            continue
        found = done.stdout.split("\0")[:-1]
        if len(found) == len(given):
            return found
    return given


def spelled_findings(findings: Iterable[Finding]) -> list[Finding]:
    """The findings with C++ names demangled."""
    given = list(findings)
    return [finding._replace(reason=reason) for finding, reason in zip(given, spelled(f.reason for f in given))]
