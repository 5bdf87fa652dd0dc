"""The benchmarks on plain OS threads, where the standard library has the same thing."""

import socket
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from threading import Lock, Thread
from time import perf_counter_ns, sleep
from typing import NoReturn

import cpu
import harness


def mutex(n: int) -> float:
    """One thread locks and unlocks; ns for both."""
    mutex = Lock()
    start = perf_counter_ns()
    for _ in range(n):
        with mutex:
            pass
    return harness.per_op(start, n)


def mutex_8(n: int) -> float:
    """Eight threads take turns at one mutex; ns per turn.

    Each gives way after its turn, and at times during it, so that the others must wait.
    """
    return contended(8, n)


def mutex_1000(n: int) -> float:
    """The same with a thousand."""
    return contended(1000, n)


def contended(width: int, n: int) -> float:
    each = max(1, n // width)
    mutex = Lock()
    counter = 0

    def contend() -> None:
        nonlocal counter
        for _ in range(each):
            with mutex:
                counter += 1
                if counter % harness.HOLD == 0:
                    sleep(0)
            sleep(0)

    threads = [Thread(target=contend) for _ in range(width)]
    start = perf_counter_ns()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    taken = harness.per_op(start, width * each)
    harness.check(counter, width * each)
    return taken


def pool(n: int) -> float:
    """Hand ``n`` tiny tasks to a pool, then collect all results; ns for each."""
    with ThreadPoolExecutor(harness.WORKERS) as pool:
        start = perf_counter_ns()
        futures = [pool.submit(harness.increment, i) for i in range(n)]
        total = sum(future.result() for future in futures)
        taken = harness.per_op(start, n)
    harness.check(total, harness.sum_of_increments(n))
    return taken


def pool_map(n: int) -> float:
    """Map a tiny task over ``n`` inputs, lazily; ns for each."""
    with ThreadPoolExecutor(harness.WORKERS) as pool:
        start = perf_counter_ns()
        total = sum(lazy_map(pool, harness.increment, range(n)))
        taken = harness.per_op(start, n)
    harness.check(total, harness.sum_of_increments(n))
    return taken


def lazy_map(pool: Executor, fn: Callable[[int], int], inputs: Iterable[int]) -> Iterator[int]:
    """``pool.map`` with a buffersize, which Python 3.14 has; before that, by hand."""
    if sys.version_info >= (3, 14):
        return pool.map(fn, inputs, buffersize=harness.WINDOW)
    return windowed_map(pool, fn, inputs)


def windowed_map(pool: Executor, fn: Callable[[int], int], inputs: Iterable[int]) -> Iterator[int]:
    window: deque[Future[int]] = deque()
    for i in inputs:
        if len(window) == harness.WINDOW:
            yield window.popleft().result()
        window.append(pool.submit(fn, i))
    while window:
        yield window.popleft().result()


def map_memory(n: int) -> float:
    """The same; bytes that resident memory has grown by at its peak."""
    before = harness.resident_bytes()
    pool_map(n)
    return harness.peak_bytes() - before


def echo(backlog: int) -> NoReturn:
    """A thread for each connection sends back what comes."""
    server = socket.create_server((harness.HOST, 0), backlog=backlog)
    harness.listening(server.getsockname()[1])
    while True:
        conn, _ = server.accept()
        Thread(target=harness.echo_all, args=(conn,), daemon=True).start()


def queue_1(n: int) -> float:
    """One thread hands items to another over ``queue.Queue(1)``; ns per item."""
    return harness.pass_through(1, n)


def queue_128(n: int) -> float:
    """The same through a buffer of 128."""
    return harness.pass_through(harness.BUFFER, n)


def cpu_bound(work: Callable[[int], int]) -> Callable[[int], float]:
    """Have a pool of as many threads as there are cores do ``n`` pieces of work; ns for each."""

    def bench(n: int) -> float:
        expected = sum(map(work, range(min(n, cpu.CHECKED))))
        with ThreadPoolExecutor(harness.cores()) as pool:
            start = perf_counter_ns()
            results = list(pool.map(work, range(n)))
            taken = harness.per_op(start, n)
        harness.check(sum(results[: cpu.CHECKED]), expected)
        return taken

    return bench


BENCHMARKS: dict[str, Callable[[int], float]] = {
    "mutex": mutex,
    "mutex-8": mutex_8,
    "mutex-1000": mutex_1000,
    "pool": pool,
    "map": pool_map,
    "map-memory": map_memory,
    "echo": echo,
    "threading-lock": mutex,
    "queue-1": queue_1,
    "queue-128": queue_128,
    **{name: cpu_bound(work) for name, work in cpu.WORK.items()},
}

if __name__ == "__main__":
    harness.main(BENCHMARKS, sys.argv[1:])
