"""The runtime's settings and what it tells about itself (Go's package runtime)."""

from __future__ import annotations

import gc as _gc
import os
from typing import NamedTuple

from goroutines import _panic
from goroutines._runtime import (
    _blocking_stats,
    current,
    goexit,
    goroutines,
    gosched,
    num_goroutine,
    set_max_threads,
)

__all__ = [
    "BlockingStats",
    "blocking_stats",
    "gc",
    "goexit",
    "gomaxprocs",
    "goroutines",
    "gosched",
    "num_cpu",
    "num_goroutine",
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


def gc() -> None:
    """Run a garbage collection (Go's runtime.GC)."""
    _gc.collect()


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
