"""``hotreload cc``: a build goes as it would without it, and what comes out can be patched or says why not."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
from concurrent.futures import ThreadPoolExecutor

import pytest

from hotreload.build import store
from hotreload.build.prologue import HOOK
from hotreload.build.record import RECORD_SECTION, UNIT_SECTION, Record, read_record, read_units
from hotreload.build.slots import slot_of
from hotreload.elf.file import STT_FUNC, ElfFile
from tests.hot import ROOT, hot_cc, run

F = "long f(long x) { return x + 1; }\n"
G = "long g(long x) { return x + 2; }\n"


def record_of(path) -> Record:
    record = read_record(ElfFile.read(path))
    assert record is not None
    return record


def listing(directory) -> set[str]:
    return {path.name for path in directory.iterdir()}


def hooked(path) -> set[str]:
    """The functions of a library that begin with a finished hook at an aligned entry."""
    elf = ElfFile.read(path)
    found = set()
    for symbol in elf.symbols:
        if symbol.type == STT_FUNC and symbol.section:
            start = elf.file_offset(symbol.value)
            code = elf.data[start : start + 8]
            if (code == HOOK or slot_of(symbol.value, code) is not None) and symbol.value % 8 == 0:
                assert elf.data[start - 16 : start] == b"\xcc" * 16
                found.add(symbol.name)
    return found


def test_an_object_carries_the_line_about_its_making(tmp_path):
    (tmp_path / "a.h").write_text("#define N 1\n")
    (tmp_path / "a.c").write_text('#include <stddef.h>\n#include "a.h"\n' + F)
    hot_cc("gcc", "-O2", "-fPIC", "-c", "a.c", "-o", "a.o", cwd=tmp_path)
    (unit,) = read_units(ElfFile.read(tmp_path / "a.o"))
    assert unit.source == str(tmp_path / "a.c") and unit.directory == str(tmp_path)
    assert set(unit.files) == {str(tmp_path / "a.c"), str(tmp_path / "a.h")}
    assert unit.plain_argv == ["gcc", "-O2", "-fPIC", "-c", "-o", "a.o", "a.c"]
    assert unit.compiler.startswith("GCC: ")
    assert listing(tmp_path) == {"a.c", "a.h", "a.o"}


def test_a_library_carries_the_record_of_its_units_in_link_order(tmp_path):
    for name, text in (("a", F), ("b", G)):
        (tmp_path / f"{name}.c").write_text(text)
        hot_cc("gcc", "-fPIC", "-c", f"{name}.c", cwd=tmp_path)
    hot_cc("gcc", "-shared", "b.o", "a.o", "-o", "m.so", cwd=tmp_path)
    record = record_of(tmp_path / "m.so")
    assert [os.path.basename(unit.source) for unit in record.units] == ["b.c", "a.c"]
    assert record.module == "m" and record.patchable == 2 and not record.unpatchable
    assert hooked(tmp_path / "m.so") == {"f", "g"}
    stored, library = store.load_base(record.build_id)
    assert stored == record and library == (tmp_path / "m.so").read_bytes()
    assert ElfFile.read(tmp_path / "m.so").section(UNIT_SECTION) is None
    assert listing(tmp_path) == {"a.c", "b.c", "a.o", "b.o", "m.so", "compile_commands.json"}


def test_sources_are_compiled_and_linked_in_one_command(tmp_path):
    (tmp_path / "a.c").write_text(F)
    (tmp_path / "b.c").write_text(G)
    hot_cc("gcc", "-O2", "-fPIC", "-shared", "a.c", "b.c", "-o", "m.so", "-lm", cwd=tmp_path)
    assert hooked(tmp_path / "m.so") == {"f", "g"}
    assert [unit.argv.count("-shared") for unit in record_of(tmp_path / "m.so").units] == [0, 0]
    assert listing(tmp_path) == {"a.c", "b.c", "m.so", "compile_commands.json"}


def test_a_static_library_hands_its_units_on(tmp_path):
    (tmp_path / "a.c").write_text(F)
    (tmp_path / "b.c").write_text(G)
    hot_cc("gcc", "-fPIC", "-c", "a.c", "b.c", cwd=tmp_path)
    run("ar", "rcs", "lib.a", "a.o", "b.o", cwd=tmp_path)
    hot_cc("gcc", "-shared", "-Wl,--whole-archive", "lib.a", "-Wl,--no-whole-archive", "-o", "m.so", cwd=tmp_path)
    assert hooked(tmp_path / "m.so") == {"f", "g"}


@pytest.mark.parametrize(
    ("given", "name"),
    [(["-MD"], "a.d"), (["-MMD", "-MF", "deps.mk"], "deps.mk"), (["-MD", "-MFdeps.mk"], "deps.mk"), (["-Wp,-MD,deps.mk"], "deps.mk")],
    ids=" ".join,
)  # fmt: skip
def test_the_make_rule_that_the_build_asks_for_is_kept(tmp_path, given, name):
    (tmp_path / "a.h").write_text("")
    (tmp_path / "a.c").write_text('#include "a.h"\n' + F)
    hot_cc("gcc", "-c", *given, "a.c", "-o", "a.o", cwd=tmp_path)
    ours = (tmp_path / name).read_text()
    run("gcc", "-c", *given, "a.c", "-o", "a.o", cwd=tmp_path)
    assert ours == (tmp_path / name).read_text()
    hot_cc("gcc", "-c", *given, "a.c", "-o", "a.o", cwd=tmp_path)
    assert str(tmp_path / "a.h") in read_units(ElfFile.read(tmp_path / "a.o"))[0].files
    assert listing(tmp_path) == {"a.c", "a.h", "a.o", name}


@pytest.mark.parametrize("given", ["-MMD", "-MD -MF deps.mk", "-MMD -MT target"])
def test_the_make_rule_of_compiling_and_linking_in_one_is_kept(tmp_path, given):
    (tmp_path / "a.c").write_text(F)
    words = ["gcc", *given.split(), "-fPIC", "-shared", "a.c", "-o", "m.so"]
    run(*words, cwd=tmp_path)
    name = "deps.mk" if "-MF" in given else "m.d"
    plain = (tmp_path / name).read_text()
    (tmp_path / name).unlink()
    hot_cc(*words, cwd=tmp_path)
    assert (tmp_path / name).read_text() == plain
    assert listing(tmp_path) == {"a.c", "m.so", name, "compile_commands.json"}


def test_response_files_are_read_and_not_needed_later(tmp_path):
    (tmp_path / "a.c").write_text(F)
    (tmp_path / "args").write_text("-O2 -fPIC '-DNAME=\"a b\"' -c\na.c -o a.o")
    hot_cc("gcc", "@args", cwd=tmp_path)
    (tmp_path / "link").write_text("-shared a.o")
    hot_cc("gcc", "@link", "-o", "m.so", cwd=tmp_path)
    (unit,) = record_of(tmp_path / "m.so").units
    assert '-DNAME="a b"' in unit.argv and "@args" not in unit.argv
    assert hooked(tmp_path / "m.so") == {"f"}


@pytest.mark.parametrize(
    "text", ["long f(long x) { return y; }\n", '#include "missing.h"\n', "long f(void) { return 1 }\n"]
)
def test_a_compilation_that_fails_fails_as_it_would_without_the_wrapper(tmp_path, text):
    (tmp_path / "a.c").write_text("int unused_warning(void) { }\n" + text)
    plain = run("gcc", "-Wall", "-c", "a.c", "-o", "a.o", cwd=tmp_path, code=1)
    ours = hot_cc("gcc", "-Wall", "-c", "a.c", "-o", "a.o", cwd=tmp_path, code=1)
    assert (ours.stdout, ours.stderr) == (plain.stdout, plain.stderr)
    assert listing(tmp_path) == {"a.c"}


def test_a_link_that_fails_fails_as_it_would_without_the_wrapper(tmp_path):
    (tmp_path / "a.c").write_text("static long n; long f(void) { return (long)&n; }\n")
    run("gcc", "-fno-pic", "-mcmodel=small", "-c", "a.c", cwd=tmp_path)
    words = ["gcc", "-shared", "a.o", "-lno_such_library", "-o", "m.so"]
    plain = run(*words, cwd=tmp_path, code=1)
    ours = hot_cc(*words, cwd=tmp_path, code=1)
    assert (ours.stdout, ours.stderr) == (plain.stdout, plain.stderr)
    assert listing(tmp_path) == {"a.c", "a.o"}


def test_warnings_are_shown_once(tmp_path):
    (tmp_path / "a.c").write_text("int f(void) { int unused; return 1; }\n")
    plain = run("gcc", "-Wall", "-c", "a.c", cwd=tmp_path)
    assert hot_cc("gcc", "-Wall", "-c", "a.c", cwd=tmp_path).stderr == plain.stderr != ""


def test_a_compiler_that_is_not_there_is_said(tmp_path):
    (tmp_path / "a.c").write_text(F)
    assert "cannot run no-such-cc" in hot_cc("no-such-cc", "-c", "a.c", cwd=tmp_path, code=127).stderr


def test_when_only_the_hot_flags_fail_the_file_is_left_unpatchable_and_that_is_said(tmp_path):
    (tmp_path / "a.c").write_text("#ifdef __HOTRELOAD__\n#error not hot\n#endif\n" + F)
    done = hot_cc("gcc", "-c", "-fPIC", "a.c", "-o", "a.o", cwd=tmp_path)
    assert "hotreload cc: a.c: left unpatchable: with the hot flags: a.c:2:2: error: #error not hot" in done.stderr
    assert (tmp_path / "a.o").exists() and not read_units(ElfFile.read(tmp_path / "a.o"))


def test_lto_is_dropped_and_that_is_said(tmp_path):
    (tmp_path / "a.c").write_text(F)
    done = hot_cc("gcc", "-O2", "-flto=auto", "-ffat-lto-objects", "-fPIC", "-c", "a.c", cwd=tmp_path)
    assert "a.c: -flto=auto -ffat-lto-objects dropped" in done.stderr
    done = hot_cc("gcc", "-shared", "-flto=auto", "a.o", "-o", "m.so", cwd=tmp_path)
    assert "m.so: -flto=auto dropped" in done.stderr
    assert hooked(tmp_path / "m.so") == {"f"}


@pytest.mark.parametrize(
    ("flag", "reason"),
    [
        ("-fsanitize=undefined", "sanitizer"),
        ("--coverage", "coverage"),
        ("-fprofile-generate", "profiling"),
        ("-mcmodel=large", "large model"),
        ("-mtls-dialect=gnu2", "TLS descriptors"),
    ],
)
def test_code_of_a_kind_that_cannot_be_patched_is_left_as_it_is(tmp_path, flag, reason):
    (tmp_path / "a.c").write_text(F)
    done = hot_cc("gcc", "-c", "-fPIC", flag, "a.c", "-o", "a.o", cwd=tmp_path)
    assert f"a.c: left unpatchable: {flag}: " in done.stderr and reason in done.stderr
    elf = ElfFile.read(tmp_path / "a.o")
    assert not read_units(elf) and b"\x90" * 24 not in elf.data


def test_32_bit_code_is_left_as_it_is_and_fails_or_not_like_the_compiler(tmp_path):
    (tmp_path / "a.c").write_text(F)
    plain = subprocess.run(["gcc", "-m32", "-c", "a.c"], cwd=tmp_path, check=False, capture_output=True)
    done = hot_cc("gcc", "-m32", "-c", "a.c", cwd=tmp_path, code=plain.returncode)
    assert "only 64-bit code can be patched" in done.stderr


@pytest.mark.parametrize("flag", ["-s", "-Wl,-s", "-Wl,--strip-all"])
def test_a_stripped_link_keeps_its_symbols_and_that_is_said(tmp_path, flag):
    (tmp_path / "a.c").write_text(F)
    done = hot_cc("gcc", "-fPIC", "-shared", flag, "a.c", "-o", "m.so", cwd=tmp_path)
    assert f"m.so: {flag} dropped" in done.stderr
    assert hooked(tmp_path / "m.so") == {"f"}


def test_an_object_that_the_wrapper_did_not_make_is_named(tmp_path):
    (tmp_path / "a.c").write_text(F)
    (tmp_path / "b.c").write_text(G)
    hot_cc("gcc", "-fPIC", "-c", "a.c", cwd=tmp_path)
    run("gcc", "-fPIC", "-c", "b.c", cwd=tmp_path)
    hot_cc("gcc", "-shared", "a.o", "b.o", "-o", "m.so", cwd=tmp_path)
    (entry,) = record_of(tmp_path / "m.so").unpatchable
    assert entry.name == "g" and entry.reason == "from an object that was not compiled by hotreload cc"
    assert hooked(tmp_path / "m.so") == {"f"}


def test_a_library_without_any_hot_object_is_what_the_linker_made(tmp_path):
    (tmp_path / "a.c").write_text(F)
    run("gcc", "-fPIC", "-c", "a.c", cwd=tmp_path)
    done = hot_cc("gcc", "-shared", "a.o", "-o", "m.so", cwd=tmp_path)
    elf = ElfFile.read(tmp_path / "m.so")
    assert elf.section(RECORD_SECTION) is None and done.stderr == ""


def test_an_entry_that_is_not_aligned_is_named_and_left_as_it_is(tmp_path):
    # A section that two functions share, the first of them of an odd length: the linker cannot align the second.
    (tmp_path / "a.c").write_text(
        '__attribute__((section(".text.shared"), optimize("align-functions=1"))) long odd(long x) { return x; }\n'
        '__attribute__((section(".text.shared"), optimize("align-functions=1"))) long next(long x) { return x + 1; }\n'
        'asm(".pushsection .text.shared; nop; .popsection");\n'
        '__attribute__((section(".text.shared"), optimize("align-functions=1"))) long last(long x) { return x + 2; }\n'
        + F
    )
    hot_cc("gcc", "-Os", "-fPIC", "-shared", "a.c", "-o", "m.so", "-fno-toplevel-reorder", cwd=tmp_path)
    record = record_of(tmp_path / "m.so")
    named = {entry.name for entry in record.unpatchable}
    found = hooked(tmp_path / "m.so")
    assert "f" in found and named and not named & found
    assert named | found == {"odd", "next", "last", "f"}
    assert all("not 8-byte aligned" in entry.reason for entry in record.unpatchable)


COLD = """
void abort(void);
__attribute__((cold)) long cold(long x) { return x * 3; }
__attribute__((hot)) long hot(long x) { return x * 5; }
static long __attribute__((noinline)) local(long x) { return x - 1; }
__attribute__((constructor)) static void early(void) { }
long split(long x) { if (__builtin_expect(x == 77, 0)) { if (x == 78) abort(); return x / 7; } return local(x); }
long noreturn_caller(long x) { if (x) abort(); return 1; }
__attribute__((section(".text.mine"))) long placed(long x) { return x + 9; }
"""
NAMES = {"cold", "hot", "local", "early", "split", "noreturn_caller", "placed"}


@pytest.mark.parametrize("flags", ["-O0", "-O1", "-O2", "-O3", "-Os", "-O2 -falign-functions=1", "-O2 -fcf-protection=full",
                                   "-O2 -fpatchable-function-entry=3,1", "-O2 -fno-function-sections"])  # fmt: skip
def test_every_entry_is_finished_and_aligned(tmp_path, flags):
    (tmp_path / "a.c").write_text(COLD)
    hot_cc("gcc", *flags.split(), "-fPIC", "-shared", "a.c", "-o", "m.so", cwd=tmp_path)
    record = record_of(tmp_path / "m.so")
    assert not record.unpatchable
    assert hooked(tmp_path / "m.so") == NAMES


def test_what_makes_no_object_and_no_library_passes_through(tmp_path):
    (tmp_path / "a.c").write_text("int main(void) { return 3; }\n")
    for words in (
        ["--version"],
        ["-print-file-name=libgcc.a"],
        ["-E", "a.c"],
        ["-dumpmachine"],
        ["-###", "a.c"],
        ["-v"],
    ):
        plain = run("gcc", *words, cwd=tmp_path)
        ours = hot_cc("gcc", *words, cwd=tmp_path)
        assert ours.stdout == plain.stdout
    hot_cc("gcc", "a.c", "-o", "program", cwd=tmp_path)
    run("./program", cwd=tmp_path, code=3)
    hot_cc("gcc", "-c", "a.c", cwd=tmp_path)
    hot_cc("gcc", "a.o", "-o", "linked", cwd=tmp_path)
    run("./linked", cwd=tmp_path, code=3)
    hot_cc("gcc", "-S", "a.c", cwd=tmp_path)
    assert listing(tmp_path) == {"a.c", "a.o", "a.s", "program", "linked"}


def test_probes_of_configure_scripts_leave_devices_alone(tmp_path):
    (tmp_path / "a.c").write_text(F)
    kind = os.stat("/dev/null").st_rdev
    for words in (["-c", "a.c", "-o", "/dev/null"], ["-shared", "-fPIC", "a.c", "-o", "/dev/null"]):
        assert hot_cc("gcc", *words, cwd=tmp_path).stderr == ""
        assert stat.S_ISCHR(os.stat("/dev/null").st_mode) and os.stat("/dev/null").st_rdev == kind
    assert listing(tmp_path) == {"a.c"}


def test_standard_input_is_compiled(tmp_path):
    done = subprocess.run(
        ["python3", "-m", "hotreload", "cc", "gcc", "-xc", "-c", "-", "-o", "a.o"],
        cwd=tmp_path, input=F.encode(), check=True, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0 and (tmp_path / "a.o").exists()


def test_the_compilation_database_is_merged_over_links_that_run_at_once(tmp_path):
    (tmp_path / "compile_commands.json").write_text(
        json.dumps([{"directory": "/x", "file": "/x/y.c", "command": "cc y.c"}])
    )
    names = [f"u{i}" for i in range(4)]
    for name in names:
        (tmp_path / f"{name}.c").write_text(F.replace("f(", f"{name}("))
    with ThreadPoolExecutor() as pool:
        link = ["gcc", "-fPIC", "-DX=1", "-shared"]
        list(pool.map(lambda name: hot_cc(*link, f"{name}.c", "-o", f"{name}.so", cwd=tmp_path), names))
    hot_cc("gcc", "-fPIC", "-DX=2", "-shared", "u1.c", "-o", "u1.so", cwd=tmp_path)
    entries = json.loads((tmp_path / "compile_commands.json").read_text())
    assert sorted(entry["file"] for entry in entries) == sorted(["/x/y.c", *(str(tmp_path / f"{n}.c") for n in names)])
    (changed,) = [entry for entry in entries if entry["file"].endswith("u1.c")]
    assert changed["directory"] == str(tmp_path) and "-DX=2" in changed["arguments"]
    assert not any("patchable" in argument for argument in changed["arguments"])
    run(*changed["arguments"], cwd=tmp_path)


def test_paths_with_spaces_and_dollars_are_kept(tmp_path):
    place = tmp_path / "a place $1 #2"
    place.mkdir()
    (place / "my header.h").write_text("#define N 1\n")
    (place / "my code.c").write_text('#include "my header.h"\n' + F)
    hot_cc("gcc", "-fPIC", "-c", "my code.c", "-o", "my object.o", cwd=place)
    hot_cc("gcc", "-shared", "my object.o", "-o", "my module.so", cwd=place)
    (unit,) = record_of(place / "my module.so").units
    assert set(unit.files) == {str(place / "my code.c"), str(place / "my header.h")}


@pytest.mark.parametrize("kind", ["a file is in the way", "read-only", "full"])
def test_without_a_store_the_build_is_plain_and_that_is_said(tmp_path, kind):
    (tmp_path / "a.c").write_text(F)
    blocked = tmp_path / "store"
    blocked.write_text("")
    place = {"a file is in the way": blocked / "x", "read-only": "/proc/self/fdinfo", "full": "/dev/full"}[kind]
    done = hot_cc("gcc", "-fPIC", "-shared", "a.c", "-o", "m.so", cwd=tmp_path, HOTRELOAD_STORE=str(place))
    assert "a.c: left unpatchable: " in done.stderr and str(place) in done.stderr
    elf = ElfFile.read(tmp_path / "m.so")
    assert elf.section(RECORD_SECTION) is None and not hooked(tmp_path / "m.so")
    assert listing(tmp_path) == {"a.c", "m.so", "store"}


def test_a_link_without_a_store_is_plain_and_never_wrongly_patchable(tmp_path):
    (tmp_path / "a.c").write_text(F)
    hot_cc("gcc", "-fPIC", "-c", "a.c", cwd=tmp_path)
    done = hot_cc("gcc", "-shared", "a.o", "-o", "m.so", cwd=tmp_path, HOTRELOAD_STORE="/proc/self/fdinfo")
    assert "m.so: left unpatchable: " in done.stderr
    assert not hooked(tmp_path / "m.so")
    assert listing(tmp_path) == {"a.c", "a.o", "m.so"}


def test_unit_without_debug_information_gets_it(tmp_path):
    (tmp_path / "a.c").write_text(F)
    hot_cc("gcc", "-fPIC", "-g0", "-c", "a.c", cwd=tmp_path)
    assert ElfFile.read(tmp_path / "a.o").section(".debug_info") is not None


@pytest.mark.skipif(shutil.which("clang") is None, reason="clang is not installed")
def test_clang_is_used_as_it_is_and_every_entry_is_finished(tmp_path):
    (tmp_path / "a.c").write_text(COLD)
    done = hot_cc(
        "clang", "-O2", "-Wall", "-Werror", "-fPIC", "-shared", "a.c", "-o", "m.so", "-Wl,-z,now", "-lm", cwd=tmp_path
    )
    assert done.stderr == ""
    assert hooked(tmp_path / "m.so") == NAMES - {"early"}  # which does nothing, so clang leaves it out


def test_a_compiler_behind_ccache_is_seen(tmp_path):
    fake = tmp_path / "bin" / "ccache"
    fake.parent.mkdir()
    fake.write_text('#!/bin/sh\nexec "$@"\n')
    fake.chmod(0o755)
    (tmp_path / "a.c").write_text(F)
    hot_cc(fake, "gcc", "-fPIC", "-shared", "a.c", "-o", "m.so", cwd=tmp_path)
    assert hooked(tmp_path / "m.so") == {"f"}


def test_probes_import_little():
    """The wrapper stands before every call of the compiler; what it imports is paid thousands of times."""
    heavy = {
        "subprocess",
        "tempfile",
        "pathlib",
        "shutil",
        "sysconfig",
        "json",
        "structlog",
        "rich",
        "watchdog",
        "cffi",
    }
    script = "import hotreload.build.cc, sys; print(*sys.modules)"
    loaded = set(run("python3", "-S", "-c", script, cwd=store.root()).stdout.split())
    assert not heavy & loaded
    script = "import hotreload.build.steps, hotreload.build.finish, sys; print(*sys.modules)"
    loaded = set(run("python3", "-S", "-c", script, cwd=store.root()).stdout.split())
    assert not (heavy - {"json", "sysconfig"}) & loaded


def test_a_source_that_is_saved_while_it_is_compiled_is_remembered_as_it_was_compiled(tmp_path):
    (tmp_path / "a.c").write_text("int f(void) { return 1; }\n")
    slow = tmp_path / "slow-gcc"
    slow.write_text(
        "#!/bin/sh\ngcc \"$@\" || exit\n[ -e saved ] || { touch saved; echo 'int f(void) { return 2; }' > a.c; }\n"
    )
    slow.chmod(0o755)
    hot_cc(slow, "-fPIC", "-c", "a.c", "-o", "a.o", cwd=tmp_path)
    (unit,) = read_units(ElfFile.read(tmp_path / "a.o"))
    text = store.load_text(unit.files[str(tmp_path / "a.c")])
    assert b"return 2" in text
    code = run("objdump", "-d", "a.o", cwd=tmp_path).stdout
    assert "$0x2,%eax" in code, "the object must be of the text that is remembered"
