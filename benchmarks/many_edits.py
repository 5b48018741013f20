"""What a thousand edits in a row leave behind in a process that serves all the while.

    python benchmarks/many_edits.py [--edits N] [--json]

One function of a small extension is edited N times, by saving its source, while two threads call it. Reported, per
generation and in all: resident memory, address space mapped by generations, mappings, descriptors and threads, of
the serving process and of the helper process beside it. Old generations are kept (a thread may still be in one), so
their mappings grow by the same amount each time; nothing else may.
"""

from __future__ import annotations

import argparse
import json
import os
import queue
import sys
import tempfile
import threading
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from edit_to_live import load_extension, wait_for, write_source


def snapshot(pid: int) -> dict[str, int]:
    """What process ``pid`` holds now; memory in KiB."""
    status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return {
        "resident_kib": int(status["VmRSS"].split()[0]),
        "mappings": len(Path(f"/proc/{pid}/maps").read_text().splitlines()),
        "descriptors": len(os.listdir(f"/proc/{pid}/fd")),
        "threads": int(status["Threads"]),
    }


def helper_pid() -> int:
    """The process that watches and compiles beside this one: its socket's directory is in its command line."""
    mark = os.path.dirname(os.environ["HOTRELOAD_SOCKET"]).encode()
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            if mark in Path(f"/proc/{name}/cmdline").read_bytes():
                return int(name)
        except OSError:
            continue  # it ended while we looked
    raise SystemExit("there is no helper process")


def run(directory: Path, edits: int) -> dict[str, object]:
    """Make ``edits`` edits; report what the first quarter after a warm-up and the whole run cost."""
    import hotreload

    source = directory / "served.c"
    write_source(source, "served", 100)
    text = source.read_text()
    module = load_extension(directory, "served")
    hotreload.enable()
    events: queue.Queue[dict[str, object]] = queue.Queue()
    unsubscribe = hotreload.subscribe(events.put)
    helper = helper_pid()
    stop = threading.Event()
    wrong: list[int] = []
    allowed = {1000, *range(2000, 2000 + edits)}

    def serve() -> None:
        while not stop.is_set():
            answer = module.answer()
            if answer not in allowed:
                wrong.append(answer)
            stop.wait(0.001)

    threads = [threading.Thread(target=serve) for _ in range(2)]
    for thread in threads:
        thread.start()
    points: list[dict[str, object]] = []
    every = max(1, edits // 10)
    for number in range(edits):
        source.write_text(text.replace("return 1000;", f"return {2000 + number};"))
        event = wait_for(events, "reload.finished")
        assert event["outcome"] == "live", event
        assert module.answer() == 2000 + number, "a finished reload must be live"
        if (number + 1) % every == 0:
            points.append({"edits": number + 1, "server": snapshot(os.getpid()), "helper": snapshot(helper)})
            print(f"\r{number + 1} edits", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    stop.set()
    for thread in threads:
        thread.join()
    mapped = hotreload.status()["modules"][0]["bytes_mapped"]
    unsubscribe()
    hotreload.disable()
    return {"edits": edits, "wrong_answers": len(wrong), "bytes_mapped": mapped, "points": points}


def per_edit(report: dict[str, object], process: str, figure: str) -> float:
    """Growth of ``figure`` per edit between the first and the last point."""
    points: list[dict[str, object]] = report["points"]  # type: ignore[assignment]
    first, last = points[0], points[-1]
    grown = last[process][figure] - first[process][figure]  # type: ignore[index]
    return grown / (last["edits"] - first["edits"])  # type: ignore[operator]


def main() -> None:
    parser = argparse.ArgumentParser(description="What many edits in a row leave behind.")
    parser.add_argument("--edits", type=int, default=1000)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="hotreload-bench-") as name:
        os.environ["HOTRELOAD_STORE"] = os.path.join(name, "store")
        os.environ["HOTRELOAD_LOG_FORMAT"] = "json"
        os.chdir(name)
        log = os.dup(2)
        quiet = os.open(os.path.join(name, "log"), os.O_WRONLY | os.O_CREAT)
        os.dup2(quiet, 2)  # the helper process logs a line for each edit
        sys.stderr = os.fdopen(log, "w")
        report = run(Path(name), options.edits)
    if options.json:
        print(json.dumps(report))
        return
    print(f"{options.edits} edits, {report['wrong_answers']} wrong answers, "
          f"{report['bytes_mapped'] / options.edits / 1024:.1f} KiB mapped per generation")  # type: ignore[operator]  # fmt: skip
    for process in ("server", "helper"):
        print(f"{process}:")
        for figure in ("resident_kib", "mappings", "descriptors", "threads"):
            row = "  ".join(str(point[process][figure]) for point in report["points"])  # type: ignore[attr-defined]
            print(f"  {figure:13} {per_edit(report, process, figure):8.3f} per edit   {row}")


if __name__ == "__main__":
    main()
