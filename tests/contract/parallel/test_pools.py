"""Group, singleflight, Pool and futures between goroutines of several threads."""

from __future__ import annotations

import concurrent.futures
import random
from typing import Any

import pytest

from goroutines import Chan, go, gosched, num_goroutine, sleep
from goroutines.context import Canceled
from goroutines.group import Group, singleflight
from goroutines.pool import Pool, PoolFull
from goroutines.sync.atomic import Bool, Int64

from .tools import alone, in_threads, nap, scaled, spread, within

TASKS = scaled(400)


@alone()
def test_group_collects() -> None:
    """Groups on all threads, with limits: results are right and the limit holds."""

    def work(i: int) -> None:
        limit = 1 + i % 4
        now = Int64()

        def task(k: int) -> int:
            assert now.add(1) <= limit
            gosched()
            now.add(-1)
            return k * k

        with Group(limit=limit) as group:
            futures = [group.go(task, k) for k in range(50)]
        assert [f.result() for f in futures] == [k * k for k in range(50)]

    spread(8, work).join()


@alone()
def test_group_fails_once() -> None:
    """Failures on all threads are raised together, and the first cancels the rest."""
    for _ in range(scaled(20)):

        def task(k: int, group: Group) -> None:
            if k % 4 == 0:
                raise ValueError(k)
            group.context.done().recv_ok()
            raise Canceled

        with pytest.raises(ExceptionGroup) as caught, Group() as group:  # noqa: F821
            for k in range(20):
                try:
                    group.go(task, k, group)
                except RuntimeError:
                    break  # cancelled already
        assert all(isinstance(error, ValueError) for error in caught.value.exceptions)
        assert group.context.err() is not None


@alone()
def test_group_from_many_goroutines() -> None:
    """go and try_go of one group called on all threads; leaving it waits for all."""
    ran = Int64()

    def task() -> int:
        gosched()
        return ran.add(1)

    with Group(limit=4) as group:

        def work(i: int) -> int:
            started = 0
            for _ in range(100):
                if i % 2:
                    started += group.try_go(task) is not None
                else:
                    group.go(task)
                    started += 1
            return started

        started = sum(spread(8, work).join())
    assert ran.load() == started


@alone()
def test_singleflight() -> None:
    """Calls with one key at the same time share one call, and never an older one's result."""
    flight = singleflight.Group()
    running, calls = [Int64() for _ in range(4)], Int64()

    def call(key: int) -> int:
        assert running[key].add(1) == 1
        sleep(0.0002)
        running[key].add(-1)
        return calls.add(1)

    def work(i: int) -> int:
        shared = 0
        last = [0] * 4
        for k in range(scaled(100)):
            value, was_shared = flight.do(k % 4, lambda k=k: call(k % 4))
            assert value > last[k % 4]  # a call that somebody has the result of is over
            last[k % 4] = value
            shared += was_shared
        return shared

    spread(16, work).join()
    assert 0 < calls.load() <= 16 * scaled(100)


@alone()
def test_pool_does_every_task_once() -> None:
    """Tasks submitted on all threads: each is done once, with its own result."""
    done = Int64()

    def task(k: int) -> int:
        done.add(1)
        if k % 10 == 0:
            gosched()
        return k + 1

    with Pool(4) as pool:

        def work(i: int) -> int:
            futures = [pool.submit(task, k) for k in range(TASKS)]
            return sum(f.result() for f in futures)

        assert spread(8, work).join() == [sum(range(1, TASKS + 1))] * 8
    assert done.load() == 8 * TASKS


@alone()
def test_pool_keeps_its_size() -> None:
    """Never do more tasks run than the size, on however many threads, also while it changes."""
    now, most, size = Int64(), Int64(), 8

    def task() -> None:
        n = now.add(1)
        if n > most.load():
            most.store(n)
        gosched()
        now.add(-1)

    with Pool(size) as pool:

        def work(i: int) -> None:
            rng = random.Random(i)
            for _ in range(TASKS):
                pool.submit(task)
                if i == 0:
                    pool.resize(rng.randint(1, size))
            pool.resize(size)

        spread(8, work).join()
    assert 0 < most.load() <= size


