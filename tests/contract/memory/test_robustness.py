"""Odd uses that must neither crash nor leak: re-entrance, types, reconstructors, iterators."""

from __future__ import annotations

import gc
import sys
import weakref
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
    clear,
    copy,
    int64,
    make,
    new,
    slice_of,
    string,
)

from ...conftest import FREE_THREADED
from .tools import numbers, outcome_is_type_error, real_memory, survives


def test_wrong_keywords() -> None:
    """A keyword that nobody knows is a TypeError."""
    for call in (
        lambda: make(Slice[int64], 1, length=2),
        lambda: make(Slice[int64], 1, 2, cap=2),
        lambda: new(int64, value=1),
        lambda: append(numbers(1), value=1),
        lambda: copy(numbers(1), numbers(1), n=1),
        lambda: array_of(int64, 1, n=1),
    ):
        with pytest.raises(TypeError):
            call()


def test_missing_arguments() -> None:
    """So is an argument that is missing, or one too many."""
    for fn in (make, new, append, copy, cap, clear, array_of, slice_of):
        with pytest.raises(TypeError):
            fn()  # type: ignore[operator]
    for call in (
        lambda: copy(numbers(1)),
        lambda: copy(numbers(1), numbers(1), 1),
        lambda: cap(numbers(1), 1),
        lambda: clear(numbers(1), 1),
        lambda: new(int64, 1),
    ):
        with pytest.raises(TypeError):
            call()


def test_order() -> None:
    """There is no order among slices, arrays, maps or pointers, as in Go."""
    for x in (numbers(1), array_of(int64, 1), make(Map[int64, int64]), new(int64)):
        with pytest.raises(TypeError):
            x < x
        with pytest.raises(TypeError):
            x >= None
        assert x is not None
        assert not x == None  # noqa: E711
        assert x != "x"


def test_no_arithmetic() -> None:
    """A slice is no number and no list: + and * are not Go's."""
    for x in (numbers(2), array_of(int64, 1)):
        for bad in (lambda: x + 1, lambda: 1 + x, lambda: -x, lambda: x % 2):
            with pytest.raises(TypeError):
                bad()


def test_slice_assignment() -> None:
    """Storing to a whole slice at once, which Go has not, is refused, or it stores."""
    s = numbers(4)
    if outcome_is_type_error(s.__setitem__, slice(1, 3), slice_of(int64, 7, 8)):
        assert list(s) == [0, 1, 2, 3]
    else:
        assert list(s) == [0, 7, 8, 3]


def test_sizes_for_python() -> None:
    """sys.getsizeof has an answer for all."""
    for x in (numbers(3), array_of(string, "a"), make(Map[int64, int64]), new(int64), Slice[int64]):
        assert sys.getsizeof(x) > 0


def test_iterators() -> None:
    """An iterator outlives the slice, ends once and for all, and several don't disturb another."""
    its = [iter(slice_of(string, "a", "b", "c")) for _ in range(3)]
    gc.collect()
    assert [next(it) for it in its] == ["a"] * 3
    assert list(its[0]) == ["b", "c"]
    assert list(its[0]) == []
    with pytest.raises(StopIteration):
        next(its[0])
    assert next(its[1]) == "b"
    assert list(reversed(slice_of(int64, 1, 2, 3))) == [3, 2, 1]
    m = make(Map[int64, int64])
    m[1] = 1
    it = iter(m)
    del m
    assert list(it) == [1]
    assert list(it) == []


def test_cycles_through_iterators() -> None:
    """An iterator among the elements that it goes through is garbage in the end."""

    class Here:
        pass

    here = Here()
    ref = weakref.ref(here)
    s = make(Slice[object], 3)
    s[0], s[1] = here, iter(s)
    m = make(Map[object, object])
    m[here] = s
    s[2] = iter(m)
    next(s[2])
    del s, m, here
    gc.collect()
    assert ref() is None


@pytest.mark.skipif(
    FREE_THREADED and sys.version_info < (3, 14),
    reason="3.13t keeps every class once a thread was started",
)
def test_classes_are_not_kept() -> None:
    """A class that was an element type can be collected, once no type or slice is left."""
    refs = []
    for _ in range(20):

        class Local:
            pass

        s = slice_of(Local, Local())
        a = new(Array[Local, 2])
        m = make(Map[string, Local])
        m["x"] = s[0]
        refs.append(weakref.ref(Local))
        hash(Slice[Slice[Local]])
        repr((s, a, m))
    del Local, s, a, m
    for _ in range(3):
        gc.collect()
    assert [ref() for ref in refs if ref() is not None] == []


