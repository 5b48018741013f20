"""``hotreload completion``: a script that completes commands, options, choices, refusals and files in a shell.

shtab writes it from the parsers, once: nothing of Python is started when a person presses TAB. What it is told besides
is which files an argument wants, and the names that `hotreload explain` and ``--allow`` know.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from typing import Any

from hotreload.cli.tree import top_parser
from hotreload.errors import HotReloadError

__all__ = ["make_script", "print_completion"]

_C_SUFFIXES = ("c", "cc", "cpp", "cxx", "h", "hpp")
#: What an argument completes, as suffixes of files; the directories on the way are offered too.
_SUFFIXES = {
    "py": ("py",),
    "text": (*_C_SUFFIXES, "py"),
    "source": (*_C_SUFFIXES, "py", "hotpatch"),
    "hotpatch": ("hotpatch",),
    "pub": ("pub",),
}


def print_completion(options: argparse.Namespace) -> int:
    """Prints the script. Raises HotReloadError: shtab is not installed."""
    print(make_script(options.shell))
    return 0


def make_script(shell: str) -> str:
    """The script for "bash", "zsh" or "fish". Raises HotReloadError: shtab is not installed."""
    try:
        import shtab
    except ImportError:
        raise HotReloadError("shtab is not installed", hint="pip install shtab") from None
    parser = top_parser()
    for action in _actions(parser):
        _teach(action)
    return str(shtab.complete(parser, shell))


def _actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    for action in parser._actions:  # noqa: SLF001 - argparse has no other way
        yield action
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001 - likewise
            for one in action.choices.values():
                yield from _actions(one)


def _teach(action: argparse.Action) -> None:
    """Says to shtab what an argument completes."""
    wanted = getattr(action, "completes", "")
    if wanted in ("slugs", "pages"):
        action.choices = tuple(_names(wanted))
    elif wanted:
        import shtab

        fixed = {"/": shtab.DIRECTORY, "*": shtab.FILE}
        found = fixed.get(wanted) or _files(_SUFFIXES[wanted])
        action.complete = found  # type: ignore[attr-defined]


def _files(suffixes: Sequence[str]) -> Any:
    """Files with one of these suffixes, in shtab's words; zsh takes a lone (pattern) for something else."""
    import shtab

    one = suffixes[0] if len(suffixes) == 1 else f"({'|'.join(suffixes)})"
    return {**shtab.glob(*(f"*.{suffix}" for suffix in suffixes)), "zsh": f"_files -g '*.{one}'"}


def _names(wanted: str) -> list[str]:
    if wanted == "slugs":
        from hotreload.diff.verdicts import ALLOWABLE

        return sorted(ALLOWABLE)
    from hotreload.cli.pages import load_pages

    return sorted(load_pages())
