"""Pool(executor=...) from the contract: work handed to threads, processes, a cluster."""

from __future__ import annotations

import concurrent.futures as cf
import itertools
import math
import multiprocessing
import os
import sys
import time
from collections.abc import Iterator
from concurrent.futures.process import BrokenProcessPool
from typing import Any

import pytest

from goroutines import Chan, go, num_goroutine
from goroutines.pool import Pool, PoolFull

from ..conftest import dead, in_thread, parked, run_program, until
from .tools import LONG


class Manual(cf.Executor):
    """An executor whose tasks stay where they are until the test ends them."""

    def __init__(self) -> None:
        self.tasks: list[tuple[Any, cf.Future[Any]]] = []

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> cf.Future[Any]:
        """Keep the call and its future."""
        future: cf.Future[Any] = cf.Future()
        self.tasks.append(((fn, args, kwargs), future))
        return future

    def finish(self, i: int) -> None:
        """Do the `i`th task now."""
        (fn, args, kwargs), future = self.tasks[i]
        future.set_result(fn(*args, **kwargs))

    def holds(self, count: int) -> None:
        """Wait until `count` tasks have come."""
        until(lambda: len(self.tasks) == count, f"that {count} tasks were handed over")


# Module-level, so that a child process can import them.


def square(i: int) -> int:
    """A task for a process."""
    return i * i


def divide(a: int, b: int) -> tuple[int, float]:
    """A task that fails for b=0 and tells its process."""
    return os.getpid(), a / b


@pytest.fixture(scope="module")
def processes() -> Iterator[cf.ProcessPoolExecutor]:
    """A process pool of two, for all tests of this module."""
    context = multiprocessing.get_context("spawn")
    with cf.ProcessPoolExecutor(2, mp_context=context) as executor:
        executor.submit(square, 2).result(LONG)  # its threads are up
        yield executor


# --- by hand ----------------------------------------------------------------------------------


def test_size_bounds_what_is_handed_over() -> None:
    """At most `size` tasks are with the executor; the next follows when one is back."""
    manual = Manual()
    with Pool(2, executor=manual) as pool:
        futures = [pool.submit(pow, 2, i) for i in range(4)]
        manual.holds(2)
        assert (pool.running, pool.waiting) == (2, 2)
        manual.finish(1)
        manual.holds(3)
        assert futures[1].result() == 2
        assert not futures[0].done()
        in_thread(manual.finish, 0)
        manual.holds(4)
        for i in (2, 3):
            manual.finish(i)
        assert [f.result() for f in futures] == [1, 2, 4, 8]


def test_arguments_go_along() -> None:
    """Positional and keyword arguments arrive as they were given."""
    manual = Manual()
    with Pool(1, executor=manual) as pool:
        future = pool.submit(dict, [("a", 1)], fn=2)
        manual.holds(1)
        manual.finish(0)
        assert future.result() == {"a": 1, "fn": 2}


def test_executors_failures_are_the_tasks() -> None:
    """What the executor's future, or its submit, raises is in the task's future."""
    manual = Manual()
    refused = OSError("no more")
    with Pool(1, executor=manual) as pool:
        failing, cancelled, late = (pool.submit(abs, i) for i in range(3))
        manual.holds(1)
        error = KeyError("x")
        manual.tasks[0][1].set_exception(error)
        assert failing.exception() is error
        manual.holds(2)
        assert manual.tasks[1][1].cancel()
        manual.tasks[1][1].set_running_or_notify_cancel()
        with pytest.raises(cf.CancelledError):
            cancelled.result(LONG)
        manual.holds(3)
        manual.finish(2)
        assert late.result() == 2

        def refuse(*args: Any, **kwargs: Any) -> Any:
            raise refused

        manual.submit = refuse  # type: ignore[method-assign]
        assert pool.submit(abs, 1).exception() is refused
        until(lambda: pool.running == 0, "that nothing runs")


def test_cancelling_and_limits_with_an_executor() -> None:
    """Queued tasks can be cancelled, max_waiting and resize count as without executor."""
    manual = Manual()
    with Pool(1, max_waiting=1, executor=manual) as pool:
        first = pool.submit(abs, 1)
        manual.holds(1)
        second = pool.submit(abs, 2)
        with pytest.raises(PoolFull):
            pool.try_submit(abs, 3)
        assert second.cancel()
        third = pool.submit(abs, 3)
        g = go(pool.submit, abs, 4)
        parked(g)
        pool.resize(3)
        manual.holds(3)
        dead(g)
        for i in range(3):
            manual.finish(i)
        assert (first.result(), third.result()) == (1, 3)


