"""What a push writes down, and what a command makes of it whose predecessor was killed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hotreload import artefact
from hotreload.artefact import Artefact
from hotreload.push.books import Note, StateBooks, catch_up, name_of_operator, notes, what_was_before
from hotreload.push.records import new_push_id
from hotreload.state import PatchStore, Quarantine, StateDirectory
from tests.push.kit import EDITS, Project


@pytest.fixture
def directory(tmp_path: Path) -> StateDirectory:
    return StateDirectory(tmp_path / "state")


def books(directory: StateDirectory, patch: Artefact | None, project: Project, **options: object) -> StateBooks:
    about = {"module": "kernel", "build_id": project.build_id, "kind": "push", **options}
    return StateBooks(directory, patch, **about)  # type: ignore[arg-type]


def patch_of(project: Project, value: int = EDITS[0]) -> Artefact:
    return artefact.load(str(project.patch(value)))


def push(directory: StateDirectory, patch: Artefact | None, project: Project, **options: object) -> str:
    made = books(directory, patch, project, **options)
    name = new_push_id()
    made.keep(name)
    assert made.decide(name, "commit") == "commit"
    made.make_current()
    return name


def test_a_push_is_written_down_before_it_is_decided(directory: StateDirectory, project: Project) -> None:
    patch = patch_of(project)
    books(directory, patch, project).keep("P")
    (note,) = notes(directory)

    assert (note.push, note.was, note.sha256, note.uid) == ("P", "base", patch.sha256, os.getuid())
    assert PatchStore(directory).current(project.build_id) is None


def test_each_rollback_goes_one_push_further_back(directory: StateDirectory, project: Project) -> None:
    first, second = patch_of(project), patch_of(project, EDITS[1])
    push(directory, first, project)
    push(directory, second, project)
    store = PatchStore(directory)

    before = what_was_before(directory, project.build_id)
    assert store.get(project.build_id, before).sha256 == first.sha256
    push(directory, first, project, kind="rollback")
    assert what_was_before(directory, project.build_id) == "base"


def test_going_back_again_and_again_ends_at_the_base_and_stays_there(
    directory: StateDirectory, project: Project
) -> None:
    patch, store = patch_of(project), PatchStore(directory)
    push(directory, patch, project)
    push(directory, None, project)  # a source with its original text again
    went: list[str] = []
    for _ in range(4):
        name = what_was_before(directory, project.build_id)
        back = None if name == "base" else store.get(project.build_id, name)
        went.append(name if back is None else back.sha256)
        push(directory, back, project, kind="rollback")
    assert went == [patch.sha256, "base", "base", "base"]


@pytest.mark.parametrize("releases", [True, False])
def test_a_patch_that_is_pushed_although_a_process_died_of_it_is_for_processes_that_start_later_too(
    directory: StateDirectory, project: Project, releases: bool
) -> None:
    patch, quarantine = patch_of(project), Quarantine(directory)
    quarantine.add(patch.sha256, "a process died")
    quarantine.add(patch.manifest.body_sha256, "a process died")
    push(directory, patch, project, releases=releases)
    assert quarantine.find(patch.sha256, patch.manifest.body_sha256) == (None if releases else "a process died")


def test_an_aborted_push_is_not_what_was_before(directory: StateDirectory, project: Project) -> None:
    push(directory, patch_of(project), project)
    made = books(directory, patch_of(project, EDITS[1]), project)
    made.keep("P")
    made.decide("P", "abort")

    assert what_was_before(directory, project.build_id) == "base"


@pytest.mark.parametrize("decision", ["commit", "abort", ""])
def test_a_push_whose_command_was_killed_is_finished_if_it_was_decided(
    directory: StateDirectory, project: Project, decision: str
) -> None:
    patch = patch_of(project)
    made = books(directory, patch, project)
    made.keep("P")
    if decision:
        made.decide("P", decision)
    done = catch_up(directory)

    current = PatchStore(directory).current(project.build_id)
    assert [note.push for note in done] == (["P"] if decision == "commit" else [])
    assert (current.sha256 if current else "") == (patch.sha256 if decision == "commit" else "")
    assert catch_up(directory) == []


def test_what_was_made_current_since_is_not_undone(directory: StateDirectory, project: Project) -> None:
    made = books(directory, patch_of(project), project)
    made.keep("19991231T000000-1-00000000")
    made.decide("19991231T000000-1-00000000", "commit")
    newer = patch_of(project, EDITS[1])
    push(directory, newer, project)

    assert catch_up(directory) == []
    current = PatchStore(directory).current(project.build_id)
    assert current is not None
    assert current.sha256 == newer.sha256


def test_a_push_for_some_processes_changes_nothing_for_those_that_start_later(
    directory: StateDirectory, project: Project
) -> None:
    made = books(directory, patch_of(project), project, is_partial=True)
    made.keep("P")
    made.decide("P", "commit")
    made.make_current()

    assert made.is_current()
    assert catch_up(directory) == []
    assert PatchStore(directory).current(project.build_id) is None


def test_a_note_that_cannot_be_read_is_passed_over(directory: StateDirectory) -> None:
    for name, content in (("a", b"nonsense"), ("b", b"[]"), ("c", b"{}")):
        directory.write("pushes", name, content=content)

    assert list(notes(directory)) == []


def test_old_notes_are_forgotten(directory: StateDirectory, project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hotreload.push.books._KEEP", 3)
    for _number in range(5):
        push(directory, None, project)

    assert len(list(notes(directory))) == 3
    assert all(isinstance(note, Note) for note in notes(directory))


def test_behind_sudo_there_is_a_person(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUDO_USER", "alice")

    assert name_of_operator().startswith("alice as ")
