"""goroutines.sync from the contract: what all locks share, Mutex, RWMutex, Once, Cond."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from typing import Any

import pytest

import goroutines
from goroutines import WaitGroup, go, gosched, runtime, sleep, sync
from goroutines.context import Canceled, background, scope, with_cancel
from goroutines.sync import (
    Cond,
    Mutex,
    Once,
    RWMutex,
    Semaphore,
    once_func,
    once_value,
)

from ..conftest import Token, all_of, dead, in_thread, parked, run_program, scaled, until
from .tools import Gate, Meter, outcome

NAMES = ["Mutex", "RWMutex", "Once", "Cond", "Semaphore", "WaitGroup"]

# How to wait for each primitive when somebody else holds it: (make, take, give back).
TAKERS: dict[str, tuple[Callable[[], Any], Callable[..., Any], Callable[[Any], Any]]] = {
    "Mutex": (Mutex, Mutex.lock, Mutex.unlock),
    "RWMutex write": (RWMutex, RWMutex.lock, RWMutex.unlock),
    "Semaphore": (lambda: Semaphore(1), Semaphore.acquire, Semaphore.release),
}
takers = pytest.mark.parametrize(("make", "take", "give"), TAKERS.values(), ids=TAKERS)


@pytest.mark.parametrize("name", NAMES)
def test_reexports(name: str) -> None:
    """The package re-exports the primitives themselves, no copies."""
    assert getattr(goroutines, name) is getattr(sync, name)


def test_the_two_pools() -> None:
    """goroutines.Pool is the goroutine pool, sync.Pool the cache."""
    assert goroutines.Pool is not sync.Pool


# --- what every lock has in common ------------------------------------------------------------


@takers
def test_exclusion(make: Any, take: Any, give: Any) -> None:
    """Never two inside, however many want in and whatever they do there."""
    lock, meter = make(), Meter()

    def worker(i: int) -> None:
        for _ in range(5):
            take(lock)
            meter.visit(i % 3)
            give(lock)

    all_of(scaled(30), worker)
    assert meter.peak == 1
    assert meter.total == 5 * scaled(30)


@takers
@pytest.mark.parametrize("timeout", [0, -1, -0.5, 0.001])
def test_timeout(make: Any, take: Any, give: Any, timeout: float) -> None:
    """A timeout that runs out is a TimeoutError; what is free is had even with timeout=0."""
    lock = make()
    take(lock, timeout=0)
    with pytest.raises(TimeoutError):
        take(lock, timeout=timeout)
    give(lock)
    take(lock, timeout=timeout)
    give(lock)


@takers
@pytest.mark.parametrize(("timeout", "error"), [(float("nan"), ValueError), ("1", TypeError)])
def test_bad_timeout(make: Any, take: Any, give: Any, timeout: Any, error: Any) -> None:
    """A timeout that is no time is refused and takes nothing."""
    lock = make()
    with pytest.raises(error):
        take(lock, timeout=timeout)
    take(lock, timeout=0)
    give(lock)


@takers
def test_first_come_first_served(make: Any, take: Any, give: Any) -> None:
    """Waiters that nobody overtakes get the lock in the order of their coming."""
    lock = make()
    order: list[int] = []

    def worker(i: int) -> None:
        take(lock)
        order.append(i)
        give(lock)

    take(lock)
    gs = []
    for i in range(10):
        gs.append(go(worker, i))
        parked(gs[-1])
    give(lock)
    for g in gs:
        g.join()
    assert order == list(range(10))


@takers
def test_a_waiter_that_gave_up_gets_nothing(make: Any, take: Any, give: Any) -> None:
    """The lock passes by a waiter whose time ran out, to the next one."""
    lock = make()
    take(lock)
    first = go(outcome, take, lock, timeout=0.001)
    second = go(take, lock)
    dead(first)
    parked(second)
    give(lock)
    second.join()
    give(lock)
    take(lock, timeout=0)
    give(lock)


@takers
def test_scope_ends_the_wait(make: Any, take: Any, give: Any) -> None:
    """A cancelled scope ends a wait for the lock, which stays as it is."""
    lock, errors = make(), []
    ctx = with_cancel(background())

    def worker() -> None:
        with scope(ctx):
            errors.append(outcome(take, lock))

    take(lock)
    waiter = go(worker)
    parked(waiter)
    ctx.cancel()
    waiter.join()
    assert isinstance(errors[0], Canceled)
    give(lock)
    take(lock, timeout=0)
    give(lock)


@takers
def test_given_back_by_another(make: Any, take: Any, give: Any) -> None:
    """A lock belongs to no goroutine: another one, or a thread, may give it back."""
    lock = make()
    take(lock)
    go(give, lock).join()
    take(lock, timeout=0)
    in_thread(give, lock)
    in_thread(take, lock)
    give(lock)


@takers
def test_threads_and_goroutines(make: Any, take: Any, give: Any) -> None:
    """Plain threads and goroutines exclude one another."""
    lock, meter = make(), Meter()

    def worker(_: int = 0) -> None:
        for _ in range(20):
            take(lock)
            meter.visit()
            give(lock)

    threads = [threading.Thread(target=worker, daemon=True) for _ in range(4)]
    for thread in threads:
        thread.start()
    all_of(4, worker)
    until(lambda: not any(thread.is_alive() for thread in threads), "that the threads ended")
    assert (meter.peak, meter.total) == (1, 8 * 20)


@takers
def test_random_timeouts(make: Any, take: Any, give: Any) -> None:
    """Giving up at the very moment of the hand-over neither loses nor doubles the lock."""
    lock, meter = make(), Meter()

    def worker(i: int) -> None:
        chance = random.Random(i)
        for _ in range(20):
            try:
                take(lock, timeout=chance.choice([None, 0, 0.0001, 0.001]))
            except TimeoutError:
                continue
            with meter():
                sleep(chance.choice([0, 0.0001]))
            give(lock)

    all_of(scaled(10), worker)
    assert meter.peak == 1
    take(lock, timeout=0)
    give(lock)


# --- Mutex ------------------------------------------------------------------------------------


def test_mutex_states() -> None:
    """locked() and try_lock() tell and take; try_lock never waits."""
    mu = Mutex()
    assert not mu.locked()
    assert mu.try_lock() is True
    assert mu.locked()
    assert mu.try_lock() is False
    mu.unlock()
    assert not mu.locked()


def test_mutex_misuse() -> None:
    """Unlocking what is not locked is Go's error, and the mutex stays usable."""
    mu = Mutex()
    for _ in range(2):
        with pytest.raises(RuntimeError, match="sync: unlock of unlocked mutex"):
            mu.unlock()
        with mu:
            pass


