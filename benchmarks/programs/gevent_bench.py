"""The benchmarks on gevent: greenlets, its channel and queue."""

import sys
import threading
from collections.abc import Callable
from itertools import count
from random import random
from time import perf_counter_ns

import gevent
import harness
from gevent.event import Event
from gevent.lock import Semaphore
from gevent.monkey import patch_all
from gevent.pool import Pool
from gevent.queue import Channel, Queue
from gevent.server import StreamServer
from gevent.socket import socket


def yields(n: int) -> float:
    """Two greenlets give way to each other ``n`` times each; ns per call."""
    start = perf_counter_ns()
    join(gevent.spawn(yielder, n), gevent.spawn(yielder, n))
    return harness.per_op(start, 2 * n)


def join(*greenlets: gevent.Greenlet) -> None:
    """Wait for all; what one of them raised is raised here."""
    gevent.joinall(greenlets, raise_error=True)


def yielder(n: int) -> None:
    for _ in range(n):
        gevent.sleep(0)


def spawn(n: int) -> float:
    """Greenlets that do nothing but finish, in batches; ns per greenlet."""
    batches = max(1, n // harness.BATCH)
    start = perf_counter_ns()
    for _ in range(batches):
        spawn_and_join(harness.BATCH)
    return harness.per_op(start, batches * harness.BATCH)


def spawn_and_join(size: int) -> None:
    batch = [gevent.spawn(nothing) for _ in range(size)]
    for greenlet in batch:  # quicker than joinall
        greenlet.join()


def nothing() -> None:
    pass


def unbuffered(n: int) -> float:
    """One greenlet sends ``n`` items to another; ns per item."""
    return stream(Channel(), n)


def buffered(n: int) -> float:
    """The same through a buffer; ns per item."""
    return stream(Queue(harness.BUFFER), n)


def stream(queue: Channel | Queue, n: int) -> float:
    start = perf_counter_ns()
    join(gevent.spawn(producer, queue, n), gevent.spawn(consumer, queue, n))
    return harness.per_op(start, n)


def producer(queue: Channel | Queue, n: int) -> None:
    for i in range(n):
        queue.put(i)


def consumer(queue: Channel | Queue, n: int) -> None:
    for _ in range(n):
        queue.get()


def ping_pong(n: int) -> float:
    """There and back over two unbuffered channels; ns per round trip."""
    ping, pong = Channel(), Channel()
    start = perf_counter_ns()
    join(gevent.spawn(pinger, ping, pong, n), gevent.spawn(ponger, ping, pong, n))
    return harness.per_op(start, n)


def pinger(ping: Channel, pong: Channel, n: int) -> None:
    for i in range(n):
        ping.put(i)
        pong.get()


def ponger(ping: Channel, pong: Channel, n: int) -> None:
    for i in range(n):
        ping.get()
        pong.put(i)


def ring(n: int) -> float:
    """A token goes round a ring of greenlets, the caller among them; ns per hop."""
    laps = max(1, n // harness.RING)
    first = last = Channel()
    for _ in range(harness.RING - 1):
        following = Channel()
        gevent.spawn(pass_on, last, following, laps)
        last = following
    start = perf_counter_ns()
    for _ in range(laps):
        first.put(0)
        last.get()
    return harness.per_op(start, laps * harness.RING)


def pass_on(source: Channel, target: Channel, laps: int) -> None:
    for _ in range(laps):
        target.put(source.get() + 1)


def sieve(n: int) -> float:
    """The first ``n`` primes by the classic chain of filters; ns for all."""
    start = perf_counter_ns()
    ch = Channel()
    chain = [gevent.spawn(generate, ch)]
    for _ in range(n):
        prime = ch.get()
        following = Channel()
        chain.append(gevent.spawn(filter_multiples, ch, following, prime))
        ch = following
    taken = harness.per_op(start, 1)
    gevent.killall(chain)
    return taken


def generate(ch: Channel) -> None:
    for i in count(2):
        ch.put(i)


def filter_multiples(source: Channel, target: Channel, prime: int) -> None:
    while True:
        i = source.get()
        if i % prime != 0:
            target.put(i)


def sleepers(n: int) -> float:
    """``n`` greenlets sleep for random times; CPU seconds of the whole process."""
    join(*[gevent.spawn(sleeper) for _ in range(n)])
    return harness.cpu_seconds()


def sleeper() -> None:
    for _ in range(harness.NAPS):
        gevent.sleep(random() * harness.LONGEST_NAP)


def memory(n: int) -> float:
    """``n`` greenlets wait in a receive; bytes of resident memory for each."""
    ch = Channel()
    parked = [0]
    before = harness.resident_bytes()
    for _ in range(n):
        gevent.spawn(park, ch, parked)
    while parked[0] < n:
        gevent.sleep(0)
    gevent.sleep(0)
    harness.report_memory(before, n)


def park(ch: Channel, parked: list[int]) -> None:
    parked[0] += 1
    ch.get()


def mutex(n: int) -> float:
    """One greenlet locks and unlocks; ns for both."""
    mutex = Semaphore(1)
    start = perf_counter_ns()
    for _ in range(n):
        with mutex:
            pass
    return harness.per_op(start, n)


def mutex_8(n: int) -> float:
    """Eight greenlets take turns at one mutex; ns per turn.

    Each gives way after its turn, and at times during it, so that the others must wait.
    """
    return contended(8, n)


def mutex_1000(n: int) -> float:
    """The same with a thousand."""
    return contended(1000, n)


def contended(width: int, n: int) -> float:
    each = max(1, n // width)
    mutex = Semaphore(1)
    counter = 0

    def contend() -> None:
        nonlocal counter
        for _ in range(each):
            with mutex:
                counter += 1
                if counter % harness.HOLD == 0:
                    gevent.sleep(0)
            gevent.sleep(0)

    start = perf_counter_ns()
    join(*[gevent.spawn(contend) for _ in range(width)])
    taken = harness.per_op(start, width * each)
    harness.check(counter, width * each)
    return taken


def waitgroup(n: int) -> float:
    """Ten thousand greenlets are started and waited for; ns for all."""
    start = perf_counter_ns()
    for _ in range(n):
        spawn_and_join(harness.GROUP)
    return harness.per_op(start, n)


def timers(n: int) -> float:
    """``n`` timers are made, then all are stopped; ns for each."""
    loop = gevent.get_hub().loop
    start = perf_counter_ns()
    timers = []
    for _ in range(n):
        timer = loop.timer(harness.FAR)
        timer.start(nothing)
        timers.append(timer)
    for timer in timers:
        timer.stop()
        timer.close()
    return harness.per_op(start, n)


def cancel(n: int) -> float:
    """Kill ten thousand greenlets that wait; ns from the call until all have ended."""
    taken = 0
    for _ in range(n):
        parked = [0]
        waiters = [gevent.spawn(await_kill, parked) for _ in range(harness.GROUP)]
        while parked[0] < harness.GROUP:
            gevent.sleep(0)
        gevent.sleep(0)
        start = perf_counter_ns()
        gevent.killall(waiters)
        taken += perf_counter_ns() - start
    return taken / n


def await_kill(parked: list[int]) -> None:
    parked[0] += 1
    Event().wait()


def pool(n: int) -> float:
    """Hand ``n`` tiny tasks to a pool, then collect all results; ns for each."""
    pool = Pool(harness.WORKERS)
    start = perf_counter_ns()
    greenlets = [pool.spawn(harness.increment, i) for i in range(n)]
    total = sum(greenlet.get() for greenlet in greenlets)
    taken = harness.per_op(start, n)
    harness.check(total, harness.sum_of_increments(n))
    return taken


def pool_map(n: int) -> float:
    """Map a tiny task over ``n`` inputs, lazily; ns for each."""
    pool = Pool(harness.WORKERS)
    start = perf_counter_ns()
    results = pool.imap_unordered(harness.increment, range(n), maxsize=harness.WINDOW)
    total = sum(results)
    taken = harness.per_op(start, n)
    harness.check(total, harness.sum_of_increments(n))
    return taken


def map_memory(n: int) -> float:
    """The same; bytes that resident memory has grown by at its peak."""
    before = harness.resident_bytes()
    pool_map(n)
    return harness.peak_bytes() - before


def echo(backlog: int) -> float:
    """A greenlet for each connection sends back what comes."""
    server = StreamServer((harness.HOST, 0), handle, backlog=backlog)
    server.start()
    harness.listening(server.server_port)
    server.serve_forever()
    return 0


def handle(conn: socket, _address: object) -> None:
    harness.echo_all(conn)


def threading_lock(n: int) -> float:
    """One greenlet takes and releases a patched ``threading.Lock``; ns for both."""
    patch_all()
    lock = threading.Lock()
    start = perf_counter_ns()
    for _ in range(n):
        with lock:
            pass
    return harness.per_op(start, n)


def queue_1(n: int) -> float:
    """A patched thread hands items to another over ``queue.Queue(1)``; ns per item."""
    patch_all()
    return harness.pass_through(1, n)


def queue_128(n: int) -> float:
    """The same through a buffer of 128."""
    patch_all()
    return harness.pass_through(harness.BUFFER, n)


BENCHMARKS: dict[str, Callable[[int], float]] = {
    "yield": yields,
    "unbuffered": unbuffered,
    "ping-pong": ping_pong,
    "buffered": buffered,
    "spawn": spawn,
    "ring": ring,
    "sieve": sieve,
    "sleepers": sleepers,
    "memory": memory,
    "mutex": mutex,
    "mutex-8": mutex_8,
    "mutex-1000": mutex_1000,
    "waitgroup": waitgroup,
    "timers": timers,
    "after-func": timers,
    "cancel": cancel,
    "pool": pool,
    "map": pool_map,
    "map-memory": map_memory,
    "echo": echo,
    "threading-lock": threading_lock,
    "queue-1": queue_1,
    "queue-128": queue_128,
}

if __name__ == "__main__":
    harness.main(BENCHMARKS, sys.argv[1:])
