"""goroutines.sync as a module: its names, Map, once_func and once_value."""

from __future__ import annotations

import importlib
import inspect
import random
import threading
from typing import Any

import pytest

import goroutines
from goroutines import Chan, go, gosched, runtime, sync
from goroutines.sync import Map, once_func, once_value

from .conftest import parked, scaled, until

# --- the module -------------------------------------------------------------------------------


@pytest.mark.parametrize("module", ["goroutines.sync", "goroutines.sync.atomic"])
def test_names(module: str) -> None:
    """Each public name is there, sorted, and documented."""
    found = importlib.import_module(module)
    assert list(found.__all__) == sorted(found.__all__)
    for name in found.__all__:
        assert (inspect.getdoc(getattr(found, name)) or "").strip(), name


@pytest.mark.parametrize("name", ["Cond", "Mutex", "Once", "RWMutex", "Semaphore", "WaitGroup"])
def test_reexports(name: str) -> None:
    """What a program needs every day is the same object in goroutines."""
    assert getattr(goroutines, name) is getattr(sync, name)


def test_the_two_pools_differ() -> None:
    """goroutines.Pool is not the cache."""
    assert getattr(goroutines, "Pool", None) is not sync.Pool


def test_generics() -> None:
    """Map, Pool and Value take their types at run time as well."""
    assert Map[str, int]().load("x") == (None, False)
    assert sync.Pool[int]().get() is None
    assert sync.atomic.Value[int](1).load() == 1


@pytest.mark.parametrize("name", ["Cond", "Mutex", "Once", "RWMutex", "Semaphore", "Pool"])
def test_types_are_immutable(name: str) -> None:
    """The types can be neither changed nor subclassed, and their module is goroutines.sync."""
    cls: Any = getattr(sync, name)
    with pytest.raises(TypeError):
        cls.extra = 1
    with pytest.raises(TypeError):
        type("Sub", (cls,), {})
    assert cls.__module__ == "goroutines.sync"
    assert cls.__name__ == name


# --- Map --------------------------------------------------------------------------------------


def test_map_results() -> None:
    """The results have Go's shapes."""
    m: Map[str, int] = Map()
    assert m.load("a") == (None, False)
    assert m.store("a", 1) is None
    assert m.load("a") == (1, True)
    assert m.load_or_store("a", 2) == (1, True)
    assert m.load_or_store("b", 2) == (2, False)
    assert m.swap("a", 3) == (1, True)
    assert m.swap("c", 4) == (None, False)
    assert m.load_and_delete("c") == (4, True)
    assert m.load_and_delete("c") == (None, False)
    assert m.delete("b") is None
    assert m.delete("b") is None
    assert len(m) == 1
    assert m.clear() is None
    assert len(m) == 0


def test_map_compare() -> None:
    """compare_and_swap and compare_and_delete change what equals, and only that."""
    m: Map[str, Any] = Map()
    assert m.compare_and_swap("a", None, 1) is False
    assert m.compare_and_delete("a", None) is False
    m.store("a", [1])
    assert m.compare_and_swap("a", [2], 0) is False
    assert m.compare_and_swap("a", [1], 2) is True
    assert m.compare_and_delete("a", 1) is False
    assert m.load("a") == (2, True)
    assert m.compare_and_delete("a", 2.0) is True
    assert m.load("a") == (None, False)


def test_map_holds_none() -> None:
    """None is a value like any other, told from absence by ok."""
    m: Map[None, None] = Map()
    m.store(None, None)
    assert m.load(None) == (None, True)
    assert m.load_or_store(None, None) == (None, True)
    assert m.compare_and_swap(None, None, None) is True
    assert m.load_and_delete(None) == (None, True)


def test_map_unhashable_key() -> None:
    """A key that is not hashable is a TypeError everywhere, and leaves the Map usable."""
    m: Map[Any, int] = Map()
    for call in (
        lambda: m.load([]),
        lambda: m.store([], 1),
        lambda: m.load_or_store([], 1),
        lambda: m.load_and_delete([]),
        lambda: m.delete([]),
        lambda: m.swap([], 1),
        lambda: m.compare_and_swap([], 1, 2),
        lambda: m.compare_and_delete([], 1),
    ):
        with pytest.raises(TypeError):
            call()
    m.store(1, 1)
    assert m.load(1) == (1, True)


