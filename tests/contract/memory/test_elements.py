"""The element types from the contract: what fits, what does not, who holds objects alive.

The rule taken for integers is OverflowError for whatever is out of range. Left open:
whether a bool is an integer, how a float32 takes a number beyond its range, and whether
a class as element type refuses instances of others.
"""

from __future__ import annotations

import gc
import math
import struct
import sys
import weakref
from collections.abc import Callable
from typing import Any

import pytest

from goroutines import memory
from goroutines.memory import (
    Array,
    Map,
    Pointer,
    Slice,
    append,
    array_of,
    bool_,
    byte,
    clear,
    copy,
    float32,
    float64,
    int64,
    make,
    new,
    slice_of,
    string,
)

from ...conftest import Token
from .tools import INTS, VALUES, every_int, every_type, outcome_is_type_error, survives, typed


@every_int
def test_limits(name: str) -> None:
    """The least and the greatest integer are stored as they are."""
    _, _, least, greatest = INTS[name]
    s = slice_of(typed(name), least, greatest, 0)
    assert list(s) == [least, greatest, 0]
    s[2] = least
    s[0] = greatest
    assert list(s) == [greatest, greatest, least]


@every_int
def test_out_of_range(name: str) -> None:
    """One more or less is an OverflowError, everywhere a value goes in; nothing changes."""
    _, _, least, greatest = INTS[name]
    T = typed(name)
    s, p, a = slice_of(T, 1), new(T), array_of(T, 1)
    for bad in (least - 1, greatest + 1, 2**64, -(2**63) - 1, 10**100, -(10**100)):
        with pytest.raises(OverflowError):
            s[0] = bad
        with pytest.raises(OverflowError):
            a[0] = bad
        with pytest.raises(OverflowError):
            p.value = bad
        with pytest.raises(OverflowError):
            append(s, bad)
        with pytest.raises(OverflowError):
            slice_of(T, 1, bad)
        with pytest.raises(OverflowError):
            array_of(T, 1, bad)
    assert (list(s), list(a), p.value) == ([1], [1], 0)


def test_the_issues_byte() -> None:
    """300 in a byte: the message says what did not fit."""
    s = make(Slice[byte], 1)
    with pytest.raises(OverflowError, match="300"):
        s[0] = 300


@every_int
@pytest.mark.parametrize("bad", [1.0, 1.5, "1", b"1", None, [1], 1j, float("nan")])
def test_no_integer(name: str, bad: Any) -> None:
    """What is no integer is refused, a float with an integral value too."""
    s = slice_of(typed(name), 7)
    with pytest.raises(TypeError):
        s[0] = bad
    with pytest.raises(TypeError):
        append(s, bad)
    assert list(s) == [7]


def test_index_is_an_integer() -> None:
    """Whatever has __index__ is an integer, as for array.array."""

    class Seven:
        def __index__(self) -> int:
            return 7

    s = make(Slice[byte], 2)
    s[0] = Seven()
    assert list(append(s, Seven())) == [7, 0, 7]


def test_index_that_interferes() -> None:
    """An __index__ that raises, or works on the slice itself, does no harm."""
    s = slice_of(int64, 1, 2, 3)

    class Failing:
        def __index__(self) -> int:
            raise KeyError("index")

    class Meddling:
        def __index__(self) -> int:
            clear(s)
            append(s, *range(1000))
            return 5

    with pytest.raises(KeyError):
        s[0] = Failing()
    with pytest.raises(KeyError):
        s[Failing()]
    s[1] = Meddling()
    assert list(s) == [0, 5, 0]


def test_floats() -> None:
    """float64 holds every float bit by bit; integers become floats."""
    values = [0.1, -0.0, 1e308, 5e-324, math.inf, -math.inf, math.pi]
    s = slice_of(float64, *values)
    assert [struct.pack("d", v) for v in s] == [struct.pack("d", v) for v in values]
    s[0] = float("nan")
    assert math.isnan(s[0])
    s[0] = 3
    assert (s[0], type(s[0])) == (3.0, float)
    with pytest.raises(OverflowError):
        s[0] = 10**400
    assert s[0] == 3.0


