"""Spans: assignment to slices, what an iterator sees, comparison, texts as Go prints them."""

from __future__ import annotations

import math
from typing import Any

import pytest

from goroutines.memory import (
    Array,
    Map,
    Slice,
    append,
    array_of,
    bool_,
    byte,
    clear,
    extend,
    float32,
    float64,
    int16,
    int32,
    make,
    slice_of,
    string,
)


@pytest.mark.parametrize(
    "values",
    [
        lambda: [7, 8],
        lambda: (7, 8),
        lambda: iter([7, 8]),
        lambda: slice_of(int32, 7, 8),
        lambda: array_of(int32, 7, 8),
        lambda: memoryview(slice_of(int32, 7, 8)),
        lambda: slice_of(byte, 7, 8),  # other elements, that fit
    ],
)
def test_assignment_to_a_slice(values: Any) -> None:
    """s[i:j] = values stores as many as there are places."""
    s = slice_of(int32, 1, 2, 3, 4)
    s[1:3] = values()
    assert list(s) == [1, 7, 8, 4]
    a = array_of(int32, 1, 2, 3, 4)
    a[:2] = values()
    assert list(a) == [7, 8, 3, 4]


def test_assignment_of_another_length() -> None:
    """Too few or too many values are a ValueError, and nothing is stored."""
    s = slice_of(int32, 1, 2, 3)
    for values in ([9], [9] * 4, slice_of(int32, 9), memoryview(slice_of(int32, 9)), []):
        with pytest.raises(ValueError, match="assignment of . values to 3 elements"):
            s[:] = values
    assert list(s) == [1, 2, 3]
    with pytest.raises(TypeError, match="append"):
        del s[0]  # type: ignore[attr-defined]


def test_overlapping_assignment() -> None:
    """The values are those of before, in both directions, for references as well."""
    for kind, values in ((int32, [1, 2, 3, 4, 5]), (string, list("abcde"))):
        s = slice_of(kind, *values)
        s[1:] = s[:4]
        assert list(s) == [values[0], *values[:4]]
        s = slice_of(kind, *values)
        s[:4] = s[1:]
        assert list(s) == [*values[1:], values[4]]


def test_text_into_bytes() -> None:
    """A str goes into bytes as UTF-8, and into nothing else."""
    assert bytes(Slice[byte]("h\xe9")) == b"h\xc3\xa9"
    s = make(Slice[byte], 3)
    s[:] = "h\xe9"
    assert bytes(s) == b"h\xc3\xa9"
    assert list(Slice[str]("ab")) == ["a", "b"]
    with pytest.raises(TypeError):
        Slice[int32]("ab")


def test_iterators() -> None:
    """An iterator has the length of its beginning and the elements of the moment."""
    s = slice_of(int32, 1, 2, 3)
    it = iter(s)
    assert it.__length_hint__() == 3  # type: ignore[attr-defined]
    assert next(it) == 1
    s[1] = 20
    s = append(s, 4)
    assert list(it) == [20, 3]
    assert list(it) == []
    assert list(reversed(s)) == [4, 3, 20, 1]
    match array_of(int32, 1, 2):
        case [one, two]:
            assert (one, two) == (1, 2)
        case _:
            pytest.fail("an array is a sequence")


def test_slices_compare_by_content() -> None:
    """Equal content of the same type is equal; capacity does not count; there is no order."""
    s = slice_of(int32, 1, 2)
    assert s == append(make(Slice[int32], 0, 10), 1, 2)
    assert s != slice_of(int32, 1, 3)
    assert s != slice_of(int32, 1)
    assert s != slice_of(int16, 1, 2)
    assert s != [1, 2]
    assert (s == None) is False  # noqa: E711
    assert Slice[int32]() == make(Slice[int32], 0)
    assert slice_of(float64, math.nan) != slice_of(float64, math.nan)
    assert slice_of(Slice[int32], s) == slice_of(Slice[int32], slice_of(int32, 1, 2))
    with pytest.raises(TypeError):
        assert s < s  # type: ignore[operator]


def test_elements_without_a_size() -> None:
    """However many there are of them, they are compared, cleared and appended at once."""
    s = make(Slice[Array[int32, 0]], 1 << 62)
    assert s == s[:]
    assert s[1:] != s
    assert len(append(s, s[0])) == (1 << 62) + 1
    clear(s)
    with pytest.raises(ValueError, match="growslice: len out of range"):
        extend(s[: 1 << 62], make(Slice[Array[int32, 0]], (1 << 63) - 1))


def test_bytes_compare_with_bytes() -> None:
    """A slice of bytes equals what has the same bytes."""
    s = Slice[byte](b"abc")
    for other in (b"abc", bytearray(b"abc"), memoryview(b"abc")):
        assert s == other
        assert other == s or isinstance(other, bytes)
    assert s != b"abd"
    assert s != b"ab"
    assert s != "abc"
    assert slice_of(int16, 97) != b"a\0"


def test_repr_makes_it_again() -> None:
    """repr is an expression, except for what is long: that shows its ends."""
    scope = {"Slice": Slice, "Array": Array, "Map": Map, "int32": int32, "string": string}
    values: list[Any] = [
        slice_of(int32, 1, 2),
        Slice[int32](),
        array_of(string, "a"),
        Array[int32, 0](),
        Map[string, int32]({"a": 1}),
        slice_of(Array[int32, 1], [1]),
    ]
    for value in values:
        assert eval(repr(value), scope) == value
    assert (
        repr(make(Slice[byte], 1000))
        == "<Slice[uint8] of 1000: [0, 0, 0, 0, 0, ..., 0, 0, 0, 0, 0]>"
    )


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (slice_of(int32, 1, 2, 3), "[1 2 3]"),
        (Slice[int32](), "[]"),
        (array_of(Array[int32, 2], [1, 2], [3]), "[[1 2] [3 0]]"),
        (slice_of(float64, 1, 1.5, 1e5, 1e6, 1e-4), "[1 1.5 100000 1e+06 0.0001]"),
        (slice_of(float64, 123456789, 0.00012), "[1.23456789e+08 0.00012]"),
        (slice_of(float64, 1e100, 1.5e-7, -0.0), "[1e+100 1.5e-07 -0]"),
        (slice_of(float32, 0.1, 1 << 24, math.inf, math.nan), "[0.1 1.6777216e+07 +Inf NaN]"),
        (slice_of(bool_, True, False), "[true false]"),
        (slice_of(string, "a", "b c"), "[a b c]"),
        (slice_of(object, None, 1), "[<nil> 1]"),
        (Map[str, int]({"b": 1, "a": 2}), "map[a:2 b:1]"),
        (Map[object, int]({"b": 1, 3: 2}), "map[b:1 3:2]"),
        (Slice[byte]("hi"), "[104 105]"),
    ],
)
def test_str_is_what_go_prints(value: Any, text: str) -> None:
    """str() is fmt.Println's, maps in the order of their keys."""
    assert str(value) == text
