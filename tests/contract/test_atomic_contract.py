"""goroutines.sync.atomic from the contract: Int64, Bool and Value, also between threads."""

from __future__ import annotations

import gc
import random
import threading
import weakref
from collections.abc import Callable
from typing import Any

import pytest

from goroutines import gosched, sync
from goroutines.sync.atomic import Bool, Int64, Value

from ..conftest import Token, all_of, scaled, until

HIGHEST = 2**63 - 1
LOWEST = -(2**63)


def race(*bodies: Callable[[], object]) -> None:
    """Run each body in a plain thread of its own and the first in a goroutine as well."""
    start = threading.Barrier(len(bodies))

    def body(fn: Callable[[], object]) -> None:
        start.wait()
        fn()

    threads = [threading.Thread(target=body, args=(fn,), daemon=True) for fn in bodies]
    for thread in threads:
        thread.start()
    all_of(1, lambda i: bodies[0]())
    until(lambda: not any(t.is_alive() for t in threads), "that the threads ended")


def test_module() -> None:
    """atomic is reached as an attribute of sync."""
    assert sync.atomic.Int64 is Int64


# --- Int64 ------------------------------------------------------------------------------------


def test_int64_operations() -> None:
    """add answers the new value, swap the old one, compare_and_swap whether it did."""
    n = Int64()
    assert n.load() == 0
    n.store(5)
    assert n.add(3) == 8
    assert n.add(-10) == -2
    assert n.swap(7) == -2
    assert n.compare_and_swap(8, 1) is False
    assert n.load() == 7
    assert n.compare_and_swap(7, 1) is True
    assert n.load() == 1
    assert Int64(4).load() == 4


@pytest.mark.parametrize("value", [HIGHEST, LOWEST, 0, -1, 2**32])
def test_int64_holds_its_range(value: int) -> None:
    """Every number of 64 bits is kept as it is."""
    n = Int64()
    n.store(value)
    assert n.load() == value
    assert n.swap(value) == value
    assert n.compare_and_swap(value, value) is True


def test_int64_wraps() -> None:
    """Adding beyond either end comes in at the other, as in Go."""
    n = Int64()
    n.store(HIGHEST)
    assert n.add(1) == LOWEST
    assert n.load() == LOWEST
    assert n.add(-1) == HIGHEST
    assert n.add(HIGHEST) == -2
    n.store(LOWEST)
    assert n.add(LOWEST) == 0


@pytest.mark.parametrize("bad", ["1", None, 1.5, []])
def test_int64_wrong_types(bad: Any) -> None:
    """What is no integer is a TypeError and changes nothing."""
    n: Any = Int64()
    for use in (n.store, n.add, n.swap, lambda v: n.compare_and_swap(0, v)):
        with pytest.raises(TypeError):
            use(bad)
    assert n.load() == 0


def test_int64_add_between_threads() -> None:
    """No addition is lost, and each answers a number of its own."""
    n, rounds = Int64(), scaled(2000)
    seen: list[list[int]] = []

    def body() -> None:
        seen.append([n.add(1) for _ in range(rounds)])

    race(*[body] * 4)
    assert n.load() == 5 * rounds
    assert sorted(v for part in seen for v in part) == list(range(1, 5 * rounds + 1))
    assert all(part == sorted(part) for part in seen)


def test_int64_compare_and_swap_between_threads() -> None:
    """Of all that swap the same number, exactly one succeeds."""
    n, wins, rounds = Int64(), Int64(), scaled(500)

    def body() -> None:
        for i in range(rounds):
            if n.compare_and_swap(i, i + 1):
                wins.add(1)

    race(*[body] * 4)
    assert wins.load() == n.load()
    assert 1 <= n.load() <= rounds


def test_int64_swap_between_threads() -> None:
    """Each number that was swapped in comes out exactly once."""
    n, ids, out = Int64(), Int64(), []

    def body() -> None:
        for _ in range(500):
            out.append(n.swap(ids.add(1)))

    race(*[body] * 4)
    assert sorted([*out, n.load()]) == list(range(ids.load() + 1))


# --- Bool -------------------------------------------------------------------------------------


