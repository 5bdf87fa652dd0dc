"""Mutex and RWMutex: exclusion, who comes next, time-outs, misuse, the ends of runs, threads."""

from __future__ import annotations

import random
import threading
import weakref
from collections.abc import Callable
from typing import Any

import pytest

from goroutines import Chan, Mutex, RWMutex, WaitGroup, go, gosched, run, sleep
from goroutines.sync.atomic import Int64

from ..conftest import EXACT_ORDER, in_thread, parked, run_program, scaled, until

STARVED = 0.003  # longer than the millisecond after which a Mutex is handed over


def queue_up(count: int, lock: Any, log: list[int]) -> list[Any]:
    """Start goroutines that wait for `lock` one behind the other, log, and unlock."""

    def body(i: int) -> None:
        with lock:
            log.append(i)

    gs = []
    for i in range(count):
        gs.append(go(body, i))
        parked(gs[-1])
    return gs


# --- Mutex: without waiting -----------------------------------------------------------------


def test_lock_and_unlock() -> None:
    """A new Mutex is free; lock takes it and unlock frees it, both returning None."""
    mutex = Mutex()
    assert not mutex.locked()
    assert mutex.lock() is None
    assert mutex.locked()
    assert mutex.unlock() is None
    assert not mutex.locked()


def test_try_lock() -> None:
    """try_lock takes what is free and says whether; it never waits."""
    mutex = Mutex()
    assert mutex.try_lock() is True
    assert mutex.try_lock() is False
    mutex.unlock()
    assert mutex.try_lock() is True


def test_with() -> None:
    """`with` gives the Mutex itself, and unlocks also when the block raises."""
    mutex = Mutex()
    with mutex as bound:
        assert bound is mutex
        assert mutex.locked()
    with pytest.raises(KeyError), mutex:
        raise KeyError
    assert not mutex.locked()


def test_unlock_of_unlocked() -> None:
    """Unlocking what is not locked is Go's error, and leaves it free."""
    mutex = Mutex()
    for _ in range(2):
        with pytest.raises(RuntimeError, match=r"^sync: unlock of unlocked mutex"):
            mutex.unlock()
    assert mutex.try_lock()


def test_unlock_in_another_goroutine() -> None:
    """A Mutex belongs to nobody: any goroutine may unlock it."""
    mutex = Mutex()
    mutex.lock()
    go(mutex.unlock).join()
    assert not mutex.locked()


@pytest.mark.parametrize("timeout", ["1", [], object()])
def test_timeout_of_a_wrong_type(timeout: Any) -> None:
    """A timeout that is no number is a TypeError, also when no waiting is needed."""
    with pytest.raises(TypeError):
        Mutex().lock(timeout=timeout)
    with pytest.raises(TypeError):
        Mutex(1)  # type: ignore[call-arg]
    with pytest.raises(TypeError):
        Mutex().lock(1, 2)  # type: ignore[call-arg]
    with pytest.raises(TypeError):
        Mutex().lock(seconds=1)  # type: ignore[call-arg]


@pytest.mark.parametrize("cls", [Mutex, RWMutex])
def test_weak_references_and_repr(cls: Any) -> None:
    """Locks can be watched, and their repr tells the type, the state and the place."""
    lock = cls()
    free = repr(lock)
    assert cls.__name__ in free
    assert "0x" in free
    with lock:
        assert repr(lock) != free
    ref = weakref.ref(lock)
    assert ref() is lock
    del lock
    until(lambda: ref() is None, "that the lock is gone")


# --- Mutex: waiting -------------------------------------------------------------------------


def test_waiting_has_a_reason() -> None:
    """Who waits for a Mutex says so."""
    mutex = Mutex()
    with mutex:
        g = go(mutex.lock)
        parked(g)
        assert g.wait_reason == "sync.Mutex.lock"
    g.join()
    assert mutex.locked()


def test_waiters_come_in_order() -> None:
    """Goroutines get the Mutex in the order in which they asked for it."""
    mutex = Mutex()
    log: list[int] = []
    with mutex:
        gs = queue_up(10, mutex, log)
    for g in gs:
        g.join()
    assert log == list(range(10))


