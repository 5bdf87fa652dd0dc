"""Slices from the contract: make, indexing and slicing by Go's rules, sharing, iteration."""

from __future__ import annotations

from typing import Any

import pytest

from goroutines.memory import (
    Array,
    Slice,
    append,
    array_of,
    byte,
    cap,
    clear,
    int64,
    make,
    new,
    slice_of,
    string,
)

from .tools import VALUES, every_type, numbers, typed


class Index:
    """Something with __index__ that is no int."""

    def __init__(self, value: int) -> None:
        self.value = value

    def __index__(self) -> int:
        return self.value


# --- making one -------------------------------------------------------------------------------


@every_type
def test_make_zeroes(name: str) -> None:
    """make gives as many zero values as asked for, and as much capacity."""
    zero, _ = VALUES[name]
    s = make(Slice[typed(name)], 3)
    assert (len(s), cap(s)) == (3, 3)
    assert list(s) == [zero] * 3
    assert {type(v) for v in s} == {type(zero)}


@every_type
def test_make_zeroes_the_capacity(name: str) -> None:
    """What lies between len and cap is zero as well; slicing brings it out."""
    zero, _ = VALUES[name]
    s = make(Slice[typed(name)], 2, 5)
    assert (len(s), cap(s)) == (2, 5)
    assert list(s[:5]) == [zero] * 5