@real_memory
def test_many_types() -> None:
    """A hundred thousand array types come and go."""
    survives(
        """
        from pathlib import Path
        def resident():
            return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

        def once(n):
            for i in range(n):
                assert len(new(Array[byte, i % 1000 + 1]).value) == i % 1000 + 1
                assert repr(Slice[Array[byte, i]])

        once(20_000)
        import gc
        gc.collect()
        before = resident()
        for _ in range(4):
            once(20_000)
        gc.collect()
        assert resident() < before + (16 << 20), (before, resident())
        """
    )


def test_types_nested_deeply() -> None:
    """A type in a type, thousands deep, is refused, or works all the way; nothing crashes."""
    survives(
        """
        import gc
        import pickle
        builders = [
            lambda T: Slice[T],
            lambda T: Array[T, 1],
            lambda T: Array[T, 2],
            lambda T: Map[int64, T],
            lambda T: Slice[Array[T, 1]],
        ]
        for build in builders:
            for depth in (10, 50, 1000, 100_000):
                T = int64
                try:
                    for _ in range(depth):
                        T = build(T)
                except (ValueError, TypeError, RecursionError, MemoryError, OverflowError):
                    pass
                for use in (repr, hash, lambda T: T == T, lambda T: T == Slice[T], pickle.dumps,
                            lambda T: pickle.loads(pickle.dumps(T)), lambda T: new(T),
                            lambda T: make(Slice[T], 2), lambda T: repr(new(T).value),
                            lambda T: hash(new(T).value), lambda T: new(T).value == new(T).value,
                            lambda T: list(new(T).value), lambda T: clear(make(Slice[T], 2))):
                    try:
                        use(T)
                    except (ValueError, TypeError, RecursionError, MemoryError, OverflowError):
                        pass
                    except pickle.PicklingError:
                        pass
                del T
                gc.collect()
        """
    )


def test_reconstructors() -> None:
    """What a pickle calls takes nonsense for an error, or makes something sound of it."""
    survives(
        """
        import gc
        import random

        rng = random.Random(3)
        odd = [None, -1, 0, 1, 2**62, 2**64, 1.5, "x", b"", b"abc", (), [1], {}, int64, string,
               Slice[int64], Array[byte, 3], object, int, slice_of(byte, 1), array_of(string, "a"),
               bytearray(b"abcdefgh"), memoryview(b"abc")]
        p = new(int64)
        m = make(Map[string, int64])
        m["a"] = 1
        whole = [slice_of(int64, 1, 2), slice_of(string, "a"), slice_of(object, [1]), p, m,
                 array_of(byte, 1, 2), slice_of(Array[int64, 2], array_of(int64, 1, 2)),
                 Slice[int64], Array[string, 2], Map[string, int64], int64, iter(slice_of(byte, 1))]

        def use(made):
            for fn in (repr, len, list, hash, memoryview, lambda x: x[0], lambda x: append(x, 1),
                       lambda x: x == x, lambda x: x.value, lambda x: copy(x, x), clear, cap):
                try:
                    fn(made)
                except Exception:
                    pass

        for x in whole:
            try:
                reduced = x.__reduce_ex__(4)
            except Exception:
                continue
            if not isinstance(reduced, tuple):
                continue
            fn, args, *rest = reduced
            if "goroutines" not in getattr(fn, "__module__", ""):
                continue
            for _ in range(500):
                changed = list(args)
                for _ in range(rng.randrange(1, 3)):
                    what = rng.randrange(3)
                    if what == 0 and changed:
                        changed[rng.randrange(len(changed))] = rng.choice(odd)
                    elif what == 1 and changed:
                        del changed[rng.randrange(len(changed))]
                    else:
                        changed.insert(rng.randrange(len(changed) + 1), rng.choice(odd))
                try:
                    made = fn(*changed)
                except (Exception, MemoryError):
                    continue
                if not isinstance(made, (Slice, Array)) or len(made) < 1000:
                    use(made)
            if rest and rest[0] is not None and hasattr(x, "__setstate__"):
                for state in odd:
                    try:
                        made = fn(*args)
                        made.__setstate__(state)
                    except Exception:
                        continue
                    use(made)
        gc.collect()
        """
    )


