"""Contexts, scopes and timers between goroutines of several threads."""

from __future__ import annotations

import random
from typing import Any

import pytest

from goroutines import Chan, WaitGroup, blocking, go, gosched, recv, select, send, sleep
from goroutines import time as gtime
from goroutines.context import (
    Canceled,
    Context,
    DeadlineExceeded,
    after_func,
    background,
    scope,
    with_cancel,
    with_timeout,
    with_value,
    without_cancel,
)
from goroutines.sync import Cond, Mutex, Semaphore
from goroutines.sync.atomic import Bool, Int64

from .tools import alone, in_threads, nap, scaled, spread, within

WAYS = 16


@alone()
def test_a_cancelled_tree_ends_on_all_threads() -> None:
    """Children made on all threads of one parent end when it is cancelled from any."""
    for _ in range(scaled(30)):
        parent = with_cancel(background())

        def work(i: int, parent: Any = parent) -> bool:
            child: Context = parent
            for depth in range(1 + i % 4):
                child = with_value(with_cancel(child), "depth", depth)
            child.done().recv_ok()
            assert isinstance(child.err(), Canceled)
            assert child.cause() is cause
            assert child.value("depth") == i % 4
            return parent.err() is not None

        cause = LookupError("why")
        workers = spread(WAYS, work)
        (thread,) = in_threads(1, lambda i, parent=parent: parent.cancel(cause))
        assert all(workers.join())
        within(lambda: not thread.is_alive(), "that the thread has ended")


@alone()
def test_cancel_races_with_new_children() -> None:
    """A child made while its parent is being cancelled is over, too: none is forgotten."""
    for _ in range(scaled(50)):
        parent = with_cancel(background())

        def work(i: int, parent: Any = parent) -> None:
            if i == 0:
                parent.cancel()
                return
            while True:
                before = parent.err() is not None
                child = with_cancel(parent)
                if before:
                    assert child.err() is not None
                    assert child.done().recv_ok(timeout=0) == (None, False)
                    return
                if i % 2:
                    child.cancel()
                gosched()

        spread(8, work).join()


@alone()
def test_cancels_race() -> None:
    """Of cancels on all threads one cause wins, everywhere the same."""
    for _ in range(scaled(50)):
        parent = with_cancel(background())
        child = with_cancel(parent)

        def work(i: int, parent: Any = parent, child: Any = child) -> BaseException | None:
            (child if i % 2 else parent).cancel(KeyError(i))
            assert child.err() is not None
            return child.cause()

        causes = spread(8, work).join()
        assert len(set(map(id, causes))) == 1
        parent.done().recv_ok()


@alone()
def test_after_func_runs_once_or_is_stopped() -> None:
    """stop and cancel race: the function ran if stop was too late, else it never does."""
    for _ in range(scaled(100)):
        ctx = with_cancel(background())
        ran = Int64()
        stops = [after_func(ctx, lambda ran=ran: ran.add(1)) for _ in range(8)]

        def work(i: int, ctx: Any = ctx, stops: Any = stops) -> int:
            if i == 8:
                ctx.cancel()
                return 0
            return bool(stops[i]())

        stopped = sum(spread(9, work).join())
        within(lambda ran=ran, stopped=stopped: ran.load() == 8 - stopped, "that the rest ran")
    gosched()


@alone()
def test_deadlines_on_all_threads() -> None:
    """with_timeout made on any thread ends waits on any other."""

    def work(i: int) -> None:
        for k in range(scaled(20)):
            with with_timeout(background(), 0.0005 * (k % 3)) as ctx:
                waited: list[Any] = []
                g = go(lambda ctx=ctx, waited=waited: waited.append(ctx.done().recv_ok()))
                ctx.done().recv_ok()
                assert isinstance(ctx.err(), DeadlineExceeded)
                g.join()
                assert waited == [(None, False)]

    spread(WAYS, work).join()


