# ruff: noqa: UP007, UP045 - the forms of before are tested too
"""Types: how they are written, compared, named, pickled, and what is none."""

from __future__ import annotations

import copy
import pickle
from typing import Any, Optional, TypeVar, Union

import pytest

from goroutines import Chan, memory
from goroutines.memory import (
    Array,
    Map,
    Pointer,
    Slice,
    array_of,
    byte,
    float64,
    int8,
    int32,
    int64,
    make,
    slice_of,
    string,
    uint8,
)


class Node:
    """A class of the user's."""


class Leaf(Node):
    """One that derives from it."""


TYPES: list[tuple[Any, str]] = [
    (int32, "int32"),
    (Slice[int32], "Slice[int32]"),
    (Array[byte, 4], "Array[uint8, 4]"),
    (Array[Array[int8, 2], 3], "Array[Array[int8, 2], 3]"),
    (Pointer[Slice[string]], "Pointer[Slice[string]]"),
    (Map[str, float], "Map[string, float64]"),
    (Slice[Node], "Slice[Node]"),
    (Map[int, Slice[Node]], "Map[int64, Slice[Node]]"),
]
every_type = pytest.mark.parametrize(("kind", "name"), TYPES, ids=[name for _, name in TYPES])


@every_type
def test_names(kind: Any, name: str) -> None:
    """repr, str and __name__ are how a type is written."""
    assert (repr(kind), str(kind), kind.__name__) == (name, name, name)


@every_type
def test_pickle_and_copy(kind: Any, name: str) -> None:
    """Types come back from pickles and copies as equal types."""
    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        assert pickle.loads(pickle.dumps(kind, protocol)) == kind
    assert copy.deepcopy(kind) == kind


def test_equality_by_structure() -> None:
    """Types that are written alike are equal and hash equally; others differ."""
    for i, (a, _) in enumerate(TYPES):
        for j, (b, _) in enumerate(TYPES):
            assert (a == b) is (i == j)
            assert (a != b) is (i != j)
    assert hash(Map[str, Slice[Node]]) == hash(Map[str, Slice[Node]])
    assert len({Array[int32, 3], Array[int32, 3], Array[int32, 4], Slice[int32]}) == 3
    assert Slice[int32] != "Slice[int32]"


def test_python_words_for_go_types() -> None:
    """Python's int, float, bool and str are int64, float64, bool_ and string; byte is uint8."""
    assert Slice[int] == Slice[int64]
    assert Slice[float] == Slice[float64]
    assert Slice[bool] == Slice[memory.bool_]
    assert Slice[str] == Slice[string]
    assert byte is uint8


def test_origin_and_args() -> None:
    """The parts of a type can be asked for, classes as they are."""
    assert (Slice[Node].__origin__, Slice[Node].__args__) == (Slice, (Node,))
    assert Array[int32, 3].__args__ == (int32, 3)
    assert Map[str, Node].__args__ == (string, Node)
    assert (int32.__origin__, int32.__args__) == (None, ())
    assert Pointer[int32].__origin__ is Pointer


def test_isinstance() -> None:
    """isinstance takes whole types; of an element type it is a TypeError that says why."""
    s = make(Slice[int32], 1)
    assert isinstance(s, Slice[int32])
    assert not isinstance(s, Slice[int64])
    assert not isinstance(s, Array[int32, 1])
    assert isinstance(array_of(int8, 1), Array[int8, 1])
    assert isinstance(Map[str, int](), Map[str, int])
    assert isinstance(s, (str, Slice[int32]))
    with pytest.raises(TypeError, match="int32 is how elements are stored"):
        isinstance(5, int32)


def test_unions() -> None:
    """Types stand in annotations; `X | None` is X, whose zero value is None anyway."""
    assert Slice[int32] | None == Optional[Slice[int32]]
    assert None | Slice[int32] == Optional[Slice[int32]]
    assert Slice[Node | None] == Slice[Node] == Slice[Optional[Node]]
    assert Slice[int | None] == Slice[int]
    either = Slice[int | str]
    assert either == Slice[int | str] == Slice[Union[str, int]]
    assert list(slice_of(int | str, 1, "a", None)) == [1, "a", None]
    with pytest.raises(TypeError, match=r"1\.5 \(float\)"):
        slice_of(int | str, 1.5)


def test_other_words() -> None:
    """Any and type variables take every object, Chan[T] and list[T] channels and lists."""
    T = TypeVar("T")
    assert list(slice_of(Any, 1, "x")) == [1, "x"]
    assert list(slice_of(T, 1, "x")) == [1, "x"]
    chan: Chan[int] = Chan()
    assert list(slice_of(Chan[int], chan, None)) == [chan, None]
    with pytest.raises(TypeError):
        slice_of(list[int], (1,))


@pytest.mark.parametrize(
    "write",
    [
        lambda: Slice[5],
        lambda: Slice["Node"],
        lambda: Slice[Slice],
        lambda: Slice[int32, 3],
        lambda: Array[int32],
        lambda: Array[int32, "3"],
        lambda: Array[int32, 1.0],
        lambda: Map[str],
        lambda: Map[Slice[int], str],
        lambda: Map[Map[str, str], str],
        lambda: Map[Array[Slice[int], 2], str],
        lambda: Slice(),
        lambda: Slice([1]),
        lambda: Array(),
        lambda: Map({}),
        lambda: Pointer(),
        lambda: Pointer[int32](),
        lambda: Slice[int32]([1], 2),
        lambda: Slice[int32](values=[1]),
        lambda: type("Sub", (Slice,), {}),
        lambda: type("Sub", (Slice[int32],), {}),
    ],
)
def test_what_is_no_type(write: Any) -> None:
    """Whatever is written wrongly is a TypeError."""
    with pytest.raises(TypeError):
        write()


def test_lengths_of_arrays() -> None:
    """A length is not negative, and not more than any machine has."""
    for n in (-1, 1 << 60, 1 << 80):
        with pytest.raises(ValueError):
            Array[int32, n]


def test_nesting_has_an_end() -> None:
    """A hundred types in one another is enough; more is a ValueError, not a crash."""
    kind: Any = int32
    with pytest.raises(ValueError, match="nested too deeply"):
        for _ in range(1000):
            kind = Slice[kind]
    assert pickle.loads(pickle.dumps(kind)) == kind
    kind = Node
    with pytest.raises(ValueError, match="nested too deeply"):
        for _ in range(1000):
            kind = Map[str, kind]


def test_derived_classes() -> None:
    """Objects of derived classes are elements, as in isinstance."""
    leaf = Leaf()
    s = slice_of(Node, Node(), leaf, None)
    assert s[1] is leaf
    with pytest.raises(TypeError, match=r"cannot use 'x' \(str\) as Node value at index 0"):
        s[0] = "x"


def test_a_class_that_will_not_be_asked() -> None:
    """What __instancecheck__ raises comes through, and nothing is stored."""

    class Stubborn(type):
        def __instancecheck__(cls, instance: object) -> bool:
            raise ZeroDivisionError

    class Kind(metaclass=Stubborn):
        pass

    s = make(Slice[Kind], 1)
    with pytest.raises(ZeroDivisionError):
        s[0] = 5
    assert s[0] is None
    s[0] = kept = Kind()
    assert s[0] is kept
