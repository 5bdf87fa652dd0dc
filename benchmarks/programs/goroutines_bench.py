"""The benchmarks on goroutines."""

import socket
import sys
import threading
from collections.abc import Callable
from itertools import count
from random import random
from statistics import median
from time import perf_counter_ns
from typing import Any, NoReturn

import cpu
import harness

from goroutines import Chan, Pool, Select, WaitGroup, go, gosched, recv, run, sleep
from goroutines.context import CancelContext, Context, background, scope, with_cancel
from goroutines.patch import patch
from goroutines.sync import Mutex, RWMutex
from goroutines.time import Timer, after_func


def yields(n: int) -> float:
    """Two goroutines give way to each other ``n`` times each; ns per call."""
    wg = WaitGroup()
    start = perf_counter_ns()
    wg.go(yielder, n)
    wg.go(yielder, n)
    wg.wait()
    return harness.per_op(start, 2 * n)


def yielder(n: int) -> None:
    for _ in range(n):
        gosched()


def spawn(n: int) -> float:
    """Goroutines that do nothing but finish, in batches; ns per goroutine."""
    batches = max(1, n // harness.BATCH)
    wg = WaitGroup()
    start = perf_counter_ns()
    for _ in range(batches):
        for _ in range(harness.BATCH):
            wg.add(1)
            go(finish, wg)
        wg.wait()
    return harness.per_op(start, batches * harness.BATCH)


def finish(wg: WaitGroup) -> None:
    wg.done()


def unbuffered(n: int) -> float:
    """One goroutine sends ``n`` items to another; ns per item."""
    return stream(Chan(), n)


def buffered(n: int) -> float:
    """The same through a buffer; ns per item."""
    return stream(Chan(harness.BUFFER), n)


def stream(ch: Chan[int], n: int) -> float:
    wg = WaitGroup()
    start = perf_counter_ns()
    wg.go(producer, ch, n)
    wg.go(consumer, ch, n)
    wg.wait()
    return harness.per_op(start, n)


def producer(ch: Chan[int], n: int) -> None:
    for i in range(n):
        ch.send(i)


def consumer(ch: Chan[int], n: int) -> None:
    for _ in range(n):
        ch.recv()


def ping_pong(n: int) -> float:
    """There and back over two unbuffered channels; ns per round trip."""
    ping: Chan[int] = Chan()
    pong: Chan[int] = Chan()
    wg = WaitGroup()
    start = perf_counter_ns()
    wg.go(pinger, ping, pong, n)
    wg.go(ponger, ping, pong, n)
    wg.wait()
    return harness.per_op(start, n)


def pinger(ping: Chan[int], pong: Chan[int], n: int) -> None:
    for i in range(n):
        ping.send(i)
        pong.recv()


def ponger(ping: Chan[int], pong: Chan[int], n: int) -> None:
    for i in range(n):
        ping.recv()
        pong.send(i)


def select_2(n: int) -> float:
    """One sends to two unbuffered channels in turn, one selects; ns per item."""
    return selecting(2, n)


def select_8(n: int) -> float:
    """The same with eight channels."""
    return selecting(8, n)


def selecting(width: int, n: int) -> float:
    rounds = max(1, n // width)
    channels: list[Chan[int]] = [Chan() for _ in range(width)]
    wg = WaitGroup()
    start = perf_counter_ns()
    wg.go(alternating_producer, channels, rounds)
    wg.go(selecting_consumer, channels, rounds)
    wg.wait()
    return harness.per_op(start, rounds * width)


def alternating_producer(channels: list[Chan[int]], rounds: int) -> None:
    for i in range(rounds):
        for ch in channels:
            ch.send(i)


def selecting_consumer(channels: list[Chan[int]], rounds: int) -> None:
    select = Select(*[recv(ch) for ch in channels])
    total = 0
    for _ in range(rounds * len(channels)):
        _, value = select()
        total += value
    if total != len(channels) * rounds * (rounds - 1) // 2:
        raise SystemExit("select: an item was lost")


def ring(n: int) -> float:
    """A token goes round a ring of goroutines, the caller among them; ns per hop."""
    laps = max(1, n // harness.RING)
    first: Chan[int] = Chan()
    last = first
    for _ in range(harness.RING - 1):
        following: Chan[int] = Chan()
        go(pass_on, last, following, laps)
        last = following
    start = perf_counter_ns()
    for _ in range(laps):
        first.send(0)
        last.recv()
    return harness.per_op(start, laps * harness.RING)


def pass_on(source: Chan[int], target: Chan[int], laps: int) -> None:
    for _ in range(laps):
        target.send(source.recv() + 1)


def sieve(n: int) -> float:
    """The first ``n`` primes by the classic chain of filters; ns for all."""
    start = perf_counter_ns()
    ch: Chan[int] = Chan()
    go(generate, ch)
    for _ in range(n):
        prime = ch.recv()
        following: Chan[int] = Chan()
        go(filter_multiples, ch, following, prime)
        ch = following
    return harness.per_op(start, 1)


def generate(ch: Chan[int]) -> None:
    for i in count(2):
        ch.send(i)


def filter_multiples(source: Chan[int], target: Chan[int], prime: int) -> None:
    while True:
        i = source.recv()
        if i % prime != 0:
            target.send(i)


def sleepers(n: int) -> float:
    """``n`` goroutines sleep for random times; CPU seconds of the whole process."""
    wg = WaitGroup()
    for _ in range(n):
        wg.go(sleeper)
    wg.wait()
    return harness.cpu_seconds()


def sleeper() -> None:
    for _ in range(harness.NAPS):
        sleep(random() * harness.LONGEST_NAP)


def memory(n: int) -> float:
    """``n`` goroutines wait in a receive; bytes of resident memory for each."""
    ch: Chan[None] = Chan()
    parked = [0]
    before = harness.resident_bytes()
    for _ in range(n):
        go(park, ch, parked)
    while parked[0] < n:
        gosched()
    gosched()
    harness.report_memory(before, n)


def park(ch: Chan[None], parked: list[int]) -> None:
    parked[0] += 1
    ch.recv()


def mutex(n: int) -> float:
    """One goroutine locks and unlocks; ns for both."""
    mutex = Mutex()
    start = perf_counter_ns()
    for _ in range(n):
        with mutex:
            pass
    return harness.per_op(start, n)


def mutex_8(n: int) -> float:
    """Eight goroutines take turns at one mutex; ns per turn.

    Each gives way after its turn, and at times during it, so that the others must wait.
    """
    return contended(8, n)


def mutex_1000(n: int) -> float:
    """The same with a thousand."""
    return contended(1000, n)


def contended(width: int, n: int) -> float:
    each = max(1, n // width)
    mutex = Mutex()
    counter = 0

    def contend() -> None:
        nonlocal counter
        for _ in range(each):
            with mutex:
                counter += 1
                if counter % harness.HOLD == 0:
                    gosched()
            gosched()

    wg = WaitGroup()
    start = perf_counter_ns()
    for _ in range(width):
        wg.go(contend)
    wg.wait()
    taken = harness.per_op(start, width * each)
    harness.check(counter, width * each)
    return taken


def rwmutex(n: int) -> float:
    """Eight goroutines read, giving way at times, and one writes; ns per read."""
    each = max(1, n // harness.READERS)
    writes = n // harness.READS
    rw = RWMutex()
    value = 0

    def read() -> None:
        reader = rw.reader
        for i in range(each):
            with reader:
                seen = value
                if i % harness.HOLD == 0:
                    gosched()
                    harness.check(value, seen)

    def write() -> None:
        nonlocal value
        for _ in range(writes):
            with rw:
                value += 1
            gosched()

    wg = WaitGroup()
    start = perf_counter_ns()
    for _ in range(harness.READERS):
        wg.go(read)
    wg.go(write)
    wg.wait()
    taken = harness.per_op(start, harness.READERS * each)
    harness.check(value, writes)
    return taken


def waitgroup(n: int) -> float:
    """Ten thousand goroutines are started, call done and are waited for; ns for all."""
    wg = WaitGroup()
    start = perf_counter_ns()
    for _ in range(n):
        wg.add(harness.GROUP)
        for _ in range(harness.GROUP):
            go(finish, wg)
        wg.wait()
    return harness.per_op(start, n)


def timers(n: int) -> float:
    """``n`` timers are made, then all are stopped; ns for each."""
    start = perf_counter_ns()
    timers = [Timer(harness.FAR) for _ in range(n)]
    for timer in timers:
        timer.stop()
    return harness.per_op(start, n)


def after_funcs(n: int) -> float:
    """The same with timers that would call a function."""
    start = perf_counter_ns()
    timers = [after_func(harness.FAR, nothing) for _ in range(n)]
    for timer in timers:
        timer.stop()
    return harness.per_op(start, n)


def nothing() -> None:
    pass


def contexts(n: int) -> float:
    """A context gets ten thousand children and is cancelled; ns for all."""
    start = perf_counter_ns()
    for _ in range(n):
        parent = with_cancel(background())
        children = [with_cancel(parent) for _ in range(harness.GROUP)]
        parent.cancel()
    taken = harness.per_op(start, n)
    harness.check(sum(child.err() is not None for child in children), harness.GROUP)
    return taken


def cancel(n: int) -> float:
    """Cancel ten thousand goroutines that each wait in a context of their own; ns from
    the call until all have ended."""
    taken = 0
    for _ in range(n):
        wg = WaitGroup()
        parked = [0]
        parent = with_cancel(background())
        for _ in range(harness.GROUP):
            wg.go(await_cancel, parent, parked)
        while parked[0] < harness.GROUP:
            gosched()
        gosched()
        start = perf_counter_ns()
        parent.cancel()
        wg.wait()
        taken += perf_counter_ns() - start
    return taken / n


def await_cancel(parent: CancelContext, parked: list[int]) -> None:
    with with_cancel(parent) as ctx:
        parked[0] += 1
        ctx.done().recv_ok()


def pool(n: int) -> float:
    """Hand ``n`` tiny tasks to a pool, then collect all results; ns for each."""
    with Pool(harness.WORKERS) as pool:
        start = perf_counter_ns()
        futures = [pool.submit(harness.increment, i) for i in range(n)]
        total = sum(future.result() for future in futures)
        taken = harness.per_op(start, n)
    harness.check(total, harness.sum_of_increments(n))
    return taken


def pool_map(n: int) -> float:
    """Map a tiny task over ``n`` inputs, lazily; ns for each."""
    with Pool(harness.WORKERS) as pool:
        start = perf_counter_ns()
        total = sum(pool.map(harness.increment, range(n), buffersize=harness.WINDOW))
        taken = harness.per_op(start, n)
    harness.check(total, harness.sum_of_increments(n))
    return taken


def map_memory(n: int) -> float:
    """The same; bytes that resident memory has grown by at its peak."""
    before = harness.resident_bytes()
    pool_map(n)
    return harness.peak_bytes() - before


def scopes(n: int) -> float:
    """Ping-pong in a scope and in none; the first one's time as a multiple of the other's.

    Both take turns, so that what else the machine does happens to both.
    """
    each = max(1, n // harness.SLICES)
    with with_cancel(background()) as ctx:
        return median(scoped(ctx, each) / ping_pong(each) for _ in range(harness.SLICES))


def scoped(ctx: Context, n: int) -> float:
    ping: Chan[int] = Chan()
    pong: Chan[int] = Chan()
    wg = WaitGroup()
    start = perf_counter_ns()
    wg.go(in_scope, ctx, pinger, ping, pong, n)
    wg.go(in_scope, ctx, ponger, ping, pong, n)
    wg.wait()
    return harness.per_op(start, n)


def in_scope(ctx: Context, side: Callable[[Chan[int], Chan[int], int], None], *args: Any) -> None:
    with scope(ctx):
        side(*args)


def echo(backlog: int) -> NoReturn:
    """A goroutine for each connection sends back what comes, over patched sockets."""
    patch()
    server = socket.create_server((harness.HOST, 0), backlog=backlog)
    harness.listening(server.getsockname()[1])
    while True:
        conn, _ = server.accept()
        go(harness.echo_all, conn)


def threading_lock(n: int) -> float:
    """One goroutine takes and releases a patched ``threading.Lock``; ns for both."""
    patch()
    lock = threading.Lock()
    start = perf_counter_ns()
    for _ in range(n):
        with lock:
            pass
    return harness.per_op(start, n)


def queue_1(n: int) -> float:
    """A patched thread hands items to another over ``queue.Queue(1)``; ns per item."""
    patch()
    return harness.pass_through(1, n)


def queue_128(n: int) -> float:
    """The same through a buffer of 128."""
    patch()
    return harness.pass_through(harness.BUFFER, n)


def cpu_bound(work: Callable[[int], int]) -> Callable[[int], float]:
    """Have ``n`` goroutines do a piece of work each; ns for one."""

    def bench(n: int) -> float:
        expected = sum(map(work, range(min(n, cpu.CHECKED))))
        results = [0] * n

        def piece(i: int) -> None:
            results[i] = work(i)

        wg = WaitGroup()
        start = perf_counter_ns()
        for i in range(n):
            wg.go(piece, i)
        wg.wait()
        taken = harness.per_op(start, n)
        harness.check(sum(results[: cpu.CHECKED]), expected)
        return taken

    return bench


def pipeline(n: int) -> float:
    """One goroutine sends ``n`` items to eight workers, whose results one collects; ns each."""
    items: Chan[int] = Chan(harness.BUFFER)
    results: Chan[int] = Chan(harness.BUFFER)
    wg = WaitGroup()
    start = perf_counter_ns()
    go(feed, items, n)
    for _ in range(harness.FANNED):
        wg.go(mix_all, items, results)
    go(close_after, wg, results)
    total = sum(1 for _ in results)
    taken = harness.per_op(start, n)
    harness.check(total, n)
    return taken


def feed(items: Chan[int], n: int) -> None:
    for i in range(n):
        items.send(i)
    items.close()


def mix_all(items: Chan[int], results: Chan[int]) -> None:
    for item in items:
        results.send(harness.mixed(item))


def close_after(wg: WaitGroup, results: Chan[int]) -> None:
    wg.wait()
    results.close()


def unbuffered_2(n: int) -> float:
    """One goroutine sends ``n`` items to another one, on another thread; ns per item."""
    ch: Chan[int] = Chan()
    wg = WaitGroup()
    threads: set[int] = set()
    start = perf_counter_ns()
    wg.go(apart, threads, producer, ch, n)
    wg.go(apart, threads, consumer, ch, n)
    wg.wait()
    taken = harness.per_op(start, n)
    harness.check(len(threads), 2)
    return taken


def apart(threads: set[int], side: Callable[[Chan[int], int], None], ch: Chan[int], n: int) -> None:
    """Do one side once the other one has begun, too, which it can on another thread only."""
    threads.add(threading.get_native_id())
    until = perf_counter_ns() + 10**10
    while len(threads) < 2 and perf_counter_ns() < until:
        pass
    side(ch, n)


def inside(bench: Callable[[int], float]) -> Callable[[int], float]:
    """Make a benchmark run as a main goroutine of its own."""
    return lambda n: run(bench, n)


BENCHMARKS: dict[str, Callable[[int], float]] = {
    "yield": yields,
    "unbuffered": unbuffered,
    "ping-pong": ping_pong,
    "buffered": buffered,
    "spawn": spawn,
    "select-2": select_2,
    "select-8": select_8,
    "ring": ring,
    "sieve": sieve,
    "sleepers": sleepers,
    "memory": memory,
    "mutex": mutex,
    "mutex-8": mutex_8,
    "mutex-1000": mutex_1000,
    "rwmutex": rwmutex,
    "waitgroup": waitgroup,
    "timers": timers,
    "after-func": after_funcs,
    "context": contexts,
    "cancel": cancel,
    "pool": pool,
    "map": pool_map,
    "map-memory": map_memory,
    "scope": scopes,
    "echo": echo,
    "threading-lock": threading_lock,
    "queue-1": queue_1,
    "queue-128": queue_128,
    **{name: cpu_bound(work) for name, work in cpu.WORK.items()},
    "pipeline": pipeline,
    "unbuffered-2": unbuffered_2,
}

if __name__ == "__main__":
    harness.main({name: inside(bench) for name, bench in BENCHMARKS.items()}, sys.argv[1:])
