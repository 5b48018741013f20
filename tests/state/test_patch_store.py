"""The patch store: what is current on a base, and no way back to an older one but a rollback."""

from __future__ import annotations

import multiprocessing
import os
from pathlib import Path

import pytest

from hotreload.artefact import Artefact, ArtefactError, parse
from hotreload.state import PatchStore, Quarantine, StateDirectory, StateError
from hotreload.state.patches import KEEP
from tests.artefact import kit

FORK = multiprocessing.get_context("fork")
BASE, OTHER = kit.BUILD_ID.hex(), kit.OTHER_ID.hex()


def artefact(sequence: int = 5, **changes: object) -> Artefact:
    return parse(kit.make(sequence=sequence, **changes))


@pytest.fixture
def room(tmp_path: Path) -> Path:
    return tmp_path / "state" / "patches" / BASE


@pytest.fixture
def patches(tmp_path: Path) -> PatchStore:
    return PatchStore(StateDirectory(tmp_path / "state"))


def test_where_nothing_was_pushed_the_base_is_current(patches: PatchStore) -> None:
    assert patches.current(BASE) is None
    assert patches.current_name(BASE) == "base"
    assert patches.newest_sequence(BASE) is None
    assert patches.names(BASE) == patches.build_ids() == []


def test_what_is_put_is_current_only_when_that_is_said(patches: PatchStore) -> None:
    name = patches.put(artefact())
    assert patches.current(BASE) is None and patches.newest_sequence(BASE) == 5

    patches.set_current(BASE, name)
    assert patches.current(BASE) == artefact()
    assert patches.current(OTHER) is None
    assert patches.build_ids() == [BASE]


def test_going_back_to_the_base_keeps_the_newest_sequence_known(patches: PatchStore) -> None:
    patches.set_current(BASE, patches.put(artefact(5)))
    patches.set_current(BASE, "base")

    assert patches.current(BASE) is None and patches.newest_sequence(BASE) == 5
    with pytest.raises(ArtefactError, match=r"sequence number 4, and 5 was pushed.*rollback"):
        patches.refuse_older(artefact(4))


def test_a_downgrade_is_refused_and_the_same_again_is_not(patches: PatchStore) -> None:
    patches.refuse_older(artefact(1))
    patches.put(artefact(5))
    patches.put(artefact(7))

    for sequence in (0, 5, 6):
        with pytest.raises(ArtefactError, match="older than what this base has had") as caught:
            patches.refuse_older(artefact(sequence))
        assert caught.value.status == "SEQUENCE_OLD" and caught.value.fields["newest"] == 7
    patches.refuse_older(artefact(7))
    patches.refuse_older(artefact(8))


def test_two_artefacts_cannot_have_one_number(patches: PatchStore) -> None:
    patches.put(artefact(5))
    patches.put(artefact(5))
    with pytest.raises(ArtefactError, match="sequence number 5 is taken by another artefact") as caught:
        patches.put(artefact(5, author="Eve"))
    assert caught.value.status == "SEQUENCE_TAKEN"
    assert patches.names(BASE) == ["00000000000000000005.hotpatch"]


def put(path: Path, author: str, barrier, answers) -> None:
    patches = PatchStore(StateDirectory(path))
    mine = artefact(5, author=author)
    barrier.wait()
    try:
        answers.put(bool(patches.put(mine)))
    except ArtefactError as error:
        answers.put(error.status)


def test_of_many_pushers_with_one_number_one_wins(tmp_path: Path, patches: PatchStore) -> None:
    barrier, answers = FORK.Barrier(8), FORK.Queue()
    pushers = [FORK.Process(target=put, args=(tmp_path / "state", f"pusher {i}", barrier, answers)) for i in range(8)]
    for pusher in pushers:
        pusher.start()
    told = [answers.get(timeout=30) for _ in pushers]
    for pusher in pushers:
        pusher.join(30)

    assert sorted(map(str, told)) == ["SEQUENCE_TAKEN"] * 7 + ["True"]
    assert patches.get(BASE, "00000000000000000005.hotpatch").manifest.author.startswith("pusher ")


def test_the_same_artefact_may_be_signed_meanwhile(patches: PatchStore) -> None:
    signing = pytest.importorskip("hotreload.signing")
    pytest.importorskip("cryptography", reason="the package cryptography is not installed")
    name = patches.put(artefact(5))
    signed = parse(signing.sign(artefact(5).raw, signing.new_key()))

    assert patches.put(signed) == name
    assert patches.get(BASE, name) == signed


def test_names_sort_as_their_numbers_do(patches: PatchStore) -> None:
    for sequence in (10, 9, 2**63 - 1, 0):
        patches.put(artefact(sequence))

    assert [int(name.split(".")[0]) for name in patches.names(BASE)] == [0, 9, 10, 2**63 - 1]


