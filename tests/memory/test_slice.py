"""Slices: growth against Go's own figures, extend, copy from buffers, a model beside them."""

from __future__ import annotations

import array
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from goroutines.memory import (
    Array,
    Map,
    Pointer,
    Slice,
    append,
    byte,
    cap,
    clear,
    copy,
    extend,
    float64,
    int8,
    int16,
    int32,
    int64,
    make,
    slice_of,
    string,
)

from ..conftest import scaled

# What go 1.27 prints for the capacities while elements are appended one by one.
GROWTH: list[tuple[Any, list[int]]] = [
    (int64, [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 848, 1280, 1792, 2560, 3408, 5120, 7168, 9216,
             12288, 16384, 21504]),
    (byte, [8, 16, 32, 64, 128, 256, 512, 896, 1408, 2048, 3072, 4096, 5376, 6912, 9472, 12288,
            16384, 21760]),
    (Array[int16, 3], [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 896, 1365, 2048, 3072, 4096, 5461,
                       8192, 10922, 15018, 19114, 24576]),
    (string, [1, 2, 4, 8, 16, 32, 71, 143, 303, 591, 1023, 1535, 2560, 3584, 5120, 6656, 8704,
              11264, 14336, 18432, 23552]),
    (Pointer[int64], [1, 2, 4, 8, 16, 32, 64, 143, 287, 607, 1023, 1535, 2303, 3071, 4095, 6144,
                      8192, 11264, 14336, 18432, 23552]),
    (Slice[int64], [1, 2, 4, 8, 16, 37, 74, 170, 341, 682, 1135, 1706, 2389, 3413, 4778, 6485,
                    8533, 10922, 13994, 17749, 22528]),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "caps"), GROWTH, ids=[str(kind) for kind, _ in GROWTH])
def test_growth_is_go_s(kind: Any, caps: list[int]) -> None:
    """Every kind of element grows by the steps that Go takes, those with pointers too."""
    s = Slice[kind]()
    zero = make(Slice[kind], 1)[0]
    seen: list[int] = []
    for _ in range(20_001):
        s = append(s, zero)
        if not seen or seen[-1] != cap(s):
            seen.append(cap(s))
    assert seen == caps


@pytest.mark.parametrize(
    ("kind", "n", "expected"),
    [
        (int64, 5, 6),
        (byte, 5, 8),
        (byte, 33, 48),
        (string, 5, 5),
        (int32, 5, 6),
        (int8, 32769, 40960),
    ],
)
def test_growth_by_many(kind: Any, n: int, expected: int) -> None:
    """As many as are needed, rounded up to the allocator's sizes."""
    s = append(Slice[kind](), *make(Slice[kind], n))
    assert (len(s), cap(s)) == (n, expected)
    s = extend(Slice[kind](), make(Slice[kind], n))
    assert (len(s), cap(s)) == (n, expected)


@pytest.mark.parametrize(
    "values",
    [
        lambda: slice_of(int64, 1, 2),
        lambda: Array[int64, 2]([1, 2]),
        lambda: array.array("q", [1, 2]),
        lambda: array.array("l", [1, 2]),
        lambda: memoryview(array.array("q", [1, 0, 2, 0]))[::2],
        lambda: array.array("h", [1, 2]),
        lambda: [1, 2],
        lambda: (n for n in (1, 2)),
        lambda: {1: "a", 2: "b"},
        lambda: b"\1\2",
    ],
)
def test_extend(values: Any) -> None:
    """extend takes slices, arrays, buffers of any format and iterables."""
    s = extend(slice_of(int64, 0), values())
    assert list(s) == [0, 1, 2]
    assert list(Slice[int64](values())) == [1, 2]


def test_extend_bytes() -> None:
    """Bytes are extended by bytes, bytearrays, memoryviews and text."""
    s = Slice[byte](b"a")
    for more in (b"b", bytearray(b"c"), memoryview(b"d"), "\xe9", s):
        s = extend(s, more)
    assert bytes(s) == b"abcd\xc3\xa9a"


def test_extend_by_itself() -> None:
    """A slice behind itself, in place and moving; and by a view of itself."""
    s = extend(make(Slice[int64], 0, 8), [1, 2, 3])
    twice = extend(s, s)
    assert list(twice) == [1, 2, 3, 1, 2, 3]
    assert list(extend(twice, memoryview(twice))) == [1, 2, 3] * 4
    names = append(make(Slice[string], 0, 4), "a", "b")
    assert list(extend(names, names)) == ["a", "b"] * 2
    assert list(extend(names, names[1:])) == ["a", "b", "b"]


def test_nothing_is_written_by_what_fails() -> None:
    """append and extend check all values first, since others may see the room behind."""
    whole = slice_of(int8, 1, 2, 3, 4)
    part = whole[:1]
    for values in ([9, 9, 300], [9, "x"], [9, 9, 9, 9, 300]):
        with pytest.raises((OverflowError, TypeError)):
            append(part, *values)
        with pytest.raises((OverflowError, TypeError)):
            extend(part, values)
    assert list(whole) == [1, 2, 3, 4]


