"""One edit tried for real: the old text runs hot in a process and has state, the new text is brought to it.

::

    hot build of the old text ──▶ process: run, look at its code, [commit], ask
                                                                         ║ compared
    live, nothing to do:  plain build of the new text ──▶ process: run, ask
    refused, build error: the base, never touched     ──▶ process: run, ask
"""

from __future__ import annotations

import ctypes
import os
import subprocess
import sysconfig
from pathlib import Path
from typing import Any, NamedTuple, Union

from hotreload.build import cc
from hotreload.diff.verdicts import ALLOWABLE, SLUGS
from hotreload.elf.file import ElfFile
from hotreload.errors import BuildError, Finding, IncompatibleError, StageError
from hotreload.patch.workshop import PatchResult, Workshop
from tests.edits.case import BUILD_ERROR, LIVE, NOTHING, REFUSED, WRONG, Case
from tests.hot import FORK, Child

INCLUDE = [f"-I{sysconfig.get_path('include')}", f"-I{Path(__file__).resolve().parent / 'include'}"]


class Outcome(NamedTuple):
    """What became of an edit.

    ``text`` is the extension's code in memory, before and after, ``rolled_back`` that after a rollback to the base.
    ``allowed`` is the verdict when a person allows all that can be.
    """

    verdict: str
    findings: tuple[Finding, ...]
    swapped: set[str]
    notes: tuple[str, ...]
    answers: list[Any]
    expected: list[Any]
    kept: list[Any]
    still: list[Any]
    untouched: list[Any]
    text: tuple[bytes, bytes]
    rolled_back: bytes
    allowed: str


def attempt(case: Case, directory: Path) -> Outcome:
    """Build, run, edit, and ask the patched process and the one it is compared with."""
    place, fresh = directory / "hot", directory / "fresh"
    has_reference = case.verdict in (LIVE, NOTHING)
    _write(case.before, place)
    _write(case.after, fresh)
    plain = subprocess.Popen(_argv(case), cwd=fresh, stderr=subprocess.PIPE) if has_reference else None
    _build_hot(case, place)
    library = place / "ext.so"
    hot = Child(library, is_python=True)
    workshop = Workshop.open(ElfFile.read(library).build_id.hex())
    try:
        hot.ask("evaluate", "0")
        evaluate(hot, case.run)
        kept, before = evaluate(hot, case.kept), _text(hot, library)
        _write(case.after, place)
        made = _bring(workshop, hot)
        after, still = _text(hot, library), evaluate(hot, case.kept)
        swapped = set(hot.ask("evaluate", "[redirect.name for redirect in manager.history(module)[-1].redirects]"))
        answers = evaluate(hot, case.ask)
        hot.ask("rollback", 0)
        rolled_back = _text(hot, library)
        allowed = _allowed(workshop) if isinstance(made, IncompatibleError) else _verdict(made)
    finally:
        hot.end()
        workshop.close()
    if plain is not None:
        said = plain.communicate()[1]
        assert plain.returncode == 0, said.decode()
    reference = Child(fresh / "ext.so" if has_reference else library, is_python=True, is_hot=False)
    try:
        untouched = evaluate(reference, case.kept)
        evaluate(reference, case.run)
        expected = evaluate(reference, case.ask)
    finally:
        reference.end()
    return Outcome(
        verdict=_verdict(made),
        findings=made.findings if isinstance(made, IncompatibleError) else (),
        swapped=swapped,
        notes=made.notes if isinstance(made, PatchResult) else (),
        answers=answers,
        expected=expected,
        kept=kept,
        still=still,
        untouched=untouched,
        text=(before, after),
        rolled_back=rolled_back,
        allowed=allowed,
    )