@alone()
def test_scopes_end_waits_of_every_kind() -> None:
    """A context that is cancelled on one thread ends the waits in scopes on all threads."""
    for _ in range(scaled(20)):
        ctx = with_cancel(background())
        held = Mutex()
        held.lock()
        never_done = WaitGroup()
        never_done.add()
        waits = [
            lambda: Chan[int]().recv(),
            lambda: Chan[int]().send(1),
            lambda: select(recv(Chan[int]()), send(Chan[int](), 1)),
            lambda: sleep(3600),
            lambda held=held: held.lock(),
            lambda: Semaphore(1).acquire() or Chan[int]().recv(),
            lambda never_done=never_done: never_done.wait(),
            lambda: nested(),
        ]

        def nested() -> None:
            with scope(with_timeout(background(), 3600)), scope(without_cancel(background())):
                pass
            sleep(3600)

        entered = Int64()

        def work(i: int, ctx=ctx, waits=waits, entered=entered) -> str:
            try:
                with scope(ctx):
                    entered.add(1)
                    waits[i % len(waits)]()
            except Canceled:
                return "canceled"
            except Exception as error:
                return repr(error)
            return "returned"

        workers = spread(WAYS, work)
        within(lambda entered=entered: entered.load() == WAYS, "that all are in their scope")
        ctx.cancel()
        assert workers.join() == ["canceled"] * WAYS


@alone()
def test_a_scope_loses_no_value() -> None:
    """Receives whose scope ends while a send meets them took the value or gave it back."""
    ch: Chan[int] = Chan()
    over = Bool()

    def work(i: int) -> list[int]:
        done: list[int] = []
        rng = random.Random(i)
        if i % 2:
            for k in range(scaled(300)):
                try:
                    with scope(with_timeout(background(), rng.choice((0.00001, 0.0005)))):
                        ch.send(i * 100_000 + k)
                    done.append(i * 100_000 + k)
                except DeadlineExceeded:
                    gosched()
        else:
            while not over.load():
                try:
                    with scope(with_timeout(background(), rng.choice((0.00001, 0.0005)))):
                        done.append(ch.recv())
                except DeadlineExceeded:
                    gosched()
        return done

    workers = spread(8, work)
    for g in workers.gs[1::2]:
        g.join()
    over.store(True)
    parts = workers.join()
    sent = sorted(k for part in parts[1::2] for k in part)
    got = sorted(k for part in parts[0::2] for k in part)
    assert sent == got


@alone()
def test_conds_in_scopes() -> None:
    """A Cond's wait that a scope ends has its mutex again."""
    mutex = Mutex()
    cond = Cond(mutex)
    inside = Int64()

    def work(i: int) -> None:
        for k in range(scaled(50)):
            if i == 0:
                with mutex:
                    cond.signal() if k % 2 else cond.broadcast()
                sleep(0.0001)
                continue
            try:
                with mutex:
                    try:
                        with scope(with_timeout(background(), 0.0003)):
                            cond.wait()
                    finally:
                        assert inside.add(1) == 1
                        inside.add(-1)
            except DeadlineExceeded:
                pass

    spread(8, work).join()
    assert not mutex.locked()


# --- timers -----------------------------------------------------------------------------------


@alone()
def test_sleepers_on_all_threads() -> None:
    """Sleeps on every thread end, none early by the runtime's clock."""

    def work(i: int) -> None:
        for k in range(scaled(50)):
            length = 0.0001 * ((i + k) % 5)
            start = gtime.now()
            sleep(length)
            assert gtime.now() - start >= length

    spread(64, work).join()


@alone()
def test_a_stopped_timer_gives_nothing() -> None:
    """stop from another thread: true and nothing comes, or false and it had come or been taken."""
    fired = stopped = 0
    for _ in range(scaled(200)):
        timer = gtime.Timer(0.0002)

        def work(i: int, timer: gtime.Timer = timer) -> Any:
            if i == 0:
                nap(0.0002)
                return timer.stop()
            try:
                return timer.c.recv(timeout=0.01)
            except TimeoutError:
                return None

        was_active, value = spread(2, work).join()
        assert was_active == (value is None)
        assert timer.c.try_recv() == (None, False)
        fired += value is not None
        stopped += was_active
    assert fired + stopped == scaled(200)


