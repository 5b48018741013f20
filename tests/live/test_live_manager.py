"""The manager: generations, ownership, rollback, refusals, events, forks."""

from __future__ import annotations

import json
import mmap
import os
import pickle
import threading
from pathlib import Path

import pytest
import tiny
from tiny import child, status_of

from hotreload.errors import PoisonedError, StageError, TransitionError
from hotreload.live import LoadedModule, Manager, StagedPatch, manager, status
from hotreload.live.core import NativeCore

STEP_100 = "extern long counter; HOOK long step(long n) { counter += 100 * n; return counter; }"
OTHER_2000 = "HOOK long other(long n) { return n + 2000; }"
BOTH = STEP_100.replace("100", "10") + OTHER_2000.replace("2000", "5000")


class Bench:
    """A manager with one attached base, and short ways to say things."""

    def __init__(self, folder: Path, base: tiny.TinyBase, core: NativeCore | None = None) -> None:
        self.folder, self.base = folder, base
        self.manager = Manager(core, reserve_bytes=1 << 20)
        self.events: list[dict] = []
        self.manager.subscribe(self.events.append)
        self.module: LoadedModule = self.manager.attach(str(base.path))

    def patch(self, source: str, *replaces: str, **options: object) -> bytes:
        return tiny.make_patch(self.folder, self.base, source, replaces=replaces, **options).to_bytes()

    def stage(self, source: str, *replaces: str, **options: object) -> StagedPatch:
        return self.manager.stage(self.module, self.patch(source, *replaces, **options))

    def push(self, source: str, *replaces: str, **options: object) -> int:
        return self.manager.commit(self.stage(source, *replaces, **options)).number

    def __getattr__(self, name: str):
        import ctypes

        return self.base.function(name, ctypes.c_long)

    def bytes_at(self, name: str) -> bytes:
        import ctypes

        return ctypes.string_at(self.base.address(name), 8)

    @staticmethod
    def bytes_of(address: int) -> bytes:
        import ctypes

        return ctypes.string_at(address, 8)


@pytest.fixture
def bench(tmp_path: Path, base: tiny.TinyBase) -> Bench:
    return Bench(tmp_path, base)


def test_attaching_again_gives_the_same_module(bench: Bench) -> None:
    again = bench.manager.attach(str(bench.base.path))
    assert again == bench.module == bench.manager.modules()[0]
    assert again.name == bench.base.path.stem
    assert again.build_id == bench.base.build_id.hex()
    assert again.bias == bench.base.bias
    assert again.generation == 0


def test_a_module_is_found_through_a_symbolic_link_and_a_relative_path(bench: Bench, monkeypatch) -> None:
    link = bench.folder / "link.so"
    link.symlink_to(bench.base.path)
    assert bench.manager.attach(str(link)) == bench.module
    monkeypatch.chdir(bench.folder)
    assert bench.manager.attach(bench.base.path.name) == bench.module


def test_a_module_whose_file_was_replaced_on_disk_is_the_one_in_memory(bench: Bench) -> None:
    raw = bench.patch(OTHER_2000, "other")
    new = bench.folder / "new.so"
    new.write_bytes(b"not even a library")
    new.rename(bench.base.path)
    fresh = Manager(reserve_bytes=0)
    module = fresh.attach(str(bench.base.path))
    assert module.build_id == bench.module.build_id
    fresh.commit(fresh.stage(module, raw))
    assert bench.other(1) == 2001
    fresh.rollback(module)


def test_the_loaded_libraries_are_listed_with_their_build_ids(bench: Bench) -> None:
    libraries = dict(bench.manager.loaded_libraries())
    assert libraries[str(bench.base.path)] == bench.base.build_id.hex()
    assert any(path.startswith("/") and "libc.so" in path for path in libraries)
    assert "" not in libraries


