"""One call for all who ask for the same thing at the same time (Go's singleflight)."""

from __future__ import annotations

from concurrent.futures import CancelledError
from typing import Any, TypeVar

from goroutines._future import Future
from goroutines.errors import GoroutineExit

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

__all__ = ["Group"]

R = TypeVar("R")


class _Call(Future[Any]):
    """A call that is under way, and its outcome; cancelled if there is none."""

    __slots__ = ("shared",)

    def __init__(self) -> None:
        super().__init__()
        self.shared = False


class Group:
    """Calls by key, of which at most one for each key is under way.

    It keeps a crowd of callers, in goroutines or plain threads, from doing the same work at
    the same time. It is no cache: a call that has ended is forgotten.
    """

    def __init__(self) -> None:
        self._calls: dict[Hashable, _Call] = {}

    def do(self, key: Hashable, fn: Callable[[], R]) -> tuple[R, bool]:
        """Return what ``fn()`` returns, or what the call for this key that is under way does.

        The first who asks is the leader and calls. What that raises is raised, the same
        object, in all who share the call. If the leader's goroutine is ended meanwhile (by
        ``goexit`` or the end of its ``run``), one of the others takes the lead.

        Args:
            key: What the call is for.
            fn: The call.

        Returns:
            The value, and whether more than one caller has got it.

        Raises:
            TypeError: key is not hashable, or fn not callable.
        """
        if not callable(fn):
            raise TypeError(f"singleflight: {fn!r} is not callable")
        mine = _Call()
        while True:
            call = self._calls.setdefault(key, mine)
            if call is mine:
                return self._lead(key, call, fn)
            call.shared = True
            try:
                call.exception()
            except CancelledError:
                continue  # its leader was ended
            return call.result(), True

    def _lead(self, key: Hashable, call: _Call, fn: Callable[[], R]) -> tuple[R, bool]:
        try:
            value = fn()
        except GoroutineExit:
            self._drop(key, call)
            call.cancel()
            raise
        except BaseException as exc:
            self._drop(key, call)
            call.set_exception(exc)
            raise
        self._drop(key, call)
        call.set_result(value)
        return value, call.shared

    def _drop(self, key: Hashable, call: _Call) -> None:
        """Take an ended call out, unless it was forgotten and another has its place."""
        found = self._calls.pop(key, call)
        if found is not call:
            self._calls.setdefault(key, found)

    def forget(self, key: Hashable) -> None:
        """Let the next `do` for this key call anew, though a call may be under way.

        Those who share that call get its value all the same.
        """
        self._calls.pop(key, None)
