"""Cond: wake order, no lost signal, always locked again, every kind of locker."""

from __future__ import annotations

import gc
import random
import threading
import weakref
from collections.abc import Callable
from typing import Any

import pytest

from goroutines import Chan, Cond, GoroutineExit, Mutex, RWMutex, WaitGroup, go, gosched, run

from ..conftest import Token, parked, run_program, scaled, until


class Parking:
    """A user's own lock, whose calls let others run; `hook` is called by unlock."""

    def __init__(self) -> None:
        self.mutex = Mutex()
        self.hook: Callable[[], object] = gosched

    def lock(self) -> None:
        gosched()
        self.mutex.lock()

    def unlock(self) -> None:
        self.mutex.unlock()
        self.hook()


def lockers() -> list[Any]:
    """Return what a Cond may be made of: a new one of each."""
    return [Mutex(), RWMutex(), RWMutex().reader, Parking()]


KINDS = pytest.mark.parametrize("kind", range(4), ids=["Mutex", "RWMutex", "reader", "own"])


def wait_and_log(cond: Cond, log: list[Any], i: object) -> None:
    """Wait under the lock and say so afterwards, still under it."""
    cond.locker.lock()
    cond.wait()
    log.append(i)
    cond.locker.unlock()


def waiting(cond: Cond, count: int, log: list[Any]) -> list[Any]:
    """Start goroutines that wait one behind the other."""
    gs = []
    for i in range(count):
        gs.append(go(wait_and_log, cond, log, i))
        until(lambda g=gs[-1]: g.wait_reason == "sync.Cond.wait", "that it waits")
    return gs


@KINDS
def test_signal_wakes_in_wait_order(kind: int) -> None:
    """Each signal wakes one, the one that has waited longest."""
    cond = Cond(lockers()[kind])
    log: list[Any] = []
    gs = waiting(cond, 5, log)
    for i in range(5):
        cond.signal()
        gs[i].join()
        assert log == list(range(i + 1))
        assert [g.done for g in gs[i + 1 :]] == [False] * (4 - i)


@KINDS
def test_broadcast_wakes_all(kind: int) -> None:
    """A broadcast wakes everybody who waits, and nobody who waits later."""
    cond = Cond(lockers()[kind])
    log: list[Any] = []
    gs = waiting(cond, 5, log)
    cond.broadcast()
    for g in gs:
        g.join()
    assert sorted(log) == list(range(5))
    with pytest.raises(TimeoutError):
        cond.locker.lock()
        cond.wait(timeout=0.001)
    cond.locker.unlock()


def test_signals_are_not_kept() -> None:
    """A signal that nobody waits for is forgotten."""
    mutex = Mutex()
    cond = Cond(mutex)
    assert cond.signal() is None
    assert cond.broadcast() is None
    with mutex, pytest.raises(TimeoutError):
        cond.wait(timeout=0.001)


def test_wait_unlocks_and_locks_again() -> None:
    """While it waits the lock is free; when wait returns (None) it is held."""
    mutex = Mutex()
    cond = Cond(mutex)
    out: list[object] = []

    def body() -> None:
        with mutex:
            out.append(cond.wait())
            out.append(mutex.locked())

    g = go(body)
    parked(g)
    with mutex:
        cond.signal()
        gosched()
        assert out == []
    g.join()
    assert out == [None, True]
    assert not mutex.locked()


@KINDS
def test_timeout_locks_again(kind: int) -> None:
    """When the time runs out the TimeoutError comes with the lock held, and names the Cond."""
    locker = lockers()[kind]
    cond = Cond(locker)
    for timeout in (0, -1, 0.001):
        locker.lock()
        with pytest.raises(TimeoutError, match="Cond"):
            cond.wait(timeout=timeout)
        locker.unlock()  # would raise if it were not locked


def test_timeout_waits_for_the_lock() -> None:
    """Who has timed out gets the lock before the exception, however long that takes."""
    mutex = Mutex()
    cond = Cond(mutex)
    out: list[object] = []

    def body() -> None:
        with mutex:
            try:
                cond.wait(timeout=0.001)
            except TimeoutError:
                out.append(mutex.locked())

    g = go(body)
    parked(g)
    with mutex:
        until(lambda: g.wait_reason == "sync.Mutex.lock", "that it wants the lock back")
        assert out == []
    g.join()
    assert out == [True]