@pytest.mark.skipif(not EXACT_ORDER, reason="needs that nothing switches unasked")
def test_who_runs_may_take_a_free_one_before_the_woken() -> None:
    """Normal mode: the unlocker may lock again before the woken waiter has run."""
    mutex = Mutex()
    log: list[int] = []
    mutex.lock()
    gs = queue_up(1, mutex, log)
    mutex.unlock()
    assert mutex.try_lock()
    gosched()
    assert log == []
    mutex.unlock()
    gs[0].join()


@pytest.mark.skipif(not EXACT_ORDER, reason="needs that nothing switches unasked")
def test_a_starved_waiter_is_handed_the_mutex() -> None:
    """A waiter that lost after more than 1 ms gets the Mutex from unlock itself."""
    mutex = Mutex()
    log: list[int] = []
    mutex.lock()
    gs = queue_up(2, mutex, log)
    sleep(STARVED)
    mutex.unlock()  # wakes the first
    assert mutex.try_lock()  # which has not run yet
    parked_again = gs[0].wait_reason
    gosched()  # it finds the Mutex locked: starving
    assert gs[0].state == "waiting", parked_again
    mutex.unlock()
    assert mutex.locked()  # its already
    assert not mutex.try_lock()
    gs[0].join()
    gs[1].join()
    assert log == [0, 1]
    assert not mutex.locked()


@pytest.mark.skipif(not EXACT_ORDER, reason="needs that nothing switches unasked")
def test_the_loser_stays_first() -> None:
    """A woken waiter that lost waits in front of those that came after it."""
    mutex = Mutex()
    log: list[int] = []
    mutex.lock()
    gs = queue_up(3, mutex, log)
    for _ in range(3):
        mutex.unlock()
        assert mutex.try_lock()
        gosched()
    mutex.unlock()
    for g in gs:
        g.join()
    assert log == [0, 1, 2]


@pytest.mark.skipif(not EXACT_ORDER, reason="needs that nothing switches unasked")
def test_starvation_ends() -> None:
    """After the last starved waiter the Mutex is in normal mode again."""
    mutex = Mutex()
    mutex.lock()
    gs = queue_up(1, mutex, [])
    sleep(STARVED)
    mutex.unlock()
    mutex.lock()
    gosched()
    mutex.unlock()  # handed over
    gs[0].join()
    test_who_runs_may_take_a_free_one_before_the_woken()
    mutex.lock()
    log: list[int] = []
    gs = queue_up(1, mutex, log)
    mutex.unlock()
    assert mutex.try_lock()
    mutex.unlock()
    gs[0].join()
    assert log == [0]


def test_nobody_starves() -> None:
    """One that takes the Mutex again and again, and parks with it, keeps nobody out."""
    mutex = Mutex()
    over: list[bool] = []

    def greedy() -> None:
        while not over:
            with mutex:
                sleep(0.002)

    g = go(greedy)
    for _ in range(5):
        with mutex:
            pass
        gosched()
    over.append(True)
    g.join()


def test_timeouts() -> None:
    """lock gives up after its time, 0 and less at once, naming the Mutex; it stays usable."""
    mutex = Mutex()
    with mutex:
        for timeout in (0, -1, 0.001):
            with pytest.raises(TimeoutError, match="Mutex"):
                mutex.lock(timeout=timeout)
    mutex.lock(timeout=0)
    mutex.unlock()
    mutex.lock(3600)
    mutex.unlock()
    assert mutex.try_lock()


def test_timeout_of_each_place_in_the_queue() -> None:
    """Whoever gives up, first, middle or last, the others get the Mutex in their order."""
    for leaver in range(3):
        mutex = Mutex()
        log: list[object] = []

        def body(i: int, timeout: float | None) -> None:
            try:
                mutex.lock(timeout)
            except TimeoutError:
                log.append("gave up")
            else:
                log.append(i)
                mutex.unlock()

        mutex.lock()
        gs = []
        for i in range(3):
            gs.append(go(body, i, 0.001 if i == leaver else None))
            if i != leaver:
                parked(gs[i])
        gs[leaver].join()
        mutex.unlock()
        for g in gs:
            g.join()
        assert log == ["gave up", *(i for i in range(3) if i != leaver)]
        assert mutex.try_lock()


