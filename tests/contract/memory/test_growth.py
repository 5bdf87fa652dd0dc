"""The capacities that append gives: those that Go 1.27 prints on linux/amd64.

Only for elements whose size is Go's (numbers, and arrays of them): how large a string or
an object element is inside, the contract does not say, so there only the pace is checked.
"""

from __future__ import annotations

import pytest

from goroutines.memory import Array, Slice, append, array_of, byte, cap, int64, make

from .tools import every_number, typed

# What Go prints when 50,000 elements (rows: 5,000) are appended one by one.
GROWTH: dict[int, list[int]] = {
    1: [8, 16, 32, 64, 128, 256, 512, 896, 1408, 2048, 3072, 4096, 5376, 6912, 9472, 12288]
    + [16384, 21760, 28672, 40960, 57344],
    2: [4, 8, 16, 32, 64, 128, 256, 512, 896, 1344, 2048, 3072, 4096, 5440, 7168, 9216]
    + [12288, 16384, 24576, 32768, 45056, 57344],
    4: [2, 4, 8, 16, 32, 64, 128, 256, 512, 864, 1344, 2048, 3072, 4096, 5440, 7168, 10240]
    + [14336, 18432, 24576, 32768, 43008, 55296],
    8: [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 848, 1280, 1792, 2560, 3408, 5120, 7168, 9216]
    + [12288, 16384, 21504, 27648, 34816, 44032, 55296],
}
SIZE = {"int8": 1, "uint8": 1, "byte": 1, "int16": 2, "uint16": 2, "int32": 4, "uint32": 4}
SIZE |= {"float32": 4, "int64": 8, "uint64": 8, "float64": 8}

# (len and cap before, values appended at once): cap after, of bytes, int32, int64
AT_ONCE = [
    (0, 3, 8, 4, 3),
    (0, 5, 8, 6, 6),
    (0, 7, 8, 8, 8),
    (1, 2, 8, 4, 3),
    (2, 3, 8, 6, 6),
    (3, 1, 8, 6, 6),
    (3, 4, 8, 8, 8),
    (4, 5, 16, 12, 10),
    (5, 1, 16, 12, 10),
    (5, 6, 16, 12, 12),
    (5, 100, 112, 112, 112),
    (10, 1, 24, 20, 20),
    (255, 1, 512, 512, 512),
    (256, 1, 512, 512, 512),
    (257, 1, 576, 576, 608),
    (300, 1, 576, 576, 608),
    (300, 300, 1024, 1024, 1024),
    (300, 400, 704, 768, 768),
    (1000, 1, 1536, 1536, 1536),
    (1000, 2000, 3072, 3072, 3072),
    (4096, 1, 5376, 5440, 6144),
    (5000, 1, 6528, 6816, 7168),
    (10000, 1, 13568, 14336, 13312),
    (10000, 20000, 32768, 30720, 30720),
]


@every_number
def test_one_by_one(name: str) -> None:
    """Appending one element after the other goes through Go's capacities."""
    s = make(Slice[typed(name)], 0)
    caps: list[int] = []
    for _ in range(50_000):
        s = append(s, 1)
        if not caps or caps[-1] != cap(s):
            caps.append(cap(s))
    assert caps == GROWTH[SIZE[name]]


@pytest.mark.parametrize(
    ("T", "n", "expected"),
    [
        (int64, 3, [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 853, 1365, 2048, 3072, 4096, 5461]),
        (byte, 7, [1, 2, 4, 9, 18, 36, 73, 146, 292, 585, 932, 1389, 1938, 2633, 3510, 4681, 7021]),
    ],
    ids=["[3]int64", "[7]byte"],
)
def test_rows_one_by_one(T: object, n: int, expected: list[int]) -> None:
    """Elements of an odd size grow by the same formula."""
    row = array_of(T, *[1] * n)
    s = make(Slice[Array[T, n]], 0)
    caps: list[int] = []
    for _ in range(5_000):
        s = append(s, row)
        if not caps or caps[-1] != cap(s):
            caps.append(cap(s))
    assert caps == expected


@pytest.mark.parametrize("before", AT_ONCE, ids=lambda row: f"{row[0]}+{row[1]}")
def test_at_once(before: tuple[int, ...]) -> None:
    """Appending many at once asks for room once, rounded up to a size class."""
    length, more, *expected = before
    for name, capacity in zip(("byte", "int32", "int64"), expected):
        s = append(make(Slice[typed(name)], length), *[1] * more)
        assert (name, len(s), cap(s)) == (name, length + more, capacity)


def test_capacity_of_the_sliced() -> None:
    """Growth goes by the slice's own capacity, not by its array's."""
    s = make(Slice[int64], 100)
    assert cap(append(s[:2:2], 1)) == 4
    assert cap(append(s[10:14:14], 1)) == 8


def test_make_is_exact() -> None:
    """make and slicing round nothing up."""
    for n in (0, 1, 3, 5, 7, 100, 1001, 33_000):
        assert cap(make(Slice[byte], n)) == n
        assert cap(make(Slice[byte], 0, n)) == n


@pytest.mark.parametrize("name", ["string", "object", "bool_"])
def test_pace(name: str) -> None:
    """A slice of anything moves rarely: at most doubling and a bit, at least by a quarter.

    The bit is Go's too: 32 strings grow to 71.
    """
    zero = {"string": "", "object": None, "bool_": False}[name]
    s = make(Slice[typed(name)], 0)
    caps = [0]
    for _ in range(30_000):
        s = append(s, zero)
        if caps[-1] != cap(s):
            caps.append(cap(s))
    for old, new in zip(caps[5:], caps[6:]):
        assert 1.2 * old <= new <= 2.3 * old, caps
    assert len(caps) < 40


def test_rows_without_a_size() -> None:
    """Elements that take no room can be appended too."""
    s = make(Slice[Array[int64, 0]], 0)
    for i in range(100):
        s = append(s, array_of(int64))
        assert (len(s), list(s[i])) == (i + 1, [])
        assert cap(s) >= len(s)
