"""The workshop: equal code has equal digests, the original text is the base, and what it read is told."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat

import pytest

from hotreload.errors import BuildError, IncompatibleError

SOURCE = """
#include <assert.h>
static long n = 1;
long f(long x) { assert(x >= 0); return x + n; }
long g(long x) { assert(x >= 0); return f(x) + __LINE__ * 0; }
"""


def test_the_original_text_is_the_base(hot_extension):
    hot = hot_extension(SOURCE)
    base = hot.make()
    assert base.kind == "base" and base.path is None and base.changed == ()
    assert hot.edit("return x + n", "return x - n").kind == "patch"
    again = hot.write(SOURCE)
    assert again.kind == "base" and again.digest == base.digest
    assert hot("f(5)") == 6


def test_a_comment_after_a_patch_makes_the_same_digest(hot_extension):
    hot = hot_extension(SOURCE)
    patched = hot.edit("return x + n", "return x - n")
    commented = hot.edit("\nstatic long n", "\n/* a comment\n * of two lines */\nstatic long n")
    assert commented.digest == patched.digest
    assert commented.changed == ("f",) and commented.compiler_changed == ()
    assert hot.edit("return x - n", "return x - n - 1").digest != patched.digest


def test_a_comment_alone_is_the_base(hot_extension):
    hot = hot_extension(SOURCE)
    result = hot.edit("\nstatic long n", "\n\n/* a comment */\nstatic long n")
    assert (result.kind, result.digest) == ("base", hot.workshop.make().digest)


def test_inputs_are_what_was_read(hot_extension):
    hot = hot_extension({"ext.c": '#include "h.h"\nlong f(void) { return N; }\n', "h.h": "#define N 1\n"})
    result = hot.edit("N 1", "N 2", "h.h")
    for name in ("ext.c", "h.h"):
        path = hot.directory / name
        assert result.inputs[path] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert set(result.seconds) == {"build", "diff", "link"}


def test_what_cannot_change_is_not_compiled_again(hot_extension):
    hot = hot_extension({"a.c": "long f(void) { return 1; }\n", "b.c": "long g(void) { return 1; }\n"})
    hot.edit("return 1", "return 2", "a.c")
    (hot.directory / "b.c").touch()
    assert hot.make().seconds["build"] < 0.005


def test_warnings_are_handed_on(hot_extension):
    hot = hot_extension("long f(long x) { return x; }\n", flags=("-O2", "-Wall"))
    result = hot.edit("return x", "int unused; return x")
    assert "unused variable" in result.warnings


def test_a_patch_leaves_nothing_but_itself_behind(hot_extension):
    hot = hot_extension(SOURCE)
    result = hot.edit("return x + n", "return x - n")
    assert os.listdir(result.path.parent) == [result.path.name]
    with pytest.raises(BuildError):
        hot.edit("return x - n", "return x - ")
    assert os.listdir(result.path.parent) == [result.path.name]
    hot.workshop.close()
    assert not result.path.parent.exists()


@pytest.mark.parametrize("flags", ["-MD", "-MMD -MF deps.mk", "-MD -MFdeps.mk -MT x.o", "-Wp,-MD,deps.mk"])
def test_nothing_is_written_where_the_sources_are(hot_extension, flags):
    hot = hot_extension("long f(long x) { return x; }\n", flags=["-O2", *flags.split()])
    for path in hot.directory.iterdir():
        if path.suffix in (".d", ".mk", ".o"):
            path.unlink()
    before = sorted(path.name for path in hot.directory.iterdir())
    assert hot.edit("return x", "return x + 1").changed == ("f",)
    assert sorted(path.name for path in hot.directory.iterdir()) == before


def test_another_compiler_than_the_bases_is_refused_showing_both(hot_extension, tmp_path):
    compiler = tmp_path / "cc"
    compiler.write_text('#!/bin/sh\nexec gcc "$@"\n')
    compiler.chmod(compiler.stat().st_mode | stat.S_IXUSR)
    hot = hot_extension("long f(long x) { return x; }\n", compiler=str(compiler))
    hot.save("return x", "return x + 1")
    compiler.write_text('#!/bin/sh\ncase "$*" in *-c*) ;; *) exec gcc "$@";; esac\n'
                        'for o; do :; done\ngcc "$@" || exit\nfor a; do [ "$p" = -o ] && out=$a; p=$a; done\n'
                        'printf "GCC: (Other) 99.1" > comment\n'
                        'objcopy --update-section .comment=comment "$out"\n')  # fmt: skip
    with pytest.raises(
        IncompatibleError, match=r"compiled by GCC: \(.*12.*, and now by GCC: \(Other\) 99\.1"
    ) as refused:
        hot.make()
    assert [finding.slug for finding in refused.value.findings] == ["compiler-changed"]
    hot.workshop.allow = frozenset({"compiler-changed"})
    hot.make_live()
    assert hot("f(1)") == 2
    compiler.unlink()
    hot.save("return x + 1", "return x + 2")
    with pytest.raises(BuildError, match="cannot run"):
        hot.make()


@pytest.mark.parametrize("flags", [("-O2", "-fno-pic"), ("-O2", "-fpie")], ids=" ".join)
def test_absolute_addresses_of_live_state_in_a_build_without_pic_are_refused(hot_extension, flags):
    hot = hot_extension(
        '__attribute__((visibility("hidden"))) long n = 1;\nlong f(long x) { return x + n; }\n', flags=flags
    )
    assert hot("f(1)") == 2
    hot.edit("return x + n", "n += 5; return x + n")
    assert hot("f(1)") == 7
    if flags[1] == "-fno-pic":
        with pytest.raises(IncompatibleError, match="-fPIC"):
            hot.edit("return x + n", "long *volatile p = &n; return *p + x + 100")
        assert hot("f(1)") == 12


@pytest.mark.parametrize("compiler", ["gcc", "clang"])
def test_a_header_that_is_missing_is_waited_for(hot_extension, compiler):
    if not shutil.which(compiler):
        pytest.skip(f"needs {compiler}")
    hot = hot_extension("long f(void) { return 1; }\n", compiler=compiler)
    awaited = hot.directory / "later.h"
    with pytest.raises(BuildError, match="does not compile"):
        hot.write('#include "later.h"\nlong f(void) { return LATER; }\n')
    assert awaited in hot.workshop.watched_files()
    awaited.write_text("#define LATER 5\n")
    hot.make_live()
    assert hot("f()") == 5


def test_it_is_said_why_there_is_nothing_to_do(hot_extension):
    hot = hot_extension("static long limit = 3;\nlong f(long x) { limit += x; return limit; }\n")
    assert hot.make().reason == "the sources are those that the base was made from"
    assert "comments" in hot.edit("return limit;", "/* as it is */ return  limit;").reason
    result = hot.edit("limit = 3", "limit = 4")
    assert (result.kind, result.reason) == ("base", "no function's code differs; the notes say what else has changed")
    assert hot.edit("limit += x", "limit += 2 * x").reason == ""
