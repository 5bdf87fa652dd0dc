"""The runtime's settings and what it tells about itself (Go's package runtime)."""

from __future__ import annotations

import gc as _gc
import math
import os
from typing import NamedTuple

from goroutines import _leaks, _panic, _runtime, _watchdog
from goroutines._leaks import Leak
from goroutines._runtime import (
    _blocking_stats,
    _mem_stats,
    current,
    goexit,
    goroutines,
    gosched,
    lock_os_thread,
    num_goroutine,
    set_max_stack,
    set_max_threads,
    unlock_os_thread,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from goroutines._runtime import Goroutine

__all__ = [
    "BlockingStats",
    "Leak",
    "MemStats",
    "SizeStats",
    "blocking_stats",
    "find_leaks",
    "gc",
    "goexit",
    "gomaxprocs",
    "goroutines",
    "gosched",
    "lock_os_thread",
    "num_cpu",
    "num_goroutine",
    "read_mem_stats",
    "set_max_stack",
    "set_max_threads",
    "set_preemption",
    "set_watchdog",
    "stack",
    "unlock_os_thread",
]


def num_cpu() -> int:
    """Return the number of processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _words(path: str) -> list[str]:
    """Return the words of a file's first line, none if it cannot be read."""
    try:
        with open(path) as file:
            return file.readline().split()
    except OSError:
        return []


def _control_groups() -> dict[str, str]:
    """Return this process' control group by controller; version 2's by the empty name."""
    groups: dict[str, str] = {}
    try:
        with open("/proc/self/cgroup") as file:
            for line in file:
                _, controllers, path = line.rstrip("\n").split(":", 2)
                for controller in controllers.split(","):
                    groups[controller] = path
    except (OSError, ValueError):
        pass
    return groups


def _quota(folder: str) -> float:
    """Return the processors that a control group has; infinity if it is not limited."""
    words = _words(f"{folder}/cpu.max")  # version 2
    if not words:
        words = _words(f"{folder}/cpu.cfs_quota_us") + _words(f"{folder}/cpu.cfs_period_us")
    if len(words) != 2 or words[0] in ("max", "-1"):
        return math.inf
    return float(words[0]) / float(words[1])


def _cgroup_limit() -> float:
    """Return the processors that control groups allow; infinity without a limit."""
    groups = _control_groups()
    limit = math.inf
    for controller, root in (("", "/sys/fs/cgroup"), ("cpu", "/sys/fs/cgroup/cpu")):
        path = groups.get(controller, "").rstrip("/")
        while path:  # a group is bound by those that it is in
            limit = min(limit, _quota(root + path))
            path = path.rpartition("/")[0]
        limit = min(limit, _quota(root))
    return limit


def _initial_procs() -> int:
    """GOMAXPROCS, or else what affinity and control group allow; at least 1."""
    asked = os.environ.get("GOMAXPROCS", "")
    if asked.isascii() and asked.isdigit() and 0 < int(asked) < 2**31:  # what Go reads
        return int(asked)
    limit = _cgroup_limit()
    # As Go rounds: up, and to two at least.
    return num_cpu() if limit == math.inf else min(num_cpu(), max(2, math.ceil(limit)))


def gomaxprocs(n: int | None = None) -> int:
    """Set how many threads start goroutines at the same time; return the setting before.

    It matters on free-threaded builds, where so many threads run goroutines in parallel. On
    builds with a GIL one thread runs them, whatever is set. At first it is the
    environment's GOMAXPROCS, else the number of processors that the process may use (its CPU
    affinity, and the limit of its control group).

    A goroutine stays on the thread that it was started on. So after the number was lowered
    those that have started go on where they are, and threads above the number start no others.

    Args:
        n: The new number; None or less than 1 changes nothing, as in Go.

    Raises:
        TypeError: n is neither an int nor None.
    """
    if n is not None and not isinstance(n, int):
        raise TypeError(f"gomaxprocs: expected an int or None, not {type(n).__name__}")
    return _runtime._gomaxprocs(n if n is not None and n >= 1 else 0)


def set_preemption(on: bool) -> bool:
    """Let no goroutine keep its thread: one that computes for 10 ms makes way for others.

    `goroutines.patch` switches it on. Without the patch a goroutine can be made to leave
    while it holds a lock of `threading`, and who then waits for that lock blocks the thread.

    It happens between two bytecodes, never inside a C call. On CPython 3.11 it is for the
    main thread's goroutines only, and must be switched on there.

    Args:
        on: Whether to.

    Returns:
        What it was before.

    Raises:
        ValueError: CPython 3.11, and this is not the main thread.
    """
    return _watchdog.set_preemption(bool(on))


def set_watchdog(
    seconds: float | None, report: Callable[[Goroutine, float, str], object] | None = None
) -> float | None:
    """Set when a goroutine is named that keeps its thread in one C call, or blocks it.

    The watchdog is on whenever preemption is, with 0.1 seconds. It names a goroutine once, on
    stderr: number, stack, how long, and where it was started. Calls like that belong into
    `goroutines.blocking`.

    Args:
        seconds: From which time on; None: never.
        report: ``report(goroutine, seconds, text)`` is called instead of the printing, in a
            thread of the runtime or in that goroutine; text is its stack as in a dump.

    Returns:
        The seconds that were set before, or None.

    Raises:
        TypeError: seconds is no number, or report cannot be called.
        ValueError: seconds is not above 0.
    """
    if report is not None and not callable(report):
        raise TypeError(f"set_watchdog: report must be callable, not {type(report).__name__}")
    if isinstance(seconds, int | float) and not seconds > 0:
        raise ValueError(f"set_watchdog: seconds must be above 0 or None, not {seconds!r}")
    return _watchdog.set_watchdog(seconds, report)


def _read_godebug() -> None:
    """GODEBUG=schedtrace=1000: a line about the scheduler on stderr, each so many ms."""
    for setting in os.environ.get("GODEBUG", "").split(","):
        name, _, value = setting.partition("=")
        if name == "schedtrace" and value.isdigit():
            _runtime._set_schedtrace(int(value))


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


def find_leaks() -> list[Leak]:
    """Collect garbage, and return the goroutines that were found to wait for ever.

    A goroutine is leaked when it waits, without a timeout, on a channel, `select`, Mutex,
    RWMutex, WaitGroup, Semaphore or Cond that nobody can reach but itself and other leaked
    ones: nothing can wake it. Each garbage collection looks for them, those of young objects
    ten times a second at most. A leaked goroutine is ended, as by `goexit`: its `finally`
    blocks and deferred calls run, and what it held is free. (Go's goroutine leak profile
    names them, and lets them be.)

    None is named that something could still wake; some others are not found, as those of a
    `context.scope`, and those whose channel is referred to by C code on their stack.

    Returns:
        Those found since the last call, the oldest first; of very many the last 1,000.
    """
    _gc.collect()
    _runtime._look_for_leaks()
    return _leaks.take()


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


_runtime._gomaxprocs(_initial_procs())
_read_godebug()
