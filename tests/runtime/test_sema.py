"""WaitGroup: the counter, its waiters, misuse, and the deadlock of a wrong count."""

from __future__ import annotations

import re
import sys
import threading
from typing import Any

import pytest

from goroutines import Chan, WaitGroup, go, gosched, runtime, set_panic_hook, sleep

from ..conftest import in_thread, parked, run_program, scaled, until


def test_wait_at_zero_returns() -> None:
    """A new group has nothing to wait for."""
    wg = WaitGroup()
    assert wg.wait() is None
    assert wg.wait(timeout=0) is None


def test_wait_until_all_are_done() -> None:
    """wait returns after the last done, not before."""
    wg = WaitGroup()
    log: list[object] = []

    def worker(i: int) -> None:
        for _ in range(i):
            gosched()
        log.append(i)
        wg.done()

    wg.add(10)
    for i in range(10):
        go(worker, i)
    wg.wait()
    log.append("waited")
    assert sorted(log[:-1], key=str) == list(range(10))
    assert log[-1] == "waited"


def test_add_counts_by_delta() -> None:
    """add(n) counts n, add() one, and a negative delta takes away."""
    wg = WaitGroup()
    wg.add(3)
    wg.add()
    wg.add(delta=-2)
    wg.add(0)
    for _ in range(2):
        with pytest.raises(TimeoutError):
            wg.wait(timeout=0)
        wg.done()
    wg.wait(timeout=0)


def test_many_waiters_wake() -> None:
    """Every goroutine that waits is woken by the last done."""
    wg = WaitGroup()
    wg.add(2)
    waiters = [go(wg.wait) for _ in range(50)]
    parked(*waiters)
    assert str(waiters[0].wait_reason).lower().startswith("sync.waitgroup")
    wg.done()
    for _ in range(20):
        gosched()
    assert not any(g.done for g in waiters)
    wg.done()
    for g in waiters:
        g.join()


def test_add_of_a_negative_delta_wakes() -> None:
    """Bringing the counter to zero by add wakes waiters just as done does."""
    wg = WaitGroup()
    wg.add(5)
    waiter = go(wg.wait)
    parked(waiter)
    wg.add(-5)
    waiter.join()
    assert waiter.done


def test_group_is_reused() -> None:
    """After a wait the same group serves the next round."""
    wg = WaitGroup()
    total: list[int] = []
    for round_ in range(20):
        for i in range(5):
            wg.go(total.append, i)
        wg.wait()
        assert len(total) == 5 * (round_ + 1)


def test_wait_timeout() -> None:
    """wait gives up with TimeoutError and the group stays usable."""
    wg = WaitGroup()
    wg.add()
    for timeout in (0, -1, 0.001):
        with pytest.raises(TimeoutError):
            wg.wait(timeout=timeout)
    waiter = go(wg.wait, 3600)
    parked(waiter)
    wg.done()
    waiter.join()
    wg.wait(timeout=0)


@pytest.mark.parametrize("lower", [lambda wg: wg.done(), lambda wg: wg.add(-1)])
def test_negative_counter(lower: Any) -> None:
    """A counter below zero is Go's error as a ValueError."""
    with pytest.raises(ValueError, match="negative WaitGroup counter"):
        lower(WaitGroup())


def test_negative_counter_after_use() -> None:
    """One done too many is found after an ordinary round as well."""
    wg = WaitGroup()
    wg.add(2)
    wg.done()
    wg.done()
    with pytest.raises(ValueError, match="negative WaitGroup counter"):
        wg.done()


def test_refused_add_leaves_the_counter() -> None:
    """An add below zero or beyond what the counter holds changes nothing."""
    wg = WaitGroup()
    wg.add(2)
    with pytest.raises(ValueError, match="negative WaitGroup counter"):
        wg.add(-3)
    with pytest.raises(OverflowError):
        wg.add(sys.maxsize)
    with pytest.raises(OverflowError):
        wg.add(2**80)
    wg.done()
    with pytest.raises(TimeoutError):
        wg.wait(timeout=0)
    wg.done()
    wg.wait(timeout=0)


