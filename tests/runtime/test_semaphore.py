"""Semaphore: weights, first come first served, time-outs, misuse, threads, accounts."""

from __future__ import annotations

import random
import threading
import weakref
from typing import Any

import pytest

from goroutines import Goroutine, Semaphore, WaitGroup, go, gosched, run

from ..conftest import in_thread, parked, scaled, until


def take(sem: Semaphore, n: int, log: list[int], timeout: float | None = None) -> None:
    """Take n, say so, and give it back."""
    try:
        sem.acquire(n, timeout)
    except TimeoutError:
        log.append(-n)
        return
    log.append(n)
    gosched()
    sem.release(n)


def waiting(sem: Semaphore, *weights: int, log: list[int]) -> list[Goroutine]:
    """Start goroutines that wait for the weights one behind the other."""
    gs = []
    for n in weights:
        gs.append(go(take, sem, n, log))
        parked(gs[-1])
    return gs


def test_acquire_and_release() -> None:
    """acquire takes 1 or n, release gives it back; both return None."""
    sem = Semaphore(3)
    assert sem.acquire() is None
    assert sem.acquire(2) is None
    assert sem.try_acquire() is False
    assert sem.release() is None
    assert sem.try_acquire(2) is False
    assert sem.try_acquire(n=1) is True
    assert sem.release(n=3) is None
    assert sem.try_acquire(3) is True


def test_with() -> None:
    """`with` takes 1 and gives it back, also when the block raises."""
    sem = Semaphore(1)
    with sem as bound:
        assert bound is sem
        assert not sem.try_acquire()
    with pytest.raises(KeyError), sem:
        raise KeyError
    assert sem.try_acquire()


def test_zero() -> None:
    """Nothing can be taken of nothing, except nothing."""
    sem = Semaphore(0)
    sem.acquire(0)
    sem.release(0)
    assert sem.try_acquire(0)
    with pytest.raises(ValueError):
        sem.acquire()


@pytest.mark.parametrize("n", [-1, -(2**70)])
def test_negative(n: int) -> None:
    """A negative size or weight is a ValueError."""
    with pytest.raises(ValueError):
        Semaphore(n)
    for method in (Semaphore(1).acquire, Semaphore(1).try_acquire, Semaphore(1).release):
        with pytest.raises(ValueError):
            method(n)


@pytest.mark.parametrize("n", ["1", 1.0, None])
def test_wrong_types(n: Any) -> None:
    """A size or a weight that is no int is a TypeError."""
    with pytest.raises(TypeError):
        Semaphore(n)
    for method in (Semaphore(1).acquire, Semaphore(1).try_acquire, Semaphore(1).release):
        with pytest.raises(TypeError):
            method(n)


def test_more_than_there_is() -> None:
    """acquire of more than the size is a ValueError at once; try_acquire says no."""
    sem = Semaphore(2)
    with pytest.raises(ValueError):
        sem.acquire(3)
    with pytest.raises(ValueError):
        sem.acquire(2**80)
    assert sem.try_acquire(2)


def test_release_of_too_much() -> None:
    """Releasing more than is held is a RuntimeError and changes nothing."""
    sem = Semaphore(3)
    with pytest.raises(RuntimeError):
        sem.release()
    sem.acquire(2)
    with pytest.raises(RuntimeError):
        sem.release(3)
    assert not sem.try_acquire(2)
    sem.release(2)
    assert sem.try_acquire(3)


def test_repr_and_weak_reference() -> None:
    """The repr shows what is held, the size and who waits; it can be watched."""
    sem = Semaphore(5)
    sem.acquire(4)
    assert "4" in repr(sem)
    assert "5" in repr(sem)
    (g,) = waiting(sem, 3, log=[])
    assert "1" in repr(sem)
    sem.release(4)
    g.join()
    ref = weakref.ref(sem)
    del sem, g
    until(lambda: ref() is None, "that the semaphore is gone")


def test_waiting_has_a_reason() -> None:
    """Who waits says for what."""
    sem = Semaphore(1)
    with sem:
        (g,) = waiting(sem, 1, log=[])
        assert g.wait_reason == "sync.Semaphore.acquire"
    g.join()