def test_staging_redirects_nothing(bench: Bench) -> None:
    before = bench.bytes_at("step")
    staged = bench.stage(STEP_100, "step")
    assert bench.bytes_at("step") == before
    assert bench.step(1) == 6
    assert staged.functions == ("step",)
    assert staged.number == 1
    assert staged.distance < 2**31
    assert bench.manager.attach(str(bench.base.path)).generation == 0


def test_a_commit_is_live_on_all_threads_and_on_the_live_state(bench: Bench) -> None:
    assert bench.step(1) == 6
    assert bench.push(STEP_100, "step") == 1
    results = []
    threads = [threading.Thread(target=lambda: results.append(bench.step(1))) for _ in range(4)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert sorted(results) == [106, 206, 306, 406]


@pytest.mark.parametrize("kind", ["bytes", "path", "descriptor", "memfd"])
def test_a_patch_comes_as_bytes_path_or_descriptor(bench: Bench, kind: str) -> None:
    raw = bench.patch(OTHER_2000, "other")
    source: object = raw
    if kind == "path":
        source = bench.folder / "x.hotpatch"
        source.write_bytes(raw)
    elif kind != "bytes":
        source = os.memfd_create("x") if kind == "memfd" else os.open(bench.folder / "y", os.O_RDWR | os.O_CREAT)
        os.write(source, raw)
    bench.manager.commit(bench.manager.stage(bench.module, source))
    assert bench.other(1) == 2001


def test_generations_count_up_and_patches_are_cumulative(bench: Bench) -> None:
    """Generation 2 lacks step, so step is the base's again; nothing is stacked."""
    original = bench.bytes_at("step")
    assert bench.push(STEP_100, "step") == 1
    assert bench.push(OTHER_2000, "other") == 2
    assert bench.bytes_at("step") == original
    assert (bench.step(1), bench.other(1)) == (6, 2001)
    assert bench.push(BOTH, "step", "other") == 3
    assert (bench.step(1), bench.other(1)) == (16, 5001)


def test_rollback_goes_to_the_base_or_to_any_generation_and_back(bench: Bench) -> None:
    original = bench.bytes_at("step"), bench.bytes_at("other")
    bench.push(STEP_100, "step")
    bench.push(OTHER_2000, "other")
    bench.push(BOTH, "step", "other")
    assert bench.manager.rollback(bench.module, 1).number == 1
    assert (bench.step(0), bench.other(1)) == (5, 1001)
    assert bench.step(1) == 105
    assert bench.manager.rollback(bench.module).number == 0
    assert (bench.bytes_at("step"), bench.bytes_at("other")) == original
    assert bench.manager.rollback(bench.module, 3).number == 3
    assert bench.other(1) == 5001
    assert bench.push(OTHER_2000, "other") == 4, "numbers are not used twice"
    assert [g.number for g in bench.manager.history(bench.module)] == [0, 1, 2, 3, 4]


def test_rolling_back_to_what_is_live_changes_nothing(bench: Bench) -> None:
    bench.push(STEP_100, "step")
    for _ in range(2):
        assert bench.manager.rollback(bench.module, 1).number == 1
    assert bench.step(1) == 105
    for _ in range(2):
        assert bench.manager.rollback(bench.module).number == 0


@pytest.mark.parametrize("number", [-1, 2, 1000])
def test_a_generation_that_is_not_there_is_refused(bench: Bench, number: int) -> None:
    bench.push(STEP_100, "step")
    assert status_of(bench.manager.rollback, bench.module, number) == "NO_GENERATION"
    assert bench.step(1) == 105


def test_the_same_patch_twice_is_two_generations(bench: Bench) -> None:
    raw = bench.patch(STEP_100, "step")
    numbers = [bench.manager.commit(bench.manager.stage(bench.module, raw)).number for _ in range(2)]
    assert numbers == [1, 2]
    assert bench.step(1) == 105


# What new code brings ----------------------------------------------------------------------------------------------

CALLS = "long calls; HOOK long step(long n) { return %s + ++calls; }"


def test_a_new_variable_is_owned_by_the_generation_that_brought_it(bench: Bench) -> None:
    bench.push(CALLS % "100", "step", carried=("calls",))
    assert [bench.step(0), bench.step(0)] == [101, 102]
    bench.push(CALLS % "200", "step", carried=("calls",))
    assert bench.step(0) == 203
    bench.manager.rollback(bench.module, 1)
    assert bench.step(0) == 104
    bench.manager.rollback(bench.module)
    bench.push(CALLS % "300", "step", carried=("calls",))
    assert bench.step(0) == 305


def test_a_patch_that_was_only_staged_owns_nothing(bench: Bench) -> None:
    bench.manager.unstage(bench.stage(CALLS % "100", "step", carried=("calls",)))
    bench.push(CALLS % "200", "step", carried=("calls",))
    assert bench.step(0) == 201


def test_a_new_variable_that_changes_its_size_is_refused_by_name(bench: Bench) -> None:
    bench.push(CALLS % "100", "step", carried=("calls",))
    grown = "long calls[2]; HOOK long step(long n) { return 200 + ++calls[1]; }"
    with pytest.raises(StageError, match="unit:calls has 8 bytes since generation 1, the patch wants 16") as refused:
        bench.stage(grown, "step", carried=("calls",))
    assert refused.value.status == "CARRIED_SIZE"
    assert bench.step(0) == 101


def test_a_new_variable_that_becomes_a_function_is_refused(bench: Bench) -> None:
    bench.push(CALLS % "100", "step", carried=("calls",))
    source = "long calls(void) { return 1; } HOOK long step(long n) { return calls(); }"
    assert status_of(bench.stage, source, "step", carried=("calls",)) == "CARRIED_KIND"


HELPER = "HOOK long helper(long n) { return n * %s; } HOOK long step(long n) { return helper(n) + 1; }"


def test_a_new_function_that_is_edited_is_redirected_at_its_owner_s_entry(bench: Bench) -> None:
    import ctypes

    def call_owner(n: int) -> int:
        return ctypes.CFUNCTYPE(ctypes.c_long, ctypes.c_long)(owner)(n)

    first = bench.stage(HELPER % "2", "step", "helper", carried=("helper",))
    owner = first.image.address + first.carried[0].image_off
    bench.manager.commit(first)
    assert (bench.step(10), call_owner(10)) == (21, 20)
    bench.push(HELPER % "3", "step", "helper", carried=("helper",))
    assert (bench.step(10), call_owner(10)) == (31, 30), "a pointer to the new function takes the edit too"
    bench.push(HELPER % "4", "step", "helper", carried=("helper",))
    assert (bench.step(10), call_owner(10)) == (41, 40)
    bench.manager.rollback(bench.module, 1)
    assert (bench.step(10), call_owner(10)) == (21, 20)
    bench.manager.rollback(bench.module, 2)
    assert (bench.step(10), call_owner(10)) == (31, 30)
    bench.manager.rollback(bench.module)
    assert call_owner(10) == 20


# Refusals ------------------------------------------------------------------------------------------------------------


def test_a_refused_patch_leaves_no_mapping_and_says_why(bench: Bench) -> None:
    raw = tiny.make_patch(bench.folder, bench.base, STEP_100, replaces=("step",)).but(build_id=bytes(20)).to_bytes()
    statuses = []
    assert tiny.leaves_no_mapping(lambda: statuses.append(status_of(bench.manager.stage, bench.module, raw)))
    assert {*statuses} == {"BUILD_ID"}


def test_a_mapping_that_is_left_behind_is_seen_whatever_kind_it_is(tmp_path: Path) -> None:
    """The control of the tests around it."""
    (tmp_path / "file").write_bytes(bytes(4096))
    kept = []

    def leave(file: int, protection: int) -> None:
        kept.append(mmap.mmap(file, 4096, flags=mmap.MAP_PRIVATE, prot=protection))

    with (tmp_path / "file").open("rb") as file:
        assert tiny.leaves_no_mapping(lambda: None)
        assert not tiny.leaves_no_mapping(lambda: leave(-1, mmap.PROT_READ | mmap.PROT_WRITE))
        assert not tiny.leaves_no_mapping(lambda: leave(-1, mmap.PROT_READ))
        assert not tiny.leaves_no_mapping(lambda: leave(file.fileno(), mmap.PROT_READ | mmap.PROT_WRITE))


def test_an_entry_without_a_prologue_is_refused_by_name_and_nothing_stays_mapped(bench: Bench) -> None:
    patch = tiny.make_patch(
        bench.folder, bench.base, "long where_hidden(void) { return 1; }", replaces=("where_hidden",)
    )
    raw = patch.to_bytes()
    with pytest.raises(StageError, match="where_hidden") as refused:
        bench.manager.stage(bench.module, raw)
    assert refused.value.status in ("NOT_A_HOOK", "UNALIGNED")
    assert refused.value.fields["function"] == "where_hidden"
    assert tiny.leaves_no_mapping(lambda: status_of(bench.manager.stage, bench.module, raw))


def test_a_batch_whose_last_function_is_bad_changes_none(bench: Bench) -> None:
    staged = bench.stage(BOTH + "HOOK long third(long n) { return 1; }", "step", "other", "third")
    entries = sorted(bench.base.address(name) for name in ("step", "other", "third"))
    raw = bench.bytes_of(entries[-1])
    tiny.overwrite_text(entries[-1], b"\xcc" if tiny.PROLOGUE == "jump" else tiny.NOPL)
    before = bench.bytes_at("step"), bench.bytes_at("other"), bench.bytes_at("third")
    with pytest.raises(StageError, match="breakpoint|other bytes") as refused:
        bench.manager.commit(staged)
    assert refused.value.fields["function"] in ("step", "other", "third")
    assert (bench.bytes_at("step"), bench.bytes_at("other"), bench.bytes_at("third")) == before
    tiny.overwrite_text(entries[-1], raw)
    assert bench.manager.commit(staged).number == 1, "it is still staged"


def test_a_patch_that_was_staged_before_another_was_committed_is_refused(bench: Bench) -> None:
    early, late = bench.stage(STEP_100, "step"), bench.stage(OTHER_2000, "other")
    bench.manager.commit(late)
    assert status_of(bench.manager.commit, early) == "STALE"
    bench.manager.unstage(early)
    assert bench.other(1) == 2001


def test_what_is_live_cannot_be_unstaged_and_what_is_unstaged_cannot_be_committed(bench: Bench) -> None:
    staged = bench.stage(STEP_100, "step")
    bench.manager.commit(staged)
    assert status_of(bench.manager.unstage, staged) == "NOT_STAGED"
    assert status_of(bench.manager.commit, staged) == "NOT_STAGED"
    again = bench.stage(STEP_100, "step")
    bench.manager.unstage(again)
    assert status_of(bench.manager.commit, again) == "NOT_STAGED"
    assert bench.step(1) == 105


def test_a_module_that_is_not_attached_is_refused(bench: Bench) -> None:
    assert status_of(Manager().stage, bench.module, b"") == "NOT_ATTACHED"


def test_refusals_survive_pickle_and_are_plain_data(bench: Bench) -> None:
    with pytest.raises(StageError) as refused:
        bench.manager.stage(bench.module, b"not a patch")
    again = pickle.loads(pickle.dumps(refused.value))
    assert (type(again), again.as_dict()) == (StageError, refused.value.as_dict())
    assert json.loads(json.dumps(again.as_dict()))["status"] == "NOT_ELF"


def test_a_host_that_forbids_writing_text_takes_slots_or_nothing_stays_mapped() -> None:
    child(
        """
import ctypes, tempfile, tiny
from pathlib import Path
from tiny import status_of
from hotreload.live import Manager
folder = Path(tempfile.mkdtemp())
base = tiny.make_base(folder, "HOOK long f(void) { return 1; }")
raw = tiny.make_patch(folder, base, "HOOK long f(void) { return 2; }", replaces=("f",)).to_bytes()
manager = Manager()
module = manager.attach(str(base.path))
assert tiny.libc.prctl(65, 1, 0, 0, 0) == 0  # PR_SET_MDWE
tiny.maps(), status_of(manager.stage, module, raw)  # what Python's own allocator takes is taken now
before = tiny.maps()
if tiny.PROLOGUE == "slot":
    manager.commit(manager.stage(module, raw))
    assert base.function("f")() == 2
else:
    assert status_of(manager.stage, module, raw) == "TEXT_LOCKED"
    assert tiny.maps() == before and base.function("f")() == 1
"""
    )


class FailingCore(NativeCore):
    """The real core, whose next commit fails in a way that is hard to arrange."""

    failure: Exception | None = None

    def commit(self, moves, *, allow_unsynchronised=False):
        if self.failure:
            raise self.failure
        return super().commit(moves, allow_unsynchronised=allow_unsynchronised)

    def begin(self, transition, *, allow_unsynchronised=False):
        if self.failure:
            raise self.failure
        return super().begin(transition, allow_unsynchronised=allow_unsynchronised)


@pytest.mark.parametrize("level", ["function", "call", "request"])
def test_after_a_swap_that_was_undone_the_earlier_generation_serves_and_the_memory_stays(tmp_path, base, level) -> None:
    core = FailingCore()
    bench = Bench(tmp_path, base, core)
    bench.push(STEP_100, "step")
    staged = bench.stage(OTHER_2000, "other")
    core.failure = TransitionError("undone", hint="", status="SYNC_FAILED")
    with pytest.raises(TransitionError):
        bench.manager.commit(staged, level=level)
    core.failure = None
    assert bench.step(1) == 105
    bench.manager.unstage(staged)
    assert tiny.maps_at(staged.image.address + 4096) == "r-xp", "a thread may have entered it"
    assert bench.manager.status()["modules"][0]["bytes_retained"] == staged.bytes_mapped
    assert bench.push(OTHER_2000, "other") == 2


def test_after_an_undo_that_failed_every_change_of_that_module_is_refused(tmp_path, base) -> None:
    core = FailingCore()
    bench = Bench(tmp_path, base, core)
    raw = bench.patch(STEP_100, "step")
    staged = bench.manager.stage(bench.module, raw)
    core.failure = PoisonedError("gone", hint="restart", status="POISONED")
    with pytest.raises(PoisonedError):
        bench.manager.commit(staged)
    core.failure = None
    for attempt in (
        lambda: bench.manager.stage(bench.module, raw),
        lambda: bench.manager.commit(staged),
        lambda: bench.manager.rollback(bench.module),
    ):
        with pytest.raises(PoisonedError):
            attempt()
    assert bench.manager.status()["modules"][0]["poisoned"]


# What is told ------------------------------------------------------------------------------------------------------


def test_every_step_is_told_once_with_its_fields(bench: Bench) -> None:
    bench.push(STEP_100, "step")
    bench.manager.rollback(bench.module)
    assert status_of(bench.manager.stage, bench.module, b"nonsense") == "NOT_ELF"
    assert [event["event"] for event in bench.events] == [
        "generation.staged",
        "swap.committed",
        "swap.rolled_back",
        "patch.refused",
    ]
    staged, committed, rolled_back, refused = bench.events
    for event in bench.events:
        assert event["module"] == bench.module.name
        assert event["build_id"] == bench.module.build_id
        json.dumps(event)
    assert staged["generation"] == committed["generation"] == 1
    assert staged["functions"] == committed["functions"] == ["step"]
    assert 0 < committed["duration"] < 1
    assert committed["distance"] == staged["distance"] > 0
    assert (rolled_back["generation"], rolled_back["left"]) == (0, 1)
    assert (refused["during"], refused["error"]["status"]) == ("stage", "NOT_ELF")


def test_a_subscriber_may_ask_the_manager_and_may_fail(bench: Bench, caplog) -> None:
    seen = []

    def nosy(event: dict) -> None:
        worker = threading.Thread(target=lambda: seen.append(bench.manager.status()["modules"][0]["generation"]))
        worker.start()
        worker.join(10)

    def broken(event: dict) -> None:
        raise RuntimeError("mine")

    unsubscribe = [bench.manager.subscribe(callback) for callback in (broken, nosy)]
    bench.push(STEP_100, "step")
    assert seen == [0, 1]
    assert "mine" in caplog.text
    [undo() for undo in (*unsubscribe, *unsubscribe)]
    bench.push(STEP_100, "step")
    assert seen == [0, 1]


def test_status_is_plain_data_and_complete(bench: Bench) -> None:
    bench.push(BOTH, "step", "other")
    bench.manager.rollback(bench.module)
    bench.push(STEP_100, "step")
    (module,) = json.loads(json.dumps(bench.manager.status()))["modules"]
    assert module["generation"] == 2
    assert module["functions"] == {"step": 2}
    assert [g["functions"] for g in module["generations"]] == [[], ["step", "other"], ["step"]]
    assert module["bytes_mapped"] == sum(g["bytes_mapped"] for g in module["generations"]) > 0


def test_what_commit_is_told_is_remembered(bench: Bench) -> None:
    info = {"author": "somebody", "changed": ["step"]}
    generation = bench.manager.commit(bench.stage(STEP_100, "step"), info=info)
    info["author"] = "changed afterwards"
    assert generation.info == {"author": "somebody", "changed": ["step"]}
    assert bench.manager.history(bench.module)[1] == generation


def test_there_is_one_manager_for_the_process() -> None:
    assert manager() is manager()
    assert status()["pid"] == os.getpid()


# Forks ---------------------------------------------------------------------------------------------------------------


def test_a_child_has_the_generations_and_goes_its_own_way() -> None:
    child(
        """
import os, tempfile, threading, tiny
from pathlib import Path
from hotreload.live import manager
folder = Path(tempfile.mkdtemp())
base = tiny.make_base(folder, "HOOK long f(void) { return 0; }")
raws = [tiny.make_patch(folder, base, "HOOK long f(void) { return %d; }" % i, replaces=("f",)).to_bytes() for i in (1, 2)]
m = manager()
module = m.attach(str(base.path))
m.commit(m.stage(module, raws[0]))
f = base.function("f")
busy = True
def restage():
    while busy:
        m.unstage(m.stage(module, raws[1]))
worker = threading.Thread(target=restage)
worker.start()
for i in range(20):
    pid = os.fork()
    if not pid:
        assert manager() is m and f() == 1
        assert m.commit(m.stage(module, raws[1])).number == 2 and f() == 2
        m.rollback(module)
        os._exit(f() != 0)
    assert os.waitpid(pid, 0)[1] == 0
busy = False
worker.join()
assert f() == 1 and m.attach(str(base.path)).generation == 1
m.rollback(module)
assert f() == 0
"""
    )


def test_a_locked_manager_refuses_for_ever_and_keeps_its_promises(bench: Bench) -> None:
    bench.push(STEP_100, "step")
    staged = bench.stage(OTHER_2000, "other")
    assert not bench.manager.is_locked
    bench.manager.lock()
    assert bench.manager.is_locked
    assert status_of(bench.manager.stage, bench.module, b"") == "LOCKED"
    assert status_of(bench.manager.rollback, bench.module) == "LOCKED"
    assert bench.events[-1]["event"] == "patch.refused"
    assert bench.manager.commit(staged).number == 2
    assert bench.other(1) == 2001
    bench.manager.rollback(bench.module, 0, is_promised=True)
    assert bench.other(1) == 1001
