"""The example server for its tests: where it is, how it is built plainly, a client for it."""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "server"
sys.path.insert(0, str(EXAMPLE))  # its parts are modules beside it, not a package


class Served:
    """A client of one running server."""

    def __init__(self, port: int) -> None:
        self.port = port

    def get(self, path: str, **headers: str) -> tuple[http.client.HTTPResponse, bytes]:
        """One request on a connection of its own."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.request("GET", path, headers=headers)
            answer = connection.getresponse()
            return answer, answer.read()
        finally:
            connection.close()

    def state(self) -> dict[str, Any]:
        """What /state says."""
        return dict(json.loads(self.get("/state")[1]))

    def open_stream(self) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
        """An open event stream; its connection is the caller's to close."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        connection.request("GET", "/events")
        return connection, connection.getresponse()


def build(directory: Path) -> None:
    """A plain, forced in-place build; warnings are errors, since this C is there to be read."""
    done = subprocess.run(
        [sys.executable, "setup.py", "-q", "build_ext", "--inplace", "--force"],
        cwd=directory,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "warning" not in done.stderr, done.stderr
