"""Migration hooks: real builds, real processes; when they run, what they see, and what a refusal leaves."""

from __future__ import annotations

import pytest

import hotreload
from hotreload.errors import StageError
from hotreload.live.core import NativeCore
from tests.hot import run
from tests.migration.conftest import FLAGS

SOURCE = """
#include <Python.h>
#include "hotreload.h"
#include <string.h>
static char trace[4096];
char *read_trace(void) { return trace; }
long scale = 1;
void note(const char *word) { strcat(strcat(trace, word), " "); }
long total = 10;
long work(long n) { return n * scale; }
/* hooks */
"""

MAPPED = "__import__('pathlib').Path('/proc/self/maps').read_text().count('hotreload:')"
PRE = 'HOTRELOAD_PRE_COMMIT(check) { note("pre"); return 0; }\n'
POST = 'HOTRELOAD_POST_COMMIT(grow) { note("post"); return 0; }\n'
ROLLBACK = 'HOTRELOAD_POST_ROLLBACK(shrink) { note("rollback"); return 0; }\n'


def save(hot, *hooks: str, body: str = "n * scale + 1") -> None:
    text = hot.text().split("/* hooks */")[0]
    text = text.replace("return n * scale;", f"return {body};")
    (hot.directory / hot.main).write_text(text + "/* hooks */\n" + "".join(hooks))


def generation(hot, what: str):
    return hot(f"[g.{what} for g in manager.history(module)][-1]")


def test_each_hook_runs_once_for_each_commit_and_rollback(migrating):
    hot = migrating(SOURCE)
    assert hot("work(3)") == 3
    save(hot, PRE, POST, ROLLBACK)
    result = hot.make_live()
    assert result.changed == ("work",) and result.added == ()
    assert hot("work(3)") == 4
    assert hot("read_trace.text()") == "pre post "
    hot.rollback()
    assert hot("read_trace.text()") == "pre post rollback "
    assert hot("work(3)") == 3
    hot.rollback(1)
    assert hot("read_trace.text()") == "pre post rollback pre post "


@pytest.mark.parametrize("compiler", ["gcc", "clang"])
@pytest.mark.parametrize("level", ["-O0", "-O2"])
def test_static_hooks_that_nobody_calls_are_found(migrating, compiler, level):
    hot = migrating(SOURCE, level=level, compiler=compiler)
    hot("work(3)")
    save(hot, POST, PRE, ROLLBACK)
    path = hot.make().path
    core = NativeCore()
    patch = core.open_patch(path)
    core.close_patch(patch)
    assert [(h.kind, h.name) for h in patch.hooks] == [(2, "grow"), (1, "check"), (3, "shrink")]
    assert not [c for c in patch.carried if "hotreload_" in c.key]


def test_hooks_of_a_kind_run_in_the_order_of_the_source(migrating):
    hot = migrating(SOURCE)
    hot("work(3)")
    words = ["walrus", "ant", "mole", "zebra", "bee"]
    save(hot, *(f'HOTRELOAD_POST_COMMIT({word}) {{ note("{word}"); return 0; }}\n' for word in words))
    hot.make_live()
    assert hot("read_trace.text()").split() == words


def test_a_hook_is_told_where_from_and_where_to(migrating):
    hot = migrating(SOURCE)
    hot("work(3)")
    body = """{
        char said[300];
        snprintf(said, sizeof said, "%s:%u>%u", ctx->module, ctx->from, ctx->to);
        note(said);
        return ctx->size != sizeof *ctx;
    }\n"""
    hooks = [f"HOTRELOAD_{kind}(tell) {body}" for kind in ("PRE_COMMIT", "POST_COMMIT", "POST_ROLLBACK")]
    save(hot, *hooks)
    hot.make_live()
    save(hot, *hooks, body="n * scale + 2")
    hot.make_live()
    hot.rollback()
    assert hot("read_trace.text()").split() == ["ext:0>1", "ext:0>1", "ext:1>2", "ext:1>2", "ext:2>0"]


def test_a_veto_with_a_message_changes_nothing(migrating):
    hot = migrating(SOURCE)
    hot("work(3)")
    before = hot(MAPPED)
    save(hot, 'HOTRELOAD_PRE_COMMIT(idle) { return hotreload_veto(ctx, "the queue is not empty"); }\n', POST)
    path = str(hot.make().path)
    with pytest.raises(StageError, match="hook `idle` refuses the patch: the queue is not empty") as refused:
        hot.child.ask("commit", path)
    assert refused.value.status == "VETO" and refused.value.fields["function"] == "idle"
    assert hot("work(3)") == 3 and hot("read_trace.text()") == ""
    assert hot("manager.status()['modules'][-1]['generation']") == 0
    assert hot("manager.status()['modules'][-1]['staged']") == 1
    hot("[manager.unstage(s) for ledger in manager._ledgers.values() for s in list(ledger.staged)]")
    assert hot(MAPPED) == before