def test_a_timeout_takes_no_signal() -> None:
    """Signals go to those who still wait."""
    mutex = Mutex()
    cond = Cond(mutex)
    log: list[object] = []

    def impatient() -> None:
        with mutex, pytest.raises(TimeoutError):
            cond.wait(timeout=0.001)

    first = go(impatient)
    parked(first)
    (second,) = waiting(cond, 1, log)
    first.join()
    cond.signal()
    second.join()
    assert log == [0]


@KINDS
def test_the_end_of_run_locks_again(kind: int) -> None:
    """GoroutineExit leaves wait with the lock held too."""
    locker = lockers()[kind]
    cond = Cond(locker)
    log: list[str] = []

    def body() -> None:
        locker.lock()
        try:
            cond.wait()
        except GoroutineExit:
            log.append("exit")
            raise
        finally:
            locker.unlock()  # would raise if it were not locked
            log.append("unlocked")

    def main() -> None:
        gs = [go(body) for _ in range(3)]
        for g in gs:
            until(lambda g=g: g.wait_reason == "sync.Cond.wait", "that it waits")

    run(main)
    assert sorted(log) == ["exit"] * 3 + ["unlocked"] * 3
    locker.lock()
    locker.unlock()


def test_the_end_of_run_while_it_waits_for_the_lock() -> None:
    """Ended while it waits to lock again, it gets the lock before GoroutineExit."""
    mutex = Mutex()
    cond = Cond(mutex)
    log: list[object] = []

    def body() -> None:
        with mutex:
            try:
                cond.wait()
            finally:
                log.append(mutex.locked())

    def holder() -> None:
        with mutex:
            cond.signal()
            until(lambda: waiter.wait_reason == "sync.Mutex.lock", "that it wants the lock")
            ready.close()
            try:
                Chan().recv()
            finally:
                log.append("freed")

    ready: Chan[None] = Chan()
    waiter: Any = None

    def main() -> None:
        nonlocal waiter
        waiter = go(body)
        until(lambda: waiter.wait_reason == "sync.Cond.wait", "that it waits")
        go(holder)
        ready.recv_ok()

    run(main)
    assert log == ["freed", True]
    assert not mutex.locked()


def test_signal_while_unlocking_is_not_lost() -> None:
    """Who is signalled while its own locker unlocks, and parks there, does not wait."""
    locker = Parking()
    cond = Cond(locker)
    gate: Chan[None] = Chan()
    locker.hook = gate.recv
    out: list[object] = []

    def body() -> None:
        locker.lock()
        cond.wait()
        out.append("signalled")

    g = go(body)
    until(lambda: g.wait_reason == "chan receive", "that it is in unlock")
    cond.signal()
    gate.send(None)
    g.join()
    assert out == ["signalled"]


def test_signal_to_one_whose_unlock_fails_goes_on() -> None:
    """If unlock raises after the signal came, the next one who waits gets the signal."""
    locker = Parking()
    cond = Cond(locker)
    gate: Chan[None] = Chan()
    log: list[object] = []

    def fail() -> None:
        gate.recv()
        raise KeyError("unlock")

    def body() -> None:
        locker.lock()
        with pytest.raises(KeyError, match="unlock"):
            cond.wait()

    locker.hook = fail
    first = go(body)
    until(lambda: first.wait_reason == "chan receive", "that it is in unlock")
    locker.hook = gosched
    (second,) = waiting(cond, 1, log)
    cond.signal()
    gate.send(None)
    first.join()
    second.join()
    assert log == [0]


def test_the_time_in_unlock_counts() -> None:
    """A timeout that runs out while unlock parks ends the wait."""
    locker = Parking()
    cond = Cond(locker)
    locker.hook = lambda: pytest.raises(TimeoutError, Chan().recv, timeout=0.01)
    locker.lock()
    with pytest.raises(TimeoutError, match="Cond"):
        cond.wait(timeout=0.001)
    locker.hook = gosched
    locker.unlock()


