"""Pickling and copying of slices, arrays, maps and pointers, from the contract.

Left open: whether capacity beyond len, and the sharing of one array by several slices,
survive the journey.
"""

from __future__ import annotations

import copy as python_copy
import pickle
import subprocess
import sys
from typing import Any

import pytest

from goroutines.memory import (
    Array,
    Map,
    Pointer,
    Slice,
    append,
    array_of,
    byte,
    cap,
    int64,
    make,
    new,
    slice_of,
    string,
)

from .tools import VALUES, every_type, numbers, real_memory, survives, typed

every_protocol = pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))


def there_and_back(value: Any, protocol: int = pickle.HIGHEST_PROTOCOL) -> Any:
    """Return `value` as it comes out of a pickle."""
    return pickle.loads(pickle.dumps(value, protocol))


@every_type
@every_protocol
def test_slices(name: str, protocol: int) -> None:
    """A slice comes back with type and elements, on an array of its own."""
    _, values = VALUES[name]
    s = slice_of(typed(name), *values)
    t = there_and_back(s, protocol)
    assert isinstance(t, Slice)
    assert (list(t), len(t)) == (values, 3)
    t[0] = values[2]
    assert list(s) == values
    assert list(append(t, values[1])) == [values[2], *values[1:], values[1]]


@every_type
@every_protocol
def test_arrays(name: str, protocol: int) -> None:
    """An array comes back equal."""
    _, values = VALUES[name]
    a = array_of(typed(name), *values)
    b = there_and_back(a, protocol)
    assert isinstance(b, Array)
    assert a == b
    b[0] = values[2]
    assert list(a) == values


@every_type
def test_pointers_and_maps(name: str) -> None:
    """Pointers and maps come back with what they hold, and keep their types."""
    zero, values = VALUES[name]
    p = new(typed(name))
    p.value = values[0]
    q = there_and_back(p)
    assert isinstance(q, Pointer)
    assert q.value == values[0]
    m = make(Map[string, typed(name)])
    m["a"] = values[0]
    n = there_and_back(m)
    assert isinstance(n, Map)
    assert (n["a"], n["missing"], list(n)) == (values[0], zero, ["a"])
    n["b"] = values[1]
    assert "b" not in m


def test_types_stay() -> None:
    """What comes back still refuses what does not fit."""
    for s in (there_and_back(slice_of(byte, 1)), there_and_back(array_of(byte, 1))):
        with pytest.raises(OverflowError):
            s[0] = 300
        with pytest.raises(TypeError):
            s[0] = "x"
    m = there_and_back(make(Map[string, byte]))
    with pytest.raises(OverflowError):
        m["a"] = 300


def test_the_types_themselves() -> None:
    """Types can be pickled, and are the same afterwards."""
    for T in (Slice[int64], Array[byte, 3], Slice[Array[string, 2]], Slice[Slice[int64]]):
        assert there_and_back(T) == T
    for T in (int64, byte, string):
        assert there_and_back(T) == T
    assert isinstance(make(there_and_back(Slice[int64]), 1), Slice)


def test_nested() -> None:
    """Rows, slices of slices, and objects in slices come back whole."""
    grid = slice_of(Array[int64, 2], array_of(int64, 1, 2), array_of(int64, 3, 4))
    assert [list(row) for row in there_and_back(grid)] == [[1, 2], [3, 4]]
    rows = slice_of(Slice[string], slice_of(string, "a"), slice_of(string))
    assert [list(row) for row in there_and_back(rows)] == [["a"], []]
    s = slice_of(object, numbers(2), {"a": array_of(byte, 1)})
    t = there_and_back(s)
    assert list(t[0]) == [0, 1]
    assert t[1] == {"a": array_of(byte, 1)}


def test_empty() -> None:
    """Nothing comes back as nothing."""
    for s in (make(Slice[int64], 0), make(Slice[int64], 0, 5), numbers(3)[3:], array_of(int64)):
        assert list(there_and_back(s)) == []
    assert len(there_and_back(make(Map[int64, int64]))) == 0


def test_part() -> None:
    """Of a part only the part travels: a small slice of a big array is a small pickle."""
    part = make(Slice[byte], 1_000_000)[10:20]
    assert len(pickle.dumps(part)) < 10_000
    t = there_and_back(part)
    assert (len(t), bytes(t)) == (10, bytes(10))
    assert cap(t) >= 10


def test_cycle() -> None:
    """A slice that holds itself is refused, or comes back holding itself."""
    s = make(Slice[object], 1)
    s[0] = s
    try:
        t = there_and_back(s)
    except (RecursionError, ValueError, TypeError, pickle.PicklingError):
        return
    assert t[0] is t or t[0][0] is not None


def test_copy_module() -> None:
    """copy.deepcopy shares nothing."""
    s = slice_of(object, [1], [2])
    t = python_copy.deepcopy(s)
    t[0].append(5)
    t[1] = None
    assert list(s) == [[1], [2]]
    a = python_copy.deepcopy(array_of(int64, 1, 2))
    assert a == array_of(int64, 1, 2)


def test_unpicklable_element() -> None:
    """What cannot be pickled says so."""
    with pytest.raises((TypeError, pickle.PicklingError, AttributeError)):
        pickle.dumps(slice_of(object, lambda: 1))


def test_in_another_process() -> None:
    """Another interpreter unpickles it."""
    data = pickle.dumps([numbers(3), array_of(string, "a"), new(int64)])
    code = (
        "import pickle, sys; s, a, p = pickle.load(sys.stdin.buffer);"
        "print(list(s), list(a), p.value)"
    )
    done = subprocess.run([sys.executable, "-c", code], input=data, capture_output=True, check=True)
    assert done.stdout.decode().strip() == "[0, 1, 2] ['a'] 0"


@real_memory
def test_damaged_pickles() -> None:
    """A pickle that was cut or changed anywhere is an exception, not a crash."""
    survives(
        """
        import io
        import pickle
        import random
        import resource

        class Careful(pickle.Unpickler):
            # Built-ins that a damaged name could hit are kept out.
            def find_class(self, module, name):
                if not module.startswith("goroutines"):
                    raise pickle.UnpicklingError(module)
                return super().find_class(module, name)

        resource.setrlimit(resource.RLIMIT_AS, (1 << 32, 1 << 32))
        good = pickle.dumps([slice_of(int64, 1, 2, 3), array_of(byte, 1, 2), slice_of(string, "a"),
                             slice_of(Array[int64, 2], array_of(int64, 1, 2)), new(int64)])
        rng = random.Random(1)
        for i in range(len(good) + 1000):
            bad = bytearray(good)
            if i < len(good):
                del bad[i:]
            else:
                bad[rng.randrange(len(bad))] = rng.randrange(256)
            try:
                Careful(io.BytesIO(bytes(bad))).load()
            except (Exception, MemoryError):
                pass
        """
    )