def test_go_beyond_the_counter() -> None:
    """wg.go that cannot be counted is an OverflowError and starts nothing."""
    wg = WaitGroup()
    ran: list[int] = []
    wg.add(sys.maxsize)
    with pytest.raises(OverflowError):
        wg.go(ran.append, 1)
    gosched()
    assert ran == []
    wg.add(-sys.maxsize)
    wg.wait(timeout=0)


@pytest.mark.parametrize("delta", ["1", None, 1.5, []])
def test_add_of_a_wrong_type(delta: Any) -> None:
    """A delta that is no integer is a TypeError and counts nothing."""
    wg = WaitGroup()
    with pytest.raises(TypeError):
        wg.add(delta)
    wg.wait(timeout=0)


def test_go_counts_and_runs() -> None:
    """wg.go starts the function with its arguments and counts it until it ends."""
    wg = WaitGroup()
    ch: Chan[int] = Chan()
    out: list[object] = []

    def worker(a: int, *, fn: int) -> None:
        out.append((a, fn, ch.recv()))

    wg.go(worker, 1, fn=2)
    with pytest.raises(TimeoutError):
        wg.wait(timeout=0)
    ch.send(3)
    wg.wait()
    assert out == [(1, 2, 3)]


def test_go_not_callable() -> None:
    """wg.go of what cannot be called is a TypeError, and nothing stays counted."""
    wg = WaitGroup()
    with pytest.raises(TypeError, match="callable"):
        wg.go(3)  # type: ignore[arg-type]
    wg.wait(timeout=0)


def test_go_that_raises_is_done_first() -> None:
    """When the function raises, the group is told before the panic."""
    wg = WaitGroup()
    at_panic: list[object] = []

    def hook(g: object, exc: BaseException) -> bool:
        try:
            wg.wait(timeout=0)
            at_panic.append(("done", str(exc)))
        except TimeoutError:
            at_panic.append("still counted")
        return True

    def fail() -> None:
        raise ValueError("failed")

    old = set_panic_hook(hook)
    try:
        wg.go(fail)
        wg.wait()
        until(lambda: at_panic, "that the hook was called")
    finally:
        set_panic_hook(old)
    assert at_panic == [("done", "failed")]


def test_go_that_leaves_by_goexit() -> None:
    """goexit inside wg.go counts down too."""
    wg = WaitGroup()
    wg.go(runtime.goexit)
    wg.wait()
    wg.wait(timeout=0)


def test_group_across_threads() -> None:
    """Plain threads count down what a goroutine waits for, and the other way round."""
    wg = WaitGroup()
    wg.add(4)
    threads = [threading.Thread(target=wg.done, daemon=True) for _ in range(4)]
    for thread in threads:
        thread.start()
    wg.wait()
    for thread in threads:
        thread.join()
    wg.add(3)
    for _ in range(3):
        go(lambda: (sleep(0.001), wg.done()))
    assert in_thread(wg.wait) is None


def test_many_groups() -> None:
    """Many goroutines on many groups, each waiting for the one before it."""
    count = scaled(1000)
    groups = [WaitGroup() for _ in range(count + 1)]
    for wg in groups:
        wg.add()
    order: list[int] = []

    def link(i: int) -> None:
        groups[i].wait()
        order.append(i)
        groups[i + 1].done()

    for i in range(count):
        go(link, i)
    groups[0].done()
    groups[count].wait()
    assert order == list(range(count))


def test_a_counter_too_high_is_a_deadlock() -> None:
    """Counting 3+2+1 for three workers ends in the deadlock report once they are gone."""
    done = run_program(
        """
        from goroutines import WaitGroup, defer, defers, go

        wg = WaitGroup()

        @defers
        def worker(n):
            defer(wg.done)
            print("worker", n, "exits")

        def main():
            for w in range(3):
                wg.add(3 - w)
                go(worker, w)
            wg.wait()
            print("never")

        main()
        """
    )
    assert done.returncode == 2, done
    assert sorted(done.stdout.split("\n")) == ["", *(f"worker {n} exits" for n in range(3))]
    assert "all goroutines are asleep - deadlock!" in done.stderr
    assert re.search(r"goroutine 1 \[sync\.WaitGroup", done.stderr, re.IGNORECASE), done.stderr
