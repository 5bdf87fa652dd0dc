"""goroutines.pool from the contract: an Executor of reused goroutines, and its limits."""

from __future__ import annotations

import asyncio
import concurrent.futures as cf
import random
import threading
from collections.abc import Callable
from typing import Any

import pytest

import goroutines
from goroutines import Chan, WaitGroup, current, go, gosched, num_goroutine, runtime
from goroutines.context import Canceled, background, scope, with_cancel
from goroutines.pool import Pool, PoolFull

from ..conftest import dead, in_thread, parked, run_program, scaled, until
from .tools import LONG, Gate, Meter, outcome


class Abort(BaseException):
    """An exception that is not an Exception."""


def fail(error: BaseException) -> None:
    """A task that fails."""
    raise error


def gone(pool: Any) -> None:
    """Wait until the pool has no goroutine left."""
    until(lambda: pool.running + pool.idle == 0, f"that {pool} has no goroutines")


# --- submit -----------------------------------------------------------------------------------


def test_is_an_executor() -> None:
    """The pool is an Executor, what submit gives a concurrent.futures.Future."""
    assert goroutines.Pool is Pool
    with Pool(2) as pool:
        assert isinstance(pool, cf.Executor)
        future = pool.submit(int, "12", base=3)
        assert isinstance(future, cf.Future)
        assert future.result() == 5
        assert future.exception() is None
        assert future.done()
        assert pool.submit(lambda **kw: kw, fn=1, self=2).result() == {"fn": 1, "self": 2}


@pytest.mark.parametrize("error", [ValueError("x"), Abort("x"), SystemExit(3)])
def test_exceptions_are_kept(error: BaseException, capfd: Any) -> None:
    """What a task raises is in its future, nowhere else, and its worker goes on."""
    with Pool(1) as pool:
        future = pool.submit(fail, error)
        assert outcome(future.result) is error
        assert future.exception() is error
        assert future.exception().__traceback__ is not None
        assert pool.submit(len, "abc").result() == 3
    assert capfd.readouterr().err == ""


def test_task_left_by_goexit() -> None:
    """A task that ends its goroutine ends its future too, and the pool keeps its size."""
    with Pool(1) as pool:
        future = pool.submit(runtime.goexit)
        error = outcome(future.result, LONG)
        assert isinstance(error, BaseException)
        assert not isinstance(error, TimeoutError)
        assert pool.submit(len, "abc").result() == 3


@pytest.mark.parametrize("name", ["submit", "try_submit"])
def test_task_that_cannot_be_called(name: str) -> None:
    """What is not callable is a TypeError at the call."""
    with Pool(1) as pool:
        with pytest.raises(TypeError):
            getattr(pool, name)(3)
        assert pool.waiting == 0


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"size": 0}, ValueError),
        ({"size": -1}, ValueError),
        ({"size": "2"}, TypeError),
        ({"size": 1.5}, TypeError),
        ({"size": 1, "max_waiting": -1}, ValueError),
        ({"size": 1, "max_waiting": "1"}, TypeError),
        ({"size": 1, "idle": float("nan")}, ValueError),
        ({"size": 1, "idle": "1"}, TypeError),
        ({"size": 1, "executor": 3}, TypeError),
    ],
)
def test_bad_settings(settings: dict[str, Any], error: type[Exception]) -> None:
    """Settings that make no sense are refused when the pool is made."""
    with pytest.raises(error):
        Pool(**settings)


# --- how many, and which, goroutines ----------------------------------------------------------


def test_never_more_than_size() -> None:
    """At most `size` tasks run at once, however many there are."""
    meter = Meter()
    with Pool(4) as pool:
        for _ in range(scaled(100)):
            pool.submit(meter.visit, 3)
        assert pool.size == 4
    assert meter.peak <= 4
    assert meter.total == scaled(100)


def test_started_on_demand_and_reused() -> None:
    """One task at a time needs one goroutine, the same for all."""
    before = num_goroutine()
    with Pool(50, idle=60) as pool:
        assert num_goroutine() == before
        ids = set()
        for _ in range(20):
            ids.add(pool.submit(lambda: current().id).result())
            until(lambda: pool.idle == 1, "that the worker is idle")
            assert (pool.running, pool.waiting) == (0, 0)
        assert len(ids) == 1
        assert num_goroutine() == before + 1
    assert (pool.running, pool.idle) == (0, 0)


