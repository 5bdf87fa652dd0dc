"""goroutines.memory under parallel use: several threads and goroutines race on everything.

Each race runs in a program of its own, since what is asked for is that it does not crash,
and that what a thread reads was stored by somebody. On builds with a GIL they run too.
"""

from __future__ import annotations

import pytest

from ...conftest import SCALE, scaled
from .tools import numbers, survives

HELPERS = f"""
import gc
import random
import sys
import threading
from goroutines import *
from goroutines import go, memory
from goroutines.memory import *

ROUNDS = {scaled(20_000)}
sys.setswitchinterval(1e-5)

def race(*bodies):
    "Run each body(random) ROUNDS times, a thread each, all at once."
    errors = []
    barrier = threading.Barrier(len(bodies))

    def run(body, seed):
        rng = random.Random(seed)
        barrier.wait()
        try:
            for _ in range(ROUNDS):
                body(rng)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(b, i)) for i, b in enumerate(bodies)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    if errors:
        raise errors[0]
"""

TIMEOUT = 120.0 * max(1.0, SCALE)


def racing(source: str) -> None:
    """Run a program with HELPERS; it must end well."""
    survives(source, names=HELPERS, timeout=TIMEOUT)


@pytest.mark.parametrize(
    ("T", "values"),
    [
        ("byte", "[0, 1, 255]"),
        ("int64", "[0, -1, 2**62]"),
        ("float64", "[0.0, 1.5, 1e300]"),
        ("bool_", "[True, False]"),
        ("string", "['', 'a', 'b' * 1000]"),
        ("object", "[None, (1,), 'x', object]"),
        ("Array[int64, 2]", "[array_of(int64, 1, 2), array_of(int64, 0, 0)]"),
        ("Slice[int64]", "[make(Slice[int64], n) for n in range(3)]"),
    ],
)
def test_slices(T: str, values: str) -> None:
    """Stores, loads, slicing, appending, copying, clearing, repr and pickling at once."""
    racing(
        f"""
        T, VALUES = {T}, {values}
        """
        """
        import pickle
        shared = [make(Slice[T], 8, 16)]
        for i in range(8):
            shared[0][i] = VALUES[0]
        s = shared[0]

        def store(rng):
            s[rng.randrange(8)] = rng.choice(VALUES)

        def fresh(rng):
            "Objects that only the slice holds, so that a store frees."
            if T is object:
                s[rng.randrange(8)] = [rng.random()]
            elif T is string:
                s[rng.randrange(8)] = str(rng.random())
            else:
                store(rng)

        def load(rng):
            value = s[rng.randrange(8)]
            repr(value)
            for value in s[2:6]:
                repr(value)

        def grow(rng):
            t = shared[0]
            t = append(t, *[rng.choice(VALUES) for _ in range(rng.randrange(4))])
            shared[0] = t if len(t) < 100 else s[:4]

        def move(rng):
            i, j = rng.randrange(8), rng.randrange(8)
            copy(s[i:], s[j:])
            copy(shared[0], s)

        def zero(rng):
            i = rng.randrange(8)
            clear(s[i:])
            for k in range(i, 8):
                s[k] = VALUES[0]

        def look(rng):
            repr(s), len(s), cap(s), list(s)
            if rng.random() < 0.1:
                pickle.loads(pickle.dumps(s[:2]))
            try:
                sum(memoryview(s[1:3]).tobytes())
            except (TypeError, BufferError):
                pass

        race(store, fresh, load, grow, move, zero, look, store)
        gc.collect()
        """
    )


def test_pointers_and_arrays() -> None:
    """Pointers and arrays under races; what is read was stored by somebody."""
    racing(
        """
        p, q = new(object), new(int64)
        a, b = array_of(object, *"abc"), array_of(int64, 1, 1, 1)

        def write(rng):
            p.value = [rng.random()]
            q.value = rng.choice([0, 2**62])
            a[rng.randrange(3)] = (rng.random(),)
            b[rng.randrange(3)] = 7

        def read(rng):
            assert p.value is None or isinstance(p.value, list)
            assert q.value in (0, 2**62)
            assert all(isinstance(v, (str, tuple)) for v in a)
            a == array_of(object, *"abc")
            hash(b)
            repr(a)
            assert set(b) <= {1, 7}

        race(write, read, write, read)
        """
    )


def test_maps() -> None:
    """Maps under races: no crash, a miss is zero, and single writers lose nothing."""
    racing(
        """
        m = make(Map[int64, object])
        counts = make(Map[string, int64])
        numbers = iter(range(10))

        def mine():
            name = str(next(numbers))
            def body(rng):
                counts[name] += 1
                m[rng.randrange(50)] = [name]
                value = m[rng.randrange(50)]
                assert value is None or len(value) == 1
                try:
                    del m[rng.randrange(50)]
                except KeyError:
                    pass
                try:
                    for key in m:
                        assert 0 <= key < 50
                    repr(m)
                except RuntimeError:  # as of a dict that changes meanwhile
                    pass
                if rng.random() < 0.01:
                    clear(m)
            return body

        race(*[mine() for _ in range(6)])
        assert {key: counts[key] for key in counts} == {str(i): ROUNDS for i in range(6)}
        """
    )


