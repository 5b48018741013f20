"""The load: a process of its own that keeps asking for tiles over keep-alive connections and tells of every answer.

::

    python -m driver.load HOST PORT CONNECTIONS RATE

It writes one line of JSON for each request to its standard output (the fields of ``Answer``, in their order) and ends
when its standard input is closed. RATE is requests per second over all connections, 0 for as many as will go. A
connection never has more than one request open; one that breaks counts as a failed request and is opened again.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import threading
import time
from typing import BinaryIO

__all__ = ["CACHED_FRAMES", "SIZE", "main"]

SIZE = 96
CACHED_FRAMES = 24  # every other request is for one of these, which the server's cache may have
_TIMEOUT = 10.0
_RETRY_SECONDS = 0.05


class AnswerError(Exception):
    """Not an HTTP answer, or not all of one."""


def main(host: str, port: int, connections: int, rate: float) -> None:
    """Runs the load until standard input is closed. A Ctrl-C is for the demo, which then closes it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    stop = threading.Event()
    threads = [
        threading.Thread(target=_drive, args=(stop, (host, port), number, connections, rate))
        for number in range(connections)
    ]
    for thread in threads:
        thread.start()
    sys.stdin.buffer.read()
    stop.set()
    for thread in threads:
        thread.join()


def _drive(stop: threading.Event, address: tuple[str, int], number: int, connections: int, rate: float) -> None:
    """One connection: asks, waits for the answer, asks again."""
    interval = connections / rate if rate else 0.0
    due = time.monotonic() + interval * number / connections
    asked = 0
    connection: socket.socket | None = None
    stream: BinaryIO | None = None
    while not stop.wait(max(0.0, due - time.monotonic()) if interval else 0):
        # Who is late does not hurry: the next request is due one interval after this one, or after now.
        due = max(due + interval, time.monotonic())
        started = time.monotonic_ns()
        try:
            if connection is None or stream is None:
                connection = socket.create_connection(address, _TIMEOUT)
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                stream = connection.makefile("rb")
            connection.sendall(_request(number + asked * connections))
            status, headers = _read_answer(stream)
            error = ""
        except (OSError, AnswerError) as problem:
            status, headers, error = 0, {}, f"{type(problem).__name__}: {problem}"
            if connection is not None:
                connection.close()
            connection = stream = None
            stop.wait(_RETRY_SECONDS)
        _tell(number, started, status, headers, error)
        asked += 1
    if connection is not None:
        connection.close()


def _request(count: int) -> bytes:
    frame, fresh = (count // 2 % CACHED_FRAMES, 0) if count % 2 else (count * 7 % 256, 1)
    return f"GET /tile.png?size={SIZE}&frame={frame}&fresh={fresh} HTTP/1.1\r\nHost: demo\r\n\r\n".encode()


def _read_answer(stream: BinaryIO) -> tuple[int, dict[str, str]]:
    """Status and headers of one answer; its body is read to the end."""
    status_line = stream.readline().split()
    if len(status_line) < 2:
        raise AnswerError("the connection was closed instead of an answer")
    headers = {}
    while (line := stream.readline()) not in (b"\r\n", b""):
        name, _, value = line.decode("latin-1").partition(":")
        headers[name.lower()] = value.strip()
    length = int(headers.get("content-length", "0"))
    if len(stream.read(length)) != length:
        raise AnswerError("the connection was closed in the middle of an answer")
    return int(status_line[1]), headers


def _tell(number: int, started: int, status: int, headers: dict[str, str], error: str) -> None:
    thread, _, by_thread = headers.get("x-render-thread", "0 0").partition(" ")
    fields = (
        number,
        started,
        time.monotonic_ns(),
        status,
        headers.get("x-render-stamp", ""),
        int(headers.get("x-render-ticket", "0")),
        int(thread),
        int(by_thread),
        headers.get("x-render-cache", ""),
        headers.get("x-render-whole", "") == "yes",
        int(headers.get("x-render-pid", "0")),
        error,
    )
    # One write of less than a page: lines of several threads do not mix.
    os.write(sys.stdout.fileno(), json.dumps(fields).encode() + b"\n")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4]))
