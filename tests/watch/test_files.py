from __future__ import annotations

import os
import queue
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hotreload.build.looks import look_at
from hotreload.watch.files import SourceWatcher

PATIENCE = 5.0

Saves = "queue.Queue[tuple[str, bool]]"


class Watching:
    """A watcher over real files; ``expect`` waits for a save of one of them."""

    def __init__(self, **options: object) -> None:
        self.saves: Saves = queue.Queue()
        self.degraded: list[str] = []
        self.watcher = SourceWatcher(lambda *save: self.saves.put(save), self.degraded.append, **options)  # type: ignore[arg-type]

    def expect(self, path: Path, *, whole: bool | None = None) -> None:
        while True:
            seen, was_whole = self.saves.get(timeout=PATIENCE)
            assert seen == str(path)
            if whole is None or was_whole == whole:
                return

    def quiet(self, seconds: float = 0.3) -> bool:
        try:
            return not self.saves.get(timeout=seconds)
        except queue.Empty:
            return True


@pytest.fixture
def watching() -> Iterator[Watching]:
    watching = Watching()
    yield watching
    watching.watcher.close()


@pytest.fixture
def source(tmp_path: Path, watching: Watching) -> Path:
    path = tmp_path / "src" / "render.c"
    path.parent.mkdir()
    path.write_text("v1\n")
    watching.watcher.watch([path])
    return path


def in_place(path: Path) -> None:
    path.write_text("v2\n")


def by_rename(path: Path) -> None:
    other = path.with_name(path.name + "___jb_tmp___")
    other.write_text("v2\n")
    other.replace(path)


def like_vim(path: Path) -> None:
    backup = path.with_name(path.name + "~")
    path.rename(backup)
    path.write_text("v2\n")
    backup.unlink()


def like_emacs(path: Path) -> None:
    path.rename(path.with_name(path.name + "~"))
    path.write_text("v2\n")


@pytest.mark.parametrize("save", [in_place, by_rename, like_vim, like_emacs])
def test_every_way_to_save_is_seen_as_a_whole_file(
    watching: Watching, source: Path, save: Callable[[Path], None]
) -> None:
    save(source)

    watching.expect(source, whole=True)


def test_a_file_moved_in_from_elsewhere_is_seen(watching: Watching, source: Path, tmp_path: Path) -> None:
    (tmp_path / "new.c").write_text("v2\n")
    (tmp_path / "new.c").replace(source)

    watching.expect(source)


def test_neighbours_and_reads_are_not_seen(watching: Watching, source: Path) -> None:
    source.with_name("render.o").write_text("object")
    source.read_text()
    (source.parent / "sub").mkdir()
    (source.parent / "sub" / "render.c").write_text("another")

    assert watching.quiet()


def test_a_file_that_is_no_longer_asked_for_is_not_seen(watching: Watching, source: Path) -> None:
    other = source.with_name("other.c")
    other.write_text("v1\n")
    watching.watcher.watch([other])
    source.write_text("v2\n")
    other.write_text("v2\n")

    watching.expect(other)


def test_a_save_through_a_symbolic_link_is_seen_under_the_name_that_was_given(
    watching: Watching, source: Path, tmp_path: Path
) -> None:
    link = tmp_path / "links" / "render.c"
    link.parent.mkdir()
    link.symlink_to(source)
    watching.watcher.watch([link])
    source.write_text("v2\n")

    watching.expect(link)


def test_a_directory_that_was_replaced_is_watched_again(watching: Watching, source: Path) -> None:
    shutil.rmtree(source.parent)
    watching.watcher.check()
    source.parent.mkdir()
    source.write_text("v2\n")
    watching.watcher.check()
    watching.expect(source)
    while not watching.quiet(0.1):
        pass
    source.write_text("v3\n")

    watching.expect(source, whole=True)


def test_a_checkout_of_twenty_files_is_seen_whole(watching: Watching, tmp_path: Path) -> None:
    def git(*arguments: str) -> None:
        subprocess.run(
            ["git", "-c", "user.name=t", "-c", "user.email=t@localhost", *arguments],
            cwd=tmp_path,
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull},
        )

    files = [tmp_path / f"f{number}.c" for number in range(20)]
    git("init", "-q")
    for text in ("one\n", "two\n"):
        for file in files:
            file.write_text(text)
        git("add", ".")
        git("commit", "-qm", text)
    watching.watcher.watch(files)
    git("checkout", "-q", "HEAD~1")
    seen = set()
    while len(seen) < len(files):
        path, whole = watching.saves.get(timeout=PATIENCE)
        if whole:
            seen.add(path)

    assert seen == {str(file) for file in files}


def test_polling_sees_a_save_too(tmp_path: Path) -> None:
    watching = Watching(polling=True, interval=0.05)
    path = tmp_path / "render.c"
    path.write_text("v1\n")
    watching.watcher.watch([path])
    path.write_text("v2, longer\n")

    watching.expect(path)
    by_rename(path)
    watching.expect(path)
    watching.watcher.close()


def test_without_the_kernels_notifications_polling_takes_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from watchdog.observers import Observer

    def refuse(*_arguments: object, **_options: object) -> None:
        raise OSError(28, "inotify watch limit reached")

    monkeypatch.setattr(Observer, "schedule", refuse)
    watching = Watching(interval=0.05)
    path = tmp_path / "render.c"
    path.write_text("v1\n")
    watching.watcher.watch([path])
    path.write_text("v2, longer\n")

    watching.expect(path)
    assert "watch limit" in watching.degraded[0]
    watching.watcher.close()


def test_a_look_tells_states_apart(tmp_path: Path) -> None:
    path = tmp_path / "a.c"
    assert look_at(path) == ()
    path.write_text("1")
    first = look_at(path)
    path.with_name("b.c").write_text("2")
    path.with_name("b.c").replace(path)

    assert look_at(path) != first


def test_a_file_that_is_not_there_yet_is_seen_when_it_is_created(watching: Watching, tmp_path: Path) -> None:
    here, below = tmp_path / "new.h", tmp_path / "inc" / "new.h"
    watching.watcher.watch([here, below])
    here.write_text("v1\n")
    watching.expect(here, whole=True)
    below.parent.mkdir()
    below.write_text("v1\n")
    watching.watcher.check()

    watching.expect(below)


def test_a_directory_that_may_not_be_read_is_no_reason_to_poll(
    watching: Watching, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    private = tmp_path / "private"
    private.mkdir()
    schedule = watching.watcher._schedule

    def refuse(directory: str) -> object:
        if directory == str(private):
            raise PermissionError(13, "Permission denied")
        return schedule(directory)

    monkeypatch.setattr(watching.watcher, "_schedule", refuse)
    watching.watcher.watch([source, private / "new.h"])
    watching.watcher.check()
    source.write_text("v2\n")

    watching.expect(source, whole=True)
    assert not watching.degraded
