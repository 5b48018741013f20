"""The real extensions that are edited live: what they are, how they are judged, and what is changed in them."""

from __future__ import annotations

from typing import NamedTuple


class Edit(NamedTuple):
    """A change a person might make; each pair is a text that occurs in the source and what takes its place."""

    name: str
    replacements: list[tuple[str, str]]
    swapped: set[str]  # functions that must be among the swapped ones


class Project(NamedTuple):
    """One source distribution.

    ``probes`` is Python that leaves a list of results in ``results``; ``suite`` runs the project's own tests
    and leaves True in ``passed``.
    """

    name: str
    version: str
    module: str
    source: str
    python_path: str
    probes: str
    suite: str
    edits: list[Edit]


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
""",
    suite="""
import pytest
passed = pytest.main(["-q", "-p", "no:cacheprovider", "tests"]) == 0
""",
    edits=[
        Edit(
            "an inlined static function",  # kind1, inlined into escape_unicode
            [("if (!delta) {\n\t\tPy_INCREF(in);\n\t\treturn (PyObject*)in;\n\t}\n\n\tout = PyUnicode_New(PyUnicode_GET_LENGTH(in) + delta,\n\t\t\t\t\t\tPyUnicode_IS_ASCII",
              "if (!delta) {\n\t\treturn PyUnicode_FromString(\"no special character\");\n\t}\n\n\tout = PyUnicode_New(PyUnicode_GET_LENGTH(in) + delta,\n\t\t\t\t\t\tPyUnicode_IS_ASCII")],
            {"escape_unicode"},
        ),
        Edit("a macro that three functions expand", [("*outp++ = 'l'; \\\n\t\t\t\t*outp++ = 't'", "*outp++ = 'L'; \\\n\t\t\t\t*outp++ = 'T'")], {"escape_unicode"}),
        Edit(
            "a function-local static",
            [("\tswitch (PyUnicode_KIND(s)) {\n", "\tstatic const char *shown; static int seen;\n\tif (!seen) { shown = \"yes\"; seen = 1; }\n\tif (PyUnicode_GET_LENGTH(s) == 0)\n\t\treturn PyUnicode_FromFormat(\"seen %s\", shown);\n\n\tswitch (PyUnicode_KIND(s)) {\n")],
            {"escape_unicode"},
        ),
        Edit(
            "a string constant, in code that an earlier edit did not have",
            [("\tswitch (PyUnicode_KIND(s)) {\n", "\tif (PyUnicode_GET_LENGTH(s) == 0)\n\t\treturn PyUnicode_FromString(\"the empty string\");\n\n\tswitch (PyUnicode_KIND(s)) {\n")],
            {"escape_unicode"},
        ),
        Edit(
            "a new static function with state of its own",
            [("static PyObject*\nescape_unicode(PyObject *self", "static long shift_state = 40;\n\n__attribute__((noinline)) static PyObject *\nlength_of(PyObject *s)\n{\n\tshift_state = 40;\n\treturn PyUnicode_FromFormat(\"%zd\", PyUnicode_GET_LENGTH(s) + shift_state);\n}\n\nstatic PyObject*\nescape_unicode(PyObject *self"),
             ("\tcase PyUnicode_4BYTE_KIND:\n\t\treturn escape_unicode_kind4((PyUnicodeObject*) s);", "\tcase PyUnicode_4BYTE_KIND:\n\t\treturn length_of(s);")],
            {"escape_unicode"},
        ),
    ],
)  # fmt: skip

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
    edits=[
        Edit("an inlined static function", [("case '\\n': output[chars++] = 'n'; break;\n            case '\\r': output[chars++] = 'r'; break;\n            case '\\t': output[chars++] = 't'; break;\n            default:\n#if PY_MAJOR_VERSION >= 3 || defined(Py_UNICODE_WIDE)\n                if (c >= 0x10000) {\n                    /* UTF-16 surrogate pair */\n                    JSON_UNICHR v = c - 0x10000;\n                    c = 0xd800", "case '\\n': output[chars++] = 'N'; break;\n            case '\\r': output[chars++] = 'r'; break;\n            case '\\t': output[chars++] = 't'; break;\n            default:\n#if PY_MAJOR_VERSION >= 3 || defined(Py_UNICODE_WIDE)\n                if (c >= 0x10000) {\n                    /* UTF-16 surrogate pair */\n                    JSON_UNICHR v = c - 0x10000;\n                    c = 0xd800")], {"ascii_escape_unicode"}),
        Edit("a function reached only through a type slot", [("    return _build_rval_index_tuple(rval, next_idx);\n}\n\nstatic PyObject *\nJSON_ParseEncoding", "    return _build_rval_index_tuple(rval, next_idx + 1000);\n}\n\nstatic PyObject *\nJSON_ParseEncoding")], {"scanner_call"}),
        Edit("a function-local static", [("    static char *kwlist[] = {\"string\", \"idx\", NULL};\n    PyScannerObject *s;\n#if", "    static Py_ssize_t extra;\n    static char *kwlist[] = {\"string\", \"idx\", NULL};\n    PyScannerObject *s;\n#if"), ("    s = (PyScannerObject *)self;\n    if (!PyArg_ParseTupleAndKeywords(args, kwds, \"On:scan_once\"", "    s = (PyScannerObject *)self;\n    if (!extra) extra = 77;\n    if (!PyArg_ParseTupleAndKeywords(args, kwds, \"On:scan_once\""), ("    return _build_rval_index_tuple(rval, next_idx);\n}\n\nstatic PyObject *\nJSON_ParseEncoding", "    return _build_rval_index_tuple(rval, next_idx + extra);\n}\n\nstatic PyObject *\nJSON_ParseEncoding")], {"scanner_call"}),
        Edit("a string constant", [("output[chars++] = \"0123456789abcdef\"[(c >>  4) & 0xf];\n                output[chars++] = \"0123456789abcdef\"[(c      ) & 0xf];\n        }", "output[chars++] = \"0123456789ABCDEF\"[(c >>  4) & 0xf];\n                output[chars++] = \"0123456789ABCDEF\"[(c      ) & 0xf];\n        }")], {"ascii_escape_unicode"}),
        Edit("a new static function and an error message", [("static PyObject *\npy_encode_basestring_ascii(PyObject* self UNUSED, PyObject *pystr)\n{\n    /* Return", "static int refusals;\n\n__attribute__((noinline)) static PyObject *\nrefuse(PyObject *pystr)\n{\n    refusals++;\n    return PyErr_Format(PyExc_ValueError, \"%s is no string\", Py_TYPE(pystr)->tp_name);\n}\n\nstatic PyObject *\npy_encode_basestring_ascii(PyObject* self UNUSED, PyObject *pystr)\n{\n    /* Return"), ("        return ascii_escape_unicode(pystr);\n    }\n    else {\n        PyErr_Format(PyExc_TypeError,\n                     \"first argument must be a string, not %.80s\",\n                     Py_TYPE(pystr)->tp_name);\n        return NULL;\n    }\n}\n\n/* encode_basestring: escape", "        return ascii_escape_unicode(pystr);\n    }\n    else {\n        return refuse(pystr);\n    }\n}\n\n/* encode_basestring: escape")], {"py_encode_basestring_ascii"}),
    ],
)  # fmt: skip

PROJECTS = {project.name: project for project in (MARKUPSAFE, SIMPLEJSON)}
