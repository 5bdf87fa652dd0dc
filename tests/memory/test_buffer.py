"""Buffers: dimensions, flags that consumers set, what counts as the same items."""

from __future__ import annotations

import ctypes
from typing import Any

import pytest

from goroutines.memory import (
    Array,
    Slice,
    append,
    byte,
    extend,
    int8,
    int32,
    make,
    slice_of,
    string,
)


def test_dimensions() -> None:
    """Arrays in a slice are further dimensions."""
    s = make(Slice[Array[Array[int32, 3], 2]], 4)
    s[1][1][2] = 5
    view = memoryview(s)
    assert (view.ndim, view.shape, view.strides) == (3, (4, 2, 3), (24, 12, 4))
    assert (view.format, view.itemsize, view.nbytes, view.contiguous) == ("i", 4, 96, True)
    assert view[1, 1, 2] == 5
    assert bytes(s)[24 + 12 + 8 :][:4] == bytes(slice_of(int32, 5))


def test_empty_ones() -> None:
    """What has no elements has an empty buffer: nil slices, arrays of none, rows of none."""
    for empty in (Slice[int32](), make(Slice[int32], 0, 4), Array[int32, 0]()):
        assert memoryview(empty).nbytes == 0
        assert bytes(empty) == b""
    rows = make(Slice[Array[int32, 0]], 3)
    assert memoryview(rows).shape == (3, 0)
    assert len(append(rows, rows[0])) == 4


def test_simple_consumers() -> None:
    """Consumers that want neither format nor shape get plain bytes."""
    s = slice_of(int32, 1, 2)
    assert b"".join([s]) == bytes(s)
    assert bytearray(s) == bytes(s)
    assert (ctypes.c_int32 * 2).from_buffer(s)[1] == 2


def test_too_many_dimensions() -> None:
    """More dimensions than a buffer can have are a BufferError."""
    kind: Any = int8
    for _ in range(70):
        kind = Array[kind, 1]
    with pytest.raises(BufferError):
        memoryview(kind())


def test_references_have_none() -> None:
    """Strings and objects are nobody else's memory, and the message says so."""
    with pytest.raises(BufferError, match=r"Slice\[string\] holds references"):
        memoryview(make(Slice[string], 1))


@pytest.mark.parametrize(
    ("source", "same"),
    [
        (b"abc", True),
        (memoryview(b"abc").cast("c"), True),
        (memoryview(b"abc").cast("b"), False),  # signed: taken one by one, and checked
        (memoryview(b"aXbXcX")[::2], False),
    ],
)
def test_items_of_bytes(source: Any, same: bool) -> None:
    """Items that mean the same are taken at once; others are values like any."""
    if source == memoryview(b"abc").cast("c") or same or not isinstance(source, bytes):
        assert bytes(Slice[byte](source)) == b"abc"
    with pytest.raises(OverflowError):
        Slice[byte](memoryview(b"\xff").cast("b"))


def test_a_view_of_the_room_behind() -> None:
    """append in place shows in a view that was made of all the capacity."""
    s = make(Slice[byte], 0, 3)
    view = memoryview(s[:3])
    extend(s, b"xyz")
    assert bytes(view) == b"xyz"


def test_views_keep_the_memory() -> None:
    """A view stays valid, and the same, when append has moved and all slices are gone."""
    s = slice_of(byte, 1, 2)
    view = memoryview(s)
    s = append(s, 3)
    s[0] = 9
    del s
    assert list(view) == [1, 2]