@alone()
def test_pool_with_a_bounded_queue() -> None:
    """submit parks and try_submit raises when max_waiting tasks queue, on all threads."""
    done = Int64()
    with Pool(2, max_waiting=3) as pool:

        def task() -> None:
            sleep(0)
            done.add(1)

        def work(i: int) -> int:
            accepted = 0
            for _ in range(TASKS):
                if i % 2:
                    try:
                        pool.try_submit(task)
                    except PoolFull:
                        gosched()
                        continue
                else:
                    pool.submit(task)
                accepted += 1
                assert pool.waiting <= 3 + 8
            return accepted

        accepted = sum(spread(8, work).join())
    assert done.load() == accepted >= 4 * TASKS


@alone()
def test_pool_shuts_down_under_submits() -> None:
    """What submit accepted before a shutdown is done; what comes after is refused."""
    for _ in range(scaled(20)):
        pool, done = Pool(3), Int64()

        def work(i: int, pool: Pool = pool, done: Int64 = done) -> int:
            accepted = 0
            if i == 0:
                nap(0.0005)
                pool.shutdown(wait=True)
                return 0
            while True:
                try:
                    pool.submit(done.add, 1)
                except RuntimeError:
                    return accepted
                accepted += 1
                gosched()

        accepted = sum(spread(8, work).join())
        assert done.load() == accepted


@alone()
def test_pool_cancels_its_futures() -> None:
    """shutdown(cancel_futures=True) while all submit: each future is done or cancelled."""
    for _ in range(scaled(20)):
        pool = Pool(2)
        futures: list[Any] = []

        def work(i: int, pool: Pool = pool, futures: list[Any] = futures) -> None:
            if i == 0:
                nap(0.0005)
                pool.shutdown(cancel_futures=True)
                return
            while True:
                try:
                    futures.append(pool.submit(gosched))
                except RuntimeError:
                    return
                gosched()

        spread(8, work).join()
        for future in futures:
            assert future.done()
            if not future.cancelled():
                assert future.result() is None


@alone()
def test_cancel_of_a_future_races_with_its_task() -> None:
    """cancel() is true and the task never ran, or false and it did."""
    with Pool(2) as pool:
        for _ in range(scaled(100)):
            ran = Int64()
            future = pool.submit(ran.add, 1)

            def cancel(i: int, future: Any = future) -> bool:
                return future.cancel()

            answers = set(spread(4, cancel).join())
            if future.cancelled():
                assert True in answers
                assert ran.load() == 0
            else:
                assert answers == {False}
                assert future.result() == 1


@alone()
def test_callbacks_are_called_once() -> None:
    """add_done_callback on other threads while the task ends: each is called, once."""
    with Pool(4) as pool:
        for _ in range(scaled(50)):
            calls = [Int64() for _ in range(8)]
            future = pool.submit(gosched)

            def add(i: int, future: Any = future, calls: list[Int64] = calls) -> None:
                future.add_done_callback(lambda f: calls[i].add(1 if f is future else 100))

            spread(8, add).join()
            future.result()
            within(lambda calls=calls: all(c.load() for c in calls), "that all were called")
            gosched()
            assert [c.load() for c in calls] == [1] * 8


