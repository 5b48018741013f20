"""Which files a compilation read: the make rule that ``-MD`` writes."""

from __future__ import annotations

import os
import re
import sys
import sysconfig

__all__ = ["parse", "project_files"]


def parse(text: str) -> list[str]:
    """The prerequisites of the first rule in ``text``, unescaped."""
    rule = text.replace("\\\n", " ").split("\n", 1)[0]
    _, _, prerequisites = rule.partition(": ")
    words = re.findall(r"(?:\\.|[^\s\\])+", prerequisites)
    return [re.sub(r"\\([ #\\])", r"\1", word).replace("$$", "$") for word in words]


def project_files(names: list[str], directory: str) -> list[str]:
    """The absolute paths among ``names`` that belong to the project, not to the system or to Python."""
    paths = [os.path.normpath(os.path.join(directory, name)) for name in names]
    outside = tuple(root for root in _system_roots() if not directory.startswith(root))
    return [path for path in dict.fromkeys(paths) if not path.startswith(outside)]


def _system_roots() -> list[str]:
    includes = [sysconfig.get_path("include"), sysconfig.get_path("platinclude")]
    roots = ["/usr/include", "/usr/lib", "/usr/local/include", *includes, sys.prefix, sys.base_prefix]
    return [root.rstrip(os.sep) + os.sep for root in dict.fromkeys(roots) if root and root != os.sep]
