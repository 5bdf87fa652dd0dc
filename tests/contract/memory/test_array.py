"""Arrays from the contract: types with a length, comparison, hashing, slicing, nesting.

`Array[T, n]` is a type. How a value of it is made other than by `array_of` and
`new(...).value` the contract leaves open, so only these two are used.
"""

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
    copy,
    float64,
    int64,
    make,
    new,
    slice_of,
    string,
)

from .tools import VALUES, every_type, typed


def array(T: Any, n: int) -> Any:
    """Return a zero array."""
    return new(Array[T, n]).value


@every_type
def test_zero(name: str) -> None:
    """A new array is zero, and as long as its type says."""
    zero, _ = VALUES[name]
    a = array(typed(name), 4)
    assert (list(a), len(a), cap(a)) == ([zero] * 4, 4, 4)
    assert isinstance(a, Array)


@every_type
def test_array_of(name: str) -> None:
    """array_of holds its values and takes its length from them."""
    _, values = VALUES[name]
    a = array_of(typed(name), *values)
    assert (list(a), len(a), cap(a)) == (values, 3, 3)
    assert a[1] == values[1]


def test_empty_array() -> None:
    """An array may have no elements."""
    for a in (array_of(int64), array(int64, 0)):
        assert (list(a), len(a), cap(a)) == ([], 0, 0)
        with pytest.raises(IndexError, match=r"index out of range \[0\] with length 0"):
            a[0]
        assert len(a[:]) == 0


@every_type
def test_store(name: str) -> None:
    """Elements can be replaced."""
    zero, values = VALUES[name]
    a = array(typed(name), 3)
    a[1] = values[0]
    assert list(a) == [zero, values[0], zero]


@pytest.mark.parametrize("i", [3, 5, 2**62])
def test_index_out_of_range(i: int) -> None:
    """Beyond the length is Go's error."""
    a = array(int64, 3)
    with pytest.raises(IndexError, match=rf"index out of range \[{i}\] with length 3"):
        a[i]
    with pytest.raises(IndexError, match=rf"index out of range \[{i}\] with length 3"):
        a[i] = 1


def test_negative_index() -> None:
    """Nothing counts from the end, as in Go."""
    a = array(int64, 3)
    with pytest.raises(IndexError, match=r"index out of range \[-1\]"):
        a[-1]
    with pytest.raises(IndexError, match=r"index out of range \[-1\]"):
        a[-1] = 1


@pytest.mark.parametrize(
    ("bounds", "words"),
    [
        ((None, 5), "[:5] with length 3"),
        ((5, None), "[5:3]"),
        ((2, 1), "[2:1]"),
        ((0, 2, 5), "[::5] with length 3"),
        ((0, 3, 2), "[:3:2]"),
        ((2, 1, 3), "[2:1:]"),
        ((-1, None), "[-1:]"),
        ((None, -1), "[:-1]"),
    ],
)
def test_bounds_out_of_range(bounds: Any, words: str) -> None:
    """The words name the length, which for an array is the limit."""
    with pytest.raises(IndexError) as caught:
        array(int64, 3)[slice(*bounds)]
    assert f"slice bounds out of range {words}" in str(caught.value)


@every_type
def test_slicing_shares(name: str) -> None:
    """A slice of an array is a slice over the array's own elements."""
    zero, values = VALUES[name]
    a = array(typed(name), 5)
    s = a[1:3]
    assert isinstance(s, Slice)
    assert (len(s), cap(s)) == (2, 4)
    s[0] = values[0]
    a[2] = values[2]
    assert list(a) == [zero, values[0], values[2], zero, zero]
    assert list(s) == [values[0], values[2]]
    assert cap(a[1:2:3]) == 2
    assert a[:] is not a


def test_append_into_an_array() -> None:
    """Appending to a slice of an array overwrites the array, until its end is reached."""
    a = array_of(int64, 1, 2, 3)
    s = append(a[:1], 20)
    assert list(a) == [1, 20, 3]
    s = append(s, 30, 40)
    s[0] = 10
    assert list(a) == [1, 20, 3]
    assert list(s) == [10, 20, 30, 40]


def test_slice_outlives_the_array() -> None:
    """The elements live as long as a slice of them."""
    s = array_of(string, "a", "b", "c")[1:]
    junk = [array_of(string, "x", "y", "z") for _ in range(100)]
    assert (list(s), len(junk)) == (["b", "c"], 100)


# --- comparison and hash ----------------------------------------------------------------------


@every_type
def test_equality(name: str) -> None:
    """Arrays of one type are equal when their elements are."""
    _, values = VALUES[name]
    a, b = array_of(typed(name), *values), array_of(typed(name), *values)
    assert a == a
    assert a == b
    assert not a != b
    zero = VALUES[name][0]
    b[0] = zero
    assert a != b
    assert not a == b


@every_type
def test_hash(name: str) -> None:
    """Arrays can be hashed as Go allows it, equal ones equally, and so be keys."""
    _, values = VALUES[name]
    a, b = array_of(typed(name), *values), array_of(typed(name), *values)
    assert hash(a) == hash(b)
    assert {a: 1}[b] == 1
    assert len({a, b}) == 1


def test_hash_of_nested_arrays() -> None:
    """Arrays of arrays compare and hash by their elements too."""
    a = array_of(Array[int64, 2], array_of(int64, 1, 2), array_of(int64, 3, 4))
    b = array_of(Array[int64, 2], array_of(int64, 1, 2), array_of(int64, 3, 4))
    assert a == b
    assert hash(a) == hash(b)
    b[1] = array_of(int64, 3, 5)
    assert a != b


