"""The real extensions that are edited live: what they are, how they are judged, and what is changed in them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parents[1] / "examples" / "server"))
from driver.edits import Edit, read_edit  # noqa: E402 - the demo applies its edits in the same way


class Project(NamedTuple):
    """One source distribution.

    ``probes`` is Python that leaves a list of results in ``results``; ``suite`` runs the project's own tests
    and leaves True in ``passed``. ``swapped`` names, for each edit, functions that must be among the swapped ones.
    """

    name: str
    version: str
    module: str
    source: str
    python_path: str
    probes: str
    suite: str
    swapped: dict[str, set[str]]

    @property
    def edits(self) -> list[Edit]:
        """The prepared edits, ``edits/NAME/*.patch``, in the order of their file names."""
        return [read_edit(path) for path in sorted((HERE / "edits" / self.name).glob("*.patch"))]


MARKUPSAFE = Project(
    name="markupsafe",
    version="3.0.4",
    module="markupsafe._speedups",
    source="src/markupsafe/_speedups.c",
    python_path="src",
    probes="""
from markupsafe._speedups import _escape_inner as escape
texts = ["", "plain", "<a href=\\"x\\">", "it's & <b>", "\\u0101<\\u0102>&", "\\U0001f40d<'\\">&", "x" * 300 + "<"]
results = [escape(text) for text in texts]
from markupsafe import _speedups
added = getattr(_speedups, "length_in_bytes", None)
results += [escape.__doc__, [added(text) for text in texts] if added else None, added and added.__text_signature__]
""",
    suite="""
import os, pytest
os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
passed = pytest.main(["-q", "-p", "no:cacheprovider", "tests"]) == 0
""",
    swapped={
        "1-an-inlined-static-function": {"escape_unicode"},
        "2-a-macro-that-three-functions-expand": {"escape_unicode"},
        "3-a-function-local-static": {"escape_unicode"},
        "4-a-string-constant": {"escape_unicode"},
        "5-a-new-static-function-with-state-of-its-own": {"escape_unicode"},
        "6-a-new-function-of-the-module": set(),
    },
)

SIMPLEJSON = Project(
    name="simplejson",
    version="4.3.0",
    module="simplejson._speedups",
    source="simplejson/_speedups.c",
    python_path=".",
    probes="""
import decimal
import simplejson
from simplejson import _speedups
def attempt(call, *args, **kwargs):
    try:
        return repr(call(*args, **kwargs))
    except Exception as error:
        return f"{type(error).__name__}: {error}"
documents = ['{"a": [1, 2.5, true, null, "x\\\\u00e9\\\\n"]}', "[]", "[1,]", '"abc', "-Infinity", "[1e400]", "12345678901234567890"]
values = [{"k": [1, 2.25, None, True, "\\u00e9\\n\\u2028\\U0001f40d\\x01"]}, [1 << 70], (1, 2), {1: 2}, float("inf"), decimal.Decimal("1.5")]
results = [attempt(simplejson.loads, text) for text in documents]
results += [attempt(simplejson.dumps, value, sort_keys=True) for value in values]
results += [attempt(simplejson.dumps, value, ensure_ascii=False, indent=1) for value in values]
results += [attempt(_speedups.encode_basestring_ascii, value) for value in ("\\x01\\x7f\\u1234\\n", 5)]
results += [attempt(_speedups.scanstring, text, 1) for text in ('"a\\\\tb"', '"open')]
scanner = simplejson.scanner.c_make_scanner(simplejson.decoder.JSONDecoder())
results += [attempt(scanner, text, 0) for text in ("[7]", "x", 5)]
results += [attempt(lambda: _speedups.is_ascii("\\u00e9")), attempt(lambda: scanner.text_encoding)]
results += [sorted(name for name in list(vars(type(scanner))) if name[0] != "_")]
""",
    suite="""
import contextlib, io, unittest
import simplejson.tests
output = io.StringIO()
outcome = unittest.TextTestRunner(stream=output).run(simplejson.tests.all_tests_suite())
passed = outcome.wasSuccessful() and outcome.testsRun > 300
if not passed:
    print(outcome.testsRun, output.getvalue()[-3000:])
""",
    swapped={
        "1-an-inlined-static-function": {"ascii_escape_unicode"},
        "2-a-function-reached-only-through-a-type-slot": {"scanner_call"},
        "3-a-function-local-static": {"scanner_call"},
        "4-a-string-constant": {"ascii_escape_unicode"},
        "5-a-new-static-function-and-an-error-message": {"py_encode_basestring_ascii"},
        "6-a-new-function-and-a-member-of-a-heap-type": set(),
    },
)

PROJECTS = {project.name: project for project in (MARKUPSAFE, SIMPLEJSON)}