def test_timeout_counts_over_lost_turns() -> None:
    """The time runs on while a waiter is woken and loses again."""
    mutex = Mutex()
    out: list[str] = []

    def waiter() -> None:
        try:
            mutex.lock(timeout=0.02)
        except TimeoutError:
            out.append("timeout")
        else:
            mutex.unlock()
            out.append("locked")

    mutex.lock()
    g = go(waiter)
    parked(g)
    for _ in range(1000):
        if out:
            break
        mutex.unlock()
        if not mutex.try_lock():
            break  # starving: it was handed over
        sleep(0.0005)
    else:
        pytest.fail("neither handed over nor timed out")
    if not mutex.locked():
        mutex.lock()
    g.join()
    assert out[0] in ("timeout", "locked")


def test_the_last_waiter_that_leaves_leaves_a_plain_mutex() -> None:
    """When all waiters have timed out, unlock frees it and nothing is remembered of them."""
    mutex = Mutex()
    mutex.lock()

    def give_up() -> None:
        with pytest.raises(TimeoutError):
            mutex.lock(timeout=0.001)

    for g in [go(give_up) for _ in range(5)]:
        g.join()
    mutex.unlock()
    for _ in range(3):
        assert mutex.try_lock()
        mutex.unlock()
    with pytest.raises(RuntimeError, match="unlocked"):
        mutex.unlock()


def test_the_end_of_run_ends_waiters() -> None:
    """Goroutines that wait when run() is over are ended, and the Mutex lives on."""
    mutex = Mutex()
    log: list[str] = []

    def waiter() -> None:
        try:
            with mutex:
                log.append("locked")
        finally:
            log.append("cleaned up")

    def main() -> None:
        mutex.lock()
        gs = [go(waiter) for _ in range(3)]
        parked(*gs)

    run(main)
    assert log == ["cleaned up"] * 3
    mutex.unlock()
    with mutex:
        pass
    assert not mutex.locked()


def test_a_woken_waiter_of_an_ended_run_passes_the_mutex_on() -> None:
    """A waiter that was woken when run() ended does not keep others from the Mutex."""
    mutex = Mutex()

    def waiter() -> None:
        with mutex:
            gosched()

    def main() -> None:
        mutex.lock()
        gs = [go(waiter) for _ in range(3)]
        parked(*gs)
        mutex.unlock()

    run(main)
    mutex.lock(timeout=60)
    mutex.unlock()


def test_plain_threads() -> None:
    """Threads and goroutines exclude each other, and wait for each other."""
    mutex = Mutex()
    count = 0
    rounds = scaled(200)

    def work() -> None:
        nonlocal count
        for _ in range(rounds):
            with mutex:
                seen = count
                if seen % 10 == 0:
                    gosched()
                count = seen + 1

    threads = [threading.Thread(target=work, daemon=True) for _ in range(3)]
    for thread in threads:
        thread.start()
    gs = [go(work) for _ in range(3)]
    for g in gs:
        g.join()
    until(lambda: not any(t.is_alive() for t in threads), "that the threads have ended")
    assert count == 6 * rounds


def test_timeout_in_a_plain_thread() -> None:
    """A thread that waits for a Mutex gives up in time too."""
    mutex = Mutex()
    mutex.lock()

    def body() -> str:
        try:
            mutex.lock(timeout=0.005)
        except TimeoutError:
            return "timeout"
        return "locked"

    assert in_thread(body) == "timeout"
    mutex.unlock()
    assert in_thread(body) == "locked"


def test_locking_twice_is_a_deadlock() -> None:
    """A Mutex is not reentrant: alone, a second lock is the deadlock report."""
    done = run_program(
        """
        from goroutines import Mutex
        mutex = Mutex()
        mutex.lock()
        mutex.lock()
        """
    )
    assert done.returncode == 2, done
    assert "all goroutines are asleep - deadlock!" in done.stderr
    assert "goroutine 1 [sync.Mutex.lock" in done.stderr


def test_exclusion_at_random() -> None:
    """Whatever mixture of calls: never two inside, and each who entered is counted."""
    rng = random.Random(1)
    mutex = Mutex()
    inside = entered = gave_up = 0

    def enter() -> None:
        nonlocal inside, entered
        assert inside == 0
        inside += 1
        entered += 1
        if rng.random() < 0.5:
            gosched()
        elif rng.random() < 0.02:
            sleep(0.0015)
        assert inside == 1
        inside -= 1
        mutex.unlock()

    def work() -> None:
        nonlocal gave_up
        for _ in range(scaled(30)):
            way = rng.random()
            if way < 0.3:
                taken = mutex.try_lock()
            else:
                try:
                    mutex.lock(timeout=None if way < 0.7 else rng.choice((0, 0.0005, 0.01)))
                    taken = True
                except TimeoutError:
                    taken = False
            if taken:
                enter()
            else:
                gave_up += 1
                gosched()

    wg = WaitGroup()
    for _ in range(20):
        wg.go(work)
    wg.wait()
    assert entered + gave_up == 20 * scaled(30)
    assert not mutex.locked()


