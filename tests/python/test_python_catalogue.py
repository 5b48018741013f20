"""Every edit of the catalogue: what the process answers afterwards is what a fresh one answers, or what was told."""

from __future__ import annotations

import pytest

from hotreload.errors import HotReloadError, IncompatibleError
from tests.python.catalogue import CASES, KEPT, LIVE, Case
from tests.python.conftest import Make


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_an_edit_comes_to_what_the_catalogue_says(edited: Make, case: Case) -> None:
    """And going back to the base gives the base's answers again."""
    live = edited(case.base)
    namespace = vars(live.module)
    exec(case.warm, namespace)
    if case.verdict not in (LIVE, KEPT):
        with pytest.raises(IncompatibleError) as refused:
            live.save(case.new)
        assert [finding.slug for finding in refused.value.findings] == [case.verdict]
        return
    before = _answer(case.ask, namespace)

    live.save(case.new)

    answer = eval(case.ask, namespace)
    if case.verdict == LIVE:
        fresh = vars(live.fresh(case.new))
        exec(case.warm, fresh)
        assert answer == eval(case.ask, fresh)
    else:
        assert repr(answer) == case.kept
        assert case.note in live.notes()

    live.back()

    if case.verdict == LIVE:
        assert _answer(case.ask, namespace) == before


def _answer(question: str, namespace: dict[str, object]) -> object:
    """What is answered, or which kind of error: the base lacks what the edit adds."""
    try:
        return eval(question, namespace)
    except (HotReloadError, AssertionError):
        raise
    except Exception as error:
        return type(error)


@pytest.mark.parametrize("case", [case for case in CASES if case.verdict == LIVE], ids=lambda case: case.name)
def test_an_edit_and_its_undo_and_again_are_the_edit(edited: Make, case: Case) -> None:
    live = edited(case.base)
    namespace = vars(live.module)
    exec(case.warm, namespace)
    live.save(case.new)
    first = eval(case.ask, namespace)
    live.back()
    live.save(case.new)

    assert eval(case.ask, namespace) == first
