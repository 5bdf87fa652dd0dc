"""The runtime's settings and what it tells about itself (Go's package runtime)."""

from __future__ import annotations

import gc as _gc
import os
from typing import NamedTuple

from goroutines import _panic
from goroutines._runtime import (
    _blocking_stats,
    _mem_stats,
    current,
    goexit,
    goroutines,
    gosched,
    num_goroutine,
    set_max_threads,
)

__all__ = [
    "BlockingStats",
    "MemStats",
    "SizeStats",
    "blocking_stats",
    "gc",
    "goexit",
    "gomaxprocs",
    "goroutines",
    "gosched",
    "num_cpu",
    "num_goroutine",
    "read_mem_stats",
    "set_max_threads",
    "stack",
]


def num_cpu() -> int:
    """Return the number of processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _initial_procs() -> int:
    try:
        procs = int(os.environ.get("GOMAXPROCS", ""))
    except ValueError:
        return num_cpu()
    return procs if procs > 0 else num_cpu()


_procs = _initial_procs()


def gomaxprocs(n: int | None = None) -> int:
    """Set how many threads run goroutines at the same time; return the setting before.

    One thread runs them at present, whatever is set: on builds with a GIL more could not
    help.

    Args:
        n: The new number; None or less than 1 changes nothing, as in Go.

    Raises:
        TypeError: n is neither an int nor None.
    """
    global _procs
    if n is not None and not isinstance(n, int):
        raise TypeError(f"gomaxprocs: expected an int or None, not {type(n).__name__}")
    old = _procs
    if n is not None and n >= 1:
        _procs = n
    return old


def stack(all: bool = False) -> str:
    """Return the stack of this goroutine, or of all of them, in the layout of Go's dump."""
    return _panic.dump() if all else _panic.describe(current())


_forced_gc = 0


def gc() -> None:
    """Run a garbage collection (Go's runtime.GC).

    It also returns memory of the allocator that is not needed to the system.
    """
    global _forced_gc
    _forced_gc += 1
    _gc.collect()


class SizeStats(NamedTuple):
    """What became of the blocks of one size class (Go's MemStats.BySize)."""

    size: int
    """Bytes in a block of this class."""
    mallocs: int
    """Blocks that were allocated, since the process started."""
    frees: int
    """Blocks that were freed."""


class MemStats(NamedTuple):
    """What `read_mem_stats` tells, as Go's runtime.MemStats.

    The heap is the allocator's, which `goroutines.memory` takes its arrays from. Python's own
    objects are not in it: `sys.getallocatedblocks` and `tracemalloc` tell about those. All
    counts but those of the stacks and of the collector are of one moment, and add up:
    `mallocs - frees == heap_objects`, `heap_inuse + heap_idle == heap_sys`,
    `alloc <= heap_inuse`, `heap_released <= heap_idle`, and the sizes of `by_size` with the
    large blocks come to `mallocs`, `frees` and so on.
    """

    alloc: int
    """Bytes in blocks that are allocated, rounded up to their classes; the same as heap_alloc."""
    total_alloc: int
    """Bytes in all blocks that were ever allocated."""
    sys: int
    """Bytes got from the system: heap_sys, stack_sys, mspan_sys and mcache_sys together."""
    mallocs: int
    """Blocks that were ever allocated."""
    frees: int
    """Blocks that were freed."""
    heap_alloc: int
    """Bytes in blocks that are allocated."""
    heap_sys: int
    """Bytes of address space that the heap has opened; not all have memory behind them."""
    heap_idle: int
    """Bytes of it in pages that no block lies in."""
    heap_inuse: int
    """Bytes of it in pages that are cut into blocks, or are one."""
    heap_released: int
    """Bytes of heap_idle that the system has, returned or never touched."""
    heap_objects: int
    """Blocks that are allocated."""
    stack_inuse: int
    """Bytes for the stacks of goroutines: copied C stacks of the parked, and Python frames."""
    stack_sys: int
    """The same with what is kept for the next goroutines."""
    mspan_inuse: int
    """Bytes of the tables that describe spans in use."""
    mspan_sys: int
    """Bytes of address space for such tables."""
    mcache_inuse: int
    """Bytes of the caches of threads that live, without the blocks in them."""
    mcache_sys: int
    """Bytes for caches, of threads that ended too."""
    large_mallocs: int
    """Blocks above the largest size class (32 KiB) that were ever allocated."""
    large_frees: int
    """Blocks above the largest size class that were freed."""
    last_gc: float
    """When Python's collector ended last, in seconds since 1970 as `time.time()`; 0.0: never."""
    pause_total_ns: int
    """Nanoseconds in Python's collector, since `goroutines` was imported."""
    num_gc: int
    """Collections of any generation since then."""
    num_forced_gc: int
    """Calls of `runtime.gc`."""
    enable_gc: bool
    """Whether Python collects by itself (`gc.isenabled`)."""
    by_size: tuple[SizeStats, ...]
    """The size classes, smallest first."""


def read_mem_stats() -> MemStats:
    """Return statistics of the allocator, the stacks and the collector (runtime.ReadMemStats).

    Other threads that allocate wait for some microseconds meanwhile.
    """
    counts, last_ns, pause_ns, collections, sizes = _mem_stats()
    by_size = tuple(map(SizeStats._make, sizes))
    collector = (last_ns / 1e9, pause_ns, collections, _forced_gc, _gc.isenabled())
    return MemStats._make((*counts, *collector, by_size))


class BlockingStats(NamedTuple):
    """What the threads of `goroutines.blocking` do."""

    threads: int
    """Threads there are; at most `max_threads`."""
    idle: int
    """Those of them that wait for a call."""
    queued: int
    """Calls that wait for a thread."""
    max_threads: int
    """The cap, `set_max_threads`."""
    calls: int
    """Calls that a thread has begun, since the process started."""
    waited: float
    """Seconds that all these waited for their thread together."""
    longest_wait: float
    """Seconds that one of them waited at most."""


def blocking_stats() -> BlockingStats:
    """Return how many threads `goroutines.blocking` uses and how long calls wait for one.

    Names are looked up there too, once `goroutines.patch` is called. The first call that finds
    all threads busy and their cap reached warns (RuntimeWarning).
    """
    return BlockingStats(*_blocking_stats())
