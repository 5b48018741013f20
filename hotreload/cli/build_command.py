"""``hotreload build``: the command of that name; ``hotreload.build.project`` does it."""

from __future__ import annotations

import argparse
import sys

__all__ = ["build_project"]


def build_project(options: argparse.Namespace) -> int:
    """Builds, and says what can be patched; the exit code is that of the build."""
    from hotreload.build.project import main

    if options.build_command:
        options.usage_error(f"{options.build_command[0]}: put the build command behind --")
    sys.stdout.flush()
    return main(options.rest, as_json=options.json)
