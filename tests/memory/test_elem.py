"""Elements: what is said of those that do not fit, conversions, what stands for zero."""

from __future__ import annotations

import decimal
import math
from typing import Any

import pytest

from goroutines.memory import (
    Array,
    Map,
    Slice,
    array_of,
    bool_,
    byte,
    float32,
    float64,
    int8,
    int16,
    int32,
    int64,
    make,
    new,
    slice_of,
    string,
    uint8,
    uint32,
    uint64,
)

HUGE = 1 << 20_000  # more digits than Python shows


@pytest.mark.parametrize(
    ("kind", "value", "message"),
    [
        (byte, 300, "300 overflows byte, uint8 (0 to 255) at index 1"),
        (byte, -1, "-1 overflows byte, uint8 (0 to 255) at index 1"),
        (int8, 128, "128 overflows int8 (-128 to 127) at index 1"),
        (uint64, -1, "-1 overflows uint64 (0 to 18446744073709551615) at index 1"),
        (float32, 1e39, "1e+39 overflows float32 at index 1"),
    ],
)
def test_overflow(kind: Any, value: Any, message: str) -> None:
    """A number that does not fit is an OverflowError with value, type, range and index."""
    s = make(Slice[kind], 2)
    with pytest.raises(OverflowError) as caught:
        s[1] = value
    assert message in str(caught.value)
    assert s[1] == 0


@pytest.mark.parametrize(
    ("kind", "value", "message"),
    [
        (int32, "x", "cannot use 'x' (str) as int32 value at index 1"),
        (int32, 1.0, "cannot use 1.0 (float) as int32 value at index 1"),
        (float64, "1.0", "cannot use '1.0' (str) as float64 value at index 1"),
        (bool_, 1, "cannot use 1 (int) as bool_ value at index 1"),
        (string, b"x", "cannot use b'x' (bytes) as string value at index 1"),
        (string, None, "cannot use None (NoneType) as string value at index 1"),
        (Slice[int32], [1], "cannot use [1] (list) as Slice[int32] value at index 1"),
        (int32, "long" * 100, "'longlong"),
    ],
)
def test_wrong_types(kind: Any, value: Any, message: str) -> None:
    """What is no such value is a TypeError with value, type and index, not too long."""
    s = make(Slice[kind], 2)
    with pytest.raises(TypeError) as caught:
        s[1] = value
    assert message in str(caught.value)
    assert len(str(caught.value)) < 200


def test_a_value_without_a_repr() -> None:
    """A value whose repr raises is refused all the same."""

    class Mute:
        def __repr__(self) -> str:
            raise ZeroDivisionError

    with pytest.raises(TypeError, match="a value"):
        slice_of(int32, Mute())
    with pytest.raises(OverflowError, match="a value overflows int64"):
        slice_of(int64, HUGE)


def test_numbers_of_other_kinds() -> None:
    """__index__ makes an integer, __float__ a float; float32 rounds."""

    class Three:
        def __index__(self) -> int:
            return 3

    assert list(slice_of(int8, Three(), True)) == [3, 1]
    assert list(slice_of(float64, Three(), decimal.Decimal("0.5"))) == [3.0, 0.5]
    assert slice_of(float32, 0.1)[0] == pytest.approx(0.1)
    assert math.isinf(slice_of(float32, math.inf)[0])
    assert math.isnan(slice_of(float32, math.nan)[0])
    with pytest.raises(OverflowError):
        slice_of(float64, HUGE)


def test_conversions_wrap_around() -> None:
    """Calling a type converts as Go does: integers wrap around, floats are cut."""
    assert (uint8(300), uint8(-1), int8(200), int16(1 << 15)) == (44, 255, -56, -32768)
    assert (int32(1 << 32), uint32(-1), int64(1 << 63), uint64(-1)) == (
        0,
        (1 << 32) - 1,
        -(1 << 63),
        (1 << 64) - 1,
    )
    assert (int32(2.9), int32(-2.9), uint8(HUGE)) == (2, -2, 0)
    assert float32(0.1) == slice_of(float32, 0.1)[0]
    assert math.isinf(float32(1e39))
    assert float64(2) == 2.0
    assert (bool_(1), bool_([])) == (True, False)
    assert (int32(), float64(), bool_(), string()) == (0, 0.0, False, "")


def test_conversions_to_string() -> None:
    """Bytes become a string and back, whatever they are."""
    odd = bytes(range(256))
    assert string(b"h\xc3\xa9") == "h\xe9"
    assert string("x") == "x"
    assert bytes(Slice[byte](string(Slice[byte](odd)))) == odd
    for wrong in (65, None, [65], slice_of(int32, 65)):
        with pytest.raises(TypeError):
            string(wrong)


@pytest.mark.parametrize("wrong", ["1", None, b"1", [1]])
def test_what_cannot_be_converted(wrong: Any) -> None:
    """Text is parsed by nobody."""
    for kind in (int32, float64):
        with pytest.raises(TypeError):
            kind(wrong)
    for bad in (math.nan, math.inf):
        with pytest.raises((ValueError, OverflowError)):
            int32(bad)


def test_zero_values() -> None:
    """Zeroed memory reads as zero values: nil slices that append takes, nil maps to read."""
    assert list(make(Slice[string], 2)) == ["", ""]
    assert list(make(Slice[object], 2)) == [None, None]
    rows = make(Slice[Slice[int32]], 2)
    assert (len(rows[0]), isinstance(rows[0], Slice[int32])) == (0, True)
    maps = make(Slice[Map[str, int]], 1)
    assert (len(maps[0]), maps[0]["x"], list(maps[0]), "x" in maps[0]) == (0, 0, [], False)
    with pytest.raises(RuntimeError, match="assignment to entry in nil map"):
        maps[0]["x"] = 1
    assert new(Map[str, int]).value == Map[str, int]()
    rows[0] = slice_of(int32, 1)
    rows[0] = None  # Go's nil
    assert len(rows[0]) == 0


def test_arrays_as_elements() -> None:
    """Lists and tuples stand for what Go writes in braces: the missing ones are zeros."""
    grid = Array[Array[int32, 3], 2]([[1, 2], (3,)])
    assert grid == array_of(Array[int32, 3], [1, 2, 0], [3, 0, 0])
    with pytest.raises(IndexError, match="index 3 is out of bounds"):
        grid[0] = [1, 2, 3, 4]
    with pytest.raises(OverflowError):
        grid[0] = [9, 1 << 40, 9]
    assert list(grid[0]) == [1, 2, 0]
    with pytest.raises(TypeError):
        grid[0] = slice_of(int32, 1, 2, 3)


def test_bytes_that_are_no_bool() -> None:
    """What a buffer's user wrote into a bool is true."""
    s = make(Slice[bool_], 2)
    memoryview(s).cast("B")[0] = 7
    assert [v is True for v in s] == [True, False]
