"""Run in a process of its own: a real extension is edited live under four threads, and judged.

    argv: project name, hot copy of the project, directory of fresh copies (one per edit, named by number)

For each edit: made live while the threads call into the extension; every result a thread sees must be one that
the base or a freshly built copy gives; then the live process is asked the same questions as the fresh copy. At
the end the source is what it was, and the project's own test suite passes in this process.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from projects import PROJECTS


def main() -> None:
    project = PROJECTS[sys.argv[1]]
    root, fresh = Path(sys.argv[2]), json.loads(Path(sys.argv[3]).read_text())
    os.chdir(root)
    sys.path.insert(0, str(root / project.python_path))
    from hotreload.live import manager
    from hotreload.patch.workshop import Workshop

    ask = compile(project.probes, "probes", "exec")

    def answers() -> list[str]:
        names: dict[str, object] = {}
        exec(ask, names)
        return names["results"]  # type: ignore[return-value]

    assert answers() == fresh["base"], "a hot build must answer as a plain build does"
    extension = sys.modules[project.module]
    live = manager()
    module = live.attach(extension.__file__)
    workshop = Workshop.open(module.build_id)
    assert workshop.make().kind == "base", "an untouched source must mean nothing to do"

    allowed = [{repr(version[i]) for version in fresh.values()} for i in range(len(fresh["base"]))]
    wrong: list[str] = []
    rounds = [0, 0, 0, 0]
    stop = threading.Event()

    def call(number: int) -> None:
        try:
            while not stop.is_set():
                for i, result in enumerate(answers()):
                    if repr(result) not in allowed[i]:
                        wrong.append(f"probe {i}: {result!r}")
                        stop.set()
                rounds[number] += 1
        except BaseException as error:  # nobody waits for a thread that is not there
            wrong.append(f"thread {number}: {type(error).__name__}: {error}")
            stop.set()
            raise

    threads = [threading.Thread(target=call, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    source = root / project.source
    original = source.read_text()
    report = []
    try:
        for edit in project.edits:
            source.write_text(edit.apply(original))
            result = workshop.make()
            assert result.kind == "patch", f"{edit.name}: {result}"
            swapped = {*result.changed, *result.compiler_changed}
            assert project.swapped[edit.name] <= swapped, f"{edit.name}: swapped {swapped}"
            generation = live.commit(live.stage(module, result.path))
            before = list(rounds)
            while any(a == b for a, b in zip(before, rounds)) and not stop.is_set():
                stop.wait(0.001)  # until each thread has been through the new code
            assert answers() == fresh[edit.name], f"{edit.name}: the live process and a fresh build differ"
            report.append({"edit": edit.name, "changed": result.changed, "compiler": result.compiler_changed,
                           "generation": generation.number})  # fmt: skip
        source.write_text(original)
        assert workshop.make().kind == "base", "the original text again must be the base again"
        live.rollback(module)
        assert answers() == fresh["base"], "after the rollback the base answers"
    finally:
        stop.set()
        for thread in threads:
            thread.join()
        source.write_text(original)
    assert not wrong, wrong[0]
    names: dict[str, object] = {}
    exec(compile(project.suite, "suite", "exec"), names)
    assert names["passed"], "the project's own suite must pass in this process after the rollback"
    print("\n" + json.dumps({"edits": report, "rounds": rounds}))


main()