def test_first_come_first_served() -> None:
    """Waiters of equal weight are served in their order."""
    sem = Semaphore(1)
    log: list[int] = []
    order: list[int] = []

    def body(i: int) -> None:
        take(sem, 1, log)
        order.append(i)

    with sem:
        gs = []
        for i in range(10):
            gs.append(go(body, i))
            parked(gs[-1])
    for g in gs:
        g.join()
    assert order == list(range(10))


def test_a_big_waiter_holds_small_ones_back() -> None:
    """What would fit waits behind what does not yet; try_acquire says no as well."""
    sem = Semaphore(3)
    log: list[int] = []
    sem.acquire(2)
    gs = waiting(sem, 3, 1, log=log)
    assert not sem.try_acquire(1)
    with pytest.raises(TimeoutError):
        sem.acquire(1, timeout=0)
    sem.release(2)
    for g in gs:
        g.join()
    assert log == [3, 1]


def test_release_serves_all_that_fit() -> None:
    """One release lets several in, up to the first that does not fit."""
    sem = Semaphore(4)
    log: list[int] = []
    sem.acquire(4)
    gs = waiting(sem, 1, 2, 4, 1, log=log)
    sem.release(3)
    gs[0].join()
    gs[1].join()
    assert sorted(log) == [1, 2]
    sem.release(1)
    for g in gs:
        g.join()
    assert sorted(log[:2]) == [1, 2]
    assert log[2:] == [4, 1]


def test_the_first_that_gives_up_lets_others_in() -> None:
    """When the one in front times out, those behind it that fit are served."""
    sem = Semaphore(3)
    log: list[int] = []
    sem.acquire(2)
    first = go(take, sem, 3, log, 0.02)
    parked(first)
    second = go(take, sem, 1, log)
    second.join()
    first.join()
    assert sorted(log) == [-3, 1]
    sem.release(2)
    assert sem.try_acquire(3)


def test_timeouts() -> None:
    """acquire gives up after its time, 0 and less at once, naming the semaphore."""
    sem = Semaphore(1)
    with sem:
        for timeout in (0, -1, 0.001):
            with pytest.raises(TimeoutError, match="Semaphore"):
                sem.acquire(timeout=timeout)
    sem.acquire(1, 0)
    sem.release()
    sem.acquire(n=1, timeout=3600)


def test_the_end_of_run_ends_waiters() -> None:
    """Waiters that run()'s end takes away hold nobody back."""
    sem = Semaphore(2)
    log: list[int] = []

    def main() -> None:
        sem.acquire(1)
        waiting(sem, 2, 1, 2, log=log)

    run(main)
    assert log == []
    assert sem.try_acquire(1)
    sem.release(2)


def test_plain_threads() -> None:
    """A thread waits for what goroutines hold, and the other way round."""
    sem = Semaphore(1)
    sem.acquire()
    thread = threading.Thread(target=sem.acquire, daemon=True)
    thread.start()
    until(lambda: "waiters=0" not in repr(sem), "that the thread waits")
    sem.release()
    until(lambda: not thread.is_alive(), "that the thread has it")
    assert not sem.try_acquire()
    g = go(sem.acquire)
    parked(g)
    in_thread(sem.release)
    g.join()


def test_accounts_at_random() -> None:
    """Whatever mixture of calls: never more is held than there is, and all comes back."""
    rng = random.Random(3)
    size = 7
    sem = Semaphore(size)
    held = 0

    def work() -> None:
        nonlocal held
        for _ in range(scaled(30)):
            n = rng.randint(0, size)
            way = rng.random()
            if way < 0.3:
                taken = sem.try_acquire(n)
            else:
                try:
                    sem.acquire(n, None if way < 0.7 else rng.choice((0, 0.0005, 0.01)))
                    taken = True
                except TimeoutError:
                    taken = False
            if taken:
                held += n
                assert held <= size
                gosched()
                held -= n
                sem.release(n)

    wg = WaitGroup()
    for _ in range(20):
        wg.go(work)
    wg.wait()
    assert held == 0
    assert sem.try_acquire(size)
