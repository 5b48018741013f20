"""Completion, by the shells themselves: each is run with the script, and asked."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from hotreload.cli.completion_command import make_script
from hotreload.cli.tree import COMMANDS
from hotreload.diff.verdicts import ALLOWABLE

#: What is typed, and what must be among the answers, and what must not.
CASES = [
    ("hotreload pu", {"push"}, {"pack"}),
    ("hotreload explain type-", {"type-layout", "type-object"}, {"no-hook"}),
    ("hotreload explain BUS", {"BUSY"}, {"LOCKED"}),
    ("hotreload push --allow ", {*ALLOWABLE}, {"no-hook"}),
    ("hotreload run --level ", {"auto", "call"}, {"wait"}),
    ("hotreload push --dr", {"--dry-run"}, {"--pid"}),
    ("hotreload show ", {"fix.hotpatch", "sub/"}, {"a.c"}),
    ("hotreload pack ", {"a.c", "sub/"}, {"fix.hotpatch"}),
    ("hotreload completion ", {"bash", "zsh", "fish"}, {"push"}),
]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory of files to complete, and the scripts beside it."""
    directory = tmp_path_factory.mktemp("completion")
    (directory / "work" / "sub").mkdir(parents=True)
    for name in ("a.c", "b.py", "fix.hotpatch", "deploy.pub"):
        (directory / "work" / name).touch()
    for shell in ("bash", "zsh", "fish"):
        (directory / f"hotreload.{shell}").write_text(make_script(shell))
    return directory


def need(shell: str) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")


def check(answers: dict[str, set[str]]) -> None:
    for line, wanted, unwanted in CASES:
        found = {answer.rstrip("/") for answer in answers[line]}
        assert {one.rstrip("/") for one in wanted} <= found, line
        assert not unwanted & found, line


def test_fish(place: Path) -> None:
    need("fish")
    asks = "".join(f"echo '? {line}'; complete -C '{line}';" for line, _, _ in CASES)
    script = f"source {place / 'hotreload.fish'}; {asks}"
    done = subprocess.run(["fish", "--no-config", "-c", script], cwd=place / "work", capture_output=True, text=True)
    assert done.returncode == 0, done.stderr

    answers: dict[str, set[str]] = {}
    for line in done.stdout.splitlines():
        if line.startswith("? "):
            found = answers.setdefault(line[2:], set())
        else:
            found.add(line.split("\t")[0])
    check(answers)


def test_bash(place: Path) -> None:
    need("bash")
    ask = """
        source "$1"; shift
        for asked in "$@"; do
            words=$(complete -p hotreload | sed 's/.* -F \\([^ ]*\\).*/\\1/')
            read -ra COMP_WORDS <<< "$asked"; [[ $asked == *" " ]] && COMP_WORDS+=("")
            COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); COMPREPLY=()
            "$words" hotreload "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
            echo "? $asked"; printf '%s\\n' "${COMPREPLY[@]}"
        done"""
    lines = [line for line, _, _ in CASES]
    command = ["bash", "--norc", "-c", ask, "bash", str(place / "hotreload.bash"), *lines]
    done = subprocess.run(command, cwd=place / "work", capture_output=True, text=True)
    assert done.returncode == 0, done.stderr

    parts = ("\n" + done.stdout).split("\n? ")[1:]
    check({head: set(rest.splitlines()) for head, _, rest in (part.partition("\n") for part in parts)})


def test_zsh(place: Path) -> None:
    """Its completion function is asked inside a zsh of its own, on a terminal, as a person would."""
    need("zsh")
    ask = r"""
        zmodload zsh/zpty || exit 77
        zpty z zsh -f -i
        zpty -w z 'PS1=""; unsetopt zle_bracketed_paste; autoload -U compinit; compinit -u -D'
        zpty -w z "eval \"\$(<$1)\"; zstyle ':completion:*' list-colors; LISTMAX=999; ASKED=$2"
        zpty -w z 'compadd () { [[ ${@[(I)-O|-A|-D]} -gt 0 ]] && { builtin compadd "$@"; return }
            local -a found; builtin compadd -O found "$@"; print -r -- "= ${(j: :)found}" >> $ASKED; builtin compadd "$@" }'
        zpty -w z 'ask () { print -r -- "? $BUFFER" >> $ASKED; zle complete-word; BUFFER=""; print "DO""NE" }
            zle -N ask; bindkey "^I" ask; print RE""ADY'
        zpty -r -m z out '*READY*'
        shift 2
        for line in "$@"; do
            zpty -w -n z "$line"$'\t'; zpty -r -m z out '*DONE*'
        done"""
    lines = [line for line, _, _ in CASES]
    asked = place / "asked"
    command = ["zsh", "-f", "-c", ask, "zsh", str(place / "hotreload.zsh"), str(asked), *lines]
    done = subprocess.run(command, cwd=place / "work", capture_output=True, text=True, timeout=60)
    if done.returncode == 77:
        pytest.skip("this zsh has no zpty")

    answers: dict[str, set[str]] = {line: set() for line in lines}
    current = ""
    for line in asked.read_text().splitlines():
        if line.startswith("? "):
            current = line[2:]
        elif line.startswith("= ") and current:
            answers[current] |= set(line[2:].split())
    check(answers)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_every_command_is_in_the_script(place: Path, shell: str) -> None:
    text = (place / f"hotreload.{shell}").read_text()
    assert all(name in text for name in COMMANDS)


def test_without_shtab_it_says_what_to_install(tmp_path: Path) -> None:
    code = "import sys; sys.modules['shtab'] = None; from hotreload.cli import main; sys.exit(main(['completion', 'bash']))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, "pip install shtab" in done.stderr) == (2, True)