def test_mutex_with() -> None:
    """`with` unlocks however the block ends."""
    mu = Mutex()
    with pytest.raises(KeyError), mu:
        assert mu.locked()
        raise KeyError
    assert not mu.locked()
    g = go(_with_and_exit, mu)
    g.join()
    assert not mu.locked()


def _with_and_exit(mu: Mutex) -> None:
    with mu:
        runtime.goexit()


def test_mutex_wait_reason() -> None:
    """A waiter's reason is the mutex."""
    mu = Mutex()
    with mu:
        g = go(mu.lock)
        parked(g)
        assert str(g.wait_reason).lower() == "sync.mutex.lock"
    g.join()
    mu.unlock()


def test_mutex_starving_waiter() -> None:
    """A waiter that starved for 1 ms is handed the mutex, whoever else asks for it."""
    mu, gate = Mutex(), Gate()

    def patient() -> None:
        with mu:
            gate.wait()

    mu.lock()
    g = go(patient)
    parked(g)
    for _ in range(1000):
        sleep(0.002)
        mu.unlock()
        if not mu.try_lock():
            break
    else:
        mu.unlock()
        pytest.fail("the waiter starved")
    gate.open()
    g.join()
    assert not mu.locked()


def test_mutex_is_not_reentrant() -> None:
    """Locking twice is a deadlock, which says where main waits."""
    done = run_program(
        """
        from goroutines import Mutex
        mu = Mutex()
        mu.lock()
        mu.lock()
        """
    )
    assert done.returncode == 2, done
    assert "all goroutines are asleep - deadlock!" in done.stderr
    assert "goroutine 1 [sync.mutex.lock" in done.stderr.lower()


# --- RWMutex ----------------------------------------------------------------------------------


def test_readers_share() -> None:
    """Readers are in together, writers wait for all of them."""
    rw, gate, meter = RWMutex(), Gate(), Meter()

    def read() -> None:
        with rw.reader, meter():
            gate.wait()

    readers = [go(read) for _ in range(10)]
    until(lambda: meter.now == 10, "that all readers are in")
    assert rw.try_lock() is False
    writer = go(rw.lock)
    parked(writer)
    gate.open()
    for g in [*readers, writer]:
        g.join()
    assert rw.try_rlock() is False
    rw.unlock()


def test_waiting_writer_holds_readers_back() -> None:
    """New readers queue behind a waiting writer, and all come in after it."""
    rw, order = RWMutex(), []

    def write(name: str) -> None:
        with rw:
            order.append(name)

    def read() -> None:
        with rw.reader:
            order.append("r")

    rw.rlock()
    first = go(write, "w1")
    parked(first)
    assert rw.try_rlock() is False
    readers = [go(read) for _ in range(3)]
    parked(*readers)
    second = go(write, "w2")
    parked(second)
    rw.runlock()
    for g in [first, second, *readers]:
        g.join()
    assert order == ["w1", "r", "r", "r", "w2"]


