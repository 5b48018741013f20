"""What the person changed: two versions of the source text, function by function.

The object says which functions differ; only the text says who is to blame. On a large file GCC emits other
code for functions that nobody touched, and a line inserted above moves every ``__LINE__`` below. Functions are
cut out by the lines that the debug information gives for them, so that ``#if`` branches that are not compiled
cannot mislead; comments and white space do not count.

What is found here decides how a change is *reported*, and whether a moved line number counts. It never makes
a changed function stay behind.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from difflib import SequenceMatcher
from functools import cached_property
from typing import Mapping

from hotreload.elf.debug import Heading

__all__ = ["SourceChange"]

COMMENT_OR_STRING = re.compile(r"""//(?:\\\n|[^\n])*|/\*.*?\*/|("(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*')""", re.DOTALL)
WORD = re.compile(r"[A-Za-z_]\w*")
NUMBER = re.compile(r"\b\d+\b")
DECLARES = re.compile(r"#|\btypedef\b|\b(?:struct|union|enum|class)\b[^;(){}]*\{|\b(?:virtual|override|final)\b")
KEYWORDS = {
    *("auto", "break", "case", "char", "const", "continue", "default", "do", "double", "else", "enum"),
    *("extern", "float", "for", "goto", "if", "inline", "int", "long", "register", "restrict", "return"),
    *("short", "signed", "sizeof", "static", "struct", "switch", "typedef", "union", "unsigned", "void"),
    *("volatile", "while", "define", "undef", "include", "ifdef", "ifndef", "endif", "elif", "defined", "bool"),
    *("size_t", "ssize_t", "NULL", "PyObject", "Py_ssize_t"),
}


class SourceChange:
    """The difference between two versions of the files that one object was made from.

    ``old`` and ``new`` map paths to texts; ``old_headings`` and ``new_headings`` map functions to where the debug
    information says that they begin.
    """

    def __init__(
        self,
        old: Mapping[str, str],
        new: Mapping[str, str],
        old_headings: Mapping[str, Heading],
        new_headings: Mapping[str, Heading],
    ) -> None:
        self._old, self._new = old, new
        self._words = {name: heading.word for name, heading in {**old_headings, **new_headings}.items()}
        self._changed_files = [path for path in {**old, **new} if old.get(path) != new.get(path)]
        self._old_parts = [_cut(path, old.get(path, ""), old_headings) for path in self._changed_files]
        self._new_parts = [_cut(path, new.get(path, ""), new_headings) for path in self._changed_files]

    @cached_property
    def edited(self) -> set[str]:
        """Functions whose text changed, or that one version has and the other has not."""
        edited: set[str] = set()
        for (old, _), (new, _) in zip(self._old_parts, self._new_parts):
            edited |= {name for name in {**old, **new} if old.get(name) != new.get(name)}
        return edited

    @cached_property
    def _changed_runs(self) -> list[tuple[list[str], int, int]]:
        """Runs of lines outside functions that only one version has: all of its lines, where it starts and ends."""
        runs: list[tuple[list[str], int, int]] = []
        for (_, old), (_, new) in zip(self._old_parts, self._new_parts):
            if old != new:
                for tag, i, j, k, m in _Matcher(old, new).get_opcodes():
                    if tag != "equal":
                        runs += [(old, i, j), (new, k, m)]
        return runs

    @cached_property
    def _declarations(self) -> list[str]:
        """Lines outside functions that only one version has."""
        return [line for lines, start, end in self._changed_runs for line in lines[start:end]]

    @cached_property
    def leaves_the_rest_alone(self) -> bool:
        """Whether what changed outside functions are whole declarations of names that nothing else uses.

        Not so is a preprocessor line, or a line of a struct or an enum: code far away may mean something else by it.
        """
        if not self._declarations:
            return True
        if not all(_is_whole(*run) for run in self._changed_runs):
            return False
        changed = Counter(word for line in self._declarations for word in WORD.findall(line))
        texts = [text for parts in (self._old_parts, self._new_parts) for functions, _ in parts
                 for name, text in functions.items() if name not in self.edited]  # fmt: skip
        outside = [line for parts in (self._old_parts, self._new_parts) for _, lines in parts for line in lines]
        used = Counter(word for text in (*texts, *outside) for word in WORD.findall(text))
        return all(used[word] == changed[word] for word in self.names_in_declarations)

    @cached_property
    def may_change_types(self) -> bool:
        """Whether something else than statements changed: only then need types be compared.

        A definition may stand inside a function, and text between two functions may pass for the first one's.
        """
        if self._declarations:
            return True
        if any(_methods(old) != _methods(new) for (old, _), (new, _) in zip(self._old_parts, self._new_parts)):
            return True  # a method, which may be a virtual one
        parts = (*self._old_parts, *self._new_parts)
        texts = (functions[name] for functions, _ in parts for name in self.edited & functions.keys())
        return any(DECLARES.search(text) for text in texts)

    @cached_property
    def names_in_declarations(self) -> set[str]:
        """Identifiers that occur in changed text outside functions."""
        return {word for line in self._declarations for word in WORD.findall(line)} - KEYWORDS

    def keeps_statics_apart(self, function: str, variable: str) -> bool:
        """Whether the static variables of one name in ``function`` are declared as before, in the same order.

        Only if each declaration reads differently from the others is the order known to be the same.
        """
        if function not in self.edited:
            return True
        declaration = re.compile(rf"\bstatic\b[^;]*\b{re.escape(variable)}\b[^;]*;")
        old, new = (
            [found for functions, _ in parts for found in declaration.findall(functions.get(function, ""))]
            for parts in (self._old_parts, self._new_parts)
        )
        return old == new and len(set(old)) == len(old) > 1

    def mentions_change(self, function: str) -> bool:
        """Whether the text of ``function`` uses an edited function or a name from a changed declaration.

        An inlined call leaves no trace in the debug information when the compiler folds all of it away.
        """
        texts = [functions[function] for functions, _ in self._new_parts if function in functions]
        if not texts:
            return bool(self._declarations)
        changed = self.names_in_declarations | {self._words.get(name, name) for name in self.edited}
        return any(not changed.isdisjoint(WORD.findall(text)) for text in texts)

    def is_moved_line(self, old: int, new: int) -> bool:
        """Whether ``new`` is where line ``old`` of an unchanged text stands now, and nothing else.

        A number that stands in a changed declaration is not believed to be a line number.
        """
        if {str(old), str(new)} & self._numbers_in_declarations:
            return False
        return any(moved.get(old) == new for moved in self._moved_lines)

    @cached_property
    def _numbers_in_declarations(self) -> set[str]:
        return {number for line in self._declarations for number in NUMBER.findall(line)}

    @cached_property
    def _moved_lines(self) -> list[dict[int, int]]:
        maps = []
        for path in self._changed_files:
            old, new = self._old.get(path, "").split("\n"), self._new.get(path, "").split("\n")
            moved: dict[int, int] = {}
            for i, j, size in _Matcher(old, new).get_matching_blocks():
                moved.update((i + n + 1, j + n + 1) for n in range(size))
            maps.append(moved)
        return maps


