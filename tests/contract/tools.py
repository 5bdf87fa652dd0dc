"""What the contract tests share: a gate to hold goroutines at, and a concurrency meter."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from goroutines import Chan, gosched

from ..conftest import PROGRAM_TIMEOUT

# For calls that could otherwise hang a failing test: long enough never to run out.
LONG = PROGRAM_TIMEOUT


class Gate:
    """A door that is shut until `open()`; `wait()` parks in front of it."""

    def __init__(self) -> None:
        self._shut: Chan[None] = Chan()

    def wait(self, result: Any = None) -> Any:
        """Wait until the gate is open and return `result`."""
        self._shut.recv_ok()
        return result

    def open(self) -> None:
        """Let everybody through, from now on."""
        self._shut.close()


class Meter:
    """Counts how many are in `with meter():` now, in total, and at most at a time."""

    def __init__(self) -> None:
        self._guard = threading.Lock()  # held for an instant, never across a switch
        self.now = self.total = self.peak = 0

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """Count the caller in, and out when the block ends."""
        with self._guard:
            self.now += 1
            self.total += 1
            self.peak = max(self.peak, self.now)
        try:
            yield
        finally:
            with self._guard:
                self.now -= 1

    def visit(self, turns: int = 1) -> None:
        """Be inside for some turns of the scheduler."""
        with self():
            for _ in range(turns):
                gosched()


def outcome(fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Return what `fn` returns, or the exception that it raises."""
    try:
        return fn(*args, **kwargs)
    except BaseException as error:
        return error
