"""Preemption: whoever computes for long lets the others run, and nothing breaks by it."""

from __future__ import annotations

import contextvars
import os
import re
import statistics
import sys
import threading
import time
from typing import Any

import pytest

from goroutines import Chan, WaitGroup, go, gosched, run, runtime, sleep
from goroutines import time as gtime
from goroutines.sync import Mutex
from goroutines.sync.atomic import Bool, Int64

from .tools import PARALLEL, alone, in_threads, preempts, program, scaled, several, spread, within

CPUS = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1


def burn(seconds: float) -> None:
    """Compute for so many seconds of the process's CPU time on one of its threads."""
    until = time.thread_time() + seconds
    while time.thread_time() < until:
        for _ in range(1000):
            pass


def share(hogs: int) -> list[int]:
    """Have hogs and a ticker share the threads; what each hog has counted."""
    counts = [0] * hogs
    over = Bool()

    def hog(i: int) -> None:
        while not over.load():
            counts[i] += 1

    gs = [go(hog, i) for i in range(hogs)]
    for _ in range(20):
        sleep(0.005)  # main is the ticker
    within(lambda: all(counts), "that every hog has had a turn")
    over.store(True)
    for g in gs:
        g.join()
    return counts


# --- that it happens --------------------------------------------------------------------------


@alone(1, 4, patched=True)
def test_hogs_and_a_ticker_share_when_patched() -> None:
    """With the standard library patched hogs share a thread among them, and with a ticker."""
    share(2 * runtime.gomaxprocs())


@preempts
@alone(1, 4)
def test_hogs_and_a_ticker_share_when_switched_on() -> None:
    """set_preemption(True) does it without the patch."""
    runtime.set_preemption(True)
    share(2 * runtime.gomaxprocs())


@preempts
@several
@alone(4)
def test_hogs_share_on_threads_other_than_main() -> None:
    """main computes too and never waits: the hogs and tickers elsewhere get on."""
    runtime.set_preemption(True)
    beats, over = Int64(), Bool()
    counts = [0] * 9

    def hog(i: int) -> None:
        while not over.load():
            counts[i] += 1

    def tick() -> None:
        while not over.load():
            sleep(0.002)
            beats.add(1)

    gs = [go(hog, i) for i in range(9)] + [go(tick) for _ in range(4)]
    until = time.monotonic() + 50
    while not (all(counts) and beats.load() > 50) and time.monotonic() < until:
        pass
    assert all(counts), counts
    assert beats.load() > 50
    over.store(True)
    for g in gs:
        g.join()


@alone(1, 2, patched=True)
def test_a_ticker_keeps_its_beat_beside_ten_hogs() -> None:
    """Between two beats of 50 ms the hogs use no more than some 50 ms of each CPU."""
    counts = [0] * 10
    over = Bool()

    def hog(i: int) -> None:
        while not over.load():
            counts[i] += 1

    gs = [go(hog, i) for i in range(10)]
    ticker = gtime.Ticker(0.05)
    between = []
    ticker.c.recv()
    before = time.process_time()
    for _ in range(30):
        ticker.c.recv()
        now = time.process_time()
        between.append(now - before)
        before = now
    over.store(True)
    ticker.stop()
    for g in gs:
        g.join()
    assert all(counts), counts
    cpus = min(runtime.gomaxprocs(), CPUS) if PARALLEL else 1
    # behind a round of all hogs it would be 100 ms and more
    assert statistics.median(between) / cpus < 0.085, between


@alone(1, patched=True)
def test_hogs_get_equal_shares() -> None:
    """Identical hogs on one thread have done about the same after a while."""
    counts = [0] * 4
    over = Bool()

    def hog(i: int) -> None:
        while not over.load():
            counts[i] += 1

    gs = [go(hog, i) for i in range(4)]
    start = time.process_time()
    while time.process_time() < start + 1:
        sleep(0.01)
    over.store(True)
    for g in gs:
        g.join()
    assert min(counts) * 4 > max(counts), counts


