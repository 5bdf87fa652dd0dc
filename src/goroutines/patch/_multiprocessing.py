"""multiprocessing: semaphores that processes share.

A goroutine cannot be woken by another process' sem_post, so it looks again after a while:
soon at first, then each hundredth of a second. All else of multiprocessing is made of pipes,
locks and children, which park anyway; a child begins with a clean runtime.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from goroutines import _runtime
from goroutines._runtime import now, sleep
from goroutines.patch import _registry

_FIRST, _MOST = 0.0002, 0.01  # seconds between two looks
_RECURSIVE_MUTEX = 0  # multiprocessing.synchronize's


class _SemLock:
    """A ``_multiprocessing.SemLock`` whose waits park, and that goroutines own, not threads."""

    def __init__(self, native: Any) -> None:
        self._native = native
        self._reentrant = native.kind == _RECURSIVE_MUTEX
        self._owner: int | None = None  # of a reentrant one, in this process
        self._depth = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._native, name)

    def _try(self) -> bool:
        me = _runtime._get_ident()
        if self._reentrant and self._owner not in (None, me):
            return False  # to the native one we all are one thread
        if not self._native.acquire(False):
            return False
        self._owner = me
        self._depth += 1
        return True

    def acquire(self, block: bool = True, timeout: float | None = None) -> bool:
        """Take the semaphore, parking the goroutine, for at most `timeout` seconds."""
        if self._try():
            return True
        deadline = None if timeout is None else now() + max(0.0, timeout)
        pause = _FIRST
        while block:
            left = pause if deadline is None else min(pause, deadline - now())
            if left <= 0:
                return False
            sleep(left)
            if self._try():
                return True
            pause = min(2 * pause, _MOST)
        return False

    def release(self) -> None:
        if self._reentrant:
            if self._owner != _runtime._get_ident():
                raise AssertionError("attempt to release recursive lock not owned by thread")
            self._depth -= 1
            self._owner = self._owner if self._depth else None
        self._native.release()

    def _is_mine(self) -> bool:
        if self._reentrant:
            return self._owner == _runtime._get_ident()
        return bool(self._native._is_mine())

    def _count(self) -> int:
        if self._reentrant:
            return self._depth if self._is_mine() else 0
        return int(self._native._count())

    def _after_fork(self) -> None:
        self._owner, self._depth = None, 0
        self._native._after_fork()

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(self, *exc: object) -> None:
        self.release()


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
