"""Bad input from the contract: sizes that are negative or absurd, wrong types, wrong calls.

What could end an interpreter runs in one of its own.
"""

from __future__ import annotations

from typing import Any

import pytest

from goroutines import Chan, memory
from goroutines.memory import (
    Array,
    Map,
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

from .tools import numbers, outcome_is_type_error, real_memory, survives


def test_negative_sizes() -> None:
    """A negative size is a ValueError, in Go's words for slices."""
    for n in (-1, -5, -(2**62), -(2**63), -(10**30)):
        with pytest.raises(ValueError, match="len out of range"):
            make(Slice[int64], n)
        with pytest.raises(ValueError, match="(?:len|cap) out of range"):
            make(Slice[int64], n, 5)
        with pytest.raises(ValueError, match="cap out of range"):
            make(Slice[int64], 0, n)
        with pytest.raises(ValueError):
            make(Slice[int64], 0, cap=n)
        with pytest.raises(ValueError):
            new(Array[int64, n])
        with pytest.raises(ValueError):
            make(Chan[int], n)


def test_capacity_below_length() -> None:
    """Less capacity than length is Go's error."""
    with pytest.raises(ValueError, match="cap out of range"):
        make(Slice[int64], 5, 4)
    with pytest.raises(ValueError, match="cap out of range"):
        make(Slice[int64], 1, 0)


@pytest.mark.parametrize("bad", [1.0, "1", [], 1j, b"1", int64, Slice[int64]])
def test_size_of_a_wrong_type(bad: Any) -> None:
    """A size is an integer."""
    with pytest.raises(TypeError):
        make(Slice[int64], bad)
    with pytest.raises(TypeError):
        make(Slice[int64], 0, bad)
    with pytest.raises(TypeError):
        new(Array[int64, bad])
    with pytest.raises(TypeError):
        make(Chan[int], bad)


def test_length_is_needed() -> None:
    """A slice without a length, or with too many, cannot be made."""
    with pytest.raises(TypeError):
        make(Slice[int64])
    with pytest.raises(TypeError):
        make(Slice[int64], None)
    with pytest.raises(TypeError):
        make(Slice[int64], 1, 2, 3)
    with pytest.raises(TypeError):
        make()  # type: ignore[call-overload]


@pytest.mark.parametrize("bad", [int64, string, object, int, None, 5, "Slice", [int64]])
def test_what_cannot_be_made(bad: Any) -> None:
    """make is for slices, maps and channels."""
    with pytest.raises(TypeError):
        make(bad)
    with pytest.raises(TypeError):
        make(bad, 1)


def test_arrays_cannot_be_made() -> None:
    """In Go neither: arrays come from new."""
    with pytest.raises(TypeError):
        make(Array[int64, 3], 3)


def test_channels() -> None:
    """make(Chan[T], cap) is a channel."""
    ch = make(Chan[int], 2)
    assert isinstance(ch, Chan)
    assert (ch.cap, cap(ch)) == (2, 2)
    ch.send(1)
    assert (len(ch), ch.recv()) == (1, 1)
    assert make(Chan[int]).cap == 0
    assert make(Chan[str], 0).cap == 0


@pytest.mark.parametrize("bad", [None, 5, "abc", [1], (1,), {}, object()])
def test_cap_and_clear_of_something_else(bad: Any) -> None:
    """cap is for slices, arrays and channels, clear for slices and maps."""
    if not isinstance(bad, (list, dict)):
        with pytest.raises(TypeError):
            clear(bad)
    with pytest.raises(TypeError):
        cap(bad)


def test_cap_of_a_map() -> None:
    """Maps have no capacity in Go."""
    with pytest.raises(TypeError):
        cap(make(Map[int64, int64]))


def test_clear_of_an_array() -> None:
    """Go clears no arrays; here that is a TypeError, or it zeroes it."""
    a = array_of(int64, 1, 2)
    if not outcome_is_type_error(clear, a):
        assert list(a) == [0, 0]


@pytest.mark.parametrize(
    "write",
    [
        lambda: Slice[()],
        lambda: Slice[int64, int64],
        lambda: make(Slice, 3),
        lambda: make(Map, 3),
        lambda: make(Map[int64]),
        lambda: make(Map[int64, int64, int64]),
        lambda: new(Array),
        lambda: new(Array[int64]),
        lambda: new(Array[3, int64]),
        lambda: new(Array[int64, 3, 4]),
        lambda: new(Array[int64, None]),
    ],
)
def test_types_written_wrongly(write: Any) -> None:
    """A type that is not complete is a TypeError, at the latest when it is used."""
    with pytest.raises(TypeError):
        make(write(), 1)


def test_constructors_make_no_broken_objects() -> None:
    """However the types are called, the result is an exception or a sound object."""
    survives(
        """
        import gc
        import itertools

        USES = [
            repr, len, list, hash, bool, memoryview, cap, clear, lambda x: x[0], lambda x: x[:],
            lambda x: append(x, 1), lambda x: copy(x, x), lambda x: x == x, lambda x: x.value,
            lambda x: x.__reduce_ex__(4),
        ]

        def use(make_it):
            try:
                made = make_it()
            except Exception:
                return
            for fn in USES:
                try:
                    fn(made)
                except Exception:
                    pass

        things = [None, 1, -1, 2**62, 2**64, "x", int64, Slice[int64], object(), [1], b"abc"]
        values = [make(Slice[int64], 1), new(int64), array_of(int64, 1), make(Map[int64, int64])]
        types = [Slice, Array, Map, Pointer, Slice[int64], Slice[object], Array[int64, 3]]
        types += [Map[string, int64], type(int64), type(Slice[int64]), *map(type, values)]
        for cls in types:
            for n in range(4):
                for args in itertools.islice(itertools.product(things, repeat=n), 200):
                    use(lambda: cls(*args))
            if isinstance(cls, type):
                for args in ((cls,), (cls, int64), (cls, int64, 1), (cls, 1)):
                    use(lambda: cls.__new__(*args))
                    use(lambda: object.__new__(cls))
        gc.collect()
        """
    )


LIMITED = """
import resource
from pathlib import Path

def limit(more):
    # Allow `more` bytes of address space beyond what is in use.
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    size = pages * resource.getpagesize() + more
    resource.setrlimit(resource.RLIMIT_AS, (size, size))
"""


ABSURD = [2**31, 2**40, 2**47, 2**59, 2**60, 2**61, 2**62, 2**63 - 1, 2**63, 2**64 - 1, 2**64]
ABSURD += [2**64 + 1, 10**30]


@real_memory
def test_absurd_sizes() -> None:
    """More than any machine has is a MemoryError or a ValueError, and all goes on."""
    survives(
        """
        limit(4 << 30)
        row = Array[int64, 1 << 20]
        for T in (int64, byte, string, object, row, float32, bool_, Slice[int64]):
            for n in sizes:
                for make_it in (
                    lambda: make(Slice[T], n),
                    lambda: make(Slice[T], 0, n),
                    lambda: make(Slice[T], n, n),
                    lambda: make(Slice[T], 0, cap=n),
                    lambda: new(Array[T, n]),
                    lambda: make(Slice[Array[T, n]], 1),
                    lambda: make(Slice[Array[T, n]], n),
                    lambda: make(Slice[Array[Array[T, 2**20], n]], 1),
                    lambda: make(Slice[Array[Array[T, n], n]], 1),
                ):
                    try:
                        make_it()
                    except (ValueError, MemoryError):
                        continue
                    raise AssertionError(f"{T} {n}")
        s = make(Slice[int64], 3)
        s[2] = 5
        assert list(append(s, 1)) == [0, 0, 5, 1]
        """,
        names=f"{LIMITED}\nsizes = {[n for n in ABSURD if n > 2**31]}",
    )


def test_absurd_sizes_of_nothing() -> None:
    """Absurdly many elements without a size are refused, or work; the program lives."""
    survives(
        """
        for n in sizes:
            try:
                s = make(Slice[Array[int64, 0]], n)
            except (ValueError, MemoryError):
                continue
            assert len(s) == n
            assert len(s[n - 1]) == 0
            try:
                assert len(append(s, array_of(int64))) == n + 1
            except (ValueError, MemoryError, OverflowError):
                pass
        """,
        names=f"sizes = {ABSURD}",
    )


@real_memory
@pytest.mark.slow
def test_running_out_of_memory() -> None:
    """With little address space left every call either works or is a MemoryError."""
    survives(
        """
        import gc
        make(Slice[byte], 1)
        limit(400 << 20)
        for size in (100 << 20, 1 << 20, 50_000, 10_000):
            kept = []
            try:
                for _ in range((500 << 20) // size):
                    kept.append(make(Slice[byte], size))
            except MemoryError:
                pass
            for s in kept:
                s[0] = s[size - 1] = 1
            del kept
            gc.collect()
            assert sum(make(Slice[int64], 10_000)) == 0
        s = slice_of(object, "a")
        try:
            while len(s) < 100_000_000:
                s = append(s, *s)
        except MemoryError:
            pass
        assert s[0] == "a"
        del s
        gc.collect()
        m = make(Map[int64, int64])
        m[1] = 1
        assert m[1] == 1
        """,
        names=LIMITED,
    )


@real_memory
@pytest.mark.slow
def test_memory_error_leaves_the_slice() -> None:
    """An append that finds no memory leaves the slice as it was, and usable."""
    survives(
        """
        s = make(Slice[byte], 300 << 20)
        s[0] = 7
        limit(200 << 20)
        try:
            assert len(append(s, 1)) == len(s) + 1
        except MemoryError:
            pass
        assert (len(s), cap(s), s[0]) == (300 << 20, 300 << 20, 7)
        del s
        s = append(make(Slice[byte], 10 << 20), 1)
        assert s[10 << 20] == 1
        """,
        names=LIMITED,
    )


def test_subclasses() -> None:
    """The types are final, or their subclasses work; neither crashes."""
    survives(
        """
        for base in (Slice, Array, Map, Pointer):
            try:
                class Sub(base):
                    pass
            except TypeError:
                continue
            try:
                Sub()
            except TypeError:
                pass
        """
    )


def test_attributes_are_fixed() -> None:
    """Slices take no attributes: a mistyped one is an error."""
    for x in (numbers(1), array_of(int64, 1)):
        with pytest.raises(AttributeError):
            x.lenght = 5


def test_all_names_are_there() -> None:
    """Everything in the contract is public."""
    names = "new make append copy cap clear array_of slice_of Array Slice Map Pointer byte"
    names += " int8 int16 int32 int64 uint8 uint16 uint32 uint64 float32 float64 bool_ string"
    for name in names.split():
        assert name in memory.__all__
        assert hasattr(memory, name)


def test_docstrings() -> None:
    """What a user calls says what it does."""
    for name in ("new", "make", "append", "copy", "cap", "clear", "array_of", "slice_of"):
        assert len(getattr(memory, name).__doc__ or "") > 20, name
    for name in ("Array", "Slice", "Map", "Pointer"):
        assert len(getattr(memory, name).__doc__ or "") > 20, name


def test_reading_errors() -> None:
    """An error names what was wrong: the value, the type that was wanted."""
    with pytest.raises(TypeError, match="int|str"):
        slice_of(int64, 1)[0] = "x"
    with pytest.raises(TypeError, match="str"):
        make(Slice[string], 1)[0] = 5
    with pytest.raises(TypeError, match="(?i)slice"):
        append([1], 1)
    with pytest.raises(OverflowError, match="-1"):
        make(Slice[byte], 1)[0] = -1
