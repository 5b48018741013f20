"""A program with an extension, which does what the words of its standard input say and answers each with a line.

PATH of the extension, "off" or a directory for files; then: stage PATCH | unstage | commit PATCH | rollback | retire |
score BASE WEIGHT | hold | spin | stop | mark, which raises SIGUSR1 for a debugger.
"""

from __future__ import annotations

import ctypes
import faulthandler
import os
import signal
import sys
import threading

from hotreload.errors import HotReloadError
from hotreload.live import manager

library = ctypes.CDLL(sys.argv[1])
library.score.restype = library.score.argtypes = None
library.score.argtypes = [ctypes.c_long, ctypes.c_int]
library.score.restype = ctypes.c_long
live = manager()
live.configure(files=sys.argv[2], level="function")
module = live.attach(sys.argv[1])
stop = ctypes.c_int(0)
reader, writer = os.pipe()
staged = []


def start(name: str, function: object, argument: object) -> None:
    """Has a thread inside a C function before it returns."""
    thread = threading.Thread(target=function, args=(argument,), name=name, daemon=True)
    thread.start()


def do(word: str, *arguments: str) -> object:
    if word == "stage":
        staged.append(live.stage(module, open(arguments[0], "rb").read()))
        return staged[-1].number
    if word == "unstage":
        return live.unstage(staged.pop())
    if word == "commit":
        return live.commit(live.stage(module, open(arguments[0], "rb").read())).number
    if word == "rollback":
        return live.rollback(module).number
    if word == "score":
        return library.score(*(int(argument) for argument in arguments))
    if word == "mark":
        return os.kill(os.getpid(), signal.SIGUSR1)
    if word == "hold":
        return start("holder", library.hold, reader)
    if word == "spin":
        return start("spinner", library.spin, ctypes.byref(stop))
    if word == "status":
        return live.status()["files"]
    if word == "traceback":
        return faulthandler.dump_traceback(sys.stdout)
    if word == "pid":
        return os.getpid()
    raise ValueError(word)


for line in sys.stdin:
    try:
        print(do(*line.split()), flush=True)
    except HotReloadError as error:
        print(f"refused: {error}", flush=True)
