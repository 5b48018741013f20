"""``@hotpatchable``: this function may be changed while the process runs, and here is what to do around it.

::

    decorator.py   the one name: which of three forms is meant
    stub.py        form 1: a Python function without a body, over a C function of a C file
    prototype.py     whether the two agree
    buffers.py       objects with the buffer protocol where C wants a pointer
    cache.py         the extension that was made of the C file; made once, by content
    beside.py        asks the process beside this one
    making/          that process: how it is made
    native.py      form 2: a C function that exists, in an extension
                   form 3, a Python function, is in hotreload/python
    book.py        everything that is marked; groups
    callbacks.py   before_swap, after_swap, on_refused, and what a group insists on
    handle.py      ``blur.hotreload``, ``about(score)``: generation, history, source
    symbols.py     the name of the C function at an address

A program that marks its functions pays for no more until hot reload is on: neither the core is loaded nor anything
that patches. Form 1 loads ``_cffi_backend``, which it is called by.
"""

from __future__ import annotations

from hotreload.mark.callbacks import FunctionSwap
from hotreload.mark.decorator import about, hotpatchable
from hotreload.mark.handle import Handle, Moment, Source

__all__ = ["FunctionSwap", "Handle", "Moment", "Source", "about", "hotpatchable"]
