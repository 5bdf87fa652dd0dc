"""runtime.read_mem_stats: that its numbers add up at any moment, and say what happened."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Callable

import pytest

from goroutines import Chan, _runtime, go, gosched, runtime
from goroutines.runtime import MemStats

from .conftest import TORTURE, scaled, until

KIB, MIB = 1024, 1024 * 1024


def allocated(size: int) -> int:
    address = _runtime._debug_mem_alloc(size)
    assert address is not None
    return address


def assert_adds_up(s: MemStats) -> None:
    """Check every equation and inequality that the documentation promises."""
    assert s.alloc == s.heap_alloc <= s.heap_inuse
    assert s.alloc <= s.total_alloc
    assert s.mallocs - s.frees == s.heap_objects >= 0
    assert s.heap_inuse + s.heap_idle == s.heap_sys
    assert 0 <= s.heap_released <= s.heap_idle
    assert s.sys == s.heap_sys + s.stack_sys + s.mspan_sys + s.mcache_sys
    assert 0 <= s.stack_inuse <= s.stack_sys
    assert s.mspan_inuse <= s.mspan_sys
    assert s.mcache_inuse <= s.mcache_sys
    assert sum(c.mallocs for c in s.by_size) + s.large_mallocs == s.mallocs
    assert sum(c.frees for c in s.by_size) + s.large_frees == s.frees
    assert all(c.mallocs >= c.frees for c in s.by_size)
    assert s.large_mallocs >= s.large_frees
    small = sum((c.mallocs - c.frees) * c.size for c in s.by_size)
    assert (s.alloc - small > 0) == (s.large_mallocs > s.large_frees)


def test_a_few_blocks() -> None:
    """Each block is counted in its class, or as a large one."""
    before = runtime.read_mem_stats()
    blocks = [allocated(100), allocated(112), allocated(100 * KIB)]
    during = runtime.read_mem_stats()
    for address in blocks:
        _runtime._debug_mem_free(address)
    after = runtime.read_mem_stats()
    for stats in (before, during, after):
        assert_adds_up(stats)
    assert during.mallocs - before.mallocs == 3 == after.frees - before.frees
    assert during.alloc - before.alloc == during.total_alloc - before.total_alloc >= 100 * KIB + 224
    assert after.alloc == before.alloc
    assert after.total_alloc == during.total_alloc
    assert during.large_mallocs - before.large_mallocs == 1


def test_they_never_go_back() -> None:
    """What counts since the start only grows."""
    last = runtime.read_mem_stats()
    for size in (8, 1000, 70_000, 2 * MIB):
        _runtime._debug_mem_free(allocated(size))
        stats = runtime.read_mem_stats()
        for name in ("total_alloc", "mallocs", "frees", "num_gc", "pause_total_ns", "last_gc"):
            assert getattr(stats, name) >= getattr(last, name)
        assert (stats.mallocs, stats.frees) == (last.mallocs + 1, last.frees + 1)
        last = stats


def busy_threads(
    work: Callable[[], None], n: int
) -> tuple[threading.Event, list[threading.Thread]]:
    over = threading.Event()

    def run() -> None:
        while not over.is_set():
            work()

    threads = [threading.Thread(target=run) for _ in range(n)]
    for thread in threads:
        thread.start()
    return over, threads


def test_they_add_up_while_others_allocate() -> None:
    """Each snapshot is of one moment, though other threads allocate and free all the time."""

    def work() -> None:
        for address in [allocated(n) for n in (8, 24, 500, 5000, 30_000, 50_000, 300_000)]:
            _runtime._debug_mem_free(address)

    over, threads = busy_threads(work, 3)
    try:
        for _ in range(scaled(300)):
            assert_adds_up(runtime.read_mem_stats())
    finally:
        over.set()
        for thread in threads:
            thread.join()
    assert_adds_up(runtime.read_mem_stats())


def test_goroutines_that_wait_need_stacks() -> None:
    """stack_inuse grows with parked goroutines, and stack_sys keeps what they leave behind."""
    ch: Chan[int] = Chan()
    before = runtime.read_mem_stats()
    waiting = [go(ch.recv) for _ in range(200)]
    until(lambda: all(g.state == "waiting" for g in waiting))
    gosched()
    during = runtime.read_mem_stats()
    for i in range(200):
        ch.send(i)
    for g in waiting:
        g.join()
    after = runtime.read_mem_stats()
    for stats in (before, during, after):
        assert_adds_up(stats)
    assert during.stack_inuse - before.stack_inuse > 200 * 600
    assert after.stack_inuse < during.stack_inuse - 200 * 500


def deep(n: int) -> int:
    return n if n == 0 else deep(n - 1) + 1


def test_threads_leave_no_stacks_behind() -> None:
    """A thread that ends takes the memory of its goroutines with it."""

    def use() -> None:
        for g in [go(deep, 300) for _ in range(20)]:
            g.join()

    def in_a_thread() -> None:
        thread = threading.Thread(target=use)
        thread.start()
        thread.join()

    in_a_thread()
    gc.collect()
    before = runtime.read_mem_stats()
    for _ in range(5):
        in_a_thread()
    after = runtime.read_mem_stats()
    assert_adds_up(after)
    assert after.stack_sys - before.stack_sys < 64 * KIB


@pytest.mark.skipif(TORTURE, reason="the torture build collects at every chance")
def test_collections_are_counted() -> None:
    """num_gc counts Python's collections, num_forced_gc those of runtime.gc."""
    gc.disable()
    try:
        before = runtime.read_mem_stats()
        began = time.time()
        runtime.gc()
        gc.collect()
        after = runtime.read_mem_stats()
    finally:
        gc.enable()
    assert after.num_gc - before.num_gc == 2
    assert after.num_forced_gc - before.num_forced_gc == 1
    assert after.pause_total_ns > before.pause_total_ns
    assert began - 1 <= after.last_gc <= time.time() + 1
    assert (after.enable_gc, runtime.read_mem_stats().enable_gc) == (False, True)