HOGS = {
    "while True: pass": """
        def hog():
            while True:
                pass
        """,
    "for without calls": """
        def hog():
            for i in itertools.count():
                x = i
        """,
    "one long for": """
        def hog():
            for i in range(10 ** 15):
                pass
        """,
    "comprehension": """
        def hog():
            [None for i in itertools.count() if i < 0]
        """,
    "generator": """
        def numbers():
            i = 0
            while True:
                i += 1
                if i < 0:
                    yield i
        def hog():
            for i in numbers():
                pass
        """,
    "generator expression": """
        def hog():
            for i in (i for i in itertools.count() if i % 2):
                pass
        """,
    "recursion": """
        def fib(n):
            return n if n < 2 else fib(n - 1) + fib(n - 2)
        def hog():
            fib(100)
        """,
    "calls": """
        def f():
            pass
        def hog():
            while True:
                f()
        """,
    "methods": """
        class Thing:
            def method(self):
                return self
        def hog():
            thing = Thing()
            while True:
                thing = thing.method()
        """,
    "properties": """
        class Thing:
            @property
            def me(self):
                return self
        def hog():
            thing = Thing()
            while True:
                thing = thing.me
        """,
    "C functions": """
        def hog():
            while True:
                len([])
        """,
    "exceptions": """
        def hog():
            while True:
                try:
                    raise ValueError
                except ValueError:
                    pass
        """,
    "with": """
        import contextlib
        def hog():
            while True:
                with contextlib.nullcontext():
                    pass
        """,
    "coroutine": """
        async def spin():
            while True:
                pass
        def hog():
            spin().send(None)
        """,
    "exec": """
        def hog():
            exec("while True: pass", {})
        """,
    "lambda": """
        def hog():
            f = lambda n: n
            while True:
                f(1)
        """,
    "class body": """
        def hog():
            class Body:
                while True:
                    pass
        """,
    "finally": """
        def hog():
            try:
                pass
            finally:
                while True:
                    pass
        """,
    "match": """
        def hog():
            i = 0
            while True:
                match i:
                    case 0: i = 1
                    case _: i = 0
        """,
}

BESIDE = """
    import itertools, threading, time
    {setup}
    from goroutines import go, runtime, sleep
    {hog}
    for _ in range(runtime.gomaxprocs()):
        go(hog)
    for _ in range(20):
        sleep(0.002)
    print("ticked", flush=True)
    """


def dedent(text: str) -> str:
    """Move a block, whose first line may be empty, to the left edge."""
    lines = text.strip("\n").splitlines()
    margin = len(lines[0]) - len(lines[0].lstrip())
    return "\n".join(line[margin:] for line in lines)


def beside(hog: str, setup: str, procs: int) -> None:
    """Run hogs on all threads, and main beside them; it ends while they run."""
    source = dedent(BESIDE).format(setup=setup, hog=dedent(hog))
    assert program(source, procs=procs).stdout == "ticked\n"


PATCH = "from goroutines.patch import patch; patch()"


@pytest.mark.parametrize("hog", list(HOGS))
def test_every_kind_of_hog_on_one_thread(hog: str) -> None:
    """Whatever way a goroutine computes, others on its thread run."""
    beside(HOGS[hog], PATCH, 1)


@several
@pytest.mark.parametrize("hog", list(HOGS))
def test_every_kind_of_hog_on_all_threads(hog: str) -> None:
    """The same with a hog on each of three threads."""
    beside(HOGS[hog], "from goroutines import runtime; runtime.set_preemption(True)", 3)


@preempts
@alone(1, 2)
def test_code_that_runs_already_when_it_is_switched_on() -> None:
    """A loop begun before set_preemption(True), called by another thread, is preempted."""
    over = Bool()

    def hog() -> None:
        while not over.load():
            pass

    def switch_on(i: int) -> None:
        time.sleep(0.05)
        runtime.set_preemption(True)

    gs = [go(hog) for _ in range(2 * runtime.gomaxprocs())]
    in_threads(1, switch_on)
    sleep(0)  # the hogs begin, and main is behind them
    over.store(True)
    for g in gs:
        g.join()


@preempts
@alone(1)
def test_a_hog_that_switches_it_on_itself() -> None:
    """From within a loop, for the very frame that calls it."""
    over = Bool()

    def hog() -> None:
        on = False
        while not over.load():
            if not on:
                runtime.set_preemption(True)
                on = True

    g = go(hog)
    sleep(0.001)
    over.store(True)
    g.join()