# --- RWMutex --------------------------------------------------------------------------------


def test_rw_readers_together_writers_alone() -> None:
    """Any number read at a time; a writer excludes all."""
    rw = RWMutex()
    assert rw.rlock() is None
    assert rw.try_rlock() is True
    assert rw.try_lock() is False
    assert rw.runlock() is None
    assert rw.try_lock() is False
    rw.runlock()
    assert rw.try_lock() is True
    assert rw.try_lock() is False
    assert rw.try_rlock() is False
    assert rw.unlock() is None
    assert rw.lock() is None
    rw.unlock()


def test_rw_with() -> None:
    """`with rw` writes, `with rw.reader` reads; both unlock when the block raises."""
    rw = RWMutex()
    with rw as bound:
        assert bound is rw
        assert not rw.try_rlock()
    with rw.reader:
        assert not rw.try_lock()
        with rw.reader:
            pass
        assert not rw.try_lock()
    with pytest.raises(KeyError), rw:
        raise KeyError
    with pytest.raises(KeyError), rw.reader:
        raise KeyError
    assert rw.try_lock()


def test_rw_reader_is_a_locker() -> None:
    """The reader has lock, try_lock and unlock, which are rlock, try_rlock and runlock."""
    rw = RWMutex()
    reader = rw.reader
    reader.lock()
    assert reader.try_lock()
    assert not rw.try_lock()
    reader.unlock()
    rw.runlock()
    with rw:
        assert not reader.try_lock()
        with pytest.raises(TimeoutError):
            reader.lock(timeout=0)
    with pytest.raises(RuntimeError, match="runlock"):
        reader.unlock()
    del rw
    with reader:
        pass


def test_rw_misuse() -> None:
    """Unlocking what is not locked so is an error of Go's wording, and changes nothing."""
    rw = RWMutex()
    with pytest.raises(RuntimeError, match=r"^sync: unlock of unlocked RWMutex"):
        rw.unlock()
    with pytest.raises(RuntimeError, match=r"^sync: runlock of unlocked RWMutex"):
        rw.runlock()
    with rw.reader, pytest.raises(RuntimeError, match="unlock"):
        rw.unlock()
    with rw, pytest.raises(RuntimeError, match="runlock"):
        rw.runlock()
    assert rw.try_lock()


def test_rw_wait_reasons() -> None:
    """Readers and writers say what they wait for."""
    rw = RWMutex()
    with rw:
        reader, writer = go(rw.rlock), go(rw.lock)
        parked(reader, writer)
        assert reader.wait_reason == "sync.RWMutex.rlock"
        assert writer.wait_reason == "sync.RWMutex.lock"
    reader.join()
    rw.runlock()
    writer.join()
    rw.unlock()


def test_rw_a_waiting_writer_holds_new_readers_back() -> None:
    """Readers that come after a writer wait for it, though others still read."""
    rw = RWMutex()
    log: list[str] = []

    def write() -> None:
        with rw:
            log.append("write")

    def read() -> None:
        with rw.reader:
            log.append("read")

    rw.rlock()
    writer = go(write)
    parked(writer)
    assert not rw.try_rlock()
    with pytest.raises(TimeoutError):
        rw.rlock(timeout=0)
    reader = go(read)
    parked(reader)
    rw.runlock()
    writer.join()
    reader.join()
    assert log == ["write", "read"]


def test_rw_readers_go_before_the_next_writer() -> None:
    """When a writer unlocks, all readers that wait read, and only then the next one writes."""
    rw = RWMutex()
    log: list[str] = []

    def write() -> None:
        with rw:
            log.append("write")

    def read() -> None:
        with rw.reader:
            log.append("read")
            gosched()

    rw.lock()
    gs = [go(write)]
    parked(*gs)
    gs += [go(read) for _ in range(3)]
    parked(*gs)
    rw.unlock()
    for g in gs:
        g.join()
    assert log == ["read"] * 3 + ["write"]


