"""Maps: keys and values as they are stored, iteration while they change, nil maps."""

from __future__ import annotations

import copy
import math
import pickle
from typing import Any

import pytest

from goroutines.memory import (
    Array,
    Map,
    Slice,
    array_of,
    clear,
    delete,
    float64,
    int8,
    int64,
    make,
    new,
    string,
)


def test_made_of_items() -> None:
    """A map takes mappings and pairs, checks them, and gives its items as a dict does."""
    m = Map[str, int]({"a": 1, "b": 2})
    assert m == Map[str, int]([("a", 1), ("b", 2)]) == Map[str, int](m)
    assert (dict(m), list(m)) == ({"a": 1, "b": 2}, ["a", "b"])
    assert (list(m.keys()), list(m.values()), list(m.items())) == (
        ["a", "b"],
        [1, 2],
        [("a", 1), ("b", 2)],
    )
    for wrong in ({"a": "x"}, {1: 1}, {"a": 1 << 70}, [1], 5):
        with pytest.raises((TypeError, OverflowError)):
            Map[str, int](wrong)
    assert m != Map[str, int8]({"a": 1, "b": 2})
    assert m != {"a": 1, "b": 2}
    with pytest.raises(TypeError):
        hash(m)


def test_get_ok() -> None:
    """Go's second value tells a zero from a miss."""
    m = Map[str, int]({"zero": 0})
    assert (m.get_ok("zero"), m.get_ok("none")) == ((0, True), (0, False))
    value, ok = Map[str, Slice[int]]().get_ok("x")
    assert (len(value), ok) == (0, False)


def test_keys_are_canonical() -> None:
    """An index-like key is the int that it stands for; a float key a float."""

    class Three:
        def __index__(self) -> int:
            return 3

    m = Map[int8, str]()
    m[Three()] = "x"  # type: ignore[index]
    assert (m[3], [type(k) for k in m]) == ("x", [int])
    with pytest.raises(OverflowError):
        m[300] = "x"
    with pytest.raises(OverflowError):
        assert m[300]
    f = Map[float64, str]({1: "one"})
    assert [type(k) for k in f] == [float]
    with pytest.raises(TypeError):
        assert "x" in m


def test_nan_is_never_found() -> None:
    """As in Go each NaN is a key of its own."""
    m = Map[float64, int]()
    m[math.nan] = 1
    m[math.nan] = 2
    assert (len(m), m[math.nan], math.nan in m) == (2, 0, False)
    clear(m)
    assert len(m) == 0


def test_arrays_in_a_map_are_its_own() -> None:
    """Arrays are copied in and out, as keys and as values."""
    m = Map[Array[int64, 2], Array[int64, 2]]()
    key = array_of(int64, 1, 2)
    m[key] = key
    key[0] = 9
    assert (list(m[[1, 2]]), key in m) == ([1, 2], False)  # type: ignore[index]
    for k, v in m.items():
        k[0] = v[0] = 7
    for k in m:
        k[0] = 8
    m[array_of(int64, 1, 2)][0] = 9
    assert [(list(k), list(v)) for k, v in m.items()] == [([1, 2], [1, 2])]


def test_deleting() -> None:
    """delete does not mind a miss, del does."""
    m = Map[str, int]({"a": 1})
    delete(m, "b")
    with pytest.raises(KeyError):
        del m["b"]
    delete(m, "a")
    assert len(m) == 0
    for wrong in (lambda: delete(m, 5), lambda: delete({}, "a"), lambda: delete(m)):
        with pytest.raises(TypeError):
            wrong()


def test_changes_during_iteration() -> None:
    """Deleted keys do not come, new ones neither, values are those of the moment."""
    m = Map[str, int]({"a": 1, "b": 2, "c": 3})
    seen: list[tuple[str, int]] = []
    for k, v in m.items():
        seen.append((k, v))
        delete(m, "b")
        m["c"] = 30
        m[f"new{len(m)}"] = 0
    assert seen == [("a", 1), ("c", 30)]


def test_nil_maps() -> None:
    """The zero value of a map reads as empty, and writing to it is Go's error."""
    m = new(Map[str, int]).value
    assert (len(m), m["x"], m.get_ok("x"), list(m), str(m)) == (0, 0, (0, False), [], "map[]")
    delete(m, "x")
    clear(m)
    with pytest.raises(RuntimeError, match="assignment to entry in nil map"):
        m["x"] = 1
    assert m == make(Map[str, int])


def test_a_key_that_cannot_be_hashed() -> None:
    """Objects as keys are hashed as Python does it."""
    m = Map[object, int]()
    with pytest.raises(TypeError, match="unhashable"):
        m[[]] = 1
    with pytest.raises(TypeError):
        m[Slice[int]()] = 1
    m[None] = 5
    assert m[None] == 5


@pytest.mark.parametrize("how", [lambda m: pickle.loads(pickle.dumps(m)), copy.deepcopy, copy.copy])
def test_copies(how: Any) -> None:
    """Pickles and copies are maps of their own."""
    m = Map[string, Slice[int64]]({"a": Slice[int64]([1])})
    other = how(m)
    assert other == m
    other["b"] = Slice[int64]()
    assert "b" not in m


def test_sizes() -> None:
    """make takes a size as a hint; it must be one."""
    assert len(make(Map[str, int], 100)) == 0
    with pytest.raises(ValueError, match="makemap: size out of range"):
        make(Map[str, int], -1)
    with pytest.raises(TypeError):
        make(Map[str, int], "x")  # type: ignore[call-overload]
