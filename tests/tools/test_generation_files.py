"""Files of generations: where they are, who can write them, when they go; and what happens where there can be none."""

from __future__ import annotations

import ast
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from elftools.elf.elffile import ELFFile
from toolkit import Program, Project

from hotreload.agent.health import _files
from hotreload.elf.file import ElfFile
from hotreload.live.core import NativeCore
from hotreload.live.files import Files


@pytest.fixture
def program(project: Project, tmp_path: Path) -> Iterator[Program]:
    running = Program(project, tmp_path / "files")
    yield running
    running.close()


def test_a_file_is_a_library_at_its_address_that_only_its_owner_can_read(
    program: Program, project: Project, tmp_path: Path
) -> None:
    program("commit", project.patch)
    (path,) = (tmp_path / "files").glob("*.so")
    assert path.name == f"ext.g1.{program.pid}.so"
    assert path.stat().st_mode & 0o777 == 0o500
    maps = Path(f"/proc/{program.pid}/maps").read_text().splitlines()
    mine = [line.split() for line in maps if line.endswith(str(path))]
    assert {words[1] for words in mine} == {"r-xp", "r--p", "r--s"} or "rw-p" in {words[1] for words in mine}
    assert not any("w" in words[1] and "x" in words[1] for words in mine)
    code = next(words for words in mine if "x" in words[1])
    elf = ElfFile.read(path)
    (first, *_) = [segment for segment in elf.segments if segment.type == 1]
    assert first.vaddr - first.offset == int(code[0].split("-")[0], 16) - int(code[2], 16)
    build_id = elf.build_id.hex()
    link = tmp_path / "files" / ".build-id" / build_id[:2] / f"{build_id[2:]}.debug"
    assert link.resolve() == path
    assert build_id != ElfFile.read(project.hot.path).build_id.hex()


def test_debug_information_reads_well_and_has_the_generation_in_names_of_any_length(
    program: Program, project: Project, tmp_path: Path
) -> None:
    program("commit", project.patch)
    (path,) = (tmp_path / "files").glob("*.so")
    with open(path, "rb") as file:
        dwarf = ELFFile(file).get_dwarf_info(relocate_dwarf_sections=False)
        dies = [die for unit in dwarf.iter_CUs() for die in unit.iter_DIEs()]
        functions = {
            die.attributes["DW_AT_name"].value.decode(): die.attributes["DW_AT_low_pc"].value
            for die in dies
            if die.tag == "DW_TAG_subprogram" and die.attributes.get("DW_AT_low_pc", (0, 0, 0))[2]
        }
        lines = [line for unit in dwarf.iter_CUs() for line in dwarf.line_program_for_CU(unit).get_entries()]
    names = ("hold", "spin", "score", "add", "ab")
    assert set(functions) == {f"{name}@hotreload.g1" for name in names}
    mapped = [
        [int(word, 16) for word in line.split()[0].split("-")]
        for line in Path(f"/proc/{program.pid}/maps").read_text().splitlines()
        if line.endswith(str(path)) and "r-xp" in line
    ]
    assert all(mapped[0][0] <= address < mapped[0][1] for address in functions.values())
    assert any(line.state and line.state.address == functions["add@hotreload.g1"] for line in lines)


def test_what_never_ran_leaves_no_file(program: Program, project: Project, tmp_path: Path) -> None:
    program("stage", project.patch)
    assert list((tmp_path / "files").glob("*.so"))
    program("unstage")
    assert not list((tmp_path / "files").glob("*.so"))
    assert not list((tmp_path / "files" / ".build-id").glob("*/*"))


def test_a_directory_that_others_can_write_is_not_used(project: Project, tmp_path: Path) -> None:
    directory = tmp_path / "open"
    directory.mkdir()
    directory.chmod(0o777)
    running = Program(project, directory)
    assert running("commit", project.patch) == "1"
    assert "others can write there" in running("status")
    told = {"files": ast.literal_eval(running("status"))}
    assert "others can write there" in _files(SimpleNamespace(status=lambda: told)), "and the doctor says so"  # type: ignore[arg-type]
    assert "memfd:hotreload:ext.1" in Path(f"/proc/{running.pid}/maps").read_text()
    running.close()


def test_on_a_file_system_without_exec_generations_are_in_memory(project: Project, tmp_path: Path) -> None:
    directory = tmp_path / "noexec"
    directory.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "noexec,mode=700", "none", str(directory)]
    if os.geteuid() or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("no file system can be mounted here")
    running = Program(project, directory)
    try:
        assert running("commit", project.patch) == "1"
        assert "noexec" in running("status")
        assert running("score", 2, 3) == str(2 * 3 + 1000 + 40)
    finally:
        running.close()
        subprocess.run(["umount", str(directory)], check=True)