def test_a_writer_that_gave_up_lets_readers_in() -> None:
    """Readers held back by a writer whose time ran out go on while the old reader stays."""
    rw = RWMutex()
    rw.rlock()
    writer = go(outcome, rw.lock, timeout=0.02)
    parked(writer)
    reader = go(rw.rlock)
    parked(reader)
    dead(writer)
    reader.join()
    assert rw.try_rlock() is True
    for _ in range(3):
        rw.runlock()
    assert rw.try_lock() is True
    rw.unlock()


def test_rwmutex_reader_timeout() -> None:
    """rlock gives up too, and leaves nothing behind."""
    rw = RWMutex()
    with rw:
        for timeout in (0, -1, 0.001):
            with pytest.raises(TimeoutError):
                rw.rlock(timeout=timeout)
    assert rw.try_lock() is True
    rw.unlock()


def test_rwmutex_misuse() -> None:
    """Each unlock needs its own kind of lock."""
    rw = RWMutex()
    wrong = pytest.raises(RuntimeError, match="(?i)unlock of unlocked")
    with wrong:
        rw.unlock()
    with wrong:
        rw.runlock()
    with rw.reader, wrong:
        rw.unlock()
    with rw, wrong:
        rw.runlock()
    with rw:
        pass


@pytest.mark.parametrize("seed", range(3))
def test_rwmutex_invariant(seed: int) -> None:
    """A writer is alone, at every moment of a random mix."""
    rw, readers, writers = RWMutex(), Meter(), Meter()
    wrong: list[str] = []

    def worker(i: int) -> None:
        chance = random.Random(seed * 1000 + i)
        for _ in range(20):
            if chance.random() < 0.7:
                with rw.reader, readers():
                    gosched()
                    if writers.now:
                        wrong.append("a writer among readers")
            else:
                with rw, writers():
                    gosched()
                    if readers.now or writers.now != 1:
                        wrong.append("a writer not alone")

    all_of(scaled(20), worker)
    assert wrong == []


# --- Once -------------------------------------------------------------------------------------


def test_once() -> None:
    """Only the first function ever runs."""
    once, ran = Once(), []
    for i in range(3):
        once.do(lambda i=i: ran.append(i))
    assert ran == [0]


def test_once_callers_wait_for_the_first() -> None:
    """Whoever comes while the function runs returns after it, in goroutines and threads."""
    once, gate, log = Once(), Gate(), []

    def first() -> None:
        gate.wait()
        log.append("done")

    def later() -> None:
        once.do(first)
        log.append("after")

    gs = [go(later) for _ in range(5)]
    thread = threading.Thread(target=later, daemon=True)
    parked(*gs)
    thread.start()
    gate.open()
    for g in gs:
        g.join()
    until(lambda: not thread.is_alive(), "that the thread ended")
    assert log == ["done", *["after"] * 6]


@pytest.mark.parametrize("error", [KeyError("x"), KeyboardInterrupt()])
def test_once_that_raises_counts(error: BaseException) -> None:
    """The first caller gets the exception; those who wait and come later just return."""
    once, gate, ran = Once(), Gate(), []

    def fail() -> None:
        gate.wait()
        raise error

    results: list[Any] = []
    leader = go(lambda: results.append(outcome(once.do, fail)))
    parked(leader)
    waiter = go(lambda: results.append(outcome(once.do, fail)))
    parked(waiter)
    gate.open()
    leader.join()
    waiter.join()
    assert sorted(results, key=lambda r: r is None) == [error, None]
    once.do(lambda: ran.append(1))
    assert ran == []


def test_once_left_by_goexit() -> None:
    """goexit inside the function counts as done and frees those who wait."""
    once, ran = Once(), []
    go(once.do, runtime.goexit).join()
    once.do(lambda: ran.append(1))
    assert ran == []


def test_once_func_and_value() -> None:
    """once_value keeps the result, once_func runs once; both decorate."""
    calls: list[str] = []

    @once_value
    def value() -> object:
        calls.append("value")
        gosched()
        return Token()

    @once_func
    def func() -> None:
        calls.append("func")

    assert len({id(v) for v in all_of(10, lambda i: value())}) == 1
    assert [func() for _ in range(3)] == [None] * 3
    assert calls == ["value", "func"]


