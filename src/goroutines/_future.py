"""Futures that concurrent.futures and asyncio take for their own.

`Future` is the core's type with `concurrent.futures.Future` as a second base of which nothing
is initialised. What ``concurrent.futures.wait``, ``as_completed`` and asyncio read of a future
behind its methods is here, made when they ask.
"""

from __future__ import annotations

import concurrent.futures
import logging
from concurrent.futures import CancelledError, InvalidStateError
from typing import Any, SupportsIndex, TypeVar

from goroutines import _runtime
from goroutines._runtime import Chan

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

T = TypeVar("T")


class _Event:
    """What of `threading.Event` a waiter uses; waiting parks the goroutine.

    It is set while its channel of one holds a token.
    """

    __slots__ = ("_token",)

    def __init__(self) -> None:
        self._token: Chan[None] = Chan(1)

    def is_set(self) -> bool:
        """Tell whether it is set."""
        return len(self._token) > 0

    def set(self) -> None:
        """Wake who waits, now and from now on. Never switches: the caller holds a lock."""
        self._token.try_send(None)

    def clear(self) -> None:
        """Make `wait` wait again."""
        self._token.try_recv()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it is set, or for `timeout` seconds; return whether it is."""
        try:
            self._token.recv(timeout)
        except TimeoutError:
            return False
        self._token.try_send(None)
        return True


class _Waiters(list[Any]):
    """The waiters of a future: each gets an event that does not block the thread."""

    __slots__ = ()

    def append(self, waiter: Any, /) -> None:
        """Add a waiter of `concurrent.futures`, before it begins to wait."""
        if not isinstance(waiter.event, _Event):
            waiter.event = _Event()
        super().append(waiter)

    def extend(self, waiters: Iterable[Any], /) -> None:
        """Add several."""
        for waiter in waiters:
            self.append(waiter)

    def remove(self, waiter: Any, /) -> None:
        """Take a waiter off, unless it was told that the future is done."""
        if waiter in self:
            super().remove(waiter)

    def insert(self, index: SupportsIndex, waiter: Any, /) -> None:
        """Add one anywhere."""
        self.append(waiter)


class _Condition:
    """A future's `_condition`: while it is held, the future looks unchanged.

    Several may hold it at once: they only look, and add their waiters.
    """

    __slots__ = ("_future",)

    def __init__(self, future: Future[Any]) -> None:
        self._future = future

    def acquire(self) -> bool:
        """Freeze what is seen of the future."""
        self._future._hold()
        return True

    def release(self) -> None:
        """Undo one `acquire`."""
        self._future._let_go()

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(self, *exc: object) -> None:
        self.release()


class Future(  # pyright: ignore[reportIncompatibleMethodOverride] - no keywords
    _runtime.Future[T], concurrent.futures.Future[T]
):
    """The result of a task, once there is one; a `concurrent.futures.Future`.

    Made by `Pool.submit` and `Group.go`. Waiting for it parks the goroutine and works in
    plain threads as well.
    """

    __slots__ = ()

    @property
    def _condition(self) -> _Condition:  # type: ignore[override]
        return _Condition(self)

    @property
    def _waiters(self) -> list[Any]:  # type: ignore[override]
        return self._waiters_or(_Waiters())


def _callback_failed(future: Future[Any], exc: BaseException) -> None:
    logging.getLogger("concurrent.futures").error(
        "exception calling callback for %r", future, exc_info=exc
    )


Future.__module__ = "goroutines"
_runtime._set_future_hooks(Future, CancelledError, InvalidStateError, _callback_failed)
