"""Blocks: the collector, free lists, deep chains, no leaks, copies and pickles in cycles."""

from __future__ import annotations

import copy
import gc
import pickle
import sys
import threading
import weakref
from typing import Any

import pytest

from goroutines import _runtime
from goroutines.memory import (
    Array,
    Map,
    Pointer,
    Slice,
    append,
    array_of,
    byte,
    clear,
    extend,
    int64,
    make,
    new,
    slice_of,
    string,
)
from goroutines.memory import copy as copy_elements

from ..conftest import Token, scaled


def test_numbers_are_not_tracked() -> None:
    """Only what holds references is the collector's concern."""
    numbers: list[Any] = [make(Slice[byte], 3), Array[int64, 2](), new(int64), Slice[int64]()]
    assert not any(map(gc.is_tracked, numbers))
    others: list[Any] = [make(Slice[string], 3), Array[object, 2](), new(object), Slice[object]()]
    assert all(map(gc.is_tracked, others))


def cycles() -> list[Any]:
    """Values that hold themselves, each in its way."""
    a = make(Slice[object], 1)
    a[0] = a[:]
    b = Array[object, 1]()
    b[0] = b
    c = new(object)
    c.value = c
    d = Map[str, object]()
    d["self"] = d
    e = make(Slice[object], 1)
    e[0] = iter(e)
    f = Map[str, object]()
    f["iterator"] = f.items()
    return [a, b, c, d, e, f]


@pytest.mark.parametrize("which", range(6))
def test_cycles_are_collected(which: int) -> None:
    """A value that holds itself goes with the next collection, and all that it holds."""
    value, token = cycles()[which], Token()
    watch = weakref.ref(token)
    hold = make(Slice[object], 2)
    hold[0], hold[1] = token, value
    if isinstance(value, Map):
        value["hold"] = hold
    elif isinstance(value, Pointer):
        value.value = (value, hold)
    else:
        value[0] = (value[0], hold)
    del value, token, hold
    gc.collect()
    assert watch() is None


def test_values_in_cycles_are_shown() -> None:
    """repr ends where a value comes again."""
    assert [repr(value) for value in cycles()[:4]] == [
        "Slice[object]([Slice[object]([...])])",
        "Array[object, 1]([...])",
        "<Pointer[object] to ...>",
        "Map[string, object]({'self': ...})",
    ]
    for value in cycles()[:4]:
        assert "..." in str(value)


@pytest.mark.parametrize("which", [0, 1, 2, 3])
def test_values_in_cycles_are_pickled(which: int) -> None:
    """Pickles and deep copies keep the cycle; a slice and its part become two."""
    value = cycles()[which]
    for other in (pickle.loads(pickle.dumps(value)), copy.deepcopy(value)):
        assert type(other) is type(value)
        inside = (
            other.value
            if isinstance(other, Pointer)
            else other["self"]
            if isinstance(other, Map)
            else other[0]
        )
        assert inside is other or (which == 0 and inside[0] is inside)


def test_hash_and_comparison_of_cycles() -> None:
    """What would go on for ever is a RecursionError."""
    a, b = Array[object, 1](), Array[object, 1]()
    a[0], b[0] = b, a
    with pytest.raises(RecursionError):
        hash(a)
    with pytest.raises(RecursionError):
        assert a == b


def test_deep_chains() -> None:
    """Long chains of every kind are freed without using up the C stack."""
    for link in (
        lambda last: slice_of(object, last),
        lambda last: array_of(object, last),
        lambda last: Map[str, object]({"next": last}),
        lambda last: slice_of(object, iter(slice_of(object, last))),
        lambda last: slice_of(object, Map[str, object]({"next": last}).items()),
    ):
        chain: Any = None
        for _ in range(scaled(50_000)):
            chain = link(chain)
        del chain


def blocks() -> int:
    """How many blocks of the allocator are in use."""
    from goroutines import runtime

    stats = runtime.read_mem_stats()
    return stats.mallocs - stats.frees


def use_everything() -> None:
    """Each function once, what fails too."""
    s = append(make(Slice[byte], 2, 3), 1)
    s = append(s, 2, 3)
    view = memoryview(s)
    for bad in (300, "x"):
        with pytest.raises((OverflowError, TypeError)):
            append(s, 1, bad)
        with pytest.raises((OverflowError, TypeError)):
            slice_of(byte, 1, bad)
        with pytest.raises((OverflowError, TypeError)):
            array_of(byte, 1, bad)
        with pytest.raises((OverflowError, TypeError)):
            s[0:2] = [1, bad]
    view.release()
    rows = make(Slice[Array[string, 2]], 2)
    rows[0] = ["a", "b"]
    rows = append(rows, rows[0])
    assert rows[0] == rows[2]
    clear(rows)
    m = Map[Array[int64, 2], Slice[object]]()
    m[Array[int64, 2]([1, 2])] = slice_of(object, [])
    assert [len(k) for k in m] == [2]
    assert pickle.loads(pickle.dumps(m)) == m
    p = new(Array[object, 2])
    p.value = [Token(), None]
    assert "Token" in repr(p)
    assert str(rows[0]) == "[ ]"


