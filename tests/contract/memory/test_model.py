"""Slices, arrays and maps beside simple models of them, driven by hypothesis.

The model of a slice is (list, offset, len, cap), several sharing one list. How far a
slice grows is taken over from the real one, once it is enough: test_growth.py asks for more.
"""

from __future__ import annotations

import pickle
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    invariant,
    rule,
    run_state_machine_as_test,
)

from goroutines.memory import (
    Array,
    Map,
    Slice,
    append,
    array_of,
    byte,
    cap,
    clear,
    copy,
    float64,
    int16,
    int64,
    make,
    slice_of,
    string,
)

from ...conftest import scaled


class Model:
    """Go's slice: a part of a list that others share."""

    def __init__(self, values: list[Any], offset: int, length: int, capacity: int) -> None:
        self.values, self.offset, self.length, self.capacity = values, offset, length, capacity

    def get(self) -> list[Any]:
        """The elements."""
        return self.values[self.offset : self.offset + self.length]

    def put(self, at: int, values: list[Any]) -> None:
        """Store `values` from index `at` on."""
        start = self.offset + at
        self.values[start : start + len(values)] = values

    def error(self, low: int | None, high: int | None, most: int | None) -> str | None:
        """Go's words for what is wrong with these bounds, or None."""
        i, j = 0 if low is None else low, self.length if high is None else high
        if most is None:
            if not 0 <= j <= self.capacity:
                return f"[:{j}]" + (f" with capacity {self.capacity}" if j >= 0 else "")
            if i < 0:
                return f"[{i}:"
            return f"[{i}:{j}]" if i > j else None
        if not 0 <= most <= self.capacity:
            return f"[::{most}]" + (f" with capacity {self.capacity}" if most >= 0 else "")
        if not 0 <= j <= most:
            return f"[:{j}:{most}]" if j >= 0 else f"[:{j}:"
        if i < 0:
            return f"[{i}:"
        return f"[{i}:{j}:]" if i > j else None

    def slice(self, low: int | None, high: int | None, most: int | None) -> Model:
        """The slice between good bounds."""
        i, j = low or 0, self.length if high is None else high
        limit = self.capacity if most is None else most
        return Model(self.values, self.offset + i, j - i, limit - i)


class Machine(RuleBasedStateMachine):
    """Slices of one type; subclasses say which."""

    T: Any
    zero: Any
    buffer = False

    slices = Bundle("slices")
    small = st.integers(0, 12)
    bound = st.none() | st.integers(-2, 20)
    values = st.lists(st.integers(0, 255), max_size=10)

    def __init__(self) -> None:
        super().__init__()
        self.all: list[tuple[Any, Model]] = []

    def value(self, number: int) -> Any:
        """An element made of a number."""
        return number

    def keep(self, real: Any, model: Model) -> tuple[Any, Model]:
        """Watch this pair from now on."""
        self.all.append((real, model))
        del self.all[:-20]  # old ones are let go, so that arrays are freed meanwhile
        return real, model

    @rule(target=slices, length=small, more=small)
    def make_(self, length: int, more: int) -> Any:
        """A new slice of zeros."""
        model = Model([self.zero] * (length + more), 0, length, length + more)
        return self.keep(make(Slice[self.T], length, length + more), model)

    @rule(target=slices, numbers=values)
    def slice_of_(self, numbers: list[int]) -> Any:
        """A new slice with values."""
        elements = [self.value(n) for n in numbers]
        real = slice_of(self.T, *elements)
        return self.keep(real, Model(elements, 0, len(elements), len(elements)))

    @rule(target=slices, pair=slices, low=bound, high=bound, most=bound)
    def slice_(self, pair: Any, low: Any, high: Any, most: Any) -> Any:
        """A slice of a slice, or Go's error."""
        real, model = pair
        words = model.error(low, high, most)
        if words is not None:
            with pytest.raises(IndexError) as caught:
                real[low:high:most]
            assert f"slice bounds out of range {words}" in str(caught.value)
            return pair
        return self.keep(real[low:high:most], model.slice(low, high, most))

    @rule(pair=slices, i=st.integers(-2, 20), number=st.integers(0, 255))
    def store(self, pair: Any, i: int, number: int) -> None:
        """Store one element, or Go's error."""
        real, model = pair
        value = self.value(number)
        if 0 <= i < model.length:
            real[i] = value
            model.put(i, [value])
            assert real[i] == value
            return
        words = f"index out of range [{i}]" + (f" with length {model.length}" if i >= 0 else "")
        for use in (lambda: real[i], lambda: real.__setitem__(i, value)):
            with pytest.raises(IndexError) as caught:
                use()
            assert words in str(caught.value)

    @rule(target=slices, pair=slices, numbers=values)
    def append_(self, pair: Any, numbers: list[int]) -> Any:
        """Append values."""
        return self.appended(pair, [self.value(n) for n in numbers])

    @rule(target=slices, pair=slices, other=slices)
    def append_slice(self, pair: Any, other: Any) -> Any:
        """Append the elements of another slice, or of the same."""
        return self.appended(pair, other[1].get(), other[0])

    def appended(self, pair: Any, values: list[Any], source: Any = None) -> Any:
        """Append in both worlds."""
        real, model = pair
        grown = append(real, *(values if source is None else source))
        length = model.length + len(values)
        if length <= model.capacity:
            model.put(model.length, values)
            result = Model(model.values, model.offset, length, model.capacity)
        else:
            assert cap(grown) >= length
            room = [self.zero] * (cap(grown) - length)
            result = Model([*model.get(), *values, *room], 0, length, cap(grown))
        return self.keep(grown, result)

    @rule(to=slices, of=slices)
    def copy_(self, to: Any, of: Any) -> None:
        """Copy between two slices, which may overlap."""
        count = min(to[1].length, of[1].length)
        assert copy(to[0], of[0]) == count
        to[1].put(0, of[1].get()[:count])

    @rule(pair=slices)
    def clear_(self, pair: Any) -> None:
        """Zero the elements."""
        clear(pair[0])
        pair[1].put(0, [self.zero] * pair[1].length)

    @rule(target=slices, pair=slices)
    def pickle_(self, pair: Any) -> Any:
        """A copy by way of a pickle shares nothing."""
        real, model = pickle.loads(pickle.dumps(pair[0])), pair[1]
        assert cap(real) >= model.length
        real = real[: model.length : model.length]
        return self.keep(real, Model(model.get(), 0, model.length, model.length))

    @rule(pair=slices, numbers=values)
    def write_buffer(self, pair: Any, numbers: list[int]) -> None:
        """Write through a memoryview."""
        if self.buffer:
            real, model = pair
            values = [self.value(n) for n in numbers[: model.length]]
            view = memoryview(real)
            assert view.tolist() == model.get()
            for i, value in enumerate(values):
                view[i] = value
            model.put(0, values)

    @rule(pair=slices, bad=st.sampled_from([b"bad", 1j, ...]))
    def refuse(self, pair: Any, bad: Any) -> None:
        """A wrong type changes nothing."""
        if self.T is not object:
            with pytest.raises(TypeError):
                append(pair[0], bad)
            if pair[1].length:
                with pytest.raises(TypeError):
                    pair[0][0] = bad

    @invariant()
    def agree(self) -> None:
        """Elements up to the capacity, len and cap are the model's."""
        for real, model in self.all:
            assert (len(real), cap(real)) == (model.length, model.capacity)
            assert list(real) == model.get()
            everything = model.slice(0, model.capacity, None)
            assert list(real[: model.capacity]) == everything.get()


