"""goroutines.sync from the contract: the weighted Semaphore, the cache (Pool), and Map."""

from __future__ import annotations

import gc
import random
import threading
import weakref
from typing import Any

import pytest

from goroutines import go, gosched
from goroutines.sync import Map, Pool, Semaphore

from ..conftest import Token, all_of, dead, in_thread, parked, scaled, until
from .tools import outcome

# --- Semaphore --------------------------------------------------------------------------------


def test_semaphore_weights() -> None:
    """What is taken and given back adds up."""
    sem = Semaphore(10)
    sem.acquire(7)
    assert sem.try_acquire(4) is False
    assert sem.try_acquire(3) is True
    sem.release(10)
    sem.acquire(10, timeout=0)
    sem.acquire(0, timeout=0)
    sem.release(10)


def test_semaphore_misuse() -> None:
    """Too much, too little and the wrong type are refused at the call, changing nothing."""
    sem = Semaphore(2)
    with pytest.raises(RuntimeError):
        sem.release(1)
    sem.acquire(1)
    with pytest.raises(RuntimeError):
        sem.release(2)
    for bad in (3, -1):
        with pytest.raises(ValueError):
            sem.acquire(bad)
    with pytest.raises(ValueError):
        sem.try_acquire(-1)
    with pytest.raises(ValueError):
        sem.release(-1)
    with pytest.raises(TypeError):
        sem.acquire("1")
    with pytest.raises(ValueError):
        Semaphore(-1)
    with pytest.raises(TypeError):
        Semaphore("1")
    assert sem.try_acquire(1) is True
    assert sem.try_acquire(1) is False
    sem.release(2)


def test_semaphore_big_waiter_is_not_starved() -> None:
    """Who asks for little queues behind who asks for much, though there would be enough."""
    sem = Semaphore(10)
    sem.acquire(5)
    big = go(sem.acquire, 10)
    parked(big)
    assert sem.try_acquire(1) is False
    small = go(sem.acquire, 1)
    parked(small)
    sem.release(5)
    big.join()
    assert small.state == "waiting"
    sem.release(10)
    small.join()
    sem.release(1)


def test_semaphore_front_gives_up() -> None:
    """When the one in front gives up, those behind it that fit go on at once."""
    sem = Semaphore(10)
    sem.acquire(5)
    big = go(outcome, sem.acquire, 10, timeout=0.02)
    parked(big)
    small = [go(sem.acquire, 2) for _ in range(2)]
    parked(*small)
    dead(big, *small)
    assert sem.try_acquire(2) is False
    sem.release(9)


def test_semaphore_one_release_wakes_many() -> None:
    """A big release serves as many waiters as fit, in order."""
    sem = Semaphore(6)
    sem.acquire(6)
    gs = []
    for _ in range(4):
        gs.append(go(sem.acquire, 2))
        parked(gs[-1])  # so that they stand in this order
    sem.release(6)
    dead(*gs[:3])
    assert gs[3].state == "waiting"
    sem.release(2)
    gs[3].join()
    sem.release(6)


def test_semaphore_invariant() -> None:
    """Never is more taken than there is."""
    sem, guard = Semaphore(7), threading.Lock()
    taken, wrong = [0], []

    def worker(i: int) -> None:
        chance = random.Random(i)
        for _ in range(20):
            n = chance.randint(1, 7)
            if outcome(sem.acquire, n, timeout=chance.choice([None, 0.001])) is not None:
                continue
            with guard:
                taken[0] += n
                wrong.extend(taken if taken[0] > 7 else [])
            gosched()
            with guard:
                taken[0] -= n
            sem.release(n)

    all_of(scaled(20), worker)
    assert wrong == []
    assert sem.try_acquire(7) is True


# --- the cache --------------------------------------------------------------------------------


def test_cache_reuses() -> None:
    """get gives what was put, or a new one; None is never kept."""
    pool = Pool(Token)
    first = pool.get()
    assert isinstance(first, Token)
    assert pool.get() is not first
    pool.put(None)
    assert isinstance(pool.get(), Token)
    with pytest.raises(TypeError):
        Pool(3)
    with pytest.raises(ZeroDivisionError):
        Pool(lambda: 1 / 0).get()


def test_cache_is_emptied_by_the_collector() -> None:
    """What was put outlives one collection and not two."""
    gc.disable()
    try:
        pool = Pool(lambda: None)
        token = Token()
        ref = weakref.ref(token)
        pool.put(token)
        del token
        gc.collect()
        assert ref() is not None
        gc.collect()
        gc.collect()
        assert ref() is None
        assert pool.get() is None
    finally:
        gc.enable()


def test_cache_never_hands_out_twice() -> None:
    """An object is with one user at a time."""
    pool, in_use, wrong = Pool(Token), set(), []

    def worker(_: int) -> None:
        for _ in range(20):
            token = pool.get()
            wrong.extend([token] if token in in_use else [])
            in_use.add(token)
            gosched()
            in_use.discard(token)
            pool.put(token)

    all_of(scaled(20), worker)
    assert wrong == []


# --- Map --------------------------------------------------------------------------------------


