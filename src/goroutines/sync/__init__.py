"""Locks and what else goroutines share (Go's sync, and x/sync's weighted semaphore).

All of it works between goroutines of any thread and plain threads. Hot parts are the
core's; what is here is policy.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from types import TracebackType
from typing import Any, Generic, TypeVar, cast

from goroutines._runtime import Cache as Pool
from goroutines._runtime import Cond, Mutex, Once, RWMutex, Semaphore, WaitGroup
from goroutines.sync import atomic

__all__ = [
    "Cond",
    "Map",
    "Mutex",
    "Once",
    "Pool",
    "RWMutex",
    "Semaphore",
    "WaitGroup",
    "atomic",
    "once_func",
    "once_value",
]

K = TypeVar("K")
V = TypeVar("V")
R = TypeVar("R")

_MISSING: Any = object()


def once_func(fn: Callable[[], object]) -> Callable[[], None]:
    """Return a function that calls ``fn()`` the first time only (Go's sync.OnceFunc).

    Calls that come meanwhile wait for it. If `fn` raised, every call raises the same
    exception. Raises TypeError if `fn` is not callable.
    """
    value = once_value(fn)

    @functools.wraps(fn, updated=())
    def call() -> None:
        value()

    return call


def once_value(fn: Callable[[], R]) -> Callable[[], R]:
    """Return a function that calls ``fn()`` once and always returns its value.

    As Go's sync.OnceValue; otherwise as `once_func`.
    """
    if not callable(fn):
        raise TypeError(f"once_value: {fn!r} is not callable")
    once = Once()
    result: Any = None
    failed: BaseException | None = None
    born: TracebackType | None = None

    def first() -> None:
        nonlocal result, failed, born
        try:
            result = fn()
        except BaseException as e:
            failed, born = e, e.__traceback__

    @functools.wraps(fn, updated=())
    def call() -> R:
        once.do(first)
        if failed is not None:
            raise failed.with_traceback(born)  # or it would grow with each call
        return cast("R", result)

    return call


class Map(Generic[K, V]):
    """A dictionary whose operations are atomic (Go's sync.Map).

    Reading takes no lock. Raises TypeError for keys that are not hashable.
    """

    __slots__ = ("__weakref__", "_dict", "_mu")

    def __init__(self) -> None:
        self._dict: dict[K, V] = {}
        self._mu = Mutex()

    def load(self, key: K) -> tuple[V | None, bool]:
        """Return the value of `key` and True, or None and False."""
        value = self._dict.get(key, _MISSING)
        return (None, False) if value is _MISSING else (value, True)

    def store(self, key: K, value: V) -> None:
        """Set the value of `key`."""
        self.swap(key, value)  # whose caller drops the old value, when the lock is free

    def load_or_store(self, key: K, value: V) -> tuple[V, bool]:
        """Return the value of `key` and True; if it has none, set `value`, return it and False."""
        with self._mu:
            found = cast("V", self._dict.get(key, _MISSING))
            if found is not _MISSING:
                return found, True
            self._dict[key] = value
            return value, False

    def load_and_delete(self, key: K) -> tuple[V | None, bool]:
        """Take `key` out: its value and True, or None and False."""
        with self._mu:
            value = self._dict.get(key, _MISSING)
            if value is _MISSING:
                return None, False
            del self._dict[key]
            return value, True

    def delete(self, key: K) -> None:
        """Take `key` out, if it is there."""
        self.load_and_delete(key)

    def swap(self, key: K, value: V) -> tuple[V | None, bool]:
        """Set the value of `key`; return the one before and True, or None and False."""
        with self._mu:
            previous = self._dict.get(key, _MISSING)
            self._dict[key] = value
            return (None, False) if previous is _MISSING else (previous, True)

    def compare_and_swap(self, key: K, old: V, new: V) -> bool:
        """Set `new` if the value of `key` is there and ``== old``; return whether it was."""
        return self._replace_if(key, old, new)

    def compare_and_delete(self, key: K, old: V) -> bool:
        """Take `key` out if its value is there and ``== old``; return whether it was."""
        return self._replace_if(key, old, _MISSING)

    def _replace_if(self, key: K, old: V, new: V) -> bool:
        while True:
            value = self._dict.get(key, _MISSING)
            # Comparing is other people's code: not with the lock held.
            if value is _MISSING or not value == old:  # noqa: SIM201 - not everything has !=
                return False
            with self._mu:
                if self._dict.get(key, _MISSING) is not value:
                    continue
                if new is _MISSING:
                    del self._dict[key]
                else:
                    self._dict[key] = new
                return True

    def range(self, fn: Callable[[K, V], object]) -> None:
        """Call ``fn(key, value)`` for each entry until it returns False (only False ends it).

        Entries may come and go meanwhile; each key that stays is seen once.
        """
        if not callable(fn):
            raise TypeError(f"Map.range: {fn!r} is not callable")
        with self._mu:
            keys = list(self._dict)
        for key in keys:
            value = cast("V", self._dict.get(key, _MISSING))
            if value is not _MISSING and fn(key, value) is False:
                return

    def clear(self) -> None:
        """Take all entries out."""
        with self._mu:
            dropped, self._dict = self._dict, {}
        dropped.clear()

    def __len__(self) -> int:
        return len(self._dict)

    def __repr__(self) -> str:
        return f"<sync.Map of {len(self._dict)} at {id(self):#x}>"
