"""What a change to C costs a running web server: hot reload beside what one would do without it.

    python benchmarks/alternatives.py [--edits N] [--json]

One WSGI application with one C extension of about 300 lines, asked by a client that opens a connection for each
request and never stops. One constant in the C is edited N times, and each time is noted how long it takes

    seen      from the save until the first answer of the new code
    gap       the longest that the client went without an answer meanwhile
    failed    requests that got none (refused, reset, timed out)
    state     whether a counter in a C static and a dictionary in Python were kept

The same server is run with each way of making an edit live: `hotreload run`, a rebuild with the reloader of Flask, of
uvicorn or with gunicorn's HUP, and a rebuild that is imported under a new name. The rebuild is one call of gcc with the
flags of a release build, started at once by the save; the reloaders watch the library or, where they only know Python
files, a ``.py`` that is touched when it is there. For Python functions jurigged stands beside `hotreload run`.

All ways are taken in turns in one run. What is not installed is left out and said so.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import os
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

from edit_to_live import write_source

_PATIENCE = 60.0
_FLAGS = ["-O2", "-DNDEBUG", "-fPIC", "-shared", f"-I{sysconfig.get_path('include')}"]

APP = """
import importlib.util, json, os, sys
import kernel

seen = {}
newest = kernel

def app(environ, start_response):
    global newest
    if environ["PATH_INFO"] == "/import":  # the library under another name, beside the one that is loaded
        where = environ["QUERY_STRING"]
        specification = importlib.util.spec_from_file_location("kernel", where)
        newest = importlib.util.module_from_spec(specification)
        specification.loader.exec_module(newest)
    seen["answers"] = seen.get("answers", 0) + 1
    body = json.dumps({"value": newest.answer(), "calls": newest.calls(), "answers": seen["answers"]}).encode()
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
    return [body]

async def asgi(scope, receive, send):
    if scope["type"] == "http":
        told = []
        parts = app({"PATH_INFO": scope["path"], "QUERY_STRING": ""}, lambda status, headers: told.extend(headers))
        headers = [(name.lower().encode(), value.encode()) for name, value in told]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": parts[0]})
"""
# With watchdog installed Werkzeug would watch all of the interpreter's directories, and lose events on a busy machine.
FLASK = """
import sys
import app, flask
server = flask.Flask(__name__)
server.wsgi_app = app.app
server.run(port=int(sys.argv[1]), use_reloader=True, reloader_type="stat", extra_files=[app.kernel.__file__])
"""
PYTHON = """
import sys, time
from {module} import price
while True:
    print(price(1), flush=True)
    time.sleep(0.001)
"""


class Client(threading.Thread):
    """Asks without a pause, one connection for each request."""

    def __init__(self, port: int) -> None:
        super().__init__(daemon=True)
        self.port = port
        self.answers: list[tuple[float, dict[str, int]]] = []
        self.failed: list[float] = []
        self._is_ending = False

    def run(self) -> None:
        while not self._is_ending:
            try:
                self.answers.append((time.perf_counter(), ask(self.port, "/")))
            except (OSError, http.client.HTTPException, ValueError):
                self.failed.append(time.perf_counter())
                time.sleep(0.002)

    def end(self) -> None:
        self._is_ending = True
        self.join()

    def wait_for(self, value: int, since: int) -> float:
        """When ``value`` was first answered, looked for from answer number ``since`` on."""
        deadline = time.perf_counter() + _PATIENCE
        while time.perf_counter() < deadline:
            for when, answer in self.answers[since:]:
                if answer["value"] == value:
                    return when
            since = max(since, len(self.answers) - 1)
            time.sleep(0.001)
        raise TimeoutError(f"no answer with {value}")


def ask(port: int, path: str) -> dict[str, int]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path)
        answer: dict[str, int] = json.loads(connection.getresponse().read())
        return answer
    finally:
        connection.close()


class Project:
    """A directory with the application, and how its extension is built plainly or hot."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.source = directory / "kernel.c"
        write_source(self.source, "kernel", 300)
        text = self.source.read_text()
        count = "static long counter;\nstatic PyObject *calls(PyObject *s, PyObject *a) {\n"
        count += "    return PyLong_FromLong(++counter);\n}\n"
        text = text.replace("static PyMethodDef", count + "static PyMethodDef").replace(
            '{"answer",', '{"calls", calls, METH_NOARGS, ""}, {"answer",'
        )
        self.text = text
        self.source.write_text(text)
        (directory / "app.py").write_text(APP)
        (directory / "server.py").write_text(FLASK)

    def save(self, value: int) -> float:
        beside = self.source.with_suffix(".saving")
        beside.write_text(self.text.replace("return 1000;", f"return {value};"))
        saved = time.perf_counter()
        os.replace(beside, self.source)
        return saved

    def build(self, target: str = "kernel.so", *, hot: bool = False) -> Path:
        """One call of gcc; the library appears whole, by a rename."""
        beside, library = self.directory / "building.so", self.directory / target
        wrapper = [sys.executable, "-m", "hotreload", "cc"] if hot else []
        subprocess.run([*wrapper, "gcc", *_FLAGS, str(self.source), "-o", str(beside)], check=True)
        os.replace(beside, library)
        return library