@alone()
def test_results_reach_every_waiter() -> None:
    """Goroutines and plain threads that wait for one future all get what it gives."""
    gate: Chan[None] = Chan()
    with Pool(2) as pool:
        good = pool.submit(lambda: gate.recv_ok() and 5)
        bad = pool.submit(lambda: gate.recv_ok() and 1 // 0)

        def wait(i: int) -> tuple[int, str]:
            return good.result(), type(bad.exception()).__name__

        workers = spread(8, wait)
        found: list[Any] = []
        threads = in_threads(3, lambda i: found.append(wait(i)))
        sleep(0.002)
        gate.close()
        assert workers.join() == [(5, "ZeroDivisionError")] * 8
        within(lambda: not any(t.is_alive() for t in threads), "that the threads have ended")
        assert found == [(5, "ZeroDivisionError")] * 3


@alone()
def test_futures_of_the_standard_library() -> None:
    """concurrent.futures' wait and as_completed take a pool's futures, on all threads."""
    with Pool(4) as pool:

        def work(i: int) -> int:
            futures = [pool.submit(lambda k=k: k) for k in range(50)]
            total = sum(f.result() for f in concurrent.futures.as_completed(futures))
            assert concurrent.futures.wait(futures).not_done == set()
            return total

        assert spread(4, work).join() == [sum(range(50))] * 4


@alone()
def test_maps_on_all_threads() -> None:
    """map, ordered and not, bounded and not, several at a time over one pool."""
    with Pool(8) as pool:

        def work(i: int) -> None:
            results = pool.map(
                lambda k: k * 2, range(TASKS), ordered=bool(i % 2), buffersize=(None, 7)[i // 4]
            )
            got = list(results)
            assert sorted(got) == [k * 2 for k in range(TASKS)]
            assert got == sorted(got) or not i % 2

        spread(8, work).join()


@alone()
def test_map_is_given_up() -> None:
    """A map that is closed half way, and one whose function raises, leave nothing behind."""
    with Pool(4) as pool:

        def work(i: int) -> None:
            results = pool.map(lambda k: 1 // (k - 20), range(100))
            if i % 2:
                with pytest.raises(ZeroDivisionError):
                    list(results)
            else:
                with results:
                    assert next(results) == -1

        for _ in range(scaled(5)):
            spread(8, work).join()
    within(lambda: num_goroutine() == 1, "that nothing is left")


@alone()
def test_a_pool_in_a_pool() -> None:
    """Tasks that submit to the pool they run in, while it grows: no deadlock with room."""
    with Pool(64) as pool:

        def task(depth: int) -> int:
            if depth == 0:
                return 1
            return sum(f.result() for f in [pool.submit(task, depth - 1) for _ in range(2)])

        assert spread(4, lambda i: task(3)).join() == [8] * 4


@alone()
def test_idle_workers_go_and_come() -> None:
    """Workers that end for want of work while tasks come in: every task is done."""
    with Pool(4, idle=0.0005) as pool:

        def work(i: int) -> int:
            total = 0
            for k in range(scaled(100)):
                total += pool.submit(lambda k=k: k).result()
                sleep(0.0005 if k % 3 else 0.0007)
            return total

        assert spread(4, work).join() == [sum(range(scaled(100)))] * 4
        sleep(0.01)
        within(lambda: pool.running == 0, "that nothing runs")


@alone()
def test_thread_pool_executors_futures_in_goroutines() -> None:
    """A pool with executor=: goroutines hand work to real threads and wait."""
    with concurrent.futures.ThreadPoolExecutor(4) as threads, Pool(8, executor=threads) as pool:

        def work(i: int) -> int:
            return sum(f.result() for f in [pool.submit(abs, -k) for k in range(50)])

        assert spread(4, work).join() == [sum(range(50))] * 4


@alone()
def test_stopped_by_a_flag() -> None:
    """Tasks that end when another goroutine says so; the pool's counts come back to 0."""
    over = Bool()

    def task() -> None:
        while not over.load():
            gosched()

    with Pool(16) as pool:
        futures = [pool.submit(task) for _ in range(16)]
        within(lambda: pool.running == 16, "that all run")
        go(over.store, True)
        for future in futures:
            future.result()
        within(lambda: pool.running == 0, "that none runs")
        assert pool.waiting == 0
