"""goroutines.sync and its atomics between goroutines of several threads."""

from __future__ import annotations

import gc
import random

import pytest

from goroutines import Chan, WaitGroup, go, gosched, runtime
from goroutines.sync import (
    Cond,
    Map,
    Mutex,
    Once,
    Pool,
    RWMutex,
    Semaphore,
    once_func,
    once_value,
)
from goroutines.sync.atomic import Bool, Int64, Value

from .tools import alone, in_threads, scaled, spread, within

TURNS = scaled(3000)
WAYS = 16


class Counter:
    """A number that is changed in two steps: who is not alone at it spoils it."""

    def __init__(self) -> None:
        self.value = 0

    def add_one(self) -> None:
        """Read, compute, write."""
        value = self.value
        for _ in range(3):
            value += 1
        self.value = value - 2


@alone()
def test_mutex_excludes() -> None:
    """What a Mutex guards is changed by one at a time, whatever thread it is on."""
    mutex, counter = Mutex(), Counter()

    def work(i: int) -> None:
        for k in range(TURNS):
            with mutex:
                counter.add_one()
                if k % 64 == i:
                    gosched()

    spread(WAYS, work).join()
    assert counter.value == WAYS * TURNS
    assert not mutex.locked()


@alone()
def test_mutex_by_every_door() -> None:
    """lock with and without time-outs, try_lock, plain threads: still one at a time."""
    mutex, counter, entered = Mutex(), Counter(), Int64()

    def work(i: int) -> None:
        rng = random.Random(i)
        for _ in range(TURNS // 10):
            kind = rng.randrange(3)
            if kind == 0:
                mutex.lock()
            elif kind == 1:
                try:
                    mutex.lock(timeout=rng.choice((0, 0.00001, 0.001)))
                except TimeoutError:
                    continue
            elif not mutex.try_lock():
                gosched()
                continue
            counter.add_one()
            entered.add(1)
            if rng.random() < 0.05:
                gosched()
            mutex.unlock()

    workers = spread(WAYS, work)
    threads = in_threads(4, lambda i: work(100 + i))
    workers.join()
    within(lambda: not any(t.is_alive() for t in threads), "that the threads have ended")
    assert counter.value == entered.load() > 0
    assert not mutex.locked()


@alone()
def test_a_mutex_may_be_unlocked_on_another_thread() -> None:
    """As in Go, who unlocks need not be who locked."""
    mutex, counter = Mutex(), Counter()
    held: Chan[None] = Chan()

    def work(i: int) -> None:
        for _ in range(TURNS):
            if i:
                held.recv()
                counter.add_one()
                mutex.unlock()
            else:
                mutex.lock()
                held.send(None)

    spread(2, work).join()
    assert counter.value == TURNS


@alone()
def test_one_of_many_unlocks_is_right() -> None:
    """Unlocks that race for one lock: one does it, each of the others raises."""
    for _ in range(scaled(100)):
        mutex = Mutex()
        mutex.lock()

        def unlock(i: int, mutex: Mutex = mutex) -> bool:
            try:
                mutex.unlock()
            except RuntimeError:
                return False
            return True

        assert sum(spread(8, unlock).join()) == 1
        assert not mutex.locked()


@alone()
def test_rwmutex() -> None:
    """Readers see no half-made change, and writers exclude each other."""
    rw, counter = RWMutex(), Counter()
    pair = [0, 0]

    def work(i: int) -> int:
        rng, writes = random.Random(i), 0
        for _ in range(TURNS):
            if rng.random() < 0.1:
                with rw:
                    pair[0] += 1
                    counter.add_one()
                    if rng.random() < 0.1:
                        gosched()
                    pair[1] += 1
                writes += 1
            else:
                with rw.reader:
                    assert pair[0] == pair[1]
        return writes

    writes = sum(spread(WAYS, work).join())
    assert pair == [writes, writes]
    assert counter.value == writes


@alone()
def test_rwmutex_by_every_door() -> None:
    """The try and time-out variants of RWMutex keep its promise too."""
    rw, state = RWMutex(), [0, 0]
    readers, most = Int64(), Int64()

    def write(i: int, rng: random.Random) -> None:
        if rng.random() < 0.5:
            if not rw.try_lock():
                return
        else:
            try:
                rw.lock(timeout=0.001)
            except TimeoutError:
                return
        assert readers.load() == 0
        state[0] += 1
        gosched()
        state[1] += 1
        rw.unlock()

    def read(i: int, rng: random.Random) -> None:
        if rng.random() < 0.5:
            if not rw.try_rlock():
                return
        else:
            try:
                rw.rlock(timeout=0.001)
            except TimeoutError:
                return
        most.store(max(most.load(), readers.add(1)))
        assert state[0] == state[1]
        if rng.random() < 0.1:
            gosched()
        readers.add(-1)
        rw.runlock()

    def work(i: int) -> None:
        rng = random.Random(i)
        for _ in range(TURNS // 4):
            (write if rng.random() < 0.2 else read)(i, rng)
            if rng.random() < 0.1:
                gosched()

    spread(WAYS, work).join()
    assert state[0] == state[1] > 0
    assert most.load() > 0
    rw.lock(timeout=0)
    rw.unlock()


@alone()
def test_cond() -> None:
    """Producers and consumers around one Cond on all threads: nothing is lost, all end."""
    mutex = Mutex()
    not_empty, not_full = Cond(mutex), Cond(mutex)
    items: list[int] = []

    def work(i: int) -> int:
        total = 0
        for k in range(TURNS // 4):
            with mutex:
                if i % 2:
                    while len(items) >= 3:
                        not_full.wait()
                    items.append(k)
                    not_empty.signal()
                else:
                    while not items:
                        not_empty.wait()
                    total += items.pop()
                    not_full.signal()
        return total

    sums = spread(WAYS, work).join()
    assert sum(sums) == WAYS // 2 * sum(range(TURNS // 4))
    assert not items


@alone()
def test_cond_broadcast() -> None:
    """A broadcast wakes the waiters of all threads, round after round."""
    mutex = Mutex()
    cond = Cond(mutex)
    state = {"round": 0, "arrived": 0}

    def work(i: int) -> None:
        for k in range(scaled(300)):
            with mutex:
                state["arrived"] += 1
                if state["arrived"] == WAYS:
                    state["arrived"] = 0
                    state["round"] = k + 1
                    cond.broadcast()
                while state["round"] <= k:
                    cond.wait()

    spread(WAYS, work).join()
    assert state["round"] == scaled(300)


@alone()
def test_semaphore() -> None:
    """At most its size is ever out, in any mixture of weights."""
    size = 5
    semaphore, out = Semaphore(size), Int64()

    def work(i: int) -> int:
        rng, most = random.Random(i), 0
        for _ in range(TURNS // 2):
            n = rng.randint(1, size)
            if rng.random() < 0.3:
                if not semaphore.try_acquire(n):
                    continue
            elif rng.random() < 0.3:
                try:
                    semaphore.acquire(n, timeout=0.0001)
                except TimeoutError:
                    continue
            else:
                semaphore.acquire(n)
            most = max(most, out.add(n))
            if rng.random() < 0.1:
                gosched()
            out.add(-n)
            semaphore.release(n)
        return most

    most = max(spread(WAYS, work).join())
    assert 0 < most <= size
    assert semaphore.try_acquire(size)


@alone()
def test_waitgroup_counts() -> None:
    """add, done and wait from all threads: wait ends when all is done, not before."""
    for _ in range(scaled(50)):
        wg, done = WaitGroup(), Int64()
        wg.add(WAYS)

        def work(i: int, wg: WaitGroup = wg, done: Int64 = done) -> None:
            for _ in range(20):
                wg.add()
                done.add(1)
                go(finish, wg, done)
            wg.done()
            wg.wait()
            assert done.load() == 0

        def finish(wg: WaitGroup, done: Int64) -> None:
            done.add(-1)
            wg.done()

        workers = spread(WAYS, work)
        wg.wait()
        assert done.load() == 0
        workers.join()


@alone()
def test_waitgroup_go_from_everywhere() -> None:
    """WaitGroup.go called on all threads, by its own goroutines too."""
    wg, ran = WaitGroup(), Int64()

    def grow(depth: int) -> None:
        ran.add(1)
        if depth:
            wg.go(grow, depth - 1)
            wg.go(grow, depth - 1)

    def work(i: int) -> None:
        wg.go(grow, 7)

    spread(WAYS, work).join()
    wg.wait()
    assert ran.load() == WAYS * (2**8 - 1)


@alone()
def test_waitgroup_below_zero() -> None:
    """Of too many done calls on all threads the surplus raise, no more."""
    for _ in range(scaled(50)):
        wg = WaitGroup()
        wg.add(3)

        def done(i: int, wg: WaitGroup = wg) -> bool:
            try:
                wg.done()
            except ValueError:
                return False
            return True

        assert sum(spread(8, done).join()) == 3
        wg.wait()


@alone()
def test_once() -> None:
    """Once runs its function once, and whoever comes meanwhile waits for its end."""
    for _ in range(scaled(100)):
        once, ran, ended = Once(), Int64(), Bool()

        def first(ran: Int64 = ran, ended: Bool = ended) -> None:
            ran.add(1)
            gosched()
            ended.store(True)

        def work(i: int, once: Once = once, ended: Bool = ended, fn=first) -> None:
            once.do(fn)
            assert ended.load()

        spread(8, work).join()
        assert ran.load() == 1


@alone()
def test_once_func_and_value() -> None:
    """once_value gives all the same object; once_func calls once."""
    for _ in range(scaled(50)):
        calls = Int64()
        value = once_value(lambda calls=calls: [calls.add(1), gosched()])
        func = once_func(lambda calls=calls: calls.add(10))

        def work(i: int, value=value, func=func) -> int:
            func()
            return id(value())

        assert len(set(spread(8, work).join())) == 1
        assert calls.load() == 11


@alone()
def test_map_operations() -> None:
    """Each operation of a Map is whole: of racing ones exactly one wins."""
    m: Map[int, int] = Map()
    keys = TURNS // 4

    def work(i: int) -> tuple[int, int, int]:
        stored = deleted = swapped = 0
        for k in range(keys):
            stored += not m.load_or_store(k, i)[1]
        arrive(0)
        for k in range(keys):
            deleted += m.load_and_delete(k)[1]
            m.load(k)
        arrive(1)
        for k in range(keys):
            swapped += m.compare_and_swap(-1 - k, 0, 1)
        return stored, deleted, swapped

    barrier = [WaitGroup(), WaitGroup()]
    for wg in barrier:
        wg.add(WAYS)

    def arrive(n: int) -> None:
        barrier[n].done()
        barrier[n].wait()

    for k in range(keys):
        m.store(-1 - k, 0)
    totals = [sum(column) for column in zip(*spread(WAYS, work).join(), strict=True)]
    assert totals == [keys, keys, keys]


@alone()
def test_map_range_while_it_changes() -> None:
    """range on one thread while others store and delete: each key at most once, no error."""
    m: Map[int, int] = Map()
    for k in range(200):
        m.store(k, k)
    over = Bool()

    def work(i: int) -> None:
        if i % 2:
            rng = random.Random(i)
            for _ in range(TURNS):
                k = rng.randrange(200, 400)
                m.store(k, k) if rng.random() < 0.5 else m.delete(k)
            over.store(True)
            return
        while not over.load():
            seen: list[int] = []

            def see(key: int, value: int, seen: list[int] = seen) -> None:
                assert key == value
                seen.append(key)

            m.range(see)
            assert len(seen) == len(set(seen))
            assert set(range(200)) <= set(seen)
            gosched()

    spread(8, work).join()


@alone()
def test_cache_gives_an_object_to_one() -> None:
    """sync.Pool never gives one object to two, and collections in between do no harm."""

    class Thing:
        def __init__(self) -> None:
            self.used = Int64()

    cache: Pool[Thing] = Pool(Thing)

    def work(i: int) -> None:
        for k in range(TURNS):
            thing = cache.get()
            assert thing.used.add(1) == 1
            if k % 100 == i:
                gosched()
            if i == 0 and k % (TURNS // 4) == 0:
                gc.collect()
            thing.used.add(-1)
            cache.put(thing)

    spread(8, work).join()


@alone()
def test_atomic_int64() -> None:
    """add, swap and compare_and_swap on all threads lose no step."""
    total, claimed, swapped = Int64(), Int64(), Int64()

    def work(i: int) -> tuple[int, int]:
        wins = out = 0
        for k in range(TURNS):
            total.add(k)
            old = claimed.load()
            wins += claimed.compare_and_swap(old, old + 1)
            out += swapped.swap(k)
        return wins, out

    parts = spread(WAYS, work).join()
    assert total.load() == WAYS * sum(range(TURNS))
    assert claimed.load() == sum(wins for wins, _ in parts)
    assert sum(out for _, out in parts) + swapped.load() == WAYS * sum(range(TURNS))


@alone()
def test_atomic_bool_and_value() -> None:
    """A Bool's swap as a lock, and a Value that is replaced while others read it."""
    flag, counter = Bool(), Counter()
    value: Value[tuple[int, int]] = Value((0, 0))
    owned: Value[object] = Value(object())

    def work(i: int) -> None:
        for k in range(TURNS // 4):
            while flag.swap(True):
                gosched()
            counter.add_one()
            assert flag.compare_and_swap(True, False)
            a, b = value.load()
            assert a == b
            value.store((i, i))
            owned.swap([i, k])

    spread(WAYS, work).join()
    assert counter.value == WAYS * (TURNS // 4)
    assert not flag.load()


@alone()
def test_value_hands_an_object_to_one() -> None:
    """Of swaps on all threads each object comes out once, and is freed no sooner."""
    slot: Value[list[int] | None] = Value(None)

    def work(i: int) -> list[int]:
        got = []
        for k in range(TURNS):
            found = slot.swap([i * TURNS + k])
            if found is not None:
                got.append(found[0])
        return got

    got = [k for part in spread(8, work).join() for k in part]
    rest = slot.load()
    assert rest is not None
    assert sorted([*got, rest[0]]) == list(range(8 * TURNS))


@alone()
def test_mutual_exclusion_is_fair() -> None:
    """Who holds a Mutex almost always does not keep another thread's goroutine out."""
    mutex, got = Mutex(), Int64()

    def work(i: int) -> None:
        if i:
            for _ in range(20):
                with mutex:
                    got.add(1)
        else:
            while got.load() < 20:
                with mutex:
                    gosched()

    spread(2, work).join()


@pytest.mark.slow
@alone()
def test_everything_at_once() -> None:
    """All primitives nested in each other by goroutines that come and go."""
    mutex, rw, semaphore, m = Mutex(), RWMutex(), Semaphore(3), Map[int, int]()
    counter, wg, ch = Counter(), WaitGroup(), Chan[int](4)

    def visit(k: int) -> None:
        with semaphore, rw.reader, mutex:
            counter.add_one()
            m.store(k, k)
        ch.send(k)

    def work(i: int) -> int:
        if i % 2:
            for k in range(TURNS // 4):
                wg.go(visit, i * TURNS + k)
            return 0
        return sum(1 for _ in ch)

    workers = spread(WAYS, work)
    for g in workers.gs[1::2]:
        g.join()
    wg.wait()
    ch.close()
    expected = WAYS // 2 * (TURNS // 4)
    assert sum(workers.join()) == counter.value == expected
    seen: list[int] = []
    m.range(lambda k, v: seen.append(k))
    assert len(seen) == expected
    # done() comes before the end of a goroutine's own
    within(lambda: runtime.num_goroutine() == 1, "that all have ended")