def test_no_leaks() -> None:
    """Doing everything again and again takes no more memory and no more references."""
    use_everything()
    gc.collect()
    before = blocks(), sys.getrefcount(Slice[byte]), sys.getrefcount(Token)
    for _ in range(scaled(200, least=20)):
        use_everything()
    gc.collect()
    assert abs(blocks() - before[0]) <= 2
    assert abs(sys.getrefcount(Slice[byte]) - before[1]) <= 2
    assert abs(sys.getrefcount(Token) - before[2]) <= 2


def test_recycled_headers_are_clean() -> None:
    """More headers than a free list holds, of both kinds, in turns."""
    for _ in range(3):
        numbers = [make(Slice[int64], 1) for _ in range(1000)]
        objects = [slice_of(object, i) for i in range(1000)]
        assert all(s[0] == 0 for s in numbers)
        assert [s[0] for s in objects] == list(range(1000))
        assert not any(map(gc.is_tracked, numbers))
        assert all(map(gc.is_tracked, objects))
        numbers.clear()
        objects.clear()


def test_a_destructor_that_comes_back() -> None:
    """A destructor may use the slice that it is dropped from, while it is cleared."""
    seen: list[int] = []

    class Late:
        def __del__(self) -> None:
            s[1:][0] = None
            seen.append(len(append(s, None)))

    s = slice_of(object, Late(), Late(), Late())
    clear(s)
    assert seen == [4, 4, 4]
    assert list(s) == [None] * 3


def test_threads_exchange_references() -> None:
    """Threads that store into the same elements lose and leak nothing."""
    s = make(Slice[object], 4)
    tokens = [Token() for _ in range(50)]
    counts = [sys.getrefcount(t) for t in tokens]

    def work(seed: int) -> None:
        for i in range(scaled(3000)):
            s[(i + seed) % 4] = tokens[(i * 7 + seed) % 50]
            assert isinstance(s[i % 4], (Token, type(None)))
            if i % 100 == 0:
                clear(append(s, *s))
                s[:2] = s[2:]

    threads = [threading.Thread(target=work, args=(n,)) for n in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    clear(s)
    assert [sys.getrefcount(t) for t in tokens] == counts


def test_without_the_public_module() -> None:
    """The core alone can show its values."""
    assert repr(_runtime.slice_of(_runtime.int8, 1)) == "Slice[int8]([1])"


def test_setstate_is_careful() -> None:
    """What a damaged pickle might do is an exception."""
    s: Any = make(Slice[object], 2)
    for wrong in ([1, 2], (1,), None, (1, 2, 3)):
        with pytest.raises((TypeError, ValueError)):
            s.__setstate__(wrong)
    with pytest.raises(OverflowError):
        make(Slice[byte], 1).__setstate__((300,))  # type: ignore[attr-defined]


LARGE = 100_000


def write_through_view(s: Any) -> None:
    """Write after the slice that the view was made of is gone."""
    view = memoryview(s[70_000:80_000])
    del s
    view[9_999] = 1


WRITES: list[Any] = [
    lambda s: s.__setitem__(LARGE - 1, 1),
    lambda s: append(s[:50_000], 1),
    lambda s: append(s[:50_000], 1, 2, 3),
    lambda s: extend(s[:90_000], b"\1" * 5_000),
    lambda s: extend(s[:90_000], slice_of(byte, 1, 2)),
    lambda s: copy_elements(s[60_000:], b"\1\2\3"),
    lambda s: copy_elements(s[60_000:], slice_of(byte, 1, 2)),
    lambda s: s.__setitem__(slice(5_000, 5_002), [1, 2]),
    lambda s: s.__setitem__(slice(99_000, 99_002), b"\1\2"),
    lambda s: clear(append(s[:10], 1)),
    write_through_view,
]


@pytest.mark.parametrize("which", range(len(WRITES)))
def test_large_memory_is_zero_again(which: int) -> None:
    """However a large slice was written to, who gets its memory next finds zeros."""
    nothing = bytes(LARGE)
    for _ in range(4):
        s = make(Slice[byte], LARGE)
        assert bytes(s) == nothing
        del s
        WRITES[which](make(Slice[byte], LARGE))


def test_large_memory_of_others_is_zero_again() -> None:
    """So it is after grown slices, rows, pointers, arrays and references."""
    for _ in range(4):
        grown = Slice[int64]()
        for i in range(LARGE // 8):
            grown = append(grown, i + 1)
        rows = make(Slice[Array[byte, 1000]], 100)
        rows[99][999] = 1
        rows[98] = rows[99]
        place = new(Array[byte, LARGE])
        place.value[LARGE - 1] = 1
        names = make(Slice[string], LARGE // 8)
        names[LARGE // 8 - 1] = "x"
        found = Array[byte, LARGE](b"\1" * LARGE)
        kinds = [byte] * 4 + [string]
        del grown, rows, place, names, found
        for kind in kinds:
            n = LARGE if kind is byte else LARGE // 8
            s = make(Slice[kind], n)
            assert not any(s)
            assert bytes(s) == bytes(LARGE) if kind is byte else list(s) == [""] * n
