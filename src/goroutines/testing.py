"""For tests of programs with goroutines: a clock that jumps, waiting for quiet, leaks.

With pytest the fixtures ``fake_clock`` and ``no_leaks`` are there without any set-up.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Generator

from goroutines import _leaks, _runtime
from goroutines._runtime import Goroutine, current, goroutines, sleep

__all__ = ["fake_clock", "no_leaks", "wait_all_blocked"]


@contextlib.contextmanager
def fake_clock() -> Generator[None]:
    """Stop the runtime's clock in the block; it jumps whenever all goroutines wait.

    Inside, `goroutines.time.now()` stands still while anything can run, and goes to the
    next timer when nothing can: ``sleep(3600)`` takes no time and an hour passes. A call in
    `blocking()` holds the clock until it is done. What the standard library's `time` tells
    is the real time. After the block the real clock is back; what was armed in it keeps
    the time that it had left, except tickers and timers with a channel: do not take them
    along. Raises RuntimeError when nested.
    """
    if not _runtime._freeze_clock(True):
        raise RuntimeError("fake_clock() is in use already")
    try:
        yield
    finally:
        _runtime._freeze_clock(False)


def wait_all_blocked() -> None:
    """Wait until every other goroutine has ended or waits, for whatever it may be.

    A goroutine that sleeps, or whose `blocking()` call is under way, waits.
    """
    _runtime._wait_all_blocked()


def _left(before: set[Goroutine], grace: float) -> list[Goroutine]:
    """Return the goroutines that are new and do not end within `grace` real seconds."""
    deadline = time.monotonic() + grace
    pause = 0.0001
    while True:
        left = [g for g in goroutines() if g not in before]
        if not left or time.monotonic() >= deadline:
            return left
        sleep(pause)
        pause = min(pause * 2, 0.02)


def _story(g: Goroutine) -> str:
    """Tell of a goroutine that is alive."""
    state, place = g.wait_reason or g.state, _leaks.parked_at(g)
    at = f" at {place}" if place is not None else ""
    return f"{g.name} [{state}{at}], created by {g.created_by}"


@contextlib.contextmanager
def no_leaks(grace: float = 1.0) -> Generator[None]:
    """Raise AssertionError if goroutines started in the block are alive after it.

    They get `grace` seconds to end. The error names each with what it waits for and where,
    and where it was started. Those count too that a garbage collection ended in the block,
    since nothing could wake them (`runtime.find_leaks`). An exception that leaves the block
    is not hidden by this.
    """
    before = {*goroutines(), current()}
    with _leaks.watch() as ended:
        yield
        left = _left(before, grace)
        if left:
            _runtime._look_for_leaks()  # which of them are beyond hope
        hopeless = [leak for leak in ended if leak.goroutine not in before]
    known = {leak.goroutine for leak in hopeless}
    stories = [_story(g) for g in left if g not in known] + [str(leak) for leak in hopeless]
    if stories:
        many = f"{len(stories)} goroutines were" if len(stories) > 1 else "a goroutine was"
        lines = "".join(f"\n  {story}" for story in stories)
        raise AssertionError(f"{many} left behind:{lines}")