def test_a_full_disk_is_no_reason_to_refuse(project: Project, tmp_path: Path) -> None:
    directory = tmp_path / "full"
    directory.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4k,mode=700", "none", str(directory)]
    if os.geteuid() or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("no file system can be mounted here")
    running = Program(project, directory)
    try:
        assert running("commit", project.patch) == "1"
        assert "No space" in running("status")
        assert not list(directory.glob("*.so"))
    finally:
        running.close()
        subprocess.run(["umount", str(directory)], check=True)


NETWORK = """\
#include <sys/vfs.h>
int fstatfs(int fd, struct statfs *found) { (void)fd; *found = (struct statfs){.f_type = 0x6969}; return 0; }
"""


def test_on_a_network_file_system_generations_are_in_memory(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "nfs.c").write_text(NETWORK)
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", "nfs.so", "nfs.c"], cwd=tmp_path, check=True)
    monkeypatch.setenv("LD_PRELOAD", str(tmp_path / "nfs.so"))
    running = Program(project, tmp_path / "files")
    assert running("commit", project.patch) == "1"
    assert "not on a disk of this machine" in running("status")
    assert "memfd:hotreload:ext.1" in Path(f"/proc/{running.pid}/maps").read_text()
    assert not list((tmp_path / "files").glob("*.so"))
    running.close()


def test_a_directory_that_cannot_be_named_or_made_is_no_reason_to_refuse(project: Project, tmp_path: Path) -> None:
    files = Files(NativeCore())
    (tmp_path / "file").touch()
    for directory in ("/nul\0byte", str(tmp_path / "file" / "below"), str(tmp_path / ("n" * 300))):
        files.use(directory)
        assert files._open("hotreload:ext.1") == ("", -1)
        assert files.reason
    files.use("~/generations")
    assert files.directory == os.path.expanduser("~/generations")


def test_a_working_directory_that_is_gone_is_no_reason_to_refuse(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    files = Files(NativeCore())
    files.use("generations")
    assert files.describe() == {"directory": "", "reason": "generations: No such file or directory"}


def test_whatever_the_umask_nobody_else_can_put_a_link_there(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        files = Files(NativeCore())
        files.use(str(tmp_path))
        files._link(str(tmp_path / "m.g1.1.so"), "ab" * 20)
    finally:
        os.umask(before)
    made = [tmp_path / ".build-id", tmp_path / ".build-id" / "ab"]
    assert [path.stat().st_mode & 0o777 for path in made] == [0o700, 0o700]


def test_a_child_leaves_the_file_of_what_both_have_staged_to_its_parent(tmp_path: Path) -> None:
    files = Files(NativeCore())
    files.use(str(tmp_path))
    path = tmp_path / f"m.g1.{os.getppid()}.so"
    path.touch()
    files.forget(SimpleNamespace(file=str(path)))  # type: ignore[arg-type]
    assert path.exists()


def test_files_of_others_in_the_directory_are_let_alone(tmp_path: Path) -> None:
    files = Files(NativeCore(), max_files=1)
    files.use(str(tmp_path))
    others = {"libpython3.11.so", "libpython3.11.so.1.0", "libz.1.so.gz", "ext.cpython-311-x86_64-linux-gnu.so"}
    for name in [*others, "m.g1.1.so", "m.g2.1.so", f"m.g3.{os.getpid()}.so"]:
        (tmp_path / name).write_bytes(b"x")
    files._link(str(tmp_path / f"m.g3.{os.getpid()}.so"), "ab" * 20)
    files._prune(str(tmp_path / f"m.g3.{os.getpid()}.so"))
    assert {path.name for path in tmp_path.glob("[!.]*")} == {*others, f"m.g3.{os.getpid()}.so"}


def test_the_oldest_go_first_and_those_of_dead_processes_before_others(tmp_path: Path) -> None:
    files = Files(NativeCore(), max_files=2)
    files.use(str(tmp_path))
    dead = subprocess.Popen(["true"])
    dead.wait()
    for age, name in enumerate([f"m.g1.{os.getpid()}.so", f"m.g2.{dead.pid}.so", f"m.g3.{os.getpid()}.so"]):
        (tmp_path / name).write_bytes(b"x")
        os.utime(tmp_path / name, (age, age))
        files._link(str(tmp_path / name), f"ab{age:038}")
    files._prune(str(tmp_path / f"m.g3.{os.getpid()}.so"))
    assert {path.name for path in tmp_path.glob("*.so")} == {f"m.g1.{os.getpid()}.so", f"m.g3.{os.getpid()}.so"}
    assert len(list((tmp_path / ".build-id").glob("*/*"))) == 4
