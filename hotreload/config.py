"""The things that can be set, and where: a flag beats the environment, which beats ``pyproject.toml``.

The fields of :class:`Config` are the one list of them: type, default, what a value may be, help, variable and flag are
said there once, and the checks, ``hotreload config``, the flags of the commands and docs/configuration.md are made of
it. What a field needs:

    log_format: str = _option("auto", "colours for a person, or JSON", choices=LOG_FORMATS, flag="--log-format")
      │                         │       │                              │                      └ "" where there is none
      │                         │       └ one line                     └ or least=, most= for a number
      │                         └ its type is the type of the option
      ├ log-format in [tool.hotreload]
      └ HOTRELOAD_LOG_FORMAT in the environment

A key or a value that means nothing is an error that names the nearest one that does: a misspelt setting that is
silently ignored costs an afternoon.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

from hotreload.errors import HotReloadError

__all__ = [
    "LEVELS",
    "LOG_FORMATS",
    "OPTIONS",
    "POLICIES",
    "PROLOGUES",
    "VARIABLES",
    "Config",
    "ConfigError",
    "Option",
    "Setting",
    "find_pyproject",
    "line_of_key",
    "load_config",
    "load_prologue",
    "load_settings",
    "nearest",
    "read_table",
    "variable_problems",
]

LOG_FORMATS = ("auto", "console", "json")
LEVELS = ("auto", "function", "call", "request")
POLICIES = ("wait", "revert", "force")
PROLOGUES = ("jump", "slot")

PREFIX = "HOTRELOAD_"
# Tables of [tool.hotreload] that another part of the package reads.
TABLES = ("build", "policy")
# What one would look for under another name.
_OTHER_NAMES = {"policy": "settle-policy", "deadline": "settle"}
_TRUE = frozenset({"1", "true", "yes", "on"})
_FALSE = frozenset({"0", "false", "no", "off", ""})

#: Variables that are no options: what the environment alone says, or hotreload says to its own processes.
VARIABLES = {
    "HOTRELOAD_AGENT": "1: each process of the program has an agent that takes pushes, and nothing is watched",
    "HOTRELOAD_CANARIES": "set for a health command: the pids that are on trial",
    "HOTRELOAD_DISABLE": "1: hot reload is forbidden in this process, whatever the code asks for",
    "HOTRELOAD_HOT": "0: the setuptools command builds without hooks",
    "HOTRELOAD_JOURNAL": "set for the compiler wrapper: where it notes what it has built",
    "HOTRELOAD_KEY_PASSPHRASE": "the passphrase of a key for `hotreload sign`; it is never shown",
    "HOTRELOAD_LIVE": "set by `hotreload run --ui`: where a page of the program's own hears of reloads",
    "HOTRELOAD_PAGE_TOKENS": "set for the helper process: the secrets in the page's address",
    "HOTRELOAD_POLICY": "a file that says who may push what, in place of [tool.hotreload.policy]",
    "HOTRELOAD_PUSH": "set for a health command: the push that is on trial",
    "HOTRELOAD_SOCKET": "set by `hotreload run`: where the helper process listens",
    "HOTRELOAD_STORE": "where the base objects of hot builds are kept",
}


class ConfigError(HotReloadError):
    """A setting means nothing; nothing was started with it."""


def _option(default: Any, text: str, **facts: Any) -> Any:
    return field(default=default, metadata={"help": text, **facts})


@dataclass(frozen=True)
class Config:
    """What holds; every field has a default that suits development."""

    log_format: str = _option("auto", "lines for a person, or JSON", choices=LOG_FORMATS, flag="--log-format")
    log_file: str = _option("", "a file that gets every line as JSON besides", flag="--log-file")
    polling: bool = _option(False, "look at the files now and then, for network file systems", flag="--polling")
    polling_interval: float = _option(0.5, "seconds between two looks", least=0.01, most=3600.0)
    quiet_ms: float = _option(10.0, "milliseconds that a burst of saves must rest", most=60_000.0)
    hint_after: float = _option(3.0, "seconds until a missing extension is named")
    verbose: bool = _option(False, "debug lines too", flag="--verbose")
    app: str = _option("", "what `hotreload push --app` calls the program")
    state: str = _option("", "where its agents keep sockets and patches")
    probation: float = _option(60.0, "seconds in which a crash is blamed on a patch")
    level: str = _option("auto", "when a thread moves to new code", choices=LEVELS, flag="--level")
    settle: float = _option(
        0.0,
        "seconds in which threads are to leave old code; 0: 30 for a push, 2 under `run`",
        most=3600.0,
        flag="--settle",
    )
    settle_policy: str = _option(
        "",
        'what happens then; empty: "wait" for a push, "force" under `run`',
        what="policy",
        choices=POLICIES,
        flag="--policy",
    )
    prologue: str = _option("jump", "how functions are redirected", choices=PROLOGUES)
    allow: tuple[str, ...] = _option((), "findings that you know better about", flag="--allow")
    retire: bool = _option(False, "unmap old code that is proven unused")
    keep: int = _option(1, "so many old generations stay to go back to")
    max_generations: int = _option(0, "generations of one extension kept in memory; 0: no cap")
    max_bytes: int = _option(0, "bytes of them; 0: no cap")
    ui: bool = _option(False, "serve a page that shows what is live", flag="--ui")
    ui_port: int = _option(
        0, "the port of that page, on the loopback; 0: any that is free", most=65535, flag="--ui-port"
    )
    files: str = _option("", 'a directory for the files of generations, for perf and core dumps; "off": kept in memory')

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


class Option(NamedTuple):
    """One field of :class:`Config`, and all that is known of it; ``flag`` is empty where no command has one."""

    name: str
    default: Any
    help: str
    choices: tuple[str, ...] = ()
    least: float = 0.0
    most: float = float("inf")
    flag: str = ""
    what: str = ""

    @property
    def key(self) -> str:
        """Its name in [tool.hotreload]."""
        return self.name.replace("_", "-")

    @property
    def variable(self) -> str:
        return PREFIX + self.name.upper()

    @property
    def kind(self) -> str:
        """Its type, in a word for a reader."""
        kinds = {bool: "true or false", int: "whole number", float: "number", tuple: "list of texts"}
        return "one of " + ", ".join(self.choices) if self.choices else kinds.get(type(self.default), "text")

    @property
    def range(self) -> str:
        """What a number may be; empty for what is none."""
        if type(self.default) not in (int, float):
            return ""
        return f"{self.least:g} to {self.most:g}" if self.most < float("inf") else f"{self.least:g} or more"

    def check(self, value: Any, where: str) -> Any:
        """``value`` as this option's type; text (from the environment) is read as that type.

        Raises:
            ConfigError: it is not of its kind; ``where`` is named.
        """
        if isinstance(self.default, bool):
            return _truth(value, where)
        if isinstance(self.default, tuple):
            return _texts(value, where)
        if isinstance(self.default, (int, float)):
            return self._number(value, where)
        if not isinstance(value, str):
            raise ConfigError(f"{where}: {value!r} is not text", hint="write it in quotes")
        if self.choices and value not in self.choices:
            what = self.what or self.key.replace("-", " ")
            raise ConfigError(f"{where}: no {what} {value!r}", hint=nearest(value, self.choices))
        return value

    def check_written(self, value: Any, where: str) -> Any:
        """The same for a value of a file, which has types of its own: text is no number there, and no list."""
        if isinstance(value, str) and not isinstance(self.default, str):
            example = ["variable-type"] if isinstance(self.default, tuple) else self.default
            raise ConfigError(f"{where}: {value!r} is text, not {self.kind}", hint=f"write it as {json.dumps(example)}")
        return self.check(value, where)

    def _number(self, value: Any, where: str) -> float:
        """A number of the default's own type; text is read as one."""
        try:
            number = float("nan") if isinstance(value, bool) else float(value)
        except (TypeError, ValueError):
            number = float("nan")
        hint = f"the default is {self.default:g}"
        if not 0.0 <= number < float("inf"):
            raise ConfigError(f"{where}: {value!r} is not a number of zero or more", hint=hint)
        if not self.least <= number <= self.most:
            raise ConfigError(f"{where}: {value!r} is out of range: {self.range}", hint=hint)
        if isinstance(self.default, float):
            return number
        if number != int(number):
            raise ConfigError(f"{where}: {value!r} is not a whole number", hint=hint)
        return int(number)