class Bytes(Machine):
    """Bytes."""

    T, zero, buffer = byte, 0, True


class Shorts(Machine):
    """16 bit integers, the negative ones too."""

    T, zero, buffer = int16, 0, True

    def value(self, number: int) -> Any:
        """Both ends of the range."""
        return (number - 128) * 256


class Floats(Machine):
    """Floats."""

    T, zero, buffer = float64, 0.0, True

    def value(self, number: int) -> Any:
        """Something that is no integer."""
        return number / 7


class Strings(Machine):
    """Strings."""

    T, zero = string, ""

    def value(self, number: int) -> Any:
        """Strings of all kinds of lengths."""
        return chr(number + 200) * (number // 16)


class Objects(Machine):
    """Any objects."""

    T, zero = object, None

    def value(self, number: int) -> Any:
        """A new object each time."""
        return [number]


class Rows(Machine):
    """Arrays of three numbers; those of the model are arrays on their own."""

    T, zero = Array[int64, 3], array_of(int64, 0, 0, 0)

    def value(self, number: int) -> Any:
        """A new row."""
        return array_of(int64, number, -number, number)


@pytest.mark.parametrize("machine", [Bytes, Shorts, Floats, Strings, Objects, Rows])
def test_slices_follow_the_model(machine: type[Machine]) -> None:
    """Random operations on slices that share arrays give what Go's rules say."""
    run_state_machine_as_test(
        machine,
        settings=settings(max_examples=scaled(60), stateful_step_count=40, deadline=None),
    )


keys = st.text(max_size=3)


@settings(max_examples=scaled(100), deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(["set", "add", "del", "clear", "miss"]), keys, st.integers(0, 9))
    )
)
def test_maps_follow_a_dict(operations: list[tuple[str, str, int]]) -> None:
    """A map does what a dict with a default of zero does that stores nothing on a miss."""
    m, model = make(Map[string, int64]), {}
    for what, key, value in operations:
        if what == "set":
            m[key] = model[key] = value
        elif what == "add":
            m[key] += value
            model[key] = model.get(key, 0) + value
        elif what == "del" and key in model:
            del m[key], model[key]
        elif what == "clear":
            clear(m)
            model.clear()
        assert m[key] == model.get(key, 0)
        assert (key in m) == (key in model)
        assert len(m) == len(model)
    assert {k: m[k] for k in m} == model


@settings(max_examples=scaled(200), deadline=None)
@given(st.lists(st.floats(width=64) | st.integers(-(2**53), 2**53)))
def test_floats_are_kept(values: list[float]) -> None:
    """Every float comes back as it went in."""
    s = slice_of(float64, *values)
    assert [repr(v) for v in s] == [repr(float(v)) for v in values]
    assert bytes(memoryview(s)) == b"".join(bytes(memoryview(slice_of(float64, v))) for v in values)


@settings(max_examples=scaled(200), deadline=None)
@given(st.lists(st.text()))
def test_strings_are_kept(values: list[str]) -> None:
    """Every string comes back as it went in."""
    assert list(slice_of(string, *values)) == values
    assert array_of(string, *values) == array_of(string, *values)


@settings(max_examples=scaled(200), deadline=None)
@given(st.integers(-(2**70), 2**70))
def test_integers_fit_or_overflow(value: int) -> None:
    """An integer is kept exactly or is an OverflowError."""
    for T, least, greatest in ((byte, 0, 255), (int16, -(2**15), 2**15 - 1)):
        s = make(Slice[T], 1)
        if least <= value <= greatest:
            s[0] = value
            assert s[0] == value
        else:
            with pytest.raises(OverflowError):
                s[0] = value
    s = make(Slice[int64], 1)
    if -(2**63) <= value < 2**63:
        s[0] = value
        assert s[0] == value
    else:
        with pytest.raises(OverflowError):
            s[0] = value
