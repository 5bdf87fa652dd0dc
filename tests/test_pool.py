"""Pool: what its queue and workers promise, maps, executors, and an account of every task."""

from __future__ import annotations

import asyncio
import concurrent.futures as cf
import contextvars
import io
import itertools
import math
import multiprocessing
import os
import random
import sys
import threading
import time
from concurrent.futures import BrokenExecutor
from typing import Any

import pytest

import goroutines
from goroutines import Chan, Pool, current, go, gosched, run, runtime, sleep
from goroutines.pool import PoolFull

from .conftest import EXACT_ORDER, dead, in_thread, run_program, scaled, until


class Door:
    """Holds tasks until it is opened."""

    def __init__(self) -> None:
        self._shut: Chan[None] = Chan()

    def __call__(self, value: Any = None) -> Any:
        """Wait in front of it, then return `value`."""
        self._shut.recv_ok()
        return value

    def open(self) -> None:
        """Let all through."""
        self._shut.close()


def fail(error: BaseException) -> None:
    """A task that fails."""
    raise error


def test_lazy_import() -> None:
    """`import goroutines` does without concurrent.futures; the names are there all the same."""
    end = run_program(
        """
        import sys
        import goroutines
        print("concurrent.futures" in sys.modules, "Pool" in dir(goroutines))
        print(goroutines.Pool.__name__, goroutines.Group.__name__)
        """
    )
    assert end.stdout == "False True\nPool Group\n", end


@pytest.mark.skipif(not EXACT_ORDER, reason="workers are switched to between submits")
def test_small_tasks_need_no_switches() -> None:
    """A burst of tasks that never wait is run by the first worker that comes."""
    with Pool(50) as pool:
        futures = [pool.submit(current) for _ in range(1000)]
        assert len({f.result().id for f in futures}) == 1


def test_every_blocking_task_gets_a_worker() -> None:
    """Tasks that wait for each other run, as many as the pool is large."""
    meet = Chan[int]()
    with Pool(10) as pool:
        futures = [pool.submit(meet.recv) for _ in range(5)]
        futures += [pool.submit(meet.send, i) for i in range(5)]
        assert sorted(f.result() for f in futures[:5]) == list(range(5))


def test_a_worker_that_is_idle_is_used_again() -> None:
    """Waking the idle ones comes before starting new ones, up to the last of them."""
    door = Door()
    with Pool(5, idle=3600) as pool:
        first = [pool.submit(lambda: (door(), current().id)[1]) for _ in range(5)]
        until(lambda: pool.running == 5, "that all work")
        door.open()
        ids = {f.result() for f in first}
        until(lambda: pool.idle == 5, "that all are idle")
        door = Door()
        again = [pool.submit(lambda: (door(), current().id)[1]) for _ in range(5)]
        until(lambda: pool.running == 5, "that all work")
        assert pool.idle == 0
        door.open()
        same = {f.result() for f in again} == ids
        # On several threads one that is idle may go for one on the task's thread.
        assert same or runtime.gomaxprocs() > 1


def test_stats_add_up() -> None:
    """What was submitted is completed, failed, cancelled, running or waiting."""
    door = Door()
    with Pool(1) as pool:
        assert pool.stats() == (0, 0, 0, 0)
        pool.submit(len, "abc").result()
        pool.submit(fail, ValueError()).exception()
        running = pool.submit(door)
        until(running.running, "that it runs")
        queued = [pool.submit(door) for _ in range(3)]
        assert queued[1].cancel()
        stats = pool.stats()
        assert (stats.completed, stats.failed, stats.cancelled) == (1, 1, 1)
        assert stats.submitted == sum(stats[1:]) + pool.running + pool.waiting == 6
        door.open()
    assert pool.stats() == (6, 4, 1, 1)


def test_errors_name_the_pool() -> None:
    """What is refused says by which pool, and why."""
    pool = Pool(1, max_waiting=0, name="mill")
    door = Door()
    pool.submit(door)
    with pytest.raises(PoolFull, match=r"<Pool 'mill' size=1"):
        pool.try_submit(len, "abc")
    door.open()
    with pytest.raises(RuntimeError, match="use wait=False"):
        pool.submit(pool.shutdown).result()
    pool.shutdown()
    with pytest.raises(RuntimeError, match=r"after shutdown: <Pool 'mill'.*shut down"):
        pool.submit(len, "abc")


