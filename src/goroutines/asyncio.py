"""Goroutines awaited in asyncio's event loops.

Under `goroutines.patch` an event loop runs in a goroutine and parks it while nothing happens,
so loops and goroutines share a thread. The other way, from a goroutine to a loop, is
asyncio's own: ``asyncio.run_coroutine_threadsafe(coroutine, loop).result()``, which parks.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
from typing import Any, ParamSpec, TypeVar, overload

from goroutines import _runtime
from goroutines._future import Future
from goroutines._runtime import Goroutine
from goroutines.errors import GoroutineExit

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["call", "wrap"]

P = ParamSpec("P")
R = TypeVar("R")


def _loop(who: str) -> asyncio.AbstractEventLoop:
    loop = asyncio.get_running_loop()
    from goroutines.patch import is_patched

    if not is_patched("selectors"):
        raise RuntimeError(
            f"{who}: this thread's event loop lets no goroutine run; call "
            "goroutines.patch.patch() first, or use goroutines.Pool and loop.run_in_executor"
        )
    return loop


def _settle(future: asyncio.Future[Any], result: Any, error: BaseException | None) -> None:
    if future.done():
        return  # cancelled meanwhile
    if isinstance(error, GoroutineExit):
        future.cancel()
    elif error is not None:
        future.set_exception(error)
    else:
        future.set_result(result)


@overload
def wrap(thing: Goroutine) -> asyncio.Future[None]: ...
@overload
def wrap(thing: concurrent.futures.Future[R]) -> asyncio.Future[R]: ...
def wrap(thing: Goroutine | concurrent.futures.Future[Any]) -> asyncio.Future[Any]:
    """Return what ``await`` waits for the end of a goroutine, or the result of a future, by.

    Cancelling it ends the waiting, not the goroutine: cancellation is `goroutines.context`'s.

    Args:
        thing: What `goroutines.go` returned; the result is None, and an exception that
            nobody caught panics, as ever. Or a future of a `Pool` or a `Group`.

    Raises:
        TypeError: It is neither.
        RuntimeError: No event loop runs here, or it lets no goroutine run: nothing is patched.
    """
    if isinstance(thing, concurrent.futures.Future | Future):
        return asyncio.wrap_future(thing, loop=_loop("wrap"))
    if not isinstance(thing, Goroutine):
        raise TypeError(f"wrap: expected a Goroutine or a Future, got {type(thing).__name__}")
    loop = _loop("wrap")
    ended: asyncio.Future[None] = loop.create_future()

    def watch() -> None:
        thing.join()
        if not loop.is_closed():
            loop.call_soon_threadsafe(_settle, ended, None, None)

    _runtime.go(watch)
    return ended


def call(fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> asyncio.Future[R]:
    """Call ``fn(*args, **kwargs)`` in a goroutine; return what ``await`` gets its result by.

    As `asyncio.to_thread`, at the price of a goroutine. What `fn` raises is raised where it is
    awaited; if its goroutine ends by `goexit`, the future is cancelled.

    Raises:
        TypeError: fn is not callable.
        RuntimeError: No event loop runs here, or it lets no goroutine run: nothing is patched.
    """
    if not callable(fn):
        raise TypeError(f"call: {fn!r} is not callable")
    loop = _loop("call")
    outcome: asyncio.Future[R] = loop.create_future()

    def body() -> None:
        result: Any = None
        error: BaseException | None = None
        try:
            result = fn(*args, **kwargs)
        except BaseException as e:
            error = e
        if not loop.is_closed():
            loop.call_soon_threadsafe(_settle, outcome, result, error)

    _runtime.go(body)
    return outcome