Edited = Callable[[Project, "subprocess.Popen[bytes]", int], None]


def _nothing(_project: Project, _server: subprocess.Popen[bytes], _port: int) -> None:
    """The save is all."""


def _rebuild(project: Project, _server: subprocess.Popen[bytes], _port: int) -> None:
    project.build()


def _rebuild_and_touch(project: Project, _server: subprocess.Popen[bytes], _port: int) -> None:
    project.build()
    os.utime(project.directory / "app.py")


def _rebuild_and_hup(project: Project, server: subprocess.Popen[bytes], _port: int) -> None:
    project.build()
    server.send_signal(signal.SIGHUP)


def _rebuild_and_import(project: Project, _server: subprocess.Popen[bytes], port: int) -> None:
    library = project.build(f"kernel_{time.monotonic_ns()}.so")
    ask(port, f"/import?{library}")


def ways(port: int) -> dict[str, tuple[list[str], Edited, str]]:
    """Name → command of the server, what is done after a save, and the package it needs."""
    python = sys.executable
    gunicorn = [python, "-m", "gunicorn", "--threads", "4", "--bind", f"127.0.0.1:{port}", "app:app"]
    flask = [python, "server.py", str(port)]
    uvicorn = [python, "-m", "uvicorn", "app:asgi", "--port", str(port), "--reload", "--log-level", "warning"]
    return {
        "hotreload run": ([python, "-m", "hotreload", "run", "--", *gunicorn], _nothing, "gunicorn"),
        "import under a new name": (gunicorn, _rebuild_and_import, "gunicorn"),
        "gunicorn HUP": (gunicorn, _rebuild_and_hup, "gunicorn"),
        "uvicorn --reload": (uvicorn, _rebuild_and_touch, "uvicorn"),
        "Flask's reloader": (flask, _rebuild, "flask"),
    }


@contextlib.contextmanager
def running(command: list[str], directory: Path, environment: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    log = (directory / "log").open("wb")
    server = subprocess.Popen(
        command, cwd=directory, env=environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
    )
    try:
        yield server
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGKILL)
        server.wait()
        log.close()


def measure(name: str, edits: int, place: Path) -> dict[str, object] | None:
    """One way: the server is started, and then edited ``edits`` times."""
    port = free_port()
    directory = place / re.sub(r"\W+", "-", name)
    command, after_save, needs = ways(port)[name]
    if find_spec(needs) is None:
        print(f"{name}: {needs} is not installed, left out", file=sys.stderr)
        return None
    directory.mkdir()
    project = Project(directory)
    environment = {**os.environ, "HOTRELOAD_STORE": str(directory / "store"), "PYTHONPATH": python_path(directory)}
    os.environ["HOTRELOAD_STORE"] = environment["HOTRELOAD_STORE"]
    project.build(hot=name.startswith("hotreload"))
    seen, gaps, failed, kept = [], [], 0, True
    with running(command, directory, environment) as server:
        wait_until_it_answers(port)
        client = Client(port)
        client.start()
        for number in range(edits + 1):
            time.sleep(1.0)  # the client is under way, and reloaders that look once a second have looked
            before, lost = len(client.answers), len(client.failed)
            saved = project.save(2000 + number)
            after_save(project, server, port)
            arrived = client.wait_for(2000 + number, before)
            time.sleep(0.3)
            if number == 0:
                continue  # the first one warms up whatever there is to warm up
            times = [when for when, _ in client.answers[before - 1 :]]
            seen.append((arrived - saved) * 1000)
            gaps.append(max(b - a for a, b in zip(times, times[1:])) * 1000)
            failed += len(client.failed) - lost
            counts = [(answer["calls"], answer["answers"]) for _, answer in client.answers[before - 1 :]]
            kept = kept and all(b[0] > a[0] and b[1] > a[1] for a, b in zip(counts, counts[1:]))
        client.end()
    return {
        "way": name,
        "seen_ms": statistics.median(seen),
        "worst_ms": max(seen),
        "gap_ms": statistics.median(gaps),
        "failed": failed,
        "state": "kept" if kept else "lost",
    }