def _options() -> tuple[Option, ...]:
    known = set(Option._fields)
    found = []
    for one in fields(Config):
        facts = {name: value for name, value in one.metadata.items() if name in known}
        found.append(Option(one.name, one.default, facts.pop("help", ""), **facts))
    return tuple(found)


OPTIONS = _options()


class Setting(NamedTuple):
    """The value of an option that holds, and who said so: ``source`` is default, file, variable or flag."""

    option: Option
    value: Any
    source: str
    where: str


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
        ConfigError: a key is unknown, or a value is not of its kind. Nothing was started.
    """
    settings = load_settings(directory, environ=environ, flags=flags)
    return Config(**{setting.option.name: setting.value for setting in settings})


def load_settings(
    directory: Path | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    flags: Mapping[str, Any] | None = None,
) -> list[Setting]:
    """The same with where each value comes from. Raises as :func:`load_config` does."""
    given_in = os.environ if environ is None else environ
    pyproject = find_pyproject(directory if directory is not None else Path.cwd())
    table = _checked_table(pyproject) if pyproject is not None else {}
    settings = []
    for option in OPTIONS:
        setting = Setting(option, option.default, "default", "default")
        if option.key in table:
            value = option.check_written(table[option.key], f"{pyproject}: {option.key}")
            setting = Setting(option, value, "file", f"{pyproject}: {option.key}")
        if given_in.get(option.variable, ""):
            value = option.check(given_in[option.variable], option.variable)
            setting = Setting(option, value, "variable", option.variable)
        given = (flags or {}).get(option.name)
        if given is not None:
            name = option.flag or f"--{option.key}"
            setting = Setting(option, option.check(given, name), "flag", name)
        settings.append(setting)
    return settings


def load_prologue(directory: Path | None = None, environ: Mapping[str, str] | None = None) -> str:
    """How functions that are built in ``directory`` are to be redirected: "jump" or "slot".

    ``HOTRELOAD_PROLOGUE`` wins over ``prologue`` in [tool.hotreload]; no other key is looked at.

    Raises:
        ConfigError: there is no such prologue. Nothing was built.
    """
    option = next(option for option in OPTIONS if option.name == "prologue")
    value = (os.environ if environ is None else environ).get(option.variable, "")
    if value:
        return str(option.check(value, option.variable))
    pyproject = find_pyproject(directory if directory is not None else Path.cwd())
    if pyproject is None:
        return str(option.default)
    return str(
        option.check_written(read_table(pyproject).get(option.key, option.default), f"{pyproject}: {option.key}")
    )


def find_pyproject(directory: Path) -> Path | None:
    """The nearest ``pyproject.toml`` in ``directory`` or above it."""
    start = directory.absolute()
    for candidate in (start, *start.parents):
        if (candidate / "pyproject.toml").is_file():
            return candidate / "pyproject.toml"
    return None


def read_table(pyproject: Path) -> Mapping[str, Any]:
    """The table [tool.hotreload] of one file as it stands there; empty when it has none. Raises ConfigError."""
    tomllib = import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")
    try:
        document = tomllib.loads(pyproject.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot read {pyproject}: {error}", hint="correct the file") from None
    tool = document.get("tool", {})
    table = tool.get("hotreload", {}) if isinstance(tool, dict) else {}
    if not isinstance(table, dict):
        raise ConfigError(f"{pyproject}: tool.hotreload must be a table", hint="write [tool.hotreload]")
    return table


def line_of_key(pyproject: Path, key: str, table: str = "") -> int:
    """The line on which ``key`` stands in [tool.hotreload] or a table in it; 0 where it is written in another way."""
    wanted = ".".join(("tool", "hotreload", *([table] if table else [])))
    inside = False
    for number, line in enumerate(pyproject.read_text(encoding="utf-8").splitlines(), 1):
        heading = re.match(r"\s*\[\s*([^\[\]]+?)\s*\]", line)
        if heading:
            inside = re.sub(r"[\s\"']", "", heading[1]) == wanted
        elif inside and re.match(rf"\s*[\"']?{re.escape(key)}[\"']?\s*=", line):
            return number
    return 0


def variable_problems(environ: Mapping[str, str]) -> dict[str, str]:
    """The HOTRELOAD_ variables that nothing reads, each with the nearest that something does."""
    known = {*VARIABLES, *(option.variable for option in OPTIONS)}
    return {
        name: f"nothing reads it: {nearest(name, known)}"
        for name in sorted(environ)
        if name.startswith(PREFIX) and name not in known
    }


def nearest(word: str, known: Iterable[str]) -> str:
    """A hint for a word that is none of those that are known."""
    from difflib import get_close_matches

    known = list(known)
    begun = [one for one in known if len(word) > 3 and one.startswith(word)]
    close = begun or get_close_matches(word, known, n=1, cutoff=0.5)
    return f"did you mean {close[0]!r}?" if close else f"known: {', '.join(sorted(known))}"


def _checked_table(pyproject: Path) -> Mapping[str, Any]:
    """The keys of [tool.hotreload]; each is one that there is."""
    table = read_table(pyproject)
    known = [option.key for option in OPTIONS]
    for key, value in table.items():
        if key not in known and not (key in TABLES and isinstance(value, dict)):
            message = f"{pyproject}: [tool.hotreload] has no key {key!r}"
            if key == "build":
                raise ConfigError(message, hint="it is a table: write [tool.hotreload.build]")
            raise ConfigError(message, hint=nearest(_OTHER_NAMES.get(key, key), known))
    return table


def _truth(value: Any, where: str) -> bool:
    if isinstance(value, str) and value.lower() in _TRUE | _FALSE:
        return value.lower() in _TRUE
    if isinstance(value, bool):
        return value
    raise ConfigError(f"{where}: {value!r} is neither true nor false", hint="use true or false")


def _texts(value: Any, where: str) -> tuple[str, ...]:
    """Names of findings: a list of texts, or one text with commas. Whether there is such a one the guards know."""
    words = value.split(",") if isinstance(value, str) else value
    if not isinstance(words, (list, tuple)) or not all(isinstance(word, str) for word in words):
        raise ConfigError(f"{where}: {value!r} is no list of texts", hint='write ["variable-type"]')
    return tuple(word.strip() for word in words if word.strip())
