"""Int64, Bool and Value: results, limits, types, and exactness between threads."""

from __future__ import annotations

import gc
import threading
import weakref
from typing import Any

import pytest

from goroutines.sync.atomic import Bool, Int64, Value

from ..conftest import Token, scaled, until

MAX, MIN = 2**63 - 1, -(2**63)


def in_threads(count: int, fn: Any) -> None:
    """Run fn in plain threads at the same time, to the end."""
    threads = [threading.Thread(target=fn, daemon=True) for _ in range(count)]
    for thread in threads:
        thread.start()
    until(lambda: not any(t.is_alive() for t in threads), "that the threads have ended")


def test_int64() -> None:
    """load, store, add (the new value), swap (the old one), compare_and_swap (whether)."""
    i = Int64()
    assert i.load() == 0
    assert i.store(5) is None
    assert i.add(2) == 7
    assert i.add(-10) == -3
    assert i.swap(9) == -3
    assert i.compare_and_swap(8, 1) is False
    assert i.compare_and_swap(9, 1) is True
    assert i.compare_and_swap(old=1, new=4) is True
    assert i.load() == 4
    assert Int64(7).load() == Int64(value=7).load() == 7


def test_int64_wraps() -> None:
    """add wraps around at 64 bits, both ways."""
    i = Int64(MAX)
    assert i.add(1) == MIN
    assert i.add(-1) == MAX
    assert i.add(MAX) == -2
    assert i.add(MIN) == MAX - 1


@pytest.mark.parametrize("n", [MAX + 1, MIN - 1, 2**200])
def test_int64_overflow(n: int) -> None:
    """What does not fit is an OverflowError and changes nothing; it equals nothing stored."""
    i = Int64(3)
    for store in (Int64, i.store, i.swap, i.add):
        with pytest.raises(OverflowError, match="64"):
            store(n)
    with pytest.raises(OverflowError):
        i.compare_and_swap(3, n)
    assert i.compare_and_swap(n, 4) is False
    assert i.load() == 3


@pytest.mark.parametrize("n", ["1", 1.5, None])
def test_int64_types(n: Any) -> None:
    """What is no int is a TypeError and changes nothing."""
    i = Int64(3)
    for store in (Int64, i.store, i.swap, i.add):
        with pytest.raises(TypeError):
            store(n)
    with pytest.raises(TypeError):
        i.compare_and_swap(3, n)
    with pytest.raises(TypeError):
        i.compare_and_swap(3)  # type: ignore[call-arg]
    assert i.load() == 3


def test_int64_between_threads() -> None:
    """No addition is lost, and each sees a number of its own."""
    i, counted = Int64(), Int64()
    rounds = scaled(2000)
    seen: list[list[int]] = []

    def body() -> None:
        mine = [i.add(1) for _ in range(rounds)]
        seen.append(mine)
        for _ in range(rounds):
            while not counted.compare_and_swap(old := counted.load(), old + 1):
                pass

    in_threads(4, body)
    assert sorted(n for mine in seen for n in mine) == list(range(1, 4 * rounds + 1))
    assert counted.load() == 4 * rounds


def test_bool() -> None:
    """load, store, swap and compare_and_swap give real bools."""
    b = Bool()
    assert b.load() is False
    assert b.store(True) is None
    assert b.load() is True
    assert b.swap(False) is True
    assert b.compare_and_swap(True, True) is False
    assert b.compare_and_swap(False, True) is True
    assert b.compare_and_swap(old=True, new=False) is True
    assert Bool(True).load() is Bool(value=True).load() is True


def test_bool_between_threads() -> None:
    """Of those who set it at the same time one was the first."""
    for _ in range(scaled(20)):
        b = Bool()
        firsts: list[bool] = []
        in_threads(4, lambda b=b, firsts=firsts: firsts.append(b.compare_and_swap(False, True)))
        assert sorted(firsts) == [False, False, False, True]


def test_value() -> None:
    """load, store and swap hand out the very objects."""
    a, b = object(), object()
    v: Value[object] = Value()
    assert v.load() is None
    assert v.store(a) is None
    assert v.load() is a
    assert v.swap(b) is a
    assert v.swap(None) is b
    assert Value(a).load() is Value(value=a).load() is a
    assert Value[int](3).load() == 3


def test_value_compares_by_identity_or_equality() -> None:
    """The same object swaps though it equals nothing, and so does an equal one."""
    nan = float("nan")
    v: Value[Any] = Value(nan)
    assert v.compare_and_swap(float("nan"), 1) is False
    assert v.compare_and_swap(nan, [1]) is True
    assert v.compare_and_swap(old=[2], new=0) is False
    assert v.compare_and_swap(old=[1], new=0) is True
    assert v.load() == 0


def test_value_whose_comparison_raises() -> None:
    """What == raises comes out, and nothing is changed."""

    class Bad:
        def __eq__(self, other: object) -> bool:
            raise KeyError("eq")

    v: Value[object] = Value(Bad())
    with pytest.raises(KeyError):
        v.compare_and_swap(1, 2)
    assert isinstance(v.load(), Bad)


def test_value_changed_by_its_comparison() -> None:
    """If == itself stores another value, that one is compared."""
    v: Value[Any] = Value()

    class Sly:
        def __eq__(self, other: object) -> bool:
            v.store("other")
            return True

    v.store(Sly())
    assert v.compare_and_swap(1, 2) is False
    assert v.load() == "other"


def test_value_drops_the_old_one_unlocked() -> None:
    """The destructor of what is replaced may use the Value."""
    seen: list[object] = []
    v: Value[Any] = Value()

    class Watched:
        def __del__(self) -> None:
            seen.append(v.load())

    v.store(Watched())
    v.store(1)
    v.store(Watched())
    assert v.compare_and_swap(v.load(), 2)
    gc.collect()
    until(lambda: len(seen) == 2, "that both are gone")
    assert seen == [1, 2]


def test_value_between_threads() -> None:
    """compare_and_swap on tuples counts exactly."""
    v: Value[tuple[int]] = Value((0,))
    rounds = scaled(500)

    def body() -> None:
        for _ in range(rounds):
            while not v.compare_and_swap(old := v.load(), (old[0] + 1,)):
                pass

    in_threads(4, body)
    assert v.load() == (4 * rounds,)


def test_value_in_a_cycle() -> None:
    """A Value that holds what refers to it is collected."""
    token: Any = Token()
    token.value = Value(token)
    ref = weakref.ref(token)
    del token
    gc.collect()
    assert ref() is None


def test_value_of_itself() -> None:
    """The repr of a Value that holds itself ends."""
    v: Value[Any] = Value()
    v.store(v)
    assert "Value" in repr(v)
    v.store(None)


@pytest.mark.parametrize("make", [Int64, Bool, Value])
def test_repr_and_weak_reference(make: Any) -> None:
    """The repr shows the value; all can be watched."""
    v = make(True)
    before = repr(v)
    assert make.__name__ in before
    v.store(False)
    assert repr(v) != before
    ref = weakref.ref(v)
    del v
    until(lambda: ref() is None, "that it is gone")