def test_statistics() -> None:
    """running, waiting and idle count the tasks and goroutines as they are."""
    gate = Gate()
    with Pool(3, idle=60) as pool:
        futures = [pool.submit(gate.wait) for _ in range(5)]
        until(lambda: pool.running == 3, "that three run")
        assert (pool.waiting, pool.idle, pool.size) == (2, 0, 3)
        gate.open()
        cf.wait(futures, timeout=LONG)
        until(lambda: pool.idle == 3, "that all are idle")
        assert (pool.running, pool.waiting) == (0, 0)


def test_idle_goroutines_go() -> None:
    """Without work the goroutines end, and new work starts new ones."""
    before = num_goroutine()
    with Pool(5, idle=0.01) as pool:
        for _ in range(3):
            assert list(pool.map(abs, range(20))) == list(range(20))
            gone(pool)
            until(lambda: num_goroutine() == before, "that the goroutines ended")


def test_blocked_task_holds_up_nobody() -> None:
    """All others run while one waits, in a pool of two."""
    gate = Gate()
    with Pool(2) as pool:
        blocked = pool.submit(gate.wait, "late")
        futures = [pool.submit(abs, i) for i in range(scaled(100))]
        assert [f.result() for f in futures] == list(range(scaled(100)))
        assert blocked.running()
        gate.open()
        assert blocked.result() == "late"


def test_tasks_run_in_order() -> None:
    """A pool of one is a queue."""
    order: list[int] = []
    with Pool(1) as pool:
        for i in range(50):
            pool.submit(order.append, i)
    assert order == list(range(50))


def test_name() -> None:
    """The pool's name is in those of its goroutines."""
    with Pool(1, name="fetchers") as pool:
        assert "fetchers" in pool.submit(lambda: current().name).result()


def test_tasks_that_submit_tasks() -> None:
    """A tree of tasks, each submitting the next ones, all run in a pool of three."""
    wg, ran = WaitGroup(), []

    def node(depth: int) -> None:
        ran.append(depth)
        for _ in range(2 if depth else 0):
            wg.add()
            pool.submit(node, depth - 1)
        wg.done()

    with Pool(3) as pool:
        wg.add()
        pool.submit(node, 7)
        wg.wait()
    assert len(ran) == 2**8 - 1


# --- back-pressure ----------------------------------------------------------------------------


def test_submit_waits_for_room() -> None:
    """With max_waiting tasks queued submit parks and try_submit raises PoolFull."""
    gate = Gate()
    with Pool(1, max_waiting=2) as pool:
        futures = [pool.submit(gate.wait, 0)]
        until(lambda: pool.running == 1, "that the first runs")
        futures += [pool.try_submit(gate.wait, 1), pool.submit(gate.wait, 2)]
        with pytest.raises(PoolFull):
            pool.try_submit(gate.wait, 3)
        g = go(lambda: futures.append(pool.submit(gate.wait, 3)))
        parked(g)
        assert pool.waiting == 2
        gate.open()
        g.join()
        assert [f.result() for f in futures] == [0, 1, 2, 3]
        assert pool.try_submit(len, "abc").result() == 3


def test_no_queue_at_all() -> None:
    """With max_waiting=0 a task is taken when a goroutine is free for it, and only then."""
    gate = Gate()
    with Pool(1, max_waiting=0) as pool:
        first = pool.try_submit(gate.wait, 1)
        with pytest.raises(PoolFull):
            pool.try_submit(gate.wait, 2)
        results: list[Any] = []
        gs = [go(lambda i=i: results.append(pool.submit(gate.wait, i).result())) for i in range(5)]
        parked(*gs)
        gate.open()
        for g in gs:
            g.join()
        assert first.result() == 1
        assert sorted(results) == list(range(5))


def test_cancelled_task_makes_room() -> None:
    """A queued task that is cancelled no longer counts as waiting."""
    gate = Gate()
    with Pool(1, max_waiting=1) as pool:
        pool.submit(gate.wait)
        until(lambda: pool.running == 1, "that the first runs")
        queued = pool.submit(gate.wait)
        g = go(pool.submit, gate.wait)
        parked(g)
        assert queued.cancel()
        g.join()
        assert pool.waiting == 1
        gate.open()


def test_scope_ends_a_waiting_submit() -> None:
    """A cancelled submit raises, and its task never runs."""
    gate, ran, errors = Gate(), [], []
    ctx = with_cancel(background())

    def submitter() -> None:
        with scope(ctx):
            errors.append(outcome(pool.submit, ran.append, 1))

    with Pool(1, max_waiting=0) as pool:
        pool.submit(gate.wait)
        g = go(submitter)
        parked(g)
        ctx.cancel()
        g.join()
        gate.open()
    assert isinstance(errors[0], Canceled)
    assert ran == []


# --- resize -----------------------------------------------------------------------------------


