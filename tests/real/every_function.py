"""Run in a process of its own: every function of a real extension is replaced, then its own suite judges.

    argv: project name, hot copy of the project

The source gets a comment, so that it is compiled again and means the same; then each function that has a hook is
swapped for its recompiled copy, whether it differs or not. Whatever is bound wrongly shows in the project's suite.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from projects import PROJECTS

from hotreload.diff.compare import UnitDiff
from hotreload.live import manager
from hotreload.patch.workshop import Workshop


class EveryFunction(Workshop):
    """A workshop that takes every function for changed."""

    def _compare(self, index, replayed) -> UnitDiff:  # type: ignore[no-untyped-def]
        diff = super()._compare(index, replayed)
        assert not diff.changed, "a comment must change no function"
        assert not diff.compiler_changed, "the same text compiled twice must be the same code"
        places = {name: self.base.find(index, name) for name in replayed.graph.functions}
        return diff._replace(changed=tuple(n for n, place in places.items() if place and self.base.is_patchable(place)))


def main() -> None:
    project = PROJECTS[sys.argv[1]]
    root = Path(sys.argv[2])
    os.chdir(root)
    sys.path.insert(0, str(root / project.python_path))
    extension = importlib.import_module(project.module)
    live = manager()
    module = live.attach(extension.__file__)
    workshop = EveryFunction.open(module.build_id)
    with open(root / project.source, "a") as file:
        file.write("/* the same, compiled again */\n")
    result = workshop.make()
    live.commit(live.stage(module, result.path))
    names: dict[str, object] = {}
    exec(compile(project.suite, "suite", "exec"), names)
    assert names["passed"], "the project's own suite must pass with every function replaced"
    print("\n" + json.dumps({"swapped": len(result.changed), "functions": len(workshop.base.graphs[0].functions)}))


main()