@pytest.mark.parametrize("wrap", [once_func, once_value])
def test_once_func_raises_each_time(wrap: Any) -> None:
    """A function that raised is not called again, its exception is raised at each call."""
    error, calls = KeyError("x"), []

    def fail() -> None:
        calls.append(1)
        raise error

    wrapped = wrap(fail)
    assert [outcome(wrapped) for _ in range(3)] == [error] * 3
    assert calls == [1]


@pytest.mark.parametrize("use", [Once().do, once_func, once_value])
def test_once_of_what_cannot_be_called(use: Any) -> None:
    """A function that is none is a TypeError at the call."""
    with pytest.raises(TypeError):
        use(3)


# --- Cond -------------------------------------------------------------------------------------


def _waiters(cond: Cond, mu: Any, count: int, log: list[int]) -> list[Any]:
    """Start goroutines that wait in turn and log when they wake with the lock held."""

    def body(i: int) -> None:
        with mu:
            cond.wait()
            log.append(i)

    gs = []
    for i in range(count):
        gs.append(go(body, i))
        parked(gs[-1])
    return gs


def test_cond_signal_wakes_the_longest_waiting() -> None:
    """Each signal wakes one, first come first."""
    mu, log = Mutex(), []
    cond = Cond(mu)
    cond.signal()  # nobody waits: forgotten
    gs = _waiters(cond, mu, 5, log)
    for i in range(5):
        cond.signal()
        dead(gs[i])
        assert log == list(range(i + 1))
    assert not mu.locked()


def test_cond_broadcast() -> None:
    """broadcast wakes all that wait, each with the lock, and none that comes after."""
    mu, log = Mutex(), []
    cond = Cond(mu)
    cond.broadcast()
    gs = _waiters(cond, mu, 10, log)
    with mu:
        cond.broadcast()
        assert log == []
    for g in gs:
        g.join()
    assert sorted(log) == list(range(10))
    late = _waiters(cond, mu, 1, log)
    cond.signal()
    late[0].join()


@pytest.mark.parametrize("locker", [lambda: RWMutex(), lambda: RWMutex().reader])
def test_cond_over_other_lockers(locker: Any) -> None:
    """A Cond takes what has lock and unlock: an RWMutex, its reading side."""
    mu, log = locker(), []
    cond = Cond(mu)
    gs = _waiters(cond, mu, 3, log)
    cond.broadcast()
    for g in gs:
        g.join()
    assert sorted(log) == [0, 1, 2]


@pytest.mark.parametrize("timeout", [0, -1, 0.001])
def test_cond_timeout_holds_the_lock(timeout: float) -> None:
    """A wait whose time runs out raises with the lock held again, and uses up no signal."""
    mu, log = Mutex(), []
    cond = Cond(mu)
    with mu:
        with pytest.raises(TimeoutError):
            cond.wait(timeout=timeout)
        assert mu.locked()
    gs = _waiters(cond, mu, 1, log)
    cond.signal()
    gs[0].join()


def test_cond_scope_holds_the_lock() -> None:
    """A wait that its scope ends has the lock again."""
    mu, errors = Mutex(), []
    cond = Cond(mu)
    ctx = with_cancel(background())

    def body() -> None:
        with mu:
            with scope(ctx):
                errors.append(outcome(cond.wait))
            errors.append(mu.locked())

    g = go(body)
    parked(g)
    ctx.cancel()
    g.join()
    assert isinstance(errors[0], Canceled)
    assert errors[1] is True
    assert not mu.locked()


def test_cond_wait_without_the_lock() -> None:
    """wait without the lock is the lock's error and leaves no waiter behind."""
    mu, log = Mutex(), []
    cond = Cond(mu)
    with pytest.raises(RuntimeError, match="unlock of unlocked"):
        cond.wait()
    gs = _waiters(cond, mu, 1, log)
    cond.signal()
    gs[0].join()


def test_cond_queue() -> None:
    """The classic: a bounded queue between threads and goroutines loses nothing."""
    mu = Mutex()
    not_full, not_empty = Cond(mu), Cond(mu)
    queue: list[int] = []
    taken: list[int] = []

    def put(i: int) -> None:
        with mu:
            while len(queue) >= 3:
                not_full.wait()
            queue.append(i)
            not_empty.signal()

    def take(_: int) -> None:
        with mu:
            while not queue:
                not_empty.wait()
            taken.append(queue.pop(0))
            not_full.signal()

    count = scaled(100)
    thread = threading.Thread(target=lambda: [put(i) for i in range(count)], daemon=True)
    thread.start()
    wg = WaitGroup()
    for i in range(count):
        wg.go(put, count + i)
        wg.go(take, i)
        wg.go(take, i)
    wg.wait()
    until(lambda: not thread.is_alive(), "that the thread ended")
    assert sorted(taken) == list(range(2 * count))