@preempts
@alone(1)
def test_it_can_be_switched_off() -> None:
    """After set_preemption(False) a hog runs to its end; switched on again it does not."""

    def others_run_beside_a_hog() -> bool:
        ran, seen = Bool(), []

        def hog() -> None:
            burn(0.3)
            seen.append(ran.load())

        g = go(hog)
        go(ran.store, True)
        g.join()
        return seen[0]

    assert not others_run_beside_a_hog()  # not patched: off
    for on in (True, False, True, False):
        old = runtime.set_preemption(on)
        assert old is None or old is (not on)
        assert others_run_beside_a_hog() == on


@preempts
@alone(1)
def test_it_is_switched_on_and_off_under_load() -> None:
    """Switching all the time, from a thread, while hogs compute: results are right."""
    over = Bool()

    def switch(i: int) -> None:
        on = True
        while not over.load():
            runtime.set_preemption(on)
            on = not on
            time.sleep(0.003)
        runtime.set_preemption(True)

    (thread,) = in_threads(1, switch)
    workers = spread(8, lambda i: sum(k * k for k in range(scaled(100_000))))
    expected = sum(k * k for k in range(scaled(100_000)))
    assert workers.join() == [expected] * 8
    over.store(True)
    within(lambda: not thread.is_alive(), "that the thread has ended")


@preempts
@alone(2)
def test_goroutines_of_plain_threads_are_preempted() -> None:
    """A thread's own goroutines share it, too."""
    runtime.set_preemption(True)
    results: list[int] = []

    def main() -> int:
        over = Bool()

        def hog() -> None:
            while not over.load():
                pass

        for _ in range(3):
            go(hog)
        for _ in range(10):
            sleep(0.002)
        over.store(True)
        return 1

    threads = in_threads(2, lambda i: results.append(run(main)))
    within(lambda: not any(t.is_alive() for t in threads), "that the threads have ended")
    assert results == [1, 1]


@alone(1, 3, patched=True)
def test_io_beside_hogs() -> None:
    """Sockets, queues, timers and new goroutines are served while hogs compute."""
    import queue
    import socket

    over = Bool()

    def hog() -> None:
        while not over.load():
            pass

    hogs = [go(hog) for _ in range(2 * runtime.gomaxprocs())]
    a, b = socket.socketpair()
    q: queue.Queue[int] = queue.Queue()

    def serve() -> None:
        while data := b.recv(10):
            b.sendall(data)

    server = threading.Thread(target=serve)
    server.start()
    for k in range(10):
        a.sendall(b"%d" % k)
        assert a.recv(10) == b"%d" % k
        go(q.put, k)
        assert q.get() == k
        time.sleep(0.001)
    over.store(True)
    a.close()
    server.join()
    for g in hogs:
        g.join()
    b.close()


# --- that nothing breaks ----------------------------------------------------------------------


@alone(1, 4, patched=True)
def test_results_are_right() -> None:
    """Computations of every kind, preempted again and again, give what they should."""

    def fib(n: int) -> int:
        return n if n < 2 else fib(n - 1) + fib(n - 2)

    def jobs() -> list[Any]:
        text = "".join(chr(97 + k * k % 26) for k in range(20_000))
        return [
            fib(18),
            sum(k for k in range(100_000) if k % 3),
            sorted(range(20_000), key=lambda k: k * 7919 % 20_011)[::500],
            len(re.sub("[aeiou]", lambda m: m[0].upper(), text)),
            {k: list(range(k)) for k in range(200)}[150][-1],
            "".join(f"{k:x}" for k in range(5000))[-5:],
        ]

    expected = jobs()
    assert spread(8, lambda i: [jobs() for _ in range(3)]).join() == [[expected] * 3] * 8


@alone(1, 4, patched=True)
def test_a_mutex_stays_a_mutex() -> None:
    """Hogs that hold a Mutex, or a patched Lock, while they are preempted exclude each other."""
    mutex, lock = Mutex(), threading.Lock()
    counts = [0, 0]

    def work(i: int) -> None:
        for k in range(5):
            with (mutex, lock)[k % 2]:
                value = counts[k % 2]
                burn(0.015)
                counts[k % 2] = value + 1

    spread(8, work).join()
    assert counts == [8 * 3, 8 * 2]