def test_rw_writers_come_in_order() -> None:
    """Writers write in the order in which they asked."""
    rw = RWMutex()
    log: list[int] = []
    with rw.reader:
        gs = queue_up(5, rw, log)
    for g in gs:
        g.join()
    assert log == list(range(5))


def test_rw_a_writer_that_gives_up_lets_readers_in() -> None:
    """Readers behind a writer that times out read, together with those who do."""
    rw = RWMutex()
    out: list[str] = []
    shut: Chan[None] = Chan()

    def write() -> None:
        try:
            rw.lock(timeout=0.01)
        except TimeoutError:
            out.append("gave up")

    def read() -> None:
        with rw.reader:
            out.append("read")
            shut.recv_ok()

    rw.rlock()
    writer = go(write)
    parked(writer)
    reader = go(read)
    until(lambda: "read" in out, "that the reader was let in")
    writer.join()
    shut.close()
    reader.join()
    rw.runlock()
    assert sorted(out) == ["gave up", "read"]
    assert rw.try_lock()


def test_rw_readers_that_give_up_leave_the_rest() -> None:
    """A reader that times out while a writer writes is not counted as reading."""
    rw = RWMutex()
    with rw:
        with pytest.raises(TimeoutError, match="RWMutex"):
            rw.rlock(timeout=0.001)
        with pytest.raises(TimeoutError, match="RWMutex"):
            rw.lock(timeout=0.001)
    assert rw.try_lock()


def test_rw_the_end_of_run_ends_waiters() -> None:
    """Readers and writers that wait when run() is over are ended; the lock lives on."""
    rw = RWMutex()

    def hold(lock: Any) -> None:
        with lock:
            pytest.fail("got the lock")

    def main() -> None:
        rw.lock()
        parked(*[go(hold, lock) for lock in (rw, rw.reader, rw, rw.reader)])

    run(main)
    rw.unlock()
    assert rw.try_lock()


def test_rw_the_end_of_a_waiting_writer_lets_readers_in() -> None:
    """A writer that run()'s end takes away holds nobody back."""
    rw = RWMutex()
    rw.rlock()
    read: list[bool] = []

    def main() -> None:
        parked(go(rw.lock))
        go(lambda: read.append(rw.try_rlock())).join()

    run(main)
    assert read == [False]
    assert rw.try_rlock()


def test_rw_plain_threads() -> None:
    """A thread that writes keeps goroutines out, and gets in when they have read."""
    rw = RWMutex()
    rw.rlock()
    log: list[str] = []

    def write() -> None:
        with rw:
            log.append("write")

    thread = threading.Thread(target=write, daemon=True)
    thread.start()
    until(lambda: not rw.try_rlock() or rw.runlock(), "that the thread waits")
    log.append("read")
    rw.runlock()
    until(lambda: not thread.is_alive(), "that the thread has written")
    assert log == ["read", "write"]


def test_rw_exclusion_at_random() -> None:
    """Whatever mixture of calls: writers alone, readers never with one, none lost."""
    rng = random.Random(2)
    rw = RWMutex()
    readers, writers = Int64(), 0  # there are several readers at a time

    def attempt(try_: Callable[[], bool], lock: Callable[..., None]) -> bool:
        way = rng.random()
        if way < 0.2:
            return try_()
        try:
            lock(timeout=None if way < 0.7 else rng.choice((0, 0.0005, 0.01)))
        except TimeoutError:
            return False
        return True

    def work() -> None:
        nonlocal writers
        for _ in range(scaled(30)):
            if rng.random() < 0.3:
                if attempt(rw.try_lock, rw.lock):
                    assert (readers.load(), writers) == (0, 0)
                    writers += 1
                    gosched()
                    assert (readers.load(), writers) == (0, 1)
                    writers -= 1
                    rw.unlock()
            elif attempt(rw.try_rlock, rw.rlock):
                readers.add(1)
                assert writers == 0
                gosched()
                assert writers == 0
                readers.add(-1)
                rw.runlock()
            gosched()

    wg = WaitGroup()
    for _ in range(20):
        wg.go(work)
    wg.wait()
    assert rw.try_lock()
