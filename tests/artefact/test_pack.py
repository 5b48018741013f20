"""Packing: from edited sources to one file, the same bytes from the same inputs; a live process takes it whole."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from hotreload.artefact import Artefact, parse
from hotreload.elf.file import ElfFile
from hotreload.errors import BuildError, HotReloadError, IncompatibleError
from hotreload.patch import manifest as manifest_module
from hotreload.patch import pack as pack_module
from hotreload.patch.pack import find_base, pack
from tests.hot import ROOT, HotExtension, hot_cc

SOURCE = """\
static long n = 1;
long f(long x) { return x + n; }
long g(long x) { return f(x) * 2; }
"""
AUTHOR = "Ada <ada@example.org>"


@pytest.fixture
def hot(hot_extension) -> HotExtension:
    extension = hot_extension({"ext.c": '#include "h.h"\n' + SOURCE, "h.h": "#define N 1\n"})
    assert extension("f(1)") == 2  # it runs before the edit
    extension.save("x + n", "x + n + N * 5")
    return extension


def packed(hot: HotExtension, file: str = "ext.c", **options) -> Artefact:
    found = pack(hot.directory / file, **{"author": AUTHOR, **options})
    assert found is not None
    return found.artefact


def test_the_manifest_says_what_changed_who_and_when(hot: HotExtension) -> None:
    os.utime(hot.directory / "ext.c", ns=(0, 1_700_000_000_123_456_789))
    found = packed(hot)
    manifest = found.manifest

    assert manifest.module == "ext"
    assert manifest.build_id == ElfFile.read(hot.path).build_id.hex()
    assert (manifest.created, manifest.sequence) == ("2023-11-14T22:13:20Z", 1_700_000_000_123_456)
    assert (manifest.author, manifest.expires, manifest.signer) == (AUTHOR, "", "")
    assert (manifest.edited, manifest.changed, manifest.sources) == (("f",), ("f",), ("ext.c",))
    assert manifest.compiler.startswith("GCC: ")
    assert found.functions == ("f",)
    assert ".hotreload.manifest" not in [section.name for section in ElfFile(found.body).sections]


def test_a_live_process_takes_the_whole_file(hot: HotExtension, tmp_path: Path) -> None:
    """What is behind the code is none of the loader's business: the bytes that were verified are those that are mapped."""
    (tmp_path / "x.hotpatch").write_bytes(packed(hot).raw)
    assert hot("f(1)") == 2
    hot.child.ask("commit", str(tmp_path / "x.hotpatch"))

    assert (hot("f(1)"), hot("g(1)")) == (7, 14)


def test_packed_twice_it_is_the_same_to_the_byte(hot: HotExtension) -> None:
    assert packed(hot).raw == packed(hot).raw == packed(hot, "h.h").raw


def test_packed_by_other_processes_in_other_places_it_is_the_same_to_the_byte(
    hot: HotExtension, tmp_path: Path
) -> None:
    code = (
        "import sys; from hotreload.patch.pack import pack\n"
        f"sys.stdout.buffer.write(pack({str(hot.directory / 'ext.c')!r}, author={AUTHOR!r}).artefact.raw)"
    )
    made = set()
    for seed in ("0", "1", "17"):
        place = tmp_path / f"place{seed}"
        place.mkdir()
        env = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONHASHSEED": seed, "TMPDIR": str(place), "TZ": f"X{seed}"}
        done = subprocess.run([sys.executable, "-c", code], cwd=place, env=env, capture_output=True, check=True)
        made.add(done.stdout)
        assert os.listdir(place) == []

    assert made == {packed(hot).raw}


def test_a_fixed_time_makes_it_the_same_whenever_the_files_were_written(hot: HotExtension) -> None:
    environ = {"SOURCE_DATE_EPOCH": "1700000000"}
    first = packed(hot, environ=environ)
    os.utime(hot.directory / "ext.c")

    assert packed(hot, environ=environ).raw == first.raw
    assert first.manifest.created == "2023-11-14T22:13:20Z"
    with pytest.raises(HotReloadError, match="SOURCE_DATE_EPOCH=soon is no number"):
        packed(hot, environ={"SOURCE_DATE_EPOCH": "soon"})