def test_copy_from_buffers() -> None:
    """copy takes buffers of the same items and, for bytes, text; else TypeError."""
    s = make(Slice[byte], 4)
    assert (copy(s, b"ab"), bytes(s)) == (2, b"ab\0\0")
    assert (copy(s, "longer"), bytes(s)) == (4, b"long")
    n = make(Slice[int32], 2)
    assert (copy(n, array.array("i", [5, 6, 7])), list(n)) == (2, [5, 6])
    wrong: list[Any] = [array.array("q", [1]), b"abcd", "ab", [1, 2], None, slice_of(int64, 1)]
    for source in wrong:
        with pytest.raises(TypeError, match="cannot"):
            copy(n, source)
    with pytest.raises(TypeError):
        copy(bytearray(3), s)  # type: ignore[arg-type]


def test_wrong_arguments() -> None:
    """What is no slice is named; missing and surplus arguments are told."""
    calls: list[Any] = [
        lambda: append(),
        lambda: append([1], 2),
        lambda: append(None, 1),
        lambda: extend(slice_of(int8)),
        lambda: extend(slice_of(int8), 5),
        lambda: extend([], []),
        lambda: copy(slice_of(int8)),
        lambda: cap(Map[str, int]()),
        lambda: cap([]),
        lambda: clear([]),
        lambda: clear(Array[int8, 2]()),
    ]
    for call in calls:
        with pytest.raises(TypeError):
            call()


KINDS: dict[str, tuple[Any, Any]] = {
    "byte": (byte, st.integers(0, 255)),
    "float64": (float64, st.floats(allow_nan=False)),
    "string": (string, st.text(max_size=3)),
    "rows": (Array[int8, 2], st.tuples(st.integers(-9, 9), st.integers(-9, 9))),
}


class Window:
    """Go's slice in Python: a list that is shared, where it begins, len and cap."""

    def __init__(self, values: list[Any], start: int, n: int, room: int) -> None:
        self.values, self.start, self.n, self.room = values, start, n, room

    def all(self) -> list[Any]:
        return self.values[self.start : self.start + self.n]

    def put(self, at: int, values: list[Any]) -> None:
        self.values[self.start + at : self.start + at + len(values)] = values


def plain(s: Any) -> list[Any]:
    """Return a slice's elements, rows as tuples."""
    return [tuple(v) if isinstance(v, Array) else v for v in s]


def extended(s: Any, model: Window, values: list[Any], how: str) -> tuple[Any, Window]:
    """Append to both, in one of the ways that there are."""
    kind = s._type.__args__[0]
    zero = plain(make(Slice[kind], 1))[0]
    if how == "append":
        t = append(s, *values)
    elif how == "one by one":
        t = s
        for value in values:
            t = append(t, value)
    else:
        t = extend(s, slice_of(kind, *values) if how == "slice" else values)
    n = model.n + len(values)
    if n <= model.room:
        model.put(model.n, values)
        return t, Window(model.values, model.start, n, model.room)
    if how == "one by one":  # those that had room were written in place
        model.put(model.n, values[: model.room - model.n])
    room = cap(t)
    return t, Window([*model.all(), *values, *[zero] * (room - n)], 0, n, room)


@pytest.mark.parametrize("name", KINDS)
@settings(max_examples=scaled(60, least=5), deadline=None)
@given(data=st.data())
def test_a_family_of_slices(name: str, data: Any) -> None:
    """Slices of one array, extended, cut, copied, assigned and cleared in any order."""
    kind, values = KINDS[name]
    lists = st.lists(values, max_size=6)
    zero = plain(make(Slice[kind], 1))[0]
    n, more = data.draw(st.integers(0, 6)), data.draw(st.integers(0, 6))
    family = [(make(Slice[kind], n, n + more), Window([zero] * (n + more), 0, n, n + more))]
    for _ in range(data.draw(st.integers(1, 25))):
        s, model = data.draw(st.sampled_from(family))
        t, other = data.draw(st.sampled_from(family))
        what = data.draw(st.sampled_from(["cut", "extend", "copy", "assign", "clear", "store"]))
        if what == "cut":
            ends = sorted(data.draw(st.tuples(*[st.integers(0, model.room)] * 3)))
            low, high, most = ends
            part = Window(model.values, model.start + low, high - low, most - low)
            family.append((s[low:high:most], part))
        elif what == "extend":
            how = data.draw(st.sampled_from(["append", "one by one", "slice", "iterable"]))
            family.append(extended(s, model, data.draw(lists), how))
        elif what == "copy":
            count = copy(s, t)
            assert count == min(model.n, other.n)
            model.put(0, other.all()[:count])
        elif what == "assign":
            count = min(model.n, other.n)
            s[:count] = t[:count]
            model.put(0, other.all()[:count])
        elif what == "clear":
            clear(s)
            model.put(0, [zero] * model.n)
        elif model.n:
            i, value = data.draw(st.integers(0, model.n - 1)), data.draw(values)
            s[i] = value
            model.put(i, [value])
        for real, window in family:
            assert (len(real), cap(real)) == (window.n, window.room)
            assert plain(real) == window.all()
            assert (real == t) == (window.all() == other.all())
