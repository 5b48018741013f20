"""A small site with its arithmetic in C, under ``hotreload run --ui``: what the page is tried on."""

from __future__ import annotations

import re
import urllib.request
from pathlib import Path

from tests.run.harness import SOURCE, Extension, Program, build

# `nap` stays in C until somebody calls `wake`: a thread that has not come over.
_NAP = """\
#include <unistd.h>
static volatile int napping, awake;

static PyObject *nap(PyObject *self, PyObject *args)
{
    napping = 1;
    Py_BEGIN_ALLOW_THREADS
    while (!awake)
        usleep(2000);
    Py_END_ALLOW_THREADS
    return PyLong_FromLong(shade(2));
}

static PyObject *wake(PyObject *self, PyObject *args)
{
    awake = 1;
    Py_RETURN_NONE;
}

static PyObject *is_napping(PyObject *self, PyObject *args)
{
    return PyLong_FromLong(napping);
}

static PyMethodDef methods[] = {
    {"is_napping", is_napping, METH_NOARGS, 0},
    {"nap", nap, METH_NOARGS, 0},
    {"wake", wake, METH_NOARGS, 0},
"""
_SITE = """\
import sys
sys.path.insert(0, {ext!r})
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import hotreload
import shop


class Site(BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/value":
            text = str(shop.value())
        elif self.path == "/nap":
            text = str(shop.nap())
        elif self.path == "/is-napping":
            text = str(shop.is_napping())
        elif self.path == "/wake":
            text = str(shop.wake())
        else:
            tag = hotreload.live_script(nonce="n0nce")
            text = "<!doctype html><title>Shop</title>" + tag + "<p id=price>" + str(shop.value()) + "</p>"
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Security-Policy", "script-src 'nonce-n0nce'; connect-src http://127.0.0.1:*")
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *arguments):
        pass


site = ThreadingHTTPServer(("127.0.0.1", 0), Site)
print("port", site.server_address[1], flush=True)
site.serve_forever()
"""


class Shop:
    """The running site, its C source, and the address of the page."""

    def __init__(self, directory: Path) -> None:
        source = SOURCE.replace("static PyMethodDef methods[] = {\n", _NAP)
        self.extension: Extension = build(directory, "shop", source)
        self.original = self.extension.source.read_text()
        program = directory / "site.py"
        program.write_text(_SITE.format(ext=str(self.extension.directory)))
        options = ["--ui", "--level", "call", "--settle", "60", "--policy", "wait"]
        self.program = Program(["-m", "hotreload", "run", *options, "site.py"], directory=directory)
        self.address = "http://127.0.0.1:" + self.program.wait_line("port ").split()[1]
        shown = self.program.wait_for(
            lambda: [line for line in self.program.stderr if "is shown at" in line], "no address of the page"
        )
        self.page = re.search(r"http://\S+", shown[0])[0]
        self.program.wait_event("extension.found")

    def get(self, path: str) -> str:
        """What the site answers."""
        with urllib.request.urlopen(self.address + path, timeout=20) as answer:
            return answer.read().decode()

    def save(self, expression: str) -> None:
        """Edits the header, on which all prices depend."""
        self.extension.header.write_text(self.extension.shade(expression))

    def __enter__(self) -> Shop:  # noqa: PYI034
        self.program.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self.program.__exit__(None, None, None)
