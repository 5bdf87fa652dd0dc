"""new and Pointer from the contract."""

from __future__ import annotations

import gc
import weakref

import pytest

from goroutines.memory import (
    Array,
    Pointer,
    Slice,
    append,
    array_of,
    byte,
    float32,
    int64,
    new,
    slice_of,
    string,
)

from ...conftest import Token
from .tools import VALUES, every_type, survives, typed


@every_type
def test_new(name: str) -> None:
    """new gives a pointer to a zero value of its own."""
    zero, values = VALUES[name]
    p, q = new(typed(name)), new(typed(name))
    assert isinstance(p, Pointer)
    assert p.value == zero
    assert type(p.value) is type(zero)
    p.value = values[0]
    assert (p.value, q.value) == (values[0], zero)


@every_type
def test_new_zeroes_used_memory(name: str) -> None:
    """Memory that held a value before is zero again."""
    zero, values = VALUES[name]
    for _ in range(1000):
        p = new(typed(name))
        assert p.value == zero
        p.value = values[2]
        del p


def test_sharing() -> None:
    """All who have the pointer see the same value."""
    p = new(int64)
    q = p
    q.value += 5
    assert p.value == 5


def test_wrong_values() -> None:
    """What does not fit is refused, and the value stays."""
    p = new(byte)
    p.value = 255
    with pytest.raises(OverflowError):
        p.value = 256
    with pytest.raises(OverflowError):
        p.value -= 256
    with pytest.raises(TypeError):
        p.value = "1"
    with pytest.raises(TypeError):
        p.value = None
    assert p.value == 255


def test_value_cannot_be_deleted() -> None:
    """There is always a value."""
    p = new(string)
    with pytest.raises((TypeError, AttributeError)):
        del p.value
    assert p.value == ""


def test_nothing_but_value() -> None:
    """A mistyped attribute is an error, not a new attribute that is never read."""
    p = new(int64)
    with pytest.raises(AttributeError):
        p.vlaue = 1


def test_identity() -> None:
    """Pointers are equal when they point to the same, and can be keys, as in Go."""
    p, q = new(int64), new(int64)
    assert p == p
    assert p != q
    assert len({p, q, p}) == 2


def test_arrays() -> None:
    """A pointed-to array is changed in place, and copied when it is replaced."""
    p = new(Array[int64, 3])
    p.value[1] = 5
    assert list(p.value) == [0, 5, 0]
    a = array_of(int64, 1, 2, 3)
    p.value = a
    a[0] = 100
    assert list(p.value) == [1, 2, 3]
    s = p.value[1:]
    s[0] = 20
    assert list(p.value) == [1, 20, 3]
    with pytest.raises(TypeError):
        p.value = array_of(int64, 1)


def test_slices() -> None:
    """A pointer to a slice holds the slice."""
    p = new(Slice[int64])
    p.value = slice_of(int64, 1)
    p.value = append(p.value, 2)
    assert list(p.value) == [1, 2]
    p.value[0] = 7
    assert list(p.value) == [7, 2]


def test_float32_rounds() -> None:
    """A float32 holds what 32 bits can."""
    p = new(float32)
    p.value = 0.1
    assert p.value != 0.1
    assert abs(p.value - 0.1) < 1e-8


@pytest.mark.parametrize("bad", [None, 3, "int64", [int], (), 1.5])
def test_no_type(bad: object) -> None:
    """new wants a type."""
    with pytest.raises(TypeError):
        new(bad)


def test_many() -> None:
    """A hundred thousand pointers keep their values apart."""
    pointers = [new(int64) for _ in range(100_000)]
    for i, p in enumerate(pointers):
        p.value = i
    assert [p.value for p in pointers] == list(range(100_000))


def test_pointers_let_go() -> None:
    """The object pointed to goes with the pointer, in a cycle too."""
    p = new(object)
    token = Token()
    ref = weakref.ref(token)
    p.value = token
    del token
    p.value = None
    gc.collect()
    assert ref() is None

    token = Token()
    ref = weakref.ref(token)
    token.pointer = p  # type: ignore[attr-defined]
    p.value = token
    del token, p
    gc.collect()
    assert ref() is None


def test_linked_list() -> None:
    """A long chain of pointers is freed without using up the stack."""
    survives(
        """
        head = new(object)
        for _ in range(100_000):
            node = new(object)
            node.value = head
            head = node
        del head, node
        import gc
        gc.collect()
        """
    )