def test_lock_that_raises() -> None:
    """An error of the user's lock() comes out, and has what ended the wait as context."""

    class Broken(Parking):
        def lock(self) -> None:
            raise OSError("cannot lock")

    cond = Cond(Broken())
    cond.locker.mutex.lock()
    with pytest.raises(OSError, match="cannot lock") as caught:
        cond.wait(timeout=0.001)
    assert isinstance(caught.value.__context__, TimeoutError)


def test_wait_without_the_lock() -> None:
    """wait raises what unlock raises, and leaves nobody in the queue."""
    mutex = Mutex()
    cond = Cond(mutex)
    with pytest.raises(RuntimeError, match="unlock of unlocked mutex"):
        cond.wait()
    log: list[object] = []
    (g,) = waiting(cond, 1, log)
    cond.signal()
    g.join()


@pytest.mark.parametrize("locker", [None, 3, threading.Lock(), object()])
def test_no_locker(locker: Any) -> None:
    """What has not both lock() and unlock() is a TypeError."""
    with pytest.raises(TypeError):
        Cond(locker)


def test_half_a_locker() -> None:
    """Both methods are needed, and both must be callable."""

    class Half:
        def lock(self) -> None: ...

        unlock = 3

    with pytest.raises(TypeError, match="unlock"):
        Cond(Half())  # type: ignore[arg-type]


def test_locker_is_kept() -> None:
    """.locker is what the Cond was made of, and cannot be set."""
    mutex = Mutex()
    cond = Cond(locker=mutex)
    assert cond.locker is mutex
    with pytest.raises(AttributeError):
        cond.locker = Mutex()  # type: ignore[misc]


def test_cycles_are_collected() -> None:
    """A locker that refers to its Cond does not keep both alive; a Cond can be watched."""
    locker: Any = Parking()
    locker.cond = Cond(locker)
    locker.token = Token()
    token, cond = weakref.ref(locker.token), weakref.ref(locker.cond)
    assert "Cond" in repr(locker.cond)
    del locker
    gc.collect()
    assert token() is None
    assert cond() is None


def test_plain_threads() -> None:
    """Threads wait, and are woken in turn with goroutines."""
    mutex = Mutex()
    cond = Cond(mutex)
    log: list[object] = []

    def body() -> None:
        with mutex:
            log.append("waits")
            cond.wait()
            log.append("woken")

    threads = [threading.Thread(target=body, daemon=True) for _ in range(3)]
    for thread in threads:
        thread.start()
    until(lambda: log.count("waits") == 3, "that the threads are at it")
    with mutex:  # they wait now: they had the lock
        cond.broadcast()
    until(lambda: not any(t.is_alive() for t in threads), "that the threads have ended")
    assert log.count("woken") == 3


def test_waiting_for_nobody_is_a_deadlock() -> None:
    """A Cond that nobody can signal is in the deadlock report, with its reason."""
    done = run_program(
        """
        from goroutines import Cond, Mutex
        mutex = Mutex()
        with mutex:
            Cond(mutex).wait()
        """
    )
    assert done.returncode == 2, done
    assert "goroutine 1 [sync.Cond.wait" in done.stderr
    assert "unlocked mutex" not in done.stderr


def test_a_queue_at_random() -> None:
    """A bounded queue of two Conds, with timeouts: every item comes out once."""
    rng = random.Random(4)
    mutex = Mutex()
    not_empty, not_full = Cond(mutex), Cond(mutex)
    items: list[int] = []
    got: list[int] = []
    count = scaled(300)

    def wait(cond: Cond) -> None:
        try:
            cond.wait(timeout=rng.choice((None, None, 0, 0.0005)))
        except TimeoutError:
            gosched()

    def produce(first: int) -> None:
        for i in range(first, count, 4):
            with mutex:
                while len(items) >= 3:
                    wait(not_full)
                items.append(i)
                not_empty.signal()

    def consume() -> None:
        while True:
            with mutex:
                while not items:
                    if len(got) == count:
                        return
                    wait(not_empty)
                got.append(items.pop(0))
                not_full.signal()
                if len(got) == count:
                    not_empty.broadcast()

    wg = WaitGroup()
    for i in range(4):
        wg.go(produce, i)
        wg.go(consume)
    wg.wait()
    assert sorted(got) == list(range(count))