def test_resize_up() -> None:
    """More goroutines take up queued tasks at once."""
    gate = Gate()
    with Pool(1) as pool:
        for _ in range(5):
            pool.submit(gate.wait)
        until(lambda: pool.running == 1, "that one runs")
        pool.resize(3)
        assert pool.size == 3
        until(lambda: pool.running == 3, "that three run")
        assert pool.waiting == 2
        gate.open()


def test_resize_down() -> None:
    """Running tasks are not disturbed; as they end no more than the new size go on."""
    gate, meter = Gate(), Meter()
    with Pool(4) as pool:
        running = [pool.submit(gate.wait, i) for i in range(4)]
        until(lambda: pool.running == 4, "that four run")
        pool.resize(1)
        assert (pool.size, pool.running) == (1, 4)
        for _ in range(20):
            pool.submit(meter.visit, 3)
        gate.open()
        assert [f.result() for f in running] == list(range(4))
    assert (meter.peak, meter.total) == (1, 20)


def test_resize_down_ends_idle_goroutines() -> None:
    """Goroutines without work that are too many go, however long `idle` is."""
    gate = Gate()
    with Pool(5, idle=3600) as pool:
        futures = [pool.submit(gate.wait) for _ in range(5)]
        gate.open()
        cf.wait(futures, timeout=LONG)
        pool.resize(2)
        until(lambda: pool.idle <= 2, "that three are gone")
        assert pool.submit(len, "abc").result() == 3


@pytest.mark.parametrize(("size", "error"), [(0, ValueError), (-1, ValueError), ("1", TypeError)])
def test_bad_resize(size: Any, error: type[Exception]) -> None:
    """A size that makes no sense is refused and changes nothing."""
    with Pool(2) as pool:
        with pytest.raises(error):
            pool.resize(size)
        assert pool.size == 2


# --- concurrent.futures and asyncio -----------------------------------------------------------


def test_wait_for_all() -> None:
    """cf.wait(ALL_COMPLETED) waits for all, failed and cancelled ones too."""
    gate = Gate()
    with Pool(2) as pool:
        futures = [pool.submit(gate.wait, i) for i in range(5)]
        futures.append(pool.submit(fail, ValueError()))
        assert futures[4].cancel()
        gate.open()
        done, left = cf.wait(futures, timeout=LONG, return_when=cf.ALL_COMPLETED)
        assert (done, left) == (set(futures), set())


def test_wait_for_the_first() -> None:
    """cf.wait(FIRST_COMPLETED) returns with what is done."""
    gate = Gate()
    with Pool(2) as pool:
        blocked, quick = pool.submit(gate.wait), pool.submit(abs, 1)
        done, left = cf.wait([blocked, quick], timeout=LONG, return_when=cf.FIRST_COMPLETED)
        assert (done, left) == ({quick}, {blocked})
        gate.open()


def test_wait_for_an_exception() -> None:
    """cf.wait(FIRST_EXCEPTION) returns with the failure while others run."""
    gate = Gate()
    with Pool(2) as pool:
        blocked, fine = pool.submit(gate.wait), pool.submit(abs, 1)
        failing = pool.submit(fail, ValueError())
        futures = [blocked, fine, failing]
        done, left = cf.wait(futures, timeout=LONG, return_when=cf.FIRST_EXCEPTION)
        assert failing in done
        assert left == {blocked}
        gate.open()


def test_as_completed() -> None:
    """cf.as_completed gives futures as they end, then raises TimeoutError."""
    gate = Gate()
    with Pool(2) as pool:
        blocked = pool.submit(gate.wait)
        futures = [pool.submit(abs, i) for i in range(10)]
        assert {f.result() for f in cf.as_completed(futures, timeout=LONG)} == set(range(10))
        with pytest.raises(TimeoutError):
            list(cf.as_completed([blocked], timeout=0.01))
        gate.open()
        assert list(cf.as_completed([blocked], timeout=LONG)) == [blocked]


def test_waiting_in_goroutines_and_threads() -> None:
    """cf.wait in a goroutine or a thread and result() everywhere leave the tasks running."""
    gate, log = Gate(), []

    def waiter() -> None:
        log.append(len(cf.wait(futures, timeout=LONG).done))

    with Pool(3) as pool:
        futures = [pool.submit(gate.wait, i) for i in range(3)]
        g = go(lambda: log.append(futures[0].result()))
        parked(g)
        assert log == []
        gate.open()
        g.join()
        go(waiter).join()
        in_thread(waiter)
        assert in_thread(futures[2].result) == 2
    assert log == [0, 3, 3]


