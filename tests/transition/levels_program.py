"""A process with a hot extension and threads that use it, while its functions change. Prints what it saw as JSON.

python levels_program.py SCENARIO '{"path": ext.so, "patch": file, ...}'
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import json
import os
import random
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Callable

import hotreload
from hotreload.errors import HotReloadError
from hotreload.live import Limits, Manager, Terms
from hotreload.live import manager as live_manager

#: Long enough for a loaded machine; a test that needs it has failed.
PATIENCE = 60.0


class Program:
    """The extension, its manager, the patch."""

    def __init__(
        self, *, path: str, patch: str, limits: dict[str, Any] | None = None, is_shared: bool = False, **terms: Any
    ) -> None:
        self.library = ctypes.CDLL(path)
        self.patch = patch
        self.manager = live_manager() if is_shared else Manager(limits=Limits(**(limits or {})), terms=Terms(**terms))
        self.events: list[dict[str, Any]] = []
        self.manager.subscribe(self._note)
        self.module = self.manager.attach(path)

    def _note(self, event: dict[str, Any]) -> None:
        if event["event"].startswith("transition."):
            self.events.append(event)

    def push(self, **terms: Any) -> Any:
        return self.manager.commit(self.manager.stage(self.module, self.patch), **terms)

    def long(self, name: str, *arguments: Any) -> Callable[..., int]:
        function = self.library[name]
        function.restype, function.argtypes = ctypes.c_long, arguments
        return function

    def entry(self, name: str) -> str:
        address = ctypes.cast(self.library[name], ctypes.c_void_p).value
        return ctypes.string_at(address, 8).hex()


# A and B under load --------------------------------------------------------------------------------------------------


class Counts(ctypes.Structure):
    _fields_ = [("old", ctypes.c_long), ("new", ctypes.c_long), ("mixed", ctypes.c_long)]


def calls(
    *, hammer: str, transitions: int, level: str, threads: int = 8, every: int = 50, pause: float = 0.0, **rest: Any
) -> dict[str, Any]:
    """C threads call A, which calls B, without pause; A and B change to and fro."""
    program = Program(**rest)
    native = ctypes.CDLL(hammer)
    native.start(program.library.a, threads)
    seen: dict[str, int] = {}
    durations = []
    newest = 0
    try:
        for i in range(transitions):
            started = time.perf_counter()
            if i % 2:
                generation = program.manager.rollback(program.module, 0, level=level)
            elif i % every:
                generation = program.manager.rollback(program.module, newest, level=level)
            else:
                generation = program.push(level=level)
                newest = generation.number
            if not program.manager.wait(PATIENCE):
                return {"stuck": program.manager.transition()}
            durations.append(time.perf_counter() - started)
            state = program.manager.history(program.module)[generation.number].transition
            seen[state] = seen.get(state, 0) + 1
            if pause:
                time.sleep(pause)
    finally:
        counts = Counts()
        native.stop(ctypes.byref(counts))
    durations.sort()
    return {
        **{name: getattr(counts, name) for name, _kind in Counts._fields_},
        "states": seen,
        "median": durations[len(durations) // 2],
        "longest": durations[-1],
        "arenas": sum("hotreload-stubs" in line or "stubs" in line for line in open("/proc/self/maps")),
    }


def requests(*, transitions: int, level: str, with_request: bool, threads: int = 8, **rest: Any) -> dict[str, Any]:
    """Python threads call A, sleep, call B; both say which generation they are of."""
    program = Program(**rest)
    first, second = program.long("who_a"), program.long("who_b")
    is_over = threading.Event()
    totals = {"same": 0, "mixed": 0, "generations": set()}
    lock = threading.Lock()

    def one() -> tuple[int, int]:
        a = first()
        time.sleep(0.0003)
        return a, second()

    def serve() -> None:
        work = hotreload.request()(one) if with_request else one
        same = mixed = 0
        generations = set()
        while not is_over.is_set():
            a, b = work()
            same, mixed = same + (a == b), mixed + (a != b)
            generations.add(a)
        with lock:
            totals["same"] += same
            totals["mixed"] += mixed
            totals["generations"] |= generations

    workers = [threading.Thread(target=serve) for _ in range(threads)]
    for worker in workers:
        worker.start()
    stuck = None
    for i in range(transitions):
        if i % 2:
            program.manager.rollback(program.module, 0, level=level)
        elif i:
            program.manager.rollback(program.module, 1, level=level)
        else:
            program.push(level=level)
        if not program.manager.wait(PATIENCE):
            stuck = program.manager.transition()
            break
    is_over.set()
    for worker in workers:
        worker.join()
    return {**totals, "generations": sorted(totals["generations"]), "stuck": stuck}


def served(*, transitions: int, with_request: bool, threads: int = 4, **rest: Any) -> dict[str, Any]:
    """WSGI: A is called for the first piece of a response, B for the second, while the server sends the first."""
    program = Program(**rest)
    first, second = program.long("who_a"), program.long("who_b")
    is_over = threading.Event()
    pairs: list[tuple[bytes, ...]] = []

    def app(environ: Any, start_response: Any) -> Any:
        yield b"%d" % first()
        yield b"%d" % second()

    wrapped = hotreload.wsgi(app) if with_request else app

    def serve() -> None:
        while not is_over.is_set():
            body = wrapped({}, None)
            pieces = []
            for piece in body:
                pieces.append(piece)
                time.sleep(0.0003)
            body.close()
            pairs.append(tuple(pieces))

    workers = [threading.Thread(target=serve) for _ in range(threads)]
    for worker in workers:
        worker.start()
    program.push(level="request")
    for i in range(1, transitions):
        if not program.manager.wait(PATIENCE):
            break
        program.manager.rollback(program.module, 1 - i % 2, level="request")
    settled = program.manager.wait(PATIENCE)
    is_over.set()
    for worker in workers:
        worker.join()
    return {"settled": settled, "mixed": sum(a != b for a, b in pairs), "generations": len({a for a, _ in pairs})}


# A thread that stays in old code -------------------------------------------------------------------------------------


def sitting(*, how: str, **rest: Any) -> dict[str, Any]:
    """One thread sits in old A, others call B; forward, back, forward; then A returns."""
    program = Program(**rest)
    sit = program.long("sit", ctypes.c_int, ctypes.c_int, ctypes.c_void_p)
    quick = program.long("quick")
    is_inside = ctypes.c_int.in_dll(program.library, "is_inside")
    may_leave = ctypes.c_int.in_dll(program.library, "may_leave")
    read_end, write_end = os.pipe()
    event = threading.Event()

    @ctypes.CFUNCTYPE(None)
    def callback() -> None:
        is_inside.value = 1
        wait_in_python(event)

    kinds = {"read": 0, "lock": 1, "callback": 2, "computation": 3, "recursion": 4}
    results: list[int] = []
    program.library.take_lock()

    def sitter() -> None:
        results.append(sit(kinds[how], read_end, ctypes.cast(callback, ctypes.c_void_p)))

    threading.stack_size(64 << 20)
    thread = threading.Thread(target=sitter, name="the sitter")
    thread.start()
    threading.stack_size(0)
    until = time.monotonic() + PATIENCE
    while not is_inside.value and time.monotonic() < until:
        time.sleep(0.001)
    time.sleep(0.02)  # from saying so to being in the system call
    before = program.entry("sit"), program.entry("quick")

    result: dict[str, Any] = {"tid": thread.native_id}
    generation = program.push(wait=0.2)
    result["first"] = generation.transition
    result["told"] = program.manager.transition()
    result["quick"] = [quick(), in_thread(quick)]
    try:
        program.push(wait=0)
        result["busy"] = "was taken"
    except HotReloadError as error:
        result["busy"] = error.message
    result["back"] = program.manager.rollback(program.module, 0, wait=PATIENCE).transition
    result["trace"] = [(program.entry("sit"), program.entry("quick")) != before, quick(), in_thread(quick)]

    generation = program.push(wait=0)
    result["second"] = generation.transition
    may_leave.value = 1
    os.write(write_end, b"x")
    program.library.give_lock()
    event.set()
    result["completed"] = program.manager.wait(PATIENCE)
    thread.join(PATIENCE)
    result["results"] = results
    result["after"] = [sit(5, 0, None), quick()]
    result["state"] = program.manager.history(program.module)[generation.number].transition
    result["events"] = [event["event"] for event in program.events]
    return result


# Greenlets -----------------------------------------------------------------------------------------------------------


def suspended(**rest: Any) -> dict[str, Any]:
    """greenlet is imported; then one is switched away from in the middle of old A; then a patch comes."""
    import greenlet

    program = Program(**rest)
    sit = program.long("sit", ctypes.c_int, ctypes.c_int, ctypes.c_void_p)
    quick = program.long("quick")
    result: dict[str, Any] = {"imported": program.push(level="call", wait=PATIENCE).transition}
    program.manager.rollback(program.module, 0, level="call", wait=PATIENCE)

    main = greenlet.getcurrent()
    callback = ctypes.CFUNCTYPE(None)(main.switch)
    inside = greenlet.greenlet(lambda: sit(2, 0, ctypes.cast(callback, ctypes.c_void_p)))
    inside.switch()
    for level in ("call", "request"):
        try:
            program.push(level=level)
        except HotReloadError as error:
            result[level] = [error.as_dict()["status"], error.hint, quick()]
    result["function"] = [program.push(level="function").transition, quick()]
    result["mixed"] = inside.switch()
    return result


def greenlets_meanwhile(**rest: Any) -> dict[str, Any]:
    """While a thread sits in old A, another begins to use greenlets; the one leaves, then the other ends."""
    import greenlet

    program = Program(**rest)
    sit = program.long("sit", ctypes.c_int, ctypes.c_int, ctypes.c_void_p)
    is_inside = ctypes.c_int.in_dll(program.library, "is_inside")
    read_end, write_end = os.pipe()
    sitter = threading.Thread(target=sit, args=(0, read_end, None), name="the sitter")
    sitter.start()
    until = time.monotonic() + PATIENCE
    while not is_inside.value and time.monotonic() < until:
        time.sleep(0.001)
    began, may_end = threading.Event(), threading.Event()

    def switch() -> None:
        parent = greenlet.getcurrent()
        greenlet.greenlet(lambda: parent.switch()).switch()
        began.set()
        may_end.wait(PATIENCE)

    result: dict[str, Any] = {"state": program.push(level="call", wait=0.05).transition}
    green = threading.Thread(target=switch)
    green.start()
    began.wait(PATIENCE)
    os.write(write_end, b"x")
    sitter.join(PATIENCE)
    result["settled"] = program.manager.wait(0.3)
    told = program.manager.transition()
    result["told"] = [entry["reason"] for entry in told["stragglers"]] if told else None
    result["back"] = program.manager.reverse(wait=0.1).transition
    result["forth"] = program.manager.reverse(wait=0.1).transition
    may_end.set()
    green.join(PATIENCE)
    # greenlet forgets those of a thread that has ended when the main thread next runs Python code.
    result["completed"] = any(program.manager.wait(0.05) for _ in range(int(PATIENCE / 0.05)))
    result["quick"] = program.long("quick")()
    return result


def forking(**rest: Any) -> dict[str, Any]:
    """A process forks while a thread of it sits in old code: the child has no such thread."""
    program = Program(is_shared=True, **rest)
    sit = program.long("sit", ctypes.c_int, ctypes.c_int, ctypes.c_void_p)
    quick = program.long("quick")
    read_end, write_end = os.pipe()
    is_inside = ctypes.c_int.in_dll(program.library, "is_inside")
    thread = threading.Thread(target=sit, args=(0, read_end, None), name="the sitter")
    thread.start()
    until = time.monotonic() + PATIENCE
    while not is_inside.value and time.monotonic() < until:
        time.sleep(0.001)
    program.push(wait=0.1)
    result: dict[str, Any] = {"children": []}
    for _ in range(5):
        pid = os.fork()
        if not pid:
            code = 1
            try:
                code = 2 if not program.manager.wait(PATIENCE) else code
                assert quick() == 2
                assert program.manager.history(program.module)[1].transition == "complete"
                assert program.manager.rollback(program.module, 0, wait=PATIENCE).transition == "complete"
                assert quick() == 1
                code = 0
            finally:
                os._exit(code)
        result["children"].append(os.waitpid(pid, 0)[1])
    told = program.manager.transition()
    result["told"] = [entry["name"] for entry in told["stragglers"]] if told else None
    os.write(write_end, b"x")
    result["completed"] = program.manager.wait(PATIENCE)
    thread.join()
    result["quick"] = quick()
    return result


def chaos(*, hammer: str, seconds: float, seed: int, with_force: bool, **rest: Any) -> dict[str, Any]:
    """Several threads ask for everything at once, and the process forks meanwhile."""
    program = Program(is_shared=True, **rest)
    manager, module = program.manager, program.module
    a = program.long("a")
    native = ctypes.CDLL(hammer)
    native.start(program.library.a, 4)
    ends = time.monotonic() + seconds
    counts: dict[str, int] = {}
    errors: list[str] = []
    children: list[int] = []
    lock = threading.Lock()

    def in_child() -> int:
        if not manager.wait(PATIENCE):
            return 2
        if a() not in (11, 22):
            return 3
        manager.rollback(module, 0, wait=PATIENCE)
        return 0 if manager.wait(PATIENCE) and a() == 11 else 4

    def fork() -> None:
        pid = os.fork()
        if not pid:
            code = 1
            try:
                code = in_child()
            finally:
                os._exit(code)
        children.append(os.waitpid(pid, 0)[1])

    def newest() -> int:
        return len(manager.history(module)) - 1

    def push() -> None:
        staged = manager.stage(module, program.patch)
        try:
            manager.commit(staged, level="call", wait=random.random() * 0.01, deadline=0.05, policy=policy())
        except HotReloadError:
            with contextlib.suppress(HotReloadError):
                manager.unstage(staged)
            raise

    def policy() -> str:
        return random.choice(["wait", "revert"])

    acts: list[Callable[[], Any]] = [
        push,
        lambda: manager.rollback(module, 0, level="call", wait=random.random() * 0.01),
        lambda: manager.rollback(module, newest(), level="call", wait=0),
        lambda: manager.reverse(wait=0),
        manager.status,
        lambda: manager.wait(0.01),
    ]
    if with_force:
        acts.append(lambda: manager.force("why not"))

    def act(number: int) -> None:
        random.seed(seed * 100 + number)
        while time.monotonic() < ends:
            what = fork if number == 0 and random.random() < 0.05 else random.choice(acts)
            try:
                what()
                said = "done"
            except HotReloadError as error:
                said = error.fields["status"]
            except BaseException as error:
                errors.append(repr(error))
                raise
            with lock:
                counts[said] = counts.get(said, 0) + 1

    workers = [threading.Thread(target=act, args=(number,)) for number in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(seconds + PATIENCE)
    result: dict[str, Any] = {"hung": [worker.name for worker in workers if worker.is_alive()]}
    result["settled"] = manager.wait(PATIENCE)
    seen = Counts()
    native.stop(ctypes.byref(seen))
    manager.rollback(module, 0)
    manager.wait(PATIENCE)
    return {
        **result,
        "errors": errors,
        "counts": counts,
        "children": children,
        "mixed": seen.mixed,
        "calls": seen.old + seen.new,
        "end": a(),
        "generations": newest(),
    }


def wait_in_python(event: threading.Event) -> None:
    event.wait(PATIENCE)


def in_thread(function: Callable[[], int]) -> int:
    """What a thread gets that was not there before."""
    got: list[int] = []
    thread = threading.Thread(target=lambda: got.append(function()))
    thread.start()
    thread.join(PATIENCE)
    return got[0]


# asyncio -------------------------------------------------------------------------------------------------------------


def event_loop(*, overlap: bool, deadline: float, **rest: Any) -> dict[str, Any]:
    """Requests share the thread of a loop, with gaps or without; one of an executor's threads enters nothing."""
    program = Program(**rest)
    first, second = program.long("who_a"), program.long("who_b")
    seen: list[tuple[int, int]] = []
    executor = ThreadPoolExecutor(1)
    outside: list[int] = []
    inside: list[int] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        a = first()
        await asyncio.sleep(0.01)
        seen.append((a, second()))

    served = hotreload.asgi(app)

    async def lane(start: float, count: int) -> None:
        await asyncio.sleep(start)
        for _ in range(count):
            await served({"type": "http"}, None, None)

    async def alone() -> None:
        """What the promise says of a thread of an executor: it may be in another generation meanwhile."""
        loop = asyncio.get_running_loop()
        with hotreload.request():
            inside.append(first())
            outside.append(await loop.run_in_executor(executor, first))
            program.push(level="request", wait=0, deadline=deadline)
            for _ in range(200):
                outside.append(await loop.run_in_executor(executor, first))
                if outside[-1] != outside[0]:
                    break
                await asyncio.sleep(0.005)
            inside.append(second())

    async def overlapping() -> None:
        tasks = [asyncio.ensure_future(lane(0, 60)), asyncio.ensure_future(lane(0.005, 60))]
        await asyncio.sleep(0.1)
        program.push(level="request", wait=0, deadline=deadline)
        await asyncio.sleep(0.3)
        result["during"] = program.manager.transition()
        await asyncio.gather(*tasks)

    async def with_gaps() -> None:
        task = asyncio.ensure_future(lane(0, 30))
        await asyncio.sleep(0.1)
        program.push(level="request", wait=0, deadline=deadline)
        await task

    result: dict[str, Any] = {}
    if overlap:
        asyncio.run(overlapping())
    else:
        asyncio.run(with_gaps())
    result["completed"] = program.manager.wait(PATIENCE)
    result["seen"] = seen
    result["events"] = [event["event"] for event in program.events]
    program.manager.rollback(program.module, 0)
    program.manager.wait(PATIENCE)
    asyncio.run(alone())
    result["inside"], result["outside"] = inside, outside
    result["end"] = program.manager.wait(PATIENCE)
    executor.shutdown()
    return result


