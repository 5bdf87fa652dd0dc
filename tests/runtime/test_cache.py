"""sync.Pool: what comes out, when the collector empties it, and destructors that use it."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Iterator
from typing import Any

import pytest

from goroutines import go, gosched
from goroutines.sync import Pool

from ..conftest import FREE_THREADED, TORTURE, Token, scaled, until

QUIET = pytest.mark.skipif(TORTURE, reason="the torture build collects at every chance")


@pytest.fixture(autouse=True)
def no_collection() -> Iterator[None]:
    """Let only those collections happen that a test asks for."""
    gc.disable()
    yield
    gc.enable()


def test_get_from_an_empty_pool() -> None:
    """Without new the answer is None; with new it is what new makes."""
    assert Pool().get() is None
    assert Pool(None).get() is None
    assert Pool(new=list).get() == []
    assert Pool[int](lambda: 3).get() == 3


def test_last_in_first_out() -> None:
    """What was put last comes first, and what is taken is gone."""
    pool: Pool[Any] = Pool()
    items = [object() for _ in range(100)]
    for item in items:
        assert pool.put(item) is None
    assert [pool.get() for _ in items] == items[::-1]
    assert pool.get() is None


def test_new_is_called_only_when_empty() -> None:
    """new makes what is missing, nothing else; what it raises comes out."""
    made: list[int] = []

    def new() -> int:
        made.append(len(made))
        return made[-1]

    pool = Pool(new)
    pool.put(7)
    assert (pool.get(), pool.get(), pool.get()) == (7, 0, 1)
    with pytest.raises(ZeroDivisionError):
        Pool(lambda: 1 // 0).get()


def test_none_is_not_kept() -> None:
    """put(None) is as Go's Put(nil)."""
    pool = Pool(lambda: "new")
    pool.put(None)  # type: ignore[arg-type]
    assert pool.get() == "new"


@pytest.mark.parametrize("new", [3, "list"])
def test_new_that_is_not_callable(new: Any) -> None:
    """What cannot be called is a TypeError when the Pool is made."""
    with pytest.raises(TypeError, match="new"):
        Pool(new)


@QUIET
def test_two_full_collections_empty_it() -> None:
    """After one the objects are still there, after the second they are gone."""
    pool: Pool[Any] = Pool()
    token = Token()
    ref = weakref.ref(token)
    pool.put(token)
    del token
    gc.collect()
    assert ref() is not None
    gc.collect()
    until(lambda: ref() is None, "that the object is gone")
    assert pool.get() is None


@QUIET
def test_victims_are_found() -> None:
    """After one collection get still finds them, behind what was put since."""
    pool: Pool[Any] = Pool()
    pool.put("old")
    gc.collect()
    pool.put("new")
    assert [pool.get(), pool.get(), pool.get()] == ["new", "old", None]


@QUIET
def test_what_is_used_stays() -> None:
    """An object that is taken and put back between collections lives on."""
    pool: Pool[Any] = Pool()
    token = Token()
    pool.put(token)
    for _ in range(5):
        gc.collect()
        assert pool.get() is token
        pool.put(token)


@QUIET
@pytest.mark.skipif(FREE_THREADED, reason="without a GIL each collection is a full one")
def test_young_collections_leave_it_alone() -> None:
    """Only full collections count."""
    pool: Pool[Any] = Pool()
    pool.put("kept")
    for _ in range(5):
        gc.collect(0)
        gc.collect(1)
    assert pool.get() == "kept"


def test_destructors_may_use_the_pool() -> None:
    """What the collector drops may put and get while it goes."""
    pool: Pool[Any] = Pool()
    gone: list[int] = []

    class Watched:
        def __init__(self, i: int) -> None:
            self.i = i

        def __del__(self) -> None:
            gone.append(self.i)
            pool.put(self.i)
            Pool(list).get()

    for i in range(20):
        pool.put(Watched(i))
    for _ in range(3):
        gc.collect()
    until(lambda: len(gone) == 20, "that all are gone")
    assert sorted(gone) == list(range(20))


def test_the_pool_goes_with_what_it_holds() -> None:
    """A Pool drops its objects when it goes, and the next collections do not miss it."""
    pool: Pool[Any] = Pool()
    others = [Pool(), Pool()]
    token = Token()
    refs = [weakref.ref(token), weakref.ref(pool)]
    pool.put(token)
    gc.collect()
    pool.put(Token())
    del token, pool
    until(lambda: not any(ref() for ref in refs), "that both are gone")
    gc.collect()
    others[0].put(1)


def test_pools_in_pools() -> None:
    """A long chain of Pools, each the content of the next, is let go of."""
    pool: Pool[Any] = Pool()
    for _ in range(scaled(20_000)):
        pool, inner = Pool(), pool
        pool.put(inner)
    del pool, inner
    gc.collect()
    assert Pool().get() is None


def test_a_pool_in_a_cycle() -> None:
    """What refers to the Pool that holds it is collected with it."""
    token: Any = Token()
    token.pool = Pool(token.__class__)
    token.pool.put(token)
    ref = weakref.ref(token)
    del token
    for _ in range(3):
        gc.collect()
    assert ref() is None


def test_repr() -> None:
    """The repr names the type and its place."""
    assert "Pool" in repr(Pool())
    assert "0x" in repr(Pool())


def test_between_threads_and_goroutines() -> None:
    """No object is handed out to two at a time, whatever collects meanwhile."""
    pool: Pool[list[int]] = Pool(list)
    failures: list[object] = []

    def body() -> None:
        for i in range(scaled(300)):
            mine = pool.get()
            mine.append(1)
            if i % 50 == 0:
                gosched()
            if mine != [1]:
                failures.append(mine)
            mine.clear()
            pool.put(mine)
            if i % 100 == 0:
                gc.collect()

    threads = [threading.Thread(target=body, daemon=True) for _ in range(3)]
    for thread in threads:
        thread.start()
    for g in [go(body) for _ in range(3)]:
        g.join()
    until(lambda: not any(t.is_alive() for t in threads), "that the threads have ended")
    assert failures == []