def test_bool_operations() -> None:
    """A Bool starts False and answers real bools."""
    b = Bool()
    assert b.load() is False
    b.store(True)
    assert b.load() is True
    assert b.swap(False) is True
    assert b.compare_and_swap(True, False) is False
    assert b.compare_and_swap(False, True) is True
    assert b.load() is True
    assert Bool(True).load() is True


def test_bool_is_a_latch_between_threads() -> None:
    """Of all that close a latch at once, one finds it open."""
    for _ in range(scaled(20)):
        b, first = Bool(), Int64()

        def body(b: Any = b, first: Any = first) -> None:
            if b.compare_and_swap(False, True):
                first.add(1)
            if not b.swap(True):
                first.add(1)

        race(*[body] * 3)
        assert first.load() == 1


# --- Value ------------------------------------------------------------------------------------


def test_value_operations() -> None:
    """A Value holds any object, None before the first store."""
    v: Any = Value()
    assert v.load() is None
    token = Token()
    v.store(token)
    assert v.load() is token
    assert v.swap("next") is token
    assert v.compare_and_swap("other", 1) is False
    assert v.load() == "next"
    assert v.compare_and_swap("next", 1) is True
    assert v.load() == 1


def test_value_compares_by_identity_or_equality() -> None:
    """The same object matches though it equals nothing; equal ones match as well."""
    v: Any = Value()
    nan = float("nan")
    v.store(nan)
    assert v.compare_and_swap(float("nan"), 1) is False
    assert v.compare_and_swap(nan, [1]) is True
    assert v.compare_and_swap([1], "done") is True
    assert v.load() == "done"


def test_value_comparison_that_raises() -> None:
    """An exception out of == comes through and changes nothing."""

    class Bad:
        def __eq__(self, other: object) -> bool:
            raise KeyError("==")

    v: Any = Value()
    bad = Bad()
    v.store(bad)
    with pytest.raises(KeyError):
        v.compare_and_swap(Bad(), 1)
    assert v.load() is bad


def test_value_comparison_never_overwrites_a_newer_value() -> None:
    """A store that happens within the comparison is not lost."""
    v: Any = Value()

    class Old:
        def __eq__(self, other: object) -> bool:
            gosched()
            v.store("newer")
            return isinstance(other, Old)

        __hash__ = object.__hash__

    v.store(Old())
    assert v.compare_and_swap(Old(), "mine") is False
    assert v.load() == "newer"


def test_value_lets_go() -> None:
    """What is replaced is freed, and so is a cycle through the Value."""
    v: Any = Value()
    token = Token()
    ref = weakref.ref(token)
    v.store(token)
    del token
    v.swap(None)
    gc.collect()
    assert ref() is None

    holder: Any = Token()
    holder.value = Value()
    holder.value.store(holder)
    ref = weakref.ref(holder)
    del holder
    gc.collect()
    assert ref() is None


def test_value_between_threads() -> None:
    """Loads see whole objects; swaps hand each object to one taker."""
    v: Any = Value()
    made, out = Int64(), []

    def body() -> None:
        for _ in range(scaled(500)):
            old = v.swap((made.add(1), Token()))
            if old is not None:
                out.append(old[0])
            assert isinstance(v.load()[1], Token)

    race(*[body] * 4)
    out.append(v.load()[0])
    assert sorted(out) == list(range(1, made.load() + 1))


def test_value_stack_between_threads() -> None:
    """A linked list kept by compare_and_swap alone neither loses nor doubles an element."""
    top: Any = Value()
    made, out = Int64(), []

    def body() -> None:
        chance = random.Random(threading.get_ident())
        for _ in range(scaled(200)):
            node = [made.add(1), top.load()]
            while not top.compare_and_swap(node[1], node):
                node[1] = top.load()
            if chance.random() < 0.5:
                old = top.load()
                while not top.compare_and_swap(old, old[1]):
                    old = top.load()
                out.append(old[0])

    race(*[body] * 4)
    node = top.load()
    while node is not None:
        out.append(node[0])
        node = node[1]
    assert sorted(out) == list(range(1, made.load() + 1))