@alone(1, 4, patched=True)
def test_what_a_goroutine_has_of_its_own() -> None:
    """Handled exceptions, contexts, generators and tracebacks are there after a turn of others."""
    level = contextvars.ContextVar("level", default=-1)

    def numbers(i: int):
        k = 0
        while True:
            burn(0.002)
            yield i, k
            k += 1

    def work(i: int) -> None:
        level.set(i)
        mine = numbers(i)
        for k in range(10):
            try:
                raise KeyError(i, k)
            except KeyError as error:
                burn(0.005)
                assert sys.exc_info()[1] is error
                assert error.args == (i, k)
            assert next(mine) == (i, k)
            assert level.get() == i

    spread(8, work).join()


@alone(1, patched=True)
def test_imports_are_preempted_without_harm() -> None:
    """Modules that compute while they are imported by several goroutines at once."""
    import importlib
    import tempfile
    from pathlib import Path

    with tempfile.TemporaryDirectory() as directory:
        for name, other in (("slow_one", "slow_two"), ("slow_two", "slow_three")):
            source = f"for i in range(2_000_000): pass\nimport {other}\nvalue = i\n"
            (Path(directory) / f"{name}.py").write_text(source)
        (Path(directory) / "slow_three.py").write_text("x = [i for i in range(500_000)]\n")
        sys.path.insert(0, directory)

        def work(i: int) -> int:
            module = importlib.import_module(("slow_one", "slow_two")[i % 2])
            return module.value

        assert spread(6, work).join() == [1_999_999] * 6


@alone(1, 4, patched=True)
def test_collections_and_finalizers_among_hogs() -> None:
    """Hogs that make cyclic garbage with finalizers, collected at any time."""
    finalized = Int64()

    class Thing:
        def __init__(self) -> None:
            self.me = self

        def __del__(self) -> None:
            sum(range(100))
            finalized.add(1)

    def work(i: int) -> None:
        for _ in range(2000):
            Thing()
        burn(0.02)

    spread(8, work).join()
    runtime.gc()
    within(lambda: finalized.load() == 8 * 2000, "that all were finalized")


@alone(1, patched=True)
def test_deep_recursion_is_preempted() -> None:
    """Hogs hundreds of calls deep switch with each other, and return through it all."""

    def deep(n: int) -> int:
        if n == 0:
            burn(0.05)
            return 0
        return deep(n - 1) + 1

    assert spread(6, lambda i: deep(200 + i)).join() == [200 + i for i in range(6)]


@alone(1, 4, patched=True)
def test_hogs_that_also_wait() -> None:
    """Long computations between channel operations, beside quick goroutines: all arrive."""
    ch: Chan[int] = Chan()

    def work(i: int) -> int:
        total = 0
        for k in range(20):
            if i < 4:
                burn(0.004)
                ch.send(k)
            else:
                total += ch.recv()
        return total

    assert sum(spread(8, work).join()) == 4 * sum(range(20))


# --- others who trace -------------------------------------------------------------------------


@preempts
@alone(1, 2)
def test_all_six_tool_ids_taken() -> None:
    """With every id of sys.monitoring in use hogs are preempted, and the tools' events come."""
    monitoring = sys.monitoring  # type: ignore[attr-defined]
    seen = [0] * 6
    for tool in range(6):
        monitoring.use_tool_id(tool, f"tool {tool}")

        def start(code: Any, offset: int, tool: int = tool) -> None:
            seen[tool] += 1

        monitoring.register_callback(tool, monitoring.events.PY_START, start)
        monitoring.set_events(tool, monitoring.events.PY_START)
    runtime.set_preemption(True)
    share(2 * runtime.gomaxprocs())
    assert all(seen), seen
    for tool in range(6):
        assert monitoring.get_tool(tool) == f"tool {tool}"
        assert monitoring.get_events(tool) == monitoring.events.PY_START
        monitoring.free_tool_id(tool)
    share(2)


