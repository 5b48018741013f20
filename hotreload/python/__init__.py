"""Python functions, in development and pushed: from a saved ``.py`` to another code object in the same function.

::

    registry.py     which functions are marked, and the text that they were loaded from        in the server
    payload.py      what travels: the new text, its code, what differs; read byte by byte      both
    codes.py        code objects: a key for each, whether two are the same                     both
    pairing.py      which of several functions of one name is which, when an edit adds one         beside it
    outline.py      a text as functions, classes and top-level statements                      beside it
    compare.py      two texts: what is swapped, run, kept, and what cannot be                  beside it
    workshop.py     one file that is worked on: from its current text to a payload             beside it
    verdicts.py     the slugs of what is refused                                               beside it
    engine.py       stage, commit, rollback of every file: the manager's work on Python        in the server
    intake.py       a payload, as a version                                                        in the server
    marked.py       what of an edit is for this process                                            in the server
    book.py         what is known about one file: functions, generations, what is live         in the server
    index.py        which function each code object is, while anybody has it                       in the server
    additions.py    what is run of an edit: new names, parameters that differ                  in the server
    plan.py         what going to a version would do to the live functions                     in the server
    crossings.py    exchanges, and the one that waits: its driver, deadline, end                   in the server
    crossing.py     waiting for the moment in which no thread is inside                        in the server

Importing this package imports the registry and nothing else: a program that marks its functions pays for no more
until hot reload is on.
"""

from __future__ import annotations

from hotreload.python.registry import MarkError, register, serve

__all__ = ["MarkError", "register", "serve"]