def test_float32() -> None:
    """float32 rounds to the nearest that it has."""
    for value in (0.1, 1 / 3, 16777217.0, 1e-40, -2.5, math.inf):
        s = slice_of(float32, value)
        assert s[0] == struct.unpack("f", struct.pack("f", value))[0]
        assert type(s[0]) is float
    assert math.isnan(slice_of(float32, math.nan)[0])


def test_float32_too_big() -> None:
    """1e300 is either refused (OverflowError, nothing changes) or becomes infinite, as in Go."""
    s = slice_of(float32, 1.5)
    try:
        s[0] = 1e300
    except OverflowError:
        assert s[0] == 1.5
    else:
        assert s[0] == math.inf


@pytest.mark.parametrize("bad", ["1.5", b"1", None, [1.0], 1j])
def test_no_float(bad: Any) -> None:
    """What is no real number is refused."""
    for T in (float32, float64):
        s = slice_of(T, 1.5)
        with pytest.raises(TypeError):
            s[0] = bad
        assert list(s) == [1.5]


def test_bools() -> None:
    """bool_ gives True and False themselves."""
    s = slice_of(bool_, True, False)
    assert s[0] is True
    assert s[1] is False
    s[1] = True
    assert s[1] is True


@pytest.mark.parametrize("bad", ["", "x", None, [], 1.0])
def test_no_bool(bad: Any) -> None:
    """There is no truth but truth."""
    s = slice_of(bool_, True)
    with pytest.raises(TypeError):
        s[0] = bad
    assert s[0] is True


def test_strings() -> None:
    """Strings of any length and content come back equal."""
    values = ["", "a", "\0", "\udcff", "\N{SNOWMAN}" * 1000, "x" * 1_000_000]
    s = slice_of(string, *values)
    assert list(s) == values
    assert {type(v) for v in s} == {str}


@pytest.mark.parametrize("bad", [b"a", None, 1, ["a"], bytearray(b"a")])
def test_no_string(bad: Any) -> None:
    """What is no str is refused."""
    s = slice_of(string, "a")
    with pytest.raises(TypeError):
        s[0] = bad
    with pytest.raises(TypeError):
        append(s, "b", bad)
    assert list(s) == ["a"]


def test_objects() -> None:
    """object elements are the very objects, whatever they are."""
    values: list[Any] = [None, 1, 10**30, "a", [1], print, int, Token(), ..., NotImplemented]
    s = slice_of(object, *values)
    assert all(a is b for a, b in zip(s, values))


def test_a_class() -> None:
    """A class is an element type, its zero value is None, Go's nil."""
    s = make(Slice[Token], 2)
    assert list(s) == [None, None]
    token = Token()
    s[0] = token
    assert s[0] is token
    s[0] = None
    assert s[0] is None


def test_subclass_instances() -> None:
    """An instance of a subclass is one of the class."""

    class Sub(Token):
        pass

    s = make(Slice[Token], 1)
    s[0] = sub = Sub()
    assert s[0] is sub


def test_another_class() -> None:
    """An instance of another class is refused with a TypeError, or it is stored: left open."""
    s = make(Slice[Token], 1)
    if outcome_is_type_error(s.__setitem__, 0, "no token"):
        assert s[0] is None
    else:
        assert s[0] == "no token"


def test_class_whose_instancecheck_raises() -> None:
    """A metaclass cannot break anything by its __instancecheck__."""

    class Meta(type):
        def __instancecheck__(cls, instance: object) -> bool:
            raise KeyError("instance")

    class Odd(metaclass=Meta):
        pass

    s = make(Slice[Odd], 1)
    try:
        s[0] = 5
    except (KeyError, TypeError):
        assert s[0] is None