@preempts
@alone(1, 2)
def test_the_ids_of_tools_stay_free() -> None:
    """Debuggers, coverage and profilers that come later find their ids free, and their events."""
    monitoring = sys.monitoring  # type: ignore[attr-defined]
    runtime.set_preemption(True)
    share(2)
    for name in ("DEBUGGER_ID", "COVERAGE_ID", "PROFILER_ID", "OPTIMIZER_ID"):
        tool = getattr(monitoring, name)
        seen: list[Any] = []
        monitoring.use_tool_id(tool, name)

        def line(code: Any, number: int, seen: list[Any] = seen) -> None:
            seen.append(number) if len(seen) < 10 else None

        monitoring.register_callback(tool, monitoring.events.LINE, line)
        monitoring.set_events(tool, monitoring.events.LINE)
        share(2)
        assert len(seen) == 10
        monitoring.set_events(tool, 0)
        monitoring.free_tool_id(tool)


@preempts
@alone(1)
def test_tools_that_disable_and_restart_events() -> None:
    """DISABLE from a tool's callback, and restart_events, leave preemption alone."""
    monitoring = sys.monitoring  # type: ignore[attr-defined]
    runtime.set_preemption(True)
    events = monitoring.events
    monitoring.use_tool_id(2, "picky")
    for event in (events.JUMP, events.PY_START, events.BRANCH, events.LINE):
        monitoring.register_callback(2, event, lambda *args: monitoring.DISABLE)
    monitoring.set_events(2, events.JUMP | events.PY_START | events.BRANCH | events.LINE)
    share(3)
    monitoring.restart_events()
    share(3)
    monitoring.set_local_events(2, share.__code__, events.JUMP)
    monitoring.set_events(2, 0)
    share(3)
    assert monitoring.get_local_events(2, share.__code__) == events.JUMP
    monitoring.free_tool_id(2)


@alone(1, patched=True)
def test_trace_and_profile_functions() -> None:
    """sys.settrace and sys.setprofile in hogs: they are called, and hogs are preempted."""
    lines, calls = [0, 0, 0], [0, 0, 0]
    over = Bool()

    def hog(i: int) -> None:
        def trace(frame: Any, event: str, arg: Any) -> Any:
            lines[i] += event == "line"
            return trace

        def profile(frame: Any, event: str, arg: Any) -> None:
            calls[i] += 1

        if i != 1:
            sys.settrace(trace)
        if i != 2:
            sys.setprofile(profile)
        spin()
        sys.settrace(None)
        sys.setprofile(None)

    def spin() -> None:
        while not over.load():
            pass

    gs = [go(hog, i) for i in range(3)]
    for _ in range(10):
        sleep(0.005)
    within(lambda: lines[0] and lines[2] and calls[0] and calls[1], "that all were traced")
    over.store(True)
    for g in gs:
        g.join()
    assert lines[1] == 0
    assert calls[2] == 0


@preempts
@pytest.mark.parametrize("core", ["sysmon", "ctrace"])
def test_coverage(core: str, tmp_path: Any) -> None:
    """coverage measures a program whose hogs are preempted."""
    pytest.importorskip("coverage")
    ended = program(
        """
        import time
        from goroutines.patch import patch
        patch()
        from goroutines import go
        over = False
        def hog():
            count = 0
            while not over:
                count += 1
            return count
        gs = [go(hog) for _ in range(3)]
        for _ in range(20):
            time.sleep(0.005)
        over = True
        for g in gs:
            g.join()
        print("done")
        """,
        procs=1,
        flags=("-m", "coverage", "run", "--data-file", str(tmp_path / "data")),
        env={"COVERAGE_CORE": core},
    )
    assert ended.stdout == "done\n"


@alone(1, patched=True)
def test_a_profiler() -> None:
    """cProfile around goroutines that are preempted ends with figures."""
    import cProfile
    import pstats

    profiler = cProfile.Profile()
    wg = WaitGroup()
    profiler.enable()
    try:
        for _ in range(3):
            wg.go(burn, 0.05)
        wg.wait()
    finally:
        profiler.disable()
    assert pstats.Stats(profiler).total_calls > 0  # type: ignore[attr-defined]


@alone(4)
def test_a_program_without_hogs_is_not_touched() -> None:
    """With preemption on, goroutines that wait often are not switched in between."""
    if sys.version_info >= (3, 12):
        runtime.set_preemption(True)
    order: list[int] = []

    def work(i: int) -> None:
        for _ in range(50):
            at = len(order)
            order.append(i)
            assert PARALLEL or order[at] == i
            gosched()

    wg = WaitGroup()
    for i in range(4):
        wg.go(work, i)
    wg.wait()
    assert sorted(order) == sorted(list(range(4)) * 50)
