"""A pool of goroutines: at most so many work, reused, and none holds up the others.

`Pool` is a `concurrent.futures.Executor`, so it goes wherever one is taken. The queue and
the workers are in the core (``pool.c``); here is what is settled once for each pool or map.
"""

from __future__ import annotations

import concurrent.futures
import importlib
import sys
from collections import deque
from collections.abc import Sized
from typing import Any, Generic, NamedTuple, TypeVar

from goroutines import _away, _runtime
from goroutines._future import Future
from goroutines._runtime import Chan, WaitGroup, now

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from types import TracebackType
    from typing import Protocol, TextIO

    class _Bar(Protocol):
        def update(self, n: int = 1, /) -> object: ...
        def close(self) -> object: ...


__all__ = ["Future", "Pool", "PoolFull", "Results", "Stats"]

R = TypeVar("R")


class PoolFull(Exception):
    """`Pool.try_submit` found `max_waiting` tasks waiting."""


class Stats(NamedTuple):
    """What became of a pool's tasks.

    Those that are none of the last three run or wait.
    """

    submitted: int
    completed: int
    failed: int
    cancelled: int


class Pool(_runtime.Pool, concurrent.futures.Executor):
    """At most `size` goroutines that run tasks, started on demand.

    Used with ``with``, it is shut down at the end of the block, which waits for all tasks.
    Tasks run on the thread that submitted them, or, if that runs an asyncio event loop, on
    one that the process has for this.

    Args:
        size: How many tasks may run at the same time.
        max_waiting: How many more may wait before `submit` waits as well; None: any number.
        idle: A goroutine that had no task for so many seconds ends.
        executor: Where the work is done: each goroutine hands its task to it and parks until
            it is back. Cancelling a future cancels what the executor has not begun. The
            executor is not shut down with the pool.
        name: What its goroutines are called.

    Raises:
        TypeError: A setting has a wrong type.
        ValueError: size < 1, or max_waiting or idle is negative or NaN.
    """

    def __init__(
        self,
        size: int,
        *,
        max_waiting: int | None = None,
        idle: float = 1.0,
        executor: concurrent.futures.Executor | None = None,
        name: str | None = None,
    ) -> None:
        if name is not None and not isinstance(name, str):
            raise TypeError(f"Pool: name must be a str or None, not {type(name).__name__}")
        if executor is not None and not callable(getattr(executor, "submit", None)):
            raise TypeError(f"Pool: executor must be an Executor, not {type(executor).__name__}")
        if not isinstance(idle, (int, float)):
            raise TypeError(f"Pool: idle must be a number of seconds, not {type(idle).__name__}")
        if idle < 0:
            raise ValueError(f"Pool: idle must not be negative: {idle!r}")
        through = None if executor is None else _Delegate(executor)
        super().__init__(size, max_waiting, idle, through, name)

    def map(
        self,
        fn: Callable[..., R],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
        ordered: bool = True,
        buffersize: int | None = None,
        progress: bool = False,
    ) -> Results[R]:
        """Call fn with each item of the input, several at the same time.

        Nothing is collected: the input, which may be endless, is taken from as results are,
        so that never more than `buffersize` of its items are under way. The first ones begin
        at the call.

        Args:
            fn: What to call; with several iterables it gets an item of each, as with `zip`.
            *iterables: The input.
            timeout: Seconds from this call until the last result must be there.
            chunksize: Ignored, as by ThreadPoolExecutor.
            ordered: Give the results in the order of the input; else as they come.
            buffersize: How many items may be begun or done and not yet taken; by default
                twice the pool's size.
            progress: Show on stderr how many are done, if it is a terminal: with tqdm if
                that is installed.

        Returns:
            An iterator over the results. It raises what a task raises, in its place, and
            TimeoutError when the time is up, and then ends. When it ends, is closed or
            dropped, what has not begun is cancelled.

        Raises:
            TypeError: fn is not callable, an input cannot be iterated, or a setting has a
                wrong type.
            ValueError: buffersize < 1, or timeout is NaN.
            RuntimeError: The pool was shut down.
        """
        if not callable(fn):
            raise TypeError(f"Pool.map: {fn!r} is not callable")
        if buffersize is None:
            buffersize = 2 * self.size
        elif not isinstance(buffersize, int):
            raise TypeError(
                f"Pool.map: buffersize must be an int or None, not {type(buffersize).__name__}"
            )
        elif buffersize < 1:
            raise ValueError(f"Pool.map: buffersize must be at least 1, not {buffersize}")
        if timeout is not None and timeout != timeout:
            raise ValueError("Pool.map: timeout is NaN")
        until = None if timeout is None else now() + timeout
        bar = _bar(_length(iterables)) if progress else None
        items = zip(*iterables, strict=False)
        if ordered:
            return _Ordered(self, fn, items, until, buffersize, bar)
        return _AsTheyCome(self, fn, items, until, buffersize, bar)

    def stats(self) -> Stats:
        """Return how many tasks were submitted, completed, failed and cancelled so far."""
        return Stats(*self._counts())


# ---- map ----------------------------------------------------------------------------------