def test_private_slices_on_shared_memory() -> None:
    """Threads that store into parts of their own of one array don't disturb one another."""
    racing(
        """
        s = make(Slice[byte], 8 * 100)
        grid = make(Slice[object], 8 * 100)
        parts = iter(range(8))

        def mine():
            i = next(parts)
            part, objects = s[i * 100:(i + 1) * 100], grid[i * 100:(i + 1) * 100]
            def body(rng):
                k = rng.randrange(100)
                value = rng.randrange(256)
                part[k] = value
                objects[k] = [value]
                assert (part[k], objects[k]) == (value, [value])
                copy(part[:50], part[25:])
                copy(objects[:50], objects[25:])
                assert [v[0] if v else 0 for v in objects] == list(part)
            return body

        race(*[mine() for _ in range(8)])
        """
    )


def test_allocating_and_freeing_elsewhere() -> None:
    """What one thread makes another frees, of all sizes; nothing is handed out twice."""
    racing(
        """
        import queue
        from goroutines import runtime
        q = queue.Queue()
        SIZES = [1, 8, 9, 16, 100, 1000, 5000, 32768, 40_000, 300_000]

        def produce(rng):
            n = rng.choice(SIZES)
            s = make(Slice[byte], n)
            assert s[0] == s[n // 2] == s[n - 1] == 0
            tag = rng.randrange(1, 256)
            s[0] = s[n // 2] = s[n - 1] = tag
            q.put((s, tag))

        def consume(rng):
            s, tag = q.get()
            n = len(s)
            assert s[0] == s[n // 2] == s[n - 1] == tag
            s = append(s, tag)
            assert s[0] == s[n] == tag
            if rng.random() < 0.05:
                stats = runtime.read_mem_stats()
                assert stats.mallocs - stats.frees == stats.heap_objects

        race(produce, consume, produce, consume, produce, consume)
        """
    )


def test_threads_that_come_and_go() -> None:
    """Caches of threads that ended are not lost, and their memory can still be freed."""
    racing(
        """
        from goroutines import runtime
        kept = []
        for _ in range(max(20, ROUNDS // 200)):
            threads = [
                threading.Thread(target=lambda: kept.append([make(Slice[byte], n) for n in
                                                             (8, 64, 500, 3000, 50_000)]))
                for _ in range(4)
            ]
            for t in threads:
                t.start()
            for t in threads:
                t.join()
            if len(kept) > 40:
                del kept[:30]
        before = runtime.read_mem_stats().heap_alloc
        del kept[:]
        gc.collect()
        assert runtime.read_mem_stats().heap_alloc < before
        """
    )


def test_collector_among_threads() -> None:
    """Collections while cycles through slices are built and dropped."""
    racing(
        """
        def build(rng):
            s = make(Slice[object], 4)
            s[0] = s
            s[1] = s[1:3]
            m = make(Map[int64, object])
            m[1] = s
            s[2] = m
            p = new(object)
            p.value = append(s, p)

        def collect(rng):
            if rng.random() < 0.2:
                gc.collect()

        race(build, build, collect, build)
        gc.collect()
        """
    )


def test_goroutines() -> None:
    """Goroutines on all Ms that make, pass and free slices through channels."""
    racing(
        """
        from goroutines import Chan, WaitGroup, go, runtime
        runtime.gomaxprocs(4)
        ch, wg = Chan(10), WaitGroup()
        total = []

        def produce(seed):
            rng = random.Random(seed)
            for _ in range(ROUNDS):
                n = rng.choice([1, 10, 100, 5000])
                s = make(Slice[int64], n)
                s[n - 1] = n
                ch.send(append(s, n))

        def consume():
            for s in ch:
                n = len(s) - 1
                assert s[n - 1] == s[n] == n
                total.append(n)

        consumers = [go(consume) for _ in range(3)]
        for seed in range(6):
            wg.go(produce, seed)
        wg.wait()
        ch.close()
        for g in consumers:
            g.join()
        assert len(total) == 6 * ROUNDS
        """
    )


def test_fork() -> None:
    """A child after fork allocates, frees what it inherited, and has sound numbers."""
    survives(
        """
        import os
        import warnings
        warnings.simplefilter("ignore")
        kept = [make(Slice[byte], n) for n in (8, 100, 5000, 100_000)] * 10
        pid = os.fork()
        if not pid:
            status = 1
            try:
                del kept[5:]
                more = [make(Slice[byte], n) for n in (8, 100, 5000, 100_000)] * 10
                assert all(s[0] == 0 for s in more)
                stats = runtime.read_mem_stats()
                assert stats.heap_objects == stats.mallocs - stats.frees
                status = 0
            finally:
                os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        assert all(len(s) for s in kept)
        """
    )


def test_at_exit() -> None:
    """Slices that live until the very end, in cycles, globals and threads, end quietly."""
    done = survives(
        """
        import threading
        import time
        s = make(Slice[object], 3)
        s[0] = s
        class Late:
            def __init__(self):
                self.s = make(Slice[byte], 1000)
            def __del__(self):
                append(self.s, 1)
        s[1] = Late()
        m = make(Map[string, object])
        m["s"] = s
        view = memoryview(make(Slice[byte], 100))
        keep = new(object)
        keep.value = keep
        def forever():
            while True:
                make(Slice[byte], 100)
                time.sleep(0.0001)
        threading.Thread(target=forever, daemon=True).start()
        time.sleep(0.01)
        """
    )
    assert (done.stdout, done.stderr) == ("", "")


def test_one_slice_in_goroutines() -> None:
    """On one M no operation of a slice switches: what a goroutine does it does whole."""
    from goroutines import WaitGroup

    s, wg = numbers(4), WaitGroup()

    def body() -> None:
        for _ in range(100):
            s[1] = 5
            assert s[1] == 5

    for _ in range(10):
        wg.go(body)
    wg.wait()
    assert list(s) == [0, 5, 2, 3]