def test_hash_of_what_cannot_be_hashed() -> None:
    """An array whose elements have no hash has none either, as Go panics for such a key."""
    with pytest.raises(TypeError):
        hash(array_of(object, [1]))


def test_equality_follows_go_for_floats() -> None:
    """NaN equals nothing and 0.0 equals -0.0, inside arrays too, with an equal hash."""
    nan = array_of(float64, float("nan"))
    assert nan != array_of(float64, float("nan"))
    zero, minus = array_of(float64, 0.0), array_of(float64, -0.0)
    assert zero == minus
    assert hash(zero) == hash(minus)


def test_equality_calls_the_elements() -> None:
    """Objects are compared with ==, and what that raises comes through."""

    class Odd:
        def __eq__(self, other: object) -> bool:
            raise KeyError("==")

        __hash__ = object.__hash__

    assert array_of(object, 1.0, [2]) == array_of(object, 1, [2])
    with pytest.raises(KeyError):
        array_of(object, Odd()) == array_of(object, Odd())


@pytest.mark.parametrize("other", [None, 1, "abc", [1, 2, 3], (1, 2, 3), object()])
def test_equality_with_something_else(other: Any) -> None:
    """An array is equal to no other kind of thing."""
    assert array_of(int64, 1, 2, 3) != other
    assert not array_of(int64, 1, 2, 3) == other


def test_arrays_of_other_lengths_differ() -> None:
    """Their types differ; Python's answer to Go's compile error is False."""
    assert array_of(int64, 1, 2) != array_of(int64, 1, 2, 3)


def test_mutating_element_while_comparing() -> None:
    """A comparison that changes the arrays it compares is harmless."""
    a: Any = None

    class Changing:
        def __eq__(self, other: object) -> bool:
            a[0] = a[1] = a[2] = None
            return True

        __hash__ = object.__hash__

    a = array_of(object, Changing(), Changing(), Changing())
    b = array_of(object, Changing(), Changing(), Changing())
    assert (a == b) in (True, False)
    assert list(a) == [None] * 3


# --- arrays of arrays -------------------------------------------------------------------------


def test_grid() -> None:
    """An element that is an array can be changed in place: a[i][j] = v."""
    grid = array(Array[int64, 3], 2)
    assert [list(row) for row in grid] == [[0, 0, 0], [0, 0, 0]]
    grid[1][2] = 5
    assert [list(row) for row in grid] == [[0, 0, 0], [0, 0, 5]]
    assert (len(grid), cap(grid), len(grid[0])) == (2, 2, 3)


def test_deep_grid() -> None:
    """Three levels deep it is the same."""
    cube = make(Slice[Array[Array[byte, 2], 3]], 4)
    cube[3][2][1] = 7
    assert [[list(r) for r in plane] for plane in cube] == [
        *[[[0, 0]] * 3] * 3,
        [[0, 0], [0, 0], [0, 7]],
    ]
    with pytest.raises(IndexError, match=r"index out of range \[3\] with length 3"):
        cube[0][3]


def test_rows_are_values() -> None:
    """Storing an array in an array copies it, as assignment does in Go."""
    row = array_of(int64, 1, 2, 3)
    grid = make(Slice[Array[int64, 3]], 2)
    grid[0] = row
    row[0] = 100
    assert list(grid[0]) == [1, 2, 3]
    grid[1] = grid[0]
    grid[0][0] = 50
    assert list(grid[1]) == [1, 2, 3]
    grid = append(grid, row)
    row[1] = 200
    assert list(grid[2]) == [100, 2, 3]


def test_row_onto_itself() -> None:
    """Storing an element in its own place changes nothing."""
    grid = make(Slice[Array[string, 2]], 2)
    grid[0][0], grid[0][1] = "a", "b"
    grid[0] = grid[0]
    assert list(grid[0]) == ["a", "b"]


def test_row_of_a_wrong_type() -> None:
    """A row has to be an array of the very type."""
    grid = make(Slice[Array[int64, 2]], 1)
    for bad in (array_of(int64, 1), array_of(byte, 1, 2), slice_of(int64, 1, 2), None, 5):
        with pytest.raises(TypeError):
            grid[0] = bad
    assert list(grid[0]) == [0, 0]


def test_slicing_a_row() -> None:
    """A slice of a row ends where the row ends, in capacity too."""
    grid = array(Array[int64, 3], 2)
    s = grid[0][1:]
    assert (len(s), cap(s)) == (2, 2)
    s[1] = 9
    s = append(s, 10)
    assert [list(row) for row in grid] == [[0, 0, 9], [0, 0, 0]]


def test_row_outlives_the_grid() -> None:
    """A row that was taken out stays valid when nothing else holds the grid."""
    row = make(Slice[Array[string, 2]], 100)[50]
    junk = [make(Slice[Array[string, 2]], 100) for _ in range(20)]
    assert (list(row), len(junk)) == (["", ""], 20)


def test_copy_rows() -> None:
    """copy moves whole rows, overlapping too."""
    grid = make(Slice[Array[int64, 2]], 4)
    for i in range(4):
        grid[i] = array_of(int64, i, 10 * i)
    assert copy(grid[1:], grid) == 3
    assert [list(row) for row in grid] == [[0, 0], [0, 0], [1, 10], [2, 20]]


def test_arrays_of_objects_in_slices() -> None:
    """Rows of objects hold their references."""
    grid = make(Slice[Array[object, 2]], 2)
    for i in range(100):
        grid[i % 2] = array_of(object, [i], {i: i})
        grid = append(grid[:2], grid[0])
    assert [list(row) for row in grid] == [[[98], {98: 98}], [[99], {99: 99}], [[98], {98: 98}]]
