"""The benchmarks on asyncio: tasks and queues, on its own loop or with --uvloop.

asyncio has no unbuffered channel; a queue of one item stands in for it.
"""

import asyncio
import importlib
import sys
from asyncio import Queue
from collections.abc import Callable, Coroutine
from itertools import count
from random import random
from time import perf_counter_ns
from typing import cast

import harness

Bench = Callable[[int], Coroutine[None, None, float]]
LoopFactory = Callable[[], asyncio.AbstractEventLoop]


async def yields(n: int) -> float:
    """Two tasks give way to each other ``n`` times each; ns per call."""
    start = perf_counter_ns()
    await asyncio.gather(yielder(n), yielder(n))
    return harness.per_op(start, 2 * n)


async def yielder(n: int) -> None:
    for _ in range(n):
        await asyncio.sleep(0)


async def spawn(n: int) -> float:
    """Tasks that do nothing but finish, in batches; ns per task."""
    batches = max(1, n // harness.BATCH)
    start = perf_counter_ns()
    for _ in range(batches):
        await spawn_and_join(harness.BATCH)
    return harness.per_op(start, batches * harness.BATCH)


async def spawn_and_join(size: int) -> None:
    batch = [asyncio.create_task(nothing()) for _ in range(size)]
    for task in batch:  # quicker than gather and TaskGroup
        await task


async def nothing() -> None:
    pass


async def unbuffered(n: int) -> float:
    """One task sends ``n`` items to another; ns per item."""
    return await stream(Queue(1), n)


async def buffered(n: int) -> float:
    """The same through a buffer; ns per item."""
    return await stream(Queue(harness.BUFFER), n)


async def stream(queue: Queue[int], n: int) -> float:
    start = perf_counter_ns()
    await asyncio.gather(producer(queue, n), consumer(queue, n))
    return harness.per_op(start, n)


async def producer(queue: Queue[int], n: int) -> None:
    for i in range(n):
        await queue.put(i)


async def consumer(queue: Queue[int], n: int) -> None:
    for _ in range(n):
        await queue.get()


async def ping_pong(n: int) -> float:
    """There and back over two queues of one item; ns per round trip."""
    ping: Queue[int] = Queue(1)
    pong: Queue[int] = Queue(1)
    start = perf_counter_ns()
    await asyncio.gather(pinger(ping, pong, n), ponger(ping, pong, n))
    return harness.per_op(start, n)


async def pinger(ping: Queue[int], pong: Queue[int], n: int) -> None:
    for i in range(n):
        await ping.put(i)
        await pong.get()


async def ponger(ping: Queue[int], pong: Queue[int], n: int) -> None:
    for i in range(n):
        await ping.get()
        await pong.put(i)


async def ring(n: int) -> float:
    """A token goes round a ring of tasks, the caller among them; ns per hop."""
    laps = max(1, n // harness.RING)
    first: Queue[int] = Queue(1)
    last = first
    tasks = []
    for _ in range(harness.RING - 1):
        following: Queue[int] = Queue(1)
        tasks.append(asyncio.create_task(pass_on(last, following, laps)))
        last = following
    start = perf_counter_ns()
    for _ in range(laps):
        await first.put(0)
        await last.get()
    return harness.per_op(start, laps * harness.RING)


async def pass_on(source: Queue[int], target: Queue[int], laps: int) -> None:
    for _ in range(laps):
        await target.put(await source.get() + 1)


async def sieve(n: int) -> float:
    """The first ``n`` primes by the classic chain of filters; ns for all."""
    start = perf_counter_ns()
    ch: Queue[int] = Queue(1)
    chain = [asyncio.create_task(generate(ch))]
    for _ in range(n):
        prime = await ch.get()
        following: Queue[int] = Queue(1)
        chain.append(asyncio.create_task(filter_multiples(ch, following, prime)))
        ch = following
    return harness.per_op(start, 1)


async def generate(ch: Queue[int]) -> None:
    for i in count(2):
        await ch.put(i)


async def filter_multiples(source: Queue[int], target: Queue[int], prime: int) -> None:
    while True:
        i = await source.get()
        if i % prime != 0:
            await target.put(i)


async def sleepers(n: int) -> float:
    """``n`` tasks sleep for random times; CPU seconds of the whole process."""
    tasks = [asyncio.create_task(sleeper()) for _ in range(n)]
    for task in tasks:
        await task
    return harness.cpu_seconds()


async def sleeper() -> None:
    for _ in range(harness.NAPS):
        await asyncio.sleep(random() * harness.LONGEST_NAP)


async def memory(n: int) -> float:
    """``n`` tasks wait in a receive; bytes of resident memory for each."""
    ch: Queue[None] = Queue(1)
    parked = [0]
    tasks = set()  # the loop itself holds only weak references
    before = harness.resident_bytes()
    for _ in range(n):
        tasks.add(asyncio.create_task(park(ch, parked)))
    while parked[0] < n:
        await asyncio.sleep(0)
    await asyncio.sleep(0)
    harness.report_memory(before, n)


async def park(ch: Queue[None], parked: list[int]) -> None:
    parked[0] += 1
    await ch.get()


async def mutex(n: int) -> float:
    """One task locks and unlocks; ns for both."""
    mutex = asyncio.Lock()
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
    mutex = asyncio.Lock()
    counter = 0

    async def contend() -> None:
        nonlocal counter
        for _ in range(each):
            async with mutex:
                counter += 1
                if counter % harness.HOLD == 0:
                    await asyncio.sleep(0)
            await asyncio.sleep(0)

    start = perf_counter_ns()
    await asyncio.gather(*[contend() for _ in range(width)])
    taken = harness.per_op(start, width * each)
    harness.check(counter, width * each)
    return taken


async def waitgroup(n: int) -> float:
    """Ten thousand tasks are started and waited for; ns for all."""
    start = perf_counter_ns()
    for _ in range(n):
        await spawn_and_join(harness.GROUP)
    return harness.per_op(start, n)


async def timers(n: int) -> float:
    """``n`` timers are made, then all are cancelled; ns for each.

    The loop takes cancelled timers out when it comes round again.
    """
    call_later = asyncio.get_running_loop().call_later
    start = perf_counter_ns()
    timers = [call_later(harness.FAR, callback) for _ in range(n)]
    for timer in timers:
        timer.cancel()
    await asyncio.sleep(0)
    return harness.per_op(start, n)


def callback() -> None:
    pass


async def cancel(n: int) -> float:
    """Cancel ten thousand tasks that wait; ns from the first call until all have ended."""
    taken = 0
    for _ in range(n):
        parked = [0]
        tasks = [asyncio.create_task(await_cancel(parked)) for _ in range(harness.GROUP)]
        while parked[0] < harness.GROUP:
            await asyncio.sleep(0)
        start = perf_counter_ns()
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        taken += perf_counter_ns() - start
    return taken / n


async def await_cancel(parked: list[int]) -> None:
    parked[0] += 1
    await asyncio.get_running_loop().create_future()


async def echo(backlog: int) -> float:
    """A protocol for each connection sends back what comes."""
    loop = asyncio.get_running_loop()
    return await serve(await loop.create_server(Echo, harness.HOST, 0, backlog=backlog))


async def serve(server: asyncio.Server) -> float:
    harness.listening(server.sockets[0].getsockname()[1])
    await server.serve_forever()
    return 0


class Echo(asyncio.Protocol):
    """Both loops set TCP_NODELAY."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.write = cast(asyncio.Transport, transport).write

    def data_received(self, data: bytes) -> None:
        self.write(data)


async def echo_streams(backlog: int) -> float:
    """A task for each connection sends back what comes, over streams."""
    return await serve(await asyncio.start_server(handle, harness.HOST, 0, backlog=backlog))


async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(harness.MOST):
        writer.write(data)
        await writer.drain()
    writer.close()


BENCHMARKS: dict[str, Bench] = {
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
    "echo": echo,
    "echo-streams": echo_streams,
}


def inside(bench: Bench, loop_factory: LoopFactory) -> Callable[[int], float]:
    """Make a benchmark run in an event loop of its own."""

    def in_loop(n: int) -> float:
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            return runner.run(bench(n))

    return in_loop


def main(arguments: list[str]) -> None:
    """Run one benchmark, on uvloop if the first argument says so."""
    loop_factory: LoopFactory = asyncio.new_event_loop
    if arguments[0] == "--uvloop":
        loop_factory = importlib.import_module("uvloop").new_event_loop
        arguments = arguments[1:]
    benchmarks = {name: inside(bench, loop_factory) for name, bench in BENCHMARKS.items()}
    harness.main(benchmarks, arguments)


if __name__ == "__main__":
    main(sys.argv[1:])