def test_conversions_that_come_back() -> None:
    """__index__, __float__, __eq__ and __del__ that use the very object are harmless."""
    survives(
        """
        import gc

        s = make(Slice[int64], 4, 8)
        f = make(Slice[float64], 4, 8)
        o = make(Slice[object], 4, 8)
        m = make(Map[object, object])
        a = array_of(object, 1, 2, 3)
        p = new(object)
        depth, left = [0], [0]

        def everything():
            if depth[0] > 2 or left[0] <= 0:
                return
            depth[0] += 1
            left[0] -= 1
            try:
                s[0] = Odd(); f[0] = Odd(); o[0] = Odd(); p.value = Odd(); a[0] = Odd()
                append(s, 1, Odd()); append(f, Odd()); append(o, Odd(), Odd())
                copy(o[1:], o); copy(o, o[1:]); clear(o[:2])
                m[Odd()] = Odd()
                m[Odd()]
                for key in list(m)[:3]:
                    del m[key]
                a == a
                array_of(object, Odd()) == array_of(object, Odd())
                hash(a)
                clear(m)
                s[Odd():], s[:Odd()], s[Odd()]
                repr(o), repr(m), repr(a)
            except (IndexError, RuntimeError, KeyError):
                pass
            finally:
                depth[0] -= 1

        class Odd:
            def __index__(self):
                everything()
                return 3
            def __float__(self):
                everything()
                return 1.5
            def __hash__(self):
                everything()
                return 1
            def __eq__(self, other):
                everything()
                return False
            def __repr__(self):
                everything()
                return "odd"
            def __del__(self):
                everything()

        for budget in range(1, 200):
            left[0] = budget
            everything()
        left[0] = 0
        assert list(s)[1:] == [0, 0, 0]
        gc.collect()
        """
    )


def test_types_made_by_threads() -> None:
    """Threads that write the same types at once all get types that agree."""
    survives(
        """
        import sys
        import threading
        sys.setswitchinterval(1e-5)
        results = []
        barrier = threading.Barrier(6)

        def body():
            barrier.wait()
            for i in range(3000):
                class_ = type("C", (), {})
                s = slice_of(Slice[class_], make(Slice[class_], 1))
                T = Slice[Array[Map[string, int64], i]]
                if i % 10 == 0:
                    results.append(T)
                assert T == Slice[Array[Map[string, int64], i]]

        threads = [threading.Thread(target=body) for _ in range(6)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        assert len(set(results)) == 300
        assert len(results) == 1800
        """
    )


def test_one_iterator_in_many_threads() -> None:
    """An iterator that threads share gives elements, each at least once, and ends for all."""
    survives(
        """
        import threading
        for _ in range(20):
            s = slice_of(object, *range(2000))
            m = make(Map[int64, object])
            for i in range(100):
                m[i] = [i]
            it, keys = iter(s), iter(m)
            got = []
            barrier = threading.Barrier(4)

            def body():
                mine = []
                barrier.wait()
                for value in it:
                    mine.append(value)
                try:
                    for key in keys:
                        assert 0 <= key < 100
                except RuntimeError:
                    pass
                got.extend(mine)

            threads = [threading.Thread(target=body) for _ in range(4)]
            for t in threads:
                t.start()
            for t in threads:
                t.join()
            assert set(got) <= set(range(2000))
            assert len(set(got)) > 1900
        """
    )


def test_subinterpreters() -> None:
    """In another interpreter the module works, or its import is an ImportError."""
    survives(
        """
        try:
            import _interpreters as interpreters
        except ImportError:
            import _xxsubinterpreters as interpreters
        source = '''
        try:
            from goroutines.memory import *
        except ImportError:
            pass
        else:
            s = make(Slice[byte], 100)
            s = append(s, 5)
            assert s[100] == 5
        '''
        import textwrap
        for _ in range(3):
            i = interpreters.create()
            error = interpreters.exec(i, textwrap.dedent(source)) if hasattr(
                interpreters, "exec") else interpreters.run_string(i, textwrap.dedent(source))
            assert error is None, error
            interpreters.destroy(i)
        assert len(make(Slice[byte], 3)) == 3
        """
    )


def test_pointer_is_generic() -> None:
    """Types can be written in annotations."""

    def f(p: Pointer[int64], s: Slice[byte], m: Map[string, int64]) -> Array[int64, 3]:
        raise NotImplementedError

    assert f.__annotations__.keys() == {"p", "s", "m", "return"}
    names: dict[str, Any] = {"Pointer": Pointer, "int64": int64}
    assert eval("Pointer[int64]", names) is not None