class Results(Generic[R]):
    """The results of a `Pool.map`: an iterator that can be closed."""

    def __init__(
        self,
        pool: Pool,
        fn: Callable[..., R],
        items: Iterator[tuple[Any, ...]],
        until: float | None,
        room: int,
        bar: _Bar | None,
    ) -> None:
        self._pool = pool
        self._fn = fn
        self._items: Iterator[tuple[Any, ...]] | None = items
        self._until = until
        self._bar = bar
        self._failure: Exception | None = None
        self._begin(room)
        try:
            for _ in range(room):
                if not self._submit():
                    break
        except BaseException:
            self.close()
            raise

    def _begin(self, room: int) -> None:
        """Make the place for the futures."""
        raise NotImplementedError

    def _add(self, future: Future[R]) -> None:
        """Put a new future there."""
        raise NotImplementedError

    def _next(self, timeout: float | None) -> Future[R] | None:
        """Wait for the next future that is done and take it; None: there is none left."""
        raise NotImplementedError

    def _take_all(self) -> Iterable[Future[R]]:
        """Take all futures that are left."""
        raise NotImplementedError

    def _submit(self) -> bool:
        """Submit a task for the next item; False: there is none."""
        if self._items is None:
            return False
        try:
            args = next(self._items)
        except StopIteration:
            self._items = None
            return False
        except Exception as exc:
            self._fail(exc)
            return False
        self._add(self._pool.submit(self._fn, *args))
        return True

    def _fail(self, exc: Exception) -> None:
        """Take no more of the input; raise exc behind the results that are still to come."""
        self._items = None
        self._failure = exc

    def __iter__(self) -> Results[R]:
        return self

    def __next__(self) -> R:
        try:
            left = None if self._until is None else max(0.0, self._until - now())
            future = self._next(left)
            if future is None:
                raise self._failure or StopIteration
            result = future.result()
            try:
                self._submit()
            except Exception as exc:
                self._fail(exc)
        except BaseException:
            self.close()
            raise
        if self._bar is not None:
            self._bar.update()
        return result

    def close(self) -> None:
        """End the iteration: cancel what has not begun, take no more of the input."""
        self._items = self._failure = None
        for future in self._take_all():
            future.cancel()
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def __enter__(self) -> Results[R]:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()


class _Ordered(Results[R]):
    """The results in the order of the input."""

    def _begin(self, room: int) -> None:
        self._futures: deque[Future[R]] = deque()

    def _add(self, future: Future[R]) -> None:
        self._futures.append(future)

    def _next(self, timeout: float | None) -> Future[R] | None:
        if not self._futures:
            return None
        self._futures[0].exception(timeout)
        return self._futures.popleft()

    def _take_all(self) -> Iterable[Future[R]]:
        futures, self._futures = self._futures, deque()
        return futures


class _AsTheyCome(Results[R]):
    """The results as they come."""

    def _begin(self, room: int) -> None:
        self._done: Chan[Future[R]] = Chan(room)
        self._futures: set[Future[R]] = set()

    def _add(self, future: Future[R]) -> None:
        self._futures.add(future)
        future.add_done_callback(self._done.try_send)

    def _next(self, timeout: float | None) -> Future[R] | None:
        if not self._futures:
            return None
        future = self._done.recv(timeout)
        self._futures.remove(future)
        return future

    def _take_all(self) -> Iterable[Future[R]]:
        futures, self._futures = self._futures, set()
        return futures


# ---- progress -----------------------------------------------------------------------------


def _length(iterables: tuple[Iterable[Any], ...]) -> int | None:
    """Return how many items `zip` of these will have, if that is known."""
    lengths = [len(i) for i in iterables if isinstance(i, Sized)]
    return min(lengths, default=0) if len(lengths) == len(iterables) else None


def _bar(total: int | None) -> _Bar | None:
    stream = sys.stderr
    if stream is None or not stream.isatty():
        return None
    try:
        tqdm = importlib.import_module("tqdm")
    except ImportError:
        return _Line(stream, total)
    bar: _Bar = tqdm.tqdm(total=total)
    return bar


class _Line:
    """A line on a terminal that says how far a map is."""

    EVERY = 0.1
    """Seconds between two changes of the line."""

    def __init__(self, stream: TextIO, total: int | None) -> None:
        self._stream = stream
        self._of = "" if total is None else f"/{total}"
        self._done = 0
        self._begun = now()
        self._shown = -self.EVERY

    def update(self, n: int = 1, /) -> None:
        """Count n more."""
        self._done += n
        if now() - self._shown >= self.EVERY:
            self._show()

    def _show(self, end: str = "") -> None:
        self._shown = now()
        speed = self._done / max(self._shown - self._begun, 1e-9)
        self._stream.write(f"\r{self._done}{self._of} [{speed:.1f}/s]\x1b[K{end}")
        self._stream.flush()

    def close(self) -> None:
        """Leave the last state on the terminal."""
        self._show("\n")


# ---- work that others do ------------------------------------------------------------------


class _Delegate:
    """Hands a pool's tasks to an executor: called by a worker, in place of the task."""

    __slots__ = ("_executor",)

    def __init__(self, executor: concurrent.futures.Executor) -> None:
        self._executor = executor

    def __call__(
        self, future: Future[Any], fn: Callable[..., Any], /, *args: Any, **kwargs: Any
    ) -> Any:
        foreign = self._executor.submit(fn, *args, **kwargs)
        back = WaitGroup()
        back.add()
        foreign.add_done_callback(lambda _: back.done())
        future._foreign = foreign
        try:
            back.wait()
        except BaseException:
            foreign.cancel()
            raise
        finally:
            future._foreign = None
        return foreign.result()


_runtime._set_pool_full(PoolFull)
_away.install()
