"""The state directory: ours, closed to others, reached without following a link; checked at every use."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

import pytest

from hotreload.state import StateDirectory, StateError, app_name, state_path

NOBODY = 65534
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state"


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_it_is_made_with_its_parents_for_its_owner_alone(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        directory = StateDirectory(tmp_path / "a" / "b")
        directory.write("patches", "x", content=b"1")
    finally:
        os.umask(old)

    assert [mode_of(tmp_path / name) for name in ("a", "a/b", "a/b/patches")] == [0o700] * 3
    assert mode_of(tmp_path / "a/b/patches/x") == 0o600


def test_it_is_not_made_when_that_was_not_asked_for(path: Path) -> None:
    with pytest.raises(StateError, match=r"cannot open .*: No such file"):
        StateDirectory(path, create=False)
    assert not path.exists()


def test_a_link_in_its_place_is_refused(path: Path, tmp_path: Path) -> None:
    os.mkdir(tmp_path / "real", 0o700)
    os.symlink(tmp_path / "real", path)

    with pytest.raises(StateError, match="is a symbolic link"):
        StateDirectory(path)
    os.unlink(path)
    os.symlink(tmp_path / "dangling", path)
    with pytest.raises(StateError, match="is a symbolic link"):
        StateDirectory(path)
    assert not (tmp_path / "dangling").exists()


def test_a_file_in_its_place_is_refused(path: Path) -> None:
    path.write_text("")
    with pytest.raises(StateError, match="Not a directory"):
        StateDirectory(path)


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o755, 0o701, 0o1777])
def test_a_directory_that_is_open_to_others_is_refused(path: Path, mode: int) -> None:
    os.mkdir(path)
    os.chmod(path, mode)

    with pytest.raises(StateError, match=f"open to other users: its mode is {mode:04o}.*chmod 0700"):
        StateDirectory(path)
    assert mode_of(path) == mode


@needs_root
def test_a_directory_of_another_user_is_refused(path: Path) -> None:
    os.mkdir(path, 0o700)
    os.chown(path, NOBODY, -1)

    with pytest.raises(StateError, match=f"belongs to user {NOBODY}, not to 0"):
        StateDirectory(path)


@needs_root
def test_what_root_writes_for_a_service_belongs_to_the_service(path: Path) -> None:
    os.mkdir(path, 0o700)
    os.chown(path, NOBODY, -1)
    directory = StateDirectory.as_operator(path)
    directory.write("patches", "abcd", "x", content=b"1")
    with directory.append("audit.jsonl"):
        pass

    for name in ("patches", "patches/abcd", "patches/abcd/x", "audit.jsonl"):
        assert (path / name).stat().st_uid == NOBODY, name
    assert directory.read("patches", "abcd", "x", limit=9) == b"1"


@needs_root
def test_a_link_inside_a_services_directory_leads_root_nowhere(path: Path, tmp_path: Path) -> None:
    os.mkdir(path, 0o700)
    os.chown(path, NOBODY, -1)
    (tmp_path / "victim").write_text("untouched")
    os.symlink(tmp_path, path / "patches")
    os.symlink(tmp_path / "victim", path / "audit.jsonl")
    os.link(tmp_path / "victim", path / "hard.jsonl")
    directory = StateDirectory.as_operator(path)

    with pytest.raises(StateError, match=r"cannot open .*patches"):
        directory.write("patches", "victim", content=b"1")
    for name, match in (("audit.jsonl", "symbolic link"), ("hard.jsonl", "another name somewhere")):
        with pytest.raises(StateError, match=match), directory.append(name):
            pass
    assert (tmp_path / "victim").read_text() == "untouched" and (tmp_path / "victim").stat().st_uid == 0


def test_an_operator_makes_nothing(path: Path) -> None:
    with pytest.raises(StateError, match="No such file"):
        StateDirectory.as_operator(path)
    assert not path.exists()


def test_a_parent_that_everybody_may_write_to_is_refused(tmp_path: Path) -> None:
    os.mkdir(tmp_path / "open")
    os.chmod(tmp_path / "open", 0o777)
    with pytest.raises(StateError, match=r"can be replaced by anybody: .*/open is world-writable"):
        StateDirectory(tmp_path / "open" / "state")
    os.chmod(tmp_path / "open", 0o1777)
    StateDirectory(tmp_path / "open" / "state")


def test_a_directory_that_was_replaced_since_is_refused(path: Path, tmp_path: Path) -> None:
    directory = StateDirectory(path)
    directory.write("patches", "x", content=b"1")
    os.mkdir(tmp_path / "theirs", 0o755)
    os.rename(path, tmp_path / "ours")
    os.rename(tmp_path / "theirs", path)
    for use in (
        directory.check,
        lambda: directory.read("patches", "x", limit=9),
        lambda: directory.write("patches", "x", content=b"2"),
        lambda: directory.names("patches"),
        lambda: directory.remove("patches", "x"),
    ):
        with pytest.raises(StateError, match="open to other users"):
            use()
    os.rename(path, tmp_path / "theirs")
    os.symlink(tmp_path / "ours", path)
    with pytest.raises(StateError, match="symbolic link"):
        directory.check()
    assert (tmp_path / "ours" / "patches" / "x").read_bytes() == b"1"


def test_a_directory_inside_that_is_a_link_or_open_is_refused(path: Path, tmp_path: Path) -> None:
    directory = StateDirectory(path)
    os.mkdir(tmp_path / "elsewhere", 0o700)
    os.symlink(tmp_path / "elsewhere", path / "patches")
    with pytest.raises(StateError, match="symbolic link"):
        directory.write("patches", "x", content=b"1")
    os.mkdir(path / "decisions")
    os.chmod(path / "decisions", 0o755)
    with pytest.raises(StateError, match="decisions is open to other users"):
        directory.write("decisions", "x", content=b"1")
    assert os.listdir(tmp_path / "elsewhere") == os.listdir(path / "decisions") == []


def test_a_file_inside_that_is_no_plain_file_of_ours_is_refused(path: Path, tmp_path: Path) -> None:
    directory = StateDirectory(path)
    directory.write("patches", "good", content=b"1")
    room = path / "patches"
    (tmp_path / "secret").write_bytes(b"secret")
    os.symlink(tmp_path / "secret", room / "link")
    os.mkfifo(room / "fifo", 0o600)
    os.mkdir(room / "directory")
    os.chmod(room / "good", 0o666)
    for name, match in (
        ("link", "symbolic link"),
        ("fifo", "not a regular file"),
        ("directory", "not a regular file"),
        ("good", "can be written by other users"),
    ):
        with pytest.raises(StateError, match=match):
            directory.read("patches", name, limit=9)


@needs_root
def test_a_file_of_another_user_is_refused(path: Path) -> None:
    directory = StateDirectory(path)
    directory.write("patches", "x", content=b"1")
    os.chown(path / "patches" / "x", NOBODY, -1)

    with pytest.raises(StateError, match=f"belongs to user {NOBODY}"):
        directory.read("patches", "x", limit=9)


def test_writing_over_a_link_replaces_the_link(path: Path, tmp_path: Path) -> None:
    directory = StateDirectory(path)
    (tmp_path / "victim").write_text("untouched")
    directory.write("patches", "x", content=b"1")
    os.unlink(path / "patches" / "x")
    os.symlink(tmp_path / "victim", path / "patches" / "x")
    directory.write("patches", "x", content=b"2")

    assert directory.read("patches", "x", limit=9) == b"2"
    assert (tmp_path / "victim").read_text() == "untouched"


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "../x", ".hidden", "-rf", "a\nb", "a\0b", "x" * 65, "é"])
def test_a_name_that_leads_elsewhere_is_refused(path: Path, name: str) -> None:
    directory = StateDirectory(path)

    for use in (
        lambda: directory.write("patches", name, content=b""),
        lambda: directory.read("patches", name, limit=9),
        lambda: directory.remove("patches", name),
    ):
        with pytest.raises(StateError, match="cannot be the name of a file"):
            use()
    with pytest.raises(StateError, match="cannot be the name of a directory"):
        directory.write(name, "x", content=b"")


def test_a_file_that_is_too_long_is_not_read(path: Path) -> None:
    directory = StateDirectory(path)
    directory.write("patches", "x", content=b"12345")

    assert directory.read("patches", "x", limit=5) == b"12345"
    with pytest.raises(StateError, match="longer than 4 bytes"):
        directory.read("patches", "x", limit=4)


def test_nothing_is_left_behind_by_a_write_that_fails(path: Path) -> None:
    directory = StateDirectory(path)
    os.makedirs(path / "patches" / "x" / "y")
    os.chmod(path / "patches", 0o700)

    with pytest.raises(StateError, match="cannot write"):
        directory.write("patches", "x", content=b"1")
    assert os.listdir(path / "patches") == ["x"]


def test_what_a_killed_writer_left_behind_is_swept_away_later(path: Path) -> None:
    directory = StateDirectory(path)
    directory.write("decisions", "push", content=b"commit")
    left = path / "decisions" / ".tmp.1.abcdef"
    left.write_text("half")

    assert directory.names("decisions") == ["push"]
    assert directory.sweep("decisions") == 0
    os.utime(left, (0, 0))
    assert directory.sweep("decisions") == 1
    assert os.listdir(path / "decisions") == ["push"] and directory.sweep("nowhere") == 0


def test_no_descriptor_is_left_open(path: Path) -> None:
    directory = StateDirectory(path)
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(50):
        directory.write("patches", "x", content=b"1")
        directory.create("patches", "x", content=b"2")
        directory.read("patches", "x", limit=9)
        directory.read("nowhere", "x", limit=9)
        directory.names("nowhere")
        with pytest.raises(StateError):
            directory.read("patches", "x", limit=0)
        with directory.append("log"):
            pass
    assert len(os.listdir("/proc/self/fd")) == before


def test_the_name_of_an_application() -> None:
    assert app_name(environ={"HOTRELOAD_APP": "shop"}, argv=["x"]) == "shop"
    assert app_name("store", environ={}, argv=["x"]) == "store"
    assert app_name("store", environ={"HOTRELOAD_APP": "shop"}) == "shop"
    assert app_name(environ={}, argv=["/srv/app/server.py", "x"]) == "server"
    assert app_name(environ={}, argv=["/usr/bin/gunicorn"]) == "gunicorn"
    assert app_name(environ={}, argv=["-c"]) == app_name(environ={}, argv=[]) == "python"
    with pytest.raises(StateError, match=re.escape("'../x' cannot be the name of an application")):
        app_name(environ={"HOTRELOAD_APP": "../x"})


def test_where_the_state_is(tmp_path: Path) -> None:
    env = {"XDG_RUNTIME_DIR": "/run/me", "HOME": "/home/me"}

    assert state_path("shop", environ={**env, "HOTRELOAD_STATE": "/srv/state"}) == "/srv/state"
    assert state_path("shop", "/etc/state", environ=env) == "/etc/state"
    assert state_path("shop", environ=env) == "/run/me/hotreload/shop"
    runtime = f"/run/user/{os.geteuid()}"
    fallback = runtime if os.path.isdir(runtime) else "/home/me/.local/state"
    assert state_path("shop", environ={"HOME": "/home/me"}) == f"{fallback}/hotreload/shop"
    with pytest.raises(StateError, match="cannot be the name of an application"):
        state_path("..", environ=env)
    with pytest.raises(StateError, match="no home directory"):
        state_path("shop", environ={}, uid=4_000_000)