def test_contextvars() -> None:
    """Each task has a copy of its submitter's context, and leaves none to the next."""
    var: contextvars.ContextVar[str] = contextvars.ContextVar("var", default="none")

    def task() -> str:
        before = var.get()
        var.set("task's")
        return before

    with Pool(1) as pool:
        assert [pool.submit(task).result() for _ in range(2)] == ["none", "none"]
        context = contextvars.copy_context()
        context.run(var.set, "mine")
        futures = [context.run(pool.submit, task) for _ in range(2)]
        assert [f.result() for f in futures] == ["mine", "mine"]
        assert pool.submit(task).result() == "none"


def test_callback_that_raises_no_exception_is_a_panic() -> None:
    """It ends main as a goroutine's exception does; the pool's other tasks still run."""
    end = run_program(
        """
        from goroutines import Panic, Pool, sleep

        class Abort(BaseException): pass
        def abort(future): raise Abort

        pool = Pool(1)
        pool.submit(sleep, 0.001).add_done_callback(abort)
        late = pool.submit(len, "abc")
        try:
            sleep(60)
        except Panic as panic:
            print(type(panic.__cause__).__name__, late.result())
        pool.shutdown()
        """
    )
    assert end.stdout == "Abort 3\n", end


# --- threads, run() and event loops -------------------------------------------------------------


def test_tasks_of_a_thread_that_ends() -> None:
    """What a plain thread submitted runs on, though the thread has ended."""
    door = Door()
    with Pool(2) as pool:
        futures = in_thread(lambda: [pool.submit(door, i) for i in range(5)])
        door.open()
        assert [f.result() for f in futures] == list(range(5))


def test_tasks_of_a_thread_that_blocks() -> None:
    """A thread that blocks outside the runtime holds up neither its tasks nor others'."""
    go_on = threading.Event()
    futures: list[Any] = []

    def body() -> None:
        futures.append(pool.submit(len, "abc"))
        go_on.wait()

    with Pool(1, idle=3600) as pool:
        assert pool.submit(len, "ab").result() == 2
        thread = threading.Thread(target=body, daemon=True)
        thread.start()
        until(lambda: futures, "that the thread submitted")
        assert futures[0].result() == 3
        assert pool.submit(len, "abcd").result() == 4
        go_on.set()
        thread.join()


def test_event_loop_after_other_use() -> None:
    """A pool whose workers idle on this thread serves an event loop that keeps the thread."""
    door = Door()

    async def main() -> list[Any]:
        loop = asyncio.get_running_loop()
        late = loop.run_in_executor(pool, door, "late")
        quick = [await loop.run_in_executor(pool, abs, -i) for i in range(10)]
        door.open()
        return [*quick, await late]

    with Pool(2, idle=3600) as pool:
        pool.submit(len, "abc").result()
        until(lambda: pool.idle == 1, "that a worker idles here")
        for _ in range(2):
            assert asyncio.run(main()) == [*range(10), "late"]
            door = Door()
        assert pool.submit(len, "abc").result() == 3


def test_run_that_ends() -> None:
    """The end of run() ends the tasks that run and cancels the others: all are done."""
    pool = Pool(2)
    futures: list[Any] = []

    def main() -> None:
        futures.extend(pool.submit(sleep, 3600) for _ in range(2))
        until(lambda: pool.running == 2, "that two run")
        futures.extend(pool.submit(sleep, 3600) for _ in range(3))

    run(main)
    assert [type(f.exception()) for f in futures[:2]] == [goroutines.GoroutineExit] * 2
    assert [f.cancelled() for f in futures[2:]] == [True] * 3
    assert (pool.running, pool.idle, pool.waiting) == (0, 0, 0)
    run(lambda: futures.append(pool.submit(sleep, 3600)))
    assert futures[-1].cancelled()
    assert run(lambda: pool.submit(len, "abc").result()) == 3
    assert pool.submit(len, "abc").result() == 3
    pool.shutdown()
    assert sum(pool.stats()[1:]) == pool.stats().submitted


# --- map ----------------------------------------------------------------------------------------


