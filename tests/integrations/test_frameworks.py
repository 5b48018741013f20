"""Frameworks that restart for a saved ``.py``: they go on doing so, and a saved C file goes live without a restart."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import pytest

from tests.integrations.fitting import Server, save, write_answer
from tests.run.harness import Extension, Start, helper_pids
from tests.run.test_children import free_port

FLASK = """\
from flask import Flask
import answers

app = Flask(__name__)

@app.get("/")
def index():
    return answers.answer()
"""

FLASK_SCRIPT = (
    FLASK
    + """
if __name__ == "__main__":
    app.run(port=int(__import__("sys").argv[1]), debug=True, reloader_type="stat")
"""
)

DJANGO = """\
import sys
from django.conf import settings
from django.core.management import execute_from_command_line
from django.http import HttpResponse
from django.urls import path

settings.configure(DEBUG=True, ALLOWED_HOSTS=["*"], ROOT_URLCONF=__name__, SECRET_KEY="none")

import answers

def index(request):
    return HttpResponse(answers.answer())

urlpatterns = [path("", index)]

if __name__ == "__main__":
    execute_from_command_line(sys.argv)
"""

ASGI = """\
import answers

async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    body = answers.answer().encode()
    headers = [(b"connection", b"close"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})
"""

UVICORN_SCRIPT = """\
import sys
import uvicorn

if __name__ == "__main__":
    uvicorn.run("asgi:app", port=int(sys.argv[1]), reload=True)
"""

WSGI = """\
import answers

def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [answers.answer().encode()]
"""


@dataclass(frozen=True)
class Framework:
    """How a framework is started, what says that it restarts, and what its reloader is called."""

    package: str
    files: dict[str, str]
    command: tuple[str, ...]
    restarting: str
    reloader: str

    def arguments(self, port: int) -> list[str]:
        words = [word.replace("PORT", str(port)) for word in self.command]
        if words[0] == "--" and words[1] != "python":
            words[1] = str(Path(sys.executable).with_name(words[1]))
        if self.package == "gunicorn" and not _knows("--no-control-socket", words[1]):
            words.remove("--no-control-socket")
        return [sys.executable if word == "python" else word for word in words]


def _knows(option: str, program: str) -> bool:
    return option in subprocess.run([program, "--help"], capture_output=True, text=True, check=True).stdout


FRAMEWORKS = {
    "flask": Framework(
        "flask",
        {"app.py": FLASK},
        ("--", "flask", "--app", "app", "run", "--debug", "--port", "PORT"),
        r"Detected change in '(.*)', reloading",
        "Werkzeug's reloader",
    ),
    "flask-script": Framework(
        "flask",
        {"app.py": FLASK_SCRIPT},
        ("app.py", "PORT"),
        r"Detected change in '(.*)', reloading",
        "Werkzeug's reloader",
    ),
    "django": Framework(
        "django",
        {"manage.py": DJANGO},
        ("--", "python", "manage.py", "runserver", "127.0.0.1:PORT"),
        r"(\S+) changed, reloading",
        "Django's runserver",
    ),
    "uvicorn": Framework(
        "uvicorn",
        {"asgi.py": ASGI},
        ("--", "uvicorn", "asgi:app", "--reload", "--port", "PORT"),
        r"detected changes in '(.*)'. Reloading",
        "uvicorn --reload",
    ),
    "uvicorn-script": Framework(
        "uvicorn",
        {"asgi.py": ASGI, "serve.py": UVICORN_SCRIPT},
        ("serve.py", "PORT"),
        r"detected changes in '(.*)'. Reloading",
        "uvicorn --reload",
    ),
    "gunicorn": Framework(
        "gunicorn",
        {"wsgi.py": WSGI},
        ("--", "gunicorn", "--reload", "--no-control-socket", "-b", "127.0.0.1:PORT", "wsgi:app"),
        r"Worker reloading: (\S+) modified",
        "gunicorn --reload",
    ),
}


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_c_goes_live_without_a_restart_and_py_restarts_into_the_newest_c(
    start: Start, tmp_path: Path, extension: Extension, name: str
) -> None:
    framework = FRAMEWORKS[name]
    pytest.importorskip(framework.package)
    if name == "flask" and int(version("watchdog").split(".")[0]) >= 7:
        pytest.skip("watchdog 7: its queue overflows below Werkzeug's watches, with hotreload or without")
    for file, text in framework.files.items():
        (tmp_path / file).write_text(text)
    answers = write_answer(tmp_path, extension)
    port = free_port()
    program = start(*framework.arguments(port), PYTHONUNBUFFERED="1")
    server = Server(program, port)
    first = server.wait(lambda answer: True, "no answer")
    program.wait_event("extension.found")
    assert (first["value"], first["reloader"]) == (2, framework.reloader)

    save(extension.header, "x + 1", "x + 41")
    edited = server.wait(lambda answer: answer["value"] == 42, "the C edit is not live")
    assert edited["pid"] == first["pid"]
    assert edited["count"] > first["count"]
    assert edited["first"] == 2

    save(answers, "VERSION = 1", "VERSION = 2")
    restarted = server.wait(lambda answer: answer["version"] == 2, "no restart for the Python edit")
    assert restarted["pid"] != first["pid"]
    assert restarted["first"] == 42, "the newest patch is live before the program's first call"

    save(extension.header, "x + 41", "x + 6")
    last = server.wait(lambda answer: answer["value"] == 7, "no C edit after the restart")
    assert last["pid"] == restarted["pid"]
    assert last["count"] > restarted["count"]

    restarts = re.findall(framework.restarting, "\n".join([*program.stdout, *program.stderr]))
    assert {Path(file).name for file in restarts} == {"answers.py"}
    assert {reload["outcome"] for reload in program.reloads()} == {"live"}
    assert not [line for line in program.stderr if line.startswith("hotreload:")]
    if name != "flask-script":  # its first process imports everything before it calls run(debug=True)
        assert set((tmp_path / "imported.txt").read_text().splitlines()) == {framework.reloader}
    program.end()
    assert not helper_pids(tmp_path)
