"""Who may push what into this process: ``[tool.hotreload.policy]``, or a file that HOTRELOAD_POLICY names.

::

    users = ["deploy", 1005]  # besides the process's own user and root
    readers = ["monitor"]  # may ask for the status, and no more
    modules = ["shop.*"]  # names of modules, with * and ?; all of them by default
    functions = ["render_*"]  # names of C functions, qualified names of Python's; all of them by default
    signature = "required"  # or "optional"
    keys = ["deploy.pub"]  # public keys: files beside this one, or "ed25519:BASE64"
    audit = "required"  # or "optional": whether a push that cannot be written down is refused
    marked-only = true  # what is not marked with hotreload.hotpatchable in this process is not to be pushed

Everybody but the own user and root must also be let through to the socket, whose directory is shut to them.

It is read for every request that would change something, so a key that is taken out counts at once. A policy that
was there when the process started and cannot be read any more allows nothing.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from importlib import import_module
from pathlib import Path
from sys import version_info
from typing import Any

from hotreload.agent.refusal import refuse
from hotreload.artefact import printable

__all__ = ["Policy", "PolicySource", "read_policy"]

_CHOICES = ("required", "optional")
_LISTS = ("users", "readers", "modules", "functions", "keys")
_WORDS = ("signature", "audit", "marked-only")
_LIMIT = 1 << 20
_TOLD = 5


@dataclass(frozen=True)
class Policy:
    """What is allowed; the defaults are those of a process that has no policy."""

    users: frozenset[int] = frozenset()
    readers: frozenset[int] = frozenset()
    modules: tuple[str, ...] = ()
    functions: tuple[str, ...] = ()
    signature: str = "optional"
    keys: tuple[bytes, ...] = ()
    audit: str = "optional"
    marked_only: bool = False
    path: str = ""

    @property
    def needs_audit(self) -> bool:
        return self.audit == "required"

    def may_push(self, uid: int) -> bool:
        """Whether that user may change this process."""
        return uid in (0, os.geteuid()) or uid in self.users

    def may_look(self, uid: int) -> bool:
        """Whether that user may ask how this process is."""
        return self.may_push(uid) or uid in self.readers

    def check_signature(self, raw: bytes, *, was_committed: bool = False) -> str:
        """Insists on what this policy asks of signatures, before anything inside the artefact is read.

        What was committed in time stays good after its time is over: a worker that starts later must not fall behind.

        Returns:
            the fingerprint of the key that signed; empty when nobody did, or nobody is trusted and none is needed.

        Raises:
            ArtefactError: SIGNATURE_*; nothing was changed.
        """
        from hotreload.artefact import open_envelope

        if self.signature == "optional" and (not self.keys or not open_envelope(raw).signature):
            return ""
        from hotreload.signing import verify

        return verify(raw, self.keys, now=0 if was_committed else None)

    def check_functions(self, functions: Iterable[str]) -> None:
        """Insists that functions are among those that may be patched; a table that has functions counts as one.

        Raises:
            StageError: FUNCTION; nothing was changed.
        """
        for function in functions:
            if self.functions and not any(fnmatchcase(function, pattern) for pattern in self.functions):
                raise refuse("FUNCTION", f"the policy does not allow the function {printable(function)} to be patched")

    def check_module(self, module: str) -> None:
        """Insists that a module, by the name that it was imported under, is among those that may be patched.

        Raises:
            StageError: MODULE; nothing was changed.
        """
        if self.modules and not any(fnmatchcase(module, pattern) for pattern in self.modules):
            raise refuse("MODULE", f"the policy does not allow the module {printable(module)} to be patched")

    def check_marked(self, staged: Any, path: str) -> None:
        """Insists that what a staged patch would change in C is marked here, where that is asked for.

        That is each function that it redirects; for what it adds to Python's modules and types, the whole module.

        What an earlier patch brought came by the same door; Python functions are marked, or they are not swapped.

        Raises:
            StageError: UNMARKED, with their names; nothing was redirected, and the patch is still staged.
        """
        if not self.marked_only:
            return
        from hotreload.mark.book import unmarked

        found = unmarked(path, getattr(staged, "redirects", ()), getattr(staged, "tables", ()))
        names = [printable(name) for name in found]
        if names:
            what = f"{', '.join(names[:_TOLD])}{f' and {len(names) - _TOLD} more' if len(names) > _TOLD else ''}"
            is_one = len(names) == 1
            raise refuse(
                "UNMARKED",
                f"the policy is marked-only, and {what} {'is' if is_one else 'are'} not marked in this process",
                functions=names,
            )

    def as_dict(self) -> dict[str, Any]:
        """Plain data for ``doctor``."""
        return {
            "path": self.path,
            "users": sorted(self.users),
            "readers": sorted(self.readers),
            "modules": list(self.modules),
            "functions": list(self.functions),
            "signature": self.signature,
            "keys": len(self.keys),
            "audit": self.audit,
            "marked_only": self.marked_only,
        }


class PolicySource:
    """Where the policy of this process is; found once, read each time."""

    def __init__(self, path: str | None) -> None:
        self.path = path

    @classmethod
    def find(cls) -> PolicySource:
        """HOTRELOAD_POLICY, else the pyproject.toml of the working directory, where that says something about it."""
        named = os.environ.get("HOTRELOAD_POLICY", "")
        if named:
            return cls(os.path.abspath(named))
        from hotreload.config import find_pyproject

        pyproject = find_pyproject(Path.cwd())
        if pyproject is not None and "policy" in _tool_table(_read_toml(str(pyproject), is_trusted=True)):
            return cls(str(pyproject))
        return cls(None)

    def read(self) -> Policy:
        """The policy as it is now.

        Raises:
            StageError: POLICY: it cannot be read, says something that means nothing, or others may write to it.
        """
        return Policy() if self.path is None else read_policy(self.path)


def read_policy(path: str) -> Policy:
    """The policy in one file. Raises StageError as :meth:`PolicySource.read` does."""
    document = _read_toml(path)
    table = _tool_table(document).get("policy", {}) if "tool" in document else document
    if not isinstance(table, Mapping):
        raise refuse("POLICY", f"{path}: the policy must be a table")
    for key in table:
        if key not in (*_LISTS, *_WORDS):
            from hotreload.config import nearest

            near = nearest("marked-only" if key == "only-marked" else key, (*_LISTS, *_WORDS))
            raise refuse("POLICY", f"{path}: a policy has no key {printable(key)}; {near}")
    lists = {key: _list_of(table, key, path) for key in _LISTS}
    policy = Policy(
        users=frozenset(_uid_of(user, path) for user in lists["users"]),
        readers=frozenset(_uid_of(user, path) for user in lists["readers"]),
        modules=_texts_of(lists["modules"], "modules", path),
        functions=_texts_of(lists["functions"], "functions", path),
        signature=_choice_of(table, "signature", path),
        keys=tuple(_key_of(key, path) for key in _texts_of(lists["keys"], "keys", path)),
        audit=_choice_of(table, "audit", path),
        marked_only=_truth_of(table, "marked-only", path),
        path=path,
    )
    if policy.signature == "required" and not policy.keys:
        raise refuse("POLICY", f"{path}: signatures are required and there are no keys to check them with")
    return policy


def _read_toml(path: str, *, is_trusted: bool = False) -> Mapping[str, Any]:
    tomllib = import_module("tomllib" if version_info >= (3, 11) else "tomli")
    try:
        text = _read_text(path, is_trusted=is_trusted)
        document: dict[str, Any] = tomllib.loads(text)
    except OSError as error:
        raise refuse("POLICY", f"{path} cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise refuse("POLICY", f"{path} cannot be read: {printable(str(error))[:200]}") from None
    return document


def _read_text(path: str, *, is_trusted: bool = False) -> str:
    """A file that belongs to this user or to root and that nobody else can write to."""
    with open(path, "rb") as file:
        found = os.fstat(file.fileno())
        if not is_trusted and (found.st_uid not in (0, os.geteuid()) or stat.S_IMODE(found.st_mode) & 0o022):
            raise refuse("POLICY", f"{path} can be changed by others: it must be this user's or root's, and 0644")
        return file.read(_LIMIT).decode("utf-8")


def _tool_table(document: Mapping[str, Any]) -> Mapping[str, Any]:
    tool = document.get("tool", {})
    table = tool.get("hotreload", {}) if isinstance(tool, Mapping) else {}
    return table if isinstance(table, Mapping) else {}


def _list_of(table: Mapping[str, Any], key: str, path: str) -> list[Any]:
    value = table.get(key, [])
    if not isinstance(value, list):
        raise refuse("POLICY", f"{path}: {key} must be a list")
    if key in table and not value and key in ("modules", "functions"):
        raise refuse("POLICY", f"{path}: {key} is empty: nothing could be pushed; HOTRELOAD_DISABLE=1 says that")
    return value


def _texts_of(values: list[Any], key: str, path: str) -> tuple[str, ...]:
    if not all(isinstance(value, str) for value in values):
        raise refuse("POLICY", f"{path}: {key} must be texts")
    return tuple(values)


def _choice_of(table: Mapping[str, Any], key: str, path: str) -> str:
    value = table.get(key, "optional")
    if value not in _CHOICES:
        raise refuse("POLICY", f'{path}: {key} is "required" or "optional", not {printable(repr(value))}')
    return str(value)


def _truth_of(table: Mapping[str, Any], key: str, path: str) -> bool:
    value = table.get(key, False)
    if not isinstance(value, bool):
        raise refuse("POLICY", f"{path}: {key} is true or false, not {printable(repr(value))}")
    return value


def _uid_of(user: object, path: str) -> int:
    if isinstance(user, int) and not isinstance(user, bool) and user >= 0:
        return user
    if isinstance(user, str):
        import pwd

        try:
            return pwd.getpwnam(user).pw_uid
        except KeyError:
            raise refuse("POLICY", f"{path}: there is no user {printable(user)} here") from None
    raise refuse("POLICY", f"{path}: {user!r} is no user")


def _key_of(key: str, path: str) -> bytes:
    """A public key's 32 bytes."""
    from hotreload.errors import HotReloadError
    from hotreload.signing import read_public_key

    try:
        if not key.startswith("ed25519:"):
            key = _read_text(os.path.join(os.path.dirname(path), key))
        return read_public_key(key)
    except OSError as error:
        raise refuse("POLICY", f"{path}: the key {printable(key)} cannot be read: {error.strerror}") from None
    except HotReloadError as error:
        raise refuse("POLICY", f"{path}: {error.message}") from None
    except ValueError:
        raise refuse("POLICY", f"{path}: the key {printable(key)} is no text") from None