def test_slices_of_slices() -> None:
    """Rows of different lengths, as Go makes a two-dimensional slice."""
    rows = make(Slice[Slice[int64]], 3)
    for i in range(3):
        assert rows[i] is None or len(rows[i]) == 0
        rows[i] = make(Slice[int64], i + 1)
    rows[2][1] = 5
    assert [list(row) for row in rows] == [[0], [0, 0], [0, 5, 0]]
    row = rows[1]
    row[0] = 9
    assert list(rows[1]) == [9, 0]
    rows = append(rows, row, row[:1])
    rows[3][1] = 8
    assert [list(r) for r in rows] == [[0], [9, 8], [0, 5, 0], [9, 8], [9]]


def test_slice_elements_are_typed() -> None:
    """Only slices of the very type are elements."""
    rows = make(Slice[Slice[int64]], 1)
    for bad in (slice_of(byte, 1), array_of(int64, 1), [1], 1, "x"):
        with pytest.raises(TypeError):
            rows[0] = bad


def test_maps_pointers_and_slices_inside() -> None:
    """Everything that make and new give can be an object element."""
    s = make(Slice[object], 4)
    s[0], s[1], s[2] = make(Map[string, int64]), new(int64), make(Slice[int64], 1)
    s[3] = array_of(int64, 1)
    s[0]["a"] = 1
    s[1].value = 2
    s[2][0] = 3
    s[3][0] = 4
    assert (s[0]["a"], s[1].value, s[2][0], s[3][0]) == (1, 2, 3, 4)


def test_byte_is_uint8() -> None:
    """byte is another name for uint8, as in Go: the slices are of one type."""
    assert Slice[byte] == Slice[memory.uint8]
    dst = make(Slice[byte], 2)
    assert copy(dst, slice_of(memory.uint8, 1, 2)) == 2


@pytest.mark.parametrize("bad", [None, 3, "int64", [int], 1.5, ...])
def test_no_element_type(bad: Any) -> None:
    """What is no type cannot be an element type: a TypeError, when written or when made."""
    with pytest.raises(TypeError):
        make(Slice[bad], 1)
    with pytest.raises(TypeError):
        slice_of(bad, 1)
    with pytest.raises(TypeError):
        new(Array[bad, 3])
    with pytest.raises(TypeError):
        make(Map[bad, int64])
    with pytest.raises(TypeError):
        make(Map[int64, bad])


# --- who holds what ---------------------------------------------------------------------------


def watched() -> tuple[Token, weakref.ref[Token]]:
    """Return a new object and a weak reference to it."""
    token = Token()
    return token, weakref.ref(token)


def test_elements_are_held_and_let_go() -> None:
    """An element lives until it is replaced, cleared, or its array goes."""
    s = make(Slice[object], 4)
    refs = []
    for i in range(4):
        s[i], ref = watched()
        refs.append(ref)
    gc.collect()
    assert all(ref() is not None for ref in refs)
    s[0] = None
    clear(s[1:2])
    copy(s[2:3], s[:1])
    gc.collect()
    assert [ref() is None for ref in refs] == [True, True, True, False]
    del s
    gc.collect()
    assert refs[3]() is None


def test_elements_behind_the_length_are_held() -> None:
    """The array holds what a shorter slice no longer shows, as in Go."""
    token, ref = watched()
    s = slice_of(object, None, token)
    s = s[:1]
    del token
    gc.collect()
    assert ref() is not None
    assert s[:2][1] is ref()
    del s
    gc.collect()
    assert ref() is None


def test_a_small_part_holds_the_array() -> None:
    """A slice of a part keeps all elements alive, as in Go."""
    token, ref = watched()
    part = slice_of(object, token, None, None)[2:]
    del token
    gc.collect()
    assert ref() is not None
    del part
    gc.collect()
    assert ref() is None


def test_moving_lets_the_old_array_go() -> None:
    """After append moved, replacing the elements of the new array frees them."""
    token, ref = watched()
    s = slice_of(object, token)
    s = append(s, None)
    del token
    s[0] = None
    gc.collect()
    assert ref() is None