def test_a_veto_without_a_message_and_one_that_is_too_long(migrating):
    hot = migrating(SOURCE)
    hot("work(3)")
    save(hot, "HOTRELOAD_PRE_COMMIT(idle) { return 3; }\n")
    with pytest.raises(StageError, match="it returned 3"):
        hot.make_live()
    text = "x" * 1000
    save(hot, f'HOTRELOAD_PRE_COMMIT(idle) {{ return hotreload_veto(ctx, "{text}"); }}\n')
    with pytest.raises(StageError) as refused:
        hot.make_live()
    assert refused.value.fields["detail"] == "x" * 255


def test_an_exception_in_a_pre_commit_hook_is_a_veto(migrating):
    hot = migrating(SOURCE)
    hot("work(3)")
    save(hot, 'HOTRELOAD_PRE_COMMIT(idle) { PyErr_SetString(PyExc_LookupError, "no key"); return 0; }\n')
    with pytest.raises(StageError, match="LookupError: no key") as refused:
        hot.make_live()
    assert refused.value.status == "VETO"
    assert hot("work(3)") == 3


def test_what_fails_after_the_commit_is_reported_and_undoes_nothing(migrating):
    hot = migrating(SOURCE)
    hot("work(3)")
    hot("bool(manager.subscribe(__import__('builtins').__dict__.setdefault('seen', []).append))")
    save(hot, 'HOTRELOAD_POST_COMMIT(grow) { PyErr_SetString(PyExc_OSError, "disk"); return 0; }\n',
         "HOTRELOAD_POST_COMMIT(paint) { return 5; }\n", POST)  # fmt: skip
    # Two hooks may have one name where their kinds differ, so the third one here has a name of its own.
    text = hot.text().replace("HOTRELOAD_POST_COMMIT(grow) { note", "HOTRELOAD_POST_COMMIT(last) { note")
    (hot.directory / hot.main).write_text(text)
    hot.make_live()
    assert hot("work(3)") == 4
    told = hot("[e for e in __import__('builtins').seen if e['event'] == 'swap.committed'][-1]['hooks']")
    assert [(run["kind"], run["name"], run["error"]) for run in told] == [
        ("post-commit", "grow", "OSError: disk"),
        ("post-commit", "paint", "it returned 5"),
        ("post-commit", "last", ""),
    ]
    assert all(0 <= run["seconds"] < 5 for run in told)
    assert hot("manager.status()['modules'][-1]['generations'][1]['hooks']") == told


def test_hooks_hold_the_gil(migrating):
    hot = migrating(SOURCE)
    hot("work(3)")
    check = """{
        note(PyGILState_Check() ? "held" : "free");
        PyObject *number = PyLong_FromLong(1L << 40);
        Py_XDECREF(number);
        return !number;
    }\n"""
    save(hot, *(f"HOTRELOAD_{kind}(look) {check}" for kind in ("PRE_COMMIT", "POST_COMMIT", "POST_ROLLBACK")))
    hot.make_live()
    hot.rollback()
    assert hot("read_trace.text()") == "held held held "


def test_a_hook_sees_old_and_new_state_by_their_names(migrating):
    """The base's variables are the live ones; a new one is the generation's, and stays the same one later."""
    hot = migrating(SOURCE)
    assert hot("work(3)") == 3
    new = "static long doubled;\nlong total_twice(void) { return doubled; }\n"
    hook = "HOTRELOAD_PRE_COMMIT(move) { if (!doubled) { total += 5; doubled = 2 * total; } return 0; }\n"
    save(hot, new, hook, body="n * scale + total_twice()")
    text = hot.text().replace("long work(", "long total_twice(void);\nlong work(")
    (hot.directory / hot.main).write_text(text)
    hot.make_live()
    assert hot("work(0)") == 30 and hot("var('total')") == 15
    hot.save("n * scale + total_twice()", "n * scale + total_twice() + 1000")
    hot.make_live()
    assert hot("work(0)") == 1030 and hot("var('total')") == 15


