"""The load: a process of its own, a new connection for each request, every answer remembered until the end.

    python load.py PORT CONNECTIONS RATE > answers.json

It runs until its standard input is closed; then it writes a list of [started_ns, ended_ns, status, value, pid, error].
The clock is the monotonic one, which all processes of a machine share.
"""

from __future__ import annotations

import json
import socket
import sys
import threading
import time


def ask(port: int, path: str = "/", seconds: float = 10.0) -> tuple[int, int, int]:
    """One request: status, value, pid."""
    with socket.create_connection(("127.0.0.1", port), seconds) as sock:
        sock.sendall(f"GET {path} HTTP/1.1\r\nHost: load\r\nConnection: close\r\n\r\n".encode())
        raw = b""
        while chunk := sock.recv(4096):
            raw += chunk
    head, _, body = raw.partition(b"\r\n\r\n")
    value, pid = body.split()
    return int(head.split(None, 2)[1]), int(value), int(pid)


def drive(
    port: int, interval: float, stop: threading.Event, answers: list[tuple[int, int, int, int, int, str]]
) -> None:
    due = time.monotonic()
    while not stop.wait(max(0.0, due - time.monotonic())):
        due = max(due + interval, time.monotonic())
        started = time.monotonic_ns()
        try:
            status, value, pid = ask(port)
            error = ""
        except (OSError, ValueError, IndexError) as problem:
            status, value, pid, error = 0, 0, 0, f"{type(problem).__name__}: {problem}"
        answers.append((started, time.monotonic_ns(), status, value, pid, error))


def main(port: int, connections: int, rate: float) -> None:
    stop = threading.Event()
    answers: list[tuple[int, int, int, int, int, str]] = []
    threads = [
        threading.Thread(target=drive, args=(port, connections / rate, stop, answers)) for _ in range(connections)
    ]
    for thread in threads:
        thread.start()
    sys.stdin.read()
    stop.set()
    for thread in threads:
        thread.join()
    json.dump(answers, sys.stdout)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]))