def test_map_begins_at_the_call() -> None:
    """As many tasks as there is room for begin before the first result is asked for."""
    ran: list[int] = []
    with Pool(2) as pool:
        results = pool.map(ran.append, itertools.count(), buffersize=3)
        until(lambda: len(ran) == 3, "that three ran")
        results.close()
        with pool.map(ran.append, range(5), chunksize=10) as results:
            assert next(results) is None
        assert list(results) == []


@pytest.mark.parametrize("ordered", [True, False])
def test_map_gives_what_there_is_before_the_input_fails(ordered: bool) -> None:
    """An exception of the input comes behind the results of the items before it."""

    def items() -> Any:
        yield from range(10)
        raise KeyError("input")

    got: list[int] = []
    with Pool(3) as pool, pytest.raises(KeyError):
        for result in pool.map(abs, items(), ordered=ordered):
            got.append(result)
    assert sorted(got) == list(range(10))


def test_map_in_little_memory() -> None:
    """A long map never has more under way than it was allowed."""
    taken = itertools.count()
    with Pool(10) as pool:
        results = pool.map(abs, taken, buffersize=20)
        total = sum(itertools.islice(results, scaled(20_000)))
        results.close()
    assert total == scaled(20_000) * (scaled(20_000) - 1) // 2
    assert next(taken) <= scaled(20_000) + 20


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("items", [range(5), iter(range(5))])
def test_progress_line(monkeypatch: Any, items: Any) -> None:
    """Without tqdm a terminal gets a line that ends with how many were done."""
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setitem(sys.modules, "tqdm", None)
    with Pool(2) as pool:
        assert sum(pool.map(abs, items, progress=True)) == 10
    last = stream.getvalue().split("\r")[-1]
    assert last.startswith("5/5 [" if items == range(5) else "5 [")
    assert last.endswith("\n")


def test_progress_with_tqdm(monkeypatch: Any) -> None:
    """tqdm is used if there is one: told of the length, each result and the end."""
    calls: list[object] = []

    class Bar:
        def __init__(self, total: int | None) -> None:
            calls.append(total)

        def update(self, n: int = 1) -> None:
            calls.append(n)

        def close(self) -> None:
            calls.append("closed")

    monkeypatch.setattr(sys, "stderr", Terminal())
    monkeypatch.setitem(sys.modules, "tqdm", type("tqdm", (), {"tqdm": Bar}))
    with Pool(2) as pool:
        list(pool.map(abs, range(3), progress=True))
    assert calls == [3, 1, 1, 1, "closed"]


# --- executors ----------------------------------------------------------------------------------


def test_cancelling_what_an_executor_has_not_begun() -> None:
    """Cancelling a future whose task waits in the executor cancels it there."""
    go_on = threading.Event()
    with cf.ThreadPoolExecutor(1) as threads, Pool(2, executor=threads) as pool:
        running = pool.submit(go_on.wait)
        queued = pool.submit(go_on.wait)
        until(lambda: queued._foreign is not None, "that both were handed over")
        until(
            lambda: running._foreign is not None and running._foreign.running(),
            "that the first runs there",
        )
        assert queued.cancel()
        assert queued.cancelled()
        assert not running.cancel()
        go_on.set()
        assert running.result() is True
    assert pool.stats() == (2, 1, 0, 1)


def test_executor_is_no_deadlock() -> None:
    """While only an executor's thread can wake anybody, nobody calls it a deadlock."""
    with cf.ThreadPoolExecutor(1) as threads, Pool(1, executor=threads) as pool:
        assert pool.submit(time.sleep, 0.2).result() is None


def square(n: int) -> int:
    """A task that another process can import."""
    return n * n


def test_lost_process() -> None:
    """The end of a process is the exception of its tasks; the pool answers on."""
    context = multiprocessing.get_context("spawn")
    with cf.ProcessPoolExecutor(1, mp_context=context) as processes:
        with Pool(2, executor=processes) as pool:
            assert list(pool.map(square, range(5))) == [0, 1, 4, 9, 16]
            assert isinstance(pool.submit(os._exit, 1).exception(), BrokenExecutor)
            assert isinstance(pool.submit(square, 2).exception(), BrokenExecutor)
        assert pool.stats() == (7, 5, 2, 0)