@every_type
def test_make_zeroes_used_memory(name: str) -> None:
    """Memory that held values before is zero again when it is had anew."""
    zero, values = VALUES[name]
    for n in (1, 3, 10, 100, 1000, 10_000):
        for _ in range(5):
            s = make(Slice[typed(name)], n)
            assert s[0] == s[n // 2] == s[n - 1] == zero
            for i in {0, n // 2, n - 1}:
                s[i] = values[0]
            del s


def test_big_ones_are_zeroed() -> None:
    """Large memory is zero also where it was used before."""
    for _ in range(3):
        s = make(Slice[byte], 3 << 20)
        assert memoryview(s) == bytes(3 << 20)
        memoryview(s)[:] = b"\xff" * (3 << 20)
        del s


def test_make_by_name() -> None:
    """cap has its name and None is its default."""
    assert cap(make(Slice[int64], 3, cap=7)) == 7
    assert cap(make(Slice[int64], 3, None)) == 3
    assert (len(make(Slice[int64], 0)), cap(make(Slice[int64], 0))) == (0, 0)
    assert cap(make(Slice[int64], 0, 10)) == 10
    assert len(make(Slice[int64], Index(3), Index(4))) == 3


@every_type
def test_slice_of(name: str) -> None:
    """slice_of holds its values, its capacity is its length."""
    _, values = VALUES[name]
    s = slice_of(typed(name), *values)
    assert list(s) == values
    assert (len(s), cap(s)) == (3, 3)
    assert (len(slice_of(typed(name))), list(slice_of(typed(name)))) == (0, [])


def test_is_a_slice() -> None:
    """isinstance knows slices, however they came to be, and arrays are none."""
    a = array_of(int64, 1, 2)
    for s in (make(Slice[int64], 1), slice_of(int64), a[:], a[1:][:0], append(a[:], 1)):
        assert isinstance(s, Slice)
    assert not isinstance(a, Slice)
    assert isinstance(a, Array)


def test_type_is_the_same_each_time() -> None:
    """A type written twice is equal and hashes equally; other types are different."""
    assert Slice[int64] == Slice[int64]
    assert hash(Slice[int64]) == hash(Slice[int64])
    assert Slice[int64] != Slice[string]
    assert Array[int64, 3] == Array[int64, 3]
    assert hash(Array[int64, 3]) == hash(Array[int64, 3])
    assert Array[int64, 3] != Array[int64, 4]


# --- indexing ---------------------------------------------------------------------------------


@every_type
def test_get_and_set(name: str) -> None:
    """Elements keep what is stored, each in its place."""
    zero, values = VALUES[name]
    s = make(Slice[typed(name)], 5)
    for i, value in enumerate(values):
        s[i + 1] = value
    assert list(s) == [zero, *values, zero]
    assert s[3] == values[2]
    assert s[Index(3)] == values[2]


@pytest.mark.parametrize("i", [3, 4, 5, 100, 2**31, 2**62])
def test_index_out_of_range(i: int) -> None:
    """An index beyond len is Go's error, though there be capacity."""
    s = make(Slice[int64], 3, 5)
    words = rf"index out of range \[{i}\] with length 3"
    with pytest.raises(IndexError, match=words):
        s[i]
    with pytest.raises(IndexError, match=words):
        s[i] = 1
    assert list(s[:5]) == [0] * 5


@pytest.mark.parametrize("i", [-1, -3, -(2**62)])
def test_negative_index(i: int) -> None:
    """Nothing counts from the end: a negative index is out of range, as in Go."""
    s = numbers(3)
    with pytest.raises(IndexError, match=rf"index out of range \[{i}\]"):
        s[i]
    with pytest.raises(IndexError, match=rf"index out of range \[{i}\]"):
        s[i] = 1
    assert list(s) == [0, 1, 2]


def test_index_of_an_empty_slice() -> None:
    """There is nothing in an empty one."""
    with pytest.raises(IndexError, match=r"index out of range \[0\] with length 0"):
        make(Slice[int64], 0)[0]


@pytest.mark.parametrize("i", [2**63, 2**64, 10**40, -(10**40)])
def test_gigantic_index(i: int) -> None:
    """An index that no machine word holds is out of range like any other."""
    s = numbers(3)
    with pytest.raises(IndexError):
        s[i]
    with pytest.raises(IndexError):
        s[i] = 1
    with pytest.raises(IndexError):
        s[:i]
    with pytest.raises(IndexError):
        s[i:]


@pytest.mark.parametrize("i", [1.0, "1", None, (1, 2), [0]])
def test_index_of_a_wrong_type(i: Any) -> None:
    """Only integers are indices."""
    s = numbers(3)
    with pytest.raises(TypeError):
        s[i]
    with pytest.raises(TypeError):
        s[i] = 1


@pytest.mark.parametrize("i", [1.0, "1", (1, 2)])
def test_bounds_of_a_wrong_type(i: Any) -> None:
    """Only integers are bounds."""
    s = numbers(3)
    for bounds in (slice(i), slice(i, None), slice(0, 1, i)):
        with pytest.raises(TypeError):
            s[bounds]


def test_nothing_is_deleted() -> None:
    """Elements have no way out of a slice."""
    s = numbers(3)
    with pytest.raises(TypeError):
        del s[0]
    with pytest.raises(TypeError):
        del s[0:1]
    assert list(s) == [0, 1, 2]


# --- slicing ----------------------------------------------------------------------------------

# (low, high, max): the elements, cap; of [0 1 2] with a capacity of 5 (then 0 0)
SLICES: list[tuple[tuple[int | None, ...], list[int], int]] = [
    ((None, None), [0, 1, 2], 5),
    ((0, 3), [0, 1, 2], 5),
    ((0, 0), [], 5),
    ((1, None), [1, 2], 4),
    ((None, 2), [0, 1], 5),
    ((1, 2), [1], 4),
    ((3, None), [], 2),
    ((3, 3), [], 2),
    ((None, 5), [0, 1, 2, 0, 0], 5),
    ((2, 4), [2, 0], 3),
    ((5, 5), [], 0),
    ((4, 5), [0], 1),
    ((0, 2, 2), [0, 1], 2),
    ((0, 2, 5), [0, 1], 5),
    ((1, 2, 3), [1], 2),
    ((None, 2, 4), [0, 1], 4),
    ((2, 5, 5), [2, 0, 0], 3),
    ((3, 3, 3), [], 0),
    ((0, 0, 0), [], 0),
    ((5, 5, 5), [], 0),
]


@pytest.mark.parametrize(("bounds", "elements", "capacity"), SLICES)
def test_slicing(bounds: Any, elements: list[int], capacity: int) -> None:
    """high may go up to the capacity; a third index limits the capacity."""
    s = numbers(3, 5)[slice(*bounds)]
    assert list(s) == elements
    assert (len(s), cap(s)) == (len(elements), capacity)


# (low, high, max): Go's words; of a length of 3 and a capacity of 5
BAD_SLICES: list[tuple[tuple[int | None, ...], str]] = [
    ((None, 6), "[:6] with capacity 5"),
    ((10, 6), "[:6] with capacity 5"),
    ((5, None), "[5:3]"),
    ((4, None), "[4:3]"),
    ((2, 1), "[2:1]"),
    ((-1, None), "[-1:]"),
    ((-1, 2), "[-1:"),
    ((None, -1), "[:-1]"),
    ((0, 2, 6), "[::6] with capacity 5"),
    ((10, 10, 10), "[::10] with capacity 5"),
    ((0, 5, 4), "[:5:4]"),
    ((4, 2, 5), "[4:2:]"),
    ((0, 2, -1), "[::-1]"),
    ((0, -1, 5), "[:-1:]"),
    ((-1, 2, 5), "[-1::]"),
    ((None, 2**62), f"[:{2**62}] with capacity 5"),
]


@pytest.mark.parametrize(("bounds", "words"), BAD_SLICES)
def test_bounds_out_of_range(bounds: Any, words: str) -> None:
    """Bounds out of range are an error, in Go's words; nothing is clipped as lists do."""
    s = numbers(3, 5)
    with pytest.raises(IndexError) as caught:
        s[slice(*bounds)]
    assert f"slice bounds out of range {words}" in str(caught.value)


@every_type
def test_slices_share(name: str) -> None:
    """A slice of a slice is the same storage: what is stored in one is seen in the other."""
    zero, values = VALUES[name]
    s = make(Slice[typed(name)], 5)
    t = s[1:4]
    u = t[1:2]
    t[0] = values[0]
    u[0] = values[2]
    assert list(s) == [zero, values[0], values[2], zero, zero]
    s[3] = values[0]
    assert list(t) == [values[0], values[2], values[0]]


def test_slice_keeps_the_array_alive() -> None:
    """A part outlives the slice that it was cut from."""
    t = slice_of(string, "a", "b", "c")[1:2]
    others = [slice_of(string, "x", "y", "z") for _ in range(100)]
    assert (list(t), list(t[:2])) == (["b"], ["b", "c"])
    assert len(others) == 100


def test_extending_up_to_the_capacity() -> None:
    """Shrinking to nothing loses no elements, slicing up to cap brings them back."""
    s = numbers(5)
    empty = s[:0]
    assert (len(empty), cap(empty)) == (0, 5)
    assert list(empty[:5]) == [0, 1, 2, 3, 4]
    assert list(empty[2:4]) == [2, 3]
    with pytest.raises(IndexError, match=r"\[:5\] with capacity 2"):
        s[0:0:2][:5]


def test_the_tour() -> None:
    """The slices of Go's tour print what they print there."""
    s = slice_of(int64, 2, 3, 5, 7, 11, 13)
    printed = []
    for bounds in (slice(0), slice(4), slice(2, None)):
        s = s[bounds]
        printed.append((len(s), cap(s), list(s)))
    assert printed == [(0, 6, []), (4, 6, [2, 3, 5, 7]), (2, 4, [5, 7])]


def test_slicing_changes_no_slice() -> None:
    """The one that is sliced keeps its own length and capacity."""
    s = numbers(3, 5)
    s[:5], s[1:2:2], s[3:]
    assert (list(s), len(s), cap(s)) == ([0, 1, 2], 3, 5)


# --- what Python expects of a sequence --------------------------------------------------------


@every_type
def test_iteration(name: str) -> None:
    """Iterating gives the elements in order, as often as wanted."""
    _, values = VALUES[name]
    s = slice_of(typed(name), *values)
    assert [*s] == [*s] == values
    assert list(zip(s, s)) == list(zip(values, values))
    assert values[1] in list(s)


def test_iteration_sees_stores() -> None:
    """As in Go, range reads each element when its turn comes, over the length of the start."""
    s = numbers(3, 10)
    seen = []
    for v in s:
        seen.append(v)
        if v == 0:
            s[2] = 7
            s = append(s, 8)
    assert seen == [0, 1, 7]
    assert list(s) == [0, 1, 7, 8]


def test_membership_and_unpacking() -> None:
    """`in`, unpacking, sum, sorted and enumerate work as with any sequence."""
    s = slice_of(int64, 3, 1, 2)
    a, *rest = s
    assert (a, rest, sum(s), sorted(s), max(s)) == (3, [1, 2], 6, [1, 2, 3], 3)
    assert 2 in s
    assert 5 not in s
    assert dict(enumerate(s)) == {0: 3, 1: 1, 2: 2}


def test_truth() -> None:
    """Like every sequence, an empty one is false."""
    assert not make(Slice[int64], 0, 5)
    assert make(Slice[int64], 1)


def test_slices_are_unhashable() -> None:
    """Slices are no map keys, in Go and here."""
    with pytest.raises(TypeError):
        hash(numbers(3))
    with pytest.raises(TypeError):
        {numbers(3): 1}


def test_repr() -> None:
    """repr shows the elements, of those that contain themselves too."""
    assert all(str(v) in repr(slice_of(int64, 123, 456)) for v in (123, 456))
    assert "abc" in repr(slice_of(string, "abc"))
    s = make(Slice[object], 2)
    s[0] = s
    assert 0 < len(repr(s)) < 1000
    assert repr(make(Slice[int64], 0))
    assert repr(new(int64))


def test_repr_of_failing_elements() -> None:
    """An element whose repr raises lets that exception through, again and again."""

    class Bad:
        def __repr__(self) -> str:
            raise KeyError("repr")

    s = slice_of(object, Bad())
    for _ in range(3):
        with pytest.raises(KeyError):
            repr(s)


def test_clear() -> None:
    """clear zeroes the elements up to len, and changes neither len nor cap."""
    s = numbers(5)
    clear(s[1:3])
    assert list(s) == [0, 0, 0, 3, 4]
    clear(s)
    assert (list(s), len(s), cap(s)) == ([0] * 5, 5, 5)
    clear(make(Slice[int64], 0))


@every_type
def test_clear_every_type(name: str) -> None:
    """clear brings the zero value of the type."""
    zero, values = VALUES[name]
    s = slice_of(typed(name), *values)
    clear(s[:2])
    assert list(s) == [zero, zero, values[2]]