def test_only_what_is_kept_can_be_current(patches: PatchStore) -> None:
    for name in ("00000000000000000009.hotpatch", "nothing"):
        with pytest.raises(StateError, match="is gone"):
            patches.set_current(BASE, name)
    with pytest.raises(StateError, match="cannot be the name of a file"):
        patches.set_current(BASE, "../x")
    assert patches.current_name(BASE) == "base"


def test_a_damaged_artefact_is_refused_when_it_is_read(patches: PatchStore, room: Path) -> None:
    name = patches.put(artefact())
    patches.set_current(BASE, name)
    (room / name).write_bytes(artefact().raw[:-1])

    with pytest.raises(ArtefactError, match="footer"):
        patches.current(BASE)


def test_an_artefact_that_was_moved_in_the_store_is_refused(patches: PatchStore, room: Path, tmp_path: Path) -> None:
    name = patches.put(artefact())
    patches.set_current(BASE, name)
    (room / "00000000000000000009.hotpatch").write_bytes(artefact().raw)
    os.mkdir(tmp_path / "state" / "patches" / OTHER, 0o700)
    (tmp_path / "state" / "patches" / OTHER / name).write_bytes(artefact().raw)

    with pytest.raises(ArtefactError, match=f"is an artefact for base {BASE} with sequence number 5"):
        patches.get(BASE, "00000000000000000009.hotpatch")
    with pytest.raises(ArtefactError, match=f"is an artefact for base {BASE} with sequence number 5"):
        patches.get(OTHER, name)


@pytest.mark.parametrize("text", ["", "../x", "x.hotpatch", "5.hotpatch", "BASE", "\xff"])
def test_a_current_that_names_nothing_is_refused(patches: PatchStore, room: Path, text: str) -> None:
    patches.put(artefact())
    (room / "current").write_text(text)

    with pytest.raises(StateError, match="names no artefact"):
        patches.current(BASE)


def test_current_that_is_a_link_is_refused(patches: PatchStore, room: Path) -> None:
    name = patches.put(artefact())
    os.symlink(room / name, room / "current")

    with pytest.raises(StateError, match="symbolic link"):
        patches.current(BASE)


@pytest.mark.parametrize("build_id", ["", "..", "ABCD", "a/b", "x" * 65])
def test_a_base_that_is_none_is_refused(patches: PatchStore, build_id: str) -> None:
    for use in (patches.current, patches.newest_sequence, lambda b: patches.set_current(b, "base")):
        with pytest.raises(StateError, match="is no build-id"):
            use(build_id)


def test_the_oldest_are_removed_and_never_the_current(patches: PatchStore) -> None:
    patches.set_current(BASE, patches.put(artefact(1)))
    for sequence in range(2, KEEP + 10):
        patches.put(artefact(sequence))

    assert len(patches.names(BASE)) <= KEEP + 2
    assert patches.current(BASE) == artefact(1)
    assert patches.newest_sequence(BASE) == KEEP + 9


def test_what_is_in_quarantine_says_why_until_a_person_takes_it_out(tmp_path: Path) -> None:
    quarantine = Quarantine(StateDirectory(tmp_path / "state"))
    found = artefact()

    assert quarantine.find(found.sha256) is None
    assert quarantine.add(found.sha256, "process 71 died of SIGSEGV\nin f", push="p1")
    assert not quarantine.add(found.sha256, "another reason")
    assert quarantine.find(found.sha256) == "process 71 died of SIGSEGV\nin f"
    assert quarantine.find("0" * 64, found.sha256) == "process 71 died of SIGSEGV\nin f"
    assert list(quarantine.entries()) == [found.sha256]
    assert quarantine.release(found.sha256) and not quarantine.release(found.sha256)
    assert quarantine.find(found.sha256) is None


def test_a_note_that_cannot_be_read_is_a_reason_too(tmp_path: Path) -> None:
    quarantine = Quarantine(StateDirectory(tmp_path / "state"))
    quarantine.add("0" * 64, "why")
    for text in ("", "[]", "{}", "[" * 50_000):
        (tmp_path / "state" / "quarantine" / ("0" * 64)).write_text(text)
        assert quarantine.find("0" * 64) == "the note of why cannot be read"


@pytest.mark.parametrize("sha256", ["", "../x", "0" * 63, "G" * 64, "0" * 65])
def test_a_hash_that_is_none_is_refused(tmp_path: Path, sha256: str) -> None:
    quarantine = Quarantine(StateDirectory(tmp_path / "state"))
    for use in (quarantine.find, quarantine.release, lambda s: quarantine.add(s, "why")):
        with pytest.raises(StateError, match="is no SHA-256"):
            use(sha256)
