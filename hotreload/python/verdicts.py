"""Every slug that a refusal of a Python edit can have, and why it cannot be let through.

``hotreload.diff.verdicts`` has those of C and unites the two; each has a page in docs/refusals.md.
"""

from __future__ import annotations

__all__ = ["NEVER"]

NEVER = {
    "python-addition-raises": "what the edit adds is not there without it",
    "python-base-changed": "what would be replaced is not what the text says",
    "python-closure-defaults": "a default belongs to each closure, and was evaluated where that was made",
    "python-free-variables": "live closures have no cell for the variable",
    "python-method-kind": "the class looks the method up in another way",
    "python-not-marked": "nobody has said that the function may change",
    "python-request-level": "nothing keeps a thread's Python functions in one generation for a request",
}