def test_map_range() -> None:
    """range calls for each key until False comes back; other false values go on."""
    m: Map[int, int] = Map()
    for i in range(5):
        m.store(i, i * i)
    seen: list[tuple[int, int]] = []
    assert m.range(lambda k, v: seen.append((k, v))) is None
    assert sorted(seen) == [(i, i * i) for i in range(5)]
    for answer, calls in ((None, 5), (0, 5), ("", 5), (True, 5), (False, 1)):
        seen.clear()
        m.range(lambda k, v, answer=answer: (seen.append((k, v)), answer)[1])
        assert len(seen) == calls
    with pytest.raises(TypeError):
        m.range(3)  # type: ignore[arg-type]
    with pytest.raises(ZeroDivisionError):
        m.range(lambda k, v: 1 // 0)


def test_map_range_of_a_map_that_changes() -> None:
    """Keys that are deleted meanwhile do not come any more, none comes twice."""
    m: Map[int, int] = Map()
    for i in range(100):
        m.store(i, 0)
    seen: list[int] = []

    def visit(key: int, value: int) -> None:
        seen.append(key)
        m.store(key + 1000, 0)
        m.store(key, 1)
        for other in range(0, 100, 2):
            if other != key:
                m.delete(other)

    m.range(visit)
    old = [key for key in seen if key < 100]
    assert len(seen) == len(set(seen))
    assert set(range(1, 100, 2)) <= set(old)
    assert sum(key % 2 == 0 for key in old) <= 1


def test_map_clear_during_range() -> None:
    """After clear() nothing more comes."""
    m: Map[int, int] = Map()
    for i in range(10):
        m.store(i, i)
    seen: list[int] = []
    m.range(lambda k, v: (seen.append(k), m.clear())[1])
    assert len(seen) == 1
    assert len(m) == 0


def test_map_destructors_may_use_it() -> None:
    """What is replaced, deleted or cleared goes when the Map is free for others."""
    m: Map[int, Any] = Map()
    gone: list[int] = []

    class Watched:
        def __del__(self) -> None:
            m.store(99, len(gone))
            gone.append(1)

    for change in (
        lambda: m.store(1, 0),
        lambda: m.swap(1, 0),
        lambda: m.delete(1),
        lambda: m.load_and_delete(1),
        m.clear,
        lambda: m.compare_and_swap(1, m.load(1)[0], 0),
        lambda: m.compare_and_delete(1, m.load(1)[0]),
    ):
        m.store(1, Watched())
        before = len(gone)
        change()
        until(lambda before=before: len(gone) == before + 1, "that it is gone")
    assert m.load(99) == (6, True)


def test_map_whose_keys_and_values_let_others_run() -> None:
    """Goroutines that meet in a key's hash, or in ==, do not block each other for ever."""
    m: Map[Any, Any] = Map()

    class Slow:
        def __hash__(self) -> int:
            gosched()
            return 1

        def __eq__(self, other: object) -> bool:
            gosched()
            return True

    def body() -> None:
        for _ in range(10):
            m.store(Slow(), Slow())
            m.load_or_store(Slow(), 1)
            m.compare_and_swap(Slow(), Slow(), Slow())
            m.swap(Slow(), 2)
            m.delete(Slow())

    for g in [go(body) for _ in range(5)]:
        g.join()
    assert len(m) <= 1


def test_map_between_threads() -> None:
    """Counting by compare_and_swap is exact, and one of many is the one that stored."""
    m: Map[str, int] = Map()
    m.store("n", 0)
    rounds = scaled(300)
    firsts: list[int] = []

    def body() -> None:
        for i in range(rounds):
            while True:
                n, ok = m.load("n")
                assert ok
                assert n is not None
                if m.compare_and_swap("n", n, n + 1):
                    break
            if not m.load_or_store(f"key {i}", i)[1]:
                firsts.append(i)

    threads = [threading.Thread(target=body, daemon=True) for _ in range(4)]
    for thread in threads:
        thread.start()
    until(lambda: not any(t.is_alive() for t in threads), "that the threads have ended")
    assert m.load("n") == (4 * rounds, True)
    assert sorted(firsts) == list(range(rounds))


def test_map_as_a_dict_would() -> None:
    """A random sequence of calls leaves what the same on a dict leaves."""
    rng = random.Random(5)
    m: Map[int, int] = Map()
    model: dict[int, int] = {}
    for _ in range(scaled(3000)):
        key, old, new = rng.randrange(8), rng.randrange(3), rng.randrange(3)
        had = (model.get(key), key in model)
        way = rng.randrange(7)
        if way == 0:
            m.store(key, new)
            model[key] = new
        elif way == 1:
            assert m.load_or_store(key, new) == (model.setdefault(key, new), had[1])
        elif way == 2:
            assert m.load_and_delete(key) == had
            model.pop(key, None)
        elif way == 3:
            assert m.swap(key, new) == had
            model[key] = new
        elif way == 4:
            assert m.compare_and_swap(key, old, new) is (had == (old, True))
            if had == (old, True):
                model[key] = new
        elif way == 5:
            assert m.compare_and_delete(key, old) is (had == (old, True))
            if had == (old, True):
                del model[key]
        else:
            assert m.load(key) == had
        assert len(m) == len(model)
    seen: dict[int, int] = {}
    m.range(seen.__setitem__)
    assert seen == model


# --- once_func, once_value --------------------------------------------------------------------


def test_once_value() -> None:
    """The function runs once; all calls return what it returned. It works as a decorator."""
    calls: list[int] = []

    @once_value
    def answer() -> int:
        """The answer."""
        calls.append(1)
        return 42

    assert [answer(), answer()] == [42, 42]
    assert calls == [1]
    assert answer.__doc__ == "The answer."


def test_once_func() -> None:
    """The function runs once, and what it returns is dropped."""
    calls: list[int] = []
    run_once = once_func(lambda: calls.append(1) or 7)
    assert run_once() is None
    assert run_once() is None
    assert calls == [1]


@pytest.mark.parametrize("make", [once_func, once_value])
def test_once_raises_the_same_again(make: Any) -> None:
    """Each call raises the very exception, whose traceback does not grow."""
    calls: list[int] = []

    def fail() -> None:
        calls.append(1)
        raise KeyError("first")

    fn = make(fail)
    raised: list[BaseException] = []
    depths: list[int] = []
    for _ in range(5):
        try:
            fn()
        except KeyError as error:
            raised.append(error)
            tb, depth = error.__traceback__, 0
            while tb is not None:
                tb, depth = tb.tb_next, depth + 1
            depths.append(depth)
    assert calls == [1]
    assert len({id(error) for error in raised}) == 1
    assert depths[1:] == depths[1:2] * 4


def test_once_value_waits_for_the_first() -> None:
    """Calls that come while it runs wait for its result."""
    gate: Chan[int] = Chan()
    value = once_value(gate.recv)
    results: list[int] = []
    gs = [go(lambda: results.append(value())) for _ in range(4)]
    parked(*gs)
    gate.send(5)
    for g in gs:
        g.join()
    assert results == [5] * 4


def test_once_value_after_goexit() -> None:
    """A function that ends its goroutine lets nobody wait for ever."""
    value = once_value(runtime.goexit)
    gs = [go(value) for _ in range(3)]
    for g in gs:
        g.join()
    assert all(g.done for g in gs)


@pytest.mark.parametrize("make", [once_func, once_value])
@pytest.mark.parametrize("fn", [None, 3])
def test_once_not_callable(make: Any, fn: Any) -> None:
    """What cannot be called is a TypeError at once."""
    with pytest.raises(TypeError):
        make(fn)
