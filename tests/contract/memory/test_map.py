"""Map from the contract: typed keys and values, the zero value on a miss.

Left open, and so not asked for: what `del` of a missing key does, in which order a map is
gone through, and what a key that cannot be in the map does on looking up.
"""

from __future__ import annotations

import gc
import random
import weakref
from typing import Any

import pytest

from goroutines.memory import (
    Array,
    Map,
    Slice,
    append,
    array_of,
    byte,
    clear,
    float64,
    int64,
    make,
    slice_of,
    string,
)

from ...conftest import Token, scaled
from .tools import VALUES, every_type, typed


@every_type
def test_zero_on_a_miss(name: str) -> None:
    """A key that is not there has the zero value, and asking does not put it there."""
    zero, _ = VALUES[name]
    m = make(Map[string, typed(name)])
    for _ in range(3):
        assert m["x"] == zero
        assert type(m["x"]) is type(zero)
    assert "x" not in m
    assert (len(m), list(m)) == (0, [])


@every_type
def test_values(name: str) -> None:
    """Values of every type are stored under their keys, and replaced."""
    zero, values = VALUES[name]
    m = make(Map[int64, typed(name)])
    for i, value in enumerate(values):
        m[i] = value
    assert [m[i] for i in range(4)] == [*values, zero]
    m[0] = values[2]
    assert (m[0], len(m)) == (values[2], 3)
    m[0] = zero
    assert 0 in m


@every_type
def test_keys(name: str) -> None:
    """Keys of every type that Go can compare."""
    zero, values = VALUES[name]
    m = make(Map[typed(name), int64])
    keys = [zero, *dict.fromkeys(values)]
    for i, key in enumerate(dict.fromkeys(keys)):
        m[key] = i + 1
    assert sorted(m[key] for key in set(keys)) == list(range(1, len(set(keys)) + 1))
    assert set(m) == set(keys)
    assert len(m) == len(set(keys))


def test_delete_and_membership() -> None:
    """What is deleted reads as zero again."""
    m = make(Map[string, int64])
    m["a"], m["b"] = 1, 2
    assert "a" in m
    del m["a"]
    assert "a" not in m
    assert (m["a"], m["b"], len(m)) == (0, 2, 1)


def test_counting() -> None:
    """The idiom that the zero value is for."""
    m = make(Map[string, int64])
    for word in "the quick the lazy the dog".split():
        m[word] += 1
    assert {word: m[word] for word in m} == {"the": 3, "quick": 1, "lazy": 1, "dog": 1}


def test_appending_to_a_miss() -> None:
    """Go's other idiom: the zero value of a slice is an empty slice to append to."""
    m = make(Map[int64, Slice[string]])
    assert len(m[3]) == 0
    for word in ["a", "bb", "cc", "d", "ee"]:
        m[len(word)] = append(m[len(word)], word)
    assert {n: list(m[n]) for n in m} == {1: ["a", "d"], 2: ["bb", "cc", "ee"]}
    assert len(m[3]) == 0


def test_array_keys() -> None:
    """Arrays are keys by their elements at the time of storing, as Go copies them."""
    m = make(Map[Array[int64, 2], string])
    m[array_of(int64, 1, 2)] = "a"
    assert m[array_of(int64, 1, 2)] == "a"
    assert m[array_of(int64, 2, 1)] == ""
    key = array_of(int64, 5, 5)
    m[key] = "five"
    key[0] = 6
    assert m[array_of(int64, 5, 5)] == "five"
    assert m[key] == ""
    assert len(m) == 2


def test_array_values() -> None:
    """Array values are copied on the way in, and a miss is a zero array of its own."""
    m = make(Map[int64, Array[int64, 2]])
    assert list(m[1]) == [0, 0]
    value = array_of(int64, 1, 2)
    m[1] = value
    value[0] = 100
    assert list(m[1]) == [1, 2]
    assert list(m[2]) == [0, 0]


def test_wrong_types() -> None:
    """Keys and values of a wrong type are refused, and the map stays as it is."""
    m = make(Map[string, int64])
    m["a"] = 1
    for key, value in (("a", "x"), ("a", None), ("a", 1.5), (1, 1), (None, 1), (b"a", 1)):
        with pytest.raises(TypeError):
            m[key] = value
    with pytest.raises(OverflowError):
        m["a"] = 2**63
    assert (m["a"], len(m)) == (1, 1)
    small = make(Map[byte, byte])
    for key, value in ((300, 1), (-1, 1), (1, 300), (1, -1), (10**40, 1)):
        with pytest.raises(OverflowError):
            small[key] = value
    assert len(small) == 0


