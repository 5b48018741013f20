"""The few things that can be set, and where: a flag beats the environment, which beats ``pyproject.toml``.

::

    [tool.hotreload]
    log-format = "json"        # HOTRELOAD_LOG_FORMAT, --log-format      auto, console or json
    polling = true             # HOTRELOAD_POLLING, --polling            for network file systems
    polling-interval = 0.5     # HOTRELOAD_POLLING_INTERVAL              seconds between two looks
    quiet-ms = 10              # HOTRELOAD_QUIET_MS                      how long a burst of saves must rest
    hint-after = 3.0           # HOTRELOAD_HINT_AFTER                    seconds until a missing extension is named
    verbose = false            # HOTRELOAD_VERBOSE, --verbose            debug lines too
    app = "shop"               # HOTRELOAD_APP                           what `hotreload push --app` calls the program
    state = "/run/shop/hot"    # HOTRELOAD_STATE                         where its agents keep sockets and patches
    probation = 60.0           # HOTRELOAD_PROBATION                     seconds in which a crash is blamed on a patch
    level = "call"             # HOTRELOAD_LEVEL, --level                auto, function, call or request
    settle = 30.0              # HOTRELOAD_SETTLE, --settle              seconds in which threads are to leave old code
    settle-policy = "wait"     # HOTRELOAD_SETTLE_POLICY, --policy       then: wait, revert or force
    prologue = "jump"          # HOTRELOAD_PROLOGUE                      jump or slot: how functions are redirected
    allow = ["variable-type"]  # HOTRELOAD_ALLOW (a,b), --allow          findings that you know better about
    retire = true              # HOTRELOAD_RETIRE                        unmap old code that is proven unused
    keep = 1                   # HOTRELOAD_KEEP                          so many old generations stay to go back to
    max-generations = 100      # HOTRELOAD_MAX_GENERATIONS               of one extension kept in memory; 0: no cap
    max-bytes = 268435456      # HOTRELOAD_MAX_BYTES                     bytes of them; 0: no cap
    files = "/var/cache/hot"   # HOTRELOAD_FILES                         files of generations, for perf; or off

``settle`` and ``settle-policy`` are 30 seconds and "wait" for a push, 2 seconds and "force" under ``hotreload run``,
where they are not set. The policy has a longer name than its flag because [tool.hotreload.policy] says who may push.

A key or a value that means nothing is an error that names the nearest one that does: a misspelt setting that is
silently ignored costs an afternoon.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path
from typing import Any

from hotreload.errors import HotReloadError

__all__ = ["LEVELS", "LOG_FORMATS", "POLICIES", "PROLOGUES", "Config", "find_pyproject", "load_config", "load_prologue"]

LOG_FORMATS = ("auto", "console", "json")
LEVELS = ("auto", "function", "call", "request")
POLICIES = ("wait", "revert", "force")
PROLOGUES = ("jump", "slot")

# What a text may be, where it is one of a few; the empty one is "not set".
_CHOICES = {
    "log_format": ("log format", LOG_FORMATS),
    "level": ("level", LEVELS),
    "settle_policy": ("policy", POLICIES),
    "prologue": ("prologue", PROLOGUES),
}

# Tables of [tool.hotreload] that another part of the package reads.
_TABLES = frozenset({"build", "policy"})
# What one would look for under another name.
_OTHER_NAMES = {"policy": "settle-policy", "deadline": "settle"}
_TRUE = frozenset({"1", "true", "yes", "on"})
_FALSE = frozenset({"0", "false", "no", "off", ""})


@dataclass(frozen=True)
class Config:
    """How the helper process watches and speaks; every field has a default that suits development."""

    log_format: str = "auto"
    polling: bool = False
    polling_interval: float = 0.5
    quiet_ms: float = 10.0
    hint_after: float = 3.0
    verbose: bool = False
    app: str = ""
    state: str = ""
    probation: float = 60.0
    level: str = "auto"
    settle: float = 0.0
    settle_policy: str = ""
    prologue: str = "jump"
    allow: tuple[str, ...] = ()
    retire: bool = False
    keep: int = 1
    max_generations: int = 0
    max_bytes: int = 0
    files: str = ""

    @property
    def limits(self) -> dict[str, Any]:
        """What an extension may hold on to, as arguments of the manager's ``configure``."""
        return {name: getattr(self, name) for name in ("retire", "keep", "max_generations", "max_bytes")}

    def to_json(self) -> str:
        """The form in which the launcher hands it to the helper process."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Config:
        """What :meth:`to_json` wrote."""
        values: dict[str, Any] = json.loads(text)
        return cls(**{**values, "allow": tuple(values.get("allow", ()))})


def load_config(
    directory: Path | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    flags: Mapping[str, Any] | None = None,
) -> Config:
    """The configuration that holds in ``directory``.

    Args:
        directory: where to look for ``pyproject.toml``, upwards; the current one by default.
        environ: the environment; that of this process by default.
        flags: fields given on the command line; ``None`` values are "not given".

    Raises:
        HotReloadError: a key is unknown, or a value is not of its kind. Nothing was started.
    """
    values: dict[str, Any] = {}
    pyproject = find_pyproject(directory if directory is not None else Path.cwd())
    if pyproject is not None:
        values.update(_from_table(_read_table(pyproject), pyproject))
    values.update(_from_environment(os.environ if environ is None else environ))
    values.update({name: value for name, value in (flags or {}).items() if value is not None})
    return Config(**{name: _checked(name, value, f"--{_key(name)}") for name, value in values.items()})


def load_prologue(directory: Path | None = None, environ: Mapping[str, str] | None = None) -> str:
    """How functions that are built in ``directory`` are to be redirected: "jump" or "slot".

    ``HOTRELOAD_PROLOGUE`` wins over ``prologue`` in [tool.hotreload]; no other key is looked at.

    Raises:
        HotReloadError: there is no such prologue. Nothing was built.
    """
    value = (os.environ if environ is None else environ).get("HOTRELOAD_PROLOGUE", "")
    if value:
        return str(_checked("prologue", value, "HOTRELOAD_PROLOGUE"))
    pyproject = find_pyproject(directory if directory is not None else Path.cwd())
    if pyproject is None:
        return PROLOGUES[0]
    return str(_checked("prologue", _read_table(pyproject).get("prologue", PROLOGUES[0]), f"{pyproject}: prologue"))


def find_pyproject(directory: Path) -> Path | None:
    """The nearest ``pyproject.toml`` in ``directory`` or above it."""
    start = directory.absolute()
    for candidate in (start, *start.parents):
        if (candidate / "pyproject.toml").is_file():
            return candidate / "pyproject.toml"
    return None


def _read_table(pyproject: Path) -> Mapping[str, Any]:
    """The table [tool.hotreload] of one file; empty when it has none."""
    tomllib = import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")
    try:
        document = tomllib.loads(pyproject.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise HotReloadError(f"cannot read {pyproject}: {error}", hint="correct the file") from None
    table = document.get("tool", {}).get("hotreload", {})
    if not isinstance(table, dict):
        raise HotReloadError(f"{pyproject}: tool.hotreload must be a table", hint="write [tool.hotreload]")
    return table


def _from_table(table: Mapping[str, Any], pyproject: Path) -> dict[str, Any]:
    known = {_key(field.name): field.name for field in fields(Config)}
    values = {}
    for key, value in table.items():
        if key in _TABLES and isinstance(value, dict):
            continue
        if key not in known:
            raise HotReloadError(
                f"{pyproject}: [tool.hotreload] has no key {key!r}", hint=_nearest(_OTHER_NAMES.get(key, key), known)
            )
        values[known[key]] = _checked(known[key], value, f"{pyproject}: {key}")
    return values


def _from_environment(environ: Mapping[str, str]) -> dict[str, Any]:
    values = {}
    for field in fields(Config):
        variable = f"HOTRELOAD_{field.name.upper()}"
        if environ.get(variable, ""):
            values[field.name] = _checked(field.name, environ[variable], variable)
    return values


def _checked(name: str, value: Any, where: str) -> Any:
    """``value`` as the type of the field ``name``; text (from the environment) is read as that type."""
    default = getattr(Config(), name)
    if isinstance(default, bool):
        return _truth(value, where)
    if isinstance(default, tuple):
        return _slugs(value, where)
    if isinstance(default, (int, float)):
        return _number(value, default, where)
    if not isinstance(value, str):
        raise HotReloadError(f"{where}: {value!r} is not text", hint="write it in quotes")
    what, choices = _CHOICES.get(name, ("", ()))
    if choices and value not in choices:
        raise HotReloadError(f"{where}: no {what} {value!r}", hint=_nearest(value, choices))
    return value


def _truth(value: Any, where: str) -> bool:
    if isinstance(value, str) and value.lower() in _TRUE | _FALSE:
        return value.lower() in _TRUE
    if isinstance(value, bool):
        return value
    raise HotReloadError(f"{where}: {value!r} is neither true nor false", hint="use true or false")


def _number(value: Any, default: float, where: str) -> float:
    """A number of the default's own type; text is read as one."""
    try:
        number = float("nan") if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        number = float("nan")
    if not 0.0 <= number < float("inf"):
        raise HotReloadError(f"{where}: {value!r} is not a number of zero or more", hint=f"the default is {default:g}")
    if isinstance(default, float):
        return number
    if number != int(number):
        raise HotReloadError(f"{where}: {value!r} is not a whole number", hint=f"the default is {default}")
    return int(number)


def _slugs(value: Any, where: str) -> tuple[str, ...]:
    """Names of findings: a list of texts, or one text with commas. Whether there is such a one the guards know."""
    words = value.split(",") if isinstance(value, str) else value
    if not isinstance(words, (list, tuple)) or not all(isinstance(word, str) for word in words):
        raise HotReloadError(f"{where}: {value!r} is no list of texts", hint='write ["variable-size"]')
    return tuple(word.strip() for word in words if word.strip())


def _nearest(word: str, known: Any) -> str:
    close = get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f"did you mean {close[0]!r}?" if close else f"known: {', '.join(sorted(known))}"


def _key(name: str) -> str:
    return name.replace("_", "-")
