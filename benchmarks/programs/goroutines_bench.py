"""The benchmarks on goroutines."""

import sys
from collections.abc import Callable
from itertools import count
from random import random
from time import perf_counter_ns

import harness

from goroutines import Chan, Select, WaitGroup, go, gosched, recv, run, sleep


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
}

if __name__ == "__main__":
    harness.main({name: inside(bench) for name, bench in BENCHMARKS.items()}, sys.argv[1:])
