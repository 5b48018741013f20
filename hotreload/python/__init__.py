"""Python functions, in development and pushed: from a saved ``.py`` to another code object in the same function.

::

    registry.py     which functions are marked, and the text that they were loaded from        in the server
    payload.py      what travels: the new text, its code, what differs; read byte by byte      both
    codes.py        code objects: a key for each, whether two are the same                     both
    outline.py      a text as functions, classes and top-level statements                      beside it
    compare.py      two outlines: what is swapped, added, kept, and what cannot be             beside it
    workshop.py     one file that is worked on: from its current text to a payload             beside it
    compiled.py     base and new text as code, and what is evaluated anew                      beside it
    engine.py       stage, commit, rollback for every file: a room of the patch manager        in the server
    book.py         what is known about one file: functions, generations, what is live         in the server
    plan.py         what one payload would do to the live functions                            in the server
    crossing.py     swapping in a moment in which no thread is inside                          in the server

Importing this package imports the registry and nothing else: a program that marks its functions pays for no more
until hot reload is on.
"""

from __future__ import annotations

from hotreload.python.registry import MarkError, register, serve

__all__ = ["MarkError", "register", "serve"]
