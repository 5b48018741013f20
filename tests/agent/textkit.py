"""A program with a marked module of Python and an agent, and artefacts for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hotreload.artefact import Artefact, build
from hotreload.patch.pack_text import pack_text
from hotreload.python.payload import decode, encode
from tests.agent.kit import Application
from tests.run.harness import Program

PRICED = """\
from hotreload.python import register


def price(n):
    return 2 * n


def tax(n):
    return n


register(price)
register(tax)
"""

SERVER = """\
import os, sys, time
sys.path.insert(0, {directory!r})
import hotreload
hotreload.enable(agent=True)
{before}
import priced
print("ready ", priced.price(10), priced.tax(10), flush=True)
done = set()
while True:
    for name in sorted(os.listdir("do")):
        if name not in done and not name.startswith("."):
            done.add(name)
            exec(open("do/" + name).read(), globals())
    time.sleep(0.005)
"""


class TextApplication(Application):
    """An application whose module ``priced`` is Python."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory, None)  # type: ignore[arg-type]
        self.source = directory / "priced.py"
        self.source.write_text(PRICED)
        (directory / "new").mkdir()

    def start_priced(self, before: str = "", **environment: str) -> Program:
        """Starts the program; its first line says what it computes."""
        return self.start(server=SERVER.format(directory=str(self.directory), before=before), **environment)

    def artefact_of(self, text: str, *, base: str = PRICED, **options: Any) -> Artefact:
        """What a text of the module is packed as."""
        (self.directory / "new" / "priced.py").write_text(text)
        options = {"module": "priced", "sequence": 10, **options}
        found = pack_text(self.directory / "new" / "priced.py", base.encode(), author="a test", **options).artefact
        assert found is not None
        return found

    def answers(self, program: Program) -> tuple[int, int]:
        """What it computes now."""
        before = len(program.stdout)
        self.do('os.write(1, f"value {priced.price(10)} {priced.tax(10)} end\\n".encode())')
        _, price, tax, _ = program.wait_line("value ", after=before).split()
        return int(price), int(tax)


def forged(artefact: Artefact, manifest: dict[str, Any], **head: Any) -> bytes:
    """The artefact with other fields in its manifest and in front of its text, whole in itself."""
    payload = decode(artefact.body)._replace(**head)
    return build(encode(payload), artefact.manifest._replace(**manifest))


__all__ = ["PRICED", "TextApplication", "forged"]
