"""The benchmarks on trio: nurseries and memory channels."""

import sys
from collections.abc import Awaitable, Callable
from itertools import count
from random import random
from time import perf_counter_ns

import harness
import trio
from trio import MemoryReceiveChannel, MemorySendChannel
from trio.lowlevel import checkpoint


async def yields(n: int) -> float:
    """Two tasks give way to each other ``n`` times each; ns per call."""
    start = perf_counter_ns()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(yielder, n)
        nursery.start_soon(yielder, n)
    return harness.per_op(start, 2 * n)


async def yielder(n: int) -> None:
    for _ in range(n):
        await checkpoint()


async def spawn(n: int) -> float:
    """Tasks that do nothing but finish, in batches; ns per task."""
    batches = max(1, n // harness.BATCH)
    start = perf_counter_ns()
    for _ in range(batches):
        await spawn_and_join(harness.BATCH)
    return harness.per_op(start, batches * harness.BATCH)


async def spawn_and_join(size: int) -> None:
    async with trio.open_nursery() as nursery:
        for _ in range(size):
            nursery.start_soon(nothing)


async def nothing() -> None:
    pass


async def unbuffered(n: int) -> float:
    """One task sends ``n`` items to another; ns per item."""
    return await stream(0, n)


async def buffered(n: int) -> float:
    """The same through a buffer; ns per item."""
    return await stream(harness.BUFFER, n)


async def stream(size: int, n: int) -> float:
    sender, receiver = trio.open_memory_channel[int](size)
    start = perf_counter_ns()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(producer, sender, n)
        nursery.start_soon(consumer, receiver, n)
    return harness.per_op(start, n)


async def producer(sender: MemorySendChannel[int], n: int) -> None:
    for i in range(n):
        await sender.send(i)


async def consumer(receiver: MemoryReceiveChannel[int], n: int) -> None:
    for _ in range(n):
        await receiver.receive()


async def ping_pong(n: int) -> float:
    """There and back over two unbuffered channels; ns per round trip."""
    ping_sender, ping = trio.open_memory_channel[int](0)
    pong_sender, pong = trio.open_memory_channel[int](0)
    start = perf_counter_ns()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pinger, ping_sender, pong, n)
        nursery.start_soon(ponger, ping, pong_sender, n)
    return harness.per_op(start, n)


async def pinger(ping: MemorySendChannel[int], pong: MemoryReceiveChannel[int], n: int) -> None:
    for i in range(n):
        await ping.send(i)
        await pong.receive()


async def ponger(ping: MemoryReceiveChannel[int], pong: MemorySendChannel[int], n: int) -> None:
    for i in range(n):
        await ping.receive()
        await pong.send(i)