def test_map_hands_over_lazily() -> None:
    """map over an endless input gives the executor at most `size` at a time."""
    with cf.ThreadPoolExecutor(2) as threads, Pool(2, executor=threads) as pool:
        for ordered in (True, False):
            results = pool.map(square, itertools.count(), ordered=ordered)
            assert len([next(results) for _ in range(200)]) == 200
            results.close()


def test_others_run_while_the_work_is_away() -> None:
    """The pool's goroutine parks: goroutines here go on meanwhile."""
    before, ch = num_goroutine(), Chan()
    with cf.ThreadPoolExecutor(1) as threads, Pool(1, executor=threads) as pool:
        future = pool.submit(time.sleep, 0.05)
        g = go(lambda: [ch.recv() for _ in range(100)])
        for i in range(100):
            ch.send(i)
        g.join()
        assert future.result() is None
    until(lambda: num_goroutine() == before, "that the goroutines ended")


def test_the_executor_stays_its_owners() -> None:
    """Shutting the pool down leaves the executor to whoever made it."""
    with cf.ThreadPoolExecutor(1) as threads:
        with Pool(1, executor=threads) as pool:
            pool.submit(square, 2)
        assert threads.submit(square, 3).result(LONG) == 9


# --- processes --------------------------------------------------------------------------------


def test_processes(processes: cf.ProcessPoolExecutor) -> None:
    """Work runs in other processes, results and exceptions come back."""
    with Pool(4, executor=processes) as pool:
        assert list(pool.map(square, range(50))) == [i * i for i in range(50)]
        assert sorted(pool.map(square, range(50), ordered=False)) == [i * i for i in range(50)]
        pid, quotient = pool.submit(divide, 1, 2).result()
        assert pid != os.getpid()
        assert quotient == 0.5
        failing = pool.submit(divide, 1, 0)
        assert isinstance(failing.exception(), ZeroDivisionError)
        unpicklable = pool.submit(lambda: 1)
        assert unpicklable.exception() is not None
        futures = [pool.submit(math.factorial, i) for i in range(10)]
        done, left = cf.wait(futures, timeout=LONG)
        assert (len(done), left) == (10, set())


def test_lost_process() -> None:
    """A worker that dies is its task's exception; the pool answers on and can be left."""
    context = multiprocessing.get_context("spawn")
    with cf.ProcessPoolExecutor(1, mp_context=context) as executor:
        with Pool(2, executor=executor) as pool:
            assert pool.submit(square, 3).result(LONG) == 9
            lost = pool.submit(os._exit, 1)
            assert isinstance(lost.exception(LONG), BrokenProcessPool)
            after = [pool.submit(square, i) for i in range(5)]
            done, left = cf.wait(after, timeout=LONG)
            assert (len(done), left) == (5, set())
            until(lambda: pool.running + pool.waiting == 0, "that the pool is at rest")


# --- interpreters and clusters ----------------------------------------------------------------


@pytest.mark.skipif(sys.version_info < (3, 14), reason="interpreter pools are 3.14's")
def test_interpreters() -> None:
    """An interpreter pool does the work as well."""
    with cf.InterpreterPoolExecutor(2) as executor, Pool(2, executor=executor) as pool:
        assert list(pool.map(math.factorial, range(20))) == [math.factorial(i) for i in range(20)]
        assert isinstance(pool.submit(divmod, 1, 0).exception(LONG), ZeroDivisionError)


@pytest.mark.slow
def test_cluster() -> None:
    """A Dask cluster on this machine does the work through its client's executor."""
    pytest.importorskip("distributed")
    done = run_program(
        """
        import math
        from distributed import Client, LocalCluster
        from goroutines import Pool

        if __name__ == "__main__":
            with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
                with Client(cluster) as client, Pool(4, executor=client.get_executor()) as pool:
                    print(list(pool.map(math.factorial, range(6))))
                    print(type(pool.submit(divmod, 1, 0).exception()).__name__)
        """
    )
    assert done.returncode == 0, done
    assert done.stdout.splitlines() == ["[1, 1, 2, 6, 24, 120]", "ZeroDivisionError"]