def test_before_the_commit_calls_go_to_old_code_and_after_it_to_new(migrating):
    hot = migrating(SOURCE)
    hot("work(3)")
    say = '{ note(work(3) == 3 ? "old" : "new"); return 0; }\n'
    save(hot, f"HOTRELOAD_PRE_COMMIT(a) {say}", f"HOTRELOAD_POST_COMMIT(b) {say}", f"HOTRELOAD_POST_ROLLBACK(c) {say}")
    hot.make_live()
    hot.rollback()
    assert hot("read_trace.text()") == "old new old "


def test_hooks_run_once_per_process_and_not_in_children_that_have_what_they_did(migrating):
    hot = migrating(SOURCE)
    hot("work(3)")
    save(hot, POST)
    hot.make_live()
    assert hot("read_trace.text()") == "post "
    forked = (
        "(lambda os, pid: os._exit(0 if read_trace.text() == 'post ' and work(3) == 4 else 9) if not pid "
        "else os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))(__import__('os'), __import__('os').fork())"
    )
    assert hot(forked) == 0


def test_a_hook_that_the_base_has_too_does_not_run_again(migrating):
    """What an earlier migration left in the source: the process was started with the new state."""
    hot = migrating(SOURCE + POST + ROLLBACK)
    hot("work(3)")
    hot.save("n * scale;", "n * scale + 1;")
    result = hot.make_live()
    assert hot("read_trace.text()") == "" and not [note for note in result.notes if "hook" in note]
    hot.save('note("post")', 'note("another")')
    result = hot.make_live()
    assert hot("read_trace.text()") == "another "
    assert result.changed == ("work",)


def test_hooks_alone_are_no_patch(migrating):
    hot = migrating(SOURCE)
    hot("work(3)")
    save(hot, POST, body="n * scale")
    result = hot.make()
    assert result.kind == "base"
    assert result.notes == ("hook `grow` does not run: the patch changes no function",)


def test_an_edited_hook_is_another_patch(migrating):
    hot = migrating(SOURCE)
    save(hot, POST)
    first = hot.make()
    assert first.notes == ("hook `grow` runs after the commit, once in each process",)
    hot.save('note("post")', 'note("later")')
    assert hot.make().digest != first.digest


def test_a_build_without_hotreload_drops_them(tmp_path):
    (tmp_path / "plain.c").write_text(SOURCE + PRE + POST + ROLLBACK)
    for level in ("-O0", "-O2"):
        run("gcc", "-shared", "-fPIC", level, *FLAGS, "plain.c", "-o", "plain.so", cwd=tmp_path)
        assert "hotreload_" not in run("nm", "plain.so", cwd=tmp_path).stdout


def test_hooks_of_cplusplus_are_found(migrating):
    source = """
    #include "hotreload.h"
    namespace { long trace; }
    extern "C" long read_trace(void) { return trace; }
    extern "C" long work(long n) { return n; }
    """
    hot = migrating(source, compiler="g++")
    hot("work(3)")
    hot.write(source.replace("return n;", "return n + 1;") + "HOTRELOAD_POST_COMMIT(grow) { trace = 77; return 0; }\n")
    assert hot("read_trace()") == 77 and hot("work(1)") == 2


def test_hooks_of_several_files_run_in_the_order_of_the_files(migrating):
    other = '#include "hotreload.h"\nvoid note(const char *);\nlong more(long n) { return n; }\n'
    hot = migrating({"ext.c": SOURCE, "two.c": other})
    hot("work(3)")
    save(hot, POST)
    (hot.directory / "two.c").write_text(other + 'HOTRELOAD_POST_COMMIT(grow) { note("two"); return 0; }\n')
    hot.make_live()
    assert hot("read_trace.text()") == "post two "


@pytest.mark.parametrize(
    ("given", "can"), [((POST,), False), ((POST, ROLLBACK), True), ((PRE,), True)], ids=["post", "both", "pre"]
)
def test_a_patch_that_a_machine_could_not_take_back_says_so(migrating, given, can):
    hot = migrating(SOURCE)
    hot("work(3)")
    save(hot, *given)
    hot(
        f"__import__('builtins').__dict__.setdefault('it', manager.stage(module, {hot.make().path.read_bytes()!r})) and 1"
    )
    assert hot("__import__('builtins').it.can_roll_back") is can
    check = "__import__('hotreload.live.hooks', fromlist=['x']).check_automatic_rollback(__import__('builtins').it, 'a trial')"
    if can:
        assert hot(check) is None
    else:
        with pytest.raises(StageError, match="a trial could not be taken back") as refused:
            hot(check)
        assert refused.value.status == "NO_ROLLBACK_HOOK"


