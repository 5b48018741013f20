"""The catalogue of edits: each becomes what its file says, and the table says the same."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from typing import Any

import pytest

from hotreload.diff.verdicts import ALLOWABLE, NEVER
from hotreload.python import verdicts as python
from tests.edits import table
from tests.edits.case import LIVE, NOTHING, Case, read_all
from tests.edits.trial import Outcome, attempt, check
from tests.hot import FORK

CASES = read_all()
WORKERS = 2
#: What refuses an edit and has no case here, with the tests that have one.
ELSEWHERE = {
    "code-address": "no compiler was found to make such code of C",
    "compiler-changed": "tests/patch/test_workshop.py",
    "cython-constants": "tests/integrations/test_cython.py",
    "lambda-renumbered": "tests/integrations/test_pybind11.py",
    "variable-form": "tests/patch/test_clang.py",
}


@pytest.fixture(scope="module")
def outcomes(request, store, tmp_path_factory) -> Iterator[dict[str, Future[Outcome]]]:
    """The selected edits, tried ahead of the tests by as many processes as CI has cores."""
    ours = [item for item in request.session.items if item.path == request.path and "outcomes" in item.fixturenames]
    names = [item.callspec.params["name"] for item in ours]
    with ProcessPoolExecutor(WORKERS, FORK) as pool:
        yield {name: pool.submit(attempt, CASES[name], tmp_path_factory.mktemp("edit")) for name in names}
        pool.shutdown(cancel_futures=True)


@pytest.mark.parametrize("name", CASES)
def test_an_edit_goes_live_or_is_refused_as_the_catalogue_says(name, outcomes):
    check(CASES[name], outcomes[name].result())


def test_the_table_is_what_the_cases_say():
    assert table.held() == table.drawn(CASES.values()), "run: python -m tests.edits.table"


def test_there_are_64_edits_and_half_of_them_are_refused():
    assert len(CASES) >= 64
    assert 2 * sum(case.is_refused for case in CASES.values()) >= len(CASES)


def test_every_kind_of_refusal_has_an_edit():
    shown = {slug for case in CASES.values() for slug in case.slugs}
    of_c = {*ALLOWABLE, *NEVER} - {*python.NEVER}  # those have a catalogue of their own
    assert of_c <= shown | ELSEWHERE.keys()
    assert not shown & ELSEWHERE.keys()


def test_a_case_is_a_tiny_extension():
    for case in CASES.values():
        for texts in (case.before, case.after):
            assert sum(text.count("\n") for text in texts.values()) <= 40, case.name


LIES: dict[str, tuple[str, dict[str, Any]]] = {
    "a refusal that does not come": ("code/constant", {"verdict": "refused type-layout"}),
    "nothing to do where there is": ("code/constant", {"verdict": NOTHING}),
    "live where it must not": ("data/variable-size", {"verdict": LIVE}),
    "another slug": ("data/variable-size", {"verdict": "refused type-layout"}),
    "another function": ("code/constant", {"swapped": {"other"}}),
    "another line": ("data/variable-size", {"points": {("ext.c", 1)}}),
    "words that nobody says": ("code/constant", {"notes": ["restart the moon"]}),
    "state that is none": ("code/constant", {"kept": ["ext.area(3) * 0"]}),
}


@pytest.mark.parametrize("what", LIES)
def test_the_runner_finds_a_case_that_lies(what, tmp_path):
    name, changes = LIES[what]
    lie: Case = CASES[name]._replace(**changes)
    with pytest.raises(AssertionError):
        check(lie, attempt(lie, tmp_path))


def test_the_runner_finds_answers_of_the_old_code(tmp_path):
    case = CASES["code/constant"]
    outcome = attempt(case, tmp_path)
    check(case, outcome)
    old = attempt(case._replace(after=case.before, verdict=NOTHING), tmp_path / "old")
    with pytest.raises(AssertionError):
        check(case, outcome._replace(answers=old.answers))


def test_the_runner_finds_a_redirect_of_a_refused_edit(tmp_path):
    case = CASES["data/variable-size"]
    outcome = attempt(case, tmp_path)
    touched = bytearray(outcome.text[1])
    touched[64] ^= 1
    with pytest.raises(AssertionError, match="redirected"):
        check(case, outcome._replace(text=(outcome.text[0], bytes(touched))))