# Many swaps ----------------------------------------------------------------------------------------------------------


def figures() -> dict[str, int]:
    """What must not grow."""
    pages = int(open("/proc/self/statm").read().split()[1])
    return {
        "resident": pages * os.sysconf("SC_PAGE_SIZE"),
        "mappings": sum(1 for _ in open("/proc/self/maps")),
        "descriptors": len(os.listdir("/proc/self/fd")),
        "tasks": len(os.listdir("/proc/self/task")),
    }


def soak(*, hammer: str, swaps: int, patches: list[str], threads: int = 2, **rest: Any) -> dict[str, Any]:
    """A server that is swapped again and again with retire on."""
    program = Program(limits={"retire": True, "keep": 1}, **rest)
    raws = [open(patch, "rb").read() for patch in patches]
    native = ctypes.CDLL(hammer)
    native.start_calmly(program.library.a, threads)
    samples = []
    started = time.monotonic()
    for i in range(swaps):
        program.manager.commit(program.manager.stage(program.module, raws[i % len(raws)]))
        if not program.manager.wait(PATIENCE):
            return {"stuck": program.manager.transition()}
        program.events.clear()
        if i % (swaps // 100) == swaps // 100 - 1:
            samples.append(figures())
    counts = Counts()
    native.stop(ctypes.byref(counts))
    status = program.manager.status()["modules"][0]
    return {
        "samples": samples,
        "seconds": time.monotonic() - started,
        "mixed": counts.mixed,
        "calls": counts.old + counts.new,
        "generation": status["generation"],
        "kept": status["kept"],
    }


if __name__ == "__main__":
    scenarios = (calls, requests, served, sitting, suspended, greenlets_meanwhile, forking, chaos, event_loop, soak)
    scenario = {f.__name__: f for f in scenarios}[sys.argv[1]]
    print(json.dumps(scenario(**json.loads(sys.argv[2]))))
