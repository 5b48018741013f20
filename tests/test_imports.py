"""Which room may know which: read from the sources, so that nobody has to remember."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "hotreload"

UNDER_EVERYTHING = {"errors", "events", "config", "wire"}
ALLOWED = {
    "errors": set(),
    "events": set(),
    "config": {"errors"},
    "wire": set(),
    "panels": {"artefact"},
    "log": {"panels"},
    "elf": set(),
    "build": {"elf"},
    "diff": {"elf", "build", "python"},
    "patch": {"elf", "build", "diff", "artefact", "python"},
    "_state": set(),
    "live": {"_state"},
    "python": {"live", "_state"},
    "page": {"log"},
    "watch": {"elf", "build", "diff", "patch", "log", "python", "page"},
    "mark": {"", "_state", "live", "run", "python", "build", "diff", "elf"},
    "artefact": {"python"},
    "signing": {"artefact"},
    "state": {"artefact", "python"},
    "agent": {"", "live", "artefact", "signing", "state", "mark", "python"},
    "push": {"artefact", "state", "live"},
    "run": {"live", "agent", "state", "python"},
    "cli": {
        "run",
        "build",
        "diff",
        "watch",
        "live",
        "log",
        "panels",
        "artefact",
        "signing",
        "state",
        "patch",
        "push",
        "agent",
        "python",
        "",
    },
    "integrations": {"", "build", "elf", "live", "patch", "run"},
    "__main__": {"cli"},
    "": {"integrations", "live", "run", "mark", "page"},
}
# The server imports these rooms, so they may need nothing from outside but what is always there.
SERVER_ROOMS = ("errors", "events", "wire", "live", "python", "run", "agent", "artefact", "signing", "state")
OUTSIDE = {"watchdog", "rich", "structlog", "elftools"}
# What a server that takes pushes must not import before there is something to check.
LATE = {"cryptography"}


def imports_of(path: Path) -> set[str]:
    """The absolute names that a file imports, wherever in the file."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute here"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def room_of(path: Path) -> str:
    relative = path.relative_to(PACKAGE)
    name = relative.parts[0] if len(relative.parts) > 1 else relative.stem
    return "" if name == "__init__" else name


def rooms_in(names: set[str]) -> set[str]:
    """The rooms of this package among imported names; the empty room is the package itself."""
    rooms = set()
    for name in names:
        parts = name.split(".")
        if parts[0] == "hotreload":
            rooms.add(parts[1] if len(parts) > 1 and parts[1] in ALLOWED else "")
    return rooms


FILES = sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_downstream_only(path: Path) -> None:
    room = room_of(path)
    known = ALLOWED[room] | UNDER_EVERYTHING | {room}

    assert rooms_in(imports_of(path)) <= known


@pytest.mark.parametrize("room", SERVER_ROOMS)
def test_the_rooms_of_the_server_know_nothing_heavy(room: str) -> None:
    for path in FILES:
        if room_of(path) == room:
            assert not {name.split(".")[0] for name in imports_of(path)} & OUTSIDE, path


def test_every_room_is_known_here() -> None:
    assert {room_of(path) for path in FILES} <= ALLOWED.keys()


@pytest.mark.parametrize(
    "statement",
    [
        "import hotreload",
        "import hotreload.errors",
        "from hotreload import enable, disable, subscribe, status, redirect, errors",
        "import hotreload; hotreload.live_script()",
        "import hotreload.run.switch; import hotreload.live",
        "import hotreload.agent.process, hotreload.agent.gunicorn, hotreload.agent.health",
        "from hotreload import hotpatchable, about; import hotreload.mark.stub",
    ],
)
def test_a_server_imports_nothing_heavy(statement: str) -> None:
    heavy = [
        *OUTSIDE,
        *LATE,
        "http",
        "hotreload.page.server",
        "hotreload.build",
        "hotreload.diff",
        "hotreload.patch",
        "hotreload.watch",
        "argparse",
    ]
    code = f"{statement}\nimport sys\nprint(sorted(name for name in {heavy} if name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"


def test_the_package_itself_imports_nothing() -> None:
    code = (
        "import sys; before = set(sys.modules); import hotreload\n"
        "print(sorted(set(sys.modules) - before - {'__future__'}), hotreload.__version__ != '', hotreload.get_include().endswith('include'))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "['hotreload'] True True"


def test_whoever_starts_a_helper_waits_for_no_imports() -> None:
    code = (
        "import sys; before = set(sys.modules); import hotreload.watch.start\n"
        "print(sorted(set(sys.modules) - before - {'__future__'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "['hotreload', 'hotreload.watch', 'hotreload.watch.start']"


def test_every_public_name_is_there() -> None:
    import hotreload

    for name in hotreload.__all__:
        assert getattr(hotreload, name) is not None
    assert set(hotreload.__all__) <= set(dir(hotreload))
    with pytest.raises(AttributeError, match="no attribute 'enabel'"):
        _ = hotreload.enabel
