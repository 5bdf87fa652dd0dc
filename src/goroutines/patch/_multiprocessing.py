"""multiprocessing: semaphores that processes share.

A goroutine cannot be woken by another process' sem_post, so it looks again after a while:
soon at first, then each hundredth of a second. All else of multiprocessing is made of pipes,
locks and children, which park anyway; a child begins with a clean runtime.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from goroutines._runtime import now, sleep
from goroutines.patch import _registry

_FIRST, _MOST = 0.0002, 0.01  # seconds between two looks


def _acquire(native: Callable[..., bool]) -> Callable[..., bool]:
    def acquire(block: bool = True, timeout: float | None = None) -> bool:
        """Take the semaphore, parking the goroutine, for at most `timeout` seconds."""
        if native(False):
            return True
        deadline = None if timeout is None else now() + max(0.0, timeout)
        pause = _FIRST
        while block:
            left = pause if deadline is None else min(pause, deadline - now())
            if left <= 0:
                return False
            sleep(left)
            if native(False):
                return True
            pause = min(2 * pause, _MOST)
        return False

    return acquire


class _SemLock:
    """A ``_multiprocessing.SemLock`` whose waits park."""

    def __init__(self, native: Any) -> None:
        self._native = native
        self.acquire = _acquire(native.acquire)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._native, name)

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(self, *exc: object) -> None:
        self._native.release()


def _make_methods(original: Callable[[Any], None]) -> Callable[[Any], None]:
    def _make_methods(self: Any) -> None:
        if not isinstance(self._semlock, _SemLock):
            self._semlock = _SemLock(self._semlock)
        original(self)

    return _make_methods


def install() -> None:
    try:
        from multiprocessing import synchronize
    except ImportError:  # a system without shared semaphores
        return
    cls: Any = synchronize.SemLock
    _registry.replace(cls, "_make_methods", _make_methods(cls._make_methods))