def test_result_timeout() -> None:
    """result and exception give up; the task does not."""
    gate = Gate()
    with Pool(1) as pool:
        future = pool.submit(gate.wait, 1)
        for get in (future.result, future.exception):
            for timeout in (0, 0.001):
                with pytest.raises(TimeoutError):
                    get(timeout=timeout)
        gate.open()
        assert future.result(timeout=LONG) == 1


def test_cancel() -> None:
    """A queued task can be cancelled and never runs; a running or finished one cannot."""
    gate, ran, called = Gate(), [], []
    with Pool(1) as pool:
        running = pool.submit(gate.wait, 1)
        until(running.running, "that the first runs")
        queued = pool.submit(ran.append, 1)
        queued.add_done_callback(called.append)
        assert queued.cancel() is True
        assert running.cancel() is False
        assert queued.cancelled()
        assert called == [queued]
        with pytest.raises(cf.CancelledError):
            queued.result()
        gate.open()
        assert running.result() == 1
        assert running.cancel() is False
    assert ran == []


def test_done_callbacks(caplog: Any) -> None:
    """Callbacks get the future, in order, before and after; one that fails stops none."""
    gate, called = Gate(), []
    with Pool(1) as pool:
        future = pool.submit(gate.wait, 1)
        future.add_done_callback(lambda f: called.append(("first", f.result())))
        future.add_done_callback(lambda f: 1 / 0)
        future.add_done_callback(lambda f: called.append(("second", f)))
        gate.open()
        until(lambda: len(called) == 2, "that the callbacks ran")
        future.add_done_callback(lambda f: called.append("late"))
        assert called == [("first", 1), ("second", future), "late"]
    assert "ZeroDivisionError" in caplog.text


@pytest.mark.parametrize("where", [lambda fn: fn(), in_thread])
def test_asyncio(where: Callable[..., Any]) -> None:
    """run_in_executor works with an unpatched event loop, on the main thread and others."""
    gate = Gate()

    async def main() -> list[Any]:
        loop = asyncio.get_running_loop()
        blocked = loop.run_in_executor(pool, gate.wait, "late")
        quick = [loop.run_in_executor(pool, abs, i) for i in range(20)]
        results = await asyncio.wait_for(asyncio.gather(*quick), LONG)
        assert not blocked.done()
        with pytest.raises(ZeroDivisionError):
            await asyncio.wait_for(loop.run_in_executor(pool, lambda: 1 / 0), LONG)
        wrapped = asyncio.wrap_future(pool.submit(goroutines.sleep, 0.001))
        await asyncio.wait_for(wrapped, LONG)
        gate.open()
        return [*results, await asyncio.wait_for(blocked, LONG)]

    with Pool(3) as pool:
        assert where(lambda: asyncio.run(main())) == [*range(20), "late"]


# --- shutdown ---------------------------------------------------------------------------------


def test_shutdown_waits_for_everything() -> None:
    """Leaving `with` runs what is queued, then no goroutine is left; again is nothing."""
    before, ran = num_goroutine(), []
    with pytest.raises(KeyError), Pool(2) as pool:
        for i in range(20):
            pool.submit(lambda i=i: (gosched(), ran.append(i)))
        raise KeyError
    assert sorted(ran) == list(range(20))
    until(lambda: num_goroutine() == before, "that the goroutines ended")
    pool.shutdown()
    pool.shutdown(wait=False, cancel_futures=True)


def test_shutdown_without_waiting() -> None:
    """shutdown(wait=False) returns at once; what was accepted still runs."""
    gate = Gate()
    pool = Pool(1)
    futures = [pool.submit(gate.wait, i) for i in range(3)]
    pool.shutdown(wait=False)
    assert not any(f.done() for f in futures)
    gate.open()
    assert [f.result() for f in futures] == [0, 1, 2]
    gone(pool)


def test_shutdown_that_cancels() -> None:
    """cancel_futures cancels what is queued and waits for what runs."""
    gate = Gate()
    pool = Pool(1)
    running = pool.submit(gate.wait, 1)
    until(running.running, "that the first runs")
    queued = [pool.submit(gate.wait) for _ in range(5)]
    pool.shutdown(wait=False, cancel_futures=True)
    assert all(f.cancelled() for f in queued)
    g = go(pool.shutdown)
    parked(g)
    gate.open()
    g.join()
    assert running.result() == 1
    assert pool.waiting == 0


def test_submit_after_shutdown() -> None:
    """A pool that was shut down takes nothing more."""
    pool = Pool(1)
    pool.shutdown()
    for use in (pool.submit, pool.try_submit, lambda fn: list(pool.map(fn, [1]))):
        with pytest.raises(RuntimeError):
            use(abs)


