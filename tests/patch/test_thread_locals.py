"""Thread-locals of the base are reached by new code in each thread, in every TLS model."""

from __future__ import annotations

import pytest

from hotreload.errors import IncompatibleError

TLS = """
#include <pthread.h>
__thread long exported = 1;
static __thread long own = 10;
static __thread long other = 100;
long bump(long by) { static __thread long calls; calls++; own += by; other += by; exported += by;
                     return calls * 10000 + exported + own + other; }
static void *in_thread(void *arg) { long *n = arg; bump(1); n[1] = bump(n[0]); return 0; }
long elsewhere(long by)
{
    long n[2] = {by, 0};
    pthread_t t;
    pthread_create(&t, 0, in_thread, n);
    pthread_join(t, 0);
    return n[1];
}
"""
MODELS = {
    "global and local dynamic": ("-O2",),
    "unoptimised": ("-O0",),
    "local-dynamic": ("-O2", "-ftls-model=local-dynamic"),
    "initial-exec": ("-O2", "-ftls-model=initial-exec"),
    "without PLT": ("-O2", "-fno-plt"),
}


@pytest.mark.parametrize("flags", MODELS.values(), ids=MODELS)
def test_thread_locals_keep_their_values_in_each_thread(hot_extension, flags):
    hot = hot_extension(TLS, flags=(*flags, "-pthread"))
    assert [hot("bump(1)"), hot("bump(1)")] == [10_114, 20_117]
    assert hot("elsewhere(5)") == 20_000 + 7 + 16 + 106
    hot.edit("return calls * 10000 + exported", "return calls * 20000 + 5 + exported")
    assert hot("bump(1)") == 60_005 + 120
    assert hot("elsewhere(5)") == 40_000 + 5 + 7 + 16 + 106
    hot.edit("own += by; other", "own += 2 * by; other")
    assert hot("bump(1)") == 80_005 + 124
    hot.rollback()
    assert hot("bump(0)") == 50_000 + 124


def test_a_new_thread_local_is_refused_at_its_line(hot_extension):
    hot = hot_extension("\n\nlong f(void) { return 1; }\n")
    with pytest.raises(IncompatibleError) as refused:
        hot.edit("\nlong f(void) { return 1; }", "static __thread long fresh;\nlong f(void) { return ++fresh; }")
    (finding,) = refused.value.findings
    assert finding.slug == "thread-local-added" and finding.line == 2 and finding.file.endswith("ext.c")
    assert "`fresh`" in finding.reason


def test_a_new_thread_local_in_a_function_is_refused(hot_extension):
    hot = hot_extension("long f(void) { return 1; }\n")
    with pytest.raises(IncompatibleError, match="fresh"):
        hot.edit("return 1", "static __thread long fresh; return ++fresh")


def test_a_thread_local_of_a_library_is_reached(hot_extension):
    hot = hot_extension(
        "#include <errno.h>\nlong f(void) { return errno; }\nlong set(long x) { errno = x; return 0; }\n"
    )
    hot("set(0)")
    hot.edit("return errno", "return errno + 1000")
    assert hot("[set(7), f()]") == [0, 1007]


@pytest.mark.parametrize("linker", ["bfd", "gold", "lld"])
def test_a_thread_local_of_another_unit_is_shared_also_when_it_is_hidden(hot_extension, linker):
    hot = hot_extension(
        {
            "a.c": '__attribute__((visibility("hidden"))) __thread long secret = 4; __thread long visible = 40;\n'
            "long get(void) { return secret * 1000 + visible; }\n",
            "b.c": 'extern __attribute__((visibility("hidden"))) __thread long secret; extern __thread long visible;\n'
            "long bump(void) { secret++; visible++; return secret * 1000 + visible; }\n",
        },
        flags=["-O2", f"-fuse-ld={linker}"],
    )
    assert hot("[get(), bump()]") == [4040, 5041]
    hot.edit("secret++; visible++", "secret += 2; visible += 2", "b.c")
    assert hot("[bump(), get()]") == [7043, 7043]