def test_failed_calls_let_go() -> None:
    """What raises half way keeps nothing."""
    token, ref = watched()

    class Failing:
        def __index__(self) -> int:
            raise KeyError

    with pytest.raises(TypeError):
        slice_of(string, "a", token)
    with pytest.raises(TypeError):
        append(slice_of(int64), 1, token)
    with pytest.raises(TypeError):
        array_of(int64, token)
    with pytest.raises(KeyError):
        slice_of(int64, 1, Failing())
    del token
    gc.collect()
    assert ref() is None


def _holder(kind: str, token: Token) -> Any:
    makers: dict[str, Callable[[], Any]] = {
        "slice": lambda: slice_of(object, token),
        "array": lambda: array_of(object, token),
        "nested": lambda: slice_of(Array[object, 1], array_of(object, token)),
        "slices": lambda: slice_of(Slice[object], slice_of(object, token)),
        "pointer": lambda: new(object),
        "class": lambda: slice_of(Token, token),
        "part": lambda: slice_of(object, token, None, None)[2:],
    }
    return makers[kind]()


@pytest.mark.parametrize("kind", ["slice", "array", "nested", "slices", "pointer", "class", "part"])
def test_cycles_are_collected(kind: str) -> None:
    """A cycle through elements is garbage like any other."""
    holder = _holder(kind, token := Token())
    ref = weakref.ref(token)
    if isinstance(holder, Pointer):
        holder.value = token
    token.holder = holder  # type: ignore[attr-defined]
    del token, holder
    gc.collect()
    assert ref() is None


def test_a_slice_that_holds_itself_is_collected() -> None:
    """A slice among its own elements is garbage once nobody has it."""
    token, ref = watched()
    s = make(Slice[object], 3)
    s[0], s[1], s[2] = s, s[1:], token
    del s, token
    gc.collect()
    assert ref() is None


def test_collector_spares_what_is_reached() -> None:
    """A collection while slices share arrays frees nothing that one of them shows."""
    tokens = [Token() for _ in range(10)]
    s = slice_of(object, *tokens)
    parts = [s[i : i + 2] for i in range(9)]
    s[0] = parts  # a cycle that is alive
    del s
    refs = [weakref.ref(token) for token in tokens[1:]]
    del tokens
    gc.collect()
    gc.collect()
    assert all(ref() is not None for ref in refs)
    assert parts[3][0] is refs[2]()


def test_finalizer_that_uses_the_slice() -> None:
    """A __del__ of an element may store into the very slice that lets it go."""
    s = make(Slice[object], 3)
    died = []

    class Dying:
        def __del__(self) -> None:
            died.append(list(s) if s is not None else None)
            s[0] = "from __del__"
            append(s, 1, 2, 3)

    s[0] = Dying()
    s[0] = None
    gc.collect()
    assert len(died) == 1
    s[1] = Dying()
    clear(s)
    gc.collect()
    s[1] = Dying()
    copy(s[1:], s[2:])
    gc.collect()
    assert len(died) == 3
    assert s[0] in ("from __del__", None)


@every_type
def test_reference_counts(name: str) -> None:
    """Thousands of stores, copies and appends leave the reference counts of values alone."""
    made = {"object": lambda: ["token"], "string": lambda: "".join(["t", "oken"])}
    token = made.get(name, lambda: VALUES[name][1][0])()
    before = sys.getrefcount(token)
    for _ in range(200):
        s = slice_of(typed(name), token, token)
        s = append(s, token, token, token)
        copy(s[1:], s)
        s[0] = s[1]
        array_of(typed(name), *s)
        clear(s[1:2])
        make(Map[int64, typed(name)])[1] = token
        new(typed(name)).value = token
    del s
    gc.collect()
    assert abs(sys.getrefcount(token) - before) <= 1


def test_deep_nesting_is_freed() -> None:
    """A slice in a slice in a slice, 100,000 deep, is freed without overflowing the stack."""
    survives(
        """
        s = make(Slice[object], 1)
        for _ in range(100_000):
            t = make(Slice[object], 1)
            t[0] = s
            s = t
        del s, t
        a = array_of(object, None)
        for _ in range(100_000):
            a = array_of(object, a)
        del a
        import gc
        gc.collect()
        """
    )