@pytest.mark.skipif(sys.version_info < (3, 14), reason="interpreter pools came with 3.14")
def test_interpreters() -> None:
    """Interpreters do the work, and send back what it raises."""
    with cf.InterpreterPoolExecutor(2) as interpreters:  # type: ignore[attr-defined]
        with Pool(4, executor=interpreters) as pool:
            assert sorted(pool.map(math.factorial, range(6), ordered=False)) == [
                1, 1, 2, 6, 24, 120,
            ]  # fmt: skip
            assert isinstance(pool.submit(divmod, 1, 0).exception(), ZeroDivisionError)


@pytest.mark.slow
def test_cluster() -> None:
    """A cluster on this machine does the work; a worker process it loses fails one task."""
    pytest.importorskip("distributed")
    end = run_program(
        """
        import os
        from distributed import Client, LocalCluster
        from goroutines import Pool

        if __name__ == "__main__":
            with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
                with Client(cluster) as client:
                    executor = client.get_executor(retries=0)
                    with Pool(4, executor=executor) as pool:
                        print(list(pool.map(pow, range(6), [2] * 6)))
                        print(type(pool.submit(os._exit, 1).exception()).__name__)
                        print(pool.submit(pow, 3, 2).result(), pool.stats())
        """,
        env={"DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "0"},
    )
    assert end.returncode == 0, end
    assert end.stdout.splitlines() == [
        "[0, 1, 4, 9, 16, 25]",
        "KilledWorker",
        "9 Stats(submitted=8, completed=7, failed=1, cancelled=0)",
    ]


# --- every task is accounted for ------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(8))
def test_every_task_is_accounted_for(seed: int) -> None:
    """Submitting, failing, cancelling, resizing and shutting down at once loses nothing."""
    chance = random.Random(seed)
    pool = Pool(3, max_waiting=chance.choice([None, 0, 5]), idle=chance.choice([0, 0.001, 5]))
    accepted: list[tuple[int, Any]] = []
    ran: list[int] = []
    called: list[int] = []

    def task(i: int) -> int:
        ran.append(i)
        for _ in range(i % 3):
            gosched()
        if i % 7 == 0:
            sleep(0.0005)
        if i % 5 == 0:
            raise KeyError(i)
        if i % 11 == 0:
            runtime.goexit()
        return i

    def submitter(who: int) -> None:
        mine = random.Random(f"{seed} {who}")
        for n in range(scaled(80)):
            i = who * 100_000 + n
            try:
                submit = pool.submit if mine.random() < 0.7 else pool.try_submit
                future = submit(task, i)
            except PoolFull:
                gosched()
                continue
            except RuntimeError:
                return
            accepted.append((i, future))
            future.add_done_callback(lambda _, i=i: called.append(i))
            if mine.random() < 0.1:
                future.cancel()

    def troublemaker() -> None:
        while not over:
            pool.resize(chance.randint(1, 8))
            if accepted:
                chance.choice(accepted)[1].cancel()
            gosched()

    over: list[None] = []
    trouble = go(troublemaker)
    gs = [go(submitter, who) for who in range(3)]
    threads = [threading.Thread(target=submitter, args=(who,), daemon=True) for who in (3, 4)]
    for thread in threads:
        thread.start()
    if seed % 2:
        dead(*gs)
        until(lambda: not any(t.is_alive() for t in threads), "that the threads ended")
    pool.shutdown(cancel_futures=seed % 4 == 1)
    dead(*gs)
    until(lambda: not any(t.is_alive() for t in threads), "that the threads ended")
    over.append(None)
    dead(trouble)

    assert all(f.done() for _, f in accepted)
    assert len(ran) == len(set(ran))
    assert set(ran) == {i for i, f in accepted if not f.cancelled()}
    assert sorted(called) == sorted(i for i, _ in accepted)
    ends = {"completed": 0, "failed": 0, "cancelled": 0}
    for i, future in accepted:
        if future.cancelled():
            ends["cancelled"] += 1
        elif future.exception() is None:
            ends["completed"] += 1
            assert future.result() == i
        else:
            ends["failed"] += 1
            assert i % 5 == 0 or i % 11 == 0
    assert pool.stats() == (len(accepted), *ends.values())
    assert (pool.running, pool.idle, pool.waiting) == (0, 0, 0)
