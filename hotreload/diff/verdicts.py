"""Every slug that a refusal can have: whether a person who knows better may let the edit through, and why.

Each has a page of that heading in docs/refusals.md. What is allowed becomes a note; what can never work cannot be;
what is accepted anyway is told in a note and needs no permission. Those of Python edits live in their own room.
"""

from __future__ import annotations

from typing import Iterable

from hotreload.config import ConfigError, nearest
from hotreload.errors import Finding
from hotreload.python import verdicts as python

__all__ = ["ACCEPTED", "ALLOWABLE", "NEVER", "SLUGS", "check_allowed", "judged"]

ALLOWABLE = {
    "compiler-changed": "code of two compilers works together where both keep the ABI",
    "constructor-added": "the code may run well without what the constructor does",
    "flags-changed": "not every flag changes what two files must agree on",
    "lambda-renumbered": "the new one may stand behind the others",
    "module-init": "the new variables may be of use as they are",
    "prototype-changed": "those that are named go on calling the old function, which stays as it is",
    "removed-referenced": "until the restart the old one is called",
    "type-layout": "there may be no live object of the type",
    "variable-section": "the value that the live variable has may not matter",
    "variable-type": "the bits that the live variable has may be right for the new type",
}
NEVER = {
    "alias-moved": "there is one entry for both names",
    "code-address": "the address lies in code that is replaced",
    "cython-constants": "the code would take another constant, or a name of another attribute",
    "ifunc": "the choice was made when the library was loaded",
    "method-flags": "how Python passes the arguments was chosen when the function object was made",
    "method-special": "classes that exist have asked for the name already",
    "method-table": "the interpreter has read the table already",
    "module-def": "the interpreter has read the definition already",
    "no-hook": "there is nothing at the entry that could be changed",
    "python-object-layout": "objects that are alive are too short, or have other fields where the new code looks",
    "relocation": "the field cannot hold the address",
    "static-ambiguous": "which variable is which cannot be told",
    "thread-local-added": "threads that run have no storage for it",
    "thread-local-changed": "the storage of the one is no storage for the other",
    "type-object": "the interpreter has read the type already",
    "variable-form": "the compiler keeps it in other pieces than the base has",
    "variable-layout": "one section holds several variables, and they moved",
    "variable-size": "what lies behind the live one is another variable",
    **python.NEVER,
}
ACCEPTED = {
    "initial-value": "the live value is kept",
    "inlined-elsewhere": "the other modules keep what they were compiled with",
}
SLUGS = {**ALLOWABLE, **NEVER, **ACCEPTED}


def judged(finding: Finding) -> Finding:
    """The finding, told whether it can be allowed."""
    return finding._replace(can_be_allowed=finding.slug in ALLOWABLE)


def check_allowed(slugs: Iterable[str]) -> frozenset[str]:
    """The slugs that a person wants to let through.

    Raises:
        ConfigError: one of them can never work, or is no slug. Nothing was tried.
    """
    for slug in slugs:
        if slug in NEVER:
            raise ConfigError(f"`{slug}` cannot be allowed: {NEVER[slug]}", hint=f"see `hotreload explain {slug}`")
        if slug not in SLUGS:
            raise ConfigError(f"`{slug}` is no kind of refusal", hint=nearest(slug, ALLOWABLE))
    return frozenset(slugs)