def measure_python(tool: str, edits: int, place: Path) -> dict[str, object] | None:
    """A Python function: from the save to the first line of the new code."""
    if find_spec(tool) is None:
        print(f"{tool}: not installed, left out", file=sys.stderr)
        return None
    directory = place / f"python-{tool}"
    directory.mkdir()
    mark = "from hotreload import hotpatchable\n" if tool == "hotreload" else ""
    text = f"{mark}\n\n{'@hotpatchable' if mark else ''}\ndef price(n):\n    return n + 1000\n"
    source = directory / "pricing.py"
    source.write_text(text)
    (directory / "main.py").write_text(PYTHON.format(module="pricing"))
    starts = {"hotreload": ["-m", "hotreload", "run", "main.py"], "jurigged": ["-m", "jurigged", "main.py"]}
    environment = {**os.environ, "PYTHONPATH": python_path(directory)}
    program = subprocess.Popen(
        [sys.executable, *starts[tool]],
        cwd=directory,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    seen = []
    try:
        assert program.stdout
        until(program.stdout, "1001")
        time.sleep(1.0)
        for number in range(edits + 1):
            saved = time.perf_counter()
            source.write_text(text.replace("1000", str(2000 + number)))
            until(program.stdout, str(2001 + number))
            if number:
                seen.append((time.perf_counter() - saved) * 1000)
            time.sleep(0.5)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(program.pid, signal.SIGKILL)
        program.wait()
    return {"way": f"{tool}, a Python function", "seen_ms": statistics.median(seen), "worst_ms": max(seen)}


def until(lines: Iterator[str], wanted: str) -> None:
    """Reads on until a line says so. A reload that does not come keeps the program printing the old line."""
    deadline = time.perf_counter() + _PATIENCE
    for line in lines:
        if line.strip() == wanted:
            return
        if time.perf_counter() > deadline:
            break
    raise TimeoutError(f"no line with {wanted}")


def python_path(directory: Path) -> str:
    return os.pathsep.join(filter(None, [str(directory), os.environ.get("PYTHONPATH", "")]))


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def wait_until_it_answers(port: int) -> None:
    deadline = time.perf_counter() + _PATIENCE
    while True:
        try:
            ask(port, "/")
        except (OSError, http.client.HTTPException, ValueError):
            if time.perf_counter() > deadline:
                raise
            time.sleep(0.02)
        else:
            return


def main() -> None:
    parser = argparse.ArgumentParser(description="Hot reload beside what one would do without it.")
    parser.add_argument("--edits", type=int, default=5, help="measured edits for each way (default 5)")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    place = Path(tempfile.mkdtemp(prefix="hotreload-bench-"))
    try:
        rows = [measure(name, options.edits, place) for name in ways(0)]
        rows += [measure_python(tool, options.edits, place) for tool in ("hotreload", "jurigged")]
    finally:
        shutil.rmtree(place, ignore_errors=True)
    found = [row for row in rows if row is not None]
    if options.json:
        print(json.dumps({"edits": options.edits, "results": found}))
        return
    print(f"{'':26} {'seen':>9} {'worst':>9} {'gap':>9} {'failed':>7}  state   (ms, median of {options.edits} edits)")
    for row in found:
        cells = [f"{row[name]:9.1f}" if name in row else " " * 9 for name in ("seen_ms", "worst_ms", "gap_ms")]
        print(f"{row['way']:26}", *cells, f"{row.get('failed', '-'):>7}  {row.get('state', '-')}")


if __name__ == "__main__":
    main()