@alone()
def test_nothing_stale_after_reset() -> None:
    """After reset by the receiver, what comes is of the new period, wherever the timer is."""

    def work(i: int) -> None:
        timer = gtime.Timer(0.0001)
        for k in range(scaled(200)):
            if k % 3 == 0:
                nap(0.0002)  # so that it has fired
            start = gtime.now()
            timer.reset(0.0005)
            assert timer.c.recv() - start >= 0.0005
        timer.stop()

    spread(8, work).join()


@alone()
def test_timers_are_stopped_and_reset_from_everywhere() -> None:
    """Timers that all threads stop and reset at random: no crash, none fires twice an arming."""
    arms, fires = Int64(), Int64()
    timers = []
    for _ in range(8):
        arms.add(1)
        timers.append(gtime.after_func(0.0003, lambda: fires.add(1)))

    def work(i: int) -> None:
        rng = random.Random(i)
        for _ in range(scaled(500)):
            timer = rng.choice(timers)
            kind = rng.randrange(4)
            if kind == 0:
                timer.stop()
            elif kind < 3:
                arms.add(1)
                timer.reset(rng.choice((0, 0.0001, 0.001)))
            else:
                sleep(rng.choice((0, 0.0002)))

    spread(8, work).join()
    for timer in timers:
        timer.stop()
    sleep(0.005)
    assert 0 < fires.load() <= arms.load()
    after = fires.load()
    sleep(0.005)
    assert fires.load() == after


@alone()
def test_tickers() -> None:
    """Tickers received, stopped and reset on other threads than they were made on."""
    tickers = [gtime.Ticker(0.001) for _ in range(8)]

    def work(i: int) -> None:
        last = 0.0
        for k in range(scaled(20)):
            now = tickers[i].c.recv()
            assert now > last
            last = now
            if k % 5 == 0:
                tickers[i].reset(0.0005)
        tickers[(i + 1) % 8].reset(0.0007)

    spread(8, work).join()
    for ticker in tickers:
        ticker.stop()
        while ticker.c.try_recv()[1]:
            pass
    sleep(0.005)
    assert all(ticker.c.try_recv() == (None, False) for ticker in tickers)


@alone()
def test_after_and_timeouts_together() -> None:
    """select with after() and time-outs on all threads, with traffic: each ends."""
    ch: Chan[int] = Chan()

    def work(i: int) -> int:
        got = 0
        for k in range(scaled(100)):
            if i % 2:
                got += select(send(ch, 1), recv(gtime.after(0.0005)))[0] == 0
            else:
                got += select(recv(ch), timeout=0.0003)[0] == 0
        return got

    sums = spread(8, work).join()
    assert sum(sums[0::2]) == sum(sums[1::2])


@alone()
def test_timer_functions_run_while_threads_compute() -> None:
    """after_func's function runs, and may wait, with goroutines busy on other threads."""
    over, ran = Bool(), Int64()

    def busy(i: int) -> None:
        while not over.load():
            gosched()

    workers = spread(4, busy)

    def fire() -> None:
        sleep(0.0001)
        ran.add(1)

    for _ in range(100):
        gtime.after_func(0.0005, fire)
    within(lambda: ran.load() == 100, "that all functions ran")
    over.store(True)
    workers.join()


@alone()
def test_blocking_calls_from_all_threads() -> None:
    """blocking() from every thread: each gets its own result or exception."""

    def fail(k: int) -> int:
        if k % 3 == 0:
            raise ValueError(k)
        return k

    def work(i: int) -> None:
        for k in range(scaled(50)):
            n = i * 1000 + k
            if n % 3 == 0:
                with pytest.raises(ValueError, match=str(n)):
                    blocking(fail, n)
            else:
                assert blocking(fail, n) == n

    spread(WAYS, work).join()
