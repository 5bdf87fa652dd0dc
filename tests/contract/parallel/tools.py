"""What the tests of parallel goroutines share: bodies in processes of their own, the Ms.

`alone` makes a test of a function that runs in a child with a given GOMAXPROCS. `spread`
starts goroutines and sees to it that they are on several threads, which is what most
tests here are about: without it one fast thread might run them all.

On a build with a GIL one thread runs the goroutines, whatever GOMAXPROCS says. What holds
there too runs once; what does not is marked with `several`.
"""

from __future__ import annotations

import sys
import tempfile
import textwrap
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from goroutines import Goroutine, go, runtime
from goroutines.patch import original

from ...conftest import FREE_THREADED, SCALE, Finished, scaled
from ..patch.tools import run

__all__ = [
    "PARALLEL",
    "alone",
    "in_threads",
    "nap",
    "preempts",
    "program",
    "scaled",
    "several",
    "spread",
    "thread_id",
    "within",
]

PARALLEL = FREE_THREADED and not getattr(sys, "_is_gil_enabled", lambda: True)()
"""Whether several threads run goroutines."""
several = pytest.mark.skipif(
    not PARALLEL, reason="needs a free-threaded build: one thread runs goroutines under a GIL"
)
preempts = pytest.mark.skipif(
    sys.version_info < (3, 12), reason="3.11 has no sys.monitoring to preempt with"
)

HERE = Path(__file__).parent
TIMEOUT = 60.0 * max(1.0, SCALE)
WHEN_IT_HANGS = "import faulthandler as _f; _f.register(3, chain=True)\n"

# What patch() replaces, as it was. (A name for it is none: patch() finds those of modules.)
thread_id = original("_thread", "get_native_id")
nap = original("time", "sleep")
_new_lock = original("_thread", "allocate_lock")


def alone(
    *procs: int,
    patched: bool = False,
    env: Mapping[str, str] | None = None,
    timeout: float = TIMEOUT,
) -> Callable[[Callable[[], object]], Callable[..., None]]:
    """Make a test of a function without parameters: a child runs it, once for each GOMAXPROCS.

    It may not leave goroutines behind. 1, 2 and 8 if none are named; the largest one only
    on a build with a GIL.
    """
    procs = procs or (1, 2, 8)

    def decorate(body: Callable[[], object]) -> Callable[..., None]:
        @pytest.mark.parametrize("procs", procs if PARALLEL else procs[-1:])
        def test(procs: int) -> None:
            how = ["patch"] if patched else []
            command = [sys.executable, str(HERE / "child.py"), body.__module__, body.__name__]
            environment = {"GOMAXPROCS": str(procs), **(env or {})}
            run([*command, *how], env=environment, timeout=timeout)

        test.__name__, test.__doc__ = body.__name__, body.__doc__
        test.__module__, test.__qualname__ = body.__module__, body.__qualname__
        test.body = body  # type: ignore[attr-defined]
        return test

    return decorate


def program(
    source: str,
    *args: str,
    procs: int = 4,
    flags: tuple[str, ...] = (),
    env: Mapping[str, str] | None = None,
    returncode: int | None = 0,
    timeout: float = TIMEOUT,
) -> Finished:
    """Run a program to its end, for tests of how it ends and what it writes.

    `flags` stand before the script: `-m goroutines run`, for one. One that does not end
    prints its threads; no handler is set for that which could hold a deadlock back.
    """
    environment = {"GOMAXPROCS": str(procs), **(env or {})}
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "prog.py"
        path.write_text(WHEN_IT_HANGS + textwrap.dedent(source), encoding="utf-8")
        command = [sys.executable, *flags, str(path), *args]
        return run(command, env=environment, timeout=timeout, returncode=returncode)


class Spread:
    """Goroutines that were begun on several threads."""

    def __init__(self, count: int, fn: Callable[[int], object], threads: int) -> None:
        self.wanted = threads
        self.threads: set[int] = set()
        self.results: list[Any] = [None] * count
        self.errors: list[BaseException] = []
        self._fn = fn
        self._guard = _new_lock()  # held for an instant, never across a switch
        self._until = time.monotonic() + TIMEOUT / 2
        self.gs: list[Goroutine] = [go(self._run, i) for i in range(count)]

    def _run(self, i: int) -> None:
        with self._guard:
            self.threads.add(thread_id())
        # Whoever holds a thread here leaves the goroutines not yet begun to the others.
        while len(self.threads) < self.wanted and time.monotonic() < self._until:
            nap(0)
        try:
            self.results[i] = self._fn(i)
        except BaseException as error:
            self.errors.append(error)
            raise

    def begun(self) -> Spread:
        """Wait until they go ahead. Two that are not begun would take threads from each other."""
        within(lambda: len(self.threads) >= self.wanted, "that there are enough threads")
        return self

    def join(self) -> list[Any]:
        """Wait for all; what they returned, in order. A failure of one is raised."""
        for g in self.gs:
            g.join()
        if self.errors:
            raise self.errors[0]
        assert len(self.threads) >= self.wanted, (
            f"goroutines began on {len(self.threads)} threads only, not {self.wanted}"
        )
        return self.results


def spread(count: int, fn: Callable[[int], object], threads: int | None = None) -> Spread:
    """Start `fn(0)` ... `fn(count - 1)`, a goroutine each, on several threads.

    On as many as GOMAXPROCS and `count` allow, or `threads`: they go ahead together, once
    that many have one. The test fails at `join` if that does not happen. The caller has to
    wait, its own thread counts; and to wait for `begun` before it spreads others.
    """
    if threads is None:
        threads = min(count, runtime.gomaxprocs())
        if time.sleep is not nap:  # patched: who holds a thread is preempted, another begins there
            threads = min(threads, max(1, count // 2))
    return Spread(count, fn, threads if PARALLEL else 1)


def within(condition: Callable[[], object], what: str, seconds: float = TIMEOUT / 2) -> None:
    """Let everything else run until `condition()` is true; AssertionError if it stays false.

    The thread sleeps in between: what it waits for is not the caller's own thread's to do.
    """
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, f"{what} never came true"
        runtime.gosched()
        nap(0.0002)


def in_threads(count: int, fn: Callable[[int], object]) -> list[threading.Thread]:
    """Start `fn(0)` ... in plain OS threads (patched: in goroutines)."""
    threads = [threading.Thread(target=fn, args=(i,), daemon=True) for i in range(count)]
    for thread in threads:
        thread.start()
    return threads