class _Matcher:
    """difflib between the first and the last difference: an edit is small, a file is not."""

    def __init__(self, old: list[str], new: list[str]) -> None:
        self._start = _common(old, new)
        rest = min(len(old), len(new)) - self._start
        self._tail = min(rest, _common(old[::-1], new[::-1]))
        self._old_len, self._new_len = len(old), len(new)
        self._middle = SequenceMatcher(
            None, old[self._start : len(old) - self._tail], new[self._start : len(new) - self._tail], autojunk=False
        )

    def get_matching_blocks(self) -> list[tuple[int, int, int]]:
        middle = [(i + self._start, j + self._start, n) for i, j, n in self._middle.get_matching_blocks()]
        return [(0, 0, self._start), *middle, (self._old_len - self._tail, self._new_len - self._tail, self._tail)]

    def get_opcodes(self) -> list[tuple[str, int, int, int, int]]:
        s = self._start
        return [(tag, i + s, j + s, k + s, m + s) for tag, i, j, k, m in self._middle.get_opcodes()]


def _methods(functions: Mapping[str, str]) -> list[str]:
    """The C++ functions of a file in their order, which is that of a class's table where they are virtual."""
    return [name for name in functions if name.startswith("_Z")]


def _is_whole(lines: list[str], start: int, end: int) -> bool:
    """Whether ``lines[start:end]`` are declarations of their own, and none for the preprocessor."""
    before, run = " ".join(lines[:start]), " ".join(lines[start:end])
    is_balanced = before.count("{") == before.count("}") and run.count("{") == run.count("}")
    is_directive = "_Pragma" in run or any(line.startswith("#") for line in lines[start:end])
    return start == end or (is_balanced and run.endswith(";") and not is_directive)


def _common(old: list[str], new: list[str]) -> int:
    count = 0
    for a, b in zip(old, new):
        if a != b:
            break
        count += 1
    return count


def _cut(path: str, text: str, headings: Mapping[str, Heading]) -> tuple[dict[str, str], list[str]]:
    """The functions of ``text`` by name, white space folded, and the lines outside them."""
    clean = _without_comments(text).split("\n")
    starts: dict[int, list[str]] = {}  # several functions in one line: instances of one template, or of one macro
    base = os.path.basename(path)
    for name, (file, line, word) in headings.items():
        if file == base and line <= len(clean) and _has_word(clean[line - 1], word):
            starts.setdefault(line, []).append(name)
    functions: dict[str, str] = {}
    outside: list[str] = []
    position = 0
    lines = sorted(starts)
    for line, following in zip(lines, [*lines[1:], len(clean) + 1]):
        start = line - 1
        if start - 1 >= position and _continues(clean[start - 1]):
            start -= 1  # the return type stands on a line of its own
        if start < position:
            continue
        end = _end_of_function(clean, line, following - 1)
        outside += clean[position:start]
        functions.update(dict.fromkeys(starts[line], " ".join(" ".join(clean[start:end]).split())))
        position = end
    outside += clean[position:]
    return functions, [" ".join(line.split()) for line in outside if line.strip()]


def _has_word(line: str, word: str) -> bool:
    """Whether ``word`` stands there by itself. No regular expression: one for each function took 50 µs to compile."""
    at = line.find(word)
    while at >= 0:
        around = line[at - 1 : at] + line[at + len(word) : at + len(word) + 1]
        if not any(letter.isalnum() or letter == "_" for letter in around):
            return True
        at = line.find(word, at + 1)
    return False


def _end_of_function(clean: list[str], line: int, limit: int) -> int:
    """The last line of the function that begins in ``line``: itself, or one with a brace as far to the left."""
    heading = clean[line - 1]
    if "{" in heading and heading.count("{") == heading.count("}"):
        return line
    brace = heading[: len(heading) - len(heading.lstrip())] + "}"
    return next((n + 1 for n in range(line - 1, limit) if clean[n].startswith(brace)), limit)


def _continues(line: str) -> bool:
    stripped = line.strip()
    return bool(stripped) and not stripped.startswith("#") and not stripped.endswith((";", "}", "{", ")", ","))


def _without_comments(text: str) -> str:
    return COMMENT_OR_STRING.sub(lambda m: m.group(1) or " " + "\n" * m.group(0).count("\n"), text)
