"""What the programs share: goroutines that all wait in one call each, and a ticker.

Nothing here is timed. A call that blocked the thread instead of parking its goroutine
would let no other start, so that the condition waited for never came true.
"""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from goroutines.runtime import num_goroutine

COUNT = 50


class Ticker:
    """A goroutine that counts its turns."""

    def __init__(self) -> None:
        self.ticks = 0
        self.stopped = False

    def run(self) -> None:
        """Count until stopped."""
        while not self.stopped:
            self.ticks += 1
            time.sleep(0.001)

    def goes_on(self) -> None:
        """Wait for turns that are yet to come."""
        seen = self.ticks
        until(lambda: self.ticks >= seen + 3)


@contextmanager
def ticking() -> Iterator[Ticker]:
    """Run a ticker while the block runs."""
    ticker = Ticker()
    thread = threading.Thread(target=ticker.run)
    thread.start()
    try:
        yield ticker
    finally:
        ticker.stopped = True
        thread.join()


def until(condition: Callable[[], object]) -> None:
    """Wait until `condition()` is true; who waits for ever is ended by the test."""
    while not condition():
        time.sleep(0.001)


def all_of(call: Callable[[int], Any], count: int = COUNT) -> list[Any]:
    """Return what `call(0)` ... `call(count - 1)` return, each in a thread of its own."""
    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(call, range(count)))


def held(
    call: Callable[[int], Any],
    in_flight: Callable[[], int],
    release: Callable[[], object],
    count: int = COUNT,
    at_once: int | None = None,
) -> list[Any]:
    """As `all_of`, for calls that the server holds until `release()`.

    They are released when the server has `at_once` of them (all, unless told otherwise),
    and the ticker has gone on meanwhile.
    """
    with ticking() as ticker, ThreadPoolExecutor(count) as pool:
        futures: list[Future[Any]] = [pool.submit(call, i) for i in range(count)]

        def enough() -> bool:
            for future in futures:
                if future.done():
                    future.result()  # raises what went wrong
                    raise AssertionError("a call ended before the release")
            return in_flight() >= (at_once or count)

        try:
            until(enough)
            ticker.goes_on()
            assert num_goroutine() > count  # they are goroutines, not plain threads
            assert in_flight() == (at_once or count)
        finally:
            release()
        return [future.result() for future in futures]
