"""What a push costs: the latency of requests with and without one every second, and how long it takes for N workers.

::

    python benchmarks/push.py            two tables
    python benchmarks/push.py --json     one JSON document

Requests come from a process of their own at a steady rate, over a new connection each, to gunicorn with 4 workers of 4
threads. Stretches without pushes and with one each second take turns in the same run, so that what else the machine
does falls on both. The pushes are made from prebuilt patches, as `hotreload push fix.hotpatch` does.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.push.kit import EDITS, Answer, Load, Project, Server

SHARES = (0.5, 0.99, 0.999)


def latencies(answers: list[Answer]) -> dict[str, float]:
    """The usual quantiles, in milliseconds."""
    times = sorted((answer.ended_ns - answer.started_ns) / 1e6 for answer in answers)
    return {f"p{share * 100:g}": times[min(len(times) - 1, int(share * len(times)))] for share in SHARES}


def measure_latency(project: Project, stretch: float, turns: int, rate: float) -> dict[str, Any]:
    """The same load with and without pushes, in turns."""
    server = Server(project, workers=4, threads=4).wait_until_ready()
    stretches: dict[str, list[tuple[int, int]]] = {"without": [], "with": []}
    pushes = 0
    try:
        with Load(server, connections=8, rate=rate) as load:
            time.sleep(1)
            for turn in range(2 * turns):
                kind = "with" if turn % 2 else "without"
                began = time.monotonic_ns()
                ends = time.monotonic() + stretch
                while (left := ends - time.monotonic()) > 0:
                    if kind == "with":
                        due = time.monotonic() + 1.0
                        assert server.here("push", project.patch(EDITS[pushes % len(EDITS)])) == 0
                        pushes += 1
                        left = min(left, due - time.monotonic())
                    time.sleep(max(0.0, left))
                stretches[kind].append((began, time.monotonic_ns()))
    finally:
        server.close()
    result: dict[str, Any] = {"pushes": pushes, "failed": len(load.failed), "rate": rate}
    for kind, spans in stretches.items():
        answers = [answer for span in spans for answer in load.between(*span)]
        result[kind] = {"requests": len(answers), **latencies(answers)}
    return result


def measure_reach(project: Project, workers: int, pushes: int) -> dict[str, Any]:
    """How long one push takes to be live in all workers, to be certain that no other came, and to have ended."""
    server = Server(project, workers=workers, threads=4).wait_until_ready()
    commits: list[float] = []
    certain: list[float] = []
    commands: list[float] = []
    try:
        for number in range(pushes):
            patch = project.patch(EDITS[number % len(EDITS)])
            began = time.monotonic()
            done = server.cli("push", patch, "--json")
            commands.append((time.monotonic() - began) * 1000)
            assert done.code == 0, done
            commits.append(done.json["live_seconds"] * 1000)
            certain.append(done.json["seconds"] * 1000)
    finally:
        server.close()
    return {
        "workers": workers,
        "pushes": pushes,
        "all_committed_ms": statistics.median(commits),
        "worst_ms": max(commits),
        "certain_ms": statistics.median(certain),
        "command_ms": statistics.median(commands),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="What a push costs.")
    parser.add_argument("--stretch", type=float, default=5.0, help="seconds of each stretch (5)")
    parser.add_argument("--turns", type=int, default=4, help="stretches of each kind (4)")
    parser.add_argument("--rate", type=float, default=300.0, help="requests per second (300)")
    parser.add_argument("--pushes", type=int, default=15, help="pushes for each number of workers (15)")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="hotreload-bench-") as name:
        os.environ["HOTRELOAD_STORE"] = os.path.join(name, "store")
        directory = Path(name, "project")
        directory.mkdir()
        project = Project(directory)
        latency = measure_latency(project, options.stretch, options.turns, options.rate)
        reach = [measure_reach(project, workers, options.pushes) for workers in (1, 4, 16)]
    if options.json:
        print(json.dumps({"latency": latency, "reach": reach}))
        return
    print(f"{'requests':>10} {'p50':>8} {'p99':>8} {'p99.9':>8}   (ms; {latency['rate']:g} requests per second)")
    for kind, label in (("without", "no pushes"), ("with", "one a second")):
        row = latency[kind]
        print(f"{row['requests']:10,} {row['p50']:8.2f} {row['p99']:8.2f} {row['p99.9']:8.2f}   {label}")
    print(f"{latency['pushes']} pushes, {latency['failed']} failed requests\n")
    headings = ("workers", "live in all", "worst", "certain", "command")
    print(" ".join(f"{heading:>12}" for heading in headings), f"  (ms, median of {options.pushes} pushes)")
    for row in reach:
        keys = ("workers", "all_committed_ms", "worst_ms", "certain_ms", "command_ms")
        print(" ".join(f"{row[key]:12.1f}" if key != "workers" else f"{row[key]:12d}" for key in keys))


if __name__ == "__main__":
    main()
