"""copy from the contract: the lesser length, overlaps, element types."""

from __future__ import annotations

from typing import Any

import pytest

from goroutines.memory import Slice, array_of, byte, copy, int8, int64, make, slice_of, string

from .tools import VALUES, every_type, numbers, outcome_is_type_error, typed


@every_type
def test_copy(name: str) -> None:
    """copy copies the elements and answers how many; the two share nothing afterwards."""
    zero, values = VALUES[name]
    src, dst = slice_of(typed(name), *values), make(Slice[typed(name)], 3)
    assert copy(dst, src) == 3
    assert list(dst) == values
    src[0] = zero
    assert dst[0] == values[0]


@every_type
@pytest.mark.parametrize(("to", "of"), [(0, 0), (0, 3), (3, 0), (2, 3), (3, 2), (1, 1)])
def test_lengths(name: str, to: int, of: int) -> None:
    """The lesser length counts, capacity does not."""
    zero, values = VALUES[name]
    src = slice_of(typed(name), *values)[:of]
    dst = make(Slice[typed(name)], to, 10)
    n = min(to, of)
    assert copy(dst, src) == n
    assert list(dst[:10]) == values[:n] + [zero] * (10 - n)


@pytest.mark.parametrize("name", ["byte", "int16", "int64", "float64", "string", "object"])
@pytest.mark.parametrize("to", range(4))
@pytest.mark.parametrize("of", range(4))
def test_overlap(name: str, to: int, of: int) -> None:
    """Overlapping slices are copied as if through a third place, in both directions."""
    convert = {"string": str, "object": lambda i: [i], "float64": float}.get(name, int)
    values: list[Any] = [convert(i) for i in range(10)]
    s = slice_of(typed(name), *values)
    expected = values[:]
    expected[to : to + 6] = values[of : of + 6]
    assert copy(s[to : to + 6], s[of : of + 6]) == 6
    assert list(s) == expected


def test_onto_itself() -> None:
    """A slice copied onto itself stays."""
    for s in (numbers(5), slice_of(string, *"abcde"), slice_of(object, *"abcde")):
        before = list(s)
        assert copy(s, s) == 5
        assert list(s) == before


def test_references_of_overlapping_objects() -> None:
    """Moving objects back and forth within an array keeps each alive exactly while needed."""
    s = slice_of(object, *[[i] for i in range(10)])
    for _ in range(50):
        copy(s[3:], s)
        copy(s, s[1:])
    for i in range(10):
        assert isinstance(s[i], list)
    s[9] = None
    assert len(list(s)) == 10


def test_arrays_by_slicing() -> None:
    """Arrays are copied through their slices, as in Go."""
    a, b = array_of(int64, 1, 2, 3), array_of(int64, 4, 5)
    assert copy(a[1:], b[:]) == 2
    assert list(a) == [1, 4, 5]


def test_big() -> None:
    """Megabytes arrive whole, whatever their alignment."""
    n = 3_000_001
    src, dst = make(Slice[byte], n + 1), make(Slice[byte], n + 7)
    view = memoryview(src)
    view[:] = (bytes(range(256)) * (n // 256 + 1))[: n + 1]
    assert copy(dst[3:], src[1:]) == n
    assert memoryview(dst)[3 : 3 + n] == view[1:]
    assert bytes(dst[:3]) + bytes(dst[n + 3 :]) == bytes(7)


@pytest.mark.parametrize(
    ("dst", "src"),
    [
        (slice_of(byte, 1), slice_of(int64, 1)),
        (slice_of(byte, 1), slice_of(int8, 1)),
        (slice_of(int64, 1), slice_of(string, "a")),
        (slice_of(int64, 1), slice_of(object, 1)),
        (slice_of(string, "a"), slice_of(object, "a")),
    ],
)
def test_element_types_must_agree(dst: Any, src: Any) -> None:
    """Slices of different types cannot be copied, and nothing changes."""
    before = list(dst), list(src)
    with pytest.raises(TypeError):
        copy(dst, src)
    assert (list(dst), list(src)) == before


@pytest.mark.parametrize("bad", [None, 1, 1.5, object(), {}])
def test_no_slices(bad: Any) -> None:
    """What is no slice can be neither source nor destination."""
    with pytest.raises(TypeError):
        copy(bad, numbers(1))
    with pytest.raises(TypeError):
        copy(numbers(1), bad)
    with pytest.raises(TypeError):
        copy(bytes(3), slice_of(byte, 1))


def test_bytes_as_a_source() -> None:
    """Go copies strings into bytes; whether bytes can be a source here is left open.

    Either it works as there, or it is a TypeError that changes nothing.
    """
    dst = make(Slice[byte], 5)
    if not outcome_is_type_error(copy, dst, b"abc"):
        assert bytes(dst) == b"abc\0\0"
    else:
        assert bytes(dst) == bytes(5)