def test_shutdown_with_a_submit_waiting() -> None:
    """A submit that waits for room while the pool shuts down gets in or raises."""
    gate, results = Gate(), []
    pool = Pool(1, max_waiting=0)
    pool.submit(gate.wait)
    g = go(lambda: results.append(outcome(pool.submit, len, "abc")))
    parked(g)
    pool.shutdown(wait=False)
    gate.open()
    g.join()
    pool.shutdown()
    (result,) = results
    assert isinstance(result, RuntimeError) or result.result() == 3


def test_shutdown_by_many() -> None:
    """Goroutines, a thread and a task of its own shut a pool down at once."""
    gate = Gate()
    pool = Pool(2)
    future = pool.submit(gate.wait, 1)
    own = pool.submit(lambda: pool.shutdown(wait=False))
    assert own.result() is None
    gs = [go(pool.shutdown) for _ in range(3)]
    thread = threading.Thread(target=pool.shutdown, daemon=True)
    thread.start()
    parked(*gs)
    gate.open()
    dead(*gs)
    until(lambda: not thread.is_alive(), "that the thread ended")
    assert future.result() == 1


def test_pool_nobody_keeps() -> None:
    """A pool that is dropped still does what it accepted, and its goroutines go."""
    futures = [Pool(1, idle=0.01).submit(lambda i=i: (gosched(), i)[1]) for i in range(10)]
    assert [f.result() for f in futures] == list(range(10))


def test_deadlock_in_a_task() -> None:
    """Waiting for a task that can never go on is a deadlock, which shows both."""
    done = run_program(
        """
        from goroutines import Chan, Pool
        pool = Pool(2)
        pool.submit(Chan().recv).result()
        """
    )
    assert done.returncode == 2, done
    assert "all goroutines are asleep - deadlock!" in done.stderr
    assert "[chan receive" in done.stderr


def test_deadlock_beside_an_idle_pool() -> None:
    """A pool without work keeps no deadlock from being found."""
    done = run_program(
        """
        from goroutines import Chan, Pool
        pool = Pool(2, idle=0.01)
        print(pool.submit(len, "abc").result(), flush=True)
        Chan().recv()
        """
    )
    assert done.returncode == 2, done
    assert done.stdout == "3\n"
    assert "all goroutines are asleep - deadlock!" in done.stderr


# --- every task is accounted for --------------------------------------------------------------


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("max_waiting", [None, 0, 3])
def test_every_task_is_accounted_for(seed: int, max_waiting: int | None) -> None:
    """Failing, cancelling, resizing and shutting down at once loses and doubles nothing."""
    chance = random.Random(seed)
    pool = Pool(3, max_waiting=max_waiting, idle=chance.choice([0.0001, 1.0]))
    accepted: list[tuple[int, Any]] = []
    runs: Chan[int] = Chan(100_000)
    stop: Chan[None] = Chan()

    def task(i: int) -> int:
        runs.send(i)
        for _ in range(i % 4):
            gosched()
        if i % 5 == 0:
            raise ValueError(i)
        return i

    def submit(actor: int) -> None:
        mine = random.Random(f"{seed} {actor}")
        for n in range(scaled(60)):
            i = actor * 10_000 + n
            how = pool.submit if mine.random() < 0.6 else pool.try_submit
            try:
                accepted.append((i, how(task, i)))
            except PoolFull:
                gosched()
            except RuntimeError:
                return

    def disturb() -> None:
        while not stop.closed:
            if accepted and chance.random() < 0.5:
                chance.choice(accepted)[1].cancel()
            else:
                outcome(pool.resize, chance.randint(1, 6))
            gosched()

    gs = [go(submit, actor) for actor in range(4)]
    thread = threading.Thread(target=submit, args=(9,), daemon=True)
    thread.start()
    disturber = go(disturb)
    if seed % 2:
        until(lambda: len(accepted) > scaled(50), "that some tasks are in")
    else:
        dead(*gs)
    pool.shutdown(cancel_futures=bool(seed % 3))
    dead(*gs)
    until(lambda: not thread.is_alive(), "that the thread ended")
    stop.close()
    disturber.join()
    ran = [runs.recv() for _ in range(len(runs))]
    assert len(ran) == len(set(ran)), "a task ran twice"
    assert all(f.done() for _, f in accepted)
    assert {i for i, f in accepted if not f.cancelled()} == set(ran)
    for i, future in accepted:
        if not future.cancelled():
            error = future.exception()
            assert str(error) == str(i) if i % 5 == 0 else future.result() == i
    assert (pool.running, pool.idle, pool.waiting) == (0, 0, 0)
