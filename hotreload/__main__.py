"""``python -m hotreload`` is ``hotreload``."""

from __future__ import annotations

import sys

from hotreload.cli import main

if __name__ == "__main__":
    sys.exit(main())