async def ring(n: int) -> float:
    """A token goes round a ring of tasks, the caller among them; ns per hop."""
    laps = max(1, n // harness.RING)
    first, last = trio.open_memory_channel[int](0)
    async with trio.open_nursery() as nursery:
        for _ in range(harness.RING - 1):
            target, following = trio.open_memory_channel[int](0)
            nursery.start_soon(pass_on, last, target, laps)
            last = following
        start = perf_counter_ns()
        for _ in range(laps):
            await first.send(0)
            await last.receive()
        return harness.per_op(start, laps * harness.RING)


async def pass_on(
    source: MemoryReceiveChannel[int], target: MemorySendChannel[int], laps: int
) -> None:
    for _ in range(laps):
        await target.send(await source.receive() + 1)


async def sieve(n: int) -> float:
    """The first ``n`` primes by the classic chain of filters; ns for all."""
    async with trio.open_nursery() as nursery:
        start = perf_counter_ns()
        target, source = trio.open_memory_channel[int](0)
        nursery.start_soon(generate, target)
        for _ in range(n):
            prime = await source.receive()
            target, following = trio.open_memory_channel[int](0)
            nursery.start_soon(filter_multiples, source, target, prime)
            source = following
        taken = harness.per_op(start, 1)
        nursery.cancel_scope.cancel()
    return taken


async def generate(target: MemorySendChannel[int]) -> None:
    for i in count(2):
        await target.send(i)


async def filter_multiples(
    source: MemoryReceiveChannel[int], target: MemorySendChannel[int], prime: int
) -> None:
    while True:
        i = await source.receive()
        if i % prime != 0:
            await target.send(i)


async def sleepers(n: int) -> float:
    """``n`` tasks sleep for random times; CPU seconds of the whole process."""
    async with trio.open_nursery() as nursery:
        for _ in range(n):
            nursery.start_soon(sleeper)
    return harness.cpu_seconds()


async def sleeper() -> None:
    for _ in range(harness.NAPS):
        await trio.sleep(random() * harness.LONGEST_NAP)


async def memory(n: int) -> float:
    """``n`` tasks wait in a receive; bytes of resident memory for each."""
    _sender, receiver = trio.open_memory_channel[None](0)
    parked = [0]
    async with trio.open_nursery() as nursery:
        before = harness.resident_bytes()
        for _ in range(n):
            nursery.start_soon(park, receiver, parked)
        while parked[0] < n:
            await checkpoint()
        await checkpoint()
        harness.report_memory(before, n)


async def park(receiver: MemoryReceiveChannel[None], parked: list[int]) -> None:
    parked[0] += 1
    await receiver.receive()


async def mutex(n: int) -> float:
    """One task locks and unlocks; ns for both."""
    mutex = trio.Lock()
    start = perf_counter_ns()
    for _ in range(n):
        async with mutex:
            pass
    return harness.per_op(start, n)


async def mutex_8(n: int) -> float:
    """Eight tasks take turns at one mutex; ns per turn.

    Each gives way after its turn, and at times during it, so that the others must wait.
    """
    return await contended(8, n)


async def mutex_1000(n: int) -> float:
    """The same with a thousand."""
    return await contended(1000, n)


async def contended(width: int, n: int) -> float:
    each = max(1, n // width)
    mutex = trio.Lock()
    counter = 0

    async def contend() -> None:
        nonlocal counter
        for _ in range(each):
            async with mutex:
                counter += 1
                if counter % harness.HOLD == 0:
                    await checkpoint()
            await checkpoint()

    start = perf_counter_ns()
    async with trio.open_nursery() as nursery:
        for _ in range(width):
            nursery.start_soon(contend)
    taken = harness.per_op(start, width * each)
    harness.check(counter, width * each)
    return taken


async def waitgroup(n: int) -> float:
    """Ten thousand tasks are started and waited for; ns for all."""
    start = perf_counter_ns()
    for _ in range(n):
        await spawn_and_join(harness.GROUP)
    return harness.per_op(start, n)


async def cancel(n: int) -> float:
    """Cancel ten thousand tasks that each wait in a scope of their own; ns from the call
    until all have ended."""
    taken = 0
    for _ in range(n):
        parked = [0]
        async with trio.open_nursery() as nursery:
            for _ in range(harness.GROUP):
                nursery.start_soon(await_cancel, parked)
            while parked[0] < harness.GROUP:
                await checkpoint()
            start = perf_counter_ns()
            nursery.cancel_scope.cancel()
        taken += perf_counter_ns() - start
    return taken / n


async def await_cancel(parked: list[int]) -> None:
    with trio.CancelScope():
        parked[0] += 1
        await trio.sleep_forever()


async def echo(backlog: int) -> float:
    """A task for each connection sends back what comes."""
    listeners = await trio.open_tcp_listeners(0, host=harness.HOST, backlog=backlog)
    harness.listening(listeners[0].socket.getsockname()[1])
    await trio.serve_listeners(handle, listeners)
    return 0


async def handle(conn: trio.SocketStream) -> None:
    while data := await conn.receive_some(harness.MOST):  # trio sets TCP_NODELAY
        await conn.send_all(data)


def inside(bench: Callable[[int], Awaitable[float]]) -> Callable[[int], float]:
    """Make a benchmark run in a trio loop of its own."""
    return lambda n: trio.run(bench, n)


BENCHMARKS: dict[str, Callable[[int], Awaitable[float]]] = {
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
    "cancel": cancel,
    "echo": echo,
}

if __name__ == "__main__":
    harness.main({name: inside(bench) for name, bench in BENCHMARKS.items()}, sys.argv[1:])
