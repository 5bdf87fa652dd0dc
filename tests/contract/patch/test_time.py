"""patch(): time.sleep."""

from __future__ import annotations

from .tools import run_patched


def test_sleep() -> None:
    """A sleeper lets others run, and sleeps as long as it was told."""
    run_patched("""
        before = time.monotonic()
        task = parks(time.sleep, 0.3)
        assert task.reason in ("sleep", None)
        task.result()
        assert time.monotonic() - before >= 0.29
        done = []
        for i in (0.03, 0.02, 0.01):
            start(lambda i=i: (time.sleep(i), done.append(i)))
        until(lambda: len(done) == 3)
        for value in (0, 0.0, False):
            assert time.sleep(value) is None
        assert isinstance(outcome(time.sleep, -1), ValueError)
        assert isinstance(outcome(time.sleep, float("nan")), ValueError)
        assert isinstance(outcome(time.sleep, "1"), TypeError)
        assert isinstance(outcome(time.sleep), TypeError)
        from decimal import Decimal
        from fractions import Fraction
        class Index:
            def __index__(self):
                return 0
        assert time.sleep(Index()) is None
        assert time.sleep.__name__ == "sleep"
        """)


def test_many_sleepers() -> None:
    """Thousands sleep at once."""
    run_patched("""
        if PATCHED:
            tasks = [start(time.sleep, 0.05) for _ in range(2000)]
            for task in tasks:
                task.result()
        """)


def test_sleep_in_threads_and_elsewhere() -> None:
    """sleep in a callback, in a generator, in __del__ and in an iterator's C loop."""
    run_patched("""
        import gc
        out = []
        class Slow:
            def __lt__(self, other):
                time.sleep(0.001)
                return id(self) < id(other)
            def __del__(self):
                time.sleep(0.001)
                out.append(1)
        def gen():
            for i in range(3):
                time.sleep(0.001)
                yield i
        def work():
            items = [Slow() for _ in range(5)]
            assert sorted(items) == sorted(items, key=id)
            del items
            return sum(gen()) + sum(map(lambda i: (time.sleep(0.001), i)[1], range(3)))
        tasks = [start(work) for _ in range(10)]
        assert [task.result() for task in tasks] == [6] * 10
        gc.collect()
        until(lambda: len(out) == 50)
        """)
