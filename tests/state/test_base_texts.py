"""Base texts: kept once, by what they say, for their owner only; what was changed since is not believed."""

from __future__ import annotations

import hashlib
import stat
from pathlib import Path

import pytest

from hotreload.artefact import MAX_TEXT_LEN
from hotreload.state import BaseTexts, StateDirectory, StateError, bases

TEXT = b"def price(n):\n    return 2 * n\n"
NAME = hashlib.sha256(TEXT).hexdigest()[:40]


@pytest.fixture
def texts(tmp_path: Path) -> BaseTexts:
    return BaseTexts(StateDirectory(tmp_path / "state"))


def test_a_text_is_kept_once_for_its_owner_only(texts: BaseTexts, tmp_path: Path) -> None:
    assert texts.get(NAME) is None
    assert texts.keep(TEXT)
    assert not texts.keep(TEXT)

    assert texts.get(NAME) == TEXT
    (path,) = (tmp_path / "state" / "bases").iterdir()
    assert path.name == f"{NAME}.py"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_text_that_was_edited_in_its_place_is_not_believed(texts: BaseTexts, tmp_path: Path) -> None:
    texts.keep(TEXT)
    (tmp_path / "state" / "bases" / f"{NAME}.py").write_bytes(TEXT + b"import os\n")

    with pytest.raises(StateError, match="is not the text that it was"):
        texts.get(NAME)


def test_a_text_that_is_too_long_is_not_kept(texts: BaseTexts, tmp_path: Path) -> None:
    with pytest.raises(StateError, match="over the limit of 1,048,576 and is not kept"):
        texts.keep(b"#" * (MAX_TEXT_LEN + 1))
    assert not (tmp_path / "state" / "bases").exists()


@pytest.mark.parametrize("name", ["", "ab", "../../etc/passwd", NAME.upper(), NAME + "00"])
def test_what_is_no_build_id_is_refused(texts: BaseTexts, name: str) -> None:
    with pytest.raises(StateError, match="is no build-id of a Python module"):
        texts.get(name)


def test_the_oldest_go_when_there_are_too_many(texts: BaseTexts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bases, "KEEP", 3)
    made = [f"n = {number}\n".encode() for number in range(5)]
    for text in made:
        texts.keep(text)

    assert [texts.get(bases.build_id_of(text)) for text in made] == [None, None, *made[2:]]