def items(m: Any) -> dict[Any, Any]:
    """What `range` shows of the map, each key at most once."""
    seen: list[tuple[Any, Any]] = []
    m.range(lambda k, v: seen.append((k, v)))
    assert len(seen) == len({k for k, _ in seen})
    return dict(seen)


def test_map_results_have_gos_shapes() -> None:
    """Each operation answers as Go's does, a stored None too."""
    m: Any = Map()
    assert m.load("k") == (None, False)
    m.store("k", None)
    assert m.load("k") == (None, True)
    assert m.load_or_store("k", 1) == (None, True)
    assert m.load_or_store("l", 1) == (1, False)
    assert m.swap("l", 2) == (1, True)
    assert m.swap("m", 3) == (None, False)
    assert m.load_and_delete("m") == (3, True)
    assert m.load_and_delete("m") == (None, False)
    m.delete("k")
    m.delete("never there")
    assert items(m) == {"l": 2}
    m.clear()
    assert items(m) == {}


def test_map_compare_and_swap() -> None:
    """compare_and_swap goes by ==, and never for a key that is missing."""
    m: Any = Map()
    assert m.compare_and_swap("k", None, 1) is False
    assert items(m) == {}
    m.store("k", [1])
    assert m.compare_and_swap("k", [2], "new") is False
    assert m.load("k") == ([1], True)
    assert m.compare_and_swap("k", [1], "new") is True
    assert m.load("k") == ("new", True)


@pytest.mark.parametrize(("answer", "count"), [(None, 3), (True, 3), (False, 1)])
def test_map_range_stops_on_false(answer: Any, count: int) -> None:
    """range goes on unless the function answers False."""
    m, seen = Map(), []
    for i in range(3):
        m.store(i, i)
    m.range(lambda k, v: (seen.append(k), answer)[1])
    assert len(seen) == count


def test_map_range_while_it_changes() -> None:
    """The function may change the map; no key comes twice, those that stay all come."""
    m, seen = Map(), []
    for i in range(20):
        m.store(i, i)

    def visit(key: int, value: int) -> None:
        seen.append(key)
        m.store(key, -value)
        m.store(key + 1000, 0)
        m.delete(key - 1)
        gosched()

    m.range(visit)
    assert len(seen) == len(set(seen))
    with pytest.raises(ZeroDivisionError):
        m.range(lambda k, v: 1 / 0)
    m.clear()
    assert items(m) == {}


def test_map_bad_keys() -> None:
    """A key that cannot be hashed is a TypeError everywhere."""
    m: Any = Map()
    for use in (m.load, m.delete, m.load_and_delete, lambda k: m.store(k, 1)):
        with pytest.raises(TypeError):
            use([])
    with pytest.raises(TypeError):
        m.range(3)
    assert items(m) == {}


def test_map_keys_that_switch() -> None:
    """Keys whose hash and == let others run, or use the map themselves, do no harm."""
    m: Any = Map()

    class Key:
        def __init__(self, n: int) -> None:
            self.n = n

        def __hash__(self) -> int:
            gosched()
            return self.n % 3

        def __eq__(self, other: object) -> bool:
            gosched()
            m.load("other")
            return isinstance(other, Key) and self.n == other.n

    def worker(i: int) -> Any:
        m.store("other", i)
        return m.load_or_store(Key(i % 5), i)

    results = all_of(20, worker)
    assert sum(not loaded for _, loaded in results) == 5
    assert len({actual for actual, _ in results}) == 5


def test_map_compare_never_overwrites_a_newer_value() -> None:
    """A store that happens within the comparison is not lost."""
    m: Any = Map()

    class Old:
        def __eq__(self, other: object) -> bool:
            m.store("k", "newer")
            return isinstance(other, Old)

        __hash__ = object.__hash__

    m.store("k", Old())
    assert m.compare_and_swap("k", Old(), "mine") is False
    assert m.load("k") == ("newer", True)


def test_map_load_or_store_has_one_winner() -> None:
    """Of many that store the same key at once, one does, and all see its value."""
    m: Any = Map()
    for key in range(20):
        results = all_of(10, lambda i: m.load_or_store(key, i))
        results.append(in_thread(m.load_or_store, key, -1))
        assert [loaded for _, loaded in results].count(False) == 1
        assert len({actual for actual, _ in results}) == 1


def test_map_swap_loses_nothing() -> None:
    """Threads and goroutines that swap tokens account for each token."""
    m: Any = Map()
    out: list[Any] = []

    def worker(i: int) -> None:
        for n in range(50):
            out.append(m.swap("k", (i, n)))
            if n % 7 == 0:
                out.append(m.load_and_delete("k"))
                gosched()

    threads = [threading.Thread(target=worker, args=(i,), daemon=True) for i in range(3)]
    for thread in threads:
        thread.start()
    all_of(3, lambda i: worker(i + 3))
    until(lambda: not any(t.is_alive() for t in threads), "that the threads ended")
    out.append(m.load("k"))
    got = [value for value, there in out if there]
    assert sorted(got) == [(i, n) for i in range(6) for n in range(50)]