def test_a_later_save_has_a_greater_number(hot: HotExtension) -> None:
    first = packed(hot)
    os.utime(hot.directory / "ext.c")
    assert packed(hot).manifest.sequence > first.manifest.sequence
    assert packed(hot, sequence=7).manifest.sequence == 7


@pytest.mark.skipif(shutil.which("patch") is None, reason="the program patch is not installed")
def test_the_source_diff_makes_the_new_sources_of_the_old(hot_extension, tmp_path: Path) -> None:
    old = {"ext.c": '#include "h.h"\n' + SOURCE + "/* \f \x85 no new line at the end */", "h.h": "#define N 1\n"}
    hot = hot_extension(old)
    hot.save("x + n", "x + n + M", "ext.c")
    (hot.directory / "new.h").write_text("#define M (N + 1)")
    hot.save("#define N 1\n", '#define N 2\n#include "new.h"\n', "h.h")
    manifest = packed(hot).manifest
    for name, text in old.items():
        (tmp_path / name).write_text(text)
    subprocess.run(["patch", "-p1", "-s"], cwd=tmp_path, input=manifest.source_diff, text=True, check=True)

    assert manifest.sources == ("ext.c", "h.h", "new.h")
    for name in manifest.sources:
        assert (tmp_path / name).read_text() == hot.text(name), name


def test_a_text_in_no_encoding_is_packed(hot_extension) -> None:
    hot = hot_extension(SOURCE)
    (hot.directory / "ext.c").write_bytes(b"/* \xff\xfe \x1b[31m */" + SOURCE.replace("+ n", "- n").encode())

    assert "\udcff" in packed(hot).manifest.source_diff


def test_a_long_diff_is_cut_and_says_so(hot: HotExtension, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifest_module, "_DIFF_LIMIT", 100)
    manifest = packed(hot).manifest

    assert len(manifest.source_diff) == 100
    assert re.fullmatch(r"the source diff is \d+ characters and is cut", manifest.notes[-1])


def test_what_means_the_same_makes_no_artefact(hot_extension) -> None:
    hot = hot_extension(SOURCE)
    assert pack(hot.directory / "ext.c") is None
    hot.save("static long", "/* a comment */ static long")
    assert pack(hot.directory / "ext.c") is None


def test_notes_of_the_data_are_in_it(hot_extension) -> None:
    hot = hot_extension(SOURCE)
    hot.save("n = 1", "n = 2")
    hot.save("x + n", "x - n")

    assert packed(hot).manifest.notes == ("initial value of `n` changed: the live value is kept",)


def test_an_edit_that_cannot_go_live_makes_no_artefact(hot_extension) -> None:
    hot = hot_extension(SOURCE)
    hot.save("static long n = 1", "static int n = 1")
    with pytest.raises(IncompatibleError):
        pack(hot.directory / "ext.c")
    hot.save("static int n = 1", "static long n = ")
    with pytest.raises(BuildError):
        pack(hot.directory / "ext.c")


def test_a_source_that_is_saved_meanwhile_is_refused(hot: HotExtension, monkeypatch: pytest.MonkeyPatch) -> None:
    make = pack_module.Workshop.make

    def make_and_save(workshop):
        result = make(workshop)
        hot.save("* 2", "* 3")
        return result

    monkeypatch.setattr(pack_module.Workshop, "make", make_and_save)
    with pytest.raises(HotReloadError, match=r"ext\.c was saved while it was packed"):
        packed(hot)


def test_the_newest_build_of_a_source_is_its_base(hot: HotExtension) -> None:
    old = find_base(hot.directory / "ext.c").build_id
    hot_cc(*hot.argv("-o", hot.path.name), cwd=hot.directory)
    new = find_base(hot.directory / "ext.c").build_id

    assert new == ElfFile.read(hot.path).build_id.hex() != old
    assert find_base(hot.directory / "h.h").build_id == new
    assert packed(hot, build_id=old).manifest.build_id == old
    assert pack(hot.directory / "ext.c") is None