@pytest.mark.parametrize("K", [Slice[int64], Map[string, int64]], ids=["slice", "map"])
def test_keys_that_go_refuses(K: Any) -> None:
    """What cannot be compared is no key: a TypeError, at the latest on storing."""
    with pytest.raises(TypeError):
        m = make(Map[K, int64])
        m[make(Slice[int64], 1) if K == Slice[int64] else make(K)] = 1


def test_unhashable_object_key() -> None:
    """Go panics for a key whose dynamic type has no hash; here it is a TypeError."""
    m = make(Map[object, int64])
    with pytest.raises(TypeError):
        m[[1]] = 1
    assert len(m) == 0


def test_clear() -> None:
    """clear empties a map."""
    m = make(Map[string, int64])
    m["a"] = m["b"] = 1
    clear(m)
    assert (len(m), list(m), m["a"]) == (0, [], 0)
    m["c"] = 3
    assert list(m) == ["c"]


def test_maps_are_unhashable() -> None:
    """A map is no key."""
    with pytest.raises(TypeError):
        hash(make(Map[string, int64]))


def test_isinstance_and_truth() -> None:
    """Maps are Maps; an empty one is false."""
    m = make(Map[string, int64])
    assert isinstance(m, Map)
    assert not m
    m["a"] = 0
    assert m


def test_repr() -> None:
    """repr shows keys and values, of a map in itself too."""
    m = make(Map[string, object])
    m["abc"] = 123
    assert "abc" in repr(m)
    assert "123" in repr(m)
    m["me"] = m
    assert 0 < len(repr(m)) < 1000


def test_deleting_while_iterating() -> None:
    """Go allows it; here it works too, or is Python's RuntimeError. The map survives."""
    m = make(Map[int64, int64])
    for i in range(100):
        m[i] = i
    try:
        for key in m:
            del m[key]
            m[key + 1000] = 1
            if len(m) > 1000 or key >= 1000:
                break
    except RuntimeError:
        pass
    clear(m)
    m[1] = 1
    assert list(m) == [1]


def test_many_keys() -> None:
    """A map agrees with a dict over thousands of random operations."""
    rng = random.Random(6)
    m, model = make(Map[int64, float64]), {}
    for _ in range(scaled(20_000)):
        key = rng.randrange(1000) - 500
        if rng.random() < 0.3 and key in model:
            del m[key], model[key]
        else:
            m[key] = model[key] = rng.random()
        assert (key in m) == (key in model)
    assert {key: m[key] for key in m} == model
    assert len(m) == len(model)


def test_hash_that_changes_the_map() -> None:
    """A key whose comparison stores into the map is harmless."""
    m = make(Map[object, int64])

    class Evil:
        def __hash__(self) -> int:
            return 1

        def __eq__(self, other: object) -> bool:
            clear(m)
            return False

    for _ in range(10):
        try:
            m[Evil()] = 1
        except RuntimeError:
            pass
    assert len(m) <= 10
    clear(m)
    assert len(m) == 0


def test_map_lets_go() -> None:
    """What is replaced, deleted or cleared is freed, and so is a cycle through the map."""
    m = make(Map[object, object])
    refs = []
    for action in ("replace", "delete", "clear", "cycle"):
        key, value = Token(), Token()
        refs.append(weakref.ref(value))
        m[key] = value
        if action != "replace":
            refs.append(weakref.ref(key))
        if action == "replace":
            m[key] = None
            del m[key]
        elif action == "delete":
            del m[key]
        elif action == "clear":
            clear(m)
        else:
            value.map = m  # type: ignore[attr-defined]
        del key, value
    del m
    gc.collect()
    assert [ref() for ref in refs] == [None] * len(refs)


def test_slices_in_maps_share() -> None:
    """A slice in a map is the slice, its elements can be changed in place."""
    m = make(Map[string, Slice[int64]])
    s = slice_of(int64, 1, 2, 3)
    m["a"] = s
    m["a"][1] = 20
    assert list(s) == [1, 20, 3]
