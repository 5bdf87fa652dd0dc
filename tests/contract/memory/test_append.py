"""append from the contract: in place within the capacity, moving beyond it, sharing."""

from __future__ import annotations

from typing import Any

import pytest

from goroutines.memory import Slice, append, byte, cap, int64, make, slice_of, string

from .tools import VALUES, every_type, numbers, typed


@every_type
def test_append(name: str) -> None:
    """Values come behind those that are there; the old slice keeps its length."""
    _, values = VALUES[name]
    s = make(Slice[typed(name)], 0)
    t = append(s, *values)
    u = append(t, values[0], values[1])
    assert (list(s), list(t), list(u)) == ([], values, [*values, values[0], values[1]])
    assert isinstance(t, Slice)
    assert cap(u) >= 5


@every_type
def test_one_by_one(name: str) -> None:
    """Thousands of appended values are all there, in order."""
    _, values = VALUES[name]
    s = make(Slice[typed(name)], 0)
    expected = []
    for i in range(3000):
        s = append(s, values[i % 3])
        expected.append(values[i % 3])
        assert len(s) == i + 1 <= cap(s)
    assert list(s) == expected


def test_nothing() -> None:
    """Appending nothing gives the same elements, len and cap, in the same storage."""
    s = numbers(3, 5)
    t = append(s)
    assert (list(t), len(t), cap(t)) == ([0, 1, 2], 3, 5)
    t[0] = 7
    assert s[0] == 7


@every_type
def test_within_capacity(name: str) -> None:
    """While there is capacity, append writes in place: all who share the array see it."""
    zero, values = VALUES[name]
    s = make(Slice[typed(name)], 2, 4)
    t = append(s, values[0])
    assert (len(s), len(t), cap(t)) == (2, 3, 4)
    assert list(s[:4]) == [zero, zero, values[0], zero]
    u = append(s, values[2], values[1])
    assert list(t) == [zero, zero, values[2]]
    assert list(u) == [zero, zero, values[2], values[1]]
    u[0] = values[0]
    assert s[0] == values[0]


@every_type
def test_beyond_capacity(name: str) -> None:
    """Beyond the capacity the elements move, and nothing is shared any more."""
    zero, values = VALUES[name]
    s = make(Slice[typed(name)], 2)
    t = append(s, values[0])
    t[0] = values[2]
    assert list(s) == [zero, zero]
    assert list(t) == [values[2], zero, values[0]]
    s[1] = values[0]
    assert t[1] == zero


def test_moving_leaves_the_capacity_alone() -> None:
    """An append that has to move writes nothing into the old array."""
    s = make(Slice[int64], 1, 3)
    t = append(s, 1, 2, 3)
    assert list(t) == [0, 1, 2, 3]
    assert list(s[:3]) == [0, 0, 0]


@every_type
def test_grown_capacity_is_zero(name: str) -> None:
    """The room that append made behind the elements is zeroed."""
    zero, values = VALUES[name]
    for n in (1, 5, 33, 700):
        s = append(make(Slice[typed(name)], n), values[0])
        assert list(s[n + 1 : cap(s)]) == [zero] * (cap(s) - n - 1)


def test_three_index_protects() -> None:
    """A slice whose capacity was cut cannot overwrite what lies behind it."""
    s = numbers(5)
    t = append(s[1:3:3], 100)
    assert list(s) == [0, 1, 2, 3, 4]
    assert list(t) == [1, 2, 100]
    u = append(s[1:3:4], 100)
    assert list(s) == [0, 1, 2, 100, 4]
    assert list(u) == [1, 2, 100]


def test_two_heirs() -> None:
    """The classic trap: two appends to one slice write to the same place."""
    s = make(Slice[int64], 0, 10)
    a = append(s, 1)
    b = append(s, 2)
    assert (list(a), list(b)) == ([2], [2])


def test_itself() -> None:
    """A slice may be appended to itself, in place and moving."""
    s = slice_of(int64, 1, 2, 3)
    assert list(append(s, *s)) == [1, 2, 3, 1, 2, 3]
    t = append(make(Slice[int64], 0, 10), 1, 2, 3)
    assert list(append(t, *t[1:])) == [1, 2, 3, 2, 3]
    assert list(append(t[:1], *t)) == [1, 1, 2, 3]


def test_go_tricks() -> None:
    """Delete, insert, filter in place and pop, as Go's SliceTricks do them."""
    s = numbers(6)
    s = append(s[:2], *s[3:])
    assert list(s) == [0, 1, 3, 4, 5]
    s = append(s[:1], *append(slice_of(int64, 9), *s[1:]))
    assert list(s) == [0, 9, 1, 3, 4, 5]
    kept = s[:0]
    for v in list(s):
        if v % 2:
            kept = append(kept, v)
    assert list(kept) == [9, 1, 3, 5]
    last, stack = kept[len(kept) - 1], kept[: len(kept) - 1]
    assert (last, list(stack)) == (5, [9, 1, 3])


@pytest.mark.parametrize("name", ["byte", "int64", "float64", "string", "bool_"])
def test_wrong_value(name: str) -> None:
    """A value that does not fit is refused, and the slice stays as it is."""
    _, values = VALUES[name]
    s = append(make(Slice[typed(name)], 0, 8), *values)
    for more in ([b"x"], [values[0], b"x"], [*values, *values, *values, b"x"]):
        with pytest.raises(TypeError):
            append(s, *more)
        assert (list(s), len(s), cap(s)) == (values, 3, 8)


def test_value_out_of_range() -> None:
    """A number that is too big is an OverflowError, in place and moving."""
    for s in (make(Slice[byte], 1, 8), make(Slice[byte], 1)):
        for more in ([300], [1, -1], [1, 2, 3, 10**30]):
            with pytest.raises(OverflowError):
                append(s, *more)
            assert list(s) == [0]


@pytest.mark.parametrize("bad", [None, 1, [1, 2], (1,), "abc", b"abc", bytearray(b"abc")])
def test_not_a_slice(bad: Any) -> None:
    """Only slices are appended to."""
    with pytest.raises(TypeError):
        append(bad, 1)


def test_no_slice_at_all() -> None:
    """append wants at least the slice."""
    with pytest.raises(TypeError):
        append()  # type: ignore[call-arg]


def test_many_values_at_once() -> None:
    """A hundred thousand values in one call."""
    s = append(make(Slice[int64], 0), *range(100_000))
    assert len(s) == 100_000
    assert list(s) == list(range(100_000))


def test_old_slices_keep_their_values() -> None:
    """Every slice that append left behind still has what it had."""
    slices = [make(Slice[string], 0)]
    for i in range(200):
        slices.append(append(slices[-1], str(i)))
    for i, s in enumerate(slices):
        assert list(s) == [str(n) for n in range(i)]