TWO = SOURCE.replace("/* hooks */", "long also(long n) { return n + scale; }\n/* hooks */")


def commit(hot, **terms: object) -> None:
    given = "".join(f", {name}={value!r}" for name, value in terms.items())
    hot(f"manager.commit(manager.stage(module, {hot.make().path.read_bytes()!r}){given}).number")


def test_a_deadline_that_would_go_back_needs_a_rollback_hook(migrating):
    hot = migrating(TWO)
    hot("work(3)")
    save(hot, POST)
    hot.save("return n + scale", "return n + scale + 1")
    with pytest.raises(StageError) as refused:
        commit(hot, policy="revert", deadline=5.0)
    assert refused.value.status == "NO_ROLLBACK_HOOK"
    assert hot("work(3)") == 3 and hot("read_trace.text()") == ""
    commit(hot, policy="wait")
    assert hot("also(3)") == 5


def test_hooks_of_a_transition_run_at_its_beginning(migrating):
    """A post-rollback hook is code of the side that is left: what it calls stays on that side too."""
    hot = migrating(TWO)
    hot("work(3)")
    say = '{ note(work(3) == 3 && also(3) == 4 ? "old" : work(3) == 4 && also(3) == 5 ? "new" : "mixed"); return 0; }\n'
    save(hot, *(f"HOTRELOAD_{kind}(a) {say}" for kind in ("PRE_COMMIT", "POST_COMMIT", "POST_ROLLBACK")))
    hot.save("return n + scale", "return n + scale + 1")
    commit(hot, level="call")
    assert hot("manager.history(module)[1].level") == "call"
    assert hot("read_trace.text()") == "old new "
    hot.rollback()
    assert hot("read_trace.text()") == "old new new "
    assert [hot("work(3)"), hot("also(3)")] == [3, 4]


STRAGGLER = TWO.replace(
    "/* hooks */",
    """
#include <unistd.h>
int gate[2];
int open_gate(void) { return pipe(gate); }
int let_through(void) { return (int)write(gate[1], "x", 1); }
long sit(long n) { char c; return read(gate[0], &c, 1) + n; }
/* hooks */""",
)


def test_a_transition_that_turns_round_runs_the_rollback_hook(migrating):
    hot = migrating(STRAGGLER)
    hot("open_gate()")
    thread = "__import__('threading').Thread(target=lambda: sit(1), daemon=True)"
    hot(f"__import__('builtins').__dict__.setdefault('sitting', {thread}).start()")
    hot("__import__('time').sleep(0.2)")  # until it is in read(): nothing tells that from outside
    save(hot, PRE, POST, ROLLBACK)
    hot.save("return read(gate[0], &c, 1) + n", "return read(gate[0], &c, 1) + n + 5")
    commit(hot, level="call", wait=0.05)
    assert hot("manager.transition()['direction']") == "forward"
    assert hot("read_trace.text()") == "pre post "
    hot("manager.reverse(wait=0).number")
    assert hot("read_trace.text()") == "pre post rollback "
    hot("manager.wait(5)")
    assert hot("manager.transition()") is None
    hot("let_through()")
    hot("__import__('builtins').sitting.join(10)")
    assert hot("manager.status()['modules'][-1]['generation']") == 0


def test_a_swap_that_is_refused_after_the_pre_commit_hook_runs_the_rollback_hook(migrating):
    """What the pre-commit hook did is undone by the one that undoes it."""
    hot = migrating(SOURCE)
    hot("work(3)")
    save(hot, PRE, POST, ROLLBACK)
    refuse = (
        "[setattr(manager._core, 'commit', lambda *a, **k: (_ for _ in ()).throw("
        "__import__('hotreload.errors', fromlist=['x']).StageError('no', status='TEXT_LOCKED')))] and 1"
    )
    hot(refuse)
    with pytest.raises(StageError, match="no"):
        hot.make_live()
    assert hot("read_trace.text()") == "pre rollback "
    assert hot("work(3)") == 3


def test_an_edit_may_be_the_first_that_uses_the_header(hot_extension):
    hot = hot_extension("static long n; long bump(void) { return ++n; }", flags=("-O2",))
    assert hot("bump()") == 1
    hot.write(
        '#include "hotreload.h"\nstatic long n; long bump(void) { return n += 2; }\n'
        "HOTRELOAD_POST_COMMIT(more) { n += 100; return 0; }\n"
    )
    assert hot("bump()") == 103


def test_the_header_is_where_the_package_says():
    assert (hotreload.get_include() + "/hotreload.h").endswith("hotreload/include/hotreload.h")