def test_a_source_of_two_modules_needs_a_choice(hot: HotExtension) -> None:
    hot_cc(*hot.argv("-o", "second.so"), cwd=hot.directory)
    ids = [ElfFile.read(hot.directory / name).build_id.hex() for name in ("ext.so", "second.so")]
    with pytest.raises(BuildError, match=r"is a source of 2 modules: .*--build-id") as caught:
        pack(hot.directory / "ext.c")
    assert all(f"{name}: {build_id}" in caught.value.message for name, build_id in zip(("ext", "second"), ids))
    assert packed(hot, build_id=ids[0]).manifest.module == "ext"


def test_what_was_not_built_has_no_base(hot: HotExtension, tmp_path: Path) -> None:
    (tmp_path / "other.c").write_text("")
    build_id = ElfFile.read(hot.path).build_id.hex()
    with pytest.raises(BuildError, match=r"no hot build .* has .*other\.c as a source.*hotreload build"):
        pack(tmp_path / "other.c")
    with pytest.raises(BuildError, match=r"other\.c is no source of ext, build .*ext\.c"):
        pack(tmp_path / "other.c", build_id=build_id)
    with pytest.raises(BuildError, match="is not there"):
        pack(tmp_path / "nothing.c")
    with pytest.raises(BuildError, match="no hot build with build-id 00"):
        pack(hot.directory / "ext.c", build_id="00")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("7d", "2023-11-21T22:13:20Z"),
        ("30m", "2023-11-14T22:43:20Z"),
        ("12h", "2023-11-15T10:13:20Z"),
        ("2w", "2023-11-28T22:13:20Z"),
        ("2030-01-01T00:00:00Z", "2030-01-01T00:00:00Z"),
    ],
)
def test_an_artefact_may_have_an_end(hot: HotExtension, given: str, expected: str) -> None:
    assert packed(hot, expires=given, environ={"SOURCE_DATE_EPOCH": "1700000000"}).manifest.expires == expected


@pytest.mark.parametrize("given", ["soon", "7", "-7d", "7y", "2030-01-01", "2030-13-01T00:00:00Z"])
def test_an_end_that_is_none_is_refused(hot: HotExtension, given: str) -> None:
    with pytest.raises(HotReloadError, match="is no time"):
        packed(hot, expires=given)


def test_the_author_is_gits_user_or_the_systems(hot: HotExtension, monkeypatch: pytest.MonkeyPatch) -> None:
    for number, (key, value) in enumerate({"user.name": "Grace", "user.email": "grace@example.org"}.items()):
        monkeypatch.setenv("GIT_CONFIG_COUNT", str(number + 1))
        monkeypatch.setenv(f"GIT_CONFIG_KEY_{number}", key)
        monkeypatch.setenv(f"GIT_CONFIG_VALUE_{number}", value)
    assert packed(hot, author="").manifest.author == "Grace <grace@example.org>"
    monkeypatch.setenv("PATH", "/nowhere")
    import pwd

    author = manifest_module.author_of(hot.directory)
    assert author == pwd.getpwuid(os.getuid()).pw_name


def test_the_store_lists_its_records_newest_first_and_passes_over_others(hot: HotExtension, store: Path) -> None:
    from hotreload.build.store import records

    other = store / "builds" / "feed"
    other.mkdir()
    (other / "record.json").write_text('{"format": 99}')
    build_id = ElfFile.read(hot.path).build_id.hex()

    assert next(iter(records())).build_id == build_id
    assert "feed" not in [record.build_id for record in records()]
    shutil.rmtree(other)


def test_an_artefact_read_back_is_what_was_packed(hot: HotExtension) -> None:
    found = packed(hot)

    assert parse(found.raw) == found