def check(case: Case, outcome: Outcome) -> None:
    """Insist that the edit became what the case says.

    Raises:
        AssertionError: it did not, and the message says in what.
    """
    told = "\n".join(map(str, (*outcome.findings, *outcome.notes)))
    assert outcome.rolled_back == outcome.text[0], "a rollback leaves nothing behind"
    is_untouched = outcome.text[0] == outcome.text[1] and not outcome.swapped
    assert is_untouched or outcome.verdict == LIVE, "nothing may be redirected"
    if case.today:
        is_wrong = outcome.answers != outcome.expected
        assert is_wrong or outcome.verdict != case.verdict, "it has become what it should: take away its `today`"
        assert outcome.verdict == (case.verdict if case.today == WRONG else case.today), told
        return
    assert outcome.verdict == case.verdict, told
    assert outcome.answers == outcome.expected, "the answers are not those of the process it is compared with"
    assert outcome.still == outcome.kept, "state was not kept"
    for kept, untouched in zip(outcome.kept, outcome.untouched):
        assert kept != untouched, "what is kept must be of another value than in a fresh process, or nothing is shown"
    if case.verdict == LIVE:
        assert outcome.swapped or case.swapped == set(), "nothing is redirected"
        assert case.swapped in (None, outcome.swapped)
    for finding in outcome.findings:
        assert finding.file and finding.reason and finding.hint, "a refusal names its place, and what to do"
        assert bool(finding.line) != bool(case.no_line), f"{finding}\na refusal names a line where there is one"
    if case.points:
        assert case.points <= {(os.path.basename(f.file), f.line) for f in outcome.findings}, told
    never = [slug for slug in case.slugs if slug not in ALLOWABLE and slug in SLUGS]
    if case.is_refused and not never and outcome.findings:
        assert outcome.allowed in (LIVE, NOTHING), "what can be allowed can be made when it is"
    elif outcome.findings:
        assert outcome.allowed == f"{REFUSED} {', '.join(never)}", "what cannot work cannot be allowed"
    for note in case.notes:
        assert any(note in one for one in outcome.notes), told


def evaluate(child: Child, expressions: list[str]) -> list[Any]:
    """The answers of a process; an exception is an answer too."""
    answers: list[Any] = []
    for expression in expressions:
        try:
            answers.append(child.ask("evaluate", expression))
        except AssertionError:
            raise
        except Exception as error:
            answers.append(f"{type(error).__name__}: {error}")
    return answers


def code_of(path: str) -> bytes:
    """In the process: the executable memory of a library as it is now."""
    with open("/proc/self/maps", encoding="utf-8") as maps:
        lines = [line.split() for line in maps]
    spans = [words[0].split("-") for words in lines if words[-1] == path and "x" in words[1]]
    return b"".join(ctypes.string_at(int(start, 16), int(end, 16) - int(start, 16)) for start, end in spans)


def _text(child: Child, library: Path) -> bytes:
    code = child.ask("evaluate", f"__import__({__name__!r}, fromlist=['code_of']).code_of({str(library)!r})")
    assert isinstance(code, bytes) and code
    return code


def _bring(workshop: Workshop, hot: Child) -> Union[PatchResult, BuildError, IncompatibleError, StageError]:
    """The change in the sources made live in the process, or what spoke against it."""
    try:
        made = workshop.make()
        if made.path:
            hot.ask("commit", str(made.path))
    except (BuildError, IncompatibleError, StageError) as error:
        return error
    return made


def _allowed(workshop: Workshop) -> str:
    """The verdict when a person allows all that can be; nothing is sent."""
    workshop.allow = frozenset(ALLOWABLE)
    try:
        return _verdict(workshop.make())
    except IncompatibleError as error:
        return _verdict(error)


def _verdict(made: Union[PatchResult, BuildError, IncompatibleError, StageError]) -> str:
    if isinstance(made, BuildError):
        return BUILD_ERROR
    if isinstance(made, StageError):
        return f"{REFUSED} {made.status}"
    if isinstance(made, IncompatibleError):
        return f"{REFUSED} {', '.join(sorted({finding.slug for finding in made.findings}))}"
    return LIVE if made.path else NOTHING


def _argv(case: Case) -> list[str]:
    sources = [name for name in case.before if Path(name).suffix in (".c", ".cpp")]
    compiler = "g++" if any(name.endswith(".cpp") for name in sources) else "gcc"
    return [compiler, "-fPIC", *case.flags, *INCLUDE, "-shared", *sources, "-o", "ext.so"]


def _build_hot(case: Case, place: Path) -> None:
    """``hotreload cc`` in a forked process: starting an interpreter for each case would be half of the time."""
    builder = FORK.Process(target=_cc, args=(_argv(case), place))
    builder.start()
    builder.join()
    assert builder.exitcode == 0, "the old text must build hot"


def _cc(argv: list[str], place: Path) -> None:
    os.chdir(place)
    raise SystemExit(cc.main(argv))


def _write(files: dict[str, str], place: Path) -> None:
    place.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (place / name).write_text(text)
